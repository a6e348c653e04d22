"""Ops as a PyTorch user writes them who minds the cost: on tensors, without autograd, into ``out``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]

from fastnn import get_num_threads

torch.set_num_threads(get_num_threads())


aten = torch.ops.aten


def softmax_cross_entropy(logits: Any, targets: Any, out: Any) -> Any:
    """Half the time of ``cross_entropy`` and ``backward``, as stable: log sum exp comes from the largest logit."""
    torch.softmax(logits, 1, out=out)
    largest, where = logits.max(dim=1, keepdim=True)
    chosen = targets[:, None]
    loss = (largest - out.gather(1, where).log_() - logits.gather(1, chosen)).mean()
    out /= len(out)
    out.scatter_add_(1, chosen, torch.full_like(largest, -1 / len(out)))
    return float(loss), out


def softsign(x: Any, out: Any) -> Any:
    return torch.div(x, torch.abs(x, out=out).add_(1), out=out)


def softsign_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    return torch.abs(y, out=out).neg_().add_(1).square_().mul_(dy)


def log_sigmoid_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    return torch.expm1(y, out=out).neg_().mul_(dy)


def mse(pred: Any, target: Any) -> Any:
    return _value_and_gradient(aten.mse_loss, aten.mse_loss_backward, pred, target)


def huber(pred: Any, target: Any) -> Any:
    return _value_and_gradient(aten.huber_loss, aten.huber_loss_backward, pred, target, 1.0)


def _value_and_gradient(loss: Any, backward: Any, pred: Any, target: Any, *numbers: float) -> Any:
    """Of a loss that is a mean (ATen's reduction 1)."""
    one = torch.ones((), dtype=pred.dtype)
    return float(loss(pred, target, 1, *numbers)), backward(one, pred, target, 1, *numbers)


def mae(pred: Any, target: Any) -> Any:
    difference = pred - target
    gradient = torch.sign(difference).div_(difference.numel())
    return float(difference.abs_().mean()), gradient


def _forward(function: Any, *numbers: float, **options: Any) -> Callable[..., Any]:
    """The op of one of PyTorch's functions, with its numbers."""

    def run(x: Any, out: Any) -> Any:
        return function(x, *numbers, **options, out=out)

    return run


def _by_x(function: Any, *numbers: Any, **options: Any) -> Callable[..., Any]:
    """The op of a derivative that one of ATen's functions tells by x."""

    def run(dy: Any, x: Any, y: Any, out: Any) -> Any:
        return function.grad_input(dy, x, *numbers, **options, grad_input=out)

    return run


def _by_y(function: Any, *numbers: Any) -> Callable[..., Any]:
    """The op of a derivative that one of ATen's functions tells by y."""

    def run(dy: Any, x: Any, y: Any, out: Any) -> Any:
        return function.grad_input(dy, y, *numbers, grad_input=out)

    return run


def _elu_by_y(alpha: float, scale: float) -> Callable[..., Any]:
    def run(dy: Any, x: Any, y: Any, out: Any) -> Any:
        return aten.elu_backward.grad_input(dy, alpha, scale, 1.0, True, y, grad_input=out)

    return run


_SELU = 1.6732632423543772, 1.0507009873554805

# Activations with their default numbers.
_FORWARD: dict[str, Callable[..., Any]] = {
    "identity": lambda x, out: out.copy_(x),
    "relu": _forward(torch.clamp_min, 0),
    "sigmoid": _forward(torch.sigmoid),
    "tanh": _forward(torch.tanh),
    "relu6": _forward(aten.hardtanh.out, 0, 6),
    "bounded_relu": _forward(torch.clamp_min, 0),
    "leaky_relu": _forward(aten.leaky_relu.out, 0.2),
    "elu": _forward(aten.elu.out),
    "celu": _forward(aten.elu.out),
    "selu": _forward(aten.elu.out, *_SELU),
    "hard_sigmoid": _forward(aten.hardsigmoid.out),
    "log_sigmoid": _forward(aten.log_sigmoid.out),
    "hard_tanh": _forward(aten.hardtanh.out),
    "softplus": _forward(aten.softplus.out),
    "softsign": softsign,
    "silu": _forward(aten.silu.out),
    "hard_silu": _forward(aten.hardswish.out),
    "gelu": _forward(aten.gelu.out),
    "gelu_tanh": _forward(aten.gelu.out, approximate="tanh"),
    "mish": _forward(aten.mish.out),
    "exponential": _forward(torch.exp),
    "threshold": _forward(aten.threshold.out, 0, 0),
    "soft_shrink": _forward(aten.softshrink.out, 0.5),
    "hard_shrink": _forward(aten.hardshrink.out, 0.5),
    "binary_step": _forward(torch.ge, 0),
    "sign": _forward(torch.sign),
}
_BACKWARD: dict[str, Callable[..., Any]] = {
    "identity": lambda dy, x, y, out: out.copy_(dy),
    "relu": _by_y(aten.threshold_backward, 0),
    "sigmoid": _by_y(aten.sigmoid_backward),
    "tanh": _by_y(aten.tanh_backward),
    "relu6": _by_y(aten.hardtanh_backward, 0, 6),
    "bounded_relu": _by_y(aten.threshold_backward, 0),
    "leaky_relu": _by_y(aten.leaky_relu_backward, 0.2, True),
    "elu": _elu_by_y(1.0, 1.0),
    "celu": _elu_by_y(1.0, 1.0),
    "selu": _elu_by_y(*_SELU),
    "hard_sigmoid": _by_x(aten.hardsigmoid_backward),
    "log_sigmoid": log_sigmoid_backward,
    "hard_tanh": _by_y(aten.hardtanh_backward, -1, 1),
    "softplus": _by_x(aten.softplus_backward, 1, 20),
    "softsign": softsign_backward,
    "silu": _by_x(aten.silu_backward),
    "hard_silu": lambda dy, x, y, out: aten.hardswish_backward.out(dy, x, out=out),
    "gelu": _by_x(aten.gelu_backward),
    "gelu_tanh": _by_x(aten.gelu_backward, approximate="tanh"),
    "mish": lambda dy, x, y, out: aten.mish_backward(dy, x),  # has no form with ``out``
    "exponential": lambda dy, x, y, out: torch.mul(dy, y, out=out),
    "threshold": _by_x(aten.threshold_backward, 0),
    "soft_shrink": _by_x(aten.softshrink_backward, 0.5),
    "hard_shrink": _by_x(aten.hardshrink_backward, 0.5),
    "binary_step": lambda dy, x, y, out: out.zero_(),
    "sign": lambda dy, x, y, out: out.zero_(),
}
PYTORCH: dict[str, Callable[..., Any]] = {
    **_FORWARD,
    **{f"{name}_backward": function for name, function in _BACKWARD.items()},
    **{function.__name__: function for function in (softmax_cross_entropy, mse, mae, huber)},
}
