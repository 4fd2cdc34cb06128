"""The advice for a period, and its replay over past periods, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from st_pipeline.evaluation.advice_rule import ACTIONS
from st_pipeline.reporting.markdown import grid, number, plain

TOLD = {"nothing": "do nothing", "prompts_only": "tune the prompts only", "retrain": "train anew"}
SENSOR_ROWS = 15
NAMES = 20  # sensors named in a line
CHANGES = {"added": "new", "returned": "back", "retired": "retired", "silent": "silent", "moved": "moved"}
POLICY = {"policy": "policy", "matches": "matches", "near": "error near the least", "regret": "regret, MAE"}
POLICY |= {"regret_percent": "regret, %", "seconds": "seconds"}


def page(found: Mapping[str, Any]) -> str:
    """The page of one advice."""
    head = f"# {plain(found['stream'])}, {plain(found['period'])}: {verdict(found)}"
    parts = [head, _bullets(reason["text"] for reason in found["reasons"])]
    if found["missing"]:
        parts += ["Not known:", _bullets(found["missing"])]
    parts += ["## Cost", grid(cost_rows(found), {"action": "action", "seconds": "seconds", "from": "taken from"})]
    parts += ["## The frozen model", "\n".join(forecast_lines(found))]
    parts += ["## Sensors", _bullets(change_lines(found)), *_shifts(found)]
    graph = [{"what": name.replace("_", " "), "value": value} for name, value in found["graph"].items()]
    parts += ["## Graph", grid(graph, {"what": "", "value": "value"})]
    return "\n\n".join(part for part in parts if part) + "\n"


def advice_section(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a report says of an advice; empty where there is none."""
    if found is None:
        return {}
    return {
        "verdict": verdict(found),
        "reasons": [reason["text"] for reason in found["reasons"]],
        "missing": found["missing"],
        "forecast": forecast_lines(found),
        "costs": cost_rows(found),
        "spectral": found["graph"]["spectral_distance"],
    }


def verdict(found: Mapping[str, Any]) -> str:
    """The recommendation in plain words."""
    return TOLD[found["action"]]


def cost_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row an action: what it will take, and what that is taken from."""
    return [{"action": TOLD[action], **found["costs"][action]} for action in ACTIONS]


def forecast_lines(found: Mapping[str, Any]) -> list[str]:
    """Sentences about the error that the model of the period before makes and will make."""
    forecast = found["forecast"]
    if forecast["ratio"] is None:
        return ["Its error is not known."]
    lines = [
        f"{plain(found['model'])}, as {plain(found['before'])} left it, has a mean absolute error of "
        f"{number(forecast['error'])} on the validation part of this period, {forecast['ratio']:.2f} of that of the "
        f"weekly naive forecast ({number(forecast['naive'])})."
    ]
    if forecast["usual"] is not None:
        lines[0] = lines[0][:-1] + f"; after its last update it was {forecast['usual']:.2f}."
    misses = list(forecast["misses"].values())
    if misses:
        size = "an earlier period" if len(misses) == 1 else f"{len(misses)} earlier periods"
        lines.append(
            f"That share is what the test part is expected to have; in {size} it came "
            f"{min(misses):+.0f} % to {max(misses):+.0f} % off."
        )
    else:
        lines.append("That share is what the test part is expected to have; no earlier period shows how sure that is.")
    return lines


def change_lines(found: Mapping[str, Any]) -> list[str]:
    """A line for each way in which sensors came, went, moved or fell silent."""
    lines = []
    for name, told in CHANGES.items():
        ids = found["changes"][name]
        more = f" and {len(ids) - NAMES} more" if len(ids) > NAMES else ""
        lines.append(f"{told}: {len(ids)}" + (f" ({plain(', '.join(ids[:NAMES]))}{more})" if ids else ""))
    return lines


def shifted_sensors(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sensors that changed most, of those that can be compared."""
    return [row for row in found["sensors"] if row["psi"] is not None][:SENSOR_ROWS]


def _shifts(found: Mapping[str, Any]) -> list[str]:
    rows = shifted_sensors(found)
    columns = {"sensor_id": "sensor", "psi": "stability index", "wasserstein": "Wasserstein"}
    columns |= {"shift": "change of its week, deviations", "mean": "mean", "mean_before": "mean before"}
    signals = found["signals"]
    told = f"{signals['shifted']} of {signals['compared']} compared sensors changed their distribution."
    return [told, grid(rows, columns)] if rows else []


def replay_page(stream: str, model: str, found: Mapping[str, Any]) -> str:
    """The page of a replay."""
    parts = [f"# {plain(stream)}, {plain(model)}: the advice of past periods", replay_sentence(found)]
    if not found["periods"]:
        return "\n\n".join(parts) + "\n"
    columns = {"period": "period", "advice": "advice", "best": "best", **_columns(found), "regret": "regret"}
    parts += [grid(found["periods"], columns), grid(found["policies"], POLICY)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _columns(found: Mapping[str, Any]) -> dict[str, str]:
    known = [action for action in ACTIONS if action not in found["unknown"]]
    errors = {f"error_{action}": f"MAE, {TOLD[action]}" for action in known}
    return errors | {f"seconds_{action}": f"s, {TOLD[action]}" for action in known if action != ACTIONS[0]}


def replay_sentence(found: Mapping[str, Any]) -> str:
    """How often the advice was the best action, with the interval that so few periods allow."""
    if not found["judged"]:
        return "No period has an advice whose outcome is known."
    low, high = found["interval"]
    text = (
        f"The advice was the cheapest action within {found['tolerance']:g} % of the least error in "
        f"{found['matches']} of {found['judged']} periods (95 % interval of the share {low:.0%} to {high:.0%})."
    )
    if found["unjudged"]:
        text += f" {found['unjudged']} more advised what has no known outcome."
    if found["unknown"]:
        names = ", ".join(TOLD[action] for action in found["unknown"])
        text += f" What it would have brought is not known, since no model with the same inputs does it: {names}."
    return text


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
