"""``neuralnet``: R's function of this name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import checks
from fastnn.engine import seeds
from fastnn.neuralnets.algorithms import ALGORITHMS, Progress, Rates, train
from fastnn.neuralnets.frames import frame
from fastnn.neuralnets.networks import ACTIVATIONS, ERRORS, Network, checked
from fastnn.neuralnets.results import ConvergenceWarning, NeuralNet, Repetition, criteria

Array = NDArray[Any]

_LIFESIGNS = ("none", "minimal", "full")


def neuralnet(
    formula: str | tuple[Sequence[str], Sequence[str]],
    data: Any,
    hidden: int | Sequence[int] = 1,
    threshold: float = 0.01,
    stepmax: float = 1e5,
    rep: int = 1,
    startweights: Any = None,
    learningrate_limit: Any = None,
    learningrate_factor: Any = None,
    learningrate: float | None = None,
    lifesign: str = "none",
    lifesign_step: int = 1000,
    algorithm: str = "rprop+",
    err_fct: str | Callable[..., Any] = "sse",
    act_fct: str | Callable[..., Any] = "logistic",
    linear_output: bool = True,
    exclude: Any = None,
    constant_weights: Any = None,
    likelihood: bool = False,
    seed: int | None = None,
) -> NeuralNet:
    """Train a network on all rows at once until no partial derivative of the error exceeds ``threshold``.

    The names, meanings and defaults are those of R's package neuralnet (Guenther and Fritsch 2010).

    Parameters
    ----------
    formula
        "response ~ covariate + ..." over the columns of ``data``, "." for all others, or two lists of columns,
        (responses, covariates). A response of classes has an output for each. What goes beyond names, such as
        "log(y) ~ a:b", needs formulaic.
    data
        A data frame, or a mapping from names to columns.
    hidden
        Units of each hidden layer; 0 for none.
    threshold, stepmax
        When training ends: well, or after so many steps without a result, which is a ``ConvergenceWarning``.
    rep
        Repetitions, each from other weights.
    startweights
        Numbers in R's order (layer by layer, and in each the weights into its first unit, the intercept's first, then
        those into the next), for the repetitions one behind the other, with or without the excluded weights; or the
        layers' matrices (inputs + 1, units), of one repetition or a list for each, as ``weights`` of a result are. What
        is given once is for all repetitions. None draws from a standard normal distribution.
    learningrate_limit
        (least, most) of rprop's changes, or a mapping with "min" and "max"; default 1e-10 and 0.1.
    learningrate_factor
        (minus, plus), or a mapping with these, by which changes shrink and grow; default 0.5 and 1.2.
    learningrate
        Of "backprop", which needs it.
    lifesign, lifesign_step
        "none", "minimal" or "full": what is printed, and after how many steps.
    algorithm
        "rprop+", "rprop-" (resilient propagation with and without undone steps), "sag", "slr" (its globally convergent
        variants) or "backprop".
    err_fct
        "sse", half the sum of squares; "ce", cross-entropy, for responses of 0 and 1; or a function (output, response)
        over ``fastnn.ops`` of the errors (n, responses), which are summed, or of their sum.
    act_fct
        "logistic", "tanh", "relu" or a function of an array over ``fastnn.ops``.
    linear_output
        Whether outputs are left without the activation.
    exclude
        Weights that are not trained: rows (layer, input, unit), counted from 1, input 1 the intercept; or places in
        R's order, from 1.
    constant_weights
        What the first ones of the excluded weights are; 0 for the others.
    likelihood
        Whether the error is the negative log-likelihood: adds aic and bic to the result.
    seed
        Of the weights to begin with; None draws from the library's generator (``utils.set_random_seed``).
    """
    found = frame(formula, data)
    err_fct = checked("err_fct", err_fct, ERRORS)
    if err_fct == "ce" and not np.isin(found.response, (0, 1)).all():
        raise ValueError("err_fct: got 'ce' for a response that is not binary, wants one of 0 and 1 with it")
    act_fct = checked("act_fct", act_fct, tuple(ACTIVATIONS))
    linear_output = checks.instance("linear_output", linear_output, (bool, np.bool_), "True or False")
    checks.instance("likelihood", likelihood, (bool, np.bool_), "True or False")
    sizes = [found.covariates.shape[1], *_hidden(hidden), found.response.shape[1]]
    network = Network(sizes, act_fct, err_fct, bool(linear_output))
    threshold = checks.real("threshold", threshold, minimum=0.0, open_low=True)
    most = _whole("stepmax", stepmax)
    repetitions = checks.positive_int("rep", rep)
    algorithm = checks.one_of("algorithm", algorithm, ALGORITHMS)
    rates = _rates(learningrate_limit, learningrate_factor, learningrate, algorithm)
    checks.one_of("lifesign", lifesign, _LIFESIGNS)
    every = checks.positive_int("lifesign_step", lifesign_step)
    excluded, constants = _excluded(network, exclude, constant_weights)
    free = np.ones(network.flat.size, bool)
    free[_in_rows(network)[excluded]] = False
    starts = _starts(network, startweights, repetitions, excluded, constants, seed)
    count = network.flat.size - len(excluded) + int(np.count_nonzero(constants)) if likelihood else None

    kept: list[Repetition] = []
    for number, start in enumerate(starts, 1):
        began = perf_counter()
        network.flat[...] = start
        progress = Progress(report=_reporter(lifesign, every, threshold))
        over = train(network, found.covariates, found.response, free, algorithm, rates, threshold, most, progress)
        if lifesign != "none":
            found_out = {} if count is None else criteria(progress.error, count, len(found.response))
            _say(network, threshold, f"{number}/{repetitions}", over, progress, found_out, perf_counter() - began)
        if not np.isfinite(progress.error + progress.reached):
            said = f"the error is {progress.error:g}, its largest derivative {progress.reached:g}"
            warnings.warn(f"'err_fct' does not fit 'data' or 'act_fct': {said}", stacklevel=2)
        if over:
            kept.append(Repetition(network.flat.copy(), start, progress.error, progress.reached, progress.steps))
    if len(kept) < repetitions:
        missing = f"{repetitions - len(kept)} of {repetitions} repetition(s)"
        warnings.warn(
            f"Algorithm did not converge in {missing} within the stepmax.",
            ConvergenceWarning,
            stacklevel=2,
        )
    call = f"neuralnet({formula!r}, hidden={tuple(sizes[1:-1])}, threshold={threshold:g}, algorithm={algorithm!r})"
    return NeuralNet(found, network, free, count, kept, call, data, exclude)


def _hidden(hidden: Any) -> list[int]:
    units = (
        [hidden] if isinstance(hidden, (int, np.integer)) or not isinstance(hidden, (Sequence, np.ndarray)) else hidden
    )
    sizes = [checks.integer("hidden", each, 0) for each in units]
    if 0 in sizes and len(sizes) > 1:
        raise ValueError(f"hidden: got {tuple(sizes)}, wants a unit or more in each layer, or 0 alone for none")
    return [] if sizes == [0] else sizes


def _whole(name: str, value: Any) -> int:
    """A number of steps, which R's users write as 1e5."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return checks.positive_int(name, value)


def _pair(name: str, value: Any, keys: tuple[str, str], defaults: tuple[float, float]) -> list[float]:
    """Two positive numbers, of a pair or of a mapping that may lack one."""
    if value is None:
        return list(defaults)
    if isinstance(value, Mapping):
        for key in value:
            checks.one_of(name, key, keys)
        value = [value.get(key, default) for key, default in zip(keys, defaults, strict=True)]
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)) or len(value) != 2:
        raise ValueError(f"{name}: got {checks.describe(value)}, wants two numbers, {keys[0]} and {keys[1]}")
    return [
        checks.real(f"{name}[{key!r}]", each, minimum=0.0, open_low=True) for key, each in zip(keys, value, strict=True)
    ]


def _rates(limit: Any, factor: Any, rate: Any, algorithm: str) -> Rates:
    least, most = _pair("learningrate_limit", limit, ("min", "max"), (Rates.least, Rates.most))
    minus, plus = _pair("learningrate_factor", factor, ("minus", "plus"), (Rates.minus, Rates.plus))
    if least > most:
        raise ValueError(f"learningrate_limit: got {least:g} above {most:g}, wants the smaller number first")
    if not minus < 1 < plus:
        raise ValueError(f"learningrate_factor: got {minus:g} and {plus:g}, wants numbers below and above 1")
    if algorithm != "backprop":
        return Rates(least, most, minus, plus)
    if rate is None:
        raise ValueError("learningrate: got None, wants a number if the algorithm is 'backprop'")
    return Rates(least, most, minus, plus, checks.real("learningrate", rate, minimum=0.0, open_low=True))


# ------------------------------------------------------------------------------------------------- R's order of weights


def _in_rows(network: Network) -> Array:
    """Where in ``flat`` the weights lie, in R's order."""
    places = network.parts(np.arange(network.flat.size))
    return np.concatenate([part.T.ravel() for part in places])


def _excluded(network: Network, exclude: Any, constants: Any) -> tuple[Array, Array]:
    """Places in R's order, from 0, that are not trained, and what these weights are."""
    size = network.flat.size
    if exclude is None:
        if constants is not None:
            raise ValueError("constant_weights: got numbers without exclude, wants the weights that they are of, too")
        return np.empty(0, np.int64), np.empty(0)
    found: Array = np.asarray(exclude) if np.size(exclude) else np.empty(0, np.int64)
    whole = found.dtype.kind in "iu" or (found.dtype.kind == "f" and bool((found == np.round(found)).all()))
    if not whole or found.ndim not in (1, 2) or (found.ndim == 2 and found.shape[1] != 3):
        raise ValueError(
            f"exclude: got {checks.describe(exclude)}, wants rows (layer, input, unit) or places of weights"
        )
    found = found.astype(np.int64)
    if found.ndim == 2:
        shapes = np.array(network.shapes)
        known = (found[:, 0] >= 1) & (found[:, 0] <= len(shapes))
        if not known.all() or (found < 1).any() or (found[:, 1:] > shapes[found[:, 0] - 1]).any():
            raise ValueError(f"exclude: got {found.tolist()}, wants weights of layers of shapes {network.shapes}")
        begins = np.r_[0, np.cumsum(shapes.prod(axis=1))]
        found = begins[found[:, 0] - 1] + (found[:, 2] - 1) * shapes[found[:, 0] - 1, 0] + found[:, 1]
    if found.size and (found.min() < 1 or found.max() > size):
        raise ValueError(f"exclude: got place {found.min() if found.min() < 1 else found.max()}, wants 1 to {size}")
    places, counts = np.unique(found - 1, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"exclude: got place {places[counts.argmax()] + 1} more than once, wants each weight once")
    places = found - 1
    if len(places) >= size:
        raise ValueError(f"exclude: got all {size} weights, wants one or more that are trained")
    if constants is None:
        return places, np.zeros(len(places))
    values = _finite("constant_weights", constants)
    if len(values) > len(places):
        wants = f"{len(places)} at most, one for each excluded weight"
        raise ValueError(f"constant_weights: got {len(values)} numbers, wants {wants}")
    return places, np.r_[values, np.zeros(len(places) - len(values))]


def _starts(network: Network, given: Any, rep: int, excluded: Array, constants: Array, seed: int | None) -> list[Array]:
    """The weights that each repetition begins with, as they lie in ``flat``."""
    random = seeds.generator() if seed is None else np.random.default_rng(checks.integer("seed", seed, 0))
    order, size = _in_rows(network), network.flat.size
    numbers = random.standard_normal(size * rep) if given is None else _given_weights(network, given)
    free = np.setdiff1d(np.arange(size), excluded)
    known = [places for places in (free, np.arange(size)) if numbers.size in (len(places), len(places) * rep)]
    if not known:
        raise ValueError(f"startweights: got {numbers.size} numbers, wants {size} for each repetition")
    places, starts = known[0], []
    for drawn in np.resize(numbers, (rep, len(places))):
        values = np.empty(size)
        values[places] = drawn
        values[excluded] = constants
        start = np.empty(size)
        start[order] = values
        starts.append(start)
    return starts


def _given_weights(network: Network, given: Any) -> Array:
    """Numbers one behind the other: as they are, of the layers' matrices, or of repetitions' lists of these."""
    entries = [*given] if isinstance(given, (list, tuple)) else []
    if entries and all(isinstance(each, (list, tuple)) and len(each) and _is_matrix(each[0]) for each in entries):
        return np.concatenate([_given_weights(network, each) for each in entries])
    if not any(map(_is_matrix, entries)):
        return _finite("startweights", given)
    shapes = [np.shape(each) for each in entries]
    if shapes != network.shapes:
        raise ValueError(f"startweights: got matrices of shapes {shapes}, wants {network.shapes}")
    return np.concatenate([_finite("startweights", np.transpose(each)) for each in entries])


def _is_matrix(value: Any) -> bool:
    return np.ndim(value) > 1


def _finite(name: str, given: Any) -> Array:
    """Numbers one behind the other."""
    numbers = np.asarray(given)
    if numbers.dtype.kind not in "fiub":
        raise TypeError(f"{name}: got {checks.describe(given)}, wants numbers")
    numbers = numbers.astype(np.float64).ravel()
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name}: got a number that is not finite, wants numbers")
    return numbers


# ----------------------------------------------------------------------------------------------------------- lifesigns


def _reporter(lifesign: str, every: int, threshold: float) -> Callable[[int, float, float], None]:
    def report(step: int, error: float, reached: float) -> None:
        if lifesign == "full" and step % every == 0:
            print(f"  {step:8}\tmin thresh: {reached:.6g} (threshold {threshold:g})")

    return report


def _say(
    network: Network,
    threshold: float,
    rep: str,
    over: bool,
    progress: Progress,
    found_out: Mapping[str, float],
    seconds: float,
) -> None:
    hidden = ", ".join(map(str, network.sizes[1:-1])) or "0"
    parts = [f"hidden: {hidden}", f"thresh: {threshold:g}", f"rep: {rep}"]
    if over:
        parts += [f"steps: {progress.steps:8}", f"error: {progress.error:.5f}"]
        parts += [f"{name}: {value:.5f}" for name, value in found_out.items()]
    else:
        parts += ["steps:  stepmax", f"min thresh: {progress.least_reached:.6g}"]
    print("    ".join([*parts, f"time: {seconds:.2f} secs"]))
