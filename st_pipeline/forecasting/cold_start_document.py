"""What `coldstart` tells: a place's forecast, interval and neighbours; the curve; whom a sensor's going hurts."""

from __future__ import annotations

from typing import Any

import numpy as np

from st_pipeline.errors import InputError, closest
from st_pipeline.forecasting.cold_start import (
    Trial,
    borrowed_points,
    candidates,
    groups,
    hide,
    issue_days,
    unheard,
    weights_of,
    without,
)
from st_pipeline.forecasting.cold_start_curve import cold_coverage, cold_intervals, curve, expectation
from st_pipeline.forecasting.issue import QUANTILES, Issue, within_rules
from st_pipeline.forecasting.points import Floats, known_points
from st_pipeline.forecasting.series import instants, span_of_test
from st_pipeline.forecasting.served import Served
from st_pipeline.forecasting.site import Site, nearest, neighbours
from st_pipeline.forecasting.walk import Truth, residuals, tested_steps
from st_pipeline.forecasting.withholding import withheld

SAID = 3  # days of readings that the expectation is told for


def cold_start(issue: Issue, site: Site | None) -> dict[str, Any]:
    """The curve, and for a place the forecast that it would get now; JSON but for times.

    Raises:
        InputError: no model serves, or there is nothing to forecast from.
    """
    served = _served(issue)
    trial, rows = _trial(issue, served)
    unit = _unit(issue)
    found = {**_facts(issue, served), "curve": rows, "hidden": list(trial.ids) if trial else []}
    found["cold_coverage"] = cold_coverage(trial, steps_per_day=issue.series.config.steps_per_day) if trial else None
    found["days_tried"] = _days(trial, issue)
    found["expectation"] = [text for days in (0, SAID) if (text := expectation(rows, days, unit))]
    return {**found, **(_place(issue, served, site, trial) if site else {})}


def drop(issue: Issue, name: str) -> dict[str, Any]:
    """Whom it hurts if a sensor goes, on the newest period's test part.

    Raises:
        InputError: no model serves, or it does not know the sensor.
    """
    served = _served(issue)
    if name not in served.ids:
        heard = name in issue.series.ids
        reason = "joined after the model was trained, so that no other forecast reads it" if heard else "is not known"
        raise InputError(f"{issue.sources.config.name}: sensor {name!r} {reason}; {closest(name, served.ids)}")
    issued = tested_steps(issue.series, _newest_test(issue))
    rows = withheld(served, issue.series, issued, name, issue.sources.graph)
    cells = sum(row["cells"] for row in rows)
    whole = {key: sum(row[key] * row["cells"] for row in rows) / max(cells, 1) for key in ("mae", "mae_without")}
    percent = 100 * (whole["mae_without"] / whole["mae"] - 1) if whole["mae"] > 0 else 0.0
    facts = {**_facts(issue, served), "sensor": name, "issue_times": len(issued), **whole, "percent": percent}
    return {**facts, "others": rows}


def _served(issue: Issue) -> Served:
    config = issue.sources.config
    if issue.served is None:
        raise InputError(
            f"{config.name}/{issue.sources.model.name} has learned no period before {issue.sources.period.key}, so "
            f"nothing can be forecast; run `st-pipeline run {config.name}` first"
        )
    if not len(issue.issued):
        raise InputError(f"stream {config.name!r}: period {issue.sources.period.key} has too few readings yet")
    return issue.served


def _facts(issue: Issue, served: Served) -> dict[str, Any]:
    config = issue.sources.config
    return {
        "stream": config.name,
        "target": config.variable_names[0],
        "unit": _unit(issue),
        "model_id": served.model_id,
        "period": issue.sources.period.key,
        "known_sensors": len(served.ids),
    }


def _unit(issue: Issue) -> str:
    config = issue.sources.config
    return config.rules(config.variable_names[0]).unit


def _newest_test(issue: Issue) -> tuple[int, int]:
    sources = issue.sources
    return span_of_test(sources.tensors[sources.period.key], sources.config)


def _days(trial: Trial | None, issue: Issue) -> int:
    return len(issue_days(issue.series, _newest_test(issue))) if trial else 0


def _trial(issue: Issue, served: Served) -> tuple[Trial | None, list[dict[str, Any]]]:
    """Sensors hidden on the newest period's test part, and the curve; None where none can be hidden."""
    series, graph_of = issue.series, issue.sources.graph
    days = issue_days(series, _newest_test(issue))
    names = candidates(served, series, days)
    if not names:
        return None, []
    trial = hide(served, series, days, groups(served, names, graph_of(served.ids, served.through)), graph_of)
    known = residuals(series, served, Truth.of(series), served.tested, graph_of)[0]
    return trial, curve(trial, known, steps_per_day=series.config.steps_per_day)


def _place(issue: Issue, served: Served, site: Site, trial: Trial | None) -> dict[str, Any]:
    """Forecast, neighbours and facts of a place."""
    name, graph_of, day = site.name, issue.sources.graph, issue.sources.period.last_day
    less, series, issued = without(served, {name}), unheard(issue.series, {name}), issue.issued[-1:]
    weights = weights_of(less, (name,), series, graph_of)
    points = within_rules(borrowed_points(less, series, issued, weights, graph_of)[0, :, 0], series.config)
    near = neighbours(name, series.ids, weights[0].tolist(), site.sensors, day)
    found: dict[str, Any] = {
        "sensor": name,
        "issued_at": issue.times[-1],
        "neighbours": near,
        "note": "; ".join(
            part for part in (site.note, _without_neighbour(less, site, issue) if not near else "") if part
        ),
        "forecast": _steps(issue, points, trial),
    }
    if name in served.ids:
        own = known_points(served, issue.series, issued, graph_of)[0, :, issue.series.ids.index(name)]
        for row, value in zip(found["forecast"], within_rules(own, series.config).tolist(), strict=True):
            row["known"] = value if np.isfinite(value) else None
    return found


def _without_neighbour(less: Served, site: Site, issue: Issue) -> str:
    found = nearest(site.name, less.ids, site.sensors, issue.sources.period.last_day)
    away = f"; the nearest sensor, {found[0]}, is {found[1] / 1000:.3g} km away" if found else ""
    return f"no sensor that the model knows is its neighbour, so nothing is forecast before it has readings{away}"


def _steps(issue: Issue, points: Floats, trial: Trial | None) -> list[dict[str, Any]]:
    """Point and quantiles of each step; None where nothing is known."""
    series, last = issue.series, int(issue.issued[-1])
    future = series.future(issue.issued[-1:]).numpy()[0]
    quantiles = np.full((len(points), len(QUANTILES)), np.nan, dtype=np.float32)
    if trial and np.isfinite(points).all():
        intervals = cold_intervals(trial, steps_per_day=series.config.steps_per_day)
        slot = Truth.of(series).slot[future]
        found = intervals.quantiles(points[:, None].astype(np.float64), slot)[:, 0]
        quantiles = within_rules(found.astype(np.float32), series.config)
    rows = []
    for ahead, time in enumerate(instants(series.tensor.times[last + 1 : last + 1 + len(points)])):
        numbers = dict(zip(("point", *QUANTILES), [points[ahead], *quantiles[ahead]], strict=True))
        known = {key: float(value) if np.isfinite(value) else None for key, value in numbers.items()}
        rows.append({"horizon": ahead + 1, "target_time": time, **known})
    return rows
