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

from fastnn.kernels.cpu.entries import catch_up, sort_by_feature, split_rows
from fastnn.kernels.cpu.jit import flat, inlined, matrix, team_kernel
from fastnn.kernels.cpu.records import (
    CLIP_NORM,
    GRADIENTS,
    IN_PANELS,
    INPUTS,
    KERNEL,
    LD,
    MADE,
    NEEDS,
    OUTPUTS,
    SPARSE,
    STEPS,
    SUM,
    UNIT_FIGURES,
    WEIGHTED_MEAN,
    WHOLE,
    Y,
    panel_count,
    signatures,
)
from fastnn.kernels.cpu.simd.elementwise import copy_row
from fastnn.kernels.cpu.simd.kernel import address, prefetch
from fastnn.kernels.cpu.stages import backward_rows, first_product, forward_rows, gather_rows, score_row
from fastnn.kernels.cpu.team import wait
from fastnn.kernels.cpu.updates import clip_by_norm, copy_panels, copy_weights, update_units


@inlined
def _prefetch_targets(targets, order, low, high):
    """Prefetch what the loss compares the outputs of the samples order[low : high] with."""
    for i in range(low, high):
        if targets.labels.size > 0:
            prefetch(targets.labels, order[i])
        else:
            prefetch(targets.rows, order[i] * targets.rows.shape[1])
        if targets.weights.size > 0:
            prefetch(targets.weights, order[i])


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
def _loss_scale(order, first, n, rules, targets):
    """What the loss of a row is multiplied with, times its weight, to be its part of the batch's."""
    divisor = 1.0 if rules.reduction == SUM else float(n)
    if rules.reduction == WEIGHTED_MEAN:
        divisor = 0.0
        for r in range(n):
            divisor += targets.weights[order[first + r]]
    return 1.0 / (divisor * rules.outputs) if divisor != 0.0 else 0.0


def _signature(dtype: Any) -> Any:
    size = types.int64
    order, arrays = flat(size, readonly=True), matrix(size, readonly=True)
    return types.void(*signatures(dtype), order, size, size, arrays, size, size, flat(types.float64), flat(size))


@team_kernel(_signature)
def train(MR: int, NR: int) -> Any:
    """train(inputs, targets, net, rules, memory, order, batch, step, arrays, load, store, sums, notes).

    ``step`` is the number of steps that the optimizer has made before; ``sums`` receives the sums over samples of
    loss, penalty and metrics. A batch whose loss is not finite is not trained on and ends the epoch. With ``load`` the
    ``arrays`` go into panels first; with ``store``, or where the epoch ends early, the state that ``Rules.lazy`` left
    behind is brought up to date, and the panels go back into the arrays.

    ``notes`` are written when the step or copy that they tell of is whole: the caller may never see a call return,
    where something is raised in its thread meanwhile.
    """

    def train(  # noqa: PLR0911 - a team that is told to stop leaves at any barrier
        inputs, targets, net, rules, memory, order, batch, step, arrays, load, store, sums, notes, words, t, tasks
    ):
        stages, figures = net.stages, memory.figures
        ld_x = stages[0, Y] // (batch + batch % 2)
        sorts = inputs.kind == SPARSE and stages[0, NEEDS] & KERNEL != 0
        panels = panel_count(stages[0])
        by_panels = splits_panels(panels, tasks)
        f0, f1 = _share(stages[0, INPUTS], t, tasks)
        by_unit = (1 + rules.metrics.size) * batch
        if load:
            copy_panels(arrays, net, True, t, tasks)
            if wait(tasks, words):
                return
            copy_weights(net, memory.work, t, tasks, MR, NR)
            if wait(tasks, words):
                return
            if t == 0:
                notes[IN_PANELS] = 1
        for first in range(0, order.size, batch):
            turn, n = first // batch, min(batch, order.size - first)
            low, high = _share(n, t, tasks)
            scale = _loss_scale(order, first, n, rules, targets)
            _prefetch_targets(targets, order, first + low, first + high)
            if inputs.kind == SPARSE:
                split_rows(inputs, order, first, low, high, net, memory)
            else:
                gather_rows(inputs, order, first, n, low, high, step, net, memory.work, ld_x)
            if sorts and sort_by_feature(
                inputs, order, first, low, high, f0, f1, step + 1, rules, memory, words, t, tasks
            ):
                return
            if by_panels:
                if not sorts and wait(tasks, words):
                    return
                p0, p1 = t * panels // tasks, (t + 1) * panels // tasks
                first_product(inputs, 0, n, p0, p1, net, memory, ld_x, MR, NR)
                if wait(tasks, words):
                    return
            forward_rows(inputs, n, low, high, step, net, memory, ld_x, by_panels, MR, NR)
            for r in range(low, high):
                score_row(n, scale, r, order[first + r], net, rules, targets, memory, batch)
            backward_rows(n, low, high, step, net, memory, MR, NR)
            if wait(tasks, words):
                return
            loss = 0.0
            for r in range(n):
                loss += figures[r]
            if not np.isfinite(loss):
                store = 1
                break
            step += 1
            if t == 0:  # now: the others begin the next batch's figures before this task may
                sums[0] += loss
                for q in range(rules.metrics.size):
                    for r in range(n):
                        sums[2 + q] += figures[(q + 1) * batch + r]
            if rules.clip >= CLIP_NORM:
                none = order.size
                update_units(
                    GRADIENTS, turn, n, inputs, order, none, net, rules, memory, ld_x, by_unit, t, tasks, MR, NR
                )
                if wait(tasks, words):
                    return
                if t == 0:
                    clip_by_norm(net, rules, figures, by_unit)
                if wait(tasks, words):
                    return
            phase = STEPS if rules.clip >= CLIP_NORM else WHOLE
            following = first + batch
            update_units(phase, turn, n, inputs, order, following, net, rules, memory, ld_x, by_unit, t, tasks, MR, NR)
            if wait(tasks, words):
                return
            if t == 0:
                notes[MADE] = step
                for u in range(net.units):
                    sums[1] += figures[by_unit + UNIT_FIGURES * u] * n
        if store:
            if sorts and rules.lazy:
                catch_up(f0, f1, step, net, rules, memory)
                if wait(tasks, words):
                    return
            copy_panels(arrays, net, False, t, tasks)
            if t == 0:
                notes[IN_PANELS] = 0

    return train


def _forward_signature(dtype: Any) -> Any:
    inputs, _, net, _, memory = signatures(dtype)
    order, arrays = flat(types.int64, readonly=True), matrix(types.int64, readonly=True)
    return types.void(inputs, net, memory, order, types.int64, arrays, matrix(dtype))


@team_kernel(_forward_signature)
def forward(MR: int, NR: int) -> Any:
    """forward(inputs, net, memory, order, rows, arrays, out): outputs of ``order``, ``rows`` samples at once.

    ``arrays`` go into panels first. Scratch memory is that of a batch of ``rows`` for each task. Nothing is dropped
    where the network's thresholds are 0.
    """

    def forward(inputs, net, memory, order, rows, arrays, out, words, t, tasks):
        copy_panels(arrays, net, True, t, tasks)
        if wait(tasks, words):
            return
        last = net.stages[net.stages.shape[0] - 1]
        ld_x = net.stages[0, Y] // memory.bounds.shape[0]
        end = (t + 1) * order.size // tasks
        for start in range(t * order.size // tasks, end, rows):
            low, high = t * rows, t * rows + min(rows, end - start)
            first = start - low  # sample first + r is row r of scratch memory
            if inputs.kind == SPARSE:
                split_rows(inputs, order, first, low, high, net, memory)
            else:
                gather_rows(inputs, order, first, high, low, high, 0, net, memory.work, ld_x)
            forward_rows(inputs, high, low, high, 0, net, memory, ld_x, False, MR, NR)
            for r in range(low, high):
                y = address(memory.work, last[Y] + r * last[LD])
                copy_row(last[OUTPUTS], y, address(out, (first + r) * last[OUTPUTS]))

    return forward
