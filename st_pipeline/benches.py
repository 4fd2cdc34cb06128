"""The universality bench: a stream of its own beside another, whose models are backbones bare and in variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from st_pipeline.errors import InputError, closest
from st_pipeline.fields import as_spec
from st_pipeline.files import write_atomic
from st_pipeline.storage import home
from st_pipeline.streams import FILE, Stream, load_stream

SUFFIX = "_universality"
BARE, RELEARNER, CONTROL = "bare", "relearner", "control"
VARIANTS: dict[str, dict[str, Any]] = {
    BARE: {"strategy": "online"},
    RELEARNER: {"strategy": "online", "relearner": {}},
    CONTROL: {"strategy": "online", "relearner": {"reads": "stacked"}},
    "prompts": {"strategy": "eac", "prompt_pool": {"rank": 6}},
}
PUBLISHED, SMALL = "published", "small"
SIZES = {PUBLISHED: "backbones.yaml", SMALL: "backbones_small.yaml"}
INPUTS = ("protocol", "seasonal", "seasonal_skip", "scaling")
REPLACED = ("models", "champion", "baselines", "compare", "studies")
HEAD = "# Written by `st-pipeline bench universality {name}`, and written again by its next call.\n"


@cache
def backbone_entries(size: str = PUBLISHED) -> dict[str, dict[str, Any]]:
    """The backbones of the bench with their options and training settings, by name: the file of `SIZES`."""
    entries = yaml.safe_load(files("st_pipeline").joinpath(SIZES[size]).read_text(encoding="utf-8"))
    return {as_spec(entry["backbone"])["name"]: entry for entry in entries}


def model_name(backbone: str, variant: str) -> str:
    """How the bench calls a backbone in a variant."""
    return backbone if variant == BARE else f"{backbone}_{variant}"


def bench_models(
    backbones: Sequence[str],
    variants: Sequence[str],
    *,
    seeds: Sequence[int],
    training: Mapping[str, Any],
    size: str = PUBLISHED,
    inputs: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """A model entry for every backbone in every variant, the bare one first.

    Args:
        training: settings that go over those of every backbone; its epochs hold in all periods.
        size: of the backbones, one of `SIZES`.
        inputs: keys `INPUTS` that every model has.

    Raises:
        InputError: a backbone or variant is unknown or named twice, or `bare` is not among the variants.
    """
    known_backbones = backbone_entries(size)
    for kind, given, known in (("backbone", backbones, known_backbones), ("variant", variants, VARIANTS)):
        for name in given:
            if name not in known:
                raise InputError(f"the bench has no {kind} {name!r}; {closest(name, known)}")
        if not given or len(set(given)) < len(given):
            raise InputError(f"{kind}s are {', '.join(given) or 'none'}; expected at least one, and each once")
    if BARE not in variants:
        raise InputError(f"variants are {', '.join(variants)}; expected {BARE!r} among them, to compare with")
    models = []
    for name in backbones:
        backbone = known_backbones[name]["backbone"]
        own = {**known_backbones[name].get("training", {}), **training}
        if "epochs" in training:
            own.pop("later", None)
        for variant in sorted(variants, key=list(VARIANTS).index):
            entry = {"name": model_name(name, variant), "backbone": backbone, **VARIANTS[variant], **(inputs or {})}
            models.append({**entry, "training": own, "seeds": list(seeds)})
    return models


def bench_name(stream: str, size: str) -> str:
    """How the bench of a stream is called."""
    return f"{stream}{SUFFIX}" if size == PUBLISHED else f"{stream}{SUFFIX}_{size}"


def is_bench(stream: str) -> bool:
    """Whether a stream is called as a bench."""
    return stream.endswith(tuple(bench_name("", size) for size in SIZES))


def inputs_of(stream: Stream, model: str) -> dict[str, Any]:
    """Protocol, seasonal inputs and scaling of one of a stream's models, as its file has them.

    Raises:
        InputError: the stream has no such model.
    """
    entries = {entry["name"]: entry for entry in _document(stream)["models"]}
    if model not in entries:
        raise InputError(f"stream {stream.name!r} has no model {model!r}; {closest(model, entries)}")
    return {key: entries[model][key] for key in INPUTS if key in entries[model]}


def write_bench(stream: Stream, models: Sequence[Mapping[str, Any]], *, size: str = PUBLISHED) -> Stream:
    """The bench of a stream, written to `streams/` under the home: its data and settings with these models.

    The file stays as it is where nothing has changed, and where the stream cannot have these models.

    Raises:
        InputError: the stream is a bench itself, or cannot have these models.
    """
    if is_bench(stream.name):
        raise InputError(f"stream {stream.name!r} is a bench itself; name the stream that it was made from")
    kept = {key: value for key, value in _document(stream).items() if key not in REPLACED}
    name = bench_name(stream.name, size)
    kept |= {"name": name, "description": f"Universality bench of {stream.name}", "models": list(models)}
    text = HEAD.format(name=stream.name) + yaml.dump(kept, Dumper=_Plain, sort_keys=False, allow_unicode=True)
    file = bench_folder() / name / FILE
    before = file.read_text(encoding="utf-8") if file.is_file() else None
    if before != text:
        write_atomic(file, text.encode())
    try:
        return load_stream(file.parent)
    except InputError:
        if before is None:
            file.unlink()
            file.parent.rmdir()
        else:
            write_atomic(file, before.encode())
        raise


def _document(stream: Stream) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((stream.folder / FILE).read_text(encoding="utf-8"))
    return document


class _Plain(yaml.SafeDumper):
    """Writes values out wherever they stand: stream files have no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def bench_folder() -> Path:
    """Where benches are written, and looked up like any other stream."""
    return home() / "streams"
