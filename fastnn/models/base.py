"""What all models share: compile, fit, evaluate, predict, weights and files; Keras's names, arguments and defaults."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from fastnn import backends, checks, losses, optimizers, saving, serialization
from fastnn.callbacks.base import CallbackList, History
from fastnn.callbacks.base import checked as checked_callbacks
from fastnn.callbacks.checkpoints import require_finite_weights
from fastnn.configurable import snake_case, undefined
from fastnn.engine import (
    DataSet,
    Network,
    Plan,
    Runner,
    index_source,
    input_source,
    make_plan,
    make_runner,
    numeric_array,
    seeds,
)
from fastnn.engine.data import DenseSource, Source
from fastnn.engine.protocols import Array, Logs, Shape
from fastnn.errors import DivergenceError
from fastnn.kernels.table import DTYPES
from fastnn.layers import Layer, Parameter
from fastnn.layers.base import BatchShape, WeightLists, assign_all, refuse_symbols, unique_name
from fastnn.losses import Loss
from fastnn.losses.base import FunctionLoss
from fastnn.metrics import Metric
from fastnn.models.arguments import (
    BATCH_SIZE,
    PREDICTION_BATCH_SIZE,
    batch_shape,
    batch_size_of,
    check_precision,
    class_weight_of,
    make_names_unique,
    metrics_of,
    sample_weight_of,
    warn_of_flat_activations,
)
from fastnn.models.summaries import summary
from fastnn.optimizers import Optimizer
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


class TensorSpec(NamedTuple):
    """What is known of inputs or outputs before there are any: shape (the batch axis as None), dtype, name."""

    shape: BatchShape
    dtype: str
    name: str


class Model(WeightLists):
    """Layers that are compiled, fitted, evaluated and saved together; ``Sequential`` says how they are connected."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name if name is not None else unique_name(snake_case(type(self).__name__))
        checks.instance("name", self.name, str, "a string")
        self._layers: list[Layer] = []
        self.optimizer: Optimizer | None = None
        self.loss: Loss | None = None
        self._metrics: list[Metric] = []
        self._weighted_metrics: list[Metric] = []
        self._backend = "auto"
        self._precision: str | None = None
        self._memory_limit: int | None = None
        self._warned_of_outputs = False
        self.stop_training = False
        self.history: History | None = None
        self._place: _Place | None = None

    # ---------------------------------------------------------------------------------------------------- the layers

    @property
    def built(self) -> bool:
        """Whether the weights are made."""
        return bool(self._layers) and all(layer.built for layer in self._layers)

    @property
    def layers(self) -> list[Layer]:
        """The layers, without an InputLayer."""
        return list(self._layers)

    @property
    def compute_dtype(self) -> np.dtype[Any]:
        """The dtype in which the model computes."""
        return np.dtype(next((layer.dtype for layer in self._layers if layer.dtype is not None), DTYPES[0]))

    @property
    def input_shape(self) -> BatchShape:
        """Shape of the inputs, the batch axis as None; AttributeError while it is unknown, so ``hasattr`` can ask."""
        shape = self._bottom_shape()
        if shape is None:
            raise AttributeError(f"{self.name}: the model is not built, so its input shape is unknown")
        return shape

    @property
    def output_shape(self) -> BatchShape:
        """Shape of the outputs, the batch axis as None; AttributeError while it is unknown."""
        return self._output_shape(self.input_shape)

    @property
    def inputs(self) -> list[TensorSpec]:
        """Shape, dtype and name of the inputs, in a list as Keras has it; AttributeError while they are unknown."""
        return [TensorSpec(self.input_shape, str(self.compute_dtype), self._stack()[0].name)]

    @property
    def outputs(self) -> list[TensorSpec]:
        """Shape, dtype and name of the outputs, likewise."""
        return [TensorSpec(self.output_shape, str(self.compute_dtype), self._stack()[-1].name)]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> BatchShape:
        """Shape of the outputs for inputs of ``input_shape``, both with the batch axis."""
        return self._output_shape(batch_shape(input_shape, self._bottom_shape()))

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name, or at that place."""
        if (name is None) == (index is None):
            raise ValueError(f"name, index: got {name!r} and {index!r}, wants one of them")
        if index is not None:
            place = checks.integer("index", index)
            if not -len(self._layers) <= place < len(self._layers):
                raise ValueError(f"index: got {place}, wants one of the {len(self._layers)} layers")
            return self._layers[place]
        names = {layer.name: layer for layer in self._layers}
        return names[checks.one_of("name", name, names)]

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Make the weights for inputs of ``input_shape``, the batch axis (None) included."""
        raise undefined(self, "build(input_shape)")

    def _stack(self) -> list[Layer]:
        """The layers, ahead of them what stands for the inputs."""
        raise undefined(self, "_stack()")

    def _bottom_shape(self) -> BatchShape | None:
        """Shape of the inputs; None while it is unknown."""
        raise undefined(self, "_bottom_shape()")

    def _output_shape(self, shape: BatchShape) -> BatchShape:
        """Shape of the outputs for inputs of ``shape``."""
        raise undefined(self, "_output_shape(shape)")

    # ---------------------------------------------------------------------------------------------------- the weights

    @property
    def weights(self) -> list[Parameter]:
        """All parameters, layer by layer."""
        return [parameter for layer in self._layers for parameter in layer.parameters]

    @property
    def losses(self) -> list[float]:
        """The penalties on the trained parameters that have one, in their order, for their present values."""
        pairs = ((parameter.regularizer, parameter.value) for parameter in self.trainable_weights)
        return [penalty.value_and_gradient(value)[0] for penalty, value in pairs if penalty is not None]

    @property
    def trainable(self) -> bool:
        """Whether any layer may learn; setting it sets every layer."""
        return any(layer.trainable for layer in self._layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self._layers:
            layer.trainable = value

    def get_weights(self) -> list[Array]:
        """Copies of all weight arrays: kernel, bias, kernel, bias, ..."""
        return [parameter.numpy() for parameter in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Take over ``weights``, in the order of ``get_weights``; nothing is changed unless all of them fit."""
        self._require_built("set_weights")
        assign_all(self.weights, weights)

    def count_params(self) -> int:
        """Number of weights; ValueError before the model is built."""
        self._require_built("count_params")
        return sum(layer.count_params() for layer in self._layers)

    def _require_built(self, what: str) -> None:
        if not self.built:
            raise ValueError(
                f"{what}: the model is not built; give it an Input, call build((None, ...)) or fit it first"
            )

    # ---------------------------------------------------------------------------------------------------- compile

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        *,
        backend: str = "auto",
        precision: str | None = None,
        memory_limit: int | str | None = None,
    ) -> None:
        """Say how to train: optimizer, loss, metrics, and the backend ("auto", "cpu", "naive", "cuda").

        ``metrics`` ignore sample weights, ``weighted_metrics`` count by them. ``precision`` is that of the products in
        training: "bfloat16" rounds what is multiplied to 8 bits of mantissa while weights, sums, losses and optimizer
        stay float32, at up to twice the speed on a CPU with AVX512-BF16; "auto" takes it where it can and says so once
        where it cannot; None is the dtype of the model. Evaluation and prediction use the dtype in any case.

        ``memory_limit`` is what samples may take of a device's memory, in bytes or as text such as "2GB" or "512MiB";
        None is half of what is free there. Samples that take more are brought a piece at a time while steps are at
        work. Files do not keep it. On the CPU samples stay where they are.

        Nothing is changed unless all is valid. Raises BackendError where the backend or precision named cannot serve.
        """
        limit = None if memory_limit is None else checks.memory("memory_limit", memory_limit)
        found = optimizers.get(optimizer)
        found_loss = None if loss is None else losses.get(loss)
        if found_loss is not None and not found_loss.reduces:
            raise ValueError(
                f"loss: got {found_loss.name!r} with the reduction {found_loss.reduction!r}, which gives a number for "
                "every sample; wants one number to train on, such as by 'sum_over_batch_size'"
            )
        plain = metrics_of("metrics", metrics)
        weighted = metrics_of("weighted_metrics", weighted_metrics)
        chosen = backends.resolve(backend)
        check_precision(precision, chosen, self.compute_dtype)
        make_names_unique(plain, weighted)
        self.optimizer, self.loss, self._backend, self._precision = found, found_loss, backend, precision
        self._memory_limit = limit
        self._metrics, self._weighted_metrics = plain, weighted
        self._warned_of_outputs = False
        bottom = self._bottom_shape()
        if bottom is not None and self._layers:
            self._warn_of_outputs(self._output_shape(bottom)[-1], stacklevel=4)

    def _warn_of_outputs(self, width: int | None, stacklevel: int) -> None:
        """Say, once after compile, where the loss makes no sense of so many outputs."""
        if self.loss is not None and width is not None and not self._warned_of_outputs:
            self._warned_of_outputs = True
            self.loss.warn_of_outputs(width, stacklevel)

    @property
    def metrics(self) -> list[Metric]:
        """The compiled metrics, weighted ones last."""
        return [*self._metrics, *self._weighted_metrics]

    @property
    def metrics_names(self) -> list[str]:
        """Names of the figures that ``evaluate`` returns, in its order."""
        return ["loss", *(metric.name for metric in self.metrics)]

    def plan(self, x: Any = None, batch_size: int = BATCH_SIZE, *, threads: int | None = None) -> Plan:
        """What a fit on ``x`` would run, and why; print it. Without ``x`` the model must be built."""
        checks.positive_int("batch_size", batch_size)
        on_threads = backends.use_num_threads(threads)
        source = None if x is None else self._source("x", x)
        self._build_for(source)
        with on_threads:
            return make_plan(self._network(), self._backend, source, batch_size)

    def _network(self) -> Network:
        return Network(
            self._layers,
            self.compute_dtype,
            self.loss,
            self.optimizer,
            self._metrics,
            self._weighted_metrics,
            self._precision,
            self._memory_limit,
        )

    def _runner(self, source: Source, batch_size: int, training: bool = False, backend: str | None = None) -> Runner:
        """What trains this model, or without ``training`` what evaluates and predicts with it, on a ``backend``.

        What the fused runner cannot train it may evaluate all the same, and predict with.
        """
        network = self._network() if training else replace(self._network(), optimizer=None)
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
        *,
        threads: int | None = None,
    ) -> History:
        """Train on ``x`` and ``y`` for epochs ``initial_epoch`` to ``epochs``; the figures of every epoch.

        ``x`` is an array (float, int, uint or bool) or a scipy.sparse matrix. Arrays of the model's dtype and bytes are
        read where they lie, read-only or mapped from a file too (``np.load(..., mmap_mode="r")``), others are
        converted, mapped ones a few batches at a time: data may be larger than memory. Loss and metrics are those of
        the training passes themselves, the loss with all penalties. ``validation_split`` keeps the last samples, before
        shuffling, for validation. ``sample_weight`` has the shape (n,), or for outputs (n, t, k) also (n, t), a weight
        a step. Nothing is changed unless all arguments are valid.

        ``threads`` is the number of CPU threads for this call alone: other calls, of other Python threads too, keep
        that of ``get_num_threads``. Results do not depend on it.

        What a signal's handler raises, KeyboardInterrupt for Ctrl-C, ends training after some 50 ms, or after the step
        at hand where that takes longer: weights, optimizer state and ``optimizer.iterations`` are those of a whole
        step, ``history`` of the epochs before, and another ``fit`` goes on from there.
        """
        self._require_compiled("fit")
        on_threads = backends.use_num_threads(threads)
        size = batch_size_of("batch_size", batch_size)
        validation_size = batch_size_of("validation_batch_size", validation_batch_size, size)
        first, last = checks.integer("initial_epoch", initial_epoch, 0), checks.integer("epochs", epochs, 0)
        every = checks.positive_int("validation_freq", validation_freq)
        checks.instance("shuffle", shuffle, (bool, np.bool_), "True or False")
        listeners = checked_callbacks(callbacks)
        show = progress(verbose)
        share = checks.real("validation_split", validation_split, minimum=0, maximum=1, open_high=True)
        data = self._data_set(("x", "y", "sample_weight"), x, y, sample_weight, class_weight)
        data, validation = self._validation(data, share, validation_data)
        self._build_to_train(data.x)

        with on_threads:
            runner = self._runner(data.x, size, training=True)
            judge = runner
            if validation is not None:
                judge = self._runner(validation.x, validation_size, backend=runner.backend)
            self._place = place = _Place(runner, first)
            self.history = History()
            params = {
                "verbose": verbose, "epochs": last, "steps": data.steps(size),
                "metrics": self._names_of_epochs(validation is not None),
                "initial_epoch": first, "validation_freq": every,
            }  # fmt: skip
            calls = CallbackList([*listeners, self.history], self, params)
            self.stop_training = False
            logs: Logs = {}
            try:
                calls.call("on_train_begin", {})
                with self._staying(runner, calls):
                    for epoch in range(place.epoch, last):
                        calls.call("on_epoch_begin", epoch, {})
                        samples, order = place.samples(data, size, shuffle)
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

    def _names_of_epochs(self, validated: bool) -> list[str]:
        """Names of the figures of an epoch."""
        return [*self.metrics_names, *(f"val_{name}" for name in self.metrics_names if validated)]

    def _staying(self, runner: Runner, calls: CallbackList) -> AbstractContextManager[None]:
        """For the epochs of a fit: weights stay where the runner computes, where nobody looks at them between two."""
        looks = self.optimizer is None or self.optimizer.looks_at_state or not calls.leave_weights()
        return nullcontext() if looks else runner.staying()

    def _diverged(self, error: DivergenceError, validated: bool, calls: CallbackList, show: Progress) -> Logs:
        """The figures of an epoch that has diverged, where a callback takes the error."""
        show.abandon()
        calls.diverged(error)
        return dict.fromkeys(self._names_of_epochs(validated), math.nan)

    def _build_to_train(self, x: Source) -> None:
        self._build_for(x)
        warn_of_flat_activations(self.layers)

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
        *,
        threads: int | None = None,
    ) -> Any:
        """Loss (with all penalties) and metrics: a number without metrics, else a list, or with return_dict a dict.

        ``threads`` as in ``fit``.
        """
        self._require_compiled("evaluate", training=False)
        on_threads = backends.use_num_threads(threads)
        size = batch_size_of("batch_size", batch_size)
        listeners = checked_callbacks(callbacks)
        show = progress(verbose)
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
        *,
        threads: int | None = None,
    ) -> Any:
        """Outputs for all samples, in the model's dtype; a live line on a terminal, nothing elsewhere.

        Where no ``batch_size`` is given it is 1024 (Keras: 32). ``threads`` as in ``fit``.
        """
        on_threads = backends.use_num_threads(threads)
        size = batch_size_of("batch_size", batch_size, PREDICTION_BATCH_SIZE)
        listeners = checked_callbacks(callbacks)
        show = progress(verbose)
        source = self._source("x", x)
        self._build_for(source)
        if source.rows == 0:
            return np.zeros((0, *self._sample_shape_out(source)), self.compute_dtype)
        steps = -(-source.rows // size)
        calls = CallbackList(listeners, self, {"verbose": verbose, "epochs": 1, "steps": steps})
        with on_threads:
            calls.call("on_predict_begin", {})
            if show.style == "bar":
                show.open("Predict", steps)
            try:
                outputs = self._runner(source, size).predict(source, size, calls.step_hooks("predict", show.on_step))
                if show.style == "bar":
                    show.close({})
            finally:
                show.abandon()
            calls.call("on_predict_end", {})
            return outputs

    @_apart
    def predict_on_batch(self, x: Any) -> Any:
        """Outputs for one batch."""
        source = self._source("x", x)
        self._build_for(source)
        return self._runner(source, max(source.rows, 1)).predict(source, max(source.rows, 1))

    def __call__(self, x: Any, training: bool | None = None) -> Any:
        """Outputs for one batch; with ``training`` those of a training pass, where dropout drops."""
        checks.instance("training", training, (bool, type(None)), "True, False or None")
        if not training:
            return self.predict_on_batch(x)
        source = self._source("x", x)
        self._build_for(source)
        return self._runner(source, max(source.rows, 1)).outputs(source, training=True)

    # ---------------------------------------------------------------------------------------------------- data

    def _require_compiled(self, what: str, training: bool = True) -> None:
        if not self._layers:
            raise ValueError(f"{what}: got a model without layers, wants at least one (model.add)")
        if self.loss is None or self.optimizer is None:
            missing = "an optimizer" if self.optimizer is None else "a loss"
            purpose = "trained" if training else "evaluated"
            raise ValueError(
                f"{what}: the model has to be compiled with {missing} before it is {purpose} (model.compile)"
            )

    def _source(self, name: str, x: Any) -> Source:
        """The checked input ``x``; ValueError where samples do not have the shape that the model is made for."""
        if x is None:
            raise ValueError(f"{name}: got None, wants an array of samples")
        refuse_symbols(name, x)
        if not self._layers:
            raise ValueError("layers: got a model without layers, wants at least one (model.add)")
        first = self._layers[0]
        if first.indices is None:
            source = input_source(name, x, self.compute_dtype)
        else:
            source = index_source(name, x, first.indices, first.name)
        if isinstance(source, DenseSource) and source.sample_shape == ():
            source = DenseSource(source.array[:, np.newaxis], source.dtype, source.counts)
        bottom = self._bottom_shape()
        if bottom is not None and source.sample_shape != bottom[1:]:
            wanted = ", ".join(["n", *map(str, bottom[1:])])
            raise ValueError(
                f"{name}: got shape {(source.rows, *source.sample_shape)}, wants ({wanted}), the model's input"
            )
        return source

    def _sample_shape_out(self, source: Source) -> Shape:
        return tuple(size or 0 for size in self._output_shape((None, *source.sample_shape))[1:])

    def _build_for(self, source: Source | None) -> None:
        """Make the weights, if they are not made yet, for inputs such as ``source``."""
        if not self.built:
            self.build(None if source is None else (None, *source.sample_shape))

    def _data_set(
        self,
        names: tuple[str, str, str],
        x: Any,
        y: Any,
        sample_weight: Any,
        class_weight: Mapping[int, float] | None,
    ) -> DataSet:
        """Samples, targets and weights, checked against the model and each other; nothing of the model is changed."""
        x_name, y_name, weight_name = names
        source = self._source(x_name, x)
        if source.rows == 0:
            raise ValueError(f"{x_name}: got no samples, wants at least one")
        if y is None:
            raise ValueError(f"{y_name}: got None, wants the targets of {x_name}")
        targets = numeric_array(y_name, y)
        if len(targets) != source.rows:
            raise ValueError(f"{y_name}: got {len(targets)} rows, wants {source.rows}, as many as {x_name}")
        if self.loss is None:
            raise ValueError("loss: got None, wants a compiled loss")
        outputs = self._sample_shape_out(source)
        self._warn_of_outputs(outputs[-1], stacklevel=6)
        targets = self.loss.check_targets(y_name, targets, outputs, self.compute_dtype)
        if sample_weight is not None and class_weight is not None:
            raise ValueError("class_weight, sample_weight: got both, wants one of them")
        weight = None
        if sample_weight is not None:
            weight = sample_weight_of(weight_name, sample_weight, (source.rows, *outputs[:-1]), self.compute_dtype)
        elif class_weight is not None:
            weight = class_weight_of(class_weight, targets, outputs[-1])
        if weight is not None and isinstance(self.loss, FunctionLoss):
            raise ValueError(
                f"{weight_name}: got weights, wants None: the loss {self.loss.name!r} is a function without them"
            )
        dtype = np.int64 if self.loss.integer_targets else self.compute_dtype
        return DataSet(source, targets, weight, dtype, weight_dtype=self.compute_dtype)

    def _validation(self, data: DataSet, share: float, validation_data: Any) -> tuple[DataSet, DataSet | None]:
        """The training and the validation set."""
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                got = checks.describe(validation_data)
                raise TypeError(f"validation_data: got {got}, wants (x, y) or (x, y, sample_weight)")
            x, y, weight = (*validation_data, None)[:3]
            names = ("validation_data[0]", "validation_data[1]", "validation_data[2]")
            validation = self._data_set(names, x, y, weight, None)
            shapes = validation.x.sample_shape, data.x.sample_shape
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"validation_data[0]: got samples of shape {shapes[0]}, wants {shapes[1]}, as those in x"
                )
            return data, validation
        if share == 0:
            return data, None
        row = math.floor(data.rows * (1 - share))
        if row in (0, data.rows):
            raise ValueError(
                f"validation_split: got {share}, which leaves {row} of {data.rows} samples to train on, wants a share "
                "that leaves some for training and some for validation"
            )
        return data.split(row)

    # ---------------------------------------------------------------------------------------------------- show, save

    def summary(self, line_length: int | None = None, print_fn: Callable[[str], Any] | None = None) -> None:
        """Print a table of the layers, their output shapes and numbers of parameters."""
        if line_length is not None:
            checks.positive_int("line_length", line_length, minimum=40)
        (print_fn or print)(summary(self, line_length))

    def to_json(self, **options: Any) -> str:
        """The architecture as JSON text, for ``model_from_json``; ``options`` are those of ``json.dumps``."""
        return json.dumps({"class_name": type(self).__name__, "config": self.get_config()}, **options)

    def get_config(self) -> dict[str, Any]:
        """The architecture, as JSON can hold it."""
        raise undefined(self, "get_config()")

    def save(self, filepath: Any, overwrite: bool = True) -> None:
        """Write architecture, weights, compile arguments and optimizer state to one file, ``name.safetensors``.

        Any name will do that does not promise another format (".keras", ".h5", ".pt", ...: ValueError). The file is
        whole or not there at all; what was there before stays if writing fails. It keeps owner and mode of the file
        that it replaces; what is read-only or no regular file is not replaced (``OSError``). What ``load_model`` would
        refuse is not written (ValueError): weights that are not finite, loss or metrics that are functions of the
        user's, which a file cannot hold.
        """
        saving.destination("filepath", filepath)
        saving.write(filepath, *self._contents(), overwrite)

    def save_weights(self, filepath: Any, overwrite: bool = True) -> None:
        """Write the weights alone, finite ones, to one file, under a name and in a place as ``save`` wants them."""
        saving.destination("filepath", filepath)
        saving.write(filepath, *self._contents(weights_only=True), overwrite)

    def load_weights(self, filepath: Any) -> None:
        """Take over the weights of a file that ``save_weights`` or ``save`` wrote, parameter by parameter in order."""
        self._require_built("load_weights")
        tensors, _ = saving.read(filepath)
        assign_all(self.weights, serialization.weights(tensors))

    def _contents(self, weights_only: bool = False) -> tuple[dict[str, Array], dict[str, Any]]:
        """The arrays and the document that are saved; ValueError for what could not be loaded again."""
        if weights_only:
            return serialization.weights_contents(self)
        return serialization.contents(type(self), self)

    @property
    def _compiled_optimizer(self) -> Optimizer:
        if self.optimizer is None:
            raise ValueError("optimizer: got None, wants a compiled model")
        return self.optimizer

    def _backup(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """The arrays and the document of what a fit has made of the model, and of what it will draw."""
        arrays, document = serialization.backup(self)
        mask_seeds = [] if self._place is None else self._place.runner.mask_seeds
        return arrays, {**document, "mask_seeds": mask_seeds, "generator": seeds.state()}

    def _take_backup(
        self, arrays: Mapping[str, Array], document: Mapping[str, Any], epoch: int, batches: int, drawn_from: Any
    ) -> None:
        """Let the fit that begins go on from a backup; one of ``serialization.UNFIT`` where it cannot.

        It goes on in ``epoch`` behind so many ``batches``, whose order was drawn from the state ``drawn_from``.
        """
        if self._place is None:
            raise ValueError("fit: got none that begins, wants one to go on with")
        mask_seeds = [checks.integer("mask_seeds", seed) for seed in document["mask_seeds"]]
        if len(mask_seeds) != len(self._layers):
            raise ValueError(f"mask_seeds: got {len(mask_seeds)}, wants {len(self._layers)}, one a layer")
        seeds.in_state(document["generator"])
        order = seeds.in_state(drawn_from) if batches else None
        serialization.take_backup(self, document, arrays)
        seeds.generator().bit_generator.state = document["generator"]
        self._place.runner.mask_seeds = mask_seeds
        self._place.epoch, self._place.batches, self._place.generator = epoch, batches, order


def _figures(logs: Logs, return_dict: bool) -> Any:
    if return_dict:
        return logs
    values = list(logs.values())
    return values if len(values) > 1 else values[0]
