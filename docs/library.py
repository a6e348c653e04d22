"""The pages of everything public beside the ops: each name of each module, how it is called, and its docstring."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from types import ModuleType
from typing import Any

import fastnn
from docs import text

FOLDER = "library"

# Modules named as the library that they are for, without which they have nothing to show.
_GUESTS = ("torch", "thinc")

# Modules in the order of the site; all that their ``__all__`` lists is public.
MODULES = (
    "models",
    "layers",
    "activations",
    "losses",
    "metrics",
    "optimizers",
    "optimizers.schedules",
    "callbacks",
    "initializers",
    "random",
    "regularizers",
    "constraints",
    "datasets",
    "utils",
    "plotting",
    "sklearn",
    *(name for name in _GUESTS if importlib.util.find_spec(name) is not None),
)


def pages() -> dict[str, str]:
    """The text of each page by its path."""
    made = {f"{FOLDER}/{module}.md": _module(module) for module in MODULES}
    return {f"{FOLDER}/index.md": _top(), **made}


def _top() -> str:
    """What the package itself offers."""
    names = [name for name in fastnn.__all__ if callable(getattr(fastnn, name))]
    rows = [(f"[`fastnn.{module}`]({module}.md)", _about(module)) for module in MODULES]
    rows.append(("[`fastnn.ops`](../ops/index.md)", "The functional API."))
    return text.page(
        "# fastnn", text.table(("Module", ""), rows), *(_entry("fastnn", name, getattr(fastnn, name)) for name in names)
    )


def _about(module: str) -> str:
    return text.first_sentence(importlib.import_module(f"fastnn.{module}").__doc__ or "")


def _module(name: str) -> str:
    module = importlib.import_module(f"fastnn.{name}")
    first: dict[int, str] = {}
    parts = []
    for entry in module.__all__:
        value = getattr(module, entry)
        if isinstance(value, ModuleType):
            parts.append(_submodule(f"{name}.{entry}", value))
        elif callable(value):
            before = first.setdefault(id(value), entry)
            parts.append(_entry(name, entry, value) if before == entry else f"## {entry}\n\nAlso `{before}`.")
    return text.page(f"# fastnn.{name}", text.docstring(module.__doc__ or ""), *parts)


def _submodule(name: str, module: ModuleType) -> str:
    """A module within one: its functions, as of a data set; or where it has a page of its own."""
    title = f"## {name.rpartition('.')[2]}"
    if name in MODULES:
        return text.page(title, f"[`fastnn.{name}`]({name}.md)").rstrip()
    own = [each for each in vars(module).items() if inspect.isfunction(each[1]) and not each[0].startswith("_")]
    shown = [part for each, value in own if value.__doc__ for part in _described(f"{name}.{each}", value)]
    return text.page(title, text.docstring(module.__doc__ or ""), *shown).rstrip()


def _entry(module: str, name: str, value: Any) -> str:
    return text.page(f"## {name}", *_described(name, value), *_methods(name, value)).rstrip()


def _described(name: str, value: Any) -> list[str]:
    return [text.signature(name, value), text.docstring(inspect.getdoc(value) or "")]


def _methods(name: str, value: Any) -> list[str]:
    """Those that a class of models, layers and the like defines itself, where they say what they do."""
    if not inspect.isclass(value):
        return []
    own = [(each, method) for each, method in vars(value).items() if inspect.isfunction(method)]
    parts = []
    for each, method in own:
        if not each.startswith("_") and method.__doc__:
            parts += [f"### {name}.{each}", *_described(each, method)]
    return parts
