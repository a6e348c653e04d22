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
from fastnn.kernels.addresses import address
from fastnn.kernels.formulas.steps import STEP_CODES, STEPS, Step, step_name
from fastnn.kernels.interrupts import held
from fastnn.kernels.table.dropout import scale, threshold

# Numbers of which any dtype has whole cache lines.
_LINE_NUMBERS = 32

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
        from fastnn.kernels.cpu import records
        from fastnn.kernels.cpu.epochs import epoch, layout
        from fastnn.kernels.cpu.teams import threads

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
        self._layout = layout.Layout(sizes, self._batch, dtype.itemsize, sparse, network.products == "bfloat16")
        kinds = [kind_of(stage) for stage in self._stages]
        self._table, size, self._scratch = self._layout.stages(kinds)
        trained = [parameter for parameter in network.parameters if parameter.trainable]
        optimizer.build(trained)
        self._trained = {parameter.path for parameter in trained}
        self._slots = list(optimizer.slots)
        params, *self._state = side_by_side(1 + len(optimizer.state_slots), size, dtype)
        self._units = int(self._table["units"].sum())
        self._net = records.Network(
            stages=self._table,
            ld=self._layout.ld,
            units=self._units,
            first=layout.first_trained(kinds),
            numbers=numbers_of(self._stages, dtype),
            penalties=np.array([stage.penalties for stage in self._stages], records.penalty(dtype)),
            masks=_masks([form.preparation.drop, *(stage.drop for stage in self._stages)], mask_seeds, dtype),
            params=params,
            slots=np.array([address(slot) for slot in self._state], np.int64),
        )
        self._figures = figures_of(network)
        self._objective = self._described(loss, data.sample_weight is not None or loss.ignore_class is not None)
        states = STEPS[self._step_name()].states
        self._order = (*states, *optimizer.state_slots[len(states) :])  # of the slots: an average comes last
        self._places: list[_Place] = []

        self._coupled = sparse and sizes[0] % 2 == 0 and by_pairs(self._inputs) >= COUPLED_FROM
        self._num_threads, self._use_num_threads = threads.get_num_threads, threads.use_num_threads
        self._tasks = self._num_threads()
        self._memory = self._allocated(self._tasks)
        self._progress = np.zeros(1, records.PROGRESS)
        with np.errstate(all="ignore"):  # the outputs are 0 as yet, of which some metrics make no sense
            self._update_apart(np.arange(min(1, data.rows)))  # now, where one that does not fit changes nothing
        self.begin()
        epoch.train.compiled(dtype)  # now, where an interrupt may come: that takes seconds the first time

    def _described(self, loss: Loss, weighted: bool) -> Any:
        """The loss of samples that may be weighted, and the metrics, as the kernel knows them.

        Where the metrics look at other rows than the last stage's, there is room for these in scratch memory then.
        """
        records, described, figures, last = self._records, loss.form, self._figures, self._table[-1]
        if described is None:
            raise RuntimeError(f"{loss} is none of the kernels' losses")
        reduction = records.SUM if described.summed or loss.reduction == "sum" else records.MEAN
        if loss.reduction == "mean_with_sample_weight" and not described.summed and weighted:
            reduction = records.WEIGHTED_MEAN
        seen, activation = int(last["y"]), records.IDENTITY
        if not figures.as_is:  # the metrics' rows lie behind the stages'
            seen, activation = self._scratch, code_of(self._network.layers[-1].epilogue)
            self._scratch += self._batch * int(last["ld"])
        return records.Objective(
            loss=records.FIGURES[described.name],
            goal=np.array([*described.numbers, 0.0], self._dtype),
            most=self._dtype.type(described.most),
            outputs=self._layout.sizes[-1] if described.mean else 1,
            reduction=reduction,
            metrics=np.array([records.FIGURES[form] for form, _ in figures.forms], np.int64),
            numbers=np.array([number for _, number in figures.forms], np.float64),
            plain=len(figures.metrics),
            seen=seen,
            activation=activation,
        )

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
        couples = entries if self._coupled else 0
        features, dtype = self._layout.sizes[0], self._dtype
        return self._records.Scratch(
            work=zeros(self._scratch + self._layout.buffers(tasks), dtype),
            gradients=zeros(self._net.params.size if self._clips_by_norm() else 0, dtype),
            figures=np.zeros((1 + self._objective.metrics.size, self._batch)),
            penalties=np.zeros(self._units),
            squares=np.zeros((self._units, 2)),
            factors=np.zeros((len(self._stages), 2)),
            cuts=self._layout.cuts(self._table, tasks, frequencies(self._inputs, features), self._is_lazy()),
            entries=np.zeros(self._batch, self._records.ENTRIES),
            blocks=self._layout.blocks(self._batch, mean_entries(self._inputs)),
            begins=np.zeros(features, np.int32),
            ends=np.zeros(features, np.int32),
            places=np.zeros((tasks, features), np.int32),
            touched=np.zeros(features, np.int64),
            decay=np.ones(features, dtype),
            powers=np.ones(self._records.POWERS, dtype),
            rows=np.zeros(entries, np.int32),
            values=np.zeros(max(entries, 2 * couples), dtype),
            evens=np.zeros(couples, np.int32),
            couples=np.zeros(2 * couples, dtype),
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
        parameters = (parameter for stage in self._stages for parameter in stage.parameters)
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
        if self._progress["in_panels"][0]:
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
        optimizer, progress = self._optimizer, self._progress
        rules = self._rules(order, store)
        taken = order
        inputs, targets, order = self._feed.take(order, self._batch)
        made = optimizer.iterations
        progress["made"] = made
        if rules.load:
            self._memory.touched[...] = made
        if self._layout.sparse:
            self._memory.powers[...] = rules.rho ** np.arange(self._records.POWERS, dtype=self._dtype)
        places, table = self._placed()
        nanoseconds = region_nanoseconds(self._layout.sizes, self._batch)
        try:
            # no more than there is memory for: another Python thread may change the number meanwhile
            with self._use_num_threads(min(self._num_threads(), self._tasks)):
                self._kernel.train(
                    self._dtype, nanoseconds, inputs, targets, self._net, self._objective, rules, self._memory, order,
                    table, progress, self._metrics,
                )  # fmt: skip
        finally:  # whatever was raised here meanwhile, in a thread that cannot hold interrupts say
            for place in places:
                place.write_back()
            optimizer.iterations = int(progress["made"][0])
        rows = min(order.size, (optimizer.iterations - made) * self._batch)
        weights = targets.weights
        self._rows += rows
        if rows:
            self._update_apart(taken[:rows])
        if self._figures.weighted:
            self._weight += float(weights[order[:rows]].sum(dtype=np.float64)) if weights.size else rows
        return optimizer.iterations - made

    def _steps_at_once(self) -> bool:
        """Whether the first stage's weights are changed by the step alone, an L2 penalty's part in the gradient."""
        kernel = self._records.KERNEL
        return not (self._decays()[0, kernel] > 0 or self._net.penalties[0, kernel]["l1"] or self._optimizer.use_ema)

    def _is_lazy(self) -> bool:
        """Whether weights of features that a batch does not have are left as they are."""
        penalized = self._net.penalties[0, self._records.KERNEL]["l2"]
        return bool(STEPS[self._step_name()].lazy and self._steps_at_once() and not penalized)

    def _rules(self, order: Array, store: bool) -> Any:
        """How a call trains on the samples of ``order``."""
        steps = -(-order.size // self._batch)
        name, rates, decays = self._step_name(), self._rates(steps), self._decays()
        step, (clip, limit) = STEPS[name], self._clipping()
        direct = step.direct and clip == self._records.NO_CLIP and self._steps_at_once()
        return self._records.Rules(
            batch=self._batch,
            step=STEP_CODES[name],
            hyper=self._hyper(step, rates, steps),
            shrink=(1 - np.multiply.outer(rates, decays)).astype(self._dtype),
            penalty=self._penalty_shares(order),
            clip=clip,
            limit=self._dtype.type(limit),
            averages=self._averages(steps),
            lazy=int(self._is_lazy()),
            rho=self._dtype.type(self._optimizer.rule[1].get("rho", 1.0)),
            direct=int(direct),
            coupled=int(direct and self._coupled),
            load=int(not self._progress["in_panels"][0]),
            store=int(store),
        )

    def _penalty_shares(self, order: Array) -> Array:
        """By step, what penalties on weights are multiplied by; one number where all are the same."""
        if not self._network.averaged_penalties or not order.size:
            return np.ones(1, self._dtype)
        firsts, weights = np.arange(0, order.size, self._batch), self._data.sample_weight
        if weights is None:
            return (1 / np.diff(firsts, append=order.size)).astype(self._dtype)
        sums = np.add.reduceat(weights[order], firsts, dtype=np.float64)
        return np.divide(1, sums, out=np.zeros_like(sums), where=sums != 0).astype(self._dtype)

    def _rates(self, steps: int) -> Array:
        """The step sizes of so many steps; one where all are the same."""
        optimizer = self._optimizer
        return optimizer.rates(optimizer.iterations, steps if optimizer.schedule is not None else min(steps, 1))

    def _averages(self, steps: int) -> Array:
        """What becomes of the average of weights in so many steps."""
        stays, due = self._optimizer.averaging(self._optimizer.iterations, steps).T
        averages = np.empty(stays.size, self._records.average(self._dtype))
        averages["stays"], averages["due"] = stays, due
        return averages

    def _decays(self) -> Array:
        """By stage, the share of kernel and bias that goes before a step of rate 1."""
        decay_of = self._optimizer.decay_of
        return np.array([[0.0 if p is None else decay_of(p.path) for p in stage.parameters] for stage in self._stages])

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
        self._progress["loss"] = self._progress["penalty"] = 0
        self._metrics = np.zeros(self._objective.metrics.size)
        self._rows, self._weight = 0, 0.0
        for metric, _ in self._figures.apart:
            metric.reset_state()

    def _update_apart(self, order: Array) -> None:
        """Show the outputs of the batch just trained on to the metrics that the kernels do not know."""
        if not self._figures.apart or not order.size:
            return
        width, ld, seen = self._layout.sizes[-1], int(self._table["ld"][-1]), self._objective.seen
        outputs = self._memory.work[seen : seen + order.size * ld].reshape(order.size, ld)[:, :width]
        y, weight = self._data.labels(order)
        if y is None:
            raise RuntimeError("samples without targets cannot be trained on")
        for metric, weighted in self._figures.apart:
            metric.update_state(y, outputs.copy(), weight if weighted else None)

    def logs(self) -> Logs:
        """The figures of the epoch so far, by name."""
        kept, totals = self._figures, map(float, self._metrics)
        counts = [self._rows] * len(kept.metrics) + [self._weight] * len(kept.weighted)
        for metric, total, count in zip((*kept.metrics, *kept.weighted), totals, counts, strict=True):
            metric.take(total, count)
        metrics = (*self._network.metrics, *self._network.weighted_metrics)
        scale = 1.0 if self._network.loss is None else self._network.loss.figure_scale
        loss = float(scale * self._progress["loss"][0] + self._progress["penalty"][0])
        return {"loss": loss / max(self._rows, 1), **{m.name: m.result() for m in metrics}}


def code_of(activation: Activation) -> int:
    """The activation as the kernels number it."""
    from fastnn.kernels.cpu.simd.elementwise import ROW_CODES

    return ROW_CODES[activation.op]


def kind_of(stage: Stage) -> Any:
    """The stage as the kernels' layout wants it, trained."""
    from fastnn.kernels.cpu.epochs import layout

    return layout.StageKind(
        code_of(stage.activation),
        product=stage.kernel is not None,
        prelu=stage.prelu,
        trains_kernel=stage.kernel is not None and stage.kernel.trainable,
        trains_bias=stage.bias is not None and stage.bias.trainable,
        penalized=any(stage.output_penalty),
    )


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
    from fastnn.kernels.cpu.epochs import layout

    for stage, row in zip(stages, table, strict=True):
        w, b, k, n, panel = (int(row[name]) for name in ("w", "b", "inputs", "outputs", "panel"))
        bias = b, 1, n, layout.Layout.padded(n, panel) if panel else 0
        for parameter, place in ((stage.kernel, (w, k, n, panel)), (stage.bias, bias)):
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
    from fastnn.kernels.cpu import records

    rows = [(address(p.own), address(p.flat) + p.offset * p.flat.itemsize, p.rows, p.columns, p.width) for p in places]
    return np.array(rows, records.PLACE)


def _masks(drops: Sequence[Drop], seeds: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """The kernel's masks; ``seeds`` are those of the layers."""
    from fastnn.kernels.cpu import records

    rows = [(threshold(d.rate), seeds[d.layer], d.layer, scale(d.rate), 1.0 - d.rate) for d in drops]
    return np.array(rows, records.mask(dtype))


def region_nanoseconds(sizes: Sequence[int], batch: int) -> float:
    """Estimated work of one of a step's two regions on one core; ``kernels.cpu.threads`` keeps little work serial."""
    products = sum(k * n for k, n in pairwise(sizes))
    return 3.0 * products * batch / 100.0


def side_by_side(count: int, size: int, dtype: Any) -> list[Array]:
    """So many arrays of zeros in one piece of memory, each on a cache-line boundary.

    From 4 MiB on NumPy asks for pages of 2 MiB: rows of weights anywhere are found in fewer of them.
    """
    distance = -(-size // _LINE_NUMBERS) * _LINE_NUMBERS
    memory = zeros(count * distance, dtype)
    return [memory[i * distance : i * distance + size] for i in range(count)]


def zeros(size: int, dtype: Any) -> Array:
    """An array of so many zeros on a cache-line boundary."""
    from fastnn.kernels.cpu._arrays import aligned

    array: Array = aligned((size,), dtype)
    array[...] = 0
    return array
