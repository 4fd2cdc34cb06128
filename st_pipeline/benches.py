"""The universality bench: a stream of its own beside another, whose models are backbones bare and in variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from st_pipeline.errors import InputError, closest
from st_pipeline.storage import home, write_atomic
from st_pipeline.streams import FILE, Stream, load_stream

SUFFIX = "_universality"
BARE = "bare"
VARIANTS: dict[str, dict[str, Any]] = {
    BARE: {"strategy": "online"},
    "relearner": {"strategy": "online", "relearner": {}},
    "control": {"strategy": "online", "relearner": {"reads": "stacked"}},
    "prompts": {"strategy": "eac", "prompt_pool": {"rank": 6}},
}
REPLACED = ("models", "champion", "baselines", "compare", "studies")
HEAD = "# Written by `st-pipeline bench universality {name}`, and written again by its next call.\n"


@cache
def backbone_entries() -> dict[str, dict[str, Any]]:
    """The backbones of the bench with their training settings, by name: `st_pipeline/backbones.yaml`."""
    entries = yaml.safe_load(files("st_pipeline").joinpath("backbones.yaml").read_text(encoding="utf-8"))
    return {entry["backbone"]: entry for entry in entries}


def model_name(backbone: str, variant: str) -> str:
    """How the bench calls a backbone in a variant."""
    return backbone if variant == BARE else f"{backbone}_{variant}"


def bench_models(
    backbones: Sequence[str], variants: Sequence[str], *, seeds: Sequence[int], training: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A model entry for every backbone in every variant, the bare one first.

    Args:
        training: settings that go over those of every backbone.

    Raises:
        InputError: a backbone or variant is unknown or named twice, or `bare` is not among the variants.
    """
    for kind, given, known in (("backbone", backbones, backbone_entries()), ("variant", variants, VARIANTS)):
        for name in given:
            if name not in known:
                raise InputError(f"the bench has no {kind} {name!r}; {closest(name, known)}")
        if not given or len(set(given)) < len(given):
            raise InputError(f"{kind}s are {', '.join(given) or 'none'}; expected at least one, and each once")
    if BARE not in variants:
        raise InputError(f"variants are {', '.join(variants)}; expected {BARE!r} among them, to compare with")
    models = []
    for name in backbones:
        own = {**backbone_entries()[name].get("training", {}), **training}
        for variant in sorted(variants, key=list(VARIANTS).index):
            entry = {"name": model_name(name, variant), "backbone": name, **VARIANTS[variant]}
            models.append({**entry, "training": own, "seeds": list(seeds)})
    return models


def write_bench(stream: Stream, models: Sequence[Mapping[str, Any]]) -> Stream:
    """The bench of a stream, written to `streams/` under the home: its data and settings with these models.

    The file stays as it is where nothing has changed.

    Raises:
        InputError: the stream is a bench itself, or cannot have these models.
    """
    if stream.name.endswith(SUFFIX):
        raise InputError(f"stream {stream.name!r} is a bench itself; name the stream that it was made from")
    document = yaml.safe_load((stream.folder / FILE).read_text(encoding="utf-8"))
    kept = {key: value for key, value in document.items() if key not in REPLACED}
    name = f"{stream.name}{SUFFIX}"
    kept |= {"name": name, "description": f"Universality bench of {stream.name}", "models": list(models)}
    text = HEAD.format(name=stream.name) + yaml.dump(kept, Dumper=_Plain, sort_keys=False, allow_unicode=True)
    file = bench_folder() / name / FILE
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_atomic(file, text.encode())
    return load_stream(file.parent)


class _Plain(yaml.SafeDumper):
    """Writes values out wherever they stand: stream files have no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def bench_folder() -> Path:
    """Where benches are written, and looked up like any other stream."""
    return home() / "streams"
