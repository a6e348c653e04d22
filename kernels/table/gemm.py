"""Products: matrices, the linear layer and its gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastnn.kernels.table.elementwise import ACTIVATIONS, FROM_INPUT
from fastnn.kernels.table.row import Choice, Rule, Subset, grid, op, product

_GEMM = grid(
    n=(0, 1, 1, 2, 3, 13, 14, 15, 16, 17, 28, 29, 7, 64, 1, 5, 6, 7, 12, 127, 128, 33, 301),
    k=(3, 1, 0, 3, 5, 7, 16, 1, 16, 33, 64, 3, 0, 64, 300, 2, 8, 9, 5, 31, 65, 700, 1),
    m=(4, 1, 5, 1, 2, 31, 32, 33, 16, 17, 64, 65, 9, 10, 1, 15, 16, 18, 8, 97, 46, 35, 257),
)
_GEMM_BENCH = grid(
    n=(128, 784, 128, 32, 512, 512, 1024, 2048),
    k=(784, 128, 512, 1000, 64, 512, 1024, 2048),
    m=(512, 512, 784, 100, 64, 512, 1024, 2048),
)
_LINEAR = tuple(sizes for sizes in _GEMM if sizes["n"] < 64)

# What the tests run at every size; one of each kind: from y, from z, of rows.
_EPILOGUES = ("linear", "relu", "sigmoid", "tanh", "gelu", "softmax")
_GRADIENTS = ("dx", "dw", "db")
Z_WHERE_NEEDED = Rule(
    "z",
    "given for activations whose derivative needs it, and None for all others",
    lambda given: (given["z"] is not None) == (given["activation"] in FROM_INPUT),
)


def not_packed(sparse: str, packed: str) -> Rule:
    """That an operand is no packed one beside a CSR matrix."""

    def holds(given: Mapping[str, Any]) -> bool:
        return not (hasattr(given[sparse], "indptr") and hasattr(given[packed], "packed_for"))

    return Rule(packed, f"an array beside a CSR {sparse}", holds)


@op(
    "gemm",
    a="n k",
    b="k m",
    returns=("n m",),
    packed=("b",),
    sparse=("a",),
    rules=(not_packed("a", "b"),),
    flops=lambda n, k, m: 2 * n * k * m,
    cases=_GEMM,
    bench=_GEMM_BENCH,
)
def matmul(a, b, *, out=None):
    """Matrix product y = a @ b.

    a is (n, k), b is (k, m), y is (n, m); any strides. With k = 0 the product is zeros. a may be a CSR matrix or array
    of SciPy's: what it does not store is no term.
    """


@op(
    "gemm",
    x="n in",
    w="in out",
    b="out",
    returns=("n out",),
    packed=("w",),
    sparse=("x",),
    rules=(not_packed("x", "w"),),
    options={"activation": Choice(ACTIVATIONS)},
    flops=lambda n, out, **size: 2 * n * size["in"] * out,
    cases=tuple({"n": s["n"], "in": s["k"], "out": s["m"]} for s in _LINEAR),
    bench=({"n": 128, "in": 784, "out": 512},),
    variants=({}, *product(activation=_EPILOGUES, b=(None,)), *product(activation=_EPILOGUES)),
)
def linear(x, w, b=None, activation="linear", *, out=None):
    """Linear layer with its bias and activation fused: y = activation(x @ w + b).

    x is (n, in), or a CSR matrix or array of SciPy's; w is (in, out), b is (out,) or None, y is (n, out).
    """


@op(
    "gemm",
    dy="n out",
    x="n in",
    w="in out",
    y="n out",
    z="n out",
    returns=("n in", "in out", "out"),
    into=_GRADIENTS,
    packed=("w",),
    options={"activation": Choice(ACTIVATIONS), "need": Subset(_GRADIENTS)},
    sparse=("x",),
    rules=(Z_WHERE_NEEDED,),
    flops=lambda n, out, **size: 4 * n * size["in"] * out,
    cases=tuple({"n": s["n"], "in": s["k"], "out": s["m"]} for s in _LINEAR),
    bench=({"n": 128, "in": 784, "out": 512},),
    variants=tuple({**({} if each in FROM_INPUT else {"z": None}), "activation": each} for each in _EPILOGUES),
    draw={"y": "activation"},
)
def linear_backward(dy, x, w, y, activation="linear", z=None, need=_GRADIENTS, *, dx=None, dw=None, db=None):
    """Gradients of ``linear``: (dx, dw, db) from dy = dL/dy, with y the output of the forward pass.

    dz = dy * activation'(z); dx = dz @ w.T (n, in), dw = x.T @ dz (in, out), db = sum of the rows of dz (out,). Where
    y tells the derivative z is None; gelu, silu, mish and others need it: z = x @ w + b, and y = activation(z). What is
    not in ``need`` is not computed, and None: the first layer needs no dx. Arrays given as dx, dw, db are written into.
    x may be a CSR matrix or array of SciPy's; the gradients are dense.
    """


@op(
    "gemm",
    x="n m",
    returns=("m",),
    cases=tuple({"n": s["n"], "m": s["m"]} for s in _LINEAR),
    bench=({"n": 128, "m": 512},),
)
def column_sums(x, *, out=None):
    """Sums of the rows of x (n, m), in their order: y (m,); a bias's gradient from its layer's."""
