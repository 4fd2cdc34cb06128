"""An honest simulation of road traffic and of the sensors that watch it: the embedded default stream `roadnet`."""

from st_pipeline.simulation.scenario import Scenario
from st_pipeline.simulation.stream import Simulation, simulate, write_stream

__all__ = ["Scenario", "Simulation", "simulate", "write_stream"]
