"""Kernels of every kind, once: the program that compute-sanitizer watches (``python -m tests.gpu.sanitized``).

Each array is memory of its own, so that what is beside it is nobody's. With ``--fault`` a kernel writes there, with
``--race`` threads do not wait for each other: so it is seen that the tool sees.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

ROOT, MODULE = Path(__file__).parents[2], "tests.gpu.sanitized"
for folder in (ROOT, ROOT / "tests" / "kernels"):
    sys.path.insert(0, str(folder))

import numpy as np  # noqa: E402
from test_ops import seeded  # noqa: E402

from fastnn import ops, use_precision  # noqa: E402
from fastnn.kernels.cases import draw  # noqa: E402
from fastnn.kernels.precision import PRECISIONS  # noqa: E402
from fastnn.kernels.table import TABLE  # noqa: E402
from tests.cuda_host.backend import on_host  # noqa: E402
from tests.gpu import beside  # noqa: E402

# Of the modules with an op for each formula a few stand for all: their kernels differ in the formula alone.
_OF_FORMULAS = ("relu", "gelu_backward", "add", "adam_step", "rmsprop_step", "mse", "softmax_cross_entropy", "nll")
_MODULES = ("elementwise", "optim", "losses")

# A part of simt.cuh, which gemm.cu takes in, and what stands there in its place.
_FAULTS = {
    "--fault": ("if (i >= given.n) continue;", "if (i > given.n) continue;"),
    "--race": ("        __syncthreads();\n    }", "    }"),
}


def _products() -> None:
    from fastnn.kernels.cuda import tiles

    tiles.TENSOR_WORK_FROM = 0  # small ones, too, are those of tensor cores
    for wanted in PRECISIONS:
        if wanted != "float32" and tiles.lacking(0):
            continue
        with use_precision(wanted):
            _call("matmul", {"n": 62, "k": 61, "m": 35})
            _call("linear_backward", {"n": 33, "in": 70, "out": 18})


def _call(name: str, sizes: dict[str, int] | None = None) -> None:
    import cupy

    op = TABLE[name]
    given = draw(op, sizes or op.cases[-2], op.variants[0], "float32", seeded("sanitized", name))
    held = {key: cupy.asarray(value) if isinstance(value, np.ndarray) else value for key, value in given.items()}
    getattr(ops, name)(**held)
    next(iter(held.values())).get()  # what has gone wrong is said here, not at a later call


def main(arguments: list[str]) -> None:
    """Run; ``--host`` where there is no device."""
    with on_host() if "--host" in arguments else nullcontext():
        import cupy

        from fastnn.kernels.cuda import launch, tiles
        from tests.kernels.cuda.test_table import is_served

        if "--host" not in arguments:
            cupy.cuda.set_allocator(None)
        for right, wrong in (_FAULTS[each] for each in arguments if each in _FAULTS):
            read = launch._file
            assert right in read("simt.cuh")
            launch._file = lambda name: read(name).replace(right, wrong)  # noqa: B023
            _call("matmul", {"n": 62, "k": 61, "m": 35})
            return
        with beside.sources_noted() as seen:
            for op in TABLE.values():
                if is_served(op, op.variants[0]) and (op.module not in _MODULES or op.name in _OF_FORMULAS):
                    _call(op.name)
            _products()
            beside.run(cupy)
        left = beside.sources() - seen - ({"tensor.cu"} if tiles.lacking(0) else set())
        assert not left, f"no kernel was run of {sorted(left)}"


if __name__ == "__main__":
    main(sys.argv[1:])
