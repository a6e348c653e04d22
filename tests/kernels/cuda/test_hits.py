"""What outputs hit of targets, on a device or the host that stands in: sample by sample what metrics say."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import metrics
from fastnn.kernels.table import DTYPES

NAN = np.nan


@pytest.fixture
def hits(cupy):
    from fastnn.kernels.cuda import hits

    return hits


def outputs(n, c, dtype, special=True):
    """With ties, and with rows that have numbers that are none."""
    rng = np.random.default_rng(n + c)
    scores = rng.integers(-3, 4, (n, c)).astype(dtype)
    if special and n > 4:
        scores[1], scores[2, :1], scores[3, -1:] = NAN, NAN, np.inf
    return scores, rng


def found(cupy, hits, kind, number, scores, targets, index):
    device = [cupy.asarray(np.ascontiguousarray(each)) for each in (scores, targets, index)]
    assert hits.is_served(kind, *device[:2])
    return hits.hits(kind, number, *device).get()


SIZES = [(0, 3), (1, 1), (7, 2), (40, 10), (300, 33)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "c"), SIZES)
def test_accuracies(cupy, hits, n, c, dtype):
    scores, rng = outputs(n, c, dtype)
    labels, index = rng.integers(0, c, n + 5), rng.integers(0, n + 5, n)
    rows = rng.integers(0, 3, (n + 5, c)).astype(dtype)
    wanted = metrics.sparse_categorical_accuracy(labels[index], scores)
    np.testing.assert_array_equal(found(cupy, hits, "accuracy", 0, scores, labels, index), wanted)
    wanted = metrics.categorical_accuracy(rows[index], scores)
    np.testing.assert_array_equal(found(cupy, hits, "accuracy", 0, scores, rows, index), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "c"), SIZES)
def test_classes_among_the_largest(cupy, hits, n, c, dtype):
    scores, rng = outputs(n, c, dtype)
    labels, index = rng.integers(0, c, n + 5), rng.integers(0, n + 5, n)
    rows = rng.integers(0, 3, (n + 5, c)).astype(dtype)
    for k in (1, 2, 5):
        wanted = metrics.sparse_top_k_categorical_accuracy(labels[index], scores, k)
        np.testing.assert_array_equal(found(cupy, hits, "top_k", k, scores, labels, index), wanted)
        wanted = metrics.top_k_categorical_accuracy(rows[index], scores, k)
        np.testing.assert_array_equal(found(cupy, hits, "top_k", k, scores, rows, index), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "c"), SIZES)
def test_sides_of_a_threshold(cupy, hits, n, c, dtype):
    scores, rng = outputs(n, c, dtype)
    rows, index = rng.integers(0, 2, (n + 5, c)).astype(dtype), rng.integers(0, n + 5, n)
    wanted = metrics.binary_accuracy(rows[index], scores, 0.5)
    np.testing.assert_array_equal(found(cupy, hits, "binary_accuracy", 0.5, scores, rows, index), wanted)


def test_what_no_kernel_knows(cupy, hits):
    scores, labels = cupy.zeros((4, 3), "float32"), cupy.zeros((4,), "int64")
    rows = cupy.zeros((4, 3), "float32")
    assert hits.is_served("accuracy", scores, labels)
    assert hits.is_served("binary_accuracy", scores, rows)
    for kind, outputs_, targets in (
        (None, scores, labels),
        ("squared", scores, rows),
        ("binary_accuracy", scores, labels),
        ("accuracy", cupy.zeros((4, 2, 3), "float32"), rows),
        ("accuracy", scores, cupy.zeros((4, 2), "float32")),
        ("accuracy", scores, cupy.zeros((4, 3), "float64")),
        ("accuracy", scores, cupy.zeros((4, 1), "int64")),
    ):
        assert not hits.is_served(kind, outputs_, targets)
