"""Objects that users name by a string, a class or a config, and that a model file holds as JSON."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Self, TypeVar

from fastnn import checks
from fastnn.kernels.contexts import setting

Made = TypeVar("Made", bound="Configurable")


class Configurable:
    """An object that can be made again from its config."""

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        raise NotImplementedError(f"{type(self).__name__} has no get_config, so it cannot be written to a file")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The object whose ``get_config`` gave ``config``."""
        return cls(**config)


# Classes of the user's that a file may name, in the current context (thread or task) and at all times.
_custom: ContextVar[Mapping[str, type[Any]]] = ContextVar("fastnn_custom", default=MappingProxyType({}))
_registered: dict[str, type[Any]] = {}
_packages: dict[str, str] = {}


def custom_objects() -> Mapping[str, type[Any]]:
    """The user's classes that a file may name, by what it calls them."""
    return {**_registered, **_custom.get()}


def custom_object_scope(custom_objects: Mapping[str, type[Any]]) -> AbstractContextManager[None]:
    """``with`` this, files may name these classes of the user's, as ``save`` and ``load_model`` find them."""
    checks.instance("custom_objects", custom_objects, Mapping, "a mapping of names to classes")
    return setting(_custom, {**_custom.get(), **custom_objects})


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable[[Any], Any]:
    """Decorate a class of the user's, a layer say, that files may name from then on; ``package`` is Keras's."""

    def register(cls: type[Any]) -> type[Any]:
        _registered[name or cls.__name__] = cls
        _packages[name or cls.__name__] = package
        return cls

    return register


def registered_name(name: str) -> str:
    """What Keras calls a class of the user's that it was told of in the same way."""
    return f"{_packages[name]}>{name}" if name in _packages else name


def arguments(cls: type[Any]) -> dict[str, inspect.Parameter]:
    """What a class is made of, by name: its own arguments, and those that ``**options`` hands on to its bases."""
    found = dict(inspect.signature(cls).parameters)
    for base in cls.__mro__[1:-1]:
        if all(each.kind is not each.VAR_KEYWORD for each in found.values()):
            break
        own = {name: each for name, each in found.items() if each.kind is not each.VAR_KEYWORD}
        others = {name: each for name, each in inspect.signature(base).parameters.items() if name not in own}
        found = {**own, **{name: _by_name(each) for name, each in others.items()}}
    return {name: each for name, each in found.items() if each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}}


def _by_name(parameter: inspect.Parameter) -> inspect.Parameter:
    named = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    return parameter.replace(kind=parameter.KEYWORD_ONLY) if named else parameter


def unknown_argument(kind: type, argument: str, older: Mapping[str, str] = MappingProxyType({})) -> TypeError:
    """What to raise where a class is given an argument that neither it nor its bases have.

    ``older`` are names that arguments had elsewhere.
    """
    names = [*arguments(kind)]
    near = get_close_matches(argument, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    wanted = older.get(argument, f"one of {', '.join(names)}{hint}")
    return TypeError(f"{argument}: got an argument that {kind.__name__} does not have, wants {wanted}")


def undefined(of: object, wanted: str) -> NotImplementedError:
    """The error of a method that a base class leaves to others; ``wanted`` is what they define it as."""
    return NotImplementedError(f"{type(of).__name__}: wants a method {wanted}")


def aliases(classes: Iterable[type[Made]], **extra: type[Made]) -> dict[str, type[Made]]:
    """Every string that names one of ``classes``: the class name, its snake form, and the ``extra`` ones."""
    table = dict(extra)
    for cls in classes:
        table[cls.__name__] = cls
        table[snake_case(cls.__name__)] = cls
    return table


def snake_case(name: str) -> str:
    """``GlorotUniform`` as ``glorot_uniform``, ``TopKAccuracy`` as ``top_k_accuracy``, ``R2Score`` as ``r2_score``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])", "_", name).lower()


def find(argument: str, identifier: Any, base: type[Made], names: Mapping[str, type[Made]]) -> Made:
    """The object that ``identifier`` means: an instance, a class, a name out of ``names``, or a serialized config.

    TypeError for anything else, ValueError with the nearest match for an unknown name.
    """
    if isinstance(identifier, base):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, base):
        return identifier()
    if isinstance(identifier, Mapping):
        return deserialize(argument, identifier, names)
    if isinstance(identifier, str):
        return names[checks.one_of(argument, identifier, names)]()
    raise TypeError(
        f"{argument}: got {checks.describe(identifier)}, wants a name ({_examples(names)}) or a {base.__name__} object"
    )


def serialize(value: Configurable | None, names: Mapping[str, type[Any]]) -> dict[str, Any] | None:
    """``value`` as JSON can hold it; ValueError for an object of a class that a file could not name."""
    if value is None:
        return None
    kind = type(value).__name__
    if (names.get(kind) or custom_objects().get(kind)) is not getattr(value, "written_as", type(value)):
        raise ValueError(f"got an object of the class {kind}, wants one of fastnn's own ({_examples(names)})")
    return {"class_name": kind, "config": value.get_config()}


def deserialize(argument: str, document: Mapping[str, Any], names: Mapping[str, type[Made]]) -> Made:
    """The object that ``serialize`` wrote as ``document``."""
    shaped = isinstance(document, Mapping) and set(document) == {"class_name", "config"}
    if not shaped or not isinstance(document["config"], Mapping):
        raise ValueError(f"{argument}: got {checks.describe(document)}, wants a mapping with 'class_name' and 'config'")
    name = document["config"].get("name")
    if not isinstance(name, str | None):
        raise TypeError(f"{argument}: got the name {checks.describe(name)}, wants a string")
    known = {**custom_objects(), **names}
    make = known[checks.one_of(argument, document["class_name"], known)]
    with by_user() if make not in names.values() else nullcontext():
        made: Made = make.from_config(document["config"])
    return made


# Whether a class of the user's is making what it is made of, in the current context.
_by_user: ContextVar[bool] = ContextVar("fastnn_by_user", default=False)


def by_user() -> AbstractContextManager[None]:
    """``with`` this, what is made is made by a class of the user's, which names it as it likes."""
    return setting(_by_user, True)


def is_by_user() -> bool:
    """Whether it is."""
    return _by_user.get()


def _examples(names: Mapping[str, type[Any]]) -> str:
    kinds = {cls.__name__ if cls.__name__ in names else name for name, cls in names.items()}
    return ", ".join(sorted(kinds))
