"""The table's ops at its ``bench`` sizes, float32: plain Python, NumPy, PyTorch and the CPU kernels on equal operands.

Every side writes into outputs that it keeps, where its function takes them. FLOPs and bytes are the table's own counts.
Plain Python gets sizes that it can do in a fraction of a second; its line says which, and rates make it comparable.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from bench import timing
from bench.peers.numpy_ops import NUMPY as NUMPY_OPS
from bench.peers.numpy_ops import linear as numpy_linear
from bench.peers.numpy_ops import linear_rmsprop_step as numpy_layer_step
from bench.placing import place
from bench.suite import (
    FASTNN,
    MATMUL,
    NAIVE,
    NUMPY,
    PYTORCH,
    Case,
    Contender,
    Gauge,
    Workload,
    assert_agree,
    installed,
)
from fastnn import get_num_threads, ops, use_backend
from fastnn.kernels.cases import draw, sizes_name
from fastnn.kernels.cpu import peak
from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.kernels.table import TABLE, Op, Sizes, shape_of

DTYPE = "float32"
SEED = 2

# What is asked of an op where it has a choice; operands that may be left out are, except linear's bias.
_CHOICES: Mapping[str, Mapping[str, Any]] = {
    "linear": {"activation": "relu"},
    "linear_backward": {"activation": "relu"},
    "dropout": {"rate": 0.5, "seed": 1},
    **{name: {"seed": 1} for name in ("random_uniform", "random_normal")},
    **{f"{cell}_backward": {"dy": "normal"} for cell in ("simple_rnn", "lstm", "gru")},
}

# The line that `report` measures once more on an AVX2 target.
MATMUL_BAR = "matmul 1024x1024x1024"
# By line, the ratios that the project promises.
_ELEMENTWISE_BARS = {NUMPY: 5.0, PYTORCH: 1.0}
_ACTIVATIONS = tuple(f"{name}{ending}" for name in ACTIVATIONS for ending in ("", "_backward"))
_BARS: Mapping[str, Mapping[str, float]] = {
    **{f"{name} 10000": {PYTORCH: 0.8} for name in _ACTIVATIONS},
    **{f"{name} 10000000": {PYTORCH: 1.0} for name in _ACTIVATIONS},
    "matmul 512x512x512": {NUMPY: 1.0},
    MATMUL_BAR: {NUMPY: 1.0},
    "matmul 2048x2048x2048": {NUMPY: 1.0},
    "matmul 128x784x512": {NUMPY: 1.2},
    "matmul 784x128x512": {NUMPY: 1.2},
    "matmul 128x512x784": {NUMPY: 1.2},
    "matmul 32x1000x100": {NUMPY: 1.2},
    "matmul 512x64x64": {NUMPY: 1.0},
    "sigmoid 10000000": _ELEMENTWISE_BARS,
    "sigmoid_backward 10000000": _ELEMENTWISE_BARS,
    "tanh 10000000": _ELEMENTWISE_BARS,
    "tanh_backward 10000000": _ELEMENTWISE_BARS,
    "softmax_cross_entropy 4096x1000": _ELEMENTWISE_BARS,
    "gather 10000x128x784": {NUMPY: 1.0},
}
# The modules whose ops PyTorch has lines of, and further ops, beside NumPy's (the functions are in peers.pytorch_ops,
# which imports it).
_WITH_PYTORCH = (
    *("elementwise", "gather", "prelu", "softmax", "losses"),
    *("normalization", "pooling", "resizing", "joining", "conv2d", "conv2d_backward"),
)

# Multiplications, or numbers moved, that plain Python does in about 0.2 s.
_NAIVE_WORK = 1_000_000

# float32 sums of up to 2048 terms in another order, relative to the largest result.
_TOLERANCE = 1e-4

# How long the product is measured beside a measurement of the peak.
_PEAK_SECONDS = 0.1

# The two products of a backward pass, as they lie in memory: name, sizes, the operand that is a transposed view.
_TRANSPOSED = (
    ("matmul X.T @ dZ", {"n": 784, "k": 128, "m": 512}, "a"),
    ("matmul dZ @ W.T", {"n": 128, "k": 512, "m": 784}, "b"),
)


# A layer's backward pass and RMSprop's step of it; the line's bar is NumPy's way.
_LAYER_STEP, _LAYER_SIZES = "linear_rmsprop_step", {"n": 128, "in": 784, "out": 512}
_LAYER_STEP_BARS = {NUMPY: 1.3, PYTORCH: 1.0}
# Per cent of its parts' time, gradients and steps through memory: it must save some.
_LAYER_STEP_AT_MOST = 100.0

# A convolution's share of the multiply-adds that the machine can do, in per cent.
_CONVOLUTION_AT_LEAST = 75.0

# linear with its weights packed beforehand, as layers keep them: n, in, out; against NumPy's three calls, and one.
_PACKED_SIZES = {"n": 128, "in": 784, "out": 512}
_PACKED_BARS = {MATMUL: 1.35, NUMPY: 1.7}


def cases() -> list[Case]:
    """One case for each op and size; after matmul's the transposed products, after linear's the packed one.

    After its gradients' comes the layer's step.
    """
    listed = []
    for op in TABLE.values():
        listed += [_case(f"{op.name} {sizes_name(sizes)}", op, sizes) for sizes in op.bench]
        if op.name == "matmul":
            listed += [_case(f"{name} {sizes_name(s)}", op, s, transposed) for name, s, transposed in _TRANSPOSED]
        if op.name == "linear":
            listed.append(_packed_case(op))
        if op.name == "linear_backward" and _LAYER_STEP in TABLE:  # the gate's baseline may be older than the op
            name = f"{_LAYER_STEP} {sizes_name(_LAYER_SIZES)}"
            listed.append(Case(name, partial(_layer_step_workload, TABLE[_LAYER_STEP], _LAYER_SIZES), _LAYER_STEP_BARS))
    return listed


def gauges() -> list[Gauge]:
    """Products as shares of what the machine's multiply-adds allow; a layer's step as one of its parts'."""
    name = f"{_LAYER_STEP} {sizes_name(_LAYER_SIZES)}, share of linear_backward and rmsprop_step"
    return [
        Gauge(f"{MATMUL_BAR}, share of the FMA peak", "%", _share_of_peak, at_least=93.0),
        Gauge(name, "%", _share_of_parts, at_most=_LAYER_STEP_AT_MOST),
        *(
            Gauge(
                f"conv2d 3x3, 64 to 64 maps, 16x56x56, {what}, share of the FMA peak",
                "%",
                partial(_convolution_share_of_peak, what),
                at_least=_CONVOLUTION_AT_LEAST,
            )
            for what in ("forward", "dw", "dx")
        ),
    ]


def _share_of_parts(count: int) -> list[float]:
    """Percent, each from a block of steps of a layer and one of gradients and steps right after it."""
    op, sizes = TABLE[_LAYER_STEP], _LAYER_SIZES
    whole = partial(ops.linear_rmsprop_step, **_layer_step_operands(op, sizes))
    parts = partial(_step_by_parts, **_layer_step_operands(op, sizes, gradient=True))
    calls = timing.calls(parts, _PEAK_SECONDS)
    shares = []
    for _ in range(count):
        timing.settle()
        shares.append(100 * timing.block(whole, calls) / timing.block(parts, calls))
    return shares


def _step_by_parts(
    dy: Any, x: Any, w: Any, y: Any, mean_square: Any, b: Any, mean_square_b: Any, activation: str, dx: Any, dw: Any
) -> None:
    _, _, db = ops.linear_backward(dy, x, w, y, activation, dx=dx, dw=dw)
    ops.rmsprop_step(w, dw, mean_square)
    ops.rmsprop_step(b, db, mean_square_b)


def _share_of_peak(count: int) -> list[float]:
    """Percent, each from a measurement of the peak and one of the product right after it."""
    sizes = {"n": 1024, "k": 1024, "m": 1024}
    run = partial(ops.matmul, **operands(TABLE["matmul"], sizes, ops.matmul))
    calls = timing.calls(run, _PEAK_SECONDS)
    flops = 2.0 * 1024**3
    shares = []
    for _ in range(count):
        timing.settle()
        limit = peak.measure(DTYPE, get_num_threads())
        shares.append(100 * flops / timing.block(run, calls) / limit)
    return shares


def _convolution_share_of_peak(what: str, count: int) -> list[float]:
    """The same of a convolution, or of its gradient by the kernel or by the images."""
    rng, shape = np.random.default_rng(SEED), (16, 56, 56, 64)
    x, w = (rng.standard_normal(size, np.float32) for size in (shape, (3, 3, 64, 64)))
    y = np.zeros(shape, np.float32)
    if what == "forward":
        run = partial(ops.conv2d, x, w, padding="same", out=y)
    else:
        into: dict[str, Any] = {what: np.zeros_like(w if what == "dw" else x)}
        run = partial(ops.conv2d_backward, x, x, w, y, need=(what,), padding="same", **into)
    flops, calls, shares = 2.0 * y.size * 9 * 64, timing.calls(run, _PEAK_SECONDS), []
    for _ in range(count):
        timing.settle()
        limit = peak.measure(DTYPE, get_num_threads())
        shares.append(100 * flops / timing.block(run, calls) / limit)
    return shares


def _case(name: str, op: Op, sizes: Sizes, transposed: str | None = None) -> Case:
    return Case(name, partial(_workload, op, sizes, transposed), at_least=_BARS.get(name, {}))


def _workload(op: Op, sizes: Sizes, transposed: str | None) -> Workload:
    public = getattr(ops, op.name)
    full = {FASTNN: _run(op, sizes, public, transposed)}
    if op.name in NUMPY_OPS and installed(NUMPY):
        full[NUMPY] = _run(op, sizes, NUMPY_OPS[op.name], transposed)
    if has_pytorch(op) and installed(PYTORCH):
        full[PYTORCH] = _on_tensors(op, sizes)
    small_sizes = naive_sizes(op, sizes)
    small = {name: _run(op, small_sizes, public, transposed) for name in (FASTNN, NAIVE)}

    def naive() -> Any:
        with use_backend("naive"):
            return small[NAIVE]()

    def check() -> None:
        ours = full[FASTNN]()
        for name in [name for name in full if name != FASTNN]:
            assert_agree(f"{op.name}, fastnn against {name}", ours, full[name](), _TOLERANCE)
        assert_agree(f"{op.name}, fastnn against naive", small[FASTNN](), naive(), _TOLERANCE)

    note = "" if small_sizes == sizes else sizes_name(small_sizes)
    contenders = {name: contender(op, sizes, run) for name, run in full.items()}
    contenders[NAIVE] = contender(op, small_sizes, naive, note)
    return Workload(contenders, check)


def contender(op: Op, sizes: Sizes, run: Callable[[], Any], note: str = "") -> Contender:
    """A call and the work that it does, by the table's counts."""
    return Contender(run, op.work(sizes), op.bytes(sizes, np.dtype(DTYPE).itemsize), note)


def _packed_case(op: Op) -> Case:
    make = partial(_packed_workload, op, _PACKED_SIZES)
    return Case(f"linear, packed weights {sizes_name(_PACKED_SIZES)}", make, _PACKED_BARS)


def _packed_workload(op: Op, sizes: Sizes) -> Workload:
    """Linear, bias and relu on packed weights; NumPy's three calls; its product alone."""

    def drawn() -> dict[str, Any]:
        given = draw(op, sizes, {"activation": "relu"}, DTYPE, np.random.default_rng(SEED))
        return place({**given, "out": np.zeros(shape_of(op.returns[0], sizes), DTYPE)})

    ours, theirs, product = drawn(), drawn(), drawn()
    ours["w"] = ops.pack(ours["w"])
    runs: dict[str, Callable[[], Any]] = {
        FASTNN: partial(ops.linear, **ours),
        NUMPY: partial(numpy_linear, **theirs),
        MATMUL: partial(np.matmul, product["x"], product["w"], out=product["out"]),
    }

    def check() -> None:
        assert_agree("linear, packed weights against NumPy", runs[FASTNN](), runs[NUMPY](), _TOLERANCE)

    return Workload({name: contender(op, sizes, run) for name, run in runs.items()}, check)


def _layer_step_operands(
    op: Op, sizes: Sizes, convert: Callable[[Any], Any] = np.asarray, gradient: bool = False
) -> dict[str, Any]:
    """Operands of its own for a side, equal for all, with memory for dx, and for dw on a side that forms it."""
    variant = {**op.variants[0], "activation": "relu"}
    given = draw(op, sizes, variant, DTYPE, np.random.default_rng(SEED))
    given["dx"] = np.zeros_like(given["x"])
    if gradient:
        given["dw"] = np.zeros_like(given["w"])
    return {name: convert(value) if isinstance(value, np.ndarray) else value for name, value in place(given).items()}


def _layer_step_workload(op: Op, sizes: Sizes) -> Workload:
    """A layer's dx and RMSprop's step of its weights, after relu; peers keep memory for a gradient."""
    sides: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        FASTNN: (ops.linear_rmsprop_step, _layer_step_operands(op, sizes)),
        NUMPY: (numpy_layer_step, _layer_step_operands(op, sizes, gradient=True)),
    }
    if installed(PYTORCH):
        import torch  # type: ignore[import-not-found, unused-ignore]

        from bench.peers import pytorch_ops

        given = _layer_step_operands(op, sizes, torch.from_numpy, gradient=True)
        sides[PYTORCH] = pytorch_ops.linear_rmsprop_step, given

    def result(name: str) -> Any:
        function, given = sides[name]
        return (function(**given), *(given[each] for each in op.inplace if each in given))

    def check() -> None:
        ours = result(FASTNN)
        for name in sides.keys() - {FASTNN}:
            assert_agree(f"{op.name}, fastnn against {name}", ours, result(name), _TOLERANCE)

    return Workload({name: contender(op, sizes, partial(f, **given)) for name, (f, given) in sides.items()}, check)


def has_pytorch(op: Op) -> bool:
    """Whether there are lines of PyTorch's."""
    return op.module in _WITH_PYTORCH or op.name in _WITH_PYTORCH


def _on_tensors(op: Op, sizes: Sizes) -> Callable[[], Any]:
    """PyTorch's side."""
    import torch  # type: ignore[import-not-found, unused-ignore]

    from bench.peers import pytorch_ops

    return _run(op, sizes, pytorch_ops.PYTORCH[op.name], convert=torch.from_numpy)


def asked(op: Op) -> dict[str, Any]:
    """The variant of an op that is measured."""
    variant = {**{name: None for name in op.operands if op.optional(name)}, **_CHOICES.get(op.name, {})}
    if "step" in op.options and op.inplace:
        variant["step"] = 1
    if op.name == "linear":
        del variant["b"]
    return variant


def operands(
    op: Op,
    sizes: Sizes,
    function: Callable[..., Any],
    transposed: str | None = None,
    convert: Callable[[Any], Any] | None = None,
) -> dict[str, Any]:
    """Operands of its own for ``function``, equal for every function, with an output where it takes one.

    ``convert`` makes the function's kind of array of NumPy's.
    """
    given = draw(op, sizes, asked(op), DTYPE, np.random.default_rng(SEED))
    given = {name: value for name, value in given.items() if value is not None}
    if transposed:
        given[transposed] = np.ascontiguousarray(given[transposed].T).T
    if "out" in inspect.signature(function).parameters:
        given["out"] = np.zeros(shape_of(op.returns[-1], op.whole(sizes)), DTYPE)
    given = place(given)
    if convert is not None:
        given = {name: convert(value) if isinstance(value, np.ndarray) else value for name, value in given.items()}
    return given


def _run(op: Op, sizes: Sizes, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
    """A call of ``function`` on operands of its own (further arguments are theirs); it returns what the op changes."""
    given = operands(op, sizes, function, *args, **kwargs)
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
        largest = max((name for name in small if name not in op.options), key=lambda name: np.prod(small[name]))
        value = small[largest]
        small[largest] = tuple(dim // 2 for dim in value) if isinstance(value, tuple) else value // 2
    return small


def _work(op: Op, sizes: Sizes) -> float:
    flops = op.work(sizes)
    return op.bytes(sizes, 1) if flops is None else flops / 2
