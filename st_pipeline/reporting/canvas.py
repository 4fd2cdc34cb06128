"""What all pictures have in common: colours, axes, maps, names of sensors, and how nothing to show is said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from st_pipeline.data.positions import Positions

INK, GREY, EDGE, LIGHT = "#1b2733", "#7d8b99", "#b9c4ce", "#dfe4e9"
PALETTE = ("#2563a8", "#d1495b", "#2a9d6f", "#e09f3e", "#7b5ea7", "#4f8a8b", "#a65628", "#5c6b7a")
NEW = "#d1495b"
MAP_SIZE = (6.4, 5.2)  # inches, at most
MAP_WIDTH, LEAST_HEIGHT = 4.8, 1.6  # inches: of a map's axes; of what is above and below, and of a map that is a line
MAP_TICKS = 5  # of an axis, that its long numbers fit
MOST_NAMES = 24  # of sensors on an axis; beyond it they are counted
NAME_LENGTH = 16  # letters of a sensor id on an axis


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(visible=True, color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def new_map(places: Positions) -> tuple[Figure, Axes]:
    """Axes for positions, on which a degree of longitude is as long as it is there; as high as the network asks for."""
    plane = places.plane[places.known]
    middle = float(np.radians(plane[:, 1].mean())) if places.geographic and len(plane) else 0.0
    stretch = 1 / max(np.cos(middle), 0.05)
    wide, high = np.ptp(plane, axis=0) if len(plane) else (0.0, 0.0)
    width, most = MAP_SIZE
    figure, axes = new_figure(width, min(most, LEAST_HEIGHT + MAP_WIDTH * stretch * high / wide) if wide else most)
    axes.set_xlabel("longitude" if places.geographic else "x in metres")
    axes.set_ylabel("latitude" if places.geographic else "y in metres")
    axes.set_aspect(stretch)
    axes.locator_params(nbins=MAP_TICKS)
    axes.ticklabel_format(useOffset=False, style="plain")  # a position is read off whole
    return figure, axes


def nothing(figure: Figure, axes: Axes, why: str) -> Figure:
    """A figure that says why it shows nothing."""
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set_axis_off()
    return figure


def no_positions(places: Positions) -> Figure | None:
    """A figure that says that no sensor has a position, where that is so."""
    return None if len(places.known) else nothing(*new_figure(*MAP_SIZE), "no sensor has a position")


def name_sensors(axes: Axes, names: Sequence[str]) -> None:
    """Names at places 0, 1, ... of the x-axis, or, where they are many, their number."""
    if len(names) > MOST_NAMES:
        axes.set_xlabel(f"{len(names)} sensors")
    else:
        labels = [short(name) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=35, ha="right", fontsize=7, parse_math=False)


def short(name: str, most: int = NAME_LENGTH) -> str:
    """A sensor id as long as there is room for."""
    return name if len(name) <= most else f"{name[:most]}..."
