"""warmup: after it, nothing that trains or calls an op on the CPU compiles or loads anything more."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fastnn

PROGRAM = """
import numpy as np
from numba.core import event
import fastnn
from fastnn import layers, models, ops
from fastnn.kernels.cases import draw
from fastnn.kernels.cpu import jit
from fastnn.kernels.cpu.teams import team, threads
from fastnn.kernels.cpu.simd import library
from fastnn.kernels.table import TABLE

fastnn.warmup([{dtype!r}])
loaded = len(library._libraries)
jit.compile_now = team.compile_now = None  # compiles and loads: calling it is an error from here on
threads.SERIAL_BELOW_NS = 0.0
rng = np.random.default_rng(0)
x = rng.random((40, 20)).astype({dtype!r})
inputs = x, np.where(x < 0.2, x, 0), rng.integers(0, 255, x.shape).astype("u1")
with event.install_recorder("numba:compile") as recorder:
    for count in (1, 2):
        fastnn.set_num_threads(count)
        for op in TABLE.values():
            for variant in op.variants:
                getattr(ops, op.name)(**draw(op, op.cases[-1], variant, {dtype!r}, rng))
        for batch in inputs:
            model = models.Sequential([layers.Dense(8, "relu", dtype={dtype!r}), layers.Dense(3, dtype={dtype!r})])
            model.compile("rmsprop", "mse", metrics=["mae"])
            model.fit(batch, x[:, :3], epochs=1, verbose=0)
            model.evaluate(batch, x[:, :3], verbose=0)
            model.predict(batch)
assert model.plan().runner == "fused"
assert not recorder.buffer, recorder.buffer
assert len(library._libraries) == loaded
"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_compiles_after_it(dtype):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(dtype=dtype)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("dtypes", "error", "message"),
    [
        ("float32", TypeError, r"dtypes: got str 'float32', wants a list such as \['float32'\]"),
        (32, TypeError, "dtypes: got int 32, wants a list"),
        (["float32", "flaot64"], ValueError, r"dtypes\[1\]: got 'flaot64', .*did you mean 'float64'"),
        ([4], TypeError, r"dtypes\[0\]: got int 4, wants one of"),
    ],
)
def test_bad_dtypes(dtypes, error, message):
    with pytest.raises(error, match=message):
        fastnn.warmup(dtypes)
