"""``fastnn.torch``'s functions beside PyTorch's own, their gradients by central differences, and what they refuse."""

from __future__ import annotations

import inspect

import pytest

import fastnn.torch
from fastnn.torch import ACTIVATIONS, LOSSES

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")
from fastnn.torch import functions  # noqa: E402 - behind the skip

functional = torch.nn.functional


def drawn(*shape, dtype=torch.float64, seed=0, gradient=True):
    """Numbers away from the kinks at -1, 0, 1 and where activations bend, so that differences tell the derivative."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x + 0.11 * x.sign()).to(dtype).requires_grad_(gradient)


def check(function, *tensors):
    assert torch.autograd.gradcheck(function, tensors)


def close(got, wanted):
    tolerance = 1e-5 if wanted.dtype == torch.float32 else 1e-12
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------------------------------------ linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 7), (0, 7)])
@pytest.mark.parametrize("biased", [True, False])
def test_linear(shape, biased, dtype):
    x, w = drawn(*shape, dtype=dtype), drawn(4, 7, dtype=dtype, seed=1)
    given = (x, w, drawn(4, dtype=dtype, seed=2)) if biased else (x, w)
    got, wanted = functions.linear(*given), functional.linear(*given)
    close(got, wanted)
    dy = torch.ones_like(wanted) + torch.arange(4, dtype=dtype)
    slopes = zip(torch.autograd.grad(got, given, dy), torch.autograd.grad(wanted, given, dy), strict=True)
    for slope, expected in slopes:
        close(slope, expected)


@pytest.mark.parametrize("activation", functions.FUSED)
def test_gradients_of_linear_layers(activation):
    if activation in ("binary_step", "sign"):
        pytest.skip("a step has no slope")
    check(lambda x, w, b: functions.linear(x, w, b, activation), drawn(3, 5), drawn(4, 5, seed=1), drawn(4, seed=2))


def test_gradients_that_nobody_wants_are_not_formed():
    x, w, b = drawn(3, 5), drawn(4, 5, seed=1, gradient=False), drawn(4, seed=2)
    check(lambda x, b: functions.linear(x, w, b, "tanh"), x, b)
    check(lambda w: functions.linear(x.detach(), w, b.detach(), "tanh"), drawn(4, 5, seed=1))


@pytest.mark.parametrize("wanted", [(0, 1, 2, 3, 4), (1, 2), (3,), (4,), (0,), (0, 4)])
def test_layers_one_behind_the_other(wanted):
    """Gradients reach as far down as anyone wants them."""
    given = [drawn(3, 5), drawn(6, 5, seed=1), drawn(6, seed=2), drawn(4, 6, seed=3), drawn(4, seed=4)]
    given = [each.detach().requires_grad_(place in wanted) for place, each in enumerate(given)]

    def run(x, *parameters):
        layers = list(zip(parameters[::2], parameters[1::2], strict=True))
        return functions.stacked(x, layers, ("gelu", "tanh"))

    plain = functional.gelu(functional.linear(*given[:3]))
    close(run(*given), torch.tanh(functional.linear(plain, *given[3:])))
    check(run, *given)


def test_tensors_that_are_not_contiguous():
    x, w, b = drawn(6, 10)[::2, ::2], drawn(5, 4, seed=1).T, drawn(8, seed=2)[::2]
    close(functions.linear(x, w, b), functional.linear(x, w, b))
    check(lambda x, w, b: functions.linear(x, w, b, "relu"), x, w, b)
    close(functions.tanh(x.T), torch.tanh(x.T))
    total = torch.autograd.grad(functions.linear(x, w, b, "tanh").sum(), w, retain_graph=True)  # its dy is expanded
    close(total[0], torch.autograd.grad(torch.tanh(functional.linear(x, w, b)).sum(), w)[0])


def test_nothing_is_written_down_without_gradients():
    x, w = drawn(3, 5), drawn(4, 5, seed=1)
    with torch.no_grad():
        assert functions.linear(x, w).grad_fn is None
    with torch.inference_mode():
        close(functions.linear(x, w), functional.linear(x, w))


def test_gradients_add_up_and_graphs_are_kept():
    x, w = drawn(30, 50), drawn(40, 50, seed=1)
    y = functions.linear(x, w, activation="tanh")
    y.sum().backward(retain_graph=True)
    once = w.grad.clone()
    y.sum().backward()
    close(w.grad, 2 * once)


def test_results_stay_as_they_are_while_somebody_has_them():
    """Memory of 64 KiB and more is used again, but not before its tensors are gone."""
    w = drawn(200, 300, seed=1)
    inputs = [drawn(200, 300, seed=seed) for seed in range(12)]
    results = [functions.linear(x, w, activation="relu") for x in inputs]
    views = [functions.tanh(x)[::2] for x in inputs]
    for x, y, view in zip(inputs, results, views, strict=True):
        close(y, functional.relu(functional.linear(x, w)))
        close(view, torch.tanh(x)[::2])


def test_what_is_changed_behind_autograds_back_is_noticed():
    x, w = drawn(3, 5), drawn(4, 5, seed=1)
    y = functions.linear(x, w)
    with torch.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_second_derivatives_are_refused():
    x, w = drawn(3, 5), drawn(4, 5, seed=1)
    with pytest.raises(RuntimeError, match=r"create_graph=False.*first derivatives only"):
        torch.autograd.grad(functions.linear(x, w).sum(), w, create_graph=True)


HALF = torch.ones(3, 5, dtype=torch.bfloat16)
X, W, B = torch.ones(3, 5), torch.ones(4, 5), torch.ones(4)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((HALF, W), TypeError, r"x: got Tensor of shape \(3, 5\) and dtype torch.bfloat16, wants dtype float32 or"),
        ((X, HALF), TypeError, "weight: got .*bfloat16, wants dtype float32 or float64; cast it first"),
        ((X, W, HALF[0, :4]), TypeError, "bias: got .*bfloat16"),
        (([1.0], W), TypeError, "x: got list .*, wants a tensor"),
        ((X, W.double()), TypeError, "weight: got .*float64 on cpu, wants dtype torch.float32 on cpu, as x has"),
        ((X.to_sparse(), W), TypeError, "x: got a tensor of layout torch.sparse_coo"),
        ((X.to("meta"), W), TypeError, "x: got .* on meta, wants a strided one on the CPU or a CUDA device"),
        ((X, W.T), ValueError, r"weight: got shape \(5, 4\), wants \(out, 5\)"),
        ((X, B), ValueError, r"weight: got shape \(4,\), wants \(out, 5\)"),
        ((torch.tensor(1.0), W), ValueError, r"weight: got shape \(4, 5\), wants x with axes"),
        ((X, W, B[:3]), ValueError, r"bias: got shape \(3,\), wants \(4,\), one number an output"),
        ((X, W, B, "rleu"), ValueError, r"activation: got 'rleu', wants one of .*did you mean 'relu'"),
        ((X, W, B, 3), TypeError, "activation: got int 3"),
    ],
)
def test_refused_by_linear(given, error, message):
    with pytest.raises(error, match=message):
        functions.linear(*given)


# ------------------------------------------------------------------------------------------------------- activations

THEIRS = {
    "relu": functional.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu6": functional.relu6,
    "selu": functional.selu,
    "celu": functional.celu,
    "elu": functional.elu,
    "hard_sigmoid": functional.hardsigmoid,
    "hard_tanh": functional.hardtanh,
    "hard_silu": functional.hardswish,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "mish": functional.mish,
    "log_sigmoid": functional.logsigmoid,
    "exponential": torch.exp,
    "soft_shrink": functional.softshrink,
    "hard_shrink": functional.hardshrink,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    function = getattr(functions, name)
    if name in THEIRS:
        for dtype in (torch.float32, torch.float64):
            x = drawn(3, 4, 5, dtype=dtype)
            close(function(x), THEIRS[name](x))
            close(function(x[:0]), THEIRS[name](x[:0]))
    if name not in ("binary_step", "sign"):
        check(function, drawn(3, 4))
    assert function.__name__ == name
    assert function.__doc__


def test_activations_with_numbers():
    x = drawn(3, 4)
    close(functions.leaky_relu(x, 0.3), functional.leaky_relu(x, 0.3))
    close(functions.elu(x, alpha=2.0), functional.elu(x, alpha=2.0))
    check(lambda x: functions.leaky_relu(x, negative_slope=0.3), x)
    assert list(inspect.signature(functions.leaky_relu).parameters) == ["x", "negative_slope"]
    with pytest.raises(TypeError, match="unexpected keyword"):
        functions.leaky_relu(x, slope=0.3)
    with pytest.raises(TypeError, match=r"x: got .*bfloat16"):
        functions.relu(HALF)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dim", [-1, 0, 1])
def test_softmax(name, dim):
    x = drawn(3, 4, 5)
    ours, theirs = getattr(functions, name), getattr(functional, name)
    close(ours(x, dim), theirs(x, dim))
    check(lambda x: ours(x, dim), x)
    close(ours(x[0, 0, 0], -1), theirs(x[0, 0, 0], -1))
    with pytest.raises(ValueError, match=r"dim: got 3, wants an axis of x of shape \(3, 4, 5\)"):
        ours(x, 3)


# ------------------------------------------------------------------------------------------------------------ images


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"stride": [2, 1], "padding": [0, 2], "dilation": 2},
        {"padding": "same"},
        {"groups": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("last", [False, True])
def test_convolution(options, last):
    x, w, b = drawn(2, 4, 7, 8), drawn(6, 4 // options.get("groups", 1), 3, 3, seed=1), drawn(6, seed=2)
    if last:
        x = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    close(functions.conv2d(x, w, b, **options), functional.conv2d(x, w, b, **options))
    close(functions.conv2d(x[:0], w, **options), functional.conv2d(x[:0], w, **options))
    check(lambda x, w, b: functions.conv2d(x[:, :, :5, :4], w, b, activation="silu", **options), x, w, b)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((X, W), ValueError, r"x: got shape \(3, 5\), wants images \(n, c, h, w\)"),
        ((torch.ones(1, 2, 5, 5).bfloat16(), W), TypeError, "x: got .*bfloat16"),
        ((torch.ones(1, 2, 5, 5), torch.ones(4, 3, 3, 3)), ValueError, r"weight: got shape \(4, 3, 3, 3\), wants"),
        ((torch.ones(1, 2, 5, 5), torch.ones(4, 2, 3, 3), B[:3]), ValueError, "bias: got shape"),
        ((torch.ones(1, 2, 5, 5), torch.ones(4, 2, 3, 3), None, 2, "same"), ValueError, "padding: got 'same' with"),
        ((torch.ones(1, 2, 5, 5), torch.ones(4, 2, 3, 3), None, 0), ValueError, "stride: got 0"),
    ],
)
def test_refused_by_convolution(given, error, message):
    with pytest.raises(error, match=message):
        functions.conv2d(*given)


@pytest.mark.parametrize("options", [(2,), (3, 2, 1), ((3, 2), (1, 2), (1, 0))], ids=str)
def test_pooling(options):
    x = drawn(2, 3, 7, 8)
    close(functions.max_pool2d(x, *options), functional.max_pool2d(x, *options))
    wanted = functional.avg_pool2d(x, *options, count_include_pad=False)
    close(functions.avg_pool2d(x, *options), wanted)
    for function in (functions.max_pool2d, functions.avg_pool2d):
        check(lambda x, function=function: function(x, *options), x)
    with pytest.raises(ValueError, match=r"padding: got \(2, 2\), wants half of kernel_size \(2, 2\) at most"):
        functions.max_pool2d(x, 2, 2, 2)


# ------------------------------------------------------------------------------------------------------------ losses


def test_softmax_cross_entropy():
    logits, labels = drawn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    close(functions.softmax_cross_entropy(logits, labels), functional.cross_entropy(logits, labels))
    rows = torch.softmax(drawn(5, 4, seed=1), 1).detach()
    close(functions.softmax_cross_entropy(logits, rows), functional.cross_entropy(logits, rows))
    check(lambda logits: functions.softmax_cross_entropy(logits, labels), logits)
    check(lambda logits: 3 * functions.softmax_cross_entropy(logits, rows), logits)
    with pytest.raises(ValueError, match="targets: "):
        functions.softmax_cross_entropy(logits, labels + 1)
    with pytest.raises(ValueError, match="targets: got a tensor that requires a gradient, wants one without"):
        functions.softmax_cross_entropy(logits, rows.requires_grad_())
    with pytest.raises(TypeError, match="targets: got list"):
        functions.softmax_cross_entropy(logits, [0, 3, 1, 1, 2])
    with pytest.raises(TypeError, match=r"logits: got .*bfloat16"):
        functions.softmax_cross_entropy(logits.bfloat16(), labels)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_losses(name):
    """Probabilities where a loss wants them; labels where it wants those."""
    pred, labels = drawn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    share = torch.softmax(drawn(5, 4, seed=1), 1).detach()
    targets = {"cross_entropy": labels, "multiclass_hinge": labels, "nll": labels}.get(name, share)
    if name not in ("multiclass_hinge", "nll"):
        pred = (0.1 + 0.8 * torch.sigmoid(pred)).detach().requires_grad_()
    if name in ("cross_entropy", "categorical_focal_cross_entropy", "kl_divergence"):
        pred = torch.softmax(drawn(5, 4), 1).detach().requires_grad_()
    function = getattr(functions, name)
    if name != "cross_entropy" and "focal" not in name:  # rows of probabilities must sum to 1
        check(lambda pred: function(pred, targets), pred)
    function(pred, targets, torch.tensor([1.0, 2, 0, 1, 1], dtype=torch.float64)).backward()
    assert pred.grad.shape == pred.shape


# ------------------------------------------------------------------------------------------------------- the package


def test_all_public_names():
    for name in fastnn.torch.__all__:
        assert getattr(fastnn.torch, name) is not None
    assert {*fastnn.torch.__all__} <= {*dir(fastnn.torch)}
    with pytest.raises(ImportError, match="did you mean 'conv2d'"):
        from fastnn.torch import conv2  # noqa: F401
