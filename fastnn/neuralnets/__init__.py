"""R's neuralnet under its names, in snake case: networks of a formula over data, trained until they are still."""

from __future__ import annotations

from fastnn.neuralnets.fitting import neuralnet
from fastnn.neuralnets.results import Computed, ConfidenceInterval, ConvergenceWarning, NeuralNet

__all__ = ["Computed", "ConfidenceInterval", "ConvergenceWarning", "NeuralNet", "neuralnet"]
