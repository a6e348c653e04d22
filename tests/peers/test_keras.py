"""Activations, losses, metrics, initializers, schedules, callbacks against Keras, where it has any.

Values, shapes and arguments are equal.

What Keras refuses, fastnn may serve; what Keras broadcasts where nobody can mean it, fastnn refuses or reads as the
docstrings say (``keras_figures.weigh_alike``).
"""

from __future__ import annotations

import inspect
import itertools
import os

import keras_epochs
import keras_figures
import numpy as np
import pytest
from keras_figures import FIGURES

import fastnn

os.environ.setdefault("KERAS_BACKEND", "torch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
keras = pytest.importorskip("keras", minversion="3.15", reason="Keras is not installed: pip install -e '.[peers]'")

IN_KERAS = [name for name, figure in FIGURES.items() if figure.in_keras]


def in_float32(batch):
    """What Keras would make of it, so that both see the same numbers."""
    return [np.asarray(a, np.float32) if np.asarray(a).dtype.kind == "f" and np.ndim(a) else a for a in batch]


def of_keras(call):
    """What Keras gives as an array; None where it raises."""
    try:
        return keras.ops.convert_to_numpy(call())
    except Exception:  # its backend raises whatever it likes
        return None


def after(metric, batches):
    """The metric's result after these batches."""
    for batch in batches:
        metric.update_state(*batch)
    return metric.result()


def assert_alike(got, wanted, note):
    assert np.shape(got) == np.shape(wanted), note
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-6, err_msg=str(note))


# Whose functions do not bring these targets and outputs together, but broadcast or refuse them.
APART = {"BinaryCrossentropy", "Hinge", "SquaredHinge", "Poisson", "KLDivergence"}
MIXED = {"vector and column", "column and vector", "steps and sequences of one"}


def comparable(names):
    return [
        (name, shapes)
        for name, shapes in keras_figures.cases(names)
        if FIGURES[name].cls not in APART or shapes not in MIXED
    ]


@pytest.mark.parametrize(("name", "shapes"), comparable(n for n in IN_KERAS if FIGURES[n].metric))
def test_metrics(name, shapes):
    """The result after two batches, for weights of all shapes."""
    figure, compared = FIGURES[name], 0
    for weights, sizes in itertools.product(keras_figures.WEIGHTS, keras_figures.SIZES):
        batches = [in_float32(batch) for batch in keras_figures.batches(name, shapes, weights, sizes)]
        ours, theirs = (getattr(library.metrics, figure.cls)(**figure.options) for library in (fastnn, keras))
        wanted = of_keras(lambda: after(theirs, batches))  # noqa: B023
        if wanted is not None:
            assert_alike(after(ours, batches), wanted, (weights, sizes))
            compared += 1
    unserved = {"top 2": ["row"], "sparse top 2": ["label and row"]}
    assert compared >= 6 or shapes in unserved.get(name, [])


def test_names_of_figures():
    """A string given is the name, an object has its own; several numbers are an array in the history."""
    histories = []
    for library in (fastnn, keras):
        model = library.models.Sequential([library.layers.Input((3,)), library.layers.Dense(1, "sigmoid")])
        objects = [library.metrics.Precision(thresholds=[0.2, 0.8]), library.metrics.LogCoshError()]
        names = ["AUC", "auc", "MeanSquaredError", "mse", "Accuracy", "f1_score", *objects]
        model.compile("sgd", "binary_crossentropy", metrics=names)
        x, y = np.ones((4, 3), "float32"), np.array([[0], [1], [0], [1]], "float32")
        history = model.fit(x, y, epochs=2, verbose=0).history
        histories.append({name: np.shape(figures) for name, figures in sorted(history.items())})
    assert histories[0] == histories[1]


@pytest.mark.parametrize("name", keras_epochs.EPOCHS)
def test_metrics_of_epochs(name):
    """The result after three batches, for weights of all shapes, and its type."""
    epoch, compared = keras_epochs.EPOCHS[name], 0
    # others make a table of all samples by all samples in Keras's F-scores
    meant = (None, "n") if epoch.cls in ("F1Score", "FBetaScore") else keras_epochs.WEIGHTS
    for weights in meant:
        batches = [in_float32(batch) for batch in keras_epochs.batches(name, weights)]
        # as integers they would round weights down
        floating = {"dtype": "float32"} if "IoU" in epoch.cls else {}
        ours, theirs = (getattr(library.metrics, epoch.cls)(**epoch.options, **floating) for library in (fastnn, keras))
        wanted = of_keras(lambda: after(theirs, batches))  # noqa: B023
        if wanted is not None:
            got = after(ours, batches)
            assert np.shape(got) == np.shape(wanted)
            np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7, err_msg=str(weights))
            compared += 1
    assert compared >= 2


@pytest.mark.parametrize(("name", "shapes"), keras_figures.cases(n for n in IN_KERAS if FIGURES[n].loss))
def test_losses(name, shapes):
    """Value, or array without reduction, for weights of all shapes and all reductions."""
    figure, compared = FIGURES[name], 0
    for weights, sizes in itertools.product(keras_figures.WEIGHTS, keras_figures.SIZES):
        true, pred, weight = in_float32(keras_figures.batches(name, shapes, weights, sizes)[0])
        if not keras_figures.weigh_alike(figure.values(true, pred), weight):
            continue
        for reduction in keras_figures.REDUCTIONS:
            ours, theirs = (
                getattr(library.losses, figure.cls)(reduction=reduction, **figure.options)
                for library in (fastnn, keras)
            )
            wanted = of_keras(lambda: theirs(true, pred, weight))  # noqa: B023
            assert wanted is not None
            assert_alike(ours(true, pred, weight), wanted, (weights, sizes, reduction))
            compared += 1
    assert compared >= 3 * len(keras_figures.REDUCTIONS)


@pytest.mark.parametrize("axis", [None, (1, 2), -1])
@pytest.mark.parametrize(("name", "numbers"), [("Dice", {}), ("Tversky", {"alpha": 0.2, "beta": 0.7})])
def test_overlaps(name, numbers, axis):
    rng = np.random.default_rng(3)
    true, pred = rng.integers(0, 2, (3, 4, 2)).astype("float32"), rng.random((3, 4, 2), "float32")
    for reduction in (*keras_figures.REDUCTIONS, None):
        ours, theirs = (
            getattr(library.losses, name)(**numbers, axis=axis, reduction=reduction) for library in (fastnn, keras)
        )
        assert_alike(ours(true, pred), of_keras(lambda: theirs(true, pred)), reduction)  # noqa: B023
    ours, theirs = (getattr(library.losses, name.lower()) for library in (fastnn, keras))
    assert_alike(ours(true, pred, **numbers, axis=axis), of_keras(lambda: theirs(true, pred, **numbers, axis=axis)), "")


@pytest.mark.parametrize(("name", "shapes"), comparable(n for n in IN_KERAS if FIGURES[n].function))
def test_functions(name, shapes):
    figure = FIGURES[name]
    module = "metrics" if figure.metric else "losses"
    for sizes in keras_figures.SIZES:
        true, pred, _ = in_float32(keras_figures.batches(name, shapes, None, sizes)[0])
        ours, theirs = (getattr(getattr(library, module), figure.function) for library in (fastnn, keras))
        tensors = keras.ops.convert_to_tensor(true), keras.ops.convert_to_tensor(pred)
        wanted = of_keras(lambda: theirs(*tensors, **figure.options))  # noqa: B023
        if wanted is not None:
            assert_alike(ours(true, pred, **figure.options), wanted, sizes)


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("reduction", keras_figures.REDUCTIONS)
def test_an_ignored_class(reduction, from_logits, weighed):
    rng = np.random.default_rng(6)
    true, pred = np.array([0, 2, 1, 2, 0, 1]), rng.uniform(0.1, 0.9, (6, 3)).astype("float32")
    weight = rng.uniform(0.5, 2, 6).astype("float32") if weighed else None
    options = {"ignore_class": 2, "from_logits": from_logits, "reduction": reduction}
    ours, theirs = (library.losses.SparseCategoricalCrossentropy(**options) for library in (fastnn, keras))
    assert_alike(ours(true, pred, weight), of_keras(lambda: theirs(true, pred, weight)), options)


# What finds and writes objects, with arguments of its own.
REGISTRY = {"get", "serialize", "deserialize"}
CLASSES = {FIGURES[name].cls for name in IN_KERAS} | {epoch.cls for epoch in keras_epochs.EPOCHS.values()}


@pytest.mark.parametrize("module", ["losses", "metrics"])
@pytest.mark.parametrize("name", sorted(CLASSES))
def test_arguments(module, name):
    ours, theirs = (getattr(getattr(library, module), name, None) for library in (fastnn, keras))
    assert (ours is None) == (theirs is None)
    if ours is not None:
        one, other = (inspect.signature(cls).parameters for cls in (ours, theirs))
        assert list(one) == list(other)
        # where None stands for a name, objects have it
        defaults = [[p.default for p in given.values() if p.name != "name"] for given in (one, other)]
        assert defaults[0] == defaults[1]


@pytest.mark.parametrize("name", sorted((set(fastnn.losses.__all__) & set(dir(keras.losses))) - REGISTRY))
def test_arguments_of_losses(name):
    """Of classes and functions, with their defaults."""
    ours, theirs = (_parameters(getattr(library.losses, name)) for library in (fastnn, keras))
    assert ours == theirs


NUMBERS = {
    "relu": ({"negative_slope": 0.1}, {"max_value": 1.5}, {"negative_slope": 0.2, "max_value": 2.0, "threshold": 0.5}),
    "leaky_relu": ({"negative_slope": 0.01},),
    "elu": ({"alpha": 0.5},),
    "celu": ({"alpha": 0.5},),
    "gelu": ({"approximate": True},),
    "threshold": ({"threshold": 0.5, "default_value": -1.0},),
    "soft_shrink": ({"threshold": 0.25},),
    "hard_shrink": ({"threshold": 0.25},),
    "softmax": ({"axis": 0},),
    "log_softmax": ({"axis": 0},),
}
# Of these Keras wants all arguments.
NEEDED = {"threshold": {"threshold": 0.0, "default_value": 0.0}}
ACTIVATIONS = sorted(
    set(fastnn.activations.__all__) & set(dir(keras.activations)) - {"get", "serialize", "deserialize"}
)
POINTS = np.array([[0, 0.2, -0.2, 0.4, -0.4], [0.75, -0.75, 2, -2, 3.5], [-3.5, 7, -7, 20, -20]], "float32")


@pytest.mark.parametrize(
    ("name", "numbers"),
    [(name, each) for name in ACTIVATIONS for each in (NEEDED.get(name, {}), *NUMBERS.get(name, ()))],
)
def test_activations(name, numbers):
    """Values of the function, and of the name or function in a layer."""
    ours, theirs = (getattr(library.activations, name) for library in (fastnn, keras))
    wanted = of_keras(lambda: theirs(keras.ops.convert_to_tensor(POINTS), **numbers))
    assert wanted is not None
    np.testing.assert_allclose(ours(POINTS, **numbers), wanted, rtol=1e-5, atol=1e-6)
    if not numbers:
        np.testing.assert_allclose(fastnn.layers.Activation(name)(POINTS), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_arguments_of_activations(name):
    """Names and defaults; some have one where Keras has none."""
    ours, theirs = (dict(_parameters(getattr(library.activations, name))) for library in (fastnn, keras))
    assert list(ours) == list(theirs)
    assert all(ours[key] == default for key, default in theirs.items() if default is not inspect.Parameter.empty)


def test_aliases_of_activations():
    for name, alias in (("silu", "swish"), ("hard_silu", "hard_swish")):
        ours, theirs = fastnn.activations.get(alias), keras.activations.get(alias)
        assert ours == fastnn.activations.get(name)
        assert theirs is keras.activations.get(name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ReLU", {}),
        *(("ReLU", numbers) for numbers in NUMBERS["relu"]),
        ("LeakyReLU", {}),
        ("LeakyReLU", {"negative_slope": 0.1}),
        ("ELU", {}),
        ("ELU", {"alpha": 0.5}),
        ("Softmax", {}),
        ("Softmax", {"axis": 1}),
        ("Activation", {"activation": "mish"}),
    ],
)
def test_activation_layers(name, options):
    """Values, arguments with their defaults, configs."""
    ours, theirs = (getattr(library.layers, name) for library in (fastnn, keras))
    assert _parameters(ours) == _parameters(theirs)
    layer, other = ours(**options), theirs(**options)
    np.testing.assert_allclose(layer(POINTS), of_keras(lambda: other(POINTS)), rtol=1e-5, atol=1e-6)
    assert {key: layer.get_config()[key] for key in options} == {key: other.get_config()[key] for key in options}


@pytest.mark.parametrize("weights", ["n", "n 1", "n t", "n t 1"])
def test_training_of_sequences_with_weights(weights):
    """Loss and weighted metric of evaluate; (n,), which Keras refuses, as its (n, 1)."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(6, 5, 4)).astype("float32"), rng.normal(size=(6, 5, 2)).astype("float32")
    weight = rng.uniform(0, 2, keras_figures.shape(weights, 6, 5, 2)).astype("float32")
    kernel = rng.normal(size=(4, 2)).astype("float32")
    figures = []
    for library, sample_weight in ((fastnn, weight), (keras, weight[:, None] if weights == "n" else weight)):
        model = library.models.Sequential(
            [library.layers.Input((5, 4)), library.layers.Dense(2, kernel_initializer=lambda shape, dtype: kernel)]
        )
        model.compile("sgd", "mse", weighted_metrics=["mae"])
        figures.append(model.evaluate(x, y, batch_size=4, sample_weight=sample_weight, verbose=0))
    np.testing.assert_allclose(*figures, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MaxNorm", {}),
        ("MaxNorm", {"max_value": 1.0, "axis": 1}),
        ("UnitNorm", {}),
        ("UnitNorm", {"axis": [0, 1]}),
        ("MinMaxNorm", {"min_value": 0.5, "max_value": 1.5, "rate": 0.7}),
        ("NonNeg", {}),
    ],
)
def test_constraints(name, options):
    """Their values, and the weights of three steps that keep to them."""
    ours, theirs = (getattr(library.constraints, name) for library in (fastnn, keras))
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    rng = np.random.default_rng(4)
    w = rng.normal(size=(4, 3)).astype("float32")
    w[:, 1] = 0
    wanted = of_keras(lambda: theirs(**options)(keras.ops.convert_to_tensor(w)))
    np.testing.assert_allclose(ours(**options)(w), wanted, rtol=1e-6)
    x, y, trained = rng.normal(size=(6, 4)).astype("float32"), rng.normal(size=(6, 3)).astype("float32"), []
    for library in (fastnn, keras):
        constraint = getattr(library.constraints, name)(**options)
        dense = library.layers.Dense(3, kernel_initializer=lambda shape, dtype: w, kernel_constraint=constraint)
        model = library.models.Sequential([library.layers.Input((4,)), dense])
        model.compile(library.optimizers.RMSprop(0.1), "mse")
        model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
        trained.append(model.get_weights()[0])
    np.testing.assert_allclose(*trained, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["rows", "columns"])
def test_orthogonal_regularizer(mode):
    x = np.random.default_rng(5).normal(size=(5, 3)).astype("float32")
    ours, theirs = (library.regularizers.OrthogonalRegularizer(0.1, mode) for library in (fastnn, keras))
    assert ours(x) == pytest.approx(float(of_keras(lambda: theirs(keras.ops.convert_to_tensor(x)))), rel=1e-6)
    assert ours.get_config() == {"factor": 0.1, "mode": mode}


@pytest.mark.parametrize("initializer", [np.arange(12.0).reshape(4, 3), np.ones, None, "ones"])
def test_initializers(initializer):
    kernels = []
    for library in (fastnn, keras):
        layer = library.layers.Dense(3, kernel_initializer=initializer)
        layer.build((None, 4))
        kernels.append(keras.ops.convert_to_numpy(layer.get_weights()[0]))
    if initializer is None:
        assert fastnn.initializers.get(None) is keras.initializers.get(None) is None
        assert all(0.3 < np.abs(kernel).max() <= np.sqrt(6 / 7) for kernel in kernels)
    else:
        np.testing.assert_array_equal(*kernels)


SCHEDULES = {
    "ExponentialDecay": ({"decay_steps": 7, "decay_rate": 0.6}, {"staircase": True}),
    "InverseTimeDecay": ({"decay_steps": 7, "decay_rate": 0.6}, {"staircase": True}),
    "PolynomialDecay": ({"decay_steps": 20}, {"power": 2.0, "end_learning_rate": 0.01}, {"cycle": True}),
    "CosineDecay": ({"decay_steps": 20}, {"alpha": 0.1}, {"warmup_target": 0.3, "warmup_steps": 9}),
    "CosineDecayRestarts": ({"first_decay_steps": 7}, {"alpha": 0.1, "m_mul": 0.8}, {"t_mul": 1.0}, {"t_mul": 3.0}),
    "PiecewiseConstantDecay": ({"boundaries": [4, 30], "values": [0.1, 0.05, 0.01]},),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    """Rates, defaults and configs; Keras counts in float32."""
    ours, theirs = (getattr(library.optimizers.schedules, name) for library in (fastnn, keras))
    assert _parameters(ours) == _parameters(theirs)
    needed, *more = SCHEDULES[name]
    first = {} if "values" in needed else {"initial_learning_rate": 0.1}
    for options in ({**first, **needed, **each} for each in ({}, *more)):
        schedule, other = ours(**options), theirs(**options)
        wanted = [float(other(np.float32(step))) for step in range(100)]
        np.testing.assert_allclose(schedule(np.arange(100)), wanted, rtol=1e-4, atol=1e-7, err_msg=str(options))
        assert schedule.get_config() == other.get_config()


def _parameters(made):
    """Names and defaults, without Keras's ``**kwargs``, which it takes no notice of."""
    found = inspect.signature(made).parameters.values()
    return [(parameter.name, parameter.default) for parameter in found if parameter.kind != parameter.VAR_KEYWORD]


@pytest.mark.parametrize("name", ["BackupAndRestore", "CSVLogger", "ReduceLROnPlateau", "TerminateOnNaN"])
def test_arguments_of_callbacks(name):
    ours, theirs = (getattr(library.callbacks, name) for library in (fastnn, keras))
    assert _parameters(ours) == _parameters(theirs)


def _compiled(library):
    model = library.models.Sequential([library.layers.Input((2,)), library.layers.Dense(1)])
    model.compile(library.optimizers.SGD(0.5), "mse")
    return model


@pytest.mark.parametrize("seed", range(8))
def test_reductions_on_a_plateau(seed):
    """The rate behind every epoch, for figures and options drawn."""
    rng = np.random.default_rng(seed)
    options = {"patience": int(rng.integers(4)), "cooldown": int(rng.integers(3)), "min_delta": 0.1, "factor": 0.5}
    options |= {"min_lr": float(rng.choice([0.0, 0.06])), "mode": str(rng.choice(["min", "max", "auto"]))}
    losses, rates = rng.integers(0, 20, 40) / 10, []
    for library in (fastnn, keras):
        model, callback = _compiled(library), library.callbacks.ReduceLROnPlateau("loss", **options)
        callback.set_model(model)
        callback.on_train_begin()
        logged = [{"loss": float(loss)} for loss in losses]
        for epoch, logs in enumerate(logged):
            callback.on_epoch_end(epoch, logs)
        rates.append([logs["learning_rate"] for logs in logged])
    np.testing.assert_allclose(*rates, rtol=1e-6)
    assert len(set(rates[0])) > 1


@pytest.mark.parametrize("options", [{}, {"separator": ";"}, {"append": True}])
def test_files_of_figures(options, tmp_path):
    """Byte by byte, over two fits of one object, the first without a validation."""
    epochs = [{"mae": 0.25, "loss": 1e-7}, {"loss": 2.0, "mae": 0.1, "val_loss": np.float64(3.5)}, {"loss": [1, 2]}]
    files = []
    for library in (fastnn, keras):
        path = tmp_path / library.__name__
        callback = library.callbacks.CSVLogger(path, **options)
        callback.set_model(_compiled(library))
        for _ in range(2):
            callback.on_train_begin()
            for epoch, logs in enumerate(epochs):
                callback.on_epoch_end(epoch, dict(logs))
            callback.on_train_end()
        files.append(path.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("name", sorted({cls.__name__ for cls in fastnn.initializers.NAMES.values()}))
def test_initializers_by_name(name):
    """Arguments in Keras's order, its configs (of which Identity's lacks the gain), draws of equal spread."""
    ours, theirs = (getattr(library.initializers, name) for library in (fastnn, keras))
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    assert ours().get_config().items() >= theirs().get_config().items()
    shape = (200, 1, 300) if name == "STFT" else (200, 300)
    spreads = [np.std(of_keras(lambda: make()(shape, "float32"))) for make in (ours, theirs)]  # noqa: B023
    np.testing.assert_allclose(*spreads, rtol=0.02, atol=1e-8)


@pytest.mark.parametrize("side", ["real", "imag"])
@pytest.mark.parametrize("scaling", ["density", "spectrum", None])
@pytest.mark.parametrize(
    ("window", "periodic"), [("hann", False), ("hamming", True), (None, False), ([0.5] * 9, False)]
)
def test_waves_of_a_transform(side, scaling, window, periodic):
    ours, theirs = (
        of_keras(lambda: library.initializers.STFT(side, window, scaling, periodic)((9, 1, 5), "float64"))  # noqa: B023
        for library in (fastnn, keras)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_initializers_with_axes():
    axes = {"input_axes": [0], "output_axes": [0, 1]}
    spreads = [
        np.std(of_keras(lambda: library.initializers.LecunNormal(**axes)((50, 4, 300), "float32")))  # noqa: B023
        for library in (fastnn, keras)
    ]
    np.testing.assert_allclose(*spreads, rtol=0.02)


def test_one_output_warns_by_the_same_category():
    caught = []
    for library in (fastnn, keras):
        with pytest.warns(Warning, match="binary_crossentropy") as warnings:
            library.losses.CategoricalCrossentropy()([[1.0]], [[0.3]])
        caught.append(warnings[0].category)
    assert caught[0] is caught[1]
