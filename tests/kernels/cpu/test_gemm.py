"""Products however they are blocked, copied and shared, at any address; weights packed beforehand."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import backends, ops
from fastnn.kernels.cpu import gemm
from fastnn.kernels.cpu.compiler import machine
from fastnn.kernels.table import ACTIVATIONS

SHAPES = [
    (1, 1, 1),
    (5, 3, 7),
    (33, 100, 31),
    (64, 17, 32),
    (130, 70, 97),
    (2, 0, 5),
    (0, 4, 5),
    (3, 4, 0),
    (7, 5000, 40),
]


# First-level caches: of Zen 2 to 4 and of Intel before Ice Lake; of Zen 5 and Intel since; of Apple and of some ARM.
CACHES = {
    "8 ways of 64": machine.Caches(32 << 10, 512 << 10, 16 << 20, l1_ways=8),
    "12 ways of 64": machine.Caches(48 << 10, 1 << 20, 32 << 20, l1_ways=12),
    "8 ways of 256": machine.Caches(128 << 10, 4 << 20, 8 << 20, l1_ways=8),
    "4 ways of 256": machine.Caches(64 << 10, 1 << 20, 4 << 20, l1_ways=4),
}


@pytest.fixture
def use_caches(monkeypatch):
    """Plan for other caches than the machine's; the kernel's ``matmul``, called as such, remembers no plan."""

    def use(caches):
        monkeypatch.setattr(gemm, "caches", lambda: caches)
        monkeypatch.setattr(gemm, "_plan", gemm._plan.__wrapped__)

    return use


def made(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_packed_weights_give_the_same_bits(shape, dtype):
    n, k, m = shape
    x, w, b = made((n, k), dtype), made((k, m), dtype, 1), made((m,), dtype, 2)
    for weights in (w, np.asfortranarray(w), np.repeat(w, 2, axis=1)[:, ::2]):
        panels = ops.pack(weights)
        assert (panels.shape, panels.dtype) == ((k, m), np.dtype(dtype))
        for _ in range(2):  # the second call is one that is remembered
            assert np.array_equal(ops.matmul(x, panels), ops.matmul(x, w))
        for activation in ACTIVATIONS if m else ("relu",):
            assert np.array_equal(ops.linear(x, panels, b, activation), ops.linear(x, w, b, activation))
    out = np.empty((n, m), dtype)
    assert ops.linear(x, ops.pack(w), out=out) is out


# How a product is shared and where it reads B follow from its shape and strides: in place by panels and by rows, B's
# last panel packed or not; panels packed here, alone and in pairs, a block of KC and more; rows of B 4096 and 8192
# bytes apart.
SHARED = [
    (100, 200, 300),
    (300, 200, 64),
    (512, 64, 100),
    (300, 600, 1000),
    (97, 1024, 1024),
    (13, 512, 1024),
    (25, 2048, 2048),
    (40, 5000, 50),
]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", SHARED)
def test_products_however_shared_and_packed_are_those_of_higher_precision(shape, threads):
    n, k, m = shape
    a, b = made((n, k), "float32"), made((k, m), "float32", 1)
    exact = a.astype("float64") @ b
    # each product's rounding is small beside its terms' Euclidean norms; one term left out is not
    bound = 8 * np.finfo("float32").eps * np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=0))
    with backends.use_num_threads(threads):
        for weights in (b, np.asfortranarray(b), np.repeat(b, 2, axis=1)[:, ::2], ops.pack(b)):
            out = np.full((n, m + 1), np.nan, "float32")
            ops.matmul(a, weights, out=out[:, :m])
            assert (abs(out[:, :m] - exact) <= bound).all()
            assert np.isnan(out[:, m]).all()


def rows_of(memory, rows):
    """An array's rows, as operands of a product find them: in order, padded, down the columns, every other number."""
    yield "rows", memory[: rows.size].reshape(rows.shape)
    yield "padded", memory[: rows.shape[0] * (rows.shape[1] + 5)].reshape(rows.shape[0], -1)[:, :-5]
    yield "columns", memory[: rows.size].reshape(rows.shape[::-1]).T
    yield "every other", memory[: 2 * rows.size].reshape(rows.shape[0], -1)[:, ::2]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CACHES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0, 16, 4080])
def test_products_at_any_address(offset, dtype, name, threads, use_caches):
    """Of A whose rows are 4096 bytes apart, and others; of blocks of every size that caches ask for."""
    use_caches(CACHES[name])
    width = 4096 // np.dtype(dtype).itemsize
    a, b = made((29, width), dtype), made((width, 300), dtype, 1)
    exact = a.astype("longdouble") @ b
    bound = 8 * np.finfo(dtype).eps * np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=0))
    room = np.empty(2 * a.nbytes + 8192, np.uint8)
    begin = (offset - room.ctypes.data) % 4096
    memory = room[begin : begin + 2 * a.nbytes].view(dtype)
    with backends.use_num_threads(threads):
        for layout, rows in rows_of(memory, a):
            rows[:] = a
            for weights in (b, np.asfortranarray(b), gemm.Panels(b)):
                assert (abs(gemm.matmul(rows, weights) - exact) <= bound).all(), layout


@pytest.mark.parametrize("shape", [(70, 700, 300), (700, 600, 40), (101, 530, 260)])
@pytest.mark.parametrize("threads", [1, 3])
def test_products_of_many_blocks(shape, threads, use_caches):
    """Blocks of some 32 rows and 256 numbers, a panel or two at a time; bias and activation once."""
    n, k, m = shape
    use_caches(machine.Caches(32 << 10, 32 << 10, 128 << 10, l1_ways=8))
    plan = gemm._plan(n, k, m, 4, (4 * k, 4), (4 * m, 4))
    assert k > plan.KC
    assert n > plan.MC
    assert plan.together * machine.tile(4).NR < m
    a, b, bias = made((n, k), "float32"), made((k, m), "float32", 1), made((m,), "float32", 2)
    exact = np.maximum(a.astype("float64") @ b + bias, 0)
    bound = 8 * np.finfo("float32").eps * (np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=0)) + 1)
    with backends.use_num_threads(threads):
        for rows in (a, np.asfortranarray(a)):
            for weights in (b, np.asfortranarray(b), gemm.Panels(b)):
                assert (abs(gemm.linear(rows, weights, bias, "relu") - exact) <= bound).all()


def test_copies_of_a_leave_no_trace_in_the_bits(use_caches):
    """Rows 4096 bytes apart are copied, where a set has room for 4; a line further apart they are not."""
    use_caches(machine.Caches(16 << 10, 512 << 10, 16 << 20, l1_ways=4))
    a, b = made((40, 1024), "float32"), made((1024, 512), "float32", 1)
    padded = np.empty((40, 1040), "float32")[:, :1024]
    padded[:] = a
    plans = [gemm._plan(40, 1024, 512, 4, rows.strides, b.strides) for rows in (a, padded)]
    assert [plan.copied for plan in plans] == [True, False]
    assert np.array_equal(gemm.matmul(a, b), gemm.matmul(padded, b))


def misses(caches, lines):
    """How many of these lines, asked for one after the other, an L1 has to fetch that drops the least recently used."""
    sets = caches.l1 // (caches.l1_ways * 64)
    held = [{} for _ in range(sets)]
    count = 0
    for line in lines:
        ways = held[line % sets]
        if ways.pop(line, None) is None:
            count += 1
            if len(ways) >= caches.l1_ways:
                del ways[next(iter(ways))]
        ways[line] = True
    return count


def lines_of_a_tile(rows, depth, strides, itemsize, start=16):
    """The cache lines that a tile asks for: numbers of A, rows of a panel of B behind it."""
    shape = machine.tile(itemsize)
    panel = 1 << 30
    for k in range(depth):
        for byte in range(0, shape.NR * itemsize, 64):
            yield (panel + k * shape.NR * itemsize + byte) // 64
        for i in range(rows):
            yield (start + i * strides[0] + k * strides[1]) // 64


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("name", CACHES)
@pytest.mark.parametrize("panels", [2, 64])
def test_no_tile_drives_out_its_own_rows(panels, name, itemsize, use_caches):
    """Each line of A is fetched once for a tile, whatever the distance of its rows; counted, since CPUs differ."""
    caches, MR, m = CACHES[name], machine.tile(itemsize).MR, panels * machine.tile(itemsize).NR
    use_caches(caches)
    fought, depth = 0, 256
    for size in (*range(224, 272, 16), *range(480, 560, 16), 1008, 1024, 1040, 2032, 2048, 2064, 4096, 8192, 8200):
        strides = size * itemsize, itemsize
        plan = gemm._plan(size, size, m, itemsize, strides, (m * itemsize, itemsize))
        tile = (itemsize, MR * itemsize) if plan.copied else strides
        once = len(set(lines_of_a_tile(plan.height, depth, tile, itemsize)))
        assert misses(caches, lines_of_a_tile(plan.height, depth, tile, itemsize)) <= 1.07 * once, size
        assert plan.copied is False or panels > 2
        everything = len(set(lines_of_a_tile(MR, depth, strides, itemsize)))
        fought += misses(caches, lines_of_a_tile(MR, depth, strides, itemsize)) > 1.07 * everything
    # tiles of MR rows, in place, would at some sizes, where they are taller than a set has ways
    assert bool(fought) is (caches.l1_ways <= MR)


def test_packed_weights_are_a_copy():
    x, w = made((3, 4), "float32"), made((4, 5), "float32", 1)
    panels, expected = ops.pack(w), ops.matmul(x, w)
    w[:] = 0
    assert np.array_equal(ops.matmul(x, panels), expected)


@pytest.mark.parametrize("shape", [*SHAPES, (3, 20, 64)])
def test_packed_weights_are_read_back_and_differentiated_for(shape):
    n, k, m = shape
    x, w, dy = made((n, k), "float32"), made((k, m), "float32", 1), made((n, m), "float32", 2)
    panels = ops.pack(w)
    assert np.array_equal(ops.unpack(panels), w)
    assert ops.unpack(panels).flags.c_contiguous
    for _ in range(2):
        for one, other in zip(
            ops.linear_backward(dy, x, panels, dy, "tanh"), ops.linear_backward(dy, x, w, dy, "tanh"), strict=True
        ):
            assert np.array_equal(one, other)
    with pytest.raises(TypeError, match="packed: got ndarray"):
        ops.unpack(w)


def test_packed_weights_stand_for_weights_only():
    x, w = made((3, 4), "float32"), made((4, 5), "float32", 1)
    panels = ops.pack(w)
    with pytest.raises(TypeError, match="a: got Panels"):
        ops.matmul(panels, w)
    with pytest.raises(ValueError, match=r"b: got shape \(4, 5\), wants shape \(3, m\)"):
        ops.matmul(x[:, :3], panels)
    with pytest.raises(TypeError, match="b: got dtype float32"):
        ops.matmul(x.astype("float64"), panels)
    with fastnn.use_backend("naive"), pytest.raises(TypeError, match="while the backend is 'naive'"):
        ops.matmul(x, panels)


@pytest.mark.parametrize(
    ("w", "error", "match"),
    [
        (None, TypeError, "wants a NumPy array"),
        ([[1.0]], TypeError, "wants a NumPy array"),
        (np.ones((2, 2), int), TypeError, "wants dtype float32 or float64"),
        (np.ones(2, "float32"), ValueError, "wants two dimensions"),
    ],
)
def test_what_cannot_be_packed(w, error, match):
    with pytest.raises(error, match=f"w: got .*{match}"):
        ops.pack(w)
    with fastnn.use_backend("naive"), pytest.raises(TypeError, match="wants the backend 'cpu'"):
        ops.pack(np.ones((2, 2), "float32"))


def layer(activation):
    """(dy, x, w, y, z), z where the derivative needs it."""
    rng = np.random.default_rng(4)
    x, w, b, dy = (rng.standard_normal(shape) for shape in ((5, 4), (4, 3), 3, (5, 3)))
    return dy, x, w, ops.linear(x, w, b, activation), ops.linear(x, w, b) if activation == "gelu" else None


@pytest.mark.parametrize("backend", ["cpu", "naive"])
@pytest.mark.parametrize("activation", ["linear", "tanh", "gelu", "softmax"])
def test_gradients_that_nobody_needs_are_left_out(backend, activation):
    dy, x, w, y, z = layer(activation)
    names = ("dx", "dw", "db")
    with fastnn.use_backend(backend):
        whole = ops.linear_backward(dy, x, w, y, activation, z)
        for need in ((), ("dw",), ("db", "dw"), ["dx"], names):
            found = ops.linear_backward(dy, x, w, y, activation, z, need=need)
            for name, one, other in zip(names, found, whole, strict=True):
                assert one is None if name not in need else np.array_equal(one, other)
        for wrong, error in (("dx", TypeError), (("dy",), ValueError), ((1,), TypeError), (None, TypeError)):
            with pytest.raises(error, match="need"):
                ops.linear_backward(dy, x, w, y, activation, z, need=wrong)


@pytest.mark.parametrize("backend", ["cpu", "naive"])
@pytest.mark.parametrize("activation", ["linear", "tanh", "gelu", "softmax"])
def test_gradients_are_written_where_they_are_wanted(backend, activation):
    """Into arrays of their own, with any strides, and over operands."""
    dy, x, w, y, z = layer(activation)
    with fastnn.use_backend(backend):
        whole = ops.linear_backward(dy, x, w, y, activation, z)
        places = {"dx": np.empty((5, 4)), "dw": np.empty((3, 4)).T, "db": np.empty(6)[::2]}
        for _ in range(2):
            for place in places.values():
                place[...] = np.nan
            found = ops.linear_backward(dy, x, w, y, activation, z, **places)
            for one, other, place in zip(found, whole, places.values(), strict=True):
                assert one is place
                assert np.array_equal(one, other)
        held = [array.copy() for array in (dy, x, w, y)]
        found = ops.linear_backward(*held, activation, z, dx=held[1], dw=held[2])
        assert found[0] is held[1]
        assert found[1] is held[2]
        for one, other in zip(found, whole, strict=True):
            assert np.array_equal(one, other)
        frozen = np.empty((4, 3))
        frozen.flags.writeable = False
        for name, wrong, error in (
            ("dx", np.empty((4, 4)), ValueError),
            ("dw", frozen, ValueError),
            ("db", np.empty(3, "float32"), TypeError),
            ("db", [0.0, 0.0, 0.0], TypeError),
        ):
            with pytest.raises(error, match=f"^{name}: got"):
                ops.linear_backward(dy, x, w, y, activation, z, **{name: wrong})
