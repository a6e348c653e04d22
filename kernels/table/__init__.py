"""The one table of ops: name, signature, operand shapes, options, FLOP and byte counts, cases.

The rows stand in the modules of this package, one for each of the implementations'. Dispatch and argument checks
(``fastnn.ops``), the tests and the benchmarks all read them. A row is a function without a body: its parameters and
docstring are those of the public op and of its implementation on every backend; the decorator adds what a signature
cannot say.

How to read a row:

- ``a="n k"`` gives an operand's dimensions; equal names are equal sizes. ``"..."`` is any shape, the same for every
  operand that says so; ``"n ..."`` any shape with at least one dimension; ``"*"`` broadcasts as NumPy does. ``returns``
  uses the same notation; ``""`` is a single number.
- An operand whose default is None is optional. ``inplace`` lists the operands that are updated in place, ``packed``
  those that may be packed weights (``fastnn.ops.pack``). ``into`` names the parameters that take arrays for the results
  to be written into, in their order: ``out`` where nothing is said.
- ``sparse`` lists the operands that may be CSR matrices of SciPy's, for which the module ``csr`` has the op;
  ``of_bytes`` those that may be uint8 where results are float32; ``sampled`` those of which no more is read than is
  written, ``unread`` those of which only the shape counts or, of a derivative, nothing at all.
- ``lists`` says that operands may be lists of arrays, of one length and each with its own shape: one call does it all.
- ``options`` describes the scalar parameters; ``rules`` what must hold between parameters.
- ``derived`` gives sizes that follow from others and from options, such as the places that a window has with strides
  and padding (``windows``), as functions of all of these by name. Operands and results must have them.
- ``flops`` counts floating-point operations of one call from the sizes; None where memory, not arithmetic, is the
  limit. Bytes follow from the shapes: each operand and result once, in-place operands twice.
- ``cases`` are the sizes that the tests run, with options that go with them, ``bench`` those that the benchmarks time.
  ``draw`` says how to make operands that are not plain random numbers (``fastnn.kernels.cases``).

To add an op: a row here, its loops in ``naive/<module>.py``, its kernel in ``cpu/<module>.py``. What is a formula of
one number (an activation, a loss of an element, an optimizer's step) has no kernel of its own: its formula goes into
``formulas/``.
"""

from __future__ import annotations

from fastnn.kernels.table import (
    attention,
    batched,
    dropout,
    elementwise,
    embedding,
    gather,
    gemm,
    joining,
    losses,
    normalization,
    optim,
    pooling,
    prelu,
    random,
    recurrent,
    resilient,
    resizing,
    sampling,
    sequences,
    softmax,
)

from fastnn.kernels.table import convolution, depthwise  # isort: skip  # after gemm, which says of its rules
from fastnn.kernels.table import linear_steps  # isort: skip  # after the steps that it makes rows of
from fastnn.kernels.table.elementwise import ACTIVATIONS, ELEMENTWISE_ACTIVATIONS, NUMBERS
from fastnn.kernels.table.row import (
    DTYPES,
    MALFORMED_CSR,
    MOST_OFF,
    TABLE,
    Choice,
    Flag,
    Integer,
    Integers,
    Op,
    Option,
    Padding,
    Real,
    Rule,
    Sizes,
    Subset,
    shape_of,
    varying,
)

__all__ = [
    "ACTIVATIONS",
    "DTYPES",
    "ELEMENTWISE_ACTIVATIONS",
    "MALFORMED_CSR",
    "MOST_OFF",
    "NUMBERS",
    "TABLE",
    "Choice",
    "Flag",
    "Integer",
    "Integers",
    "Op",
    "Option",
    "Padding",
    "Real",
    "Rule",
    "Sizes",
    "Subset",
    "attention",
    "batched",
    "convolution",
    "depthwise",
    "dropout",
    "elementwise",
    "embedding",
    "gather",
    "gemm",
    "joining",
    "linear_steps",
    "losses",
    "normalization",
    "optim",
    "pooling",
    "prelu",
    "random",
    "recurrent",
    "resilient",
    "resizing",
    "sampling",
    "sequences",
    "shape_of",
    "softmax",
    "varying",
]
