"""`advise`: what a period asks for before anything is trained on it, and how often such advice was right."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from st_pipeline.cli.output import print_json
from st_pipeline.errors import InputError, closest
from st_pipeline.files import write_atomic
from st_pipeline.storage import FRAME, JSON, lake
from st_pipeline.streams import find_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from st_pipeline.config import StreamConfig
    from st_pipeline.evaluation.actions import Outcomes
    from st_pipeline.model_config import ModelConfig
    from st_pipeline.training.checkpoint import BySeed

DPI = 110
ADVICE = "advice"


@click.command()
@click.argument("stream")
@click.option("--period", help="Key of the period; by default the newest that has its tensor.")
@click.option("--model", metavar="NAME", help="Of the stream; by default the champion.")
@click.option("--replay", "replayed", is_flag=True, help="All periods with known outcomes, against hindsight.")
@click.option("--picture", type=click.Path(dir_okay=False), help="Write the picture here, as PNG.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def advise(
    stream: str, period: str | None, model: str | None, replayed: bool, picture: str | None, as_json: bool
) -> None:
    """What a period of STREAM asks for: nothing, prompts only, or training anew; with reasons, shifts and costs.

    Only what is known before its training is used. The stored advice is shown where there is one.
    """
    from st_pipeline.reporting.advice_page import page, replay_page
    from st_pipeline.reporting.advice_plots import advice_plot, replay_plot

    config = find_stream(stream).config
    if not config.models:
        raise InputError(f"stream {stream!r} has no model; add one under `models` to its file")
    chosen = config.model(model or config.shown_model)
    if replayed and period:
        raise InputError("--replay goes through all periods; leave --period out")
    if replayed:
        found = _replay(config, chosen)
        text, figure = replay_page(stream, chosen.name, found), replay_plot(found, f"{stream}, {chosen.name}")
    else:
        found = _advice(config, chosen, _period(config, period))
        text, figure = page(found), advice_plot(found)
    if picture:
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        write_atomic(Path(picture), buffer.getvalue())
    print_json(found) if as_json else click.echo(text, nl=False)


def _period(config: StreamConfig, period: str | None) -> str:
    """
    Raises:
        InputError: no period has its tensor, or not this one.
    """
    known = _landed(config)
    if not known:
        raise InputError(f"stream {config.name!r} has no tensor yet; run `st-pipeline run {config.name}` first")
    if period is not None and period not in known:
        raise InputError(f"stream {config.name!r} has no tensor of period {period!r}; {closest(period, known)}")
    return period or known[-1]


def _landed(config: StreamConfig) -> list[str]:
    return lake().periods((config.name, "tensor"), "safetensors")


def _advice(config: StreamConfig, model: ModelConfig, period: str) -> dict[str, Any]:
    """The stored advice of the champion, otherwise one made of what is stored."""
    if model.name == config.shown_model and lake().exists((config.name, ADVICE), period, JSON):
        stored: dict[str, Any] = lake().read((config.name, ADVICE), period, JSON)
        return stored
    return list(_advices(config, model, [key for key in _landed(config) if key <= period]))[-1]


def _replay(config: StreamConfig, model: ModelConfig) -> dict[str, Any]:
    """
    Raises:
        InputError: no period has a known outcome.
    """
    from st_pipeline.evaluation.replay import cases, replay

    outcomes = _outcomes(config, model)
    known = sorted(outcomes.errors["nothing"].keys() & set(_landed(config)))
    if not known:
        raise InputError(
            f"{config.name}/{model.name} has no period after the first that it was scored on; "
            f"run `st-pipeline run {config.name}` first"
        )
    periods = [key for key in _landed(config) if key <= known[-1]]
    return replay(cases(_advices(config, model, periods), outcomes))


def _advices(config: StreamConfig, model: ModelConfig, periods: list[str]) -> Iterator[dict[str, Any]]:
    """The advice of each period, from what is stored of it and of those before."""
    from st_pipeline.data.adjacency import ADJACENCY
    from st_pipeline.data.lives import NODE_SET
    from st_pipeline.data.tensors import TENSOR
    from st_pipeline.evaluation.advice import Arrival
    from st_pipeline.evaluation.advice import advise as made
    from st_pipeline.training.compute import Compute

    codecs: dict[str, Any] = {"tensor": TENSOR, "adjacency": ADJACENCY, "node_set": NODE_SET}
    outcomes, compute = _outcomes(config, model), Compute.from_environment()
    probes: dict[str, float] = {}
    for key in periods:
        index = config.calendar.find(key).index
        before = config.calendar.period(index - 1).key if index else None
        network = {
            name: {used: lake().read((config.name, name), used, codec) for used in (before, key) if used}
            for name, codec in codecs.items()
        }
        arrival = Arrival(config, model, key, network, _parts(config, model, before), outcomes, probes)
        document = made(arrival, compute=compute)
        probes = document["probes"]
        yield document


def _parts(config: StreamConfig, model: ModelConfig, period: str | None) -> dict[str, BySeed]:
    """The model's parts after a period; none if one of them is not there."""
    from st_pipeline.training.checkpoint import CHECKPOINTS

    keys = [(config.name, model.name, part) for part in model.parts]
    if period is None or not all(lake().exists(key, period, CHECKPOINTS) for key in keys):
        return {}
    return {part: lake().read(key, period, CHECKPOINTS) for part, key in zip(model.parts, keys, strict=True)}


def _outcomes(config: StreamConfig, model: ModelConfig) -> Outcomes:
    """Of all that is stored of the model, its twin and the naive forecasts."""
    from st_pipeline.evaluation.actions import Outcomes, retrained_twin
    from st_pipeline.evaluation.leaderboard import collect

    twin = retrained_twin(config, model)
    names = [model.name, "naive", *([twin.name] if twin else [])]

    def stored(name: str, kind: str, codec: Any) -> dict[str, Any]:
        key = (config.name, name, kind)
        return {period: lake().read(key, period, codec) for period in lake().periods(key, codec.extension)}

    scores = collect(frame for name in names for frame in stored(name, "evaluation", FRAME).values())
    return Outcomes.of(model, scores, {name: stored(name, "diagnostics", JSON) for name in names}, twin)
