"""A network that is trained a little at a time, its pictures, and the program that does the same."""

from __future__ import annotations

from base64 import b64decode

import numpy as np
import pytest

from fastnn.engine import seeds
from fastnn.playground import training
from fastnn.playground.problems import PROBLEMS
from fastnn.playground.script import script
from fastnn.playground.settings import RULES, from_address, from_message
from fastnn.playground.training import NEURON, SURFACE, Training

MUCH = "problem=moons&layers=5,3&dropout=20&penalty=l1&penalty_rate=0.003&optimizer=adam&noise=10&features=x1,sin(x2)"


def weights(of):
    return [np.array(each) for each in of.frame()["weights"]]


def same(one, other):
    return all((a == b).all() for a, b in zip(weights(one), weights(other), strict=True))


@pytest.mark.parametrize("address", ["", MUCH, "problem=hills&layers="])
def test_pieces_are_the_whole(address):
    """However many epochs a call makes, and whoever trains beside."""
    whole, pieces, beside = (Training(from_address(each)) for each in (address, address, "seed=5"))
    whole.train(9)
    for epochs in (1, 3, 5):
        pieces.train(epochs)
        beside.train(1)
    assert whole.epoch == pieces.epoch == 9
    assert same(whole, pieces)


def test_time_ends_a_call():
    made = Training(from_message({}))
    made.train(1)
    made.train(1000, seconds=0.0)
    assert made.epoch == 2


def test_others_draw_as_if_it_were_not_there():
    before = seeds.state()
    Training(from_address(MUCH)).train(2)
    assert seeds.state() == before


@pytest.mark.parametrize("address", ["", MUCH, "problem=plane&loss=huber", "loss=cross_entropy&optimizer=momentum"])
def test_the_program_is_what_is_on_the_screen(address, capsys):
    made, names = Training(from_address(address)), {}
    made.train(4)
    exec(script(made.settings, 4), names)
    assert capsys.readouterr().out.startswith("test loss ")
    for ours, its in zip(weights(made), names["model"].get_weights(), strict=True):
        np.testing.assert_allclose(ours, its, atol=5.1e-5)  # four digits are shown


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("loss", ["squared", "cross_entropy", "hinge"])
def test_losses_fall(rule, loss):
    made = Training(from_message({"problem": "gaussians", "optimizer": rule, "loss": loss, "rate": 0.01}))
    before = made.frame()
    made.train(30)
    after = made.frame()
    assert after["test_loss"] < 0.7 * before["test_loss"]
    assert after["train_loss"] < 0.7 * before["train_loss"]


def test_xor_is_learned():
    made = Training(from_message({}))
    made.train(300)
    assert made.frame()["test_loss"] < 0.05


def test_what_goes_on_keeps_its_weights():
    made = Training(from_message({"dropout": 0}))
    made.train(3)
    before, epoch = weights(made), made.epoch
    for change in ({"rate": 0.1}, {"batch": 50}, {"optimizer": "adam"}, {"dropout": 20}, {"penalty": "l2"}):
        assert made.change(from_message(change)) is False
        assert all((a == b).all() for a, b in zip(before, weights(made), strict=True))
    assert made.epoch == epoch
    made.train(1)
    assert not all((a == b).all() for a, b in zip(before, weights(made), strict=True))


def test_what_begins_anew_does():
    made = Training(from_message({}))
    made.train(3)
    assert made.change(from_message({"layers": [3]})) is True
    assert made.epoch == 0
    assert [each.shape for each in weights(made)] == [(2, 3), (3,), (3, 1), (1,)]
    made.train(2)
    made.restart()
    assert made.epoch == 0
    assert same(made, Training(from_message({"layers": [3]})))


def test_pictures_are_the_outputs():
    made = Training(from_address("layers=3&problem=circle&loss=cross_entropy&optimizer=adam"))
    made.train(200)
    frame = made.frame(whole=True)
    surface = np.frombuffer(b64decode(frame["surface"]), np.uint8).reshape(SURFACE, SURFACE)
    (w1, b1, w2, b2), middle = weights(made), (np.array([NEURON // 2, NEURON // 2]) + 0.5) / NEURON * 2 - 1
    point = middle * 6 * [1, -1]
    hidden = np.tanh(point @ w1 + b1)
    wanted = 2 / (1 + np.exp(-(hidden @ w2 + b2))) - 1
    place = SURFACE // 2 + SURFACE // NEURON // 2
    assert abs(int(surface[place, place]) - (wanted[0] + 1) * 127) < 1.5
    neurons = np.frombuffer(b64decode(frame["neurons"][0]), np.uint8).reshape(3, NEURON, NEURON)
    np.testing.assert_allclose(neurons[:, NEURON // 2, NEURON // 2], (hidden + 1) * 127, atol=1.5)
    assert surface.max() > 200  # the disc
    assert np.array(frame["points"]).shape == (training.COUNT, 3)
    assert frame["trained"] == 250
    assert "points" not in made.frame()


def test_the_first_feature_grows_to_the_right_and_the_second_upwards():
    pictures = Training(from_message({})).frame(whole=True)["features"]
    x1, x2 = (
        np.frombuffer(b64decode(pictures[name]), np.uint8).reshape(NEURON, NEURON).astype(int) for name in ("x1", "x2")
    )
    assert (np.diff(x1, axis=1) > 0).all()
    assert (np.diff(x2, axis=0) < 0).all()


def test_what_diverges_stops_and_says_so():
    made = Training(from_message({"problem": "plane", "layers": [], "rate": 10.0, "features": ["x1^2", "x2^2"]}))
    made.train(500)
    frame = made.frame()
    assert "learning rate" in frame["stopped"]
    epoch = made.epoch
    made.train(5)
    assert made.epoch == epoch
    made.change(from_message({"problem": "plane", "layers": [], "rate": 0.001, "features": ["x1^2", "x2^2"]}))
    assert made.frame()["stopped"] is None


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_problem_trains(problem):
    made = Training(from_address(f"problem={problem}&layers=6,4&noise=20"))
    made.train(2)
    assert np.isfinite([made.frame()["train_loss"], made.frame()["test_loss"]]).all()
