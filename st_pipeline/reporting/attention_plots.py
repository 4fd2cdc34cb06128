"""The picture of an attention graph: which sensors are read for the forecasts of which others."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from numpy.typing import NDArray

from st_pipeline.data.positions import Positions
from st_pipeline.reporting.canvas import (
    GREY,
    INK,
    MAP_SIZE,
    MOST_NAMES,
    name_sensors,
    new_figure,
    new_map,
    nothing,
    short,
)

EDGES_A_SENSOR = 2  # drawn, on average
MOST_EDGES = 200  # drawn; an arrow each
WIDTHS = 0.5, 2.2  # points, of an edge without attention and of the strongest
SILENT = 0.0  # share of readings heard


def attention_plot(sensors: pl.DataFrame, pairs: pl.DataFrame, places: Positions) -> Figure:
    """The strongest edges on the map or plane, arrows from what is read to whose forecast it is; without positions as
    a matrix. Sensors are coloured by their attention to their own readings; silent ones are hollow.

    Args:
        sensors: rows of `sensor_shares`, with the share of readings that were `heard` where that is known.
        pairs: rows of `pair_shares`.
        places: of the sensors, in their order.
    """
    if pairs.is_empty():
        return nothing(*new_figure(*MAP_SIZE), "no forecast reads another sensor")
    shares = _matrix(sensors, pairs)
    if not len(places.known):
        return _heat_map(sensors["sensor_id"].to_list(), shares)
    figure, axes = new_map(places)
    axes.set_title(_draw_edges(axes, shares, places, between=float(sensors["others"].sum())), fontsize=9, loc="left")
    _draw_sensors(figure, axes, sensors, places)
    return figure


def strongest(shares: NDArray[np.float64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """(E, 2) reading and read sensor of the strongest edges between these sensors, weakest first, to draw over it."""
    reader, read = np.nonzero(shares)
    among = np.isin(reader, known) & np.isin(read, known)
    reader, read = reader[among], read[among]
    count = min(EDGES_A_SENSOR * len(known), MOST_EDGES)
    order = np.argsort(-shares[reader, read], kind="stable")[:count][::-1]
    return np.column_stack([reader[order], read[order]])


def _draw_edges(axes: Axes, shares: NDArray[np.float64], places: Positions, *, between: float) -> str:
    """Arrows for the strongest edges; how many they are, and what they hold."""
    edges = strongest(shares, places.known)
    drawn = shares[edges[:, 0], edges[:, 1]]
    low, high = WIDTHS
    for (reader, read), share in zip(edges, drawn, strict=True):
        part = share / drawn.max()
        arrow = FancyArrowPatch(
            tuple(places.plane[read]),
            tuple(places.plane[reader]),
            arrowstyle="-|>",
            connectionstyle="arc3,rad=0.12",
            mutation_scale=6,
            shrinkA=3,
            shrinkB=3,
            color=INK,
            alpha=0.25 + 0.6 * part,
            linewidth=low + (high - low) * part,
            zorder=2,
        )
        axes.add_artist(arrow)  # as a patch it would move the limits
    held = 100 * drawn.sum() / between
    text = f"the {len(edges)} strongest edges, with {held:.0f} % of the attention to other sensors"
    missing = len(shares) - len(places.known)
    return f"{text}\nsensors without a position, left out: {missing}" if missing else text


def _draw_sensors(figure: Figure, axes: Axes, sensors: pl.DataFrame, places: Positions) -> None:
    own = sensors["own"].to_numpy()
    heard = sensors["heard"].to_numpy() if "heard" in sensors.columns else np.ones(len(sensors))
    speaking, silent = (places.known[mask] for mask in (heard[places.known] > SILENT, heard[places.known] <= SILENT))
    where = places.plane[speaking]
    dots = axes.scatter(where[:, 0], where[:, 1], c=100 * own[speaking], cmap="viridis", s=34, zorder=3)
    figure.colorbar(dots, ax=axes, shrink=0.7, label="attention to own readings in %", pad=0.02)
    if len(silent):
        where = places.plane[silent]
        look: dict[str, Any] = {"facecolors": "white", "edgecolors": GREY, "label": "silent in these windows"}
        axes.scatter(where[:, 0], where[:, 1], s=34, zorder=3, **look)
        axes.legend(frameon=False, fontsize=8, loc="best")


def _heat_map(names: list[str], shares: NDArray[np.float64]) -> Figure:
    """Attention of the row's sensor to the column's, own readings left out."""
    figure, axes = new_figure(6.4, 5.6)
    shown = np.ma.masked_array(100 * shares, mask=np.eye(len(names), dtype=bool))
    image = axes.imshow(shown, cmap="YlOrRd", vmin=0)
    figure.colorbar(image, ax=axes, shrink=0.7, label="attention in %", pad=0.02)
    name_sensors(axes, names)
    if len(names) > MOST_NAMES:
        axes.set_ylabel(f"{len(names)} sensors, whose forecast")
        axes.set_xlabel(f"{len(names)} sensors, what is read")
    else:
        axes.set_yticks(range(len(names)), [short(name) for name in names], fontsize=7, parse_math=False)
        axes.set_ylabel("whose forecast")
        axes.set_xlabel("what is read")
    axes.grid(visible=False)
    axes.set_title(f"{np.count_nonzero(shares)} edges; no sensor has a position", fontsize=9, loc="left")
    return figure


def _matrix(sensors: pl.DataFrame, pairs: pl.DataFrame) -> NDArray[np.float64]:
    """(N, N) share of attention of the row's sensor to the column's; 0 to itself and where no row says more."""
    place = {name: index for index, name in enumerate(sensors["sensor_id"])}
    shares = np.zeros((len(place), len(place)))
    for reader, read, share in pairs.select("sensor_id", "reads", "share").iter_rows():
        shares[place[reader], place[read]] = share
    return shares
