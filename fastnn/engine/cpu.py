"""The fused runner: many steps in one compiled call, weights and optimizer state in panels while an epoch lasts.

It trains what ``obstacle`` finds nothing against; ``plan`` sends everything else to the layer-by-layer runner,
which also evaluates and predicts few samples here. Between two calls of this runner the parameters and the
optimizer's state are ordinary arrays, so callbacks may read and change them; but where nobody looks at them for a while
(``staying``) they are in panels from epoch to epoch.

Python handles no signal while a compiled call lasts. So these last some 50 ms, however long an epoch is (``pace``),
and what comes meanwhile is put off until the arrays are those of the last whole step (``kernels.interrupts``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from fastnn import backends
from fastnn.engine import form as forms
from fastnn.engine.data import DataSet, DenseSource, Source
from fastnn.engine.form import figures_of, form_of, numbers_of, sizes_of
from fastnn.engine.inputs import density, inputs_of, is_sparse, is_worth_skipping, mean_entries, parts
from fastnn.engine.layerwise import LayerwiseRunner, divergence
from fastnn.engine.pace import Pace
from fastnn.engine.protocols import Array, DropForm, Logs, Network, RescaleForm, StepHooks
from fastnn.engine.session import Session, addresses, kind_of, places_of, region_nanoseconds, zeros
from fastnn.kernels.interrupts import held

# Its name in a plan.
RUNNER = "fused"

# Prediction: samples that a task takes through all layers at a time, so that their activations stay in L2; samples from
# which that is worth packing the weights for; samples whose outputs are kept at a time; parts that the progress line
# is shown.
_ROWS_A_TASK = 64
_PREDICT_FROM = 256
_PREDICT_AT_ONCE = 1 << 15
_PROGRESS_CALLS = 25


class FusedRunner(LayerwiseRunner):
    """Trains and predicts in few compiled calls."""

    def __init__(self, network: Network, backend: str) -> None:
        super().__init__(network, backend)
        self._session: Session | None = None
        self._stays = False
        self._pace = Pace()

    def staying(self, alone: bool = True) -> AbstractContextManager[None]:
        """For a ``with`` block in which nobody looks at weights or state: where this is ``alone`` they stay in panels.

        Interrupts are put off until it ends, or an epoch looks for them.
        """
        return self._staying() if alone else nullcontext()

    @contextmanager
    def _staying(self) -> Iterator[None]:
        with held():
            self._stays = True
            try:
                yield
            finally:
                self._stays = False
                self._store()

    def _store(self) -> None:
        """Bring weights and state into the ordinary arrays, unless they are there; call it while ``held``."""
        if self._session is not None:
            self._session.store()

    def train_epoch(
        self, data: DataSet, batch_size: int, order: Array | None = None, epoch: int = 0, hooks: StepHooks | None = None
    ) -> Logs:
        """Train on every batch once, in ``order``; the figures are those of the training passes.

        Raises DivergenceError when a batch's loss is not finite, before any weight is updated with it.
        """
        session = self._session_for(data, batch_size)
        order = np.arange(data.rows) if order is None else np.ascontiguousarray(order, np.int64)
        train = partial(self._train, session, order, batch_size, epoch)
        steps, last, stopped = data.steps(batch_size), 0, False
        if hooks is not None and hooks.every_batch:
            while last < steps and not stopped:
                hooks.begin(last)
                last = train(last, last + 1, store=True)
                stopped = hooks.end(last - 1, session.logs)
            return session.logs()
        while last < steps and not stopped:
            with held() as interrupts:  # the arrays stay behind while panels are trained
                try:
                    while last < steps and not stopped and not interrupts.pending:
                        until = min(last + min(self._pace.amount, session.most_steps), steps)
                        last = train(last, until, store=until == steps and not self._stays)
                        stopped = hooks is not None and hooks.end(last - 1, session.logs)
                finally:
                    if not self._stays:
                        session.store()
            if self._stays and interrupts.pending:
                session.store()  # their handlers may look at the arrays
                interrupts.deliver()
        return session.logs()

    def _train(
        self, session: Session, order: Array, batch_size: int, epoch: int, first: int, last: int, store: bool
    ) -> int:
        """Train on the batches from ``first`` to ``last``, which is returned."""
        started = perf_counter()
        made = session.train(order[first * batch_size : last * batch_size], store)
        self._pace.measured(last - first, perf_counter() - started)
        if first + made < last:
            raise divergence("the loss is not finite", self.network, epoch, first + made)
        return last

    def _session_for(self, data: DataSet, batch_size: int) -> Session:
        """The session of the epochs before, or a new one for these data."""
        if self._session is None or not self._session.serves(data, batch_size):
            loss, optimizer = self.network.fused_loss or self.network.loss, self.network.optimizer
            if loss is None or optimizer is None:
                raise RuntimeError("a network without a loss and an optimizer cannot be trained")
            with held():
                self._store()
            self._session = Session(self.network, loss, optimizer, data, batch_size, self.mask_seeds)
        self._session.begin()
        return self._session

    def predict(self, x: Source, batch_size: int, hooks: StepHooks | None = None) -> Any:
        """Outputs for all samples."""
        if x.rows < _PREDICT_FROM:
            return super().predict(x, batch_size, hooks)
        network = replace(self.network, loss=None, precision=None)  # the outputs themselves, in the dtype's products
        prediction = _Prediction(network, is_sparse(x, network))
        parts: list[Array] = []
        for step, last, rows in _strides(x.rows, batch_size, hooks):
            if hooks is not None:
                hooks.begin(step)
            parts.append(prediction.outputs(x.part(rows)))
            if hooks is not None and hooks.end(last, dict):
                break
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def evaluate(self, data: DataSet, batch_size: int, hooks: StepHooks | None = None) -> Logs:
        """Loss and metrics over all batches, weights untouched."""
        penalized = any(layer.activity_regularizer is not None for layer in self.network.layers)
        if data.rows < _PREDICT_FROM or penalized:
            return super().evaluate(data, batch_size, hooks)
        network = replace(self.network, precision=None)
        prediction, figures = _Prediction(network, is_sparse(data.x, network)), self.figures()
        penalty = self.weight_penalty()
        with backends.use_backend(self.backend):
            for step, last, rows in _strides(data.rows, batch_size, hooks):
                if hooks is not None:
                    hooks.begin(step)
                part = data.part(rows)
                scored = replace(part, x=DenseSource(prediction.outputs(part.x), network.dtype))
                for batch in scored.batches(batch_size):
                    loss = self.loss(batch, batch.x) + penalty
                    figures.update([loss], batch.rows, batch.y, batch.sample_weight, batch.x)
                if hooks is not None and hooks.end(last, figures.logs):
                    break
        return figures.logs()


def _strides(rows: int, batch_size: int, hooks: StepHooks | None) -> Iterator[tuple[int, int, slice]]:
    """(First batch, last batch, their samples) of what is predicted at a time: one batch if each one is waited for."""
    steps = -(-rows // batch_size)
    listens = hooks is not None and hooks.every_batch
    stride = 1 if listens else max(1, min(steps // _PROGRESS_CALLS + 1, _PREDICT_AT_ONCE // batch_size))
    for step in range(0, steps, stride):
        last = min(step + stride, steps)
        yield step, last - 1, slice(step * batch_size, min(last * batch_size, rows))


class _Prediction:
    """The forward pass: weights in panels and scratch memory, for inputs whose zeros are skipped or not."""

    def __init__(self, network: Network, sparse: bool) -> None:
        from fastnn.kernels.cpu import records
        from fastnn.kernels.cpu.epochs import epoch, layout
        from fastnn.kernels.cpu.teams import threads

        self._kernel, self._dtype, self._sparse = epoch, network.dtype, sparse
        self._use_num_threads = threads.use_num_threads
        self._form = form = form_of(network)
        sizes = sizes_of(form.stages)
        self._tasks = threads.get_num_threads()
        self._pace = Pace(_ROWS_A_TASK * self._tasks)
        self._layout = layout.Layout(sizes, _ROWS_A_TASK * self._tasks, network.dtype.itemsize, sparse)
        kinds = [
            kind_of(stage)._replace(trains_kernel=False, trains_bias=False, penalized=False) for stage in form.stages
        ]
        table, size, scratch = self._layout.stages(kinds)
        params = zeros(size, network.dtype)
        self._memory = records.blank(records.Scratch, network.dtype)._replace(work=zeros(scratch, network.dtype))
        self._net = records.blank(records.Network, network.dtype)._replace(
            stages=table,
            ld=self._layout.ld,
            first=len(table),
            numbers=numbers_of(form.stages, network.dtype),
            masks=np.zeros(len(table) + 1, records.mask(network.dtype)),
            params=params,
        )
        self._places = list(places_of(form.stages, table, lambda parameter: [(parameter.value, params)]))

    def outputs(self, source: Source) -> Array:
        """Outputs for all samples of ``source``."""
        outputs = np.empty((source.rows, self._layout.sizes[-1]), self._dtype)
        for rows in parts(source, self._dtype, self._sparse):
            first = rows.start
            while first < rows.stop:
                started = perf_counter()
                some = slice(first, min(first + self._pace.amount, rows.stop))
                self._forward(source.part(some), outputs[some])
                self._pace.measured(some.stop - first, perf_counter() - started)
                first = some.stop
        return outputs

    def _forward(self, source: Source, outputs: Array) -> None:
        """Write the outputs for all samples of ``source``, in one compiled call."""
        inputs = inputs_of(source, self._dtype, self._form.preparation, self._sparse)
        memory = self._memory._replace(blocks=self._layout.blocks(self._layout.rows, mean_entries(inputs)))
        nanoseconds = region_nanoseconds(self._layout.sizes, source.rows) / 3
        places, self._places = self._places, []  # the first call packs the weights
        with self._use_num_threads(self._tasks):  # scratch memory is for so many
            self._kernel.forward(
                self._dtype, nanoseconds, inputs, self._net, memory, np.arange(source.rows), _ROWS_A_TASK,
                addresses(places), outputs,
            )  # fmt: skip


def obstacle(network: Network) -> str | None:
    """Why this runner cannot train the network, or predict with one that has no loss; None where it can."""
    return forms.obstacle(network)


def precision_obstacle(precision: str, dtype: np.dtype[Any]) -> str | None:
    """Why training cannot multiply numbers of this format here; None where it can."""
    from fastnn.kernels.cpu.compiler import machine

    if precision != "bfloat16":
        return f"CPUs do not multiply numbers of {precision}"
    if dtype != np.float32:
        return f"it keeps weights in float32, and these are {dtype}"
    return None if machine.bfloat16_pairs() else "this CPU has no AVX512-BF16"


def facts(network: Network, source: Source | None, fused: bool) -> dict[str, str]:
    """What runs on this machine, and what the fused runner does with this input, by name, for people to read."""
    from fastnn.kernels.cpu.compiler import machine
    from fastnn.kernels.cpu.teams import threads

    lines = {
        "kernels": f"{machine.isa().name}, tile {machine.tile(network.dtype.itemsize)}",
        "threads": str(threads.get_num_threads()),
    }
    if not fused:
        return lines
    if source is not None:
        kind = "sparse, zeros are skipped" if is_sparse(source, network) else "dense"
        if kind == "dense" and is_worth_skipping(source, network):
            kind = "dense, since non-zeros of a mapped file take the memory that it spares"
        if form_of(network).stages[0].kernel is None:
            kind = "an activation, which takes no notice of zeros"
        lines["first layer"] = f"{kind} ({density(source):.1%} of the inputs are not zero)"
    apart = figures_of(network).apart if network.loss is not None else ()
    if apart:
        names = ", ".join(dict.fromkeys(metric.name for metric, _ in apart))
        lines["metrics"] = f"{names}: behind every batch, of its outputs"
    described = [layer.form() for layer in network.layers]
    if any(isinstance(form, RescaleForm) for form in described):
        preparation = form_of(network).preparation
        lines["rescaling"] = f"{preparation.scale:g} * x + {preparation.offset:g}, of the samples of a batch"
    drops = ", ".join(
        f"{layer.name} {form.rate:g}"
        for layer, form in zip(network.layers, described, strict=True)
        if isinstance(form, DropForm) and form.rate > 0
    )
    return {**lines, "dropout": f"{drops}, masks drawn in the kernel"} if drops else lines
