"""The fused runner: a whole epoch in one compiled call, weights and optimizer state in panels while it lasts.

It trains what ``obstacle`` finds nothing against; ``plan`` sends everything else to the layer-by-layer runner, which
also serves evaluation and prediction here. Between two calls of this runner the parameters and the optimizer's state
are ordinary arrays, so callbacks may read and change them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.engine.data import DataSet, DenseSource, Source, SparseSource
from fastnn.engine.layerwise import LayerwiseRunner, divergence
from fastnn.engine.protocols import Array, Layer, Logs, Loss, Network, Optimizer, Parameter, StepHooks
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS

# Share of non-zero inputs below which the sparse first layer is used. For 784-512-10, RMSprop, batch 128, two threads
# of a Zen 5, made data, 100 batches took, sparse against dense: 52 and 66 ms at 25%, 54 and 70 at 30%, 67 and 63 at
# 35%, 80 and 65 at 40%. It lies above where the two meet so that data of a third of non-zeros, dense or CSR, run alike.
SPARSE_BELOW = 0.4

# Rows from which the density of a dense array is estimated before it is counted.
_SAMPLE = 256

# Calls of the progress line an epoch.
_PROGRESS_CALLS = 25


@dataclass(frozen=True)
class _Stage:
    """A dense layer and the activation on it."""

    kernel: Parameter
    bias: Parameter | None
    activation: str

    @staticmethod
    def penalty(parameter: Parameter | None) -> tuple[float, float]:
        """(l1, l2) on a parameter, zeros without one."""
        return (parameter and parameter.regularizer and _weights(parameter.regularizer)) or (0.0, 0.0)


def _stages(network: Network) -> Iterator[_Stage | str]:
    """The network as dense stages; a string says why it is none."""
    held: _Stage | None = None
    last = len(network.layers) - 1
    for index, layer in enumerate(network.layers):
        reason = _layer_obstacle(layer)
        if reason is not None:
            yield reason
            return
        activation = "linear" if index == last and network.fused_loss is not None else layer.activation
        if layer.fused_form == "dense":
            if held is not None:
                yield held
            kernel, *bias = layer.parameters
            held = _Stage(kernel, bias[0] if bias else None, activation)
        elif layer.fused_form == "activation":
            if held is None:
                yield f"{layer.name} stands before the first dense layer"
                return
            if activation != "linear":
                if held.activation != "linear":
                    yield f"{layer.name} is an activation on an activation"
                    return
                held = _Stage(held.kernel, held.bias, activation)
    if held is None:
        yield "there is no dense layer"
        return
    yield held


def _layer_obstacle(layer: Layer) -> str | None:
    if layer.fused_form is None:
        return f"{layer.name} is not a dense layer on flat samples"
    if layer.activity_regularizer is not None:
        return f"{layer.name} has a penalty on its outputs"
    if not all(parameter.trainable for parameter in layer.parameters):
        return f"{layer.name} is not trained"
    if any(p.regularizer is not None and not _weights(p.regularizer) for p in layer.parameters):
        return f"{layer.name} has a penalty of the user's own"
    return None


def _weights(regularizer: Any) -> tuple[float, float] | None:
    """(l1, l2) of a regularizer; None for one that is something else."""
    l1, l2 = getattr(regularizer, "l1", None), getattr(regularizer, "l2", None)
    return None if l1 is None or l2 is None else (float(l1), float(l2))


def obstacle(network: Network) -> str | None:
    """Why the fused runner cannot train this network; None where it can."""
    return next(_obstacles(network), None)


def _obstacles(network: Network) -> Iterator[str]:
    loss, optimizer = network.fused_loss or network.loss, network.optimizer
    if loss is None or optimizer is None:
        yield "it is not compiled for training"
        return
    stages = list(_stages(network))
    yield from (stage for stage in stages if isinstance(stage, str))
    for stage in stages:
        if isinstance(stage, _Stage) and stage.activation not in ELEMENTWISE_ACTIVATIONS:
            yield f"the activation {stage.activation!r} is not followed by its own loss"
    if loss.fused_form is None:
        yield "the loss is none of the kernels'"
    if not optimizer.plain:
        yield "the optimizer clips gradients or decays weights"
    width = network.parameters[-1].value.shape[-1]
    for metric in network.metrics:
        form = metric.fused_form(width)
        if form is None or (network.fused_loss is not None and form not in ("accuracy", "binary_accuracy")):
            yield f"the metric {metric.name!r} is none of the kernels'"
        elif form != "accuracy" and loss.integer_targets:
            yield f"the metric {metric.name!r} does not fit class indices"
    if network.weighted_metrics:
        yield "weighted metrics are wanted"


class FusedRunner(LayerwiseRunner):
    """Trains a whole epoch in one compiled call."""

    def __init__(self, network: Network, backend: str) -> None:
        super().__init__(network, backend)
        self._session: _Session | None = None

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
            self._session = _Session(self.network, loss, optimizer, data, batch_size)
        session = self._session
        session.load()
        order = np.arange(data.rows) if order is None else np.ascontiguousarray(order, np.int64)
        steps = data.steps(batch_size)
        stride = steps if hooks is None else 1 if hooks.every_batch else max(1, steps // _PROGRESS_CALLS)
        for step in range(0, steps, stride):
            if hooks is not None:
                hooks.begin(step)
                if hooks.every_batch:
                    session.load()
            last = min(step + stride, steps)
            settle = last == steps or (hooks is not None and hooks.every_batch)
            trained = session.train(order[step * batch_size : last * batch_size], settle)
            if step + trained < last:
                session.store()
                raise divergence("the loss is not finite", self.network, epoch, step + trained)
            if hooks is not None:
                if hooks.every_batch:
                    session.store()
                if hooks.end(last - 1, session.logs):
                    break
        session.store()
        return session.logs(reset=True)


class _Session:
    """What one fit keeps between epochs: inputs and targets as the kernel wants them, panels, scratch memory."""

    def __init__(self, network: Network, loss: Loss, optimizer: Optimizer, data: DataSet, batch_size: int) -> None:
        from fastnn.kernels.cpu import epoch, optim, threads
        from fastnn.kernels.cpu._arrays import aligned
        from fastnn.kernels.cpu.simd import CODES, LOSS_CODES, STEP_CODES, STEP_HYPER, STEP_STATES

        self._network, self._optimizer, self._data, self._batch_size = network, optimizer, data, batch_size
        self._batch = min(batch_size, data.rows)
        self._kernel, self._rule, self._step_codes = epoch, optim.rule, STEP_CODES
        self._dtype = dtype = network.dtype
        self._stages = [stage for stage in _stages(network) if isinstance(stage, _Stage)]
        sizes = (self._stages[0].kernel.value.shape[0], *(stage.kernel.value.shape[1] for stage in self._stages))
        self._inputs = _inputs(data.x, dtype)
        sparse = self._inputs.kind == epoch.SPARSE
        self._layout = layout = epoch.Layout(sizes, self._batch, dtype.itemsize, sparse)
        codes = [CODES[ELEMENTWISE_ACTIVATIONS[stage.activation]] for stage in self._stages]
        self._table, size, self._scratch = layout.stages(codes, [stage.bias is not None for stage in self._stages])
        self._targets = _targets(data, dtype)
        optimizer.build(network.parameters)
        self._slots = list(next(iter(optimizer.state[p.path] for p in network.parameters)))
        arrays = [_zeros(aligned, size, dtype) for _ in range(1 + len(self._slots))]
        states = arrays[1:] + arrays[:1] * (STEP_STATES - len(self._slots))
        penalties = [[*stage.penalty(stage.kernel), *stage.penalty(stage.bias)] for stage in self._stages]
        self._net = epoch.Network(self._table, np.array(penalties, dtype), arrays[0], *states)

        forms: dict[str | None, int] = {
            "accuracy": epoch.ACCURACY,
            "binary_accuracy": epoch.BINARY_ACCURACY,
            "softmax_cross_entropy": epoch.SOFTMAX_CROSS_ENTROPY,
        }
        forms.update(LOSS_CODES)
        self._metrics = np.array([forms[metric.fused_form(sizes[-1])] for metric in network.metrics], np.int64)
        self._loss = forms[loss.fused_form]
        self._mean = int(loss.fused_form != "half_squared")
        self._threshold = 0.0 if network.fused_loss is not None else 0.5
        self._hyper = np.zeros(STEP_HYPER, dtype)

        self._num_threads, self._use_num_threads = threads.get_num_threads, threads.use_num_threads
        self._memory = self._allocated(self._num_threads())
        self._sums = np.zeros(2 + len(self._metrics))
        self._rows = 0

    def serves(self, data: DataSet, batch_size: int) -> bool:
        """Whether this was made for these data."""
        return data is self._data and batch_size == self._batch_size

    def _allocated(self, tasks: int) -> Any:
        """Scratch memory for up to this many tasks."""
        from fastnn.kernels.cpu._arrays import aligned

        self._tasks = tasks
        entries = _entries(self._inputs, self._batch) * tasks
        figures = (1 + len(self._metrics)) * self._batch + self._layout.units(self._table)
        features = self._layout.sizes[0]
        return self._kernel.Scratch(
            _zeros(aligned, self._scratch + self._layout.buffers(tasks), self._dtype),
            np.zeros(figures),
            np.zeros((3, features), np.int64),
            np.ones(features, self._dtype),
            np.zeros(entries, np.int32),
            np.zeros(entries, self._dtype),
        )

    def _places(self) -> Iterator[tuple[Parameter, slice, int]]:
        """(parameter, its place in the flat arrays, the width of its panels or 0 for a bias) of every parameter."""
        kernel = self._kernel
        for stage, row in zip(self._stages, self._table, strict=True):
            yield stage.kernel, slice(int(row[kernel.W]), int(row[kernel.B])), int(row[kernel.PANEL])
            if stage.bias is not None:
                yield stage.bias, slice(int(row[kernel.B]), int(row[kernel.B]) + stage.bias.value.size), 0

    def _flat_and_arrays(self, parameter: Parameter) -> Iterator[tuple[Array, Array]]:
        """(flat array, ordinary array) of a parameter and of each slot of its state."""
        state = self._optimizer.state[parameter.path]
        flats = (self._net.params, *(self._net[3 + i] for i in range(len(self._slots))))
        yield from zip(flats, (parameter.value, *(state[slot] for slot in self._order())), strict=True)

    def _order(self) -> list[str]:
        """The slots in the order of the step's states."""
        from fastnn.kernels.cpu.simd import STEPS

        return list(STEPS[self._step_name()[0]].states)

    def _step_name(self) -> tuple[str, list[float]]:
        op, options = self._optimizer.rule
        if "step" in options:
            options = {**options, "step": self._optimizer.iterations + 1}
        return self._rule(op, self._slots, options)

    def load(self) -> None:
        """Ordinary arrays into panels."""
        for parameter, place, panel in self._places():
            for flat, array in self._flat_and_arrays(parameter):
                if panel:
                    self._kernel.pack(array, flat[place], panel)
                else:
                    flat[place] = array
        NR = self._layout.NR
        for stage, row in zip(self._stages[1:], self._table[1:], strict=True):
            transposed, at = stage.kernel.value.T, int(row[self._kernel.WT])
            size = transposed.shape[0] * self._layout.padded(transposed.shape[1], NR)
            self._kernel.pack(transposed, self._memory.work[at : at + size], NR)
        self._memory.runs[2] = self._optimizer.iterations

    def store(self) -> None:
        """Panels into ordinary arrays."""
        for parameter, place, panel in self._places():
            for flat, array in self._flat_and_arrays(parameter):
                if panel:
                    self._kernel.unpack(flat[place], array, panel)
                else:
                    array[...] = flat[place]

    def train(self, order: Array, settle: bool) -> int:
        """Train on the samples of ``order``, batch by batch; the number of batches trained on."""
        tasks = self._num_threads()
        if tasks > self._tasks:  # changed since the memory was made, which is for so many tasks
            before = self._memory
            self._memory = self._allocated(tasks)
            self._memory.work[: self._scratch] = before.work[: self._scratch]
            self._memory.runs[...] = before.runs
        optimizer = self._optimizer
        name, hyper = self._step_name()
        self._hyper[: len(hyper)] = hyper
        op, options = optimizer.rule
        adam = [options[key] for key in ("learning_rate", "beta_1", "beta_2")] if op == "adam_step" else [0.0] * 3
        lazy = name in ("sgd", "rmsprop") and not self._net.penalties[0, :2].any()
        rules = self._kernel.Rules(
            self._loss, self._mean, self._metrics, self._dtype.type(self._threshold), self._step_codes[name],
            self._hyper, np.array(adam), int(lazy), self._dtype.type(options.get("rho", 1.0)),
        )  # fmt: skip
        made = optimizer.iterations
        with self._use_num_threads(tasks):  # another Python thread may change the number meanwhile
            after = self._kernel.train(
                self._dtype, self._nanoseconds(), self._inputs, self._targets, self._net, rules, self._memory, order,
                self._batch, made, int(settle), self._sums,
            )  # fmt: skip
        optimizer.iterations = int(after)
        self._rows += min(order.size, (optimizer.iterations - made) * self._batch)
        return optimizer.iterations - made

    def _nanoseconds(self) -> float:
        """Estimated work of one of a step's two regions, on one core."""
        products = sum(k * n for k, n in zip(self._layout.sizes[:-1], self._layout.sizes[1:], strict=True))
        return 3.0 * products * self._batch / 100.0

    def logs(self, reset: bool = False) -> Logs:
        """The figures since the last reset, by name."""
        rows = max(self._rows, 1)
        loss, penalty, *metrics = (float(total) / rows for total in self._sums)
        figures = {"loss": loss + penalty}
        figures.update((metric.name, value) for metric, value in zip(self._network.metrics, metrics, strict=True))
        if reset:
            self._sums[:] = 0
            self._rows = 0
        return figures


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


def is_sparse(source: Source) -> bool:
    """Whether the first layer skips the zeros of this input."""
    return isinstance(source, SparseSource) or density(source) < SPARSE_BELOW


def facts(source: Source | None, dtype: np.dtype[Any]) -> dict[str, str]:
    """What the fused runner does on this machine with this input, by name, for people to read."""
    from fastnn.kernels.cpu import machine, threads

    lines = {
        "kernels": f"{machine.isa().name}, tile {machine.tile(dtype.itemsize)}",
        "threads": str(threads.get_num_threads()),
    }
    if source is not None:
        kind = "sparse, zeros are skipped" if is_sparse(source) else "dense"
        lines["first layer"] = f"{kind} ({density(source):.1%} of the inputs are not zero)"
    return lines


def _inputs(source: Source, dtype: Any) -> Any:
    """The samples as the kernel's ``Inputs``."""
    from fastnn.kernels.cpu import epoch

    empty = epoch.Inputs(
        kind=epoch.DENSE,
        dense=np.empty((0, 0), dtype),
        bytes=np.empty((0, 0), np.uint8),
        scale=dtype.type(1),
        indptr=np.empty(0, np.int64),
        indices=np.empty(0, np.int32),
        values=np.empty(0, dtype),
    )
    if is_sparse(source):
        indptr, indices, values = _csr(source, dtype)
        return empty._replace(kind=epoch.SPARSE, indptr=indptr, indices=indices, values=values)
    array = _dense(source)
    if array.dtype == np.uint8:
        return empty._replace(kind=epoch.BYTES, bytes=_own(array))
    return empty._replace(dense=_own(np.ascontiguousarray(array, dtype)))


def _csr(source: Source, dtype: Any) -> tuple[Array, Array, Array]:
    """(indptr, indices, values), indices rising in every row."""
    from fastnn.kernels.cpu import epoch

    if not isinstance(source, SparseSource):
        indptr, indices, values = epoch.to_csr(np.ascontiguousarray(_dense(source), dtype))
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


def _targets(data: DataSet, dtype: Any) -> Any:
    """Targets and weights as the kernel's ``Targets``."""
    from fastnn.kernels.cpu import epoch

    labels, rows = np.empty(0, np.int64), np.empty((0, 0), dtype)
    if data.y_dtype == np.int64:
        labels = _own(np.asarray(data.y, np.int64).reshape(-1))
    else:
        rows = _own(np.asarray(data.y, dtype).reshape(data.rows, -1))
    weights = np.empty(0, dtype) if data.sample_weight is None else _own(np.asarray(data.sample_weight, dtype))
    return epoch.Targets(labels, rows, weights)
