"""Ops as a PyTorch user writes them who minds the cost: on tensors, into ``out``.

Autograd is for losses of which PyTorch has no derivative as a function of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]
import torch.nn.functional as F  # type: ignore[import-not-found, unused-ignore]  # noqa: N812

from fastnn import get_num_threads

torch.set_num_threads(get_num_threads())


aten = torch.ops.aten


def softmax_cross_entropy(logits: Any, targets: Any, out: Any) -> Any:
    """Half the time of ``cross_entropy`` and ``backward``, as stable: log sum exp comes from the largest logit."""
    torch.softmax(logits, 1, out=out)
    largest, where = logits.max(dim=1, keepdim=True)
    chosen = targets[:, None]
    loss = (largest - out.gather(1, where).log_() - logits.gather(1, chosen)).mean()
    out /= len(out)
    out.scatter_add_(1, chosen, torch.full_like(largest, -1 / len(out)))
    return float(loss), out


def softsign(x: Any, out: Any) -> Any:
    return torch.div(x, torch.abs(x, out=out).add_(1), out=out)


def softsign_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    return torch.abs(y, out=out).neg_().add_(1).square_().mul_(dy)


def log_sigmoid_backward(dy: Any, x: Any, y: Any, out: Any) -> Any:
    return torch.expm1(y, out=out).neg_().mul_(dy)


def _rmsprop_step(w: Any, dw: Any, mean_square: Any) -> None:
    """``rmsprop_step`` with its defaults; over ``dw``."""
    mean_square.mul_(0.9).addcmul_(dw, dw, value=0.1)
    w.addcdiv_(dw, (mean_square + 1e-7).sqrt_(), value=-0.001)


def linear_rmsprop_step(
    dy: Any, x: Any, w: Any, y: Any, mean_square: Any, b: Any, mean_square_b: Any, activation: str, dx: Any, dw: Any
) -> Any:
    """Of no row's bench: it has a line of its own. ``dw`` is memory for the gradient."""
    assert activation == "relu"
    dz = aten.threshold_backward(dy, y, 0)
    torch.mm(dz, w.T, out=dx)
    torch.mm(x.T, dz, out=dw)
    _rmsprop_step(w, dw, mean_square)
    _rmsprop_step(b, dz.sum(dim=0), mean_square_b)
    return dx


def prelu(x: Any, alpha: Any) -> Any:
    """It has no form with ``out``."""
    return torch.prelu(x, alpha)


def prelu_backward(dy: Any, x: Any, alpha: Any) -> Any:
    dx, shares = aten._prelu_kernel_backward(dy, x, alpha)
    return dx, shares.sum(dim=0)


def mae(pred: Any, target: Any) -> Any:
    difference = pred - target
    gradient = torch.sign(difference).div_(difference.numel())
    return float(difference.abs_().mean()), gradient


def binary_cross_entropy(pred: Any, target: Any) -> Any:
    one = torch.ones((), dtype=pred.dtype)
    gradient = aten.binary_cross_entropy_backward(one, pred, target)
    return float(aten.binary_cross_entropy(pred, target)), gradient


def multiclass_hinge(scores: Any, targets: Any) -> Any:
    """PyTorch divides by the number of classes."""
    classes = torch.full((), scores.shape[1], dtype=scores.dtype)
    gradient = aten.multi_margin_loss_backward(classes, scores, targets, 1, 1)
    return float(aten.multi_margin_loss(scores, targets) * classes), gradient


def nll(log_probs: Any, targets: Any) -> Any:
    value, weight = aten.nll_loss_forward(log_probs, targets, None, 1, -100)
    return float(value), aten.nll_loss_backward(torch.ones(()), log_probs, targets, None, 1, -100, weight)


def _choice_backward(compare: Any) -> Callable[..., Any]:
    """The op of the derivatives of the larger or the smaller of two numbers."""

    def run(dy: Any, a: Any, b: Any) -> Any:
        first = compare(a, b)
        return dy * first, dy * ~first

    return run


# The layers' own epsilon, and all three gradients.
_EPSILON, _ALL = 1e-3, [True, True, True]


def batch_norm(x: Any) -> Any:
    return aten.native_batch_norm(x, None, None, None, None, True, 0.0, _EPSILON)


def batch_norm_backward(dy: Any, x: Any, mean: Any, rstd: Any) -> Any:
    ones = torch.ones_like(mean)
    return aten.native_batch_norm_backward(dy, x, ones, None, None, mean, rstd, True, _EPSILON, _ALL)


def batch_norm_inference(x: Any, moving_mean: Any, moving_variance: Any) -> Any:
    return F.batch_norm(x, moving_mean, moving_variance, eps=_EPSILON)


def batch_norm_inference_backward(dy: Any, x: Any, moving_mean: Any, moving_variance: Any) -> Any:
    given = torch.ones_like(moving_mean), moving_mean, moving_variance
    return aten.native_batch_norm_backward(dy, x, *given, None, None, False, _EPSILON, _ALL)


def layer_norm(x: Any) -> Any:
    return F.layer_norm(x, x.shape[1:], eps=_EPSILON)


def layer_norm_backward(dy: Any, x: Any) -> Any:
    """With the row's figures anew, as the op has them."""
    ones = torch.ones(x.shape[1], dtype=x.dtype)
    _, mean, rstd = aten.native_layer_norm(x, x.shape[1:], None, None, _EPSILON)
    return aten.native_layer_norm_backward(dy, x, x.shape[1:], mean, rstd, ones, torch.zeros_like(ones), _ALL)


def _first(x: Any) -> Any:
    """Channels first, as PyTorch names them, where they lie: last."""
    return x.permute(0, 3, 1, 2)


def _last(x: Any) -> Any:
    return x.permute(0, 2, 3, 1)


def _pool_arguments(pool_size: Any, strides: Any, padding: str) -> Any:
    """Window, strides, and whether to round up, which is what "same" does where it pads one number behind."""
    return pool_size, strides, [0, 0], padding == "same"


def max_pool2d(x: Any, pool_size: Any, strides: Any, padding: str) -> Any:
    window, moved, around, up = _pool_arguments(pool_size, strides, padding)
    return _last(F.max_pool2d(_first(x), window, moved, around, ceil_mode=up))


def _kernel_first(w: Any) -> Any:
    """A kernel (kh, kw, c, f) as PyTorch has it, a view."""
    return w.permute(3, 2, 0, 1)


def conv2d(x: Any, w: Any) -> Any:
    return _last(F.conv2d(_first(x), _kernel_first(w)))


def conv2d_backward(dy: Any, x: Any, w: Any, y: Any) -> Any:
    given = _first(dy), _first(x), _kernel_first(w), [w.shape[3]], [1, 1], [0, 0], [1, 1], False, [0, 0], 1
    dx, dw, db = aten.convolution_backward(*given, [True, True, True])
    return _last(dx), dw.permute(2, 3, 1, 0), db


def average_pool2d(x: Any, pool_size: Any, strides: Any, padding: str) -> Any:
    window, moved, around, up = _pool_arguments(pool_size, strides, padding)
    return _last(F.avg_pool2d(_first(x), window, moved, around, up, count_include_pad=False))


# Places of the largest numbers of an x, which PyTorch has from its forward pass.
_places: dict[int, Any] = {}


def max_pool2d_backward(dy: Any, x: Any, y: Any, pool_size: Any, strides: Any, padding: str) -> Any:
    window, moved, around, up = _pool_arguments(pool_size, strides, padding)
    if x.data_ptr() not in _places:
        _places.clear()
        _places[x.data_ptr()] = aten.max_pool2d_with_indices(_first(x), window, moved, around, [1, 1], up)[1]
    given = _first(dy), _first(x), window, moved, around, [1, 1], up
    return _last(aten.max_pool2d_with_indices_backward(*given, _places[x.data_ptr()]))


def average_pool2d_backward(dy: Any, x: Any, pool_size: Any, strides: Any, padding: str) -> Any:
    window, moved, around, up = _pool_arguments(pool_size, strides, padding)
    return _last(aten.avg_pool2d_backward(_first(dy), _first(x), window, moved, around, up, False, None))


def global_max_pool_backward(dy: Any, x: Any, y: Any) -> Any:
    return torch.zeros_like(x).scatter_(1, x.argmax(dim=1, keepdim=True), dy[:, None])


def global_average_pool_backward(dy: Any, x: Any, out: Any) -> Any:
    return out.copy_((dy / x.shape[1])[:, None].expand_as(x))


def upsample2d_backward(dy: Any, x: Any, out: Any) -> Any:
    n, h, w, c = x.shape
    return torch.sum(dy.reshape(n, h, 2, w, 2, c), (2, 4), out=out)


_MEAN, _SUM = 1, 2


def _functions(loss: Any, backward: Any, reduction: int, *numbers: float) -> Callable[..., Any]:
    """The op of a loss whose derivative is a function of ATen's too."""

    def run(pred: Any, target: Any) -> Any:
        one = torch.ones((), dtype=pred.dtype)
        return float(loss(pred, target, reduction, *numbers)), backward(one, pred, target, reduction, *numbers)

    return run


def _of_mse(share: Callable[[Any], float]) -> Callable[..., Any]:
    """The op of a ``share`` of the sum of squares."""

    def run(pred: Any, target: Any) -> Any:
        part = torch.full((), share(pred), dtype=pred.dtype)
        gradient = aten.mse_loss_backward(part, pred, target, _SUM)
        return float(aten.mse_loss(pred, target, _SUM) * part), gradient

    return run


def _derived(loss: Callable[[Any, Any], Any], pred: Any, target: Any) -> Any:
    """A loss, and what autograd makes its derivative."""
    leaf = pred.detach().requires_grad_()
    value = loss(leaf, target)
    (gradient,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), gradient


def _by_autograd(loss: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """The op of a loss (pred, target) -> value that autograd derives."""

    def run(pred: Any, target: Any) -> Any:
        return _derived(loss, pred, target)

    return run


# Where losses keep logarithms and probabilities.
_CLIP = 1e-7


def _squared_logarithmic(pred: Any, target: Any) -> Any:
    return F.mse_loss(torch.log1p(pred.clamp_min(_CLIP)), torch.log1p(target.clamp_min(_CLIP)))


def _log_cosh(pred: Any, target: Any) -> Any:
    size = (pred - target).abs()
    return (size + F.softplus(-2 * size)).mean() - math.log(2)


def _binary_focal(pred: Any, target: Any) -> Any:
    wrong = target + (1 - 2 * target) * pred
    return (wrong.square() * F.binary_cross_entropy(pred, target, reduction="none")).mean()


def cross_entropy(probs: Any, targets: Any) -> Any:
    def loss(p: Any, labels: Any) -> Any:
        return F.nll_loss((p / p.sum(dim=1, keepdim=True)).log(), labels)

    return _derived(loss, probs, targets)


def _focal(pred: Any, target: Any) -> Any:
    scaled = (pred / pred.sum(dim=1, keepdim=True)).clamp(_CLIP, 1 - _CLIP)
    return -(target * (1 - scaled).square() * scaled.log()).sum() / len(pred)


def _divergence(pred: Any, target: Any) -> Any:
    return F.kl_div(pred.clamp(_CLIP, 1).log(), target.clamp(_CLIP, 1), reduction="batchmean")


def _categorical_hinge(pred: Any, target: Any) -> Any:
    wrong = ((1 - target) * pred).amax(dim=1)
    return (wrong - (target * pred).sum(dim=1) + 1).clamp_min(0).mean()


def _forward(function: Any, *numbers: float, **options: Any) -> Callable[..., Any]:
    """The op of one of PyTorch's functions, with its numbers."""

    def run(x: Any, out: Any) -> Any:
        return function(x, *numbers, **options, out=out)

    return run


def _by_x(function: Any, *numbers: Any, **options: Any) -> Callable[..., Any]:
    """The op of a derivative that one of ATen's functions tells by x."""

    def run(dy: Any, x: Any, y: Any, out: Any) -> Any:
        return function.grad_input(dy, x, *numbers, **options, grad_input=out)

    return run


def _by_y(function: Any, *numbers: Any) -> Callable[..., Any]:
    """The op of a derivative that one of ATen's functions tells by y."""

    def run(dy: Any, x: Any, y: Any, out: Any) -> Any:
        return function.grad_input(dy, y, *numbers, grad_input=out)

    return run


def _elu_by_y(alpha: float, scale: float) -> Callable[..., Any]:
    def run(dy: Any, x: Any, y: Any, out: Any) -> Any:
        return aten.elu_backward.grad_input(dy, alpha, scale, 1.0, True, y, grad_input=out)

    return run


_SELU = 1.6732632423543772, 1.0507009873554805

# Losses, with their default numbers: value and derivative.
_LOSSES: dict[str, Callable[..., Any]] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "mse": _functions(aten.mse_loss, aten.mse_loss_backward, _MEAN),
    "mae": mae,
    "half_sse": _of_mse(lambda pred: 0.5),
    "quadratic_cost": _of_mse(lambda pred: 0.5 / len(pred)),
    "mape": _by_autograd(lambda pred, target: 100 * ((pred - target) / target.abs().clamp_min(_CLIP)).abs().mean()),
    "msle": _by_autograd(_squared_logarithmic),
    "huber": _functions(aten.huber_loss, aten.huber_loss_backward, _MEAN, 1.0),
    "log_cosh": _by_autograd(_log_cosh),
    "hinge": _by_autograd(lambda pred, target: (1 - target * pred).clamp_min(0).mean()),
    "squared_hinge": _by_autograd(lambda pred, target: (1 - target * pred).clamp_min(0).square().mean()),
    "poisson": _by_autograd(lambda pred, target: F.poisson_nll_loss(pred, target, log_input=False, eps=_CLIP)),
    "half_poisson_deviance": _by_autograd(
        lambda pred, target: (pred.exp() - target * pred + torch.xlogy(target, target) - target).sum() / len(pred)
    ),
    "binary_focal_cross_entropy": _by_autograd(_binary_focal),
    "categorical_focal_cross_entropy": _by_autograd(_focal),
    "kl_divergence": _by_autograd(_divergence),
    "cosine_similarity": _by_autograd(lambda pred, target: -F.cosine_similarity(pred, target).mean()),
    "categorical_hinge": _by_autograd(_categorical_hinge),
    "multiclass_hinge": multiclass_hinge,
    "nll": nll,
}
# Activations with their default numbers.
_FORWARD: dict[str, Callable[..., Any]] = {
    "identity": lambda x, out: out.copy_(x),
    "relu": _forward(torch.clamp_min, 0),
    "sigmoid": _forward(torch.sigmoid),
    "tanh": _forward(torch.tanh),
    "relu6": _forward(aten.hardtanh.out, 0, 6),
    "bounded_relu": _forward(torch.clamp_min, 0),
    "leaky_relu": _forward(aten.leaky_relu.out, 0.2),
    "elu": _forward(aten.elu.out),
    "celu": _forward(aten.elu.out),
    "selu": _forward(aten.elu.out, *_SELU),
    "hard_sigmoid": _forward(aten.hardsigmoid.out),
    "log_sigmoid": _forward(aten.log_sigmoid.out),
    "hard_tanh": _forward(aten.hardtanh.out),
    "softplus": _forward(aten.softplus.out),
    "softsign": softsign,
    "silu": _forward(aten.silu.out),
    "hard_silu": _forward(aten.hardswish.out),
    "gelu": _forward(aten.gelu.out),
    "gelu_tanh": _forward(aten.gelu.out, approximate="tanh"),
    "mish": _forward(aten.mish.out),
    "exponential": _forward(torch.exp),
    "threshold": _forward(aten.threshold.out, 0, 0),
    "soft_shrink": _forward(aten.softshrink.out, 0.5),
    "hard_shrink": _forward(aten.hardshrink.out, 0.5),
    "binary_step": _forward(torch.ge, 0),
    "sign": _forward(torch.sign),
    "square": _forward(torch.square),
    "sqrt": _forward(torch.sqrt),
    "log": _forward(torch.log),
    "absolute": _forward(torch.abs),
    "rsqrt": _forward(torch.rsqrt),
    "log1p": _forward(torch.log1p),
    "expm1": _forward(torch.expm1),
    "erf": _forward(torch.erf),
    "sin": _forward(torch.sin),
    "cos": _forward(torch.cos),
    "prelu": prelu,
    "softmax": _forward(torch.softmax, 1),
    "log_softmax": _forward(torch.log_softmax, 1),
}
_BACKWARD: dict[str, Callable[..., Any]] = {
    "identity": lambda dy, x, y, out: out.copy_(dy),
    "relu": _by_y(aten.threshold_backward, 0),
    "sigmoid": _by_y(aten.sigmoid_backward),
    "tanh": _by_y(aten.tanh_backward),
    "relu6": _by_y(aten.hardtanh_backward, 0, 6),
    "bounded_relu": _by_y(aten.threshold_backward, 0),
    "leaky_relu": _by_y(aten.leaky_relu_backward, 0.2, True),
    "elu": _elu_by_y(1.0, 1.0),
    "celu": _elu_by_y(1.0, 1.0),
    "selu": _elu_by_y(*_SELU),
    "hard_sigmoid": _by_x(aten.hardsigmoid_backward),
    "log_sigmoid": log_sigmoid_backward,
    "hard_tanh": _by_y(aten.hardtanh_backward, -1, 1),
    "softplus": _by_x(aten.softplus_backward, 1, 20),
    "softsign": softsign_backward,
    "silu": _by_x(aten.silu_backward),
    "hard_silu": lambda dy, x, y, out: aten.hardswish_backward.out(dy, x, out=out),
    "gelu": _by_x(aten.gelu_backward),
    "gelu_tanh": _by_x(aten.gelu_backward, approximate="tanh"),
    "mish": lambda dy, x, y, out: aten.mish_backward(dy, x),  # has no form with ``out``
    "exponential": lambda dy, x, y, out: torch.mul(dy, y, out=out),
    "threshold": _by_x(aten.threshold_backward, 0),
    "soft_shrink": _by_x(aten.softshrink_backward, 0.5),
    "hard_shrink": _by_x(aten.hardshrink_backward, 0.5),
    "binary_step": lambda dy, x, y, out: out.zero_(),
    "sign": lambda dy, x, y, out: out.zero_(),
    "square": lambda dy, x, y, out: torch.mul(dy, x, out=out).mul_(2),
    "sqrt": lambda dy, x, y, out: torch.div(dy, y, out=out).mul_(0.5),
    "log": lambda dy, x, y, out: torch.div(dy, x, out=out),
    "absolute": lambda dy, x, y, out: torch.sign(x, out=out).mul_(dy),
    "rsqrt": lambda dy, x, y, out: torch.pow(y, 3, out=out).mul_(dy).mul_(-0.5),
    "log1p": lambda dy, x, y, out: torch.add(x, 1, out=out).reciprocal_().mul_(dy),
    "expm1": lambda dy, x, y, out: torch.addcmul(dy, dy, y, out=out),
    "erf": lambda dy, x, y, out: torch.mul(x, x, out=out).neg_().exp_().mul_(dy).mul_(2 / math.pi**0.5),
    "sin": lambda dy, x, y, out: torch.cos(x, out=out).mul_(dy),
    "cos": lambda dy, x, y, out: torch.sin(x, out=out).mul_(dy).neg_(),
    "prelu": prelu_backward,
    "softmax": lambda dy, x, y, out: aten._softmax_backward_data.out(dy, y, 1, dy.dtype, grad_input=out),
    "log_softmax": lambda dy, x, y, out: aten._log_softmax_backward_data.out(dy, y, 1, dy.dtype, out=out),
}
PYTORCH: dict[str, Callable[..., Any]] = {
    "add": lambda a, b, out: torch.add(a, b, out=out),
    "subtract": lambda a, b, out: torch.sub(a, b, out=out),
    "multiply": lambda a, b, out: torch.mul(a, b, out=out),
    "divide": lambda a, b, out: torch.div(a, b, out=out),
    "average": lambda a, b, out: torch.add(a, b, out=out).mul_(0.5),
    "maximum": lambda a, b, out: torch.maximum(a, b, out=out),
    "minimum": lambda a, b, out: torch.minimum(a, b, out=out),
    "maximum_backward": _choice_backward(torch.ge),
    "minimum_backward": _choice_backward(torch.le),
    "batch_norm": batch_norm,
    "batch_norm_backward": batch_norm_backward,
    "batch_norm_inference": batch_norm_inference,
    "batch_norm_inference_backward": batch_norm_inference_backward,
    "layer_norm": layer_norm,
    "layer_norm_backward": layer_norm_backward,
    "conv2d": conv2d,
    "conv2d_backward": conv2d_backward,
    "max_pool2d": max_pool2d,
    "max_pool2d_backward": max_pool2d_backward,
    "average_pool2d": average_pool2d,
    "average_pool2d_backward": average_pool2d_backward,
    "global_max_pool": lambda x, out: torch.amax(x, 1, out=out),
    "global_max_pool_backward": global_max_pool_backward,
    "global_average_pool": lambda x, out: torch.mean(x, 1, out=out),
    "global_average_pool_backward": global_average_pool_backward,
    "zero_pad2d": lambda x: F.pad(x, (0, 0, 1, 1, 1, 1)),
    "crop2d": lambda x: x[:, 1:-1, 1:-1].contiguous(),
    "upsample2d": lambda x: _last(F.interpolate(_first(x), scale_factor=2.0)),
    "upsample2d_backward": upsample2d_backward,
    "join": lambda a, b, out: torch.cat((a, b), 1, out=out),
    "join_backward": lambda dy, a, b: tuple(part.contiguous() for part in dy.split((a.shape[1], b.shape[1]), 1)),
    "gather": lambda data, index, out: torch.index_select(data, 0, index, out=out),
    "gather_backward": lambda dy, data, index, out: out.zero_().index_add_(0, index, dy),
    **_FORWARD,
    **{f"{name}_backward": function for name, function in _BACKWARD.items()},
    **_LOSSES,
}
