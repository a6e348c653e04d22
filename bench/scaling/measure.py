"""The stopwatch of a sweep: training epochs inside ``fit``.

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
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np

import fastnn
from bench import attempts, load
from bench.scaling.sweeps import Setting, Sweep
from fastnn import callbacks, layers, models, optimizers
from fastnn.engine.protocols import Array
from fastnn.kernels.cpu.peak import measure as measured_peak

DTYPE = np.dtype(np.float32)

# What `peak` measures, for people to read.
PEAK = "multiply-adds on registers, as fastnn info --peak measures them"

_SEED = 5
# 784 float32 a row: 128 MB, more than most caches hold; of wide rows fewer, 328 MB.
_MOST_ROWS, _MOST_NUMBERS = 40_960, 81_920_000
_LEAST_BATCHES = 5
_PROBE_BATCHES = 5
_WARM_EPOCHS, _TIMED_EPOCHS = 1, 3
_RATE = 1e-4  # small: no point may diverge on labels that are noise


@dataclass(frozen=True)
class Effort:
    """Visits to each point, and seconds that the difference of the two epochs should take."""

    rounds: int
    seconds: float


FULL = Effort(rounds=3, seconds=0.08)
QUICK = Effort(rounds=1, seconds=0.03)


@dataclass(frozen=True)
class Visit:
    """Seconds a sample, what an epoch costs beyond its batches, and the cores that other processes used meanwhile."""

    seconds: float
    epoch_seconds: float
    others: float


@dataclass(frozen=True)
class Point:
    """One point of a curve: its ``visits``, whose long epoch had so many ``batches``."""

    value: float
    setting: Setting
    batches: int
    visits: tuple[Visit, ...]

    @property
    def seconds(self) -> float:
        """Seconds a sample: the median of the visits."""
        return statistics.median(visit.seconds for visit in self.visits)

    @property
    def spread(self) -> float:
        """Half the distance of the extreme visits from each other, relative to the median."""
        seconds = [visit.seconds for visit in self.visits]
        return (max(seconds) - min(seconds)) / 2 / self.seconds

    @property
    def disturbed(self) -> bool:
        """Whether other processes took a core that its threads needed."""
        return attempts.disturbed([visit.others for visit in self.visits], self.setting.threads)

    def share(self, peak: float) -> float:
        """Share of ``peak``, the FLOP/s of as many threads; products of zeros are no work."""
        return self.setting.useful_flops / self.seconds / peak


@dataclass(frozen=True)
class Curve:
    """One sweep on one number of threads."""

    sweep: Sweep
    threads: int
    points: Sequence[Point]


def peak(threads: int) -> float:
    """FLOP/s that this machine can do on so many threads."""
    return measured_peak(str(DTYPE), threads)


def measure(sweep: Sweep, effort: Effort, tell: Callable[[], object] = lambda: None) -> list[Curve]:
    """The sweep's curves, one for each number of threads; ``tell`` is called after each visit."""
    settings = [sweep.at(value, threads) for threads in sweep.threads for value in sweep.values]
    visits: dict[Setting, list[Visit]] = {setting: [] for setting in settings}
    batches: dict[Setting, int] = {}
    shuffled = random.Random(_SEED)
    for _ in range(effort.rounds):
        for setting in shuffled.sample(settings, len(settings)):
            if setting not in batches:
                batches[setting] = _batches(setting, effort.seconds)
            visits[setting].append(_visit(setting, batches[setting]))
            tell()

    def point(value: float, threads: int) -> Point:
        setting = sweep.at(value, threads)
        return Point(value, setting, batches[setting], tuple(visits[setting]))

    return [Curve(sweep, threads, [point(value, threads) for value in sweep.values]) for threads in sweep.threads]


def _visit(setting: Setting, batches: int) -> Visit:
    watch = load.Watch()
    model = _model(setting)
    short = statistics.median(_epochs(model, setting, 1))
    long = statistics.median(_epochs(model, setting, batches))
    # a disturbance can make the short epoch the longer one: a long one without its start is then the better figure
    a_batch = (long - short) / (batches - 1) if long > short else long / batches
    return Visit(a_batch / setting.batch, max(0.0, short - a_batch), watch.others())


def _batches(setting: Setting, seconds: float) -> int:
    """Batches of the long epoch: for ``seconds``, and for twice what an epoch costs once, as far as the rows go."""
    model = _model(setting)
    short, probe = (min(_epochs(model, setting, count, timed=1)) for count in (1, _PROBE_BATCHES))
    a_batch = max((probe - short) / (_PROBE_BATCHES - 1), probe / _PROBE_BATCHES / 10)
    wanted = math.ceil(max(seconds, 2 * short) / a_batch)
    return max(_LEAST_BATCHES, min(wanted, _most_rows(setting.inputs) // setting.batch))


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


def _most_rows(inputs: int) -> int:
    return min(_MOST_ROWS, _MOST_NUMBERS // inputs)


@cache
def _made(inputs: int) -> tuple[Array, Array, Array]:
    """Normal inputs, a number in [0, 1) beside each that decides by the density which ones stay, and labels."""
    rng = np.random.default_rng(_SEED)
    rows = _most_rows(inputs)
    shape = (rows, inputs)
    x = rng.standard_normal(shape, np.float32)
    x[x == 0] = 1
    return x, rng.random(shape, np.float32), rng.integers(0, Setting.outputs, rows)


def _rows(setting: Setting, rows: int) -> tuple[Array, Array]:
    """Inputs of which the setting's share is not zero, and labels."""
    x, chance, labels = (array[:rows] for array in _made(setting.inputs))
    return (x if setting.density == 1 else x * (chance < np.float32(setting.density))), labels


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = fastnn.get_num_threads()
    fastnn.set_num_threads(count)
    try:
        yield
    finally:
        fastnn.set_num_threads(before)
