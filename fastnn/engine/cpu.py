"""The fused runner: a whole epoch in one compiled call, weights and optimizer state in panels while it lasts.

It trains what ``obstacle`` finds nothing against; ``plan`` sends everything else to the layer-by-layer runner, which
also serves evaluation and prediction here. Between two calls of this runner the parameters and the optimizer's state
are ordinary arrays, so callbacks may read and change them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np

from fastnn.engine.data import DataSet, DenseSource, Source, SparseSource
from fastnn.engine.layerwise import LayerwiseRunner, divergence
from fastnn.engine.protocols import Array, Layer, Logs, Loss, Network, Optimizer, Parameter, StepHooks
from fastnn.kernels.table import ACTIVATIONS, ELEMENTWISE_ACTIVATIONS

# Share of non-zero inputs below which the sparse first layer is used. For 784-512-10, RMSprop, batch 128, two threads
# of a Zen 5, made data, 100 batches took, sparse against dense: 41 and 48 ms at 36%, 45 and 47 at 40%, 49 and 47 at
# 44%, 54 and 46 at 48%. In bfloat16 an epoch of MNIST (19%) took 117 ms sparse and 169 dense.
SPARSE_BELOW = 0.4
SPARSE_BELOW_BFLOAT16 = 0.25

# Non-zeros of a sample by pairs of neighbouring features that have any: from here on the two share their entries. For
# 784-512-10, RMSprop, batch 128, two threads of a Zen 5, made data with 150 non-zeros a sample, an epoch took 0.95 of
# the time of one without at 1.71, 0.97 at 1.6, 0.99 at 1.45, 1.02 at 1.3, 1.07 at 1.15. MNIST has 1.71.
COUPLED_FROM = 1.5

# Rows from which the density of a dense array is estimated before it is counted, and those of a piece of sparse data
# whose features are counted; such pieces.
_SAMPLE = 256
_PIECES = 16

# Places of sorted non-zeros: the kernel numbers them by int32.
_MOST_ENTRIES = 2**31 - 1

# Prediction: samples that a task takes through all layers at a time, so that their activations stay in L2; samples from
# which that is worth packing the weights for; samples whose zeros are looked for at a time.
_ROWS_A_TASK = 64
_PREDICT_FROM = 256
_PREDICT_AT_ONCE = 1 << 15

# The progress line is called about so often: seconds, and calls an epoch before the time of a step is known.
_PROGRESS_SECONDS = 0.05
_PROGRESS_CALLS = 25


@dataclass(frozen=True)
class _Drop:
    """Dropout at some place of the network, and the number of its layer; none at a rate of 0."""

    rate: float = 0.0
    layer: int = 0


@dataclass(frozen=True)
class _Stage:
    """A dense layer, or none, the activation on it, and either (l1, l2) on its outputs or dropout behind that."""

    activation: str
    kernel: Parameter | None = None
    bias: Parameter | None = None
    output_penalty: tuple[float, float] = (0.0, 0.0)
    drop: _Drop = _Drop()

    def needs(self, kernel: int, bias: int, output_penalty: int) -> int:
        """The sum of the bits of what needs the gradient."""
        trained = [parameter is not None and parameter.trainable for parameter in (self.kernel, self.bias)]
        return kernel * trained[0] + bias * trained[1] + output_penalty * any(self.output_penalty)

    @staticmethod
    def penalty(parameter: Parameter | None) -> tuple[float, float]:
        """(l1, l2) on a parameter, zeros without one."""
        return (parameter and parameter.regularizer and _weights(parameter.regularizer)) or (0.0, 0.0)


@dataclass(frozen=True)
class _Preparation:
    """What is done to the inputs before the first stage: scale * x + offset, then dropout."""

    scale: float = 1.0
    offset: float = 0.0
    drop: _Drop = _Drop()


@dataclass(frozen=True)
class _Form:
    """The network as the kernel runs it."""

    preparation: _Preparation
    stages: Sequence[_Stage]

    @property
    def skips_zeros(self) -> bool:
        """Whether zeros stay zeros up to a product, and other numbers are the same in every step."""
        before = self.preparation
        return before.offset == 0 and before.drop.rate == 0 and self.stages[0].kernel is not None


def _form(network: Network) -> _Form:
    """A stage takes the activation that follows it, then penalties on these outputs or the dropout.

    What comes twice, or behind the dropout, is a stage without weights.
    """
    before, stages = _Preparation(), list[_Stage]()
    last = len(network.layers) - 1

    def held(activations: Collection[str], penalized: bool = False) -> _Stage:
        """The stage on top, if its activation is one of these and nothing is behind that; else a new one.

        Where it may be ``penalized``, penalties on its outputs may be there.
        """
        free = bool(stages) and stages[-1].drop.rate == 0 and (penalized or not any(stages[-1].output_penalty))
        return stages.pop() if free and stages[-1].activation in activations else _Stage("linear")

    for index, layer in enumerate(network.layers):
        activation = "linear" if index == last and network.fused_loss is not None else layer.activation
        penalty = (layer.activity_regularizer and _weights(layer.activity_regularizer)) or (0.0, 0.0)
        if layer.fused_form == "dense":
            kernel, *bias = layer.parameters
            stages.append(_Stage(activation, kernel, bias[0] if bias else None))
        elif activation != "linear":
            stages.append(replace(held(("linear",)), activation=activation))
        elif layer.fused_form == "rescaling":
            before = replace(
                before, scale=layer.scale * before.scale, offset=layer.scale * before.offset + layer.offset
            )
        if layer.rate > 0 and not stages and before.drop.rate == 0:
            before = replace(before, drop=_Drop(layer.rate, index))
        elif layer.rate > 0:
            stages.append(replace(held(ELEMENTWISE_ACTIVATIONS), drop=_Drop(layer.rate, index)))
        if any(penalty):
            stage = held(ACTIVATIONS, penalized=True)
            l1, l2 = (a + b for a, b in zip(stage.output_penalty, penalty, strict=True))
            stages.append(replace(stage, output_penalty=(l1, l2)))
    return _Form(before, stages)


def _late_rescaling(network: Network) -> str | None:
    """The name of a layer that rescales something else than the inputs."""
    inputs = True
    for layer in network.layers:
        if layer.fused_form == "rescaling" and not inputs:
            return layer.name
        inputs = inputs and layer.fused_form in ("rescaling", "reshape") and layer.activity_regularizer is None
    return None


def _layer_obstacle(layer: Layer) -> str | None:
    if layer.activity_regularizer is not None and not _weights(layer.activity_regularizer):
        return f"{layer.name} has a penalty of the user's own on its outputs"
    if any(p.regularizer is not None and not _weights(p.regularizer) for p in layer.parameters):
        return f"{layer.name} has a penalty of the user's own"
    return None


def _weights(regularizer: Any) -> tuple[float, float] | None:
    """(l1, l2) of a regularizer; None for one that is something else."""
    l1, l2 = getattr(regularizer, "l1", None), getattr(regularizer, "l2", None)
    return None if l1 is None or l2 is None else (float(l1), float(l2))


def obstacle(network: Network) -> str | None:
    """Why the fused runner cannot train this network, or predict with one that has no loss; None where it can."""
    return next(_obstacles(network), None)


def _obstacles(network: Network) -> Iterator[str]:
    yield from _obstacles_to_prediction(network)
    loss, optimizer = network.fused_loss or network.loss, network.optimizer
    if loss is not None and optimizer is not None:
        yield from _obstacles_to_training(network, loss, optimizer)


def _obstacles_to_prediction(network: Network) -> Iterator[str]:
    yield from (f"{layer.name} takes samples of several axes" for layer in network.layers if layer.fused_form is None)
    if (late := _late_rescaling(network)) is not None:
        yield f"{late} rescales what layers give, not the inputs"
    if not any(layer.fused_form == "dense" for layer in network.layers):
        yield "there is no dense layer"


def _obstacles_to_training(network: Network, loss: Loss, optimizer: Optimizer) -> Iterator[str]:
    yield from (reason for layer in network.layers if (reason := _layer_obstacle(layer)) is not None)
    if loss.fused_form is None:
        yield "the loss is none of the kernels'"
    width = _width(network)
    for metric in (*network.metrics, *network.weighted_metrics):
        form = metric.fused_form(width)
        if form is None:
            yield f"the metric {metric.name!r} is none of the kernels'"
        elif loss.integer_targets and (metric.integer_targets is False or form == "binary_accuracy"):
            yield f"the metric {metric.name!r} does not fit class indices"
        elif metric.integer_targets and not loss.integer_targets:
            yield f"the metric {metric.name!r} fits class indices only"


def _width(network: Network) -> int:
    """The number of outputs."""
    return int(network.parameters[-1].value.shape[-1])


def _divisor(form: str, width: int) -> int:
    """What divides the sum of a loss over ``width`` outputs: the elementwise losses are means, but for one."""
    return 1 if form in ("half_squared", "softmax_cross_entropy", "cross_entropy") else width


def _figures(network: Network) -> tuple[list[tuple[str, float]], bool]:
    """Of every metric the kernels' name and the number that goes with it; whether logits do in place of outputs."""
    width, figures = _width(network), []
    for metric in (*network.metrics, *network.weighted_metrics):
        form = str(metric.fused_form(width))
        figures.append((form, metric.fused_number if form in ("binary_accuracy", "top_k") else _divisor(form, width)))
    if network.fused_loss is None:
        return figures, True
    # the largest logit is the largest output, and a sigmoid above one half is a logit above 0
    half = ("binary_accuracy", 0.5) if network.layers[-1].activation == "sigmoid" else None
    if all(figure == half or figure[0] == "accuracy" for figure in figures):
        return [(form, 0.0) for form, _ in figures], True
    return figures, False


class FusedRunner(LayerwiseRunner):
    """Trains a whole epoch, and predicts, in one compiled call."""

    def __init__(self, network: Network, backend: str) -> None:
        super().__init__(network, backend)
        self._session: _Session | None = None
        self._seconds = 0.0  # of a step, when last measured

    def train_epoch(
        self, data: DataSet, batch_size: int, order: Array | None = None, epoch: int = 0, hooks: StepHooks | None = None
    ) -> Logs:
        """Train on every batch once, in ``order``; the figures are those of the training passes.

        Raises DivergenceError when a batch's loss is not finite, before any weight is updated with it.
        """
        if self._session is None or not self._session.serves(data, batch_size):
            loss, optimizer = self.network.fused_loss or self.network.loss, self.network.optimizer
            if loss is None or optimizer is None:
                raise RuntimeError("a network without a loss and an optimizer cannot be trained")
            self._session = _Session(self.network, loss, optimizer, data, batch_size, self.mask_seeds)
        session = self._session
        order = np.arange(data.rows) if order is None else np.ascontiguousarray(order, np.int64)
        steps, last = data.steps(batch_size), 0
        every = hooks is not None and hooks.every_batch
        while last < steps:
            step = last
            if hooks is not None:
                hooks.begin(step)
            last = min(step + self._stride(steps, hooks), steps)
            started = perf_counter()
            part = order[step * batch_size : last * batch_size]
            trained = session.train(part, load=every or step == 0, store=every or last == steps)
            self._seconds = (perf_counter() - started) / (last - step)
            if step + trained < last:
                raise divergence("the loss is not finite", self.network, epoch, step + trained)
            if hooks is not None and hooks.end(last - 1, session.logs):
                break
        if last < steps and not every:
            session.train(order[:0], load=False, store=True)
        return session.logs(reset=True)

    def _stride(self, steps: int, hooks: StepHooks | None) -> int:
        """How many of an epoch's steps to make before the hooks are called again."""
        if hooks is None:
            return steps
        if hooks.every_batch:
            return 1
        return max(1, int(_PROGRESS_SECONDS / self._seconds if self._seconds else steps // _PROGRESS_CALLS))

    def predict(self, x: Source, batch_size: int, hooks: StepHooks | None = None) -> Array:
        """Outputs for all samples."""
        if x.rows < _PREDICT_FROM:
            return super().predict(x, batch_size, hooks)
        network = replace(self.network, loss=None, precision=None)  # the outputs themselves, in the dtype's products
        prediction = _Prediction(network, is_sparse(x, network))
        steps = -(-x.rows // batch_size)
        listens = hooks is not None and hooks.every_batch
        stride = 1 if listens else max(1, min(steps // _PROGRESS_CALLS + 1, _PREDICT_AT_ONCE // batch_size))
        parts: list[Array] = []
        for step in range(0, steps, stride):
            if hooks is not None:
                hooks.begin(step)
            last = min(step + stride, steps)
            parts.append(prediction.outputs(x.part(slice(step * batch_size, min(last * batch_size, x.rows)))))
            if hooks is not None and hooks.end(last - 1, dict):
                break
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Prediction:
    """The forward pass: weights in panels and scratch memory, for inputs whose zeros are skipped or not."""

    def __init__(self, network: Network, sparse: bool) -> None:
        from fastnn.kernels.cpu import epoch, records, threads
        from fastnn.kernels.cpu._arrays import aligned

        self._kernel, self._records, self._dtype, self._sparse = epoch, records, network.dtype, sparse
        self._use_num_threads = threads.use_num_threads
        self._form = form = _form(network)
        sizes = _sizes(form.stages)
        self._tasks = threads.get_num_threads()
        self._layout = layout = records.Layout(sizes, _ROWS_A_TASK * self._tasks, network.dtype.itemsize, sparse)
        shape = _codes(form.stages), [stage.kernel is not None for stage in form.stages], [0] * len(form.stages)
        table, parameters, scratch = layout.stages(*shape)
        self._work = _zeros(aligned, scratch, network.dtype)
        numbers = np.zeros((len(table) + 1, 6), network.dtype)
        params, none = _zeros(aligned, parameters, network.dtype), np.empty(0, network.dtype)
        masks = np.zeros((len(table) + 1, 3), np.int64)
        self._net = records.Network(table, 0, len(table), numbers, masks, numbers, params, none, none, none)
        self._places = list(_places(form.stages, table, lambda parameter: [(parameter.value, params)]))

    def outputs(self, source: Source) -> Array:
        """Outputs for all samples of ``source``."""
        inputs = _inputs(source, self._dtype, self._form.preparation, self._sparse)
        bounds = self._layout.bounds(self._layout.rows, _mean_entries(inputs))
        none = np.empty(0, self._dtype)
        sizes, runs, indices = np.empty(0, np.int64), np.empty((0, 0), np.int32), np.empty(0, np.int32)
        memory = self._records.Scratch(
            self._work, none, np.empty(0), bounds, sizes, runs, sizes, none, indices, none, indices, none
        )
        outputs = np.empty((source.rows, self._layout.sizes[-1]), self._dtype)
        nanoseconds = region_nanoseconds(self._layout.sizes, source.rows) / 3
        places, self._places = self._places, []  # the first call packs the weights
        with self._use_num_threads(self._tasks):  # scratch memory is for so many
            self._kernel.forward(
                self._dtype, nanoseconds, inputs, self._net, memory, np.arange(source.rows), _ROWS_A_TASK,
                _addresses(places), outputs,
            )  # fmt: skip
        return outputs


class _Session:
    """What one fit keeps between epochs: inputs and targets as the kernel wants them, panels, scratch memory."""

    def __init__(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        data: DataSet,
        batch_size: int,
        mask_seeds: Sequence[int],
    ) -> None:
        from fastnn.kernels.cpu import epoch, optim, records, threads
        from fastnn.kernels.cpu._arrays import aligned
        from fastnn.kernels.cpu.simd import ROW_CODES, STEP_CODES, STEP_HYPER, STEP_STATES

        self._network, self._optimizer, self._data, self._batch_size = network, optimizer, data, batch_size
        self._batch = min(batch_size, data.rows)
        self._kernel, self._records, self._rule, self._step_codes = epoch, records, optim.rule, STEP_CODES
        self._dtype = dtype = network.dtype
        form = _form(network)
        self._stages = form.stages
        sizes = _sizes(self._stages)
        self._inputs = _inputs(data.x, dtype, form.preparation, is_sparse(data.x, network))
        sparse = self._inputs.kind == records.SPARSE
        pairs = network.products == "bfloat16"
        self._layout = layout = records.Layout(sizes, self._batch, dtype.itemsize, sparse, pairs)
        needs = [stage.needs(records.KERNEL, records.BIAS, records.OUTPUT_PENALTY) for stage in self._stages]
        weights = [stage.kernel is not None for stage in self._stages]
        self._table, size, self._scratch = layout.stages(_codes(self._stages), weights, needs)
        self._targets = _targets(data, loss, dtype)
        trained = [parameter for parameter in network.parameters if parameter.trainable]
        optimizer.build(trained)
        self._trained = {parameter.path for parameter in trained}
        self._slots = list(optimizer.state[trained[0].path]) if trained else []
        arrays = [_zeros(aligned, size, dtype) for _ in range(1 + len(self._slots))]
        states = arrays[1:] + arrays[:1] * (STEP_STATES - len(self._slots))
        penalties = [
            (*stage.penalty(stage.kernel), *stage.penalty(stage.bias), *stage.output_penalty) for stage in self._stages
        ]
        self._units, self._first = int(self._table[:, records.UNITS].sum()), layout.first(self._table)
        masks, scales = _masks([form.preparation.drop, *(stage.drop for stage in self._stages)], mask_seeds, dtype)
        numbers = np.array(penalties, dtype)
        self._net = records.Network(self._table, self._units, self._first, numbers, masks, scales, arrays[0], *states)

        figures, as_is = _figures(network)
        self._metrics = np.array([records.FIGURES[form] for form, _ in figures], np.int64)
        self._numbers = np.array([number for _, number in figures], np.float64)
        self._seen, self._activation = int(self._table[-1, records.Y]), records.IDENTITY
        if not as_is:  # the metrics' rows lie behind the stages'
            self._seen, self._activation = self._scratch, ROW_CODES[network.layers[-1].activation]
            self._scratch += self._batch * int(self._table[-1, records.LD])
        name = str(loss.fused_form)
        self._loss, self._outputs = records.FIGURES[name], _divisor(name, sizes[-1])
        self._reduction = records.SUM if name == "half_squared" or loss.reduction == "sum" else records.MEAN
        if loss.reduction == "mean_with_sample_weight" and data.sample_weight is not None:
            self._reduction = records.WEIGHTED_MEAN
        self._hyper = np.zeros(STEP_HYPER, dtype)

        self._coupled = sparse and sizes[0] % 2 == 0 and _by_pairs(self._inputs) >= COUPLED_FROM
        self._num_threads, self._use_num_threads = threads.get_num_threads, threads.use_num_threads
        self._memory = self._allocated(self._num_threads())
        self._sums = np.zeros(2 + len(self._metrics))
        self._rows, self._weight = 0, 0.0

    def serves(self, data: DataSet, batch_size: int) -> bool:
        """Whether this was made for these data."""
        return data is self._data and batch_size == self._batch_size

    def _allocated(self, tasks: int) -> Any:
        """Scratch memory for up to this many tasks."""
        from fastnn.kernels.cpu._arrays import aligned

        self._tasks = tasks
        entries = _entries(self._inputs, self._batch) * tasks if self._layout.sparse else 0
        if entries > _MOST_ENTRIES:
            raise ValueError(
                f"batch_size: got {self._batch}, whose non-zeros for {tasks} threads take {entries:,} places, "
                f"wants at most {_MOST_ENTRIES:,}: train on smaller batches"
            )
        coupled = 2 * entries if self._coupled else 0
        figures = (1 + len(self._metrics)) * self._batch + self._records.UNIT_FIGURES * self._units
        features = self._layout.sizes[0]
        return self._records.Scratch(
            _zeros(aligned, self._scratch + self._layout.buffers(tasks), self._dtype),
            _zeros(aligned, self._net.params.size if self._clips_by_norm() else 0, self._dtype),
            np.zeros(figures + 2 * len(self._stages)),
            self._layout.bounds(self._batch, _mean_entries(self._inputs)),
            self._layout.cuts(self._table, tasks, _frequencies(self._inputs, features)),
            np.zeros((self._records.PLACES + tasks, features), np.int32),
            np.zeros(features, np.int64),
            np.ones(features + self._records.POWERS, self._dtype),
            np.zeros(entries, np.int32),
            np.zeros(max(entries, coupled), self._dtype),
            np.zeros(coupled // 2, np.int32),
            np.zeros(coupled, self._dtype),
        )

    def _arrays(self, parameter: Parameter) -> list[tuple[Array, Array]]:
        """(ordinary array, flat array) of a parameter and of each slot of its state, if it is trained."""
        arrays = [(parameter.value, self._net.params)]
        if parameter.path in self._trained:
            state = self._optimizer.state[parameter.path]
            flats = (self._net.s0, self._net.s1, self._net.s2)[: len(self._slots)]
            arrays += zip((state[slot] for slot in self._order()), flats, strict=True)
        return arrays

    def _order(self) -> list[str]:
        """The slots in the order of the step's states."""
        from fastnn.kernels.cpu.simd import STEPS

        return list(STEPS[self._step_name()[0]].states)

    def _step_name(self) -> tuple[str, list[float]]:
        op, options = self._optimizer.rule
        if "step" in options:
            options = {**options, "step": self._optimizer.iterations + 1}
        return self._rule(op, self._slots, options)

    def train(self, order: Array, load: bool, store: bool) -> int:
        """Train on the samples of ``order``, batch by batch; the number of batches trained on.

        ``load`` takes parameters and state from the ordinary arrays before, ``store`` brings them there afterwards;
        the latter is done in any case where a loss is not finite.
        """
        tasks = self._num_threads()
        # changed since the memory was made, which is for so many tasks and this kind of clipping
        if tasks > self._tasks or (self._clips_by_norm() and not self._memory.gradients.size):
            before = self._memory
            self._memory = self._allocated(tasks)
            self._memory.work[: self._scratch] = before.work[: self._scratch]
            self._memory.touched[...] = before.touched
        optimizer = self._optimizer
        name, hyper = self._step_name()
        self._hyper[: len(hyper)] = hyper
        op, options = optimizer.rule
        adam = [options[key] for key in ("learning_rate", "beta_1", "beta_2")] if op == "adam_step" else [0.0] * 3
        decay = (optimizer.weight_decay or 0.0) * optimizer.learning_rate
        clip, limit = self._clipping()
        penalized = bool(self._net.penalties[0, :2].any())
        lazy = name in ("sgd", "rmsprop") and not decay and not penalized
        shrink = self._dtype.type(1 - decay)
        direct = clip == self._records.NO_CLIP and shrink == 1 and not penalized
        rules = self._records.Rules(
            self._loss, self._outputs, self._reduction,
            self._metrics, self._numbers, len(self._network.metrics), self._seen, self._activation,
            shrink, clip, self._dtype.type(limit),
            self._step_codes[name], self._hyper, np.array(adam), int(lazy), self._dtype.type(options.get("rho", 1.0)),
            int(direct), int(direct and self._coupled),
        )  # fmt: skip
        made = optimizer.iterations
        if load:
            self._memory.touched[...] = made
        if self._layout.sparse:
            self._memory.decay[-self._records.POWERS :] = rules.rho ** np.arange(
                self._records.POWERS, dtype=self._dtype
            )
        places = list(_places(self._stages, self._table, self._arrays))
        nanoseconds = region_nanoseconds(self._layout.sizes, self._batch)
        with self._use_num_threads(tasks):  # another Python thread may change the number meanwhile
            after = self._kernel.train(
                self._dtype, nanoseconds, self._inputs, self._targets, self._net, rules, self._memory, order,
                self._batch, made, _addresses(places), int(load), int(store), self._sums,
            )  # fmt: skip
        for place in places:
            place.write_back()
        optimizer.iterations = int(after)
        rows = min(order.size, (optimizer.iterations - made) * self._batch)
        weights = self._targets.weights
        self._rows += rows
        if self._network.weighted_metrics:
            self._weight += float(weights[order[:rows]].sum(dtype=np.float64)) if weights.size else rows
        return optimizer.iterations - made

    def _clipping(self) -> tuple[int, float]:
        """The code of the optimizer's clipping, and its limit."""
        records = self._records
        kind, limit = self._optimizer.clipping or ("", 0.0)
        codes = {
            "": records.NO_CLIP,
            "clipvalue": records.CLIP_VALUE,
            "clipnorm": records.CLIP_NORM,
            "global_clipnorm": records.CLIP_GLOBAL_NORM,
        }
        return codes[kind], limit

    def _clips_by_norm(self) -> bool:
        """Whether a step needs the norms of gradients, and with them room for all gradients."""
        return self._clipping()[0] in (self._records.CLIP_NORM, self._records.CLIP_GLOBAL_NORM)

    def logs(self, reset: bool = False) -> Logs:
        """The figures since the last reset, by name."""
        loss, penalty, *totals = map(float, self._sums)
        figures = {"loss": (loss + penalty) / max(self._rows, 1)}
        network = self._network
        counts = [self._rows] * len(network.metrics) + [self._weight] * len(network.weighted_metrics)
        for metric, total, count in zip((*network.metrics, *network.weighted_metrics), totals, counts, strict=True):
            metric.take(total, count)
            figures[metric.name] = metric.result()
        if reset:
            self._sums[:] = 0
            self._rows, self._weight = 0, 0.0
        return figures


def _sizes(stages: Sequence[_Stage]) -> tuple[int, ...]:
    """The width of the inputs, then of every stage's outputs."""
    sizes = [next(stage.kernel.value.shape[0] for stage in stages if stage.kernel is not None)]
    for stage in stages:
        sizes.append(sizes[-1] if stage.kernel is None else stage.kernel.value.shape[1])
    return tuple(sizes)


def _codes(stages: Sequence[_Stage]) -> list[int]:
    """The stages' activations as the kernels number them."""
    from fastnn.kernels.cpu.simd import ROW_CODES

    return [ROW_CODES[ELEMENTWISE_ACTIVATIONS.get(stage.activation, stage.activation)] for stage in stages]


@dataclass(frozen=True)
class _Place:
    """An array as others see it and the one that kernels read and write, as rows (K, N), and where its panels are.

    The second array is a copy where the first one is not contiguous or not writable. ``flat`` holds the panels, each
    ``width`` columns wide, from ``offset`` on.
    """

    array: Array
    own: Array
    flat: Array
    offset: int
    rows: int
    columns: int
    width: int

    def write_back(self) -> None:
        """Bring the copy's numbers, where there is one, into the array."""
        if self.own is not self.array:
            self.array[...] = self.own


def _places(
    stages: Sequence[_Stage], table: Array, arrays: Callable[[Parameter], Sequence[tuple[Array, Array]]]
) -> Iterator[_Place]:
    """The places of what ``arrays`` gives for each parameter: pairs of an array of its shape and a flat one."""
    from fastnn.kernels.cpu import records

    for stage, row in zip(stages, table, strict=True):
        k, n, panel = int(row[records.INPUTS]), int(row[records.OUTPUTS]), int(row[records.PANEL])
        bias = int(row[records.B]), 1, n, records.Layout.padded(n, panel) if panel else 0
        for parameter, place in ((stage.kernel, (int(row[records.W]), k, n, panel)), (stage.bias, bias)):
            if parameter is None:
                continue
            for array, flat in arrays(parameter):
                if array.size != place[1] * place[2]:
                    raise ValueError(f"{parameter.path}: got shape {array.shape}, wants {place[1]} x {place[2]}")
                yield _Place(array, _own(array), flat, *place)


def _addresses(places: Sequence[_Place]) -> Array:
    """The kernel's table of arrays, which it reads and writes by their addresses: keep them as long as it runs."""
    rows = [
        (_address(p.own), _address(p.flat) + p.offset * p.flat.itemsize, p.rows, p.columns, p.width) for p in places
    ]
    return np.array(rows, np.int64).reshape(-1, 5)


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _masks(drops: Sequence[_Drop], seeds: Sequence[int], dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """The kernel's masks and scales; ``seeds`` are those of the layers."""
    from fastnn.kernels.cpu import dropout

    masks = [(dropout.threshold(drop.rate), seeds[drop.layer], drop.layer) for drop in drops]
    return np.array(masks, np.int64), np.array([(dropout.scale(d.rate), 1.0 - d.rate) for d in drops], dtype)


def region_nanoseconds(sizes: Sequence[int], batch: int) -> float:
    """Estimated work of one of a step's two regions on one core; ``kernels.cpu.threads`` keeps little work serial."""
    products = sum(k * n for k, n in pairwise(sizes))
    return 3.0 * products * batch / 100.0


def _zeros(aligned: Any, size: int, dtype: Any) -> Array:
    array: Array = aligned((size,), dtype)
    array[...] = 0
    return array


def _dense(source: Source) -> Array:
    """The samples of a dense source as rows."""
    if not isinstance(source, DenseSource):
        raise TypeError(f"x: got {type(source).__name__}, wants a dense or CSR source")
    rows: Array = source.array.reshape(source.rows, -1)
    return rows


def density(source: Source) -> float:
    """Share of non-zeros; of a dense array from evenly spaced samples."""
    if source.density is not None:
        return source.density
    array = _dense(source)
    sample = array[:: max(1, len(array) // _SAMPLE)]
    return float(np.count_nonzero(sample) / max(1, sample.size))


def is_sparse(source: Source, network: Network) -> bool:
    """Whether the first layer skips the zeros of this input; it does not where some of the inputs are dropped."""
    below = SPARSE_BELOW_BFLOAT16 if network.products == "bfloat16" else SPARSE_BELOW
    return _form(network).skips_zeros and density(source) < below


def bfloat16_obstacle(dtype: np.dtype[Any]) -> str | None:
    """Why training cannot multiply bfloat16 numbers here; None where it can."""
    from fastnn.kernels.cpu import machine

    if dtype != np.float32:
        return f"it keeps weights in float32, and these are {dtype}"
    return None if machine.bfloat16_pairs() else "this CPU has no AVX512-BF16"


def facts(network: Network, source: Source | None, fused: bool) -> dict[str, str]:
    """What runs on this machine, and what the fused runner does with this input, by name, for people to read."""
    from fastnn.kernels.cpu import machine, threads

    lines = {
        "kernels": f"{machine.isa().name}, tile {machine.tile(network.dtype.itemsize)}",
        "threads": str(threads.get_num_threads()),
    }
    if not fused:
        return lines
    if source is not None:
        kind = "sparse, zeros are skipped" if is_sparse(source, network) else "dense"
        if _form(network).stages[0].kernel is None:
            kind = "an activation, which takes no notice of zeros"
        lines["first layer"] = f"{kind} ({density(source):.1%} of the inputs are not zero)"
    if any(layer.fused_form == "rescaling" for layer in network.layers):
        preparation = _form(network).preparation
        lines["rescaling"] = f"{preparation.scale:g} * x + {preparation.offset:g}, of the samples of a batch"
    drops = ", ".join(f"{layer.name} {layer.rate:g}" for layer in network.layers if layer.rate > 0)
    return {**lines, "dropout": f"{drops}, masks drawn in the kernel"} if drops else lines


def _inputs(source: Source, dtype: Any, preparation: _Preparation, sparse: bool) -> Any:
    """The samples as the kernel's ``Inputs``, of the kind whose zeros are skipped if ``sparse``."""
    from fastnn.kernels.cpu import records

    empty = records.Inputs(
        kind=records.DENSE,
        dense=np.empty((0, 0), dtype),
        bytes=np.empty((0, 0), np.uint8),
        scale=dtype.type(preparation.scale),
        offset=dtype.type(preparation.offset),
        indptr=np.empty(0, np.int64),
        indices=np.empty(0, np.int32),
        values=np.empty(0, dtype),
    )
    if sparse or isinstance(source, SparseSource):
        indptr, indices, values = _csr(source, dtype)
        if sparse and preparation.scale != 1:
            values *= dtype.type(preparation.scale)
        kind = records.SPARSE if sparse else records.EXPANDED
        return empty._replace(kind=kind, indptr=indptr, indices=indices, values=values)
    array = _dense(source)
    if array.dtype == np.uint8:
        return empty._replace(kind=records.BYTES, bytes=_own(array))
    return empty._replace(dense=_own(np.ascontiguousarray(array, dtype)))


def _csr(source: Source, dtype: Any) -> tuple[Array, Array, Array]:
    """(indptr, indices, values), indices rising in every row."""
    from fastnn.kernels.cpu import sparse

    if not isinstance(source, SparseSource):
        counts = source.counts if isinstance(source, DenseSource) else None
        indptr, indices, values = sparse.to_csr(_dense(source), dtype, counts)
        return indptr, indices, values
    matrix = source.matrix.sorted_indices()  # a copy: the user's matrix stays as it is
    matrix.sum_duplicates()
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(dtype)


def _own(array: Array) -> Array:
    """The array, contiguous and of a writable type, as the kernel's signature has it (nothing writes to it)."""
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else array.copy()


def _entries(inputs: Any, batch_size: int) -> int:
    """Most non-zeros that a batch can have."""
    if not inputs.indptr.size:
        return 0
    per_row = int(np.diff(inputs.indptr).max(initial=0))
    return min(batch_size * per_row, int(inputs.values.size))


def _pieces(inputs: Any) -> tuple[list[Array], int]:
    """The features of the non-zeros of evenly spaced pieces of sparse inputs, and the number of their rows."""
    rows = inputs.indptr.size - 1
    starts = np.linspace(0, max(0, rows - _SAMPLE), min(_PIECES, -(-rows // _SAMPLE))).astype(np.int64)
    spans = [(start, min(start + _SAMPLE, rows)) for start in starts]
    found = [inputs.indices[inputs.indptr[first] : inputs.indptr[last]] for first, last in spans]
    return found, sum(last - first for first, last in spans)


def _frequencies(inputs: Any, features: int) -> Array:
    """Share of the samples in which each feature is not zero, from pieces of the data; ones for dense inputs."""
    if inputs.indptr.size < 2:
        return np.ones(features)
    found, rows = _pieces(inputs)
    shares: Array = np.bincount(np.concatenate(found), minlength=features) / rows
    return shares


def _by_pairs(inputs: Any) -> float:
    """Non-zeros of a sample by pairs of neighbouring features, the first one even, that have any; from pieces."""
    found, _ = _pieces(inputs)
    pairs = sum(int(np.count_nonzero(np.diff(places >> 1, prepend=-1))) for places in found)
    return float(sum(places.size for places in found)) / max(1, pairs)


def _mean_entries(inputs: Any) -> float:
    """Non-zeros of a sample, on average; 0 for dense inputs."""
    mean: float = inputs.values.size / max(1, inputs.indptr.size - 1)
    return mean


def _targets(data: DataSet, loss: Loss, dtype: Any) -> Any:
    """Targets and weights as the kernel's ``Targets``."""
    from fastnn.kernels.cpu import records

    labels, goals = np.empty(0, np.int64), np.empty((0, 0), dtype)
    rows = goals
    if data.y_dtype == np.int64:
        labels = _own(np.asarray(data.y, np.int64).reshape(-1))
    else:
        rows = _own(np.asarray(data.y, dtype).reshape(data.rows, -1))
        goals = loss.smoothed(rows)
    weights = np.empty(0, dtype) if data.sample_weight is None else _own(np.asarray(data.sample_weight, dtype))
    return records.Targets(labels, rows, goals, weights)
