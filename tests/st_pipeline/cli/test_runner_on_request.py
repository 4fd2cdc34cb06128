"""Comparisons and studies: made when they are asked for and only then, each method for itself.

One home is made by a default run, one by asking for the studies and then for the comparison; tests work on copies.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import polars as pl
import pytest
import yaml

from resources.instance import open_instance
from st_pipeline import streams as finding
from st_pipeline.cli.runner import Outcome, Runner, scope
from st_pipeline.definitions import build
from st_pipeline.errors import InputError
from st_pipeline.storage import FRAME, lake
from st_pipeline.streams import find_stream

NAME = "tiny"
PERIODS = ["2024-01-01", "2024-01-08"]
TRAINED = ("backbone", "evaluation", "losses", "diagnostics", "drill")
PROMPTED = (*TRAINED, "prompt_pool", "prompt_analysis")
RANK = {"name": "rank", "of": "eac", "vary": {"prompt_pool.rank": [1, 2]}}
RATE = {"name": "rate", "of": "stkec", "vary": {"training.learning_rate": [0.1]}}
CONFIG: dict[str, Any] = {
    "periods": {"every": "7d", "start": "2024-01-01", "end": "2024-01-15"},
    "compare": {"methods": ["retrain", "stkec"], "seeds": [1], "training": {"epochs": 1}},
    "studies": [RANK, RATE],
}


class Home(NamedTuple):
    folder: Path
    outcomes: list[Outcome]


def run(**asked: bool) -> Outcome:
    stream = find_stream(NAME)
    with open_instance() as instance:
        return Runner(stream, instance, build()).run(scope(stream, None, None, **asked))


def names(*models: str, kinds: tuple[str, ...]) -> set[str]:
    return {f"{NAME}/{model}/{kind} of {period}" for model in models for kind in kinds for period in PERIODS}


def prepare(folder: Path, make_workspace: Any, patch: pytest.MonkeyPatch) -> Any:
    space = make_workspace(folder)
    for name, value in space.environment.items():
        patch.setenv(name, value)
    patch.delenv("DAGSTER_HOME", raising=False)
    patch.setattr(finding, "SHIPPED", folder / "none")
    patch.chdir(folder)
    return space


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, make_workspace: Any) -> Iterator[Home]:
    """A default run and another one."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        prepare(folder, make_workspace, patch).landed_stream(NAME, **CONFIG)
        yield Home(folder, [run(), run()])


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, make_workspace: Any, plain: Home) -> Iterator[Home]:
    """After that the studies, then the comparison."""
    folder = tmp_path_factory.mktemp("asked")
    shutil.copytree(plain.folder, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        prepare(folder, make_workspace, patch)
        yield Home(folder, [run(studies=True), run(compare=True)])


@pytest.fixture
def copy_of(tmp_path: Path, make_workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Home], Path]:
    """`copy_of(home)`: a copy that this process works on; returns the stream file."""

    def make(home: Home) -> Path:
        shutil.copytree(home.folder, tmp_path, dirs_exist_ok=True)
        return prepare(tmp_path, make_workspace, monkeypatch).streams / NAME / "stream.yaml"

    return make


def metadata(*key: str, period: str | None = None) -> dict[str, Any]:
    """What the UI shows of the newest materialisation."""
    with open_instance() as instance:
        found = instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey([NAME, *key]), asset_partitions=[period] if period else None), limit=1
        )
        event = found.records[0].asset_materialization
        assert event is not None
        return {name: value.value for name, value in event.metadata.items()}


def test_a_default_run_leaves_alone_what_is_on_request(plain: Home) -> None:
    first, _ = plain.outcomes
    assert first.ok
    assert names("eac", kinds=PROMPTED) <= set(first.materialised)
    assert first.materialised[-1] == f"{NAME}/leaderboard"
    made = {name.removeprefix(f"{NAME}/").split(" of ")[0] for name in first.materialised}
    assert not [name for name in made if name.startswith(("retrain", "stkec", "eac_rank", "study", "comparison"))]
    assert "online/backbone" in made and "online/drill" not in made


def test_a_second_default_run_does_nothing(plain: Home) -> None:
    """Although the leaderboard reads scores of models that were never trained."""
    assert plain.outcomes[1].materialised == [] and plain.outcomes[1].ok


def test_studies_train_their_variants_and_bases(asked: Home) -> None:
    studies, _ = asked.outcomes
    assert studies.ok
    models = names("eac_rank_1", "eac_rank_2", kinds=PROMPTED) | names("stkec", "stkec_rate_0_1", kinds=TRAINED)
    assert set(studies.materialised) == models | {
        f"{NAME}/{name}" for name in ("leaderboard", "study/rank", "study/rate")
    }


def test_a_comparison_trains_the_methods_that_are_missing(asked: Home) -> None:
    _, compared = asked.outcomes
    assert compared.ok
    models = names("retrain", kinds=TRAINED) | names("online", kinds=("drill",))
    assert set(compared.materialised) == models | {f"{NAME}/{name}" for name in ("leaderboard", "comparison")}


def test_nothing_is_done_twice(asked: Home, copy_of: Callable[[Home], Path]) -> None:
    copy_of(asked)
    assert run(compare=True, studies=True).materialised == []
    assert run().materialised == []


def test_a_comparison_has_rows_of_every_method(asked: Home, copy_of: Callable[[Home], Path]) -> None:
    copy_of(asked)
    rows = lake().read((NAME, "comparison"), None, FRAME)
    assert {"retrain", "stkec", "online", "naive_weekly"} <= set(rows["model"])
    assert set(rows["reference"]) == {"eac"}
    assert rows["difference"].is_finite().all()
    board = lake().read((NAME, "leaderboard"), None, FRAME)
    assert {"eac", "online", "retrain", "stkec", "eac_rank_1", "eac_rank_2", "stkec_rate_0_1"} <= set(board["model"])


def test_a_study_has_the_scores_of_the_leaderboard(asked: Home, copy_of: Callable[[Home], Path]) -> None:
    copy_of(asked)
    rows = lake().read((NAME, "study", "rank"), None, FRAME)
    assert rows.select("value", "model").rows() == [("2", "eac"), ("1", "eac_rank_1"), ("2", "eac_rank_2")]
    assert rows["periods"].to_list() == [2] * 3
    board = (
        lake()
        .read((NAME, "leaderboard"), None, FRAME)
        .filter(
            (pl.col("trained_through") == pl.col("period"))
            & (pl.col("cohort") == "all")
            & (pl.col("metric") == "mae")
            & (pl.col("horizon") == "published_average")
        )
    )
    for model, error in rows.select("model", "mae").iter_rows():
        assert error == pytest.approx(board.filter(pl.col("model") == model)["value"].mean())
    one, two = (rows.filter(pl.col("model") == f"eac_rank_{rank}")["trainable"].item() for rank in (1, 2))
    assert two == 2 * one > 0
    assert set(rows["key"]) == {"prompt_pool.rank"}


def test_what_the_ui_shows(asked: Home, copy_of: Callable[[Home], Path]) -> None:
    copy_of(asked)
    study = metadata("study", "rank")
    assert len(study["table"].records) == 3
    assert all(study[name].startswith("![figure](data:image/png") for name in ("error", "cost"))
    drill = metadata("eac", "drill", period=PERIODS[1])
    assert drill["skill_kept"].startswith("![figure]")
    assert 0 <= drill["survived"] <= 7 and len(drill["summary"].records) == 1
    prompts = metadata("eac", "prompt_analysis", period=PERIODS[1])
    assert prompts["dagster/row_count"] == len(prompts["table"].records) == 2
    assert all(prompts[name].startswith("![figure]") for name in ("period_deviation", "epoch_deviation", "spectrum"))
    assert prompts["advice"].endswith(".") and prompts["advised_rank"] in (1, 2)
    assert prompts["deviation_after"] > prompts["deviation_before"] > 0


def test_a_new_value_trains_its_variant_alone(asked: Home, copy_of: Callable[[Home], Path]) -> None:
    file = copy_of(asked)
    document = yaml.safe_load(file.read_text())
    document["studies"][0]["vary"] = {"prompt_pool.rank": [1, 2, 3]}
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    made = set(run(compare=True, studies=True).materialised)
    assert made == names("eac_rank_3", kinds=PROMPTED) | {f"{NAME}/leaderboard", f"{NAME}/study/rank"}


def test_a_failing_method_stops_no_other(
    plain: Home, copy_of: Callable[[Home], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from st_pipeline.strategies.stkec import KnowledgeExpansion

    def refuse(*_: Any) -> None:
        raise InputError("no memory of anything")

    copy_of(plain)
    with monkeypatch.context() as patch:
        patch.setattr(KnowledgeExpansion, "prepare", refuse)
        outcome = run(compare=True)
    first = f"{NAME}/stkec/backbone of {PERIODS[0]}"
    assert outcome.failed == {first: "no memory of anything"}
    assert set(outcome.blocked) == names("stkec", kinds=TRAINED) - {first}
    expected = names("retrain", kinds=TRAINED) | names("online", kinds=("drill",))
    assert set(outcome.materialised) == expected | {f"{NAME}/leaderboard", f"{NAME}/comparison"}
    rows = lake().read((NAME, "comparison"), None, FRAME)
    assert "retrain" in set(rows["model"]) and "stkec" not in set(rows["model"])
    mended = run(compare=True)
    assert mended.ok
    assert set(mended.materialised) == names("stkec", kinds=TRAINED) | {f"{NAME}/leaderboard", f"{NAME}/comparison"}
    assert "stkec" in set(lake().read((NAME, "comparison"), None, FRAME)["model"])


@pytest.mark.parametrize("what", ["compare", "studies"])
def test_what_is_asked_for_must_be_there(workspace: Any, what: str) -> None:
    workspace.stream("bare")
    with pytest.raises(InputError, match=f"add .*{what}"):
        scope(find_stream("bare"), None, None, **{what: True})
    workspace.stream("full", **CONFIG)
    with pytest.raises(InputError, match="--models names all the models to train"):
        scope(find_stream("full"), None, "eac", **{what: True})
