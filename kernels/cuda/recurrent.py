"""Recurrent layers on the device: products of all steps, and between them a kernel that goes through the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product as product_of
from typing import Any

import cupy

from fastnn.kernels.cuda import cpp, gemm, launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, in_order
from fastnn.kernels.formulas import recurrent
from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES, ELEMENTWISE_ACTIVATIONS
from fastnn.kernels.table.recurrent import ACTIVATIONS as OF_SIMPLE
from fastnn.kernels.table.recurrent import GRADIENTS
from fastnn.kernels.table.row import implements

_POINTERS = (
    *("w", "bias", "mask", "h0", "c0", "sums", "gates", "y", "kept", "h", "c"),
    *("dy", "dh", "dc", "dsums", "dstate", "before"),
)
CELLS = Structure(
    "Cells",
    *(Field(name, "int64") for name in ("n", "t", "u", "g", "backwards")),
    *(Field(name, "real*") for name in _POINTERS),
)

_NAMES = ("SIMPLE", "LSTM", "GRU")


def _before(cell: str, activation: str, dtype: str) -> str:
    """What comes before the source: which cell it is, and its formulas."""
    formulas: Any = {
        "LSTM": (("lstm_cell", "ifgop", recurrent.lstm), ("lstm_cell_backward", "hdifgopc", recurrent.lstm_backward)),
        "GRU": (("gru_cell", "zrcijkp", recurrent.gru), ("gru_cell_backward", "hzrckp", recurrent.gru_backward)),
    }.get(cell)
    if formulas is None:
        found = ACTIVATIONS[ELEMENTWISE_ACTIVATIONS[activation]]
        formulas = (("activate", "x", found.forward), ("activate_backward", "dy", found.backward))
    defined = "".join(f"#define {name} {code}\n" for code, name in enumerate(_NAMES))
    functions = "".join(cpp.function(name, tuple(of), formula, dtype) for name, of, formula in formulas)
    return f"{defined}#define CELL {cell}\n{functions}"


def modules() -> Iterator[launch.Module]:
    """Each cell, the simple one with each of its activations, of both dtypes."""
    kinds = [("LSTM", ""), ("GRU", ""), *(("SIMPLE", activation) for activation in OF_SIMPLE)]
    for (cell, activation), dtype in product_of(kinds, DTYPES):
        text = launch.text("recurrent.cu", dtype, (CELLS,), _before(cell, activation, dtype))
        yield launch.Module(f"{cell} {activation} {dtype}", text)


def _in_steps(x: Any) -> Any:
    """The steps of a sequence as rows, in C order."""
    n, t, f = x.shape
    return in_order(x).reshape(n * t, f)


class _Sweep:
    """A kernel through all steps, for arrays like these."""

    def __init__(self, entry: str, cell: str, x: Any, recurrent_kernel: Any, activation: str, backwards: bool) -> None:
        (self.n, self.t, _), (self.u, self.g), self.dtype = x.shape, recurrent_kernel.shape, x.dtype
        record = CELLS.record(self.dtype)
        given = record[0]
        for name, value in zip(
            ("n", "t", "u", "g", "backwards"), (self.n, self.t, self.u, self.g, backwards), strict=True
        ):
            given[name] = value
        kernel = launch.kernel(
            "recurrent.cu", entry, self.dtype.name, (CELLS,), _before(cell, activation, self.dtype.name)
        )
        blocks = launch.blocks(self.n * launch.THREADS)
        self._launch = launch.Launch(kernel, blocks, record, _POINTERS[0], len(_POINTERS)) if self.n else None

    def __call__(self, **given: Any) -> None:
        """Launch it on these arrays, which are in C order."""
        if self._launch is not None:
            self._launch(*(0 if given.get(name) is None else address(given[name]) for name in _POINTERS))

    def empty(self, *shape: int) -> Any:
        """A new array."""
        return cupy.empty(shape, self.dtype)


def _kept(array: Any) -> Any:
    return None if array is None else in_order(array)


def _sweeping(cell: str, x: Any, recurrent_kernel: Any, activation: str, backwards: bool) -> Callable[..., Any]:
    """All steps forwards: (y, h, c, gates, kept) of (x, kernel, recurrent_kernel, bias, of_state, mask, h0, c0)."""
    sweep = _Sweep("forward", cell, x, recurrent_kernel, activation, backwards)
    n, t, u, g = sweep.n, sweep.t, sweep.u, sweep.g

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, bias: Any, of_state: Any, mask: Any, h0: Any, c0: Any
    ) -> tuple[Any, ...]:
        gates = gemm.linear(_in_steps(x), kernel, bias)
        y, kept, sums = sweep.empty(n, t, u), sweep.empty(n, t, u), sweep.empty(n, g)
        h, c = sweep.empty(n, u), sweep.empty(n, u)
        operands = {"w": recurrent_kernel, "bias": of_state, "mask": mask, "h0": h0, "c0": c0}
        held = {name: _kept(array) for name, array in operands.items()}  # until the launch
        sweep(**held, sums=sums, gates=gates, y=y, kept=kept, h=h, c=c)
        return y, h, c, gates.reshape(n, t, g), kept

    return run


def _sweeping_back(
    cell: str, x: Any, recurrent_kernel: Any, activation: str, backwards: bool, need: Sequence[str]
) -> Callable[..., tuple[Any, ...]]:
    """All steps backwards: the gradients, None for what is not needed."""
    sweep = _Sweep("backward", cell, x, recurrent_kernel, activation, backwards)
    n, t, u, g = sweep.n, sweep.t, sweep.u, sweep.g

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, y: Any, gates: Any, kept: Any,
        dy: Any, dh: Any, dc: Any, mask: Any, h0: Any, c0: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        dsums, before = sweep.empty(n * t, g), sweep.empty(n * t, u)
        dstate = sweep.empty(n * t, g) if cell == "GRU" else dsums
        of_h, of_c = (cupy.zeros((n, u), x.dtype) if each is None else in_order(each).copy() for each in (dh, dc))
        operands = {"w": recurrent_kernel.T, "mask": mask, "h0": h0, "c0": c0, "gates": gates, "y": y, "kept": kept}
        held = {name: _kept(array) for name, array in {**operands, "dy": dy}.items()}  # until the launch
        sweep(**held, dh=of_h, dc=of_c, dsums=dsums, dstate=dstate, before=before)

        def of_biases() -> Any:
            if cell != "GRU":
                return gemm.column_sums(dsums)
            both = sweep.empty(2, g)
            for place, sums in enumerate((dsums, dstate)):
                gemm.column_sums(sums, out=both[place])
            return both

        results: dict[str, Callable[[], Any]] = {
            "dx": lambda: gemm.matmul(dsums, kernel.T).reshape(*x.shape),
            "dkernel": lambda: gemm.matmul(_in_steps(x).T, dsums),
            "drecurrent_kernel": lambda: gemm.matmul(before.T, dstate),
            "dbias": of_biases,
            "dh0": lambda: of_h,
            "dc0": lambda: of_c,
        }
        return tuple(make() if name in need else None for name, make in results.items())

    return run


_GRADIENTS, _OF_STATES = GRADIENTS["gru"], GRADIENTS["lstm"]


def _simple_rnn(
    x: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, mask: Any = None, h0: Any = None,
    activation: str = "tanh", go_backwards: bool = False,
) -> Callable[..., Any]:  # fmt: skip
    """The outputs tell the derivative."""
    sweep = _sweeping("SIMPLE", x, recurrent_kernel, activation, go_backwards)

    def run(
        x: Any,
        kernel: Any,
        recurrent_kernel: Any,
        bias: Any = None,
        mask: Any = None,
        h0: Any = None,
        *_: Any,
        **__: Any,
    ) -> tuple[Any, ...]:
        found: tuple[Any, ...] = sweep(x, kernel, recurrent_kernel, bias, None, mask, h0, None)
        return found[:2]

    return run


def _lstm(
    x: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, mask: Any = None, h0: Any = None, c0: Any = None,
    go_backwards: bool = False,
) -> Callable[..., Any]:  # fmt: skip
    """What is kept beside the gates are the cells' states."""
    sweep = _sweeping("LSTM", x, recurrent_kernel, "", go_backwards)

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, mask: Any = None, h0: Any = None, c0: Any = None,
        *_: Any, **__: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        found: tuple[Any, ...] = sweep(x, kernel, recurrent_kernel, bias, None, mask, h0, c0)
        return found

    return run


def _gru(
    x: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, mask: Any = None, h0: Any = None,
    go_backwards: bool = False,
) -> Callable[..., Any]:  # fmt: skip
    """What is kept beside the gates are the state's sums for the candidates."""
    sweep = _sweeping("GRU", x, recurrent_kernel, "", go_backwards)

    def run(
        x: Any,
        kernel: Any,
        recurrent_kernel: Any,
        bias: Any = None,
        mask: Any = None,
        h0: Any = None,
        *_: Any,
        **__: Any,
    ) -> tuple[Any, ...]:
        of_x, of_h = (None, None) if bias is None else (bias[0], bias[1])
        y, h, _, gates, candidates = sweep(x, kernel, recurrent_kernel, of_x, of_h, mask, h0, None)
        return y, h, gates, candidates

    return run


def _simple_rnn_backward(
    x: Any, kernel: Any, recurrent_kernel: Any, y: Any, dy: Any = None, dh: Any = None, mask: Any = None,
    h0: Any = None, activation: str = "tanh", go_backwards: bool = False, need: Sequence[str] = _GRADIENTS,
) -> Callable[..., Any]:  # fmt: skip
    """Through time, then the products."""
    sweep = _sweeping_back("SIMPLE", x, recurrent_kernel, activation, go_backwards, need)

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, y: Any, dy: Any = None, dh: Any = None, mask: Any = None,
        h0: Any = None, *_: Any, **__: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        return sweep(x, kernel, recurrent_kernel, y, None, None, dy, dh, None, mask, h0, None)[:-1]

    return run


def _lstm_backward(
    x: Any, kernel: Any, recurrent_kernel: Any, y: Any, gates: Any, cells: Any, dy: Any = None, dh: Any = None,
    dc: Any = None, mask: Any = None, h0: Any = None, c0: Any = None, go_backwards: bool = False,
    need: Sequence[str] = _OF_STATES,
) -> Callable[..., Any]:  # fmt: skip
    """Through time, then the products."""
    sweep = _sweeping_back("LSTM", x, recurrent_kernel, "", go_backwards, need)

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, y: Any, gates: Any, cells: Any, dy: Any = None, dh: Any = None,
        dc: Any = None, mask: Any = None, h0: Any = None, c0: Any = None, *_: Any, **__: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        return sweep(x, kernel, recurrent_kernel, y, gates, cells, dy, dh, dc, mask, h0, c0)

    return run


def _gru_backward(
    x: Any, kernel: Any, recurrent_kernel: Any, y: Any, gates: Any, candidates: Any, dy: Any = None, dh: Any = None,
    mask: Any = None, h0: Any = None, go_backwards: bool = False, need: Sequence[str] = _GRADIENTS,
) -> Callable[..., Any]:  # fmt: skip
    """Through time, then the products."""
    sweep = _sweeping_back("GRU", x, recurrent_kernel, "", go_backwards, need)

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, y: Any, gates: Any, candidates: Any, dy: Any = None, dh: Any = None,
        mask: Any = None, h0: Any = None, *_: Any, **__: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        return sweep(x, kernel, recurrent_kernel, y, gates, candidates, dy, dh, None, mask, h0, None)[:-1]

    return run


simple_rnn, simple_rnn_backward = (
    Planned(implements("simple_rnn", _simple_rnn)),
    Planned(implements("simple_rnn_backward", _simple_rnn_backward)),
)
lstm, lstm_backward = Planned(implements("lstm", _lstm)), Planned(implements("lstm_backward", _lstm_backward))
gru, gru_backward = Planned(implements("gru", _gru)), Planned(implements("gru_backward", _gru_backward))
