"""Which of a period's forecasts are computed, and by the model as it was after which period."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import polars as pl

from st_pipeline.forecasting.issue import Issue, Sources
from st_pipeline.forecasting.published import Published


def due(sources: Sources, published: Published, *, at: datetime | None, only_missing: bool) -> pl.DataFrame:
    """Rows of `SCHEMA` of the due forecasts that are wanted, as `Published.wanted` says.

    What is issued at the period's very end is issued once more when the model has learned the period, and from then
    on by that model alone.

    Raises:
        InputError: no forecast is due at that time, or what is stored of the model does not fit the configuration.
    """
    issue = Issue.of(sources)
    wanted = published.wanted(issue.times, at=at, only_missing=only_missing)
    after = replace(sources, learned=True)
    if after.served() is None:
        return issue.rows(wanted)
    learned = Issue.of(after)
    if learned.served is None or not len(learned.issued):
        return issue.rows(wanted)
    last = learned.times[-1]
    new = only_missing and not published.holds(last, learned.served.model_id)
    final = learned.rows(np.array([bool(wanted[-1]) or (new and at in (None, last))]))
    wanted[-1] = False
    return pl.concat([issue.rows(wanted), final])
