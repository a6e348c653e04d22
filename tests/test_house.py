"""The architecture: imports point down, the kernels know nothing above them, and importing fastnn is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn
import fastnn.kernels

FASTNN, KERNELS = Path(fastnn.__file__).parent, Path(fastnn.kernels.__file__).parent

# From the top down; a module may import what stands in a later row, or beside it in its own.
HOUSE = (
    ("fastnn.__main__",),
    ("fastnn.cli", "fastnn.plotting", "fastnn._environment"),
    ("fastnn.recipes",),
    ("fastnn.models", "fastnn.progress"),
    (
        "fastnn.callbacks",
        "fastnn.saving",
        "fastnn.layers",
        "fastnn.losses",
        "fastnn.metrics",
        "fastnn.optimizers",
        "fastnn.initializers",
        "fastnn.regularizers",
        "fastnn.utils",
        "fastnn.configurable",
    ),
    ("fastnn.engine",),
    ("fastnn.ops",),
    ("fastnn.backends",),
    ("fastnn.datasets",),
    ("fastnn.files",),
    ("fastnn.checks", "fastnn.errors"),
    ("fastnn.kernels",),
)


def sources():
    for root, name in ((FASTNN, "fastnn"), (KERNELS, "fastnn.kernels")):
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            module = ".".join((name, *(part for part in parts if part != "__init__")))
            if name == "fastnn.kernels" or not module.startswith("fastnn.kernels"):
                yield module, path


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def storey(module):
    """Index of the row that a module belongs to; None for what is not ours."""
    for row, names in enumerate(HOUSE):
        if any(module == name or module.startswith(name + ".") for name in names):
            return row
    return None


@pytest.mark.parametrize(("module", "path"), list(sources()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_point_down(module, path):
    if module == "fastnn":
        return
    own = storey(module)
    assert own is not None, f"{module} has no place in the house"
    for name in imported(path):
        target = storey(name)
        if target is None:
            assert name.split(".")[0] != "kernels", f"{module} imports a top-level package called kernels"
        else:
            assert target >= own, f"{module} imports {name}, which stands above it"


def python(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_import_is_cheap():
    """Nothing heavy is loaded before it is used."""
    heavy = ("numba", "cupy", "scipy", "matplotlib", "pooch", "tqdm", "safetensors", "torch")
    for imports in ("import fastnn", "from fastnn import datasets, layers, models, ops"):
        loaded = python(f"{imports}; import sys; print([name for name in {heavy!r} if name in sys.modules])")
        assert loaded.strip() == "[]", imports


def test_every_public_name_resolves():
    for name in fastnn.__all__:
        assert getattr(fastnn, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = fastnn.nonsense


def test_version_is_the_distributions():
    from importlib.metadata import version

    assert version("fastnn") == fastnn.__version__
