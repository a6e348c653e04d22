"""What compile, fit and their kin are given, checked: metrics, precision, batch sizes, weights."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from fastnn import checks, losses, metrics
from fastnn.engine import numeric_array
from fastnn.engine.data import check_finite
from fastnn.engine.plan import precision_meant, precision_obstacle
from fastnn.engine.protocols import Array, DenseForm, Head, Shape
from fastnn.engine.wiring import Wiring
from fastnn.errors import BackendError
from fastnn.kernels.precision import ROUNDED
from fastnn.layers import Layer
from fastnn.layers.base import agree, open_shape
from fastnn.layers.symbols import BatchShape
from fastnn.losses import Loss
from fastnn.metrics import Metric
from fastnn.samples import without_last

# Keras's batch size where none is given.
BATCH_SIZE = 32
# Outputs do not depend on the batch, so where none is given predict takes one that fills the kernels' tiles.
PREDICTION_BATCH_SIZE = 1024


def batch_shape(shape: Any, wanted: BatchShape | None) -> BatchShape:
    """``shape`` of a batch, checked; ValueError unless its samples are those of ``wanted``, where that is known."""
    if isinstance(shape, (str, bytes)) or not isinstance(shape, Sequence) or len(shape) < 1:
        raise TypeError(f"input_shape: got {checks.describe(shape)}, wants a tuple such as (None, 784)")
    rows = None if shape[0] is None else checks.integer("input_shape[0]", shape[0], 0)
    found: BatchShape = (rows, *open_shape("input_shape", shape[1:]))
    if wanted is not None and not agree(found[1:], wanted[1:]):
        raise ValueError(f"input_shape: got {found}, wants {wanted}, for which the model is made")
    return found


def batch_size_of(name: str, value: int | None, default: int = BATCH_SIZE) -> int:
    """The batch size that is given, or the default one."""
    return default if value is None else checks.positive_int(name, value)


def metrics_of(argument: str, identifiers: Any) -> list[Metric]:
    """The metrics that a list names."""
    if identifiers is None:
        return []
    if not isinstance(identifiers, (list, tuple)):
        raise TypeError(f"{argument}: got {checks.describe(identifiers)}, wants a list such as ['accuracy']")
    found = [metrics.get(identifier, f"{argument}[{index}]") for index, identifier in enumerate(identifiers)]
    for index, metric in enumerate(found):
        if type(metric) in (metrics.Mean, metrics.Sum):
            got = f"{argument}[{index}]: got a {type(metric).__name__} of values"
            raise TypeError(f"{got}, wants a metric of targets and outputs")
    return found


def by_name(
    argument: str, given: Any, names: Sequence[str], kind: str, wanted: Collection[str] | None = None
) -> list[Any]:
    """What is given for each of ``names``, in their order: a list or tuple by place, or a dict by name.

    Entries of a dict that are not ``wanted`` may be missing: None. TypeError or ValueError for anything else.
    """
    text = ", ".join(names)
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in names]
        missing = [name for name in (names if wanted is None else wanted) if name not in given]
        if unknown or missing:
            got = f"nothing for {missing[0]!r}" if missing else f"{unknown[0]!r}"
            raise ValueError(f"{argument}: got {got}, wants one entry for each {kind}: {text}")
        return [given.get(name) for name in names]
    if not isinstance(given, (list, tuple)):
        raise TypeError(
            f"{argument}: got {checks.describe(given)}, wants a list or dict of {len(names)} {kind}s: {text}"
        )
    if len(given) != len(names):
        raise ValueError(f"{argument}: got {len(given)} entries, wants {len(names)}, one for each {kind}: {text}")
    return [*given]


def heads_of(
    names: Sequence[str] | None, loss: Any, loss_weights: Any, metrics: Any, weighted_metrics: Any
) -> list[Head]:
    """How outputs of these names are trained and judged; without names a single one."""
    if names is None:
        if loss_weights is not None and _only(loss_weights) != 1:
            raise ValueError(
                f"loss_weights: got {loss_weights!r} for the only output, wants 1, or another learning rate"
            )
        plain, weighted = (
            metrics_of(argument, list(given.values()) if isinstance(given, Mapping) else given)
            for argument, given in (("metrics", metrics), ("weighted_metrics", weighted_metrics))
        )
        return [Head("", 0, _loss("loss", _only(loss)), 1.0, plain, weighted)]
    for_all = loss is None or isinstance(loss, (str, Loss)) or callable(loss)
    each_loss = [loss] * len(names) if for_all else by_name("loss", loss, names, "output", ())
    each_weight = by_name("loss_weights", {} if loss_weights is None else loss_weights, names, "output", ())
    plain_of = _metrics_by_output("metrics", metrics, names)
    weighted_of = _metrics_by_output("weighted_metrics", weighted_metrics, names)
    heads = []
    for place, name in enumerate(names):
        weight = each_weight[place]
        share = 1.0 if weight is None else checks.real(f"loss_weights[{name!r}]", weight)
        found = _loss(f"loss[{name!r}]", each_loss[place])
        heads.append(Head(name, place, found, share, plain_of[place], weighted_of[place]))
    for head in heads:
        for metric in (*head.metrics, *head.weighted_metrics):
            if not metric.name.startswith(f"{head.name}_"):  # it may have been compiled before
                metric.name = f"{head.name}_{metric.name}"
    return heads


def _only(given: Any) -> Any:
    """The entry of a list or dict of one; anything else as it is."""
    if isinstance(given, Mapping) and len(given) == 1:
        return next(iter(given.values()))
    return given[0] if isinstance(given, (list, tuple)) and len(given) == 1 else given


def _loss(argument: str, identifier: Any) -> Loss | None:
    if identifier is None:
        return None
    found = losses.get(identifier, argument)
    if not found.reduces:
        raise ValueError(
            f"{argument}: got {found.name!r} with the reduction {found.reduction!r}, which gives a number for "
            "every sample; wants one number to train on, such as by 'sum_over_batch_size'"
        )
    return found


def _metrics_by_output(argument: str, given: Any, names: Sequence[str]) -> list[list[Metric]]:
    """The metrics of each output, of which a list or dict has one or a list."""
    if given is None:
        return [[] for _ in names]
    found = []
    for name, entry in zip(names, by_name(argument, given, names, "output", ()), strict=True):
        found.append(metrics_of(f"{argument}[{name!r}]", [entry] if isinstance(entry, str | Metric) else entry))
    return found


def make_names_unique(heads: Sequence[Head]) -> None:
    """Number equal names; a weighted metric of the name of a plain one becomes ``weighted_...`` (as in Keras)."""
    used = {"loss"}
    weighted = [metric for head in heads for metric in head.weighted_metrics]
    plain: list[Any] = [metric for head in heads for metric in head.metrics]
    for metric in (*plain, *weighted):
        name = metric.name
        if metric in weighted and name in used and name != "loss":
            name = f"weighted_{name}"
        number, base = 0, name
        while name in used:
            number += 1
            name = f"{base}_{number}"
        metric.name = name
        used.add(name)


def warn_of_flat_activations(stack: Sequence[Layer]) -> None:
    """Say which layers learn nothing because of a step above them."""
    flat = [index for index, layer in enumerate(stack) if layer.epilogue.flat]
    if not flat:
        return
    without = [layer.name for layer in stack[: flat[-1] + 1] if any(p.trainable for p in layer.parameters)]
    if without:
        name = stack[flat[-1]].epilogue.name
        text = f"the derivative of {name!r} is 0 almost everywhere, so {', '.join(without)} learns nothing"
        warnings.warn(text, UserWarning, stacklevel=5)


def warn_of_raw_outputs(heads: Sequence[Head], stack: Sequence[Layer], wiring: Wiring) -> None:
    """Say which losses of probabilities are given what a dense layer without an activation computes."""
    places = wiring.only_outputs()
    for head in heads:
        if head.loss is None or head.output not in places:
            continue
        layer = stack[wiring.calls[places[head.output]].layer]
        form = layer.form()
        wanted = [name for name in ("softmax", "sigmoid") if head.loss.logits_form(name) is not None]
        if not wanted or not isinstance(form, DenseForm) or (wanted == ["softmax"] and form.kernel.value.shape[1] == 1):
            continue  # of a single output the loss itself warns
        if form.activation.name == "linear":
            warnings.warn(
                f"loss: {head.loss.name} is one of probabilities, and {layer.name!r} has no activation: "
                f"activation={wanted[0]!r} makes them of its outputs, from_logits=True the loss one of these",
                UserWarning,
                stacklevel=5,
            )


def check_precision(precision: Any, backend: str, dtype: np.dtype[Any]) -> None:
    """Raise unless ``precision`` can be asked for; warn, once a process, where "auto" will fall back."""
    if precision is None or checks.one_of("precision", precision, (str(dtype), *ROUNDED, "auto")) == str(dtype):
        return
    reason = precision_obstacle(backend, precision_meant(precision), dtype)
    if reason is None:
        return
    if precision != "auto":
        raise BackendError(
            f"precision: got {precision!r}, which cannot serve because {reason}; precision='auto' falls back to {dtype}"
        )
    _note_fallback(f"precision 'auto' is {dtype}, because {reason}")


@cache
def _note_fallback(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=4)


def sample_weight_of(name: str, value: Any, lead: Shape, dtype: np.dtype[Any]) -> Array:
    """Weights along the first axes of ``lead``, that of the samples' losses; axes of length 1 behind the first stay."""
    given = numeric_array(name, value)
    weight = without_last(given, len(lead) + 1)
    fits = weight.ndim <= len(lead) and weight.shape[0] == lead[0]
    if not fits or any(size not in (1, n) for size, n in zip(weight.shape[1:], lead[1:], strict=False)):
        wants = " or ".join(str(lead[:axes]) for axes in range(1, len(lead) + 1))
        steps = " or, along the next axes, a step" if len(lead) > 1 else ""
        raise ValueError(f"{name}: got shape {given.shape}, wants {wants}: one weight a sample{steps}")
    check_finite(name, weight, dtype)
    return weight


def class_weight_of(class_weight: Mapping[int, float], targets: Array, width: int) -> Array:
    """One weight a sample, by its class; classes that are not named count 1."""
    checks.instance(
        "class_weight", class_weight, Mapping, "a mapping of class index to weight, such as {0: 1.0, 1: 5.0}"
    )
    rows = targets.reshape(len(targets), -1)
    if rows.shape[1] != 1 and rows.shape != (len(targets), width):
        raise ValueError(f"class_weight: got targets of shape {targets.shape}, wants one class a sample")
    labels = np.rint(rows[:, 0]).astype(np.int64) if rows.shape[1] == 1 else rows.argmax(axis=1)
    classes = max(width, 2)
    weights = np.ones(max(classes, int(labels.max(initial=0)) + 1))
    for label, weight in class_weight.items():
        index = checks.integer("class_weight", label, 0)
        if index >= classes:
            raise ValueError(f"class_weight: got the class {index}, wants classes in [0, {classes})")
        weights[index] = checks.real(f"class_weight[{index}]", weight, minimum=0)
    return np.asarray(weights[labels])
