"""Bankruptcy: 30 sigmoid units and a deeper network beside five classifiers of scikit-learn, on a rare class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import layers, models, plotting, utils
from fastnn.errors import DataFileError, installing

FILE = "bankruptcy/data_rounded9.csv"


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Train and compare them; the figures are the areas under the ROC curves."""
    x_train, y_train, x_test, y_test = data(seed)
    if quick:
        x_train, y_train = x_train[:1500], y_train[:1500]
    rare = {0: 1.0, 1: float((y_train == 0).sum() / (y_train == 1).sum())}
    scores: dict[str, np.ndarray] = {}
    for name, hidden in {
        "fastnn 30": ((30, "sigmoid"),),
        "fastnn 64-32-16": ((64, "relu"), (32, "relu"), (16, "relu")),
    }.items():
        utils.set_random_seed(seed)
        network = models.Sequential([layers.Input((x_train.shape[1],))])
        for units, activation in hidden:
            network.add(layers.Dense(units, activation))
            network.add(layers.Dropout(0.3, seed=seed))
        network.add(layers.Dense(1, "sigmoid"))
        network.compile("adam", "binary_crossentropy")
        network.fit(x_train, y_train, epochs=5 if quick else 30, batch_size=64, class_weight=rare, verbose=0)
        scores[name] = network.predict(x_test, verbose=0)[:, 0]
    for name, classifier in classifiers(seed).items():
        scores[name] = classifier.fit(x_train, y_train).predict_proba(x_test)[:, 1]
    figures = table(y_test, scores)
    figure, (left, right) = plotting.empty_figure(
        2, f"Bankruptcy: {y_test.mean():.0%} of the firms", f"{len(y_test):,} firms held out"
    )
    for name, score in scores.items():
        plotting.roc_curve(y_test, score, label=name, ax=left)
    left.legend(fontsize=7.5, handlelength=4, edgecolor="none", framealpha=1, loc="lower right")
    left.set_title("ROC", loc="left", fontsize=11)
    plotting.confusion_matrix(y_test, scores["fastnn 30"] > 0.5, labels=["solvent", "bankrupt"], ax=right)
    right.set_title("30 sigmoid units at a threshold of 0.5", loc="left", fontsize=11)
    plotting.save(figure, out / "bankruptcy.png")
    return figures


def data(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features standardised by the training rows, and 1 for a bankruptcy; a fifth of the firms test."""
    folder = os.environ.get("FASTNN_DATA")
    path = Path(folder or ".") / FILE
    if not path.is_file():
        raise DataFileError(
            f"{FILE} is not in the folder that FASTNN_DATA names ({folder}): it is UCI's Taiwanese Bankruptcy "
            "Prediction, as CSV, the first column 1 for a bankruptcy"
        )
    rows = np.loadtxt(path, delimiter=",", skiprows=1)
    rows = rows[np.random.default_rng(seed).permutation(len(rows))]
    x, y = rows[:, 1:], rows[:, 0].astype(int)
    test = len(rows) // 5
    mean, deviation = x[test:].mean(axis=0), x[test:].std(axis=0)
    x = np.clip((x - mean) / np.where(deviation > 0, deviation, 1), -5, 5).astype("float32")
    return x[test:], y[test:], x[:test], y[:test]


def classifiers(seed: int) -> dict[str, Any]:
    """Five of scikit-learn's, weighted by class where they can be."""
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.naive_bayes import GaussianNB
        from sklearn.neighbors import KNeighborsClassifier
    except ImportError as error:
        raise ImportError(
            f"this example needs scikit-learn, which is not installed: {installing('sklearn')}"
        ) from error
    return {
        "logistic regression": LogisticRegression(class_weight="balanced", max_iter=2000),
        "random forest": RandomForestClassifier(class_weight="balanced", random_state=seed),
        "gradient boosting": HistGradientBoostingClassifier(class_weight="balanced", random_state=seed),
        "nearest neighbours": KNeighborsClassifier(15),
        "naive Bayes": GaussianNB(),
    }


def table(y: np.ndarray, scores: dict[str, np.ndarray]) -> dict[str, float]:
    """Print how good each is at its threshold of one half; the areas under the ROC curves."""
    print(f"{'':22}{'accuracy':>10}{'balanced':>10}{'AUC':>8}{'F1 of the rare':>16}")
    areas = {}
    for name, score in scores.items():
        said = score > 0.5
        hits, alarms = (said & (y == 1)).sum(), (said & (y == 0)).sum()
        balanced = (hits / (y == 1).sum() + 1 - alarms / (y == 0).sum()) / 2
        f1 = 2 * hits / max(1, said.sum() + (y == 1).sum())
        firms, others = score[y == 1][:, None], score[y == 0]
        areas[name] = float((firms > others).mean() + (firms == others).mean() / 2)
        print(f"{name:22}{(said == y).mean():10.4f}{balanced:10.4f}{areas[name]:8.4f}{f1:16.4f}")
    return areas
