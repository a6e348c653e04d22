"""Labels, targets and numbers of rows that are not as they ought to be, on a device, where nobody reads them before."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import ops

ROWS = np.full((3, 2), 0.5)
WRONG = {
    "label too large": ("softmax_cross_entropy", ROWS, np.array([0, 2, 1])),
    "label below 0": ("cross_entropy", ROWS, np.array([0, -1, 1])),
    "far away": ("nll", ROWS, np.array([0, 2**62, 1])),
    "class of a hinge": ("multiclass_hinge", ROWS, np.array([0, 2, 1])),
    "sum": ("softmax_cross_entropy", ROWS, np.array([[1, 0], [1, 1], [0, 1]], "float64")),
    "negative": ("cross_entropy", ROWS, np.array([[1, 0], [1.5, -0.5], [0, 1]])),
    "not a number": ("softmax_cross_entropy", ROWS, np.array([[1, 0], [np.nan, 0], [0, 1]])),
    "above 1": ("binary_cross_entropy", ROWS, np.array([[1, 0], [1.5, 0], [0, 1]])),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_loss_is_nan(cupy, case):
    name, pred, targets = WRONG[case]
    loss, slope = getattr(ops, name)(cupy.asarray(pred), cupy.asarray(targets))
    assert np.isnan(loss.get())
    assert slope.shape == pred.shape
    right = np.clip(targets, 0, 1) if targets.ndim == 1 else np.array([[1, 0], [0, 1], [0, 1]], "float64")
    assert np.isfinite(getattr(ops, name)(cupy.asarray(pred), cupy.asarray(right))[0].get())


def test_rows_that_there_are_not(cupy):
    data, index = cupy.asarray(np.arange(6.0).reshape(3, 2)), cupy.asarray(np.array([2, 3, -1, 0, 2**62]))
    found = ops.gather(data, index).get()
    np.testing.assert_array_equal(found[[0, 3]], [[4, 5], [0, 1]])
    assert np.isnan(found[[1, 2, 4]]).all()
    assert (
        ops.gather_backward(cupy.asarray(np.ones((2, 2))), data, cupy.asarray(np.array([2**63 - 1, 0]))).get()[0, 0]
        == 1
    )
    summed = ops.gather_backward(cupy.asarray(np.ones((5, 2))), data, index).get()
    np.testing.assert_array_equal(summed, [[1, 1], [0, 0], [1, 1]])
