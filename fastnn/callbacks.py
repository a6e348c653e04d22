"""Callbacks, under Keras's names and with its rules."""

from __future__ import annotations

import inspect
import math
import re
import string
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import absent, checks, files, saving
from fastnn.engine.data import check_finite
from fastnn.engine.protocols import Array, Logs, StepHooks
from fastnn.errors import DivergenceError


class Callback:
    """Base class: override what is wanted. ``self.model`` is the model, ``self.params`` epochs, steps and verbose.

    In a fit ``self.params["metrics"]`` names the figures of an epoch; it is None where a callback of the user's comes
    before, which may add others. Those of the validation come every ``self.params["validation_freq"]`` epochs.
    """

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The model that is being trained; None before training."""
        return getattr(self, "_model", None)

    def set_params(self, params: dict[str, Any]) -> None:
        """Told by ``fit`` before training."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Told by ``fit`` before training."""
        self._model = model

    def listens_to_batches(self, kind: str) -> bool:
        """Whether a batch hook of ``kind`` ("train", "test", "predict") does anything here."""
        hooks = [f"on_{kind}_batch_begin", f"on_{kind}_batch_end"]
        if kind == "train":
            hooks += ["on_batch_begin", "on_batch_end"]
        return any(hook in vars(self) or getattr(type(self), hook) is not getattr(Callback, hook) for hook in hooks)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of ``on_train_batch_begin``."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of ``on_train_batch_end``."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch; epochs count from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation; ``logs`` holds the epoch's figures."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a training batch; batches count from 0."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a training batch; ``logs`` holds the epoch's figures so far."""
        self.on_batch_end(batch, logs=logs)

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch of an evaluation."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch of a prediction."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before training."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After training."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an evaluation, those of ``fit`` included."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After an evaluation, those of ``fit`` included."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """After a prediction."""


class CallbackList:
    """Several callbacks as one."""

    def __init__(self, callbacks: Iterable[Callback], model: Any, params: dict[str, Any]) -> None:
        self.callbacks = list(callbacks)
        self.model = model
        figures: list[str] | None = params.get("metrics")
        for callback in self.callbacks:
            callback.set_params({**params, "metrics": figures} if "metrics" in params else params)
            callback.set_model(model)
            added = _ADDED_FIGURES.get(type(callback))
            figures = None if figures is None or added is None else [*figures, *added]

    def call(self, hook: str, *args: Any) -> None:
        """Call ``hook`` of every callback, in order."""
        for callback in self.callbacks:
            getattr(callback, hook)(*args)

    def step_hooks(self, kind: str, progress: Callable[[int, Callable[[], Logs]], None] | None) -> StepHooks | None:
        """What the runner is to call around every batch of ``kind``; None where nobody listens."""
        listeners = [callback for callback in self.callbacks if callback.listens_to_batches(kind)]
        if not listeners and progress is None:
            return None
        return _Steps(listeners, kind, self.model, progress)


class _Steps:
    """Tells the callbacks that listen, and the progress line, about every batch."""

    def __init__(
        self,
        listeners: Sequence[Callback],
        kind: str,
        model: Any,
        progress: Callable[[int, Callable[[], Logs]], None] | None,
    ) -> None:
        self._begin = [getattr(callback, f"on_{kind}_batch_begin") for callback in listeners]
        self._end = [getattr(callback, f"on_{kind}_batch_end") for callback in listeners]
        self._model = model
        self._progress = progress
        self._training = kind == "train"
        self.every_batch = bool(listeners)

    def begin(self, step: int) -> None:
        """Before batch ``step``."""
        for hook in self._begin:
            hook(step, {})

    def end(self, step: int, logs: Callable[[], Logs]) -> bool:
        """After batch ``step``; True if a callback asked training to stop."""
        if self._end:
            figures = logs()
            for hook in self._end:
                hook(step, figures)
        if self._progress is not None:
            self._progress(step, logs)
        return self._training and bool(self._model.stop_training)


def checked(callbacks: Any) -> list[Callback]:
    """``callbacks`` (None, one or several) as a list; TypeError for anything that is no callback."""
    several = [] if callbacks is None else [callbacks] if isinstance(callbacks, Callback) else callbacks
    if not isinstance(several, (list, tuple)):
        raise TypeError(f"callbacks: got {checks.describe(callbacks)}, wants a list of Callback objects")
    for index, callback in enumerate(several):
        wants = "a Callback object (with parentheses: EarlyStopping(), not EarlyStopping)"
        checks.instance(f"callbacks[{index}]", callback, Callback, wants)
    return list(several)


class History(Callback):
    """The figures of every epoch, in ``history`` by name and ``epoch`` by number; ``fit`` returns it."""

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start empty."""
        self.epoch = []
        self.history = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Append the epoch's figures."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


def _sign(monitor: str, mode: str, model: Any) -> float | None:
    """1 where a larger ``monitor`` is better, -1 where a smaller one is; None where "auto" cannot tell."""
    if mode != "auto":
        return 1.0 if mode == "max" else -1.0
    name = monitor.removeprefix("val_")
    if name == "loss":
        return -1.0
    for metric in getattr(model, "metrics", ()):
        if metric.name == name and metric.direction is not None:
            return 1.0 if metric.direction == "up" else -1.0
    return 1.0 if "acc" in name else None


class EarlyStopping(Callback):
    """Stop when ``monitor`` has not improved by more than ``min_delta`` for ``patience`` epochs.

    ``mode``: "min", "max", or "auto" by the metric. ``baseline``: only epochs better than this count as progress.
    ``restore_best_weights`` puts back the weights of the best epoch at the end of training, whether it was stopped or
    ran out. Epochs before ``start_from_epoch`` are not looked at.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__()
        self.monitor = checks.instance("monitor", monitor, str, "the name of a figure such as 'val_loss'")
        self.min_delta = abs(checks.real("min_delta", min_delta))
        self.patience = checks.integer("patience", patience, 0)
        self.verbose = verbose
        self.mode = checks.one_of("mode", mode, ("auto", "min", "max"))
        self.baseline = None if baseline is None else checks.real("baseline", baseline)
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = checks.integer("start_from_epoch", start_from_epoch, 0)
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best: float | None = None
        self.best_epoch = 0
        self.best_weights: list[Array] | None = None
        self._direction = 0.0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start afresh, so that the object can serve several fits."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare, remember, and stop training where it is time."""
        if not self._direction:
            self._direction = self._find_direction()
        current = (logs or {}).get(self.monitor)
        if current is None:
            _warn_missing("EarlyStopping", self.monitor, logs)
            return
        current = _single(self.monitor, current)
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self._remember(epoch)
        self.wait += 1
        if self._better(current, self.best):
            self.best = current
            self._remember(epoch)
            if self.baseline is None or self._better(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Put back the best weights, if asked for."""
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                print(f"Restoring the weights of the best epoch, {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)

    def _find_direction(self) -> float:
        sign = _sign(self.monitor, self.mode, self.model)
        if sign is None:
            raise ValueError(
                f"mode: got 'auto', which cannot tell whether a high {self.monitor!r} is good, wants 'max' or 'min'"
            )
        return sign

    def _better(self, value: float, reference: float | None) -> bool:
        return reference is None or self._direction * (value - reference) > self.min_delta

    def _remember(self, epoch: int) -> None:
        self.best_epoch = epoch
        if self.restore_best_weights:
            self.best_weights = self.model.get_weights()


def _warn_missing(who: str, monitor: str, logs: Logs | None) -> None:
    available = ", ".join(map(repr, logs or {}))
    warnings.warn(f"{who}: {monitor!r} is not among the figures of the epoch, which are {available}", stacklevel=3)


def _single(monitor: str, figure: Any) -> float:
    """The figure, one number; ValueError for an array of a metric that gives several."""
    if np.ndim(figure):
        raise ValueError(
            f"monitor: got {monitor!r}, which is {checks.describe(figure)}, wants a single number, such as that of a "
            "metric with one threshold or an average"
        )
    return float(figure)


class ModelCheckpoint(Callback):
    """Save the model, or its weights, every epoch or every ``save_freq`` batches.

    ``filepath`` may hold ``{epoch}`` (from 1) and the figures of the epoch, as in
    "{epoch:02d}-{val_loss:.2f}.safetensors"; its suffix is as ``save`` wants it, its folder is made where there is
    none. ``save_best_only`` keeps only the best by ``monitor``; the first one must beat ``initial_value_threshold``.

    A place that cannot be written to, a model that cannot be saved, and names that no figure has, or one that some
    epochs lack, are found before the first epoch. Weights that overflowed in the last update are not saved: the fit
    ends in a DivergenceError, and the file of before stays.
    """

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__()
        self.filepath = str(saving.destination("filepath", filepath))
        self._names = _names(self.filepath)
        self.monitor = checks.instance("monitor", monitor, str, "the name of a figure such as 'val_loss'")
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.mode = checks.one_of("mode", mode, ("auto", "min", "max"))
        self.save_freq = save_freq
        if save_freq != "epoch":
            if isinstance(save_freq, str):
                raise ValueError(f"save_freq: got {save_freq!r}, wants 'epoch' or a number of batches")
            checks.positive_int("save_freq", save_freq)
        threshold = initial_value_threshold
        self.best = None if threshold is None else checks.real("initial_value_threshold", threshold)
        self._epoch = 0
        self._batches = 0

    def listens_to_batches(self, kind: str) -> bool:
        """Only where ``save_freq`` counts batches."""
        return kind == "train" and self.save_freq != "epoch"

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Make the folder, and find out whether the model can be saved there."""
        self.model._contents(self.save_weights_only)
        self._check_names()
        place = self._known_place()
        files.make_folder("filepath", place.parent)
        files.check_writable("filepath", place)

    def _known_place(self) -> Path:
        """The file to be; where only an epoch's figures will name it, one in the lowest folder that is known before."""
        if not self._names:
            return Path(self.filepath.format())
        template = Path(self.filepath)
        folder = next(folder for folder in template.parents if not _names(str(folder)))
        return Path(str(folder).format(), template.name)

    def _check_names(self) -> None:
        """Raise, where the figures are known, unless the file name can be made of them."""
        figures = self.params.get("metrics")
        if figures is None:
            return
        batch = None
        if self.save_freq != "epoch":
            batch, figures = 0, [name for name in figures if not name.startswith("val_")]
        self._path(0, dict.fromkeys(figures, 0.5), batch)
        self._check_validation()

    def _check_validation(self) -> None:
        """Raise where the name wants a figure of the validation for an epoch that is saved without one."""
        name = next((name for name in sorted(self._names) if name.startswith("val_")), None)
        if name is None or (self.save_best_only and self.monitor.startswith("val_")):
            return
        every = self.params.get("validation_freq", 1)
        epochs = range(self.params.get("initial_epoch", 0), self.params["epochs"])
        without = next((epoch + 1 for epoch in epochs if (epoch + 1) % every), None)
        if without is not None:
            raise ValueError(
                f"filepath: got {self.filepath!r} with {name!r}, which epoch {without} does not have by "
                f"validation_freq={every}, wants figures that every epoch has, or save_best_only by one of the "
                "validation"
            )

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Note the epoch for the file name; find out whether the file can be written, where its name is known."""
        self._epoch = epoch
        if self.save_freq == "epoch" and self._names == {"epoch"}:
            path = Path(self._path(epoch, {}, None))
            if path.parent.is_dir():
                files.check_writable("filepath", path)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Save after every ``save_freq`` batches."""
        self._batches += 1
        if isinstance(self.save_freq, int) and self._batches >= self.save_freq:
            self._batches = 0
            self._save(self._epoch, logs or {}, batch)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save after the epoch."""
        if self.save_freq == "epoch":
            self._save(epoch, logs or {})

    def _save(self, epoch: int, logs: Logs, batch: int | None = None) -> None:
        if self.save_best_only and not self._improved(epoch, logs):
            return
        path = self._path(epoch, logs, batch)
        require_finite_weights(
            self.model, epoch, "the last batch" if batch is None else f"batch {batch + 1}", ", and were not saved"
        )
        if self.verbose:
            print(f"Epoch {epoch + 1}: saving to {path}")
        files.make_folder("filepath", Path(path).parent)
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)

    def _improved(self, epoch: int, logs: Logs) -> bool:
        current = logs.get(self.monitor)
        if current is None:
            _warn_missing("ModelCheckpoint", self.monitor, logs)
            return False
        current = _single(self.monitor, current)
        sign = _sign(self.monitor, self.mode, self.model) or -1.0
        if self.best is not None and not sign * current > sign * self.best:
            if self.verbose:
                print(f"Epoch {epoch + 1}: {self.monitor} did not improve from {self.best:.5f}")
            return False
        if not math.isnan(current):
            self.best = current
        return True

    def _path(self, epoch: int, logs: Logs, batch: int | None) -> str:
        fields: dict[str, Any] = {**logs, "epoch": epoch + 1}
        if batch is not None:
            fields["batch"] = batch + 1
        try:
            return self.filepath.format(**fields)
        except KeyError as error:
            known = ", ".join(map(repr, fields))
            raise KeyError(f"filepath: got {self.filepath!r} with {error}, wants names out of {known}") from None
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"filepath: got {self.filepath!r}, which cannot be filled in ({error})") from error


def require_finite_weights(model: Any, epoch: int, after: str, besides: str = "") -> None:
    """DivergenceError where the last update threw the weights out of bounds, of which no loss tells as yet."""
    with np.errstate(all="ignore"):  # a sum is finite only if all is; where it is not, it may itself be too large
        if all(math.isfinite(parameter.value.sum()) for parameter in model.weights):
            return
    try:
        for parameter in model.weights:
            check_finite(parameter.path, parameter.value, parameter.dtype)
    except ValueError as error:
        raise DivergenceError(
            f"the weights are not finite at epoch {epoch + 1}, after {after}, with learning rate "
            f"{model.optimizer.learning_rate:g}{besides} ({error}). A smaller learning rate or scaled inputs usually "
            "help"
        ) from error


def _names(template: str) -> set[str]:
    """The names that a template for ``str.format`` asks for; ValueError for a malformed one or places without names."""
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise ValueError(f"filepath: got {template!r}, which is no template ({error})") from error
    names = {re.split(r"[.\[]", field)[0] for field in fields}
    if not all(name.isidentifier() for name in names):
        raise ValueError(f"filepath: got {template!r}, wants a name in every pair of braces, such as {{epoch}}")
    return names


class LearningRateScheduler(Callback):
    """Set the learning rate before every epoch to ``schedule(epoch, learning_rate)`` or ``schedule(epoch)``."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        if not callable(schedule):
            raise TypeError(f"schedule: got {checks.describe(schedule)}, wants a function of (epoch, learning_rate)")
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Ask the schedule, set the rate."""
        optimizer = self.model.optimizer
        arguments = (epoch, optimizer.learning_rate) if _takes_two(self.schedule) else (epoch,)
        optimizer.learning_rate = checks.real("schedule's learning rate", self.schedule(*arguments), minimum=0)
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {optimizer.learning_rate:g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add the rate to the figures of the epoch."""
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a function that cannot be inspected gets what Keras gives first
        return True
    return True


# What fastnn's own callbacks add to the figures of an epoch; others may add what they like.
_ADDED_FIGURES: dict[type[Callback], tuple[str, ...]] = {
    History: (),
    EarlyStopping: (),
    ModelCheckpoint: (),
    LearningRateScheduler: ("learning_rate",),
}


class LambdaCallback(Callback):
    """A callback of functions given by the hooks' names, with the hooks' arguments."""

    def __init__(
        self,
        on_epoch_begin: Callable[..., None] | None = None,
        on_epoch_end: Callable[..., None] | None = None,
        on_train_begin: Callable[..., None] | None = None,
        on_train_end: Callable[..., None] | None = None,
        on_train_batch_begin: Callable[..., None] | None = None,
        on_train_batch_end: Callable[..., None] | None = None,
        **hooks: Callable[..., None],
    ) -> None:
        super().__init__()
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **hooks,
        }
        known = [name for name in dir(Callback) if name.startswith("on_")]
        for name, function in given.items():
            checks.one_of("LambdaCallback", name, known)
            if function is not None:
                if not callable(function):
                    raise TypeError(f"{name}: got {checks.describe(function)}, wants a function")
                setattr(self, name, function)


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
