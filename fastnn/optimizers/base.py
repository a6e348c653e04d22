"""What all optimizers share: step size, clipping, decay, averages of weights, state.

An optimizer keeps its state by parameter path ("dense/kernel"), made at the first step, of zeros but for what its
``starts`` say, and for the average, which starts as the weights.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np

from fastnn import backends, checks, configurable, constraints, ops, tape
from fastnn.configurable import Configurable, unknown_argument
from fastnn.engine.data import check_finite, numeric_array
from fastnn.engine.protocols import Array, Parameter
from fastnn.kernels.interrupts import held
from fastnn.optimizers import schedules
from fastnn.optimizers.schedules import LearningRateSchedule

# The slot of the running average of a parameter's weights.
AVERAGE = "average"

# What clips gradients on a device, by the argument that asks for it.
_ON_DEVICE = {"clipvalue": "by_value", "clipnorm": "by_norm", "global_clipnorm": "by_global_norm"}


class LearningRate(float):
    """The step size as a number, which also does what Keras's variable does: ``assign``, ``value``, ``numpy``."""

    def __new__(cls, optimizer: Optimizer, value: float) -> LearningRate:
        """The step size ``value`` of ``optimizer``."""
        made = super().__new__(cls, value)
        made._optimizer = optimizer
        return made

    _optimizer: Optimizer

    def assign(self, value: float) -> None:
        """Make ``value`` the optimizer's step size."""
        self._optimizer.learning_rate = value

    @property
    def value(self) -> float:
        """The optimizer's step size as it is now."""
        return float(self._optimizer.learning_rate)

    def numpy(self) -> Array:
        """The optimizer's step size as it is now, as an array without axes."""
        return np.array(self.value)

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (float(self),)


class Variable:
    """A part of an optimizer's state under Keras's name: ``path``, ``shape``, ``value``, ``numpy``, ``assign``.

    ``value`` of a slot is the array that steps write to.
    """

    def __init__(self, path: str, get: Callable[[], Any], set: Callable[[Any], None]) -> None:  # noqa: A002
        self.path = path
        self.name = path.rpartition("/")[2]
        self._get, self._set = get, set

    @property
    def value(self) -> Any:
        """The number or array as it is now."""
        return self._get()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return np.shape(self.value)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the value."""
        return np.asarray(self.value).dtype

    def numpy(self) -> Array:
        """A copy of the value, as an array."""
        return np.array(self.value)

    def assign(self, value: Any) -> None:
        """Take over ``value``; ValueError unless of the same shape and finite."""
        if np.shape(value) != self.shape:
            raise ValueError(f"{self.path}: got shape {np.shape(value)}, wants {self.shape}")
        if self.shape:
            check_finite(self.path, numeric_array(self.path, value), self.dtype)
        self._set(value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.value, dtype=dtype, copy=True if copy is None else copy)

    def __repr__(self) -> str:
        return f"<Variable {self.path} of shape {self.shape} and dtype {self.dtype}>"


# Arguments of older Keras, and what there is instead.
_OLDER = {"lr": "learning_rate", "decay": "a schedule as learning_rate, such as optimizers.schedules.InverseTimeDecay"}


class Optimizer(Configurable):
    """Base class: learning rate, clipping, decay, average and state; subclasses give the step.

    ``learning_rate`` is a number, or an object of ``schedules`` that gives that of every step by its number, from 0.
    ``weight_decay`` multiplies weights by 1 - weight_decay * learning_rate before each step. ``clipvalue`` clips every
    number of a gradient, ``clipnorm`` the norm of each gradient, ``global_clipnorm`` that of all together; one at most.

    With ``use_ema`` every step is followed by average = ema_momentum * average + (1 - ema_momentum) * weights, of the
    first step the weights themselves. The average takes the weights' place every ``ema_overwrite_frequency`` steps, and
    at the end of ``fit``.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        name: str | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise unknown_argument(type(self), next(iter(unknown)), _OLDER)
        self.iterations = 0
        self._rate: float | LearningRateSchedule = 0.0
        self.learning_rate = learning_rate
        self.weight_decay = None if weight_decay is None else checks.real("weight_decay", weight_decay, minimum=0)
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = {key: value for key, value in clips.items() if value is not None}
        if len(given) > 1:
            raise ValueError(f"{', '.join(given)}: got {len(given)} kinds of clipping, wants one at most")
        for key, value in given.items():
            checks.real(key, value, minimum=0, open_low=True)
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.use_ema = checks.instance("use_ema", use_ema, bool, "True or False")
        self.ema_momentum = checks.real("ema_momentum", ema_momentum, minimum=0, maximum=1)
        frequency = ema_overwrite_frequency
        self.ema_overwrite_frequency = (
            None if frequency is None else checks.positive_int("ema_overwrite_frequency", frequency)
        )
        self.name = name or type(self).__name__.lower()
        self.state: dict[str, dict[str, Array]] = {}
        self._without_decay: list[str] = []

    @property
    def learning_rate(self) -> LearningRate:
        """The step size, a float that can be ``assign``ed to; callbacks may set it while training runs.

        Of a schedule it is that of the next step. A number can then not be set (TypeError), another schedule can.
        """
        return LearningRate(self, self._learning_rate)

    @learning_rate.setter
    def learning_rate(self, value: float | LearningRateSchedule) -> None:
        if isinstance(value, LearningRateSchedule):
            self._rate = value
            return
        if isinstance(value, type) and issubclass(value, LearningRateSchedule):
            raise TypeError(f"learning_rate: got the class {value.__name__}, wants an object of it")
        number = checks.real("learning_rate", value, minimum=0)
        if self.schedule is not None:
            raise TypeError(
                f"learning_rate: got {number:g} while {type(self.schedule).__name__} is in use, wants another "
                "schedule, or an optimizer that was made with a number"
            )
        self._rate = number

    @property
    def schedule(self) -> LearningRateSchedule | None:
        """What gives the step size of every step; None where it is a number."""
        return self._rate if isinstance(self._rate, LearningRateSchedule) else None

    @property
    def _learning_rate(self) -> float:
        return float(self.rates(self.iterations, 1)[0]) if isinstance(self._rate, LearningRateSchedule) else self._rate

    def rates(self, first: int, count: int) -> Array:
        """The step sizes of ``count`` steps from step ``first`` on, in float64; steps count from 0.

        ValueError where the schedule gives a rate that is negative or not finite.
        """
        if not isinstance(self._rate, LearningRateSchedule):
            return np.full(count, self._rate)
        rates = self._rate.rates(first, count)
        wrong = np.flatnonzero(~(np.isfinite(rates) & (rates >= 0)))
        if wrong.size:
            step = wrong[0]
            raise ValueError(
                f"learning_rate: got {rates[step]:g} from {type(self._rate).__name__} for step {first + step}, "
                "wants a finite number of at least 0"
            )
        return rates

    @property
    def lr(self) -> float:
        """No name of the step size: setting it would do nothing."""
        raise AttributeError(f"{type(self).__name__} has no lr; the step size is learning_rate")

    @lr.setter
    def lr(self, value: float) -> None:
        raise AttributeError(f"{type(self).__name__} has no lr to set; the step size is learning_rate")

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state arrays that a step works on; they are the op's operands of the same names."""
        return ()

    @property
    def state_slots(self) -> tuple[str, ...]:
        """Names of the state arrays that each parameter has: those of a step, and the average if it is asked for."""
        return (*self.slots, AVERAGE) if self.use_ema else self.slots

    @property
    def starts(self) -> dict[str, float]:
        """What slots are full of before the first step, where that is not 0."""
        return {}

    @property
    def converged(self) -> bool:
        """Whether there is nothing left to learn, by the optimizer's own measure: ``fit`` asks after every epoch."""
        return False

    @property
    def looks_at_state(self) -> bool:
        """Whether ``converged`` looks at the state."""
        return False

    @property
    def forgets(self) -> bool:
        """Whether a gradient that is not finite may leave nothing behind the next step: somebody has to look before."""
        return False

    def build(self, parameters: Sequence[Parameter]) -> None:
        """Make the state of parameters that have none; ValueError where the state is that of another model."""
        for index, parameter in enumerate(parameters):
            if not hasattr(parameter, "path"):
                _check_parameter(f"parameters[{index}]", parameter)
            held = self.state.get(parameter.path)
            if held is None:
                starts = {AVERAGE: parameter.value, **self.starts}
                self.state[parameter.path] = {
                    slot: np.full_like(parameter.value, starts.get(slot, 0.0)) for slot in self.state_slots
                }
                continue
            for array in held.values():
                if array.shape != parameter.value.shape or array.dtype != parameter.value.dtype:
                    raise ValueError(
                        f"optimizer: got one that holds state of shape {array.shape} and dtype {array.dtype} for "
                        f"{parameter.path}, wants a new optimizer for another model"
                    )

    @property
    def variables(self) -> list[Variable]:
        """The count of steps, the step size where it is a number, then the slots of every parameter trained so far."""

        def count(value: Any) -> None:
            self.iterations = checks.integer("iteration", value, 0)

        found = [Variable(f"{self.name}/iteration", lambda: self.iterations, count)]
        if self.schedule is None:
            name = f"{self.name}/learning_rate"
            found.append(Variable(name, lambda: self._learning_rate, self.learning_rate.assign))
        for path, slots in self.state.items():
            for slot, array in slots.items():
                name = f"{self.name}/{path.replace('/', '_')}_{slot}"
                found.append(Variable(name, partial(slots.__getitem__, slot), partial(np.copyto, array)))
        return found

    def exclude_from_weight_decay(
        self, var_list: Iterable[Parameter] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Spare parameters from weight decay: those of ``var_list``, and those in whose path a pattern is found.

        ``var_names`` are regular expressions, such as ["bias"]. What was excluded before stays so.
        """
        patterns = [] if var_names is None else _patterns(var_names)
        for index, parameter in enumerate(() if var_list is None else var_list):
            _check_parameter(f"var_list[{index}]", parameter)
            patterns.append(f"^{re.escape(parameter.path)}$")
        self._without_decay += [pattern for pattern in patterns if pattern not in self._without_decay]

    def decay_of(self, path: str) -> float:
        """The share of a parameter's weights that goes before a step of rate 1; in proportion of others."""
        if not self.weight_decay or any(re.search(pattern, path) for pattern in self._without_decay):
            return 0.0
        return self.weight_decay

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Parameter]]) -> int:
        """One step from pairs of a gradient and its parameter; how many steps have been made.

        A gradient has its parameter's shape. Parameters without one (None) stay as they are, with a warning;
        ValueError where none has one. Nothing is changed unless all fit.
        """
        gradients, parameters, without = [], [], []
        for index, pair in enumerate(grads_and_vars):
            name = f"grads_and_vars[{index}]"
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise TypeError(f"{name}: got {checks.describe(pair)}, wants a pair (gradient, parameter)")
            gradient, parameter = pair
            if isinstance(gradient, tape.Followed):
                raise TypeError(
                    f"{name}[0]: got {gradient!r} {gradient.purpose}, wants an array: a program, which counts no "
                    "steps, calls step(gradients, parameters, rate, number), the last two arguments of its own"
                )
            _check_parameter(f"{name}[1]", parameter)
            if gradient is None:
                without.append(parameter.path)
                continue
            array = np.asarray(numeric_array(f"{name}[0]", gradient), parameter.value.dtype)
            if array.shape != parameter.value.shape:
                raise ValueError(
                    f"{name}[0]: got shape {array.shape}, wants {parameter.value.shape}, that of {parameter.path}"
                )
            gradients.append(array)
            parameters.append(parameter)
        if not gradients:
            raise ValueError("grads_and_vars: got no gradients, wants at least one")
        if without:
            warnings.warn(f"no gradients for {', '.join(without)}: they stay as they are", UserWarning, stacklevel=2)
        self.apply(gradients, parameters)
        return self.iterations

    def apply(self, gradients: Sequence[Array], parameters: Sequence[Parameter]) -> None:
        """One step: update every parameter in place by its gradient, its average, then do what its constraint says.

        An interrupt waits until all are updated. In ``fit`` the gradients are valid until the next step.
        """
        self.build(parameters)
        clipped, rate = self.clipped(gradients), self._learning_rate
        averaging = self.averaging(self.iterations, 1) if self.use_ema else ()
        with held():
            self.step(clipped, parameters, rate, self.iterations + 1)
            self.iterations += 1
            for parameter in parameters:
                for stays, due in averaging:
                    _average(parameter.value, self.state[parameter.path][AVERAGE], stays, due)
                constraints.enforce(parameter)

    def made_of_ops(self, parameters: Sequence[Parameter]) -> bool:
        """Whether ``apply`` calls nothing but ops for these parameters, wherever their arrays lie."""
        plain = type(self).apply is Optimizer.apply and not self.use_ema
        return plain and all(parameter.constraint is None for parameter in parameters)

    def recordable(self, parameters: Sequence[Parameter], clips: bool = False) -> bool:
        """Whether ``step`` of ``clipped`` gradients is all that ``apply`` does to these parameters.

        Then a program may record it; ``clips`` says that it can record clipping, too, as one of a device does. What
        gradients or weights that are not finite do to them has to stay in weights or state, unless it ``forgets``.
        """
        return self.made_of_ops(parameters) and (clips or self.clipping is None)

    def step(self, gradients: Sequence[Array], parameters: Sequence[Parameter], rate: float, number: int) -> None:
        """Decay and the op's step of every parameter, with the step size ``rate``, the ``number``-th, counted from 1.

        The state has to be made before.
        """
        name, options = self.rule
        now = {"learning_rate": rate, "step": number}
        given = {key: now.get(key, option) for key, option in options.items()}
        self._decay(parameters, rate)
        # one call for all of a dtype, which costs little more than that of one
        for dtype in {parameter.value.dtype for parameter in parameters}:
            pairs = [pair for pair in zip(gradients, parameters, strict=True) if pair[1].value.dtype == dtype]
            states = [self.state[parameter.path] for _, parameter in pairs]
            slots = {slot: [state[slot] for state in states] for slot in self.slots}
            weights, slopes = [parameter.value for _, parameter in pairs], [gradient for gradient, _ in pairs]
            getattr(ops, name)(weights, slopes, **given, **slots)

    def _decay(self, parameters: Sequence[Parameter], rate: float) -> None:
        """Let go the share of weights that goes before a step of this size."""
        decays = [self.decay_of(parameter.path) for parameter in parameters]
        left = {decay: 1 - decay * rate for decay in decays if decay}  # a number of a program each
        for parameter, decay in zip(parameters, decays, strict=True):
            if decay:
                ops.identity(tape.calculate("scaled", x=parameter.value, factor=left[decay]), out=parameter.value)

    def averaging(self, first: int, count: int) -> Array:
        """For each of ``count`` steps from step ``first`` on: the share of the average that stays, 0 in the first step.

        And whether the average then takes the weights' place: (count, 2). No rows without ``use_ema``.
        """
        steps = np.arange(first, first + count if self.use_ema else first)
        every = self.ema_overwrite_frequency
        due = np.zeros_like(steps) if every is None else (steps + 1) % every == 0
        return np.stack([np.where(steps > 0, self.ema_momentum, 0.0), due], axis=1)

    def finalize_variable_values(self, var_list: Iterable[Parameter]) -> None:
        """Let the averages of parameters take the place of their weights, where there are any: ``fit`` ends with it."""
        parameters = list(var_list)
        for index, parameter in enumerate(parameters):
            _check_parameter(f"var_list[{index}]", parameter)
        with held():
            for parameter in parameters if self.use_ema else ():
                if parameter.path in self.state:
                    parameter.value[...] = self.state[parameter.path][AVERAGE]

    @property
    def clipping(self) -> tuple[str, float] | None:
        """The kind of clipping and its limit; None where gradients stay as they are."""
        clips = (("clipvalue", self.clipvalue), ("clipnorm", self.clipnorm), ("global_clipnorm", self.global_clipnorm))
        return next(((kind, limit) for kind, limit in clips if limit is not None), None)

    def clipped(self, gradients: Sequence[Array]) -> Sequence[Array]:
        """The gradients that a step is made by: on a device, and in a program there, the same arrays."""
        recorder = backends.recorder()
        if self.clipping is not None and (recorder is not None or any(map(checks.is_on_device, gradients))):
            kind, limit = self.clipping
            how = _ON_DEVICE[kind]
            clip = backends.implementation("cuda", "clip", how)
            if recorder is None:
                clip(gradients, limit)
            else:
                recorder.changed(f"clip {how.replace('_', ' ')}", clip, {"gradients": gradients}, limit=limit)
            return gradients
        if self.clipvalue is not None:
            return [np.clip(g, -self.clipvalue, self.clipvalue) for g in gradients]
        if self.clipnorm is not None:
            return [_shrink(g, _norm([g]), self.clipnorm) for g in gradients]
        if self.global_clipnorm is not None:
            norm = _norm(gradients)
            return [_shrink(g, norm, self.global_clipnorm) for g in gradients]
        return gradients

    @property
    def rule(self) -> tuple[str, dict[str, Any]]:
        """The op that makes a step, and its options; a step that depends on its number counts from 1 in ``step``."""
        raise NotImplementedError(f"{type(self).__name__}: wants a property rule -> (name of an op, its options)")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now; what weight decay spares, if anything."""
        config = {
            "learning_rate": self._rate if self.schedule is None else schedules.serialize(self.schedule),
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "clipvalue": self.clipvalue,
            "global_clipnorm": self.global_clipnorm,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "name": self.name,
        }
        return {**config, "without_decay": list(self._without_decay)} if self._without_decay else config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The optimizer whose ``get_config`` gave ``config``."""
        arguments = dict(config)
        if isinstance(rate := arguments.get("learning_rate"), Mapping):
            arguments["learning_rate"] = configurable.deserialize("learning_rate", rate, schedules.NAMES)
        spared = arguments.pop("without_decay", ())
        made = super().from_config(arguments)
        made.exclude_from_weight_decay(var_names=spared)
        return made


def _check_parameter(name: str, parameter: Any) -> None:
    """TypeError unless it is a weight of a layer."""
    if not hasattr(parameter, "path") or not isinstance(getattr(parameter, "value", None), np.ndarray):
        raise TypeError(
            f"{name}: got {checks.describe(parameter)}, wants a parameter such as layer.kernel; arrays of your own are "
            "stepped by ops.sgd_step and the like"
        )


def _patterns(names: Iterable[str]) -> list[str]:
    """``names`` as regular expressions that compile."""
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise TypeError(f"var_names: got {checks.describe(names)}, wants a list such as ['bias']")
    patterns = list(names)
    for index, pattern in enumerate(patterns):
        checks.instance(f"var_names[{index}]", pattern, str, "a string")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"var_names[{index}]: got {pattern!r}, wants a regular expression ({error})") from None
    return patterns


def _average(weights: Array, average: Array, stays: float, due: bool) -> None:
    """Bring an average up to the weights of a new step; it takes their place where that is ``due``."""
    kept = average.dtype.type(stays)
    average *= kept
    average += (1 - kept) * weights
    if due:
        weights[...] = average


def _norm(gradients: Sequence[Array]) -> float:
    return math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients))


def _shrink(gradient: Array, norm: float, limit: float) -> Array:
    return gradient if norm <= limit else gradient * gradient.dtype.type(limit / norm)
