"""A stack of layers of images or words in PyTorch, eager; images in the layout that is the faster one for the stack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found, unused-ignore]
from torch import nn  # type: ignore[import-not-found, unused-ignore]

from bench.peers.pytorch_mlp import PyTorchMLP, linear
from bench.peers.stack import Stack

# Batches by which a layout is chosen, behind one that does not count.
_TRIED = 3

# Keras's own, where PyTorch's differ.
_MOMENTUM, _EPSILON = 0.01, 1e-3


class _Mean(nn.Module):  # type: ignore[misc, unused-ignore]
    def forward(self, x: Any) -> Any:
        return x.mean(dim=1)


class _LastState(nn.Module):  # type: ignore[misc, unused-ignore]
    def __init__(self, lstm: Any) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(self, x: Any) -> Any:
        return self.lstm(x)[0][:, -1]


class _Encoder(nn.Module):  # type: ignore[misc, unused-ignore]
    def __init__(self, attention: Any, norms: Sequence[Any], dense: Any) -> None:
        super().__init__()
        self.attention, self.norms, self.dense = attention, nn.ModuleList(norms), dense

    def forward(self, x: Any) -> Any:
        x = self.norms[0](x + self.attention(x, x, x, need_weights=False)[0])
        return self.norms[1](x + self.dense(x))


class _Builder:
    """Makes modules of layers; ``images`` is the shape (rows, columns, channels) between two of them, if there is one.

    PyTorch flattens channels first, so that the rows of the kernel behind are in another order.
    """

    def __init__(self, stack: Stack) -> None:
        self._weights: Iterator[Any] = iter(stack.weights)
        self._images: tuple[int, ...] = stack.shape if len(stack.shape) == 3 else ()
        self._flattened: tuple[int, ...] = ()

    def _next(self) -> Any:
        return torch.from_numpy(np.ascontiguousarray(next(self._weights)))

    def conv(self, maps: int, size: int, padding: int = 0, bias: bool = True) -> list[Any]:
        """With relu."""
        rows, columns, channels = self._images
        layer: Any = nn.Conv2d(channels, maps, size, padding=padding, bias=bias)
        with torch.no_grad():
            layer.weight.copy_(self._next().permute(3, 2, 0, 1))
            if bias:
                layer.bias.copy_(self._next())
        less = size - 1 - 2 * padding
        self._images = rows - less, columns - less, maps
        return [layer, nn.ReLU()]

    def block(self, maps: int, size: int) -> list[Any]:
        """With normalisation and relu."""
        layer, relu = self.conv(maps, size, size // 2, bias=False)
        norm: Any = nn.BatchNorm2d(maps, eps=_EPSILON, momentum=_MOMENTUM)
        with torch.no_grad():
            for each in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                each.copy_(self._next())
        return [layer, norm, relu]

    def pool(self) -> list[Any]:
        """By 2x2."""
        rows, columns, channels = self._images
        self._images = rows // 2, columns // 2, channels
        return [nn.MaxPool2d(2)]

    def flatten(self) -> list[Any]:
        """Channels first."""
        self._flattened = self._images
        return [nn.Flatten()]

    def dense(self, units: int) -> list[Any]:
        """With relu."""
        return [self.logits(), nn.ReLU()]

    def logits(self) -> Any:
        """Without."""
        kernel, bias = next(self._weights), next(self._weights)
        if self._flattened:
            by_place = kernel.reshape(*self._flattened, -1)
            kernel, self._flattened = by_place.transpose(2, 0, 1, 3).reshape(kernel.shape), ()
        return linear(np.ascontiguousarray(kernel), bias)

    def encoder(self, heads: int, units: int) -> list[Any]:
        """Attention, and dense layers behind it."""
        found = [(self._next().flatten(1), self._next().flatten()) for _ in ("query", "key", "value")]
        kernel, bias = self._next().flatten(0, 1), self._next()
        layer: Any = nn.MultiheadAttention(len(bias), heads, batch_first=True)
        with torch.no_grad():
            layer.in_proj_weight.copy_(torch.cat([each.T for each, _ in found]))
            layer.in_proj_bias.copy_(torch.cat([each for _, each in found]))
            layer.out_proj.weight.copy_(kernel.T)
            layer.out_proj.bias.copy_(bias)
        first = self.normalised(len(bias))
        dense = nn.Sequential(*self.dense(units), self.logits())
        return [_Encoder(layer, (first, self.normalised(len(bias))), dense)]

    def normalised(self, width: int) -> Any:
        """Each step."""
        norm: Any = nn.LayerNorm(width, eps=_EPSILON)
        with torch.no_grad():
            norm.weight.copy_(self._next())
            norm.bias.copy_(self._next())
        return norm

    def embedding(self, words: int, width: int) -> list[Any]:
        """Rows of a table."""
        return [nn.Embedding.from_pretrained(self._next(), freeze=False)]

    def mean(self) -> list[Any]:
        """Of all steps."""
        return [_Mean()]

    def lstm(self, units: int) -> list[Any]:
        """Its last state; of PyTorch's two biases one begins, and is kept, at zero."""
        kernel, recurrent, bias = self._next(), self._next(), self._next()
        layer: Any = nn.LSTM(len(kernel), units, batch_first=True)
        with torch.no_grad():
            layer.weight_ih_l0.copy_(kernel.T)
            layer.weight_hh_l0.copy_(recurrent.T)
            layer.bias_ih_l0.copy_(bias)
            layer.bias_hh_l0.zero_()
        layer.bias_hh_l0.requires_grad_(False)
        return [_LastState(layer)]


class _InALayout(PyTorchMLP):
    """On samples x and labels y (n,), images in a memory format."""

    def __init__(self, layout: Any, *given: Any) -> None:
        self._layout = layout
        super().__init__(*given)

    def build(self, network: Any) -> Any:
        """The module."""
        builder, modules = _Builder(network), []
        for kind, *numbers in network.layers:
            modules += getattr(builder, kind)(*numbers)
        return nn.Sequential(*modules, builder.logits()).to(memory_format=self._layout)

    def hold(self, x: Any) -> None:
        """Images with channels first, words as they are."""
        held = torch.from_numpy(x)
        self._inputs = held.permute(0, 3, 1, 2).contiguous(memory_format=self._layout) if held.ndim == 4 else held


class PyTorchStack:
    """On samples x and labels y (n,): images channels last or not, whichever is faster over some batches."""

    def __init__(self, stack: Stack, x: Any, y: Any, batch_size: int) -> None:
        layouts = (torch.contiguous_format, torch.channels_last) if x.ndim == 4 else (torch.contiguous_format,)
        some = slice(0, _TRIED * batch_size)

        def seconds(layout: Any) -> float:
            tried = _InALayout(layout, stack, x[some], y[some], batch_size)
            tried.epoch(False)
            start = time.perf_counter()
            tried.epoch(False)
            return time.perf_counter() - start

        chosen = min(layouts, key=seconds) if len(layouts) > 1 else layouts[0]
        self.epoch: Callable[..., float] = _InALayout(chosen, stack, x, y, batch_size).epoch
