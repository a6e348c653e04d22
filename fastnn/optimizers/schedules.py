"""Schedules of the learning rate, under Keras's names, arguments, defaults and formulas.

A schedule gives the learning rate of a step by the step's number, which counts from 0: ``schedule(step)``, in float64,
of one number or of an array of them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import absent, checks, configurable
from fastnn.configurable import Configurable, undefined
from fastnn.engine.data import numeric_array
from fastnn.engine.protocols import Array


class LearningRateSchedule(Configurable):
    """Base class: define ``__call__(step)``, and ``get_config`` where the schedule is to be written down."""

    def __call__(self, step: Any) -> Any:
        """The learning rate of step ``step``."""
        raise undefined(self, "__call__(step) -> the learning rate of that step")

    def rates(self, first: int, count: int) -> Array:
        """The learning rates of ``count`` steps from ``first`` on, in float64."""
        return np.array([self(step) for step in range(first, first + count)], np.float64)


class _Formula(LearningRateSchedule):
    """A schedule that works on arrays of steps; its constructor's arguments are attributes of the same names."""

    name: str

    def __call__(self, step: Any) -> Any:
        """The learning rate of step ``step``, a number; for an array of steps an array. ValueError below step 0."""
        if np.ndim(step) == 0:
            return self._rate(np.asarray(checks.real("step", step, minimum=0)))[()]
        steps = np.asarray(numeric_array("step", step), np.float64)
        if steps.size and not steps.min() >= 0:
            raise ValueError(f"step: got {steps.min():g}, wants steps that count from 0")
        return self._rate(steps)

    def rates(self, first: int, count: int) -> Array:
        """The learning rates of ``count`` steps from ``first`` on, in float64."""
        return np.asarray(self._rate(np.arange(first, first + count, dtype=np.float64)))

    def _rate(self, step: Array) -> Array:
        """The learning rates of an array of steps, which are not negative."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}


class _Decay(_Formula):
    """What ExponentialDecay and InverseTimeDecay share."""

    def __init__(
        self, initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool, name: str
    ) -> None:
        self.initial_learning_rate = _rate_of("initial_learning_rate", initial_learning_rate)
        self.decay_steps = _length("decay_steps", decay_steps)
        self.decay_rate = checks.real("decay_rate", decay_rate, minimum=0)
        self.staircase = checks.instance("staircase", staircase, bool, "True or False")
        self.name = checks.instance("name", name, str, "a string")

    def _periods(self, step: Array) -> Array:
        """How many times ``decay_steps`` have passed, whole times alone on a staircase."""
        periods = step / self.decay_steps
        return np.floor(periods) if self.staircase else periods


class ExponentialDecay(_Decay):
    """``initial_learning_rate * decay_rate ** (step / decay_steps)``, the exponent rounded down with ``staircase``."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def _rate(self, step: Array) -> Array:
        with np.errstate(over="ignore"):  # a rate above 1 grows: who asks for such a step is told
            return np.asarray(self.initial_learning_rate * self.decay_rate ** self._periods(step))


class InverseTimeDecay(_Decay):
    """``initial_learning_rate / (1 + decay_rate * step / decay_steps)``, the ratio rounded down with ``staircase``."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def _rate(self, step: Array) -> Array:
        return np.asarray(self.initial_learning_rate / (1 + self.decay_rate * self._periods(step)))


class PiecewiseConstantDecay(_Formula):
    """``values[0]`` up to step ``boundaries[0]`` itself, then ``values[1]`` up to ``boundaries[1]``, and so on.

    The boundaries rise; there is one value more than boundaries.
    """

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant") -> None:
        self.boundaries = _numbers("boundaries", boundaries)
        self.values = _numbers("values", values)
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"values: got {len(self.values)} of them, wants {len(self.boundaries) + 1}, one more than boundaries"
            )
        if sorted(set(self.boundaries)) != self.boundaries:
            raise ValueError(f"boundaries: got {self.boundaries}, wants steps that rise")
        self.name = checks.instance("name", name, str, "a string")

    def _rate(self, step: Array) -> Array:
        return np.asarray(np.array(self.values)[np.searchsorted(self.boundaries, step)])


class PolynomialDecay(_Formula):
    """From ``initial_learning_rate`` to ``end_learning_rate`` as ``(1 - step / decay_steps) ** power``.

    Behind ``decay_steps`` the rate stays as it is; with ``cycle`` it jumps up again, and the way down is as long as the
    least multiple of ``decay_steps`` that the step is not beyond.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate = _rate_of("initial_learning_rate", initial_learning_rate)
        self.decay_steps = _length("decay_steps", decay_steps)
        self.end_learning_rate = _rate_of("end_learning_rate", end_learning_rate)
        self.power = checks.real("power", power, minimum=0)
        self.cycle = checks.instance("cycle", cycle, bool, "True or False")
        self.name = checks.instance("name", name, str, "a string")

    def _rate(self, step: Array) -> Array:
        done = step / self.decay_steps
        done = done / np.maximum(np.ceil(done), 1) if self.cycle else np.minimum(done, 1)
        span = self.initial_learning_rate - self.end_learning_rate
        return np.asarray(span * (1 - done) ** self.power + self.end_learning_rate)


class CosineDecay(_Formula):
    """Half a cosine in ``decay_steps``, from ``initial_learning_rate`` to ``alpha`` times that, where it then stays.

    With ``warmup_target`` a straight line leads in ``warmup_steps`` from ``initial_learning_rate`` to that, and the
    cosine from there to ``alpha`` times that. Without one ``warmup_steps`` mean nothing.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ) -> None:
        self.initial_learning_rate = _rate_of("initial_learning_rate", initial_learning_rate)
        self.decay_steps = _length("decay_steps", decay_steps)
        self.alpha = checks.real("alpha", alpha, minimum=0)
        self.name = checks.instance("name", name, str, "a string")
        self.warmup_target = None if warmup_target is None else _rate_of("warmup_target", warmup_target)
        self.warmup_steps = checks.real("warmup_steps", warmup_steps, minimum=0)

    def _rate(self, step: Array) -> Array:
        if self.warmup_target is None:
            return self.initial_learning_rate * self._decayed(step)
        steps = self.warmup_steps
        warmed = step / steps if steps else np.ones_like(step)
        line = self.initial_learning_rate + (self.warmup_target - self.initial_learning_rate) * warmed
        return np.where(step < steps, line, self.warmup_target * self._decayed(np.maximum(step - steps, 0)))

    def _decayed(self, step: Array) -> Array:
        return _cosine(np.minimum(step / self.decay_steps, 1), self.alpha)


class CosineDecayRestarts(_Formula):
    """Half cosines down, the first one in ``first_decay_steps``: warm restarts, as in SGDR.

    Each is ``t_mul`` times as long as the one before and begins at ``m_mul`` times its rate; ``alpha`` times
    ``initial_learning_rate`` is the least.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        self.initial_learning_rate = _rate_of("initial_learning_rate", initial_learning_rate)
        self.first_decay_steps = _length("first_decay_steps", first_decay_steps)
        self.t_mul = checks.real("t_mul", t_mul, minimum=1)
        self.m_mul = checks.real("m_mul", m_mul, minimum=0)
        self.alpha = checks.real("alpha", alpha, minimum=0)
        self.name = checks.instance("name", name, str, "a string")

    def _rate(self, step: Array) -> Array:
        done = step / self.first_decay_steps
        restarts = self._restarts(done)
        within = (done - self._begin(restarts)) / self.t_mul**restarts
        return self.initial_learning_rate * _cosine(within, self.alpha, self.m_mul**restarts)

    def _restarts(self, done: Array) -> Array:
        """How many cosines are behind, ``done`` in units of the first one's length."""
        if self.t_mul == 1:
            return np.floor(done)
        found = np.floor(np.log1p(done * (self.t_mul - 1)) / math.log(self.t_mul))
        # the logarithm may be off by its rounding where a cosine begins
        found = np.where(done < self._begin(found), found - 1, found)
        return np.where(done >= self._begin(found + 1), found + 1, found)

    def _begin(self, restarts: Array) -> Array:
        """Where a cosine begins, in units of the first one's length: 1 + t_mul + t_mul**2 + ..., a term a restart."""
        if self.t_mul == 1:
            return restarts
        return np.asarray((self.t_mul**restarts - 1) / (self.t_mul - 1))


NAMES: dict[str, type[LearningRateSchedule]] = {
    cls.__name__: cls
    for cls in (
        ExponentialDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
        InverseTimeDecay,
        CosineDecay,
        CosineDecayRestarts,
    )
}


def serialize(learning_rate_schedule: LearningRateSchedule) -> dict[str, Any] | None:
    """The schedule as JSON can hold it; ValueError for one of the user's own, which a file could not name."""
    checks.instance("learning_rate_schedule", learning_rate_schedule, LearningRateSchedule, "a schedule object")
    return configurable.serialize(learning_rate_schedule, NAMES)


def deserialize(
    config: Mapping[str, Any], custom_objects: Mapping[str, type[LearningRateSchedule]] | None = None
) -> LearningRateSchedule:
    """The schedule that ``serialize`` wrote as ``config``, of fastnn's classes or of ``custom_objects``, by name."""
    return configurable.deserialize("config", config, {**NAMES, **(custom_objects or {})})


def _cosine(done: Array, alpha: float, height: float | Array = 1.0) -> Array:
    """From ``height`` at 0 to 0 at 1, by half a cosine, brought up so that the least is ``alpha``."""
    return np.asarray((1 - alpha) * height * (1 + np.cos(np.pi * done)) / 2 + alpha)


def _rate_of(name: str, value: Any) -> float:
    return checks.real(name, value, minimum=0)


def _length(name: str, value: Any) -> float:
    return checks.real(name, value, minimum=0, open_low=True)


def _numbers(name: str, values: Any) -> list[float]:
    """A list of numbers that are not negative."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, (Sequence, np.ndarray)):
        raise TypeError(f"{name}: got {checks.describe(values)}, wants a list of numbers")
    return [checks.real(f"{name}[{index}]", value, minimum=0) for index, value in enumerate(values)]


__all__ = ["LearningRateSchedule", "deserialize", "serialize", *NAMES]
absent.explain(__name__)
