"""Pooling and resizing: equals, NaN, padding, exactness, any number of threads, wrong arguments."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import ops, use_backend
from fastnn.backends import use_num_threads

RNG = np.random.default_rng(3)
BACKENDS = ("naive", "cpu")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("strides", [(2, 2), (1, 1), (1, 3)])
def test_of_equals_the_first_has_the_derivative(strides, backend):
    x = np.ones((1, 4, 4, 2))
    with use_backend(backend):
        y = ops.max_pool2d(x, 2, strides)
        dx = ops.max_pool2d_backward(np.full(y.shape, 2.0), x, y, 2, strides)
        over_all = ops.global_max_pool_backward(np.ones((1, 2)), x.reshape(1, 16, 2), np.ones((1, 2)))
    wanted = np.zeros_like(x)
    wanted[:, : 4 - 1 : strides[0], : 4 - 1 : strides[1]] = 2
    assert np.array_equal(dx, wanted)
    assert over_all[0, 0].tolist() == [1, 1]
    assert over_all.sum() == 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_nan_stays_and_has_the_derivative(place, backend):
    x = np.array([[3.0, -1.0], [5.0, 3.0]]).reshape(1, 2, 2, 1)
    x.reshape(-1)[place] = np.nan
    with use_backend(backend):
        y = ops.max_pool2d(x, 2, 2)
        dx = ops.max_pool2d_backward(np.ones_like(y), x, y, 2, 2)
    assert np.isnan(y).all()
    assert dx.ravel().tolist() == [float(at == place) for at in range(4)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_is_never_the_largest_nor_part_of_a_mean(backend):
    x = -1.0 - np.arange(9.0).reshape(1, 3, 3, 1)
    with use_backend(backend):
        for padding in ("same", ((0, 1), (0, 1))):
            assert ops.max_pool2d(x, 2, 2, padding).ravel().tolist() == [-1, -3, -7, -9]
            assert ops.average_pool2d(x, 2, 2, padding).ravel().tolist() == [-3, -4.5, -7.5, -9]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_integers_are_exact(dtype):
    """Sums and choices of small integers: one wrong index shows."""
    x = RNG.integers(-50, 50, (3, 11, 9, 37)).astype(dtype)
    windows = np.lib.stride_tricks.sliding_window_view(x, (4, 2), (1, 2))[:, ::3, ::1]
    assert np.array_equal(ops.max_pool2d(x, (4, 2), (3, 1)), windows.max((-1, -2)))
    assert np.array_equal(ops.average_pool2d(x, (4, 2), (3, 1)), windows.mean((-1, -2)))
    y = ops.upsample2d(x, (2, 3))
    assert np.array_equal(ops.upsample2d_backward(y, x, (2, 3)), 6 * x)
    padded = ops.zero_pad2d(x, ((1, 2), (0, 3)))
    assert np.array_equal(ops.crop2d(padded, ((1, 2), (0, 3))), x)
    assert np.array_equal(padded.sum(), x.sum())


def test_results_do_not_depend_on_threads():
    x = RNG.standard_normal((5, 23, 22, 70)).astype("float32")
    results = []
    for threads in (1, 2, 3, 4):
        with use_num_threads(threads):
            y = ops.max_pool2d(x, 3, 2, "same")
            mean = ops.average_pool2d(x, 3, 2, "same")
            rows = x.reshape(5, -1, 70)
            results.append(
                [
                    *(y, mean, ops.global_average_pool(rows), ops.global_max_pool(rows)),
                    ops.max_pool2d_backward(mean, x, y, 3, 2, "same"),
                    ops.average_pool2d_backward(mean, x, 3, 2, "same"),
                    ops.global_average_pool_backward(y[:, 0, 0], rows),
                    *(ops.upsample2d(y, 2), ops.zero_pad2d(y, 3), ops.crop2d(y, 2)),
                ]
            )
    for other in results[1:]:
        assert all(map(np.array_equal, results[0], other))


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda x: ops.max_pool2d(x, 5, 1), "x: got the size 4 along axis 1, wants with its padding at least the 5"),
        (lambda x: ops.max_pool2d(x, 0, 1), "pool_size: got 0"),
        (lambda x: ops.average_pool2d(x, (2, 2, 2), 1), r"pool_size: got tuple \(2, 2, 2\), wants an integer or 2"),
        (lambda x: ops.average_pool2d(x, 2, 0), "strides: got 0"),
        (lambda x: ops.average_pool2d(x, 2, 1, 2), "padding: got .*, wants it less than the window on every side"),
        (lambda x: ops.max_pool2d(x, 2, 1, "sane"), "padding: got 'sane'"),
        (lambda x: ops.max_pool2d(x[0], 2, 1), r"x: got shape \(4, 4, 3\)"),
        (lambda x: ops.max_pool2d_backward(x, x, x, 2, 2), r"dy: got shape \(1, 4, 4, 3\), wants shape \(1, 2, 2, 3\)"),
        (lambda x: ops.crop2d(x, 3), "cropping: got .*wants 4 at most"),
        (lambda x: ops.crop2d(x, "same"), "cropping: got str 'same', wants it numbers"),
        (lambda x: ops.zero_pad2d(x, -1), "padding: got -1"),
        (lambda x: ops.upsample2d(x, 0), "size: got 0"),
        (ops.global_max_pool, r"x: got shape \(1, 4, 4, 3\), wants shape \(n, s, c\)"),
    ],
)
def test_wrong_arguments(call, wanted):
    with pytest.raises(ValueError, match=wanted):
        call(np.zeros((1, 4, 4, 3)))
