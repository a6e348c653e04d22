"""Choices of the current context (a thread or task): made for a ``with`` block, as its ``ContextVar`` holds them."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")


class setting(Generic[T]):  # noqa: N801 - reads as what it is in a `with` statement
    """``with setting(variable, value)``: the value of a context's variable inside the block; None leaves it as it is.

    No generator: one that an interrupt leaves behind would be closed at any time, in any context.
    """

    def __init__(self, variable: ContextVar[T], value: T | None) -> None:
        self._variable, self._value = variable, value

    def __enter__(self) -> None:
        variable, value = self._variable, self._value
        self._token = variable.set(variable.get() if value is None else value)

    def __exit__(self, *_: object) -> None:
        self._variable.reset(self._token)
