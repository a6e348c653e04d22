"""Metrics of a whole epoch as Keras documents them, one output at a time in float64, and the cases to compare them in.

Written apart from fastnn: the tests of metrics take their wanted values from here, the comparison with Keras itself
(tests/peers) takes the cases, so that what is said here is what Keras does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

EPSILON = 1e-7

Counts = dict[str, float]


def share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def weight_at(weight: Any, place: tuple[int, ...]) -> float:
    """The weight of one output: along the first axes, repeated along those of length 1."""
    if weight is None:
        return 1.0
    array = np.asarray(weight, float)
    return float(array[tuple(min(i, size - 1) for i, size in zip(place, array.shape, strict=False))])


def among_largest(pred: Any, place: tuple[int, ...], k: int) -> bool:
    """Whether an output is among the ``k`` largest of its row; of equal ones the first are."""
    row, own = pred[place[:-1]], pred[place]
    before = sum(1 for i, other in enumerate(row) if other > own or (other == own and i < place[-1]))
    return before < k


def confusion(batches: Any, threshold: float, top_k: int | None = None, class_id: int | None = None) -> Counts:
    """Sums of weights by what is said ("p" above the threshold, "n") and whether that is right ("t", "f")."""
    found = dict.fromkeys(("tp", "fp", "tn", "fn"), 0.0)
    for true, pred, weight in batches:
        for place in np.ndindex(pred.shape):
            if class_id is not None and place[-1] != class_id:
                continue
            said = bool(pred[place] > threshold) and (top_k is None or among_largest(pred, place, top_k))
            meant = bool(true[place])
            found[("t" if said == meant else "f") + ("p" if said else "n")] += weight_at(weight, place)
    return found


def by_threshold(figure: Callable[[Counts], float]) -> Callable[..., Any]:
    """Of the counts at each threshold; one number where there is one threshold."""

    def of(batches: Any, thresholds: Any = None, top_k: int | None = None, class_id: int | None = None) -> Any:
        given = (-math.inf if top_k else 0.5) if thresholds is None else thresholds
        several = given if isinstance(given, list) else [given]
        figures = [figure(confusion(batches, threshold, top_k, class_id)) for threshold in several]
        return figures[0] if len(figures) == 1 else figures

    return of


precision = by_threshold(lambda c: share(c["tp"], c["tp"] + c["fp"]))
recall = by_threshold(lambda c: share(c["tp"], c["tp"] + c["fn"]))


def best(wanted: str, bound: str) -> Callable[..., float]:
    """The highest of a rate over thresholds from 0 to 1 at which another one is at least what is asked for."""
    rates = {
        "precision": lambda c: share(c["tp"], c["tp"] + c["fp"]),
        "recall": lambda c: share(c["tp"], c["tp"] + c["fn"]),
        "sensitivity": lambda c: share(c["tp"], c["tp"] + c["fn"]),
        "specificity": lambda c: share(c["tn"], c["tn"] + c["fp"]),
    }

    def of(batches: Any, num_thresholds: int = 200, class_id: int | None = None, **limit: float) -> float:
        thresholds = [0.5] if num_thresholds == 1 else [i / (num_thresholds - 1) for i in range(num_thresholds)]
        at = [confusion(batches, threshold, class_id=class_id) for threshold in thresholds]
        return max([0.0, *(rates[wanted](c) for c in at if rates[bound](c) >= limit[bound])])

    return of


def area(
    batches: Any,
    num_thresholds: int = 200,
    curve: str = "ROC",
    summation_method: str = "interpolation",
    thresholds: Any = None,
    multi_label: bool = False,
    label_weights: Any = None,
    from_logits: bool = False,
    num_labels: int | None = None,
) -> float:
    """Area under a curve, threshold by threshold; with labels of their own the mean of their areas."""
    inner = [i / (num_thresholds - 1) for i in range(1, num_thresholds - 1)] if thresholds is None else thresholds
    if from_logits:
        batches = [(true, 1 / (1 + np.exp(-pred)), weight) for true, pred, weight in batches]
    if not multi_label:
        if label_weights is not None:
            batches = [(t, p, weights_of(w, p.shape) * np.asarray(label_weights)) for t, p, w in batches]
        return one_area(batches, sorted(inner), curve, summation_method)
    labels = range(batches[0][1].shape[1])
    areas = [
        one_area(
            [(t[:, i], p[:, i], weights_of(w, p.shape)[:, i]) for t, p, w in batches], inner, curve, summation_method
        )
        for i in labels
    ]
    weights = [1.0] * len(areas) if label_weights is None else label_weights
    return share(sum(a * w for a, w in zip(areas, weights, strict=True)), sum(weights))


def weights_of(weight: Any, shape: tuple[int, ...]) -> Any:
    full = np.zeros(shape)
    for place in np.ndindex(shape):
        full[place] = weight_at(weight, place)
    return full


def one_area(batches: Any, inner: Any, curve: str, summation_method: str) -> float:
    at = [confusion(batches, threshold) for threshold in (-EPSILON, *inner, 1 + EPSILON)]
    total = 0.0
    for c, d in itertools.pairwise(at):
        if (curve, summation_method) == ("PR", "interpolation"):
            total += interpolated(c, d)
            continue
        (x, y), (x_next, y_next) = point(c, curve), point(d, curve)
        height = {"interpolation": (y + y_next) / 2, "minoring": min(y, y_next), "majoring": max(y, y_next)}
        total += (x - x_next) * height[summation_method]
    return total


def point(c: Counts, curve: str) -> tuple[float, float]:
    positives, negatives = c["tp"] + c["fn"], c["fp"] + c["tn"]
    if curve == "ROC":
        return share(c["fp"], negatives), share(c["tp"], positives)
    if curve == "PR":
        return share(c["tp"], positives), share(c["tp"], c["tp"] + c["fp"])
    if c["tp"] == 0:
        return 0.0, 1.0
    odds = share(positives, negatives)
    return max(0.0, 1 - odds * c["fn"] / c["tp"]), 1 - odds * c["fp"] / c["tp"]


def interpolated(c: Counts, d: Counts) -> float:
    """Area under precision over recall between two thresholds, precision = (a + slope * q) / q for q positives."""
    many, few = c["tp"] + c["fp"], d["tp"] + d["fp"]
    slope = share(c["tp"] - d["tp"], many - few)
    intercept = d["tp"] - slope * few
    ratio = many / few if many > 0 and few > 0 else 1.0
    return share(slope * (c["tp"] - d["tp"] + intercept * math.log(ratio)), d["tp"] + d["fn"])


def f_beta(batches: Any, average: str | None = None, beta: float = 1.0, threshold: float | None = None) -> Any:
    """F-scores of the columns, or what ``average`` makes of them."""
    columns = range(batches[0][1].shape[1])
    tables = [dict.fromkeys(("tp", "fp", "fn"), 0.0) for _ in columns]
    for true, pred, weight in batches:
        for row, column in np.ndindex(pred.shape):
            top, own = max(pred[row]), pred[row, column]
            said = (own == top and own != 0) if threshold is None else own > threshold
            kind = {(1, 1): "tp", (1, 0): "fp", (0, 1): "fn"}.get((int(said), int(true[row, column])))
            if kind:
                tables[column][kind] += weight_at(weight, (row, column))
    if average == "micro":
        return f_score({kind: sum(table[kind] for table in tables) for kind in ("tp", "fp", "fn")}, beta)
    scores = [f_score(table, beta) for table in tables]
    if average is None:
        return scores
    weights = [t["tp"] + t["fn"] for t in tables] if average == "weighted" else [1.0] * len(scores)
    return share(sum(s * w for s, w in zip(scores, weights, strict=True)), sum(weights))


def f_score(table: Counts, beta: float) -> float:
    weighed = beta**2 * table["fn"] + table["fp"]
    return share((1 + beta**2) * table["tp"], (1 + beta**2) * table["tp"] + weighed)


def r2(batches: Any, class_aggregation: str | None = "uniform_average", num_regressors: int = 0) -> Any:
    """Coefficients of determination of the columns, or what ``class_aggregation`` makes of them."""
    scores, variances, targets = [], [], 0
    for column in range(batches[0][1].shape[1]):
        rows = [
            (true[row, column], pred[row, column], weight_at(weight, (row, column)))
            for true, pred, weight in batches
            for row in range(len(true))
        ]
        targets += len(rows)
        mean = sum(t * w for t, _, w in rows) / sum(w for _, _, w in rows)
        variances.append(sum(w * (t - mean) ** 2 for t, _, w in rows))
        scores.append(1 - sum(w * (t - p) ** 2 for t, p, w in rows) / variances[-1] if variances[-1] else 0.0)
    figure: Any = np.array(scores)
    if class_aggregation == "uniform_average":
        figure = np.mean(scores)
    elif class_aggregation is not None:
        figure = np.dot(scores, variances) / sum(variances)
    if num_regressors:
        figure = 1 - (1 - figure) * (targets - 1) / (targets - num_regressors - 1)
    return figure


def overlap(
    batches: Any,
    num_classes: int = 2,
    target_class_ids: Any = None,
    ignore_class: int | None = None,
    sparse_y_true: bool = True,
    sparse_y_pred: bool = True,
    threshold: float | None = None,
) -> float:
    """Intersection over union, the mean of the classes that occur."""
    pairs = []
    for true, pred, weight in batches:
        said, meant = (pred if sparse_y_pred else pred.argmax(-1)), (true if sparse_y_true else true.argmax(-1))
        if threshold is not None:
            said = pred >= threshold
        places = np.ndindex(meant.shape)
        pairs += [(int(meant[place]), int(said[place]), weight_at(weight, place)) for place in places]
    pairs = [(t, p, w) for t, p, w in pairs if max(t, p) < num_classes and min(t, p) >= 0 and t != ignore_class]
    shares = []
    for each in range(num_classes) if target_class_ids is None else target_class_ids:
        either = sum(w for t, p, w in pairs if each in (t, p))
        if either:
            shares.append(sum(w for t, p, w in pairs if t == p == each) / either)
    return share(sum(shares), len(shares))


@dataclass(frozen=True)
class Epoch:
    """A metric: its class and arguments, the figure of all batches, and what they are drawn from."""

    cls: str
    figure: Callable[..., Any]
    data: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def of_rows(self) -> bool:
        """Whether a weight is one of a row, which says one class."""
        return self.cls.startswith("OneHot") or self.data == "labels and outputs"

    def result(self, batches: Any) -> Any:
        return self.figure(batches, **self.options)


def counted(kind: str) -> Callable[..., Any]:
    return by_threshold(lambda c: c[kind])


SEVERAL = {"thresholds": [0.75, 0.25, 0.3]}
EVEN = {"thresholds": [0.0, 0.5, 1.0]}
EPOCHS = {
    "true positives": Epoch("TruePositives", counted("tp"), "rows"),
    "true negatives": Epoch("TrueNegatives", counted("tn"), "rows", {"thresholds": 0.25}),
    "false positives": Epoch("FalsePositives", counted("fp"), "columns", SEVERAL),
    "false negatives": Epoch("FalseNegatives", counted("fn"), "vectors", EVEN),
    "precision": Epoch("Precision", precision, "columns"),
    "precision of vectors": Epoch("Precision", precision, "vectors", SEVERAL),
    "precision at even thresholds": Epoch("Precision", precision, "rows", EVEN),
    "precision of the two largest": Epoch("Precision", precision, "distinct rows", {"top_k": 2}),
    "precision of the largest above": Epoch("Precision", precision, "distinct rows", {"top_k": 2, "thresholds": 0.5}),
    "precision of a class": Epoch("Precision", precision, "rows", {"class_id": 1}),
    "precision of sequences": Epoch("Precision", precision, "sequences", {"class_id": 2, **SEVERAL}),
    "precision of negatives": Epoch("Precision", precision, "no positives"),
    "recall": Epoch("Recall", recall, "columns"),
    "recall at thresholds": Epoch("Recall", recall, "rows", SEVERAL),
    "recall of the largest": Epoch("Recall", recall, "distinct rows", {"top_k": 1, "class_id": 0}),
    "recall of negatives": Epoch("Recall", recall, "no positives", SEVERAL),
    "precision at recall": Epoch("PrecisionAtRecall", best("precision", "recall"), "columns", {"recall": 0.6}),
    "recall at precision": Epoch(
        "RecallAtPrecision", best("recall", "precision"), "rows", {"precision": 0.5, "num_thresholds": 9, "class_id": 1}
    ),
    "recall at precision of negatives": Epoch(
        "RecallAtPrecision", best("recall", "precision"), "no positives", {"precision": 0.5}
    ),
    "sensitivity at specificity": Epoch(
        "SensitivityAtSpecificity", best("sensitivity", "specificity"), "vectors", {"specificity": 0.5}
    ),
    "sensitivity at the one threshold": Epoch(
        *("SensitivityAtSpecificity", best("sensitivity", "specificity"), "rows"),
        {"specificity": 0.25, "num_thresholds": 1},
    ),
    "specificity at sensitivity": Epoch(
        "SpecificityAtSensitivity",
        best("specificity", "sensitivity"),
        "rows",
        {"sensitivity": 0.5, "num_thresholds": 5},
    ),
    **{
        f"{curve} {method}": Epoch(
            *("AUC", area, "columns"), {"num_thresholds": 9, "curve": curve, "summation_method": method}
        )
        for curve in ("ROC", "PR", "PRGAIN")
        for method in ("interpolation", "minoring", "majoring")
    },
    "AUC": Epoch("AUC", area, "vectors"),
    "AUC of sequences": Epoch("AUC", area, "sequences"),
    "AUC of thresholds": Epoch("AUC", area, "rows", {"thresholds": [0.6, 0.25]}),
    "AUC of logits": Epoch("AUC", area, "logits", {"from_logits": True, "num_thresholds": 7}),
    "AUC of labels": Epoch("AUC", area, "rows", {"multi_label": True, "num_thresholds": 9}),
    "AUC of weighed labels": Epoch(
        *("AUC", area, "rows"),
        {"multi_label": True, "num_labels": 3, "label_weights": [0.5, 0.0, 2.0], "curve": "PR", "num_thresholds": 9},
    ),
    "AUC of weighed outputs": Epoch("AUC", area, "rows", {"label_weights": [0.5, 0.0, 2.0], "num_thresholds": 9}),
    "AUC of negatives": Epoch("AUC", area, "no positives"),
    "area under precision of negatives": Epoch("AUC", area, "no positives", {"curve": "PR"}),
    "F1": Epoch("F1Score", f_beta, "one-hot"),
    "F1 above": Epoch("F1Score", f_beta, "rows", {"threshold": 0.25, "average": "macro"}),
    "F1 of all": Epoch("F1Score", f_beta, "one-hot", {"average": "micro"}),
    "F1 of absent classes": Epoch("F1Score", f_beta, "no positives", {"average": "weighted", "threshold": 0.5}),
    "F-beta": Epoch("FBetaScore", f_beta, "one-hot", {"beta": 2.0}),
    "F-beta by targets": Epoch("FBetaScore", f_beta, "one-hot", {"beta": 0.5, "average": "weighted"}),
    "R2": Epoch("R2Score", r2, "values"),
    "R2 by variance": Epoch("R2Score", r2, "values", {"class_aggregation": "variance_weighted_average"}),
    "R2 of each": Epoch("R2Score", r2, "values", {"class_aggregation": None}),
    "R2 adjusted": Epoch("R2Score", r2, "values", {"num_regressors": 2}),
    "R2 of constants": Epoch("R2Score", r2, "constants", {"class_aggregation": None}),
    "overlap": Epoch("IoU", overlap, "classes", {"num_classes": 4, "target_class_ids": [0, 3]}),
    "overlap of some": Epoch("MeanIoU", overlap, "classes", {"num_classes": 3, "ignore_class": 1}),
    "overlap with absent classes": Epoch("MeanIoU", overlap, "classes", {"num_classes": 9}),
    "overlap of bits": Epoch("BinaryIoU", overlap, "columns", {"threshold": 0.25, "target_class_ids": [1]}),
    "overlap of outputs": Epoch("MeanIoU", overlap, "labels and outputs", {"num_classes": 3, "sparse_y_pred": False}),
    "overlap of rows": Epoch(
        *("OneHotIoU", partial(overlap, sparse_y_true=False, sparse_y_pred=False), "one-hot"),
        {"num_classes": 3, "target_class_ids": [1, 2]},
    ),
    "mean overlap of rows": Epoch(
        *("OneHotMeanIoU", partial(overlap, sparse_y_true=False, sparse_y_pred=False), "one-hot"), {"num_classes": 3}
    ),
}

# of one sample
SHAPES = {
    "vectors": (),
    "columns": (1,),
    "rows": (3,),
    "distinct rows": (3,),
    "sequences": (2, 3),
    "no positives": (2,),
    "logits": (1,),
    "one-hot": (3,),
    "values": (2,),
    "constants": (2,),
    "classes": (2,),
    "labels and outputs": (3,),
}
SIZES = (5, 1, 7)
WEIGHTS = (None, "", "n", "n 1", "n k")


def weights_for(weights: str | None, shape: tuple[int, ...], rng: Any) -> Any:
    """Weights of a batch of ``shape``: none, one number, one a sample as vector or column, one an output."""
    sizes = {None: None, "": (), "n": shape[:1], "n 1": (shape[0], *(1 for _ in shape[1:])), "n k": shape}[weights]
    if sizes is None:
        return None
    drawn = rng.integers(0, 5, sizes) / 2
    return float(drawn) if sizes == () else drawn


def drawn(data: str, shape: tuple[int, ...], rng: Any) -> tuple[Any, Any]:
    """Targets and outputs; eighths, some of which are thresholds, and some rows of zeros."""
    pred = rng.integers(0, 9, shape) / 8
    if data == "values":
        true = rng.integers(-8, 9, shape) / 4
        return true, true + rng.integers(-4, 5, shape) / 8
    if data == "constants":
        return np.broadcast_to([0.5, -0.25], shape), pred
    if data == "one-hot":
        return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])], pred * (rng.random((*shape[:-1], 1)) < 0.8)
    if data == "classes":
        return rng.integers(0, 4, shape), rng.integers(0, 4, shape)
    if data == "labels and outputs":
        return rng.integers(0, shape[-1], shape[:-1]), pred
    if data == "logits":
        pred = 8 * pred - 4.25
    if data == "distinct rows":
        pred = rng.permuted(np.broadcast_to([0.125, 0.5, 0.75], shape), axis=-1)
    true = rng.integers(0, 2, shape).astype(float)
    return true * (data != "no positives"), pred


def batches(name: str, weights: str | None) -> list[tuple[Any, Any, Any]]:
    """(true, pred, weight) of each batch of a case, the same in every call."""
    data, of_rows = EPOCHS[name].data, EPOCHS[name].of_rows
    rng = np.random.default_rng(sum(map(ord, f"{name}{weights}")))
    made = []
    for n in SIZES:
        shape = (n, *SHAPES[data])
        made.append((*drawn(data, shape, rng), weights_for(weights, shape[:-1] if of_rows else shape, rng)))
    return made
