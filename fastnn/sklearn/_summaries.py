"""What R prints of a fit: coefficients with their standard errors, tests, and how well all of it fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

if TYPE_CHECKING:
    from fastnn.sklearn._least_squares import LeastSquares
    from fastnn.sklearn._likelihood import Fit, Likelihood

Array = NDArray[Any]

# Marks of p-values below bounds.
_MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, "."))
_LEGEND = "Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1"


@dataclass(frozen=True)
class Coefficients:
    """Arrays (coefficients,): estimates, standard errors, their ratio and how likely one as large is if it were 0."""

    names: tuple[str, ...]
    estimate: Array
    std_error: Array
    statistic: Array
    p_value: Array

    def table(self, letter: str) -> str:
        """A line for each, ``letter`` the name of the statistic."""
        width = max(map(len, self.names), default=0)
        head = f"{'':{width}} {'Estimate':>12} {'Std. Error':>12} {letter + ' value':>9} {f'Pr(>|{letter}|)':>10}"
        rows = zip(self.names, self.estimate, self.std_error, self.statistic, self.p_value, strict=True)
        lines = [
            f"{name:{width}} {estimate:12.6g} {error:12.6g} {statistic:9.3f} {_p(p):>10} {_mark(p)}".rstrip()
            for name, estimate, error, statistic, p in rows
        ]
        return "\n".join([head, *lines, "---", _LEGEND])


@dataclass(frozen=True)
class LogisticSummary:
    """R's summary of ``glm(family = binomial)``: ``z_value`` and ``p_value`` are Wald's tests of single coefficients.

    Deviances are minus twice the log-likelihood, of the fit and of an intercept alone (without one, of no
    coefficients); aic = deviance + 2 * coefficients. Rows of weight 0 are not counted.
    """

    coefficients: Coefficients
    deviance: float
    null_deviance: float
    df_residual: int
    df_null: int
    aic: float
    iterations: int

    def __str__(self) -> str:
        return (
            f"Coefficients:\n{self.coefficients.table('z')}\n\n"
            f"    Null deviance: {self.null_deviance:.6g} on {self.df_null} degrees of freedom\n"
            f"Residual deviance: {self.deviance:.6g} on {self.df_residual} degrees of freedom\n"
            f"AIC: {self.aic:.6g}\n\nNewton iterations: {self.iterations}"
        )


@dataclass(frozen=True)
class LinearSummary:
    """R's summary of an ``lm``: t tests of single coefficients, the F test of all but the intercept.

    ``sigma`` is the residual standard error, ``r_squared`` the share of the variance (without an intercept: of the
    squares) that is explained. Where columns depend on one another, the standard errors are of the shortest solution.
    """

    coefficients: Coefficients
    sigma: float
    df_residual: int
    r_squared: float
    adjusted_r_squared: float
    f_statistic: float
    f_p_value: float
    df_model: int
    rows: int

    def __str__(self) -> str:
        return (
            f"Coefficients:\n{self.coefficients.table('t')}\n\n"
            f"Residual standard error: {self.sigma:.6g} on {self.df_residual} degrees of freedom\n"
            f"Multiple R-squared: {self.r_squared:.6g}, Adjusted R-squared: {self.adjusted_r_squared:.6g}\n"
            f"F-statistic: {self.f_statistic:.6g} on {self.df_model} and {self.df_residual} DF, "
            f"p-value: {_p(self.f_p_value)}"
        )


def feature_names(estimator: Any) -> list[str]:
    """Those that an estimator was fitted with, or x1, x2, ..."""
    named: Sequence[str] | None = getattr(estimator, "feature_names_in_", None)
    return [f"x{place + 1}" for place in range(estimator.n_features_in_)] if named is None else list(named)


def logistic_summary(model: Likelihood, found: Fit, total: float, names: Sequence[str]) -> LogisticSummary:
    """Of a fit to two classes by rows whose weights sum to ``total``."""
    value, _, hessian = model.hessian(found.W)
    covariance = np.linalg.pinv(hessian * total, hermitian=True)
    estimate, error = found.W[:, 0], np.sqrt(covariance.diagonal())
    if model.intercept:
        estimate, error = np.roll(estimate, 1), np.roll(error, 1)
    statistic = _ratio(estimate, error)
    table = Coefficients(tuple(names), estimate, error, statistic, 2 * special.ndtr(-np.abs(statistic)))
    deviance, rows = 2 * total * value, _counted(model)
    null = 2 * total * (_entropy(model) if model.intercept else float(np.log(2)))
    return LogisticSummary(
        coefficients=table,
        deviance=deviance,
        null_deviance=null,
        df_residual=rows - len(names),
        df_null=rows - model.intercept,
        aic=deviance + 2 * len(names),
        iterations=found.iterations,
    )


def linear_summary(system: LeastSquares, w: Array, intercepts: Array, rank: int, names: Sequence[str]) -> LinearSummary:
    """Of a fit to one target."""
    residual, counted = system.residual(w), int(np.count_nonzero(system.root))
    left, whole = float((residual**2).sum()), float((system.target**2).sum())
    df_residual = counted - rank - system.intercept
    variance = left / df_residual if df_residual > 0 else np.nan
    inverse = np.linalg.pinv(system.gram(), hermitian=True)
    estimate, spread = w[:, 0], inverse.diagonal()
    if system.intercept:
        around = 1 / float((system.root**2).sum()) + system.x_mean @ inverse @ system.x_mean
        estimate, spread = np.r_[intercepts, estimate], np.r_[around, spread]
    error = np.sqrt(variance * np.maximum(spread, 0.0))
    statistic = _ratio(estimate, error)
    p = 2 * special.stdtr(max(df_residual, 1), -np.abs(statistic))
    explained = 1 - left / whole if whole > 0 else np.nan
    f = (whole - left) / rank / variance if rank and variance > 0 else np.nan
    return LinearSummary(
        coefficients=Coefficients(tuple(names), estimate, error, statistic, p),
        sigma=float(np.sqrt(variance)),
        df_residual=df_residual,
        r_squared=explained,
        adjusted_r_squared=1 - (1 - explained) * (counted - system.intercept) / df_residual
        if df_residual > 0
        else np.nan,
        f_statistic=f,
        f_p_value=float(special.fdtrc(rank, max(df_residual, 1), f)) if rank else np.nan,
        df_model=rank,
        rows=counted,
    )


def _counted(model: Likelihood) -> int:
    """Rows that have a weight."""
    return len(model.labels) if model.weights is None else int(np.count_nonzero(model.weights))


def _entropy(model: Likelihood) -> float:
    """The mean negative log-likelihood of labels whose frequencies are known."""
    p = float(np.average(model.labels, weights=model.weights))
    return float(special.entr(p) + special.entr(1 - p))


def _ratio(estimate: Array, error: Array) -> Array:
    return np.divide(estimate, error, out=np.full_like(estimate, np.nan), where=error > 0)


def _p(value: float) -> str:
    return "<2e-16" if value < 2e-16 else f"{value:.3g}"


def _mark(p: float) -> str:
    return next((mark for bound, mark in _MARKS if p < bound), "")
