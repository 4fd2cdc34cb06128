"""A bench is a stream beside another: its data and settings, with backbones in variants as models."""

from __future__ import annotations

from typing import Any

import pytest

from st_pipeline.benches import VARIANTS, backbone_entries, bench_models, model_name, write_bench
from st_pipeline.errors import InputError
from st_pipeline.registry import BACKBONES
from st_pipeline.streams import find_stream, load_streams

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
