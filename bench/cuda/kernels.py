"""The lines of ``fastnn bench kernels --backend cuda``: ops at the table's ``bench`` sizes and at 64 MB, in float32.

fastnn's side is ``fastnn.ops`` on CuPy arrays, as users call it. All sides read and write the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from bench.cuda import limits, operands
from bench.cuda.peers import cupy_ops
from bench.cuda.stopwatch import EVENTS, WALL, Calls, Stopwatch
from bench.kernels import DTYPE, naive_sizes
from bench.measure import Line
from bench.suite import CUBLAS, CUPY, FASTNN_CUDA, JAX, PYTORCH, assert_agree, in_a_line, installed
from fastnn import ops, use_precision
from fastnn.kernels.cases import sizes_name
from fastnn.kernels.table import TABLE, Op, Sizes

# Numbers of an array of 64 MB.
_LARGE = 1 << 24

# The modules whose kernels are limited by memory, and the share of the copy bandwidth that the project promises from
# 64 MB up.
_OF_MEMORY = ("elementwise", "prelu", "softmax", "losses", "optim", "random", "dropout")
_SHARE_OF_COPY = 0.85

# What is promised of linear + bias + relu against CuPy's three calls.
_LINEAR_BARS = {"linear 128x784x512": {CUPY: 1.25}}
# Of our own products of rounded operands against cuBLAS's of operands in that format, at this size.
_LARGEST = 8192
_ROUNDED_BARS: Mapping[str, Mapping[str, float]] = {"bfloat16": {CUBLAS: 0.6}, "tf32": {}}
# Sizes of products that are all ours, for cuBLAS to be compared with.
_OWN_SIZES = (256, 512, 1024, 2048, 4096)

# Lines of which a user's loop is timed as well: small calls are as long as Python takes to ask for them.
_LOOPS = ("relu 10000", "softmax 128x10", "linear 128x784x512", "adam_step 1000000")

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Effort:
    """Blocks of a line and their seconds; the side of the matrices that tell the machine's rates."""

    blocks: int
    block_seconds: float
    matrix: int


FULL = Effort(blocks=7, block_seconds=0.02, matrix=8192)
QUICK = Effort(blocks=3, block_seconds=0.005, matrix=4096)


@dataclass(frozen=True)
class Device:
    """What is measured on, and what it can do: bytes a second, FLOP/s by format."""

    cupy: Any
    stopwatch: Stopwatch
    bandwidth: float
    rates: Mapping[str, float]
    # Peers that failed at an op, and how: it is measured without them.
    failed: dict[tuple[str, str], str] = field(default_factory=dict)

    @cached_property
    def l2(self) -> int:
        """Bytes of L2."""
        return limits.l2_bytes(self.cupy)

    @cached_property
    def room(self) -> int:
        """Bytes that the operands of a line may take."""
        free, _ = self.cupy.cuda.runtime.memGetInfo()
        return int(free) // 4

    @cached_property
    def peers(self) -> Mapping[str, _Peer]:
        """The others that are installed and find the device."""
        found: dict[str, _Peer] = {}
        for name, make in _PEERS.items():
            try:
                peer = make(self.cupy) if installed(name) else None
            except Exception as error:  # theirs, whatever it is
                self.failed[name, "all"] = in_a_line(error)
            else:
                found |= {name: peer} if peer is not None else {}
        return found

    def peers_of(self, op: str) -> dict[str, _Peer]:
        """Those that have a function for an op."""
        return {
            name: peer for name, peer in self.peers.items() if op in peer.functions and (name, op) not in self.failed
        }

    def wait(self, _: Any = None) -> None:
        """Until all is done."""
        self.cupy.cuda.runtime.deviceSynchronize()


def prepared(cupy: Any, effort: Effort) -> Device:
    """The current device, its limits measured."""
    copies = operands.random_array(cupy, (_LARGE * 4,)), cupy.empty((_LARGE * 4,), DTYPE)
    stopwatch = Stopwatch(cupy, copies)
    bandwidth = limits.copy_bandwidth(cupy, stopwatch, copies, effort.block_seconds)
    return Device(cupy, stopwatch, bandwidth, limits.matrix_rates(cupy, stopwatch, effort.matrix, effort.block_seconds))


@dataclass(frozen=True)
class _Peer:
    """Another library: its functions, what makes its arrays of CuPy's, how it is timed, and what waits for it."""

    functions: Mapping[str, Callable[..., Any]]
    array: Callable[[Any], Any]
    clock: str
    wait: Callable[[Any], Any]
    host: Callable[[Any], Any]


def _cupy(cupy: Any) -> _Peer | None:
    return _Peer(
        cupy_ops.table(cupy), lambda array: array, EVENTS, lambda _: cupy.cuda.runtime.deviceSynchronize(), _host
    )


def _pytorch(_: Any) -> _Peer | None:
    import torch  # type: ignore[import-not-found, unused-ignore]

    if not torch.cuda.is_available():
        return None
    from bench.cuda.peers import pytorch_ops

    wait = torch.cuda.synchronize
    return _Peer(
        pytorch_ops.PYTORCH,
        torch.utils.dlpack.from_dlpack,
        EVENTS,
        lambda _: wait(),
        lambda tensor: tensor.cpu().numpy(),
    )


def _jax(_: Any) -> _Peer | None:
    from bench.cuda.peers import jax_ops  # first: it says how JAX takes memory

    import jax  # isort: skip

    try:
        jax.devices("gpu")
    except RuntimeError:
        return None

    def array(value: Any) -> Any:
        """JAX has no integers of 64 bits, unless it is told to."""
        return jax.dlpack.from_dlpack(value.astype("int32") if value.dtype == np.int64 else value)

    return _Peer(jax_ops.JAX, array, WALL, jax.block_until_ready, np.asarray)


_PEERS: Mapping[str, Callable[[Any], _Peer | None]] = {CUPY: _cupy, PYTORCH: _pytorch, JAX: _jax}


def _host(array: Any) -> Any:
    return array.get()


@dataclass(frozen=True)
class Job:
    """One line: its name, how its contenders are made on a device, the check of their results, and what limits it.

    ``work`` is in what ``unit`` is made of; ``precision`` names the rate that limits products, None where it is memory.
    """

    name: str
    unit: str
    work: float
    calls: Callable[[Device], dict[str, Calls]]
    check: Callable[[Device], None]
    precision: str | None = None
    at_least: Mapping[str, float] = field(default_factory=dict, hash=False)
    share_at_least: float | None = None
    has_limit: bool = True

    def measured(self, device: Device, effort: Effort) -> Line:
        """The line; AssertionError where results disagree."""
        self.check(device)
        calls = self.calls(device)
        samples = device.stopwatch.samples(calls, effort.blocks, effort.block_seconds)
        notes = {name: each.clock for name, each in calls.items() if each.clock != calls[FASTNN_CUDA].clock}
        return Line(
            name=self.name,
            unit=self.unit,
            samples=samples,
            work=dict.fromkeys(samples, self.work),
            notes=notes,
            at_least=self.at_least,
            ours=FASTNN_CUDA,
            limit=self._limit(device),
            share_at_least=self.share_at_least,
        )

    def _limit(self, device: Device) -> float | None:
        if not self.has_limit:
            return None
        if self.precision is None:
            return device.bandwidth / 1e9
        rate = device.rates.get(self.precision)
        return None if rate is None else rate / 1e12


def jobs(quick: bool) -> list[Job]:
    """All lines, those first that something is promised of.

    ``quick`` leaves out sizes below 64 MB of what memory limits, but for those that users loop over.
    """
    listed = []
    for op in TABLE.values():
        for sizes in _sizes(op):
            job = _of_op(op, sizes)
            is_loop = job.name in _LOOPS
            if not quick or job.has_limit or is_loop:
                listed.append(job)
            if is_loop:
                listed.append(_as_loop(job))
    listed += [*(_own("float32", side) for side in _OWN_SIZES), *(_own(name, _LARGEST) for name in _ROUNDED_BARS)]
    return sorted(listed, key=lambda job: not (job.at_least or job.share_at_least))


def _sizes(op: Op) -> Iterator[Sizes]:
    """Those of the table, and one from 64 MB up; large products."""
    yield from op.bench
    if op.name == "matmul":
        yield from ({"n": size, "k": size, "m": size} for size in (4096, _LARGEST))
    elif op.flops is None and op.bench:
        large = operands.grown(op, op.bench[-1], _LARGE)
        if large != op.bench[-1]:
            yield large


def _of_op(op: Op, sizes: Sizes) -> Job:
    name, flops = f"{op.name} {sizes_name(sizes)}", op.work(sizes)
    moved, of_products = op.bytes(sizes, operands.ITEM), flops is not None
    is_large = sizes == operands.grown(op, sizes, _LARGE)
    return Job(
        name=name,
        unit="TFLOP/s" if of_products else "GB/s",
        work=moved / 1e9 if flops is None else flops / 1e12,
        calls=partial(_calls, op, sizes),
        check=partial(_check, op, sizes),
        precision="float32" if of_products else None,
        at_least=_LINEAR_BARS.get(name, {}),
        share_at_least=_SHARE_OF_COPY if is_large and op.module in _OF_MEMORY else None,
        has_limit=of_products or is_large,
    )


def _as_loop(job: Job) -> Job:
    """The same by the clock on the wall."""

    def calls(device: Device) -> dict[str, Calls]:
        return {name: replace(each, clock=WALL) for name, each in job.calls(device).items()}

    return replace(job, name=f"{job.name}, a loop of calls", calls=calls, has_limit=False, share_at_least=None)


def _calls(op: Op, sizes: Sizes, device: Device) -> dict[str, Calls]:
    """All contenders on the same sets of operands."""
    sets = operands.sets(device.cupy, op, sizes, device.l2, device.room)
    ours = [partial(getattr(ops, op.name), **given) for given in sets]
    found = {FASTNN_CUDA: Calls(ours, EVENTS, device.wait)}
    for name, peer in device.peers_of(op.name).items():
        found[name] = Calls([_of_peer(peer, op.name, given) for given in sets], peer.clock, peer.wait)
    return found


def _of_peer(peer: _Peer, name: str, given: Mapping[str, Any]) -> Callable[[], Any]:
    function = peer.functions[name]
    return partial(function, **operands.passed(function, _arrays_of(peer, given)))


def _arrays_of(peer: _Peer, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: peer.array(value) if hasattr(value, "__cuda_array_interface__") else value
        for name, value in given.items()
    }


def _check(op: Op, sizes: Sizes, device: Device) -> None:
    """AssertionError unless all agree, at sizes that plain Python could do as well."""
    small = naive_sizes(op, sizes)
    drawn = operands.drawn(device.cupy, op, small)
    given = operands.copied(device.cupy, drawn)
    ours = _results(op, partial(getattr(ops, op.name), **given), given, _host)
    for name, peer in device.peers_of(op.name).items():
        fresh = _arrays_of(peer, operands.copied(device.cupy, drawn))
        function = peer.functions[op.name]
        try:
            theirs = _results(op, partial(function, **operands.passed(function, fresh)), fresh, peer.host)
        except Exception as error:  # theirs, whatever it is: the line is measured without them
            device.failed[name, op.name] = in_a_line(error)
            continue
        assert_agree(f"{op.name}, fastnn against {name}", ours, theirs, _TOLERANCE)


def _results(op: Op, run: Callable[[], Any], given: Mapping[str, Any], host: Callable[[Any], Any]) -> tuple[Any, ...]:
    """What a call returns, or updates, on the host."""
    result = run()
    if op.inplace:
        result = tuple(given[name] for name in op.inplace if name in given)
    return tuple(host(value) for value in (result if isinstance(result, tuple) else (result,)) if value is not None)


def _own(precision: str, size: int) -> Job:
    """Our own product, where ``matmul`` would ask cuBLAS for it or not, beside cuBLAS's of operands in that format."""
    return Job(
        name=f"matmul {size}x{size}x{size}, own kernel, {precision}",
        unit="TFLOP/s",
        work=2.0 * size**3 / 1e12,
        calls=partial(_own_calls, precision, size),
        check=partial(_own_check, precision),
        precision=precision,
        at_least=_ROUNDED_BARS.get(precision, {}),
    )


def _own_calls(precision: str, size: int, device: Device) -> dict[str, Calls]:
    a, b = (operands.random_array(device.cupy, (size, size)) for _ in range(2))
    c = device.cupy.empty((size, size), DTYPE)
    ours = partial(_own_product, precision, a, b, c)
    theirs = limits.cublas(device.cupy, size, size, size, precision)
    return {FASTNN_CUDA: Calls([ours], EVENTS, device.wait), CUBLAS: Calls([theirs], EVENTS, device.wait)}


def _own_product(precision: str, a: Any, b: Any, c: Any) -> Any:
    from fastnn.kernels.cuda import products

    with use_precision(precision):
        products.product(a, b, c)
    return c


def _own_check(precision: str, device: Device) -> None:
    """Small integers are exact in every format."""
    n, k, m = 67, 131, 45
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-4, 5, shape).astype(DTYPE) for shape in ((n, k), (k, m)))
    c = _own_product(precision, device.cupy.asarray(a), device.cupy.asarray(b), device.cupy.empty((n, m), DTYPE))
    assert np.array_equal(c.get(), a @ b), f"own product in {precision} is wrong"


def readings(device: Device) -> Sequence[tuple[str, float, str]]:
    """What the device can do: name, figure, unit."""
    rates = [(f"cuBLAS, {name}", rate / 1e12, "TFLOP/s") for name, rate in device.rates.items()]
    return [("copy bandwidth", device.bandwidth / 1e9, "GB/s"), *rates]
