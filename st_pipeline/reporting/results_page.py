"""The results page: tables of all models of one or several streams, in Markdown, and the pictures beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from st_pipeline.evaluation.rows import PUBLISHED
from st_pipeline.evaluation.transfer import MEASURES
from st_pipeline.reporting.comparison_plots import critical_difference_plot
from st_pipeline.reporting.cost_plot import cost_plot
from st_pipeline.reporting.insight import insight_pictures
from st_pipeline.reporting.markdown import changed, grid, number, plain
from st_pipeline.reporting.results import Ranks, StreamResults
from st_pipeline.reporting.universality_page import BenchResults, bench_plot, bench_sections

IMAGES = "images"  # folder of the pictures, beside the page
RANKS = "results-ranks"
MODELS = {
    "model": "model",
    "protocol": "protocol",
    "seeds": "seeds",
    "mae": "MAE",
    "mae_std": "± over seeds",
    "against": "against the champion",
    "rmse": "RMSE",
    "skill": "below weekly naive, %",
    "forgetting": "forgetting",
    "backward_transfer": "backward transfer",
    "plasticity": "plasticity",
    "later_seconds": "seconds a later period",
    "trainable": "trained parameters",
}
DRILL = {
    "model": "model",
    "scenarios": "scenarios",
    "survived": "survived",
    "ahead": "ahead of weekly naive",
    "skill": "skill without faults, %",
    "mean_loss": "mean loss, points",
    "worst_scenario": "worst scenario",
    "worst_loss": "its loss, points",
}
STUDY = {
    "seeds": "seeds",
    "periods": "periods",
    "mae": "MAE",
    "mae_std": "± over seeds",
    "rmse": "RMSE",
    "seconds": "seconds a later period",
    "trainable": "trained parameters",
}
MINUTE = timedelta(minutes=1)
ENOUGH_STREAMS = 10  # from which on Friedman's chi-square is a fair approximation (Demsar 2006, section 3.2.2)
HEAD = """# Results

Written by `st-pipeline results --write`. Each period is tested right after it is learned; numbers are means over
the periods and seeds. MAE is the published average: the mean over h of the error over steps 1 to h, zero targets left
out. Forgetting, backward and forward transfer are above zero where something is lost; plasticity is what learning a
period takes off its error. Seconds are training only. Intervals are of 95 % and over the hours of these periods, not
over other periods or seeds. `better` and `worse` passed two tests at 5 %, adjusted for the number of models."""


def render(
    results: Sequence[StreamResults],
    ranks: Ranks | None,
    *,
    benches: Sequence[BenchResults] = (),
    pictures: Collection[str] = (),
) -> str:
    """The page in Markdown.

    Args:
        benches: universality benches, behind the streams.
        pictures: names, of `draw`, that lie in the folder `images` beside the page.
    """
    sections = [HEAD, *(part for one in results for part in _stream(one, pictures))]
    if len(results) > 1:
        sections += _over_streams(ranks, len(results), pictures)
    for bench in benches:
        sections += bench_sections(bench, pictured=bench.picture in pictures)
    return "\n\n".join(section for section in sections if section) + "\n"


def draw(
    results: Iterable[StreamResults], ranks: Ranks | None, benches: Iterable[BenchResults] = ()
) -> dict[str, Figure]:
    """Name -> picture: of every stream error over cost and its champion's insides, mean ranks, benches."""
    found = {bench.picture: figure for bench in benches if (figure := bench_plot(bench.table))}
    for one in results:
        seconds = {row["model"]: row["later_seconds"] for row in one.rows}
        figure = cost_plot(one.rows, seconds, protocol=one.rows[0]["protocol"], cost=MODELS["later_seconds"])
        if figure is not None:
            found[_pareto(one)] = figure
        if one.inside:
            pictures = insight_pictures(one.inside.rows, one.inside.places)
            found |= {_inside_prefix(one) + name: picture.figure for name, picture in pictures.items()}
    if ranks:
        found[RANKS] = critical_difference_plot(ranks.mean_ranks, ranks.difference)
    return found


def _stream(one: StreamResults, pictures: Collection[str]) -> list[str]:
    champion = one.config.shown_model
    rows = [{**row, "model": _named(row, one), "against": _against(row, champion)} for row in one.rows]
    facts = f"{one.periods} periods" if one.periods > 1 else "1 period"
    facts += f", steps of {one.config.step / MINUTE:g} min"
    facts += f", champion `{champion}`." if champion else ", no models."
    description = f"{plain(one.config.description)}. " if one.config.description else ""
    drill = [grid(one.drill.to_dicts(), DRILL)] if len(one.drill) else []
    return [
        f"## {one.name}",
        description + facts,
        one.counterfactual.sentence if one.counterfactual else "",
        grid(rows, MODELS),
        "\n".join(f"- {plain(note)}" for note in one.notes),
        _picture(_pareto(one), f"Error over training time on {one.name}", pictures),
        *_transfer(one.transfer),
        *(part for name, frame in one.studies.items() for part in _study(name, frame)),
        *(["### Drill", *drill] if drill else []),
        *_inside(one, pictures),
    ]


def _inside(one: StreamResults, pictures: Collection[str]) -> list[str]:
    """The champion's insides, as far as they are drawn."""
    if one.inside is None:
        return []
    prefix = _inside_prefix(one)
    own = {name: name.removeprefix(prefix).replace("_", " ") for name in pictures if name.startswith(prefix)}
    shown = [_picture(name, text, pictures) for name, text in own.items()]
    return shown and [f"### Inside `{one.config.shown_model}` after {one.inside.period}", *shown]


def _named(row: Mapping[str, Any], one: StreamResults) -> str:
    """A model's name, with its number of periods where others have more."""
    few = f" ({row['periods']} of {one.periods} periods)" if row["periods"] < one.periods else ""
    return f"`{row['model']}`{few}"


def _against(row: Mapping[str, Any], champion: str) -> str | None:
    """The cell that holds a model against the champion; None where nothing is known."""
    if row["model"] == champion:
        return "champion"
    if row["differs"]:
        return f"not compared: {row['differs']} differs"
    return changed(row)


def _transfer(table: pl.DataFrame) -> list[str]:
    """The champion's transfer: all sensors at every horizon, the cohorts at the published average."""
    shown = table.filter((pl.col("cohort") == "all") | (pl.col("horizon") == PUBLISHED))
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in shown.iter_rows(named=True):
        place = (row["horizon"], row["cohort"])
        cell = rows.setdefault(place, {"horizon": row["horizon"].replace("_", " "), "sensors": row["cohort"]})
        low, high = row["low"], row["high"]
        cell[row["measure"]] = number(row["value"]) + ("" if low is None else f" ({number(low)} to {number(high)})")
    if not rows:
        return []
    columns = {"horizon": "horizon", "sensors": "sensors first heard in"}
    columns |= {measure: measure.replace("_", " ") for measure in MEASURES}
    return [f"### What `{table['model'][0]}` kept and learned", grid(rows.values(), columns)]


def _study(name: str, frame: pl.DataFrame) -> list[str]:
    """A study's models by the value of what they differ in, the base first."""
    columns = {"value": f"`{frame['key'][0]}`", **STUDY}
    return [f"### Study: {name.replace('_', ' ')}", grid(frame.to_dicts(), columns)]


def _over_streams(ranks: Ranks | None, streams: int, pictures: Collection[str]) -> list[str]:
    head = "## Over the streams"
    if ranks is None:
        return [head, "Fewer than two models have scores of protocol `sound` on all streams; there is nothing to rank."]
    rows = [{"model": f"`{name}`", "rank": rank} for name, rank in sorted(ranks.mean_ranks.items(), key=_by_rank)]
    text = (
        f"Ranks by MAE of the {len(rows)} models that have all periods of all {streams} streams, protocol `sound`. "
        f"Friedman's test of equal ranks: chi-square {ranks.statistic:.2f}, p = {ranks.p_value:.2g}. Nemenyi's "
        f"critical difference at 5 % is {ranks.difference:.2f}: ranks closer than that do not differ."
    )
    if ranks.streams < ENOUGH_STREAMS:
        text += (
            f" {ranks.streams} streams are few for such a test, which is meant for {ENOUGH_STREAMS} or more: "
            "take the ranks as a description."
        )
    picture = _picture(RANKS, "Mean ranks over the streams, with the critical difference", pictures)
    return [head, text, grid(rows, {"model": "model", "rank": "mean rank"}), picture]


def _by_rank(item: tuple[str, float]) -> tuple[float, str]:
    return item[1], item[0]


def _pareto(one: StreamResults) -> str:
    return f"results-{one.name}-pareto"


def _inside_prefix(one: StreamResults) -> str:
    return f"results-{one.name}-inside-"


def _picture(name: str, text: str, pictures: Collection[str]) -> str:
    return f"![{text}]({IMAGES}/{name}.png)" if name in pictures else ""
