"""A network that is trained a little at a time, and what it looks like then."""

from __future__ import annotations

import math
import threading
from base64 import b64encode
from time import perf_counter
from typing import Any

import numpy as np

from fastnn import layers, losses, models, ops, optimizers, regularizers
from fastnn.engine import seeds
from fastnn.engine.protocols import Array
from fastnn.errors import DivergenceError
from fastnn.playground.problems import FEATURES, SIDE, features, points
from fastnn.playground.settings import COUNT, LOSSES, PENALTIES, RULES, Settings

SURFACE = 72  # places across of the picture of the output
NEURON = 24  # and of a neuron's; a divisor of the other
MOST_AT_ONCE = 1000  # epochs of one call that nothing can break into


class Training:
    """One tab's network and its points. Methods may be called by any thread; one call waits for the other."""

    _pace: float  # seconds of an epoch, when last measured; 0 before

    def __init__(self, settings: Settings) -> None:
        self._lock = threading.Lock()
        self._begin(settings)

    def change(self, settings: Settings) -> bool:
        """Go on by other settings; whether that meant to begin anew."""
        with self._lock:
            if settings.restarts(self.settings):
                self._begin(settings)
                return True
            self._go_on(settings)
            return False

    def restart(self) -> None:
        """Begin anew."""
        with self._lock:
            self._begin(self.settings)

    def train(self, epochs: int, seconds: float | None = None) -> None:
        """Train for so many epochs, or for fewer, at least one, that take about so many seconds."""
        with self._lock:
            end, stop = self.epoch + epochs, perf_counter() + (math.inf if seconds is None else seconds)
            while self.epoch < end and self.stopped is None:
                started = perf_counter()
                fitting = (stop - started) / self._pace if self._pace else 1.0
                some = max(1, int(min(fitting, end - self.epoch, MOST_AT_ONCE)))
                self._train(some)
                self._pace = (perf_counter() - started) / some
                if perf_counter() >= stop:
                    break

    def frame(self, whole: bool = False) -> dict[str, Any]:
        """What is to be seen now; ``whole`` adds what stays while training goes on: points, the features' pictures."""
        with self._lock:
            seen: dict[str, Any] = {
                "epoch": self.epoch,
                "train_loss": self._loss(self._train_x, self._train_y),
                "test_loss": self._loss(self._test_x, self._test_y),
                "weights": [weights.round(4).tolist() for weights in self._model.get_weights()],
                "stopped": self.stopped,
                **self._pictures(),
            }
            return {**seen, **self._lasting()} if whole else seen

    # ------------------------------------------------------------------------------------------------------- training

    def _begin(self, settings: Settings) -> None:
        self.settings, self.epoch = settings, 0
        self.stopped: str | None = None
        self._pace = 0.0
        self._random = np.random.default_rng(settings.seed)  # as utils.set_random_seed makes it
        self._loss_of = losses.get(LOSSES[settings.loss].loss)
        x, y = points(settings.problem, COUNT, settings.noise / 100, settings.seed)
        order = np.random.default_rng(settings.seed).permutation(COUNT)
        self._x, self._y = x[order], y[order]
        self._trained = settings.trained
        given = features(self._x, settings.features)
        wanted = (self._y[:, np.newaxis] + 1) / 2 if LOSSES[settings.loss].zero_one else self._y[:, np.newaxis]
        self._train_x, self._test_x = given[: self._trained], given[self._trained :]
        self._train_y, self._test_y = wanted[: self._trained], wanted[self._trained :]
        self._places = features(_grid(SURFACE), settings.features)
        self._model = self._compiled(settings)

    def _go_on(self, settings: Settings) -> None:
        """The same weights by other settings of the training."""
        before, self.stopped = self.settings, None
        self.settings = settings
        if {**before.values, "rate": 0, "batch": 0} == {**settings.values, "rate": 0, "batch": 0}:
            self._optimizer.learning_rate = settings.rate
            return
        weights, steps = self._model.get_weights(), self._optimizer.iterations
        self._model = self._compiled(settings)
        self._model.set_weights(weights)
        self._optimizer.iterations = steps

    def _compiled(self, settings: Settings) -> models.Sequential:
        stack: list[Any] = [layers.Input((len(settings.features),))]
        with seeds.drawing(self._random):
            for place, units in enumerate(settings.layers):
                stack.append(layers.Dense(units, settings.activation, kernel_regularizer=_penalty(settings)))
                if settings.dropout:
                    stack.append(layers.Dropout(settings.dropout / 100, seed=settings.seed + place))
            stack.append(layers.Dense(1, LOSSES[settings.loss].output, kernel_regularizer=_penalty(settings)))
            model = models.Sequential(stack)
        self._optimizer = optimizer(settings)
        model.compile(self._optimizer, LOSSES[settings.loss].loss, backend="cpu")
        return model

    def _train(self, epochs: int) -> None:
        try:
            with seeds.drawing(self._random):
                self._model.fit(
                    self._train_x,
                    self._train_y,
                    batch_size=self.settings.batch,
                    epochs=epochs,
                    verbose=0,
                    threads=1,
                )
        except DivergenceError:
            self.stopped = "the loss is not finite any more: a lower learning rate may help"
        self.epoch += epochs

    # ------------------------------------------------------------------------------------------------------- pictures

    def _loss(self, x: Array, y: Array) -> float | None:
        """The loss without penalties; None where it is not finite, which JSON has no number for."""
        value = float(self._loss_of(y, self._activations(x)[-1]))
        return value if np.isfinite(value) else None

    def _activations(self, x: Array) -> list[Array]:
        """What each layer gives for the rows of ``x``."""
        given = self._model.get_weights()
        settings = self.settings
        kinds = [settings.activation] * len(settings.layers) + [LOSSES[settings.loss].output]
        found = []
        for kernel, bias, activation in zip(given[::2], given[1::2], kinds, strict=True):
            x = ops.linear(x, kernel, bias, activation=activation)
            found.append(x)
        return found

    def _pictures(self) -> dict[str, Any]:
        *hidden, output = self._activations(self._places)
        shift = LOSSES[self.settings.loss].zero_one
        every = SURFACE // NEURON
        neurons = [_shades(_thinned(values, every)) for values in hidden]
        return {
            "surface": _shades(2 * output - 1 if shift else output),
            "neurons": neurons,
        }

    def _lasting(self) -> dict[str, Any]:
        grid = _grid(NEURON)
        return {
            "side": SIDE,
            "points": np.column_stack([self._x, self._y]).round(3).tolist(),
            "trained": self._trained,
            "features": {name: _shades(_scaled(of(grid[:, 0], grid[:, 1]))) for name, of in FEATURES.items()},
        }


def _penalty(settings: Settings) -> regularizers.Regularizer | None:
    name = PENALTIES[settings.penalty].name
    return getattr(regularizers, name)(settings.penalty_rate) if name and settings.penalty_rate else None


def optimizer(settings: Settings) -> optimizers.Optimizer:
    """The optimizer that is set."""
    rule = RULES[settings.optimizer]
    made: optimizers.Optimizer = getattr(optimizers, rule.name)(learning_rate=settings.rate, **rule.options)
    return made


def _grid(across: int) -> Array:
    """Places (across^2, 2), from the upper left, row by row, each in the middle of its square."""
    along = ((np.arange(across) + 0.5) / across * 2 - 1) * SIDE
    x1, x2 = np.meshgrid(along, -along)
    return np.stack([x1.ravel(), x2.ravel()], axis=1).astype(np.float32)


def _thinned(values: Array, every: int) -> Array:
    """Of the pictures (places, neurons) every so manyth place."""
    across = int(np.sqrt(len(values)))
    return values.reshape(across, across, -1)[every // 2 :: every, every // 2 :: every].reshape(-1, values.shape[1])


def _scaled(values: Array) -> Array:
    return np.asarray(values / np.abs(values).max())


def _shades(values: Array) -> str:
    """Numbers from -1 to 1 as bytes, 0 to 254, neuron by neuron, in base 64; 255 for what is not finite."""
    finite = np.isfinite(values)
    bounded = np.clip(np.where(finite, values, 0), -1, 1)
    shades = np.where(finite, np.round((bounded + 1) * 127), 255).astype(np.uint8)
    return b64encode(shades.T.tobytes()).decode("ascii")
