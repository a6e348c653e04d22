"""Callbacks, under Keras's names and with its rules.

``base`` holds what all share; ``monitors`` watch a figure, ``rates`` set the learning rate, ``checkpoints`` write
models down, ``logs`` figures.
"""

from __future__ import annotations

from fastnn import absent
from fastnn.callbacks.base import Callback, CallbackList, History, LambdaCallback, TerminateOnNaN
from fastnn.callbacks.checkpoints import BackupAndRestore, ModelCheckpoint
from fastnn.callbacks.logs import CSVLogger
from fastnn.callbacks.monitors import EarlyStopping, ReduceLROnPlateau
from fastnn.callbacks.rates import LearningRateScheduler

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]
absent.explain(__name__)
