"""A sensor table that retires, brings back, moves and re-units sensors: what the preview says is what happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from assets.stream import stream_assets
from checks.gate import ExpectationGate
from resources.compute import ComputeResource
from resources.lake import io_managers
from resources.source import SourceResource
from st_pipeline import streams as finding
from st_pipeline.cli import main
from st_pipeline.data.adjacency import ADJACENCY
from st_pipeline.data.lives import NODE_SET
from st_pipeline.storage import FRAME, lake
from st_pipeline.streams import find_stream
from st_pipeline.training.checkpoint import CHECKPOINTS

NAME = "life"
KEYS = ("2024-01-01", "2024-01-08", "2024-01-15")
BACK, MOVED, RATED = "2001", "4807", "4168"
MODEL = {
    "name": "fixed",
    "backbone": "stgnn",
    "prompt_pool": {"rank": 2},
    "strategy": "pretrain",
    "training": {"epochs": 1},
}


def changed(table: str) -> str:
    """BACK is away in the second period, MOVED and RATED are other from there on."""
    head, *lines = table.strip().splitlines()
    rows = []
    for line in lines:
        name, x, y, *kind, installed, retired, since = line.split(",")
        gone = KEYS[1] if name == BACK else retired
        rows.append([name, x, y, *kind, installed, gone, since, ""])
        later = {BACK: (x, y, KEYS[2], ""), MOVED: ("0.0", "0.0", KEYS[1], ""), RATED: (x, y, KEYS[1], "0.5")}
        if name in later:
            place_x, place_y, day, factor = later[name]
            rows.append([name, place_x, place_y, *kind, installed, retired, day, factor])
    return "\n".join([f"{head},unit_factor", *(",".join(row) for row in reversed(rows))]) + "\n"


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, make_workspace: Any) -> Iterator[Any]:
    """A workspace of its own for all tests, that this process's environment names."""
    made = make_workspace(tmp_path_factory.mktemp("life"))
    made.streams.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        patch.setattr(finding, "SHIPPED", made.folder / "none")
        patch.chdir(made.folder)
        yield made


def materialise() -> None:
    """The stream's data and its model, period by period, through Dagster."""
    assets = stream_assets(find_stream(NAME))
    resources = {**io_managers(), "source": SourceResource(), "compute": ComputeResource(), "gate": ExpectationGate()}
    plain, periodic = ["raw_files", "sensors"], ["raw_readings", "readings", "node_set", "tensor", "adjacency", "drift"]
    models = [dg.AssetKey([NAME, "fixed", part]) for part in ("backbone", "prompt_pool")]
    with dg.DagsterInstance.ephemeral() as instance:
        for keys, period in [(plain, None), *((periodic, key) for key in KEYS)]:
            chosen = [dg.AssetKey([NAME, key]) for key in keys] + (models if period else [])
            selection = dg.AssetSelection.assets(*chosen)
            made = dg.materialize(
                assets, selection=selection, partition_key=period, instance=instance, resources=resources
            )
            assert made.success


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["sensors", NAME, *arguments])


def read() -> dict[str, dict[str, Any]]:
    kinds = {"node_set": NODE_SET, "adjacency": ADJACENCY, "raw_readings": FRAME, "readings": FRAME}
    return {kind: {key: lake().read((NAME, kind), key, codec) for key in KEYS} for kind, codec in kinds.items()}


@pytest.fixture(scope="module")
def life(space: Any) -> dict[str, Any]:
    """The stream before and after its table was changed, with the preview made in between."""
    space.landed_stream(NAME, models=[MODEL], graph={"recipe": "gaussian"})
    config = yaml.safe_load((space.streams / NAME / "stream.yaml").read_text())
    del config["source"]["edges"], config["source"]["columns"]["distance"]
    (space.streams / NAME / "stream.yaml").write_text(yaml.safe_dump(config))
    materialise()
    before, table = read(), space.streams / NAME / "raw/sensors.csv"
    new = space.folder / "new.csv"
    new.write_text(changed(table.read_text()))
    files = {path: (space.home / "lake" / path).read_bytes() for path in space.files()}
    preview = ask("--preview", str(new), "--json")
    assert preview.exit_code == 0, preview.stderr
    assert files == {path: (space.home / "lake" / path).read_bytes() for path in space.files()}
    table.write_text(new.read_text())
    materialise()
    parts = {key: lake().read((NAME, "fixed", "prompt_pool"), key, CHECKPOINTS)[1] for key in KEYS}
    return {"before": before, "after": read(), "preview": json.loads(preview.stdout), "prompts": parts}


def test_the_preview_says_what_happens(life: dict[str, Any]) -> None:
    for row in life["preview"]["periods"]:
        key = row["period"]
        (old, new), (one, other) = (
            [life[when][kind][key] for when in ("before", "after")] for kind in ("node_set", "adjacency")
        )
        assert row["joins"] == sorted({*new.ids} - {*old.ids})
        assert row["leaves"] == sorted({*old.ids} - {*new.ids})
        assert row["edges_added"] == len(other.by_name().keys() - one.by_name().keys())
        assert row["edges_removed"] == len(one.by_name().keys() - other.by_name().keys())
    first, second, third = life["preview"]["periods"]
    assert not first["data"] and not first["models"]
    assert (second["units"], second["leaves"], second["moves"]) == ([RATED], [BACK], [MOVED])
    assert third["units"] == [RATED] and third["reordered"] and second["models"] and third["models"]
    assert life["preview"]["table"]["changed"] == sorted([BACK, MOVED, RATED])
    assert life["preview"]["models"] == ["fixed"]


def test_a_prompt_row_is_kept_in_cold_storage_and_restored_bit_for_bit(life: dict[str, Any]) -> None:
    nodes = life["after"]["node_set"]
    assert nodes[KEYS[1]].retired == (BACK,) and nodes[KEYS[2]].returned == (BACK,)
    rows = {}
    for key in KEYS:
        part = life["prompts"][key]
        table = dict(zip(part.facts["nodes"], part.tensors["weights.nodes.rows"], strict=True))
        cold = dict(zip(part.facts["cold"]["nodes"], part.tensors["weights.nodes.cold"], strict=True))
        rows[key] = (table, cold)
    first, away, back = (rows[key] for key in KEYS)
    assert BACK not in away[0] and BACK not in back[1]
    assert torch.equal(away[1][BACK], first[0][BACK])
    assert torch.equal(back[0][BACK], first[0][BACK])


def test_a_moved_sensor_keeps_its_history_and_gets_other_edges(life: dict[str, Any]) -> None:
    nodes = [life["after"]["node_set"][key] for key in KEYS]
    assert nodes[1].moved == (MOVED,) and {node.births[MOVED] for node in nodes} == {KEYS[0]}
    edges = [
        {pair: weight for pair, weight in life[when]["adjacency"][KEYS[1]].by_name().items() if MOVED in pair}
        for when in ("before", "after")
    ]
    assert edges[0] != edges[1]
    assert life["before"]["adjacency"][KEYS[0]].by_name() == life["after"]["adjacency"][KEYS[0]].by_name()
    table = [life["prompts"][key] for key in KEYS[:2]]
    row = [dict(zip(part.facts["nodes"], part.tensors["weights.nodes.rows"], strict=True))[MOVED] for part in table]
    assert torch.equal(*row)


def test_a_unit_change_converts_readings_and_leaves_raw_rows_and_flags(life: dict[str, Any]) -> None:
    for key in KEYS:
        assert life["before"]["raw_readings"][key].equals(life["after"]["raw_readings"][key])
        old, new = (life[when]["readings"][key] for when in ("before", "after"))
        assert old.drop("flow").equals(new.drop("flow"))
        own = pl.col("sensor_id").cast(pl.String) == RATED
        factor = 1.0 if key == KEYS[0] else 0.5
        expected = old.with_columns(pl.when(own).then(pl.col("flow") * factor).otherwise("flow").alias("flow"))
        assert expected["flow"].cast(old.schema["flow"]).equals(new["flow"])


def test_the_list_tells_the_lives(life: dict[str, Any]) -> None:
    rows = {row["sensor_id"]: row for row in json.loads(ask("--json").stdout)["sensors"]}
    states = [(part["state"], part["from"], part["to"]) for part in rows[BACK]["intervals"]]
    assert states == [("active", KEYS[0], KEYS[0]), ("retired", KEYS[1], KEYS[1]), ("active", KEYS[2], KEYS[2])]
    assert rows[MOVED]["changes"] == [{"change": "moved", "at": KEYS[1]}]
    assert rows[RATED]["changes"] == [{"change": "unit changed", "at": KEYS[1]}]
    assert f"active {KEYS[0]}, retired {KEYS[1]}, active {KEYS[2]}" in ask().stdout


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no such file"),
        ("name\n1\n", "there is no column 'sensor_id'"),
        ("sensor_id,x_m,y_m\n1,east,2\n", "x: found 'east', expected a number"),
        ("sensor_id,x_m,y_m\n1,1,2\n1,1,2\n", "each sensor once, or once per valid_from"),
        ("sensor_id,x_m,y_m,unit_factor\n1,1,2,0\n", "unit_factor: found 0, expected a number above 0"),
        ("sensor_id,x_m,y_m,unit_factor\n1,1,2,mph\n", "unit_factor: found 'mph', expected a number"),
    ],
)
def test_a_table_that_would_be_refused_is_refused_by_the_preview(
    life: dict[str, Any], tmp_path: Path, content: str | None, told: str
) -> None:
    file = tmp_path / "bad.csv"
    if content is not None:
        file.write_text(content)
    done = ask("--preview", str(file))
    assert done.exit_code == 2 and told in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
