"""What no line of the code may do: load pickles, evaluate text, start a shell, read YAML that makes objects."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("st_pipeline", "assets", "resources", "checks", "benchmarks", "drills")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "telnetlib"}
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
    "yaml.unsafe_load_all",
    "torch.save",
    "tempfile.mktemp",
}


def name_of(node: ast.expr) -> str:
    """A dotted name as it is written, or nothing."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def argument(call: ast.Call, name: str) -> object:
    """The constant that a call gives for a keyword; None if it gives none."""
    found = [word.value for word in call.keywords if word.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


def only_writes(tree: ast.AST, module: str) -> bool:
    """Whether nothing but `dump` and `dumps` of a module is used: layouts of others' code are pickles."""
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and name_of(node.value) == module}
    return bool(used) and used <= {"dump", "dumps"}


def faults(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            bad = [one for one in imported if one.split(".")[0] in MODULES]
            if isinstance(node, ast.ImportFrom) or not all(only_writes(tree, one) for one in bad):
                yield from (f"line {node.lineno}: imports {one}" for one in bad)
        if isinstance(node, ast.Call):
            name = name_of(node.func)
            if name in CALLS:
                yield f"line {node.lineno}: calls {name}"
            if name == "torch.load" and argument(node, "weights_only") is not True:
                yield f"line {node.lineno}: torch.load without weights_only"
            if name.split(".")[-1] in ("load", "read_npy", "read_array") and argument(node, "allow_pickle") is True:
                yield f"line {node.lineno}: loads pickles"
            if argument(node, "shell") is True:
                yield f"line {node.lineno}: starts a shell"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_line_is_dangerous(path: Path) -> None:
    assert list(faults(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import pickle; pickle.dump(x); pickle.loads(y)",
        "from pickle import dumps",
        "from joblib import load",
        "eval(x)",
        "yaml.load(x, Loader=yaml.Loader)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "np.load(x, allow_pickle=True)",
        "subprocess.run(x, shell=True)",
        "os.system(x)",
    ],
)
def test_the_search_finds_it(line: str) -> None:
    assert len(list(faults(ast.parse(line)))) == 1


def test_every_package_is_searched() -> None:
    assert len(FILES) > 250 and {path.relative_to(ROOT).parts[0] for path in FILES} == set(PACKAGES)


def test_templates_escape() -> None:
    """No template or page switches escaping off; what counts as markup is made in few places."""
    templates = [path.read_text() for path in (ROOT / "st_pipeline").rglob("*.html")]
    assert templates and not [text for text in templates if "|safe" in text.replace(" ", "") or "autoescape" in text]
    marked = {path.name for path in FILES if "Markup(" in path.read_text()}
    assert marked <= {"report.py", "forecasts_section.py"}
