"""What a fit hands to the epoch's kernels, and what these hand to one another: records with named fields.

Tables are NumPy arrays of records, which compiled code reads by attribute, as it does named tuples. The fields of the
tuples that cross from Python are declared with their kinds, as the operands of micro-kernels are.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Annotated, Any, NamedTuple, get_type_hints

import numpy as np
from numba import from_dtype, types
from numba.np.numpy_support import as_dtype

from fastnn.kernels.cpu.compiler.parts import inlined
from fastnn.kernels.cpu.jit import flat, matrix
from fastnn.kernels.cpu.simd.kernel import pointer
from fastnn.kernels.cpu.simd.losses import LOSS_ROW_CODES
from fastnn.kernels.formulas.activations import CODES

# Rows of W in a unit of the update: a multiple of every tile height and of every vector length.
UNIT_ROWS = 96

# Powers of a decay that are kept: a feature seldom stays away for more batches.
POWERS = 64

# --------------------------------------------------------------------------------------------------------------- codes

# The code of an activation that leaves numbers as they are.
IDENTITY = CODES["identity"]

# Kinds of inputs.
DENSE, BYTES, SPARSE, EXPANDED = range(4)

# What of a stage has penalties; weights and bias, or in place of it a PReLU's slopes, are also shrunk, clipped and
# updated.
KERNEL, BIAS, OUTPUTS = range(3)

# Codes of the losses and metrics of a row of outputs, behind those of ``loss_row``.
SOFTMAX_CROSS_ENTROPY, CROSS_ENTROPY, ACCURACY, BINARY_ACCURACY, TOP_K = range(
    len(LOSS_ROW_CODES), len(LOSS_ROW_CODES) + 5
)
FIGURES = {
    **LOSS_ROW_CODES,
    "softmax_cross_entropy": SOFTMAX_CROSS_ENTROPY,
    "cross_entropy": CROSS_ENTROPY,
    "accuracy": ACCURACY,
    "binary_accuracy": BINARY_ACCURACY,
    "top_k": TOP_K,
}

# The loss of a batch from those of its rows, each times its weight: divided by their number, by nothing, by the sum of
# their weights.
MEAN, SUM, WEIGHTED_MEAN = range(3)

# Ways to clip gradients: not at all, number by number, by the norm of each parameter's, by that of all together.
NO_CLIP, CLIP_VALUE, CLIP_NORM, CLIP_GLOBAL_NORM = range(4)

# What the second part does: gradients, steps, or both tile by tile.
GRADIENTS, STEPS, WHOLE = range(3)

# -------------------------------------------------------------------------------------------------------------- tables


def record(*fields: tuple[str, Any]) -> np.dtype[Any]:
    """The dtype of records with these fields."""
    return np.dtype(list(fields), align=True)


# A stage (K inputs, N outputs). Places are those of the parameters' array and of scratch memory, see ``Layout``.
STAGE = record(
    ("inputs", np.int64),
    ("outputs", np.int64),
    ("activation", np.int64),  # its code
    ("flat_at_zero", np.bool_),  # whether the activation's derivative is 0 where its outputs are
    ("product", np.bool_),  # whether it multiplies by weights, and adds a bias
    ("prelu", np.bool_),  # whether negative inputs are multiplied with slopes, which are where a bias would be
    ("trains_kernel", np.bool_),
    ("trains_bias", np.bool_),
    ("penalized", np.bool_),  # whether its outputs are
    ("pairs", np.bool_),  # whether it multiplies pairs of bfloat16 numbers
    ("panel", np.int64),  # columns of a panel of weights, or of slopes; 0 without either
    ("blocks", np.int64),  # of ``UNIT_ROWS`` rows of a panel
    ("units", np.int64),  # of the update
    ("w", np.int64),  # weights and bias, among the parameters
    ("b", np.int64),
    ("wt", np.int64),  # transposed weights, in scratch memory, as all that follows
    ("y", np.int64),  # outputs, and the distance of their rows
    ("ld", np.int64),
    ("dz", np.int64),  # the gradient by what the activation takes, of the same distance; of a PReLU, by its outputs
    ("seen", np.int64),  # what of both the activation's derivative takes: its outputs, or those of the stage before
    ("ld_seen", np.int64),
    ("w_pairs", np.int64),  # as pairs: weights, then inputs and gradient by neighbours in a row and in a column
    ("x_by_row", np.int64),
    ("x_by_column", np.int64),
    ("dz_by_row", np.int64),
    ("dz_by_column", np.int64),
)

# An array (K, N), which is a parameter or a part of the optimizer's state: the address of its numbers as others see it,
# that of its panels, K (1 for a bias), N and the width of the panels.
PLACE = record(
    ("address", np.int64),
    ("panels", np.int64),
    ("rows", np.int64),
    ("columns", np.int64),
    ("width", np.int64),
)

# The entries of a row of a batch that are sorted by feature: those from ``begin`` up to ``end``.
ENTRIES = record(("begin", np.int64), ("end", np.int64))

# What ``train`` notes as it goes: the steps made in all, whether the panels, not the arrays, are up to date, and sums
# over samples of the loss and of the penalties on weights.
PROGRESS = record(("made", np.int64), ("in_panels", np.bool_), ("loss", np.float64), ("penalty", np.float64))


# One dtype for each dtype of the kernels: Numba remembers every one that it sees.
@lru_cache
def mask(dtype: Any) -> np.dtype[Any]:
    """What dropout at a place draws from, see ``dropout_row``, how much it scales what it keeps, and the inverse.

    A threshold of 0 is none.
    """
    return record(("threshold", np.int64), ("seed", np.int64), ("stream", np.int64), ("scale", dtype), ("kept", dtype))


@lru_cache
def penalty(dtype: Any) -> np.dtype[Any]:
    """The factors of a penalty: l1 * sum |x| + l2 * sum x^2."""
    return record(("l1", dtype), ("l2", dtype))


@lru_cache
def average(dtype: Any) -> np.dtype[Any]:
    """What a step does to the average of weights: the share of it that stays, and whether it takes their place."""
    return record(("stays", dtype), ("due", np.bool_))


# --------------------------------------------------------------------------------------------------------------- kinds

_read = partial(flat, readonly=True)

# Numbers; arrays that are written to; arrays that are read; tables. A kind makes Numba's type from the kernels' dtype.
Size = Annotated[Any, lambda _: types.int64]
Real = Annotated[Any, lambda real: real]

Sizes = Annotated[Any, lambda _: flat(types.int64)]
SizeRows = Annotated[Any, lambda _: matrix(types.int64)]
Indices = Annotated[Any, lambda _: flat(types.int32)]
IndexRows = Annotated[Any, lambda _: matrix(types.int32)]
Reals = Annotated[Any, flat]
RealRows = Annotated[Any, matrix]
RealTables = Annotated[Any, lambda real: types.Array(real, 3, "C")]
Doubles = Annotated[Any, lambda _: flat(types.float64)]
DoubleRows = Annotated[Any, lambda _: matrix(types.float64)]

ReadSizes = Annotated[Any, lambda _: _read(types.int64)]
ReadIndices = Annotated[Any, lambda _: _read(types.int32)]
ReadReals = Annotated[Any, _read]
ReadRealRows = Annotated[Any, lambda real: matrix(real, readonly=True)]
ReadByteRows = Annotated[Any, lambda _: matrix(types.uint8, readonly=True)]

Stages = Annotated[Any, lambda _: flat(from_dtype(STAGE))]
Places = Annotated[Any, lambda _: flat(from_dtype(PLACE))]
EntryRows = Annotated[Any, lambda _: flat(from_dtype(ENTRIES))]
Progress = Annotated[Any, lambda _: flat(from_dtype(PROGRESS))]
Masks = Annotated[Any, lambda real: flat(from_dtype(mask(as_dtype(real))))]
Penalties = Annotated[Any, lambda real: matrix(from_dtype(penalty(as_dtype(real))))]
Averages = Annotated[Any, lambda real: flat(from_dtype(average(as_dtype(real))))]


@lru_cache
def numba_type(kind: Any, real: Any) -> Any:
    """Numba's type of a kind, or of a named tuple of such, where the kernels' dtype is ``real``."""
    if not isinstance(kind, type):
        return kind.__metadata__[0](real)
    fields = get_type_hints(kind, include_extras=True)
    return types.NamedTuple([numba_type(each, real) for each in fields.values()], kind)


@lru_cache
def blank(kind: Any, dtype: Any) -> Any:
    """A named tuple of zeros and empty arrays, for what a kernel does not look at."""
    fields = numba_type(kind, from_dtype(dtype)).types
    return kind._make(
        np.empty((0,) * field.ndim, as_dtype(field.dtype)) if isinstance(field, types.Array) else as_dtype(field).type()
        for field in fields
    )


# --------------------------------------------------------------------------------------------------------- from Python


class Inputs(NamedTuple):
    """The samples; the arrays of the kinds that are not meant are empty, and all are read-only (``frozen``).

    What is gathered is scale * x + offset. ``SPARSE`` samples are not gathered, and scaled already; ``EXPANDED`` ones
    are stored in the same arrays and made dense as they are gathered.
    """

    kind: Size
    dense: ReadRealRows
    bytes: ReadByteRows
    scale: Real
    offset: Real
    indptr: ReadSizes
    indices: ReadIndices
    values: ReadReals


class Targets(NamedTuple):
    """Class indices or rows of numbers, one of them empty, and the samples' weights or an empty array; ``frozen`` too.

    The loss compares outputs with ``goals``: the rows, or what became of them (label smoothing).
    """

    labels: ReadSizes
    rows: ReadRealRows
    goals: ReadRealRows
    weights: ReadReals


class Network(NamedTuple):
    """Stages, parameters and the optimizer's state.

    ``ld`` is the distance of the rows of the gathered inputs, ``units`` the number of units of the update. No gradient
    is needed below stage ``first``. ``numbers`` are by stage those that its activation takes, ``penalties`` by stage
    those on its kernel, bias and outputs, ``masks`` those of dropout on the inputs (the first one) and on the outputs
    of each stage. ``slots`` are the addresses of the parts of the state, each laid out as ``params`` are; kernels write
    there.
    """

    stages: Stages
    ld: Size
    units: Size
    first: Size
    numbers: RealRows
    penalties: Penalties
    masks: Masks
    params: Reals
    slots: Sizes


class Objective(NamedTuple):
    """What is minimised and what is told of it: codes of loss and metrics.

    ``goal`` are the numbers that the loss takes (a width, an exponent), ``most`` is what that of a row counts as at
    most, whatever its gradient, ``outputs`` divides the sum of the losses of a row's outputs; ``reduction`` says how
    the loss of a batch is made of its rows'. ``numbers`` are the metrics' own: a threshold, a k, for a loss what
    divides it. Metrics from ``plain`` on count by the samples' weights. They look at the rows from ``seen`` on in
    scratch memory: the last stage's outputs, or these through the ``activation`` that the loss has taken into itself.
    """

    loss: Size
    goal: Reals
    most: Real
    outputs: Size
    reduction: Size
    metrics: Sizes
    numbers: Doubles
    plain: Size
    seen: Size
    activation: Size


class Rules(NamedTuple):
    """How a call trains: samples of a batch, the code of the optimizer's step, and what else becomes of weights.

    ``hyper`` and ``shrink`` have a row for every step of a call, or one for all: the optimizer's hyper-parameters, and
    by stage what kernel and bias are multiplied by before the step; so has ``penalty``, what penalties on them are
    multiplied by. Gradients are clipped to ``limit`` in the way of ``clip``. ``averages`` are by step what becomes of
    the average of weights, which is the last part of the state; there are none where none is kept.
    ``lazy`` leaves rows without gradient for later, their state decaying by ``rho`` a step. ``direct`` says that the
    first stage's gradients go into the step at once: there is no l1 penalty, clipping, decay or average.
    ``coupled`` lets features f and f + 1, f even, share their entries of non-zeros: pixels are seldom alone. Only for
    an even number of features, and ``direct`` steps.
    With ``load`` the arrays go into panels before the first batch, with ``store`` back behind the last one.
    """

    batch: Size
    step: Size
    hyper: RealRows
    shrink: RealTables
    penalty: Reals
    clip: Size
    limit: Real
    averages: Averages
    lazy: Size
    rho: Real
    direct: Size
    coupled: Size
    load: Size
    store: Size


class Scratch(NamedTuple):
    """Memory of a fit: batches and buffers, figures, and the non-zeros of a batch by feature.

    ``gradients`` has the layout of the parameters where gradients are clipped by their norms, else it is empty.
    ``figures`` holds by row of a batch the loss, then each metric; ``penalties`` by unit that on its weights,
    ``squares`` the sums of squares of the gradients of its weights and of its biases; ``factors`` by stage what the
    gradients of kernel and bias are multiplied with. ``cuts`` tells where each task's share of units begins.

    The rest is of sparse inputs. ``entries`` tells for each row of a batch which of its entries are sorted, ``blocks``
    where those in each block of features of the first stage begin, and where they end. ``begins`` and ``ends`` hold for
    each feature where its entries begin and end when they are sorted, ``places`` for each task how many of its rows
    have it, then where the next of them belongs; ``touched`` the step that last touched it; ``decay`` what its state
    has to be multiplied with. ``powers`` are the first ones of ``Rules.rho``. ``rows`` and ``values`` are the entries
    by feature, ``evens`` and ``couples`` those of ``Rules.coupled`` by sample.
    """

    work: Reals
    gradients: Reals
    figures: DoubleRows
    penalties: Doubles
    squares: DoubleRows
    factors: DoubleRows
    cuts: Sizes
    entries: EntryRows
    blocks: SizeRows
    begins: Indices
    ends: Indices
    places: IndexRows
    touched: Sizes
    decay: Reals
    powers: Reals
    rows: Indices
    values: Reals
    evens: Indices
    couples: Reals


def frozen(record: Any) -> Any:
    """``Inputs`` or ``Targets`` with read-only views in place of their arrays, which are contiguous.

    Numba converts no field of a named tuple, so arrays that may be written to pass as such that may not.
    """
    return type(record)(*(_frozen(field) if isinstance(field, np.ndarray) else field for field in record))


def _frozen(array: Any) -> Any:
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view


# ----------------------------------------------------------------------------------------------------- between kernels


class Tile(NamedTuple):
    """The register tile, as ``machine.Tile`` has it."""

    MR: Any
    NR: Any
    VL: Any


class Batch(NamedTuple):
    """The samples order[first : first + rows], on which step ``turn`` of a call, ``step`` of the fit, trains."""

    order: Any
    first: Any
    rows: Any
    step: Any
    turn: Any


class Share(NamedTuple):
    """What task ``t`` of ``tasks`` has of a batch: rows ``low`` to ``high``, and features ``f0`` to ``f1``."""

    t: Any
    tasks: Any
    low: Any
    high: Any
    f0: Any
    f1: Any


class Block(NamedTuple):
    """Rows ``low`` to ``high`` and panels ``p0`` to ``p1`` of a product."""

    low: Any
    high: Any
    p0: Any
    p1: Any


class Rows(NamedTuple):
    """Rows of scratch memory: row r begins at ``at + r * ld``."""

    at: Any
    ld: Any


@inlined
def inputs_of(s, net):
    """The rows that are the inputs of stage s."""
    if s == 0:
        return Rows(0, net.ld)
    before = net.stages[s - 1]
    return Rows(before.y, before.ld)


@inlined
def panel_count(stage):
    """The number of a stage's panels."""
    return (stage.outputs + stage.panel - 1) // stage.panel if stage.panel > 0 else 0


@inlined
def state_pointer(net, slot, place):
    """Where a part of the state of the parameters from ``place`` on is."""
    return pointer(net.params, net.slots[slot] + place * net.params.itemsize)
