"""The report of a period: one page that works offline, without scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from st_pipeline import __version__
from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import Adjacency, graph_statistics
from st_pipeline.data.positions import Positions, positions_at
from st_pipeline.data.quality import FLAGS
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.evaluation.cost_ledger import ledger
from st_pipeline.evaluation.counterfactual import counterfactual, retrained_model
from st_pipeline.evaluation.leaderboard import collect, summary
from st_pipeline.evaluation.period_matrix import PeriodMatrix
from st_pipeline.evaluation.rows import over_seeds
from st_pipeline.evaluation.transfer import baseline_errors, measures
from st_pipeline.model_config import reference_models
from st_pipeline.reporting.advice_page import advice_section
from st_pipeline.reporting.cost_plot import cost_plot
from st_pipeline.reporting.forecasts_section import issued_section
from st_pipeline.reporting.images import svg_text
from st_pipeline.reporting.insight import insight_pictures
from st_pipeline.reporting.plots import cohort_plot, growth_plot, horizon_plot, matrix_plot, network_plot, trace_plot
from st_pipeline.types import NodeSet, Period

TEMPLATES = Path(__file__).parent
SENSOR_ROWS = 15


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows; mappings go from model to period to value.

    Attributes:
        insight: the champion's, of `insight_rows`; None if it has none.
        advice: of `advise`; None of a stream without models.
        forecast_scores: of the forecasts issued for the period; None without them.
    """

    config: StreamConfig
    period: Period
    scores: Mapping[str, Mapping[str, pl.DataFrame]]
    diagnostics: Mapping[str, Mapping[str, Mapping[str, Any]]]
    node_sets: Mapping[str, NodeSet]
    sensors: pl.DataFrame
    tensor: SeriesTensor
    adjacency: Adjacency
    drift: pl.DataFrame
    insight: pl.DataFrame | None = None
    advice: Mapping[str, Any] | None = None
    forecast_scores: pl.DataFrame | None = None

    @cached_property
    def places(self) -> Positions:
        """Where the period's sensors are on its last day."""
        return positions_at(self.sensors, self.nodes.ids, self.period.last_day)

    @cached_property
    def nodes(self) -> NodeSet:
        return self.node_sets[self.period.key]

    @cached_property
    def rows(self) -> pl.DataFrame:
        """All scores through this period."""
        return collect(frame for periods in self.scores.values() for frame in periods.values())

    @cached_property
    def ledger(self) -> pl.DataFrame:
        """Cost and error of every model and period through this one."""
        return ledger({name: dict(periods) for name, periods in self.diagnostics.items()}, self.rows)

    @cached_property
    def newest(self) -> pl.DataFrame:
        """Scores on this period of the models after it."""
        return self.rows.filter((pl.col("period") == self.period.key) & (pl.col("trained_through") == self.period.key))


def render(data: ReportData) -> str:
    """The report as HTML; everything that comes from data is escaped."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    now = _records(summary(data.newest, data.config.horizon))
    return environment.get_template("report.html").render(
        stream=data.config,
        period=data.period,
        version=__version__,
        champion=data.config.shown_model,
        naive=reference_models(),
        unit=data.config.rules(data.config.variable_names[0]).unit,
        headline=_headline(data),
        now=now,
        overall=_records(summary(data.rows, data.config.horizon)),
        graph=graph_statistics(data.adjacency, None),
        nodes=data.nodes,
        flags=_flags(data.tensor),
        cost=_records(data.ledger.filter(pl.col("period") == data.period.key)),
        counterfactual=_counterfactual(data),
        sensors=_worst_sensors(data),
        shifted=_records(data.drift.filter(pl.col("psi").is_not_null()).sort("psi", descending=True).head(SENSOR_ROWS)),
        figures=_figures(data) | _cost_figure(data, now),
        matrices=_matrices(data),
        traces=_traces(data),
        insight=_insight(data),
        advice=advice_section(data.advice),
        issued=issued_section(data.forecast_scores),
    )


def _headline(data: ReportData) -> str:
    """One sentence: how good the champion is on this period, against the weekly naive forecast."""
    name = data.config.shown_model
    table = {row["model"]: row for row in _records(summary(data.newest, data.config.horizon))}
    own, weekly = table.get(name), table.get("naive_weekly")
    if not own or own["mae"] is None:
        return "No model has been scored on this period."
    text = f"{name} forecasts {data.config.variable_names[0]} with a mean absolute error of {own['mae']:.4g}"
    if weekly and weekly["mae"]:
        change = 100 * (1 - own["mae"] / weekly["mae"])
        verdict = f"{change:.0f} % below" if change >= 0 else f"{-change:.0f} % above"
        text += f", {verdict} the weekly naive forecast ({weekly['mae']:.4g})"
    return text + "."


def _figures(data: ReportData) -> dict[str, Markup]:
    new = data.nodes.index_of((*data.nodes.added, *data.nodes.returned))
    errors = {item["sensor_id"]: item["wape"] for item in _diagnostics(data).get("sensors", [])}
    counts = {
        key: {
            "retained": len(nodes.ids) - len({*nodes.added, *nodes.returned} | set(nodes.silent)),
            "new": len(nodes.added) + len(nodes.returned),
            "silent": len(nodes.silent),
        }
        for key, nodes in data.node_sets.items()
    }
    models = [model.name for model in data.config.models]
    figures = {
        "network": network_plot(
            data.places, data.adjacency, new=new, errors=[errors.get(name) for name in data.nodes.ids]
        ),
        "growth": growth_plot(counts),
        "horizon": horizon_plot(over_seeds(data.newest)),
        "cohorts": cohort_plot(over_seeds(data.newest), [*models[:6], "naive_weekly"]),
    }
    return {name: Markup(svg_text(figure, name)) for name, figure in figures.items()}


def _cost_figure(data: ReportData, now: list[dict[str, Any]]) -> dict[str, Markup]:
    """Error over training time of this period, of the models that may be compared with the champion."""
    if not data.config.models:
        return {}
    seconds = dict(data.ledger.filter(pl.col("period") == data.period.key).select("model", "seconds").iter_rows())
    protocol = data.config.model(data.config.shown_model).protocol
    figure = cost_plot(now, seconds, protocol=protocol, cost="seconds of training in this period")
    return {} if figure is None else {"cost": Markup(svg_text(figure, "cost"))}


def _counterfactual(data: ReportData) -> str:
    """The sentence that holds tuning against retraining; empty where there is nothing to compare."""
    other = retrained_model(data.config, {*data.ledger["model"]})
    if other is None:
        return ""
    found = counterfactual(data.config, data.ledger, retrained=other)
    return found.sentence if found else ""


def _matrices(data: ReportData) -> list[dict[str, Any]]:
    """The matrix of every model as a picture, all on one colour scale."""
    matrices = {
        model.name: PeriodMatrix.of(data.rows.filter(pl.col("model") == model.name)) for model in data.config.models
    }
    values = np.concatenate([matrix.errors.ravel() for matrix in matrices.values()] or [np.zeros(0)])
    known = values[np.isfinite(values)]
    limits = (float(known.min()), float(known.max())) if len(known) else None
    found = []
    for name, matrix in matrices.items():
        if np.isfinite(matrix.errors).any():
            svg = Markup(svg_text(matrix_plot(matrix, name, limits), f"matrix-{name}"))
            baseline = baseline_errors(data.rows, protocol=data.config.model(name).protocol)
            found.append({"svg": svg, "measures": measures(matrix, baseline)})
    return found


def _traces(data: ReportData) -> list[Markup]:
    unit = data.config.rules(data.config.variable_names[0]).unit
    return [
        Markup(
            svg_text(
                trace_plot(trace, timezone=data.config.timezone, horizon=data.config.horizon, unit=unit),
                f"trace-{index}",
            )
        )
        for index, trace in enumerate(_diagnostics(data).get("traces", []))
    ]


def _insight(data: ReportData) -> list[dict[str, Any]]:
    """Pictures of what the champion has learned, with the sentences below them."""
    if data.insight is None:
        return []
    pictures = insight_pictures(data.insight, data.places)
    return [
        {"svg": Markup(svg_text(found.figure, f"insight-{name}")), "text": found.text}
        for name, found in pictures.items()
    ]


def _diagnostics(data: ReportData) -> Mapping[str, Any]:
    return data.diagnostics[data.config.shown_model][data.period.key] if data.config.shown_model else {}


def _worst_sensors(data: ReportData) -> list[dict[str, Any]]:
    """Sensors the champion forecasts worst in relation to their level, with what is known of them."""
    scored = [item for item in _diagnostics(data).get("sensors", []) if item["wape"] is not None]
    return [
        {**item, "born": data.nodes.births[item["sensor_id"]]}
        for item in sorted(scored, key=lambda item: -item["wape"])[:SENSOR_ROWS]
    ]


def _flags(tensor: SeriesTensor) -> list[dict[str, Any]]:
    """Share of each quality flag per input variable, in percent."""
    rows = []
    for channel, name in enumerate(tensor.variables):
        flags = tensor.flags[..., channel]
        rows.append(
            {"variable": name, **{flag: 100 * float((flags == code).mean()) for code, flag in enumerate(FLAGS[:-1])}}
        )
    return rows


def _records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return list(frame.iter_rows(named=True))
