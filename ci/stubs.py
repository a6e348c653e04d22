"""Write ``fastnn/ops.pyi``: the signatures of the table's ops for editors and type checkers.

    python -m ci.stubs            print it
    python -m ci.stubs --write    write it

The functions of ``fastnn.ops`` are made from ``kernels/table`` when it is imported; a test compares the file with
this module's output, so it cannot fall behind the table.
"""

from __future__ import annotations

import argparse
import builtins
import inspect
import math
from pathlib import Path
from types import ModuleType

from fastnn import control, discrete, mathematics, numerics, places, spatial
from fastnn.kernels.table import TABLE, Choice, Flag, Integer, Integers, Op, Option, Padding, Real, Subset

STUB = Path(__file__).parents[1] / "fastnn" / "ops.pyi"

_HEADER = '''\
"""The functional API; written by ``python -m ci.stubs --write`` from ``kernels/table``, not by hand."""

from collections.abc import Callable, Sequence
from typing import Any

Array = Any  # numpy.ndarray or cupy.ndarray, float32 or float64

'''


_PACK = '''\
def pack(
    w: Array,
) -> Any:
    """Weights laid out as the kernels read them fastest, to stand for ``w`` in ``linear`` and ``b`` in ``matmul``."""

def unpack(
    packed: Any,
) -> Array:
    """Packed weights as a new array."""
'''


_TYPES: dict[type[Option], str] = {
    Choice: "str",
    Real: "float",
    Integer: "int",
    Integers: "int | Sequence[int]",
    Padding: "str | int | Sequence[int] | Sequence[Sequence[int]]",
    Flag: "bool",
    Subset: "Sequence[str]",
}


def _parameter(op: Op, parameter: inspect.Parameter) -> str:
    name = parameter.name
    if name in op.options:
        kind = _TYPES[type(op.options[name])]
    else:
        kind = "Array | Sequence[Array]" if op.lists else "Array"
        kind += " | None" if parameter.default is None else ""
    default = "" if parameter.default is inspect.Parameter.empty else f" = {_literal(parameter.default)}"
    return f"{name}: {kind}{default}"


def _literal(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' * (len(value) == 1)})"
    return 'float("inf")' if value == math.inf else repr(value)


def _result(op: Op) -> str:
    some = any(isinstance(option, Subset) for option in op.options.values())
    kinds = [("Any" if some else "Array") if spec else "float" for spec in op.returns]
    if not kinds:
        return "None"
    return kinds[0] if len(kinds) == 1 else f"tuple[{', '.join(kinds)}]"


def _stub(op: Op) -> str:
    parameters = []
    for parameter in op.signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        parameters.append(_parameter(op, parameter))
    lines = "".join(f"    {parameter},\n" for parameter in parameters)
    doc = op.doc.replace("\n", "\n    ").replace("\n    \n", "\n\n")
    closing = f'"""{doc}\n    """' if "\n" in doc else f'"""{doc}"""'
    return f"def {op.name}(\n{lines}) -> {_result(op)}:\n    {closing}\n"


_SHADOWS = "  # noqa: A001 - Keras's name"


def _line(parameter: inspect.Parameter) -> str:
    shadows = "  # noqa: A002 - Keras's name" if hasattr(builtins, parameter.name) else ""
    return f"    {_unquoted(parameter)},{shadows}\n"


def _unquoted(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is inspect.Parameter.empty else f" = {_literal(parameter.default)}"
    stars = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else ""
    return f"{stars}{parameter.name}: {parameter.annotation}{default}"


def _of_function(module: ModuleType, name: str) -> str:
    """One of the functions that are made of ops: its head, and the first line of its docstring."""
    function = getattr(module, name)
    parameters = inspect.signature(function).parameters.values()
    lines = "".join(map(_line, parameters))
    kind, doc = function.__annotations__["return"], inspect.cleandoc(function.__doc__).splitlines()[0]
    head = f"def {name}("
    return f'{head}{_SHADOWS if hasattr(builtins, name) else ""}\n{lines}) -> {kind}:\n    """{doc}"""\n'


def stubs() -> str:
    """The text of ``fastnn/ops.pyi``."""
    modules = (numerics, discrete, places, mathematics, spatial, control)
    made = (_of_function(module, name) for module in modules for name in module.NAMES)
    return _HEADER + "\n".join([*(_stub(op) for name, op in TABLE.items() if name not in numerics.NAMES), _PACK, *made])


def main() -> None:
    """Print or write the stub file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {STUB.name} instead of printing it")
    if parser.parse_args().write:
        STUB.write_text(stubs(), encoding="utf-8")
    else:
        print(stubs(), end="")


if __name__ == "__main__":
    main()
