"""What one fit keeps between the epochs of the fused runner: data, panels, scratch memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fastnn.engine.data import DataSet
from fastnn.engine.form import Drop, Stage, figures_of, form_of, numbers_of, sizes_of
from fastnn.engine.inputs import (
    COUPLED_FROM,
    Feed,
    by_pairs,
    frequencies,
    is_sparse,
    mean_entries,
    most_entries,
)
from fastnn.engine.protocols import Activation, Array, Logs, Loss, Network, Optimizer, Parameter
from fastnn.kernels.formulas.steps import STEP_CODES, STEPS, Step, step_name
from fastnn.kernels.interrupts import held

# Places of sorted non-zeros: the kernel numbers them by int32.
_MOST_ENTRIES = 2**31 - 1


class Session:
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
        from fastnn.kernels.cpu import epoch, records, threads

        self._network, self._optimizer, self._data, self._batch_size = network, optimizer, data, batch_size
        self._batch = min(batch_size, data.rows)
        self._kernel, self._records = epoch, records
        self._dtype = dtype = network.dtype
        form = form_of(network)
        self._stages = form.stages
        sizes = sizes_of(self._stages)
        self._feed = Feed(data, loss, dtype, form.preparation, is_sparse(data.x, network))
        self._inputs = self._feed.inputs
        sparse = self._inputs.kind == records.SPARSE
        pairs = network.products == "bfloat16"
        self._layout = layout = records.Layout(sizes, self._batch, dtype.itemsize, sparse, pairs)
        needs = [stage.needs(records.KERNEL, records.BIAS, records.OUTPUT_PENALTY) for stage in self._stages]
        weights = [stage.kernel is not None for stage in self._stages]
        codes = [code_of(stage.activation) for stage in self._stages]
        self._table, size, self._scratch = layout.stages(codes, weights, needs)
        trained = [parameter for parameter in network.parameters if parameter.trainable]
        optimizer.build(trained)
        self._trained = {parameter.path for parameter in trained}
        self._slots = list(optimizer.slots)
        params, self._state = zeros(size, dtype), [zeros(size, dtype) for _ in self._slots]
        state = np.array([_address(slot) for slot in self._state], np.int64)
        penalties = [
            (*stage.penalty(stage.kernel), *stage.penalty(stage.bias), *stage.output_penalty) for stage in self._stages
        ]
        self._units, self._first = int(self._table[:, records.UNITS].sum()), layout.first(self._table)
        masks, scales = _masks([form.preparation.drop, *(stage.drop for stage in self._stages)], mask_seeds, dtype)
        numbers = numbers_of(self._stages, dtype), np.array(penalties, dtype)
        self._net = records.Network(self._table, self._units, self._first, *numbers, masks, scales, params, state)

        self._figures = figures = figures_of(network)
        self._metrics = np.array([records.FIGURES[form] for form, _ in figures.forms], np.int64)
        self._numbers = np.array([number for _, number in figures.forms], np.float64)
        self._seen, self._activation = int(self._table[-1, records.Y]), records.IDENTITY
        if not figures.as_is:  # the metrics' rows lie behind the stages'
            self._seen, self._activation = self._scratch, code_of(network.layers[-1].activation)
            self._scratch += self._batch * int(self._table[-1, records.LD])
        self._describe(loss, data.sample_weight is not None or loss.ignore_class is not None)
        self._order = STEPS[self._step_name()].states  # of the slots
        self._places: list[_Place] = []

        self._coupled = sparse and sizes[0] % 2 == 0 and by_pairs(self._inputs) >= COUPLED_FROM
        self._num_threads, self._use_num_threads = threads.get_num_threads, threads.use_num_threads
        self._tasks = self._num_threads()
        self._memory = self._allocated(self._tasks)
        self._notes = np.zeros(2, np.int64)
        with np.errstate(all="ignore"):  # the outputs are 0 as yet, of which some metrics make no sense
            self._update_apart(np.arange(min(1, data.rows)))  # now, where one that does not fit changes nothing
        self.begin()
        epoch.train.compiled(dtype)  # now, where an interrupt may come: that takes seconds the first time

    def _describe(self, loss: Loss, weighted: bool) -> None:
        """The loss as the kernel knows it, of samples that may be weighted."""
        records, described = self._records, loss.form
        if described is None:
            raise RuntimeError(f"{loss} is none of the kernels' losses")
        self._loss, self._goal = records.FIGURES[described.name], np.array([*described.numbers, 0.0], self._dtype)
        self._outputs = self._layout.sizes[-1] if described.mean else 1
        self._reduction = records.SUM if described.summed or loss.reduction == "sum" else records.MEAN
        if loss.reduction == "mean_with_sample_weight" and not described.summed and weighted:
            self._reduction = records.WEIGHTED_MEAN

    def serves(self, data: DataSet, batch_size: int) -> bool:
        """Whether this was made for these data."""
        return data is self._data and batch_size == self._batch_size

    @property
    def most_steps(self) -> int:
        """Batches that a call of ``train`` may have: one where metrics of their own look at its outputs."""
        return 1 if self._figures.apart else self._feed.steps(self._batch)

    def _allocated(self, tasks: int) -> Any:
        """Scratch memory for up to this many tasks."""
        entries = most_entries(self._inputs, self._batch) * tasks if self._layout.sparse else 0
        if entries > _MOST_ENTRIES:
            raise ValueError(
                f"batch_size: got {self._batch}, whose non-zeros for {tasks} threads take {entries:,} places, "
                f"wants at most {_MOST_ENTRIES:,}: train on smaller batches"
            )
        coupled = 2 * entries if self._coupled else 0
        figures = (1 + len(self._metrics)) * self._batch + self._records.UNIT_FIGURES * self._units
        features = self._layout.sizes[0]
        return self._records.Scratch(
            zeros(self._scratch + self._layout.buffers(tasks), self._dtype),
            zeros(self._net.params.size if self._clips_by_norm() else 0, self._dtype),
            np.zeros(figures + 2 * len(self._stages)),
            self._layout.bounds(self._batch, mean_entries(self._inputs)),
            self._layout.cuts(self._table, tasks, frequencies(self._inputs, features)),
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
            arrays += zip((state[slot] for slot in self._order), self._state, strict=True)
        return arrays

    def _placed(self) -> tuple[list[_Place], Array]:
        """Where parameters and state are, for the kernel; found anew where an array was replaced, or is copied."""
        parameters = (parameter for stage in self._stages for parameter in (stage.kernel, stage.bias))
        arrays = [array for parameter in parameters if parameter is not None for array, _ in self._arrays(parameter)]
        if not self._places or any(p.own is not a for p, a in zip(self._places, arrays, strict=True)):
            self._places = list(places_of(self._stages, self._table, self._arrays))
            self._addresses = addresses(self._places)
        return self._places, self._addresses

    def _step_name(self) -> str:
        op, options = self._optimizer.rule
        return step_name(op, self._slots, options)

    def _hyper(self, step: Step, rates: Array, steps: int) -> Array:
        """The hyper-parameters of so many steps of these rates, a row a step; one row where all have the same."""
        _, options = self._optimizer.rule
        options = {**options, "learning_rate": rates}
        if "step" in options:
            options["step"] = self._optimizer.iterations + 1 + np.arange(steps)
        return np.stack(np.broadcast_arrays(*map(np.atleast_1d, step.numbers(options))), axis=1).astype(self._dtype)

    def train(self, order: Array, store: bool = True) -> int:
        """Train on the samples of ``order``, batch by batch; the number of batches trained on.

        Parameters and state are taken from the ordinary arrays where panels do not hold them, and with ``store``
        brought back there afterwards; this is done in any case where a loss is not finite.
        """
        with held():
            self._make_room(self._num_threads())
            return self._run(order, store)

    def store(self) -> None:
        """Bring parameters and state back into the ordinary arrays, unless they are there; call it while ``held``."""
        if self._notes[self._records.IN_PANELS]:
            self._run(np.empty(0, np.int64), store=True)

    def _make_room(self, tasks: int) -> None:
        """Make the memory anew where it is for fewer tasks, or has no room for the gradients that are to be clipped."""
        if tasks > self._tasks or (self._clips_by_norm() and not self._memory.gradients.size):
            memory = self._allocated(tasks)
            memory.work[: self._scratch] = self._memory.work[: self._scratch]
            memory.touched[...] = self._memory.touched
            self._memory, self._tasks = memory, tasks

    def _run(self, order: Array, store: bool) -> int:
        """One compiled call, in the memory that there is."""
        optimizer, name = self._optimizer, self._step_name()
        step, steps = STEPS[name], -(-order.size // self._batch)
        rates, decays = self._rates(steps), self._decays()
        clip, limit = self._clipping()
        penalized = bool(self._net.penalties[0, :2].any())
        shrinks = decays[0] > 0
        lazy = step.lazy and not shrinks and not penalized
        direct = step.direct and clip == self._records.NO_CLIP and not shrinks and not penalized
        rules = self._records.Rules(
            self._loss, self._goal, self._outputs, self._reduction,
            self._metrics, self._numbers, len(self._figures.metrics), self._seen, self._activation,
            (1 - np.outer(rates, decays)).astype(self._dtype), clip, self._dtype.type(limit),
            STEP_CODES[name], self._hyper(step, rates, steps), int(lazy),
            self._dtype.type(optimizer.rule[1].get("rho", 1.0)), int(direct), int(direct and self._coupled),
        )  # fmt: skip
        taken = order
        inputs, targets, order = self._feed.take(order, self._batch)
        made = optimizer.iterations
        load = not self._notes[self._records.IN_PANELS]
        if load:
            self._memory.touched[...] = made
        if self._layout.sparse:
            self._memory.decay[-self._records.POWERS :] = rules.rho ** np.arange(
                self._records.POWERS, dtype=self._dtype
            )
        places, table = self._placed()
        nanoseconds = region_nanoseconds(self._layout.sizes, self._batch)
        self._notes[self._records.MADE] = made
        try:
            # no more than there is memory for: another Python thread may change the number meanwhile
            with self._use_num_threads(min(self._num_threads(), self._tasks)):
                self._kernel.train(
                    self._dtype, nanoseconds, inputs, targets, self._net, rules, self._memory, order,
                    self._batch, made, table, int(load), int(store), self._sums, self._notes,
                )  # fmt: skip
        finally:  # whatever was raised here meanwhile, in a thread that cannot hold interrupts say
            for place in places:
                place.write_back()
            optimizer.iterations = int(self._notes[self._records.MADE])
        rows = min(order.size, (optimizer.iterations - made) * self._batch)
        weights = targets.weights
        self._rows += rows
        if rows:
            self._update_apart(taken[:rows])
        if self._figures.weighted:
            self._weight += float(weights[order[:rows]].sum(dtype=np.float64)) if weights.size else rows
        return optimizer.iterations - made

    def _rates(self, steps: int) -> Array:
        """The step sizes of so many steps; one where all are the same."""
        optimizer = self._optimizer
        return optimizer.rates(optimizer.iterations, steps if optimizer.schedule is not None else min(steps, 1))

    def _decays(self) -> Array:
        """By stage, the share of kernel and bias that goes before a step of rate 1."""
        parameters = [parameter for stage in self._stages for parameter in (stage.kernel, stage.bias)]
        return np.array([0.0 if p is None else self._optimizer.decay_of(p.path) for p in parameters])

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

    def begin(self) -> None:
        """Begin the figures of an epoch."""
        self._sums = np.zeros(2 + len(self._metrics))
        self._rows, self._weight = 0, 0.0
        for metric, _ in self._figures.apart:
            metric.reset_state()

    def _update_apart(self, order: Array) -> None:
        """Show the outputs of the batch just trained on to the metrics that the kernels do not know."""
        if not self._figures.apart or not order.size:
            return
        width, ld = self._layout.sizes[-1], int(self._table[-1, self._records.LD])
        outputs = self._memory.work[self._seen : self._seen + order.size * ld].reshape(order.size, ld)[:, :width]
        y, weight = self._data.labels(order)
        if y is None:
            raise RuntimeError("samples without targets cannot be trained on")
        for metric, weighted in self._figures.apart:
            metric.update_state(y, outputs.copy(), weight if weighted else None)

    def logs(self) -> Logs:
        """The figures of the epoch so far, by name."""
        loss, penalty, *totals = map(float, self._sums)
        kept = self._figures
        counts = [self._rows] * len(kept.metrics) + [self._weight] * len(kept.weighted)
        for metric, total, count in zip((*kept.metrics, *kept.weighted), totals, counts, strict=True):
            metric.take(total, count)
        metrics = (*self._network.metrics, *self._network.weighted_metrics)
        return {"loss": (loss + penalty) / max(self._rows, 1), **{m.name: m.result() for m in metrics}}


def code_of(activation: Activation) -> int:
    """The activation as the kernels number it."""
    from fastnn.kernels.cpu.simd.elementwise import ROW_CODES

    return ROW_CODES[activation.op]


@dataclass(frozen=True)
class _Place:
    """An array as others see it and the one that kernels read and write, as rows (K, N), and where its panels are.

    The second array is a copy where the first one is of another dtype, not contiguous or not writable. ``flat`` holds
    the panels, each ``width`` columns wide, from ``offset`` on.
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


def places_of(
    stages: Sequence[Stage], table: Array, arrays: Callable[[Parameter], Sequence[tuple[Array, Array]]]
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
                yield _Place(array, _own(array, flat.dtype), flat, *place)


def _own(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array, or a copy of ``dtype`` that kernels may write to."""
    array = np.ascontiguousarray(array, dtype)
    return array if array.flags.writeable else array.copy()


def addresses(places: Sequence[_Place]) -> Array:
    """The kernel's table of arrays, which it reads and writes by their addresses: keep them as long as it runs."""
    rows = [
        (_address(p.own), _address(p.flat) + p.offset * p.flat.itemsize, p.rows, p.columns, p.width) for p in places
    ]
    return np.array(rows, np.int64).reshape(-1, 5)


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _masks(drops: Sequence[Drop], seeds: Sequence[int], dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """The kernel's masks and scales; ``seeds`` are those of the layers."""
    from fastnn.kernels.cpu import dropout

    masks = [(dropout.threshold(drop.rate), seeds[drop.layer], drop.layer) for drop in drops]
    return np.array(masks, np.int64), np.array([(dropout.scale(d.rate), 1.0 - d.rate) for d in drops], dtype)


def region_nanoseconds(sizes: Sequence[int], batch: int) -> float:
    """Estimated work of one of a step's two regions on one core; ``kernels.cpu.threads`` keeps little work serial."""
    products = sum(k * n for k, n in pairwise(sizes))
    return 3.0 * products * batch / 100.0


def zeros(size: int, dtype: Any) -> Array:
    """An array of so many zeros on a cache-line boundary."""
    from fastnn.kernels.cpu._arrays import aligned

    array: Array = aligned((size,), dtype)
    array[...] = 0
    return array
