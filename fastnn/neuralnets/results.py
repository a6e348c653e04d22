"""What ``neuralnet`` returns: weights and how they came about, outputs, generalised weights, confidence intervals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn import checks, differentiation, files, plotting, programs
from fastnn.errors import installing
from fastnn.neuralnets.frames import Frame
from fastnn.neuralnets.networks import Network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]

# Of a weight, on both sides of it, for the Hessian by central differences of the gradient.
_DIFFERENCE = 1e-5


class ConvergenceWarning(UserWarning):
    """Repetitions that were not over within stepmax; they are no part of the result."""


class Computed(NamedTuple):
    """All units' values, (n, 1 + units) of each layer with a column of ones first, and the outputs (n, responses)."""

    neurons: list[Array]
    net_result: Array


class ConfidenceInterval(NamedTuple):
    """Bounds of the weights, for each repetition its layers' matrices, and the network information criterion."""

    lower_ci: list[list[Array]]
    upper_ci: list[list[Array]]
    nic: list[float]


@dataclass(frozen=True)
class Repetition:
    """Weights at the end and at the beginning, as they lie in the network; the end's error, threshold and steps."""

    flat: Array
    start: Array
    error: float
    reached: float
    steps: int


def criteria(error: float, weights: int, rows: int) -> dict[str, float]:
    """The information criteria of Akaike and Bayes, where the error is the negative log-likelihood."""
    return {"aic": 2 * error + 2 * weights, "bic": 2 * error + float(np.log(rows)) * weights}


class NeuralNet:
    """A trained network, with as many sets of weights as repetitions have converged: R's object of class nn.

    ``weights`` and ``startweights`` are, for each repetition, matrices (inputs + 1, units) of the layers, the
    intercepts in the first row. ``data`` is what was given, ``covariate`` (n, covariates) and ``response``
    (n, responses) what the formula makes of it, ``net_result`` the outputs for these, ``result_matrix`` what training
    has come to.
    """

    def __init__(
        self,
        frame: Frame,
        network: Network,
        free: Array,
        count: int | None,
        repetitions: Sequence[Repetition],
        call: str,
        data: Any,
        exclude: Any,
    ) -> None:
        """``count`` is the number of weights that criteria go by, None where the error is no likelihood."""
        self._frame, self._network, self._free, self._count = frame, network, free, count
        self._repetitions, self.call, self.data, self.exclude = list(repetitions), call, data, exclude
        self.covariate, self.response = frame.covariates, frame.response
        self.model_list = {"response": frame.response_names, "variables": frame.covariate_names}
        self.weights = [network.parts(each.flat) for each in self._repetitions]
        self.startweights = [network.parts(each.start) for each in self._repetitions]
        self.act_fct, self.err_fct, self.linear_output = network.act_fct, network.err_fct, network.linear_output

    # ------------------------------------------------------------------------------------------------------- results

    @property
    def weight_names(self) -> list[str]:
        """Of all weights in R's order: "Intercept.to.1layhid1", "1layhid1.to.setosa", ..."""
        names: list[str] = []
        hidden = self._network.sizes[1:-1]
        below: Sequence[str] = self._frame.covariate_names
        for layer, units in enumerate(self._network.sizes[1:], 1):
            last = layer > len(hidden)
            above = self._frame.response_names if last else [f"{layer}layhid{unit}" for unit in range(1, units + 1)]
            names += [f"{source}.to.{target}" for target in above for source in ("Intercept", *below)]
            below = above
        return names

    @property
    def results(self) -> list[dict[str, float]]:
        """For each repetition: error, reached_threshold, steps, with ``likelihood`` aic and bic, and all weights."""
        return [self._result(number) for number in range(len(self._repetitions))]

    @property
    def result_matrix(self) -> Any:
        """``results`` by R's names ("reached.threshold"), a data frame with a column for each repetition.

        It needs pandas.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError(f"result_matrix needs pandas, results does not: {installing('neuralnet')}") from None
        return pandas.DataFrame(dict(enumerate(self.results, 1))).rename({"reached_threshold": "reached.threshold"})

    @cached_property
    def net_result(self) -> list[Array]:
        """The outputs (n, responses) of each repetition for the data."""
        return [self.predict(self.covariate, rep) for rep in range(1, 1 + len(self._repetitions))]

    @cached_property
    def generalized_weights(self) -> list[Array]:
        """How each covariate acts on the log-odds of each response, row by row (Intrator and Intrator 2001).

        For each repetition (n, responses * covariates): do/dx / (o (1 - o)) of all covariates for the first response,
        then for the next.
        """
        return [self._generalized(rep) for rep in range(1, 1 + len(self._repetitions))]

    # ------------------------------------------------------------------------------------------------------- outputs

    def compute(self, data: Any, rep: int = 1) -> Computed:
        """All units' values, by one repetition's weights, for a data frame with the covariates or an array of them."""
        x = self._frame.covariates_of(data)
        with_ones = [np.column_stack([np.ones(len(x)), values]) for values in [x, *self._layers(x, rep)[:-1]]]
        return Computed(with_ones, self._layers(x, rep)[-1])

    def predict(self, data: Any, rep: int = 1, all_units: bool = False) -> Any:
        """The outputs (n, responses) of one repetition; with ``all_units`` a list of all layers' values."""
        checks.instance("all_units", all_units, (bool, np.bool_), "True or False")
        x = self._frame.covariates_of(data)
        layers = self._layers(x, rep)
        return [x, *layers] if all_units else layers[-1]

    def prediction(self) -> dict[str, Array]:
        """Each combination of covariates that there is, once: "rep1", ... its outputs, "data" its mean response.

        Arrays (combinations, covariates + responses), in the order of the covariates.
        """
        self._wanted(1)
        rows, inverse, counts = np.unique(self.covariate, axis=0, return_inverse=True, return_counts=True)
        sums = np.zeros((len(rows), self.response.shape[1]))
        np.add.at(sums, np.ravel(inverse), self.response)
        outputs = {f"rep{rep}": self.predict(rows, rep) for rep in range(1, 1 + len(self._repetitions))}
        outputs["data"] = sums / counts[:, None]
        return {name: np.column_stack([rows, values]) for name, values in outputs.items()}

    def confidence_interval(self, alpha: float = 0.05) -> ConfidenceInterval:
        """Bounds of each weight that hold it with probability 1 - ``alpha`` (White 1989), weights being identified.

        With H the Hessian of the error and J the sum over rows of gradient times gradient^T, weights have the
        covariance H^-1 J H^-1, and NIC = error + trace(J H^-1) (Murata et al. 1994). The error has to be the negative
        log-likelihood. Excluded weights are their own bounds. A Hessian that is singular is a ValueError.
        """
        self._wanted(1)
        quantile = NormalDist().inv_cdf(
            1 - checks.real("alpha", alpha, minimum=0.0, maximum=1.0, open_low=True, open_high=True) / 2
        )
        lower, upper, nic = [], [], []
        for number, each in enumerate(self._repetitions, 1):
            hessian, outer = self._information(number)
            if np.linalg.matrix_rank(hessian) < len(hessian):
                raise ValueError(
                    f"confidence_interval: got weights of repetition {number} whose Hessian is singular, wants a "
                    "network in which no weight can stand for others"
                )
            inverse = np.linalg.inv(hessian)
            spread = np.zeros_like(each.flat)
            spread[self._free] = quantile * np.sqrt((inverse @ outer @ inverse).diagonal())
            lower.append(self._network.parts(each.flat - spread))
            upper.append(self._network.parts(each.flat + spread))
            nic.append(each.error + float(np.trace(outer @ inverse)))
        return ConfidenceInterval(lower, upper, nic)

    # ------------------------------------------------------------------------------------------------------- pictures

    def plot(
        self,
        rep: int | str = "best",
        file: str | os.PathLike[str] | None = None,
        *,
        show_weights: bool | None = None,
        digits: int = 5,
    ) -> Figure:
        """Draw the network with its weights, error and steps, and write it to ``file`` (.png, .svg, .pdf).

        ``rep`` is the number of a repetition, or "best" for the one with the least error. The numbers of weights have
        so many significant ``digits``; ``show_weights`` None writes them where they can be read.
        """
        self._wanted(1)
        errors = [each.error for each in self._repetitions]
        chosen = int(np.argmin(errors)) + 1 if rep == "best" else self._wanted(rep)
        each = self._repetitions[chosen - 1]
        digits = checks.integer("digits", digits, 1, 17)
        checks.instance("show_weights", show_weights, (bool, np.bool_, type(None)), "True, False or None")
        if file is not None:
            files.check_writable("file", files.checked_path("file", file))
        figure = plotting.network_figure(
            self.weights[chosen - 1],
            inputs=self._frame.covariate_names,
            outputs=self._frame.response_names,
            caption=f"Error: {each.error:.6f}   Steps: {each.steps}",
            values=show_weights,
            digits=digits,
        )
        if file is not None:
            plotting.save(figure, file)
        return figure

    def summary(self) -> str:
        """What R prints of the object."""
        count = len(self._repetitions)
        lines = [f"Call: {self.call}", "", f"{count} repetition{'s were' if count != 1 else ' was'} calculated."]
        if count:
            lines += ["", f"{'':3} {'Error':>14} {'Reached Threshold':>18} {'Steps':>8}"]
        order = sorted(range(count), key=lambda number: self._repetitions[number].error)
        for number in order:
            each = self._repetitions[number]
            lines.append(f"{number + 1:<3} {each.error:14.7g} {each.reached:18.7g} {each.steps:8}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.summary()

    # --------------------------------------------------------------------------------------------------------- insides

    def _wanted(self, rep: Any) -> int:
        """The number of a repetition, checked."""
        if not self._repetitions:
            raise ValueError("weights were not calculated: no repetition converged within stepmax")
        return checks.integer("rep", rep, 1, len(self._repetitions))

    def _operands(self, rep: Any) -> list[Array]:
        return self._network.operands(self._repetitions[self._wanted(rep) - 1].flat)

    def _layers(self, x: Array, rep: Any) -> list[Array]:
        return [np.asarray(layer) for layer in self._network.layers(x, self._operands(rep))]

    def _result(self, number: int) -> dict[str, float]:
        each = self._repetitions[number]
        result: dict[str, float] = {"error": each.error, "reached_threshold": each.reached, "steps": each.steps}
        if self._count is not None:
            result |= criteria(each.error, self._count, len(self.response))
        in_order = np.concatenate([matrix.T.ravel() for matrix in self.weights[number]])
        return {**result, **dict(zip(self.weight_names, in_order.tolist(), strict=True))}

    def _generalized(self, rep: int) -> Array:
        operands = self._operands(rep)
        outputs, pull = differentiation.vjp(lambda x: self._network.layers(x, operands)[-1], (self.covariate,))
        columns = []
        for place in range(outputs.shape[1]):
            chosen = np.zeros_like(outputs)
            chosen[:, place] = 1.0
            (slope,) = pull((chosen,))
            odds = outputs[:, place] * (1.0 - outputs[:, place])
            columns.append(slope / odds[:, None])
        return np.column_stack(columns)

    def _information(self, rep: int) -> tuple[Array, Array]:
        """The Hessian of the error, and the sum of outer products of rows' gradients, by the free weights."""
        at, places = self._repetitions[rep - 1].flat.copy(), np.flatnonzero(self._free)
        slopes = programs.program(self._network.slopes)
        rows = [slopes(x[None], y[None], at)[1][places] for x, y in zip(self.covariate, self.response, strict=True)]
        hessian = np.empty((len(places), len(places)))
        for row, place in zip(hessian, places, strict=True):
            value = at[place]
            step = _DIFFERENCE * max(1.0, abs(value))
            sides = []
            for at[place] in (value + step, value - step):
                sides.append(slopes(self.covariate, self.response, at)[1][places])
            at[place] = value
            row[...] = (sides[0] - sides[1]) / (2 * step)
        return (hessian + hessian.T) / 2, np.transpose(rows) @ np.array(rows)
