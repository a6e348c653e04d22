"""ThreadSanitizer on the table's smaller cases, on the device that the host stands in for."""

from __future__ import annotations

import pytest

from fastnn.kernels.table import TABLE
from tests.cuda_host import build

pytestmark = [pytest.mark.slow, pytest.mark.skipif(build.COMPILER is None, reason="no g++")]

# Of formulas of single numbers, which share their kernels, one; of rows each.
OPS = [name for name, op in TABLE.items() if op.module in ("softmax", "prelu", "random", "dropout", "gather")]
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
OPS += [name for name, op in TABLE.items() if op.module in ("convolution", "depthwise", "sampling", "sequences")]
OPS += [name for name, op in TABLE.items() if op.module in ("attention", "batched", "embedding")]
OPS += [name for name, op in TABLE.items() if op.module in ("recurrent", "resilient")]

# Ops by name at the last of the table's cases but one, with rows as wide as a block's and columns that blocks share,
# and "turns" over batches, with a part of a source in another's place.
_SANITIZED = """
import os, sys
os.environ.pop("LD_PRELOAD")  # not for the compiler
import numpy as np
from fastnn import ops
from fastnn.kernels.cases import draw
from fastnn.kernels.table import TABLE
from tests.cuda_host.backend import on_host
from tests.gpu import beside
file, right, wrong, *names = sys.argv[1:]

def turns():
    from fastnn.kernels.cuda import batches
    made, numbers = batches.Turns(300), cupy.zeros(64, "uint8")
    order, data = cupy.arange(900, dtype="int64"), cupy.zeros((900, 3), "float32")
    batch, into = cupy.zeros((300, 3), "float32"), cupy.zeros((900, 3), "float32")
    made.begin(range(3), order, cupy.zeros((4, 64), "uint8"))
    made.next(numbers, [data], [batch])
    for _ in range(3):
        made.next(numbers, [data], [batch], [batch.copy()], [into])

with on_host() as cupy:
    from fastnn.kernels.cuda import launch
    cupy.sanitize, read = True, launch._file
    launch._file = lambda name: read(name).replace(right, wrong) if name == file else read(name)
    noted = beside.sources_noted()
    seen = noted.__enter__()
    for name in names:
        if name in ("turns", "beside"):
            turns() if name == "turns" else beside.run(cupy)
            continue
        op = TABLE[name]
        sizes = op.cases[-2]
        more = {"softmax": [{"n": 2, "c": 1030}], "gemm": [{"n": 100, "m": 5}] if name == "column_sums" else []}
        for each in (sizes, *more.get(op.module, [])):
            given = draw(op, each, op.variants[0], "float32", np.random.default_rng(1))
            arrays = {key: cupy.asarray(value) for key, value in given.items() if isinstance(value, np.ndarray)}
            getattr(ops, name)(**{**given, **arrays})
    print("done, without", *sorted(beside.sources() - seen), "races", file=sys.stderr)
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
    "sums of columns read early": (
        "columns.cu",
        "    part[y][x] = total;\n    __syncthreads();\n",
        "    part[y][x] = total;\n",
        "column_sums",
    ),
    "a block that counts before it has written": (
        "prelude.cuh",
        "    __threadfence(); // what this thread",
        "    // what this thread",
        "column_sums",
    ),
    "the last block reads early": ("prelude.cuh", "        __threadfence(); // and", "        // and", "column_sums"),
    "a turn that ends early": ("batches.cu", "is_last(given.counters, gridDim.x)", "true", "turns"),
}


def test_there_are_no_races():
    said = build.sanitized(_SANITIZED, "", "", "", *OPS, "turns", "beside")
    assert "data race" not in said
    assert "done, without tensor.cu races" in said  # which test_gemm.py has


@pytest.mark.parametrize("name", FAULTS)
def test_races_are_found(name):
    assert "data race" in build.sanitized(_SANITIZED, *FAULTS[name])
