"""An exported folder forecasts as the pipeline does, without it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from st_pipeline.errors import InputError
from st_pipeline.forecasting.export import export_model
from st_pipeline.forecasting.standalone import predict
from st_pipeline.training.forecasts import evaluating

ISSUED = (20 * 24 - 2, 15 * 24 + 5)  # last steps that are read
MODELS: dict[str, dict[str, Any]] = {
    "prompted": {"strategy": "eac", "seasonal": ["1d", "7d"], "scaling": {"per": "sensor", "transform": "sqrt"}},
    "paper": {"strategy": "online", "protocol": "paper"},
    "short lag": {"strategy": "online", "seasonal": ["4h", "5h"], "prompt_pool": None, "seasonal_skip": True},
}


class Exported:
    """A model that has learned a period, its folder, and a file of the period's readings."""

    def __init__(self, learner: Any, data: Any, parts: Any, folder: Path) -> None:
        self.learner, self.data, self.folder = learner, data, folder / "model"
        self.facts = export_model(learner.stream, learner.model, data, parts, self.folder)
        self.trained = learner.restore(parts)
        self.readings = folder / "readings.csv"
        tensor = data.tensor
        step, node = np.nonzero(tensor.observed[..., 0])
        rows = {
            "sensor_id": [tensor.sensor_ids[row] for row in node],
            "timestamp": [datetime.fromtimestamp(second, UTC).isoformat() for second in tensor.times[step].tolist()],
            "value": tensor.values[step, node, 0].astype(float),
        }
        pl.DataFrame(rows).sample(fraction=1, shuffle=True, seed=1).write_csv(self.readings)

    def at(self, step: int) -> str:
        return datetime.fromtimestamp(int(self.data.tensor.times[step]) + 3600, UTC).isoformat()

    def wanted(self, *issued: int) -> NDArray[Any]:
        """(B, H, N) as the pipeline forecasts."""
        whole = self.learner.arrays(self.data).whole(self.trained.scaler)
        starts = torch.tensor(issued) + 1 - self.learner.stream.window
        with evaluating(self.trained.forecaster):
            forecast = self.trained.forecaster(whole.windows.inputs(starts), self.data.graph)
        return np.asarray(whole.restore(forecast))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`predict.py` in a process that cannot import the package."""
        return subprocess.run(
            [sys.executable, "-I", "-c", ALONE, str(self.folder / "predict.py"), *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=300,
        )


ALONE = """
import runpy, sys
class Nowhere:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("st_pipeline", "assets", "resources", "polars", "dagster"):
            raise ImportError(name)
sys.meta_path.insert(0, Nowhere())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def exported(
    make_learner: Any, make_history: Any, compute: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Exported]:
    """`exported("prompted")`: exported once; a test leaves the folder as it was."""

    @cache
    def make(name: str) -> Exported:
        options = dict(MODELS[name])
        learner = make_learner(options.pop("strategy"), stream={"timezone": "Australia/Melbourne"}, **options)
        data = next(iter(make_history(learner.stream).values()))
        folder = tmp_path_factory.mktemp("exported")
        return Exported(learner, data, learner.learn(data, None, compute=compute), folder)

    return make


def test_the_folder_alone_forecasts_as_the_pipeline(exported: Any) -> None:
    found = exported("prompted")
    done = found.run(str(found.readings), "--at", found.at(ISSUED[0]), "--at", found.at(ISSUED[1]), "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["forecasts"]
    sensors, horizon = len(found.data.nodes), found.learner.stream.horizon
    points = np.array([row["point"] for row in rows]).reshape(2, sensors, horizon).transpose(0, 2, 1)
    np.testing.assert_allclose(points, found.wanted(*ISSUED), rtol=1e-5, atol=1e-3)
    assert [row["sensor_id"] for row in rows[::horizon]] == 2 * list(found.data.nodes.ids)
    first = datetime.fromisoformat(rows[0]["target_time"])
    assert rows[0]["issued_at"] == rows[0]["target_time"] and first.utcoffset().seconds == 11 * 3600
    assert first.astimezone(UTC).isoformat() == found.at(ISSUED[0])
    window = found.data.tensor.observed[ISSUED[0] + 1 - found.learner.stream.window : ISSUED[0] + 1, :, 0].sum(0)
    assert [row["readings"] for row in rows[: sensors * horizon : horizon]] == window.tolist()
    assert {file.name for file in found.folder.iterdir()} == {
        "model.pt2",
        "scaler.safetensors",
        "model.json",
        "README.md",
        "predict.py",
    }


@pytest.mark.parametrize("name", MODELS)
def test_forecasts_are_the_pipelines(exported: Any, name: str) -> None:
    found = exported(name)
    model = predict.Model(found.folder)
    readings = predict.Readings(model, found.readings)
    if name == "paper":  # landed readings are all observed here, and what is missing is a zero
        assert model.facts["missing"] == "zero"
    rows = predict.forecasts(model, readings, [datetime.fromisoformat(found.at(step)) for step in ISSUED])
    shape = (2, len(found.data.nodes), found.learner.stream.horizon)
    points = np.array([row["point"] for row in rows]).reshape(shape).transpose(0, 2, 1)
    np.testing.assert_allclose(points, found.wanted(*ISSUED), rtol=1e-5, atol=1e-3)


def test_the_folder_says_what_it_holds(exported: Any) -> None:
    found = exported("prompted")
    facts = json.loads((found.folder / "model.json").read_text())
    assert facts == json.loads(json.dumps(found.facts))
    assert facts["sensors"] == list(found.data.nodes.ids)
    assert (facts["lags"], facts["timezone"], facts["batch"]) == ([24, 168], "Australia/Melbourne", "any")
    assert facts["digests"]["weights"].keys() == {"backbone", "prompt_pool"}
    assert facts["model_id"] in (found.folder / "README.md").read_text()
    assert "/work" not in zipfile.ZipFile(found.folder / "model.pt2").read("archive/models/model.json").decode()


def test_readings_that_cannot_be_used_are_one_sentence(exported: Any, tmp_path: Path) -> None:
    found = exported("prompted")
    model = predict.Model(found.folder)
    wrong = {
        "sensor_id,timestamp\na,2024-01-02": "has no column 'flow'",
        "sensor_id,timestamp,flow\na,noon,3": "line 2: found 'noon', expected a time",
        "sensor_id,timestamp,flow\na,2024-01-02,many": "line 2: flow: found 'many', expected a number",
        "sensor_id,timestamp,flow\nzz,2024-01-02,3": "there is no row of a sensor that the model knows",
    }
    for text, told in wrong.items():
        file = tmp_path / "wrong.csv"
        file.write_text(text)
        with pytest.raises(predict.Refused, match=told):
            predict.Readings(model, file)
    readings = predict.Readings(model, found.readings)
    for at, told in {
        "2024-01-10T08:17:00+00:00": "no step",
        "2031-01-01T00:00:00+00:00": "no sensor has a reading",
    }.items():
        with pytest.raises(predict.Refused, match=told):
            predict.forecasts(model, readings, [datetime.fromisoformat(at)])
    assert predict.main([str(tmp_path / "none.csv"), "--model", str(found.folder)]) == 2


def test_values_that_are_no_measurements_are_not_used(exported: Any, tmp_path: Path) -> None:
    model = predict.Model(exported("prompted").folder)
    file = tmp_path / "some.csv"
    lines = ["a,2024-01-05T00:00,5", "a,2024-01-05T01:00,-3", "a,2024-01-05T02:00,", "a,2024-01-05T03:00,1"]
    lines += ["a,2024-01-05T03:00,2", "b,2024-01-05T00:30,7", "b,2024-01-05T00:00,7", "b,2024-01-05T00:00,7"]
    file.write_text("\n".join(["sensor_id,timestamp,flow", *lines]))
    readings = predict.Readings(model, file)
    grid = readings.grid(readings.last - 3, readings.last)
    assert grid.usable[..., 0].T[:2].tolist() == [[True, False, False, False], [True, False, False, False]]
    assert grid.values[0, :2, 0].tolist() == [5, 7]


def test_a_changed_file_and_a_hostile_archive_are_refused(exported: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(exported("prompted").folder, tmp_path / "changed")
    archive, facts = folder / "model.pt2", folder / "model.json"
    with zipfile.ZipFile(archive) as file:
        content = {info.filename: file.read(info) for info in file.infolist()}
    program = next(name for name in content if name.endswith("models/model.json"))
    weights = next(name for name in content if name.endswith("model_weights_config.json"))
    sample = next(name for name in content if name.endswith("sample_inputs/model.pt"))
    assert content[sample] == b""
    changed = {
        "is no part of an exported model": {"archive/data/constants/opaque_obj_0": b"x"},
        "sample inputs, which would be unpickled": {sample: b"x"},
        "a tensor in it is pickled": {weights: content[weights].replace(b'"use_pickle": false', b'"use_pickle": true')},
        "it calls 'torch.os.system'": {
            program: content[program].replace(b"torch.ops.aten.gelu.default", b"torch.os.system")
        },
        "is no size": {program: content[program].replace(b"\"Symbol('s", b"\"__import__('os').system('s")},
    }
    for told, parts in changed.items():
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name, payload in {**content, **parts}.items():
                file.writestr(name, payload)
        assert {**content, **parts} != content
        archive.write_bytes(buffer.getvalue())
        with pytest.raises(predict.Refused, match=r"model\.pt2: is missing or was changed since the export"):
            predict.Model(folder)
        with pytest.raises(predict.Refused, match=told):
            predict.check_archive(archive)
    facts.write_text("{}")
    with pytest.raises(predict.Refused, match="format None, expected 1"):
        predict.Model(folder)


def test_a_folder_that_holds_something_is_left_alone(exported: Any) -> None:
    found = exported("prompted")
    before = {file.name: file.read_bytes() for file in found.folder.iterdir()}
    with pytest.raises(InputError, match="is there already and not empty"):
        export_model(
            found.learner.stream,
            found.learner.model,
            found.data,
            found.trained.checkpoints({"seed": 1, "nodes": list(found.data.nodes.ids)}, {}),
            found.folder,
        )
    assert before == {file.name: file.read_bytes() for file in found.folder.iterdir()}
