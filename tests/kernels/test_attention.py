"""Attention beyond the table's cases: several blocks of queries, threads, queries that no value counts for, strides."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

import fastnn
from fastnn import ops
from fastnn.backends import use_num_threads

GRADIENTS = ("dquery", "dkey", "dvalue")


def drawn(dtype, n=3, t=70, s=600, h=2, d=16, e=20):
    """Of more scores than a block has."""
    rng = np.random.default_rng(7)
    shapes = (n, t, h, e), (n, t, h, d), (n, s, h, d), (n, s, h, e)
    dy, *operands = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return dy, operands, rng.integers(0, 2, (n, t, s)).astype(dtype)


@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 2e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("causal", [False, True])
def test_blocks_of_queries_add_up(dtype, allowed, causal):
    dy, operands, mask = drawn(dtype)
    given = [oracle.wide(each) for each in (*operands, mask)]
    y = ops.attention(*operands, mask, scale=0.3, causal=causal)
    np.testing.assert_allclose(y, oracle.attention(*given, 0.3, causal), rtol=0, atol=allowed)
    found = ops.attention_backward(dy, *operands, mask, scale=0.3, causal=causal)
    wanted = oracle.attention_backward(oracle.wide(dy), *given, 0.3, causal)
    for place, slope in enumerate(found):
        np.testing.assert_allclose(slope, wanted[place], rtol=0, atol=20 * allowed, err_msg=GRADIENTS[place])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_bits_by_any_number_of_threads(dtype):
    dy, operands, mask = drawn(dtype)
    found = []
    for threads in (1, 2, 3, 4):
        with use_num_threads(threads):
            found.append((ops.attention(*operands, mask), *ops.attention_backward(dy, *operands, mask)))
    for others in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], others, strict=True))


@pytest.mark.parametrize("backend", ["cpu", "naive"])
def test_a_query_that_no_value_counts_for_has_the_mean_of_all(backend):
    dy, operands, mask = drawn("float32", n=1, t=3, s=5)
    mask[0, 1] = 0
    with fastnn.use_backend(backend):
        y = ops.attention(*operands, mask)
        dq, _, dv = ops.attention_backward(dy, *operands, mask)
    np.testing.assert_allclose(y[0, 1], operands[2][0].mean(axis=0), atol=1e-6)
    assert not dq[0, 1].any()
    assert dv.all()


def test_operands_of_any_strides():
    dy, operands, mask = drawn("float32", t=20, s=30)
    turned = [np.ascontiguousarray(each.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3) for each in operands]
    stretched = np.broadcast_to(mask[:, :1, ::-1], mask.shape)
    plain = np.ascontiguousarray(stretched)
    assert np.array_equal(ops.attention(*turned, stretched), ops.attention(*operands, plain))
    found, wanted = (
        ops.attention_backward(np.asfortranarray(dy), *turned, stretched),
        ops.attention_backward(dy, *operands, plain),
    )
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_what_does_not_fit_is_refused():
    dy, (query, key, value), mask = drawn("float32", n=2, t=3, s=4)
    for given, name in (
        ((query, key[..., 1:], value), "key"),
        ((query, key, value[:, 1:]), "value"),
        ((query, key, value[:, :, :1]), "value"),
        ((query[0], key, value), "query"),
        ((query, key, value, mask[:, 1:]), "mask"),
        ((query, key.astype("float64"), value), "key"),
    ):
        with pytest.raises((TypeError, ValueError), match=name):
            ops.attention(*given)
    with pytest.raises(ValueError, match="scale"):
        ops.attention(query, key, value, scale=np.inf)
    with pytest.raises(TypeError, match="causal"):
        ops.attention(query, key, value, causal=2)
    with pytest.raises(ValueError, match="need"):
        ops.attention_backward(dy, query, key, value, need=("dmask",))
