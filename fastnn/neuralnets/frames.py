"""Formulas over data: which columns are covariates, which are responses, and their numbers.

A formula of plain names and comparisons, as in "setosa + virginica ~ Sepal.Length + Petal.Width", "Species ~ ." or
'Species == "setosa" ~ Petal.Width', needs no other package; what else R can say (transformations, interactions, factors
as covariates) is formulaic's, on first use.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import checks
from fastnn.adoption import adopted
from fastnn.errors import installing
from fastnn.neuralnets import formulas
from fastnn.neuralnets.formulas import WANTS, Comparison

Array = NDArray[Any]

# Functions of R's that formulas may call beside formulaic's own.
_FUNCTIONS = {
    name: getattr(np, name)
    for name in ("abs", "ceil", "cos", "expm1", "floor", "log1p", "round", "sign", "sin", "sqrt", "tan", "tanh")
}


@dataclass(frozen=True)
class Frame:
    """Numbers (n, covariates) and (n, responses) with their names, and what finds covariates in other data."""

    covariates: Array
    response: Array
    covariate_names: tuple[str, ...]
    response_names: tuple[str, ...]
    covariates_of: Callable[[Any], Array]


def frame(formula: Any, data: Any) -> Frame:
    """What a formula says of data: a data frame, or a mapping from names to columns."""
    columns = _columns("data", data)
    if columns and not any(len(values) for values in columns.values()):
        raise ValueError("data: got no rows, wants one or more")
    if isinstance(formula, str):
        return _of_formula(formula, columns)
    pair = formula if isinstance(formula, (tuple, list)) and len(formula) == 2 else None
    if pair is None or any(isinstance(side, str) or not isinstance(side, Sequence) for side in pair):
        raise TypeError(f"formula: got {checks.describe(formula)}, wants {WANTS}")
    return _of_columns(columns, *_known(pair, columns))


def _of_formula(formula: str, columns: Mapping[str, Any]) -> Frame:
    sides, compared = formulas.read(formula)
    for each in compared:
        checks.one_of("formula", each.column, columns)
    on_left = formulas.mentioned(sides[0])
    on_left |= {each.column for each in compared if each.name in on_left}
    others = [name for name in columns if name not in on_left]
    named = [formulas.names(side) for side in sides]
    columns = _with(compared, columns)
    on_right = formulas.mentioned(sides[1])
    compared = [each for each in compared if each.name in on_right]
    if None not in named:
        responses, covariates = _known(named, columns, others)
        if all(_is_numeric(columns[name]) for name in covariates):
            return _of_columns(columns, responses, covariates, compared)
    text = " ~ ".join(formulas.translated(side, [*columns], others) for side in sides)
    return _of_formulaic(formula, text, columns, compared)


def _with(compared: Sequence[Comparison], columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns, and those that comparisons make of them."""
    made = {each.name: _compared(each, columns[each.column]) for each in compared if each.column in columns}
    return {**columns, **made}


def _compared(comparison: Comparison, column: Any) -> Array:
    name, is_text = comparison.column, isinstance(comparison.value, str)
    if is_text is _is_numeric(column):
        wants = "classes to compare with a text" if is_text else "numbers to compare with a number"
        raise TypeError(f"{name}: got a column of {np.asarray(column).dtype}, wants {wants}")
    values = _classes(name, column) if is_text else _numbers(name, column)
    return np.array([comparison.holds(value) for value in values], np.float64)


def _columns(name: str, data: Any) -> dict[str, Any]:
    if hasattr(data, "columns") and hasattr(data, "__getitem__"):
        given = {str(column): data[column] for column in data.columns}
    elif isinstance(data, Mapping):
        given = {str(column): values for column, values in data.items()}
    else:
        raise TypeError(f"{name}: got {checks.describe(data)}, wants a data frame or a mapping from names to columns")
    for column, values in given.items():
        if np.ndim(values) != 1:
            raise ValueError(f"{name}: got {checks.describe(values)} as the column {column!r}, wants one dimension")
        if np.asarray(values).dtype.kind == "c":
            raise TypeError(f"{name}: got complex numbers in the column {column!r}, wants real ones")
    return given


def _known(
    sides: Sequence[Any], columns: Mapping[str, Any], others: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """Responses and covariates, all of them columns; "." stands for ``others``, or all that are no responses."""
    responses, covariates = ([str(name) for name in side] for side in sides)
    others = [name for name in columns if name not in responses] if others is None else others
    covariates = [*dict.fromkeys(name for each in covariates for name in (others if each == "." else [each]))]
    for name in (*responses, *covariates):
        checks.one_of("formula", name, columns)
    for what, names in (("responses", responses), ("covariates", covariates)):
        if not names:
            raise ValueError(f"formula: got no {what}, wants {WANTS}")
    for name in responses:
        if name in covariates or responses.count(name) > 1:
            raise ValueError(f"formula: got the response {name!r} more than once, wants it on the left alone, once")
    return responses, covariates


def _is_numeric(column: Any) -> bool:
    return np.asarray(column).dtype.kind in "fiub"


def _of_columns(
    columns: Mapping[str, Any],
    responses: Sequence[str],
    covariates: Sequence[str],
    compared: Sequence[Comparison] = (),
) -> Frame:
    """Columns as they are; other data have the covariates, or what these are ``compared`` from."""

    def covariates_of(data: Any) -> Array:
        data = adopted("data", data)
        if isinstance(data, np.ndarray):
            return _matrix("data", data, len(covariates))
        given = _with(compared, _columns("data", data))
        for name in covariates:
            if name not in given:
                raise ValueError(f"data: got no column {name!r}, wants {', '.join(covariates)}")
        return _stacked([_numbers(name, given[name]) for name in covariates])

    parts = [_indicators(name, columns[name]) for name in responses]
    names = tuple(name for part, _ in parts for name in part)
    response = np.column_stack([numbers for _, numbers in parts])
    found = _stacked([_numbers(name, columns[name]) for name in covariates])
    if len(found) != len(response):
        raise ValueError(f"data: got columns of {len(found)} and {len(response)} rows, wants as many in all")
    return Frame(found, np.ascontiguousarray(response), tuple(covariates), names, covariates_of)


def _stacked(columns: Sequence[Array]) -> Array:
    lengths = sorted({len(column) for column in columns})
    if len(lengths) > 1:
        raise ValueError(f"data: got columns of {lengths[0]} and {lengths[-1]} rows, wants as many in all")
    return np.ascontiguousarray(np.column_stack(columns))


def _numbers(name: str, column: Any) -> Array:
    if not _is_numeric(column):
        raise TypeError(f"{name}: got a column of {np.asarray(column).dtype}, wants numbers")
    return _finite(name, np.asarray(column, np.float64))


def _finite(name: str, values: Array) -> Array:
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: got a value that is missing or not finite, wants numbers in all rows")
    return values


def _indicators(name: str, column: Any) -> tuple[tuple[str, ...], Array]:
    """A response of numbers as it is; of classes a column for each, 1 where it is that one."""
    if _is_numeric(column):
        return (name,), _numbers(name, column)[:, None]
    categories = getattr(getattr(column, "cat", None), "categories", None)
    values = _classes(name, column)
    levels = sorted(set(values), key=str) if categories is None else list(categories)
    return tuple(map(str, levels)), np.column_stack([values == level for level in levels]).astype(np.float64)


def _classes(name: str, column: Any) -> Array:
    values = np.asarray(column, object)
    if any(value is None or value != value for value in values):  # noqa: PLR0124 - NaN is not itself
        raise ValueError(f"{name}: got a value that is missing, wants a class in all rows")
    return values


def _matrix(name: str, array: Any, columns: int) -> Array:
    if array.ndim != 2 or array.shape[1] != columns or array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: got {checks.describe(array)}, wants numbers of shape (n, {columns})")
    return _finite(name, np.ascontiguousarray(array, np.float64))


def _of_formulaic(formula: str, text: str, columns: Mapping[str, Any], compared: Sequence[Comparison]) -> Frame:
    """What formulaic makes of ``text``, the formula in its words."""
    if importlib.util.find_spec("formulaic") is None:
        raise ImportError(f"the formula {formula!r} needs formulaic, which is not installed: {installing('neuralnet')}")
    import formulaic
    from formulaic.errors import FormulaicError

    def made_of(what: Any, given: Mapping[str, Any], said: str) -> Any:
        table = pandas.DataFrame(_with(compared, given))
        try:
            return formulaic.model_matrix(what, table, na_action="raise", context=_FUNCTIONS)
        except (FormulaicError, NameError, TypeError, ValueError) as error:
            raise ValueError(f"{said}: {str(error).splitlines()[0]}") from None

    def without_intercept(matrix: Any) -> Any:
        return matrix[[name for name in matrix.columns if name != "Intercept"]]

    pandas = importlib.import_module("pandas")
    made = made_of(text, columns, f"formula: got {formula!r}")
    if not hasattr(made, "lhs"):
        raise ValueError(f"formula: got {formula!r}, wants {WANTS}")
    covariates, response = without_intercept(made.rhs), made.lhs
    if not len(covariates.columns) or not len(response.columns):
        raise ValueError(f"formula: got {formula!r}, wants {WANTS}")
    spec = made.rhs.model_spec

    def covariates_of(given: Any) -> Array:
        given = adopted("data", given)
        if isinstance(given, np.ndarray):
            return _matrix("data", given, len(covariates.columns))
        said = f"data: got columns that the formula {formula!r} does not fit"
        return np.ascontiguousarray(without_intercept(made_of(spec, _columns("data", given), said)), np.float64)

    return Frame(
        _finite("data", np.ascontiguousarray(covariates, np.float64)),
        _finite("data", np.ascontiguousarray(response, np.float64)),
        tuple(formulas.covariate(str(name)) for name in covariates.columns),
        tuple(formulas.response(str(name)) for name in response.columns),
        covariates_of,
    )
