"""Model files: what comes back is what went in, and training goes on bit for bit."""

from __future__ import annotations

import importlib.util
import os
import stat

import numpy as np
import pytest

import fastnn
from fastnn import layers, losses, metrics, models, optimizers, regularizers, utils
from fastnn.engine import seeds
from fastnn.engine.activations import Activation

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(30, 4)).astype("float32")
Y = utils.to_categorical(GENERATOR.integers(0, 3, 30), 3)


def network(dtype="float32"):
    utils.set_random_seed(2)
    return models.Sequential(
        [
            layers.Input((4,), name="in"),
            layers.Dense(6, "relu", kernel_regularizer=regularizers.L2(1e-3), dtype=dtype),
            layers.Activation("tanh"),
            layers.Flatten(),
            layers.Dense(3, "softmax", use_bias=False, kernel_initializer="he_normal", dtype=dtype),
        ]
    )


OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.1),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=1.0),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adam": lambda: optimizers.Adam(0.01, weight_decay=0.01),
    "amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True),
    "adagrad": lambda: optimizers.Adagrad(0.01, initial_accumulator_value=0.3),
    "nadam": lambda: optimizers.Nadam(0.01),
    "ftrl": lambda: optimizers.Ftrl(0.1, l1_regularization_strength=0.01),
    "rprop": lambda: optimizers.Rprop(0.01, step_max=0.1),
    "averaged": lambda: optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=5),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_bit_for_bit(tmp_path, optimizer, dtype):
    path = tmp_path / "model.safetensors"
    model = network(dtype)
    model.compile(OPTIMIZERS[optimizer](), "categorical_crossentropy", metrics=["accuracy"])
    model.fit(X, Y, epochs=3, batch_size=8, verbose=0)
    model.save(path)
    loaded = fastnn.load_model(path)
    assert loaded.optimizer.iterations == model.optimizer.iterations == 12
    assert loaded.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    curves = [m.fit(X, Y, epochs=3, batch_size=8, shuffle=False, verbose=0).history for m in (model, loaded)]
    assert curves[0] == curves[1]
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        assert (a == b).all()
        assert a.dtype == b.dtype == dtype


def test_shuffled_training_goes_on_bit_for_bit(tmp_path):
    """Saving and loading between two epochs changes nothing, not even what the generator draws next."""
    curves = []
    for interrupted in (False, True):
        model = network()
        model.compile("adam", "categorical_crossentropy")
        curve = model.fit(X, Y, epochs=2, batch_size=8, verbose=0).history["loss"]
        if interrupted:
            model.save(tmp_path / "m")
            model = models.load_model(tmp_path / "m")
        curves.append(curve + model.fit(X, Y, epochs=4, initial_epoch=2, batch_size=8, verbose=0).history["loss"])
    assert len(curves[0]) == 4
    assert curves[0] == curves[1]


def test_dropout_goes_on_bit_for_bit(tmp_path):
    """A layer's own seed draws masks by the optimizer's step, which a file keeps."""
    utils.set_random_seed(2)
    model = models.Sequential(
        [
            layers.Rescaling(0.5, 1),
            layers.Dropout(0.2, seed=1),
            layers.Dense(5, "relu"),
            layers.Dropout(0.4, 9),
            layers.Dense(3),
        ]
    )
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=2, batch_size=8, verbose=0)
    model.save(tmp_path / "m")
    loaded = models.load_model(tmp_path / "m")
    assert [layer.get_config() for layer in loaded.layers] == [layer.get_config() for layer in model.layers]
    curves = [m.fit(X, Y, epochs=3, batch_size=8, shuffle=False, verbose=0).history for m in (model, loaded)]
    assert curves[0] == curves[1]


def test_everything_comes_back(tmp_path):
    path = tmp_path / "m"
    model = network()
    model.compile(
        optimizers.RMSprop(0.02, rho=0.7),
        losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=["acc", metrics.TopKCategoricalAccuracy(k=2), "mse"],
        weighted_metrics=["acc"],
    )
    model.layers[0].trainable = False
    model.save(path)
    loaded = models.load_model(path)
    assert loaded.get_config() == model.get_config()
    assert loaded.name == model.name
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert loaded.loss.get_config() == model.loss.get_config()
    assert loaded.metrics_names == model.metrics_names
    assert not loaded.layers[0].trainable
    assert loaded.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)


def test_without_compiling(tmp_path):
    path = tmp_path / "m"
    network().save(path)
    loaded = models.load_model(path)
    assert loaded.optimizer is None
    model = network()
    model.compile("adam", "mse")
    model.save(path)
    loaded = models.load_model(path, compile=False)
    assert loaded.optimizer is None
    assert (loaded.predict(X) == model.predict(X)).all()


def test_loaded_weights_are_independent_of_the_file(tmp_path):
    path = tmp_path / "m"
    model = network()
    model.compile("sgd", "categorical_crossentropy")
    model.save(path)
    loaded = models.load_model(path)
    path.unlink()
    loaded.fit(X, Y, verbose=0)
    assert not (loaded.get_weights()[0] == model.get_weights()[0]).all()


@pytest.mark.parametrize("name", ["m.safetensors", "m", "m.fastnn", "m.v2", "mit Umlaut ä.bin", ".keras"])
def test_a_name_that_promises_no_other_format_will_do(tmp_path, name):
    path = tmp_path / name
    model = network()
    for given in (path, str(path)):
        model.save(given)
        assert (models.load_model(given).predict(X) == model.predict(X)).all()
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("save", ["save", "save_weights"])
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "x.KERAS",
            r"filepath: got 'x.KERAS', whose suffix stands for Keras, wants 'x.safetensors', 'x.*' or an",
        ),
        ("x.H5", r"got 'x.H5', whose suffix stands for Keras, wants 'x.safetensors'"),
        ("x.hdf5", "stands for Keras"),
        ("x.pt", "stands for PyTorch"),
        ("x.npz", "stands for NumPy"),
        ("x.pkl", "stands for pickle"),
        ("x.onnx", "stands for ONNX"),
    ],
)
def test_a_name_that_promises_another_format_is_refused(tmp_path, save, name, wanted):
    with pytest.raises(ValueError, match=wanted):
        getattr(network(), save)(tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("save", "name", "wanted"),
    [
        ("save", "x.weights.h5", "wants 'x.safetensors', 'x.keras' or another name"),
        ("save_weights", "x.keras", "wants 'x.safetensors', 'x.weights.h5' or another name"),
    ],
)
def test_models_and_weights_for_keras_have_names_of_their_own(tmp_path, save, name, wanted):
    with pytest.raises(ValueError, match=wanted):
        getattr(network(), save)(tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("save", "name"), [("save", "x.keras"), ("save_weights", "x.weights.h5")])
def test_files_for_keras_need_h5py(tmp_path, monkeypatch, save, name):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "h5py" else found(name))
    with pytest.raises(ImportError, match=r"Keras's files need h5py, which is not installed: pip install .*\[keras\]"):
        getattr(network(), save)(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_a_file_that_begins_like_a_pickle(tmp_path):
    """The first bytes are the length of the header, here 0x0480, which are those of a pickle too."""
    path = tmp_path / "m"
    for length in range(1, 1024):
        model = models.Sequential([layers.Dense(1, input_shape=(2,), name="d" * length)])
        model.save(path)
        if path.read_bytes().startswith(b"\x80\x04"):
            break
    else:
        pytest.fail("no name gave a header of that length")
    assert models.load_model(path).layers[0].name == "d" * length


def test_relative_path_and_mode(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = os.umask(0o027)
    try:
        network().save("m")
    finally:
        os.umask(kept)
    assert stat.S_IMODE(os.stat("m").st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    network().save(real)
    link.symlink_to(real)
    model = network()
    model.set_weights([w * 0 for w in model.get_weights()])
    model.save(link)
    assert link.is_symlink()
    assert (models.load_model(real).get_weights()[0] == 0).all()


def test_weights_alone(tmp_path):
    path = tmp_path / "w.weights"
    model, other = network(), network()
    other.set_weights([w * 0 for w in other.get_weights()])
    model.save_weights(path)
    other.load_weights(path)
    assert (other.predict(X) == model.predict(X)).all()
    model.save(path)
    other.set_weights([w * 0 for w in other.get_weights()])
    other.load_weights(path)  # a whole model will do as well
    assert (other.predict(X) == model.predict(X)).all()


def test_the_file_is_plain_safetensors(tmp_path):
    import safetensors.numpy

    path = tmp_path / "m"
    model = network()
    model.compile("adam", "categorical_crossentropy")
    model.fit(X, Y, verbose=0)
    model.save(path)
    arrays = safetensors.numpy.load_file(path)
    kernel = model.layers[0].kernel
    assert (arrays[f"weights/0000/{kernel.path}"] == kernel.value).all()
    assert f"optimizer/{kernel.path}/m" in arrays
    assert b"pickle" not in path.read_bytes()


def test_an_unbuilt_model_has_nothing_to_save(tmp_path):
    with pytest.raises(ValueError, match="save: the model is not built"):
        models.Sequential([layers.Dense(2)]).save(tmp_path / "m")
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------------------------- what could not be loaded


@pytest.mark.parametrize("save", ["save", "save_weights"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_leave_the_good_file(tmp_path, save, value):
    path = tmp_path / "m"
    model = network()
    getattr(model, save)(path)
    before = path.read_bytes()
    model.layers[0].bias.value[3] = value
    with pytest.raises(ValueError, match=rf"{model.layers[0].name}/bias: got {value} in row 3, wants finite numbers"):
        getattr(model, save)(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]


def changed_activation(model):
    model.layers[0]._activation = Activation("nonsense")


def state_of_another_model(model):
    model.optimizer.state[model.weights[0].path] = {"m": np.zeros(3, "float32"), "v": np.zeros(3, "float32")}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda model: setattr(model.optimizer, "beta_1", 7.0), "beta_1: got 7.0, wants a finite number"),
        (lambda model: setattr(model.optimizer, "iterations", 2**60), "iterations: got 1152921504606846976, wants"),
        (changed_activation, "activation: got 'nonsense', wants one of"),
        (state_of_another_model, r"kernel/m: got ndarray of shape \(3,\).* wants an array of shape \(4, 6\)"),
    ],
)
def test_a_model_that_could_not_be_loaded_is_not_saved(tmp_path, spoil, message):
    path = tmp_path / "m"
    model = network()
    model.compile("adam", "categorical_crossentropy")
    model.save(path)
    before = path.read_bytes()
    spoil(model)
    with pytest.raises(ValueError, match=f"save: got a model that load_model would refuse .*{message}"):
        model.save(path)
    assert path.read_bytes() == before
    model.save_weights(path)  # they are as good as ever


def test_saving_draws_nothing(tmp_path):
    model = network()
    wanted = [utils.set_random_seed(5), seeds.draw_seed()][1]
    utils.set_random_seed(5)
    model.save(tmp_path / "m")
    assert seeds.draw_seed() == wanted


def test_numbers_of_numpy_in_a_description(tmp_path):
    model = network()
    model.compile(optimizers.Adam(np.float32(0.25), clipnorm=np.float32(2)), "categorical_crossentropy")
    model.save(tmp_path / "m")
    loaded = models.load_model(tmp_path / "m").optimizer
    assert (loaded.learning_rate, loaded.clipnorm) == (0.25, 2.0)


def test_state_that_has_become_incomplete(tmp_path):
    """Momentum that is switched on later starts from nothing, with or without a file in between."""
    model = network()
    model.compile(optimizers.SGD(0.1), "categorical_crossentropy")
    model.fit(X, Y, verbose=0)
    model.optimizer.momentum = 0.5
    model.save(tmp_path / "m")
    loaded = models.load_model(tmp_path / "m")
    assert loaded.optimizer.momentum == 0.5
    assert loaded.optimizer.state == {}
