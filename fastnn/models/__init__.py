"""Models: stacks and graphs of layers, and classes of the user's own; Keras's names, arguments and defaults.

Where Keras and fastnn differ: arrays come out as NumPy arrays (float32 unless layers say float64); data that cannot be
trained on (NaN, labels out of range, rows of probabilities that do not sum to 1) are refused before training; training
that diverges stops with a DivergenceError, or with callbacks.TerminateOnNaN quietly; the cross-entropy after a softmax
or sigmoid is taken from the logits, exactly, without Keras's clipping.
"""

from __future__ import annotations

from fastnn import absent
from fastnn.models.base import Model
from fastnn.models.functional import Functional
from fastnn.models.loading import clone_model, load_model, model_from_json, save_model
from fastnn.models.sequential import Sequential

__all__ = ["Functional", "Model", "Sequential", "clone_model", "load_model", "model_from_json", "save_model"]
absent.explain(__name__)
