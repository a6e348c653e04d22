"""Models made from what ``save`` and ``to_json`` wrote."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from fastnn import checks, configurable, saving, serialization
from fastnn.configurable import custom_object_scope
from fastnn.engine import seeds
from fastnn.layers.base import supplied
from fastnn.models import keras_configs, keras_files
from fastnn.models.base import NAMES, Model

# Characters of what is wrong with a file.
_LONGEST_REASON = 500


def load_model(
    filepath: Any,
    custom_objects: Mapping[str, type[Any]] | None = None,
    compile: bool = True,  # noqa: A002 - Keras's name
) -> Model:
    """The model that ``save`` wrote: architecture, weights, and with ``compile`` optimizer state, loss and metrics.

    Training goes on as if it had never stopped, also of a ``.keras`` file that Keras 3 wrote; where fastnn has not the
    optimizer, loss or metrics of such a file, a warning says so and the model is not compiled.

    ``custom_objects`` are classes of layers of the user's by name, unless ``utils.register_keras_serializable`` has
    been told of them; nothing is ever made of code that a file might hold. FileNotFoundError for a missing file,
    ValueError for a damaged one, one of another program, or one whose description and arrays do not fit each other,
    before memory is taken for what it describes.
    """
    checks.instance("compile", compile, bool, "True or False")
    if keras_files.is_keras_file(filepath):
        return _keras_model(filepath, custom_objects or {}, compile)
    tensors, document = saving.read(filepath)
    if document.get("class_name") == "weights":
        raise ValueError(
            f"filepath: got {str(filepath)!r}, which holds weights alone, wants a file that model.save wrote"
        )
    try:
        with custom_object_scope(custom_objects or {}):
            model, compiled = serialization.restored(NAMES, document, tensors, compile)
        if compiled is not None:
            model.compile(*compiled.arguments, backend="auto")
            # a file may travel: a backend or precision named where it was written need not serve here
            model._backend, model._precision = compiled.backend, compiled.precision
    except serialization.UNFIT as error:
        reason = str(error)[:_LONGEST_REASON]  # it may quote the file, which may say anything
        raise ValueError(
            f"filepath: got {str(filepath)!r}, whose description fits neither its arrays nor this version ({reason})"
        ) from error
    return model


def _keras_model(filepath: Any, custom_objects: Mapping[str, type[Any]], with_compile: bool) -> Model:
    """The model of a file of Keras's."""
    document = keras_files.described(filepath)
    try:
        supply = keras_files.rooms(filepath, NAMES.values())
        with seeds.untouched(), custom_object_scope(custom_objects), supplied(supply):
            model = keras_configs.model_of(document)
        model.set_weights(keras_files.weights_of(filepath, model))
    except (*serialization.UNFIT, AttributeError, IndexError) as error:
        reason = str(error)[:_LONGEST_REASON]
        raise ValueError(f"filepath: got {str(filepath)!r}, a model that fastnn has not ({reason})") from error
    if with_compile:
        _compile_as_keras(filepath, document, model)
    return model


def _compile_as_keras(filepath: Any, document: Any, model: Model) -> None:
    """Compile a model as a description of Keras's says, and take its optimizer's state; or warn that it cannot be."""
    try:
        arguments = keras_configs.compiled(document)
        if arguments is not None:
            keras_files.take_state(filepath, arguments["optimizer"], model.trainable_weights)
            model.compile(**arguments)
    except (*serialization.UNFIT, AttributeError, IndexError) as error:
        reason = str(error)[:_LONGEST_REASON]
        warnings.warn(f"filepath: got {str(filepath)!r}, whose model is left uncompiled: {reason}", stacklevel=4)


def save_model(model: Model, filepath: Any, overwrite: bool = True) -> None:
    """What ``model.save`` does."""
    checks.instance("model", model, Model, "a model").save(filepath, overwrite)


def model_from_json(json_string: str, custom_objects: Mapping[str, type[Any]] | None = None) -> Model:
    """A new model of the architecture that ``to_json`` gave, with new weights; ValueError for any other text."""
    checks.instance("json_string", json_string, str, "what model.to_json gave")
    try:
        document = json.loads(json_string)
        with custom_object_scope(custom_objects or {}):
            known = {
                **configurable.custom_objects(),
                "Sequential": NAMES["Sequential"],
                "Functional": NAMES["Functional"],
            }
            make = known[checks.one_of("class_name", document["class_name"], known)]
            model: Model = make.from_config(document["config"])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"json_string: got {checks.describe(json_string)}, wants what to_json gave ({error})"
        ) from error
    return model


def clone_model(model: Model) -> Model:
    """A model of the same architecture and names, layers of the user's included, with new weights, not compiled."""
    checks.instance("model", model, Model, "a model")
    with custom_object_scope({type(layer).__name__: type(layer) for layer in _parts(model)}):
        made: Model = type(model).from_config(model.get_config())
    if model.is_called and model.built:
        made.build(model.input_shape)
    return made


def _parts(model: Any) -> Iterator[Any]:
    """The layers of a model, and those of models inside."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, Model):
            yield from _parts(layer)
