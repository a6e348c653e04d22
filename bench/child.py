"""What must be measured in a process of its own: ``python -m bench.child JOB ...`` prints its figure as JSON.

Each job is a function that the process runs with the words that follow its name.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import platform
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

# Epochs of the fit whose memory is measured: the second one begins with what the first left behind.
_EPOCHS = 2


def prepare(dataset: str) -> float:
    """Milliseconds that a fit takes before its first batch; one fit before it loads the kernels."""
    recipe, x, y = _data(dataset)
    for _ in range(2):
        seconds = _before_first_batch(_model(recipe), recipe, x, y)
    return 1e3 * seconds


def first_batch(start: str, dataset: str) -> float:
    """Seconds from ``start``, which is the parent's ``time.monotonic()``, until the first batch is trained."""
    from fastnn.callbacks import Callback

    class Stop(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise _ReachedError(time.monotonic())

    recipe, x, y = _data(dataset)
    return _stopped_at(_model(recipe), recipe, x, y, Stop()) - float(start)


def peak(dataset: str, fit: str) -> dict[str, Any]:
    """Bytes that were resident at most, and the modules loaded: of a process that trains, with ``fit`` "yes".

    With "no", of one that holds the same data and loads the modules that standard input names, and does not train.
    """
    recipe, x, y, images = _rows_without_copies(dataset)
    model = _model(recipe)
    if fit == "yes":
        model.fit(x, y, batch_size=recipe.batch_size, epochs=_EPOCHS, verbose=0)
    else:
        for name in json.load(sys.stdin):
            _import(name)
    del images  # held until now, so that the fit could not have its memory
    return {"bytes": resident_peak(), "modules": sorted(sys.modules)}


def resident_peak() -> int:
    """Bytes of this process that were resident at most; OSError where the system does not tell."""
    return {"Linux": _peak_on_linux, "Windows": _peak_on_windows}.get(platform.system(), _peak_elsewhere)()


def _peak_on_linux() -> int:
    """``getrusage`` would count the bytes of the process's parent, too."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise OSError("/proc/self/status: got no VmHWM")
    return 1024 * int(found.group(1))


def _peak_elsewhere() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else 1024 * peak


def _peak_on_windows() -> int:
    """PeakWorkingSetSize of PROCESS_MEMORY_COUNTERS: two DWORDs, of which the first is its size, and eight SIZE_Ts."""

    class Counters(ctypes.Structure):
        _fields_ = (("size", ctypes.c_uint32), ("faults", ctypes.c_uint32), ("peak", ctypes.c_size_t * 8))

    counters = Counters(size=ctypes.sizeof(Counters))
    library = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    this_process = ctypes.c_void_p(-1)
    if not library.K32GetProcessMemoryInfo(this_process, ctypes.byref(counters), counters.size):
        raise OSError("K32GetProcessMemoryInfo: failed")
    return int(counters.peak[0])


class _ReachedError(Exception):
    """Ends a fit at the moment that it holds."""


def _before_first_batch(model: Any, recipe: Any, x: Any, y: Any) -> float:
    from fastnn.callbacks import Callback

    class Stop(Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            raise _ReachedError(time.monotonic())

    start = time.monotonic()
    return _stopped_at(model, recipe, x, y, Stop()) - start


def _stopped_at(model: Any, recipe: Any, x: Any, y: Any, stop: Any) -> float:
    try:
        model.fit(x, y, batch_size=recipe.batch_size, verbose=0, callbacks=[stop])
    except _ReachedError as reached:
        return float(reached.args[0])
    raise RuntimeError("the fit ended without reaching its first batch")


def _data(dataset: str) -> tuple[Any, Any, Any]:
    """The recipe, its training rows as float32, their targets."""
    import numpy as np

    from fastnn.recipes import RECIPES

    recipe = RECIPES[dataset]
    x, y = recipe.data().train
    return recipe, x.astype(np.float32, copy=False), y


def _rows_without_copies(dataset: str) -> tuple[Any, Any, Any, Any]:
    """The recipe, images as float32 rows of 0 to 1 made in place, labels, and the images (n, h, w)."""
    import numpy as np

    from fastnn.recipes import RECIPES

    recipe = RECIPES[dataset]
    (images, y), _ = recipe.load(None)
    x = np.empty((len(images), recipe.inputs), np.float32)
    np.divide(images.reshape(x.shape), np.float32(255), out=x)
    return recipe, x, y, images


def _model(recipe: Any) -> Any:
    """The recipe's network, compiled."""
    from fastnn import layers, models

    model = models.Sequential([layers.Input(shape=(recipe.inputs,))])
    for units in recipe.hidden:
        model.add(layers.Dense(units, activation=recipe.activation))
    model.add(layers.Dense(recipe.outputs, activation=recipe.output_activation))
    model.compile(optimizer=recipe.optimizer, loss=recipe.loss, metrics=[recipe.metric], backend="cpu")
    return model


def _import(name: str) -> None:
    with suppress(ImportError):  # some are made at run time
        importlib.import_module(name)


_JOBS = {function.__name__: function for function in (prepare, first_batch, peak)}

if __name__ == "__main__":
    print(json.dumps(_JOBS[sys.argv[1]](*sys.argv[2:])))
