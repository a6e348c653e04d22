"""Keras's files: what either library writes is to the other what it was, to 1e-5, or it is said what is lacking."""

from __future__ import annotations

import json
import os
import zipfile
from functools import partial

import numpy as np
import pytest

from fastnn import activations, callbacks, cli, layers, models, utils
from tests.fastnn.test_compiled_layers import JOINS, STACKS
from tests.peers import test_graphs

os.environ.setdefault("KERAS_BACKEND", "torch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
keras = pytest.importorskip("keras", minversion="3.15", reason="Keras is not installed: pip install -e '.[peers]'")
pytest.importorskip("h5py", reason="h5py is not installed: pip install -e '.[keras]'")

L = keras.layers
IMAGE, SEQUENCE, ROW = (8, 7, 4), (9, 4), (5,)


def stack(shape, *inner):
    return lambda: keras.Sequential([L.Input(shape), *(make() for make in inner)])


def shared():
    a, b = L.Input((4,), name="a"), L.Input((4,), name="b")
    dense = L.Dense(5, activation=keras.activations.leaky_relu, name="shared")
    block = keras.Sequential([L.Input((5,)), L.Dense(5), L.BatchNormalization()], name="block")
    merged = L.Concatenate()([L.Add()([dense(a), block(dense(b))]), L.Multiply()([a, b])])
    steps = L.Bidirectional(L.LSTM(3, return_sequences=True))(L.Reshape((9, 1))(merged))
    return keras.Model([a, b], {"row": L.Dense(2, name="row")(merged), "mean": L.GlobalAveragePooling1D()(steps)})


def attention():
    """Every way to say what is attended to."""
    a, b = L.Input((4, 6)), L.Input((3, 6))
    ones = L.Rescaling(0.0, 1.0)(L.Dot(2)([a, a]))
    y, weights = L.MultiHeadAttention(2, 3, value_dim=5)(
        a, b, key=b, use_causal_mask=True, return_attention_scores=True
    )
    y = L.MultiHeadAttention(2, 3, output_shape=6, use_bias=False)(y, y, attention_mask=ones)
    y = L.Attention(use_scale=True, score_mode="concat")([y, b])
    y = L.AdditiveAttention()([y, b, b], use_causal_mask=True)
    return keras.Model([a, b], {"row": y, "weights": weights})


def options(**more):
    """A Dense layer with all that one can have."""
    return L.Dense(
        3, kernel_initializer="he_normal", bias_initializer=keras.initializers.Constant(0.5),
        kernel_regularizer=keras.regularizers.L1L2(0.01, 0.01),
        kernel_constraint=keras.constraints.MaxNorm(2.0), bias_constraint="non_neg", **more,
    )  # fmt: skip


MODELS = {
    "dense": stack(
        ROW, options, lambda: L.Dense(2, "softmax"), lambda: L.Dropout(0.3), lambda: L.AlphaDropout(0.2),
        L.RMSNormalization,
    ),
    "activations": stack(
        ROW, lambda: L.Activation("gelu"), lambda: L.ReLU(6.0), L.LeakyReLU, L.PReLU, L.ELU, L.Softmax,
        lambda: L.Dense(3, activation=keras.layers.LeakyReLU(0.1)),
    ),
    "images": stack(
        IMAGE, lambda: L.RandomBrightness(0.1), lambda: L.RandomContrast((0.1, 0.2), (0, 1)),
        lambda: L.Rescaling(1 / 255),
        lambda: L.Conv2D(4, 3, padding="same", groups=2, activation="relu"),
        L.BatchNormalization, lambda: L.DepthwiseConv2D(2), lambda: L.MaxPooling2D(2, padding="same"),
        lambda: L.SeparableConv2D(5, 2), lambda: L.Conv2DTranspose(3, 2, strides=2), L.ZeroPadding2D, L.UpSampling2D,
        lambda: L.Cropping2D(1), L.LayerNormalization, lambda: L.GroupNormalization(3), lambda: L.SpatialDropout2D(0.2),
        L.GlobalAveragePooling2D,
    ),
    "sequences": stack(
        SEQUENCE, lambda: L.Conv1D(4, 2, padding="causal"), lambda: L.SeparableConv1D(4, 3, padding="same"),
        lambda: L.EinsumDense("abc,cd->abd", (None, 4), "tanh", "d"),
        lambda: L.DepthwiseConv1D(3, padding="same", depth_multiplier=2), L.MaxPooling1D, lambda: L.GaussianNoise(0.1),
        lambda: L.SimpleRNN(3, return_sequences=True), lambda: L.GRU(3, go_backwards=True), lambda: L.RepeatVector(3),
        lambda: L.Permute((2, 1)), L.Flatten,
    ),
    "words": lambda: keras.Sequential(
        [L.Input((6,)), L.Embedding(20, 4, mask_zero=True), L.Bidirectional(L.GRU(3), merge_mode="sum"), L.Dense(1)]
    ),
    "frozen": stack(ROW, lambda: L.Dense(3, trainable=False), lambda: L.Dense(2)),
    "graph": shared,
    "attention": attention,
}  # fmt: skip


def saved(model, path):
    model.set_weights([np.random.default_rng(1).uniform(0.1, 0.9, w.shape) for w in model.get_weights()])
    model.save(path)
    return path


def drawn(model):
    rng = np.random.default_rng(0)
    if isinstance(model.layers[0], L.Embedding):
        return rng.integers(0, 20, (5, 6))
    found = [rng.standard_normal((5, *tensor.shape[1:])).astype("float32") for tensor in model.inputs]
    return found if len(found) > 1 else found[0]


@pytest.mark.parametrize("name", MODELS)
def test_what_keras_wrote_computes_the_same(name, tmp_path):
    theirs = MODELS[name]()
    ours = models.load_model(saved(theirs, tmp_path / "model.keras"))
    x = drawn(theirs)
    expected, found = theirs.predict(x, verbose=0), ours.predict(x, verbose=0)
    for key in expected if isinstance(expected, dict) else [...]:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-5, atol=1e-5)
    assert {layer.name for layer in ours.layers} == {layer.name for layer in theirs.layers}
    assert len(ours.trainable_weights) == len(theirs.trainable_weights)


def assert_same_outputs(one, other, x):
    expected, found = (model.predict(x, verbose=0) for model in (one, other))
    for key in expected if isinstance(expected, dict) else [...]:
        np.testing.assert_allclose(np.asarray(found[key]), np.asarray(expected[key]), rtol=1e-4, atol=1e-5)


def assert_read_by_both(model, path, x):
    """Both libraries make the same model of the file that fastnn writes."""
    model.save(path)
    for library in (models, keras.models):
        assert_same_outputs(model, library.load_model(path), x)


@pytest.mark.parametrize("name", MODELS)
def test_keras_reads_what_fastnn_writes(name, tmp_path):
    theirs = MODELS[name]()
    ours = models.load_model(saved(theirs, tmp_path / "model.keras"))
    assert_read_by_both(ours, tmp_path / "again.keras", drawn(theirs))
    assert len(keras.models.load_model(tmp_path / "again.keras").trainable_weights) == len(theirs.trainable_weights)


# What no file of Keras says: a function, fastnn's own functions by name, and how many sequences a state is of.
UNSAID = ("Lambda", "Function", "stateful")
# What Keras computes otherwise than it says: it neither crops nor resizes outside of training.
OTHERWISE = ("RandomCrop",)


@pytest.mark.parametrize("name", [name for name in (*STACKS, *JOINS) if not name.endswith((*UNSAID, *OTHERWISE))])
def test_keras_reads_every_layer(name, tmp_path):
    rng = np.random.default_rng(0)
    utils.set_random_seed(0)
    shape, make = {**STACKS, **JOINS}[name]
    x = rng.integers(0, 20, (5, 6)) if shape == "words" else rng.standard_normal((5, *shape)).astype("float32")
    inputs = [layers.Input(x.shape[1:]) for _ in range(2 if name in JOINS else 1)]
    model = models.Model(inputs, make(*inputs)) if name in JOINS else models.Sequential([*inputs, *make()])
    if name != "Normalization":  # which was given its numbers
        model.set_weights([rng.uniform(0.1, 0.9, w.shape) for w in model.get_weights()])
    assert_read_by_both(model, tmp_path / "model.keras", [x, x[::-1]] if name in JOINS else x)


@pytest.mark.parametrize("seed", range(6))
def test_keras_reads_graphs_drawn_at_random(seed, tmp_path):
    """Whose layers of one shape must not be taken for each other."""
    rng = np.random.default_rng(seed)
    utils.set_random_seed(seed)
    model, _ = test_graphs.drawn(rng)
    x = [rng.standard_normal((6, shape[-1])) for shape in model.input_shape]
    model.save(tmp_path / "model.keras")
    back = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(model.predict(x, verbose=0), back.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


def test_keras_reads_what_a_normalization_has_seen(tmp_path):
    theirs, ours = (kind.Normalization() for kind in (L, layers))
    x = np.random.default_rng(0).normal(3.0, 2.0, (40, *ROW)).astype("float32")
    for layer in (theirs, ours):
        layer.adapt(x)
    made = models.Sequential([layers.Input(ROW), ours])
    assert_same_outputs(keras.Sequential([L.Input(ROW), theirs]), made, x)
    assert_read_by_both(made, tmp_path / "model.keras", x)
    theirs = saved(keras.Sequential([L.Input(ROW), theirs]), tmp_path / "theirs.keras")
    assert_same_outputs(keras.models.load_model(theirs), models.load_model(theirs), x)


def test_keras_reads_weights_alone(tmp_path):
    theirs, twin = MODELS["images"](), MODELS["images"]()
    ours = models.load_model(saved(theirs, tmp_path / "model.keras"))
    ours.save_weights(tmp_path / "ours.weights.h5")
    twin.load_weights(tmp_path / "ours.weights.h5")
    assert_same_outputs(theirs, twin, drawn(theirs))
    ours.load_weights(tmp_path / "ours.weights.h5")
    assert_same_outputs(theirs, ours, drawn(theirs))


def test_a_checkpoint_and_a_conversion_of_the_names_that_scripts_have(tmp_path):
    path = tmp_path / "best-{epoch}.keras"
    model = models.load_model(saved(MODELS["dense"](), tmp_path / "model.keras"))
    model.compile("adam", "mse", metrics=["mae"])
    x = np.random.default_rng(0).random((16, *ROW), "float32")
    model.fit(x, x[:, :2], epochs=2, callbacks=[callbacks.ModelCheckpoint(path, "loss")], verbose=0)
    assert sorted(os.listdir(tmp_path)) == ["best-1.keras", "best-2.keras", "model.keras"]
    assert_same_outputs(model, keras.models.load_model(tmp_path / "best-2.keras"), x)
    model.save(tmp_path / "m.safetensors")
    assert cli.main(["convert", str(tmp_path / "m.safetensors"), str(tmp_path / "m.keras")]) == 0
    assert_same_outputs(model, keras.models.load_model(tmp_path / "m.keras"), x)


class Own(models.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Own, "got a model of the class Own, which a .keras file cannot hold, wants a Sequential"),
        (
            lambda: models.Sequential([layers.Dense(2, partial(activations.celu, alpha=2.0))]),
            "activation: got celu with {'alpha': 2.0} in a .keras file, wants such numbers of relu",
        ),
    ],
    ids=["model", "activation"],
)
def test_what_a_file_cannot_hold_is_not_written(make, message, tmp_path):
    model = make()
    model.build((None, *ROW))
    with pytest.raises(ValueError, match=message):
        model.save(tmp_path / "model.keras")
    assert os.listdir(tmp_path) == []


def test_what_a_layer_was_made_with(tmp_path):
    ours = models.load_model(saved(MODELS["dense"](), tmp_path / "model.keras"))
    config = ours.layers[0].get_config()
    assert config["kernel_initializer"]["class_name"] == "HeNormal"
    assert config["bias_initializer"]["config"]["value"] == 0.5
    assert config["kernel_regularizer"] == {"class_name": "L1L2", "config": {"l1": 0.01, "l2": 0.01}}
    assert config["kernel_constraint"]["config"]["max_value"] == 2.0
    assert config["bias_constraint"]["class_name"] == "NonNeg"


def test_it_can_be_trained_saved_and_converted(tmp_path):
    path = saved(MODELS["images"](), tmp_path / "model.keras")
    model = models.load_model(path)
    x = np.random.default_rng(0).random((8, *IMAGE), "float32")
    before = model.predict(x, verbose=0)
    assert cli.main(["convert", str(path), str(tmp_path / "model.safetensors")]) == 0
    np.testing.assert_array_equal(models.load_model(tmp_path / "model.safetensors").predict(x, verbose=0), before)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros_like(before), verbose=0)
    assert abs(model.predict(x, verbose=0) - before).max() > 0


optimizers = keras.optimizers
OPTIMIZERS = {
    "SGD": lambda: optimizers.SGD(0.1),
    "SGD momentum": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "SGD schedule": lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)),
    "RMSprop": lambda: optimizers.RMSprop(0.01),
    "RMSprop all": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "Adam": lambda: optimizers.Adam(0.01, clipnorm=1.0),
    "Adam amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True),
    "AdamW average": lambda: optimizers.AdamW(0.01, use_ema=True, ema_overwrite_frequency=4),
    "Adagrad": lambda: optimizers.Adagrad(0.1),
    "Adadelta": lambda: optimizers.Adadelta(1.0),
    "Adamax": lambda: optimizers.Adamax(0.01),
    "Nadam": lambda: optimizers.Nadam(0.01),
    "Ftrl": lambda: optimizers.Ftrl(0.1, l1_regularization_strength=0.01),
    "Lion": lambda: optimizers.Lion(0.01),
}


def classifier():
    return keras.Sequential([L.Input(ROW), L.Dense(6, "tanh"), L.BatchNormalization(), L.Dense(3, "softmax")])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_where_keras_stopped(name, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, *ROW)).astype("float32"), rng.integers(0, 3, 24)
    theirs = classifier()
    top = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")
    theirs.compile(OPTIMIZERS[name](), "sparse_categorical_crossentropy", metrics=["accuracy", top])
    theirs.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    theirs.save(tmp_path / "model.keras")
    ours = models.load_model(tmp_path / "model.keras")
    assert ours.optimizer.iterations == 6
    histories = [each.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history for each in (theirs, ours)]
    assert histories[0].keys() == histories[1].keys() == {"loss", "accuracy", "top"}
    for key, values in histories[0].items():
        np.testing.assert_allclose(histories[1][key], values, rtol=1e-4, atol=1e-6)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert models.load_model(tmp_path / "model.keras", compile=False).optimizer is None


@pytest.mark.filterwarnings("error:.*optimizer:UserWarning")  # what Keras says of a state that it leaves out
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_in_keras(name, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, *ROW)).astype("float32"), rng.integers(0, 3, 24)
    theirs = classifier()
    top = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")
    theirs.compile(OPTIMIZERS[name](), "sparse_categorical_crossentropy", metrics=["accuracy", top])
    ours = models.load_model(saved(theirs, tmp_path / "model.keras"))
    ours.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    ours.save(tmp_path / "ours.keras")
    back = keras.models.load_model(tmp_path / "ours.keras")
    assert int(back.optimizer.iterations) == 6
    histories = [each.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history for each in (ours, back)]
    assert histories[0].keys() == histories[1].keys() == {"loss", "accuracy", "top"}
    for key, values in histories[0].items():
        np.testing.assert_allclose(histories[1][key], values, rtol=1e-4, atol=1e-6)


def test_several_losses_and_one_that_was_never_fitted(tmp_path):
    theirs = shared()
    losses = {"row": keras.losses.MeanAbsoluteError(), "mean": "mse"}
    theirs.compile("adam", losses, loss_weights={"row": 0.5, "mean": 2.0}, metrics={"row": ["mae"], "mean": []})
    path = saved(theirs, tmp_path / "model.keras")
    ours = models.load_model(path)
    assert type(ours.optimizer).__name__ == "Adam"
    assert ours.optimizer.iterations == 0
    given = drawn(theirs)
    wanted = {name: np.ones_like(y) for name, y in theirs.predict(given, verbose=0).items()}
    ours.save(tmp_path / "ours.keras")
    models_ = (theirs, ours, keras.models.load_model(tmp_path / "ours.keras"))
    found = [each.evaluate(given, wanted, verbose=0, return_dict=True) for each in models_]
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(loss={"class_name": "Own", "config": {}}), "loss: got 'Own'"),
        (lambda config: config["optimizer"].update(class_name="Own"), "optimizer: got 'Own'"),
        (lambda config: config["optimizer"]["config"].update(gradient_accumulation_steps=2), "gradient_accumulation"),
        (lambda config: config["optimizer"].update(class_name="Adam", config={}), "optimizer: got a state of"),
        (lambda config: config["optimizer"]["config"].update(learning_rate="fast"), "learning_rate: got"),
        (lambda config: config.pop("optimizer"), "optimizer"),
        (lambda config: config.update(metrics=[3]), "metrics"),
    ],
)
def test_a_compilation_that_fastnn_has_not_is_said(change, message, tmp_path):
    theirs = classifier()
    theirs.compile("rmsprop", "sparse_categorical_crossentropy")
    theirs.train_on_batch(np.ones((4, *ROW)), np.zeros(4))
    path = saved(theirs, tmp_path / "model.keras")
    changed(path, lambda document: change(document["compile_config"]))
    with pytest.warns(UserWarning, match=f"left uncompiled: .*{message}"):
        ours = models.load_model(path)
    assert ours.optimizer is None
    np.testing.assert_allclose(ours.predict(np.ones((4, *ROW))), theirs.predict(np.ones((4, *ROW))), rtol=1e-5)


class Doubled(layers.Layer):
    def call(self, inputs):
        return inputs * 2.0


def test_layers_of_the_users_by_their_names(tmp_path):
    @keras.saving.register_keras_serializable()
    class Doubled(keras.layers.Layer):
        def call(self, inputs):
            return inputs * 2

    theirs = stack(ROW, Doubled, lambda: L.Dense(2))()
    path = saved(theirs, tmp_path / "model.keras")
    ours = models.load_model(path, custom_objects={"Doubled": globals()["Doubled"]})
    x = drawn(theirs)
    assert_same_outputs(theirs, ours, x)
    with utils.custom_object_scope({"Doubled": globals()["Doubled"]}):
        ours.save(tmp_path / "ours.keras")
    assert_same_outputs(theirs, keras.models.load_model(tmp_path / "ours.keras", {"Doubled": Doubled}), x)


def test_cells_states_and_steps(tmp_path):
    """An encoder and a decoder, cells one above the other, a layer at every step."""
    inputs, others = L.Input((None, 4)), L.Input((6, 4))
    _, *states = L.LSTM(3, return_state=True, recurrent_dropout=0.2)(inputs)
    y = L.LSTM(3, return_sequences=True, activation="relu")(others, initial_state=states)
    y = L.RNN([L.GRUCell(3, reset_after=False), L.SimpleRNNCell(2)], return_sequences=True)(y)
    theirs = keras.Model([inputs, others], L.TimeDistributed(L.Dense(2))(y))
    ours = models.load_model(saved(theirs, tmp_path / "model.keras"))
    rng = np.random.default_rng(0)
    x = [rng.standard_normal(shape).astype("float32") for shape in ((5, 7, 4), (5, 6, 4))]
    assert_same_outputs(theirs, ours, x)
    assert_read_by_both(ours, tmp_path / "ours.keras", x)


@pytest.mark.parametrize("mode", ["int", "one_hot", "multi_hot", "count"])
def test_bins(mode, tmp_path):
    theirs = stack(ROW, lambda: L.Discretization([-0.5, 0.0, 0.5], output_mode=mode))()
    ours = models.load_model(saved(theirs, tmp_path / "model.keras"))
    x = np.random.default_rng(0).standard_normal((6, *ROW)).astype("float32")
    assert ours.output_shape == theirs.output_shape
    np.testing.assert_array_equal(ours.predict(x, verbose=0), theirs.predict(x, verbose=0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (stack(ROW, lambda: L.Lambda(lambda x: x * 2)), "'Lambda'"),
        (stack((5, 6, 4), lambda: L.ConvLSTM1D(3, 2)), "'ConvLSTM1D'"),
        (stack(IMAGE, lambda: L.UpSampling2D(2, interpolation="bicubic")), "bicubic"),
        (stack(ROW, lambda: L.Dense(3, dtype="mixed_float16")), "mixed_float16"),
        (stack(ROW, lambda: L.Dense(3, activation="glu")), "glu"),
    ],
    ids=range(5),
)
def test_what_fastnn_has_not_is_named(make, message, tmp_path):
    path = tmp_path / "model.keras"
    make().save(path)
    with pytest.raises(ValueError, match=f"^filepath: got '.*model.keras', a model that fastnn has not .*{message}"):
        models.load_model(path)


def changed(path, change):
    """The file with another description."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(members["config.json"])
    change(document)
    members["config.json"] = json.dumps(document).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.clear(),
        lambda document: document["config"].pop("layers"),
        lambda document: document["config"]["layers"][1]["config"].update(units=-1),
        lambda document: document["config"]["layers"][1]["config"].update(units=10**9),
        lambda document: document["config"]["layers"][1]["config"].update(units=7),
        lambda document: document["config"]["layers"][1].update(class_name="Dens"),
        lambda document: document["config"]["layers"].append(3),
        lambda document: document.update(config=[]),
    ],
)
def test_crafted_descriptions(change, tmp_path):
    path = saved(stack(ROW, lambda: L.Dense(3))(), tmp_path / "model.keras")
    changed(path, change)
    with pytest.raises(ValueError, match=r"^filepath: got '.*model.keras'"):
        models.load_model(path)


def test_files_of_another_kind(tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(FileNotFoundError):
        models.load_model(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"^filepath: got '.*model.keras', wants a file of Keras 3"):
        models.load_model(path)
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(
        ValueError, match=r"^filepath: got '.*model.h5', an older format of Keras's, wants a .keras file"
    ):
        models.load_model(tmp_path / "model.h5")
