"""PyTorch's optimizers, whose step is one compiled call for all parameters.

Each is the class of ``torch.optim`` of the same name with another ``step``: arguments, groups, state and its keys,
hooks and schedulers are PyTorch's, and a state dict of one is one of the other. What a group asks for that is not
served here (``unserved`` says what), PyTorch's own step does.
"""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from fastnn import ops
from fastnn.torch.arrays import array_of, held_array_of, is_served, threads

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "RMSprop"]

Group = Mapping[str, Any]

# The dtypes of counts of steps, by whether numbers are float64 by default.
_COUNTS = (torch.float32, torch.float64)


def _any(value: Any) -> bool:
    return True


def _share(value: float) -> bool:
    return 0 <= value <= 1


# Which values the ops take of settings that PyTorch leaves freer, or has steps of its own for.
_SERVED: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("capturable", "differentiable", "fused"), operator.not_),
    **dict.fromkeys(("alpha", "dampening", "momentum"), _share),
    "eps": lambda value: value > 0,
    "lr": lambda value: 0 <= value < math.inf,
}


def _hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """Say of a step that it calls hooks itself, so that PyTorch wraps nothing around it."""
    step.hooked = True  # type: ignore[attr-defined]
    return step


class _Compiled(torch.optim.Optimizer):
    """What the optimizers share: which groups are served, and the step."""

    # Values of groups, other than their parameters, that were served at the last step.
    _values: Sequence[Any] = ()

    def unserved(self) -> str | None:
        """What PyTorch's own step is taken for now; None where the compiled one is."""
        for group in self.param_groups:
            for name, value in group.items():
                if isinstance(value, Tensor):
                    return f"{name} is a tensor"
                if not _SERVED.get(name, _any)(value):
                    return f"{name}={value!r}"
            for parameter in group["params"]:
                if not is_served(parameter, parameter.grad):
                    return "a parameter or its gradient is not strided float32 or float64"
        return None

    def _is_served(self) -> bool:
        """Whether the compiled step is taken now.

        A group's values are the same objects from step to step until somebody gives it others: only then all are
        looked at again.
        """
        values = [value for group in self.param_groups for name, value in group.items() if name != "params"]
        if len(values) == len(self._values) and all(map(operator.is_, values, self._values)):
            parameters = [parameter for group in self.param_groups for parameter in group["params"]]
            if is_served(*parameters, *[parameter.grad for parameter in parameters]):
                return True
        self._values = values if self.unserved() is None else ()
        return bool(self._values)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Let go of all gradients, or fill them with zeros, as ``torch.optim.Optimizer.zero_grad``."""
        if not set_to_none:
            super().zero_grad(set_to_none=False)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @_hooked
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all parameters that have gradients; ``closure``, if given, computes them anew first."""
        given = () if closure is None else (closure,)
        return (_watched_step if self._is_watched() else _Compiled._step_groups)(self, *given)

    def _is_watched(self) -> bool:
        """Whether a step has hooks or a profiler."""
        hooks = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        everywhere = _global_optimizer_pre_hooks or _global_optimizer_post_hooks
        return bool(hooks or everywhere or torch._C._autograd._profiler_enabled())

    def _step_groups(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._is_served():
            for group in self.param_groups:
                self._step(group)
        else:
            self._their_step()
        return loss

    def _their_step(self) -> None:
        step: Any = super().step
        function = step.__func__
        # hooks are called by the wrapper around ours
        (function.__wrapped__ if getattr(function, "hooked", False) else function)(self)

    def _step(self, group: Group) -> None:
        """The step of a group: by the dtype and place of the parameters, and by how many steps they have made."""
        alike: dict[Any, list[Tensor]] = defaultdict(list)
        with_gradients = [parameter for parameter in group["params"] if parameter.grad is not None]
        for parameter, count in zip(with_gradients, self._counts(with_gradients, group), strict=True):
            alike[parameter.dtype, parameter.device, count].append(parameter)
        names, changes = self._names(group), group["maximize"] or group["weight_decay"]
        for (_, _, count), parameters in alike.items():
            gradients: list[Any] = [parameter.grad for parameter in parameters]
            if changes:
                gradients = self._decayed(group, parameters, gradients)
            held = [self.state[parameter] for parameter in parameters] if names else []
            states = [[each[name] for each in held] for name in names]
            with threads():
                slopes = list(map(array_of, gradients))
                weights, *others = (list(map(held_array_of, each)) for each in (parameters, *states))
                self._update(group, count, [weights, slopes, *others])
            torch.autograd.graph.increment_version([*parameters, *chain(*states)])

    @torch.no_grad()
    def _decayed(self, group: Group, parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """What to step by: the gradients, with weights decayed in them, or by themselves."""
        if group["maximize"]:
            gradients = list(torch._foreach_neg(gradients))
        if group["weight_decay"] and not self._is_decoupled(group):
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        elif group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        return gradients

    def _names(self, group: Group) -> Sequence[str]:
        """The names of a parameter's state, in the order of the op's operands."""
        return ()

    def _is_decoupled(self, group: Group) -> bool:
        """Whether weights decay by themselves, and not through gradients."""
        return False

    def _counts(self, parameters: Sequence[Tensor], group: Group) -> Sequence[int]:
        """The number of each parameter's step, from 1, where that matters; its state is there then."""
        return [0] * len(parameters)

    def _stepped(self, parameters: Sequence[Tensor], group: Group) -> Sequence[int]:
        """One step more in each parameter's state, made of zeros where there is none: how many there are."""
        steps = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=_COUNTS[torch.get_default_dtype() is torch.float64])
                for name in self._names(group):
                    state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            steps.append(state["step"])
        if steps:
            torch._foreach_add_(steps, 1)
        return list(map(int, steps))

    def _update(self, group: Group, count: int, arrays: Sequence[list[Any]]) -> None:
        """The op, on weights, gradients and the parts of the state."""
        raise NotImplementedError(type(self).__name__)


# The same with hooks and what profilers ask for, as PyTorch wraps every optimizer's step.
_watched_step: Callable[..., Any] = torch.optim.Optimizer.profile_hook_step(_Compiled._step_groups)


class SGD(_Compiled, torch.optim.SGD):
    """``torch.optim.SGD``."""

    def _names(self, group: Group) -> Sequence[str]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def _is_decoupled(self, group: Group) -> bool:
        return not group["momentum"]  # without it both come to the same

    def _counts(self, parameters: Sequence[Tensor], group: Group) -> Sequence[int]:
        """1 for the first step, 2 for others: the buffer begins as the gradient, which nothing dampens."""
        if not group["momentum"]:
            return [2] * len(parameters)
        first = [parameter for parameter in parameters if self.state[parameter].get("momentum_buffer") is None]
        for parameter in first:
            self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter.grad)  # type: ignore[arg-type]
        return [1 if any(parameter is each for each in first) else 2 for parameter in parameters]

    def _update(self, group: Group, count: int, arrays: Sequence[list[Any]]) -> None:
        weights, slopes, *state = arrays
        if not state:
            ops.sgd_step(weights, slopes, learning_rate=group["lr"])
            return
        dampening = 0.0 if count == 1 else group["dampening"]
        ops.heavy_ball_step(
            weights,
            slopes,
            state[0],
            learning_rate=group["lr"],
            momentum=group["momentum"],
            dampening=dampening,
            nesterov=group["nesterov"],
        )


class RMSprop(_Compiled, torch.optim.RMSprop):
    """``torch.optim.RMSprop``."""

    def _names(self, group: Group) -> Sequence[str]:
        velocity, mean = bool(group["momentum"]), bool(group["centered"])
        return ("square_avg", *["momentum_buffer"] * velocity, *["grad_avg"] * mean)

    def _counts(self, parameters: Sequence[Tensor], group: Group) -> Sequence[int]:
        self._stepped(parameters, group)
        return [0] * len(parameters)

    def _update(self, group: Group, count: int, arrays: Sequence[list[Any]]) -> None:
        weights, slopes, *states = arrays
        held: dict[str, Any] = dict(zip(self._names(group), states, strict=True))
        ops.rmsprop_root_step(
            weights,
            slopes,
            held["square_avg"],
            held.get("momentum_buffer"),
            held.get("grad_avg"),
            learning_rate=group["lr"],
            rho=group["alpha"],
            momentum=group["momentum"],
            epsilon=group["eps"],
        )


class Adagrad(_Compiled, torch.optim.Adagrad):
    """``torch.optim.Adagrad``."""

    def _names(self, group: Group) -> Sequence[str]:
        return ("sum",)

    def _counts(self, parameters: Sequence[Tensor], group: Group) -> Sequence[int]:
        """The step's numbers where rates decay by them."""
        counts = self._stepped(parameters, group)
        return counts if group["lr_decay"] else [0] * len(parameters)

    def _update(self, group: Group, count: int, arrays: Sequence[list[Any]]) -> None:
        rate = group["lr"] / (1 + (count - 1) * group["lr_decay"]) if count else group["lr"]
        weights, slopes, total = arrays
        ops.adagrad_root_step(weights, slopes, total, learning_rate=rate, epsilon=group["eps"])


class _Moments(_Compiled):
    """Adam's step in PyTorch's form: epsilon is added to the corrected root, a corrected one to that of the op."""

    def _names(self, group: Group) -> Sequence[str]:
        return ("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else []))

    def _counts(self, parameters: Sequence[Tensor], group: Group) -> Sequence[int]:
        return self._stepped(parameters, group)

    def _update(self, group: Group, count: int, arrays: Sequence[list[Any]]) -> None:
        beta_1, beta_2 = group["betas"]
        epsilon = group["eps"] * (1 - beta_2**count) ** 0.5
        weights, slopes, m, v, *largest = arrays
        v_max = largest[0] if largest else None
        ops.adam_step(weights, slopes, m, v, count, v_max, group["lr"], beta_1, beta_2, epsilon)


class Adam(_Moments, torch.optim.Adam):
    """``torch.optim.Adam``."""

    def _is_decoupled(self, group: Group) -> bool:
        return bool(group.get("decoupled_weight_decay"))


class AdamW(_Moments, torch.optim.AdamW):
    """``torch.optim.AdamW``."""

    def _is_decoupled(self, group: Group) -> bool:
        return True
