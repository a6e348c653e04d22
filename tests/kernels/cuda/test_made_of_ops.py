"""Functions of ``fastnn.ops`` that are made of ops, and random arrays: on a device what they are on the host."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops, random

RNG = np.random.default_rng(31)
A, W = RNG.standard_normal((3, 4)).astype("float32"), RNG.uniform(0.5, 2.0, (3, 4)).astype("float32")
ROWS, IDS = np.array([[2, 0], [1, 1]]), np.array([2, 0, 2])

# Of device arrays a and w, and row numbers rows and ids.
CALLS = {
    "take": lambda a, w, rows, ids: ops.take(a, rows, 0),
    "take from the end": lambda a, w, rows, ids: ops.take(a, [-1, 0], 1),
    "take one": lambda a, w, rows, ids: ops.take(a, 1, 1),
    "take whole numbers": lambda a, w, rows, ids: ops.take(rows, [0, 1, 1], 1),
    "take_along_axis": lambda a, w, rows, ids: ops.take_along_axis(a, ids.reshape(3, 1), 1),
    "sort": lambda a, w, rows, ids: ops.sort(a, 0),
    "top_k": lambda a, w, rows, ids: ops.top_k(a, 2),
    "in_top_k": lambda a, w, rows, ids: ops.in_top_k(ids, a, 2),
    "roll": lambda a, w, rows, ids: ops.roll(a, (1, -1), (0, 1)),
    "tril": lambda a, w, rows, ids: ops.tril(a) + ops.triu(w, 1),
    "diagonal": lambda a, w, rows, ids: (ops.diagonal(a, 1), ops.diag(a[0], 1), ops.trace(a)),
    "slice": lambda a, w, rows, ids: ops.slice_update(a, (1, 1), ops.slice(w, (0, 0), (2, 2))),
    "segment_sum": lambda a, w, rows, ids: ops.segment_sum(a, ids, 4),
    "scatter": lambda a, w, rows, ids: ops.scatter(ids.reshape(3, 1), a, (3, 4)),
    "stacks": lambda a, w, rows, ids: (ops.hstack([a, w]), ops.vstack([a, w]), ops.broadcast_to(a, (2, 3, 4))),
    "functions": lambda a, w, rows, ids: (ops.tan(w), ops.sinh(a), ops.cosh(a), ops.log2(w), ops.reciprocal(w)),
    "waves": lambda a, w, rows, ids: (ops.sin(a), ops.cos(a), ops.erf(a), ops.logaddexp(a, w), ops.log10(w)),
    "running": lambda a, w, rows, ids: (ops.cumsum(a, 1), ops.cumprod(a, 0), ops.prod(a, 1), ops.prod(w)),
    "norms": lambda a, w, rows, ids: (ops.norm(a), ops.norm(a, 1, 0), ops.norm(a, np.inf, 1), *ops.moments(a, 0)),
    "quantiles": lambda a, w, rows, ids: (ops.median(a, 1), ops.quantile(a, [0.2, 0.7], 0), ops.median(w)),
    "others": lambda a, w, rows, ids: (ops.outer(a, w), ops.diff(a, 2), ops.floor_divide(a, w), ops.mod(a, w)),
    "gradients": lambda a, w, rows, ids: fastnn.gradients(lambda a, w: loss(a, w, rows, ids), [a, w])[1],
    "distances": lambda a, w, rows, ids: (ops.cdist(a, w), ops.hypot(a, w), ops.divide_no_nan(a, w), ops.inner(a, w)),
    "scatter_update": lambda a, w, rows, ids: (ops.scatter_update(a, [[0, 1]], w[0, :1]), ops.multi_hot(rows, 3)),
    "loops": lambda a, w, rows, ids: ops.scan(lambda c, x: (c * x, c), ops.ones_like(a[0]), a),
    "powers": lambda a, w, rows, ids: fastnn.gradients(lambda w: ops.sum(w**1.5 + w**-3 + 2.0**w), [w])[1],
    "shuffle": lambda a, w, rows, ids: random.shuffle(a, 1, seed=3),
    "dropout": lambda a, w, rows, ids: (random.dropout(a, 0.5, seed=3), random.dropout(a, 0.5, (1, 4), seed=3)),
    "categorical": lambda a, w, rows, ids: random.categorical(a, 20, seed=3),
}


def loss(a, w, rows, ids):
    taken = ops.sum(ops.take(a, rows, 0)[:, 1] * w[:2])
    return taken + ops.sum(ops.sin(ops.sort(a, 1)) * ops.segment_sum(w, ids, 3))


def on_host(result):
    together = result if isinstance(result, tuple) else (result,)
    return [each.get() if hasattr(each, "get") else each for each in together]


@pytest.mark.parametrize("name", CALLS)
def test_they_are_what_they_are_on_the_host(cupy, name):
    wanted = CALLS[name](A, W, ROWS, IDS)
    found = CALLS[name](*map(cupy.asarray, (A, W, ROWS, IDS)))
    for here, there in zip(on_host(wanted), on_host(found), strict=True):
        np.testing.assert_allclose(there, here, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["normal", "uniform", "truncated_normal"])
def test_equal_seeds_give_equal_numbers(cupy, name):
    wanted = getattr(random, name)((5, 70), seed=4)
    with fastnn.use_backend("cuda"):
        found = getattr(random, name)((5, 70), seed=4)
    assert type(found) is cupy.ndarray
    np.testing.assert_allclose(found.get(), wanted, rtol=1e-5, atol=1e-6)


def test_whole_numbers(cupy):
    with fastnn.use_backend("cuda"):
        found = random.randint((40,), -5, 2**30, seed=4)
    assert np.array_equal(found.get(), random.randint((40,), -5, 2**30, seed=4))
