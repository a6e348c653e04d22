"""The likelihood of logistic regression: loss, gradient and Hessian, a block of rows at a time, and its maximum.

Coefficients are a matrix W (features, columns), the last row of which is the intercept's where there is one: one column
for two classes, one for each class where there are more.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from fastnn import ops

Array = NDArray[Any]

# Rows of a block: with a hundred features they stay in a core's cache between their product and the gradient's.
_BLOCK = 1024

# A Hessian is kept for another step while that makes the gradient smaller by this factor at least.
_CONTRACTION = 0.5

# Rows from which on a part of them is fitted first: so many for each coefficient, and this share of all.
_ROWS_PER_COEFFICIENT, _SHARE = 40, 1 / 16

# Newton's method is over when no coefficient is to move by more than this, relative to the largest one.
_STEP = 1e-8

# The quadratic of an L1 penalty is minimised in so many rounds at most, each of so many sweeps over all coefficients
# and then leaps; what a slope is at most, relative to the penalty, along which there is nothing to gain.
_ROUNDS, _SWEEPS, _LEAPS, _FLAT = 100, 10, 20, 1e-6

# Halvings of a step that makes the loss larger; what rounding may make of a loss.
_HALVINGS, _ROUNDING = 40, 1e-12

# Steps after which it is asked whether the classes are separated: before, the answer is no more than a guess.
_PATIENCE = 5


@dataclass(frozen=True)
class Likelihood:
    """The mean negative log-likelihood of labels, rows weighted, plus ``ridge`` / 2 * sum W^2 without intercepts.

    ``x`` is a matrix (rows, features) or one of SciPy's CSR matrices, ``labels`` are class numbers, of which two make
    one column, and ``weights``, which are None for equal ones, sum to the number of rows.
    """

    x: Any
    labels: Array
    weights: Array | None
    classes: int
    ridge: float
    intercept: bool

    @property
    def columns(self) -> int:
        """One for two classes, else one for each."""
        return 1 if self.classes == 2 else self.classes

    @property
    def shape(self) -> tuple[int, int]:
        """Of the coefficients."""
        return self.x.shape[1] + self.intercept, self.columns

    def part(self, stride: int) -> Likelihood:
        """The same of every so manieth row."""
        rows = slice(None, None, stride)
        weights = None if self.weights is None else np.ascontiguousarray(self.weights[rows])
        return Likelihood(
            self.x[rows], np.ascontiguousarray(self.labels[rows]), weights, self.classes, self.ridge, self.intercept
        )

    def value(self, W: Array) -> float:
        """The loss."""
        return self._sums(W, slopes=False, curvature=False)[0]

    def gradient(self, W: Array) -> tuple[float, Array]:
        """Loss and its gradient, of the shape of W."""
        value, slope, _ = self._sums(W, slopes=True, curvature=False)
        return value, slope

    def hessian(self, W: Array) -> tuple[float, Array, Array]:
        """Loss, gradient, and the Hessian by W in column order: all coefficients of a column, then the next."""
        return self._sums(W, slopes=True, curvature=True)

    def scores(self, W: Array) -> Array:
        """X W (rows, columns), intercepts added."""
        coefficients, bias = self._split(W)
        return np.asarray(ops.linear(self.x, coefficients, bias))

    def margins(self, W: Array) -> Array:
        """By how much the score of each row's class is above that of the best other one."""
        scores = self.scores(W)
        if self.columns == 1:
            return np.where(self.labels == 1, scores[:, 0], -scores[:, 0])
        rows = np.arange(len(scores))
        own = scores[rows, self.labels]
        scores[rows, self.labels] = -np.inf
        return np.asarray(own - scores.max(axis=1))

    def separated(self, W: Array, step: Array) -> bool:
        """Whether W, or going on in the direction of ``step`` for ever, tells all rows' classes without an error.

        Then no coefficients are the likeliest: larger ones are likelier. (Albert and Anderson 1984: complete separation
        where all margins are positive, quasi-complete where some are 0.)
        """
        if self.margins(W).min() > 0:
            return True
        margins = self.margins(step)
        size = np.abs(margins).max()
        return bool(size > 0 and margins.min() >= -1e-9 * size)

    def _split(self, W: Array) -> tuple[Array, Array | None]:
        if not self.intercept:
            return W, None
        return np.ascontiguousarray(W[:-1]), np.ascontiguousarray(W[-1])

    def _blocks(self) -> Iterator[tuple[Any, Array, Array | None]]:
        """Rows of x as they are needed at a time, their labels and weights."""
        for start in range(0, self.x.shape[0], _BLOCK):
            rows = slice(start, start + _BLOCK)
            x = self.x[rows]
            dense = x if isinstance(x, np.ndarray) else x.toarray()
            yield dense, self.labels[rows], None if self.weights is None else self.weights[rows]

    def _loss(self, scores: Array, labels: Array, weights: Array | None) -> tuple[float, Array]:
        """The loss summed over rows, and its derivative by their scores."""
        if self.columns == 1:
            targets = labels.astype(scores.dtype)[:, None]
            value, slope = ops.binary_cross_entropy(scores, targets, weights, from_logits=True)
        else:
            value, slope = ops.softmax_cross_entropy(scores, labels, weights)
        slope *= len(scores)
        return value * len(scores), slope

    def _sums(self, W: Array, slopes: bool, curvature: bool) -> tuple[float, Array, Array]:
        n, (size, columns) = self.x.shape[0], self.shape
        coefficients, bias = self._split(W)
        value, gradient = 0.0, np.zeros(self.shape, W.dtype)
        hessian = np.zeros((columns, size, columns, size) if curvature else (0, 0, 0, 0), W.dtype)
        for x, labels, weights in self._blocks():
            scores = ops.linear(x, coefficients, bias)
            loss, slope = self._loss(scores, labels, weights)
            value += loss
            if slopes:
                gradient[: x.shape[1]] += ops.matmul(slope.T, x).T
                gradient[x.shape[1] :] += ops.column_sums(slope)
            if curvature:
                self._add_curvature(hessian, x, scores, weights)
        value, gradient, hessian = value / n, gradient / n, hessian.reshape(size * columns, -1) / n
        penalised = W.copy()
        penalised[len(coefficients) :] = 0
        value += self.ridge / 2 * float(np.vdot(penalised, penalised))
        gradient += self.ridge * penalised
        if curvature and self.ridge:
            inner = np.tile(np.arange(size) < len(coefficients), columns)
            hessian[inner, inner] += self.ridge
        return value, gradient, hessian

    def _add_curvature(self, hessian: Array, x: Array, scores: Array, weights: Array | None) -> None:
        """Add sum of weight * dp/dscore * x x^T for each pair of columns; an intercept's x is 1."""
        p = ops.sigmoid(scores) if self.columns == 1 else ops.softmax(scores)
        features = x.shape[1]
        scaled = np.empty((len(x), features + 1), x.dtype)
        for a in range(self.columns):
            for b in range(a + 1):
                share = p[:, a] * ((a == b) - p[:, b])
                if weights is not None:
                    share = share * weights
                np.multiply(x, share[:, None], out=scaled[:, :features])
                scaled[:, features] = share
                products = ops.matmul(x.T, scaled)
                block = hessian[a, :, b]
                block[:features, :features] += products[:, :features]
                if self.intercept:
                    block[:features, features] += products[:, features]
                    block[features, :features] += products[:, features]
                    block[features, features] += share.sum()
                if a != b:
                    hessian[b, :, a] = block.T


@dataclass(frozen=True)
class Fit:
    """Coefficients, the number of iterations, whether they have converged, whether the classes are separated."""

    W: Array
    iterations: int
    converged: bool
    separated: bool


def newton(model: Likelihood, W: Array, tol: float, max_iter: int) -> Fit:
    """The minimum of a likelihood by Newton's method, with halved steps where a whole one is too far.

    Where rows are many, a part of them is fitted first, which costs little. What a step has shown of the curvature
    corrects the inverse (Broyden, Fletcher, Goldfarb and Shanno 1970), so that a step takes no more than a gradient; a
    new Hessian is formed where that does not make the gradient much smaller. It is over when the gradient is at most
    ``tol`` and the next step would change no coefficient by more than 1e-8 of the largest; this one is still made.
    """
    if model.x.shape[0] * _SHARE > _ROWS_PER_COEFFICIENT * W.size and not W.any():
        W = newton(model.part(round(1 / _SHARE)), W, 1e-3, min(max_iter, 8)).W
    value, gradient, hessian = model.hessian(W)
    inverse, formed = _pseudo_inverse(hessian), True
    steepest, length = np.inf, np.inf
    step = np.zeros_like(W)
    for iteration in range(max_iter):
        before, steepest = steepest, _largest(gradient)
        if steepest == 0:
            return Fit(W, iteration, True, False)
        if steepest > _CONTRACTION * before:
            value, gradient, hessian = model.hessian(W)
            inverse, formed = _pseudo_inverse(hessian), True
        step = _newton_step(inverse, gradient)
        if model.ridge == 0 and iteration >= _PATIENCE and model.separated(W, step):
            return Fit(W, iteration, False, True)
        moved, value, slope = _line_search(model, W, step, value, gradient)
        inverse = _corrected(inverse, (moved - W).T.ravel(), (slope - gradient).T.ravel())
        shorter, length = length, _largest(moved - W)
        ahead = length * min(1.0, length / shorter) if 0 < shorter < np.inf else length  # the next, if it goes on so
        W, gradient = moved, slope
        still = ahead <= _STEP * max(1.0, _largest(W))
        if still and (_largest(gradient) <= tol or formed):  # behind a Hessian's step rounding leaves no more to gain
            return Fit(W + _newton_step(inverse, gradient), iteration + 1, True, False)
        formed = False
    return Fit(W, max_iter, False, model.ridge == 0 and max_iter > 0 and model.separated(W, step))


def proximal_newton(model: Likelihood, W: Array, lasso: float, max_iter: int) -> Fit:
    """The minimum of a likelihood plus ``lasso`` * sum |W| without intercepts (Lee, Sun and Saunders 2014).

    Every iteration minimises the quadratic of gradient and Hessian with this penalty, one coefficient after the other.
    """
    penalty = np.zeros_like(W)
    penalty[: model.x.shape[1]] = lasso
    value, gradient, hessian = model.hessian(W)
    for iteration in range(max_iter):
        goal = _shrunk(W.T.ravel(), gradient.T.ravel(), hessian, penalty.T.ravel()).reshape(W.T.shape).T
        promised = float(np.vdot(gradient, goal - W) + (penalty * (np.abs(goal) - np.abs(W))).sum())
        share = 1.0
        for _ in range(_HALVINGS):
            moved = W + share * (goal - W)
            grown = float((penalty * (np.abs(moved) - np.abs(W))).sum())
            new = model.value(moved)
            if new + grown <= value + 1e-4 * share * promised + _ROUNDING * max(1.0, abs(value)):
                break
            share /= 2
        length, W = _largest(moved - W), np.ascontiguousarray(moved)
        value, gradient, hessian = model.hessian(W)
        if length <= _STEP * max(1.0, _largest(W)):
            return Fit(W, iteration + 1, True, False)
    return Fit(W, max_iter, False, False)


def _shrunk(w: Array, gradient: Array, hessian: Array, penalty: Array) -> Array:
    """Where gradient . (v - w) + (v - w)^T hessian (v - w) / 2 + penalty . |v| is smallest.

    Coordinate descent finds signs and zeros soon, and values slowly where columns depend on one another. Between zeros
    the sum is a quadratic, whose minimum a leap reaches at once (the feature-sign search of Lee and others 2006).
    """
    v, slope = w.copy(), gradient.copy()  # slope: of the quadratic, at v
    for _ in range(_ROUNDS):
        for _ in range(_SWEEPS):
            if _sweep(v, slope, hessian, penalty) <= 0.01 * _STEP * max(1.0, _largest(v)):
                return v
        for _ in range(_LEAPS):
            if not _leap(v, slope, hessian, penalty):
                break
    return v


def _sweep(v: Array, slope: Array, hessian: Array, penalty: Array) -> float:
    """Minimise by one coefficient after the other; the largest step."""
    curvature, largest = hessian.diagonal(), 0.0
    for place in np.flatnonzero(curvature > 0):
        free = v[place] - slope[place] / curvature[place]
        bound = penalty[place] / curvature[place]
        step = (free - min(max(free, -bound), bound)) - v[place]
        if step:
            v[place] += step
            slope += step * hessian[place]
            largest = max(largest, abs(step))
    return largest


def _leap(v: Array, slope: Array, hessian: Array, penalty: Array) -> bool:
    """Go to the minimum over coefficients that are not 0, or as far as the first of them is; whether one has become 0.

    Where the quadratic is flat along a direction and the penalty falls, that is all that is gone along.
    """
    chosen = np.flatnonzero((v != 0) | (penalty == 0))
    pull = slope[chosen] + penalty[chosen] * np.sign(v[chosen])
    values, vectors = np.linalg.eigh(hessian[np.ix_(chosen, chosen)])
    flat = values <= len(values) * np.finfo(v.dtype).eps * values.max(initial=0.0)
    along = vectors.T @ pull
    falls = _largest(along[flat]) > _FLAT * penalty.max(initial=0.0)
    parts = np.where(flat, along, 0.0) if falls else np.divide(along, values, out=np.zeros_like(along), where=~flat)
    step = -(vectors @ parts)
    crosses = (penalty[chosen] > 0) & (step * v[chosen] < 0)
    shares = np.divide(-v[chosen], step, out=np.full_like(step, np.inf), where=crosses)
    share = min(float(shares.min(initial=np.inf)), np.inf if falls else 1.0)
    if not np.isfinite(share):
        return False
    moved = np.where(shares == share, 0.0, v[chosen] + share * step)
    slope += (moved - v[chosen]) @ hessian[chosen]
    v[chosen] = moved
    return bool((shares == share).any())


def _newton_step(inverse: Array, gradient: Array) -> Array:
    """Minus the inverse Hessian times the gradient; the Hessian is by W in column order."""
    return np.ascontiguousarray(-(inverse @ gradient.T.ravel()).reshape(gradient.T.shape).T)


def _largest(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))


def _corrected(inverse: Array, step: Array, turn: Array) -> Array:
    """The inverse of a Hessian, which now makes ``step`` of ``turn``, the change of the gradient along it."""
    curvature = float(step @ turn)
    if not curvature > 1e-14 * float(np.linalg.norm(step) * np.linalg.norm(turn)):
        return inverse
    pulled = inverse @ turn
    outer = np.outer(step, pulled) / curvature
    along = (1 + turn @ pulled / curvature) / curvature
    return np.asarray(inverse - outer - outer.T + along * np.outer(step, step))


def _line_search(model: Likelihood, W: Array, step: Array, value: float, slope: Array) -> tuple[Array, float, Array]:
    """(W + share * step, its loss and gradient), the share halved until the loss does not grow."""
    share = 1.0
    for _ in range(_HALVINGS):
        moved = W + share * step
        new, gradient = model.gradient(moved)
        if new <= value + _ROUNDING * max(1.0, abs(value)) + 1e-4 * share * min(0.0, float(np.vdot(step, slope))):
            return moved, new, gradient
        share /= 2
    return W, value, slope


def _pseudo_inverse(hessian: Array) -> Array:
    """Of a symmetric matrix that is not negative, without the directions that it does not curve in."""
    least = max(hessian.shape) * np.finfo(hessian.dtype).eps
    unit = np.sqrt(np.maximum(hessian.diagonal(), np.finfo(hessian.dtype).tiny))
    factor, failed = linalg.lapack.get_lapack_funcs("potrf", (hessian,))(hessian / np.outer(unit, unit), lower=True)
    if not failed and factor.diagonal().min() ** 2 > 1e3 * least:
        inverse, failed = linalg.lapack.get_lapack_funcs("potri", (factor,))(factor, lower=True)
        return np.asarray((np.tril(inverse) + np.tril(inverse, -1).T) / np.outer(unit, unit))
    values, vectors = np.linalg.eigh(hessian)
    floor = least * max(values.max(initial=0.0), 0.0)
    scaled = np.divide(1.0, values, out=np.zeros_like(values), where=values > floor)
    return np.asarray((vectors * scaled) @ vectors.T)


def lbfgs(model: Likelihood, W: Array, tol: float, max_iter: int) -> Fit:
    """The minimum by SciPy's L-BFGS: where a Hessian would be too large."""
    found = _descent(_flat_gradient(model, W), W.ravel(), None, tol, max_iter)
    fitted = found.x.reshape(W.shape).astype(W.dtype)
    separated = model.ridge == 0 and bool(model.margins(fitted).min() > 0)
    return Fit(fitted, min(int(found.nit), max_iter), found.status != 1, separated)


def bounded_lbfgs(model: Likelihood, W: Array, lasso: float, tol: float, max_iter: int) -> Fit:
    """The minimum of a likelihood plus ``lasso`` * sum |W| without intercepts, by L-BFGS-B.

    |w| has no derivative at 0. But w = u - v with u, v >= 0 and the penalty lasso * (u + v) has: coefficients that it
    takes to 0 have both at their bound. Of an intercept u has no bound, and v is 0.
    """
    gradient, size = _flat_gradient(model, W), W.size
    of_rows = np.zeros(W.shape)
    of_rows[: model.x.shape[1]] = lasso
    penalty = of_rows.ravel()
    free = penalty == 0
    bounds = optimize.Bounds(
        np.concatenate([np.where(free, -np.inf, 0.0), np.zeros(size)]),
        np.concatenate([np.full(size, np.inf), np.where(free, 0.0, np.inf)]),
    )

    def objective(both: Array) -> tuple[float, Array]:
        value, slope = gradient(both[:size] - both[size:])
        return value + float(penalty @ (both[:size] + both[size:])), np.concatenate([penalty + slope, penalty - slope])

    w = W.ravel().astype(np.float64)
    start = np.concatenate([np.where(free, w, np.maximum(w, 0.0)), np.where(free, 0.0, np.maximum(-w, 0.0))])
    found = _descent(objective, start, bounds, tol, max_iter)
    fitted = (found.x[:size] - found.x[size:]).reshape(W.shape).astype(W.dtype)
    return Fit(fitted, min(int(found.nit), max_iter), found.status != 1, False)


def _flat_gradient(model: Likelihood, W: Array) -> Callable[[Array], tuple[float, Array]]:
    """Loss and gradient of coefficients like W in one vector."""

    def gradient(flat: Array) -> tuple[float, Array]:
        value, slope = model.gradient(np.ascontiguousarray(flat.reshape(W.shape), W.dtype))
        return value, slope.ravel().astype(np.float64)

    return gradient


def _descent(
    objective: Callable[[Array], tuple[float, Array]], start: Array, bounds: Any, tol: float, most: int
) -> Any:
    """SciPy's result of L-BFGS-B; without room for another step it ends abnormally at the minimum rounding allows."""
    options = {"maxiter": most, "maxls": 50, "gtol": tol, "ftol": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return optimize.minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
