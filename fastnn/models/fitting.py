"""Models at work: ``fit``, ``evaluate``, ``predict`` and their batch by batch forms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from fastnn import backends, checks
from fastnn.callbacks.base import CallbackList, History
from fastnn.callbacks.base import checked as checked_callbacks
from fastnn.callbacks.checkpoints import require_finite_weights
from fastnn.engine import (
    DataSet,
    Network,
    Plan,
    Runner,
    make_plan,
    make_runner,
    seeds,
)
from fastnn.engine.data import Source
from fastnn.engine.protocols import Array, Logs
from fastnn.engine.wiring import each
from fastnn.errors import DivergenceError
from fastnn.losses.base import AddedLoss
from fastnn.models.arguments import (
    BATCH_SIZE,
    PREDICTION_BATCH_SIZE,
    batch_size_of,
    warn_of_flat_activations,
    warn_of_raw_outputs,
)
from fastnn.models.feeding import FedModel
from fastnn.models.own_steps import OwnSteps
from fastnn.models.streams import drawn, is_stream
from fastnn.progress import Progress, progress

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _apart(method: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """The method in a copy of the context: its backend and threads end with it, wherever it is interrupted.

    An interrupt may come between the choice of a backend and the ``try`` that takes it back.
    """

    @wraps(method)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        return copy_context().run(method, *args, **kwargs)

    return call


class _Feed:
    """What the epochs of a fit are trained on: arrays, or the batches that are drawn from a stream for each epoch."""

    def __init__(
        self, model: Trainer, x: Any, others: tuple[Any, Any], class_weight: Any, steps: int | None, batch_size: int
    ) -> None:
        self._model, self._class_weight = model, class_weight
        self._steps = None if steps is None else checks.positive_int("steps_per_epoch", steps)
        self._stream = x if is_stream(x) else None
        self.size = batch_size
        if self._stream is None:
            self.data = self._checked(x, *others)
            return
        if any(each is not None for each in others):
            raise ValueError("y, sample_weight: got one beside batches, wants it in these")
        self._draw()

    def _checked(self, x: Any, y: Any, sample_weight: Any) -> DataSet:
        return self._model._data_set(("x", "y", "sample_weight"), x, y, sample_weight, self._class_weight, stacklevel=8)

    def _draw(self) -> None:
        *given, self.size = drawn("x", self._stream, self._steps, "steps_per_epoch")
        self.data = self._checked(*given)

    @property
    def streams(self) -> bool:
        """Whether batches are drawn for each epoch, by what may wait for something."""
        return self._stream is not None

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        steps = self.data.steps(self.size)
        return steps if self._steps is None else min(steps, self._steps)

    def samples(self, place: _Place, shuffle: bool, anew: bool) -> tuple[DataSet, Array | None]:
        """The samples of the next epoch and their order; of a stream other ones if ``anew``."""
        if self._stream is not None:
            if anew:
                self._draw()
            return place.samples(self.data, self.size, shuffle=False)
        samples, order = place.samples(self.data, self.size, shuffle)
        if self._steps is None:
            return samples, order
        return _shortened(samples, order, self._steps * self.size)


@dataclass
class _Place:
    """Where a fit begins: the epoch, the batches of it that are done, and what their order was drawn from."""

    runner: Runner
    epoch: int
    batches: int = 0
    generator: np.random.Generator | None = None

    def samples(self, data: DataSet, batch_size: int, shuffle: bool) -> tuple[DataSet, Array | None]:
        """The samples of the next epoch, those that are done left out, and their order; None where they come as is."""
        generator, done = self.generator or seeds.generator(), self.batches * batch_size
        self.generator, self.batches = None, 0
        order = generator.permutation(data.rows) if shuffle else None
        if not done:
            return data, order
        return data.rest(done), (np.arange(data.rows) if order is None else order)[done:]

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a copy of the model is in no fit, and a runner cannot be copied


class Trainer(FedModel):
    """A model at work: fit, evaluate and predict, on a runner of the engine."""

    def __init__(self, name: str | None, trainable: bool, dtype: str | None) -> None:
        super().__init__(name, trainable, dtype)
        self.stop_training = False
        self.history: History | None = None
        self._place: _Place | None = None

    def plan(self, x: Any = None, batch_size: int = BATCH_SIZE, *, threads: int | None = None) -> Plan:
        """What a fit on ``x`` would run, and why; print it. Without ``x`` the model must be built."""
        checks.positive_int("batch_size", batch_size)
        on_threads = backends.use_num_threads(threads)
        source = None if x is None else self._source("x", x)
        self._build_for(source)
        with on_threads:
            return make_plan(self._network(), self._backend, source, batch_size)

    def _network(self) -> Network:
        layers, wiring = self.wired()
        stack = wiring.is_stack and len(layers) == len(wiring.calls)
        several = bool(self._heads) and self.loss is not None
        added = AddedLoss() if self.loss is None and self.optimizer is not None else None
        return Network(
            layers,
            self.compute_dtype,
            None if several else self.loss or added,
            self.optimizer,
            [] if several else self._metrics,
            [] if several else self._weighted_metrics,
            self._precision,
            self._memory_limit,
            None if stack else wiring,
            [head for head in self._heads if several and (head.loss or head.metrics or head.weighted_metrics)],
            self._run_eagerly,
        )

    def _runner(self, source: Source, batch_size: int, training: bool = False, backend: str | None = None) -> Runner:
        """What trains this model, or without ``training`` what evaluates and predicts with it, on a ``backend``.

        What the fused runner cannot train it may evaluate all the same, and predict with.
        """
        network = self._network() if training else replace(self._network(), optimizer=None)
        if self.trains_itself:
            return OwnSteps(self, network, backends.resolve(backend or self._backend))
        return make_runner(network, make_plan(network, backend or self._backend, source, batch_size))

    # ---------------------------------------------------------------------------------------------------- train

    @_apart
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        *,
        threads: int | None = None,
    ) -> History:
        """Train on ``x`` and ``y`` for epochs ``initial_epoch`` to ``epochs``; the figures of every epoch.

        ``x`` is an array (float, int, uint or bool) or a scipy.sparse matrix. Arrays of the model's dtype and bytes are
        read where they lie, read-only or mapped from a file too (``np.load(..., mmap_mode="r")``), others are
        converted, mapped ones a few batches at a time: data may be larger than memory. Loss and metrics are those of
        the training passes themselves, the loss with all penalties. ``validation_split`` keeps the last samples, before
        shuffling, for validation. ``sample_weight`` has the shape (n,), or for outputs (n, t, k) also (n, t), a weight
        a step. A model of several inputs or outputs takes lists, tuples or dicts of such by name. Nothing is changed
        unless all arguments are valid.

        ``x`` may also be a generator or an iterator of batches (inputs, targets) or (inputs, targets, weights), of
        which an epoch takes ``steps_per_epoch``, or an object with ``len`` and ``[...]`` that has such batches, all of
        which are an epoch (``keras.utils.PyDataset``); ``validation_data`` likewise, with ``validation_steps``. Batches
        are drawn at the beginning of an epoch, which memory has to hold, are not shuffled, and are trained on in
        batches of the first one's size. Of arrays ``steps_per_epoch`` batches are an epoch.

        ``threads`` is the number of CPU threads for this call alone: other calls, of other Python threads too, keep
        that of ``get_num_threads``. Results do not depend on it.

        What a signal's handler raises, KeyboardInterrupt for Ctrl-C, ends training after some 50 ms, or after the step
        at hand where that takes longer: weights, optimizer state and ``optimizer.iterations`` are those of a whole
        step, ``history`` of the epochs before, and another ``fit`` goes on from there.
        """
        self._require_compiled("fit")
        on_threads = backends.use_num_threads(threads)
        first, last = checks.integer("initial_epoch", initial_epoch, 0), checks.integer("epochs", epochs, 0)
        every = checks.positive_int("validation_freq", validation_freq)
        checks.instance("shuffle", shuffle, (bool, np.bool_), "True or False")
        listeners = checked_callbacks(callbacks)
        show = progress(verbose)
        share = checks.real("validation_split", validation_split, minimum=0, maximum=1, open_high=True)
        size = batch_size_of("batch_size", batch_size)
        feed = _Feed(self, x, (y, sample_weight), class_weight, steps_per_epoch, size)
        size, validation_size = feed.size, batch_size_of("validation_batch_size", validation_batch_size, feed.size)
        validation_data, validation_size = _all_drawn(validation_data, validation_steps, validation_size)
        data, validation = self._validation(feed.data, share, validation_data)
        feed.data = data
        self._build_to_train(data.x)

        with on_threads:
            runner = self._runner(data.x, size, training=True)
            judge = self._judge(runner, validation, validation_size)
            self._place = place = _Place(runner, first)
            self.history = History()
            params = {
                "verbose": verbose, "epochs": last, "steps": feed.steps,
                "metrics": self._names_of_epochs(validation is not None),
                "initial_epoch": first, "validation_freq": every,
            }  # fmt: skip
            calls = CallbackList([*listeners, self.history], self, params)
            self.stop_training = False
            logs: Logs = {}
            try:
                calls.call("on_train_begin", {})
                with self._staying(runner, calls, alone=validation is None and not feed.streams):
                    for epoch in range(place.epoch, last):
                        calls.call("on_epoch_begin", epoch, {})
                        samples, order = feed.samples(place, shuffle, anew=epoch > first)
                        show.open(f"Epoch {epoch + 1}/{last}", samples.steps(size))
                        hooks = calls.step_hooks("train", show.on_step)
                        train, validate = partial(runner.train_epoch, samples, size, order, epoch, hooks), None
                        if validation is not None and (epoch + 1) % every == 0:
                            validate = partial(self._evaluate, judge, validation, validation_size, calls, None)
                        try:
                            logs = self._epoch(epoch, train, validate)
                        except DivergenceError as error:
                            logs = self._diverged(error, validate is not None, calls, show)
                        show.close(logs)
                        calls.call("on_epoch_end", epoch, logs)
                        if self.stop_training or (self.optimizer is not None and self.optimizer.converged):
                            break
            finally:
                show.abandon()
                self._place = None
            if last:
                self._compiled_optimizer.finalize_variable_values(self.trainable_weights)
            self._end(calls, logs)
            return self.history

    def _judge(self, runner: Runner, validation: DataSet | None, batch_size: int) -> Runner:
        """What validates, by the backend that trains."""
        return runner if validation is None else self._runner(validation.x, batch_size, backend=runner.backend)

    def _names_of_epochs(self, validated: bool) -> list[str]:
        """Names of the figures of an epoch."""
        return [*self.metrics_names, *(f"val_{name}" for name in self.metrics_names if validated)]

    def _staying(self, runner: Runner, calls: CallbackList, alone: bool) -> AbstractContextManager[None]:
        """For the epochs of a fit: weights stay where the runner computes, where nobody looks at them between two."""
        looks = self.optimizer is None or self.optimizer.looks_at_state or not calls.leave_weights()
        return nullcontext() if looks else runner.staying(alone)

    def _diverged(self, error: DivergenceError, validated: bool, calls: CallbackList, show: Progress) -> Logs:
        """The figures of an epoch that has diverged, where a callback takes the error."""
        show.abandon()
        calls.diverged(error)
        return dict.fromkeys(self._names_of_epochs(validated), math.nan)

    def _build_to_train(self, x: Source) -> None:
        self._build_for(x)
        layers, wiring = self.wired()
        warn_of_flat_activations(layers)
        warn_of_raw_outputs(self._judged(), layers, wiring)

    def _epoch(self, epoch: int, train: Callable[[], Logs], validate: Callable[[], Logs] | None) -> Logs:
        """The figures of an epoch and its validation, if it has one; DivergenceError where a loss is not finite."""
        logs = train()
        if validate is not None:
            logs.update((f"val_{name}", value) for name, value in validate().items())
            if not math.isfinite(logs["val_loss"]):
                rate = self.optimizer.learning_rate if self.optimizer else math.nan
                raise DivergenceError(
                    f"the validation loss is {logs['val_loss']} at epoch {epoch + 1}, after the last batch, with "
                    f"learning rate {rate:g}. A smaller learning rate or scaled inputs usually help"
                )
        return logs

    def _end(self, calls: CallbackList, logs: Logs) -> None:
        """End a fit; DivergenceError where its last update spoilt the weights, unless a callback takes it."""
        calls.call("on_train_end", logs)
        try:
            if self.history is not None and self.history.epoch:
                require_finite_weights(self, self.history.epoch[-1], "the last batch")
        except DivergenceError as error:
            calls.diverged(error)

    @_apart
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One update on one batch; its loss (before the update) and metrics as ``evaluate`` returns them."""
        self._require_compiled("train_on_batch")
        data = self._data_set(("x", "y", "sample_weight"), x, y, sample_weight, class_weight)
        self._build_for(data.x)
        runner = self._runner(data.x, data.rows, training=True)
        return _figures(runner.train_epoch(data, data.rows), return_dict)

    # ---------------------------------------------------------------------------------------------------- use

    @_apart
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        callbacks: Any = None,
        return_dict: bool = False,
        steps: int | None = None,
        *,
        threads: int | None = None,
    ) -> Any:
        """Loss (with all penalties) and metrics: a number without metrics, else a list, or with return_dict a dict.

        ``x`` and ``threads`` as in ``fit``; of batches ``steps`` are taken.
        """
        self._require_compiled("evaluate", training=False)
        on_threads = backends.use_num_threads(threads)
        size = batch_size_of("batch_size", batch_size)
        listeners = checked_callbacks(callbacks)
        show = progress(verbose)
        if is_stream(x):
            x, y, sample_weight, size = drawn("x", x, steps, "steps")
        data = self._data_set(("x", "y", "sample_weight"), x, y, sample_weight, None)
        self._build_for(data.x)
        calls = CallbackList(listeners, self, {"verbose": verbose, "epochs": 1, "steps": data.steps(size)})
        with on_threads:
            return _figures(self._evaluate(self._runner(data.x, size), data, size, calls, show), return_dict)

    def _evaluate(
        self, runner: Runner, data: DataSet, batch_size: int, calls: CallbackList, show: Progress | None
    ) -> Logs:
        calls.call("on_test_begin", {})
        if show is not None:
            show.open("Evaluate", data.steps(batch_size))
        try:
            logs = runner.evaluate(data, batch_size, calls.step_hooks("test", show.on_step if show else None))
            if show is not None:
                show.close(logs)
        finally:
            if show is not None:
                show.abandon()
        calls.call("on_test_end", logs)
        return logs

    @_apart
    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics of one batch, as ``evaluate`` returns them."""
        self._require_compiled("test_on_batch", training=False)
        data = self._data_set(("x", "y", "sample_weight"), x, y, sample_weight, None)
        self._build_for(data.x)
        return _figures(self._runner(data.x, data.rows).evaluate(data, data.rows), return_dict)

    @_apart
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        callbacks: Any = None,
        steps: int | None = None,
        *,
        threads: int | None = None,
    ) -> Any:
        """Outputs for all samples, in the model's dtype; a live line on a terminal, nothing elsewhere.

        Of batches, as ``fit`` takes them, ``steps`` are taken; what they have beside inputs is left out.

        Where no ``batch_size`` is given it is 1024 (Keras: 32). ``threads`` as in ``fit``.
        """
        on_threads = backends.use_num_threads(threads)
        size = batch_size_of("batch_size", batch_size, PREDICTION_BATCH_SIZE)
        listeners = checked_callbacks(callbacks)
        show = progress(verbose)
        if is_stream(x):
            x = drawn("x", x, steps, "steps").x
        source = self._source("x", x)
        self._build_for(source)
        if source.rows == 0:
            empty = [np.zeros((0, *shape), self.compute_dtype) for shape in self._sample_shapes_out(source)]
            return self._arranged(empty)
        batches = -(-source.rows // size)
        calls = CallbackList(listeners, self, {"verbose": verbose, "epochs": 1, "steps": batches})
        with on_threads:
            calls.call("on_predict_begin", {})
            if show.style == "bar":
                show.open("Predict", batches)
            try:
                found = self._runner(source, size).predict(source, size, calls.step_hooks("predict", show.on_step))
                if show.style == "bar":
                    show.close({})
            finally:
                show.abandon()
            calls.call("on_predict_end", {})
            return self._arranged(each(found))

    @_apart
    def predict_on_batch(self, x: Any) -> Any:
        """Outputs for one batch."""
        source = self._source("x", x)
        self._build_for(source)
        found = self._runner(source, max(source.rows, 1)).predict(source, max(source.rows, 1))
        return self._arranged(each(found))


def _all_drawn(validation_data: Any, steps: int | None, batch_size: int) -> tuple[Any, int]:
    """Validation data, and the batches' size: those of a stream are drawn."""
    if not is_stream(validation_data):
        return validation_data, batch_size
    *given, size = drawn("validation_data", validation_data, steps, "validation_steps")
    return tuple(given), size


def _shortened(data: DataSet, order: Array | None, rows: int) -> tuple[DataSet, Array | None]:
    """An epoch of no more than so many samples."""
    left = data.rows - data.left_out
    if rows >= left:
        return data, order
    return data.rest(data.rows - rows), (np.arange(left) if order is None else order)[:rows]


def _figures(logs: Logs, return_dict: bool) -> Any:
    if return_dict:
        return logs
    values = list(logs.values())
    return values if len(values) > 1 else values[0]
