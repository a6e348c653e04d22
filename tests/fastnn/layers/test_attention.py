"""Attention: against NumPy, central differences, masks, graphs, files, threads, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers, models, ops, utils

RNG = np.random.default_rng(21)
Q, V, K = (RNG.standard_normal(shape) for shape in ((2, 3, 5), (2, 4, 6), (2, 4, 5)))
KINDS = {
    "heads": lambda **options: layers.MultiHeadAttention(2, 3, dtype="float64", **options),
    "values": lambda **options: layers.MultiHeadAttention(2, 3, 4, output_shape=7, dtype="float64", **options),
    "plain heads": lambda **options: layers.MultiHeadAttention(1, 4, use_bias=False, dtype="float64", **options),
    "dot": lambda **options: layers.Attention(dtype="float64", **options),
    "scaled": lambda **options: layers.Attention(use_scale=True, dtype="float64", **options),
    "concat": lambda **options: layers.Attention(True, "concat", dtype="float64", **options),
    "additive": lambda **options: layers.AdditiveAttention(dtype="float64", **options),
    "unscaled": lambda **options: layers.AdditiveAttention(use_scale=False, dtype="float64", **options),
}


def softmax(x):
    shares = np.exp(x - x.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def by_numpy(layer, weights, q, v, k, counted=None):
    """(outputs, weights of the values) of a layer with these weights."""
    below = np.zeros((1, 1, 1)) if counted is None else -1e9 * (1 - counted)
    if isinstance(layer, layers.MultiHeadAttention):
        parts = iter(weights)

        def projected(sums, x):
            y = np.einsum(sums, x, next(parts))
            return y + next(parts) if layer.use_bias else y

        q, k, v = (projected("btd,dhk->bhtk", x) if not layer.use_bias else _biased(x, parts) for x in (q, k, v))
        scores = softmax(q @ k.swapaxes(-1, -2) / np.sqrt(layer.key_dim) + np.expand_dims(below, 1))
        y = np.einsum("bhtk,hko->bto", scores @ v, next(parts))
        return (y + next(parts) if layer.use_bias else y), scores
    both = q[:, :, None] + k[:, None]
    if isinstance(layer, layers.AdditiveAttention):
        scores = (np.tanh(both) * (weights[0] if layer.use_scale else 1.0)).sum(-1)
    elif layer.score_mode == "concat":
        scores = np.tanh(both * weights[0]).sum(-1) * weights[1]
    else:
        scores = q @ k.swapaxes(1, 2) * (weights[0] if layer.use_scale else 1.0)
    scores = softmax(scores + below)
    return scores @ v, scores


def _biased(x, parts):
    kernel, bias = next(parts), next(parts)
    return (np.einsum("btd,dhk->bthk", x, kernel) + bias).swapaxes(1, 2)


def called(layer, *arrays, **options):
    return layer(*arrays, **options) if isinstance(layer, layers.MultiHeadAttention) else layer([*arrays], **options)


def drawn(name):
    utils.set_random_seed(3)
    layer = KINDS[name]()
    called(layer, Q, V, K)
    layer.set_weights([RNG.standard_normal(weight.shape) for weight in layer.weights])
    return layer


@pytest.mark.parametrize("name", KINDS)
def test_values_and_weights(name):
    layer = drawn(name)
    y, weights = called(layer, Q, V, K, return_attention_scores=True)
    wanted, shares = by_numpy(layer, layer.get_weights(), Q, V, K)
    assert y == pytest.approx(wanted, abs=1e-10)
    assert weights == pytest.approx(shares, abs=1e-10)
    assert np.array_equal(called(layer, Q, V, K), y)


@pytest.mark.parametrize("name", KINDS)
def test_no_query_sees_a_value_behind_it(name):
    layer = drawn(name)
    wanted, _ = by_numpy(layer, layer.get_weights(), Q, V, K, np.tril(np.ones((1, 3, 4))))
    assert called(layer, Q, V, K, use_causal_mask=True) == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("rank", [2, 3])
def test_a_mask_of_queries_and_values(rank):
    layer, mask = drawn("heads"), RNG.integers(0, 2, (2, 3, 4)).astype(bool)
    mask[..., 0] = True
    mask = mask if rank == 3 else mask[0]
    wanted, _ = by_numpy(layer, layer.get_weights(), Q, V, K, mask.astype(float) if rank == 3 else mask[None] * 1.0)
    assert layer(Q, V, K, attention_mask=mask) == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("name", KINDS)
def test_gradients(name):
    layer = drawn(name)
    dy = RNG.standard_normal(called(layer, Q, V, K).shape)

    def loss(*arrays):
        return ops.sum(ops.multiply(called(layer, *arrays), dy))

    _, slopes = fastnn.gradients(loss, (Q, V, K))
    _, of_weights = fastnn.gradients(lambda: loss(Q, V, K), layer.trainable_weights) if layer.weights else (0, ())
    arrays = (Q.copy(), V.copy(), K.copy())
    varied = [*arrays, *(weight.value for weight in layer.trainable_weights)]
    for array, slope in zip(varied, (*slopes, *of_weights), strict=True):
        for place in [*np.ndindex(array.shape)][:12]:
            ends = []
            for step in (1e-6, -1e-6):
                held = array[place]
                array[place] = held + step
                ends.append(float((called(layer, *arrays) * dy).sum()))
                array[place] = held
            assert slope[place] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


def encoder(words=30, size=8):
    inputs = layers.Input((None,), dtype="int64")
    x = layers.Embedding(words, size, mask_zero=True)(inputs)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, size, dropout=0.1, seed=5)(x, x))
    x = layers.LayerNormalization()(x + layers.Dense(size)(layers.Dense(16, "relu")(x)))
    return models.Model(inputs, layers.Dense(2, "softmax")(layers.GlobalAveragePooling1D()(x)))


def texts(steps=6):
    words = RNG.integers(1, 30, (64, steps))
    labels = (words < 15).sum(axis=1) > steps // 2
    words[::3, -2:] = 0
    return words, labels.astype(int)


def test_an_encoder_learns_and_padding_does_not_count(tmp_path):
    utils.set_random_seed(8)
    model, (words, labels) = encoder(), texts()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    losses = model.fit(words, labels, epochs=30, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    padded = np.concatenate([words, np.zeros((64, 3), int)], axis=1)
    found = model.predict(words, verbose=0)
    assert model.predict(padded, verbose=0) == pytest.approx(found, abs=1e-5)
    model.save(tmp_path / "encoder.safetensors")
    assert np.array_equal(models.load_model(tmp_path / "encoder.safetensors").predict(words, verbose=0), found)


ATTENTIONS = {
    "heads": lambda a: layers.MultiHeadAttention(2, 3)(a, a, use_causal_mask=True),
    "weights": lambda a: layers.MultiHeadAttention(2, 3)(a, a, return_attention_scores=True),
    "dot": lambda a: layers.Attention()([a, a], use_causal_mask=True, return_attention_scores=True),
    "additive": lambda a: layers.AdditiveAttention()([a, a], use_causal_mask=True),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_files_and_clones_have_what_calls_said(name, tmp_path):
    inputs = layers.Input((4, 5))
    model, x = models.Model(inputs, ATTENTIONS[name](inputs)), RNG.standard_normal((3, 4, 5)).astype("float32")
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "model.safetensors")
    clone = models.clone_model(model)
    clone.set_weights(model.get_weights())
    for other in (models.load_model(tmp_path / "model.safetensors"), clone):
        found = other.predict(x, verbose=0)
        assert len(found) == len(expected)
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_file_that_says_what_calls_do_not_take():
    inputs = layers.Input((4, 5))
    config = models.Model(inputs, layers.MultiHeadAttention(2, 3, name="heads")(inputs, inputs)).get_config()
    config["layers"][1]["arguments"] = {"training": True}
    with pytest.raises(
        ValueError, match=r"heads: got arguments .*training.* of its calls, wants some of use_causal_ma"
    ):
        models.Model.from_config(config)
    config["layers"][1]["arguments"] = {"use_causal_mask": 2}
    with pytest.raises(TypeError, match="use_causal_mask: got int 2, wants True or False"):
        models.Model.from_config(config)


def test_bits_do_not_depend_on_threads():
    found = []
    words, labels = texts()
    for threads in (1, 2, 3, 4, 2):
        utils.set_random_seed(9)
        before = fastnn.get_num_threads()
        fastnn.set_num_threads(threads)
        try:
            model = encoder()
            model.compile("adam", "sparse_categorical_crossentropy")
            model.fit(words, labels, epochs=2, batch_size=16, verbose=0)
        finally:
            fastnn.set_num_threads(before)
        found.append(b"".join(weight.tobytes() for weight in model.get_weights()))
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: layers.MultiHeadAttention(0, 3), ValueError, "num_heads: got 0"),
        (
            lambda: layers.MultiHeadAttention(2, 3, attention_axes=(1, 2)),
            ValueError,
            "attention_axes: got .* wants None",
        ),
        (lambda: layers.MultiHeadAttention(2, 3, flash_attention=True), ValueError, "flash_attention: got True"),
        (lambda: layers.MultiHeadAttention(2, 3, dropout=1.5), ValueError, "rate: got 1.5"),
        (lambda: layers.MultiHeadAttention(2, 3, name="heads")(Q), TypeError, r"heads: got a query alone"),
        (lambda: layers.MultiHeadAttention(2, 3, name="heads")(Q, V[0]), ValueError, "heads: got inputs of shapes"),
        (
            lambda: layers.MultiHeadAttention(2, 3, name="heads")(Q, V, Q),
            ValueError,
            "heads: got 3 steps of key, wants 4",
        ),
        (lambda: layers.Attention(name="plain")(Q), ValueError, r"plain: got .* wants a list \[query, value\]"),
        (lambda: layers.Attention(name="plain")([Q, V]), ValueError, "plain: got 6 features of key, wants 5"),
        (lambda: layers.Attention(score_mode="cosine"), ValueError, "score_mode: got 'cosine'"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_calls_in_graphs_ask_for_the_same():
    layer, x = layers.Attention(name="plain"), layers.Input((4, 5))
    layer([x, x], use_causal_mask=True)
    with pytest.raises(ValueError, match=r"plain: got .* = \(False, False, False\), wants \(True, False, False\)"):
        layer([K, K])


@pytest.mark.parametrize(
    ("make", "counted"),
    [
        (lambda a, b: layers.add([a, b]), lambda a, b: a | b),
        (lambda a, b: layers.maximum([a, b, a]), lambda a, b: a | b),
        (lambda a, b: layers.concatenate([a, b], axis=-1), lambda a, b: a | b),
        (lambda a, b: layers.concatenate([a, b], axis=1), lambda a, b: np.concatenate([a, b], axis=1)),
        (lambda a, b: layers.concatenate([a, layers.Dense(3)(layers.Dense(3)(b))]), lambda a, b: a | b),
        (lambda a, b: layers.LayerNormalization()(layers.add([a, b])), lambda a, b: a | b),
    ],
)
def test_masks_behind_layers_of_several_inputs(make, counted):
    a, b = layers.Input((5,), dtype="int32"), layers.Input((5,), dtype="int32")
    together = make(layers.Embedding(9, 3, mask_zero=True)(a), layers.Embedding(9, 3, mask_zero=True)(b))
    model = models.Model([a, b], [together, layers.GlobalAveragePooling1D()(together)])
    words = [RNG.integers(0, 3, (4, 5)) for _ in range(2)]
    for each in words:
        each[:, 0] = 1
    steps, mean = model.predict(words, verbose=0)
    share = counted(*(each > 0 for each in words)).astype(float)
    assert mean == pytest.approx((steps * share[..., None]).sum(1) / share.sum(1, keepdims=True), abs=1e-5)
