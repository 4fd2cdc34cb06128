"""A forecast from a file of readings is that of the pipeline, and looks at nothing after its issue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from st_pipeline.errors import InputError
from st_pipeline.forecasting.one_off import forecast_once
from st_pipeline.training.forecasts import evaluating

LAST = 20 * 24 - 3  # the last step that is read


@pytest.fixture(params=["sound", "paper"])
def life(request: Any, make_learner: Any, make_history: Any, compute: Any) -> Any:
    """A learner, a period, and its parts after it."""
    more = {"protocol": "paper"} if request.param == "paper" else {"seasonal": ["1d", "7d"]}
    learner = make_learner("eac", stream={"timezone": "Europe/Berlin"}, **more)
    data = next(iter(make_history(learner.stream).values()))
    return learner, data, learner.learn(data, None, compute=compute)


def table(data: Any, last: int, *, names: tuple[str, str, str] = ("sensor_id", "timestamp", "q")) -> pl.DataFrame:
    """The period's readings up to a step, in columns of these names; times are UTC."""
    step, node = np.nonzero(data.tensor.observed[: last + 1, :, 0])
    times = [datetime.fromtimestamp(second, UTC).isoformat() for second in data.tensor.times[step].tolist()]
    columns = ([data.nodes.ids[row] for row in node], times, data.tensor.values[step, node, 0])
    return pl.DataFrame(dict(zip(names, columns, strict=True)))


def once(life: Any, file: Path, at: datetime | None = None) -> Any:
    learner, data, parts = life
    return forecast_once(learner.stream, learner.model, data, parts, file, at)


def wanted(life: Any, last: int) -> Any:
    """(H, N) of the pipeline."""
    learner, data, parts = life
    trained = learner.restore(parts)
    whole = learner.arrays(data).whole(trained.scaler)
    with evaluating(trained.forecaster):
        start = torch.tensor([last + 1 - learner.stream.window])
        return whole.restore(trained.forecaster(whole.windows.inputs(start), data.graph))[0].numpy()


def test_it_is_the_pipelines_forecast_whatever_the_file_is_called_and_holds(life: Any, tmp_path: Path) -> None:
    learner, data, _ = life
    csv, parquet = tmp_path / "new [1].csv", tmp_path / "later.parquet"
    table(data, LAST, names=("sensor_id", "timestamp", "value")).write_csv(csv)
    table(data, len(data.tensor.times) - 1).with_columns(
        pl.col("timestamp").str.to_datetime(time_zone="UTC")
    ).write_parquet(parquet)
    at = datetime.fromtimestamp(int(data.tensor.times[LAST + 1]), UTC)
    for found in (once(life, csv), once(life, csv, at), once(life, parquet, at + timedelta(minutes=10))):
        points = found.rows["point"].to_numpy().reshape(len(data.nodes), -1).T
        np.testing.assert_allclose(points, wanted(life, LAST), rtol=1e-5, atol=1e-3)
        assert found.rows["issued_at"].unique().to_list() == [at]
        assert found.rows["target_time"][0] == at and found.rows["horizon"][:4].to_list() == [1, 2, 3, 4]
        assert found.unknown == ()
    week = data.tensor.values[LAST + 1 - 7 * 24, 0, 0]
    if data.tensor.observed[LAST + 1 - 7 * 24, 0, 0]:
        assert found.rows["naive_weekly"][0] == pytest.approx(float(week))
    window = data.tensor.observed[LAST + 1 - learner.stream.window : LAST + 1, :, 0].sum(0)
    assert found.rows["readings"][:: learner.stream.horizon].to_list() == window.tolist()


def test_a_sensor_without_readings_is_forecast_and_one_that_is_new_is_told(life: Any, tmp_path: Path) -> None:
    _, data, _ = life
    file = tmp_path / "some.csv"
    silent = data.nodes.ids[1]
    rows = table(data, LAST).filter(pl.col("sensor_id") != silent)
    pl.concat([rows, rows.head(1).with_columns(sensor_id=pl.lit("new"))]).write_csv(file)
    found = once(life, file)
    own = found.rows.filter(pl.col("sensor_id") == silent)
    assert own["readings"].to_list() == [0] * len(own) and own["point"].is_finite().all()
    assert found.unknown == ("new",)


def test_what_cannot_be_read_is_one_sentence(life: Any, tmp_path: Path) -> None:
    _, data, _ = life
    file = tmp_path / "wrong.csv"
    with pytest.raises(InputError, match="there is no such file"):
        once(life, file)
    wrong = {"sensor_id,timestamp,q\n": "has no rows", "sensor_id,q\na,3\n": "there is no column 'timestamp'"}
    wrong["sensor_id,timestamp,q\nzz,2024-01-03T00:00,4\n"] = "has no reading of a sensor that small/model knows"
    for text, told in wrong.items():
        file.write_text(text)
        with pytest.raises(InputError, match=told):
            once(life, file)
    table(data, LAST).write_csv(file)
    with pytest.raises(InputError, match=r"nothing was measured|no sensor that small/model knows"):
        once(life, file, datetime(2031, 1, 1, tzinfo=UTC))
