"""Data that are read where they lie: read-only, mapped from a file, behind odd strides; and none of them written to."""

from __future__ import annotations

import mmap
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from fastnn import engine, layers, losses, models, utils
from fastnn.engine import form, inputs
from fastnn.engine.data import DataSet, input_source
from fastnn.engine.inputs import Feed

F32 = np.dtype("float32")
ROWS, WIDTH, CLASSES = 300, 12, 3


def locked(array):
    """The same array behind a view that nobody may write through."""
    view = array.view()
    view.flags.writeable = False
    return view


def mapped(folder, array, name="x"):
    np.save(folder / f"{name}.npy", array)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def samples(dtype, rows=ROWS, width=WIDTH):
    """Numbers, of which no dtype makes many zeros: the zeros of others would be skipped."""
    rng = np.random.default_rng(0)
    return rng.integers(1, 9, (rows, width)).astype(dtype) if dtype != "bool" else rng.random((rows, width)) < 0.7


def labels(rows=ROWS):
    return np.random.default_rng(1).integers(0, CLASSES, rows)


def model(width=WIDTH, loss="sparse_categorical_crossentropy", stack=()):
    utils.set_random_seed(5)
    built = models.Sequential(
        [layers.Input((width,)), *stack, layers.Dense(16, "relu"), layers.Dense(CLASSES, "softmax")]
    )
    built.compile("rmsprop", loss, metrics=["accuracy"])
    return built


def trained(x, y, weight=None, loss="sparse_categorical_crossentropy"):
    """The figures and weights of a fit, and what comes after it."""
    built = model(x.shape[1], loss)
    history = built.fit(x, y, 32, 2, verbose=0, sample_weight=weight, validation_data=(x, y, weight)).history
    figures = built.evaluate(x, y, sample_weight=weight, verbose=0)
    outputs = built.predict(x, verbose=0)
    batch = built.train_on_batch(x[:64], y[:64], None if weight is None else weight[:64])
    return [*history.values(), figures, batch, outputs, *built.get_weights()]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)


def fed(x, y, sample_weight=None, loss=None, dtype=F32):
    """What the kernel reads of these data."""
    loss = loss or losses.SparseCategoricalCrossentropy()
    data = DataSet(input_source("x", x, dtype), y, sample_weight, np.int64 if loss.integer_targets else dtype)
    return Feed(data, loss, dtype, form.Preparation(), sparse=False)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool"])
@pytest.mark.parametrize("how", ["writable", "locked", "mapped"])
def test_what_the_kernel_can_read_is_not_copied(dtype, how, tmp_path):
    x, y, weight = samples(dtype), labels(), np.ones(ROWS, "float32")
    if how == "locked":
        x, y, weight = locked(x), locked(y), locked(weight)
    elif how == "mapped":
        x, y, weight = mapped(tmp_path, x), mapped(tmp_path, y, "y"), mapped(tmp_path, weight, "weight")
    feed = fed(x, y, weight)
    record = feed.inputs
    assert np.shares_memory(record.dense if dtype == "float32" else record.bytes, x)
    assert np.shares_memory(feed.targets.labels, y)
    assert np.shares_memory(feed.targets.weights, weight)
    rows = locked(samples("float32"))
    targets = fed(x, rows, loss=losses.MeanSquaredError()).targets
    assert np.shares_memory(targets.rows, rows)
    assert np.shares_memory(targets.goals, rows)


def test_csr_of_read_only_arrays_is_not_copied(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.random(ROWS, 40, 0.1, "csr", "float32", 3)
    names = ("data", "indices", "indptr")
    parts = [mapped(tmp_path, getattr(matrix, name), name) for name in names]
    held = sparse.csr_array(tuple(parts), shape=matrix.shape, copy=False)
    arrays = {name: getattr(held, name) for name in names}
    record = fed(held, labels()).inputs
    assert np.shares_memory(record.values, parts[0])
    assert np.shares_memory(record.indices, parts[1])
    assert_same(trained(held, labels()), trained(sparse.csr_array(matrix), labels()))
    assert all(getattr(held, name) is array for name, array in arrays.items())
    first, second = DataSet(input_source("x", held, F32), labels(), None, np.int64).split(200)
    assert (first.x.batch(slice(0, 200)) == matrix[:200].toarray()).all()
    assert (second.x.batch(slice(0, 100)) == matrix[200:].toarray()).all()
    assert np.shares_memory(first.x.matrix.data, parts[0])


class Foreign:
    """An array of another library, which hands out a read-only one."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __array__(self, dtype=None, copy=None):
        return locked(self.array)

    def __getitem__(self, rows):
        return Foreign(self.array[rows])


LOCKED = {
    "locked": locked,
    "fortran": lambda array: locked(np.asfortranarray(array)),
    "reversed": lambda array: locked(array[::-1].copy())[::-1],
    "buffer": lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
    "unaligned": lambda array: np.frombuffer(b"?" + array.tobytes(), array.dtype, offset=1).reshape(array.shape),
    "foreign": Foreign,
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
@pytest.mark.parametrize("how", LOCKED)
def test_read_only_data_train_like_any_others(how, dtype):
    x, y, weight = samples(dtype), labels(), np.linspace(0.5, 2, ROWS, dtype="float32")
    expected = trained(x.copy(), y.copy(), weight.copy())
    assert_same(trained(*map(LOCKED[how], (x, y, weight))), expected)


@pytest.mark.parametrize(
    "loss", ["mse", "categorical_crossentropy", losses.CategoricalCrossentropy(label_smoothing=0.1)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_read_only_rows_as_targets(loss, dtype):
    x, y = samples("float32"), np.eye(CLASSES, dtype=dtype)[labels()]
    assert_same(trained(locked(x), locked(y), loss=loss), trained(x.copy(), y.copy(), loss=loss))


def test_arrays_whose_rows_share_memory():
    x, y, weight = np.broadcast_to(samples("float32", 1), (ROWS, WIDTH)), np.broadcast_to(1, ROWS), np.ones(ROWS, "f")
    assert_same(trained(x, y, np.broadcast_to(np.float32(1), ROWS)), trained(x.copy(), y.copy(), weight))


@pytest.fixture
def small_pieces(monkeypatch):
    """Mapped data count as too large to copy, and a piece of them is three batches of 32 samples."""
    monkeypatch.setattr(inputs, "COPIED_UP_TO", 0)
    monkeypatch.setattr(inputs, "AT_A_TIME", 96 * (WIDTH + 1) * 4)


def transposed(folder, array):
    return mapped(folder, np.ascontiguousarray(array.T)).T


def with_a_gap(folder, array):
    return mapped(folder, np.repeat(array, 2, axis=1))[:, ::2]


def of_a_buffer(folder, array):
    (folder / "raw").write_bytes(array.tobytes())
    with open(folder / "raw", "rb") as file:
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(held, array.dtype).reshape(array.shape)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8", ">f4"])
@pytest.mark.parametrize("how", [mapped, transposed, with_a_gap, of_a_buffer])
def test_mapped_data_are_converted_piece_by_piece(how, dtype, tmp_path, small_pieces):
    """Figures, weights and outputs are those of data in memory, bit by bit."""
    x, y = samples(dtype), labels()
    held = how(tmp_path, x)
    in_place = dtype in ("float32", "uint8") and how in (mapped, of_a_buffer)
    feed = fed(held, y)
    assert (feed.inputs.dense.size + feed.inputs.bytes.size == 0) == (not in_place)
    assert feed.steps(32) == (10 if in_place else 3)
    expected = trained(x, y)
    assert_same(trained(held, locked(y)), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bool", ">f4"])
def test_arrays_of_all_samples(dtype, tmp_path, monkeypatch):
    """As batches have them, where they lie or copied up to a limit."""
    weight = np.linspace(0.5, 2, ROWS)
    for x in (samples(dtype), samples(dtype)[::-1], mapped(tmp_path, samples(dtype))):
        data = DataSet(input_source("x", x, F32), labels().astype("uint8"), weight, np.dtype("int64"))
        found, batch = inputs.arrays_of(data), data.batch(slice(5, 9), 4)
        for array, expected in zip(found, (batch.x, batch.y, batch.sample_weight), strict=True):
            assert array.dtype == expected.dtype
            assert array[5:9].tobytes() == expected.tobytes()
        assert np.shares_memory(found[0], x) == (dtype == "float32" and x.flags.c_contiguous)
        copied = sum(array.nbytes for array in found if not np.shares_memory(array, x))
        for limit in (copied, copied - 1):
            monkeypatch.setattr(inputs, "COPIED_UP_TO", limit)
            assert (inputs.arrays_of(data) is None) == (limit < copied)
        monkeypatch.undo()


def test_mapped_targets_are_converted_piece_by_piece(tmp_path, small_pieces):
    x, weight = samples("uint8"), np.linspace(0.5, 2, ROWS)
    y = np.eye(CLASSES)[labels()]
    feed = fed(x, mapped(tmp_path, y), loss=losses.MeanSquaredError())
    assert feed.targets.rows.size == 0
    assert_same(trained(x, mapped(tmp_path, y), weight, "mse"), trained(x, y, weight, "mse"))


@pytest.mark.parametrize("reduction", ["mean", "mean_with_sample_weight"])
def test_a_class_is_ignored_piece_by_piece(tmp_path, small_pieces, reduction):
    x, y, weight = samples("int16"), labels(), np.linspace(0.5, 2, ROWS)
    loss = losses.SparseCategoricalCrossentropy(ignore_class=1, reduction=reduction)
    expected = trained(x, y, weight, loss)
    assert_same(trained(mapped(tmp_path, x), locked(y), weight, loss), expected)
    y[y == 1] = -3
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-3, reduction=reduction)
    assert_same(trained(x, y, weight, loss)[-5:], expected[-5:])  # outputs and weights: a class more may be missed


def test_images_that_are_mapped_are_flattened_piece_by_piece(tmp_path, small_pieces):
    x, y = samples("float64").reshape(ROWS, 3, 4), labels()
    found = []
    other = mapped(tmp_path, x.transpose(0, 2, 1).copy(), "other").transpose(0, 2, 1)
    for images in (x, mapped(tmp_path, x), other):
        utils.set_random_seed(2)
        built = models.Sequential([layers.Input((3, 4)), layers.Flatten(), layers.Dense(CLASSES, "softmax")])
        built.compile("adam", "sparse_categorical_crossentropy")
        built.fit(images, y, 32, 2, verbose=0, validation_split=0.25)
        found.append([*built.get_weights(), built.predict(images, verbose=0)])
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


def test_zeros_are_skipped_where_their_places_take_little_memory(tmp_path, monkeypatch):
    x = np.where(np.random.default_rng(0).random((600, 40)) < 0.1, 1.0, 0.0).astype("float32")
    network = model(40)._network()
    one, other = (input_source("x", array, F32) for array in (x, mapped(tmp_path, x)))
    assert inputs.is_sparse(one, network)
    assert inputs.is_sparse(other, network)
    monkeypatch.setattr(inputs, "COPIED_UP_TO", 1000)
    assert inputs.is_sparse(one, network)
    assert not inputs.is_sparse(other, network)
    assert "dense, since non-zeros of a mapped file" in str(engine.make_plan(network, "cpu", other))


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_the_callers_arrays_are_never_written_to(dtype):
    """Dropout, rescaling, clipping, penalties and smoothing happen elsewhere, on either runner."""
    x, rows, weight = samples(dtype), np.eye(CLASSES, dtype="float32")[labels()], np.ones(ROWS, "float32")
    state = [zlib.crc32(array) for array in (x, rows, weight)]
    for backend in ("cpu", "naive"):
        few = slice(0, ROWS if backend == "cpu" else 8)
        built = model(stack=[layers.Rescaling(0.5, 0.1), layers.Dropout(0.5)])
        built.compile("sgd", losses.CategoricalCrossentropy(label_smoothing=0.1), ["accuracy"], backend=backend)
        for data in ((x[few], rows[few], weight[few]), tuple(map(locked, (x[few], rows[few], weight[few])))):
            built.fit(*data[:2], 7, 1, verbose=0, sample_weight=data[2], validation_data=data)
            built.evaluate(*data[:2], sample_weight=data[2], verbose=0)
            built.predict(data[0], verbose=0)
            built.train_on_batch(*data)
            built.test_on_batch(*data)
            built(data[0])
    assert [zlib.crc32(array) for array in (x, rows, weight)] == state


STATUS = Path("/proc/self/status")


def anonymous():
    """Bytes of this process's own memory, without what is mapped from files."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10


class Peak:
    """``with Peak() as peak``: by how much memory of this process's own has grown at most."""

    def __enter__(self):
        self.before, self.grown, self.ended = anonymous(), 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while not self.ended.wait(0.002):
            self.grown = max(self.grown, anonymous() - self.before)

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.grown = max(self.grown, anonymous() - self.before)


def on_disk(path, dtype, size, width, every):
    """So many bytes of samples in a file, written a part at a time: 1000 of ``every`` so many, and holes between."""
    rows = size // (width * np.dtype(dtype).itemsize)
    array = np.lib.format.open_memmap(path, "w+", dtype, (rows, width))
    part = samples(dtype, 1000, width)
    for first in range(0, rows, every):
        array[first : first + 1000] = part[: rows - first]
    array.flush()
    return np.load(path, mmap_mode="r")


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's count of a process's own memory")
@pytest.mark.parametrize(
    ("dtype", "size", "every", "copied"),
    [
        ("float32", 200_000_000, 1000, 1 << 20),
        ("uint8", 200_000_000, 1000, 1 << 20),
        ("float64", 200_000_000, 1000, 1 << 20),
        pytest.param("float32", 4_000_000_000, 10_000, inputs.COPIED_UP_TO, marks=pytest.mark.slow),
    ],
)
def test_memory_does_not_grow_with_mapped_data(dtype, size, every, copied, tmp_path, monkeypatch):
    """200 MB or 4 GB take less than 60 MB, where a copy of 200 MB, or a mask over them, would take 50 to 200."""
    monkeypatch.setattr(inputs, "COPIED_UP_TO", copied)
    width = 1000
    x = on_disk(tmp_path / "large.npy", dtype, size, width, every)
    y, weight = mapped(tmp_path, labels(len(x)), "y"), mapped(tmp_path, np.ones(len(x), "f"), "weight")
    built = model(width, stack=[layers.Rescaling(1 / 8)])

    def use(x, y, weight):
        built.fit(x, y, 256, 1, verbose=0, sample_weight=weight, validation_data=(x[:3000], y[:3000]))
        built.evaluate(x, y, verbose=0, sample_weight=weight)
        built.predict(x, verbose=0)
        built.train_on_batch(x[:500], y[:500])

    use(x[:3000], y[:3000], weight[:3000])  # compiles, and starts the threads
    with Peak() as peak:
        use(x, y, weight)
    (tmp_path / "large.npy").unlink()
    assert peak.grown < 60_000_000
