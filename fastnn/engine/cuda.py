"""The runner of a device: samples, parameters, the optimizer's state and the steps of an epoch are there.

Layers, losses and the optimizer are those of the layer-by-layer runner, which works on the device's arrays here. Its
steps are programs: a device launches them as graphs, turn after turn, and nothing is read back before the last
(``kernels/cuda/program.py``). Samples stay there, or come piece by piece (``supply``). Between two calls of this runner
parameters and state are ordinary arrays, which callbacks, files and other backends work on, unless somebody says that
nobody looks at them for a while (``staying``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from fastnn import backends, ops
from fastnn.engine import recorded
from fastnn.engine.data import Batch, DataSet, Source, Sources
from fastnn.engine.form import penalty_numbers
from fastnn.engine.layerwise import Epoch, LayerwiseRunner, added, in_strides
from fastnn.engine.pace import paced
from fastnn.engine.placement import Batches
from fastnn.engine.protocols import Array, DenseForm, Logs, Loss, Metric, Network, Optimizer, Regularizer, StepHooks
from fastnn.engine.recorded import RecordedPasses, layers_are_recordable
from fastnn.engine.supply import Supply, how, joined
from fastnn.engine.tables import is_csr, put
from fastnn.engine.wiring import each, mapped
from fastnn.kernels.formulas.steps import STEPS, step_name
from fastnn.kernels.interrupts import held
from fastnn.kernels.precision import ROUNDED

# What a plan says of rows of weights that a batch does not touch.
_UNTOUCHED = "; weights of features that a batch does not have are stepped later, to the same bits"

# Its name in a plan.
RUNNER = "device"

# Batches of an evaluation or a prediction from which they are recorded. Unmeasured.
RECORDED_FROM = 4


class _OnDevice:
    """Arrays of the current device."""

    programs, clips, runs_op_by_op = True, True, False

    def __init__(self, network: Network) -> None:
        self._supply = Supply(network.memory_limit, _takes_csr(network))

    def batches(self, data: DataSet, order: Array, batch_size: int) -> Batches:
        return self._supply.batches(data, order, batch_size)

    def put(self, array: Array) -> Any:
        return put(array)

    def read(self, array: Any) -> Array:
        found: Array = array.get() if hasattr(array, "get") else np.asarray(array)
        return found

    def all_finite(self, arrays: Sequence[Any]) -> bool:
        """A sum of squares is not where a number is not; where numbers are so large that it overflows, they are not."""
        return all(np.isfinite(float(ops.l1_l2_penalty(array, 0.0, 1.0)[0])) for array in arrays)


@contextmanager
def _explained() -> Iterator[None]:
    """Where there is too little memory, say what the device has, and what to do."""
    try:
        yield
    except MemoryError as error:
        said = backends.implementation("cuda", "launch", "out_of_memory")(error)
        advice = "A smaller batch_size takes less memory, and with compile(memory_limit=...) samples do"
        raise MemoryError(f"{said}. {advice}") from None


def _takes_csr(network: Network) -> bool:
    """Whether the first layer multiplies by its inputs, and nothing else is done to them."""
    return network.is_stack and bool(network.layers) and isinstance(network.layers[0].form(), DenseForm)


class _Residence:
    """``with residence``: parameters and state hold arrays of the device, and those of before at its end.

    The device's arrays are the same ones each time, for programs use them where they lie. Inside of another one it does
    nothing, and arrays that are there for another runner stay as they are.
    """

    def __init__(self, network: Network, placement: _OnDevice) -> None:
        self._network, self._placement = network, placement
        self._on_device: dict[tuple[str, str], Any] = {}
        self._back = ExitStack()
        self._depth = 0

    def __enter__(self) -> None:
        if self._depth == 0:
            with held():
                self._move()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            with held():
                self._back.close()

    @contextmanager
    def left(self) -> Iterator[None]:
        """Inside a ``with`` block, parameters and state hold ordinary arrays again."""
        with held():
            self._back.close()
            try:
                yield
            finally:
                self._move()

    def _move(self) -> None:
        """Move all, or where that fails nothing."""
        network, optimizer = self._network, self._network.optimizer
        with ExitStack() as back:
            for parameter in network.parameters:
                self._put(back, parameter.path, parameter, "value")
            if optimizer is not None:
                for path, slots in optimizer.state.items():
                    for slot in slots:
                        self._put(back, path, slots, slot)
            self._back = back.pop_all()

    def _put(self, back: ExitStack, path: str, owner: Any, name: str) -> None:
        host = owner[name] if isinstance(owner, dict) else getattr(owner, name)
        if not isinstance(host, np.ndarray):
            return  # another runner's, which is in use
        array = self._on_device.get((path, name))
        if array is None or array.shape != host.shape or array.dtype != host.dtype:
            array = self._on_device[path, name] = self._placement.put(np.array(host, order="C"))
        else:
            array.set(np.ascontiguousarray(host))
        back.callback(_bring_back, owner, name, host, array)
        _give(owner, name, array)


def _bring_back(owner: Any, name: str, host: Array, array: Any) -> None:
    """Give an owner its array of before, with the numbers of now; without them where they cannot be read."""
    try:
        host[...] = array.get()
    finally:
        _give(owner, name, host)


def _give(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, dict):
        owner[name] = value
    else:
        setattr(owner, name, value)


class _Passing:
    """Batches that are passed through a function: recorded, or where they are few, or it cannot be, op by op."""

    def __init__(self, passes: RecordedPasses, function: Callable[..., Any], samples: Epoch) -> None:
        self._passes, self._function, self._samples = passes, function, samples
        self._records = samples.data.steps(samples.batch_size) >= RECORDED_FROM

    def found(self, step: int, most: int) -> list[Any]:
        """What the function gives of up to ``most`` batches from ``step`` on, on the device until the next call."""
        batches = self._samples.batches
        together = self._passes(batches, step, most, self._samples.batch_size) if self._records else None
        if together is not None:
            return [together]
        given = (batches.alone(step + each) for each in range(min(most, max(1, batches.at_hand(step)))))
        return [self._function(*_arrays(batch)) for batch in given]


def _arrays(batch: Batch) -> list[Any]:
    """Inputs, targets, weights, what there is of them."""
    return [array for part in batch[:3] for array in each(part) if array is not None]


def _one_behind_another(found: Sequence[Any]) -> Any:
    """Arrays of the device, or tuples of such, or nothing, of batches in their order."""
    return None if found[0] is None else mapped(lambda *arrays: joined(arrays), *found)


class DeviceRunner(LayerwiseRunner):
    """Trains, evaluates and predicts on a device."""

    def __init__(self, network: Network, backend: str) -> None:
        placement = _OnDevice(network)
        super().__init__(network, backend, placement)
        self._residence = _Residence(network, placement)
        self._counted: dict[int, Any] = {}  # the numbers below some
        self._scored = any(head.metrics or head.weighted_metrics for head in network.judged)
        self._judging: RecordedPasses | None = None

    def staying(self, alone: bool = True) -> AbstractContextManager[None]:
        """For a ``with`` block in which nobody looks at weights or state: there they stay on the device.

        What another runner of the same network does meanwhile is done with these.
        """
        self._optimizer.build(self._trained)
        return self._staying()

    @contextmanager
    def _staying(self) -> Iterator[None]:
        with _explained(), self._residence:
            yield

    def train_epoch(
        self, data: DataSet, batch_size: int, order: Array | None = None, epoch: int = 0, hooks: StepHooks | None = None
    ) -> Logs:
        """Train on every batch once, in ``order``; the figures are those of the training passes.

        Where callbacks listen to every batch, parameters and state are ordinary arrays behind each of them. Raises
        DivergenceError when a loss or gradient is not finite, before any weight is updated with it.
        """
        self._optimizer.build(self._trained)
        listens = hooks is not None and hooks.every_batch
        with self._multiplying(self.network.products), nullcontext() if listens else self._residence:
            return super().train_epoch(data, batch_size, order, epoch, hooks)

    def whole(self, data: DataSet) -> Batch:
        """All samples as one batch, on the device: what ``gradients`` is to be asked of more than once."""
        return self._placement.batches(data, np.arange(data.rows), data.rows).alone(0)

    def gradients(self, batch: Batch) -> tuple[float, Any, Sequence[Array]]:
        """As ``LayerwiseRunner`` does, all of it on the host."""
        with self._multiplying(self.network.products), self._residence, self._chosen():
            loss, scores, gradients = super().gradients(batch)
            return loss, scores, [self._placement.read(gradient) for gradient in gradients]

    def _train_together(self, samples: Epoch, step: int, steps: int) -> int:
        done = super()._train_together(samples, step, steps)
        if self._together is not None and self._together.launches:
            _launches[self._optimizer] = _of(self.network), self._together.launches, self._together.reasons
        return done

    def _train_some(self, samples: Epoch, step: int, most: int) -> int:
        with self._residence:
            return super()._train_some(samples, step, most)

    def _given(self, x: Any) -> Any:
        """Bytes become numbers of the model's dtype."""
        if x.dtype != np.uint8:
            return x
        rows = x.shape[0]
        if rows not in self._counted:
            self._counted[rows] = put(np.arange(rows))
        return ops.gather(x, self._counted[rows], scale=1.0, offset=0.0)

    def _apply(self, optimizer: Optimizer, gradients: Sequence[Array]) -> None:
        """There where it is no more than ops; constraints and averages of weights are the host's."""
        if optimizer.made_of_ops(self._trained):
            super()._apply(optimizer, gradients)
            return
        read = [self._placement.read(gradient) for gradient in gradients]
        with self._residence.left():
            super()._apply(optimizer, read)

    def _score(
        self, loss: Loss, y: Array, scores: Array, sample_weight: Array | None, mask: Array | None
    ) -> tuple[float, Array]:
        """There where the loss is ops; one that looks at its targets, or is a function of the user's, is the host's."""
        if loss.made_of_ops:
            return super()._score(loss, y, scores, sample_weight, mask)
        read = [None if array is None else self._placement.read(array) for array in (y, scores, sample_weight, mask)]
        value, gradient = super()._score(loss, *read)  # type: ignore[arg-type]
        return value, self._placement.put(gradient)

    def _penalty(self, penalty: Regularizer, x: Array) -> tuple[float, Array]:
        """There where it is an op; others are the host's."""
        if penalty_numbers(penalty) is not None:
            return super()._penalty(penalty, x)
        value, gradient = penalty.value_and_gradient(self._placement.read(x))
        return value, self._placement.put(gradient)

    def _penalized(self, loss: Any, penalty: Any, gradients: Sequence[Array], share: float) -> Any:
        """All those on weights by one call, which a recorded step makes where it steps the weights."""
        pairs = [pair for pair in zip(gradients, self._trained, strict=True) if pair[1].regularizer is not None]
        numbers = [penalty_numbers(parameter.regularizer) for _, parameter in pairs]
        if not pairs or None in numbers or getattr(loss, "dtype", None) != np.float64:
            return super()._penalized(loss, penalty, gradients, share)
        slopes, weights = [slope for slope, _ in pairs], [parameter.value for _, parameter in pairs]
        add, total = backends.implementation("cuda", "penalties", "add"), added(loss, penalty)
        recorder = backends.recorder()
        if recorder is None:
            add(slopes, [total], weights, numbers, share)
        else:
            changed = {"gradients": slopes, "loss": [total]}
            recorder.changed("penalties on weights", add, changed, {"weights": weights}, numbers=numbers, share=share)
        return total

    def _count(self, samples: Epoch, step: int, losses: Array, scores: Any) -> None:
        """Accuracies by what is hit, sample by sample, which the device finds; other metrics by scores, on the host."""
        figures, rows, size = samples.figures, samples.rows(step, len(losses)), samples.batch_size
        for batch, found in enumerate(losses.tolist()):
            figures.lose(found, rows[batch * size : (batch + 1) * size].size)
        left = [one for one in figures.metrics if not self._is_hit(samples, step, len(losses), each(scores), *one)]
        if not left:
            return
        read = [self._placement.read(found) for found in each(scores)]
        for first in range(0, rows.size, size):
            some = slice(first, first + size)
            y, weight = samples.data.labels(rows[some])
            for metric, weighted, head in left:
                weights = each(weight)[head] if weighted and weight is not None else None
                figures.judge(metric, head, each(y)[head], [found[some] for found in read], weights)

    def _is_hit(
        self, samples: Epoch, step: int, steps: int, scores: Sequence[Any], metric: Metric, weighted: bool, head: int
    ) -> bool:
        """Whether the device has found what a metric counts of these batches, and it is counted."""
        loss, found = self._heads[head].loss, scores[head]
        fits = loss is not None and metric.integer_targets in (None, loss.integer_targets)
        fits = fits and len(scores) == len(self._heads)  # behind them there are masks of steps
        form = metric.fused_form(found.shape[-1]) if fits and steps <= samples.batches.at_hand(step) else None
        if form is None:
            return False
        given = samples.batches.together(step, steps)
        targets, index = given.arrays[self._graph.inputs + head], put(np.ascontiguousarray(given.rows, np.int64))
        if not backends.implementation("cuda", "hits", "is_served")(form, found, targets):
            return False
        outputs, find = samples.figures.outputs(metric, head, found), backends.implementation("cuda", "hits", "hits")
        hits = self._placement.read(find(form, metric.fused_number, outputs, targets, index))
        weight = samples.data.labels(samples.rows(step, steps))[1] if weighted else None
        metric.count(hits.astype(np.float32), None if weight is None else each(weight)[head])
        return True

    def evaluate(self, data: DataSet, batch_size: int, hooks: StepHooks | None = None) -> Logs:
        """Loss and metrics over all batches, weights untouched; nothing is read batch by batch."""
        order = np.arange(data.rows)
        with self._multiplying("float32"), self._residence, self._chosen():
            batches = self._placement.batches(data, order, batch_size)
            samples = Epoch(0, data, batch_size, order, batches, self.figures())
            self._judging = self._judging or RecordedPasses(self.network, self._losses_and_scores)
            passing = _Passing(self._judging, self._losses_and_scores, samples)
            penalty = float(self.weight_penalty())

            def judge(step: int, most: int) -> int:
                of_losses, of_scores = zip(*passing.found(step, most), strict=True)
                losses = np.concatenate([np.stack([*map(self._numbers, found)], axis=1) for found in of_losses])
                losses[:, 0] += penalty
                self._count(samples, step, losses, _one_behind_another(of_scores))
                return len(losses)

            in_strides(data.steps(batch_size), hooks, paced(judge), samples.figures.logs)
        return samples.figures.logs()

    def _numbers(self, losses: Any) -> Array:
        """Of a batch or of several, on the host."""
        return np.atleast_1d(self._placement.read(losses)).astype(float)

    def _losses_and_scores(self, *given: Any) -> tuple[Any, Any]:
        """Losses of a batch with the penalty on outputs, and its scores where metrics want them."""
        inputs, heads = self._graph.inputs, len(self._heads)
        y, weights = given[inputs : inputs + heads], given[inputs + heads :]
        outputs, masks, _, penalty, _ = self._forward(given[:inputs])
        losses, _ = self._scores(outputs, y, weights or None, masks)
        return (added(losses[0], penalty), *losses[1:]), self._judged(outputs, masks) if self._scored else None

    def predict(self, x: Source, batch_size: int, hooks: StepHooks | None = None) -> Any:
        """Outputs for all samples; nothing is read batch by batch."""
        if x.rows == 0:
            return self.outputs(x, training=False)
        data, order, parts = DataSet(x), np.arange(x.rows), list[Any]()
        with self._multiplying("float32"), self._residence, self._chosen():
            batches = self._placement.batches(data, order, batch_size)
            passes = RecordedPasses(self.network, self._passed, layers_are_recordable)
            passing = _Passing(passes, self._passed, Epoch(0, data, batch_size, order, batches, self.figures()))

            def read(step: int, most: int) -> int:
                parts.append(mapped(self._placement.read, _one_behind_another(passing.found(step, most))))
                return -(-len(each(parts[-1])[0]) // batch_size)

            in_strides(data.steps(batch_size), hooks, paced(read), dict)
        return parts[0] if len(parts) == 1 else mapped(lambda *arrays: np.concatenate(arrays), *parts)

    def outputs(self, x: Source, training: bool) -> Any:
        """Outputs for all samples as one batch; in ``training`` layers draw masks, as calls outside any fit do."""
        with self._multiplying("float32"), self._residence:
            return super().outputs(x, training)

    def _chosen(self) -> AbstractContextManager[None]:
        """Metrics, and what else has ordinary arrays, is the CPU's; arrays of the device are computed there."""
        return backends.use_backend("cpu" if backends.state("cpu").available else "naive")

    @contextmanager
    def _multiplying(self, products: str) -> Iterator[None]:
        with _explained(), backends.use_precision(products if products in ROUNDED else "float32"):
            yield


# What a step of a network took in the last fit with an optimizer: whose, how many launches, and why that many.
_launches: WeakKeyDictionary[Optimizer, tuple[Any, int, Sequence[str]]] = WeakKeyDictionary()


def _of(network: Network) -> Any:
    """What tells a network from others that an optimizer has trained."""
    return tuple(map(id, network.layers)), id(network.loss)


def obstacle(network: Network) -> str | None:
    """Why this runner cannot run the network: there is nothing that it cannot."""
    return None


def precision_obstacle(precision: str, dtype: np.dtype[Any]) -> str | None:
    """Why training cannot multiply numbers of this format here; None where it can."""
    import cupy

    from fastnn.kernels.cuda import tiles

    if dtype != np.float32:
        return f"it keeps weights in float32, and these are {dtype}"
    return tiles.lacking(cupy.cuda.runtime.getDevice())


def captures(network: Network) -> bool:
    """Whether its steps, or without an optimizer its passes, are captured as a graph."""
    if not network.has_loss:
        return layers_are_recordable(network)
    trained = [parameter for parameter in network.parameters if parameter.trainable]
    optimizer = network.optimizer
    return recorded.is_recordable(network) and (optimizer is None or optimizer.recordable(trained, clips=True))


def facts(network: Network, source: Source | None, fused: bool) -> dict[str, str]:
    """What runs on this device, by name, for people to read."""
    lines = {"device": backends.state("cuda").reason}
    if network.has_loss and network.optimizer is not None:
        lines["steps"] = "captured as a graph, launched turn after turn" if captures(network) else "op by op"
        trained, launches, reasons = _launches.get(network.optimizer, (None, 0, ()))
        if trained == _of(network):
            lines["launches"] = "; ".join([f"{launches} a step, in the last fit", *reasons])
    if source is not None:
        lines["samples"] = how(source, network.memory_limit, _takes_csr(network))
        if not isinstance(source, Sources) and is_csr(source, _takes_csr(network)):
            lines["first layer"] = "sparse, zeros are skipped" + (_UNTOUCHED if _waits(network) else "")
    return lines


def _waits(network: Network) -> bool:
    """Whether rows of the first layer's weights that a batch does not touch can be left alone, or stepped later."""
    optimizer, kernel = network.optimizer, network.layers[0].parameters[0]
    if optimizer is None or not (kernel.trainable and captures(network)):
        return False
    op, options = optimizer.rule
    stays = optimizer.clipping is None or optimizer.clipping[0] == "clipvalue"  # where a gradient is 0
    plain = stays and not optimizer.decay_of(kernel.path) and kernel.regularizer is None
    return plain and STEPS[step_name(op, optimizer.slots, options)].lazy
