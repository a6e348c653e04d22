"""Instructions of kernels' calls that were noted: of ops of which nothing else is known here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from fastnn.kernels.addresses import address
from fastnn.kernels.cpu import notes, pooling
from fastnn.kernels.cpu.instructions.lowering.elementwise import derive, pair, stretched
from fastnn.kernels.cpu.instructions.lowering.instructions import (
    Instruction,
    Lowering,
    Noted,
    StandIns,
    UnfitError,
    apart,
)
from fastnn.kernels.cpu.instructions.replay import Kind
from fastnn.kernels.graph import Block, Call, Range, View, range_of
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS, TABLE

_OF_KERNELS = (
    "attention",
    "batched",
    "convolution",
    "depthwise",
    "joining",
    "pooling",
    "recurrent",
    "resilient",
    "resizing",
    "sampling",
)

# Ops whose kernels do all the work: of arrays in C order they calculate nothing in Python.
NOTED = (
    *(op.name for op in TABLE.values() if op.module in _OF_KERNELS),
    "batch_norm", "batch_norm_backward", "batch_norm_inference", "batch_norm_inference_backward",
    "layer_norm", "layer_norm_backward",
    "sequence_mean", "sequence_mean_backward", "sequence_max", "sequence_max_backward",
    "mask_steps", "mask_steps_backward", "step_mask",
)  # fmt: skip


def lower_noted(to: Lowering, call: Call) -> None:
    """The calls of kernels that an op makes on arrays like these, each with the addresses that they will have."""
    op = TABLE[call.op]
    implementation = getattr(import_module(f"fastnn.kernels.cpu.{op.module}"), op.name)

    def run(**given: Any) -> Any:
        bound = op.signature.bind(**given)
        return implementation(*bound.args, **bound.kwargs)

    sources = [call.given[name] for name in op.operands if name not in op.inplace]
    _note_all(to, replace(call, given=_derived(to, call)), sources, run)


def _note_all(to: Lowering, call: Call, sources: Sequence[Any], run: Callable[..., Any]) -> None:
    """The same of what ``run`` makes of a call's arguments; no result may lie over ``sources``."""
    stand_ins = StandIns(to)
    written = [view for view in (*call.results, *call.writes) if view is not None]
    if not all(isinstance(view, View) and view.contiguous and view.size for view in written):
        raise UnfitError
    for view in written:
        apart(view, *(source for source in sources if isinstance(source, View)))
    given = {name: stand_ins.make(value) for name, value in call.given.items()}
    with notes.taking() as noted:
        results = run(**given)
    arrays = () if not call.results else results if isinstance(results, tuple) else (results,)
    for view, array in zip(call.results, arrays, strict=True):
        if view is not None and (array is None or array.shape != view.shape or not array.flags.carray):
            raise UnfitError
        if view is not None and stand_ins.view(address(array)) is None:
            stand_ins.take(array, view)
    for scratch in noted.scratch:
        stand_ins.take(scratch, to.temporary(scratch.shape, scratch.dtype))
        written.append(stand_ins.lies[-1][2])
    for note in noted.calls:
        _note(to, note, stand_ins, written)


def _derived(to: Lowering, call: Call) -> Mapping[str, Any]:
    """What a call is given, with the derivative of its activation by an instruction of its own."""
    activation = ELEMENTWISE_ACTIVATIONS.get(call.given.get("activation", "linear"))
    if not {"dy", "z"} <= call.given.keys() or activation in (None, "identity"):
        return call.given
    dy, y, z = (call.given[name] for name in ("dy", "y", "z"))
    dz = to.temporary(dy.shape)
    derive(to, activation, dy, y if z is None else z, y, dz)
    return {**call.given, "dy": dz, "z": None, "activation": "linear"}


def _note(to: Lowering, note: notes.Note, stand_ins: StandIns, written: Sequence[View]) -> None:
    """An instruction of a kernel's call; it writes to the views of those given that it takes.

    Memory that an op has made for itself is its own; what of it may be written to is.
    """
    reads: list[Range] = []
    writes: list[Range] = []
    for array in note.arguments:
        if not isinstance(array, np.ndarray) or array.size == 0:
            continue
        at = address(array)
        view = stand_ins.view(at)
        if view is None and array.dtype.kind != "f":  # a table, which is only read
            continue
        if view is None:
            block = Block(array.nbytes, address=at, owner=array)
            writes.append(Range(block, 0, array.nbytes))
            continue
        touched = Range(view.block, view.offset, view.offset + array.nbytes)
        (writes if any(touched.meets(range_of(each)) for each in written) else reads).append(touched)
    made = Instruction(to.call, Kind.NOTED, {}, {}, reads, writes, note.nanoseconds)
    made.noted = Noted(note, stand_ins)
    to.instructions.append(made)


def lower_pair_noted(to: Lowering, call: Call) -> None:
    """What is made of pairs of numbers."""
    a, b = pair(to, call)
    lower_noted(to, replace(call, given={**call.given, "a": a, "b": b}))


def lower_choice_backward(to: Lowering, call: Call) -> None:
    """Of operands as large as dy."""
    shape = call.results[0].shape
    given = {name: to.in_order(stretched(call.given[name], shape)) for name in ("dy", "a", "b")}
    lower_noted(to, replace(call, given=given))


def lower_mean_of_rows(to: Lowering, call: Call) -> None:
    """Means of words' vectors, or the gradient of such."""
    _of_words(to, call, lambda: _note_all(to, call, list(call.given.values()), call.run))
    to.instructions[-1].views = {"b": (call.given["indices"],), "c": call.results}


def lower_as_run(to: Lowering, call: Call) -> None:
    """A call that is no op's: what it runs is all that is known of it."""
    _note_all(to, replace(call, given=_derived(to, call)), list(call.given.values()), call.run)


def lower_embedding_mask(to: Lowering, call: Call) -> None:
    """Which words are none."""
    _of_words(to, call, lambda: lower_noted(to, call))


def _of_words(to: Lowering, call: Call, lower: Callable[[], None]) -> None:
    """What is done with words by their numbers, where these need no copy as other integers."""
    indices = call.given["indices"]
    if not indices.contiguous or indices.dtype != np.int64:
        raise UnfitError
    lower()


def lower_max_pool_backward(to: Lowering, call: Call) -> None:
    """Which a relu's derivative may become a part of."""
    lower_noted(to, call)
    to.instructions[-1].views = {"b": (call.given["x"],), "c": call.results}


def rectified(pool: Instruction, derivative: Instruction) -> Instruction:
    """The derivative of largest numbers with that of the relu whose results these are."""
    assert pool.noted is not None
    (made,), (result,), (note, stand_ins) = pool.views["c"], derivative.views["c"], pool.noted
    assert result is not None
    lies = [(low, high, result if view is made else view) for low, high, view in stand_ins.lies]
    return replace(
        pool,
        views={},
        noted=Noted(pooling.of_relu(note), replace(stand_ins, lies=lies)),
        writes=derivative.writes,
        reads=[*pool.reads, *(each for each in derivative.reads if made is None or each.block is not made.block)],
    )
