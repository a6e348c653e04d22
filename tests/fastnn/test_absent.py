"""Names that are missing: the message says what there is, and whoever only asks gets no."""

from __future__ import annotations

import importlib
import inspect
import pickle

import pytest

from fastnn import absent
from fastnn.configurable import Configurable

MODULES = [*absent._KERAS, "fastnn.ops"]


def is_of(place, module):
    """Whether what is defined in ``place`` is the module's own: in it, or in one of the files that it is made of."""
    return place == module or (module != "fastnn" and str(place).startswith(f"{module}."))


def imported(module, name):
    """What ``from module import name`` does."""
    space = {}
    exec(f"from {module} import {name}", space)
    return space[name]


def test_what_names_of_others_are_called_here_is_there():
    for module, called in absent._CALLED.items():
        known = dir(importlib.import_module(module))
        assert set(called.values()) <= set(known)
        assert not set(called) & set(known)


@pytest.mark.parametrize(
    ("module", "name", "says"),
    [
        ("fastnn.layers", "Conv3D", r"which Keras has; near it are Conv2D, Conv1D, .*; dir\(fastnn.layers\) lists all"),
        ("fastnn.ops", "zzz", r"; dir\(fastnn.ops\) lists all \d+$"),
        ("fastnn.ops", "mean_squared_error", r"\(did you mean 'mse'\?\); near it are "),
        ("fastnn.activations", "sparsemax", "which Keras has; it has binary_step,"),
        ("fastnn.layers", "Danse", r"\(did you mean 'Dense'\?\); near it are Dense"),
        ("fastnn.optimizers", "Lamb", "which Keras has; it has "),
        ("fastnn.losses", "Circle", "which Keras has; it has binary_crossentropy,"),
        ("fastnn.optimizers", "Muon", "which Keras has; it has Adadelta,"),
        (
            "fastnn.callbacks",
            "TensorBoard",
            r"which Keras has \(callbacks.CSVLogger .*\); it has BackupAndRestore, Callback,",
        ),
        ("fastnn.regularizers", "L3", "; it has deserialize, get, L1,"),
        ("fastnn.utils", "get_file", r"which Keras has \(pooch.retrieve .*\); it has array_to_img,"),
        ("fastnn.datasets", "cifar100", "which Keras has; it has boston_housing,"),
        (
            "fastnn",
            "applications",
            r"which Keras has \(there are no .*\); it has activations, available_backends, backends,",
        ),
        ("fastnn", "Modle", r"\(did you mean 'Model'\?\); it has activations, available_backends,"),
        ("fastnn", "Dense", r"\(did you mean fastnn.layers.Dense\?\); it has activations,"),
        ("fastnn", "grad", r"\(did you mean 'gradients'\?\); it has activations,"),
        ("fastnn.optimizers", "CosineDecay", r"\(did you mean fastnn.optimizers.schedules.CosineDecay\?\); it has"),
        ("fastnn.layers", "Linear", r"\(did you mean 'Dense'\?\); near it are "),
        ("fastnn.ops", "rellu", r"\(did you mean 'relu'\?\); near it are relu, relu6, prelu"),
    ],
)
def test_a_missing_name_is_answered_with_what_there_is(module, name, says):
    found = importlib.import_module(module)
    message = f"^{module} has no attribute '{name}'(, | |){says}"
    with pytest.raises(AttributeError, match=message):
        getattr(found, name)
    with pytest.raises(ImportError, match=message):
        imported(module, name)
    assert not hasattr(found, name)
    assert getattr(found, name, 7) == 7


def test_an_import_far_down_in_a_module_of_many_names_is_told_from_an_attribute():
    """Where a name's number takes more than a byte, the instruction has a prefix."""
    many = "\n".join(f"name_{index} = {index}" for index in range(400))
    for line, error in (("from fastnn.layers import Conv3D", ImportError), ("layers.Conv3D", AttributeError)):
        with pytest.raises(error, match="which Keras has"):
            exec(f"from fastnn import layers\n{many}\n{line}", {})


@pytest.mark.parametrize("module", MODULES)
def test_special_names_are_python_s_own_business(module):
    found = importlib.import_module(module)
    with pytest.raises(AttributeError, match=f"^module '{module}' has no attribute '__wrapped__'$"):
        _ = found.__wrapped__
    assert pickle.loads(pickle.dumps(imported("fastnn.layers", "Dense"))) is imported("fastnn.layers", "Dense")


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_there_and_every_name_of_keras_that_is_there_is_public(module):
    found = importlib.import_module(module)
    for name in found.__all__:
        assert imported(module, name) is getattr(found, name)
    made = {name for name, value in vars(found).items() if is_of(getattr(value, "__module__", None), module)}
    assert made & set(absent._KERAS.get(module, "").split()) <= set(found.__all__)
    for name in absent._INSTEAD:
        assert any(name in names.split() for names in absent._KERAS.values()), name


@pytest.mark.parametrize("module", MODULES)
def test_every_class_that_a_user_may_name_is_public(module):
    found = importlib.import_module(module)
    own = {name for name, value in vars(found).items() if inspect.isclass(value) and is_of(value.__module__, module)}
    named = {name for name in own if issubclass(getattr(found, name), Configurable)}
    hidden = {"FunctionLoss", "Given", "ShapedAccuracy", "RandomInitializer"}  # made by ``get``, or bases
    assert {name for name in named if not name.startswith("_")} - hidden <= set(found.__all__)
    assert not hidden & set(found.__all__)
