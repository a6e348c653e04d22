"""scikit-learn's networks, ``MLPClassifier`` and ``MLPRegressor``, trained by compiled calls of whole epochs.

Initial weights, orders of samples and splits are drawn from ``random_state`` as scikit-learn draws them, so that with
an equal one coefficients are equal to rounding. Batches go through the trainer's engine: its steps of SGD, momentum,
Nesterov and Adam are scikit-learn's. Its penalties are not, which scikit-learn divides by the batch's samples or the
sum of their weights, nor the figure of squared errors, half their mean where gradients are of half their sum: for these
the engine has ``averaged_penalties`` and ``figure_scale``. L-BFGS is SciPy's, on the engine's loss and gradient of all
samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import check_is_fitted

from fastnn import optimizers
from fastnn.engine.protocols import Array
from fastnn.kernels.precision import ROUNDED
from fastnn.kernels.table import ACTIVATIONS
from fastnn.optimizers import Optimizer
from fastnn.sklearn.networks import Objective, Outputs, Training, Weights
from fastnn.sklearn.objectives import objective, targets
from fastnn.sklearn.solvers import Solver, solver_of
from fastnn.sklearn.versions import (
    Interval,
    Options,
    StrOptions,
    check_optimize_result,
    check_sample_weight,
    fit_context,
    is_first_partial_fit,
    validate_data,
)

_LBFGS = "lbfgs"
_SPARSE = ("csr", "csc")
_DTYPES = (np.float64, np.float32)
# Samples of a batch by batch_size="auto".
_BATCH = 200

# Samples, targets as binarised rows or numbers, weights of samples or None.
Samples = tuple[Any, Array, Array | None]


class _Multilayer(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor share."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"identity", "logistic", *ACTIVATIONS}), callable, list, tuple],
        "solver": [StrOptions({_LBFGS, *map(str.lower, optimizers.NAMES)}), Optimizer],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
        "backend": [StrOptions({"auto", "cpu", "cuda", "naive"})],
        "precision": [StrOptions({"auto", *ROUNDED}), None],
    }

    # ------------------------------------------------------------------------------------------------------ parameters

    @property
    def _is_stochastic(self) -> bool:
        return not (isinstance(self.solver, str) and self.solver == _LBFGS)

    def _has_partial_fit(self) -> bool:
        if not self._is_stochastic:
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    def _hidden(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _by_layer(self, name: str, hidden: int) -> list[Any]:
        """A parameter that may be given by hidden layer."""
        value = getattr(self, name)
        if not isinstance(value, (list, tuple)):
            return [value] * hidden
        if len(value) != hidden:
            raise ValueError(f"{name}: got {len(value)} values, wants one, or one for each of {hidden} hidden layers")
        return list(value)

    def _rates_of_dropout(self, hidden: int) -> list[float]:
        rates = self._by_layer("dropout", hidden)
        for rate in rates:
            if not isinstance(rate, Real) or not 0 <= float(rate) < 1:
                raise ValueError(f"dropout: got {rate!r}, wants numbers in [0, 1)")
        return [float(rate) for rate in rates]

    # ------------------------------------------------------------------------------------------------------------- fit

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> Any:
        """Fit the network; a new one, or with ``warm_start`` the one that there is.

        X (n, features) is an array, a data frame or a sparse matrix, which stays one; y (n,) or (n, outputs);
        ``sample_weight`` (n,). ``validation_data``, (X, y) or (X, y, sample_weight), is scored after every epoch: with
        ``early_stopping`` in place of a part of X, else only for ``validation_scores_``. Stochastic solvers only.
        """
        return self._fit(X, y, sample_weight, validation_data=validation_data)

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool = False, validation_data: Any = None) -> Any:
        hidden = self._hidden()
        activations, dropout = self._by_layer("activation", len(hidden)), self._rates_of_dropout(len(hidden))
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y = self._validate_input(X, y, incremental, reset=first)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X)
        y = y.reshape(-1, 1) if y.ndim == 1 else y
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        held_out = None if validation_data is None else self._validation(validation_data)
        self.n_outputs_ = y.shape[1]
        self._random_state = check_random_state(self.random_state)
        if first:
            self._initialize([X.shape[1], *hidden, self.n_outputs_], activations, X.dtype, held_out is not None)
        self._activations = activations
        if self._is_stochastic:
            self._fit_stochastic((X, y, sample_weight), dropout, incremental, held_out)
        else:
            self._fit_lbfgs((X, y, sample_weight))
        if not all(np.isfinite(weights).all() for weights in (*self.coefs_, *self.intercepts_)):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            )
        return self

    def _validation(self, given: Any) -> Samples:
        """Samples, targets as they are scored, and weights of a validation set of the user's."""
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise ValueError("validation_data: got something else, wants (X, y) or (X, y, sample_weight)")
        if not self._is_stochastic:
            raise ValueError("validation_data: got some for the solver 'lbfgs', which has no epochs; wants None")
        X, y, *weight = given
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=_SPARSE,
            multi_output=True,
            dtype=_DTYPES,
            reset=False,
            y_numeric=not is_classifier(self),
        )
        y = column_or_1d(y) if y.ndim == 2 and y.shape[1] == 1 else y
        return X, y, check_sample_weight(weight[0], X) if weight and weight[0] is not None else None

    def _initialize(self, units: Sequence[int], activations: Sequence[Any], dtype: Any, held_out: bool) -> None:
        """All attributes as before the first epoch, weights drawn by Glorot and Bengio (2010)."""
        self.n_iter_, self.t_, self.n_layers_ = 0, 0, len(units)
        self.out_activation_ = self._out_activation()
        behind = [*activations, activations[-1] if activations else self.activation]
        drawn = [self._drawn(*ends, name, dtype) for ends, name in zip(pairwise(units), behind, strict=True)]
        self.coefs_, self.intercepts_ = ([pair[part] for pair in drawn] for part in (0, 1))
        if not self._is_stochastic:
            return
        self.loss_curve_: list[float] = []
        self._no_improvement_count = 0
        scored = self.early_stopping or held_out
        self.validation_scores_: Any = [] if scored else None
        self.best_validation_score_: Any = -np.inf if scored else None
        self.best_loss_: Any = None if self.early_stopping else np.inf
        if scored:
            self._keep_best()

    def _drawn(self, inputs: int, outputs: int, activation: Any, dtype: Any) -> tuple[Array, Array]:
        bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (inputs + outputs))
        draw = partial(self._random_state.uniform, -bound, bound)
        return draw((inputs, outputs)).astype(dtype, copy=False), draw(outputs).astype(dtype, copy=False)

    def _keep_best(self) -> None:
        self._best_coefs = [coef.copy() for coef in self.coefs_]
        self._best_intercepts = [intercept.copy() for intercept in self.intercepts_]

    def _own_weights(self, dtype: Any) -> None:
        """Make the weights contiguous arrays of ``dtype`` that training may write to."""
        self.coefs_, self.intercepts_ = (
            [np.require(array, dtype, ["C", "W", "A"]) for array in arrays]
            for arrays in (self.coefs_, self.intercepts_)
        )

    def _weights(self, out_activation: str) -> Weights:
        hidden = len(self.coefs_) - 1
        activations = getattr(self, "_activations", None) or self._by_layer("activation", hidden)
        return Weights(self.coefs_, self.intercepts_, [*activations, out_activation])

    def _trained(self, samples: Samples, dropout: Sequence[float] = ()) -> tuple[list[Any], Any, Samples]:
        """Layers to be trained, the loss, and the samples with targets as it takes them."""
        X, y, sample_weight = samples
        loss = objective(self.loss, self.out_activation_, y.shape[1], self.coefs_[0].dtype)
        link = "identity" if self.out_activation_ == "exp" else self.out_activation_  # the loss takes logarithms
        seed = int(self._random_state.randint(2**31 - len(dropout))) if any(dropout) else 0
        layers = self._weights(link).layers(float(self.alpha), dropout, seed)
        return layers, loss, (X, targets(loss, y, self.coefs_[0].dtype), sample_weight)

    # ---------------------------------------------------------------------------------------------------------- L-BFGS

    def _fit_lbfgs(self, samples: Samples) -> None:
        from scipy.optimize import minimize

        self._own_weights(np.result_type(samples[0].dtype, self.coefs_[0].dtype))
        objective = self._objective(samples)
        result = minimize(
            objective,
            objective.packed(),
            method="L-BFGS-B",
            jac=True,
            options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
        )
        self.n_iter_ = check_optimize_result(_LBFGS, result, self.max_iter)
        self.loss_ = result.fun
        self.coefs_, self.intercepts_ = objective.unpacked(result.x)

    def _objective(self, samples: Samples) -> Objective:
        layers, loss, given = self._trained(samples)
        return Objective(layers, loss, given, self.backend)

    def _loss_grad_lbfgs(self, packed_coef_inter: Array, X: Any, y: Array, *others: Any) -> tuple[float, Array]:
        """Loss and gradient of binarised targets for weights in one vector.

        The name and arguments are those that scikit-learn's own tests use: sample weights, from version 1.7 on, and
        four lists to be filled, which are not needed.
        """
        sample_weight = others[0] if len(others) % 4 else None
        return self._objective((X, y, sample_weight))(packed_coef_inter)

    # ------------------------------------------------------------------------------------------------------ stochastic

    def _fit_stochastic(
        self, samples: Samples, dropout: Sequence[float], incremental: bool, held_out: Samples | None
    ) -> None:
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer: Solver = solver_of(self)
        if self.early_stopping and held_out is None:
            samples, held_out = self._split(*samples)
        X, rows = samples[0], samples[0].shape[0]
        self._own_weights(np.result_type(X.dtype, self.coefs_[0].dtype))
        layers, loss, given = self._trained(samples, dropout)
        training = Training(
            layers, loss, self._optimizer.optimizer, given, self._rows_of_batch(rows), self.backend, self.precision
        )
        try:
            with training.staying() if held_out is None else nullcontext():
                self._train(training, rows, incremental, held_out)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        if self.early_stopping:
            self.coefs_, self.intercepts_ = self._best_coefs, self._best_intercepts

    def _rows_of_batch(self, rows: int) -> int:
        if isinstance(self.batch_size, str):
            return min(_BATCH, rows)
        if self.batch_size > rows:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5
            )
        return int(min(self.batch_size, rows))

    def _split(self, X: Any, y: Array, sample_weight: Array | None) -> tuple[Samples, Samples]:
        """The samples to train on, and those to score, drawn as scikit-learn draws them."""
        stratify = y if is_classifier(self) and self.n_outputs_ == 1 else None
        arrays = [X, y] if sample_weight is None else [X, y, sample_weight]
        parts = train_test_split(
            *arrays, random_state=self._random_state, test_size=self.validation_fraction, stratify=stratify
        )
        X, X_held, y, y_held, *weights = parts
        if X_held.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        y_held = self._label_binarizer.inverse_transform(y_held) if is_classifier(self) else y_held
        weight, weight_held = weights or (None, None)
        return (X, y, weight), (X_held, y_held, weight_held)

    def _train(self, training: Training, rows: int, incremental: bool, held_out: Samples | None) -> None:
        """Epoch after epoch, until nothing improves."""
        order = np.arange(rows)
        self.n_iter_ = 0
        while True:
            if self.shuffle:
                drawn = np.arange(rows)
                self._random_state.shuffle(drawn)
                order = order[drawn]
            self._count_epoch(training, order)
            self._score_epoch(held_out)
            self._optimizer.end_epoch(self.t_)
            if self._no_improvement_count > self.n_iter_no_change:
                if self._optimizer.is_stopped(self._reason(), self.verbose):
                    return
                self._no_improvement_count = 0
            if incremental:
                return
            if self.n_iter_ == self.max_iter:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                    "converged yet.",
                    ConvergenceWarning,
                    stacklevel=6,
                )
                return

    def _count_epoch(self, training: Training, order: Array) -> None:
        """Train for an epoch, and tell of it."""
        self.loss_ = training.epoch(order)
        self.n_iter_ += 1
        self.t_ += order.size
        self.loss_curve_.append(self.loss_)
        if self.verbose:
            print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")

    def _score_epoch(self, held_out: Samples | None) -> None:
        """Count epochs without improvement, of the score that was held out for or else of the loss."""
        if held_out is not None:
            X, y, weight = held_out
            score = self._score(X, y, weight)
            self.validation_scores_.append(score)
            if self.verbose:
                print(f"Validation score: {score:f}")
            if self.early_stopping:
                worse = score < self.best_validation_score_ + self.tol
            if score > self.best_validation_score_:
                self.best_validation_score_ = score
                self._keep_best()
        if not self.early_stopping:
            worse = self.loss_ > self.best_loss_ - self.tol
            self.best_loss_ = self.loss_ if self.loss_ < self.best_loss_ else self.best_loss_
        self._no_improvement_count = self._no_improvement_count + 1 if worse else 0

    def _reason(self) -> str:
        what = "Validation score" if self.early_stopping else "Training loss"
        return f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change:d} consecutive epochs."

    # --------------------------------------------------------------------------------------------------------- predict

    def _outputs(self, X: Any, check_input: bool = True) -> Array:
        """Outputs (n, outputs) behind the last activation."""
        if check_input:
            X = validate_data(self, X, accept_sparse=_SPARSE, reset=False)
        return Outputs(self._weights(self.out_activation_), self.backend)(X)

    def predict(self, X: Any) -> Array:
        """Predict for samples X (n, features), an array, a data frame or a sparse matrix."""
        check_is_fitted(self)
        return self._predict(X)

    def _score(self, X: Any, y: Array, sample_weight: Array | None) -> float:
        """The score of samples that are validated already, NaN where outputs are not finite."""
        outputs = self._outputs(X, check_input=False)
        if not np.isfinite(outputs).all():
            return np.nan
        return float(self._SCORE(y, self._decided(outputs), sample_weight=sample_weight))

    def _predict(self, X: Any) -> Array:
        found: Array = self._decided(self._outputs(X))
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class MLPClassifier(ClassifierMixin, _Multilayer):  # type: ignore[misc]
    """A network that minimises the cross-entropy of classes, with scikit-learn's parameters, attributes and rules.

    One output with the logistic function for two classes, one of each class with softmax for more, and for rows of 0
    and 1 (several labels) one with the logistic function for each label. All parameters are scikit-learn's, with its
    defaults and meaning, but that

    - ``activation`` may be any activation of fastnn's, by name or as a function, or a tuple with one for each hidden
      layer;
    - ``solver`` may be the name of any optimizer of fastnn's, which takes ``learning_rate_init`` and is otherwise as it
      is by default, or an optimizer object, which is copied for each fit;

    and beyond it there are

    - ``dropout``: the share of a hidden layer's outputs that training drops, or a tuple with one for each hidden layer;
    - ``backend``: "auto", "cpu", "cuda" or "naive";
    - ``precision``: None, "bfloat16", "tf32" or "auto", that of products in training.

    Inputs of float32 are computed in float32, all others in float64. Sparse matrices stay sparse: zeros are skipped.
    """

    _SCORE = staticmethod(accuracy_score)

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        backend: str = "auto",
        precision: str | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.backend = backend
        self.precision = precision

    # What scikit-learn's is set to; no parameter of a classifier.
    loss = "log_loss"

    @available_if(lambda self: self._has_partial_fit())
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """One epoch on X and y; the first call says by ``classes`` all that there will be."""
        if is_first_partial_fit(self, classes):
            self._label_binarizer = LabelBinarizer().fit(y if type_of_target(y).startswith("multilabel") else classes)
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        """X and y as rows of bits, having made or checked the classes."""
        X, y = validate_data(self, X, y, accept_sparse=_SPARSE, multi_output=True, dtype=_DTYPES, reset=reset)
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_classes(unique_labels(y))
        return X, self._label_binarizer.transform(y).astype(bool)

    def _check_classes(self, found: Array) -> None:
        """ValueError unless a fit may go on with these classes."""
        if self.warm_start:
            if set(found) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {found}"
                )
        elif len(np.setdiff1d(found, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {found}."
            )

    def _out_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _decided(self, outputs: Array) -> Array:
        """Classes of outputs."""
        found: Array = self._label_binarizer.inverse_transform(outputs.ravel() if self.n_outputs_ == 1 else outputs)
        return found

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (n, classes), in the order of ``classes_``; of several labels those of each."""
        check_is_fitted(self)
        outputs = self._outputs(X)
        return np.hstack([1 - outputs, outputs]) if self.n_outputs_ == 1 else outputs

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of ``predict_proba``."""
        probabilities = self.predict_proba(X)
        logarithms: Array = np.log(probabilities, out=probabilities)
        return logarithms

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _more_tags(self) -> dict[str, Any]:
        """The same before scikit-learn 1.6."""
        return {"multilabel": True}


class MLPRegressor(RegressorMixin, _Multilayer):  # type: ignore[misc]
    """A network that minimises squared errors or a Poisson deviance, with scikit-learn's parameters and rules.

    ``loss`` is "squared_error", half the mean of squared errors, or "poisson", half the deviance of rates, which are
    exponentials of what the last layer gives, and of targets of at least 0. All else is as in ``MLPClassifier``.
    """

    _SCORE = staticmethod(r2_score)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_Multilayer._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        backend: str = "auto",
        precision: str | None = None,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.backend = backend
        self.precision = precision

    @available_if(lambda self: self._has_partial_fit())
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """One epoch on X and y."""
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        """X and y as numbers."""
        X, y = validate_data(
            self, X, y, accept_sparse=_SPARSE, multi_output=True, y_numeric=True, dtype=_DTYPES, reset=reset
        )
        if y.dtype.kind not in "biuf":
            raise TypeError(f"y: got {y.dtype}, wants numbers")
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _out_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _decided(self, outputs: Array) -> Array:
        """Outputs (n,) where there is one."""
        return outputs.ravel() if outputs.shape[1] == 1 else outputs
