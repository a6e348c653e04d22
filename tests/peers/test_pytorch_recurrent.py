"""Recurrent layers, embeddings and pooling over steps against PyTorch's, drawn at random, in float64 to 1e-9."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import ops

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")

# Where PyTorch has each of Keras's gates: LSTM i f g o, the same; GRU r z n for Keras's z r c.
ORDER = {"simple_rnn": [0], "lstm": [0, 1, 2, 3], "gru": [1, 0, 2]}
MODULES = {"simple_rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def in_order(cell, w, u):
    """Columns of gates in PyTorch's order, and back: each order is its own inverse."""
    return np.concatenate([w[..., gate * u : (gate + 1) * u] for gate in ORDER[cell]], axis=-1)


def tensor(array):
    return torch.tensor(array.copy(), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("cell", MODULES)
def test_values_and_gradients(cell, seed):
    rng = np.random.default_rng([seed, len(cell)])
    n, t, f, u = (int(size) for size in rng.integers(1, [9, 12, 8, 20]))
    backwards, gates = bool(rng.integers(2)), len(ORDER[cell])
    x, h0, c0 = (rng.standard_normal(shape) for shape in ((n, t, f), (n, u), (n, u)))
    kernel, recurrent = (0.6 * rng.standard_normal((rows, gates * u)) for rows in (f, u))
    biases = rng.standard_normal((2, gates * u))
    module = MODULES[cell](f, u, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        module.weight_ih_l0.copy_(tensor(in_order(cell, kernel, u).T))
        module.weight_hh_l0.copy_(tensor(in_order(cell, recurrent, u).T))
        module.bias_ih_l0.copy_(tensor(in_order(cell, biases[0], u)))
        module.bias_hh_l0.copy_(tensor(in_order(cell, biases[1], u)))
    inputs = tensor(x[:, ::-1] if backwards else x).requires_grad_()
    states = [tensor(h0[np.newaxis]).requires_grad_(), tensor(c0[np.newaxis]).requires_grad_()]
    outputs, last = module(inputs, tuple(states) if cell == "lstm" else states[0])
    lasts = last if cell == "lstm" else (last,)
    goals = [rng.standard_normal(part.shape) for part in (outputs, *lasts)]
    sum((part * tensor(goal)).sum() for part, goal in zip((outputs, *lasts), goals, strict=True)).backward()

    given = {"x": x, "kernel": kernel, "recurrent_kernel": recurrent, "h0": h0, "go_backwards": backwards}
    given |= {"c0": c0} if cell == "lstm" else {}
    bias = biases if cell == "gru" else biases.sum(axis=0)
    made = getattr(ops, cell)(**given, bias=bias)
    np.testing.assert_allclose(made[0], outputs.detach(), rtol=0, atol=1e-9)
    for ours, theirs in zip(made[1:], lasts, strict=False):
        np.testing.assert_allclose(ours, theirs.detach()[0], rtol=0, atol=1e-9)

    kept = {"lstm": {"gates": 3, "cells": 4}, "gru": {"gates": 2, "candidates": 3}}.get(cell, {})
    slopes = getattr(ops, f"{cell}_backward")(
        **given, y=made[0], **{name: made[place] for name, place in kept.items()},
        dy=goals[0], dh=goals[1][0], **({"dc": goals[2][0]} if cell == "lstm" else {}),
    )  # fmt: skip
    dx, dkernel, drecurrent, dbias, *dstates = slopes
    by_input = inputs.grad.numpy()
    of_biases = [in_order(cell, each.grad.numpy(), u) for each in (module.bias_ih_l0, module.bias_hh_l0)]
    wanted = [
        (dx, by_input[:, ::-1] if backwards else by_input),
        (dkernel, in_order(cell, module.weight_ih_l0.grad.numpy().T, u)),
        (drecurrent, in_order(cell, module.weight_hh_l0.grad.numpy().T, u)),
        (dbias, np.stack(of_biases) if cell == "gru" else of_biases[0]),
        *((ours, state.grad.numpy()[0]) for ours, state in zip(dstates, states, strict=False)),
    ]
    for place, (ours, theirs) in enumerate(wanted):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=str(place))


@pytest.mark.parametrize("seed", range(8))
def test_embedding(seed):
    rng = np.random.default_rng(seed)
    n, t, rows, d = (int(size) for size in rng.integers(1, [9, 12, 50, 20]))
    words, table, dy = rng.integers(0, rows, (n, t)), rng.standard_normal((rows, d)), rng.standard_normal((n, t, d))
    weights = tensor(table).requires_grad_()
    outputs = torch.nn.functional.embedding(torch.tensor(words), weights)
    (outputs * tensor(dy)).sum().backward()
    assert np.array_equal(ops.embedding(words, table), outputs.detach())
    np.testing.assert_allclose(ops.embedding_backward(dy, words, table), weights.grad, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("pool", ["mean", "max"])
def test_pooling_over_the_steps_that_count(pool, seed):
    rng = np.random.default_rng(seed)
    n, t, f = (int(size) for size in rng.integers(1, [9, 12, 20]))
    x, dy, mask = rng.standard_normal((n, t, f)), rng.standard_normal((n, f)), rng.integers(0, 2, (n, t))
    mask[:, 0] = 1
    inputs, counts = tensor(x).requires_grad_(), torch.tensor(mask)[:, :, None]
    if pool == "mean":
        outputs = (inputs * counts).sum(1) / counts.sum(1)
    else:
        outputs = torch.where(counts > 0, inputs, -torch.inf).max(1).values
    (outputs * tensor(dy)).sum().backward()
    flags = mask.astype(float)
    y = getattr(ops, f"sequence_{pool}")(x, flags)
    np.testing.assert_allclose(y, outputs.detach(), rtol=0, atol=1e-9)
    dx = ops.sequence_mean_backward(dy, x, flags) if pool == "mean" else ops.sequence_max_backward(dy, x, y, flags)
    np.testing.assert_allclose(dx, inputs.grad, rtol=0, atol=1e-9)
