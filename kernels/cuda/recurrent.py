"""Recurrent layers on the device: products of all steps, and between them a kernel that goes through the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product as product_of
from operator import itemgetter
from typing import Any

import cupy

from fastnn.kernels.cuda import cpp, elementwise, epilogues, launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import Like, like, like_new, ordering, transposed
from fastnn.kernels.cuda.chain import Chain, Chains
from fastnn.kernels.cuda.columns import ColumnSums
from fastnn.kernels.cuda.epilogues import PLAIN
from fastnn.kernels.cuda.products import Product
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


def _rows(shape: Sequence[int], dtype: Any) -> Like:
    """What an array of this shape is like as rows along its last axis, in C order."""
    return like_new((math.prod(shape[:-1]), shape[-1]), dtype)


class _Sweep:
    """A kernel through all steps of arrays like these, for a chain."""

    def __init__(self, entry: str, cell: str, x: Any, recurrent_kernel: Any, activation: str, backwards: bool) -> None:
        (self.n, self.t, _), (self.u, self.g), self.dtype = x.shape, recurrent_kernel.shape, x.dtype
        self._of, self._record = (entry, _before(cell, activation, self.dtype.name)), CELLS.record(self.dtype)
        for name, value in {"n": self.n, "t": self.t, "u": self.u, "g": self.g, "backwards": backwards}.items():
            self._record[0][name] = value

    def add(self, chain: Chain, pointers: Mapping[str, str]) -> None:
        """Launch it in a chain, on arrays in C order by the names of what it reads and writes."""
        if self.n:
            entry, before = self._of
            kernel = launch.kernel("recurrent.cu", entry, self.dtype.name, (CELLS,), before)
            chain.add(kernel, launch.blocks(self.n * launch.THREADS), self._record, pointers)

    def room(self, chain: Chain, *shape: int) -> str:
        """One in a chain for so many numbers."""
        return chain.room(math.prod(shape) * self.dtype.itemsize)


def _there(**arrays: Any) -> dict[str, str]:
    """The names of those that are there, as the pointers to what has the same names in a chain."""
    return {name: name for name, array in arrays.items() if array is not None}


# What a cell's steps leave beside the outputs and the last states.
_LEFT = {"SIMPLE": (), "LSTM": ("c", "gates", "kept"), "GRU": ("gates", "kept")}


def _sweeping(
    cell: str, x: Any, kernel: Any, recurrent_kernel: Any, bias: Any, activation: str, backwards: bool, **given: Any
) -> Callable[..., tuple[Any, ...]]:
    """All steps forwards: (y, h, what is left) of (x, kernel, recurrent_kernel, bias, others in the order given)."""
    sweep = _Sweep("forward", cell, x, recurrent_kernel, activation, backwards)
    n, t, u, g, dtype = sweep.n, sweep.t, sweep.u, sweep.g, x.dtype
    shapes = {"y": (n, t, u), "h": (n, u), "c": (n, u), "gates": (n, t, g), "kept": (n, t, u)}
    made = {name: shapes[name] for name in ("y", "h", *_LEFT[cell])}
    biases = [] if bias is None else ["of_x", "of_h"][: 2 if cell == "GRU" else 1]
    linear = epilogues.forward("identity") if biases else PLAIN
    like_bias = like_new((g,), dtype) if biases else None
    sums = Product(_rows(x.shape, dtype), kernel, _rows((n, t, g), dtype), linear, bias=like_bias)
    there = _there(**given)

    def build(chain: Chain, _: Any) -> None:
        left = {name: name for name in made}
        gates = left.setdefault("gates", sweep.room(chain, n, t, g))
        sums.add(chain, "x", "kernel", gates, bias="".join(biases[:1]))
        if cell == "GRU":
            left |= {"sums": sweep.room(chain, n, g), "bias": "".join(biases[1:])}
        sweep.add(chain, {"w": "w", **there, **left})

    launches = Chains(("x", "kernel", "w", *biases, *there, *made), build)
    ordered = ordering(x, recurrent_kernel, bias, *given.values())

    def run(x: Any, kernel: Any, recurrent_kernel: Any, bias: Any, *given: Any) -> tuple[Any, ...]:
        results = [cupy.empty(shape, dtype) for shape in made.values()]
        held = ordered([each for each in (x, recurrent_kernel, bias, *given) if each is not None])
        at_x, at_w, *others = [array.data.ptr for array in held]
        if len(biases) == 2:  # one behind the other
            others.insert(1, others[0] + g * dtype.itemsize)
        launches((at_x, kernel.data.ptr, at_w, *others, *[array.data.ptr for array in results]))
        return tuple(results)

    return run


def _sweeping_back(
    cell: str, x: Any, kernel: Any, recurrent_kernel: Any, activation: str, backwards: bool, need: Sequence[str],
    dh: Any, dc: Any = None, **given: Any,
) -> Callable[..., tuple[Any, ...]]:  # fmt: skip
    """All steps backwards, then the products: the gradients, None for what is not needed.

    Of (x, kernel, recurrent_kernel, dh, dc, others in the order given); where there is no dh or dc it is zeros.
    """
    sweep = _Sweep("backward", cell, x, recurrent_kernel, activation, backwards)
    n, t, u, g, dtype = sweep.n, sweep.t, sweep.u, sweep.g, x.dtype
    shapes = {
        "dx": x.shape,
        "dkernel": kernel.shape,
        "drecurrent_kernel": recurrent_kernel.shape,
        "dbias": (2, g) if cell == "GRU" else (g,),
        "dh0": (n, u),
        "dc0": (n, u),
    }
    names = [name for name in shapes if name in need]
    states = {"dh": dh, "dc": dc} if cell == "LSTM" else {"dh": dh}
    likes = {name: like(each) for name, each in states.items() if each is not None}
    of_x, of_sums, of_states = _rows(x.shape, dtype), _rows((n, t, g), dtype), _rows((n, t, u), dtype)
    products = {
        "dx": Product(of_sums, transposed(kernel), of_x),
        "dkernel": Product(transposed(of_x), of_sums, like_new(kernel.shape, dtype)),
        "drecurrent_kernel": Product(transposed(of_states), of_sums, like_new(recurrent_kernel.shape, dtype)),
    }
    moved, there = {name: f"{name}0" for name in states}, _there(**given)
    column_sums, like_w = ColumnSums(of_sums, like_new((g,), dtype)), transposed(recurrent_kernel)

    def build(chain: Chain, _: Any) -> None:
        dsums, before = sweep.room(chain, n, t, g), sweep.room(chain, n, t, u)
        dstate = sweep.room(chain, n, t, g) if cell == "GRU" else dsums
        made = {"dsums": dsums, "dstate": dstate, "before": before}
        for name, state in likes.items():
            elementwise.copy_to(chain, state, name, f"{name}0")
        w = elementwise.ordered_in(chain, like_w, "w")
        sweep.add(chain, {"w": w, **there, **made, **moved})
        operands = {"dx": (dsums, "kernel"), "dkernel": ("x", dsums), "drecurrent_kernel": (before, dstate)}
        for name, product in products.items():
            if name in need:
                product.add(chain, *operands[name], name)
        if "dbias" in need:
            column_sums.add(chain, dsums, "dbias")
            if cell == "GRU":
                column_sums.add(chain, dstate, "dbias of states")

    of_bias = ["dbias of states"] if cell == "GRU" and "dbias" in need else []
    written = [name for name in names if name not in ("dh0", "dc0")]
    launches = Chains(("kernel", "w", "x", *there, *likes, *moved.values(), *written, *of_bias), build)
    results = [*written, *moved.values()]
    pick = itemgetter(*(results.index(name) if name in need and name in results else -1 for name in shapes))
    ordered, count = ordering(x, *given.values()), 1 + len(there)

    def run(x: Any, kernel: Any, recurrent_kernel: Any, dh: Any, dc: Any, *given: Any) -> Any:
        ends = (dh, dc)[: len(moved)]
        begins = [cupy.zeros((n, u), dtype) if each is None else cupy.empty((n, u), dtype) for each in ends]
        found = [cupy.empty(shapes[name], dtype) for name in written]
        held = [each for each in (x, *given, *ends) if each is not None]
        held[:count] = ordered(held[:count])
        addresses = [array.data.ptr for array in (kernel, recurrent_kernel, *held, *begins, *found)]
        if of_bias:  # dbias is the last one
            addresses.append(addresses[-1] + g * dtype.itemsize)
        launches(tuple(addresses))
        return pick((*found, *begins, None))

    return run


_GRADIENTS, _OF_STATES = GRADIENTS["gru"], GRADIENTS["lstm"]


def _simple_rnn(
    x: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, mask: Any = None, h0: Any = None,
    activation: str = "tanh", go_backwards: bool = False,
) -> Callable[..., Any]:  # fmt: skip
    """The outputs tell the derivative."""
    layer = x, kernel, recurrent_kernel, bias
    sweep = _sweeping("SIMPLE", *layer, activation, go_backwards, mask=mask, h0=h0)

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
        return sweep(x, kernel, recurrent_kernel, bias, mask, h0)

    return run


def _lstm(
    x: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, mask: Any = None, h0: Any = None, c0: Any = None,
    go_backwards: bool = False,
) -> Callable[..., Any]:  # fmt: skip
    """What is kept beside the gates are the cells' states."""
    sweep = _sweeping("LSTM", x, kernel, recurrent_kernel, bias, "", go_backwards, mask=mask, h0=h0, c0=c0)

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, mask: Any = None, h0: Any = None, c0: Any = None,
        *_: Any, **__: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        return sweep(x, kernel, recurrent_kernel, bias, mask, h0, c0)

    return run


def _gru(
    x: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, mask: Any = None, h0: Any = None,
    go_backwards: bool = False,
) -> Callable[..., Any]:  # fmt: skip
    """What is kept beside the gates are the state's sums for the candidates."""
    sweep = _sweeping("GRU", x, kernel, recurrent_kernel, bias, "", go_backwards, mask=mask, h0=h0)

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
        return sweep(x, kernel, recurrent_kernel, bias, mask, h0)

    return run


def _simple_rnn_backward(
    x: Any, kernel: Any, recurrent_kernel: Any, y: Any, dy: Any = None, dh: Any = None, mask: Any = None,
    h0: Any = None, activation: str = "tanh", go_backwards: bool = False, need: Sequence[str] = _GRADIENTS,
) -> Callable[..., Any]:  # fmt: skip
    """Through time, then the products."""
    layer = x, kernel, recurrent_kernel
    sweep = _sweeping_back("SIMPLE", *layer, activation, go_backwards, need, dh, y=y, dy=dy, mask=mask, h0=h0)

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, y: Any, dy: Any = None, dh: Any = None, mask: Any = None,
        h0: Any = None, *_: Any, **__: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        return sweep(x, kernel, recurrent_kernel, dh, None, y, dy, mask, h0)[:-1]

    return run


def _lstm_backward(
    x: Any, kernel: Any, recurrent_kernel: Any, y: Any, gates: Any, cells: Any, dy: Any = None, dh: Any = None,
    dc: Any = None, mask: Any = None, h0: Any = None, c0: Any = None, go_backwards: bool = False,
    need: Sequence[str] = _OF_STATES,
) -> Callable[..., Any]:  # fmt: skip
    """Through time, then the products."""
    given = {"y": y, "gates": gates, "kept": cells, "dy": dy, "mask": mask, "h0": h0, "c0": c0}
    sweep = _sweeping_back("LSTM", x, kernel, recurrent_kernel, "", go_backwards, need, dh, dc, **given)

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, y: Any, gates: Any, cells: Any, dy: Any = None, dh: Any = None,
        dc: Any = None, mask: Any = None, h0: Any = None, c0: Any = None, *_: Any, **__: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        return sweep(x, kernel, recurrent_kernel, dh, dc, y, gates, cells, dy, mask, h0, c0)

    return run


def _gru_backward(
    x: Any, kernel: Any, recurrent_kernel: Any, y: Any, gates: Any, candidates: Any, dy: Any = None, dh: Any = None,
    mask: Any = None, h0: Any = None, go_backwards: bool = False, need: Sequence[str] = _GRADIENTS,
) -> Callable[..., Any]:  # fmt: skip
    """Through time, then the products."""
    given = {"y": y, "gates": gates, "kept": candidates, "dy": dy, "mask": mask, "h0": h0}
    sweep = _sweeping_back("GRU", x, kernel, recurrent_kernel, "", go_backwards, need, dh, **given)

    def run(
        x: Any, kernel: Any, recurrent_kernel: Any, y: Any, gates: Any, candidates: Any, dy: Any = None, dh: Any = None,
        mask: Any = None, h0: Any = None, *_: Any, **__: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        return sweep(x, kernel, recurrent_kernel, dh, None, y, gates, candidates, dy, mask, h0)[:-1]

    return run


simple_rnn, simple_rnn_backward = (
    Planned(implements("simple_rnn", _simple_rnn)),
    Planned(implements("simple_rnn_backward", _simple_rnn_backward)),
)
lstm, lstm_backward = Planned(implements("lstm", _lstm)), Planned(implements("lstm_backward", _lstm_backward))
gru, gru_backward = Planned(implements("gru", _gru)), Planned(implements("gru_backward", _gru_backward))
