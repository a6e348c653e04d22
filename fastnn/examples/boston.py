"""Boston housing: 13 features by 64-64-1 in 4 folds; two features by (4, 3) units, SGD and early stopping."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastnn import layers, models, plotting, utils
from fastnn.datasets import boston_housing

RM, LSTAT = 5, 12


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Train both; the figures are the best epoch's MAE over the folds, and test errors."""
    (x_train, y_train), (x_test, y_test) = boston_housing.load_data()
    mean, deviation = x_train.mean(axis=0), x_train.std(axis=0)
    x_train, x_test = (x_train - mean) / deviation, (x_test - mean) / deviation
    curves = folds(x_train, y_train, epochs=20 if quick else 200, seed=seed)
    curve = curves["val_mae"]
    best = int(np.argmin(curve)) + 1
    network = wide(seed)
    network.fit(x_train, y_train, epochs=best, batch_size=16, verbose=0)
    mae = network.evaluate(x_test, y_test, verbose=0)[1]
    print(f"13 features, 64-64-1: MAE of 4 folds least behind epoch {best}: {curve.min():.3f}; of the test {mae:.3f}")
    errors = [two_features(trial) for trial in range(seed, seed + (2 if quick else 10))]
    median = float(np.median(errors))
    print(f"RM and LSTAT, (4, 3) units: test MSE {median:.3f}, the median of {len(errors)} seeds")
    figure, (left, right) = plotting.empty_figure(
        2, "Boston housing", f"all features: test MAE {mae:.2f}; two features: test MSE {median:.2f}"
    )
    left.set_yscale("log")
    plotting.learning_curve(curves, "mae", ax=left)
    left.set_yticks(ticks := [1, 2, 5, 10, 20], map(str, ticks))
    left.minorticks_off()
    left.set_title("13 features: MAE, thousand dollars, mean of 4 folds", loc="left", fontsize=11)
    right.plot(range(1, len(errors) + 1), sorted(errors), "o", color=plotting.BLUE)
    right.axhline(median, color=plotting.ORANGE, linestyle="--", label=f"median {median:.2f}")
    right.set_title("RM, LSTAT: test MSE of each seed", loc="left", fontsize=11)
    right.set_xlabel("seeds, the best first")
    right.set_yscale("log")
    right.set_yticks(ticks := [10, 20, 50, 100, 200, 500], map(str, ticks))
    right.set_ylim(0.8 * min(errors), 1.3 * max(errors))
    right.minorticks_off()
    right.legend(frameon=False)
    plotting.tidy(right)
    plotting.save(figure, out / "boston.png")
    return {"MAE of 4 folds": float(curve.min()), "test MAE": mae, "test MSE of two features": median}


def wide(seed: int) -> models.Sequential:
    """The course's network of all features."""
    utils.set_random_seed(seed)
    network = models.Sequential()
    network.add(layers.Dense(64, activation="relu", input_shape=(13,)))
    network.add(layers.Dense(64, activation="relu"))
    network.add(layers.Dense(1))
    network.compile("rmsprop", "mse", ["mae"])
    return network


def folds(x: np.ndarray, y: np.ndarray, epochs: int, seed: int) -> dict[str, np.ndarray]:
    """The MAE of each epoch, of training and of validation, their means over 4 folds."""
    curves: dict[str, list[list[float]]] = {"mae": [], "val_mae": []}
    for fold in np.array_split(np.arange(len(x)), 4):
        rest = np.setdiff1d(np.arange(len(x)), fold)
        history = wide(seed).fit(x[rest], y[rest], epochs=epochs, batch_size=16, verbose=0,
                                 validation_data=(x[fold], y[fold]))  # fmt: skip
        for name, found in curves.items():
            found.append(history.history[name])
    return {name: np.mean(found, axis=0) for name, found in curves.items()}


def as_in_the_file(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that were shuffled by a seed in their first order, which the source's split is of."""
    order = np.arange(len(x))
    np.random.RandomState(seed).shuffle(order)
    back = np.argsort(order)
    return x[back], y[back]


def two_features(seed: int) -> float:
    """The test MSE scikit-learn's way: a fifth held out, features standardised, a tenth of the rest validates."""
    from sklearn.model_selection import train_test_split

    from fastnn.sklearn import MLPRegressor

    (x, y), _ = boston_housing.load_data(test_split=0, seed=seed)
    x, y = as_in_the_file(x, y, seed)
    x_train, x_test, y_train, y_test = train_test_split(x[:, [RM, LSTAT]], y, test_size=0.2, random_state=5)
    mean, deviation = x_train.mean(axis=0), x_train.std(axis=0)
    network = MLPRegressor(
        hidden_layer_sizes=(4, 3), solver="sgd", batch_size=32, max_iter=200, random_state=seed, early_stopping=True
    )
    network.fit((x_train - mean) / deviation, y_train)
    return float(np.mean((network.predict((x_test - mean) / deviation) - y_test) ** 2))
