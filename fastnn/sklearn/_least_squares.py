"""Linear least squares: the normal equation, and where that is ill-conditioned, singular values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from fastnn import ops

Array = NDArray[Any]

# Condition of the Gram matrix, its diagonal scaled to ones, up to which the normal equation is solved: solved again of
# its residual, it then has as many right digits as the singular values of X would give.
_WELL_CONDITIONED = 1e9


@dataclass(frozen=True)
class LeastSquares:
    """min |root * (y - y_mean - (x - x_mean) w)|: means are zeros without an intercept, roots those of weights.

    ``scaled`` is root * (x - x_mean) where x is dense, and root * x where it is a CSR matrix, which stays one;
    ``target`` is root * (y - y_mean) (n, targets), ``root`` (n, 1).
    """

    scaled: Any
    target: Array
    root: Array
    x_mean: Array
    y_mean: Array
    intercept: bool

    @classmethod
    def of(cls, x: Any, y: Array, weights: Array | None, intercept: bool) -> LeastSquares:
        """The problem for rows x (n, features) and y (n, targets) with these weights."""
        n, features = x.shape
        weights = np.ones(n) if weights is None else weights
        share = weights / weights.sum()
        x_mean = np.asarray(x.T @ share, np.float64) if intercept else np.zeros(features)
        y_mean = share @ y.astype(np.float64) if intercept else np.zeros(y.shape[1])
        root = np.sqrt(weights)[:, None]
        if isinstance(x, np.ndarray):
            scaled = np.multiply(x - x_mean, root, dtype=np.float64)
        else:
            scaled = x.multiply(root).tocsr().astype(np.float64)
        return cls(scaled, (y - y_mean) * root, root, x_mean, y_mean, intercept)

    @property
    def is_dense(self) -> bool:
        """Whether columns are centred as they stand in ``scaled``."""
        return isinstance(self.scaled, np.ndarray)

    def gram(self) -> Array:
        """X^T X of centred, scaled rows."""
        if self.is_dense:
            return np.asarray(ops.matmul(self.scaled.T, self.scaled))
        total = float((self.root**2).sum())
        return np.asarray((self.scaled.T @ self.scaled).toarray() - total * np.outer(self.x_mean, self.x_mean))

    def residual(self, w: Array) -> Array:
        """What is left of the target."""
        fitted = self.scaled @ w
        return np.asarray(
            self.target - fitted if self.is_dense else self.target - fitted + self.root * (self.x_mean @ w)
        )

    def pulled(self, rows: Array) -> Array:
        """X^T times numbers for each row."""
        of_rows = self.scaled.T @ rows
        if self.is_dense:
            return np.asarray(of_rows)
        return np.asarray(of_rows - np.outer(self.x_mean, self.root.T @ rows))

    def solve(self) -> tuple[Array, int, Array]:
        """(w (features, targets), the rank of X, its singular values); of several solutions the shortest."""
        gram = self.gram()
        norms = np.sqrt(np.maximum(gram.diagonal(), 0.0))
        unit = gram / np.outer(norms, norms) if norms.all() else None
        values = np.linalg.eigvalsh(unit) if unit is not None and np.isfinite(unit).all() else np.zeros(1)
        if values.size and values[0] * _WELL_CONDITIONED > values[-1] and len(self.target) > len(gram):
            factor = linalg.cho_factor(unit)
            w = np.zeros((len(gram), self.target.shape[1]))
            for _ in range(2):
                w += linalg.cho_solve(factor, self.pulled(self.residual(w)) / norms[:, None]) / norms[:, None]
            return w, len(gram), np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[::-1], 0.0))
        matrix = self.scaled if self.is_dense else self.scaled.toarray() - self.root * self.x_mean
        w, _, rank, singular = linalg.lstsq(matrix, self.target, cond=max(matrix.shape) * np.finfo(np.float64).eps)
        return w, int(rank), singular
