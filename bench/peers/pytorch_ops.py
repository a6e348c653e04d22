"""Ops as a PyTorch user writes them who minds the cost: on tensors, without autograd, into ``out``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]

from fastnn import get_num_threads

torch.set_num_threads(get_num_threads())


def sigmoid(x: Any, out: Any) -> Any:
    return torch.sigmoid(x, out=out)


def sigmoid_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    return torch.ops.aten.sigmoid_backward.grad_input(dy, y, grad_input=out)


def tanh(x: Any, out: Any) -> Any:
    return torch.tanh(x, out=out)


def tanh_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    return torch.ops.aten.tanh_backward.grad_input(dy, y, grad_input=out)


def softmax_cross_entropy(logits: Any, targets: Any, out: Any) -> Any:
    """Half the time of ``cross_entropy`` and ``backward``, as stable: log sum exp comes from the largest logit."""
    torch.softmax(logits, 1, out=out)
    largest, where = logits.max(dim=1, keepdim=True)
    chosen = targets[:, None]
    loss = (largest - out.gather(1, where).log_() - logits.gather(1, chosen)).mean()
    out /= len(out)
    out.scatter_add_(1, chosen, torch.full_like(largest, -1 / len(out)))
    return float(loss), out


PYTORCH: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (sigmoid, sigmoid_backward, tanh, tanh_backward, softmax_cross_entropy)
}
