"""Products on a device, or the host that stands in: tiles' edges, splits, epilogues, precisions, seeded faults."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn
from fastnn import backends, ops
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.naive import elementwise
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS
from tests.cuda_host import build
from tests.cuda_host.places import compiles_for_host, host_only, strided

REALS = ("float32", "float64")
ROUNDED = ("tf32", "bfloat16")


@pytest.fixture
def cuda(cupy):
    """The modules of products."""
    from fastnn.kernels.cuda import cublas, epilogues, products, tiles

    return SimpleNamespace(cublas=cublas, epilogues=epilogues, products=products, tiles=tiles)


@pytest.fixture
def precision(cuda):
    """Sets the precision of a test's products; without the tensor cores that it takes the test is skipped."""
    with ExitStack() as stack:

        def wanted(name):
            if name in ROUNDED and cuda.tiles.lacking(0):
                pytest.skip(f"{name}: no such tensor cores")
            stack.enter_context(fastnn.use_precision(name))

        yield wanted


def integers(shape, dtype="float32", seed=0, most=4):
    return np.random.default_rng([seed, *shape]).integers(-most, most + 1, shape).astype(dtype)


def only(cuda, monkeypatch, tile, splits=1):
    """Products take this tile and so many splits, the last of which may be short."""

    def plan(n, k, m, tiles, multiprocessors):
        depth = -(-k // (splits * tile.depth)) * tile.depth
        return cuda.tiles.Plan(tile, splits if depth == 0 else max(1, -(-k // depth)), depth)

    monkeypatch.setattr(cuda.tiles, "plan", plan)
    forget(cuda)


def forget(cuda):
    """Plan products anew."""
    cuda.products._products.clear()
    backends.forget()


def tiles_of(cuda):
    return [
        *((name, "float32", tile) for name in REALS for tile in cuda.tiles.TILES[name]),
        *(("float32", name, tile) for name in ROUNDED for tile in cuda.tiles.TENSOR_TILES[name]),
    ]


def around(tile):
    """Sizes at a tile's edges and at primes, each next to each in some product."""
    edges = [(size - 1, size, size + 1) for size in (tile.rows, tile.depth, tile.columns)]
    yield from zip(*edges, strict=True)
    yield from ((1, 0, 1), (1, 1, 1), (edges[0][2], 2 * tile.depth + 1, 1), (1, tile.depth, edges[2][2]), (37, 53, 41))


@pytest.mark.parametrize("number", range(13))
def test_every_tile_is_exact_on_integers_at_its_edges(cupy, cuda, precision, monkeypatch, number):
    """Small integers are exact in every format, in any order."""
    dtype, wanted, tile = tiles_of(cuda)[number]
    precision(wanted)
    only(cuda, monkeypatch, tile)
    for n, k, m in around(tile):
        a, b = integers((n, k), dtype), integers((k, m), dtype, 1)
        np.testing.assert_array_equal(ops.matmul(cupy.asarray(a), cupy.asarray(b)).get(), a @ b, err_msg=f"{n} {k} {m}")


def test_those_are_all_the_tiles(cuda):
    assert len(tiles_of(cuda)) == 13


def views(array):
    """The array's numbers by other strides: transposed, with gaps, backwards, shifted off 16 bytes."""
    n, k = array.shape
    yield np.ascontiguousarray(array.T).T
    wide = np.zeros((n, 3 * k + 1), array.dtype)
    wide[:, 1::3] = array
    yield wide[:, 1::3]
    yield np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
    shifted = np.zeros((n, k + 1), array.dtype)
    shifted[:, 1:] = array
    yield shifted[:, 1:]


@pytest.mark.parametrize("wanted", ["float32", *ROUNDED])
def test_any_strides(cupy, precision, wanted):
    precision(wanted)
    a, b = integers((35, 29)), integers((29, 38), seed=1)
    for left in views(a):
        for right in views(b):
            found = ops.matmul(strided(cupy, left), strided(cupy, right))
            np.testing.assert_array_equal(found.get(), a @ b, err_msg=f"{left.strides} {right.strides}")
    for out in views(np.zeros((35, 38), "float32")):
        target = strided(cupy, out)
        assert ops.matmul(cupy.asarray(a), cupy.asarray(b), out=target) is target
        np.testing.assert_array_equal(target.get(), a @ b)


@pytest.mark.parametrize("dtype", REALS)
def test_a_result_over_an_operand(cupy, dtype):
    a, b = integers((33, 33), dtype), integers((33, 33), dtype, 1)
    for which in range(2):
        given = [cupy.asarray(a), cupy.asarray(b)]
        assert ops.matmul(*given, out=given[which]) is given[which]
        np.testing.assert_array_equal(given[which].get(), a @ b)


@pytest.mark.parametrize("dtype", REALS)
def test_gradients_into_arrays_of_any_strides_or_over_operands(cupy, dtype):
    dy, x, w, y = (integers(shape, dtype, seed) for seed, shape in enumerate([(33, 33)] * 4))
    dz = np.where(y > 0, dy, 0)
    expected = dz @ w.T, x.T @ dz, dz.sum(axis=0)
    into = [strided(cupy, next(views(np.zeros((33, 33), dtype)))) for _ in range(2)]
    into.append(strided(cupy, np.zeros(66, dtype)[::2]))
    given = [cupy.asarray(each) for each in (dy, x, w, y)]
    over = [given[1], given[2], given[0][5]]
    for dx, dw, db in (into, over):
        found = ops.linear_backward(*given, "relu", dx=dx, dw=dw, db=db)
        for result, target, wanted in zip(found, (dx, dw, db), expected, strict=True):
            assert result is target
            np.testing.assert_array_equal(result.get(), wanted)


def test_gradients_that_nobody_needs_are_none(cupy):
    given = [cupy.asarray(integers(shape)) for shape in ((5, 4), (5, 3), (3, 4), (5, 4))]
    whole = ops.linear_backward(*given, "relu")
    for need in ((), ("dx",), ("dw", "db"), ("db",)):
        found = ops.linear_backward(*given, "relu", None, need)
        for name, result, wanted in zip(("dx", "dw", "db"), found, whole, strict=True):
            assert (result is None) == (name not in need)
            assert result is None or (result.get() == wanted.get()).all()


def test_sums_of_many_rows(cupy, monkeypatch):
    """More blocks than one for each column, the same bits in any order of them."""
    rows = np.random.default_rng(4).standard_normal((9001, 35)).astype("float32")
    found = []
    for seed in range(2):
        monkeypatch.setattr(cupy, "seed", seed)
        found.append(ops.column_sums(cupy.asarray(rows)))
    assert (found[0].get() == found[1].get()).all()
    bound = 256 * np.finfo("float32").eps * abs(rows).sum(axis=0)
    assert (abs(found[0].get() - rows.astype("float64").sum(axis=0)) <= bound).all()


@pytest.mark.parametrize("wanted", ["float32", *ROUNDED])
@pytest.mark.parametrize("splits", [2, 3, 7])
def test_splits_give_the_same_and_repeat(cupy, cuda, precision, monkeypatch, splits, wanted):
    precision(wanted)
    tile = cuda.tiles.TILES["float32"][2] if wanted == "float32" else cuda.tiles.TENSOR_TILES[wanted][1]
    a, b, bias = integers((45, 250)), integers((250, 39), seed=1), integers((39,), seed=2)
    only(cuda, monkeypatch, tile, splits)
    for seed in range(2):
        monkeypatch.setattr(cupy, "seed", seed)
        y = ops.linear(cupy.asarray(a), cupy.asarray(b), cupy.asarray(bias), "relu")
        np.testing.assert_array_equal(y.get(), np.maximum(a @ b + bias, 0))
    rng = np.random.default_rng(1)
    given = [cupy.asarray(rng.standard_normal(shape).astype("float32")) for shape in ((45, 250), (250, 39))]
    found = []
    for seed in range(3):
        monkeypatch.setattr(cupy, "seed", seed)
        found.append(ops.matmul(*given).get())
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


@pytest.mark.parametrize("wanted", ROUNDED)
@pytest.mark.parametrize("number", range(5))
def test_tiles_that_round_what_they_load(cupy, cuda, precision, monkeypatch, number, wanted):
    """As those of tensor cores, for operands of any strides: the same numbers, in another order."""
    precision(wanted)
    rng, found = np.random.default_rng(0), []
    tile = cuda.tiles.ROUNDING_TILES[wanted][number]
    n, k, m = tile.rows + 3, 2 * tile.depth + 5, tile.columns + 1
    a, b = (
        cupy.asarray(rng.normal(size=(n, k)).astype("float32")),
        cupy.asarray(rng.normal(size=(m, k)).astype("float32")),
    )
    for each in (tile, cuda.tiles.TENSOR_TILES[wanted][1]):
        only(cuda, monkeypatch, each)
        found.append(ops.matmul(a, b.T).get())
    sizes = abs(a.get()) @ abs(b.get().T)
    assert (abs(found[0] - found[1]) <= 4 * np.finfo("float32").eps * sizes).all()
    assert (abs(found[0] - a.get() @ b.get().T) > 16 * np.finfo("float32").eps * sizes).any()


def test_plans(cuda):
    """All of the sums are done, tiles are as large as the device can be busy with, and few of them are split."""
    for n, k, m in ((1, 1, 1), (128, 784, 512), (4096, 4096, 4096), (10, 100_000, 10), (5, 0, 7), (70_000, 3, 1)):
        for tiles in (cuda.tiles.TILES["float32"], cuda.tiles.TENSOR_TILES["tf32"]):
            tile, splits, depth = cuda.tiles.plan(n, k, m, tiles, 132)
            assert depth % tile.depth == 0
            assert splits * depth >= k
            assert splits == 1 or (splits - 1) * depth < k
    largest = cuda.tiles.TILES["float32"][0]
    assert cuda.tiles.plan(4096, 4096, 4096, cuda.tiles.TILES["float32"], 132)[:2] == (largest, 1)
    assert cuda.tiles.plan(10, 100_000, 10, cuda.tiles.TILES["float32"], 132).splits > 8


@pytest.mark.parametrize("wanted", ["float32", *ROUNDED])
@pytest.mark.parametrize("splits", [1, 2])
def test_back_through_an_activation(cupy, cuda, precision, monkeypatch, splits, wanted):
    precision(wanted)
    tile = cuda.tiles.TILES["float32"][1] if wanted == "float32" else cuda.tiles.TENSOR_TILES[wanted][1]
    only(cuda, monkeypatch, tile, splits)
    dz, w, s = integers((131, 34)), integers((70, 34), seed=1), integers((131, 70), seed=2)
    given = [cupy.asarray(each) for each in (dz, w, s)]
    c = cupy.empty((131, 70), "float32")
    cuda.products.product(given[0], given[1].T, c, cuda.epilogues.derivative("relu"), s=given[2])
    np.testing.assert_array_equal(c.get(), np.where(s > 0, dz @ w.T, 0))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop_centered_momentum"])
def test_weights_stepped_by_the_product(cupy, cuda, name, dtype):
    """As by the product first, and the step of the formula in NumPy's arithmetic after it."""
    step, rng = STEPS[name], np.random.default_rng(2)
    x, dz = integers((37, 45), dtype), integers((37, 34), dtype, 1)
    w, *states = (1 + rng.random((45, 34)).astype(dtype) for _ in range(1 + len(step.states)))
    if "mean" in step.states:
        states[step.states.index("mean")] *= 0  # the mean square is above the squared mean
    hyper = [0.125, 0.25, 0.5, 0.75][: len(step.hyper)]
    device, kept = cupy.asarray(w), [cupy.asarray(state) for state in states]
    cuda.products.product(
        cupy.asarray(x).T, cupy.asarray(dz), device, cuda.epilogues.update(name), states=kept, numbers=hyper
    )
    wanted = stepped(step, hyper, w, x.T @ dz, states)
    for found, expected in zip((device, *kept), wanted, strict=True):
        np.testing.assert_allclose(found.get(), expected, rtol=64 * np.finfo(dtype).eps, atol=64 * np.finfo(dtype).eps)


class Doubles:
    """Formulas' arithmetic on arrays of doubles."""

    add, sub, mul, div = (staticmethod(f) for f in (np.add, np.subtract, np.multiply, np.divide))
    sqrt, constant, flush = staticmethod(np.sqrt), staticmethod(float), staticmethod(lambda x: x)
    fma = staticmethod(lambda a, b, c: a * b + c)
    rsqrt = staticmethod(lambda x: 1 / np.sqrt(x))


def stepped(step, hyper, *arrays):
    w, g, states = arrays
    return step.update(Doubles, hyper, w.astype("float64"), g.astype("float64"), *(s.astype("float64") for s in states))


@pytest.mark.parametrize("name", ELEMENTWISE_ACTIVATIONS.values())
def test_every_activation_is_an_epilogue(cupy, name):
    x, w = np.linspace(-2, 2, 15).reshape(5, 3), np.linspace(-1, 1, 12).reshape(3, 4)
    activation = "linear" if name == "identity" else name
    found = ops.linear(cupy.asarray(x), cupy.asarray(w), None, activation).get()
    np.testing.assert_allclose(found.ravel(), elementwise.forward(name, list((x @ w).ravel())), rtol=1e-13, atol=1e-14)


@host_only
def test_large_plain_products_are_cublas(cupy, cuda, monkeypatch):
    a, b = integers((20, 30)), integers((30, 10), seed=1)
    given = [cupy.asarray(a), cupy.asarray(b)]
    monkeypatch.setattr(cuda.cublas, "WORK_FROM", 20 * 30 * 10)
    forget(cuda)
    cupy.launched.clear()
    np.testing.assert_array_equal(ops.matmul(*given).get(), a @ b)
    assert cupy.launched == ["cupy.matmul"]
    monkeypatch.setattr(cuda.cublas, "WORK_FROM", 20 * 30 * 10 + 1)
    forget(cuda)
    cupy.launched.clear()
    np.testing.assert_array_equal(ops.matmul(*given).get(), a @ b)
    assert "cupy.matmul" not in cupy.launched


def rounded_to(wanted, x):
    """Float32 numbers with the bits that a format keeps, to the nearest."""
    bits = x.view("uint32").astype("uint64")
    dropped = {"tf32": 13, "bfloat16": 16}[wanted]
    return ((bits + (1 << dropped - 1)) >> dropped << dropped).astype("uint32").view("float32")


@pytest.mark.parametrize("wanted", ROUNDED)
def test_products_of_rounded_operands(cupy, precision, wanted):
    """As of operands with fewer bits, which random numbers tell apart from those with all; doubles keep theirs."""
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal(shape).astype("float32") for shape in ((70, 90), (90, 50)))
    exact = rounded_to(wanted, a).astype("float64") @ rounded_to(wanted, b).astype("float64")
    precision(wanted)
    found = ops.matmul(cupy.asarray(a), cupy.asarray(b)).get()
    bound = 90 * np.finfo("float32").eps * (abs(a) @ abs(b))
    assert (abs(found - exact) <= bound).all()
    assert (abs(found - a.astype("float64") @ b) > bound).any()
    doubles = ops.matmul(cupy.asarray(a.astype("float64")), cupy.asarray(b.astype("float64"))).get()
    np.testing.assert_allclose(doubles, a.astype("float64") @ b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wanted", ROUNDED)
def test_what_is_not_finite_stays_so(cupy, precision, wanted):
    precision(wanted)
    a, b = np.ones((3, 4), "float32"), np.ones((4, 5), "float32")
    a[0, 1], a[1, 2] = np.nan, np.inf
    found = ops.matmul(cupy.asarray(a), cupy.asarray(b)).get()
    assert np.isnan(found[0]).all()
    assert np.isposinf(found[1]).all()
    assert (found[2] == 4).all()


def test_precisions_that_there_are_not(cupy, cuda, precision, monkeypatch):
    given = [cupy.asarray(integers((2, 2))) for _ in range(2)]
    precision("tf32")
    monkeypatch.setattr(cuda.tiles, "TENSOR_FROM", 990)
    cuda.tiles.lacking.cache_clear()
    forget(cuda)
    wanted = r"precision: got 'tf32', which cannot serve because it wants .* capability 99\.0, and this one has \d+\.\d"
    with pytest.raises(RuntimeError, match=wanted):
        ops.matmul(*given)
    monkeypatch.undo()
    cuda.tiles.lacking.cache_clear()


# A part of a source, what stands there in its place, and the precision of the products that show it.
FAULTS = {
    "no barrier between panels": ("simt.cuh", "        __syncthreads();\n    }", "    }", "float32"),
    "a row too many": ("simt.cuh", "if (i >= given.n) continue;", "if (i > given.n) continue;", "float32"),
    "a column too many": ("simt.cuh", "if (j + q < given.m) at", "if (j + q <= given.m) at", "float32"),
    "a number too many of the sums": ("gemm.cuh", "k < end ?", "k <= end ?", "float32"),
    "numbers of a pack swapped": (
        "simt.cuh",
        "rows[r / SIZE].at[r % SIZE]",
        "rows[r / SIZE].at[r % SIZE ^ 1]",
        "float32",
    ),
    "words of B swapped": ("tensor.cu", "columns[c].x, columns[c].y", "columns[c].y, columns[c].x", "tf32"),
    "eights of A swapped": ("tensor.cu", "8 * (word / eight % 2)", "8 * (1 - word / eight % 2)", "bfloat16"),
    "halves of the sums swapped": ("tensor.cu", "of_a ? 1 : 2, half = of_a ? 2 : 1", "1, half = 2", "bfloat16"),
    "rows of C swapped": ("tensor.cu", "8 * (place / 2)", "8 * (1 - place / 2)", "tf32"),
    "no barrier between stages": ("tensor.cu", "            __syncthreads();\n", "", "tf32"),
    "a copy not waited for": ("tensor.cu", "wait_for_groups<STAGES - 2>", "wait_for_groups<STAGES - 1>", "tf32"),
    "a step ahead of its stage": ("tensor.cu", "step + STAGES - 1", "step + STAGES", "bfloat16"),
    "a column of C too many": ("tensor.cu", "j < given.m", "j <= given.m", "tf32"),
}


@pytest.fixture
def sources(cupy, cuda, monkeypatch):
    """Changes the kernels' sources for a test."""
    from fastnn.kernels.cuda import launch

    read = launch._file

    def change(name, right, wrong):
        assert right in read(name)
        monkeypatch.setattr(launch, "_file", lambda file: read(file).replace(right, wrong if file == name else right))
        forget_sources()

    def forget_sources():
        cuda.products._kernel.cache_clear()
        launch.kernel.cache_clear()
        forget(cuda)

    yield change
    forget_sources()


def is_right(cupy, cuda, n, k, m):
    """Whether products of integers are, in any order of the threads, of rows and of columns side by side."""
    a, b = integers((n, k)), integers((k, m), seed=1)
    rows = cupy.asarray(a), cupy.asarray(b)
    columns = cupy.asarray(np.ascontiguousarray(a.T)).T, cupy.asarray(np.ascontiguousarray(b.T)).T
    for seed in range(3):
        cupy.seed = seed
        for given in (rows, columns):
            try:
                if not np.array_equal(ops.matmul(*given).get(), a @ b):
                    return False
            except build.LaunchError:
                return False
    return True


@host_only
@pytest.mark.parametrize("name", [None, *FAULTS])
def test_seeded_faults_are_caught(cupy, cuda, precision, monkeypatch, sources, name):
    """And what is not faulty passes the same."""
    monkeypatch.setattr(cupy, "seed", 1)
    for wanted in ["float32", *ROUNDED] if name is None else [FAULTS[name][3]]:
        precision(wanted)
        # narrow enough for a row too many to end in the guard behind the array
        tile = cuda.tiles.TILES["float32"][1] if wanted == "float32" else cuda.tiles.TENSOR_TILES[wanted][1]
        if name is not None:
            sources(*FAULTS[name][:3])
        only(cuda, monkeypatch, tile)
        sizes = (tile.rows - 2, 4 * tile.depth - 3, tile.columns - 2)
        assert is_right(cupy, cuda, *sizes) == (name is None)


# Of a precision, with a part of a source in another's place.
_SANITIZED = """
import os, sys
os.environ.pop("LD_PRELOAD")  # not for the compiler
import numpy as np
import fastnn
from tests.cuda_host.backend import on_host
wanted, name, right, wrong = sys.argv[1:]
with on_host() as cupy:
    from fastnn.kernels.cuda import epilogues, launch, products, tiles
    cupy.sanitize, read = True, launch._file
    launch._file = lambda file: read(file).replace(right, wrong) if file == name else read(file)
    fastnn.set_precision(wanted)
    tile = tiles.TILES["float32"][1] if wanted == "float32" else tiles.TENSOR_TILES[wanted][1]
    tiles.plan = lambda *given: tiles.Plan(tile, 2, 3 * tile.depth)
    n, k, m = 70, 5 * tile.depth, 35
    ones = lambda *shape: cupy.asarray(np.ones(shape, "float32"))
    c = cupy.empty((n, m), "float32")
    products.product(ones(n, k), ones(k, m), c)
    tiles.plan = lambda *given: tiles.Plan(tile, 1, 5 * tile.depth)
    assert name or (c.get() == k).all()
    products.product(ones(n, k), ones(k, m), c, epilogues.derivative("relu"), s=ones(n, m))
    assert name or (c.get() == k).all()
"""

MISSING_BARRIERS = {name: fault for name, fault in FAULTS.items() if name.startswith("no barrier")}


@compiles_for_host
@pytest.mark.parametrize("wanted", ["float32", "tf32"])
def test_the_sanitizer_finds_no_race(wanted):
    assert "data race" not in build.sanitized(_SANITIZED, wanted, "", "", "")


@compiles_for_host
@pytest.mark.parametrize("name", MISSING_BARRIERS)
def test_the_sanitizer_finds_a_missing_barrier(name):
    file, right, wrong, wanted = MISSING_BARRIERS[name]
    assert "data race" in build.sanitized(_SANITIZED, wanted, file, right, wrong)
