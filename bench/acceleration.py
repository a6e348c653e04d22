"""Training loops as PyTorch's users write them, before and after ``fastnn.torch.accelerate(model, loss, optimizer)``.

Both sides begin with the same weights and see the same made batches, so that a check that their losses agree comes
first. A line's work is that of its matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from bench.suite import FASTNN, NOT_INSTALLED, PYTORCH, Case, Contender, Workload, installed

_WIDTHS, _STEPS = (784, 512, 10), 16
_OPTIMIZERS = {"SGD": {"lr": 0.01}, "Adam": {}}
_BATCHES = (128, 512)
_TOLERANCE = 1e-4


def cases() -> list[Case]:
    """The network with each optimizer, at each batch size."""
    skip = "" if installed(PYTORCH) else NOT_INSTALLED
    architecture = "-".join(map(str, _WIDTHS))
    return [
        Case(
            f"{_STEPS} steps of PyTorch's, {architecture}, {optimizer}, batch {batch}",
            partial(_workload, optimizer, batch),
            skip=skip,
        )
        for optimizer in _OPTIMIZERS
        for batch in _BATCHES
    ]


def _workload(optimizer: str, batch: int) -> Workload:
    loops = {name: _loop(optimizer, batch, name == FASTNN) for name in (PYTORCH, FASTNN)}

    def check() -> None:
        losses = {name: loop() for name, loop in loops.items()}
        np.testing.assert_allclose(losses[FASTNN], losses[PYTORCH], rtol=_TOLERANCE, err_msg="loss, fastnn and PyTorch")

    products = [a * b for a, b in pairwise(_WIDTHS)]
    flops = float(_STEPS * batch * (6 * sum(products) - 2 * products[0]))
    moved = float(_STEPS * batch * 4 * _WIDTHS[0])
    return Workload({name: Contender(loop, flops, moved) for name, loop in loops.items()}, check)


def _loop(name: str, batch: int, accelerated: bool) -> Callable[[], float]:
    """What makes some steps and returns the last one's loss."""
    import torch
    from torch import nn

    from fastnn.torch import accelerate

    torch.manual_seed(0)
    inputs, hidden, outputs = _WIDTHS
    model: Any = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    criterion = nn.CrossEntropyLoss()
    optimizer = getattr(torch.optim, name)(model.parameters(), **_OPTIMIZERS[name])
    x, y = torch.rand(_STEPS, batch, inputs), torch.randint(0, outputs, (_STEPS, batch))
    if accelerated:
        accelerate(model, criterion, optimizer)

    def run() -> float:
        for rows, labels in zip(x, y, strict=True):
            optimizer.zero_grad()
            loss = criterion(model(rows), labels)
            loss.backward()
            optimizer.step()
        return float(loss.item())

    return run
