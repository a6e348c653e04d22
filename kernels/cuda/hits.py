"""Accuracies, sample by sample, of outputs and targets that are on the device: what the host reads is bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product as product_of
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, in_order
from fastnn.kernels.table import DTYPES

HITS = Structure(
    "Hits",
    Field("n", "int64"),
    Field("c", "int64"),
    Field("number", "double"),
    Field("scores", "const real*"),
    Field("rows", "const real*"),
    *(Field(name, "const int64*") for name in ("labels", "index")),
    Field("hits", "unsigned char*"),
)

# By the names that metrics have for their fused forms.
KINDS = {"accuracy": "ACCURACY", "top_k": "TOP_K", "binary_accuracy": "BINARY"}


def _before(kind: str, labels: bool) -> str:
    return f"#define KIND {KINDS[kind]}\n#define LABELS {int(labels)}\n"


def modules() -> Iterator[launch.Module]:
    """Of every kind, for class indices and rows."""
    for kind, labels, dtype in product_of(KINDS, (False, True), DTYPES):
        if kind != "binary_accuracy" or not labels:
            name = f"{kind} {'of labels ' if labels else ''}{dtype}"
            yield launch.Module(name, launch.text("hits.cu", dtype, (HITS,), _before(kind, labels)))


def is_served(kind: str | None, scores: Any, targets: Any) -> bool:
    """Whether there is a kernel for this kind of outputs and targets: classes, or rows as long as those of outputs."""
    labels = targets.dtype == np.int64 and targets.ndim == 1
    rows = targets.dtype == scores.dtype and targets.shape[1:] == scores.shape[1:]
    return kind in KINDS and scores.ndim == 2 and ((labels and kind != "binary_accuracy") or rows)


def hits(kind: str, number: float, scores: Any, targets: Any, index: Any) -> Any:
    """What outputs (n, c) hit of the targets of these numbers, index (n,), as bytes (n,), or where binary (n, c)."""
    (n, c), dtype = scores.shape, scores.dtype
    labels = targets.dtype == np.int64
    found = cupy.empty(scores.shape if kind == "binary_accuracy" else (n,), np.uint8)
    outputs, goals = in_order(scores), in_order(targets)
    record = HITS.record(dtype)
    given = record[0]
    given["n"], given["c"], given["number"] = n, c, number
    given["scores"], given["index"], given["hits"] = map(address, (outputs, index, found))
    given["labels" if labels else "rows"] = address(goals)
    if found.size:
        kernel = launch.kernel("hits.cu", "hits", dtype.name, (HITS,), _before(kind, labels))
        kernel((launch.blocks(found.size),), launch.BLOCK, (record,))
    return found
