"""The other side of each comparison, each in its own idiom: what a user would write without fastnn.

``DENSE`` and ``SPARSE`` say which class of which module trains a network for a contender, on inputs of either kind.
"""

from __future__ import annotations

import importlib
from typing import Any

from bench.suite import JAX, KERAS, KERAS_XLA, NUMPY, PYTORCH, SKLEARN

DENSE = {
    NUMPY: "numpy_mlp.NumpyMLP",
    PYTORCH: "pytorch_mlp.PyTorchMLP",
    JAX: "jax_mlp.JaxMLP",
    KERAS: "keras_mlp.KerasMLP",
    KERAS_XLA: "keras_mlp.KerasXlaMLP",
    SKLEARN: "sklearn_mlp.SklearnMLP",
}
SPARSE = {**DENSE, PYTORCH: "pytorch_bag_mlp.PyTorchBagMLP", SKLEARN: "sklearn_mlp.SklearnCsrMLP"}


def load(path: str) -> Any:
    """The class that ``path`` names here, as in numpy_mlp.NumpyMLP: its package is imported now."""
    module, _, name = path.partition(".")
    return getattr(importlib.import_module(f"bench.peers.{module}"), name)
