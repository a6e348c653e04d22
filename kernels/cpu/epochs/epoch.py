"""Training steps of a stack of dense layers, an epoch of them or fewer, in one compiled call.

A team runs it. A batch has two parts, behind each of which the tasks wait for one another:

1. each task takes a range of the batch's rows through gather, forward pass, loss, metrics and backward pass: rows do
   not depend on one another. But the first stage, whose weights are the most, is shared by panels where that makes even
   shares: then no core reads what another one is about to write, which on cores that do not share a cache costs more
   than the products. Where the inputs are sparse, the tasks sort the batch's non-zeros by feature beforehand;
2. each task takes a range of units (stage, panel, block of ``UNIT_ROWS`` rows of W): a tile of dW = X.T @ dZ is formed
   in a buffer that stays in L1 and goes straight into the optimizer's update of the weights. dW is never written whole,
   unless gradients are to be clipped by their norms: then this part runs twice, first for all gradients and the
   squares of each unit's, then for the steps.

A stage is a dense layer or an activation alone; its sizes, activation, dropout, loss and optimizer are numbers read at
run time, so that one compiled function serves every network. Weights live in panels (``Layout``), so that both parts
walk them in order.

Rows of W that belong to features which a batch does not have get no gradient. Under plain SGD nothing happens to them;
under RMSprop without momentum their mean square only decays, which a power of rho makes up for when the row is next
touched, and at the end of the epoch: exact but for rounding. Any other optimizer, a penalty or weight decay moves
every row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cpu.compiler.machine import NV
from fastnn.kernels.cpu.compiler.parts import inlined
from fastnn.kernels.cpu.epochs.entries import catch_up, sort_by_feature, split_rows
from fastnn.kernels.cpu.epochs.stages import backward_rows, first_product, forward_rows, gather_rows, score_row
from fastnn.kernels.cpu.epochs.updates import clip_by_norm, copy_panels, copy_weights, update_units
from fastnn.kernels.cpu.jit import kernel, matrix
from fastnn.kernels.cpu.records import (
    CLIP_NORM,
    GRADIENTS,
    SPARSE,
    STEPS,
    SUM,
    WEIGHTED_MEAN,
    WHOLE,
    Batch,
    Block,
    Doubles,
    Inputs,
    Network,
    Objective,
    Places,
    Progress,
    ReadSizes,
    Rules,
    Scratch,
    Share,
    Targets,
    Tile,
    numba_type,
    panel_count,
)
from fastnn.kernels.cpu.simd.elementwise import copy_row
from fastnn.kernels.cpu.simd.kernel import address, prefetch
from fastnn.kernels.cpu.teams.barrier import wait


@inlined
def _prefetch_targets(targets, batch, share):
    """Prefetch what the loss compares the outputs of a task's rows of a batch with."""
    for r in range(share.low, share.high):
        sample = batch.order[batch.first + r]
        if targets.labels.size > 0:
            prefetch(targets.labels, sample)
        else:
            prefetch(targets.rows, sample * targets.rows.shape[1])
        if targets.weights.size > 0:
            prefetch(targets.weights, sample)


@inlined
def splits_panels(panels, tasks):
    """Whether tasks share the panels of the first stage, not its rows, where that makes even shares.

    Then W stays in the caches of the core that updates it, and a panel of it serves all rows of the batch. Two threads
    of a Zen 5, RMSprop: where the cores share an L3, a step of 784-512-10 on 4 samples takes 42 us instead of 76, an
    epoch of Fashion-MNIST at batch 128 as long as before; where they do not, 42 us instead of 300, 257 ms of 320.
    """
    return tasks > 1 and panels >= tasks and panels % tasks == 0


@inlined
def _share(count, t, tasks):
    """Task t has [first, last) of ``count``; shares begin at even numbers, so that none parts two neighbours."""
    return t * count // tasks // 2 * 2, count if t + 1 == tasks else (t + 1) * count // tasks // 2 * 2


@inlined
def _loss_scale(batch, objective, targets):
    """What the loss of a row is multiplied with, times its weight, to be its part of the batch's."""
    divisor = 1.0 if objective.reduction == SUM else float(batch.rows)
    if objective.reduction == WEIGHTED_MEAN:
        divisor = 0.0
        for r in range(batch.rows):
            divisor += targets.weights[batch.order[batch.first + r]]
    return 1.0 / (divisor * objective.outputs) if divisor != 0.0 else 0.0


@inlined
def _loss(figures, rows):
    """The loss of a batch, times its rows."""
    loss = 0.0
    for r in range(rows):
        loss += figures[0, r]
    return loss


def _signature(dtype: Any) -> Any:
    kinds = Inputs, Targets, Network, Objective, Rules, Scratch, ReadSizes, Places, Progress, Doubles
    return types.void(*(numba_type(kind, dtype) for kind in kinds))


@kernel(_signature)
def train(MR: int, NR: int) -> Any:
    """train(inputs, targets, net, objective, rules, memory, order, places, progress, metrics).

    Trains on the samples of ``order``; ``progress`` counts on from the steps that it tells of, and with ``metrics`` it
    receives the sums over samples. Where the loss of a batch is not finite the epoch ends before weights change. The
    arrays at ``places`` go into panels first where ``Rules.load`` says so; with ``Rules.store``, or where the epoch
    ends early, the state that ``Rules.lazy`` left behind is brought up to date, and the panels go back into the arrays.

    ``progress`` is written when the step or copy that it tells of is whole: the caller may never see a call return,
    where something is raised in its thread meanwhile.
    """
    tile = Tile(MR, NR, NR // NV)

    def train(  # noqa: PLR0911 - a team that is told to stop leaves at any barrier
        inputs, targets, net, objective, rules, memory, order, places, progress, metrics, words, t, tasks
    ):
        first_stage, figures = net.stages[0], memory.figures
        step, store, panels = progress[0].made, rules.store, panel_count(first_stage)
        sorts = inputs.kind == SPARSE and first_stage.trains_kernel
        by_panels = splits_panels(panels, tasks)
        f0, f1 = _share(first_stage.inputs, t, tasks)
        if rules.load:
            copy_panels(places, net, True, t, tasks)
            if wait(tasks, words):
                return
            copy_weights(net, memory.work, t, tasks, tile)
            if wait(tasks, words):
                return
            if t == 0:
                progress[0].in_panels = True
        for first in range(0, order.size, rules.batch):
            n = min(rules.batch, order.size - first)
            low, high = _share(n, t, tasks)
            batch, share = Batch(order, first, n, step, first // rules.batch), Share(t, tasks, low, high, f0, f1)
            scale = _loss_scale(batch, objective, targets)
            _prefetch_targets(targets, batch, share)
            if inputs.kind == SPARSE:
                split_rows(inputs, batch, share, net, memory)
            else:
                gather_rows(inputs, batch, share, net, memory.work)
            if sorts and sort_by_feature(inputs, batch, share, rules, memory, words):
                return
            if by_panels:
                if not sorts and wait(tasks, words):
                    return
                block = Block(0, n, t * panels // tasks, (t + 1) * panels // tasks)
                first_product(inputs, block, net, memory, tile)
                if wait(tasks, words):
                    return
            forward_rows(inputs, batch, share, net, memory, by_panels, tile)
            for r in range(low, high):
                score_row(r, scale, batch, net, objective, targets, memory)
            backward_rows(batch, share, net, memory, tile)
            if wait(tasks, words):
                return
            loss = _loss(figures, n)
            if not np.isfinite(loss):
                store = 1
                break
            step += 1
            if t == 0:  # now: the others begin the next batch's figures before this task may
                progress[0].loss += loss
                for q in range(metrics.size):
                    for r in range(n):
                        metrics[q] += figures[q + 1, r]
            if rules.clip >= CLIP_NORM:
                update_units(GRADIENTS, batch, share, inputs, net, rules, memory, tile)
                if wait(tasks, words):
                    return
                if t == 0:
                    clip_by_norm(net, rules, memory)
                if wait(tasks, words):
                    return
            phase = STEPS if rules.clip >= CLIP_NORM else WHOLE
            update_units(phase, batch, share, inputs, net, rules, memory, tile)
            if wait(tasks, words):
                return
            if t == 0:
                progress[0].made = step
                for u in range(net.units):
                    progress[0].penalty += memory.penalties[u] * n
        if store:
            if sorts and rules.lazy:
                catch_up(f0, f1, step, net, rules, memory)
                if wait(tasks, words):
                    return
            copy_panels(places, net, False, t, tasks)
            if t == 0:
                progress[0].in_panels = False

    return train


def _forward_signature(dtype: Any) -> Any:
    fixed = (numba_type(kind, dtype) for kind in (Inputs, Network, Scratch, ReadSizes))
    return types.void(*fixed, types.int64, numba_type(Places, dtype), matrix(dtype))


@kernel(_forward_signature)
def forward(MR: int, NR: int) -> Any:
    """forward(inputs, net, memory, order, rows, places, out): outputs of ``order``, ``rows`` samples at once.

    The arrays at ``places`` go into panels first. Scratch memory is that of a batch of ``rows`` for each task. Nothing
    is dropped where the network's thresholds are 0.
    """
    tile = Tile(MR, NR, NR // NV)

    def forward(inputs, net, memory, order, rows, places, out, words, t, tasks):
        copy_panels(places, net, True, t, tasks)
        if wait(tasks, words):
            return
        last = net.stages[net.stages.size - 1]
        end = (t + 1) * order.size // tasks
        for start in range(t * order.size // tasks, end, rows):
            low, high = t * rows, t * rows + min(rows, end - start)
            first = start - low  # sample first + r is row r of scratch memory
            batch, share = Batch(order, first, high, 0, 0), Share(t, tasks, low, high, 0, 0)
            if inputs.kind == SPARSE:
                split_rows(inputs, batch, share, net, memory)
            else:
                gather_rows(inputs, batch, share, net, memory.work)
            forward_rows(inputs, batch, share, net, memory, False, tile)
            for r in range(low, high):
                y = address(memory.work, last.y + r * last.ld)
                copy_row(last.outputs, y, address(out, (first + r) * last.outputs))

    return forward
