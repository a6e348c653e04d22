"""Stochastic solvers: an optimizer of fastnn's, and when its learning rate changes and training ends.

Adam and momentum, Nesterov's too, are by the formulas of ``ops.adam_step`` and ``ops.sgd_step``, as in scikit-learn.
"""

from __future__ import annotations

from typing import Any

from fastnn import optimizers
from fastnn.optimizers import SGD, Adam, Optimizer

# A learning rate that "adaptive" does not divide any more, and what it divides by.
_LEAST, _DIVISOR = 1e-6, 5.0


class Solver:
    """``optimizer``, whose learning rate stays as it is."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def learning_rate(self) -> float:
        """The step size in use."""
        return float(self.optimizer.learning_rate)

    def end_epoch(self, samples: int) -> None:
        """Change the learning rate behind an epoch; so many ``samples`` were trained on so far."""

    def is_stopped(self, message: str, verbose: Any) -> bool:
        """Whether training ends where nothing improves, which ``message`` says, and is told if ``verbose``."""
        if verbose:
            print(f"{message} Stopping.")
        return True


class InverseScaling(Solver):
    """The learning rate is that of the beginning by (samples + 1)^power."""

    def __init__(self, optimizer: Optimizer, power: float) -> None:
        super().__init__(optimizer)
        self._first, self._power = self.learning_rate, power

    def end_epoch(self, samples: int) -> None:
        """Fall with the number of samples."""
        self.optimizer.learning_rate = self._first / (samples + 1) ** self._power


class Adaptive(Solver):
    """The learning rate is divided by 5 where nothing improves, until it is 1e-6 or less."""

    def is_stopped(self, message: str, verbose: Any) -> bool:
        """Not before the learning rate is small."""
        stops = self.learning_rate <= _LEAST
        if not stops:
            self.optimizer.learning_rate = self.learning_rate / _DIVISOR
        if verbose:
            told = "Learning rate too small. Stopping." if stops else f"Setting learning rate to {self.learning_rate:f}"
            print(f"{message} {told}")
        return stops


def solver_of(estimator: Any) -> Solver:
    """The solver that an estimator's parameters mean; an optimizer object among them stays as it is."""
    solver, rate = estimator.solver, float(estimator.learning_rate_init)
    if isinstance(solver, Optimizer):
        return Solver(type(solver).from_config(solver.get_config()))
    if solver == "adam":
        numbers = float(estimator.beta_1), float(estimator.beta_2), float(estimator.epsilon)
        return Solver(Adam(rate, *numbers))
    if solver != "sgd":
        made = optimizers.get(solver, "solver")
        made.learning_rate = rate
        return Solver(made)
    sgd = SGD(rate, float(estimator.momentum), bool(estimator.nesterovs_momentum))
    match estimator.learning_rate:
        case "invscaling":
            return InverseScaling(sgd, float(estimator.power_t))
        case "adaptive":
            return Adaptive(sgd)
    return Solver(sgd)
