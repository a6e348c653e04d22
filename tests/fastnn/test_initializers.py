"""Initializers: bounds and moments by formula, seeds, names."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastnn import initializers, layers, utils

SHAPE = (300, 200)
SCALED = {  # name: (standard deviation, largest absolute value)
    "glorot_uniform": (math.sqrt(2 / 500), math.sqrt(6 / 500)),
    "glorot_normal": (math.sqrt(2 / 500), 2 * math.sqrt(2 / 500) / 0.8796256610342398),
    "he_uniform": (math.sqrt(2 / 300), math.sqrt(6 / 300)),
    "he_normal": (math.sqrt(2 / 300), 2 * math.sqrt(2 / 300) / 0.8796256610342398),
    "lecun_uniform": (math.sqrt(1 / 300), math.sqrt(3 / 300)),
    "lecun_normal": (math.sqrt(1 / 300), 2 * math.sqrt(1 / 300) / 0.8796256610342398),
    "random_uniform": (0.1 / math.sqrt(12), 0.05),
    "random_normal": (0.05, math.inf),
    "truncated_normal": (0.05 * 0.8796256610342398, 0.1),
}


@pytest.mark.parametrize("name", SCALED)
def test_moments(name):
    deviation, bound = SCALED[name]
    utils.set_random_seed(7)
    draw = initializers.get(name)(SHAPE, "float64")
    assert draw.shape == SHAPE
    count = draw.size
    assert abs(draw.mean()) < 5 * deviation / math.sqrt(count)
    assert draw.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * count))
    assert np.abs(draw).max() <= bound
    if bound < math.inf:
        assert np.abs(draw).max() > 0.99 * bound


@pytest.mark.parametrize("name", ["truncated_normal", "untruncated_normal", "uniform"])
@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 300), ("fan_out", 200), ("fan_avg", 250)])
def test_variance_scaling(name, mode, fan):
    draw = initializers.VarianceScaling(3.0, mode, name, seed=1)(SHAPE, "float64")
    assert draw.var() == pytest.approx(3 / fan, rel=0.03)


def test_receptive_field_multiplies_the_fans():
    draw = initializers.GlorotUniform(seed=0)((5, 5, 8, 12), "float64")
    assert np.abs(draw).max() <= math.sqrt(6 / (25 * 20)) < 1.02 * np.abs(draw).max()


def test_constants():
    assert (initializers.Zeros()((2, 3)) == 0).all()
    assert (initializers.Ones()((2, 3)) == 1).all()
    assert (initializers.Constant(2.5)((2, 3)) == 2.5).all()
    assert (initializers.Identity(2.0)((2, 2)) == 2 * np.eye(2)).all()
    with pytest.raises(ValueError, match="wants two dimensions"):
        initializers.Identity()((3,))


@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (2, 3, 4)])
def test_orthogonal(shape):
    q = initializers.Orthogonal(gain=2.0, seed=0)(shape, "float64").reshape(-1, shape[-1])
    small = min(q.shape)
    gram = q.T @ q if q.shape[1] == small else q @ q.T
    np.testing.assert_allclose(gram, 4 * np.eye(small), atol=1e-12)


def test_one_object_repeats_itself_and_two_do_not():
    utils.set_random_seed(0)
    first, second = initializers.GlorotUniform(), initializers.GlorotUniform()
    assert (first((3, 4)) == first((3, 4))).all()
    assert (first((3, 4)) != second((3, 4))).any()
    assert (initializers.HeNormal(seed=5)((3, 4)) == initializers.HeNormal(seed=5)((3, 4))).all()


def test_random_seed_repeats_a_whole_model():
    weights = []
    for _ in range(2):
        utils.set_random_seed(42)
        layer = layers.Dense(4, kernel_initializer="he_normal", bias_initializer="random_uniform")
        layer.build((None, 3))
        weights.append(layer.get_weights())
    assert all((a == b).all() for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize("name", sorted(initializers.NAMES))
def test_names_and_configs(name):
    made = initializers.get(name)
    again = initializers.get({"class_name": type(made).__name__, "config": made.get_config()})
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()
    assert made((4, 4), "float32").dtype == np.float32
    assert initializers.get(type(made)).get_config() == made.get_config()
    assert initializers.get(made) is made


def test_config_carries_a_given_seed():
    made = initializers.TruncatedNormal(0.5, 0.1, seed=3)
    again = initializers.TruncatedNormal.from_config(made.get_config())
    assert (made((5,)) == again((5,))).all()
