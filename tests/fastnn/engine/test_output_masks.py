"""Masks that reach a model's outputs: losses and means are those of the steps that count."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, losses, metrics, models, ops, utils

RNG = np.random.default_rng(21)
X = np.array([[1, 2, 0, 0], [3, 1, 2, 0], [2, 2, 2, 2], [4, 0, 0, 0]])
MASK = X != 0
Y = RNG.random((4, 4, 2))
LABELS = RNG.integers(0, 3, (4, 4))
WEIGHTS = RNG.random((4, 4))


def tagged(width, loss, *, eager=False, judged=(), activation=None):
    utils.set_random_seed(5)
    stack = [layers.Embedding(5, 3, mask_zero=True, dtype="float64")]
    stack += [layers.LSTM(3, return_sequences=True, dtype="float64")]
    stack += [layers.Dense(width, activation, dtype="float64")]
    model = models.Sequential([layers.Input((4,)), *stack])
    model.compile("sgd", loss, metrics=[*judged], weighted_metrics=[], run_eagerly=eager)
    return model


def errors(model):
    return ((model.predict(X, verbose=0) - Y) ** 2).mean(axis=-1)


@pytest.mark.parametrize("weight", [None, WEIGHTS, WEIGHTS[:, 0]], ids=["none", "steps", "samples"])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_losses(reduction, weight):
    model = tagged(2, losses.MeanSquaredError(reduction))
    each = MASK * np.ones((4, 4)) if weight is None else MASK * weight.reshape(4, -1)
    whole = {"sum": 1.0, "sum_over_batch_size": MASK.sum(), "mean_with_sample_weight": each.sum()}[reduction]
    wanted = (errors(model) * each).sum() / whole
    assert model.evaluate(X, Y, sample_weight=weight, verbose=0) == pytest.approx(wanted, rel=1e-9)
    history = model.fit(X, Y, sample_weight=weight, verbose=0).history
    assert history["loss"] == pytest.approx([wanted], rel=1e-9)


class Squares(losses.Loss):
    def call(self, y_true, y_pred):
        return ops.sum(ops.square(y_true - y_pred), axis=-1) * 0.5


@pytest.mark.parametrize(
    "loss", [Squares(), lambda y_true, y_pred: ops.square(y_true - y_pred)], ids=["class", "function"]
)
def test_losses_of_the_users(loss):
    model = tagged(2, loss)
    wanted = errors(model)[MASK].mean()
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(wanted, rel=1e-9)


def test_a_loss_that_is_one_number_is_as_it_is():
    for loss in (lambda y, p: ops.mse(p, y)[0], lambda y, p: (((p - y) ** 2).mean(), 2 * (p - y) / p.size)):
        model = tagged(2, loss)
        assert model.fit(X, Y, verbose=0).history["loss"] == pytest.approx([(errors(tagged(2, "mse"))).mean()])


def test_a_class_that_is_ignored_is_left_out_too():
    loss = losses.SparseCategoricalCrossentropy(ignore_class=1)
    model = tagged(3, loss, activation="softmax")
    chosen = np.take_along_axis(model.predict(X, verbose=0), LABELS[..., None], axis=-1)[..., 0]
    wanted = -np.log(chosen)[MASK & (LABELS != 1)].mean()
    assert model.evaluate(X, LABELS, verbose=0) == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize("eager", [False, True])
def test_training_does_not_see_what_is_left_out(eager):
    """The same weights whatever targets are where no step counts, op by op and in programs; others without a mask."""
    found = []
    for noise in (0.0, 7.0):
        model = tagged(2, "mse", eager=eager, judged=["mae"])
        history = model.fit(X, Y + noise * ~MASK[..., None], epochs=3, batch_size=3, shuffle=False, verbose=0).history
        found.append([*model.get_weights(), history["loss"], history["mae"]])
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))
    if eager:
        other = tagged(2, "mse", judged=["mae"])
        history = other.fit(X, Y, epochs=3, batch_size=3, shuffle=False, verbose=0).history
        np.testing.assert_allclose(history["loss"], found[0][-2], rtol=1e-12)


def test_metrics_that_are_means_look_at_it():
    model = tagged(2, "mse", judged=["mse", metrics.MeanAbsoluteError(), metrics.RootMeanSquaredError()])
    found = model.evaluate(X, Y, batch_size=3, verbose=0, return_dict=True)
    squares = errors(model)
    assert found["mse"] == pytest.approx(squares[MASK].mean(), rel=1e-6)
    assert found["root_mean_squared_error"] == pytest.approx(np.sqrt(squares.mean()), rel=1e-6)
    labelled = tagged(3, "sparse_categorical_crossentropy", judged=["accuracy"], activation="softmax")
    hits = labelled.predict(X, verbose=0).argmax(axis=-1) == LABELS
    assert labelled.evaluate(X, LABELS, verbose=0)[1] == pytest.approx(hits[MASK].mean(), rel=1e-6)


def test_heads_have_masks_of_their_own():
    words = layers.Input((4,), name="words")
    steps = layers.LSTM(3, return_sequences=True)(layers.Embedding(5, 3, mask_zero=True)(words))
    tags, mood = layers.Dense(2, name="tags")(steps), layers.Dense(1, name="mood")(layers.LSTM(2)(steps))
    model = models.Model(words, [tags, mood])
    model.compile("sgd", "mse", metrics=[["mae"], ["mae"]])
    y = Y[:, 0, :1]
    given = model.predict(X, verbose=0)
    found = model.evaluate(X, [Y, y], verbose=0, return_dict=True)
    assert found["tags_loss"] == pytest.approx(((given[0] - Y) ** 2).mean(axis=-1)[MASK].mean(), rel=1e-5)
    assert found["mood_loss"] == pytest.approx(((given[1] - y) ** 2).mean(), rel=1e-5)
    assert found["tags_mae"] == pytest.approx(abs(given[0] - Y).mean(axis=-1)[MASK].mean(), rel=1e-5)
    assert found["mood_mae"] == pytest.approx(abs(given[1] - y).mean(), rel=1e-5)
    assert model.fit(X, [Y, y], verbose=0).history["tags_loss"] == pytest.approx([found["tags_loss"]], rel=1e-5)


def test_no_step_at_all_costs_nothing():
    model = tagged(2, "mse", judged=["mae"])
    before = model.get_weights()
    assert model.fit(np.zeros((3, 4), int), Y[:3], verbose=0).history["loss"] == [0.0]
    assert all(map(np.array_equal, before, model.get_weights()))
