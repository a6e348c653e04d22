"""Optimizers, under Keras's names, arguments, defaults and formulas; each step is one fused op a parameter.

An optimizer keeps its state by parameter path ("dense/kernel"), made of zeros at the first step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import checks, ops
from fastnn.configurable import Configurable, find
from fastnn.engine.protocols import Array, Parameter


class Optimizer(Configurable):
    """Base class: learning rate, clipping, decay and state; subclasses give the step.

    ``weight_decay`` multiplies weights by 1 - weight_decay * learning_rate before each step. ``clipvalue`` clips every
    number of a gradient, ``clipnorm`` the norm of each gradient, ``global_clipnorm`` that of all together; one at most.
    """

    def __init__(
        self,
        learning_rate: float,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
    ) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = None if weight_decay is None else checks.real("weight_decay", weight_decay, minimum=0)
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = {key: value for key, value in clips.items() if value is not None}
        if len(given) > 1:
            raise ValueError(f"{', '.join(given)}: got {len(given)} kinds of clipping, wants one at most")
        for key, value in given.items():
            checks.real(key, value, minimum=0, open_low=True)
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.name = name or type(self).__name__.lower()
        self.iterations = 0
        self.state: dict[str, dict[str, Array]] = {}

    @property
    def learning_rate(self) -> float:
        """The step size; callbacks may set it while training runs."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = checks.real("learning_rate", value, minimum=0)

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state arrays that each parameter has; they are the op's operands of the same names."""
        return ()

    def build(self, parameters: Sequence[Parameter]) -> None:
        """Make the state of parameters that have none; ValueError where the state is that of another model."""
        for parameter in parameters:
            held = self.state.get(parameter.path)
            if held is None:
                self.state[parameter.path] = {slot: np.zeros_like(parameter.value) for slot in self.slots}
                continue
            for array in held.values():
                if array.shape != parameter.value.shape or array.dtype != parameter.value.dtype:
                    raise ValueError(
                        f"optimizer: got one that holds state of shape {array.shape} and dtype {array.dtype} for "
                        f"{parameter.path}, wants a new optimizer for another model"
                    )

    def apply(self, gradients: Sequence[Array], parameters: Sequence[Parameter]) -> None:
        """One step: update every parameter in place by its gradient."""
        self.build(parameters)
        self.iterations += 1
        name, options = self.rule
        step = getattr(ops, name)
        clipped = self._clip(gradients)
        for gradient, parameter in zip(clipped, parameters, strict=True):
            if self.weight_decay:
                parameter.value *= parameter.value.dtype.type(1 - self.weight_decay * self.learning_rate)
            step(parameter.value, gradient, **options, **self.state[parameter.path])

    @property
    def clipping(self) -> tuple[str, float] | None:
        """The kind of clipping and its limit; None where gradients stay as they are."""
        clips = (("clipvalue", self.clipvalue), ("clipnorm", self.clipnorm), ("global_clipnorm", self.global_clipnorm))
        return next(((kind, limit) for kind, limit in clips if limit is not None), None)

    def _clip(self, gradients: Sequence[Array]) -> Sequence[Array]:
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
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now."""
        return {
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "clipvalue": self.clipvalue,
            "global_clipnorm": self.global_clipnorm,
            "name": self.name,
        }


def _norm(gradients: Sequence[Array]) -> float:
    return math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients))


def _shrink(gradient: Array, norm: float, limit: float) -> Array:
    return gradient if norm <= limit else gradient * gradient.dtype.type(limit / norm)


class SGD(Optimizer):
    """Gradient descent, with momentum and Nesterov's form of it if asked for (``ops.sgd_step``)."""

    def __init__(
        self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False, **options: Any
    ) -> None:
        self.momentum = checks.real("momentum", momentum, minimum=0, maximum=1)
        self.nesterov = checks.instance("nesterov", nesterov, bool, "True or False")
        super().__init__(learning_rate, **options)

    @property
    def slots(self) -> tuple[str, ...]:
        """The velocity, where there is momentum."""
        return ("velocity",) if self.momentum else ()

    @property
    def rule(self) -> tuple[str, dict[str, Any]]:
        """The op that makes a step, and its options."""
        options = {"learning_rate": self.learning_rate, "momentum": self.momentum, "nesterov": self.nesterov}
        return "sgd_step", options

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now."""
        return {"momentum": self.momentum, "nesterov": self.nesterov, **super().get_config()}


class RMSprop(Optimizer):
    """RMSprop, epsilon inside the root (``ops.rmsprop_step``)."""

    def __init__(
        self,
        learning_rate: float = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Any,
    ) -> None:
        self.rho = checks.real("rho", rho, minimum=0, maximum=1)
        self.momentum = checks.real("momentum", momentum, minimum=0, maximum=1)
        self.epsilon = checks.real("epsilon", epsilon, minimum=0, open_low=True)
        self.centered = checks.instance("centered", centered, bool, "True or False")
        super().__init__(learning_rate, **options)

    @property
    def slots(self) -> tuple[str, ...]:
        """The mean square, the velocity where there is momentum, the mean where centred."""
        return ("mean_square", *(["velocity"] if self.momentum else []), *(["mean"] if self.centered else []))

    @property
    def rule(self) -> tuple[str, dict[str, Any]]:
        """The op that makes a step, and its options."""
        numbers = {"learning_rate": self.learning_rate, "rho": self.rho, "momentum": self.momentum}
        return "rmsprop_step", {**numbers, "epsilon": self.epsilon}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now."""
        own = {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon, "centered": self.centered}
        return {**own, **super().get_config()}


class Adam(Optimizer):
    """Adam, and AMSGrad if asked for (``ops.adam_step``)."""

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        self.beta_1 = checks.real("beta_1", beta_1, minimum=0, maximum=1, open_high=True)
        self.beta_2 = checks.real("beta_2", beta_2, minimum=0, maximum=1, open_high=True)
        self.epsilon = checks.real("epsilon", epsilon, minimum=0, open_low=True)
        self.amsgrad = checks.instance("amsgrad", amsgrad, bool, "True or False")
        super().__init__(learning_rate, **options)

    @property
    def slots(self) -> tuple[str, ...]:
        """The running means of gradient and square, and the largest of the latter for AMSGrad."""
        return ("m", "v", *(["v_max"] if self.amsgrad else []))

    @property
    def rule(self) -> tuple[str, dict[str, Any]]:
        """The op that makes a step, and its options."""
        numbers = {"learning_rate": self.learning_rate, "beta_1": self.beta_1, "beta_2": self.beta_2}
        return "adam_step", {**numbers, "epsilon": self.epsilon, "step": self.iterations}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now."""
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon, "amsgrad": self.amsgrad}
        return {**own, **super().get_config()}


NAMES: dict[str, type[Optimizer]] = {cls.__name__: cls for cls in (SGD, RMSprop, Adam)}


def get(identifier: Any, argument: str = "optimizer") -> Optimizer:
    """The optimizer that ``identifier`` means: a name in any case, a class, an object or a config."""
    if isinstance(identifier, str):
        names = {name.lower(): name for name in NAMES}
        identifier = names[checks.one_of(argument, identifier.lower(), names)]
    return find(argument, identifier, Optimizer, NAMES)
