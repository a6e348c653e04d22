"""ONNX files of 100 MB, written and read: seconds, on the disk that temporary files lie on."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.suite import Gauge

_UNITS, _LAYERS = 2048, 6
_SECONDS = 2.0


def gauges() -> list[Gauge]:
    """A stack of dense layers either way."""
    missing = "" if importlib.util.find_spec("onnx") else "not installed: pip install -e '.[onnx]'"
    what = f"{_LAYERS} layers of {_UNITS} units, 101 MB"
    return [
        Gauge(f"to_onnx, {what}", "s", _timed(_write), at_most=_SECONDS, skip=missing),
        Gauge(f"from_onnx, {what}", "s", _timed(_read), at_most=_SECONDS, skip=missing),
    ]


@cache
def _model() -> Any:
    from fastnn import layers, models

    return models.Sequential([layers.Input((_UNITS,)), *(layers.Dense(_UNITS, "relu") for _ in range(_LAYERS))])


def _write(path: Path) -> None:
    import fastnn

    fastnn.to_onnx(_model(), path)


def _read(path: Path) -> None:
    import fastnn

    fastnn.from_onnx(path)


def _timed(run: Callable[[Path], None]) -> Callable[[int], Sequence[float]]:
    def read(count: int) -> list[float]:
        seconds = []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            _write(path)  # the package onnx is loaded with it, and the file is there
            for _ in range(count):
                started = perf_counter()
                run(path)
                seconds.append(perf_counter() - started)
        return seconds

    return read
