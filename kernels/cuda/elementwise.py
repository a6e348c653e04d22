"""Element-wise sums, activations and their derivatives on the device: formulas of ``kernels/formulas`` as C++."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import WIDE, address, coalesced, has_gaps, written_to
from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.formulas.activations import ACTIVATIONS, MOST_NUMBERS
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
    Field("numbers", "real", (MOST_NUMBERS,)),
    Field("aligned", "int"),
    Field("rank", "int"),
    Field("shape", "int64", (_RANK,)),
    Field("strides_a", "int64", (_RANK,)),
    Field("strides_b", "int64", (_RANK,)),
    Field("strides_c", "int64", (_RANK,)),
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
_SUM = _of(2, ("a", "b"), (), lambda v, a, b: v.add(a, b))


def modules() -> Iterator[launch.Module]:
    """All that there may be."""
    formulas = {"add": _SUM, **_FORWARD, **{f"{name}_backward": formula for name, formula in _BACKWARD.items()}}
    for name, formula in formulas.items():
        for dtype in DTYPES:
            yield launch.Module(f"{name} {dtype}", formula.text(dtype))


def _broadcast(array: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in numbers of an array seen in a shape that it broadcasts to."""
    missing = len(shape) - array.ndim
    lengths = zip(array.strides, array.shape, strict=True)
    return (*(0,) * missing, *(stride // array.itemsize if length != 1 else 0 for stride, length in lengths))


def compute(formula: Formula, sources: Sequence[Any], numbers: Sequence[float], out: Any) -> Any:
    """The formula of arrays that broadcast together, in ``out`` or a new array."""
    shape = np.broadcast_shapes(*(source.shape for source in sources))
    dtype = sources[0].dtype
    result, finished = written_to(out, shape, dtype, *sources)
    if result.size:
        _launch(formula, sources, numbers, result)
    return finished()


def _launch(formula: Formula, sources: Sequence[Any], numbers: Sequence[float], result: Any) -> None:
    record = ELEMENTWISE.record(result.dtype)
    given = record[0]
    given["n"], given["c"] = result.size, address(result)
    for name, source in zip("ab", sources, strict=False):
        given[name] = address(source)
    given["numbers"][: len(numbers)] = numbers
    if all(each.strides == result.strides and each.shape == result.shape for each in sources) and not has_gaps(result):
        given["aligned"] = not any(address(each) % WIDE for each in (*sources, result))
        threads = -(-result.size * result.itemsize // WIDE)
        formula.kernel("flat", result.dtype.name)((launch.blocks(threads),), (launch.THREADS,), (record,))
        return
    dims, strides = coalesced(result.shape, [_broadcast(each, result.shape) for each in (*sources, result)])
    if len(dims) > _RANK:
        copies = [cupy.ascontiguousarray(cupy.broadcast_to(each, result.shape)) for each in sources]
        made = cupy.empty(result.shape, result.dtype)
        _launch(formula, copies, numbers, made)
        result[...] = made
        return
    given["rank"] = len(dims)
    given["shape"][: len(dims)] = dims
    for name, steps in zip(["a", "b", "c"] if len(sources) > 1 else ["a", "c"], strides, strict=True):
        given[f"strides_{name}"][: len(dims)] = steps
    formula.kernel("strided", result.dtype.name)((launch.blocks(result.size),), (launch.THREADS,), (record,))


def add(a: Any, b: Any, *, out: Any = None) -> Any:
    """The sum of arrays that broadcast together."""
    return compute(_SUM, (a, b), (), out)


def _forward(name: str) -> Callable[..., Any]:
    def forward(x: Any, *numbers: float, out: Any = None) -> Any:
        return compute(_FORWARD[name], (x,), numbers, out)

    return implements(name, forward)


def _backward(name: str) -> Callable[..., Any]:
    needs_x = ACTIVATIONS[name].needs == "x"

    def backward(dy: Any, x: Any, y: Any, *numbers: float, out: Any = None) -> Any:
        return compute(_BACKWARD[name], (dy, x if needs_x else y), numbers, out)

    return implements(f"{name}_backward", backward)


globals().update({name: _forward(name) for name in NUMBERS})
globals().update({f"{name}_backward": _backward(name) for name in NUMBERS})
