"""What a row of the table is: an op without its body; and the sizes that many rows share."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Sizes = Mapping[str, Any]

DTYPES = ("float32", "float64")

# Rows of probabilities may be off 1 by rounding of float32 rows, not more.
MOST_OFF = 1e-3

# What is said, behind its name, of a CSR matrix whose arrays are none of one.
MALFORMED_CSR = "got a malformed CSR matrix, wants a valid one: rows in order, columns that there are"


@dataclass(frozen=True)
class Choice:
    """A string parameter out of a fixed set."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Real:
    """A real parameter in [low, high]; an open end excludes its bound. Finite, unless it may be ``infinite``.

    It ``varies`` where it is hardly the same in two calls of a loop: a step size.
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    infinite: bool = False
    varies: bool = False


@dataclass(frozen=True)
class Integer:
    """An integer parameter in [low, high]; it ``varies`` from call to call where it is a step's number or a seed."""

    low: int
    high: int | None = None
    varies: bool = True


@dataclass(frozen=True)
class Integers:
    """``count`` integers of at least ``low``, one for each axis, as a tuple; one integer stands for as many."""

    count: int
    low: int


@dataclass(frozen=True)
class Padding:
    """What is put around so many axes: "valid", nothing; "same", what strides make ceil(size / stride) places of.

    Or numbers, which become ((before, after), ...): those for each axis, one for both, or one for all.
    """

    axes: int


@dataclass(frozen=True)
class Flag:
    """A True/False parameter."""


@dataclass(frozen=True)
class Subset:
    """Some of a fixed set of names, as a tuple of them: which results are wanted, the others are None."""

    values: tuple[str, ...]


Option = Choice | Real | Integer | Integers | Padding | Flag | Subset


def varying(option: Option) -> bool:
    """Whether an option is hardly the same in two calls of a loop; its class is."""
    return isinstance(option, (Integer, Real)) and option.varies


@dataclass(frozen=True)
class Rule:
    """A condition between parameters: ``holds(values)`` or a ValueError that says ``wants`` about ``parameter``.

    It looks at options and at which operands are None or packed, not into arrays.
    """

    parameter: str
    wants: str
    holds: Callable[[Mapping[str, Any]], bool]


# A size that follows from others and from options, all by their names; ValueError where they do not go together.
Derivation = Callable[[Mapping[str, Any]], int]


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
    into: Mapping[str, str]
    packed: tuple[str, ...]
    options: Mapping[str, Option]
    rules: tuple[Rule, ...]
    flops: Callable[..., float] | None
    cases: tuple[Sizes, ...]
    bench: tuple[Sizes, ...]
    variants: tuple[Mapping[str, Any], ...]
    draw: Mapping[str, Any] = field(default_factory=dict)
    lists: bool = False
    sampled: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    of_bytes: tuple[str, ...] = ()
    sparse: tuple[str, ...] = ()
    derived: Mapping[str, Derivation] = field(default_factory=dict)

    def shapes(self, option: str) -> bool:
        """Whether sizes may follow from an option: from integers that do not vary."""
        spec = self.options[option]
        return isinstance(spec, (Integers, Padding)) or (isinstance(spec, Integer) and not spec.varies)

    def optional(self, operand: str) -> bool:
        """Whether the operand may be left out."""
        return self.signature.parameters[operand].default is None

    def whole(self, sizes: Sizes, options: Mapping[str, Any] = MappingProxyType({})) -> Sizes:
        """``sizes`` with those that are ``derived``, from them and the options: given ones, a case's, or defaults."""
        if not self.derived:
            return sizes
        defaults = {name: self.signature.parameters[name].default for name in self.options}
        known = {**defaults, **sizes, **{name: options[name] for name in self.options if name in options}}
        return {**sizes, **{name: derive(known) for name, derive in self.derived.items()}}

    def elements(self, spec: str, sizes: Sizes) -> int:
        """Number of elements of an operand or result with dimensions ``spec``."""
        return math.prod(shape_of(spec, self.whole(sizes)))

    def work(self, sizes: Sizes) -> float | None:
        """Floating-point operations of one call; None where memory, not arithmetic, is the limit."""
        return None if self.flops is None else self.flops(**self.whole(sizes))

    def bytes(self, sizes: Sizes, itemsize: int) -> int:
        """Bytes that one call must move at least: operands read, results written, in-place operands both.

        Of operands that are ``sampled`` as much is read as is written, of those that are ``unread`` nothing.
        """
        wanted = {
            name: self.returns[0] if name in self.sampled else spec
            for name, spec in self.operands.items()
            if name not in self.unread
        }
        read = sum(self.elements(spec, sizes) for name, spec in wanted.items() if not self.optional(name))
        written = sum(self.elements(spec, sizes) for spec in self.returns)
        updated = sum(self.elements(self.operands[name], sizes) for name in self.inplace if not self.optional(name))
        return itemsize * (read + written + updated)


TABLE: dict[str, Op] = {}

# What the docstring of an op ends with that takes lists.
_OF_LISTS = """

In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
call does for them what a call for each would, in their order."""

# And that of an op whose labels or targets must have certain values.
_OF_VALUES = """

Labels and targets that are not as said are a ValueError; on a device, where nobody waits to read them, the value is
NaN."""


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
    into: Sequence[str] = ("out",),
    packed: Sequence[str] = (),
    options: Mapping[str, Option] | None = None,
    rules: Sequence[Rule] = (),
    flops: Callable[..., float] | None = None,
    cases: Sequence[Sizes] = (),
    bench: Sequence[Sizes] = (),
    variants: Sequence[Mapping[str, Any]] = ({},),
    draw: Mapping[str, Any] | None = None,
    lists: bool = False,
    sampled: Sequence[str] = (),
    unread: Sequence[str] = (),
    of_bytes: Sequence[str] = (),
    sparse: Sequence[str] = (),
    derived: Mapping[str, Derivation] | None = None,
    **operands: str,
) -> Callable[[Callable[..., Any]], Op]:
    """Make a row of the function below it and enter it in the table."""

    def enter(stub: Callable[..., Any]) -> Op:
        signature = inspect.signature(stub)
        places = dict(zip(into, returns, strict=False))
        judged = "targets" in operands or not {"labels", "bits"}.isdisjoint((draw or {}).values())
        row = Op(
            name=stub.__name__,
            module=module,
            signature=signature,
            doc=inspect.cleandoc(stub.__doc__ or "") + (_OF_LISTS if lists else "") + (_OF_VALUES if judged else ""),
            operands=operands,
            returns=tuple(returns),
            inplace=tuple(inplace),
            into={name: spec for name, spec in places.items() if name in signature.parameters},
            packed=tuple(packed),
            options=options or {},
            rules=tuple(rules),
            flops=flops,
            cases=tuple(cases),
            bench=tuple(bench),
            variants=tuple(variants),
            draw=draw or {},
            lists=lists,
            sampled=tuple(sampled),
            unread=tuple(unread),
            of_bytes=tuple(of_bytes),
            sparse=tuple(sparse),
            derived=derived or {},
        )
        TABLE[row.name] = row
        return row

    return enter


def implements(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, which takes an op's parameters by position, under the name and with the signature of its row."""
    function.__name__ = function.__qualname__ = name
    function.__signature__ = TABLE[name].signature  # type: ignore[attr-defined]
    return function


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
ELEMENTWISE = shapes((), (0,), (0, 4), (1,), (3,), (15,), (16,), (17,), (63,), (67,), (3, 5), (2, 3, 7), (1021,))
ROWS = grid(n=(0, 1, 1, 2, 5, 7, 33, 64, 3), c=(3, 1, 10, 16, 17, 46, 32, 3, 1000))
BATCHES = (
    {"n": 0, "...": (3,)},
    {"n": 1, "...": ()},
    {"n": 1, "...": (1,)},
    {"n": 5, "...": (3,)},
    {"n": 17, "...": ()},
    {"n": 7, "...": (2, 5)},
    {"n": 33, "...": (31,)},
)
# Benchmarks' sizes: 10^4 numbers, which stay in a core's caches, and 10^7, which come from memory.
ELEMENTWISE_BENCH = shapes((10_000,), (10_000_000,))
ROWS_BENCH = grid(n=(1000, 10_000), c=(10, 1000))
BATCHES_BENCH = grid(n=(100, 10_000), **{"...": ((100,), (1000,))})
