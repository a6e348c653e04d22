"""Data that come batch by batch."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, models, utils

RNG = np.random.default_rng(4)
X, T = RNG.standard_normal((40, 3)), RNG.standard_normal((40, 1))


class Batches:
    """What Keras calls a Sequence."""

    def __init__(self):
        self.ended = 0

    def __len__(self):
        return 5

    def __getitem__(self, place):
        if place >= 5:
            raise IndexError(place)
        return X[8 * place : 8 * place + 8], T[8 * place : 8 * place + 8]

    def on_epoch_end(self):
        self.ended += 1


def endless(weighted=False):
    batches, place = Batches(), 0
    while True:
        x, y = batches[place % 5]
        yield (x, y, np.ones(8)) if weighted else (x, y)
        place += 1


def made():
    utils.set_random_seed(1)
    model = models.Sequential([layers.Input((3,)), layers.Dense(4, "relu"), layers.Dense(1)])
    model.compile("adam", "mse", ["mae"])
    return model


def test_batches_train_as_arrays_do():
    model = made()
    wanted = model.fit(X, T, batch_size=8, epochs=3, shuffle=False, verbose=0, validation_data=(X, T)).history
    sequence = Batches()
    for x, options in (
        (endless(), {"steps_per_epoch": 5}),
        (endless(weighted=True), {"steps_per_epoch": 5}),
        (sequence, {}),
    ):
        other = made()
        found = other.fit(x, epochs=3, verbose=0, validation_data=endless(), validation_steps=5, **options).history
        assert all(np.allclose(found[name], wanted[name], rtol=1e-6) for name in wanted)
        assert all(map(np.array_equal, other.get_weights(), model.get_weights()))
    assert sequence.ended == 3
    assert other.evaluate(Batches(), verbose=0) == pytest.approx(model.evaluate(X, T, batch_size=8, verbose=0))
    assert np.array_equal(other.predict(endless(), steps=5), model.predict(X))


def test_steps_of_arrays():
    model = made()
    model.fit(X, T, batch_size=8, epochs=2, steps_per_epoch=2, shuffle=False, verbose=0)
    assert model.optimizer.iterations == 4
    other = made()
    other.fit(X[:16], T[:16], batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert all(map(np.array_equal, other.get_weights(), model.get_weights()))


def test_batches_of_several_inputs():
    a, b = layers.Input((3,), name="a"), layers.Input((1,), name="b")
    model = models.Model([a, b], layers.Dense(1)(layers.concatenate([a, b])))
    model.compile("sgd", "mse")
    for inputs in ({"a": X, "b": T}, [X, T]):
        assert len(model.fit(iter([(inputs, T)] * 3), steps_per_epoch=1, epochs=2, verbose=0).epoch) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.fit(endless(), verbose=0), "steps_per_epoch: got None, wants how many batches of x, a generator"),
        (lambda m: m.fit(iter([(X, T)]), steps_per_epoch=2, verbose=0), "x: got 1 batches, wants 2"),
        (lambda m: m.fit(Batches(), T, verbose=0), "y, sample_weight: got one beside batches"),
        (lambda m: m.fit(iter([(X, T, T, T)]), steps_per_epoch=1), r"x\[0\]: got 4 entries, wants \(x, y\)"),
        (lambda m: m.fit(iter([(X, T), (T, T)]), steps_per_epoch=2), "x: got batches of samples of shapes"),
        (lambda m: m.predict(endless()), "steps: got None, wants how many batches"),
        (lambda m: m.fit(iter([X]), steps_per_epoch=1), "y: got None, wants the targets of x"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(call, message):
    model = made()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        call(model)
    assert all(map(np.array_equal, before, model.get_weights()))
