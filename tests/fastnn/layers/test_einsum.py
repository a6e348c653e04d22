"""Dense layers by equations: NumPy's products, shapes, gradients, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers
from tests.support.differences import check

RNG = np.random.default_rng(6)
# Equation, output_shape, bias_axes, shape of the inputs; shapes of kernel and bias.
CASES = [
    ("ab,bc->ac", 6, "c", (3, 5), [(5, 6), (6,)]),
    ("abc,cd->abd", (None, 6), "d", (3, 4, 5), [(5, 6), (6,)]),
    ("abc,cde->abde", (None, 2, 3), "d", (3, 4, 5), [(5, 2, 3), (2, 1)]),
    ("abc,bd->adc", (6, None), "d", (3, 4, 5), [(4, 6), (6, 1)]),
    ("abc,bde->acde", (None, 2, 3), None, (3, 4, 5), [(4, 2, 3)]),
    ("...x,xy->...y", 6, "y", (3, 4, 5), [(5, 6), (6,)]),
    ("...ab,bc->...ac", (4, 6), "ac", (3, 2, 4, 5), [(5, 6), (4, 6)]),
    ("ab...,bc->ac...", 7, "c", (3, 4, 5, 2), [(4, 7), (7, 1, 1)]),
]


@pytest.mark.parametrize(("equation", "sizes", "bias", "shape", "weights"), CASES)
def test_products(equation, sizes, bias, shape, weights):
    layer, x = layers.EinsumDense(equation, sizes, "tanh", bias, dtype="float64"), RNG.standard_normal(shape)
    layer.build((None, *shape[1:]))
    assert [w.shape for w in layer.weights] == weights
    layer.set_weights([RNG.standard_normal(w) for w in weights])
    kernel, *offset = layer.get_weights()
    wanted = np.tanh(np.einsum(equation, x, kernel) + (offset[0] if offset else 0))
    np.testing.assert_allclose(layer(x), wanted, rtol=1e-9, atol=1e-12)
    assert layer.compute_output_shape((None, *shape[1:])) == (None, *wanted.shape[1:])
    again = layers.deserialize(layers.serialize(layer))
    assert again.get_config() == layer.get_config()


def test_gradients_by_central_differences():
    layer = layers.EinsumDense("abc,cde->abde", (None, 2, 3), "tanh", "de", dtype="float64")
    check(layer, RNG.standard_normal((2, 3, 4)), training=True)


def test_steps_of_unknown_number():
    y = layers.EinsumDense("abc,cd->abd", (None, 6))(layers.Input((None, 5)))
    assert y.shape == (None, None, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.EinsumDense("ab,bc", 3), "^equation: got 'ab,bc', wants one such as"),
        (lambda: layers.EinsumDense("...a,ab->b...", 3), "^equation: got '...a,ab->b...', wants one such as"),
        (lambda: layers.EinsumDense("ab,bc->ad", 3), "^equation: got 'ad' in 'ab,bc->ad', wants letters of 'abbc'"),
        (lambda: layers.EinsumDense("ab,bcd->ac", 3), "^equation: got 'bcd' in 'ab,bcd->ac', wants letters of 'abac'"),
        (
            lambda: layers.EinsumDense("ab,bc->ac", 3, bias_axes="b"),
            "^bias_axes: got 'b' in 'ab,bc->ac', wants letters",
        ),
        (lambda: layers.EinsumDense("ab,bc->ac", 0), "^output_shape: got 0"),
        (
            lambda: layers.EinsumDense("ab,bc->ac", 3, name="e").build((None, 4, 5)),
            r"^e: got input shape \(None, 4, 5\)",
        ),
        (
            lambda: layers.EinsumDense("abc,cd->abd", 3, name="e").build((None, 4, 5)),
            "^e: got input shape .* wants what",
        ),
        (
            lambda: layers.EinsumDense("abc,cd->abd", (3, 6), name="e").build((None, 4, 5)),
            r"^e: got input shape .*, wants what 'abc,cd->abd' makes \[3, 6\] of",
        ),
        (
            lambda: layers.EinsumDense("abc,bd->adc", (6, None), name="e").build((None, None, 5)),
            "^e: got input shape .*, wants known sizes of 'bd'",
        ),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
