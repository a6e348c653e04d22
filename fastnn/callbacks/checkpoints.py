"""Callbacks that write a model down while it is trained."""

from __future__ import annotations

import math
import os
import re
import string
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import checks, files, saving
from fastnn.callbacks.base import Callback
from fastnn.callbacks.monitors import direction, single, warn_missing
from fastnn.engine import seeds
from fastnn.engine.data import check_finite
from fastnn.engine.protocols import Array, Logs
from fastnn.errors import DivergenceError


class ModelCheckpoint(Callback):
    """Save the model, or its weights, every epoch or every ``save_freq`` batches.

    ``filepath`` may hold ``{epoch}`` (from 1) and the figures of the epoch, as in
    "{epoch:02d}-{val_loss:.2f}.safetensors"; its suffix is as ``save`` wants it, its folder is made where there is
    none. ``save_best_only`` keeps only the best by ``monitor``; the first one must beat ``initial_value_threshold``.

    A place that cannot be written to, a model that cannot be saved, and names that no figure has, or one that some
    epochs lack, are found before the first epoch. Weights that overflowed in the last update are not saved: the fit
    ends in a DivergenceError, and the file of before stays.
    """

    ADDED_FIGURES = ()

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
        keras = saving.KERAS_WEIGHTS if save_weights_only else saving.KERAS_MODEL
        self.filepath = str(saving.destination("filepath", filepath, keras))
        self._names = _names(self.filepath)
        self.monitor = checks.instance("monitor", monitor, str, "the name of a figure such as 'val_loss'")
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.mode = checks.one_of("mode", mode, ("auto", "min", "max"))
        self.save_freq = _save_freq(save_freq)
        threshold = initial_value_threshold
        self.best = None if threshold is None else checks.real("initial_value_threshold", threshold)
        self._epoch = 0
        self._batches = 0

    def listens_to_batches(self, kind: str) -> bool:
        """Only where ``save_freq`` counts batches."""
        return kind == "train" and self.save_freq != "epoch"

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Make the folder, and find out whether the model can be saved there."""
        self.model._file(self.filepath, self.save_weights_only)
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
            warn_missing("ModelCheckpoint", self.monitor, logs)
            return False
        current = single(self.monitor, current)
        sign = direction(self.monitor, self.mode, self.model) or -1.0
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


class BackupAndRestore(Callback):
    """Back up training to ``backup_dir``, and go on from there where an earlier fit was interrupted.

    Every epoch, or every ``save_freq`` batches, a file takes the place of the one before, whole or not at all: weights,
    optimizer state, learning rate, epoch, batch, and what order of samples and masks will be drawn from. A fit that
    finds it goes on as if it had not been interrupted: with the same arguments it ends in the same weights, bit by bit.
    What it returns are the figures of the epochs from there on, of an epoch that was begun before those of its rest;
    what other callbacks remember begins anew.

    ``double_checkpoint`` keeps the file before too, which is taken where the last one is damaged. When training has
    ended the files are removed, unless ``delete_checkpoint`` is False, and the folder if nothing else is in it (Keras
    removes it with all that it holds). A place that cannot be written to is found before the first epoch; so is a file
    that is damaged, or no backup of such a model (ValueError).
    """

    ADDED_FIGURES = ()

    def __init__(
        self,
        backup_dir: Any,
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        self.backup_dir = str(files.checked_path("backup_dir", backup_dir))
        self.save_freq = _save_freq(save_freq)
        self.double_checkpoint = checks.instance("double_checkpoint", double_checkpoint, bool, "True or False")
        self.delete_checkpoint = checks.instance("delete_checkpoint", delete_checkpoint, bool, "True or False")
        self._latest = Path(self.backup_dir, "latest.safetensors")
        self._previous = Path(self.backup_dir, "previous.safetensors")
        self._reset()

    def _reset(self) -> None:
        self._epoch = 0
        self._since_saved = 0  # batches
        self._before = 0  # batches of the epoch that an earlier fit trained on
        self._drawn_from: Any = None  # the state of the generator that the epoch's order is drawn from

    def listens_to_batches(self, kind: str) -> bool:
        """Only where ``save_freq`` counts batches."""
        return kind == "train" and self.save_freq != "epoch"

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Go on from a backup, if there is one; find out whether another can be written."""
        self._reset()
        files.make_folder("backup_dir", Path(self.backup_dir))
        found = [path for path in (self._latest, self._previous) if path.exists()]
        for path in found:
            try:
                contents = saving.read(path)
            except (OSError, ValueError) as error:
                if path == found[-1]:
                    raise
                warnings.warn(f"backup_dir: going on from the backup before, since {error}", UserWarning, stacklevel=2)
            else:
                self._go_on(path, *contents)
                os.replace(path, self._latest)  # a damaged one must not take the place of the one before
                break
        files.check_writable("backup_dir", self._latest)

    def _go_on(self, path: Path, tensors: Mapping[str, Array], document: Mapping[str, Any]) -> None:
        """Take over a backup; ValueError where it is none of this model or of other batches."""
        try:
            epoch, batches = (checks.integer(name, document.get(name), 0) for name in ("epoch", "batch"))
            if batches and document.get("steps") != self.params["steps"]:
                raise ValueError(
                    f"steps: got {document.get('steps')} batches an epoch, where this fit has {self.params['steps']}"
                )
            self.model._take_backup(tensors, document, epoch, batches, document.get("drawn_from"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"backup_dir: got {str(path)!r}, which is no backup of such a fit ({error}); wants the model and the "
                "arguments that it was made with, or an empty folder"
            ) from error
        self._before, self._drawn_from = batches, document.get("drawn_from")

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Note what the order of the samples will be drawn from."""
        self._epoch = epoch
        if not self._before:
            self._drawn_from = seeds.state()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Back up after every ``save_freq`` batches."""
        self._since_saved += 1
        if isinstance(self.save_freq, int) and self._since_saved >= self.save_freq:
            self._since_saved = 0
            done = self._before + batch + 1
            whole = done == self.params["steps"]
            self._save(self._epoch + whole, 0 if whole else done)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Back up after the epoch."""
        self._before = 0
        if self.save_freq == "epoch":
            self._save(epoch + 1, 0)

    def _save(self, epoch: int, batches: int) -> None:
        """Write down that ``batches`` of ``epoch``, which counts from 0, are done."""
        require_finite_weights(self.model, self._epoch, "the last batch", ", and were not backed up")
        tensors, document = self.model._backup()
        place = {"epoch": epoch, "batch": batches, "steps": self.params["steps"]}
        if self.double_checkpoint and self._latest.exists():
            os.replace(self._latest, self._previous)
        drawn_from = self._drawn_from if batches else None
        saving.replace(self._latest, saving.contents(tensors, {**document, **place, "drawn_from": drawn_from}))
        if not self.double_checkpoint:
            self._previous.unlink(missing_ok=True)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Remove what is no longer needed."""
        if self.delete_checkpoint:
            self._latest.unlink(missing_ok=True)
            self._previous.unlink(missing_ok=True)
            with suppress(OSError):  # something else may be there
                Path(self.backup_dir).rmdir()


def _save_freq(value: Any) -> str | int:
    """``value`` if it is "epoch" or a number of batches."""
    if value == "epoch":
        return "epoch"
    if isinstance(value, str):
        raise ValueError(f"save_freq: got {value!r}, wants 'epoch' or a number of batches")
    return checks.positive_int("save_freq", value)


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
