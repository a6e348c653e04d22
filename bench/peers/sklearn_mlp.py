"""The same network in scikit-learn: ``MLPClassifier`` and ``MLPRegressor``, an epoch at a time by ``partial_fit``.

scikit-learn has no RMSprop. It trains with Adam at the same rate: its losses are others, the work is nearly the same.
Its products are NumPy's and SciPy's, on the threads of NumPy's BLAS.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import sklearn
from scipy import sparse
from sklearn.neural_network import MLPClassifier, MLPRegressor

from bench.peers.network import Network


class SklearnMLP:
    """A multi-layer perceptron on rows x (n, in) and targets y (n,)."""

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int) -> None:
        kind = MLPClassifier if network.classifies else MLPRegressor
        self._model = kind(
            hidden_layer_sizes=[len(bias) for _, bias in network.layers[:-1]],
            batch_size=min(batch_size, len(y)),
            learning_rate_init=network.learning_rate,
            alpha=0.0,
        )
        self._data = x, y
        self._scale = 1.0 if network.classifies else 2.0  # scikit-learn halves the squared error
        self._start(network)

    def _start(self, network: Network) -> None:
        """Give the model its first weights, in place of those that its first call of ``partial_fit`` makes."""
        x, y = self._data
        classes = {"classes": np.arange(len(network.weights[-1]))} if network.classifies else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one row is less than a batch
            self._model.partial_fit(x[:1], y[:1], **classes)
        made = [*self._model.coefs_, *self._model.intercepts_]
        for parameter, values in zip(made, [*network.weights[::2], *network.weights[1::2]], strict=True):
            parameter[...] = values

    def epoch(self, shuffle: bool = True) -> float:
        """One call of ``partial_fit``, without its search for NaN; mean loss."""
        self._model.set_params(shuffle=shuffle)
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            self._model.partial_fit(*self._data)
        return self._scale * float(self._model.loss_)


class SklearnCsrMLP(SklearnMLP):
    """The same on rows that are mostly zeros, as a CSR matrix."""

    def __init__(self, network: Network, x: Any, y: Any, batch_size: int) -> None:
        super().__init__(network, sparse.csr_matrix(x), y, batch_size)
