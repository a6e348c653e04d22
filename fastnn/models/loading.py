"""Models made from what ``save`` and ``to_json`` wrote."""

from __future__ import annotations

import json
from typing import Any

from fastnn import checks, saving, serialization
from fastnn.models.base import Model
from fastnn.models.sequential import Sequential

# Characters of what is wrong with a file.
_LONGEST_REASON = 500


def load_model(filepath: Any, compile: bool = True) -> Model:  # noqa: A002 - Keras's name
    """The model that ``save`` wrote: architecture, weights, and with ``compile`` optimizer state, loss and metrics.

    Training goes on as if it had never stopped. FileNotFoundError for a missing file, ValueError for a damaged one, one
    of another program, or one whose description and arrays do not fit each other, before memory is taken for what it
    describes.
    """
    checks.instance("compile", compile, bool, "True or False")
    tensors, document = saving.read(filepath)
    if document.get("class_name") == "weights":
        raise ValueError(
            f"filepath: got {str(filepath)!r}, which holds weights alone, wants a file that model.save wrote"
        )
    try:
        model, compiled = serialization.restored(Sequential, document, tensors, compile)
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


def model_from_json(json_string: str) -> Sequential:
    """A new model of the architecture that ``to_json`` gave, with new weights; ValueError for any other text."""
    checks.instance("json_string", json_string, str, "what model.to_json gave")
    try:
        document = json.loads(json_string)
        if document["class_name"] != "Sequential":
            raise ValueError(f"class_name {document['class_name']!r}")
        return Sequential.from_config(document["config"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"json_string: got {checks.describe(json_string)}, wants what to_json gave ({error})"
        ) from error
