"""A trained model as a folder from which forecasts can be made without this package."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from st_pipeline import __version__
from st_pipeline.config import StreamConfig
from st_pipeline.data.clock import HOUR
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import Part
from st_pipeline.data.windows import spaced
from st_pipeline.errors import InputError
from st_pipeline.evaluation.scoring import require_same_sensors
from st_pipeline.files import write_atomic
from st_pipeline.forecasting.program import Program, export_program
from st_pipeline.forecasting.standalone import predict
from st_pipeline.model_config import ModelConfig
from st_pipeline.models.base import Forecaster
from st_pipeline.storage import digest, digest_of, dump_json
from st_pipeline.training.checkpoint import Checkpoint
from st_pipeline.training.forecasts import evaluating
from st_pipeline.training.learner import Learner
from st_pipeline.training.trained import BACKBONE
from st_pipeline.types import Graph
from st_pipeline.versions import VERSIONS

TOLERANCE = 1e-5  # of the program's forecasts, relative to the largest
COMPARED = 4  # windows


def export_model(
    config: StreamConfig, model: ModelConfig, data: PeriodData, parts: Mapping[str, Checkpoint], into: Path
) -> dict[str, Any]:
    """Write `model.pt2`, `scaler.safetensors`, `model.json`, `README.md` and `predict.py`; returns what the JSON says.

    The program is loaded again and compared with the model on windows of the period before anything is written.

    Args:
        data: of the period that the model is trained through.
        parts: of one seed after that period.
        into: a folder that does not exist or is empty.

    Raises:
        InputError: the folder holds something, the parts are of other sensors, or the model cannot be exported.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise InputError(f"{into}: is there already and not empty; name another folder, or remove it")
    learner = Learner(config, model, parts[BACKBONE].facts["seed"])
    require_same_sensors(learner, parts, data)
    trained = learner.restore(parts)
    whole = learner.arrays(data).whole(trained.scaler)
    program = export_program(trained.forecaster, data.graph, whole.windows.inputs(whole.starts[:1]))
    apart = _compare(program, trained.forecaster, whole, data.graph)
    scaler = {"mean": _plain(whole.scaler.mean), "scale": _plain(whole.scaler.scale)}
    payloads = {"model.pt2": program.dump(), "scaler.safetensors": save_safetensors(scaler)}
    facts = _facts(learner, data, parts, whole)
    facts["batch"] = "any" if program.any_batch else 1
    facts["largest_difference"] = apart
    facts["digests"]["files"] = {name: digest(payload) for name, payload in payloads.items()}
    payloads["predict.py"] = files(predict.__package__).joinpath("predict.py").read_bytes()
    payloads["README.md"] = _readme(facts).encode()
    payloads["model.json"] = dump_json(facts)
    for name, payload in payloads.items():
        write_atomic(into / name, payload)
    return facts


def _plain(table: Tensor) -> Tensor:
    return table.float().cpu().contiguous()


def _compare(program: Program, forecaster: Forecaster, whole: Part, graph: Graph) -> float:
    """Largest difference of program and model on a few windows, relative to the largest forecast.

    Raises:
        InputError: it is more than rounding.
    """
    run = program.exported.module()
    worst = 0.0
    for start in spaced(whole.starts, COMPARED).split(COMPARED if program.any_batch else 1):
        window = whole.windows.inputs(start)
        with evaluating(forecaster):
            wanted = forecaster(window, graph)
            found = run(*(part.contiguous() for part in window))
        worst = max(worst, float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12)))
    if not worst <= TOLERANCE:
        raise InputError(
            f"the exported program's forecasts differ from the model's by {worst:.1e} of the largest, expected at most "
            f"{TOLERANCE:.0e}; nothing was written"
        )
    return worst


def _facts(learner: Learner, data: PeriodData, parts: Mapping[str, Checkpoint], whole: Part) -> dict[str, Any]:
    """Everything of the model that is not a number in a tensor."""
    config, model, facts = learner.stream, learner.model, parts[BACKBONE].facts
    weights = {name: part.digest for name, part in parts.items()}
    protocol = learner.arrays(data).protocol
    tolerance = max(config.source.tolerance or 0 * HOUR, HOUR if config.step > HOUR else 0 * HOUR)
    return {
        "format": predict.FORMAT,
        "model_id": f"{config.name}/{model.name}/{facts['period']}/{learner.seed}/{digest_of(weights)[:12]}",
        "stream": config.name,
        "model": model.name,
        "trained_through": facts["period"],
        "seed": learner.seed,
        "protocol": model.protocol,
        "backbone": model.backbone.name,
        "strategy": model.strategy.name,
        "parts": list(parts),
        "sensors": list(data.nodes.ids),
        "edges": data.graph.num_edges,
        "variables": [{"name": name, **_rules(config, name)} for name in config.input_names],
        "window": config.window,
        "horizon": config.horizon,
        "lags": list(learner.lags),
        "step_seconds": int(config.step.total_seconds()),
        "timezone": config.timezone,
        "calendar": {"time_of_day": f"0 to {config.steps_per_day - 1}", "day_of_week": "0 (Monday) to 6"},
        "anchor": int(data.period.start.timestamp()),
        "label_lag_seconds": int(config.label_lag.total_seconds()),
        "tolerance_seconds": int(tolerance.total_seconds()),
        "missing": protocol.missing,
        "raw_target": whole.raw_target,
        "transform": whole.scaler.transform,
        "digests": {"configuration": facts["configuration"], "data": facts["data"], "weights": weights},
        "versions": {
            "st_pipeline": __version__,
            "model": VERSIONS["model"],
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _rules(config: StreamConfig, name: str) -> dict[str, Any]:
    rules = config.rules(name)
    return {
        "unit": rules.unit,
        "minimum": rules.minimum,
        "maximum": rules.maximum,
        "sentinels": [*rules.sentinels, *(float(np.float32(value)) for value in rules.sentinels)],
    }


def _readme(facts: Mapping[str, Any]) -> str:
    first = facts["variables"][0]
    unit = f" in {first['unit']}" if first["unit"] else ""
    columns = ",".join(variable["name"] for variable in facts["variables"])
    told = f"backbone {facts['backbone']}, strategy {facts['strategy']}, protocol {facts['protocol']}"
    size = "any" if facts["batch"] == "any" else "one: several times of issue are forecast one after the other"
    steps = f"{facts['window']} steps of {facts['step_seconds']} s"
    return f"""# {facts["model_id"]}

Forecasts of `{first["name"]}`{unit} for {len(facts["sensors"])} sensors of stream `{facts["stream"]}`:
{facts["horizon"]} steps ahead, from the last {steps}.
Model `{facts["model"]}` ({told}), trained through period {facts["trained_through"]}.

    python predict.py readings.csv [--at TIME] [--json] [--out FILE]

needs Python 3.11, torch and numpy, and nothing else; it was written with torch {facts["versions"]["torch"]}.

- `readings.csv` has the columns `sensor_id,timestamp,{columns}`, a row a sensor and step. The last
  {facts["window"] + max(facts["lags"], default=0)} steps before the time of issue are read.
- A timestamp without UTC offset is on the clock of {facts["timezone"]}.
- Every sensor gets a forecast, also one without readings; `readings` says at how many steps of the window it had a row.
- Sensors that the model does not know are left out and told.
- Values outside a variable's range and its sentinels are not used. The pipeline's rules that need a long history
  (stuck values, spikes) are not in `predict.py`.

| file | holds |
|---|---|
| `model.pt2` | the network, its weights and its graph of {facts["edges"]} edges: a `torch.export` program |
| `scaler.safetensors` | mean and scale of every sensor and variable |
| `model.json` | sensors in order, variables, steps, lags, time zone, digests, versions |
| `predict.py` | reads the above; refuses changed files, and archives that `torch.export.load` would unpickle |

Sensors and their order are fixed. Windows at a time: {size}.
"""
