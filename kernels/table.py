"""The one table of ops: name, signature, operand shapes, options, FLOP and byte counts, cases.

Dispatch and argument checks (``fastnn.ops``), the tests and the benchmarks all read it. A row is a function without a
body: its parameters and docstring are those of the public op and of its implementation on every backend; the decorator
adds what a signature cannot say.

How to read a row:

- ``a="n k"`` gives an operand's dimensions; equal names are equal sizes. ``"..."`` is any shape, the same for every
  operand that says so; ``"n ..."`` any shape with at least one dimension; ``"*"`` broadcasts as NumPy does. ``returns``
  uses the same notation; ``""`` is a single number.
- An operand whose default is None is optional. ``inplace`` lists the operands that are updated in place, ``packed``
  those that may be packed weights (``fastnn.ops.pack``).
- ``options`` describes the scalar parameters; ``rules`` what must hold between parameters.
- ``flops`` counts floating-point operations of one call from the sizes; None where memory, not arithmetic, is the
  limit. Bytes follow from the shapes: each operand and result once, in-place operands twice.
- ``cases`` are the sizes that the tests run, ``bench`` those that the benchmarks time. ``draw`` says how to make
  operands that are not plain random numbers (``fastnn.kernels.cases``).

To add an op: a row here, its loops in ``naive/<module>.py``, its kernel in ``cpu/<module>.py``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Sizes = Mapping[str, Any]

DTYPES = ("float32", "float64")

# The elementwise activations, by the name users give; each has the ops `name` and `name_backward` ("linear", the
# identity, keeps the function name `identity` because `linear` is the layer). Softmax works on rows.
ELEMENTWISE_ACTIVATIONS = {"linear": "identity", "relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh"}
ACTIVATIONS = (*ELEMENTWISE_ACTIVATIONS, "softmax")


@dataclass(frozen=True)
class Choice:
    """A string parameter out of a fixed set."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Real:
    """A finite real parameter in [low, high]; an open end excludes its bound."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False


@dataclass(frozen=True)
class Integer:
    """An integer parameter in [low, high]."""

    low: int
    high: int | None = None


@dataclass(frozen=True)
class Flag:
    """A True/False parameter."""


Option = Choice | Real | Integer | Flag


@dataclass(frozen=True)
class Rule:
    """A condition between parameters: ``holds(values)`` or a ValueError that says ``wants`` about ``parameter``."""

    parameter: str
    wants: str
    holds: Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, eq=False)
class Op:
    """One row of the table."""

    name: str
    module: str
    signature: inspect.Signature
    doc: str
    operands: Mapping[str, str]
    returns: tuple[str, ...]
    inplace: tuple[str, ...]
    packed: tuple[str, ...]
    options: Mapping[str, Option]
    rules: tuple[Rule, ...]
    flops: Callable[..., float] | None
    cases: tuple[Sizes, ...]
    bench: tuple[Sizes, ...]
    variants: tuple[Mapping[str, Any], ...]
    draw: Mapping[str, Any] = field(default_factory=dict)

    def optional(self, operand: str) -> bool:
        """Whether the operand may be left out."""
        return self.signature.parameters[operand].default is None

    def elements(self, spec: str, sizes: Sizes) -> int:
        """Number of elements of an operand or result with dimensions ``spec``."""
        return math.prod(shape_of(spec, sizes))

    def bytes(self, sizes: Sizes, itemsize: int) -> int:
        """Bytes that one call must move at least: operands read, results written, in-place operands both."""
        read = sum(self.elements(spec, sizes) for name, spec in self.operands.items() if not self.optional(name))
        written = sum(self.elements(spec, sizes) for spec in self.returns)
        updated = sum(self.elements(self.operands[name], sizes) for name in self.inplace if not self.optional(name))
        return itemsize * (read + written + updated)


TABLE: dict[str, Op] = {}


def shape_of(spec: str, sizes: Sizes) -> tuple[int, ...]:
    """Shape of dimensions ``spec`` ("n k", "n ...", "...", "*") for given sizes; "..." and "*" stand for tuples.

    Of alternatives ("n | n c") the first is meant.
    """
    shape: list[int] = []
    for dim in spec.split("|", maxsplit=1)[0].split():
        if dim in ("...", "*"):
            shape.extend(sizes[dim])
        else:
            shape.append(sizes[dim])
    return tuple(shape)


def op(
    module: str,
    *,
    returns: Sequence[str],
    inplace: Sequence[str] = (),
    packed: Sequence[str] = (),
    options: Mapping[str, Option] | None = None,
    rules: Sequence[Rule] = (),
    flops: Callable[..., float] | None = None,
    cases: Sequence[Sizes] = (),
    bench: Sequence[Sizes] = (),
    variants: Sequence[Mapping[str, Any]] = ({},),
    draw: Mapping[str, Any] | None = None,
    **operands: str,
) -> Callable[[Callable[..., Any]], Op]:
    """Make a row of the function below it and enter it in the table."""

    def enter(stub: Callable[..., Any]) -> Op:
        row = Op(
            name=stub.__name__,
            module=module,
            signature=inspect.signature(stub),
            doc=inspect.cleandoc(stub.__doc__ or ""),
            operands=operands,
            returns=tuple(returns),
            inplace=tuple(inplace),
            packed=tuple(packed),
            options=options or {},
            rules=tuple(rules),
            flops=flops,
            cases=tuple(cases),
            bench=tuple(bench),
            variants=tuple(variants),
            draw=draw or {},
        )
        TABLE[row.name] = row
        return row

    return enter


def grid(**sizes: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """Sizes in parallel: ``grid(n=(1, 2), k=(3, 4))`` is ({n: 1, k: 3}, {n: 2, k: 4})."""
    names = list(sizes)
    return tuple(dict(zip(names, values, strict=True)) for values in zip(*sizes.values(), strict=True))


def product(**values: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """Every combination: ``product(a=(1, 2), b=(3,))`` is ({a: 1, b: 3}, {a: 2, b: 3})."""
    rows: list[dict[str, Any]] = [{}]
    for name, options in values.items():
        rows = [{**row, name: value} for row in rows for value in options]
    return tuple(rows)


def shapes(*each: tuple[int, ...]) -> tuple[dict[str, Any], ...]:
    """Cases of an elementwise op."""
    return tuple({"...": shape} for shape in each)


# Sizes around vector lengths (4, 8, 16) and tiles (6 x 16, 14 x 32), zero, one, primes.
_ELEMENTWISE = shapes((), (0,), (1,), (3,), (15,), (16,), (17,), (63,), (67,), (3, 5), (2, 3, 7), (0, 4), (1021,))
_ELEMENTWISE_BENCH = shapes((10_000,), (10_000_000,))
_ROWS = grid(n=(0, 1, 1, 2, 5, 7, 33, 64, 3), c=(3, 1, 10, 16, 17, 46, 32, 3, 1000))
_ROWS_BENCH = grid(n=(128, 4096), c=(10, 1000))
_BATCHES = (
    {"n": 0, "...": (3,)},
    {"n": 1, "...": ()},
    {"n": 1, "...": (1,)},
    {"n": 5, "...": (3,)},
    {"n": 17, "...": ()},
    {"n": 7, "...": (2, 5)},
    {"n": 33, "...": (31,)},
)
_BATCHES_BENCH = ({"n": 1024, "...": (1024,)},)
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


# ---------------------------------------------------------------------------------------------------------------- gemm


@op(
    "gemm",
    a="n k",
    b="k m",
    returns=("n m",),
    packed=("b",),
    flops=lambda n, k, m: 2 * n * k * m,
    cases=_GEMM,
    bench=_GEMM_BENCH,
)
def matmul(a, b, *, out=None):
    """Matrix product y = a @ b.

    a is (n, k), b is (k, m), y is (n, m); any strides. With k = 0 the product is zeros.
    """


@op(
    "gemm",
    x="n in",
    w="in out",
    b="out",
    returns=("n out",),
    packed=("w",),
    options={"activation": Choice(ACTIVATIONS)},
    flops=lambda n, out, **size: 2 * n * size["in"] * out,
    cases=tuple({"n": s["n"], "in": s["k"], "out": s["m"]} for s in _LINEAR),
    bench=({"n": 128, "in": 784, "out": 512},),
    variants=({}, *product(activation=ACTIVATIONS, b=(None,)), *product(activation=ACTIVATIONS)),
)
def linear(x, w, b=None, activation="linear", *, out=None):
    """Linear layer with its bias and activation fused: y = activation(x @ w + b).

    x is (n, in), w is (in, out), b is (out,) or None, y is (n, out).
    """


@op(
    "gemm",
    dy="n out",
    x="n in",
    w="in out",
    y="n out",
    returns=("n in", "in out", "out"),
    options={"activation": Choice(ACTIVATIONS)},
    flops=lambda n, out, **size: 4 * n * size["in"] * out,
    cases=tuple({"n": s["n"], "in": s["k"], "out": s["m"]} for s in _LINEAR),
    bench=({"n": 128, "in": 784, "out": 512},),
    variants=product(activation=ACTIVATIONS),
    draw={"y": "activation"},
)
def linear_backward(dy, x, w, y, activation="linear"):
    """Gradients of ``linear``: (dx, dw, db) from dy = dL/dy, with y the output of the forward pass.

    dz = dy * activation'(z), written in terms of y; dx = dz @ w.T (n, in), dw = x.T @ dz (in, out), db = sum of the
    rows of dz (out,).
    """


# --------------------------------------------------------------------------------------------------------- elementwise


@op(
    "elementwise",
    a="*",
    b="*",
    returns=("*",),
    cases=({"*": ()}, {"*": (0,)}, {"*": (17,)}, {"*": (3, 5)}, {"*": (2, 3, 7)}, {"*": (1021,)}),
    bench=({"*": (10_000_000,)},),
)
def add(a, b, *, out=None):
    """Elementwise sum y = a + b; shapes broadcast as in NumPy."""


# The rows of every activation, and of every derivative.
_ACTIVATION: dict[str, Any] = {"x": "...", "returns": ("...",), "cases": _ELEMENTWISE}
_DERIVATIVE: dict[str, Any] = {
    "dy": "...",
    "x": "...",
    "y": "...",
    "returns": ("...",),
    "cases": _ELEMENTWISE,
    "draw": {"y": "forward"},
}


@op("elementwise", **_ACTIVATION)
def identity(x, *, out=None):
    """Linear activation y = x (a copy)."""


@op("elementwise", **_DERIVATIVE)
def identity_backward(dy, x, y, *, out=None):
    """Derivative of the linear activation: dx = dy."""


@op("elementwise", **_ACTIVATION, bench=_ELEMENTWISE_BENCH)
def relu(x, *, out=None):
    """Rectified linear unit y = max(x, 0); NaN stays NaN."""


@op("elementwise", **_DERIVATIVE)
def relu_backward(dy, x, y, *, out=None):
    """Derivative of relu: dx = dy where y > 0, else 0 (at x = 0 the derivative is 0)."""


@op("elementwise", **_ACTIVATION, bench=_ELEMENTWISE_BENCH)
def sigmoid(x, *, out=None):
    """Logistic function y = 1 / (1 + exp(-x)), without overflow for any x."""


@op("elementwise", **_DERIVATIVE, bench=_ELEMENTWISE_BENCH)
def sigmoid_backward(dy, x, y, *, out=None):
    """Derivative of sigmoid: dx = dy * y * (1 - y)."""


@op("elementwise", **_ACTIVATION, bench=_ELEMENTWISE_BENCH)
def tanh(x, *, out=None):
    """Hyperbolic tangent y = tanh(x)."""


@op("elementwise", **_DERIVATIVE, bench=_ELEMENTWISE_BENCH)
def tanh_backward(dy, x, y, *, out=None):
    """Derivative of tanh: dx = dy * (1 - y) * (1 + y)."""


# ------------------------------------------------------------------------------------------------------------- softmax


@op("softmax", x="n c", returns=("n c",), cases=_ROWS, bench=_ROWS_BENCH)
def softmax(x, *, out=None):
    """Softmax of each row: y[i, j] = exp(x[i, j] - max(x[i])) / sum over j of the same."""


@op("softmax", dy="n c", x="n c", y="n c", returns=("n c",), cases=_ROWS, draw={"y": "forward"})
def softmax_backward(dy, x, y, *, out=None):
    """Derivative of softmax: dx[i, j] = y[i, j] * (dy[i, j] - sum over l of dy[i, l] * y[i, l])."""


@op(
    "softmax",
    logits="n c",
    targets="n | n c",
    sample_weight="n",
    returns=("", "n c"),
    cases=_ROWS,
    bench=_ROWS_BENCH,
    variants=({}, {"sample_weight": None}, {"targets": "rows"}, {"targets": "rows", "sample_weight": None}),
    draw={"targets": "labels", "sample_weight": "positive"},
)
def softmax_cross_entropy(logits, targets, sample_weight=None):
    """Softmax and cross-entropy in one: (loss, dlogits).

    targets are class indices (n,) or rows of probabilities (n, c). With p = softmax(logits) and t the target as a row,
    loss = 1/n * sum over i of weight[i] * -sum over j of t[i, j] * log p[i, j], dlogits = weight[i] * (p - t) / n.
    Natural logarithm; stable for any finite logits. No rows give a loss of 0.
    """


# ------------------------------------------------------------------------------------------------------------- dropout

# The rows of dropout and its derivative; columns around the 16 that share a vector and the 64 that share a counter.
_DROPOUT: dict[str, Any] = {
    "returns": ("n c",),
    "options": {
        "rate": Real(low=0.0, high=1.0, open_high=True),
        "seed": Integer(low=0, high=2**63 - 1),
        "step": Integer(low=0, high=2**32 - 1),
        "stream": Integer(low=0, high=2**32 - 1),
    },
    "cases": grid(n=(0, 1, 1, 2, 5, 7, 33, 64, 3, 4), c=(3, 0, 1, 15, 17, 63, 64, 65, 1000, 130)),
    "variants": (
        {"rate": 0.5, "seed": 1},
        {"rate": 0.0, "seed": 1},
        {"rate": 0.1, "seed": 2**63 - 1, "step": 2**32 - 1, "stream": 3},
        {"rate": 0.999, "seed": 5 << 32, "step": 7, "stream": 2**32 - 1},
    ),
}


@op("dropout", x="n c", **_DROPOUT, bench=grid(n=(128,), c=(512,)))
def dropout(x, rate, seed, step=0, stream=0, *, out=None):
    """Inverted dropout (Srivastava et al. 2014): y = x / (1 - rate) where the mask keeps x, 0 where it drops it.

    The mask follows from seed, step and stream alone: x[i, j] is dropped where its word of Philox4x32-10 (Salmon et al.
    2011) is below rate * 2^32. The key is seed (low word, high word), the counter
    (j % 16 + 16 * (j // 64), i, step, stream), and j takes word j // 16 % 4 of the four that come out. step and stream
    are below 2^32, seed below 2^63.
    """


@op("dropout", dy="n c", **_DROPOUT)
def dropout_backward(dy, rate, seed, step=0, stream=0, *, out=None):
    """Derivative of dropout: dx = dy / (1 - rate) where the same mask keeps, 0 where it drops."""


# -------------------------------------------------------------------------------------------------------------- losses

# The rows of losses over all elements, a weight a row.
_ELEMENTWISE_LOSS: dict[str, Any] = {
    "pred": "n ...",
    "target": "n ...",
    "sample_weight": "n",
    "returns": ("", "n ..."),
    "cases": _BATCHES,
    "variants": ({}, {"sample_weight": None}),
    "draw": {"sample_weight": "positive"},
}


@op(
    "losses",
    probs="n c",
    targets="n | n c",
    sample_weight="n",
    returns=("", "n c"),
    cases=_ROWS,
    variants=({}, {"sample_weight": None}, {"targets": "rows"}, {"targets": "rows", "sample_weight": None}),
    draw={"probs": "probabilities", "targets": "labels", "sample_weight": "positive"},
)
def cross_entropy(probs, targets, sample_weight=None):
    """Categorical cross-entropy of probabilities: (loss, dprobs).

    With s = sum over j of probs[i, j], q = clip(probs / s, 1e-7, 1 - 1e-7) and t the target as a row, loss = 1/n * sum
    over i of weight[i] * -sum over j of t[i, j] * log q[i, j] (Keras's rescaling and clipping; where the clip acts, the
    derivative is 0). Fused with softmax it is ``softmax_cross_entropy``, which is faster and more accurate.
    """


@op(
    "losses",
    pred="n ...",
    target="n ...",
    sample_weight="n",
    returns=("", "n ..."),
    options={"from_logits": Flag()},
    cases=_BATCHES,
    bench=_BATCHES_BENCH,
    variants=({}, {"sample_weight": None}, {"from_logits": True, "pred": "logits"}),
    draw={"pred": "unit", "target": "bits", "sample_weight": "positive"},
)
def binary_cross_entropy(pred, target, sample_weight=None, from_logits=False):
    """Binary cross-entropy: (loss, dpred), the mean over all elements, each row scaled by its weight.

    On probabilities p = clip(pred, 1e-7, 1 - 1e-7): -(t log p + (1 - t) log(1 - p)), derivative 0 where the clip acts.
    On logits z: max(z, 0) - z t + log(1 + exp(-|z|)), derivative sigmoid(z) - t. Targets lie in [0, 1].
    """


@op("losses", **_ELEMENTWISE_LOSS, bench=_BATCHES_BENCH)
def mse(pred, target, sample_weight=None):
    """Mean squared error: (value, dpred); value = mean of weight[i] * (pred - target)^2 over all elements."""


@op("losses", **_ELEMENTWISE_LOSS)
def mae(pred, target, sample_weight=None):
    """Mean absolute error: (value, dpred); value = mean of weight[i] * |pred - target|, slope 0 at 0."""


@op("losses", **_ELEMENTWISE_LOSS)
def half_sse(pred, target, sample_weight=None):
    """Half the sum of squared errors: (value, dpred); value = 1/2 * sum of weight[i] * (pred - target)^2."""


@op(
    "losses",
    w="...",
    returns=("", "..."),
    options={"l1": Real(low=0.0), "l2": Real(low=0.0)},
    cases=_ELEMENTWISE,
    variants=({"l1": 0.01, "l2": 0.1}, {"l2": 0.5}, {"l1": 0.5}, {}),
)
def l1_l2_penalty(w, l1=0.0, l2=0.0):
    """Weight penalty: (value, dw); value = l1 * sum |w| + l2 * sum w^2, dw = l1 * sign(w) + 2 * l2 * w."""


# --------------------------------------------------------------------------------------------------------------- optim

_RATE = Real(low=0.0)
_FRACTION = Real(low=0.0, high=1.0, open_high=True)
_MOMENTUM = Real(low=0.0, high=1.0)
_VELOCITY = Rule(
    "velocity",
    "given when momentum > 0 and None when momentum is 0",
    lambda given: (given["velocity"] is not None) == (given["momentum"] > 0),
)


@op(
    "optim",
    w="...",
    dw="...",
    velocity="...",
    returns=(),
    inplace=("w", "velocity"),
    options={"learning_rate": _RATE, "momentum": _MOMENTUM, "nesterov": Flag()},
    rules=(_VELOCITY,),
    cases=_ELEMENTWISE,
    bench=shapes((1_000_000,)),
    variants=({"velocity": None}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}),
)
def sgd_step(w, dw, velocity=None, learning_rate=0.01, momentum=0.0, nesterov=False):
    """One step of stochastic gradient descent, in place (Keras's form; Sutskever et al. 2013).

    Without momentum w -= lr * dw. With it v = momentum * v - lr * dw, then w += v, or with nesterov
    w += momentum * v - lr * dw.
    """


@op(
    "optim",
    w="...",
    dw="...",
    mean_square="...",
    velocity="...",
    mean="...",
    returns=(),
    inplace=("w", "mean_square", "velocity", "mean"),
    options={"learning_rate": _RATE, "rho": _MOMENTUM, "momentum": _MOMENTUM, "epsilon": Real(low=0.0, open_low=True)},
    rules=(_VELOCITY,),
    cases=_ELEMENTWISE,
    bench=shapes((1_000_000,)),
    variants=(
        {"velocity": None, "mean": None},
        {"mean": None, "momentum": 0.5},
        {"velocity": None},
        {"momentum": 0.5, "rho": 0.8},
    ),
    draw={"mean_square": "squares", "mean": "small"},
)
def rmsprop_step(
    w, dw, mean_square, velocity=None, mean=None, learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-7
):
    """One RMSprop step, in place (Hinton, Coursera lecture 6e; centred: Graves 2013), epsilon inside the root.

    mean_square = rho * mean_square + (1 - rho) * dw^2, and with ``mean`` (centred) likewise the mean of dw;
    step = lr * dw / sqrt(mean_square - mean^2 + epsilon). Without momentum w -= step; with it
    velocity = momentum * velocity + step, w -= velocity.
    """


@op(
    "optim",
    w="...",
    dw="...",
    m="...",
    v="...",
    v_max="...",
    returns=(),
    inplace=("w", "m", "v", "v_max"),
    options={
        "step": Integer(low=1),
        "learning_rate": _RATE,
        "beta_1": _FRACTION,
        "beta_2": _FRACTION,
        "epsilon": Real(low=0.0, open_low=True),
    },
    cases=_ELEMENTWISE,
    bench=shapes((1_000_000,)),
    variants=({"v_max": None, "step": 1}, {"v_max": None, "step": 1000}, {"step": 7}),
    draw={"v": "squares", "v_max": "squares"},
)
def adam_step(w, dw, m, v, step, v_max=None, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """One Adam step, in place (Kingma and Ba 2015, the form of their section 2's end; AMSGrad: Reddi et al. 2018).

    step counts from 1. m += (1 - beta_1) * (dw - m), v += (1 - beta_2) * (dw^2 - v), and with ``v_max`` (AMSGrad)
    v_max = max(v_max, v) takes v's place; w -= lr * sqrt(1 - beta_2^step) / (1 - beta_1^step) * m / (sqrt(v) +
    epsilon).
    """
