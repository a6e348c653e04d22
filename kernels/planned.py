"""Ops that look at what their arrays are like once for all calls alike, on every backend that compiles kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any


class Planned:
    """An op that looks first at what its arrays are like (dtypes, shapes, strides, flags), then at the arrays.

    Made of the function that does the former: ``plan(*arguments)`` returns what runs calls with arguments like these.
    """

    def __init__(self, plan: Callable[..., Callable[..., Any]]) -> None:
        self.plan = plan
        update_wrapper(self, plan)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """One call: plan it, run it."""
        return self.plan(*args, **kwargs)(*args, **kwargs)
