"""Optimizers, under Keras's names, arguments, defaults and formulas; each step is one fused op a parameter.

``base`` holds what all share, ``rules`` the optimizers themselves, ``schedules`` gives learning rates by the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastnn import absent, checks, configurable
from fastnn.configurable import find
from fastnn.optimizers import schedules
from fastnn.optimizers.base import Optimizer
from fastnn.optimizers.rules import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Ftrl, Lion, Nadam, RMSprop, Rprop

NAMES: dict[str, type[Optimizer]] = {
    cls.__name__: cls for cls in (SGD, RMSprop, Adam, AdamW, Adagrad, Adadelta, Adamax, Nadam, Lion, Ftrl, Rprop)
}


def get(identifier: Any, argument: str = "optimizer") -> Optimizer:
    """The optimizer that ``identifier`` means: a name in any case, a class, an object or a config."""
    if isinstance(identifier, str):
        names = {name.lower(): name for name in NAMES}
        identifier = names[checks.one_of(argument, identifier.lower(), names)]
    return find(argument, identifier, Optimizer, NAMES)


def serialize(optimizer: Optimizer) -> dict[str, Any] | None:
    """An optimizer as JSON can hold it, without its state; ValueError for one of the user's own."""
    return configurable.serialize(optimizer, NAMES)


def deserialize(config: Mapping[str, Any]) -> Optimizer:
    """The optimizer that ``serialize`` wrote as ``config``."""
    return configurable.deserialize("config", config, NAMES)


__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lion",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "Rprop",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]
absent.explain(__name__)
