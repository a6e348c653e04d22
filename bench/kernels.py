"""The table's ops at its ``bench`` sizes, float32: plain Python, NumPy and the CPU kernels on equal operands.

FLOPs and bytes are the table's own counts. Plain Python gets sizes that it can do in a fraction of a second; its line
says which, and rates make it comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from bench.peers.numpy_ops import NUMPY as NUMPY_OPS
from bench.suite import FASTNN, NAIVE, NUMPY, Case, Contender, Workload, assert_agree
from fastnn import ops, use_backend
from fastnn.kernels.cases import draw, sizes_name
from fastnn.kernels.table import TABLE, Op, Sizes, shape_of

_DTYPE = "float32"
_SEED = 2

# What is asked of an op where it has a choice; operands that may be left out are, except linear's bias.
_CHOICES: Mapping[str, Mapping[str, Any]] = {
    "linear": {"activation": "relu"},
    "linear_backward": {"activation": "relu"},
    "adam_step": {"step": 1},
    "dropout": {"rate": 0.5, "seed": 1},
}

# The line that `report` measures once more on an AVX2 target.
MATMUL_BAR = "matmul 1024x1024x1024"
# By line, the ratios that the project promises.
_BARS: Mapping[str, Mapping[str, float]] = {
    "matmul 512x512x512": {NUMPY: 1.0},
    MATMUL_BAR: {NUMPY: 1.0},
    "matmul 2048x2048x2048": {NUMPY: 1.0},
    "matmul 128x784x512": {NUMPY: 1.2},
    "matmul 784x128x512": {NUMPY: 1.2},
    "matmul 128x512x784": {NUMPY: 1.2},
    "matmul 32x1000x100": {NUMPY: 1.2},
    "matmul 512x64x64": {NUMPY: 1.0},
}

# Multiplications, or numbers moved, that plain Python does in about 0.2 s.
_NAIVE_WORK = 1_000_000

# float32 sums of up to 2048 terms in another order, relative to the largest result.
_TOLERANCE = 1e-4

# The two products of a backward pass, as they lie in memory: name, sizes, the operand that is a transposed view.
_TRANSPOSED = (
    ("matmul X.T @ dZ", {"n": 784, "k": 128, "m": 512}, "a"),
    ("matmul dZ @ W.T", {"n": 128, "k": 512, "m": 784}, "b"),
)


def cases() -> list[Case]:
    """One case for each op and size, and the transposed products behind matmul's."""
    listed = []
    for op in TABLE.values():
        listed += [_case(f"{op.name} {sizes_name(sizes)}", op, sizes) for sizes in op.bench]
        if op.name == "matmul":
            listed += [_case(f"{name} {sizes_name(s)}", op, s, transposed) for name, s, transposed in _TRANSPOSED]
    return listed


def _case(name: str, op: Op, sizes: Sizes, transposed: str | None = None) -> Case:
    return Case(name, partial(_workload, op, sizes, transposed), at_least=_BARS.get(name, {}))


def _workload(op: Op, sizes: Sizes, transposed: str | None) -> Workload:
    public = getattr(ops, op.name)
    full = {FASTNN: _run(op, sizes, public, transposed)}
    if op.name in NUMPY_OPS:
        full[NUMPY] = _run(op, sizes, NUMPY_OPS[op.name], transposed)
    small_sizes = naive_sizes(op, sizes)
    small = {name: _run(op, small_sizes, public, transposed) for name in (FASTNN, NAIVE)}

    def naive() -> Any:
        with use_backend("naive"):
            return small[NAIVE]()

    def check() -> None:
        if NUMPY in full:
            assert_agree(f"{op.name}, fastnn against NumPy", full[FASTNN](), full[NUMPY](), _TOLERANCE)
        assert_agree(f"{op.name}, fastnn against naive", small[FASTNN](), naive(), _TOLERANCE)

    note = "" if small_sizes == sizes else sizes_name(small_sizes)
    contenders = {name: _contender(op, sizes, run) for name, run in full.items()}
    contenders[NAIVE] = _contender(op, small_sizes, naive, note)
    return Workload(contenders, check)


def _contender(op: Op, sizes: Sizes, run: Callable[[], Any], note: str = "") -> Contender:
    flops = None if op.flops is None else op.flops(**sizes)
    return Contender(run, flops, op.bytes(sizes, np.dtype(_DTYPE).itemsize), note)


def _run(op: Op, sizes: Sizes, function: Callable[..., Any], transposed: str | None) -> Callable[[], Any]:
    """A call of ``function`` on operands of its own, equal for every function; it returns what the op changes."""
    variant = {**{name: None for name in op.operands if op.optional(name)}, **_CHOICES.get(op.name, {})}
    if op.name == "linear":
        del variant["b"]
    given = draw(op, sizes, variant, _DTYPE, np.random.default_rng(_SEED))
    given = {name: value for name, value in given.items() if value is not None}
    if transposed:
        given[transposed] = np.ascontiguousarray(given[transposed].T).T
    if "out" in op.signature.parameters:
        given["out"] = np.zeros(shape_of(op.returns[0], sizes), _DTYPE)
    if not op.inplace:
        return partial(function, **given)
    updated = tuple(given[name] for name in op.inplace if name in given)

    def step() -> Any:
        function(**given)
        return updated

    return step


def naive_sizes(op: Op, sizes: Sizes) -> dict[str, Any]:
    """``sizes`` with the largest dimension halved until plain Python is done in a moment."""
    small = dict(sizes)
    while _work(op, small) > _NAIVE_WORK:
        largest = max(small, key=lambda name: np.prod(small[name]))
        value = small[largest]
        small[largest] = tuple(dim // 2 for dim in value) if isinstance(value, tuple) else value // 2
    return small


def _work(op: Op, sizes: Sizes) -> float:
    return op.bytes(sizes, 1) if op.flops is None else op.flops(**sizes) / 2
