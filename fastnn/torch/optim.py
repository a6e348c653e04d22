"""PyTorch's optimizers, whose step is one compiled call for all parameters.

Each is the class of ``torch.optim`` of the same name with another ``step``: arguments, groups, state and its keys,
hooks and schedulers are PyTorch's, and a state dict of one is one of the other. What a group asks for that is not
served here (``unserved`` says what), PyTorch's own step does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastnn import ops
from fastnn.torch.arrays import array_of, is_served, threads

__all__ = ["SGD", "Adam", "AdamW"]

Group = Mapping[str, Any]

# Settings of groups that PyTorch's own steps are for.
_THEIRS = ("capturable", "differentiable", "fused")


class _Compiled(torch.optim.Optimizer):
    """What the optimizers share: which groups are served, and the step."""

    # Names of a parameter's state, in the order of the step's operands.
    _slots: tuple[str, ...] = ()

    def unserved(self) -> str | None:
        """What PyTorch's own step is taken for now; None where the compiled one is."""
        for group in self.param_groups:
            for name in _THEIRS:
                if group.get(name):
                    return f"{name}={group[name]!r}"
            for name, value in group.items():
                if isinstance(value, Tensor):
                    return f"{name} is a tensor"
            reason = self._unserved(group)
            if reason is not None:
                return reason
            for parameter in group["params"]:
                if not is_served(parameter, parameter.grad):
                    return "a parameter or its gradient is not strided float32 or float64"
        return None

    def _unserved(self, group: Group) -> str | None:
        return None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all parameters that have gradients; ``closure``, if given, computes them anew first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.unserved() is not None:
            self._their_step()
        else:
            with torch.no_grad():
                for group in self.param_groups:
                    self._step(group)
        return loss

    def _their_step(self) -> None:
        step: Any = super().step
        function = step.__func__
        # hooks are called by the wrapper around ours
        (function.__wrapped__ if getattr(function, "hooked", False) else function)(self)

    def _step(self, group: Group) -> None:
        """The step of a group: by the dtype and place of the parameters, and by how many steps they have made."""
        alike: dict[Any, list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                alike[parameter.dtype, parameter.device, self._count(parameter, group)].append(parameter)
        for (_, _, count), parameters in alike.items():
            gradients: list[Any] = [parameter.grad for parameter in parameters]
            if group["maximize"]:
                gradients = list(torch._foreach_neg(gradients))
            if group["weight_decay"] and not self._is_decoupled(group):
                gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
            elif group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            states = [[self.state[parameter][name] for parameter in parameters] for name in self._names(group)]
            with threads():
                self._update(group, count, [list(map(array_of, each)) for each in (parameters, gradients, *states)])
            for written in (parameters, *states):
                torch.autograd.graph.increment_version(written)

    def _names(self, group: Group) -> Sequence[str]:
        """The names of the state that a group's parameters have, as the step takes it."""
        return self._slots

    def _is_decoupled(self, group: Group) -> bool:
        """Whether weights decay by themselves, and not through gradients."""
        return False

    def _count(self, parameter: Tensor, group: Group) -> int:
        """The number of the parameter's step, from 1, where that matters; its state is there then."""
        return 0

    def _update(self, group: Group, count: int, arrays: Sequence[list[Any]]) -> None:
        """The op, on weights, gradients and the parts of the state."""
        raise NotImplementedError(type(self).__name__)


class SGD(_Compiled, torch.optim.SGD):
    """``torch.optim.SGD``; momentum is PyTorch's own step."""

    def _unserved(self, group: Group) -> str | None:
        return "momentum" if group["momentum"] else None

    def _is_decoupled(self, group: Group) -> bool:
        return True  # without momentum it comes to the same

    def _update(self, group: Group, count: int, arrays: Sequence[list[Any]]) -> None:
        weights, slopes = arrays
        ops.sgd_step(weights, slopes, learning_rate=group["lr"])


class _Moments(_Compiled):
    """Adam's step in PyTorch's form: epsilon is added to the corrected root, a corrected one to that of the op."""

    def _unserved(self, group: Group) -> str | None:
        return None if group["eps"] > 0 else f"eps={group['eps']!r}"

    def _names(self, group: Group) -> Sequence[str]:
        return ("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else []))

    def _count(self, parameter: Tensor, group: Group) -> int:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            for name in self._names(group):
                state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        state["step"] += 1
        return int(state["step"])

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
