"""ThreadSanitizer on the table's smaller cases, on the device that the host stands in for."""

from __future__ import annotations

import pytest

from fastnn.kernels.table import TABLE
from tests.cuda_host import build

pytestmark = [pytest.mark.slow, pytest.mark.skipif(build.COMPILER is None, reason="no g++")]

# Of formulas of single numbers, which share their kernels, one; of rows each.
OPS = [name for name, op in TABLE.items() if op.module in ("softmax", "prelu", "dropout", "gather")]
OPS += [name for name, op in TABLE.items() if op.module in ("normalization", "pooling", "resizing", "joining")]
OPS += ["add", "relu", "adam_step", "linear_adam_step", "column_sums", "linear_backward", "mse", "l1_l2_penalty"]
OPS += [
    "cross_entropy",
    "categorical_focal_cross_entropy",
    "cosine_similarity",
    "categorical_hinge",
    "multiclass_hinge",
    "nll",
]

# Ops by name at the last of the table's cases but one, and where they have rows as wide as a block's, and "turns" over
# batches, with a part of a source in another's place.
_SANITIZED = """
import os, sys
os.environ.pop("LD_PRELOAD")  # not for the compiler
import numpy as np
from fastnn import ops
from fastnn.kernels.cases import draw
from fastnn.kernels.table import TABLE
from tests.cuda_host.backend import on_host
file, right, wrong, *names = sys.argv[1:]

def turns():
    from fastnn.kernels.cuda import batches
    made, numbers = batches.Turns(300), cupy.zeros(64, "uint8")
    order, into = cupy.arange(600, dtype="int64"), cupy.zeros((600, 3), "float32")
    made.begin(0, order, cupy.zeros((2, 64), "uint8"))
    for _ in range(2):
        made.advance(numbers)
        made.put(batches.rows(into, made.rows), into)

with on_host() as cupy:
    from fastnn.kernels.cuda import launch
    cupy.sanitize, read = True, launch._file
    launch._file = lambda name: read(name).replace(right, wrong) if name == file else read(name)
    for name in names:
        if name == "turns":
            turns()
            continue
        op = TABLE[name]
        sizes = op.cases[0] if op.module == "linear_steps" else op.cases[-2]
        wide = [{"n": 2, "c": 1030}] if op.module == "softmax" else []
        for each in (sizes, *wide):
            given = draw(op, each, op.variants[0], "float32", np.random.default_rng(1))
            arrays = {key: cupy.asarray(value) for key, value in given.items() if isinstance(value, np.ndarray)}
            getattr(ops, name)(**{**given, **arrays})
    print("done", file=sys.stderr)
"""

# A part of a source, what stands there in its place, and an op that shows it.
FAULTS = {
    "sums of a block read late": (
        "prelude.cuh",
        "        __syncthreads(); // everybody",
        "        // everybody",
        "softmax_cross_entropy",  # sums two numbers one after the other
    ),
    "sums of a block read early": (
        "prelude.cuh",
        "        __syncthreads();\n        value = warps[0]",
        "        value = warps[0]",
        "softmax",
    ),
    "sums of columns read early": ("columns.cu", "    __syncthreads();\n", "", "column_sums"),
    "a turn that ends early": ("batches.cu", "    __syncthreads(); // everybody", "    // everybody", "turns"),
}


def test_there_are_no_races():
    said = build.sanitized(_SANITIZED, "", "", "", *OPS, "turns")
    assert "data race" not in said
    assert "done" in said


@pytest.mark.parametrize("name", FAULTS)
def test_races_are_found(name):
    assert "data race" in build.sanitized(_SANITIZED, *FAULTS[name])
