"""Gradients of layers against central differences of their outputs, in float64."""

from __future__ import annotations

import numpy as np
import pytest


def check(layer, x, training=False, step=1e-6):
    """Compare what ``backward`` gives with differences of sum(dy * y), by the inputs and by what is trained."""
    layer.build((None, *x.shape[1:]))
    y, kept = layer.forward(x, training)
    assert y.shape == (len(x), *layer.compute_output_shape((None, *x.shape[1:]))[1:])
    dy = np.random.default_rng(8).standard_normal(y.shape)
    dx, gradients = layer.backward(dy, kept)
    assert len(gradients) == len(layer.parameters)
    trained = [(p.value, g) for p, g in zip(layer.parameters, gradients, strict=True) if p.trainable]
    assert all(g is None for p, g in zip(layer.parameters, gradients, strict=True) if not p.trainable)
    assert dx.shape == x.shape
    for array, gradient in ((x, dx), *trained):
        for place in np.ndindex(array.shape):
            value, sums = array[place], []
            for at in (value + step, value - step):
                array[place] = at
                sums.append((layer.forward(x, training)[0] * dy).sum())
            array[place] = value
            assert gradient[place] == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=1e-5, abs=1e-7), place
