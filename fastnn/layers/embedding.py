"""Words by their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastnn import checks, configurable, constraints, initializers, ops, regularizers
from fastnn.engine.protocols import Array, Shape, Training
from fastnn.initializers import Initializer
from fastnn.layers.base import BatchShape, Layer, Parameter, assign_all


class Embedding(Layer):
    """A vector of ``output_dim`` numbers, which are learned, for each index in [0, ``input_dim``): (n, t) to (n, t, d).

    With ``mask_zero`` steps whose index is 0 do not count for the layers behind. As a model's first layer it is given
    the data's integers as they are. ``weights``: a list of one array (input_dim, output_dim) to begin with.
    """

    recordable = True

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        input_length: int | None = None,
        **options: Any,
    ) -> None:
        self.input_dim = checks.positive_int("input_dim", input_dim)
        self.output_dim = checks.positive_int("output_dim", output_dim)
        self.embeddings_initializer: Initializer | None = initializers.get(
            embeddings_initializer, "embeddings_initializer"
        )
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer, "embeddings_regularizer")
        self.embeddings_constraint = constraints.get(embeddings_constraint, "embeddings_constraint")
        self.mask_zero = checks.instance("mask_zero", mask_zero, bool, "True or False")
        self.input_length = None if input_length is None else checks.positive_int("input_length", input_length)
        if self.input_length is not None:
            options.setdefault("input_shape", (self.input_length,))
        super().__init__(**options)
        self.dtype = self.dtype or "float32"
        self._first_weights = weights

    @property
    def indices(self) -> int | None:
        """How many rows there are."""
        return self.input_dim

    @property
    def embeddings(self) -> Parameter:
        """The vectors, (input_dim, output_dim)."""
        if not self.built:
            raise ValueError(f"{self.name}: the layer is not built, so it has no weights yet")
        return self.parameters[0]

    def make_parameters(self, input_shape: BatchShape) -> None:
        """The vectors, as their initializer draws them, or those that were given."""
        shape = self.input_dim, self.output_dim
        drawn = initializers.first_weights(self.embeddings_initializer, "embeddings_initializer", shape, self.dtype)
        self._take_parameters(input_shape, [drawn])
        if self._first_weights is not None:
            assign_all(self.parameters, self._first_weights)

    def parameter_shapes(self, input_shape: BatchShape) -> dict[str, Shape]:
        """(input_dim, output_dim)."""
        return {"embeddings": (self.input_dim, self.output_dim)}

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """One axis more."""
        return (*input_shape, self.output_dim)

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        """The steps whose index is not 0, if these are masked."""
        if not self.mask_zero or x.ndim != 2:
            return None
        return ops.embedding_mask(x, self.parameters[0].value)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """The vectors of a batch of indices, and the indices as (n, t)."""
        if x.dtype.kind not in "iu":
            raise TypeError(f"{self.name}: got inputs of dtype {x.dtype}, wants integers: it has to be the first layer")
        rows = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        y: Array = ops.embedding(rows, self.parameters[0].value)
        return y.reshape(*x.shape, self.output_dim), rows

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient of the vectors; there is none of indices."""
        slope = dy.reshape(*kept.shape, self.output_dim)
        return None, (ops.embedding_backward(slope, kept, self.parameters[0].value),)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, but for first weights."""
        return {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": initializers.serialize(self.embeddings_initializer),
            "embeddings_regularizer": configurable.serialize(self.embeddings_regularizer, regularizers.NAMES),
            "embeddings_constraint": constraints.serialize(self.embeddings_constraint),
            "mask_zero": self.mask_zero,
            **super().get_config(),
        }
