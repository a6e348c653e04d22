"""Attention against PyTorch's, drawn at random, in float64 to 1e-9."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers, ops

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")


def tensor(array):
    return torch.tensor(array.copy(), requires_grad=array.dtype.kind == "f")


def near(found, expected):
    np.testing.assert_allclose(found, expected.detach(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("masked", ["all count", "mask", "causal"])
def test_the_op(seed, masked):
    """Against scaled_dot_product_attention, heads behind steps; some value counts for every query."""
    rng = np.random.default_rng([seed, len(masked)])
    n, t, s, h, d, e = (int(size) for size in rng.integers(1, [5, 40, 40, 5, 20, 20]))
    query, key, value, goal = (
        rng.standard_normal(shape) for shape in ((n, t, h, d), (n, s, h, d), (n, s, h, e), (n, t, h, e))
    )
    mask, scale = None, float(rng.uniform(0.1, 1.0))
    if masked == "mask":
        mask = rng.integers(0, 2, (n, t, s)).astype(bool)
        mask[..., rng.integers(s)] = True
    tensors = [tensor(each) for each in (query, key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(each.transpose(1, 2) for each in tensors),
        attn_mask=None if mask is None else tensor(mask[:, np.newaxis]),
        is_causal=masked == "causal",
        scale=scale,
    ).transpose(1, 2)
    (expected * torch.tensor(goal)).sum().backward()

    counted = None if mask is None else mask.astype("float64")
    causal = masked == "causal"
    near(ops.attention(query, key, value, counted, scale=scale, causal=causal), expected)
    found = ops.attention_backward(goal, query, key, value, counted, scale=scale, causal=causal)
    for slope, each in zip(found, tensors, strict=True):
        near(slope, each.grad)


@pytest.mark.parametrize("seed", range(12))
def test_the_layer(seed):
    """Against nn.MultiheadAttention of keys and values of other lengths and widths; of weights, too."""
    rng = np.random.default_rng(seed)
    n, t, s, h, d, of_key, of_value = (int(size) for size in rng.integers(1, [5, 20, 20, 5, 9, 12, 12]))
    units = h * d
    query, value, key = (rng.standard_normal(shape) for shape in ((n, t, units), (n, s, of_value), (n, s, of_key)))
    mask, goal = rng.integers(0, 2, (n, t, s)).astype(bool), rng.standard_normal((n, t, units))
    mask[..., 0] = True
    layer = layers.MultiHeadAttention(h, d, dtype="float64")
    layer(query, value, key)
    layer.set_weights([0.5 * rng.standard_normal(weight.shape) for weight in layer.weights])
    # of query, key, value and outputs: kernels and biases
    kernels, biases = layer.get_weights()[::2], layer.get_weights()[1::2]
    module = torch.nn.MultiheadAttention(
        units, h, kdim=of_key, vdim=of_value, batch_first=True, dtype=torch.float64
    )  # fmt: skip
    if module.in_proj_weight is not None:  # widths are equal
        module.in_proj_weight.data = torch.tensor(np.concatenate([each.reshape(-1, units).T for each in kernels[:3]]))
    else:
        for name, kernel in zip(("q", "k", "v"), kernels, strict=False):
            getattr(module, f"{name}_proj_weight").data = torch.tensor(kernel.reshape(-1, units).T.copy())
    module.in_proj_bias.data = torch.tensor(np.concatenate([each.ravel() for each in biases[:3]]))
    module.out_proj.weight.data = torch.tensor(kernels[3].reshape(units, units).T.copy())
    module.out_proj.bias.data = torch.tensor(biases[3].copy())
    tensors = [tensor(each) for each in (query, key, value)]
    expected, _ = module(*tensors, attn_mask=tensor(np.repeat(~mask, h, axis=0)), need_weights=False)
    (expected * torch.tensor(goal)).sum().backward()

    def loss(query, key, value):
        y = layer(query, value, key, attention_mask=mask)
        return ops.sum(ops.multiply(y, goal)), y

    (_, y), slopes = fastnn.gradients(loss, (query, key, value))
    near(y, expected)
    for slope, each in zip(slopes, tensors, strict=True):
        near(slope, each.grad)
    _, of_weights = fastnn.gradients(lambda: loss(query, key, value)[0], layer.trainable_weights)
    near(of_weights[1::2][3], module.out_proj.bias.grad)
    near(of_weights[6].reshape(units, units).T, module.out_proj.weight.grad)
    near(np.concatenate([each.ravel() for each in of_weights[1:6:2]]), module.in_proj_bias.grad)
