"""thinc's optimizers over fastnn's kernels: its own call NumPy's operations for NumPy's arrays, whichever ops are set.

Rules, schedules and state are thinc's: ``Model.finish_update`` takes one in place of the other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from thinc.config import registry
from thinc.optimizers import ADAM_DEFAULTS, SGD_DEFAULTS
from thinc.optimizers import Optimizer as ThincOptimizer

from fastnn import ops
from fastnn.thinc.ops import FastnnOps, served

# The numbers of a step, which may each be a schedule.
_SCHEDULES = ("learn_rate", "b1", "b2", "eps", "L2", "grad_clip")


class Optimizer(ThincOptimizer):
    """thinc's ``Optimizer``, with the steps of Adam and SGD and the averages of weights by fastnn's kernels.

    It steps NumPy arrays of float32 and, beyond thinc's, of float64, whose moments and averages are then of float64.
    RAdam, arrays of a device, and numbers that the kernels refuse (a negative rate) are thinc's to step.
    """

    __slots__: list[str] = []  # as thinc's, which take no other attributes

    def __call__(self, key: Any, weights: Any, gradient: Any, *, lr_scale: float = 1.0) -> Any:
        """Step the weights of a parameter by its gradient, which becomes 0; both, as thinc's gives them back."""
        given = {"key": key, "last_score": self.last_score}
        rate, beta_1, beta_2, epsilon, decay, clip = (
            float(getattr(self, name)(self.step, **given)) for name in _SCHEDULES
        )
        rate *= lr_scale
        if not self._serves(weights, gradient, rate, beta_1, beta_2, epsilon):
            return super().__call__(key, weights, gradient, lr_scale=lr_scale)
        self.nr_update[key] += 1
        count = self.nr_update[key]
        if decay and not self.L2_is_weight_decay:
            gradient += decay * weights
        if clip:
            gradient = _OPS.clip_gradient(gradient, clip)
        if beta_1:
            mean, square = (self._state(each, key, weights).reshape(weights.shape) for each in (self.mom1, self.mom2))
            ops.adam_step(weights, gradient, mean, square, count, None, rate, beta_1, beta_2, epsilon)
        else:
            ops.sgd_step(weights, gradient, learning_rate=rate)
        gradient.fill(0)
        if decay and self.L2_is_weight_decay:
            weights *= 1.0 - rate * decay
        if self.averages is not None:
            average = self._state(self.averages, key, weights)
            _OPS.update_averages(average.reshape(weights.shape), weights, count)
        return weights, gradient

    def _serves(self, weights: Any, gradient: Any, rate: float, beta_1: float, beta_2: float, epsilon: float) -> bool:
        """Whether a step is Adam's or SGD's, on arrays and with numbers that kernels take."""
        adams = 0.0 < beta_1 < 1.0 and 0.0 < beta_2 < 1.0 and 0.0 < epsilon < math.inf
        return (
            not self.use_radam
            and served(weights, gradient)
            and weights.size > 0
            and (adams or beta_1 == beta_2 == 0.0)
            and 0.0 <= rate < math.inf
        )

    @staticmethod
    def _state(state: Any, key: Any, weights: Any) -> Any:
        """A moment or the average of a parameter, which begins as zeros."""
        if key not in state:
            state[key] = np.zeros(weights.shape, weights.dtype)
        return state[key]


@registry.optimizers("fastnn.Adam.v1")
def Adam(  # noqa: N802 - thinc's name
    learn_rate: Any = ADAM_DEFAULTS["learn_rate"],
    *,
    L2: Any = ADAM_DEFAULTS["L2"],
    beta1: Any = ADAM_DEFAULTS["beta1"],
    beta2: Any = ADAM_DEFAULTS["beta2"],
    eps: Any = ADAM_DEFAULTS["eps"],
    grad_clip: Any = ADAM_DEFAULTS["grad_clip"],
    L2_is_weight_decay: bool = True,
    use_averages: bool = True,
) -> Optimizer:
    """thinc's ``Adam``, its arguments and defaults, over fastnn's kernels."""
    return Optimizer(
        learn_rate,
        L2=L2,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        grad_clip=grad_clip,
        L2_is_weight_decay=L2_is_weight_decay,
        use_averages=use_averages,
    )


@registry.optimizers("fastnn.SGD.v1")
def SGD(  # noqa: N802 - thinc's name
    learn_rate: Any,
    *,
    L2: Any = SGD_DEFAULTS["L2"],
    grad_clip: Any = SGD_DEFAULTS["grad_clip"],
    L2_is_weight_decay: bool = True,
    use_averages: bool = True,
) -> Optimizer:
    """thinc's ``SGD``, its arguments and defaults, over fastnn's kernels."""
    return Optimizer(
        learn_rate,
        L2=L2,
        beta1=0.0,
        beta2=0.0,
        grad_clip=grad_clip,
        L2_is_weight_decay=L2_is_weight_decay,
        use_averages=use_averages,
    )


# What clips gradients and averages weights.
_OPS = FastnnOps()
