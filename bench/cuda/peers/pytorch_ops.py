"""Ops as a PyTorch user writes them who minds the cost: on tensors, into ``out``, PyTorch's own fused optimizers.

Activations, their derivatives and softmax are the CPU's, which know no device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]

from bench.peers.pytorch_ops import PYTORCH as ON_CPU

torch.backends.cuda.matmul.allow_tf32 = False

aten = torch.ops.aten


def matmul(a: Any, b: Any, out: Any) -> Any:
    return torch.mm(a, b, out=out)


def linear(x: Any, w: Any, b: Any, activation: str, out: Any) -> Any:
    assert activation == "relu"
    return torch.addmm(b, x, w, out=out).relu_()


def linear_backward(dy: Any, x: Any, w: Any, y: Any, activation: str) -> Any:
    assert activation == "relu"
    dz = aten.threshold_backward(dy, y, 0)
    return dz @ w.T, x.T @ dz, dz.sum(dim=0)


def softmax_cross_entropy(logits: Any, targets: Any) -> Any:
    """The functions that ``cross_entropy`` and its ``backward`` call."""
    logs = torch.log_softmax(logits, 1)
    value, weight = aten.nll_loss_forward(logs, targets, None, 1, -100)
    one = torch.ones((), dtype=logits.dtype, device=logits.device)
    slope = aten.nll_loss_backward(one, logs, targets, None, 1, -100, weight)
    return value, aten._log_softmax_backward_data(slope, logs, 1, logits.dtype)


def mse(pred: Any, target: Any) -> Any:
    one = torch.ones((), dtype=pred.dtype, device=pred.device)
    return aten.mse_loss(pred, target), aten.mse_loss_backward(one, pred, target, 1)


def sgd_step(w: Any, dw: Any) -> None:
    w.add_(dw, alpha=-0.01)


def adam_step(w: Any, dw: Any, m: Any, v: Any, step: int) -> None:
    """What ``Adam(fused=True)`` calls; it divides by sqrt(v / (1 - beta_2)) + epsilon."""
    steps = torch.zeros((), device=w.device)
    assert step == 1
    steps.add_(1)
    numbers = {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "eps": 1e-7}
    options: dict[str, Any] = {**numbers, "amsgrad": False, "maximize": False}
    torch._fused_adam_([w], [dw], [m], [v], [], [steps], **options)


_OWN = (matmul, linear, linear_backward, softmax_cross_entropy, mse, sgd_step, adam_step)
_SHARED = ("add", "gather", "softmax", "log_softmax", "softmax_backward", "log_softmax_backward")
_ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "elu", "softplus", "mish", "exponential")

PYTORCH: dict[str, Callable[..., Any]] = {
    **{name: ON_CPU[name] for name in (*_SHARED, *_ACTIVATIONS, *(f"{name}_backward" for name in _ACTIVATIONS))},
    **{function.__name__: function for function in _OWN},
}
