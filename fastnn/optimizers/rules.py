"""The optimizers, each the op of its step and its options."""

from __future__ import annotations

from typing import Any

from fastnn import checks
from fastnn.engine.protocols import Array
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


class AdamW(Adam):
    """Adam with weight decay (Loshchilov and Hutter 2019): ``Adam(weight_decay=0.004)``, in Keras's order."""

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        decay = checks.real("weight_decay", weight_decay, minimum=0)
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=decay, **options)


class Adagrad(Optimizer):
    """Adagrad, epsilon inside the root (``ops.adagrad_step``)."""

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        self.initial_accumulator_value = checks.real("initial_accumulator_value", initial_accumulator_value, minimum=0)
        self.epsilon = checks.real("epsilon", epsilon, minimum=0, open_low=True)
        super().__init__(learning_rate, **options)

    @property
    def slots(self) -> tuple[str, ...]:
        """The sum of squares."""
        return ("accumulator",)

    @property
    def starts(self) -> dict[str, float]:
        """The sum begins at ``initial_accumulator_value``."""
        return {"accumulator": self.initial_accumulator_value}

    @property
    def rule(self) -> tuple[str, dict[str, Any]]:
        """The op that makes a step, and its options."""
        return "adagrad_step", {"learning_rate": self._learning_rate, "epsilon": self.epsilon}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now."""
        own = {"initial_accumulator_value": self.initial_accumulator_value, "epsilon": self.epsilon}
        return {**own, **super().get_config()}


class Adadelta(Optimizer):
    """Adadelta (``ops.adadelta_step``); the paper's learning rate is 1."""

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        self.rho = checks.real("rho", rho, minimum=0, maximum=1)
        self.epsilon = checks.real("epsilon", epsilon, minimum=0, open_low=True)
        super().__init__(learning_rate, **options)

    @property
    def slots(self) -> tuple[str, ...]:
        """The running means of the squares of gradients and of steps."""
        return ("mean_square", "mean_moved")

    @property
    def rule(self) -> tuple[str, dict[str, Any]]:
        """The op that makes a step, and its options."""
        return "adadelta_step", {"learning_rate": self._learning_rate, "rho": self.rho, "epsilon": self.epsilon}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now."""
        return {"rho": self.rho, "epsilon": self.epsilon, **super().get_config()}


class _Moments(Optimizer):
    """What Adamax and Nadam share: decays of two moments, and a step that counts."""

    _op: str

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        self.beta_1 = checks.real("beta_1", beta_1, minimum=0, maximum=1, open_high=True)
        self.beta_2 = checks.real("beta_2", beta_2, minimum=0, maximum=1, open_high=True)
        self.epsilon = checks.real("epsilon", epsilon, minimum=0, open_low=True)
        super().__init__(learning_rate, **options)

    @property
    def rule(self) -> tuple[str, dict[str, Any]]:
        """The op that makes a step, and its options."""
        numbers = {"learning_rate": self._learning_rate, "beta_1": self.beta_1, "beta_2": self.beta_2}
        return self._op, {**numbers, "epsilon": self.epsilon, "step": self.iterations}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now."""
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {**own, **super().get_config()}


class Adamax(_Moments):
    """Adam with the largest gradient, fading, in place of the root of the mean square (``ops.adamax_step``)."""

    _op = "adamax_step"

    @property
    def slots(self) -> tuple[str, ...]:
        """The running mean of gradients, and the largest of them."""
        return ("m", "norm")


class Nadam(_Moments):
    """Adam with Nesterov's momentum (``ops.nadam_step``)."""

    _op = "nadam_step"

    @property
    def slots(self) -> tuple[str, ...]:
        """The running means of gradient and square."""
        return ("m", "v")


class Lion(Optimizer):
    """Steps of one size, by the sign of a running mean of gradients (``ops.lion_step``)."""

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        **options: Any,
    ) -> None:
        self.beta_1 = checks.real("beta_1", beta_1, minimum=0, maximum=1, open_low=True)
        self.beta_2 = checks.real("beta_2", beta_2, minimum=0, maximum=1)
        super().__init__(learning_rate, **options)

    @property
    def slots(self) -> tuple[str, ...]:
        """The running mean of gradients."""
        return ("m",)

    @property
    def rule(self) -> tuple[str, dict[str, Any]]:
        """The op that makes a step, and its options."""
        return "lion_step", {"learning_rate": self._learning_rate, "beta_1": self.beta_1, "beta_2": self.beta_2}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now."""
        return {"beta_1": self.beta_1, "beta_2": self.beta_2, **super().get_config()}


class Ftrl(Optimizer):
    """Follow The Regularized Leader (``ops.ftrl_step``); a rate of 0 is none of its, from a schedule neither.

    Of the weights that a layer begins with, the first step leaves nothing but what their gradient says.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **options: Any,
    ) -> None:
        self.learning_rate_power = checks.real("learning_rate_power", learning_rate_power, maximum=0)
        self.initial_accumulator_value = checks.real("initial_accumulator_value", initial_accumulator_value, minimum=0)
        self.l1_regularization_strength = checks.real(
            "l1_regularization_strength", l1_regularization_strength, minimum=0
        )
        self.l2_regularization_strength = checks.real(
            "l2_regularization_strength", l2_regularization_strength, minimum=0
        )
        self.l2_shrinkage_regularization_strength = checks.real(
            "l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength, minimum=0
        )
        self.beta = checks.real("beta", beta, minimum=0)
        super().__init__(learning_rate, **options)

    @property
    def slots(self) -> tuple[str, ...]:
        """The sum of squares, and what the weights are made of."""
        return ("accumulator", "linear")

    @property
    def starts(self) -> dict[str, float]:
        """The sum begins at ``initial_accumulator_value``."""
        return {"accumulator": self.initial_accumulator_value}

    def rates(self, first: int, count: int) -> Array:
        """The step sizes of ``count`` steps from step ``first`` on; ValueError where one is 0."""
        rates = super().rates(first, count)
        if not rates.all():
            raise ValueError("learning_rate: got 0, wants a finite number above 0 for Ftrl, which divides by it")
        return rates

    @property
    def _own(self) -> dict[str, float]:
        return {
            "learning_rate_power": self.learning_rate_power,
            "l1_regularization_strength": self.l1_regularization_strength,
            "l2_regularization_strength": self.l2_regularization_strength,
            "l2_shrinkage_regularization_strength": self.l2_shrinkage_regularization_strength,
            "beta": self.beta,
        }

    @property
    def rule(self) -> tuple[str, dict[str, Any]]:
        """The op that makes a step, and its options."""
        return "ftrl_step", {"learning_rate": self._learning_rate, **self._own}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the learning rate as it is now."""
        return {**self._own, "initial_accumulator_value": self.initial_accumulator_value, **super().get_config()}


class Rprop(Optimizer):
    """Resilient propagation with weight backtracking (``ops.rprop_step``), for whole data sets as batches.

    Every weight has a step size of its own, ``learning_rate`` at first, which grows by ``eta_plus`` while its gradient
    keeps the sign and shrinks by ``eta_minus`` where that turns; it stays within [step_min, step_max]. Later steps do
    not look at the learning rate, which is a number.

    With a ``threshold``, a fit stops after the epoch whose last step found every partial derivative, of the loss with
    penalties, smaller than that in magnitude: neuralnet's rule, where a batch is the whole data set.
    """

    def __init__(
        self,
        learning_rate: float = 0.1,
        eta_minus: float = 0.5,
        eta_plus: float = 1.2,
        step_min: float = 1e-6,
        step_max: float = 50.0,
        threshold: float | None = None,
        **options: Any,
    ) -> None:
        if isinstance(learning_rate, LearningRateSchedule):
            raise TypeError(
                f"learning_rate: got {checks.describe(learning_rate)}, wants a number: that of the first step"
            )
        self.eta_minus = checks.real("eta_minus", eta_minus, minimum=0, maximum=1, open_low=True, open_high=True)
        self.eta_plus = checks.real("eta_plus", eta_plus, minimum=1, open_low=True)
        self.step_min = checks.real("step_min", step_min, minimum=0)
        self.step_max = checks.real("step_max", step_max, minimum=self.step_min)
        self.threshold = None if threshold is None else checks.real("threshold", threshold, minimum=0)
        super().__init__(learning_rate, **options)

    @property
    def slots(self) -> tuple[str, ...]:
        """Every weight's step size, its last change (0 where that was undone) and its last gradient."""
        return ("step_size", "change", "gradient")

    @property
    def starts(self) -> dict[str, float]:
        """Step sizes begin at the learning rate."""
        return {"step_size": self._learning_rate}

    @property
    def forgets(self) -> bool:
        """Yes: only the signs of gradients stay."""
        return True

    @property
    def looks_at_state(self) -> bool:
        """Whether there is a threshold for ``converged``."""
        return self.threshold is not None

    @property
    def converged(self) -> bool:
        """Whether every partial derivative of the last step was below the threshold."""
        if self.threshold is None or not self.iterations:
            return False
        return all((abs(slots["gradient"]) < self.threshold).all() for slots in self.state.values())

    @property
    def _own(self) -> dict[str, float]:
        names = ("eta_minus", "eta_plus", "step_min", "step_max")
        return {name: getattr(self, name) for name in names}

    @property
    def rule(self) -> tuple[str, dict[str, Any]]:
        """The op that makes a step, and its options."""
        return "rprop_step", self._own

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**self._own, "threshold": self.threshold, **super().get_config()}
