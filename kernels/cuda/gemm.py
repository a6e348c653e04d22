"""The ops of products: matrices, the linear layer and its gradients, of dense operands or, as ``csr``, of sparse ones.

An op is a chain: products (``products``) with what follows each in its epilogue, and sums of columns (``columns``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import cupy

from fastnn.kernels.cuda.arrays import Like, finish, in_order, like, like_new, placing_apart, telling_apart
from fastnn.kernels.cuda.chain import Chain, Chains
from fastnn.kernels.cuda.columns import ColumnSums
from fastnn.kernels.cuda.epilogues import PLAIN, Epilogue, forward
from fastnn.kernels.cuda.products import Product
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS
from fastnn.kernels.table.row import implements


def placing_each(
    kind: Kind, outs: Sequence[Any], shapes: Sequence[Any], dtype: Any, x: Any, *others: Any
) -> Callable[..., list[Any]]:
    """``places(outs, at_x, x, *others)`` of results of these shapes, each as the kind places it; of no shape is none.

    ``at_x`` are the addresses and integers that the kind gives of x. All are placed at once where they are over memory
    of their own.
    """
    each = [
        None if shape is None else kind.place(out, shape, dtype, x, *others)
        for shape, out in zip(shapes, outs, strict=True)
    ]
    given = [out for out in outs if out is not None]
    ordered = all(out.flags.c_contiguous for out in given)
    are_apart = kind.telling_apart(given, x, others) if ordered else None

    def places(outs: Sequence[Any], at_x: Sequence[int], x: Any, *others: Any) -> list[Any]:
        if are_apart is None or not are_apart(
            [out.data.ptr for out in outs if out is not None], at_x, [other.data.ptr for other in others]
        ):
            return [place and place(out, x, *others) for place, out in zip(each, outs, strict=True)]
        return [
            cupy.empty(shape, dtype) if out is None and shape is not None else out
            for out, shape in zip(outs, shapes, strict=True)
        ]

    return places


def _telling_apart(written: Sequence[Any], x: Any, read: Sequence[Any]) -> Callable[..., bool]:
    """``telling_apart`` of the addresses of arrays, of a dense x and of other arrays."""
    are_apart = telling_apart(written, (x, *read))
    return lambda written, at_x, read: are_apart(*written, *at_x, *read)


# What adds a product C = f(S @ B) to a chain: of it, the kind of launches, and the names of B, C and what f takes.
Adds = Callable[..., None]


class Kind(NamedTuple):
    """What a layer's x may be, dense or sparse: its arrays, and the products C = f(x @ w) and C = f(x.T @ dz).

    Both are planned as ``Product`` and give what adds them to a chain, which has x by the names ``named`` and
    ``others``. ``given(name, x)`` are the addresses and integers of these, the kind of launches that x takes, and what
    is held until they are made. ``place`` plans where a result goes (``placing_apart``), and ``telling_apart``
    whether arrays that are written share no memory, with one another or with x and others that are read: of the
    addresses of the ones, what is given of x, and the addresses of the others.
    """

    named: tuple[str, ...]
    others: tuple[str, ...]
    given: Callable[[str, Any], tuple[Sequence[int], Sequence[int], Any, Any]]
    place: Callable[..., Callable[..., Any]]
    telling_apart: Callable[..., Callable[..., bool]]
    times: Callable[..., Adds]
    transposed_times: Callable[..., Adds]

    def launches(self, names: Sequence[str], build: Callable[[Chain, Any], Any]) -> Chains:
        """Those of x and of arrays by these names."""
        return Chains((*self.named, *names), build, self.others)


def _times(x: Any, w: Any, c: Any, epilogue: Epilogue = PLAIN, **given: Any) -> Adds:
    product = Product(x, w, c, epilogue, **given)
    return lambda chain, _, *names, **named: product.add(chain, "x", *names, **named)


def _transposed_times(x: Any, dz: Any, c: Any, epilogue: Epilogue = PLAIN, **given: Any) -> Adds:
    return _times(x.T, dz, c, epilogue, **given)


DENSE = Kind(
    ("x",),
    (),
    lambda _, x: ((x.data.ptr,), (), None, None),
    placing_apart,
    _telling_apart,
    _times,
    _transposed_times,
)


def product_op(kind: Kind) -> Planned:
    """``matmul`` of a kind of a."""

    def matmul(a: Any, b: Any, *, out: Any = None) -> Callable[..., Any]:
        shape, dtype = (a.shape[0], b.shape[1]), b.dtype
        times, place = kind.times(a, b, like_new(shape, dtype)), kind.place(out, shape, dtype, a, b)
        launches = kind.launches(("b", "y"), lambda chain, which: times(chain, which, "b", "y"))
        given = kind.given

        def run(a: Any, b: Any, *, out: Any = None) -> Any:
            y = place(out, a, b)
            addresses, others, which, _held = given("a", a)
            launches((*addresses, b.data.ptr, y.data.ptr), others, which)
            return finish(y, out)

        return run

    return Planned(implements("matmul", matmul))


def _softmax() -> Any:
    """Its module, which takes part in losses, too."""
    return import_module("fastnn.kernels.cuda.softmax")


def layer_op(kind: Kind) -> Planned:
    """``linear`` of a kind of x: bias and elementwise activation are the product's epilogue; of rows, it follows."""

    def linear(x: Any, w: Any, b: Any = None, activation: str = "linear", *, out: Any = None) -> Callable[..., Any]:
        shape, dtype = (x.shape[0], w.shape[1]), w.dtype
        fused, is_of_rows = (
            ELEMENTWISE_ACTIVATIONS.get(activation, "identity"),
            activation not in ELEMENTWISE_ACTIVATIONS,
        )
        is_plain, sources = b is None and fused == "identity", (x, w) if b is None else (x, w, b)
        times = kind.times(x, w, like_new(shape, dtype), PLAIN if is_plain else forward(fused), bias=b)
        place, given = kind.place(out, shape, dtype, *sources), kind.given
        bias = [] if b is None else ["b"]

        def build(chain: Chain, which: Any) -> None:
            times(chain, which, "w", "y", bias="".join(bias))
            if is_of_rows:
                _softmax().add_to(chain, "forward", activation, like_new(shape, dtype), "y", "y", "y")

        launches = kind.launches(("w", "y", *bias), build)

        def run(x: Any, w: Any, b: Any = None, activation: str = "linear", *, out: Any = None) -> Any:
            addresses, others, which, _held = given("x", x)
            if b is None:
                y = place(out, x, w)
                launches((*addresses, w.data.ptr, y.data.ptr), others, which)
            else:
                y = place(out, x, w, b)
                launches((*addresses, w.data.ptr, y.data.ptr, b.data.ptr), others, which)
            return finish(y, out)

        return run

    return Planned(implements("linear", linear))


class Derivative:
    """dz = dy f'(s) of arrays like some, with the sums of its columns: what goes back through an activation.

    In a chain it is made of what has the names "dy" and "s", which ``sources`` gives; ``like`` says what dz is like.
    """

    def __init__(self, dy: Any, s: Any, activation: str) -> None:
        self.activation, self._sources = activation, (like(dy), like(s))
        self._is_of_rows = activation not in ELEMENTWISE_ACTIVATIONS
        self.like: Like = like(dy) if activation == "linear" else like_new(dy.shape, dy.dtype)

    def sources(self, dy: Any, s: Any, y: Any) -> tuple[Any, Any]:
        """The arrays that it reads; s is y where the derivative is told by that."""
        return (in_order(dy), in_order(y)) if self._is_of_rows else (dy, s)

    def add(self, chain: Chain, total: str = "") -> str:
        """Make it in a chain, and in ``total`` the sums of its columns; what dz is called there."""
        (dy, s), made = self._sources, self.like
        sums = like_new(made.shape[1:], made.dtype)
        if self.activation == "linear":
            if total:
                ColumnSums(dy, sums).add(chain, "dy", total)
            return "dy"
        dz: str = chain.room(math.prod(made.shape) * made.itemsize)
        if not self._is_of_rows:
            found = ColumnSums(dy, sums, ELEMENTWISE_ACTIVATIONS[self.activation], s, made)
            found.add(chain, "dy", total or chain.room(made.shape[1] * made.itemsize), "s", dz)
            return dz
        _softmax().add_to(chain, "backward", self.activation, made, "dy", "s", dz)
        if total:
            ColumnSums(made, sums).add(chain, dz, total)
        return dz


class Gradients:
    """A layer's gradients by x, w and b, those that are ``wanted`` of "dx", "dw" and "db": links of a chain.

    dz with its columns' sums in one pass, then two products, of arrays like these.
    """

    def __init__(self, kind: Kind, dy: Any, x: Any, w: Any, s: Any, activation: str, wanted: Sequence[str]) -> None:
        self._wanted, self.derivative = wanted, Derivative(dy, s, activation)
        dz, dtype = self.derivative.like, dy.dtype
        self._of_x = Product(dz, w.T, like_new(x.shape, dtype)) if "dx" in wanted else None
        self._of_w = kind.transposed_times(x, dz, like_new(w.shape, dtype)) if "dw" in wanted else None

    def add(self, chain: Chain, which: Any, db: str = "db") -> str:
        """Make them in a chain, where they have their names, but maybe db; what dz is called there."""
        dz = self.derivative.add(chain, db if "db" in self._wanted else "")
        if self._of_x is not None:
            self._of_x.add(chain, dz, "w", "dx")
        if self._of_w is not None:
            self._of_w(chain, which, dz, "dw")
        return dz


def layer_backward_op(kind: Kind) -> Planned:
    """``linear_backward`` of a kind of x: an array that shares memory with an operand is written last of all."""

    def linear_backward(
        dy: Any,
        x: Any,
        w: Any,
        y: Any,
        activation: str = "linear",
        z: Any = None,
        need: Sequence[str] = ("dx", "dw", "db"),
        *,
        dx: Any = None,
        dw: Any = None,
        db: Any = None,
    ) -> Callable[..., tuple[Any, Any, Any]]:
        shapes, dtype = {"dx": x.shape, "dw": w.shape, "db": w.shape[1:]}, dy.dtype
        wanted = [shape if name in need else None for name, shape in shapes.items()]
        places = placing_each(kind, (dx, dw, db), wanted, dtype, x, dy, w, y, *(() if z is None else (z,)))
        gradients = Gradients(kind, dy, x, w, y if z is None else z, activation, need)
        names = [name for name in shapes if name in need]
        launches, given = kind.launches(("dy", "s", "w", *names), gradients.add), kind.given
        sources = gradients.derivative.sources

        def run(
            dy: Any, x: Any, w: Any, y: Any, activation: str = "linear", z: Any = None, need: Any = (),
            *, dx: Any = None, dw: Any = None, db: Any = None,
        ) -> tuple[Any, Any, Any]:  # fmt: skip
            addresses, others, which, _held = given("x", x)
            if dx is dw is db is None:
                made = [shape and cupy.empty(shape, dtype) for shape in wanted]
            else:
                made = places((dx, dw, db), (*addresses, *others), x, dy, w, y, *(() if z is None else (z,)))
            of_dz = sources(dy, y if z is None else z, y)
            arrays = (*of_dz, w, *[array for array in made if array is not None])
            launches((*addresses, *[array.data.ptr for array in arrays]), others, which)
            made_x, made_w, made_b = made
            return finish(made_x, dx), finish(made_w, dw), finish(made_b, db)

        return run

    return Planned(implements("linear_backward", linear_backward))


matmul, linear, linear_backward = product_op(DENSE), layer_op(DENSE), layer_backward_op(DENSE)


@Planned
def column_sums(x: Any, *, out: Any = None) -> Callable[..., Any]:
    """The sums of the rows of x."""
    shape, dtype = x.shape[1:], x.dtype
    sums, place = ColumnSums(x, like_new(shape, dtype)), placing_apart(out, shape, dtype, x)

    def run(x: Any, *, out: Any = None) -> Any:
        total = place(out, x)
        sums(x, total)
        return finish(total, out)

    return run
