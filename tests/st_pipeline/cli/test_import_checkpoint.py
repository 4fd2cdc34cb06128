"""A published checkpoint becomes what a model has learned of a period, and the next period goes on from there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

Invoke = Callable[..., Result]
PERIOD = "2024-01-01"


def _model(**more: Any) -> dict[str, Any]:
    return {"backbone": {"name": "stgnn", "hidden": 4}, "protocol": "paper", "training": {"epochs": 1}, **more}


MODELS = [
    _model(name="eac_published", prompt_pool={"rank": 2}, strategy="eac"),
    _model(name="eac_sound", prompt_pool={"rank": 2}, strategy="eac", protocol="sound"),
]


@pytest.fixture
def town(workspace: Any) -> Any:
    workspace.landed_stream("town", models=MODELS)
    return workspace


def checkpoint(folder: Path, sensors: int) -> Path:
    """EAC's names; the stream has windows of 6 and a horizon of 3."""
    random = torch.Generator().manual_seed(3)
    shapes = {"U": (sensors, 2), "V": (2, 6), "tcn1.weight": (1, 1, 3), "tcn1.bias": (1,), "fc.weight": (3, 6)}
    shapes |= {"fc.bias": (3,)}
    for name, inputs, outputs in (("gcn1", 6, 4), ("gcn2", 4, 6)):
        shapes |= {f"{name}.weight_{kind}.weight": (outputs, inputs) for kind in ("neigh", "self")}
        shapes[f"{name}.weight_neigh.bias"] = (outputs,)
    path = folder / "best.pkl"
    state = {name: torch.randn(shape, generator=random) * 0.3 for name, shape in shapes.items()}
    torch.save({"model_state_dict": state}, path)
    return path


def test_it_is_stored_by_dagster_as_imported_and_learned_on(town: Any, invoke: Invoke) -> None:
    done = town.command("run", "town", "--models", "naive", "--periods", PERIOD)
    assert done.returncode == 0, done.stderr
    ids = json.loads((town.home / f"lake/town/node_set/{PERIOD}.json").read_text())["ids"]
    path, sensors = checkpoint(town.folder, len(ids)), town.folder / "ids.txt"
    sensors.write_text("\n".join(reversed(ids)))
    where = ("--stream", "town", "--model", "eac_published", "--period", PERIOD)
    refused = {
        ("eac", str(path), *where): "does not say the id of each row's sensor: --sensors FILE",
        (
            "eac",
            str(path),
            *where[:3],
            "eac_sound",
            *where[4:],
            "--sensors",
            str(sensors),
        ): "has protocol 'sound', expected 'paper'",
        ("eac", str(path), *where, "--mean", "3"): "--mean and --std go together",
        ("stkec", str(path), *where): "has no tensor 'memory'",
    }
    for arguments, told in refused.items():
        result = invoke("import-checkpoint", *arguments)
        assert result.exit_code == 2 and told in result.stderr, result.stderr
    done = town.command("import-checkpoint", "eac", str(path), *where, "--sensors", str(sensors), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backbone"]["imported"]["file"] == "best.pkl"

    from safetensors.torch import load_file

    stored = load_file(town.home / f"lake/town/eac_published/prompt_pool/{PERIOD}.safetensors")
    published = torch.load(path, weights_only=True)["model_state_dict"]
    assert torch.equal(stored["1/weights.nodes.rows"], published["U"].flip(0))
    assert torch.equal(stored["1/weights.basis"], published["V"])
    assert _materialised(town)["imported"].startswith("eac from best.pkl, digest ")
    again = invoke("import-checkpoint", "eac", str(path), *where, "--sensors", str(sensors))
    assert again.exit_code == 2 and "has learned 2024-01-01 already" in again.stderr
    done = town.command("run", "town", "--models", "eac_published", "--periods", f"{PERIOD}..2024-01-08", "--json")
    assert done.returncode == 0, done.stderr
    trained = [name for name in json.loads(done.stdout)["materialised"] if "backbone" in name]
    assert trained == ["town/eac_published/backbone of 2024-01-08"]


def _materialised(town: Any) -> dict[str, str]:
    """Metadata of the stored backbone."""
    import dagster as dg

    from resources.instance import open_instance

    event = open_instance().get_latest_materialization_event(dg.AssetKey(["town", "eac_published", "backbone"]))
    assert event is not None and event.asset_materialization is not None
    return {name: str(value.value) for name, value in event.asset_materialization.metadata.items()}
