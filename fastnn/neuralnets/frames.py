"""Formulas over data: which columns are covariates, which are responses, and their numbers.

A formula of plain names, as in "setosa + virginica ~ Sepal.Length + Petal.Width" or "Species ~ .", needs no other
package; what else R can say (transformations, interactions, factors as covariates) is formulaic's, on first use.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import checks
from fastnn.adoption import adopted
from fastnn.errors import installing

Array = NDArray[Any]

# A column's name in a formula: R's names, which have dots, or any text between backticks.
_NAME = r"(?:`[^`]+`|[^\W\d][\w.]*|\.)"
_PLAIN = re.compile(rf"\s*{_NAME}\s*(?:\+\s*{_NAME}\s*)*")

_WANTS = "'response ~ covariate + ...', or two lists of columns: (responses, covariates)"


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
        sides = formula.split("~")
        if len(sides) != 2:
            raise ValueError(f"formula: got {formula!r}, wants {_WANTS}")
        named = [_names(side) for side in sides]
        if None not in named:
            responses, covariates = _known(named, columns)
            if all(_is_numeric(columns[name]) for name in covariates):
                return _of_columns(columns, responses, covariates)
        return _of_formulaic(formula, data, columns)
    pair = formula if isinstance(formula, (tuple, list)) and len(formula) == 2 else None
    if pair is None or any(isinstance(side, str) or not isinstance(side, Sequence) for side in pair):
        raise TypeError(f"formula: got {checks.describe(formula)}, wants {_WANTS}")
    return _of_columns(columns, *_known(pair, columns))


def _names(side: str) -> list[str] | None:
    """The names of a side of a formula; None where it is more than names."""
    if not _PLAIN.fullmatch(side):
        return None
    return [name.strip().strip("`") for name in re.findall(_NAME, side)]


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


def _known(sides: Sequence[Any], columns: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Responses and covariates, all of them columns; "." stands for all columns that are no responses."""
    responses, covariates = ([str(name) for name in side] for side in sides)
    others = [name for name in columns if name not in responses]
    covariates = [*dict.fromkeys(name for each in covariates for name in (others if each == "." else [each]))]
    for name in (*responses, *covariates):
        checks.one_of("formula", name, columns)
    for what, names in (("responses", responses), ("covariates", covariates)):
        if not names:
            raise ValueError(f"formula: got no {what}, wants {_WANTS}")
    for name in responses:
        if name in covariates or responses.count(name) > 1:
            raise ValueError(f"formula: got the response {name!r} more than once, wants it on the left alone, once")
    return responses, covariates


def _is_numeric(column: Any) -> bool:
    return np.asarray(column).dtype.kind in "fiub"


def _of_columns(columns: Mapping[str, Any], responses: Sequence[str], covariates: Sequence[str]) -> Frame:
    def covariates_of(data: Any) -> Array:
        data = adopted("data", data)
        if isinstance(data, np.ndarray):
            return _matrix("data", data, len(covariates))
        given = _columns("data", data)
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
    values = np.asarray(column, object)
    if any(value is None or value != value for value in values):  # noqa: PLR0124 - NaN is not itself
        raise ValueError(f"{name}: got a value that is missing, wants a class in all rows")
    levels = sorted(set(values), key=str) if categories is None else list(categories)
    return tuple(map(str, levels)), np.column_stack([values == level for level in levels]).astype(np.float64)


def _matrix(name: str, array: Any, columns: int) -> Array:
    if array.ndim != 2 or array.shape[1] != columns or array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: got {checks.describe(array)}, wants numbers of shape (n, {columns})")
    return _finite(name, np.ascontiguousarray(array, np.float64))


def _of_formulaic(formula: str, data: Any, columns: Mapping[str, Any]) -> Frame:
    if importlib.util.find_spec("formulaic") is None:
        raise ImportError(f"the formula {formula!r} needs formulaic, which is not installed: {installing('neuralnet')}")
    import formulaic
    from formulaic.errors import FormulaicError

    def without_intercept(matrix: Any) -> Any:
        return matrix[[name for name in matrix.columns if name != "Intercept"]]

    try:
        pandas = importlib.import_module("pandas")
        made = formulaic.model_matrix(formula, pandas.DataFrame(dict(columns)), na_action="raise")
    except (FormulaicError, NameError, ValueError) as error:
        raise ValueError(f"formula: got {formula!r}: {error}") from None
    covariates, response = without_intercept(made.rhs), made.lhs
    if not len(covariates.columns) or not len(response.columns):
        raise ValueError(f"formula: got {formula!r}, wants {_WANTS}")
    spec = made.rhs.model_spec

    def covariates_of(given: Any) -> Array:
        given = adopted("data", given)
        if isinstance(given, np.ndarray):
            return _matrix("data", given, len(covariates.columns))
        try:
            matrix = spec.get_model_matrix(pandas.DataFrame(_columns("data", given)), na_action="raise")
        except (FormulaicError, NameError, ValueError) as error:
            raise ValueError(f"data: got columns that the formula {formula!r} does not fit: {error}") from None
        return np.ascontiguousarray(without_intercept(matrix), np.float64)

    return Frame(
        _finite("data", np.ascontiguousarray(covariates, np.float64)),
        _finite("data", np.ascontiguousarray(response, np.float64)),
        tuple(map(str, covariates.columns)),
        tuple(_level(str(name)) for name in response.columns),
        covariates_of,
    )


def _level(name: str) -> str:
    """Of formulaic's "Species[setosa]", what R calls the column: setosa."""
    found = re.fullmatch(r"[^\[]+\[(?:T\.)?(.+)\]", name)
    return name if found is None else found[1]
