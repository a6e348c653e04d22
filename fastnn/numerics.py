"""Sums over axes, other shapes and the like: what formulas take beside ops, made of these, under Keras's names.

They are part of ``fastnn.ops``, which enters its functions here. Arrays may be followed for gradients, or a program's;
so may numbers.
"""

from __future__ import annotations

import builtins  # max and min of this module are Keras's
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import adoption, backends, checks
from fastnn.tape import Followed, Traced, calculate, constant, is_number, kept, operand_of, plain, powers

Array = Any

# The functions of the table's ops, by name.
OPS: dict[str, Callable[..., Any]] = {}


def operand(name: str, value: Any, halves: bool = False) -> Any:
    """What ops take of a value that may be held; in place of another library's array NumPy's or CuPy's over the same.

    TypeError, which begins with ``name``, where that library does not hand its memory out, or it has float16 and no
    ``halves`` are wanted.
    """
    given = operand_of(value)
    if type(given) is np.ndarray or isinstance(given, Followed) or is_number(given):
        return given
    if checks.is_on_device(given) and not checks.is_csr(given):
        return backends.implementation("cuda", "arrays", "adopted")(given)
    return adoption.adopted(name, given, halves)


def array(x: Any, dtype: Any = None) -> Array:
    """x (a list, a number, an array) as an array of NumPy's or, if it is one, of CuPy's; numbers become float32."""
    if hasattr(x, "shape"):
        return operand("x", x) if dtype is None else cast(x, dtype)
    made: Array = np.asarray(x)
    if dtype is not None:
        return made.astype(dtype)
    return made.astype("float32") if made.dtype.kind == "f" else made


def cast(x: Any, dtype: Any) -> Array:
    """x in another dtype; what is followed keeps the one that it has."""
    given = operand("x", x, halves=True)
    if not isinstance(given, Followed):
        return np.asarray(given).astype(dtype) if not hasattr(given, "astype") else given.astype(dtype, copy=False)
    if given.ndim and given.dtype != np.dtype(dtype):
        raise TypeError(f"dtype: got {np.dtype(dtype)} for {given!r}, wants {given.dtype}: gradients keep their dtype")
    return given


def shape(x: Any) -> tuple[int, ...]:
    """Sizes of x's axes."""
    return tuple(operand_of(x).shape)


def zeros_like(x: Any, dtype: Any = None) -> Array:
    """Zeros in the shape of x, and in its dtype or another."""
    given = operand("x", x)
    made = calculate("zeros", x=getattr(given, "value", given))
    return made if dtype is None else cast(made, dtype)


def ones_like(x: Any, dtype: Any = None) -> Array:
    """Ones in the shape of x, and in its dtype or another."""
    given = operand("x", x)
    made = OPS["add"](zeros_like(given), constant(1.0, given))
    return made if dtype is None else cast(made, dtype)


def reshape(x: Any, newshape: Sequence[int] | int) -> Array:
    """x in another shape; one size may be -1."""
    sizes = newshape if isinstance(newshape, (list, tuple)) else [newshape]
    return operand("x", x).reshape(tuple(sizes))


def transpose(x: Any, axes: Sequence[int] | None = None) -> Array:
    """x with its axes in another order: the reverse one where none is given."""
    given = operand("x", x)
    return permute(given, [*reversed(range(given.ndim))] if axes is None else axes)


def expand_dims(x: Any, axis: int) -> Array:
    """x with an axis of one place more, at ``axis``."""
    given = operand("x", x)
    at = checks.integer("axis", axis, -given.ndim - 1, given.ndim) % (given.ndim + 1)
    return given.reshape(*given.shape[:at], 1, *given.shape[at:])


def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Array:
    """x without axes of one place: all of them, or those of ``axis``."""
    given = operand("x", x)
    ones = [place for place, size in enumerate(given.shape) if size == 1]
    places = ones if axis is None else _axes(axis, given.ndim)
    for place in places:
        if place not in ones:
            raise ValueError(f"axis: got {axis} for the shape {tuple(given.shape)}, wants axes of one place")
    return given.reshape(tuple(size for place, size in enumerate(given.shape) if place not in places))


def sum(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:  # noqa: A001 - Keras's name
    """Sum of x over an axis, or several; over all where there is none: then a number, unless ``keepdims``."""
    return _summed(x, axis, keepdims, mean=False)


def mean(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """Mean of x over an axis, or several; over all where there is none: then a number, unless ``keepdims``."""
    return _summed(x, axis, keepdims, mean=True)


def max(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:  # noqa: A001 - Keras's name
    """Largest numbers of x along an axis, or several, or of all; NaN where there is one.

    The gradient goes to the first of several that are the largest.
    """
    given = operand("x", x)
    rows, kept, squeezed = rows_of_axes("x", given, axis)
    if rows.shape[1] == 0:
        raise ValueError(f"x: got shape {tuple(given.shape)}, wants numbers along axis {axis}")
    largest = OPS["sequence_max"](rows.reshape(*rows.shape, 1))
    if not (keepdims or squeezed):
        return OPS["total"](largest)[0]
    return largest.reshape(tuple(kept if keepdims else squeezed))


def min(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:  # noqa: A001 - Keras's name
    """Smallest numbers of x along an axis, or several, or of all; as ``max`` else."""
    return -max(-operand("x", x), axis, keepdims)


def clip(x: Any, x_min: float, x_max: float) -> Any:
    """x kept in [x_min, x_max]; the gradient is 0 outside."""
    given = operand("x", x)
    low, high = (constant(checks.real(name, each), given) for name, each in (("x_min", x_min), ("x_max", x_max)))
    return OPS["minimum"](OPS["maximum"](given, low), high)


def abs(x: Any) -> Array:  # noqa: A001 - Keras's name
    """|x|."""
    return OPS["absolute"](x)


def exp(x: Any) -> Array:
    """e to the power x."""
    return OPS["exponential"](x)


def negative(x: Any) -> Array:
    """-x."""
    return -operand("x", x)


def power(x1: Any, x2: Any) -> Array:
    """x1 to the power x2.

    What is followed is taken to whole powers by products, to 0.5 by the root, to others as exp(x2 log x1): x1 > 0.
    """
    base, exponent = operand("x1", x1), operand("x2", x2)
    followed = isinstance(base, Followed) or isinstance(exponent, Followed)
    return powers(base, exponent) if followed else base**exponent


def var(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """Mean squared distance of x from its mean, over an axis, several or all."""
    given = operand("x", x)
    return mean(OPS["square"](OPS["subtract"](given, mean(given, axis, keepdims=True))), axis, keepdims)


def std(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """Root of the variance of x, over an axis, several or all."""
    return OPS["sqrt"](var(x, axis, keepdims))


def logsumexp(x: Any, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over an axis, several or all, of what is left beside the largest number."""
    given = operand("x", x)
    largest = max(given, axis, keepdims=True)
    rest = OPS["log"](sum(OPS["exponential"](OPS["subtract"](given, largest)), axis, keepdims))
    return rest + (largest if keepdims else max(given, axis))


def normalize(x: Any, axis: int | Sequence[int] = -1, order: int = 2, epsilon: float | None = None) -> Array:
    """x over its Euclidean norm along an axis or several; over ``epsilon``, 1e-7 by default, where that is less."""
    given = operand("x", x)
    checks.integer("order", order, 2, 2)
    least = checks.real("epsilon", 1e-7 if epsilon is None else epsilon, minimum=0)
    squares = sum(OPS["square"](given), axis, keepdims=True)
    # the square of the least norm is more than 0 in float32, too; the root is then never taken at 0
    floor = constant(builtins.max(least * least, float(np.finfo(given.dtype).tiny)), given)
    return OPS["divide"](given, OPS["sqrt"](OPS["maximum"](squares, floor)))


def dot(x1: Any, x2: Any) -> Any:
    """Products of x1's last axis (..., k) with the rows of x2, (k,) or (k, m)."""
    a, b = operand("x1", x1), operand("x2", x2)
    for name, array, ranks in (("x1", a, "1 or more"), ("x2", b, "1 or 2")):
        if not hasattr(array, "shape") or not array.ndim or (array is b and array.ndim > 2):
            raise ValueError(f"{name}: got {checks.describe(array)}, wants an array of {ranks} dimensions")
    if a.ndim == b.ndim == 1:
        return sum(OPS["multiply"](a, b))
    columns = b.reshape(b.shape[0], math.prod(b.shape[1:]))
    rows = OPS["matmul"](a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), columns)
    return rows.reshape((*a.shape[:-1], *b.shape[1:]))


def products(a: Any, b: Any, *, out: Any = None) -> Array:
    """``matmul`` of arrays of other ranks than 2, as NumPy has it: of the matrices that their last two axes are.

    The axes before are of equal sizes, or only one of the operands has such; a vector is a row of a, a column of b.
    """
    for name, array in (("a", a), ("b", b)):
        if not hasattr(array, "shape") or not array.ndim:
            raise ValueError(f"{name}: got {checks.describe(array)}, wants an array of 1 dimension or more")
    if out is not None:
        raise ValueError(f"out: got an array beside operands of {a.ndim} and {b.ndim} dimensions, wants None")
    left = a if a.ndim > 1 else a.reshape(1, a.shape[0])
    right = b if b.ndim > 1 else b.reshape(b.shape[0], 1)
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(f"b: got shape {tuple(b.shape)}, wants {left.shape[-1]} rows: a has shape {tuple(a.shape)}")
    y = _of_matrices(left, right)
    kept_axes = [*y.shape[:-2], *y.shape[-2:-1][: a.ndim - 1], *y.shape[-1:][: b.ndim - 1]]
    return y if len(kept_axes) == y.ndim else y.reshape(tuple(kept_axes))


def _of_matrices(a: Any, b: Any) -> Any:
    """Products of arrays of 2 dimensions or more."""
    if b.ndim == 2:
        rows = OPS["matmul"](a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b)
        return rows.reshape((*a.shape[:-1], b.shape[-1]))
    if a.ndim == 2:
        return swapaxes(_of_matrices(swapaxes(b, -1, -2), a.T), -1, -2)
    lead = tuple(a.shape[:-2])
    if lead != tuple(b.shape[:-2]):
        raise ValueError(f"b: got shape {tuple(b.shape)}, wants {(*lead, *b.shape[-2:])}: a has {tuple(a.shape)}")
    count = math.prod(lead)
    y = OPS["batch_matmul"](a.reshape(count, *a.shape[-2:]), b.reshape(count, *b.shape[-2:]))
    return y.reshape((*lead, *y.shape[1:]))


def einsum(subscripts: str, *operands: Any) -> Array:
    """Sums of products of one or two arrays, whose axes letters name: "bqhd,bkhd->bhqk"; as NumPy's, but for "...".

    Of two it is one product of matrices, or one a sample where both and the result have an axis.
    """
    given = [operand(f"operands[{place}]", each) for place, each in enumerate(operands)]
    sides = checks.instance("subscripts", subscripts, str, "a string").replace(" ", "").split("->")
    names = sides[0].split(",")
    if len(sides) > 2 or not 1 <= len(given) == len(names) <= 2 or not all(each.isalpha() for each in names if each):
        wants = "letters of one or two operands, such as 'bqd,bkd->bqk'"
        raise ValueError(f"subscripts: got {subscripts!r} for {len(given)} operands, wants {wants}")
    met = "".join(names)
    wanted = sides[1] if len(sides) == 2 else "".join(sorted(each for each in {*met} if met.count(each) == 1))
    sizes = _sizes_of_letters(names, given, wanted)
    parts = [
        _reduced(each, axes, wanted + "".join(names[:place] + names[place + 1 :]))
        for place, (each, axes) in enumerate(zip(given, names, strict=True))
    ]
    if len(parts) == 1:
        return _in_order_of(*parts[0], wanted)
    (a, of_a), (b, of_b) = parts
    both = [each for each in of_a if each in of_b]
    batch, summed = [each for each in both if each in wanted], [each for each in both if each not in wanted]
    rows, columns = [each for each in of_a if each not in both], [each for each in of_b if each not in both]
    s, n, k, m = (math.prod(sizes[each] for each in group) for group in (batch, rows, summed, columns))
    product, lead = (OPS["batch_matmul"], (s,)) if batch else (OPS["matmul"], ())
    left = _in_order_of(a, of_a, "".join(batch + rows + summed)).reshape(*lead, n, k)
    right = _in_order_of(b, of_b, "".join(batch + summed + columns)).reshape(*lead, k, m)
    order = "".join(batch + rows + columns)
    y = product(left, right).reshape(tuple(sizes[each] for each in order))
    return _in_order_of(y, order, wanted)


def _sizes_of_letters(names: Sequence[str], given: Sequence[Any], wanted: str) -> dict[str, int]:
    """Sizes of axes by their letters; ValueError where they do not fit."""
    sizes: dict[str, int] = {}
    for place, (axes, array) in enumerate(zip(names, given, strict=True)):
        if len(axes) != len(getattr(array, "shape", ())) or len({*axes}) < len(axes):
            got = checks.describe(array)
            raise ValueError(f"operands[{place}]: got {got}, wants an array of {len(axes)} axes {axes!r}, each once")
        for letter, size in zip(axes, array.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"operands[{place}]: got {size} for axis {letter!r}, wants {sizes[letter]}")
    if len({*wanted}) < len(wanted) or not {*wanted} <= {*sizes}:
        raise ValueError(f"subscripts: got {wanted!r} for the result, wants letters of {sorted(sizes)}, each once")
    return sizes


def _reduced(array: Any, axes: str, needed: str) -> tuple[Any, str]:
    """An array summed over axes that nothing needs, and the letters that are left."""
    alone = [place for place, letter in enumerate(axes) if letter not in needed]
    left = [size for place, size in enumerate(array.shape) if place not in alone]
    found = sum(array, alone, keepdims=True).reshape(tuple(left)) if alone else array
    return found, "".join(each for each in axes if each in needed)


def _in_order_of(array: Any, axes: str, wanted: str) -> Any:
    return array if axes == wanted else permute(array, [axes.index(each) for each in wanted])


def softmax(x: Any, axis: int = -1, *, out: Any = None) -> Array:
    """Shares of exp(x) along an axis, which sum to 1; of rows (n, c) into ``out`` where it is given."""
    return _along("softmax", x, axis, out)


def log_softmax(x: Any, axis: int = -1, *, out: Any = None) -> Array:
    """Logarithms of ``softmax``, as exact where shares are tiny."""
    return _along("log_softmax", x, axis, out)


def _along(op: str, x: Any, axis: int, out: Any) -> Any:
    """An op of rows along an axis of an array of any rank."""
    if axis in (-1, 1) and getattr(x, "ndim", 2) == 2:
        return OPS[op](x, out=out)
    given = operand("x", x)
    at = axis_of("axis", axis, given.ndim)
    if out is not None:
        raise ValueError(f"out: got an array for x of {given.ndim} dimensions along axis {at}, wants None but for rows")
    last = given if at == given.ndim - 1 else moveaxis(given, at, given.ndim - 1)
    y = OPS[op](last.reshape(math.prod(last.shape[:-1]), last.shape[-1])).reshape(tuple(last.shape))
    return y if last is given else moveaxis(y, given.ndim - 1, at)


# ---------------------------------------------------------------------------------------------------------- arrays


def full(shape: Sequence[int] | int, fill_value: float, dtype: Any = None) -> Array:
    """An array of one number, of float32 by default, where the current backend's arrays live."""
    sizes, kind = tuple(np.atleast_1d(shape).tolist()), np.dtype(dtype or "float32")
    if backends.recorder() is None:
        return _placed(np.full(sizes, fill_value, kind))
    return constant(float(fill_value), _placed(np.empty(0, kind)), sizes)  # the same one, which programs know


def zeros(shape: Sequence[int] | int, dtype: Any = None) -> Array:
    """Zeros, of float32 by default."""
    return full(shape, 0, dtype)


def ones(shape: Sequence[int] | int, dtype: Any = None) -> Array:
    """Ones, of float32 by default."""
    return full(shape, 1, dtype)


def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None) -> Array:
    """Numbers from ``start``, or 0 where that is the only one, up to ``stop``, which is left out."""
    made = np.arange(start, step=step) if stop is None else np.arange(start, stop, step)
    return _placed(made.astype(dtype or ("float32" if made.dtype.kind == "f" else made.dtype)))


def linspace(start: float, stop: float, num: int = 50, endpoint: bool = True) -> Array:
    """So many numbers at equal distances from ``start`` to ``stop``, in float32."""
    return _placed(np.linspace(start, stop, num, endpoint, dtype="float32"))


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Array:
    """Ones on a diagonal of a matrix (N, M), else zeros; of float32 by default."""
    return _placed(np.eye(N, M, k, dtype or "float32"))


def full_like(x: Any, fill_value: float, dtype: Any = None) -> Array:
    """An array of one number in the shape of x, and in its dtype or another."""
    given = operand("x", x)
    made = OPS["add"](zeros_like(given), constant(checks.real("fill_value", fill_value, infinite=True), given))
    return made if dtype is None else cast(made, dtype)


def copy(x: Any) -> Array:
    """A new array of the same numbers."""
    given = operand("x", x)
    return OPS["identity"](given) if isinstance(given, Followed) or given.dtype.kind == "f" else given.copy()


def ndim(x: Any) -> int:
    """How many dimensions x has."""
    return len(np.shape(x) if isinstance(x, (list, tuple, int, float)) else shape(x))


def convert_to_tensor(x: Any, dtype: Any = None) -> Array:
    """x as ``array`` gives it: Keras's other name."""
    return array(x, dtype)


def convert_to_numpy(x: Any) -> Array:
    """What x holds as an array of NumPy's; TypeError for what is followed."""
    given = operand("x", x, halves=True)
    return given.get() if checks.is_on_device(given) else np.asarray(given)


def stop_gradient(variable: Any) -> Any:
    """The value, as a constant."""
    given = operand("variable", variable)
    return given.value if isinstance(given, Traced) else given


def _placed(array: Array) -> Array:
    """An array of NumPy's where the current backend's live."""
    if backends.current() != "cuda":
        return array
    return backends.arrays_of("cuda").copied(array)


# ---------------------------------------------------------------------------------------------------------- shapes


def get_item(x: Any, key: Any) -> Any:
    """x[key], of integers, slices, an ellipsis: a view where x is an array."""
    return operand("x", x)[tuple(key) if isinstance(key, list) else key]


def ravel(x: Any) -> Array:
    """x in one dimension."""
    return reshape(x, -1)


def swapaxes(x: Any, axis1: int, axis2: int) -> Array:
    """x with two axes exchanged, a new array."""
    given = operand("x", x)
    order = [*range(given.ndim)]
    one, other = (axis_of(name, axis, given.ndim) for name, axis in (("axis1", axis1), ("axis2", axis2)))
    order[one], order[other] = other, one
    return permute(given, order)


def moveaxis(x: Any, source: int, destination: int) -> Array:
    """x with an axis at another place, a new array."""
    given = operand("x", x)
    order = [*range(given.ndim)]
    taken = order.pop(axis_of("source", source, given.ndim))
    order.insert(axis_of("destination", destination, given.ndim), taken)
    return permute(given, order)


def tile(x: Any, repeats: int | Sequence[int]) -> Array:
    """x so many times along each of its axes, of which the last ones are meant where there are fewer numbers."""
    found = operand("x", x)
    counts = [repeats] if isinstance(repeats, int) else [*repeats]
    counts = [1] * (found.ndim - len(counts)) + [checks.integer("repeats", count, 0) for count in counts]
    found = found.reshape((1,) * (len(counts) - found.ndim) + tuple(found.shape))
    for axis, count in enumerate(counts):
        if count != 1:
            found = concatenate([found] * count, axis) if count else found[(slice(None),) * axis + (slice(0),)]
    return found


def repeat(x: Any, repeats: int, axis: int | None = None) -> Array:
    """Every entry along an axis so many times, one behind the other; of all in one dimension where there is none."""
    given = ravel(x) if axis is None else operand("x", x)
    at, count = axis_of("axis", axis or 0, given.ndim), checks.integer("repeats", repeats, 0)
    apart = given.reshape((*given.shape[: at + 1], 1, *given.shape[at + 1 :]))
    several = tile(apart, [count if place == at + 1 else 1 for place in range(apart.ndim)])
    return several.reshape((*given.shape[:at], given.shape[at] * count, *given.shape[at + 1 :]))


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float | None = None) -> Array:
    """x with ``constant_values``, or zeros, before and behind along its axes, a new array.

    ``pad_width``: pairs (before, behind), one an axis, or one pair or one number for all.
    """
    found = operand("x", x)
    checks.one_of("mode", mode, ("constant",))
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (found.ndim, 2)).tolist()
    except ValueError:
        raise ValueError(f"pad_width: got {pad_width}, wants a pair for each of {found.ndim} axes") from None
    for axis, (before, behind) in enumerate(widths):
        ends = [checks.integer("pad_width", width, 0) for width in (before, behind)]
        shapes = [(*found.shape[:axis], width, *found.shape[axis + 1 :]) for width in ends]
        first, last = ([constant(float(constant_values or 0), found, shape)] if shape[axis] else [] for shape in shapes)
        found = concatenate([*first, found, *last], axis) if any(ends) else found
    return found


def where(condition: Any, x1: Any, x2: Any) -> Array:
    """x1 where a condition of 0 and 1, or of truth, holds, else x2: x1 c + x2 (1 - c) where they are followed."""
    chosen, a, b = (operand(name, each) for name, each in (("condition", condition), ("x1", x1), ("x2", x2)))
    if not any(isinstance(each, Followed) for each in (chosen, a, b)):
        return np.where(np.asarray(chosen) if isinstance(chosen, (list, bool)) else chosen != 0, a, b)
    like = a if hasattr(plain(a), "dtype") else b
    share = cast(chosen, like.dtype)
    return OPS["add"](OPS["multiply"](a, share), OPS["multiply"](b, OPS["subtract"](1.0, share)))


def concatenate(xs: Sequence[Any], axis: int = 0) -> Array:
    """Arrays one behind the other along an axis: a new array. All other axes are of the same sizes.

    Pairs are joined (``join``), then pairs of these, so that a few arrays are copied a few times.
    """
    if not isinstance(xs, (list, tuple)) or not xs:
        raise TypeError(f"xs: got {checks.describe(xs)}, wants a list or tuple of arrays, not an empty one")
    for place, array in enumerate(xs):
        if not hasattr(array, "shape"):
            raise TypeError(f"xs[{place}]: got {checks.describe(array)}, wants an array")
    arrays = [operand(f"xs[{place}]", array) for place, array in enumerate(xs)]
    first, rank = arrays[0].shape, len(arrays[0].shape)
    at = axis_of("axis", axis, rank)
    for place, array in enumerate(arrays):
        shape = tuple(array.shape)
        if len(shape) != rank or any(shape[i] != first[i] for i in range(rank) if i != at):
            wants = f"{rank} dimensions, of the sizes of xs[0] of shape {tuple(first)} but for axis {at}"
            raise ValueError(f"xs[{place}]: got shape {shape}, wants {wants}")
    rows = math.prod(first[:at])
    parts = [array.reshape(rows, math.prod(array.shape[at:])) for array in arrays]
    while len(parts) > 1:
        pairs = range(0, len(parts) - 1, 2)
        parts = [OPS["join"](*parts[i : i + 2]) for i in pairs] + parts[2 * len(pairs) :]
    joined = parts[0] if len(arrays) > 1 else OPS["identity"](parts[0])
    return joined.reshape(*first[:at], int(np.sum([array.shape[at] for array in arrays])), *first[at + 1 :])


def permute(x: Any, axes: Sequence[int]) -> Array:
    """x with its axes in another order, a new array: its axis i is axis axes[i] of x."""
    if not isinstance(axes, (list, tuple)) or sorted(axes) != list(range(len(x.shape))):
        raise ValueError(f"axes: got {checks.describe(axes)}, wants each of the axes 0 to {len(x.shape) - 1} of x once")
    return OPS["identity"](operand("x", x).transpose(*axes))


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> tuple[Array, ...]:
    """Parts of x along an axis, which are views of it: so many of one size, or those between indices.

    Of indices [i, j] they are the parts before i, from i to j, and from j on.
    """
    array = operand("x", x)
    if not hasattr(array, "shape"):
        raise TypeError(f"x: got {checks.describe(x)}, wants an array")
    at = axis_of("axis", axis, len(array.shape))
    size, given = array.shape[at], indices_or_sections
    if isinstance(given, (list, tuple)):
        inner = [checks.integer(f"indices_or_sections[{i}]", index, 0, size) for i, index in enumerate(given)]
    else:
        count = checks.positive_int("indices_or_sections", given)
        if size % count:
            raise ValueError(f"indices_or_sections: got {count}, wants a divisor of the size {size} of axis {at}")
        inner = [size // count * i for i in range(1, count)]
    if inner != sorted(inner):
        raise ValueError(f"indices_or_sections: got {given}, wants indices that do not fall")
    parts: tuple[Any, ...] = calculate("split", x=array, bounds=(0, *inner, size), axis=at)
    return parts


def stack(x: Sequence[Any], axis: int = 0) -> Array:
    """Arrays of one shape one behind the other along a new axis: a new array."""
    if not isinstance(x, (list, tuple)) or not x:
        raise TypeError(f"x: got {checks.describe(x)}, wants a list or tuple of arrays, not an empty one")
    for place, array in enumerate(x):
        if not hasattr(array, "shape") or tuple(array.shape) != tuple(getattr(x[0], "shape", ())):
            raise ValueError(f"x[{place}]: got {checks.describe(array)}, wants an array of the shape of x[0]")
    shape = tuple(x[0].shape)
    at = axis_of("axis", axis, len(shape) + 1)
    arrays = [operand(f"x[{place}]", array) for place, array in enumerate(x)]
    return concatenate([array.reshape(*shape[:at], 1, *shape[at:]) for array in arrays], at)


def unstack(x: Any, num: int | None = None, axis: int = 0) -> tuple[Array, ...]:
    """The arrays along an axis of x, which are views of it; ``num`` of them, where it is given."""
    if not hasattr(x, "shape"):
        raise TypeError(f"x: got {checks.describe(x)}, wants an array")
    x = operand("x", x)
    at = axis_of("axis", axis, len(x.shape))
    if num is not None and num != x.shape[at]:
        raise ValueError(f"num: got {num}, wants the size {x.shape[at]} of axis {at}, or None")
    if not x.shape[at]:
        return ()
    return tuple(part.reshape(*x.shape[:at], *x.shape[at + 1 :]) for part in split(x, x.shape[at], at))


def flip(x: Any, axis: int | None = None) -> Array:
    """x in reverse along an axis, or along all of them, a new array."""
    given = operand("x", x)
    if not hasattr(given, "shape"):
        raise TypeError(f"x: got {checks.describe(x)}, wants an array")
    if axis is None:
        return reshape(flip(given.reshape(-1), 0), given.shape)
    at = axis_of("axis", axis, len(given.shape))
    blocks, rows = math.prod(given.shape[:at]), given.shape[at]
    numbers = kept(
        ("reversal", blocks, rows), given, lambda: np.arange(blocks * rows).reshape(blocks, rows)[:, ::-1].reshape(-1)
    )
    flat = given.reshape(blocks * rows, math.prod(given.shape[at + 1 :]))
    return OPS["gather"](flat, numbers).reshape(*given.shape)


def one_hot(x: Any, num_classes: int, axis: int = -1, dtype: str | None = None) -> Array:
    """Rows of num_classes numbers (..., num_classes), 1 at the place that x (...) tells, else 0; along ``axis``.

    x: integers in [0, num_classes); IndexError for others, NaN on a device. They are rows of an identity matrix, of
    float32 by default, which is kept.
    """
    classes, kind = checks.positive_int("num_classes", num_classes), checks.float_dtype("dtype", dtype) or "float32"
    if not hasattr(x, "shape"):
        raise TypeError(f"x: got {checks.describe(x)}, wants an array of integers")
    given = operand("x", x)
    identity = kept(("identity", classes, kind), given, lambda: np.eye(classes, dtype=kind))
    rows = OPS["gather"](identity, given.reshape(math.prod(given.shape))).reshape(*given.shape, classes)
    at = axis_of("axis", axis, rows.ndim)
    return rows if at == rows.ndim - 1 else moveaxis(rows, -1, at)


def axis_of(name: str, axis: Any, rank: int) -> int:
    """``axis`` counted from the first."""
    return checks.integer(name, axis, -rank, rank - 1) % (rank or 1)


def _summed(x: Any, axis: Any, keepdims: bool, mean: bool) -> Any:
    given = operand("x", x)
    if is_number(given):
        return given
    if not keepdims and len(_axes(axis, given.ndim)) == given.ndim:
        if mean and not given.size:
            raise ValueError(f"x: got shape {tuple(given.shape)}, wants numbers to take the mean of")
        return OPS["total"](given, 1.0 / given.size if mean else 1.0)[0]
    places, kept, squeezed = _places(given, axis)
    sizes = kept if keepdims else squeezed
    count = math.prod(given.shape[place] for place in places)
    weight = 1.0 / count if mean and count else 1.0
    if places == [*range(len(places))]:
        whole = OPS["matmul"](constant(weight, given, (1, count)), given.reshape(count, math.prod(squeezed)))
    else:
        rows, *_ = rows_of_axes("x", given, axis)
        whole = OPS["matmul"](rows, constant(weight, given, (count, 1)))
    return whole.reshape(tuple(sizes))


def _axes(axis: Any, rank: int) -> list[int]:
    """``axis`` or axes counted from the first, in order, each once."""
    given = axis if isinstance(axis, (list, tuple)) else range(rank) if axis is None else [axis]
    places = sorted(checks.integer("axis", each, -rank, rank - 1) % rank for each in given)
    if len({*places}) < len(places):
        raise ValueError(f"axis: got {axis}, wants every axis once")
    return places


def _places(given: Any, axis: Any) -> tuple[list[int], list[int], list[int]]:
    """(the axes that go, the shape with 1 in their places, the shape without them)."""
    places = _axes(axis, given.ndim)
    kept = [1 if place in places else size for place, size in enumerate(given.shape)]
    return places, kept, [size for place, size in enumerate(given.shape) if place not in places]


def rows_of_axes(name: str, given: Any, axis: Any) -> tuple[Any, list[int], list[int]]:
    """(the numbers that become one each as the rows of a matrix, the shape with 1 in the axes' places, and without)."""
    if not hasattr(given, "shape"):
        raise TypeError(f"{name}: got {checks.describe(given)}, wants an array")
    places, kept, squeezed = _places(given, axis)
    order = [place for place in range(given.ndim) if place not in places] + places
    last = given if order == [*range(given.ndim)] else permute(given, order)
    count = math.prod(given.shape[place] for place in places)
    return last.reshape(math.prod(squeezed), count), kept, squeezed


# What ops make of arrays of other ranks than their rows say.
OF_OTHER_RANKS: dict[str, Callable[..., Any]] = {"matmul": products}

NAMES = (
    "abs", "arange", "array", "cast", "clip", "concatenate", "convert_to_numpy", "convert_to_tensor", "copy", "dot",
    "einsum", "exp", "expand_dims", "eye", "flip", "full", "full_like", "get_item", "linspace", "log_softmax",
    "logsumexp", "max", "mean", "min", "moveaxis", "ndim", "negative", "normalize", "one_hot", "ones", "ones_like",
    "pad", "permute", "power", "ravel", "repeat", "reshape", "shape", "softmax", "split", "squeeze", "stack", "std",
    "stop_gradient", "sum", "swapaxes", "tile", "transpose", "unstack", "var", "where", "zeros", "zeros_like",
)  # fmt: skip
