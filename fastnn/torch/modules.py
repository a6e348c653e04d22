"""PyTorch's modules with forward passes of fastnn's: what ``accelerate`` makes of a model's.

Each is PyTorch's class of the same name with another ``forward``: parameters, buffers, hooks, names, copies and state
dicts are PyTorch's. A call that is not served here (half precision, autocast, ``torch.compile`` or ``torch.func``
around it, tensors elsewhere) is PyTorch's own, as is one that is wrong, with its message.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.nn.modules.module import (
    _global_backward_hooks,
    _global_backward_pre_hooks,
    _global_forward_hooks,
    _global_forward_pre_hooks,
)

from fastnn.torch import functions
from fastnn.torch.arrays import is_followed, is_served

# Activations that a linear layer or a convolution takes in, and for which of their settings.
_ACTIVATIONS: dict[type[nn.Module], Callable[[Any], str | None]] = {
    nn.ReLU: lambda _: "relu",
    nn.Sigmoid: lambda _: "sigmoid",
    nn.Tanh: lambda _: "tanh",
    nn.SiLU: lambda _: "silu",
    nn.Softsign: lambda _: "softsign",
    nn.Mish: lambda _: "mish",
    nn.SELU: lambda _: "selu",
    nn.ReLU6: lambda _: "relu6",
    nn.LogSigmoid: lambda _: "log_sigmoid",
    nn.GELU: lambda module: "gelu_tanh" if module.approximate == "tanh" else "gelu",
    nn.ELU: lambda module: "elu" if module.alpha == 1 else None,
    nn.CELU: lambda module: "celu" if module.alpha == 1 else None,
}


def activation(module: nn.Module) -> str | None:
    """The name of a module that is an activation which a layer takes in."""
    named = _ACTIVATIONS.get(type(module))
    return None if named is None else named(module)


def is_plain(module: nn.Module) -> bool:
    """Whether calling a module is no more than its forward pass."""
    return not (
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def _is_served_by(layer: Any, x: Any, *parameters: Tensor | None) -> bool:
    """Whether a linear layer or a convolution of ours takes x, with these parameters, its own and of what follows."""
    if not isinstance(x, Tensor) or not is_served(x, *parameters):
        return False
    if type(layer) is Conv2d:
        return x.ndim == 4 and x.shape[1] == layer.in_channels
    return x.ndim > 0 and x.shape[-1] == layer.in_features


def _convolved(images: Tensor, layer: nn.Conv2d, name: str) -> Tensor:
    """What a convolution makes of images behind the activation of this name."""
    options = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return functions.conv2d(images, layer.weight, layer.bias, *options, name)


class Linear(nn.Linear):
    """``torch.nn.Linear`` (``functions.linear``)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - PyTorch's name
        """The layer's outputs (..., out) of inputs (..., in)."""
        weight, bias = self.weight, self.bias
        if not _is_served_by(self, input, weight, bias):
            return super().forward(input)
        return functions.stacked(input, [(weight, bias)], ("linear",))


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` (``functions.conv2d``)."""

    @staticmethod
    def unserved(module: nn.Conv2d) -> str | None:
        """Why a convolution is not served; None where it is."""
        if module.padding_mode != "zeros":
            return f"padding_mode={module.padding_mode!r}"
        return "padding='same' with strides" if module.padding == "same" and set(module.stride) != {1} else None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - PyTorch's name
        """The layer's outputs (n, f, oh, ow) of images (n, c, h, w)."""
        if not _is_served_by(self, input, self.weight, self.bias):
            return super().forward(input)
        return _convolved(input, self, "linear")


class CrossEntropyLoss(nn.CrossEntropyLoss):
    """``torch.nn.CrossEntropyLoss`` of rows on the CPU (``functions.softmax_cross_entropy``)."""

    @staticmethod
    def unserved(module: nn.CrossEntropyLoss) -> str | None:
        """Why a loss is not served; None where it is."""
        if module.weight is not None:
            return "weight is given"
        if module.label_smoothing:
            return f"label_smoothing={module.label_smoothing}"
        return None if module.reduction == "mean" else f"reduction={module.reduction!r}"

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 - PyTorch's name
        """The mean loss of logits (n, classes)."""
        if is_served(input) and not input.is_cuda and input.ndim == 2 and len(input) and not target.requires_grad:
            try:
                return functions.loss_of("softmax_cross_entropy", input, target, None, {})
            except (TypeError, ValueError):  # labels to be ignored, rows that do not sum to 1, wrong ones
                pass
        return super().forward(input, target)


class Sequential(nn.Sequential):
    """``torch.nn.Sequential``; linear layers and the activations behind them run as one step of autograd's.

    So do a convolution and its activation. A layer that has hooks is called by itself.
    """

    def forward(self, input: Any) -> Any:  # noqa: A002 - PyTorch's name
        """What the modules make of the input, one behind the other."""
        if is_followed() or any(_EVERYWHERE):
            return super().forward(input)
        for run in _runs(self):
            input = run(input)  # noqa: A001
        return input


# Hooks of all modules there are.
_EVERYWHERE = (_global_backward_hooks, _global_backward_pre_hooks, _global_forward_hooks, _global_forward_pre_hooks)

# Of a sequence: what its modules were like, and how they run.
_known: WeakKeyDictionary[nn.Module, tuple[list[Any], list[Callable[[Any], Any]]]] = WeakKeyDictionary()


def _runs(sequence: nn.Sequential) -> list[Callable[[Any], Any]]:
    """How the modules of a sequence run, one behind the other: told once, until one is another, or has other hooks."""
    likeness: list[Any] = []
    for module in sequence._modules.values():
        kind = type(module)
        likeness += (module, kind, is_plain(module), activation(module) if kind in _ACTIVATIONS else None)  # type: ignore[arg-type]
    before = _known.get(sequence)
    if before is not None and before[0] == likeness:
        return before[1]
    runs: list[Callable[[Any], Any]] = []
    run = _Run()
    for module in sequence:
        if not run.takes(module):
            runs.append(run)
            run = _Run()
            if not run.takes(module):
                runs.append(module)
    _known[sequence] = likeness, [*runs, run]
    return _known[sequence][1]


class _Run:
    """Modules that run together: a convolution, or linear layers that fit, each with the activation behind it."""

    def __init__(self) -> None:
        self._members: list[nn.Module] = []
        self._layers: list[Any] = []
        self._names: list[str] = []

    def takes(self, module: nn.Module) -> bool:
        """Take in ``module`` if it goes together with those that are in already; whether it does."""
        if not is_plain(module):
            return False
        if self._follows(module):
            self._layers.append(module)
            self._names.append("linear")
        elif self._layers and self._names[-1] == "linear" and (name := activation(module)):
            self._names[-1] = name
        else:
            return False
        self._members.append(module)
        return True

    def _follows(self, layer: Any) -> bool:
        """Whether a module is a layer of ours that may be the next one."""
        if not self._layers:
            return type(layer) in (Linear, Conv2d)
        last = self._layers[-1]
        return type(layer) is Linear and type(last) is Linear and layer.in_features == last.out_features

    def __call__(self, x: Any) -> Any:
        """What they make of x; each by itself where the first one does not take it."""
        layers = [(layer.weight, layer.bias) for layer in self._layers]
        if not layers or not _is_served_by(self._layers[0], x, *chain(*layers)):
            for member in self._members:
                x = member(x)
            return x
        if type(self._layers[0]) is Conv2d:
            return _convolved(x, self._layers[0], self._names[0])
        return functions.stacked(x, layers, self._names)
