"""The functional API; written by ``python -m ci.stubs --write`` from ``kernels/table``, not by hand."""

from collections.abc import Callable, Sequence
from typing import Any

Array = Any  # numpy.ndarray or cupy.ndarray, float32 or float64

def attention(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None = None,
    scale: float = 1.0,
    causal: bool = False,
    *,
    out: Array | None = None,
) -> Array:
    """Scaled dot-product attention of h heads: y = softmax(scale * query @ key^T) @ value. Vaswani et al. 2017.

    query is (n, t, h, d), key is (n, s, h, d), value is (n, s, h, e), y is (n, t, h, e): heads lie beside one another
    in each step. Where ``mask`` (n, t, s) is 0, or with ``causal`` behind the query, a step of the values does not
    count for it: its score is -1e9, of all heads. The weights are not kept.
    """

def attention_backward(
    dy: Array,
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None = None,
    scale: float = 1.0,
    causal: bool = False,
    need: Sequence[str] = ("dquery", "dkey", "dvalue"),
) -> tuple[Any, Any, Any]:
    """Gradients of ``attention``: (dquery, dkey, dvalue); what is not in ``need`` is None.

    With the weights p, made anew, and g = dy @ value^T: ds = scale * p * (g - sum of g * p along the values), dquery =
    ds @ key, dkey = ds^T @ query, dvalue = p^T @ dy.
    """

def batch_matmul(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Matrix products y[i] = a[i] @ b[i], one a sample.

    a is (s, n, k), b is (s, k, m), y is (s, n, m); any strides. With k = 0 the products are zeros.
    """

def random_uniform(
    like: Array,
    seed: int,
    step: int = 0,
    stream: int = 0,
    minval: float = 0.0,
    maxval: float = 1.0,
    *,
    out: Array | None = None,
) -> Array:
    """Numbers spread evenly over [minval, maxval), of the shape and dtype of ``like``, which is not read.

    y = minval + (maxval - minval) u, where u is the upper 24 bits of a word, over 2^24. The word of y[i, j] is that by
    which ``dropout`` decides about x[i, j]: word j // 16 % 4 of the four that come out of Philox4x32-10 (Salmon et al.
    2011) with the key seed (low word, high word) and the counter (j % 16 + 16 * (j // 64), i, step, stream). step and
    stream are below 2^32, seed below 2^63.
    """

def random_normal(
    like: Array,
    seed: int,
    step: int = 0,
    stream: int = 0,
    mean: float = 0.0,
    stddev: float = 1.0,
    *,
    out: Array | None = None,
) -> Array:
    """Numbers of a normal distribution, of the shape and dtype of ``like``, which is not read.

    Box and Muller's (1958), of two words each two: y = mean + stddev sqrt(-2 log u) cos(2 pi t), and the other with the
    sine, for u = (w + 1/2) / 2^32 of the first word and t = v / 2^32 of the second one. Words are those of
    ``random_uniform``; columns j and j + 16 of each run of 32 share theirs.
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

def add(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Elementwise sum y = a + b; shapes broadcast as in NumPy."""

def subtract(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Elementwise difference y = a - b; shapes broadcast as in NumPy."""

def multiply(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Elementwise product y = a * b; shapes broadcast as in NumPy."""

def divide(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Elementwise quotient y = a / b; shapes broadcast as in NumPy."""

def average(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Elementwise mean y = (a + b) / 2; shapes broadcast as in NumPy."""

def maximum(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
) -> Array:
    """The larger of each pair; NaN where either is; shapes broadcast as in NumPy."""

def minimum(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
) -> Array:
    """The smaller of each pair; NaN where either is; shapes broadcast as in NumPy."""

def maximum_backward(
    dy: Array,
    a: Array,
    b: Array,
) -> tuple[Array, Array]:
    """Gradients of ``maximum`` in the shape of dy: (da, db); da = dy where a >= b, else 0, db = dy where it is not."""

def minimum_backward(
    dy: Array,
    a: Array,
    b: Array,
) -> tuple[Array, Array]:
    """Gradients of ``minimum`` in the shape of dy: (da, db); da = dy where a <= b, else 0, db = dy where it is not."""

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
    """Derivative of identity: dx = dy."""

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
    """Derivative of relu: dx = dy where y > 0, else 0 (0 at x = 0)."""

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

def relu6(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = min(max(x, 0), 6)."""

def relu6_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of relu6: dx = dy where 0 < y < 6, else 0."""

def bounded_relu(
    x: Array,
    negative_slope: float = 0.0,
    max_value: float = float("inf"),
    threshold: float = 0.0,
    *,
    out: Array | None = None,
) -> Array:
    """y = max_value where x >= max_value, x from threshold on, negative_slope * (x - threshold) below."""

def bounded_relu_backward(
    dy: Array,
    x: Array,
    y: Array,
    negative_slope: float = 0.0,
    max_value: float = float("inf"),
    threshold: float = 0.0,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of bounded_relu: dx = dy where threshold < x < max_value, 0 above, negative_slope * dy below."""

def leaky_relu(
    x: Array,
    negative_slope: float = 0.2,
    *,
    out: Array | None = None,
) -> Array:
    """y = x where x > 0, else negative_slope * x (Maas et al. 2013)."""

def leaky_relu_backward(
    dy: Array,
    x: Array,
    y: Array,
    negative_slope: float = 0.2,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of leaky_relu: dx = dy where y > 0, else negative_slope * dy."""

def elu(
    x: Array,
    alpha: float = 1.0,
    *,
    out: Array | None = None,
) -> Array:
    """y = x where x > 0, else alpha * (exp(x) - 1) (Clevert et al. 2016)."""

def elu_backward(
    dy: Array,
    x: Array,
    y: Array,
    alpha: float = 1.0,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of elu: dx = dy where y > 0, else dy * (y + alpha)."""

def celu(
    x: Array,
    alpha: float = 1.0,
    *,
    out: Array | None = None,
) -> Array:
    """y = x where x > 0, else alpha * (exp(x / alpha) - 1) (Barron 2017)."""

def celu_backward(
    dy: Array,
    x: Array,
    y: Array,
    alpha: float = 1.0,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of celu: dx = dy where y > 0, else dy * (y / alpha + 1)."""

def selu(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = s * x where x > 0, else s * a * (exp(x) - 1); s = 1.0507, a = 1.6733 (Klambauer et al. 2017)."""

def selu_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of selu: dx = dy * s where y > 0, else dy * (y + s * a)."""

def hard_sigmoid(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = min(max(x + 3, 0), 6) / 6."""

def hard_sigmoid_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of hard_sigmoid: dx = dy / 6 where 0 < y < 1, else 0."""

def log_sigmoid(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = log(1 / (1 + exp(-x))), without overflow for any x."""

def log_sigmoid_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of log_sigmoid: dx = dy * (1 - exp(y))."""

def hard_tanh(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = min(max(x, -1), 1)."""

def hard_tanh_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of hard_tanh: dx = dy where -1 < y < 1, else 0."""

def softplus(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = log(1 + exp(x)), without overflow for any x."""

def softplus_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of softplus: dx = dy * (1 - exp(-y))."""

def softsign(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = x / (1 + |x|)."""

def softsign_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of softsign: dx = dy * (1 - |y|)^2."""

def silu(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = x * sigmoid(x), also called swish (Ramachandran et al. 2017)."""

def silu_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of silu: dx = dy * s * (1 + x * (1 - s)), s = sigmoid(x)."""

def hard_silu(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = x * min(max(x + 3, 0), 6) / 6 (Howard et al. 2019)."""

def hard_silu_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of hard_silu: dx = 0 where x <= -3, dy where x >= 3, else dy * (x / 3 + 1 / 2)."""

def gelu(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = x * P(x), P the standard normal distribution (Hendrycks and Gimpel 2016)."""

def gelu_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of gelu: dx = dy * (P(x) + x * exp(-x^2 / 2) / sqrt(2 pi))."""

def gelu_tanh(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """The approximation y = x * (1 + tanh(u)) / 2 of gelu, u = sqrt(2 / pi) * (x + 0.044715 * x^3)."""

def gelu_tanh_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of gelu_tanh: dx = dy * s * (1 + x * (1 - s) * 2 u'), s = (1 + tanh(u)) / 2."""

def mish(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = x * tanh(log(1 + exp(x))) (Misra 2019)."""

def mish_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of mish: dx = dy * (t + x * (1 - t^2) * sigmoid(x)), t = tanh(log(1 + exp(x)))."""

def exponential(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = exp(x)."""

def exponential_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of exponential: dx = dy * y."""

def threshold(
    x: Array,
    threshold: float = 0.0,
    default_value: float = 0.0,
    *,
    out: Array | None = None,
) -> Array:
    """y = x where x > threshold, else default_value."""

def threshold_backward(
    dy: Array,
    x: Array,
    y: Array,
    threshold: float = 0.0,
    default_value: float = 0.0,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of threshold: dx = dy where x > threshold, else 0."""

def soft_shrink(
    x: Array,
    threshold: float = 0.5,
    *,
    out: Array | None = None,
) -> Array:
    """y = x - threshold where x > threshold, x + threshold where x < -threshold, else 0."""

def soft_shrink_backward(
    dy: Array,
    x: Array,
    y: Array,
    threshold: float = 0.5,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of soft_shrink: dx = dy where y is not 0, else 0."""

def hard_shrink(
    x: Array,
    threshold: float = 0.5,
    *,
    out: Array | None = None,
) -> Array:
    """y = x where |x| > threshold, else 0."""

def hard_shrink_backward(
    dy: Array,
    x: Array,
    y: Array,
    threshold: float = 0.5,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of hard_shrink: dx = dy where y is not 0, else 0."""

def binary_step(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Heaviside's step y = 1 where x >= 0, else 0."""

def binary_step_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of binary_step: dx = 0."""

def sign(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = 1 where x > 0, -1 where x < 0, 0 at 0."""

def sign_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of sign: dx = 0."""

def square(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = x^2."""

def square_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of square: dx = dy * 2 x."""

def sqrt(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Square root y; NaN below 0."""

def sqrt_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of sqrt: dx = dy / (2 y)."""

def log(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Natural logarithm y = log(x); -inf at 0, NaN below."""

def log_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of log: dx = dy / x."""

def absolute(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = |x|."""

def absolute_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of absolute: dx = dy where x > 0, -dy where x < 0, 0 at x = 0."""

def rsqrt(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = 1 / sqrt(x); infinite at 0, NaN below."""

def rsqrt_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of rsqrt: dx = -dy * y^3 / 2."""

def log1p(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = log(1 + x), small results accurate; -inf at -1, NaN below."""

def log1p_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of log1p: dx = dy / (1 + x)."""

def expm1(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = exp(x) - 1, small results accurate."""

def expm1_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of expm1: dx = dy * (y + 1)."""

def erf(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Error function y = 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x, small results accurate."""

def erf_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of erf: dx = dy * 2 / sqrt(pi) * exp(-x^2)."""

def sin(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Sine of x in radians, of numbers of any size; NaN of infinity."""

def sin_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of sin: dx = dy * cos(x)."""

def cos(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Cosine of x in radians, of numbers of any size; NaN of infinity."""

def cos_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of cos: dx = -dy * sin(x)."""

def embedding(
    indices: Array,
    table: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Rows of table (rows, d) by their numbers, integers (n, t): y[i, s] = table[indices[i, s]], (n, t, d).

    A row that there is not is an IndexError, a negative number too, or on a device NaN.
    """

def embedding_backward(
    dy: Array,
    indices: Array,
    table: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Gradient of ``embedding`` by table: zeros of its shape, and each dy[i, s] added to row indices[i, s], in order.

    Of table only the shape counts. A row that there is not is an IndexError; on a device its dy[i, s] is left out.
    """

def embedding_mask(
    indices: Array,
    table: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Which steps of a batch are words: 1 where a number of indices (n, t) is not 0, else 0, in table's dtype.

    Of table nothing but its dtype counts, and how many rows there are.
    """

def gather(
    data: Array,
    index: Array,
    scale: float = 0.00392156862745098,
    offset: float = 0.0,
    *,
    out: Array | None = None,
) -> Array:
    """Rows of data (rows, ...) in the order of index (n,), integers: y[i] = data[index[i]], (n, ...).

    A row may be wanted more than once; one that data do not have is an IndexError, a negative number too, or on a
    device, where nobody waits to read numbers, NaN. Bytes (uint8) become float32: y[i] = scale * data[index[i]] +
    offset. Of a CSR matrix or array of SciPy's, y is one too, with its numbers as they are. That of one of CuPy's waits
    for the device, to hear how many non-zeros these rows have: its arrays are as long as that.
    """

def gather_backward(
    dy: Array,
    data: Array,
    index: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Gradient of ``gather`` by data: zeros of data's shape, and dy[i] added to row index[i], in the order of index.

    Of data only the shape counts. A row that data do not have is an IndexError; on a device its dy[i] is left out.
    """

def matmul(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Matrix product y = a @ b.

    a is (n, k), b is (k, m), y is (n, m); any strides. With k = 0 the product is zeros. a may be a CSR matrix or array
    of SciPy's: what it does not store is no term.
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

    x is (n, in), or a CSR matrix or array of SciPy's; w is (in, out), b is (out,) or None, y is (n, out).
    """

def linear_backward(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    *,
    dx: Array | None = None,
    dw: Array | None = None,
    db: Array | None = None,
) -> tuple[Any, Any, Any]:
    """Gradients of ``linear``: (dx, dw, db) from dy = dL/dy, with y the output of the forward pass.

    dz = dy * activation'(z); dx = dz @ w.T (n, in), dw = x.T @ dz (in, out), db = sum of the rows of dz (out,). Where
    y tells the derivative z is None; gelu, silu, mish and others need it: z = x @ w + b, and y = activation(z). What is
    not in ``need`` is not computed, and None: the first layer needs no dx. Arrays given as dx, dw, db are written into.
    x may be a CSR matrix or array of SciPy's; the gradients are dense.
    """

def column_sums(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Sums of the rows of x (n, m), in their order: y (m,); a bias's gradient from its layer's."""

def join(
    a: Array,
    b: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Rows of a (n, a) and b (n, b) one behind the other: y (n, a + b). ``concatenate`` is the same along any axis."""

def join_backward(
    dy: Array,
    a: Array,
    b: Array,
) -> tuple[Array, Array]:
    """Gradients of ``join``: (da, db), the parts of dy's rows. Of a and b only the shapes count."""

def cross_entropy(
    probs: Array,
    targets: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Categorical cross-entropy of probabilities: (loss, dprobs).

    With s = sum over j of probs[i, j], q = clip(probs / s, 1e-7, 1 - 1e-7) and t the target as a row, loss = 1/n * sum
    over i of weight[i] * -sum over j of t[i, j] * log q[i, j] (Keras's rescaling and clipping; where the clip acts, the
    derivative is 0). Fused with softmax it is ``softmax_cross_entropy``, which is faster and more accurate.

    Labels and targets that are not as said are a ValueError; on a device, where nobody waits to read them, the value is
    NaN.
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

    Labels and targets that are not as said are a ValueError; on a device, where nobody waits to read them, the value is
    NaN.
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

def quadratic_cost(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """The textbooks' quadratic cost: (value, dpred); value = 1/(2n) * sum of weight[i] * (pred - target)^2, n rows."""

def mape(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Mean absolute percentage error: (value, dpred); value = mean of weight[i] * 100 |pred - target| / |target|.

    |target| is 1e-7 at least.
    """

def msle(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Mean squared logarithmic error: (value, dpred); value = mean of weight[i] * (log(1 + pred) - log(1 + target))^2.

    Both are 1e-7 at least before the logarithm; derivative 0 where pred is not.
    """

def huber(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
    delta: float = 1.0,
) -> tuple[float, Array]:
    """Huber's loss: (value, dpred); the mean of weight[i] * (d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2)).

    d = pred - target (Huber 1964).
    """

def log_cosh(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Mean of weight[i] * log(cosh(pred - target)), and its derivative: (value, dpred)."""

def hinge(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Hinge loss: (value, dpred); value = mean of weight[i] * max(1 - target * pred, 0), targets 1 or -1."""

def squared_hinge(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Squared hinge loss: (value, dpred); value = mean of weight[i] * max(1 - target * pred, 0)^2."""

def poisson(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Poisson loss: (value, dpred); value = mean of weight[i] * (pred - target * log(pred + 1e-7))."""

def half_poisson_deviance(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Half the Poisson deviance of logarithms of rates: (value, dpred), summed over a row, the mean over n rows.

    value = 1/n * sum of weight[i] * (e^pred - target * pred + target * log target - target); NaN for a target below 0.
    """

def binary_focal_cross_entropy(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
    gamma: float = 2.0,
    positive: float = 1.0,
    negative: float = 1.0,
    from_logits: bool = False,
) -> tuple[float, Array]:
    """Binary focal loss: (loss, dpred), binary cross-entropy times what makes easy cases count less (Lin et al. 2017).

    The mean over all elements, each row scaled by its weight, of w (1 - q)^gamma * -(t log p + (1 - t) log(1 - p)),
    q = t p + (1 - t) (1 - p), w = positive * t + negative * (1 - t). Probabilities are clipped as in
    ``binary_cross_entropy``; on logits p = sigmoid(pred).

    Labels and targets that are not as said are a ValueError; on a device, where nobody waits to read them, the value is
    NaN.
    """

def kl_divergence(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Kullback-Leibler divergence: (value, dpred); value = 1/n * sum of weight[i] * target * log(target / pred).

    Both are kept in [1e-7, 1]; derivative 0 where that acts on pred.
    """

def cosine_similarity(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Minus the cosine of the angle of each row with its target: (value, dpred), the mean of weight[i] * -cos.

    The norms are 1e-7 at least.
    """

def categorical_hinge(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Hinge loss of classes against the strongest wrong one: (value, dpred).

    The mean over rows of weight[i] * max(0, largest of (1 - target) pred - sum of target pred + 1).
    """

def multiclass_hinge(
    scores: Array,
    targets: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Hinge loss summed over all wrong classes (Weston and Watkins 1999): (value, dscores).

    The mean over rows of weight[i] * sum over j != y of max(0, s[j] - s[y] + 1); targets are class indices y, or rows
    with a 1 at y and 0 elsewhere.

    Labels and targets that are not as said are a ValueError; on a device, where nobody waits to read them, the value is
    NaN.
    """

def nll(
    log_probs: Array,
    targets: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Negative log-likelihood of logarithms of probabilities (``log_softmax``): (loss, dlog_probs).

    The mean over rows of weight[i] * -sum over j of t[i, j] * log_probs[i, j], t the target as a row.

    Labels and targets that are not as said are a ValueError; on a device, where nobody waits to read them, the value is
    NaN.
    """

def categorical_focal_cross_entropy(
    pred: Array,
    target: Array,
    sample_weight: Array | None = None,
    gamma: float = 2.0,
    from_logits: bool = False,
) -> tuple[float, Array]:
    """Categorical focal loss (Lin et al. 2017): (loss, dpred).

    The mean over rows of weight[i] * -sum over j of target[i, j] (1 - q[i, j])^gamma log q[i, j], where q are the
    probabilities scaled to sum to 1 and clipped as in ``cross_entropy``, or on logits softmax(pred) clipped likewise.
    """

def l1_l2_penalty(
    w: Array,
    l1: float = 0.0,
    l2: float = 0.0,
) -> tuple[float, Array]:
    """Weight penalty: (value, dw); value = l1 * sum |w| + l2 * sum w^2, dw = l1 * sign(w) + 2 * l2 * w."""

def total(
    x: Array,
    share: float = 1.0,
) -> tuple[float, Array]:
    """A share of the sum of all numbers: (value, dx); value = share * sum of x, dx = share everywhere."""

def batch_norm(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    moving_mean: Array | None = None,
    moving_variance: Array | None = None,
    momentum: float = 0.99,
    epsilon: float = 0.001,
) -> tuple[Array, Array, Array]:
    """Batch normalisation in training (Ioffe and Szegedy 2015): (y, mean, rstd).

    Of each column of x (n, c): mean (c,), the biased variance var = sum of (x - mean)^2 / n, rstd = 1 / sqrt(var +
    epsilon), and y = gamma * (x - mean) * rstd + beta. Moving figures become momentum * moving + (1 - momentum) * the
    batch's, in place. gamma, beta, moving_mean, moving_variance (c,) may be left out, each by itself. Inputs of more
    axes are taken as x.reshape(-1, c). No rows give means and variances of 0, and leave moving ones as they are.
    """

def batch_norm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    rstd: Array,
    gamma: Array | None = None,
    need: Sequence[str] = ("dx", "dgamma", "dbeta"),
) -> tuple[Any, Any, Any]:
    """Gradients of ``batch_norm``: (dx, dgamma, dbeta), from dy = dL/dy and the mean and rstd that it has returned.

    With z = (x - mean) * rstd: dbeta = sum of the rows of dy, dgamma = sum of those of dy * z, dx = gamma * rstd *
    (dy - dbeta / n - z * dgamma / n). What is not in ``need`` is None.
    """

def batch_norm_inference(
    x: Array,
    moving_mean: Array,
    moving_variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 0.001,
    *,
    out: Array | None = None,
) -> Array:
    """Batch normalisation by moving figures: y = gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta.

    x is (n, c), all others are (c,).
    """

def batch_norm_inference_backward(
    dy: Array,
    x: Array,
    moving_mean: Array,
    moving_variance: Array,
    gamma: Array | None = None,
    epsilon: float = 0.001,
    need: Sequence[str] = ("dx", "dgamma", "dbeta"),
) -> tuple[Any, Any, Any]:
    """Gradients of ``batch_norm_inference``: (dx, dgamma, dbeta); what is not in ``need`` is None.

    With rstd = 1 / sqrt(moving_variance + epsilon): dx = gamma * rstd * dy, dgamma = sum of the rows of dy * (x -
    moving_mean) * rstd, dbeta = sum of those of dy.
    """

def layer_norm(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 0.001,
    *,
    out: Array | None = None,
) -> Array:
    """Layer normalisation (Ba et al. 2016) of each row: y = gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    mean and biased variance are those of a row of x (n, c); gamma and beta are (c,).
    """

def layer_norm_backward(
    dy: Array,
    x: Array,
    gamma: Array | None = None,
    epsilon: float = 0.001,
    need: Sequence[str] = ("dx", "dgamma", "dbeta"),
) -> tuple[Any, Any, Any]:
    """Gradients of ``layer_norm``: (dx, dgamma, dbeta); what is not in ``need`` is None.

    With z = (x - mean) * rstd, rstd = 1 / sqrt(variance + epsilon), and g = gamma * dy: dx = rstd * (g - mean of g - z
    * mean of g * z), means along a row; dgamma = sum of the rows of dy * z, dbeta = sum of those of dy.
    """

def sgd_step(
    w: Array | Sequence[Array],
    dw: Array | Sequence[Array],
    velocity: Array | Sequence[Array] | None = None,
    learning_rate: float = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> None:
    """One step of stochastic gradient descent, in place (Keras's form; Sutskever et al. 2013).

    Without momentum w -= lr * dw. With it v = momentum * v - lr * dw, then w += v, or with nesterov
    w += momentum * v - lr * dw.

    In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
    call does for them what a call for each would, in their order.
    """

def rmsprop_step(
    w: Array | Sequence[Array],
    dw: Array | Sequence[Array],
    mean_square: Array | Sequence[Array],
    velocity: Array | Sequence[Array] | None = None,
    mean: Array | Sequence[Array] | None = None,
    learning_rate: float = 0.001,
    rho: float = 0.9,
    momentum: float = 0.0,
    epsilon: float = 1e-07,
) -> None:
    """One RMSprop step, in place (Hinton, Coursera lecture 6e; centred: Graves 2013), epsilon inside the root.

    mean_square = rho * mean_square + (1 - rho) * dw^2, and with ``mean`` (centred) likewise the mean of dw;
    step = lr * dw / sqrt(mean_square - mean^2 + epsilon). Without momentum w -= step; with it
    velocity = momentum * velocity + step, w -= velocity.

    In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
    call does for them what a call for each would, in their order.
    """

def adam_step(
    w: Array | Sequence[Array],
    dw: Array | Sequence[Array],
    m: Array | Sequence[Array],
    v: Array | Sequence[Array],
    step: int,
    v_max: Array | Sequence[Array] | None = None,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-07,
) -> None:
    """One Adam step, in place (Kingma and Ba 2015, the form of their section 2's end; AMSGrad: Reddi et al. 2018).

    step counts from 1. m += (1 - beta_1) * (dw - m), v += (1 - beta_2) * (dw^2 - v), and with ``v_max`` (AMSGrad)
    v_max = max(v_max, v) takes v's place; w -= lr * sqrt(1 - beta_2^step) / (1 - beta_1^step) * m / (sqrt(v) +
    epsilon).

    In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
    call does for them what a call for each would, in their order.
    """

def adagrad_step(
    w: Array | Sequence[Array],
    dw: Array | Sequence[Array],
    accumulator: Array | Sequence[Array],
    learning_rate: float = 0.001,
    epsilon: float = 1e-07,
) -> None:
    """One Adagrad step, in place (Duchi, Hazan and Singer 2011), epsilon inside the root.

    accumulator += dw^2, which begins at a number above 0; w -= lr * dw / sqrt(accumulator + epsilon).

    In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
    call does for them what a call for each would, in their order.
    """

def adadelta_step(
    w: Array | Sequence[Array],
    dw: Array | Sequence[Array],
    mean_square: Array | Sequence[Array],
    mean_moved: Array | Sequence[Array],
    learning_rate: float = 0.001,
    rho: float = 0.95,
    epsilon: float = 1e-07,
) -> None:
    """One Adadelta step, in place (Zeiler 2012).

    mean_square = rho * mean_square + (1 - rho) * dw^2; step = dw * sqrt((mean_moved + epsilon) / (mean_square +
    epsilon)); mean_moved = rho * mean_moved + (1 - rho) * step^2; w -= lr * step.

    In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
    call does for them what a call for each would, in their order.
    """

def adamax_step(
    w: Array | Sequence[Array],
    dw: Array | Sequence[Array],
    m: Array | Sequence[Array],
    norm: Array | Sequence[Array],
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-07,
) -> None:
    """One Adamax step, in place (Kingma and Ba 2015, section 7.1).

    step counts from 1. m += (1 - beta_1) * (dw - m), norm = max(beta_2 * norm, |dw|);
    w -= lr / (1 - beta_1^step) * m / (norm + epsilon).

    In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
    call does for them what a call for each would, in their order.
    """

def nadam_step(
    w: Array | Sequence[Array],
    dw: Array | Sequence[Array],
    m: Array | Sequence[Array],
    v: Array | Sequence[Array],
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-07,
) -> None:
    """One Nadam step, in place (Dozat 2016): Adam with Nesterov's momentum, which grows with the steps.

    step counts from 1. With momentum(t) = beta_1 * (1 - 0.96^t / 2) and product(t) that of the momenta up to t,
    m += (1 - beta_1) * (dw - m), v += (1 - beta_2) * (dw^2 - v), then
    mean = momentum(step + 1) * m / (1 - product(step + 1)) + (1 - momentum(step)) * dw / (1 - product(step)) and
    w -= lr * mean / (sqrt(v / (1 - beta_2^step)) + epsilon).

    In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
    call does for them what a call for each would, in their order.
    """

def lion_step(
    w: Array | Sequence[Array],
    dw: Array | Sequence[Array],
    m: Array | Sequence[Array],
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.99,
) -> None:
    """One Lion step, in place (Chen et al. 2023).

    w -= lr * sign(beta_1 * m + (1 - beta_1) * dw), then m = beta_2 * m + (1 - beta_2) * dw.

    In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
    call does for them what a call for each would, in their order.
    """

def ftrl_step(
    w: Array | Sequence[Array],
    dw: Array | Sequence[Array],
    accumulator: Array | Sequence[Array],
    linear: Array | Sequence[Array],
    learning_rate: float = 0.001,
    learning_rate_power: float = -0.5,
    l1_regularization_strength: float = 0.0,
    l2_regularization_strength: float = 0.0,
    l2_shrinkage_regularization_strength: float = 0.0,
    beta: float = 0.0,
) -> None:
    """One step of Follow The Regularized Leader, in place (McMahan et al. 2013, with Keras's shrinkage).

    With p = -learning_rate_power, new = accumulator + dw^2 and sigma = (new^p - accumulator^p) / lr,
    linear += dw + 2 * l2_shrinkage * w - sigma * w, accumulator = new, and
    w = (clip(linear, -l1, l1) - linear) / (new^p / lr + 2 * l2 + beta / lr). Of w, nothing but linear remains.

    In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
    call does for them what a call for each would, in their order.
    """

def rprop_step(
    w: Array | Sequence[Array],
    dw: Array | Sequence[Array],
    step_size: Array | Sequence[Array],
    change: Array | Sequence[Array],
    gradient: Array | Sequence[Array],
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    step_min: float = 1e-06,
    step_max: float = 50.0,
) -> None:
    """One step of resilient propagation, in place, with weight backtracking (Riedmiller and Braun 1993).

    Where dw has the sign that made the change before, step_size = min(step_size * eta_plus, step_max); where it has the
    other one, step_size = max(step_size * eta_minus, step_min), the change is undone and counts as 0 in the next step.
    But for these weights, change = -sign(dw) * step_size, w += change. gradient becomes dw, to tell how large it is.

    In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
    call does for them what a call for each would, in their order.
    """

def heavy_ball_step(
    w: Array | Sequence[Array],
    dw: Array | Sequence[Array],
    velocity: Array | Sequence[Array],
    learning_rate: float = 0.01,
    momentum: float = 0.9,
    dampening: float = 0.0,
    nesterov: bool = False,
) -> None:
    """One step of gradient descent with momentum, in place, the velocity without the rate (PyTorch's form).

    velocity = momentum * velocity + (1 - dampening) * dw, then w -= lr * velocity, or with nesterov
    w -= lr * (dw + momentum * velocity).

    In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
    call does for them what a call for each would, in their order.
    """

def rmsprop_root_step(
    w: Array | Sequence[Array],
    dw: Array | Sequence[Array],
    mean_square: Array | Sequence[Array],
    velocity: Array | Sequence[Array] | None = None,
    mean: Array | Sequence[Array] | None = None,
    learning_rate: float = 0.01,
    rho: float = 0.99,
    momentum: float = 0.0,
    epsilon: float = 1e-08,
) -> None:
    """One RMSprop step, in place, epsilon added to the root and the velocity without the rate (PyTorch's form).

    mean_square = rho * mean_square + (1 - rho) * dw^2, and with ``mean`` (centred) likewise the mean of dw;
    step = dw / (sqrt(mean_square - mean^2) + epsilon). Without momentum w -= lr * step; with it
    velocity = momentum * velocity + step, w -= lr * velocity.

    In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
    call does for them what a call for each would, in their order.
    """

def adagrad_root_step(
    w: Array | Sequence[Array],
    dw: Array | Sequence[Array],
    accumulator: Array | Sequence[Array],
    learning_rate: float = 0.01,
    epsilon: float = 1e-10,
) -> None:
    """One Adagrad step, in place, epsilon added to the root (Duchi, Hazan and Singer 2011; PyTorch's form).

    accumulator += dw^2; w -= lr * dw / (sqrt(accumulator) + epsilon).

    In place of one array each, lists or tuples of arrays are taken, as many of every operand and all of one dtype: one
    call does for them what a call for each would, in their order.
    """

def max_pool2d(
    x: Array,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str | int | Sequence[int] | Sequence[Sequence[int]] = "valid",
    *,
    out: Array | None = None,
) -> Array:
    """The largest number of each place of a window (pool_size) in x (n, h, w, c), moved by ``strides``: (n, p, q, c).

    ``padding`` is "valid", "same" or numbers around both axes, and is never the largest. NaN in a window stays.
    """

def max_pool2d_backward(
    dy: Array,
    x: Array,
    y: Array,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str | int | Sequence[int] | Sequence[Sequence[int]] = "valid",
    *,
    out: Array | None = None,
) -> Array:
    """Gradient of ``max_pool2d`` by x, y its result: dy goes to the first of the largest numbers, row by row.

    What several windows share gets the sum.
    """

def average_pool2d(
    x: Array,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str | int | Sequence[int] | Sequence[Sequence[int]] = "valid",
    *,
    out: Array | None = None,
) -> Array:
    """The mean of each place of a window (pool_size) in x (n, h, w, c), moved by ``strides``: (n, p, q, c).

    ``padding`` is "valid", "same" or numbers around both axes; means are those of the numbers of x alone.
    """

def average_pool2d_backward(
    dy: Array,
    x: Array,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str | int | Sequence[int] | Sequence[Sequence[int]] = "valid",
    *,
    out: Array | None = None,
) -> Array:
    """Gradient of ``average_pool2d`` by x, of which only the shape counts: each number's shares of dy, added up."""

def global_max_pool(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """The largest of all numbers of each channel: y (n, c) of x (n, s, c), s places in any order, at least one."""

def global_max_pool_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Gradient of ``global_max_pool`` by x, y its result: dy goes to the first of the largest numbers."""

def global_average_pool(
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """The mean of all numbers of each channel: y (n, c) of x (n, s, c), s places in any order, at least one."""

def global_average_pool_backward(
    dy: Array,
    x: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Gradient of ``global_average_pool`` by x, of which only the shape counts: dy / s for each of s places."""

def prelu(
    x: Array,
    alpha: Array,
    *,
    out: Array | None = None,
) -> Array:
    """y = x where x > 0, else alpha * x (He et al. 2015); alpha has a sample's shape."""

def prelu_backward(
    dy: Array,
    x: Array,
    alpha: Array,
) -> tuple[Array, Array]:
    """Gradients of ``prelu``: (dx, dalpha); dx = dy where x > 0, else alpha * dy; dalpha = sum of dy * x where x <= 0.

    The sum is over the samples.
    """

def simple_rnn(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    h0: Array | None = None,
    activation: str = "tanh",
    go_backwards: bool = False,
) -> tuple[Array, Array]:
    """Elman's network: h = activation(x kernel + h recurrent_kernel + bias), step by step: (y, h).

    y (n, t, u) are all outputs, h (n, u) is the last state. x (n, t, f), kernel (f, u), recurrent_kernel (u, u), bias
    (u,). Steps whose mask (n, t) is 0 leave h as it was; at first it is h0, or zeros.
    """

def simple_rnn_backward(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    y: Array,
    dy: Array | None = None,
    dh: Array | None = None,
    mask: Array | None = None,
    h0: Array | None = None,
    activation: str = "tanh",
    go_backwards: bool = False,
    need: Sequence[str] = ("dx", "dkernel", "drecurrent_kernel", "dbias", "dh0"),
) -> tuple[Any, Any, Any, Any, Any]:
    """Gradients of ``simple_rnn`` from dL/dy (n, t, u) and dL/dh (n, u), one of which may be None.

    (dx, dkernel, drecurrent_kernel, dbias, dh0); what is not in ``need`` is None. y is the result of the forward pass.
    """

def lstm(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    h0: Array | None = None,
    c0: Array | None = None,
    go_backwards: bool = False,
) -> tuple[Array, Array, Array, Array, Array]:
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate: (y, h, c, gates, cells).

    i, f, o = sigmoid and g = tanh of x kernel + h recurrent_kernel + bias, each with its u columns in Keras's order i,
    f, g, o; c = f c + i g, h = o tanh(c), step by step. y (n, t, u) are all outputs, h and c (n, u) the last states;
    gates (n, t, 4 u), in the order of x's steps, and cells (n, t, u), in that of y's, are for ``lstm_backward``. x
    (n, t, f), kernel (f, 4 u), recurrent_kernel (u, 4 u), bias (4 u,). Steps whose mask (n, t) is 0 leave h and c as
    they were; at first they are h0 and c0, or zeros.
    """

def lstm_backward(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    y: Array,
    gates: Array,
    cells: Array,
    dy: Array | None = None,
    dh: Array | None = None,
    dc: Array | None = None,
    mask: Array | None = None,
    h0: Array | None = None,
    c0: Array | None = None,
    go_backwards: bool = False,
    need: Sequence[str] = ("dx", "dkernel", "drecurrent_kernel", "dbias", "dh0", "dc0"),
) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Gradients of ``lstm`` from dL/dy (n, t, u), dL/dh and dL/dc (n, u), of which some may be None.

    (dx, dkernel, drecurrent_kernel, dbias, dh0, dc0); what is not in ``need`` is None. y, gates and cells are results
    of the forward pass.
    """

def gru(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    h0: Array | None = None,
    go_backwards: bool = False,
) -> tuple[Array, Array, Array, Array]:
    """Gated recurrent unit (Cho et al. 2014) that resets after the product: (y, h, gates, candidates).

    With a = x kernel + bias[0] and b = h recurrent_kernel + bias[1], each with u columns for z, r, c, Keras's order:
    z = sigmoid(a + b), r = sigmoid(a + b), c = tanh(a + r b), h = z h + (1 - z) c, step by step. y (n, t, u) are all
    outputs, h (n, u) is the last state; gates (n, t, 3 u), in the order of x's steps, and candidates (n, t, u), b's
    columns for c in the order of y's, are for ``gru_backward``. x (n, t, f), kernel (f, 3 u), recurrent_kernel
    (u, 3 u), bias (2, 3 u). Steps whose mask (n, t) is 0 leave h as it was; at first it is h0, or zeros.
    """

def gru_backward(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    y: Array,
    gates: Array,
    candidates: Array,
    dy: Array | None = None,
    dh: Array | None = None,
    mask: Array | None = None,
    h0: Array | None = None,
    go_backwards: bool = False,
    need: Sequence[str] = ("dx", "dkernel", "drecurrent_kernel", "dbias", "dh0"),
) -> tuple[Any, Any, Any, Any, Any]:
    """Gradients of ``gru`` from dL/dy (n, t, u) and dL/dh (n, u), one of which may be None.

    (dx, dkernel, drecurrent_kernel, dbias, dh0); what is not in ``need`` is None. y, gates and candidates are results
    of the forward pass.
    """

def rprop_minus_step(
    w: Array,
    dw: Array,
    step_size: Array,
    gradient: Array,
    balance: str = "none",
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    step_min: float = 1e-06,
    step_max: float = 50.0,
    delta: float = 1e-06,
) -> None:
    """One step of resilient propagation, in place, without weight backtracking (Igel and Huesken 2003).

    ``gradient`` is dw of the step before, 0 in the first. Where the two have one sign, step_size = min(step_size *
    eta_plus, step_max); where they have not, step_size = max(step_size * eta_minus, step_min). Then
    w -= sign(dw) * step_size, and gradient = dw.

    With a ``balance`` (the globally convergent variants: Anastasiadis, Magoulas and Vrahatis 2005), one weight of those
    with a derivative makes up for all others: its step_size becomes -(sum over the others of step_size * dw +
    delta) / dw, no less than step_min and no more than step_max. "gradient" chooses the first with the smallest |dw|,
    "step_size" the first with the smallest step_size.
    """

def zero_pad2d(
    x: Array,
    padding: str | int | Sequence[int] | Sequence[Sequence[int]] = ((1, 1), (1, 1)),
    *,
    out: Array | None = None,
) -> Array:
    """Zeros around both axes of images x (n, h, w, c): ``padding`` of them, or (rows, columns), or pairs of such.

    A pair says how many come before and how many behind.
    """

def crop2d(
    x: Array,
    cropping: str | int | Sequence[int] | Sequence[Sequence[int]] = ((1, 1), (1, 1)),
    *,
    out: Array | None = None,
) -> Array:
    """Images x (n, h, w, c) without what ``zero_pad2d`` would put there: numbers as it takes them, from either side."""

def upsample2d(
    x: Array,
    size: int | Sequence[int] = (2, 2),
    *,
    out: Array | None = None,
) -> Array:
    """Every number of images x (n, h, w, c) size[0] x size[1] times: y[:, i, j] = x[:, i // size[0], j // size[1]]."""

def upsample2d_backward(
    dy: Array,
    x: Array,
    size: int | Sequence[int] = (2, 2),
    *,
    out: Array | None = None,
) -> Array:
    """Gradient of ``upsample2d`` by x, of which only the shape counts: the sums of the blocks of dy."""

def affine_sample2d(
    x: Array,
    matrices: Array,
    height: int,
    width: int,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    *,
    out: Array | None = None,
) -> Array:
    """Images y (n, height, width, c) whose places are those of x (n, h, w, c) that ``matrices`` (n, 6) tell.

    y[i, r, s] is x[i] at row a r + b s + c and column d r + e s + f, where a to f are the numbers of matrices[i]:
    between four places by "bilinear" interpolation, or the "nearest" one. Beyond the edges lies what ``fill_mode``
    says: "constant", ``fill_value``; "reflect", the mirror image; "wrap", the image again; "nearest", its edge.
    """

def affine_sample2d_backward(
    dy: Array,
    x: Array,
    matrices: Array,
    height: int,
    width: int,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    *,
    out: Array | None = None,
) -> Array:
    """Gradient of ``affine_sample2d`` by x, of which only the shape counts."""

def step_mask(
    x: Array,
    value: float = 0.0,
    *,
    out: Array | None = None,
) -> Array:
    """Which steps of x (n, t, f) count: 1 where any of a step's numbers is not ``value``, else 0, (n, t)."""

def mask_steps(
    x: Array,
    mask: Array,
    *,
    out: Array | None = None,
) -> Array:
    """x (n, t, f) with zeros in the steps whose mask (n, t) is 0."""

def mask_steps_backward(
    dy: Array,
    mask: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Gradient of ``mask_steps`` by x: dy with zeros in the steps whose mask is 0."""

def sequence_mean(
    x: Array,
    mask: Array | None = None,
    *,
    out: Array | None = None,
) -> Array:
    """Mean over the steps of x (n, t, f), of those whose mask (n, t) is not 0: y (n, f); zeros where there are none."""

def sequence_mean_backward(
    dy: Array,
    x: Array,
    mask: Array | None = None,
    *,
    out: Array | None = None,
) -> Array:
    """Gradient of ``sequence_mean`` by x, of which only the shape counts: dy by the number of steps that count."""

def sequence_max(
    x: Array,
    mask: Array | None = None,
    *,
    out: Array | None = None,
) -> Array:
    """Largest numbers over the steps of x (n, t, f), of those whose mask (n, t) is not 0: y (n, f).

    Zeros where there are no such steps; NaN where one of them has it.
    """

def sequence_max_backward(
    dy: Array,
    x: Array,
    y: Array,
    mask: Array | None = None,
    *,
    out: Array | None = None,
) -> Array:
    """Gradient of ``sequence_max`` by x: dy where x first is y, the result, among the steps that count, else 0."""

def softmax_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of softmax: dx[i, j] = y[i, j] * (dy[i, j] - sum over l of dy[i, l] * y[i, l])."""

def log_softmax_backward(
    dy: Array,
    x: Array,
    y: Array,
    *,
    out: Array | None = None,
) -> Array:
    """Derivative of log_softmax: dx[i, j] = dy[i, j] - exp(y[i, j]) * sum over l of dy[i, l]."""

def softmax_cross_entropy(
    logits: Array,
    targets: Array,
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Softmax and cross-entropy in one: (loss, dlogits).

    targets are class indices (n,) or rows of probabilities (n, c). With p = softmax(logits) and t the target as a row,
    loss = 1/n * sum over i of weight[i] * -sum over j of t[i, j] * log p[i, j], dlogits = weight[i] * (p - t) / n.
    Natural logarithm; stable for any finite logits. No rows give a loss of 0.

    Labels and targets that are not as said are a ValueError; on a device, where nobody waits to read them, the value is
    NaN.
    """

def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    activation: str = "linear",
    strides: int | Sequence[int] = (1, 1),
    padding: str | int | Sequence[int] | Sequence[Sequence[int]] = "valid",
    dilation: int | Sequence[int] = (1, 1),
    groups: int = 1,
    *,
    out: Array | None = None,
) -> Array:
    """Convolution of images with its bias and activation fused, as a layer has it: y = activation(x * w + b).

    y[n, i, j, f] = sum over k, l, c of x[n, i s + k d - p, j s' + l d' - p', c] w[k, l, c, f], + b[f], with strides s,
    dilation d, and x zero where it is padded. x is (n, h, w, c), w is (kh, kw, c / groups, f), b is (f,) or None, y is
    (n, oh, ow, f). Padding "valid" is none; "same" makes oh = ceil(h / s), the odd row or column last; or it is a
    number, one for each axis, or ((top, bottom), (left, right)). Of several groups, each has its share of c and of f.
    """

def conv2d_backward(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    strides: int | Sequence[int] = (1, 1),
    padding: str | int | Sequence[int] | Sequence[Sequence[int]] = "valid",
    dilation: int | Sequence[int] = (1, 1),
    groups: int = 1,
    *,
    dx: Array | None = None,
    dw: Array | None = None,
    db: Array | None = None,
) -> tuple[Any, Any, Any]:
    """Gradients of ``conv2d``: (dx, dw, db) from dy = dL/dy, with y the output of the forward pass.

    dz = dy * activation'(z); dx is dz * w turned around, dw the products of x's windows with dz, db the sums of dz.
    Where y tells the derivative z is None; gelu, silu, mish and others need it: z = conv2d(x, w, b). What is not in
    ``need`` is not computed, and None. Arrays given as dx, dw, db are written into.
    """

def conv1d(
    x: Array,
    w: Array,
    b: Array | None = None,
    activation: str = "linear",
    strides: int | Sequence[int] = (1,),
    padding: str | int | Sequence[int] | Sequence[Sequence[int]] = "valid",
    dilation: int | Sequence[int] = (1,),
    groups: int = 1,
    *,
    out: Array | None = None,
) -> Array:
    """``conv2d`` of sequences: x is (n, w, c), the kernel (kw, c / groups, f), y is (n, ow, f).

    Padding is "valid", "same", or ((before, after),); ((dilation * (kw - 1), 0),) with stride 1 looks at nothing later.
    """

def conv1d_backward(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    strides: int | Sequence[int] = (1,),
    padding: str | int | Sequence[int] | Sequence[Sequence[int]] = "valid",
    dilation: int | Sequence[int] = (1,),
    groups: int = 1,
    *,
    dx: Array | None = None,
    dw: Array | None = None,
    db: Array | None = None,
) -> tuple[Any, Any, Any]:
    """Gradients of ``conv1d``, as ``conv2d_backward`` has them of images."""

def conv2d_transpose(
    x: Array,
    w: Array,
    b: Array | None = None,
    activation: str = "linear",
    strides: int | Sequence[int] = (1, 1),
    padding: str | int | Sequence[int] | Sequence[Sequence[int]] = "valid",
    dilation: int | Sequence[int] = (1, 1),
    *,
    out: Array | None = None,
) -> Array:
    """Transposed convolution of images, with its bias and activation fused: each x spreads the kernel over y.

    The gradient by its input of a convolution with kernel w (kh, kw, f, c), strides, padding and dilation, of which
    x (n, h, w, c) is the gradient by the result; y is activation of that + b. y is (n, oh, ow, f): with padding "same"
    oh = h s, with "valid" h s + max(reach - s, 0), where a window reaches over (kh - 1) d + 1 numbers, and with
    ((top, bottom), (left, right)) (h - 1) s + reach - top - bottom.
    """

def conv2d_transpose_backward(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    strides: int | Sequence[int] = (1, 1),
    padding: str | int | Sequence[int] | Sequence[Sequence[int]] = "valid",
    dilation: int | Sequence[int] = (1, 1),
    *,
    dx: Array | None = None,
    dw: Array | None = None,
    db: Array | None = None,
) -> tuple[Any, Any, Any]:
    """Gradients of ``conv2d_transpose``: (dx, dw, db) from dy = dL/dy, with y the output of the forward pass.

    dz = dy * activation'(z); dx is the convolution of dz with w, dw the products of dz's windows with x, db the sums of
    dz. z, ``need`` and dx, dw, db as in ``conv2d_backward``.
    """

def depthwise_conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    activation: str = "linear",
    strides: int | Sequence[int] = (1, 1),
    padding: str | int | Sequence[int] | Sequence[Sequence[int]] = "valid",
    dilation: int | Sequence[int] = (1, 1),
    *,
    out: Array | None = None,
) -> Array:
    """Convolution of each channel with kernels of its own, with bias and activation fused.

    y[n, i, j, c m + l] = activation(sum over k, k' of x[n, i s + k d - p, j s' + k' d' - p', c] w[k, k', c, l] + b).
    x is (n, h, w, c), w is (kh, kw, c, m), b is (c m,) or None, y is (n, oh, ow, c m). Strides, padding and
    dilation are those of ``conv2d``.
    """

def depthwise_conv2d_backward(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    strides: int | Sequence[int] = (1, 1),
    padding: str | int | Sequence[int] | Sequence[Sequence[int]] = "valid",
    dilation: int | Sequence[int] = (1, 1),
    *,
    dx: Array | None = None,
    dw: Array | None = None,
    db: Array | None = None,
) -> tuple[Any, Any, Any]:
    """Gradients of ``depthwise_conv2d``: (dx, dw, db), as ``conv2d_backward`` has them."""

def linear_sgd_step(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    b: Array | None = None,
    velocity: Array | None = None,
    velocity_b: Array | None = None,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx",),
    learning_rate: float = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
    *,
    dx: Array | None = None,
) -> Any:
    """``linear_backward``, then ``sgd_step`` of w and of b, in place, without dw in memory.

    dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. What ``sgd_step``
    keeps of w is in velocity, what it keeps of b in velocity_b. Each tile of dw = x.T @ dz goes straight into the step.
    The result is dx (n, in), from w as it was before the step; None where ``need`` is empty, for a first layer needs
    none. An array given as dx is written into. All other parameters, and what the step does, are those of ``sgd_step``.
    x may be a CSR matrix or array of SciPy's. Packed weights are stepped where they lie, what is kept of them packed
    alike.
    """

def linear_rmsprop_step(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    mean_square: Array,
    b: Array | None = None,
    mean_square_b: Array | None = None,
    velocity: Array | None = None,
    velocity_b: Array | None = None,
    mean: Array | None = None,
    mean_b: Array | None = None,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx",),
    learning_rate: float = 0.001,
    rho: float = 0.9,
    momentum: float = 0.0,
    epsilon: float = 1e-07,
    *,
    dx: Array | None = None,
) -> Any:
    """``linear_backward``, then ``rmsprop_step`` of w and of b, in place, without dw in memory.

    dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. What
    ``rmsprop_step`` keeps of w is in mean_square, velocity, mean, what it keeps of b in mean_square_b, velocity_b,
    mean_b. Each tile of dw = x.T @ dz goes straight into the step. The result is dx (n, in), from w as it was before
    the step; None where ``need`` is empty, for a first layer needs none. An array given as dx is written into. All
    other parameters, and what the step does, are those of ``rmsprop_step``. x may be a CSR matrix or array of SciPy's.
    Packed weights are stepped where they lie, what is kept of them packed alike.
    """

def linear_adam_step(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    m: Array,
    v: Array,
    step: int,
    b: Array | None = None,
    m_b: Array | None = None,
    v_b: Array | None = None,
    v_max: Array | None = None,
    v_max_b: Array | None = None,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx",),
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-07,
    *,
    dx: Array | None = None,
) -> Any:
    """``linear_backward``, then ``adam_step`` of w and of b, in place, without dw in memory.

    dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. What ``adam_step``
    keeps of w is in m, v, v_max, what it keeps of b in m_b, v_b, v_max_b. Each tile of dw = x.T @ dz goes straight into
    the step. The result is dx (n, in), from w as it was before the step; None where ``need`` is empty, for a first
    layer needs none. An array given as dx is written into. All other parameters, and what the step does, are those of
    ``adam_step``. x may be a CSR matrix or array of SciPy's. Packed weights are stepped where they lie, what is kept of
    them packed alike.
    """

def linear_adagrad_step(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    accumulator: Array,
    b: Array | None = None,
    accumulator_b: Array | None = None,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx",),
    learning_rate: float = 0.001,
    epsilon: float = 1e-07,
    *,
    dx: Array | None = None,
) -> Any:
    """``linear_backward``, then ``adagrad_step`` of w and of b, in place, without dw in memory.

    dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. What
    ``adagrad_step`` keeps of w is in accumulator, what it keeps of b in accumulator_b. Each tile of dw = x.T @ dz goes
    straight into the step. The result is dx (n, in), from w as it was before the step; None where ``need`` is empty,
    for a first layer needs none. An array given as dx is written into. All other parameters, and what the step does,
    are those of ``adagrad_step``. x may be a CSR matrix or array of SciPy's. Packed weights are stepped where they lie,
    what is kept of them packed alike.
    """

def linear_adadelta_step(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    mean_square: Array,
    mean_moved: Array,
    b: Array | None = None,
    mean_square_b: Array | None = None,
    mean_moved_b: Array | None = None,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx",),
    learning_rate: float = 0.001,
    rho: float = 0.95,
    epsilon: float = 1e-07,
    *,
    dx: Array | None = None,
) -> Any:
    """``linear_backward``, then ``adadelta_step`` of w and of b, in place, without dw in memory.

    dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. What
    ``adadelta_step`` keeps of w is in mean_square, mean_moved, what it keeps of b in mean_square_b, mean_moved_b. Each
    tile of dw = x.T @ dz goes straight into the step. The result is dx (n, in), from w as it was before the step; None
    where ``need`` is empty, for a first layer needs none. An array given as dx is written into. All other parameters,
    and what the step does, are those of ``adadelta_step``. x may be a CSR matrix or array of SciPy's. Packed weights
    are stepped where they lie, what is kept of them packed alike.
    """

def linear_adamax_step(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    m: Array,
    norm: Array,
    step: int,
    b: Array | None = None,
    m_b: Array | None = None,
    norm_b: Array | None = None,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx",),
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-07,
    *,
    dx: Array | None = None,
) -> Any:
    """``linear_backward``, then ``adamax_step`` of w and of b, in place, without dw in memory.

    dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. What
    ``adamax_step`` keeps of w is in m, norm, what it keeps of b in m_b, norm_b. Each tile of dw = x.T @ dz goes
    straight into the step. The result is dx (n, in), from w as it was before the step; None where ``need`` is empty,
    for a first layer needs none. An array given as dx is written into. All other parameters, and what the step does,
    are those of ``adamax_step``. x may be a CSR matrix or array of SciPy's. Packed weights are stepped where they lie,
    what is kept of them packed alike.
    """

def linear_nadam_step(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    m: Array,
    v: Array,
    step: int,
    b: Array | None = None,
    m_b: Array | None = None,
    v_b: Array | None = None,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx",),
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-07,
    *,
    dx: Array | None = None,
) -> Any:
    """``linear_backward``, then ``nadam_step`` of w and of b, in place, without dw in memory.

    dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. What
    ``nadam_step`` keeps of w is in m, v, what it keeps of b in m_b, v_b. Each tile of dw = x.T @ dz goes straight into
    the step. The result is dx (n, in), from w as it was before the step; None where ``need`` is empty, for a first
    layer needs none. An array given as dx is written into. All other parameters, and what the step does, are those of
    ``nadam_step``. x may be a CSR matrix or array of SciPy's. Packed weights are stepped where they lie, what is kept
    of them packed alike.
    """

def linear_lion_step(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    m: Array,
    b: Array | None = None,
    m_b: Array | None = None,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx",),
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.99,
    *,
    dx: Array | None = None,
) -> Any:
    """``linear_backward``, then ``lion_step`` of w and of b, in place, without dw in memory.

    dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. What ``lion_step``
    keeps of w is in m, what it keeps of b in m_b. Each tile of dw = x.T @ dz goes straight into the step. The result is
    dx (n, in), from w as it was before the step; None where ``need`` is empty, for a first layer needs none. An array
    given as dx is written into. All other parameters, and what the step does, are those of ``lion_step``. x may be a
    CSR matrix or array of SciPy's. Packed weights are stepped where they lie, what is kept of them packed alike.
    """

def linear_ftrl_step(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    accumulator: Array,
    linear: Array,
    b: Array | None = None,
    accumulator_b: Array | None = None,
    linear_b: Array | None = None,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx",),
    learning_rate: float = 0.001,
    learning_rate_power: float = -0.5,
    l1_regularization_strength: float = 0.0,
    l2_regularization_strength: float = 0.0,
    l2_shrinkage_regularization_strength: float = 0.0,
    beta: float = 0.0,
    *,
    dx: Array | None = None,
) -> Any:
    """``linear_backward``, then ``ftrl_step`` of w and of b, in place, without dw in memory.

    dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. What ``ftrl_step``
    keeps of w is in accumulator, linear, what it keeps of b in accumulator_b, linear_b. Each tile of dw = x.T @ dz goes
    straight into the step. The result is dx (n, in), from w as it was before the step; None where ``need`` is empty,
    for a first layer needs none. An array given as dx is written into. All other parameters, and what the step does,
    are those of ``ftrl_step``. x may be a CSR matrix or array of SciPy's. Packed weights are stepped where they lie,
    what is kept of them packed alike.
    """

def linear_rprop_step(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    step_size: Array,
    change: Array,
    gradient: Array,
    b: Array | None = None,
    step_size_b: Array | None = None,
    change_b: Array | None = None,
    gradient_b: Array | None = None,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx",),
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    step_min: float = 1e-06,
    step_max: float = 50.0,
    *,
    dx: Array | None = None,
) -> Any:
    """``linear_backward``, then ``rprop_step`` of w and of b, in place, without dw in memory.

    dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. What
    ``rprop_step`` keeps of w is in step_size, change, gradient, what it keeps of b in step_size_b, change_b,
    gradient_b. Each tile of dw = x.T @ dz goes straight into the step. The result is dx (n, in), from w as it was
    before the step; None where ``need`` is empty, for a first layer needs none. An array given as dx is written into.
    All other parameters, and what the step does, are those of ``rprop_step``. x may be a CSR matrix or array of
    SciPy's. Packed weights are stepped where they lie, what is kept of them packed alike.
    """

def linear_heavy_ball_step(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    velocity: Array,
    b: Array | None = None,
    velocity_b: Array | None = None,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx",),
    learning_rate: float = 0.01,
    momentum: float = 0.9,
    dampening: float = 0.0,
    nesterov: bool = False,
    *,
    dx: Array | None = None,
) -> Any:
    """``linear_backward``, then ``heavy_ball_step`` of w and of b, in place, without dw in memory.

    dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. What
    ``heavy_ball_step`` keeps of w is in velocity, what it keeps of b in velocity_b. Each tile of dw = x.T @ dz goes
    straight into the step. The result is dx (n, in), from w as it was before the step; None where ``need`` is empty,
    for a first layer needs none. An array given as dx is written into. All other parameters, and what the step does,
    are those of ``heavy_ball_step``. x may be a CSR matrix or array of SciPy's. Packed weights are stepped where they
    lie, what is kept of them packed alike.
    """

def linear_rmsprop_root_step(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    mean_square: Array,
    b: Array | None = None,
    mean_square_b: Array | None = None,
    velocity: Array | None = None,
    velocity_b: Array | None = None,
    mean: Array | None = None,
    mean_b: Array | None = None,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx",),
    learning_rate: float = 0.01,
    rho: float = 0.99,
    momentum: float = 0.0,
    epsilon: float = 1e-08,
    *,
    dx: Array | None = None,
) -> Any:
    """``linear_backward``, then ``rmsprop_root_step`` of w and of b, in place, without dw in memory.

    dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. What
    ``rmsprop_root_step`` keeps of w is in mean_square, velocity, mean, what it keeps of b in mean_square_b, velocity_b,
    mean_b. Each tile of dw = x.T @ dz goes straight into the step. The result is dx (n, in), from w as it was before
    the step; None where ``need`` is empty, for a first layer needs none. An array given as dx is written into. All
    other parameters, and what the step does, are those of ``rmsprop_root_step``. x may be a CSR matrix or array of
    SciPy's. Packed weights are stepped where they lie, what is kept of them packed alike.
    """

def linear_adagrad_root_step(
    dy: Array,
    x: Array,
    w: Array,
    y: Array,
    accumulator: Array,
    b: Array | None = None,
    accumulator_b: Array | None = None,
    activation: str = "linear",
    z: Array | None = None,
    need: Sequence[str] = ("dx",),
    learning_rate: float = 0.01,
    epsilon: float = 1e-10,
    *,
    dx: Array | None = None,
) -> Any:
    """``linear_backward``, then ``adagrad_root_step`` of w and of b, in place, without dw in memory.

    dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. What
    ``adagrad_root_step`` keeps of w is in accumulator, what it keeps of b in accumulator_b. Each tile of dw = x.T @ dz
    goes straight into the step. The result is dx (n, in), from w as it was before the step; None where ``need`` is
    empty, for a first layer needs none. An array given as dx is written into. All other parameters, and what the step
    does, are those of ``adagrad_root_step``. x may be a CSR matrix or array of SciPy's. Packed weights are stepped
    where they lie, what is kept of them packed alike.
    """

def pack(
    w: Array,
) -> Any:
    """Weights laid out as the kernels read them fastest, to stand for ``w`` in ``linear`` and ``b`` in ``matmul``."""

def unpack(
    packed: Any,
) -> Array:
    """Packed weights as a new array."""

def abs(  # noqa: A001 - Keras's name
    x: Any,
) -> Array:
    """|x|."""

def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    dtype: Any = None,
) -> Array:
    """Numbers from ``start``, or 0 where that is the only one, up to ``stop``, which is left out."""

def array(
    x: Any,
    dtype: Any = None,
) -> Array:
    """x (a list, a number, an array) as an array of NumPy's or, if it is one, of CuPy's; numbers become float32."""

def cast(
    x: Any,
    dtype: Any,
) -> Array:
    """x in another dtype; what is followed keeps the one that it has."""

def clip(
    x: Any,
    x_min: float,
    x_max: float,
) -> Any:
    """x kept in [x_min, x_max]; the gradient is 0 outside."""

def concatenate(
    xs: Sequence[Any],
    axis: int = 0,
) -> Array:
    """Arrays one behind the other along an axis: a new array. All other axes are of the same sizes."""

def convert_to_numpy(
    x: Any,
) -> Array:
    """What x holds as an array of NumPy's; TypeError for what is followed."""

def convert_to_tensor(
    x: Any,
    dtype: Any = None,
) -> Array:
    """x as ``array`` gives it: Keras's other name."""

def copy(
    x: Any,
) -> Array:
    """A new array of the same numbers."""

def dot(
    x1: Any,
    x2: Any,
) -> Any:
    """Products of x1's last axis (..., k) with the rows of x2, (k,) or (k, m)."""

def einsum(
    subscripts: str,
    *operands: Any,
) -> Array:
    """Sums of products of one or two arrays, whose axes letters name: "bqhd,bkhd->bhqk"; as NumPy's, but for "..."."""

def exp(
    x: Any,
) -> Array:
    """e to the power x."""

def expand_dims(
    x: Any,
    axis: int,
) -> Array:
    """x with an axis of one place more, at ``axis``."""

def eye(
    N: int,
    M: int | None = None,
    k: int = 0,
    dtype: Any = None,
) -> Array:
    """Ones on a diagonal of a matrix (N, M), else zeros; of float32 by default."""

def flip(
    x: Any,
    axis: int | None = None,
) -> Array:
    """x in reverse along an axis, or along all of them, a new array."""

def full(
    shape: Sequence[int] | int,
    fill_value: float,
    dtype: Any = None,
) -> Array:
    """An array of one number, of float32 by default, where the current backend's arrays live."""

def full_like(
    x: Any,
    fill_value: float,
    dtype: Any = None,
) -> Array:
    """An array of one number in the shape of x, and in its dtype or another."""

def get_item(
    x: Any,
    key: Any,
) -> Any:
    """x[key], of integers, slices, an ellipsis: a view where x is an array."""

def linspace(
    start: float,
    stop: float,
    num: int = 50,
    endpoint: bool = True,
) -> Array:
    """So many numbers at equal distances from ``start`` to ``stop``, in float32."""

def log_softmax(
    x: Any,
    axis: int = -1,
    out: Any = None,
) -> Array:
    """Logarithms of ``softmax``, as exact where shares are tiny."""

def logsumexp(
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Any:
    """log(sum(exp(x))) over an axis, several or all, of what is left beside the largest number."""

def max(  # noqa: A001 - Keras's name
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Any:
    """Largest numbers of x along an axis, or several, or of all; NaN where there is one."""

def mean(
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Any:
    """Mean of x over an axis, or several; over all where there is none: then a number, unless ``keepdims``."""

def min(  # noqa: A001 - Keras's name
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Any:
    """Smallest numbers of x along an axis, or several, or of all; as ``max`` else."""

def moveaxis(
    x: Any,
    source: int,
    destination: int,
) -> Array:
    """x with an axis at another place, a new array."""

def ndim(
    x: Any,
) -> int:
    """How many dimensions x has."""

def negative(
    x: Any,
) -> Array:
    """-x."""

def normalize(
    x: Any,
    axis: int | Sequence[int] = -1,
    order: int = 2,
    epsilon: float | None = None,
) -> Array:
    """x over its Euclidean norm along an axis or several; over ``epsilon``, 1e-7 by default, where that is less."""

def one_hot(
    x: Any,
    num_classes: int,
    axis: int = -1,
    dtype: str | None = None,
) -> Array:
    """Rows of num_classes numbers (..., num_classes), 1 at the place that x (...) tells, else 0; along ``axis``."""

def ones(
    shape: Sequence[int] | int,
    dtype: Any = None,
) -> Array:
    """Ones, of float32 by default."""

def ones_like(
    x: Any,
    dtype: Any = None,
) -> Array:
    """Ones in the shape of x, and in its dtype or another."""

def pad(
    x: Any,
    pad_width: Any,
    mode: str = "constant",
    constant_values: float | None = None,
) -> Array:
    """x with ``constant_values``, or zeros, before and behind along its axes, a new array."""

def permute(
    x: Any,
    axes: Sequence[int],
) -> Array:
    """x with its axes in another order, a new array: its axis i is axis axes[i] of x."""

def power(
    x1: Any,
    x2: Any,
) -> Array:
    """x1 to the power x2."""

def ravel(
    x: Any,
) -> Array:
    """x in one dimension."""

def repeat(
    x: Any,
    repeats: int,
    axis: int | None = None,
) -> Array:
    """Every entry along an axis so many times, one behind the other; of all in one dimension where there is none."""

def reshape(
    x: Any,
    newshape: Sequence[int] | int,
) -> Array:
    """x in another shape; one size may be -1."""

def shape(
    x: Any,
) -> tuple[int, ...]:
    """Sizes of x's axes."""

def softmax(
    x: Any,
    axis: int = -1,
    out: Any = None,
) -> Array:
    """Shares of exp(x) along an axis, which sum to 1; of rows (n, c) into ``out`` where it is given."""

def split(
    x: Any,
    indices_or_sections: Any,
    axis: int = 0,
) -> tuple[Array, ...]:
    """Parts of x along an axis, which are views of it: so many of one size, or those between indices."""

def squeeze(
    x: Any,
    axis: int | Sequence[int] | None = None,
) -> Array:
    """x without axes of one place: all of them, or those of ``axis``."""

def stack(
    x: Sequence[Any],
    axis: int = 0,
) -> Array:
    """Arrays of one shape one behind the other along a new axis: a new array."""

def std(
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Any:
    """Root of the variance of x, over an axis, several or all."""

def stop_gradient(
    variable: Any,
) -> Any:
    """The value, as a constant."""

def sum(  # noqa: A001 - Keras's name
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Any:
    """Sum of x over an axis, or several; over all where there is none: then a number, unless ``keepdims``."""

def swapaxes(
    x: Any,
    axis1: int,
    axis2: int,
) -> Array:
    """x with two axes exchanged, a new array."""

def tile(
    x: Any,
    repeats: int | Sequence[int],
) -> Array:
    """x so many times along each of its axes, of which the last ones are meant where there are fewer numbers."""

def transpose(
    x: Any,
    axes: Sequence[int] | None = None,
) -> Array:
    """x with its axes in another order: the reverse one where none is given."""

def unstack(
    x: Any,
    num: int | None = None,
    axis: int = 0,
) -> tuple[Array, ...]:
    """The arrays along an axis of x, which are views of it; ``num`` of them, where it is given."""

def var(
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Any:
    """Mean squared distance of x from its mean, over an axis, several or all."""

def where(
    condition: Any,
    x1: Any,
    x2: Any,
) -> Array:
    """x1 where a condition of 0 and 1, or of truth, holds, else x2: x1 c + x2 (1 - c) where they are followed."""

def zeros(
    shape: Sequence[int] | int,
    dtype: Any = None,
) -> Array:
    """Zeros, of float32 by default."""

def zeros_like(
    x: Any,
    dtype: Any = None,
) -> Array:
    """Zeros in the shape of x, and in its dtype or another."""

def all(  # noqa: A001 - Keras's name
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Array:
    """Whether all hold along an axis, or of all."""

def allclose(
    x1: Any,
    x2: Any,
    rtol: float = 1e-05,
    atol: float = 1e-08,
    equal_nan: bool = False,
) -> bool:
    """Whether ``isclose`` holds everywhere."""

def any(  # noqa: A001 - Keras's name
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Array:
    """Whether one holds along an axis, or of all."""

def argmax(
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Array:
    """Where the largest number is along an axis, or of all."""

def argmin(
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Array:
    """Where the smallest is along an axis, or of all."""

def argsort(
    x: Any,
    axis: int = -1,
) -> Array:
    """The places of x along an axis from its smallest number to its largest, equal ones in their order."""

def bincount(
    x: Any,
    weights: Any = None,
    minlength: int = 0,
) -> Array:
    """How often each of the numbers 0, 1, ... is in x (n,), or the sum of the weights (n,) there."""

def ceil(
    x: Any,
) -> Array:
    """The whole number above x, by element."""

def count_nonzero(
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Array:
    """How many are not 0 along an axis, or of all."""

def digitize(
    x: Any,
    bins: Any,
) -> Array:
    """How many of the bins' bounds, in rising order, lie at or below each number of x."""

def equal(
    x1: Any,
    x2: Any,
) -> Array:
    """Where x1 = x2, by element: an array of truth."""

def floor(
    x: Any,
) -> Array:
    """The whole number below x, by element."""

def floor_divide(
    x1: Any,
    x2: Any,
) -> Array:
    """x1 / x2, rounded down, by element."""

def greater(
    x1: Any,
    x2: Any,
) -> Array:
    """Where x1 > x2, by element: an array of truth."""

def greater_equal(
    x1: Any,
    x2: Any,
) -> Array:
    """Where x1 ≥ x2, by element: an array of truth."""

def isclose(
    x1: Any,
    x2: Any,
    rtol: float = 1e-05,
    atol: float = 1e-08,
    equal_nan: bool = False,
) -> Array:
    """Where |x1 - x2| <= atol + rtol |x2|, by element: an array of truth."""

def isfinite(
    x: Any,
) -> Array:
    """Where x is a finite number, by element."""

def isin(
    x1: Any,
    x2: Any,
    assume_unique: bool = False,
    invert: bool = False,
) -> Array:
    """Where a number of x1 is one of x2's, or is none of them: an array of truth."""

def isinf(
    x: Any,
) -> Array:
    """Where x is infinite, by element."""

def isnan(
    x: Any,
) -> Array:
    """Where x is NaN, by element."""

def less(
    x1: Any,
    x2: Any,
) -> Array:
    """Where x1 < x2, by element: an array of truth."""

def less_equal(
    x1: Any,
    x2: Any,
) -> Array:
    """Where x1 ≤ x2, by element: an array of truth."""

def logical_and(
    x1: Any,
    x2: Any,
) -> Array:
    """Where x1 and x2, by element: an array of truth."""

def logical_not(
    x: Any,
) -> Array:
    """Where x is not, by element."""

def logical_or(
    x1: Any,
    x2: Any,
) -> Array:
    """Where x1 or x2, by element: an array of truth."""

def logical_xor(
    x1: Any,
    x2: Any,
) -> Array:
    """Where x1 or, but not both of, x2, by element: an array of truth."""

def meshgrid(
    *x: Any,
    indexing: str = "xy",
) -> list[Array]:
    """Coordinates of all points of a grid, an array for each axis; the first two axes change places for "xy"."""

def mod(
    x1: Any,
    x2: Any,
) -> Array:
    """x1 modulo x2, by element."""

def nonzero(
    x: Any,
) -> tuple[Array, ...]:
    """The places of what is not 0, along each axis."""

def not_equal(
    x1: Any,
    x2: Any,
) -> Array:
    """Where x1 ≠ x2, by element: an array of truth."""

def round(  # noqa: A001 - Keras's name
    x: Any,
    decimals: int = 0,
) -> Array:
    """x to so many decimals, halves to the even one."""

def searchsorted(
    sorted_sequence: Any,
    values: Any,
    side: str = "left",
) -> Array:
    """The places in a sorted sequence before which values keep it sorted: before equal numbers, or on their "right"."""

def trunc(
    x: Any,
) -> Array:
    """The whole number from x towards 0, by element."""

def unravel_index(
    indices: Any,
    shape: Sequence[int],
) -> tuple[Array, ...]:
    """The places along each axis of a shape that numbers of its elements, row by row, stand for."""

def broadcast_to(
    x: Any,
    shape: Sequence[int],
) -> Array:
    """x repeated along axes of one place, and along new ones before them, up to a shape: a new array."""

def diag(
    x: Any,
    k: int = 0,
) -> Array:
    """A matrix with the vector x on its k-th diagonal; of a matrix that diagonal."""

def diagonal(
    x: Any,
    offset: int = 0,
    axis1: int = 0,
    axis2: int = 1,
) -> Array:
    """The numbers of x's diagonal, or one so far above it, over two axes: along a last axis, a new array."""

def hstack(
    xs: Sequence[Any],
) -> Array:
    """Arrays side by side: along the second axis, vectors along their only one."""

def in_top_k(
    targets: Any,
    predictions: Any,
    k: int,
) -> Array:
    """Whether the number of predictions (n, c) at targets (n,) is among the k largest of its row: (n,), of truth."""

def multi_hot(
    inputs: Any,
    num_classes: int,
    axis: int = -1,
    dtype: str | None = None,
) -> Array:
    """Rows of num_classes numbers, 1 at all the places that the last axis of inputs (..., k) tells, else 0."""

def roll(
    x: Any,
    shift: int | Sequence[int],
    axis: int | Sequence[int] | None = None,
) -> Array:
    """x moved by so many places along an axis, or several; what goes beyond the end comes in at the beginning."""

def scatter(
    indices: Any,
    values: Any,
    shape: Sequence[int],
) -> Array:
    """Zeros of a shape, and each of the values (n, ...) added at its place (n, d), by the first d axes."""

def scatter_update(
    inputs: Any,
    indices: Any,
    updates: Any,
) -> Array:
    """``inputs`` with each of the updates (n, ...) in its place (n, d), by the first d axes: a new array."""

def segment_sum(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    sorted: bool = False,  # noqa: A002 - Keras's name
) -> Array:
    """Sums of the rows of data (n, ...) by their segments' numbers (n,): (num_segments, ...), 0 for those of none."""

def slice(  # noqa: A001 - Keras's name
    inputs: Any,
    start_indices: Sequence[int],
    shape: Sequence[int],
) -> Array:
    """The part of an array with this shape that begins at these places; a view."""

def slice_update(
    inputs: Any,
    start_indices: Sequence[int],
    updates: Any,
) -> Array:
    """``inputs`` with another array in the place of its part that begins at these places: a new array."""

def sort(
    x: Any,
    axis: int = -1,
) -> Array:
    """x along an axis from its smallest number to its largest, NaN behind them; no program has it."""

def take(
    x: Any,
    indices: Any,
    axis: int | None = None,
) -> Array:
    """Parts of x along an axis, by their numbers; of all numbers in one dimension where there is no axis."""

def take_along_axis(
    x: Any,
    indices: Any,
    axis: int | None = None,
) -> Array:
    """Numbers of x by their places along an axis: y[i, j] = x[i, indices[i, j]] along the last one."""

def top_k(
    x: Any,
    k: int,
    sorted: bool = True,  # noqa: A002 - Keras's name
) -> tuple[Array, Array]:
    """(the k largest numbers along the last axis, their places): the largest first, of equal ones the first."""

def trace(
    x: Any,
    offset: int = 0,
    axis1: int = 0,
    axis2: int = 1,
) -> Any:
    """Sum of a diagonal, as ``diagonal`` has it."""

def tril(
    x: Any,
    k: int = 0,
) -> Array:
    """Matrices (..., n, m) with zeros above a diagonal, the k-th above the main one."""

def triu(
    x: Any,
    k: int = 0,
) -> Array:
    """Matrices (..., n, m) with zeros below a diagonal, the k-th above the main one."""

def vstack(
    xs: Sequence[Any],
) -> Array:
    """Arrays one below the other: along the first axis, vectors as rows."""

def amax(
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Any:
    """Largest numbers: Keras's other name of ``max``."""

def amin(
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Any:
    """Smallest numbers: Keras's other name of ``min``."""

def cdist(
    x: Any,
    y: Any,
) -> Array:
    """Euclidean distances of the rows of x (..., n, k) from those of y (..., m, k): (..., n, m)."""

def cosh(
    x: Any,
) -> Array:
    """Hyperbolic cosine (exp(x) + exp(-x)) / 2."""

def cumprod(
    x: Any,
    axis: int | None = None,
) -> Array:
    """Running products of x along an axis, or of all numbers in one dimension; multiplied as ``cumsum`` adds."""

def cumsum(
    x: Any,
    axis: int | None = None,
) -> Array:
    """Running sums of x along an axis, or of all numbers in one dimension."""

def diff(
    a: Any,
    n: int = 1,
    axis: int = -1,
) -> Array:
    """What each number along an axis has more than the one before it, n times."""

def divide_no_nan(
    x1: Any,
    x2: Any,
) -> Array:
    """x1 / x2, and 0 where x2 is, with a gradient of 0; x1 is finite there."""

def exp2(
    x: Any,
) -> Array:
    """2 to the power x."""

def hypot(
    x1: Any,
    x2: Any,
) -> Array:
    """sqrt(x1^2 + x2^2); its gradient at 0 is 0."""

def inner(
    x1: Any,
    x2: Any,
) -> Any:
    """Sums of products over the last axes of both."""

def log10(
    x: Any,
) -> Array:
    """Logarithm to the base 10: log(x) / log(10)."""

def log2(
    x: Any,
) -> Array:
    """Logarithm to the base 2: log(x) / log(2)."""

def logaddexp(
    x1: Any,
    x2: Any,
) -> Array:
    """log(exp(x1) + exp(x2)) without overflow; NaN where both are the same infinity."""

def median(
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Any:
    """The number in the middle of x's along an axis, several or of all, the mean of two; as ``quantile`` else."""

def moments(
    x: Any,
    axes: int | Sequence[int],
    keepdims: bool = False,
    synchronized: bool = False,
) -> tuple[Any, Any]:
    """(mean, variance) of x over axes."""

def norm(
    x: Any,
    ord: Any = None,  # noqa: A002 - Keras's name
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Any:
    """Norm of x over an axis, several or all: Euclidean, or of the order 1, inf or -inf."""

def outer(
    x1: Any,
    x2: Any,
) -> Array:
    """Products of every number of x1 with every one of x2: (size of x1, size of x2)."""

def prod(
    x: Any,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
) -> Any:
    """Product of x over an axis, or several; over all where there is none: then a number, unless ``keepdims``."""

def quantile(
    x: Any,
    q: float | Sequence[float],
    axis: int | Sequence[int] | None = None,
    method: str = "linear",
    keepdims: bool = False,
) -> Any:
    """The number below which a share q of x's numbers lie along an axis, several or of all, linear between two."""

def reciprocal(
    x: Any,
) -> Array:
    """1 / x."""

def sinh(
    x: Any,
) -> Array:
    """Hyperbolic sine (exp(x) - exp(-x)) / 2, small results accurate."""

def tan(
    x: Any,
) -> Array:
    """Tangent of x in radians, sin(x) / cos(x)."""

def tensordot(
    x1: Any,
    x2: Any,
    axes: Any = 2,
) -> Any:
    """Sums of products over axes of both: the last of x1 and first of x2, so many, or a pair of lists of them."""

def true_divide(
    x1: Any,
    x2: Any,
) -> Array:
    """x1 / x2: Keras's other name of ``divide``."""

def vdot(
    x1: Any,
    x2: Any,
) -> Any:
    """The sum of the products of all numbers of both."""

def average_pool(
    x: Any,
    pool_size: Any,
    strides: Any = None,
    padding: str = "valid",
) -> Array:
    """The mean of each place of a window, of what lies in x alone; arguments as of ``max_pool``."""

def conv(
    x: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    dilation_rate: Any = 1,
) -> Array:
    """``conv1d`` or ``conv2d`` with a kernel (kw, c / groups, f) or (kh, kw, c / groups, f), the groups as it says."""

def max_pool(
    x: Any,
    pool_size: Any,
    strides: Any = None,
    padding: str = "valid",
) -> Array:
    """The largest number of each place of a window moved by ``strides``, ``pool_size`` if there are none."""

def upsample(
    x: Any,
    size: Any,
) -> Array:
    """Every step, or every number of an image, ``size`` times along its axes."""

def zero_pad(
    x: Any,
    padding: Any,
) -> Array:
    """Zeros around the axes in the middle: a number, one for each axis, or a pair (before, behind) for each axis."""

def cond(
    pred: Any,
    true_fn: Callable[[], Any],
    false_fn: Callable[[], Any],
) -> Any:
    """What one of two functions returns: ``true_fn()`` where the condition holds, else ``false_fn()``."""

def fori_loop(
    lower: int,
    upper: int,
    body_fun: Callable[[int, Any], Any],
    init_val: Any,
) -> Any:
    """The value that ``body_fun(i, value)`` gives in its last turn, for i from ``lower`` up to ``upper``, left out."""

def map(  # noqa: A001 - Keras's name
    f: Callable[[Any], Any],
    xs: Any,
) -> Any:
    """What f gives for each x along the first axis of xs, stacked."""

def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """(the last carry, all y stacked) of turns (carry, y) = f(carry, x), x along the first axis of xs, or None."""

def switch(
    index: Any,
    branches: Sequence[Callable[..., Any]],
    *operands: Any,
) -> Any:
    """What the branch of a number returns for the operands; the first for smaller numbers, the last for larger ones."""

def vectorized_map(
    function: Callable[[Any], Any],
    elements: Any,
) -> Any:
    """What ``map`` gives: one call after the other."""

def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    maximum_iterations: int | None = None,
) -> Any:
    """The variables after as many turns of ``body(*loop_vars)`` as ``cond(*loop_vars)`` holds before."""
