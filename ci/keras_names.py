"""Keras's public names beside ours: which are here, and which of their arguments differ.

    python -m ci.keras_names             a table of all names, by module
    python -m ci.keras_names --missing   only what is lacking or differs

Needs Keras (extra ``peers``). Both libraries' names and signatures are read from the libraries themselves.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
from collections.abc import Callable, Iterator
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
_REQUIRED = inspect.Parameter.empty


class Row(NamedTuple):
    """A name of Keras's, ours or None, and the arguments that differ, each with what differs."""

    keras: str
    ours: str | None
    differing: tuple[str, ...] = ()


def rows() -> list[Row]:
    """All public names of ``MODULES``, in the order of modules and names."""
    return [row for module in MODULES for row in _of_module(module)]


def _of_module(name: str) -> Iterator[Row]:
    theirs, ours = _keras(name), importlib.import_module(f"fastnn.{name}")
    for each in _public(theirs):
        full = f"{name}.{each}"
        if each in ours.__all__:
            yield Row(f"keras.{full}", f"fastnn.{full}", differing(getattr(theirs, each), getattr(ours, each)))
        else:
            yield Row(f"keras.{full}", None)


def _keras(name: str) -> ModuleType:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return importlib.import_module(f"keras.{name}")


def _public(module: ModuleType) -> list[str]:
    """The public names of a module; submodules count where they are what is looked for, the data sets."""
    sought = module.__name__ == "keras.datasets"
    names = (name for name in dir(module) if not name.startswith("_"))
    return [name for name in names if sought or not inspect.ismodule(getattr(module, name))]


def differing(theirs: Any, ours: Any) -> tuple[str, ...]:
    """Arguments of ``theirs`` that ``ours`` lacks, or has by another name or default, in their order."""
    if not callable(theirs):
        return ()
    wanted = {name: each for name, each in _own(theirs).items() if name not in _MACHINERY}
    given = configurable.arguments(ours) if inspect.isclass(ours) else _own(ours)
    own = iter([name for name in _own(ours) if name not in wanted and given[name].default is _REQUIRED])
    found = []
    for name, parameter in wanted.items():
        if name not in given and parameter.default is _REQUIRED and (instead := next(own, None)):
            found.append(f"{name}: {instead}")
        elif name not in given:
            found.append(f"{name}: lacking")
        elif name != "name" and _text(parameter.default) != _text(given[name].default):
            found.append(f"{name}: {_text(given[name].default)} for {_text(parameter.default)}")
    return (*found, *(f"{name}: required here" for name in own))


def _own(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a function takes by name, a class without what it hands on to its bases."""
    parameters = inspect.signature(function).parameters
    return {name: each for name, each in parameters.items() if each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}}


def _text(default: Any) -> str:
    """A default as one compares it: a pair of equal numbers like one of them, an object by its class."""
    if default is _REQUIRED:
        return "required"
    if isinstance(default, (list, tuple)):
        return _text(default[0]) if len(set(default)) == 1 else f"({', '.join(map(_text, default))})"
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        return f"{default:g}"
    return repr(default) if isinstance(default, (str, bool, type(None))) else type(default).__name__


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--missing", action="store_true", help="only names that are lacking, or whose arguments differ")
    missing = parser.parse_args().missing
    for row in rows():
        if not missing or row.ours is None or row.differing:
            print(row.keras, "-" if row.ours is None else "; ".join(row.differing) or "as it is", sep="\t")


if __name__ == "__main__":
    main()
