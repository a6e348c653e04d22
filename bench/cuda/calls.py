"""``fastnn bench calls``: microseconds that a call of each op on device arrays costs the host, in Python above all.

A call is measured as a loop sees it: again and again with arrays alike, results into arrays where the op takes them.
"with launches" is until the call comes back, "of Python" the same while kernels' launches do nothing: what is left is
ours, and CuPy's memory. The arrays are small, and the device is never waited for inside of a measurement.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from bench import environment
from bench.cuda import limits
from bench.cuda.command import PACKAGES
from fastnn import backends, ops
from fastnn.errors import BackendError
from fastnn.kernels.cases import draw, variant_name
from fastnn.kernels.contexts import setting
from fastnn.kernels.table import TABLE, Op, Sizes

# Microseconds of Python that a call may cost.
MOST = 10.0

DTYPE, _SEED = "float32", 3
# Arrays of an operand that is a list; what calls with such are named, and those with CSR matrices.
_LISTED = 6
LISTS, CSR = f"{_LISTED} arrays each", "CSR"
# A block's calls, which a device's queue has room for, and blocks.
_CALLS, _BLOCKS = 50, 30

_FAILED = 2


class Line(NamedTuple):
    """A call: its op, a variant of the table's, and whether operands are lists, or CSR matrices."""

    op: Op
    variant: Mapping[str, Any]
    kind: str = ""

    @property
    def name(self) -> str:
        """The op, what kind of operands, and the variant."""
        return " ".join(part for part in (self.op.name, self.kind, variant_name(self.variant)) if part)


class Cost(NamedTuple):
    """Of one call: launches, microseconds of Python, and those with the launches."""

    name: str
    launches: int
    python: float
    whole: float


def lines() -> Iterator[Line]:
    """Every op with each of its variants."""
    for op in TABLE.values():
        for variant in op.variants:
            yield Line(op, variant)
            if op.lists:
                yield Line(op, variant, LISTS)
            if op.sparse:
                yield Line(op, variant, CSR)


def _sizes(op: Op) -> Sizes:
    """Those of the table's cases that have most numbers."""
    return max(op.cases, key=lambda sizes: sum(op.elements(spec, sizes) for spec in op.operands.values()))


def call(cupy: Any, line: Line) -> Callable[[], Any]:
    """The call with its arrays, those of results included where the op takes them."""
    op = line.op
    drawn = draw(op, _sizes(op), line.variant, DTYPE, np.random.default_rng(_SEED))
    given = {name: cupy.asarray(each) if isinstance(each, np.ndarray) else each for name, each in drawn.items()}
    if line.kind == CSR:
        given |= {name: _sparse(cupy, drawn[name]) for name in op.sparse}
        if "need" in op.options:  # nobody asks for the gradient by a CSR matrix
            given["need"] = tuple(name for name in op.signature.parameters["need"].default if name != "dx")
    if line.kind == LISTS:
        given |= {name: [given[name].copy() for _ in range(_LISTED)] for name in op.operands if name in given}
    run = partial(getattr(ops, op.name), **given)
    results = run()
    made = results if isinstance(results, tuple) else (results,)
    into = {name: each for name, each in zip(op.into, made, strict=False) if isinstance(each, cupy.ndarray)}
    return partial(run, **into)


def _sparse(cupy: Any, dense: Any) -> Any:
    """A CSR matrix on the device, with every other one of a matrix's numbers."""
    from cupyx.scipy.sparse import csr_matrix

    kept = (np.arange(dense.size) % 2 == 0).reshape(dense.shape)
    bounds = np.concatenate([[0], kept.sum(axis=1).cumsum()])
    parts = dense[kept], np.nonzero(kept)[1].astype(np.int32), bounds.astype(np.int32)
    return csr_matrix(tuple(map(cupy.asarray, parts)), shape=dense.shape)


def cost(cupy: Any, line: Line) -> Cost:
    """What the line's call costs."""
    from fastnn.kernels.cuda import launch

    run, asked = call(cupy, line), list[Any]()
    run()
    with setting(launch.asked_for, asked):
        run()
    whole = _microseconds(cupy, run)
    with _standing_in(set(asked)):
        python = _microseconds(cupy, run)
    return Cost(line.name, len(asked), python, whole)


@contextmanager
def _standing_in(kernels: Iterable[Any]) -> Iterator[None]:
    """Launches of these do nothing."""
    kept = [(kernel, kernel.function) for kernel in kernels]
    for kernel, _ in kept:
        kernel.function = lambda grid, block, arguments: None
    try:
        yield
    finally:
        for kernel, function in kept:
            kernel.function = function


def _microseconds(cupy: Any, run: Callable[[], Any]) -> float:
    """Of a call, until it comes back: the least of some blocks', which other work on the machine makes longer."""
    seconds = []
    for _ in range(_BLOCKS):
        cupy.cuda.runtime.deviceSynchronize()
        start = perf_counter()
        for _ in range(_CALLS):
            run()
        seconds.append(perf_counter() - start)
    return min(seconds) / _CALLS * 1e6


def table(costs: Sequence[Cost]) -> str:
    """The costs as text, the highest first; names stand last, for some are long."""
    rows = [
        f"{each.python:9.1f} {each.whole:13.1f} {each.launches:8}  {each.name}"
        for each in sorted(costs, key=lambda each: -each.python)
    ]
    return "\n".join(["of Python with launches launches  microseconds of a call", *rows])


def main(argv: Sequence[str] | None = None) -> int:
    """Print what calls cost; 2 with one line where there is no device."""
    parser = argparse.ArgumentParser(prog="fastnn bench calls", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="REGEX", type=re.compile, help="only the calls whose name it finds")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there too")
    options = parser.parse_args(argv)
    try:
        backends.require("cuda")
    except BackendError as error:
        print(f"fastnn bench: error: {' '.join(str(error).split())}", file=sys.stderr)
        return _FAILED
    import cupy

    chosen = [line for line in lines() if options.only is None or options.only.search(line.name)]
    facts = {**limits.facts(cupy), "cpu": environment.cpu(), **environment.software(PACKAGES)}
    print(environment.heading(facts), flush=True)
    costs = [cost(cupy, line) for line in chosen]
    within = sum(each.python < MOST for each in costs)
    print(f"{table(costs)}\n\n{within} of {len(costs)} calls take less than {MOST:.0f} us of Python")
    if options.json is not None:
        found = {"environment": facts, "calls": [each._asdict() for each in costs]}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0
