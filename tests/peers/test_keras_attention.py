"""Attention layers with Keras's weights give Keras's outputs, whatever is masked."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

from fastnn import layers  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

RNG = np.random.default_rng(5)
Q, V, K = (RNG.standard_normal(shape).astype("float32") for shape in ((3, 4, 6), (3, 5, 6), (3, 5, 6)))
MASK = RNG.integers(0, 2, (3, 4, 5)).astype(bool)
MASK[..., 0] = True
OF_QUERY, OF_VALUE = (RNG.integers(0, 2, (3, steps)).astype(bool) for steps in (4, 5))
OF_QUERY[:, 0] = OF_VALUE[:, 0] = True

HEADS = [{}, {"value_dim": 5}, {"output_shape": 7}, {"use_bias": False}]
CALLS = [{}, {"use_causal_mask": True}, {"attention_mask": MASK}, {"return_attention_scores": True}]
PLAIN = [
    ("Attention", {}),
    ("Attention", {"use_scale": True}),
    ("Attention", {"score_mode": "concat"}),
    ("Attention", {"score_mode": "concat", "use_scale": True}),
    ("AdditiveAttention", {}),
    ("AdditiveAttention", {"use_scale": False}),
]


def compare(ours, theirs):
    for one, other in zip(*(each if isinstance(each, tuple) else (each,) for each in (ours, theirs)), strict=True):
        assert np.asarray(one) == pytest.approx(keras.ops.convert_to_numpy(other), abs=1e-5)


@pytest.mark.parametrize("call", CALLS, ids="".join)
@pytest.mark.parametrize("options", HEADS, ids=str)
def test_heads(options, call):
    theirs, ours = keras.layers.MultiHeadAttention(2, 3, **options), layers.MultiHeadAttention(2, 3, **options)
    wanted = theirs(Q, V, K, **call)
    ours(Q, V, K, **call)
    assert [weight.shape for weight in ours.weights] == [tuple(weight.shape) for weight in theirs.weights]
    weights = [RNG.standard_normal(weight.shape).astype("float32") for weight in ours.weights]
    theirs.set_weights(weights)
    ours.set_weights(weights)
    wanted = theirs(Q, V, K, **call)
    compare(ours(Q, V, K, **call), wanted)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("name", "options"), PLAIN, ids=str)
def test_without_projections(name, options, causal, masked):
    theirs, ours = getattr(keras.layers, name)(**options), getattr(layers, name)(**options)
    mask = [OF_QUERY, OF_VALUE] if masked else None
    given = {"use_causal_mask": causal, "return_attention_scores": True}
    theirs([Q, V, K], **given)
    ours([Q, V, K], **given)
    assert [weight.shape for weight in ours.weights] == [tuple(weight.shape) for weight in theirs.weights]
    weights = [RNG.standard_normal(weight.shape).astype("float32") for weight in ours.weights]
    theirs.set_weights(weights)
    ours.set_weights(weights)
    compare(ours([Q, V, K], mask=mask, **given), theirs([Q, V, K], mask=mask, **given))
