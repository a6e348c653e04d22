"""Initializers: bounds and moments by formula, seeds, names."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest

import fastnn
from fastnn import configurable, initializers, layers, models, utils

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


@pytest.mark.parametrize(
    ("axes", "mode", "fan"),
    [(((0,), (2,)), "fan_in", 300), (((0,), (2,)), "fan_out", 50), (((-2,), (0, -1)), "fan_avg", (4 + 15000) / 2)],
)
def test_axes_of_inputs_and_outputs(axes, mode, fan):
    draw = initializers.VarianceScaling(3.0, mode, "Normal", 1, *axes)((300, 4, 50), "float64")
    assert draw.var() == pytest.approx(3 / fan, rel=0.03)
    bound = np.abs(initializers.GlorotUniform(1, [1], [2])((300, 4, 50))).max()
    assert bound == pytest.approx(math.sqrt(6 / 54), rel=1e-3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: initializers.HeNormal(input_axes=[0]), ValueError, r"got \[0\] and None, wants both or neither"),
        (lambda: initializers.HeNormal(0, 1, [2]), TypeError, "input_axes: got int 1, wants a list of integers"),
        (lambda: initializers.HeNormal(0, [1], ["2"]), TypeError, r"output_axes\[0\]: got str '2', wants an integer"),
        (
            lambda: initializers.HeNormal(0, [1], [2])((3, 4)),
            ValueError,
            r"shape: got \(3, 4\), wants one that has the axis 2",
        ),
        (lambda: initializers.VarianceScaling(distribution="norm"), ValueError, "distribution: got 'norm', wants one"),
        (lambda: initializers.VarianceScaling(distribution=3), TypeError, "distribution: got int 3, wants one of"),
    ],
)
def test_refused_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_small_spellings_are_the_classes():
    for cls in set(initializers.NAMES.values()):
        assert getattr(initializers, configurable.snake_case(cls.__name__)) is cls
    assert initializers.IdentityInitializer is initializers.Identity
    assert initializers.OrthogonalInitializer is initializers.Orthogonal


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
    shape = (4, 1, 4) if isinstance(made, initializers.STFT) else (4, 4)
    assert made(shape, "float32").dtype == np.float32
    assert initializers.get(type(made)).get_config() == made.get_config()
    assert initializers.get(made) is made
    written = json.loads(json.dumps(initializers.serialize(made)))
    assert initializers.deserialize(written).get_config() == made.get_config()


def test_config_carries_a_given_seed():
    for made in (initializers.TruncatedNormal(0.5, 0.1, seed=3), initializers.HeNormal(3, (0,), (0, -1))):
        again = type(made).from_config(json.loads(json.dumps(made.get_config())))
        assert (made((5,)) == again((5,))).all()
        assert again.get_config() == made.get_config()


# ---------------------------------------------------------------------------------------------------- arrays, functions


def first(shape=(4, 3), **options):
    """The kernel and bias of a new layer."""
    layer = layers.Dense(shape[1], **options)
    layer.build((None, shape[0]))
    return layer.get_weights()


def twos(shape, dtype=None):
    return np.full(shape, 2, dtype)


class Threes:
    """Not derived from anything."""

    def __call__(self, shape, dtype=None):
        return [[3] * shape[1]] * shape[0]


KERNEL = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    ("initializer", "wanted"),
    [
        (KERNEL, KERNEL),
        (KERNEL.astype("int8"), KERNEL),
        (np.asfortranarray(KERNEL), KERNEL),
        (KERNEL[::-1, ::-1], KERNEL[::-1, ::-1]),
        (twos, np.full((4, 3), 2)),
        (np.ones, np.ones((4, 3))),
        (lambda shape, dtype: np.eye(*shape), np.eye(4, 3)),
        (Threes(), np.full((4, 3), 3)),
        (Threes, np.full((4, 3), 3)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_and_functions(initializer, wanted, dtype):
    kernel, bias = first(kernel_initializer=initializer, dtype=dtype)
    np.testing.assert_array_equal(kernel, wanted)
    assert kernel.dtype == dtype
    assert kernel.flags.c_contiguous
    assert (bias == 0).all()
    (_, bias) = first((4, 3), bias_initializer=np.arange(3), dtype=dtype)
    assert bias.tolist() == [0, 1, 2]


def test_training_leaves_the_array_alone():
    kernel = np.ones((3, 1), "float32")
    model = models.Sequential([layers.Dense(1, input_shape=(3,), kernel_initializer=kernel)])
    twin = models.Sequential([layers.Dense(1, input_shape=(3,), kernel_initializer=model.layers[0].kernel)])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3)), np.zeros(4), verbose=0)
    assert (kernel == 1).all()
    assert (twin.get_weights()[0] == 1).all()
    assert (model.get_weights()[0] != 1).all()


def test_none_is_glorot_uniform_for_biases_too():
    assert initializers.get(None) is None
    utils.set_random_seed(3)
    kernel, bias = first((300, 200), kernel_initializer=None, bias_initializer=None)
    assert kernel.std() == pytest.approx(math.sqrt(2 / 500), rel=0.05)
    assert 0.9 * math.sqrt(6 / 400) < np.abs(bias).max() <= math.sqrt(6 / 400)
    utils.set_random_seed(3)
    again = first((300, 200), kernel_initializer=None, bias_initializer=None)
    assert (kernel == again[0]).all()
    assert (bias == again[1]).all()
    assert layers.Dense(2, kernel_initializer=None).get_config()["kernel_initializer"] is None


class Own(initializers.Initializer):
    def __call__(self, shape, dtype="float32"):
        return np.full(shape, 0.25, dtype)


@pytest.mark.parametrize("kind", ["array", "function", "object", "own", "none"])
def test_models_with_them_are_saved_and_loaded(tmp_path, kind):
    initializer = {"array": KERNEL[:3], "function": twos, "object": Threes(), "own": Own(), "none": None}[kind]
    model = models.Sequential([layers.Dense(3, input_shape=(3,), kernel_initializer=initializer)])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3)), np.zeros((4, 3)), verbose=0)
    model.save(tmp_path / "model.fastnn")
    loaded = fastnn.load_model(tmp_path / "model.fastnn")
    assert all((a == b).all() for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True))
    loaded.save(tmp_path / "again.fastnn")
    assert fastnn.load_model(tmp_path / "again.fastnn").get_config() == loaded.get_config()
    if kind == "none":
        assert loaded.layers[0].kernel_initializer is None
        models.Sequential.from_config(loaded.get_config())
        return
    for description in (model.get_config(), loaded.get_config()):
        with pytest.raises(
            ValueError, match=r"initializer: got the description of one \(.*\), .*wants the initializer"
        ):
            models.Sequential.from_config(description)


def test_loading_draws_nothing(tmp_path, monkeypatch):
    models.Sequential([layers.Dense(3, input_shape=(3,))]).save(tmp_path / "model.fastnn")
    monkeypatch.setattr(initializers.GlorotUniform, "_draw", None)
    loaded = fastnn.load_model(tmp_path / "model.fastnn")
    monkeypatch.undo()
    assert first()[0].any()
    assert loaded.get_weights()[0].any()


REFUSED = {
    "array of another shape": (
        KERNEL.T,
        ValueError,
        r"kernel_initializer: got an array of shape \(3, 4\) from it, wants \(4, 3\)",
    ),
    "array with NaN": (KERNEL * np.nan, ValueError, "kernel_initializer: got nan in row 0, wants finite numbers"),
    "array of strings": (
        KERNEL.astype(str),
        TypeError,
        "kernel_initializer: got ndarray .*, wants an array of numbers",
    ),
    "masked array": (np.ma.masked_array(KERNEL), TypeError, "kernel_initializer: got a masked array"),
    "function of another shape": (lambda shape, dtype: 0.5, ValueError, r"got an array of shape \(\) from it, wants"),
    "function that gives None": (lambda shape, dtype: None, TypeError, "got NoneType None from it, wants an array of"),
    "function that gives infinity": (
        lambda shape, dtype: np.full(shape, np.inf),
        ValueError,
        "kernel_initializer: got inf in row 0",
    ),
    "function without dtype": (
        lambda shape: np.ones(shape, "float32"),
        TypeError,
        "unexpected keyword argument 'dtype'",
    ),
    "list": ([[1.0] * 3] * 4, TypeError, r"kernel_initializer: got list .*, wants a name .*an array, a function"),
    "number": (3.0, TypeError, r"kernel_initializer: got float 3.0, wants a name such as 'glorot_uniform'"),
    "array without axes": (np.array(3.0), TypeError, r"kernel_initializer: got ndarray of shape \(\)"),
    "class of numbers": (float, TypeError, "kernel_initializer: got float 0.0, wants a name"),
    "config with a wrong description": (
        {"class_name": "Given", "config": {"description": 3}},
        TypeError,
        "description: got int 3, wants a string",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    initializer, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        first(kernel_initializer=initializer)


def test_a_description_is_no_name_for_users():
    assert "given" not in initializers.NAMES
    with pytest.raises(ValueError, match="kernel_initializer: got 'Given', wants one of"):
        layers.Dense(2, kernel_initializer="Given")


def test_waves_of_a_transform():
    shape, window = (6, 1, 4), np.array([0.5, 1, 1, 2, 1, 0.5])
    x = np.random.default_rng(0).standard_normal(6)
    expected = np.fft.rfft(x * window)
    for scaling, scale in ((None, 1), ("density", np.sqrt((window**2).sum())), ("spectrum", window.sum())):
        real, imag = (initializers.STFT(side, window, scaling)(shape, "float64")[:, 0] for side in ("real", "imag"))
        np.testing.assert_allclose((x @ real + 1j * (x @ imag)) * scale, expected, atol=1e-12)
    plain = initializers.STFT("real", None)(shape)
    assert plain.dtype == np.float32
    np.testing.assert_allclose(x @ plain[:, 0], np.fft.rfft(x).real, atol=1e-5)
    made = initializers.STFT("imag", window, None)
    again = initializers.deserialize(initializers.serialize(made))
    assert np.array_equal(made(shape), again(shape))
    periodic, symmetric = (initializers.STFT(window="hann", periodic=each)(shape) for each in (True, False))
    assert not np.array_equal(periodic, symmetric)


@pytest.mark.parametrize(
    ("options", "shape", "wanted"),
    [
        ({"side": "left"}, None, "side: got 'left', wants one of 'real', 'imag'"),
        ({"scaling": "l2"}, None, "scaling: got 'l2'"),
        ({"window": "hahn"}, None, "window: got 'hahn', wants the name of one of SciPy's windows"),
        ({"window": [[1.0]]}, None, r"window: got shape \(1, 1\)"),
        ({"window": [1.0, 2.0]}, (3, 1, 4), "window: got 2 numbers, wants 3"),
        ({}, (3, 4), r"shape: got \(3, 4\), wants \(samples, 1, bands\)"),
        ({}, (3, 1, 1), "shape: got .*two bands"),
    ],
)
def test_what_is_no_transform(options, shape, wanted):
    with pytest.raises(ValueError, match=wanted):
        initializers.STFT(**options)(shape)


def test_named_windows_need_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match="window: got 'hann', wants numbers: names need SciPy"):
        initializers.STFT()
    assert initializers.STFT(window=None)((4, 1, 3)).shape == (4, 1, 3)
