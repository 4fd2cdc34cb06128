"""Registries: names from the files, options from the source, entries built when asked for."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from st_pipeline.errors import InputError
from st_pipeline.registry import BACKBONES, BASELINES, GRAPHS, READERS, STRATEGIES, VIEWS, Registry

REGISTRIES = [BACKBONES, STRATEGIES, READERS, GRAPHS, BASELINES, VIEWS]
ENTRIES = [(registry, name) for registry in REGISTRIES for name in registry.names()]


def test_nothing_of_a_stream_needs_torch_dagster_or_great_expectations_to_be_checked() -> None:
    """All streams are loaded, and the options of every entry read, without the imports that take seconds."""
    code = (
        "import sys\n"
        "from st_pipeline.streams import load_streams\n"
        "from st_pipeline.registry import BACKBONES, BASELINES, GRAPHS, READERS, STRATEGIES\n"
        "streams, faults = load_streams()\n"
        "assert len(streams) >= 4 and not faults, faults\n"
        "kinds = (BACKBONES, BASELINES, GRAPHS, READERS, STRATEGIES)\n"
        "[kind.options(name) for kind in kinds for name in kind.names()]\n"
        "print(sorted({'torch', 'dagster', 'great_expectations', 'pandas', 'statsmodels'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


@pytest.mark.parametrize(("registry", "name"), ENTRIES, ids=[f"{r.kind}-{n}" for r, n in ENTRIES])
def test_every_file_registers_the_entry_it_is_named_after(registry: Registry[Any], name: str) -> None:
    assert isinstance(registry.options(name).model_fields, dict)
    with pytest.raises(InputError, match=f"{registry.kind} '{name}': it has no option 'no_such_option'"):
        registry.validate({"name": name, "no_such_option": 1})


def test_the_families_are_those_of_the_architecture() -> None:
    assert {"csv", "npz", "parquet", "simulated"} <= set(READERS.names())
    assert {"distances", "edges", "gaussian", "knn", "none"} <= set(GRAPHS.names())
    assert {"eac", "online", "pretrain", "retrain"} <= set(STRATEGIES.names())
    assert "stgnn" in BACKBONES.names()
    assert {"arima", "var"} <= set(BASELINES.names())
    assert "base" not in {name for registry in REGISTRIES for name in registry.names()}


@pytest.mark.parametrize("name", ["gausian", "", "base", "../../etc/passwd", "parts", "gaussian.py", "\x00"])
def test_an_unknown_name_is_told_with_what_there_is(name: str) -> None:
    with pytest.raises(InputError, match="there is no graph recipe called"):
        GRAPHS.validate({"name": name})


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"name": "knn", "k": "5"}, "option 'k': found '5', should be a valid integer"),
        ({"name": "knn", "k": True}, "option 'k': found 'True'"),
        ({"name": "knn", "k": 2.5}, "option 'k': found '2.5'"),
        ({"name": "gaussian", "sigma": float("inf")}, "option 'sigma': found 'inf', should be a finite number"),
        ({"name": "gaussian", "treshold": 0.5}, "it has no option 'treshold'; did you mean 'threshold'?"),
        ({"name": "none", "k": 3}, "it has no option 'k'; there are none"),
        ({"name": "distances", "both_ways": "yes"}, "option 'both_ways': found 'yes'"),
    ],
)
def test_options_are_checked_against_the_entry(spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as caught:
        GRAPHS.validate(spec)
    assert problem in str(caught.value)
    assert caught.value.field == next(key for key in spec if key != "name")


def test_a_typo_is_told_before_the_option_that_it_leaves_missing() -> None:
    with pytest.raises(InputError, match="it has no option 'readngs'; did you mean 'readings'"):
        READERS.validate({"name": "csv", "readngs": "r.csv"})
    with pytest.raises(InputError, match="option 'readings' is missing"):
        READERS.validate({"name": "csv"})


def test_building_gives_the_entry_its_options_and_defaults() -> None:
    assert vars(GRAPHS.build("knn")) == {"k": 5, "sigma": None}
    assert vars(GRAPHS.build({"name": "knn", "k": 2, "sigma": 10.0})) == {"k": 2, "sigma": 10.0}


def test_a_new_entry_is_found_by_its_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "made_up_recipes"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text("")
    (package / "_hidden.py").write_text("")
    (package / "star.py").write_text(
        "from test_registry_family import FAMILY\n"
        "@FAMILY.register\n"
        "def star(*, size: int = 3, tags: list[str] | None = None):\n"
        "    return [size, tags]\n"
    )
    family: Registry[Any] = Registry("shape", "made_up_recipes")
    module = type(sys)("test_registry_family")
    module.FAMILY = family  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "test_registry_family", module)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert family.names() == ["star"]
    assert family.build({"name": "star", "tags": ["a"]}) == [3, ["a"]]
    with pytest.raises(InputError, match="shape 'star': option 'size'"):
        family.build({"name": "star", "size": "big"})
