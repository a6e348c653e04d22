"""Tensors as the arrays that ops take, and back: the same memory, on the host and on a device."""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from fastnn import backends, checks

Array = Any

FLOATS = (torch.float32, torch.float64)
_PLACES = ("cpu", "cuda")


def array_of(tensor: Tensor) -> Array:
    """The tensor's memory as an array of NumPy's, or of CuPy's where it is on a CUDA device."""
    detached = tensor.detach() if tensor.requires_grad else tensor
    if tensor.is_cuda:
        return backends.implementation("cuda", "arrays", "adopted")(detached)
    return detached.numpy()


class _Place:
    """Where an array lies, whose memory stays that of its owner."""

    def __init__(self, array: Array) -> None:
        self.__array_interface__ = array.__array_interface__


# Of tensors that stay from step to step: what they were like, and their arrays.
_Looks = tuple[Any, ...]
_known: dict[int, tuple[weakref.ref[Tensor], _Looks, Array]] = {}


def held_array_of(tensor: Tensor) -> Array:
    """The same as ``array_of`` for a parameter, or an optimizer's state: the array of the last call if it lies there.

    What is kept does not own the memory: it is good for as long as the tensor has it, which is asked each time.
    """
    place = id(tensor)
    known = _known.get(place)
    looks = tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
    if known is not None and known[1] == looks and known[0]() is tensor:
        return known[2]
    array = array_of(tensor)
    if isinstance(array, np.ndarray) and array.size:
        kept = np.asarray(_Place(array))
        _known[place] = weakref.ref(tensor, lambda _: _known.pop(place, None)), looks, kept
    return array


def tensor_of(value: Any, like: Tensor) -> Tensor:
    """What an op has returned, an array or a number, as a tensor beside ``like``: an array's own memory."""
    if isinstance(value, float):
        return torch.scalar_tensor(value, dtype=like.dtype, device=like.device)
    return from_dlpack(value) if like.is_cuda else torch.from_numpy(value)


def checked(name: str, tensor: Any, like: Tensor | None = None) -> Tensor:
    """``tensor`` if ops take it, and of the dtype and in the place of ``like``; else a TypeError."""
    checks.instance(name, tensor, Tensor, "a tensor")
    if tensor.dtype not in FLOATS:
        raise TypeError(f"{name}: got {checks.describe(tensor)}, wants dtype float32 or float64; cast it first")
    if tensor.layout is not torch.strided or tensor.device.type not in _PLACES:
        got = f"a tensor of layout {tensor.layout} on {tensor.device}"
        raise TypeError(f"{name}: got {got}, wants a strided one on the CPU or a CUDA device")
    if like is not None and (tensor.dtype is not like.dtype or tensor.device != like.device):
        got = f"{checks.describe(tensor)} on {tensor.device}"
        raise TypeError(f"{name}: got {got}, wants dtype {like.dtype} on {like.device}, as x has")
    return tensor


def is_served(*tensors: Tensor | None) -> bool:
    """Whether ops take these tensors, all of one dtype and in one place; what autocast would cast they do not.

    Nor those that PyTorch traces to compile or transform what is done to them.
    """
    if is_followed():
        return False
    first = tensors[0] if tensors else None
    if first is None or first.dtype not in FLOATS or not _serves(first.device.type):
        return False
    dtype, device = first.dtype, first.device
    for each in tensors:
        if each is not None and not (
            each.dtype is dtype and each.device == device and each.layout is torch.strided and type(each) in _KINDS
        ):
            return False
    return not torch.is_autocast_enabled(device.type)


def is_followed() -> bool:
    """Whether PyTorch looks at what is done to tensors, to compile, trace or transform it: its own operations then."""
    return bool(
        torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or torch._C._get_tracing_state()
    )


# Subclasses have ways of their own.
_KINDS = (Tensor, torch.nn.Parameter)


def unserved(parameter: Tensor) -> str | None:
    """Why ops do not take a parameter; None where they do."""
    if type(parameter) not in _KINDS or parameter.layout is not torch.strided:
        return f"its parameters are of type {type(parameter).__name__} and layout {parameter.layout}"
    if parameter.dtype not in FLOATS:
        return f"its parameters are {parameter.dtype}, not float32 or float64"
    return None if _serves(parameter.device.type) else f"the backend for {parameter.device.type} cannot serve"


@cache
def _serves(place: str) -> bool:
    """Whether there is a backend for tensors on such a device."""
    return place in _PLACES and backends.state(place).available


# ----------------------------------------------------------------------------------------------------------- threads


class _Here(threading.local):
    lender: AbstractContextManager[None] | None = None


_here = _Here()


def threads() -> AbstractContextManager[None]:
    """``with`` this, kernels on the CPU run on PyTorch's threads where they can be had, so that cores meet one set."""
    lender = _here.lender
    if lender is None:
        lender = _here.lender = _lender()
    return lender


def _lender() -> AbstractContextManager[None]:
    path = _openmp()
    if path is None or not backends.state("cpu").available:
        return nullcontext()
    from fastnn.kernels.cpu.teams import openmp

    try:
        return openmp.Lender(path, torch.get_num_threads)
    except OSError:  # it is there, and not what PyTorch has loaded
        return nullcontext()


@cache
def _openmp() -> str | None:
    """GNU's OpenMP, where PyTorch has brought it along."""
    package = Path(torch.__file__).parent
    for folder in (package / "lib", package.with_name("torch.libs")):
        for path in sorted(folder.glob("libgomp*.so*")):
            return str(path)
    return None


# ------------------------------------------------------------------------------------------------------------ memory

# Bytes of arrays that are kept, of all together, and how many of one kind are looked at. Smaller ones come from the
# heap at no cost; larger ones are worth what their pages cost.
_KEPT, _KEPT_IN_ALL, _LOOKED_AT = range(1 << 16, 1 << 24), 1 << 26, 8


def _references(arrays: deque[Array]) -> int:
    """How many refer to the first one."""
    return sys.getrefcount(arrays[0])


_OURS_ALONE = _references(deque([np.empty(0)]))


class Memory(threading.local):
    """Results' memory, used again when their tensors are gone: step after step takes the same pages.

    New ones cost a fault each, which for the gradient of 784x512 weights is a third of the time that its product takes.
    """

    def __init__(self) -> None:
        self._arrays: dict[Any, deque[Array]] = {}
        self._bytes = 0

    def array(self, shape: tuple[int, ...], like: Array) -> Array | None:
        """An array in C order of the dtype of ``like``, for an op's ``out``; None where ops make one as well."""
        size = prod(shape) * like.itemsize
        if size not in _KEPT or not isinstance(like, np.ndarray):
            return None
        arrays = self._arrays.setdefault((shape, like.dtype), deque())
        for _ in range(min(len(arrays), _LOOKED_AT)):
            arrays.rotate()
            if _references(arrays) == _OURS_ALONE:
                return arrays[0]
        made = np.empty(shape, like.dtype)
        if self._bytes + size > _KEPT_IN_ALL:
            self._arrays.clear()
            self._bytes = 0
        else:
            arrays.append(made)
            self._bytes += size
        return made


memory = Memory()
