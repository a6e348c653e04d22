"""Inside PyTorch: fastnn's kernels as functions of tensors, in a model's layers, in optimizers.

``accelerate(model, loss, optimizer)`` lets a model that is there run on them, ``restore`` undoes that. ``optim`` has
PyTorch's optimizers, which step all parameters in one call. ``linear``, ``conv2d``, activations, pooling and losses are
functions like those of ``torch.nn.functional``, whose gradients autograd asks for.

Tensors are read and written where they lie, on the CPU and, through CuPy, on CUDA devices, in float32 and float64.
There are first derivatives only. What runs on the CPU runs on PyTorch's threads (``torch.set_num_threads``) where they
are GNU's OpenMP's, else on fastnn's.

All loads on first use: importing this package does not import PyTorch.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from fastnn import absent
from fastnn.errors import installing
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS, TABLE

# The table's functions of one number and its losses become functions of tensors.
ACTIVATIONS = tuple(name for name in ELEMENTWISE_ACTIVATIONS.values() if name != "identity")
LOSSES = tuple(name for name, op in TABLE.items() if op.module == "losses" and "sample_weight" in op.operands)

# Public names that are others' too: name -> module.
_NAMES = dict.fromkeys(
    ("avg_pool2d", "conv2d", "linear", "log_softmax", "max_pool2d", "softmax", "softmax_cross_entropy"), "functions"
) | dict.fromkeys((*ACTIVATIONS, *LOSSES), "functions")
_NAMES |= dict.fromkeys(("Report", "accelerate", "restore"), "acceleration")
_MODULES = ("functions", "modules", "optim")

__all__ = sorted({*_NAMES, *_MODULES})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise absent.error(__name__, name, sys._getframe(1))
    try:
        module = importlib.import_module(f"{__name__}.{_NAMES.get(name, name)}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(f"fastnn.torch needs PyTorch, which is not installed: {installing('peers')}") from None
    value = module if name in _MODULES else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
