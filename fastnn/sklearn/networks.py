"""Coefficients and activations as a network of the engine's: trained in batches, as a function of all weights, asked.

Weights are the estimator's own arrays, which training writes to. Penalties follow scikit-learn's rule, alpha / 2 times
the sum of squares by the number of a batch's samples or the sum of their weights, on coefficients alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fastnn import activations, backends, ops
from fastnn.engine import Batch, DataSet, DeviceRunner, LayerwiseRunner, Runner, input_source, make_plan, make_runner
from fastnn.engine import Network as EngineNetwork
from fastnn.engine.data import is_sparse
from fastnn.engine.inputs import csr_of
from fastnn.engine.protocols import Array
from fastnn.errors import DivergenceError
from fastnn.layers import Dense, Dropout
from fastnn.losses.base import Loss
from fastnn.optimizers import Optimizer
from fastnn.regularizers import L2
from fastnn.sklearn.objectives import beyond

# scikit-learn's names of activations that have another one here.
NAMES = {"identity": "linear", "logistic": "sigmoid", "exp": "exponential"}

# Samples from which prediction packs the weights first, and those that are asked for at a time.
_PACKED_FROM, _AT_ONCE = 256, 4096


def activation_of(name: Any) -> Any:
    """The activation that a name, scikit-learn's or fastnn's, or a function means."""
    return activations.get(NAMES.get(name, name) if isinstance(name, str) else name)


@dataclass
class Weights:
    """Coefficients (inputs, units) and intercepts (units,) by layer, and behind each layer its activation."""

    coefs: Sequence[Array]
    intercepts: Sequence[Array]
    activations: Sequence[Any]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their dtype."""
        dtype: np.dtype[Any] = self.coefs[0].dtype
        return dtype

    def layers(self, alpha: float = 0.0, dropout: Sequence[float] = (), seed: int = 0) -> list[Any]:
        """Dense layers of these very arrays, with penalties; behind hidden ones dropout of these rates."""
        made: list[Any] = []
        penalty = L2(alpha / 2) if alpha else None
        for place, (coef, intercept) in enumerate(zip(self.coefs, self.intercepts, strict=True)):
            layer = Dense(
                coef.shape[1],
                activation_of(self.activations[place]),
                kernel_regularizer=penalty,
                dtype=str(self.dtype),
                name=f"layer_{place}",
            )
            layer.build((None, coef.shape[0]), [coef, intercept])
            made.append(layer)
            if place < len(dropout) and dropout[place]:
                dropped = Dropout(dropout[place], seed=seed + place, name=f"dropout_{place}")
                dropped.build((None, coef.shape[1]))
                made.append(dropped)
        return made


class Outputs:
    """The forward pass of weights."""

    def __init__(self, weights: Weights, backend: str = "auto") -> None:
        self._weights, self._backend = weights, backend

    def __call__(self, x: Any) -> Array:
        """Outputs (n, outputs) of rows, an array or a CSR matrix, whose zeros are skipped."""
        backend, dtype = backends.resolve(self._backend), self._weights.dtype
        if backend == "cpu" and x.shape[0] < _PACKED_FROM:
            return self._by_ops(x)
        source, network = input_source("X", x, dtype), EngineNetwork(self._weights.layers(), dtype)
        runner = make_runner(network, make_plan(network, backend, source, _AT_ONCE))
        outputs: Array = runner.predict(source, _AT_ONCE)
        return outputs

    def _by_ops(self, x: Any) -> Array:
        """The same, a layer at a time: what a few samples take the least time by."""
        weights, dtype = self._weights, self._weights.dtype
        h = _csr(input_source("X", x, dtype)) if is_sparse(x) else np.ascontiguousarray(x, dtype)
        with backends.use_backend("cpu"):
            for coef, intercept, name in zip(weights.coefs, weights.intercepts, weights.activations, strict=True):
                activation = activation_of(name)
                fused = activation.in_linear
                h = ops.linear(h, coef, intercept, activation.name if fused else "linear")
                h = h if fused else activation(h)
        return h


def _csr(source: Any) -> Any:
    """The CSR matrix of a sparse source, in the model's dtype."""
    from scipy.sparse import csr_matrix

    indptr, indices, values = csr_of(source, np.int64)
    return csr_matrix((values, indices, indptr), shape=source.matrix.shape, copy=False)


class Training:
    """Weights that are trained in batches on the same samples, epoch after epoch: data are prepared once."""

    def __init__(
        self,
        layers: Sequence[Any],
        loss: Loss,
        optimizer: Optimizer,
        data: tuple[Any, Array, Array | None],
        batch_size: int,
        backend: str = "auto",
        precision: str | None = None,
    ) -> None:
        x, y, sample_weight = data
        dtype = layers[0].parameters[0].dtype
        source = input_source("X", x, dtype)
        weights = None if sample_weight is None else np.ascontiguousarray(sample_weight, dtype)
        kind = np.int64 if loss.integer_targets else dtype
        self._data, self._batch_size = DataSet(source, y, weights, kind, weight_dtype=dtype), batch_size
        self._parameters = [parameter for layer in layers for parameter in layer.parameters]
        network = EngineNetwork(layers, dtype, loss, optimizer, precision=precision, averaged_penalties=True)
        self._runner: Runner = make_runner(network, make_plan(network, backend, source, batch_size))
        self._epoch = 0

    def staying(self) -> AbstractContextManager[None]:
        """For a ``with`` block of epochs between which nobody looks at the weights."""
        return self._runner.staying()

    def epoch(self, order: Array) -> float:
        """Train on every batch once, in ``order``; the loss with penalties, batches counting by their samples.

        One that diverges leaves no numbers: the loss and all weights are NaN, as scikit-learn's are.
        """
        try:
            logs = self._runner.train_epoch(self._data, self._batch_size, order, self._epoch)
        except DivergenceError:
            for parameter in self._parameters:
                parameter.value[...] = math.nan
            return math.nan
        self._epoch += 1
        return float(logs["loss"])


class Objective:
    """The loss of all samples, with penalties, and its gradient, as functions of all weights in one vector."""

    def __init__(
        self, layers: Sequence[Any], loss: Loss, data: tuple[Any, Array, Array | None], backend: str = "auto"
    ) -> None:
        x, y, sample_weight = data
        dtype = layers[0].parameters[0].dtype
        source = input_source("X", x, dtype)
        weights = None if sample_weight is None else np.ascontiguousarray(sample_weight, dtype)
        network = EngineNetwork(layers, dtype, loss, averaged_penalties=True)
        self._chosen, self._loss, self._y, self._weights = backends.resolve(backend, 0), loss, y, weights
        self._runner: LayerwiseRunner
        if self._chosen == "cuda":
            self._runner = device = DeviceRunner(network, self._chosen)
            kind = np.int64 if loss.integer_targets else dtype
            self._batch = device.whole(DataSet(source, y, weights, kind, weight_dtype=dtype))
        else:
            self._runner = LayerwiseRunner(network, self._chosen)
            kept = _csr(source) if is_sparse(x) else source.batch(slice(0, source.rows))
            self._batch = Batch(kept, y, weights, source.rows)
        parameters = [layer.parameters for layer in layers]
        self._parameters = [*(coef for coef, _ in parameters), *(intercept for _, intercept in parameters)]
        ends = np.cumsum([0, *(parameter.value.size for parameter in self._parameters)])
        self._spans = [slice(low, high) for low, high in pairwise(ends)]

    def __call__(self, packed: Array) -> tuple[float, Array]:
        """Loss and gradient for weights in the order of ``packed``."""
        coefs, intercepts = self.unpacked(packed)
        for parameter, value in zip(self._parameters, [*coefs, *intercepts], strict=True):
            parameter.value[...] = value
        with backends.use_backend(self._chosen):
            loss, logits, found = self._runner.gradients(self._batch)
        loss -= beyond(self._loss, logits, self._y, self._weights)
        gradients = [*found[::2], *found[1::2]]  # coefficients and intercepts take turns
        return float(loss), np.concatenate([gradient.ravel() for gradient in gradients])

    def packed(self) -> Array:
        """All weights in one vector: coefficients, then intercepts."""
        return np.concatenate([parameter.value.ravel() for parameter in self._parameters])

    def unpacked(self, packed: Array) -> tuple[list[Array], list[Array]]:
        """Coefficients and intercepts in such a vector, where they lie."""
        shapes = [parameter.value.shape for parameter in self._parameters]
        found = [packed[span].reshape(shape) for span, shape in zip(self._spans, shapes, strict=True)]
        return found[: len(found) // 2], found[len(found) // 2 :]
