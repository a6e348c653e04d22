"""Images looked at through a transformation of their places, on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, in_order, placing_apart
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.row import implements
from fastnn.kernels.table.sampling import FILL_MODES

_SIZES = ("n", "h", "w", "c", "p", "q")

SAMPLED = Structure(
    "Sampled",
    *(Field(name, "int64") for name in _SIZES),
    Field("bilinear", "int"),
    Field("mode", "int"),
    Field("x", "const real*"),
    Field("matrices", "const real*"),
    Field("y", "real*"),
    numbers=(Field("fill", "real"),),
)

_MODES = "".join(f"#define {name.upper()} {code}\n" for code, name in enumerate(FILL_MODES))


def modules() -> Iterator[launch.Module]:
    """The one, of both dtypes."""
    for dtype in DTYPES:
        yield launch.Module(dtype, launch.text("sampling.cu", dtype, (SAMPLED,), _MODES))


def _planned(
    entry: str, shape: tuple[int, ...], options: tuple[Any, ...], dtype: Any, threads: int
) -> Callable[..., None]:
    """What runs a kernel for images x of a shape: ``launch(source, matrices, result)``."""
    height, width, interpolation, fill_mode, fill_value = options
    record = SAMPLED.record(dtype)
    for name, size in zip(_SIZES, (*shape, height, width), strict=True):
        record[0][name] = size
    record[0]["bilinear"], record[0]["mode"] = interpolation == "bilinear", FILL_MODES.index(fill_mode)
    record[0]["fill"] = fill_value
    kernel = launch.kernel("sampling.cu", entry, dtype.name, (SAMPLED,), _MODES)
    launch_ = launch.Launch(kernel, launch.blocks(threads), record, "x", 3)

    def run(source: Any, matrices: Any, result: Any) -> None:
        kept = in_order(source), in_order(matrices)
        launch_(kept[0].data.ptr, kept[1].data.ptr, result.data.ptr)

    return run


def _sample(
    x: Any,
    matrices: Any,
    height: int,
    width: int,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    *,
    out: Any = None,
) -> Callable[..., Any]:
    shape, options = (x.shape[0], height, width, x.shape[3]), (height, width, interpolation, fill_mode, fill_value)
    place, size = placing_apart(out, shape, x.dtype, x, matrices), math.prod(shape)
    compute = _planned("sample", x.shape, options, x.dtype, size) if size else None

    def run(x: Any, matrices: Any, *_: Any, out: Any = None, **__: Any) -> Any:
        y = place(out, x, matrices)
        if compute is not None:
            compute(x, matrices, y)
        return finish(y, out)

    return run


def _spread(
    dy: Any,
    x: Any,
    matrices: Any,
    height: int,
    width: int,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    *,
    out: Any = None,
) -> Callable[..., Any]:
    shape, options = x.shape, (height, width, interpolation, fill_mode, fill_value)
    place, size = placing_apart(out, shape, dy.dtype, dy, matrices), math.prod(shape)
    compute = _planned("spread", shape, options, dy.dtype, shape[0] * shape[3]) if size else None

    def run(dy: Any, x: Any, matrices: Any, *_: Any, out: Any = None, **__: Any) -> Any:
        dx = place(out, dy, matrices)
        if compute is not None:
            compute(dy, matrices, dx)
        return finish(dx, out)

    return run


affine_sample2d = Planned(implements("affine_sample2d", _sample))
affine_sample2d_backward = Planned(implements("affine_sample2d_backward", _spread))
