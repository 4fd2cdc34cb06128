"""Other people's trained models: published checkpoints as forecasters of this package."""

from st_pipeline.interop.graph_networks import load_eac, load_stkec, load_trafficstream
from st_pipeline.interop.himnet import load_himnet

__all__ = ["load_eac", "load_himnet", "load_stkec", "load_trafficstream"]
