"""The interface of every view: from a trained model to rows, from rows to pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl
from matplotlib.figure import Figure

from st_pipeline.data.positions import Positions
from st_pipeline.models.base import Forecaster
from st_pipeline.types import Graph, NodeSet, Window

SENSOR, PAIR, TIME, DAY = "sensor", "pair", "time of day", "day of week"  # what a row may be about


class Picture(NamedTuple):
    """A figure with the sentence that stands below it."""

    figure: Figure
    text: str


class View:
    """What one part of a model has learned.

    Rows have a `kind`, and a `sensor_id` if they are about a sensor; every sensor has a row of kind `sensor`, in the
    order of the node set. Further columns are the view's own. Pictures are drawn from rows alone, so that they can be
    drawn again from what is stored.
    """

    def rows(self, forecaster: Forecaster, windows: Sequence[Window], graph: Graph, nodes: NodeSet) -> pl.DataFrame:
        """What the model has learned, and what it does in these windows; the model is in evaluation mode."""
        raise NotImplementedError

    def pictures(self, rows: pl.DataFrame, places: Positions) -> dict[str, Picture]:
        """Name -> picture, of one seed's rows.

        Args:
            places: of the sensors, in the order of their rows.
        """
        raise NotImplementedError


def of_kind(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    """The rows about one kind of thing."""
    return rows.filter(pl.col("kind") == kind)


def as_kind(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    """The rows with their kind in front."""
    return rows.select(pl.lit(kind).alias("kind"), pl.all())
