"""Pictures of what HimNet has learned of times and of sensors, after the figures of its paper."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from st_pipeline.data.positions import Positions
from st_pipeline.reporting.canvas import INK, MAP_SIZE, new_figure, new_map, no_positions, nothing

Rows = NDArray[np.floating]
DAYS = {"Monday": "o", "Tuesday": "s", "Wednesday": "^", "Thursday": "v", "Friday": "D", "Saturday": "P", "Sunday": "X"}
HOURS = 24
BRIGHTNESS = 0.8  # of the colours of sensors


def temporal_plot(time_of_day: Rows, day_of_week: Rows) -> Figure:
    """Temporal embeddings of all times of a week in two dimensions, coloured by the time, marked by the day.

    Every time meets every day, so that an axis tells of times or of days and hardly ever of both.

    Args:
        time_of_day: (slots of a day, D), rows of the embedding.
        day_of_week: (7, D'), rows of the embedding, Monday first.
    """
    figure, axes = new_figure(6.4, 4.6)
    slots = len(time_of_day)
    if not slots:
        return nothing(figure, axes, "no time of day has an embedding")
    week = np.hstack([np.tile(time_of_day, (len(DAYS), 1)), np.repeat(day_of_week, slots, axis=0)])
    points, shares = principal_plane(week)
    hours, scale = HOURS * np.arange(slots) / slots, Normalize(0, HOURS)
    for marker, own in zip(DAYS.values(), points.reshape(len(DAYS), slots, 2), strict=True):
        dots = axes.scatter(
            own[:, 0], own[:, 1], c=hours, cmap="twilight_shifted", norm=scale, marker=marker, s=16, linewidths=0
        )
    bar = figure.colorbar(dots, ax=axes, shrink=0.8, label="hour of the day", pad=0.02)
    bar.set_ticks(range(0, HOURS + 1, 6))
    marks = [Line2D([], [], color=INK, marker=marker, linestyle="", markersize=4) for marker in DAYS.values()]
    axes.legend(marks, list(DAYS), frameon=False, fontsize=7, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    _name_axes(axes, shares)
    return figure


def spatial_plot(embedding: Rows) -> Figure:
    """Spatial embeddings in two dimensions, in the colours that `spatial_map` gives the sensors.

    Args:
        embedding: (N, D), a row per sensor.
    """
    figure, axes = new_figure(6.4, 4.6)
    if not len(embedding):
        return nothing(figure, axes, "no sensor has an embedding")
    points, shares = principal_plane(embedding)
    axes.scatter(points[:, 0], points[:, 1], c=colours_of(points), s=26)
    _name_axes(axes, shares)
    return figure


def spatial_map(embedding: Rows, places: Positions) -> Figure:
    """The sensors on the map or plane, coloured by their place in `spatial_plot`.

    Args:
        embedding: (N, D), a row per sensor.
        places: of the same sensors; those whose position is not known are left out.
    """
    if not len(embedding):
        return nothing(*new_figure(*MAP_SIZE), "no sensor has an embedding")
    if missing := no_positions(places):
        return missing
    figure, axes = new_map(places)
    known = places.known
    colours = colours_of(principal_plane(embedding)[0])
    axes.scatter(places.plane[known, 0], places.plane[known, 1], c=colours[known], s=26)
    return figure


def principal_plane(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates (M, 2) of rows (M, D) along their first two principal axes, and the shares (2,) of the variance.

    An axis points to where its largest component is positive; one that does not exist has coordinates and share 0.
    """
    centred = np.asarray(rows, dtype=np.float64) - np.mean(rows, axis=0, dtype=np.float64)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
    points, shares = np.zeros((len(rows), 2)), np.zeros(2)
    found = min(2, len(values))
    points[:, :found] = centred @ (axes * np.where(largest < 0, -1, 1))[:found].T
    shares[:found] = (values**2 / max((values**2).sum(), np.finfo(float).tiny))[:found]
    return points, shares


def colours_of(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, 3) red, green and blue of points (M, 2): hue is the direction from the origin, saturation the distance."""
    angle, distance = np.arctan2(points[:, 1], points[:, 0]), np.hypot(points[:, 0], points[:, 1])
    saturation = distance / max(distance.max(), np.finfo(float).tiny)
    hue = angle / (2 * np.pi) % 1
    return np.asarray(hsv_to_rgb(np.column_stack([hue, saturation, np.full(len(points), BRIGHTNESS)])))


def _name_axes(axes: Axes, shares: NDArray[np.float64]) -> None:
    axes.set_xlabel(f"first principal axis, {100 * shares[0]:.0f} % of the variance")
    axes.set_ylabel(f"second principal axis, {100 * shares[1]:.0f} %")
