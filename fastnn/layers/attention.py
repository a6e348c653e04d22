"""Attention: steps of one sequence as means of the steps of another, weighed by how well the two match."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import checks, configurable, constraints, initializers, ops, regularizers
from fastnn.kernels.table.attention import FAR_BELOW
from fastnn.layers.base import BatchShape, Layer, Parameter
from fastnn.layers.dropout import Dropout
from fastnn.layers.symbols import is_symbolic
from fastnn.tape import kept

# What calls say beside the inputs.
CALL_OPTIONS = "use_causal_mask", "return_attention_scores"


class _Attention(Layer):
    """What all attention has: queries, values and keys (n, steps, features), masks, dropout of the weights.

    ``mask`` is what layers before say of the steps of each. A call may ask for the weights, too, and for queries that
    see no value behind them; calls in graphs of layers all ask for the same.
    """

    call_options = CALL_OPTIONS

    def __init__(self, dropout: float = 0.0, seed: int | None = None, **options: Any) -> None:
        self._drops = Dropout(dropout, seed=seed)
        self.dropout, self.seed = self._drops.rate, self._drops.seed
        # CALL_OPTIONS of the last call, and whether there was an attention_mask
        self._asked = False, False, False
        super().__init__(**options)

    def _called(
        self, inputs: Sequence[Any], given: Any, training: bool | None, mask: Any, causal: bool, returned: bool
    ) -> Any:
        """What the layer gives for query, value and key, and an attention mask that may be ``given``."""
        asked = (
            checks.instance("use_causal_mask", causal, bool, "True or False"),
            checks.instance("return_attention_scores", returned, bool, "True or False"),
            given is not None,
        )
        if self.nodes and asked != self._asked:
            names = f"({', '.join(CALL_OPTIONS)}, whether there is an attention_mask)"
            raise ValueError(f"{self.name}: got {names} = {asked}, wants {self._asked} as in the graph that it is in")
        self._asked = asked
        together = [*inputs, *([] if given is None else [given])]
        if not is_symbolic(together) and mask is not None:
            mask = [*mask, *[None] * (len(together) - len(mask))]
        return super().__call__(together, training, mask)

    def _shapes(self, input_shape: Any) -> list[BatchShape]:
        """Those of query, value and key; ValueError where they do not fit."""
        shapes = [tuple(shape) for shape in input_shape] if isinstance(input_shape, list) else []
        if len(shapes) != 3 + self._asked[2] or any(len(shape) != 3 for shape in shapes[:3]):
            got = shapes or tuple(input_shape)
            raise ValueError(f"{self.name}: got inputs of shapes {got}, wants query, value, key: (n, steps, features)")
        if shapes[1][1] != shapes[2][1]:
            raise ValueError(f"{self.name}: got {shapes[2][1]} steps of key, wants {shapes[1][1]} as of value")
        return shapes[:3]

    def _result_shape(self, shapes: Sequence[BatchShape], features: int | None, heads: Sequence[int] = ()) -> Any:
        """Shape of outputs with so many features, and of the weights where these are asked for."""
        query, value, _ = shapes
        y = (None, query[1], features)
        return [y, (None, *heads, query[1], value[1])] if self._asked[1] else y

    def _is_fused(self, training: Any) -> bool:
        """Whether one op does it all: nobody looks at the weights, and none are dropped."""
        return not self._asked[1] and not (self.dropout and training)

    def _fused(self, heads: Sequence[Any], scale: float, inputs: Sequence[Any], query_mask: Any, mask: Any) -> Any:
        """What the op gives for query, key and value (n, steps, heads, features)."""
        query, key, value = heads
        (n, t), s = query.shape[:2], key.shape[1]
        counted, causal = self._counted(inputs, query_mask, mask, False), self._asked[0]
        if counted is not None and counted.shape != (n, t, s):
            whole = (n, t, s) if counted.shape[0] != n else (1, t, s)
            ones = kept(("counted", *whole, query.dtype), query, lambda: np.ones(whole, query.dtype))
            counted = ops.multiply(counted, ones)
        counted = None if counted is None else ops.stop_gradient(counted)
        return ops.attention(query, key, value, counted, scale=scale, causal=causal)

    def _counted(self, inputs: Sequence[Any], query_mask: Any, mask: Any, causal: bool) -> Any:
        """Which values count for which queries, (n or 1, t or 1, s), None where all do."""
        query, value, _ = inputs[:3]
        given = self._asked[2]
        _, of_value, of_key = [*mask[:3]] if isinstance(mask, list) else [None] * 3
        parts = [ops.cast(inputs[3], query.dtype)] if given else []
        if parts and parts[0].ndim == 2:
            parts[0] = ops.expand_dims(parts[0], 0)
        parts += [] if query_mask is None else [ops.expand_dims(query_mask, 2)]
        found = [of_value, of_key if of_key is not of_value else None]
        parts += [ops.expand_dims(each, 1) for each in found if each is not None]
        if causal:
            t, s = query.shape[1], value.shape[1]
            parts.append(kept(("causal", t, s, query.dtype), query, lambda: np.tril(np.ones((1, t, s), query.dtype))))
        together = None
        for part in parts:
            together = part if together is None else ops.multiply(together, part)
        return together

    def _weights_of(self, scores: Any, counted: Any, training: Any) -> Any:
        """The softmax of the scores along values, with dropout in training."""
        if counted is not None:
            scores = ops.add(scores, ops.multiply(ops.subtract(1.0, counted), FAR_BELOW))
        return self._drops(ops.softmax(scores), training=training)

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        """Those of the queries."""
        of_query = mask[0] if isinstance(mask, list) else mask
        return [of_query, None] if self._asked[1] else of_query

    def call_arguments(self) -> dict[str, Any]:
        """Those of ``CALL_OPTIONS`` that are True."""
        return {name: True for name, asked in zip(CALL_OPTIONS, self._asked, strict=False) if asked}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {name: value for name, value in super().get_config().items() if name != "input_shape"}
        return {"dropout": self.dropout, "seed": self.seed, **config}


class MultiHeadAttention(_Attention):
    """Attention of ``num_heads`` heads: softmax(q k^T / sqrt(key_dim)) v of projections of query, key and value.

    A call takes ``query`` (n, t, features), ``value`` (n, s, ...) and ``key``, the values where it is left out;
    ``attention_mask`` (n, t, s) says which values count for which queries, ``use_causal_mask`` that none behind it
    does. Outputs are (n, t, output_shape), as many features as the queries have by default; with
    ``return_attention_scores`` the weights (n, heads, t, s) come, too. Vaswani et al. 2017.
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: Any = None,
        attention_axes: Any = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        self.num_heads = checks.positive_int("num_heads", num_heads)
        self.key_dim = checks.positive_int("key_dim", key_dim)
        self.value_dim = checks.positive_int("value_dim", key_dim if value_dim is None else value_dim)
        self.use_bias = checks.instance("use_bias", use_bias, bool, "True or False")
        size = output_shape[0] if isinstance(output_shape, (list, tuple)) and len(output_shape) == 1 else output_shape
        self.units = None if size is None else checks.positive_int("output_shape", size)
        along = None if attention_axes in (1, [1], (1,)) else attention_axes
        for name, value in (("attention_axes", along), ("flash_attention", flash_attention or None)):
            if value is not None:
                raise ValueError(f"{name}: got {value!r}, wants None: attention is along the steps, by one kind of op")
        self.kernel_initializer = initializers.get(kernel_initializer, "kernel_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")
        self.kernel_regularizer = regularizers.get(kernel_regularizer, "kernel_regularizer")
        self.bias_regularizer = regularizers.get(bias_regularizer, "bias_regularizer")
        self.kernel_constraint = constraints.get(kernel_constraint, "kernel_constraint")
        self.bias_constraint = constraints.get(bias_constraint, "bias_constraint")
        super().__init__(dropout, seed, **options)

    def __call__(  # type: ignore[override] # Keras's arguments
        self,
        query: Any,
        value: Any = None,
        key: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
        mask: Any = None,
    ) -> Any:
        """Outputs for a batch, or symbolic tensors; query, value and key may be one list."""
        if isinstance(query, (list, tuple)):
            query, value, key, attention_mask = (*query, None, None, attention_mask)[:4]
        if value is None:
            raise TypeError(f"{self.name}: got a query alone, wants layer(query, value)")
        inputs = query, value, value if key is None else key
        return self._called(inputs, attention_mask, training, mask, use_causal_mask, return_attention_scores)

    def build(self, input_shape: Any) -> None:  # type: ignore[override] # the base's takes what a user's does not
        """Make the projections' weights: kernels (features, heads, size), that of the outputs (heads, size, units)."""
        query, value, key = self._shapes(input_shape)
        heads = self.num_heads
        for name, inputs, size in (
            ("query", query, self.key_dim),
            ("key", key, self.key_dim),
            ("value", value, self.value_dim),
        ):
            self._add(name, (inputs[-1], heads, size), (heads, size))
        units = self.units or query[-1]
        self._add("attention_output", (heads, self.value_dim, units), (units,))

    def _add(self, name: str, kernel: Sequence[Any], bias: Sequence[Any]) -> None:
        made = self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint
        for kind, shape, (initializer, regularizer, constraint) in (
            ("kernel", kernel, made),
            ("bias", bias, (self.bias_initializer, self.bias_regularizer, self.bias_constraint)),
        ):
            if kind == "kernel" or self.use_bias:
                self.add_weight(
                    shape, initializer, regularizer=regularizer, constraint=constraint, name=f"{name}/{kind}"
                )

    def _projected(self, name: str, x: Any, features: int, into: Sequence[int]) -> Any:
        """Rows of so many features, (n, steps, *into), by one of the projections: of x (n, steps, ...)."""
        found: dict[str, Parameter] = {parameter.name: parameter for parameter in self.parameters}
        units = math.prod(into)
        bias = found[f"{name}/bias"].reshape(units) if self.use_bias else None
        y = ops.linear(x.reshape(-1, features), found[f"{name}/kernel"].reshape(features, units), bias)
        return y.reshape(*x.shape[:2], *into)

    def call(self, inputs: Sequence[Any], training: Any = None, mask: Any = None) -> Any:
        """Outputs, and weights where these are asked for."""
        query, value, key = inputs[:3]
        of_query = mask[0] if isinstance(mask, list) else None
        of_keys, of_values = (self.num_heads, self.key_dim), (self.num_heads, self.value_dim)
        q, k = (self._projected(name, x, x.shape[-1], of_keys) for name, x in (("query", query), ("key", key)))
        v = self._projected("value", value, value.shape[-1], of_values)
        scale, weights = 1 / math.sqrt(self.key_dim), None
        if self._is_fused(training):
            y = self._fused((q, k, v), scale, inputs, of_query, mask)
        else:
            counted = self._counted(inputs, of_query, mask, self._asked[0])
            scores = ops.einsum("bthk,bshk->bhts", ops.multiply(q, scale), k)
            weights = self._weights_of(scores, None if counted is None else ops.expand_dims(counted, 1), training)
            y = ops.einsum("bhts,bshk->bthk", weights, v)
        y = self._projected("attention_output", y, math.prod(of_values), (self.units or query.shape[-1],))
        return (y, weights) if self._asked[1] else y

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(n, t, output_shape), and (n, heads, t, s) of weights."""
        shapes = self._shapes(input_shape)
        return self._result_shape(shapes, self.units or shapes[0][-1], (self.num_heads,))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        sizes = {name: getattr(self, name) for name in ("num_heads", "key_dim", "value_dim", "use_bias")}
        return {
            **sizes,
            "output_shape": self.units,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": configurable.serialize(self.kernel_regularizer, regularizers.NAMES),
            "bias_regularizer": configurable.serialize(self.bias_regularizer, regularizers.NAMES),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
            **super().get_config(),
        }


class Attention(_Attention):
    """Attention without projections: softmax(q k^T) v of a list [query, value] or [query, value, key].

    Scores are products ("dot"), with ``use_scale`` times a weight, or by ``score_mode`` "concat" a weight times the
    sums of tanh(q + k). What a query that does not count gives is 0. Luong et al. 2015.
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        self.use_scale = checks.instance("use_scale", use_scale, bool, "True or False")
        self.score_mode = checks.one_of("score_mode", score_mode, ("dot", "concat"))
        super().__init__(dropout, seed, **options)

    def __call__(  # type: ignore[override] # Keras's arguments
        self,
        inputs: Sequence[Any],
        mask: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        """Outputs for a batch, or symbolic tensors."""
        if not isinstance(inputs, (list, tuple)) or len(inputs) not in (2, 3):
            got = checks.describe(inputs)
            raise ValueError(f"{self.name}: got {got}, wants a list [query, value] or [query, value, key]")
        together = (*inputs, inputs[1])[:3]
        of_steps = None if mask is None else (*mask, None, None)[:3]
        return self._called(together, None, training, of_steps, use_causal_mask, return_attention_scores)

    def build(self, input_shape: Any) -> None:  # type: ignore[override] # the base's takes what a user's does not
        """Make the weights that scores take."""
        query, _, key = self._shapes(input_shape)
        if query[-1] != key[-1]:
            raise ValueError(f"{self.name}: got {key[-1]} features of key, wants {query[-1]} as of query")
        self._make_scale(query[-1])

    def _make_scale(self, features: Any) -> None:
        names = [*["scale"] * self.use_scale, *["concat_score_weight"] * (self.score_mode == "concat")]
        for name in names:
            self.add_weight((), "ones", name=name)

    @property
    def _is_product(self) -> bool:
        """Whether scores are nothing but products."""
        return self.score_mode == "dot" and not self.use_scale

    def _scores(self, query: Any, key: Any) -> Any:
        """(n, t, s)."""
        by_name = {parameter.name: parameter for parameter in self.parameters}
        if self.score_mode == "dot":
            scores = ops.matmul(query, ops.swapaxes(key, 1, 2))
            return ops.multiply(scores, _stretched(by_name["scale"])) if self.use_scale else scores
        both = ops.add(ops.expand_dims(query, 2), ops.expand_dims(key, 1))
        both = ops.multiply(both, _stretched(by_name["scale"], 4)) if self.use_scale else both
        return ops.multiply(ops.sum(ops.tanh(both), -1), _stretched(by_name["concat_score_weight"]))

    def call(self, inputs: Sequence[Any], training: Any = None, mask: Any = None) -> Any:
        """Outputs, and weights where these are asked for."""
        query, value, key = inputs[:3]
        weights = None
        if self._is_product and self._is_fused(training):
            heads = [ops.expand_dims(each, 2) for each in (query, key, value)]
            y = ops.squeeze(self._fused(heads, 1.0, inputs, None, mask), 2)
        else:
            counted = self._counted(inputs, None, mask, self._asked[0])
            weights = self._weights_of(self._scores(query, key), counted, training)
            y = ops.matmul(weights, value)
        of_query = mask[0] if isinstance(mask, list) else None
        y = y if of_query is None else ops.multiply(y, ops.expand_dims(of_query, 2))
        return (y, weights) if self._asked[1] else y

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(n, t, features of value), and (n, t, s) of weights."""
        shapes = self._shapes(input_shape)
        return self._result_shape(shapes, shapes[1][-1])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"use_scale": self.use_scale, "score_mode": self.score_mode, **super().get_config()}


class AdditiveAttention(Attention):
    """Attention by the sums of tanh(q + k), with ``use_scale`` each feature times a weight. Bahdanau et al. 2015."""

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, seed: int | None = None, **options: Any) -> None:
        super().__init__(use_scale, "dot", dropout, seed, **options)

    def _make_scale(self, features: Any) -> None:
        if self.use_scale:
            self.add_weight((features,), "glorot_uniform", name="scale")

    @property
    def _is_product(self) -> bool:
        return False

    def _scores(self, query: Any, key: Any) -> Any:
        both = ops.tanh(ops.add(ops.expand_dims(query, 2), ops.expand_dims(key, 1)))
        return ops.einsum("btsd,d->bts", both, self.parameters[0]) if self.use_scale else ops.sum(both, -1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: value for name, value in super().get_config().items() if name != "score_mode"}


def _stretched(weight: Parameter, rank: int = 3) -> Any:
    """A weight () that stretches to scores."""
    return weight.reshape((1,) * rank)
