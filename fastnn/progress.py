"""Progress of fit, evaluate and predict: one live line (tqdm) on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.engine.protocols import Logs

# Seconds between two refreshes of the live line; formatting figures for every batch would cost more than small batches.
_INTERVAL = 0.1


class Progress:
    """Tells how far a run is. ``style``: "bar" a live line, "line" a line at the end, "silent" nothing."""

    def __init__(self, style: str) -> None:
        self.style = style
        self._bar: Any = None
        self._title = ""
        self._steps = 0
        self._start = 0.0
        self._next = 0.0

    def open(self, title: str, steps: int) -> None:
        """Start a line: ``title`` and the number of steps to come."""
        self._title, self._steps = title, steps
        self._start = time.perf_counter()
        self._next = self._start + _INTERVAL
        if self.style == "bar":
            from tqdm import tqdm

            layout = "{desc} {n_fmt}/{total_fmt} |{bar:20}| {elapsed}<{remaining}{postfix}"
            self._bar = tqdm(total=steps, desc=title, file=sys.stdout, bar_format=layout, dynamic_ncols=True)

    @property
    def on_step(self) -> Callable[[int, Callable[[], Logs]], None] | None:
        """What to call after every step; None where nothing is shown before the end."""
        return self._step if self.style == "bar" else None

    def _step(self, step: int, logs: Callable[[], Logs]) -> None:
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + _INTERVAL
            self._bar.set_postfix_str(figures(logs()), refresh=False)
            self._bar.update(step + 1 - self._bar.n)

    def close(self, logs: Logs) -> None:
        """Finish the line with the final figures."""
        if self._bar is not None:
            self._bar.set_postfix_str(figures(logs), refresh=False)
            self._bar.update(self._steps - self._bar.n)
            self.abandon()
        elif self.style == "line":
            seconds = time.perf_counter() - self._start
            per_step = f"{1000 * seconds / max(self._steps, 1):.3g}ms/step"
            print(" - ".join(filter(None, [self._title, f"{seconds:.1f}s", per_step, figures(logs)])), flush=True)

    def abandon(self) -> None:
        """End the line as it stands, so that an error's text starts on its own line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def figures(logs: Logs) -> str:
    """``loss: 0.1234 - accuracy: 0.9876``; of several numbers the mean, as Keras has it."""
    means = {name: float(np.mean(value)) for name, value in logs.items()}
    return " - ".join(
        f"{name}: {value:.4f}" if abs(value) >= 1e-3 else f"{name}: {value:.4g}" for name, value in means.items()
    )


def progress(verbose: Any) -> Progress:
    """The progress that ``verbose`` asks for: 0 nothing, 1 or "auto" a live line on a terminal, 2 a line an epoch."""
    if isinstance(verbose, str) and verbose != "auto":
        raise ValueError(f"verbose: got {verbose[:60]!r}, wants 0, 1, 2 or 'auto'")
    level = (
        int(verbose == "auto" or verbose) if isinstance(verbose, (bool, str)) else checks.integer("verbose", verbose, 0)
    )
    if level > 2:
        raise ValueError(f"verbose: got {level}, wants 0, 1, 2 or 'auto'")
    live = level == 1 and bool(getattr(sys.stdout, "isatty", lambda: False)())
    return Progress("silent" if level == 0 else "bar" if live else "line")
