"""The stopwatch of a sweep: training epochs inside ``fit``, and what the parts of a step cost when measured alone.

A visit trains a fresh model on an epoch of one batch and on a long one, several times each; the difference is free of
what an epoch costs once (weights into panels and back, the order of the rows). The points of a sweep are visited in
shuffled order, and that several times over, so that a slow drift of the machine does not bend a curve.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np

import fastnn
from bench import load
from bench.scaling.sweeps import Setting, Sweep
from fastnn import callbacks, layers, models, ops, optimizers
from fastnn.engine.protocols import Array
from fastnn.kernels.cpu import machine
from fastnn.kernels.cpu.peak import measure as measured_peak

DTYPE = np.dtype(np.float32)

# What `peak` measures, for people to read.
PEAK = "multiply-adds on registers, as fastnn info --peak measures them"

_SEED = 5
_MOST_ROWS = 40_960  # 784 float32 a row: 128 MB, more than most caches hold
_LEAST_BATCHES = 5
_PROBE_BATCHES = 5
_WARM_EPOCHS, _TIMED_EPOCHS = 1, 3
_RATE = 1e-4  # small: no point may diverge on labels that are noise

# Where zeros are skipped: shares of non-zeros, and units by thread: one and two panels, which stay in L2.
_DENSITIES, _WIDTHS = (0.1, 0.3), (64, 128)

_UPDATE_CALLS = 25
_MOST_UPDATE_BYTES = 1 << 28


@dataclass(frozen=True)
class Effort:
    """Visits to each point, and seconds that the difference of the two epochs should take."""

    rounds: int
    seconds: float


FULL = Effort(rounds=3, seconds=0.08)
QUICK = Effort(rounds=1, seconds=0.03)


@dataclass(frozen=True)
class Parts:
    """What the parts of a step cost on so many threads, each measured alone.

    ``peak`` in FLOP/s; ``update``: seconds a weight of RMSprop from L2, L3 and memory; ``sample``: seconds a sample of
    a network with one hidden unit, whose products are next to nothing, and ``sparse_sample`` the same where nearly all
    inputs are zero; ``entry``: seconds a non-zero more in a sample costs where zeros are skipped, whatever the units,
    and ``sparse_peak`` the FLOP/s of its products; ``step``: seconds a step of the smallest network on one sample.
    """

    peak: float
    update: tuple[float, float, float]
    sample: float
    sparse_sample: float
    entry: float
    sparse_peak: float
    step: float


@dataclass(frozen=True)
class Point:
    """One point of a curve: the median of its ``visits``, all in seconds a sample.

    ``flops`` a sample are the plan's, ``epoch_seconds`` what an epoch costs beyond its batches, with one batch.
    """

    value: float
    setting: Setting
    seconds: float
    visits: tuple[float, ...]
    batches: int
    epoch_seconds: float
    flops: int
    disturbed: bool = False

    @property
    def spread(self) -> float:
        """Half the distance of the extreme visits from each other, relative to the median."""
        return (max(self.visits) - min(self.visits)) / 2 / self.seconds


def peak(dtype: np.dtype[Any], threads: int) -> float:
    """FLOP/s that this machine can do on so many threads."""
    return measured_peak(str(dtype), threads)


def parts(threads: int) -> Parts:
    """The parts of a step, measured alone."""
    lean = Setting((1,), threads=threads)
    entry, sparse_peak = _entry(lean)
    return Parts(
        peak=peak(DTYPE, threads),
        update=_update_seconds(threads),
        sample=_alone(lean),
        sparse_sample=_alone(replace(lean, density=1 / lean.inputs)),
        entry=entry,
        sparse_peak=sparse_peak,
        step=_alone(replace(lean, batch=1, inputs=1)),
    )


def expected_seconds(setting: Setting, effort: Effort, peak: float) -> float:
    """About how long a visit takes: its epochs at half the peak, and a tenth of a second around them."""
    least = _LEAST_BATCHES * setting.batch * setting.flops / (peak / 2)
    return (_WARM_EPOCHS + _TIMED_EPOCHS) * max(effort.seconds, least) + 0.1


def measure(sweep: Sweep, effort: Effort, tell: Callable[[Setting], None] = lambda _: None) -> dict[int, list[Point]]:
    """The sweep's points by number of threads; ``tell`` is called after each visit."""
    order = [(threads, value) for threads in sweep.threads for value in sweep.values]
    batches = dict.fromkeys(order, 0)
    visits: dict[tuple[int, float], list[_Visit]] = {key: [] for key in order}
    shuffled = random.Random(_SEED)
    for _ in range(effort.rounds):
        for threads, value in shuffled.sample(order, len(order)):
            setting = sweep.at(value, threads)
            key = threads, value
            batches[key] = batches[key] or _batches(setting, effort.seconds)
            visits[key].append(_visit(setting, batches[key]))
            tell(setting)
    return {
        threads: [
            _point(value, sweep.at(value, threads), visits[threads, value], batches[threads, value])
            for value in sweep.values
        ]
        for threads in sweep.threads
    }


@dataclass(frozen=True)
class _Visit:
    seconds: float
    epoch_seconds: float
    flops: int
    disturbed: bool


def _point(value: float, setting: Setting, visits: Sequence[_Visit], batches: int) -> Point:
    return Point(
        value=value,
        setting=setting,
        seconds=statistics.median(visit.seconds for visit in visits),
        visits=tuple(visit.seconds for visit in visits),
        batches=batches,
        epoch_seconds=statistics.median(visit.epoch_seconds for visit in visits),
        flops=visits[0].flops,
        disturbed=2 * sum(visit.disturbed for visit in visits) > len(visits),
    )


def _visit(setting: Setting, batches: int) -> _Visit:
    watch = load.Watch()
    model = _model(setting)
    short = statistics.median(_epochs(model, setting, 1))
    long = statistics.median(_epochs(model, setting, batches))
    # a disturbance can make the short epoch the longer one: a long one without its start is then the better figure
    a_batch = (long - short) / (batches - 1) if long > short else long / batches
    return _Visit(
        a_batch / setting.batch,
        max(0.0, short - a_batch),
        model.plan().flop_per_sample,
        load.disturbed(watch.others(), setting.threads),
    )


def _batches(setting: Setting, seconds: float) -> int:
    """Batches of the long epoch: for ``seconds``, and for twice what an epoch costs once, as far as the rows go."""
    model = _model(setting)
    short, probe = (min(_epochs(model, setting, count, timed=1)) for count in (1, _PROBE_BATCHES))
    a_batch = max((probe - short) / (_PROBE_BATCHES - 1), probe / _PROBE_BATCHES / 10)
    wanted = math.ceil(max(seconds, 2 * short) / a_batch)
    return max(_LEAST_BATCHES, min(wanted, _MOST_ROWS // setting.batch))


def _epochs(model: models.Sequential, setting: Setting, batches: int, timed: int = _TIMED_EPOCHS) -> list[float]:
    """Seconds of training epochs of so many batches, the first ones of the fit left out: they prepare memory."""
    x, labels = _rows(setting, batches * setting.batch)
    watch = _Stopwatch()
    with _threads(setting.threads):
        model.fit(x, labels, batch_size=setting.batch, epochs=_WARM_EPOCHS + timed, verbose=0, callbacks=[watch])
    return watch.seconds[_WARM_EPOCHS:]


class _Stopwatch(callbacks.Callback):
    """Lists in ``seconds`` how long each epoch took."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._started = perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(perf_counter() - self._started)


def _model(setting: Setting) -> models.Sequential:
    stack: list[Any] = [layers.Input(shape=(setting.inputs,))]
    stack += [layers.Dense(units, activation="relu") for units in setting.hidden]
    stack.append(layers.Dense(setting.outputs, activation="softmax"))
    model = models.Sequential(stack)
    optimizer = optimizers.RMSprop(_RATE)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"], backend="cpu")
    return model


@cache
def _made(inputs: int) -> tuple[Array, Array, Array]:
    """Normal inputs, a number in [0, 1) beside each that decides by the density which ones stay, and labels."""
    rng = np.random.default_rng(_SEED)
    shape = (_MOST_ROWS, inputs)
    x = rng.standard_normal(shape, np.float32)
    x[x == 0] = 1
    return x, rng.random(shape, np.float32), rng.integers(0, Setting.outputs, _MOST_ROWS)


def _rows(setting: Setting, rows: int) -> tuple[Array, Array]:
    """Inputs of which the setting's share is not zero, and labels."""
    x, chance, labels = (array[:rows] for array in _made(setting.inputs))
    return (x if setting.density == 1 else x * (chance < np.float32(setting.density))), labels


def _alone(setting: Setting) -> float:
    """Seconds a sample of a setting that belongs to no sweep."""
    return _visit(setting, _batches(setting, FULL.seconds)).seconds


def _entry(lean: Setting) -> tuple[float, float]:
    """(Seconds a non-zero costs beside its products, FLOP/s of these), from two densities and two widths."""

    def seconds(units: int) -> float:
        few, many = (_alone(replace(lean, hidden=(units,), density=density)) for density in _DENSITIES)
        return (many - few) / ((_DENSITIES[1] - _DENSITIES[0]) * lean.inputs)

    low, high = (units * lean.threads for units in _WIDTHS)
    narrow, wide = seconds(low), seconds(high)
    a_unit = max(wide - narrow, wide / 10) / (high - low)  # noise can make the difference too small
    return max(0.0, narrow - low * a_unit), 4 / a_unit


def _update_seconds(threads: int) -> tuple[float, float, float]:
    """Seconds a weight of RMSprop where weights, gradients and state lie in L2, in L3 and in memory.

    The difference of two sizes is free of what a call costs.
    """
    caches = machine.caches()
    far = min(4 * caches.l3, _MOST_UPDATE_BYTES)
    l2, l3, memory = (
        _update_slope(total // (3 * DTYPE.itemsize), threads)
        for total in (caches.l2 * threads // 2, min(caches.l3 // 2, far // 2), far)
    )
    return l2, l3, memory


def _update_slope(weights: int, threads: int) -> float:
    arrays = [np.full(weights, 0.5, DTYPE) for _ in range(3)]

    def seconds(part: int) -> float:
        w, dw, mean_square = (array[:part] for array in arrays)
        return min(
            _timed(lambda: ops.rmsprop_step(w, dw, mean_square, learning_rate=_RATE)) for _ in range(_UPDATE_CALLS)
        )

    with _threads(threads):
        seconds(weights)
        whole, half = seconds(weights), seconds(weights // 2)
    return max(whole - half, whole / 20) / (weights - weights // 2)


def _timed(run: Callable[[], Any]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = fastnn.get_num_threads()
    fastnn.set_num_threads(count)
    try:
        yield
    finally:
        fastnn.set_num_threads(before)
