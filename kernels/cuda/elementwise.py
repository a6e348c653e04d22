"""Element-wise sums, activations and their derivatives on the device: formulas of ``kernels/formulas`` as C++."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import WIDE, coalesced, finish, has_gaps, is_in_order, like_new, placing, strides_of
from fastnn.kernels.cuda.chain import Chain
from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.formulas.activations import ACTIVATIONS, MOST_NUMBERS
from fastnn.kernels.formulas.pairs import CHOICES, PAIRS
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES, NUMBERS
from fastnn.kernels.table.row import implements

# Dimensions that the strided kernel takes; arrays that have more, once neighbours are joined, are copied by CuPy.
_RANK = 8

ELEMENTWISE = Structure(
    "Elementwise",
    Field("n", "int64"),
    Field("a", "const real*"),
    Field("b", "const real*"),
    Field("c", "real*"),
    Field("aligned", "int"),
    Field("rank", "int"),
    Field("shape", "int64", (_RANK,)),
    Field("strides_a", "int64", (_RANK,)),
    Field("strides_b", "int64", (_RANK,)),
    Field("strides_c", "int64", (_RANK,)),
    numbers=(Field("numbers", "real", (MOST_NUMBERS,)),),
)


class Formula:
    """What is computed of each number, or pair of them: C++ that defines INPUTS and APPLY."""

    def __init__(self, inputs: int, before: Callable[[str], str]) -> None:
        self.inputs, self._before = inputs, before
        self._kernels: dict[tuple[str, str], Any] = {}

    def kernel(self, entry: str, dtype: str) -> Any:
        """The kernel ``flat`` or ``strided``."""
        if (entry, dtype) not in self._kernels:
            before = self._before(dtype)
            self._kernels[entry, dtype] = launch.kernel("elementwise.cu", entry, dtype, (ELEMENTWISE,), before)
        return self._kernels[entry, dtype]

    def text(self, dtype: str) -> str:
        """The whole text of the module of both kernels."""
        return launch.text("elementwise.cu", dtype, (ELEMENTWISE,), self._before(dtype))


def _of(inputs: int, names: Sequence[str], numbers: Sequence[str], formula: Callable[..., Any]) -> Formula:
    """A formula of the arithmetic's, on values by these names and an op's numbers."""

    def before(dtype: str) -> str:
        given = ", ".join([*"ab"[:inputs], *(f"numbers[{place}]" for place in range(len(numbers)))])
        return (
            f"{function('formula', (*names, *numbers), formula, dtype)}"
            f"FUNCTION real apply(real a, real b, const real* numbers) {{\n"
            f"    real result;\n    formula({given}, &result);\n    return result;\n}}\n"
            f"#define INPUTS {inputs}\n#define APPLY apply\n"
        )

    return Formula(inputs, before)


_FORWARD = {name: _of(1, ("x",), entry.numbers, entry.forward) for name, entry in ACTIVATIONS.items()}
_BACKWARD = {name: _of(2, ("dy", "s"), entry.numbers, entry.backward) for name, entry in ACTIVATIONS.items()}
_PAIRS = {name: _of(2, ("a", "b"), (), formula) for name, formula in PAIRS.items()}


def _is_first(op: str) -> Callable[..., Any]:
    """1 where the first of two numbers is chosen: where the comparison holds, or it is NaN; else 0."""

    def formula(v: Any, a: Any, b: Any) -> Any:
        one, zero = v.constant(1.0), v.constant(0.0)
        return v.where(op, a, b, one, v.where("==", a, a, zero, one))

    return formula


# The derivatives of a choice: first which of a and b it was, then dy for the one of them.
_FIRST = {name: _of(2, ("a", "b"), (), _is_first(op)) for name, op in CHOICES.items()}
_KEPT = {
    name: _of(2, ("dy", "first"), (), formula)
    for name, formula in {
        "first": lambda v, dy, first: v.where("==", first, v.constant(1.0), dy, v.constant(0.0)),
        "second": lambda v, dy, first: v.where("==", first, v.constant(1.0), v.constant(0.0), dy),
    }.items()
}

# Calculations of an array x with a number, on either side of x, by the names that programs have for them.
_WITH_NUMBER = {
    name: _of(1, ("x",), ("number",), formula)
    for name, formula in {
        "plus": lambda v, x, number: v.add(x, number),
        "minus": lambda v, x, number: v.sub(x, number),
        "times": lambda v, x, number: v.mul(x, number),
        "over": lambda v, x, number: v.div(x, number),
        "number minus": lambda v, x, number: v.sub(number, x),
        "number over": lambda v, x, number: v.div(number, x),
    }.items()
}
CALCULATED = ("plus", "minus", "times", "over", "scaled")


def modules() -> Iterator[launch.Module]:
    """All that there may be."""
    formulas = {**_PAIRS, **_FORWARD, **{f"{name}_backward": formula for name, formula in _BACKWARD.items()}}
    formulas |= {f"first of {name}": formula for name, formula in _FIRST.items()}
    formulas |= {f"derivative of the {name}": formula for name, formula in _KEPT.items()}
    formulas |= {f"{name} number": formula for name, formula in _WITH_NUMBER.items()}
    for name, formula in formulas.items():
        for dtype in DTYPES:
            yield launch.Module(f"{name} {dtype}", formula.text(dtype))


def _broadcast(array: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in numbers of an array seen in a shape that it broadcasts to."""
    missing = len(shape) - array.ndim
    lengths = zip(array.strides, array.shape, strict=True)
    return (*(0,) * missing, *(stride // array.itemsize if length != 1 else 0 for stride, length in lengths))


def planned(formula: Formula, sources: Sequence[Any], numbers: Sequence[float], out: Any) -> Callable[..., Any]:
    """What computes the formula of arrays like these, which broadcast together: ``run(out, *sources)``."""
    shape, dtype = np.broadcast_shapes(*(source.shape for source in sources)), sources[0].dtype
    place = placing(out, shape, dtype, *sources)
    strides = strides_of(shape, dtype.itemsize) if out is None else out.strides
    compute = _launching(formula, sources, numbers, shape, strides)

    def run(out: Any, *sources: Any) -> Any:
        result = place(out, *sources)
        if result is not out and out is not None:  # which lies over a source
            return finish(planned(formula, sources, numbers, None)(None, *sources), out)
        compute(result, *sources)
        return result

    return run


def _launching(
    formula: Formula, sources: Sequence[Any], numbers: Sequence[float], shape: tuple[int, ...], strides: tuple[int, ...]
) -> Callable[..., None]:
    """What computes it in a result of this shape and these strides: ``compute(result, *sources)``."""
    if math.prod(shape) == 0:
        return lambda *_: None
    itemsize = sources[0].dtype.itemsize
    alike = all(each.strides == strides and each.shape == shape for each in sources)
    if alike and not has_gaps(shape, strides, itemsize):
        return _flat(formula, sources, numbers, math.prod(shape))
    steps = tuple(stride // itemsize for stride in strides)
    dims, kept = coalesced(shape, [*(_broadcast(each, shape) for each in sources), steps])
    return _copying(formula, numbers) if len(dims) > _RANK else _strided(formula, sources, numbers, dims, kept)


def _record(sources: Sequence[Any], numbers: Sequence[float], size: int) -> Any:
    """What both kernels are given, all but addresses."""
    record = ELEMENTWISE.record(sources[0].dtype)
    record[0]["n"] = size
    record[0]["numbers"][: len(numbers)] = numbers
    return record


def _flat(formula: Formula, sources: Sequence[Any], numbers: Sequence[float], size: int) -> Callable[..., None]:
    """All lie in the same order, without gaps; in packs of 16 bytes where their addresses allow it."""
    dtype = sources[0].dtype
    kernel, blocks = formula.kernel("flat", dtype.name), launch.blocks(-(-size * dtype.itemsize // WIDE))
    record = _record(sources, numbers, size)
    shifted = launch.Launch(kernel, blocks, record.copy(), "a", 3)
    record[0]["aligned"] = True
    aligned = launch.Launch(kernel, blocks, record, "a", 3)

    def compute(result: Any, *sources: Any) -> None:
        a, b, c = sources[0].data.ptr, sources[-1].data.ptr, result.data.ptr
        (shifted if (a | b | c) % WIDE else aligned)(a, b, c)

    return compute


def add_to(chain: Chain, name: str, size: int, dtype: Any, x: str, y: str) -> None:
    """Launch an activation in a chain, on so many numbers end to end by these names."""
    record = ELEMENTWISE.record(dtype)
    numbers = [*NUMBERS[name].values()]
    record[0]["n"], record[0]["aligned"] = size, all(map(chain.is_aligned, (x, y)))
    record[0]["numbers"][: len(numbers)] = numbers
    if size:
        kernel, blocks = _FORWARD[name].kernel("flat", dtype.name), launch.blocks(-(-size * dtype.itemsize // WIDE))
        chain.add(kernel, blocks, record, {"a": x, "c": y})


def ordered_in(chain: Chain, like: Any, name: str) -> str:
    """What has the numbers of the array of this name and likeness in C order in a chain: itself, or a copy."""
    if is_in_order(like):
        return name
    copy: str = chain.room(math.prod(like.shape) * like.itemsize)
    copy_to(chain, like, name, copy)
    return copy


def copy_to(chain: Chain, like: Any, name: str, copy: str) -> None:
    """Copy the array of this name and likeness in a chain, into C order."""
    ordered = like_new(like.shape, like.dtype)
    dims, kept = coalesced(like.shape, [_broadcast(each, like.shape) for each in (like, ordered)])
    if math.prod(like.shape):
        kernel, record = _strided_kernel(_FORWARD["identity"], [like], (), dims, kept)
        chain.add(kernel, launch.blocks(math.prod(dims)), record, {"a": name, "c": copy})


def _strided_kernel(
    formula: Formula, sources: Sequence[Any], numbers: Sequence[float], dims: Sequence[int], kept: Sequence[Any]
) -> tuple[Any, Any]:
    """The kernel, and what it is given but addresses."""
    record = _record(sources, numbers, math.prod(dims))
    record[0]["rank"] = len(dims)
    record[0]["shape"][: len(dims)] = dims
    for name, steps in zip([*"ab"[: len(sources)], "c"], kept, strict=True):
        record[0][f"strides_{name}"][: len(dims)] = steps
    return formula.kernel("strided", sources[0].dtype.name), record


def _strided(
    formula: Formula, sources: Sequence[Any], numbers: Sequence[float], dims: Sequence[int], kept: Sequence[Any]
) -> Callable[..., None]:
    """By strides, those of the sources and the result, in as few dimensions as there may be."""
    kernel, record = _strided_kernel(formula, sources, numbers, dims, kept)
    run = launch.Launch(kernel, launch.blocks(math.prod(dims)), record, "a", 3)
    return lambda result, *sources: run(sources[0].data.ptr, sources[-1].data.ptr, result.data.ptr)


def _copying(formula: Formula, numbers: Sequence[float]) -> Callable[..., None]:
    """By copies in C order, of arrays of more dimensions than kernels take."""

    def compute(result: Any, *sources: Any) -> None:
        copies = [cupy.ascontiguousarray(cupy.broadcast_to(each, result.shape)) for each in sources]
        result[...] = planned(formula, copies, numbers, None)(None, *copies)

    return compute


def calculated(name: str, *operands: Any, **named: Any) -> Any:
    """One of ``CALCULATED``, of an array and a number, in whichever order they are given."""
    a, b = (*operands, *named.values())
    x, number = (a, b) if hasattr(a, "dtype") else (b, a)
    if name == "scaled":
        name = "times"
    elif x is b and name in ("minus", "over"):
        name = f"number {name}"
    return planned(_WITH_NUMBER[name], (x,), (number,), None)(None, x)


def _pair(name: str) -> Planned:
    """Of arrays that broadcast together."""

    def pair(a: Any, b: Any, *, out: Any = None) -> Callable[..., Any]:
        compute = planned(_PAIRS[name], (a, b), (), out)
        return lambda a, b, *, out=None: compute(out, a, b)

    return Planned(implements(name, pair))


def _choice_backward(name: str) -> Planned:
    """By which of both was chosen, in memory of its own."""

    def backward(dy: Any, a: Any, b: Any) -> Callable[..., tuple[Any, Any]]:
        first = planned(_FIRST[name], (a, b), (), None)
        like = like_new(np.broadcast_shapes(a.shape, b.shape), dy.dtype)
        of_a, of_b = (planned(formula, (dy, like), (), None) for formula in _KEPT.values())

        def run(dy: Any, a: Any, b: Any) -> tuple[Any, Any]:
            chosen = first(None, a, b)
            return of_a(None, dy, chosen), of_b(None, dy, chosen)

        return run

    return Planned(implements(f"{name}_backward", backward))


def _forward(name: str) -> Planned:
    def forward(x: Any, *numbers: float, out: Any = None) -> Callable[..., Any]:
        compute = planned(_FORWARD[name], (x,), numbers, out)
        return lambda x, *numbers, out=None: compute(out, x)

    return Planned(implements(name, forward))


def _backward(name: str) -> Planned:
    needs_x = ACTIVATIONS[name].needs == "x"

    def backward(dy: Any, x: Any, y: Any, *numbers: float, out: Any = None) -> Callable[..., Any]:
        compute = planned(_BACKWARD[name], (dy, x if needs_x else y), numbers, out)
        return lambda dy, x, y, *numbers, out=None: compute(out, dy, x if needs_x else y)

    return Planned(implements(f"{name}_backward", backward))


globals().update({name: _pair(name) for name in PAIRS})
globals().update({f"{name}_backward": _choice_backward(name) for name in CHOICES})
globals().update({name: _forward(name) for name in NUMBERS})
globals().update({f"{name}_backward": _backward(name) for name in NUMBERS})
