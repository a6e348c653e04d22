"""thinc's layers over fastnn's kernels: ``FastnnOps``, which ``use_ops("fastnn")`` finds, and optimizers to go with it.

Installed beside thinc, both are found by name without an import of this package; where thinc is not installed it still
imports, and its names say what is missing.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from fastnn import absent
from fastnn.errors import installing

__all__ = ["SGD", "Adam", "FastnnOps", "Optimizer"]

if importlib.util.find_spec("thinc") is not None:
    from fastnn.thinc.ops import FastnnOps
    from fastnn.thinc.optimizers import SGD, Adam, Optimizer


def __getattr__(name: str) -> Any:
    if name in __all__:
        raise ImportError(f"fastnn.thinc.{name} needs thinc, which is not installed: {installing('thinc')}")
    raise absent.error(__name__, name, sys._getframe(1))
