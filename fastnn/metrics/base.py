"""What metrics are made of: running figures, means and sums over batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from fastnn import checks, initializers
from fastnn.configurable import Configurable, undefined
from fastnn.differentiation import unfollowed
from fastnn.engine.data import along, numeric_array
from fastnn.engine.protocols import Array
from fastnn.samples import same_shape, weighed, weights_of
from fastnn.tape import Held, Traced

SampleFunction = Callable[..., Any]

# Of fastnn's own functions: whether more is better, or less. The classes of means enter theirs.
_DIRECTIONS: dict[SampleFunction, str] = {}


def pair(y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Targets and outputs as arrays of one shape; TypeError unless of numbers, ValueError where sizes differ."""
    return same_shape(numeric_array("y_true", y_true), numeric_array("y_pred", y_pred))


def tally(values: Array, weight: Array | None) -> tuple[float, float]:
    """Sum over samples, each by its weight, and what divides it: their number, or the sum of their weights."""
    if not values.size:
        return 0.0, 0.0
    if weight is None:
        total = float(values.sum(dtype=np.float64)) / math.prod(values.shape[1:])
        return total, float(len(values)) if values.ndim else 1.0
    values, weight = weighed(values, weight)
    weight = np.broadcast_to(weight, values.shape[: weight.ndim])
    # a sample's figure is the mean of its values, its weight that of its weights; a single one is the batch's
    each = math.prod(values.shape[1:]) if weight.ndim else values.size
    total = float((values * along(weight, values.shape)).sum(dtype=np.float64)) / each
    return total, float(weight.sum()) / math.prod(weight.shape[1:])


class Variable(Held):
    """A number or an array that a metric counts in: ``assign``, ``assign_add``, or calculate with it."""

    def __init__(self, shape: Any, initializer: Any, dtype: Any, name: str) -> None:
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        drawn = initializers.get(initializer, "initializer")
        self.name = name
        self.initial = np.asarray(initializers.first_weights(drawn, "initializer", sizes or (1,), dtype))
        self.initial = self.initial.reshape(sizes)
        self.value = self.initial.copy()

    def assign(self, value: Any) -> None:
        """Take over the numbers of ``value``."""
        self.value[...] = unfollowed(value)

    def assign_add(self, value: Any) -> None:
        """Add ``value``."""
        self.assign(self.value + unfollowed(value))

    def assign_sub(self, value: Any) -> None:
        """Take ``value`` away."""
        self.assign(self.value - unfollowed(value))

    def numpy(self) -> Array:
        """A copy of the array."""
        copied: Array = self.value.copy()
        return copied

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.value, dtype=dtype, copy=True if copy is None else copy)

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        return f"<Variable {self.name}: {self.value}>"


def _of_values(update: Callable[..., None]) -> Callable[..., None]:
    """An ``update_state`` that is given the values of what ``fastnn.gradients`` follows."""

    @wraps(update)
    def wrapped(self: Metric, *given: Any, **named: Any) -> None:
        update(self, *map(_value_of, given), **{name: _value_of(value) for name, value in named.items()})

    return wrapped


def _value_of(given: Any) -> Any:
    return given.value if isinstance(given, Traced) else given


class Metric(Configurable):
    """Base class: a running figure. ``direction`` is "up" where more is better, "down" where less is.

    One of your own has ``update_state(y_true, y_pred, sample_weight=None)`` and ``result()``, and counts in what
    ``add_weight`` makes.

    ``dtype`` is that of the result, to which it is rounded: a Python float, or an array where there are several
    numbers. Without one, and in the running sums always, it is float64. ``integer_targets`` says whether targets are
    class indices, or rows; None where both will do.

    A metric of your own has ``update_state(y_true, y_pred, sample_weight=None)`` and ``result()``, and counts in what
    ``add_weight`` makes.
    """

    direction: str | None = None
    integer_targets: bool | None = None
    # What the fused form wants to know: a threshold, a k.
    fused_number = 0.0
    # Whether it is a mean of figures of the last axis, of which masks of outputs say which count.
    counts_steps = False

    def __init_subclass__(cls) -> None:
        """What is followed for its gradient counts by its value."""
        super().__init_subclass__()
        if "update_state" in vars(cls):
            cls.update_state = _of_values(cls.update_state)  # type: ignore[method-assign]

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self.dtype = checks.float_dtype("dtype", dtype)
        self.name = name or type(self).__name__

    def argmax_only(self, width: int) -> bool:
        """Whether only the place of the largest of ``width`` outputs matters, so that logits do for probabilities."""
        return False

    def fused_form(self, width: int) -> str | None:
        """The kernels' name for this figure of a row of ``width`` outputs; None where it is none of theirs."""
        return None

    def take(self, total: float, count: float) -> None:
        """Take over the sum of the fused form over samples, and the number of samples or the sum of their weights."""
        raise undefined(self, "take(total, count), as it has a fused_form")

    def count(self, values: Array, sample_weight: Any = None) -> None:
        """Count what the fused form gives for each sample of a batch."""
        raise undefined(self, "count(values, sample_weight), as it has a fused_form")

    def add_weight(
        self, shape: Any = (), initializer: Any = "zeros", dtype: Any = None, name: str | None = None
    ) -> Variable:
        """A number, or an array of a shape, that a metric of the user's own counts in; ``reset_state`` resets it."""
        made = Variable(shape, initializer, checks.float_dtype("dtype", dtype) or "float64", name or "variable")
        self._own = [*self.variables, made]
        return made

    add_variable = add_weight

    @property
    def variables(self) -> list[Variable]:
        """What ``add_weight`` made."""
        return [*getattr(self, "_own", [])]

    def reset_state(self) -> None:
        """Forget all batches."""
        if not self.variables:
            raise undefined(self, "reset_state()")
        for variable in self.variables:
            variable.assign(variable.initial)

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Count one batch, ``(y_true, y_pred, sample_weight=None)``; an update that is refused changes nothing."""
        raise undefined(self, "update_state(y_true, y_pred, sample_weight=None)")

    def result(self) -> float | Array:
        """The figure over all batches since the last reset."""
        raise undefined(self, "result() -> float, or an array")

    def _rounded(self, figure: float | Array) -> float | Array:
        """``figure`` in the dtype of the result: a number as a float, several as an array."""
        rounded = np.asarray(figure, self.dtype or np.float64)
        return rounded if rounded.ndim else float(rounded)

    def __call__(self, *args: Any, **kwargs: Any) -> float | Array:
        """Count one batch; the figure so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype}


class Mean(Metric):
    """The mean of ``values`` over samples, those along the first axis; of each sample that of its values."""

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget all batches."""
        self._total = 0.0
        self._count = 0.0

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Count the values of one batch, a number or an array, by their weights if there are any."""
        self.count(values_of(values), sample_weight)

    def count(self, values: Array, sample_weight: Any = None) -> None:
        """Count what the fused form gives for each sample of a batch."""
        total, count = tally(values, None if sample_weight is None else weights_of(sample_weight))
        self._total, self._count = self._total + total, self._count + count

    def take(self, total: float, count: float) -> None:
        """Take over the sum of the fused form over samples, and the number of samples or the sum of their weights."""
        self._total, self._count = total, count

    @property
    def seen(self) -> bool:
        """Whether there was any batch since the last reset."""
        return self._count > 0

    def result(self) -> float | Array:
        """The mean since the last reset; 0 before the first batch."""
        return self._rounded(self._mean())

    def _mean(self) -> float:
        return self._total / self._count if self._count else 0.0


class Sum(Metric):
    """The sum of ``values``, each by its weight."""

    def __init__(self, name: str | None = "sum", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget all batches."""
        self._total = 0.0

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Add the values of one batch, a number or an array, by their weights if there are any."""
        array = values_of(values)
        if sample_weight is not None:
            array, weight = weighed(array, weights_of(sample_weight))
            array = array * along(weight, array.shape)
        self._total += float(array.sum(dtype=np.float64))

    def result(self) -> float | Array:
        """The sum since the last reset."""
        return self._rounded(self._total)


def values_of(values: Any) -> Array:
    """``values``, a number or an array of them, as an array; TypeError for anything else."""
    if np.isscalar(values) or getattr(values, "ndim", None) == 0:
        return np.asarray(checks.real("values", values))
    return numeric_array("values", values)


class MeanMetricWrapper(Mean):
    """The mean of ``fn(y_true, y_pred, **kwargs)`` over samples, those along the first axis of what it gives."""

    def __init__(self, fn: SampleFunction, name: str | None = None, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(name or getattr(fn, "__name__", type(fn).__name__), dtype)
        self._fn = fn
        self._kwargs = kwargs
        self.direction = _DIRECTIONS.get(fn)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Count one batch, by its weights if it has any; an update that is refused changes nothing."""
        self.count(self._values(y_true, y_pred), sample_weight)

    def _values(self, y_true: Any, y_pred: Any) -> Array:
        """The function's figures; TypeError where it returned something else."""
        returned = self._fn(y_true, y_pred, **self._kwargs)
        try:
            values = np.asarray(returned)
        except ValueError:
            values = np.empty(0, object)
        if values.dtype.kind not in "fiub":
            raise TypeError(f"metrics: {self.name!r} returned {checks.describe(returned)}, wants a number a sample")
        return values

    def get_config(self) -> dict[str, Any]:
        """A function cannot be written to a file."""
        raise ValueError(
            f"metrics: got the function {self.name!r}, which a model file cannot hold; wants a metric of fastnn's"
        )


class NamedMean(MeanMetricWrapper):
    """A mean of a function of fastnn's; subclasses say which, and whether more of it is better ("up")."""

    counts_steps = True

    _FUNCTION: SampleFunction
    _NAME: str
    _DIRECTION = "down"
    _FUSED_FORM: str | None = None
    # The attributes, set before, that the function takes too.
    _OPTIONS: tuple[str, ...] = ()
    integer_targets: bool | None = False

    def __init_subclass__(cls) -> None:
        """Enter the function's direction."""
        super().__init_subclass__()
        if hasattr(cls, "_FUNCTION"):
            _DIRECTIONS[cls._FUNCTION] = cls._DIRECTION

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        options = {option: getattr(self, option) for option in self._OPTIONS}
        super().__init__(type(self)._FUNCTION, name or self._NAME, dtype, **options)

    def fused_form(self, width: int) -> str | None:
        """The kernels' name for this figure of a row of ``width`` outputs; None where it is none of theirs."""
        return self._FUSED_FORM

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype, **self._kwargs}
