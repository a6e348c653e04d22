"""The architecture: imports point down, the kernels know nothing above them, and importing fastnn is cheap."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fastnn
import fastnn.kernels

ROOT = Path(__file__).parents[1]
FASTNN, KERNELS = Path(fastnn.__file__).parent, Path(fastnn.kernels.__file__).parent

# From the top down; a module may import what stands in a later row, or beside it in its own.
HOUSE = (
    ("fastnn.__main__",),
    ("fastnn.cli", "fastnn._environment"),
    ("fastnn.examples",),
    ("fastnn.recipes", "fastnn.minimization", "fastnn.playground"),
    ("fastnn.neuralnets", "fastnn.onnx", "fastnn.sklearn", "fastnn.thinc", "fastnn.torch"),
    ("fastnn.models", "fastnn.serialization", "fastnn.progress"),
    (
        "fastnn.callbacks",
        "fastnn.constraints",
        "fastnn.saving",
        "fastnn.activations",
        "fastnn.layers",
        "fastnn.losses",
        "fastnn.metrics",
        "fastnn.optimizers",
        "fastnn.initializers",
        "fastnn.random",
        "fastnn.regularizers",
        "fastnn.samples",
        "fastnn.utils",
        "fastnn.configurable",
        "fastnn.folders",
    ),
    ("fastnn.diagrams", "fastnn.plotting"),
    ("fastnn.engine",),
    ("fastnn.programs", "fastnn.epochs", "fastnn.differentiation"),
    ("fastnn.ops", "fastnn.recorder"),
    (
        "fastnn.control",
        "fastnn.discrete",
        "fastnn.mathematics",
        "fastnn.numerics",
        "fastnn.places",
        "fastnn.spatial",
    ),
    ("fastnn.backends", "fastnn.tape"),
    ("fastnn.datasets",),
    ("fastnn.adoption", "fastnn.files"),
    ("fastnn.absent", "fastnn.checks", "fastnn.errors"),
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


# What each room of the kernels knows of the others, beside itself and what is common to all backends.
COMMON = {
    "addresses",
    "table",
    "cases",
    "contexts",
    "formulas",
    "graph",
    "interrupts",
    "planned",
    "precision",
    "user_cache",
}
ROOMS = {"formulas": set(), "naive": {"table", "graph"}, "cpu": COMMON, "cuda": COMMON}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_the_kernels_know_no_other_backend(room):
    """Formulas know of no backend at all, neither llvmlite nor Numba, CuPy or NumPy."""
    for path in (KERNELS / room).rglob("*.py"):
        for name in imported(path):
            if name.startswith("fastnn.kernels."):
                assert name.split(".")[2] in ROOMS[room] | {room}, f"{path} imports {name}"
            elif room == "formulas":
                assert name.split(".")[0] in sys.stdlib_module_names, f"{path} imports {name}"


# The CPU's kernels from the top down, as above: packages and modules; what is not named is of ops.
CPU = (
    ("program", "epochs"),
    ("instructions",),
    ("",),
    ("jit", "objects"),
    ("teams",),
    ("_arrays",),
    ("simd",),
    ("compiler", "notes"),
)


def floor(name):
    """Index of the row of ``CPU`` that a module belongs to, by its name behind the package's."""
    rows = [row for row, names in enumerate(CPU) if name in names]
    return rows[0] if rows else CPU.index(("",))


def test_imports_of_the_cpu_point_down():
    package = "fastnn.kernels.cpu."
    for module, path in sources():
        if module.startswith(package):
            own = floor(module.removeprefix(package).split(".")[0])
            for name in imported(path):
                if name.startswith(package) and not name.endswith(".require_compiler"):
                    assert floor(name.removeprefix(package).split(".")[0]) >= own, f"{module} imports {name}"


def python(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_import_is_cheap():
    """Nothing heavy is loaded before it is used."""
    heavy = ("numba", "cupy", "scipy", "matplotlib", "pooch", "tqdm", "safetensors", "torch", "onnx")
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

    assert version("fastnn-kernels") == fastnn.__version__


# Where people and their copied commands meet the index: the name ``fastnn`` is another project's there.
WRONG_NAME = re.compile(r"(?<![\w.-])fastnn\[\w|\bpip3? install\b.*[\s'\"]fastnn(?![\w.-])")
EXTRAS = re.compile(r"\bpip3? install\b[^\n]*\.\[([\w,]+)\]|\binstalling\(((?:[\"']\w+[\"'](?:, )?)+)\)")
WRITTEN = [
    *ROOT.glob("*.md"),
    ROOT / "pyproject.toml",
    ROOT / ".ci" / "run",
    *(ROOT / "docs").rglob("*.md"),
    *(path for name in ("fastnn", "kernels", "bench", "ci", "docs", "tests") for path in (ROOT / name).rglob("*.py")),
]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("pip install 'fastnn[cuda13]'", True),
        ('.venv/bin/pip install -U "fastnn[plot]"', True),
        ("'fastnn[cuda13]' or 'fastnn[cuda12]'", True),
        ("pip install fastnn", True),
        ("pip install -q fastnn==0.1", True),
        ('pip install ".[cuda13]"', False),
        ("pip install 'fastnn-kernels[plot]'", False),
        ('pip install "$scratch"/fastnn_kernels-*.whl', False),
        ("pip install . && .venv/bin/fastnn train", False),
    ],
)
def test_the_wrong_distribution_is_recognised(text, wrong):
    assert bool(WRONG_NAME.search(text)) is wrong


def test_no_text_names_the_wrong_distribution():
    this = Path(__file__)
    lines = ((path, line) for path in WRITTEN if path != this for line in path.read_text("utf-8").splitlines())
    assert [f"{path}: {line}" for path, line in lines if WRONG_NAME.search(line)] == []


def test_every_extra_that_a_text_names_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        extra
        for path in WRITTEN
        for match in EXTRAS.finditer(path.read_text("utf-8"))
        for extra in re.findall(r"\w+", match[1] or match[2])
    }
    assert {"cuda12", "cuda13", "plot", "peers", "test"} <= named
    assert named <= project["optional-dependencies"].keys()


def test_what_the_test_command_leaves_out_is_run_by_ci():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]["addopts"]
    left_out = re.findall(r"\bnot (\w+)", options)
    assert left_out == ["slow"]
    assert re.findall(r'/pytest" -m (\w+)', (ROOT / ".ci" / "run").read_text("utf-8")) == left_out
