"""Keras's public names beside ours: which are here, and which of their arguments differ.

    python -m ci.keras_names             a table of all names, by module
    python -m ci.keras_names --missing   only what is lacking or differs
    python -m ci.keras_names --write     keras_names.jsonl anew, from the Keras that is installed (extra ``peers``)

Our names and signatures are read from the library itself, Keras's from ``keras_names.jsonl``, so that no Keras is
needed. A test compares that file with Keras where it is installed.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from fastnn import configurable

MODULES = (
    "activations",
    "callbacks",
    "constraints",
    "datasets",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "optimizers.schedules",
    "regularizers",
    "utils",
)

# What only Keras's own machinery gives and takes: its backends, policies, adapters, kinds of tensors.
_MACHINERY = {
    "autocast",
    "batch_shape",
    "custom_objects",
    "data_format",
    "dtype_policy",
    "lora_alpha",
    "lora_rank",
    "optional",
    "quantization_config",
    "ragged",
    "sparse",
    "use_cudnn",
}
_REQUIRED = "required"

LISTING = Path(__file__).with_name("keras_names.jsonl")

# Arguments and their defaults, as one compares them; None for what is not called.
Arguments = dict[str, str] | None


class Row(NamedTuple):
    """A name of Keras's, ours or None, and the arguments that differ, each with what differs."""

    keras: str
    ours: str | None
    differing: tuple[str, ...] = ()


def rows() -> list[Row]:
    """All public names of ``MODULES`` in Keras as it was listed, in the order of modules and names."""
    return [_row(name, arguments) for name, arguments in saved().items()]


def _row(name: str, arguments: Arguments) -> Row:
    ours, _, last = name.replace("keras", "fastnn", 1).rpartition(".")
    module = importlib.import_module(ours)
    if last not in module.__all__:
        return Row(name, None)
    return Row(name, f"{ours}.{last}", differing(arguments, getattr(module, last)))


def saved() -> dict[str, Arguments]:
    """What ``LISTING`` says: the arguments of each of Keras's names."""
    lines = [json.loads(line) for line in LISTING.read_text(encoding="utf-8").splitlines()]
    return {line["name"]: line["arguments"] for line in lines[1:]}


def saved_version() -> str:
    """Of which Keras ``LISTING`` is."""
    with LISTING.open(encoding="utf-8") as file:
        return str(json.loads(file.readline())["keras"])


def listed() -> dict[str, Arguments]:
    """The same of the Keras that is installed."""
    return {name: arguments for module in MODULES for name, arguments in _of_module(module)}


def _of_module(name: str) -> Iterator[tuple[str, Arguments]]:
    module = _keras(name)
    for each in _public(module):
        value = getattr(module, each)
        yield f"keras.{name}.{each}", arguments(value) if callable(value) else None


def arguments(theirs: Callable[..., Any]) -> dict[str, str]:
    """The arguments of one of Keras's names, without those of its machinery, and their defaults in words."""
    return {name: _text(each.default) for name, each in _own(theirs).items() if name not in _MACHINERY}


def _keras(name: str) -> ModuleType:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return importlib.import_module(f"keras.{name}")


def _public(module: ModuleType) -> list[str]:
    """The public names of a module; submodules count where they are what is looked for, the data sets."""
    sought = module.__name__ == "keras.datasets"
    names = (name for name in dir(module) if not name.startswith("_"))
    return [name for name in names if sought or not inspect.ismodule(getattr(module, name))]


def differing(wanted: Mapping[str, str] | None, ours: Any) -> tuple[str, ...]:
    """Arguments of Keras's that ``ours`` lacks, or has by another name or default, in their order."""
    if wanted is None:
        return ()
    has = configurable.arguments(ours) if inspect.isclass(ours) else _own(ours)
    given = {name: _text(each.default) for name, each in has.items()}
    own = iter([name for name in _own(ours) if name not in wanted and given[name] == _REQUIRED])
    found = []
    for name, default in wanted.items():
        if name not in given and default == _REQUIRED and (instead := next(own, None)):
            found.append(f"{name}: {instead}")
        elif name not in given:
            found.append(f"{name}: lacking")
        elif name != "name" and default != given[name]:
            found.append(f"{name}: {given[name]} for {default}")
    return (*found, *(f"{name}: required here" for name in own))


def _own(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a function takes by name, a class without what it hands on to its bases."""
    parameters = inspect.signature(function).parameters
    return {name: each for name, each in parameters.items() if each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}}


def _text(default: Any) -> str:
    """A default as one compares it: a pair of equal numbers like one of them, an object by its class."""
    if default is inspect.Parameter.empty:
        return _REQUIRED
    if isinstance(default, (list, tuple)):
        return _text(default[0]) if len(set(default)) == 1 else f"({', '.join(map(_text, default))})"
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        return f"{default:g}"
    return repr(default) if isinstance(default, (str, bool, type(None))) else type(default).__name__


def _write() -> None:
    import keras

    lines = [{"keras": keras.__version__}, *({"name": name, "arguments": each} for name, each in listed().items())]
    LISTING.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def main() -> None:
    """Print the table, or write Keras's part of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--missing", action="store_true", help="only names that are lacking, or whose arguments differ")
    parser.add_argument("--write", action="store_true", help=f"write {LISTING.name}, of the Keras that is installed")
    options = parser.parse_args()
    if options.write:
        _write()
        return
    for row in rows():
        if not options.missing or row.ours is None or row.differing:
            print(row.keras, "-" if row.ours is None else "; ".join(row.differing) or "as it is", sep="\t")


if __name__ == "__main__":
    main()
