"""Resilient propagation without weight backtracking on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, in_order
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.resilient import BALANCES
from fastnn.kernels.table.row import implements

_HYPER = ("eta_minus", "eta_plus", "step_min", "step_max", "delta")

RESILIENT = Structure(
    "Resilient",
    Field("size", "int64"),
    Field("balance", "int"),
    Field("w", "real*"),
    Field("dw", "const real*"),
    Field("step_size", "real*"),
    Field("gradient", "real*"),
    numbers=[Field(name, "double") for name in _HYPER],
)

_BEFORE = f"#define ALONE {BALANCES.index('none')}\n#define BY_GRADIENT {BALANCES.index('gradient')}\n"


def modules() -> Iterator[launch.Module]:
    """The one, of both dtypes."""
    for dtype in DTYPES:
        yield launch.Module(dtype, launch.text("resilient.cu", dtype, (RESILIENT,), _BEFORE))


def _step(
    w: Any,
    dw: Any,
    step_size: Any,
    gradient: Any,
    balance: str = "none",
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    step_min: float = 1e-6,
    step_max: float = 50.0,
    delta: float = 1e-6,
) -> Callable[..., None]:
    """On one block where all weights are looked at together; of what is not in C order a copy is stepped."""
    if w.size == 0:
        return lambda *_, **__: None
    record = RESILIENT.record(w.dtype)
    record[0]["size"], record[0]["balance"] = w.size, BALANCES.index(balance)
    for name, value in zip(_HYPER, (eta_minus, eta_plus, step_min, step_max, delta), strict=True):
        record[0][name] = value
    kernel = launch.kernel("resilient.cu", "step", w.dtype.name, (RESILIENT,), _BEFORE)
    step = launch.Launch(kernel, launch.blocks(w.size) if balance == "none" else 1, record, "w", 4)

    def run(w: Any, dw: Any, step_size: Any, gradient: Any, *_: Any, **__: Any) -> None:
        arrays = w, dw, step_size, gradient
        ordered = [*map(in_order, arrays)]
        step(*map(address, ordered))
        for array, copy in zip(arrays, ordered, strict=True):
            if copy is not array and array is not dw:
                array[...] = copy

    return run


rprop_minus_step = Planned(implements("rprop_minus_step", _step))
