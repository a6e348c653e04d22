"""What the course documents do, as short scripts: each prints its figures and draws its picture.

A script is a module with ``run(out, seed, quick)``: it writes pictures into the folder ``out``, and gives its figures
by name. ``quick`` takes less data and fewer epochs: what a test has time for.
"""

from __future__ import annotations

import ast
import importlib
from importlib.resources import files
from pathlib import Path

from fastnn import checks

# Names of examples, in the order in which a course meets them; a module is named alike, with "_" for "-".
NAMES = (
    "naive-against-compiled",
    "activations",
    "gradient-descent",
    "random-search",
    "backprop-by-hand",
    "xor",
    "iris",
    "boston",
    "mnist-15",
    "mnist-512",
    "mnist-conv",
    "reuters",
    "bankruptcy",
    "overfitting",
    "autoencoder",
)


def title(name: str) -> str:
    """What an example shows: the first line of its module, which is not run for it."""
    source = files(__name__) / f"{_module(name)}.py"
    found = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")))
    return (found or "").partition("\n")[0]


def run(name: str, out: str | Path = ".", seed: int = 0, *, quick: bool = False) -> dict[str, float]:
    """Run an example; its figures by name. Pictures are written into the folder ``out``, which is made if need be.

    ValueError for a name that is none; DataFileError where an example's data set is neither here nor to be had.
    """
    checks.one_of("name", name, NAMES)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = importlib.import_module(f"{__name__}.{_module(name)}").run(folder, seed, quick)
    return figures


def _module(name: str) -> str:
    return name.replace("-", "_")
