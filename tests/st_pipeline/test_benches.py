"""A bench is a stream beside another: its data and settings, with backbones in variants as models."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from st_pipeline.benches import VARIANTS, backbone_entries, bench_models, inputs_of, model_name, write_bench
from st_pipeline.errors import InputError
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import count_parameters
from st_pipeline.registry import BACKBONES
from st_pipeline.streams import find_stream, load_streams
from st_pipeline.types import SeriesShape

PLAIN: dict[str, Any] = {"seeds": [1, 2], "training": {}}


def test_the_fourteen_backbones_are_registered_and_trained_as_published() -> None:
    entries = backbone_entries()
    assert len(entries) == 14
    assert set(entries) <= set(BACKBONES.names())
    assert entries["stid"]["training"]["milestones"] == [1, 50, 80]


def test_every_backbone_stands_in_every_variant_of_a_valid_stream(workspace: Any) -> None:
    workspace.stream("town", horizon=4)
    models = bench_models(list(backbone_entries()), list(VARIANTS), **PLAIN)
    config = write_bench(find_stream("town"), models).config
    assert [model.name for model in config.models] == [
        model_name(backbone, variant) for backbone in backbone_entries() for variant in VARIANTS
    ]
    of = {model.name: model for model in config.models}
    assert of["stid"].parts == ("backbone",)
    assert of["stid_relearner"].parts == ("backbone", "relearner")
    assert of["stid_control"].relearner.reads == "stacked"
    assert of["stid_prompts"].strategy.name == "eac"
    assert {model.runs for model in config.models} == {(1, 2)}
    assert len({str(of[model_name("stid", variant)].training) for variant in VARIANTS}) == 1


def test_data_and_settings_are_those_of_the_stream_and_its_models_are_not(workspace: Any) -> None:
    workspace.stream("town", horizon=4, compare={"methods": ["pecpm"]}, baselines=["var"])
    stream = find_stream("town")
    made = write_bench(stream, bench_models(["gru"], ["bare"], **PLAIN))
    assert made.name == "town_universality"
    assert made.config.source == stream.config.source
    assert made.config.periods == stream.config.periods
    assert made.config.horizon == 4
    assert [model.name for model in made.config.every_model] == ["gru"]
    assert made.config.baselines == ()
    assert find_stream("town_universality") == made, "found like any other stream"
    assert find_stream("town") == stream


def test_small_backbones_are_the_same_ones_narrower_and_trained_alike() -> None:
    small, published = backbone_entries("small"), backbone_entries()
    assert list(small) == list(published)
    assert len({str(entry["training"]) for entry in small.values()}) == 1
    shape = SeriesShape(window=12, horizon=12, channels=1, num_nodes=20, steps_per_day=24)
    for name, entry in small.items():
        narrow, wide = (backbones.build(spec, shape=shape) for spec in (entry["backbone"], name))
        same = entry["backbone"] == name
        assert (
            (count_parameters(narrow) == count_parameters(wide))
            if same
            else (narrow.working_width < wide.working_width and count_parameters(narrow) < count_parameters(wide))
        ), name


def test_a_small_bench_is_a_stream_beside_the_published_one(workspace: Any) -> None:
    workspace.stream("town", horizon=4)
    stream = find_stream("town")
    made = write_bench(stream, bench_models(["gru"], ["bare"], size="small", **PLAIN), size="small")
    assert made.name == "town_universality_small"
    assert made.config.models[0].backbone.spec() == {"name": "gru", "hidden": 32}
    assert made.config.models[0].training.later is not None
    (entry,) = bench_models(["gru"], ["bare"], size="small", seeds=[1], training={"epochs": 3})
    assert "later" not in entry["training"], "epochs that are asked for hold in every period"
    with pytest.raises(InputError, match="is a bench itself"):
        write_bench(made, [])


def test_every_model_may_see_what_a_model_of_the_stream_sees(workspace: Any) -> None:
    own = {
        "name": "mine",
        "backbone": "stgnn",
        "strategy": "online",
        "seasonal": ["1d"],
        "scaling": {"transform": "sqrt"},
    }
    workspace.stream("town", horizon=4, models=[own], champion="mine")
    stream = find_stream("town")
    inputs = inputs_of(stream, "mine")
    assert inputs == {"seasonal": ["1d"], "scaling": {"transform": "sqrt"}}
    made = write_bench(stream, bench_models(["gru"], list(VARIANTS), inputs={**inputs, "seasonal_skip": True}, **PLAIN))
    for model in made.config.models:
        assert (model.seasonal, model.scaling.transform) == ((timedelta(days=1),), "sqrt")
        assert model.parts[-1] == "seasonal_skip"
    with pytest.raises(InputError, match="stream 'town' has no model 'nine'; did you mean 'mine'"):
        inputs_of(stream, "nine")


def test_a_file_is_written_when_something_has_changed_only(workspace: Any) -> None:
    workspace.stream("town")
    stream, models = find_stream("town"), bench_models(["gru"], ["bare"], **PLAIN)
    file = write_bench(stream, models).folder / "stream.yaml"
    before = file.stat().st_mtime_ns
    write_bench(stream, models)
    assert file.stat().st_mtime_ns == before
    write_bench(stream, bench_models(["gru", "stid"], ["bare"], **PLAIN))
    assert "stid" in file.read_text()
    assert not load_streams()[1]


def test_settings_of_the_call_go_over_the_published_ones() -> None:
    (entry,) = bench_models(["stid"], ["bare"], seeds=[1], training={"epochs": 3, "batch": 8})
    assert entry["training"] == {**backbone_entries()["stid"]["training"], "epochs": 3, "batch": 8}
    assert backbone_entries()["stid"]["training"]["batch"] == 64


@pytest.mark.parametrize(
    ("backbones", "variants", "told"),
    [
        (["stidd"], ["bare"], "the bench has no backbone 'stidd'; did you mean 'stid'"),
        (["stid"], ["bare", "relearners"], "the bench has no variant 'relearners'; did you mean 'relearner'"),
        (["stid", "stid"], ["bare"], "backbones are stid, stid; expected at least one, and each once"),
        (["stid"], ["prompts"], "expected 'bare' among them"),
        ([], ["bare"], "backbones are none"),
    ],
)
def test_what_the_bench_has_not_is_told(backbones: list[str], variants: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        bench_models(backbones, variants, **PLAIN)


def test_a_bench_has_no_bench(workspace: Any) -> None:
    workspace.stream("town")
    made = write_bench(find_stream("town"), bench_models(["gru"], ["bare"], **PLAIN))
    with pytest.raises(InputError, match="is a bench itself; name the stream that it was made from"):
        write_bench(made, [])
