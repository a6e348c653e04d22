"""Callbacks, under Keras's names and with its rules.

``base`` holds what all share; ``monitors`` watch a figure, ``rates`` set the learning rate, ``checkpoints`` write
models down.
"""

from __future__ import annotations

from fastnn import absent
from fastnn.callbacks.base import Callback, CallbackList, History, LambdaCallback
from fastnn.callbacks.checkpoints import ModelCheckpoint
from fastnn.callbacks.monitors import EarlyStopping
from fastnn.callbacks.rates import LearningRateScheduler

__all__ = [
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
]
absent.explain(__name__)
