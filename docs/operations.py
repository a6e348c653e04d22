"""The pages of the functional API, made of the table of ops: what it does not say of an op, no page does."""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Iterator
from pathlib import Path

from docs import text
from fastnn import differentiation, numerics, ops
from fastnn.kernels.table import TABLE, Choice, Flag, Integer, Integers, Op, Option, Padding, Real, Sizes, Subset

FOLDER = "ops"
_KERNELS = Path(__file__).parents[1] / "kernels"
_LONGEST = 40
_BACKENDS = ("naive", "cpu", "cuda")


def pages() -> dict[str, str]:
    """The text of each page by its path: one for each module of the table, and one that lists them all."""
    modules: dict[str, list[Op]] = {}
    for op in TABLE.values():
        modules.setdefault(op.module, []).append(op)
    made = {f"{FOLDER}/{module}.md": _module(module, rows) for module, rows in sorted(modules.items())}
    return {f"{FOLDER}/index.md": _index(modules), **made, f"{FOLDER}/made-of-ops.md": _made_of_ops()}


def _about(module: str) -> str:
    return importlib.import_module(f"fastnn.kernels.table.{module}").__doc__ or ""


def _title(module: str) -> str:
    """What a module says that it is about, no longer than a line of the navigation."""
    said = re.sub(r" \(.*?\)", "", re.split(r"[:.]", _about(module), maxsplit=1)[0])
    return said if len(said) <= _LONGEST else said.split(",", maxsplit=1)[0]


def _index(modules: dict[str, list[Op]]) -> str:
    rows = [
        (f"[{_title(module)}]({module}.md)", ", ".join(_link(op) for op in rows))
        for module, rows in sorted(modules.items())
    ]
    return text.page(
        "# All ops",
        f"The {len(TABLE)} ops of `fastnn.ops`, made from `kernels/table` as this site was built: argument checks, "
        "tests, benchmarks and these pages read the same rows. What ops take and give, and how they are used, is told "
        "in [the functional API](../functional.md).",
        text.table(("Module", "Ops"), rows),
        "Beside them there are [functions made of ops](made-of-ops.md).",
    )


def _link(op: Op) -> str:
    return f"[`{op.name}`]({op.module}.md#{op.name})"


def _module(module: str, rows: list[Op]) -> str:
    return text.page(f"# {text.escaped(_title(module))}", text.docstring(_about(module)), *(_op(op) for op in rows))


def _op(op: Op) -> str:
    return text.page(
        f"## {op.name} {{ #{op.name} }}",
        text.signature(f"ops.{op.name}", getattr(ops, op.name)),
        text.docstring(op.doc),
        text.table(("Array", "Shape", ""), _arrays(op)),
        text.table(("Option", "Values"), ((f"`{name}`", _values(op.options[name])) for name in op.options)),
        _facts(op),
        _costs(op),
    ).rstrip()


def _arrays(op: Op) -> Iterator[tuple[str, str, str]]:
    for name, spec in op.operands.items():
        yield f"`{name}`", _shape(spec), ", ".join(_said_of(op, name))
    for place, spec in enumerate(op.returns):
        into = next((name for name in [*op.into][place : place + 1]), None)
        yield f"result {place + 1}" if len(op.returns) > 1 else "result", _shape(spec), f"`{into}=`" if into else ""


def _said_of(op: Op, operand: str) -> Iterator[str]:
    said = {
        "may be None": op.optional(operand),
        "updated in place": operand in op.inplace,
        "may be [packed](../functional.md)": operand in op.packed,
        "may be a CSR matrix": operand in op.sparse,
        "may be bytes": operand in op.of_bytes,
        "only its shape counts": operand in op.unread,
    }
    return (words for words, holds in said.items() if holds)


def _shape(spec: str) -> str:
    """A spec of the table, "n k", as the shape that it means; a spec of nothing is a number."""

    def one(part: str) -> str:
        dims = ["..." if dim == "*" else dim for dim in part.split()]
        return f"`({', '.join(dims)}{',' if len(dims) == 1 and dims != ['...'] else ''})`" if dims else "a number"

    return " or ".join(one(part) for part in spec.split("|"))


def _values(option: Option) -> str:
    match option:
        case Choice(values) | Subset(values):
            listed = ", ".join(f'`"{value}"`' for value in values)
            return listed if isinstance(option, Choice) else f"some of {listed}"
        case Integers(count, low):
            return f"{count} integers of at least {low}, or one for all"
        case Integer(low, high):
            return f"integer of at least {low}" if high is None else f"integer from {low} to {high}"
        case Real():
            return _interval(option)
    return {Flag: "True or False", Padding: '`"valid"`, `"same"`, or numbers'}[type(option)]


def _interval(option: Real) -> str:
    low = "" if option.low == -math.inf else f"{'above' if option.open_low else 'at least'} {option.low:g}"
    high = "" if option.high == math.inf else f"{'below' if option.open_high else 'at most'} {option.high:g}"
    bounds = " and ".join(filter(None, (low, high)))
    return " ".join(filter(None, ("number", bounds, "or infinite" if option.infinite else "")))


def _facts(op: Op) -> str:
    """Where the op runs, and what is known of its gradient."""
    backends = ", ".join(f"`{name}`" for name in _BACKENDS if (_KERNELS / name / f"{op.module}.py").is_file())
    return f"Backends: {backends}. {_gradient(op)}"


def _gradient(op: Op) -> str:
    backward = TABLE.get(f"{op.name}_backward")
    if not differentiation.has_derivative(op.name):
        return "`fastnn.gradients` does not follow it."
    return "`fastnn.gradients` follows it" + (f" by {_link(backward)}." if backward else ".")


def _costs(op: Op) -> str:
    """Arithmetic and memory of one call in float32, of each size that the benchmarks time."""
    rows = [(_sizes(each), _amount(op.work(each), "FLOP"), _amount(op.bytes(each, 4), "B")) for each in op.bench]
    return text.table(("Sizes that `fastnn bench` times", "Arithmetic", "Memory moved, at least"), rows)


def _sizes(sizes: Sizes) -> str:
    return text.escaped(", ".join(f"{name} = {value}" for name, value in sizes.items()))


def _amount(number: float | None, unit: str) -> str:
    if number is None:
        return "few"
    power = min(3, int(math.log10(number)) // 3) if number >= 1 else 0
    return f"{number / 1000**power:.3g} {('', 'k', 'M', 'G')[power]}{unit}"


def _made_of_ops() -> str:
    """The functions of ``fastnn.ops`` that are no rows of the table."""
    names = [name for name in vars(ops)["__all__"] if name not in TABLE]
    parts = []
    for name in names:
        function = getattr(ops, name)
        parts += [f"## {name}", text.signature(f"ops.{name}", function), text.docstring(inspect.getdoc(function) or "")]
    return text.page(
        "# Made of ops",
        f"Functions of `fastnn.ops` beside those of the table: {text.first_sentence(numerics.__doc__ or '')}",
        *parts,
    )
