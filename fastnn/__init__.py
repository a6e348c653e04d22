"""fastnn: compiled tensor kernels for training neural networks, behind one API, with a Keras-shaped trainer.

``fastnn.ops`` is the functional API, ``fastnn.models``, ``layers``, ``losses``, ``optimizers``, ``callbacks`` and
``datasets`` are the trainer under Keras's names. Submodules load on first use; importing fastnn loads neither Numba nor
CuPy.
"""

from __future__ import annotations

import importlib
import os.path
import sys
from typing import Any

__version__ = "0.2.0"

# In a checkout kernels/ lies beside this folder, not inside it: Python started there finds it all the same.
if not os.path.isdir(os.path.join(__path__[0], "kernels")):
    __path__.append(os.path.dirname(__path__[0]))

_SUBMODULES = (
    "activations",
    "backends",
    "callbacks",
    "constraints",
    "datasets",
    "errors",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "neuralnets",
    "onnx",
    "ops",
    "optimizers",
    "random",
    "regularizers",
    "sklearn",
    "thinc",
    "torch",
    "utils",
)

# Names that live one level down and are used from the top: name -> submodule.
_NAMES = {
    "available_backends": "backends",
    "set_backend": "backends",
    "use_backend": "backends",
    "get_precision": "backends",
    "set_precision": "backends",
    "use_precision": "backends",
    "get_num_threads": "backends",
    "set_num_threads": "backends",
    "warmup": "backends",
    "gradients": "differentiation",
    "minimize": "minimization",
    "program": "programs",
    "Input": "layers",
    "neuralnet": "neuralnets",
    "Model": "models",
    "Sequential": "models",
    "load_model": "models",
    "from_onnx": "onnx",
    "to_onnx": "onnx",
}

__all__ = ["__version__", *_SUBMODULES, *_NAMES]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"fastnn.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(f"fastnn.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise importlib.import_module("fastnn.absent").error(__name__, name, sys._getframe(1))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
