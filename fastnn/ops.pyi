"""The functional API; written by ``python -m ci.stubs --write`` from ``kernels/table.py``, not by hand."""

from typing import Any

Array = Any  # numpy.ndarray or cupy.ndarray, float32 or float64

def matmul(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Matrix product y = a @ b.

    a is (n, k), b is (k, m), y is (n, m); any strides. With k = 0 the product is zeros.
    """

def linear(
    x: Array,
    w: Array,
    b: Array | None = None,
    activation: str = "linear",
    *,
    out: Array | None = None,
) -> Array:
    """Linear layer with its bias and activation fused: y = activation(x @ w + b).

    x is (n, in), w is (in, out), b is (out,) or None, y is (n, out).
    """

def linear_backward(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    activation: str = "linear",
) -> tuple[Array, Array, Array]:
    """Gradients of ``linear``: (dx, dw, db) from dy = dL/dy, with y the output of the forward pass.

    dz = dy * activation'(z), written in terms of y; dx = dz @ w.T (n, in), dw = x.T @ dz (in, out), db = sum of the
    rows of dz (out,).
    """

def add(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Elementwise sum y = a + b; shapes broadcast as in NumPy."""

def identity(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Linear activation y = x (a copy)."""

def identity_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of the linear activation: dx = dy."""

def relu(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Rectified linear unit y = max(x, 0); NaN stays NaN."""

def relu_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of relu: dx = dy where y > 0, else 0 (at x = 0 the derivative is 0)."""

def sigmoid(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Logistic function y = 1 / (1 + exp(-x)), without overflow for any x."""

def sigmoid_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of sigmoid: dx = dy * y * (1 - y)."""

def tanh(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Hyperbolic tangent y = tanh(x)."""

def tanh_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of tanh: dx = dy * (1 - y) * (1 + y)."""

def softmax(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Softmax of each row: y[i, j] = exp(x[i, j] - max(x[i])) / sum over j of the same."""

def softmax_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of softmax: dx[i, j] = y[i, j] * (dy[i, j] - sum over l of dy[i, l] * y[i, l])."""

def softmax_cross_entropy(
    logits: Array,
    targets: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Softmax and cross-entropy in one: (loss, dlogits).

    targets are class indices (n,) or rows of probabilities (n, c). With p = softmax(logits) and t the target as a row,
    loss = 1/n * sum over i of weight[i] * -sum over j of t[i, j] * log p[i, j], dlogits = weight[i] * (p - t) / n.
    Natural logarithm; stable for any finite logits. No rows give a loss of 0.
    """

def dropout(
    x: Array,
    rate: float,
    seed: int,
    step: int = 0,
    stream: int = 0,
    *,
    out: Array | None = None,
) -> Array:
    """Inverted dropout (Srivastava et al. 2014): y = x / (1 - rate) where the mask keeps x, 0 where it drops it.

    The mask follows from seed, step and stream alone: x[i, j] is dropped where its word of Philox4x32-10 (Salmon et al.
    2011) is below rate * 2^32. The key is seed (low word, high word), the counter
    (j % 16 + 16 * (j // 64), i, step, stream), and j takes word j // 16 % 4 of the four that come out. step and stream
    are below 2^32, seed below 2^63.
    """

def dropout_backward(
    dy: Array,
    rate: float,
    seed: int,
    step: int = 0,
    stream: int = 0,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of dropout: dx = dy / (1 - rate) where the same mask keeps, 0 where it drops."""

def cross_entropy(
    probs: Array,
    targets: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Categorical cross-entropy of probabilities: (loss, dprobs).

    With s = sum over j of probs[i, j], q = clip(probs / s, 1e-7, 1 - 1e-7) and t the target as a row, loss = 1/n * sum
    over i of weight[i] * -sum over j of t[i, j] * log q[i, j] (Keras's rescaling and clipping; where the clip acts, the
    derivative is 0). Fused with softmax it is ``softmax_cross_entropy``, which is faster and more accurate.
    """

def binary_cross_entropy(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
    from_logits: bool = False,
) -> tuple[float, Array]:
    """Binary cross-entropy: (loss, dpred), the mean over all elements, each row scaled by its weight.

    On probabilities p = clip(pred, 1e-7, 1 - 1e-7): -(t log p + (1 - t) log(1 - p)), derivative 0 where the clip acts.
    On logits z: max(z, 0) - z t + log(1 + exp(-|z|)), derivative sigmoid(z) - t. Targets lie in [0, 1].
    """

def mse(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Mean squared error: (value, dpred); value = mean of weight[i] * (pred - target)^2 over all elements."""

def mae(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Mean absolute error: (value, dpred); value = mean of weight[i] * |pred - target|, slope 0 at 0."""

def half_sse(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Half the sum of squared errors: (value, dpred); value = 1/2 * sum of weight[i] * (pred - target)^2."""

def l1_l2_penalty(
    w: Array,
    l1: float = 0.0,
    l2: float = 0.0,
) -> tuple[float, Array]:
    """Weight penalty: (value, dw); value = l1 * sum |w| + l2 * sum w^2, dw = l1 * sign(w) + 2 * l2 * w."""

def sgd_step(
    w: Array,
    dw: Array,
    velocity: Array | None = None,
    learning_rate: float = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> None:
    """One step of stochastic gradient descent, in place (Keras's form; Sutskever et al. 2013).

    Without momentum w -= lr * dw. With it v = momentum * v - lr * dw, then w += v, or with nesterov
    w += momentum * v - lr * dw.
    """

def rmsprop_step(
    w: Array,
    dw: Array,
    mean_square: Array,
    velocity: Array | None = None,
    mean: Array | None = None,
    learning_rate: float = 0.001,
    rho: float = 0.9,
    momentum: float = 0.0,
    epsilon: float = 1e-07,
) -> None:
    """One RMSprop step, in place (Hinton, Coursera lecture 6e; centred: Graves 2013), epsilon inside the root.

    mean_square = rho * mean_square + (1 - rho) * dw^2, and with ``mean`` (centred) likewise the mean of dw;
    step = lr * dw / sqrt(mean_square - mean^2 + epsilon). Without momentum w -= step; with it
    velocity = momentum * velocity + step, w -= velocity.
    """

def adam_step(
    w: Array,
    dw: Array,
    m: Array,
    v: Array,
    step: int,
    v_max: Array | None = None,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-07,
) -> None:
    """One Adam step, in place (Kingma and Ba 2015, the form of their section 2's end; AMSGrad: Reddi et al. 2018).

    step counts from 1. m += (1 - beta_1) * (dw - m), v += (1 - beta_2) * (dw^2 - v), and with ``v_max`` (AMSGrad)
    v_max = max(v_max, v) takes v's place; w -= lr * sqrt(1 - beta_2^step) / (1 - beta_1^step) * m / (sqrt(v) +
    epsilon).
    """

def pack(
    w: Array,
) -> Any:
    """Weights laid out as the kernels read them fastest, to stand for ``w`` in ``linear`` and ``b`` in ``matmul``."""
