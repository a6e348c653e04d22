"""The optimizers, each the op of its step and its options."""

from __future__ import annotations

from typing import Any

from fastnn import checks
from fastnn.optimizers.base import Optimizer
from fastnn.optimizers.schedules import LearningRateSchedule


class SGD(Optimizer):
    """Gradient descent, with momentum and Nesterov's form of it if asked for (``ops.sgd_step``)."""

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Any,
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
        options = {"learning_rate": self._learning_rate, "momentum": self.momentum, "nesterov": self.nesterov}
        return "sgd_step", options

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now."""
        return {"momentum": self.momentum, "nesterov": self.nesterov, **super().get_config()}


class RMSprop(Optimizer):
    """RMSprop, epsilon inside the root (``ops.rmsprop_step``)."""

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
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
        numbers = {"learning_rate": self._learning_rate, "rho": self.rho, "momentum": self.momentum}
        return "rmsprop_step", {**numbers, "epsilon": self.epsilon}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now."""
        own = {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon, "centered": self.centered}
        return {**own, **super().get_config()}


class Adam(Optimizer):
    """Adam, and AMSGrad if asked for (``ops.adam_step``)."""

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
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
        numbers = {"learning_rate": self._learning_rate, "beta_1": self.beta_1, "beta_2": self.beta_2}
        return "adam_step", {**numbers, "epsilon": self.epsilon, "step": self.iterations}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now."""
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon, "amsgrad": self.amsgrad}
        return {**own, **super().get_config()}
