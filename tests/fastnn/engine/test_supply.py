"""How samples come to a device: as a whole, once a fit, or piece by piece."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import callbacks, layers, models, utils
from fastnn.engine import pace, supply, tables
from fastnn.engine.data import DataSet, DenseSource, SparseSource
from tests.cuda_host.places import host_only

ROWS, FEATURES, CLASSES, BATCH = 150, 40, 4, 16

rng = np.random.default_rng(0)
X = np.where(rng.random((ROWS, FEATURES)) < 0.3, rng.integers(1, 9, (ROWS, FEATURES)), 0)
Y = rng.integers(0, CLASSES, ROWS)
WEIGHTS = np.linspace(0.5, 2, ROWS)
KINDS = ["float32", "float64", "uint8", "bool", "csr"]


def samples(kind):
    if kind == "csr":
        return pytest.importorskip("scipy.sparse").csr_array(X.astype("float32"))
    return X.astype(kind)


def model(backend="cuda", **options):
    utils.set_random_seed(1)
    built = models.Sequential([layers.Dense(9, "relu"), layers.Dense(CLASSES, "softmax")])
    built.compile("rmsprop", "sparse_categorical_crossentropy", ["accuracy"], backend=backend, **options)
    return built


def fitted(x, backend="cuda", compiling=(), **options):
    built = model(backend, **dict(compiling))
    given = {"batch_size": BATCH, "epochs": 2, "verbose": 0, "sample_weight": WEIGHTS, **options}
    return built, built.fit(x, Y, **given).history


def bits(built, history):
    return history, [weights.tobytes() for weights in built.get_weights()]


def assert_alike(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_fits_are_those_of_the_cpu(cupy, kind):
    (one, curves), (other, wanted) = (fitted(samples(kind), backend) for backend in ("cuda", "cpu"))
    assert_alike(one, other)
    for name, values in wanted.items():
        np.testing.assert_allclose(curves[name], values, rtol=1e-4)


@host_only
@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_samples_go_there_once_a_fit(cupy, monkeypatch, kind, listening):
    """Bytes as bytes, CSR matrices as such; whether callbacks listen to batches or not."""
    listeners = [callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)] if listening else []
    x, found = samples(kind), []
    monkeypatch.setattr(SparseSource, "batch", None)
    for epochs in (1, 2):
        cupy.sent.clear()
        fitted(x, epochs=epochs, callbacks=listeners)
        largest = max(cupy.sent)
        found.append(cupy.sent.count(largest))
        wanted = {"uint8": X.size, "bool": X.size, "csr": 4 * np.count_nonzero(X)}.get(kind, 4 * X.size)
        assert largest == wanted
    assert found == ([2, 2] if kind == "csr" else [1, 1])


def waits_of(cupy, monkeypatch, run):
    """How often somebody waits for the device."""
    count, plain = [0], cupy._wait

    def wait():
        count[0] += 1
        plain()

    with monkeypatch.context() as patch:
        patch.setattr(cupy, "_wait", wait)
        run()
    return count[0]


@host_only
def test_nobody_waits_to_hear_how_many_non_zeros_a_batch_has(cupy, monkeypatch):
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    found = []
    for size in (BATCH, BATCH // 2):
        cupy.launched.clear()
        found.append(waits_of(cupy, monkeypatch, lambda size=size: fitted(samples("csr"), batch_size=size)))
        assert "graph" in cupy.launched
    assert found[0] == found[1]


def test_a_layer_that_cannot_multiply_by_csr_gets_dense_batches(cupy):
    def of(backend):
        utils.set_random_seed(1)
        built = models.Sequential([layers.Dropout(0.2, seed=3), layers.Dense(CLASSES, "softmax")])
        built.compile("sgd", "sparse_categorical_crossentropy", backend=backend)
        built.fit(samples("csr"), Y, batch_size=BATCH, verbose=0)
        return built

    assert_alike(of("cuda"), of("cpu"))
    assert "made dense on the host" in of("cuda").plan(samples("csr")).facts["samples"]


# Less than the samples take, in pieces of two batches.
SMALL = {"memory_limit": 4 * BATCH * (FEATURES * 4 + 8 + 4)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"batch_size": ROWS}, {"batch_size": 7}])
def test_samples_that_come_piece_by_piece_give_the_same_bits(cupy, monkeypatch, kind, options):
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    assert bits(*fitted(samples(kind), compiling=SMALL, **options)) == bits(*fitted(samples(kind), **options))


def test_batches_of_pieces_that_callbacks_listen_to(cupy):
    listeners = {"callbacks": [callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)]}
    x = samples("uint8")
    assert bits(*fitted(x, compiling=SMALL, **listeners)) == bits(*fitted(x, **listeners))


@host_only
def test_a_limit_keeps_memory_and_is_in_the_plan(cupy):
    x = samples("float32")
    built, _ = fitted(x, compiling=SMALL)
    assert "streamed" in built.plan(x).facts["samples"]
    assert "on the device, 24,000 bytes" in model().plan(x).facts["samples"]
    assert max(cupy.sent[-20:]) < x.nbytes
    cupy.sent.clear()
    fitted(x, compiling=SMALL)
    assert max(cupy.sent) <= SMALL["memory_limit"] / 2


@pytest.mark.parametrize(("limit", "size"), [(5, 5), ("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("100B", 100)])
def test_limits_as_numbers_and_as_text(limit, size):
    assert model("cpu", memory_limit=limit)._network().memory_limit == size


@pytest.mark.parametrize("limit", [0, -1, "0GB", "3k", "5XB", "5iB", "", "GB"])
def test_limits_that_are_none(limit):
    with pytest.raises(ValueError, match=r"memory_limit: got .*, wants a number of bytes above 0, or a text"):
        model("cpu", memory_limit=limit)


@pytest.mark.parametrize("limit", [2.5, True, b"2GB", [1]])
def test_limits_of_other_types(limit):
    with pytest.raises(TypeError, match=r"memory_limit: got .*, wants a number of bytes above 0, or a text"):
        model("cpu", memory_limit=limit)


# Two inputs, one of bytes, and two outputs with weights of their own; less than they take, in pieces of three batches.
PAIR = {"one": X.astype("float32"), "other": X[:, :7].astype("uint8")}
TARGETS = {"class": Y, "value": X[:, :1].astype("float64")}
WEIGHTS_OF_PAIR = {"class": WEIGHTS, "value": WEIGHTS[::-1].copy()}
SMALL_PAIR = 6 * BATCH * (FEATURES * 4 + 7 + 8 + 4 + 2 * 4)


def fitted_to_pairs(backend="cuda", limit=None, epochs=2, **options):
    utils.set_random_seed(1)
    one, other = layers.Input((FEATURES,), name="one"), layers.Input((7,), name="other")
    hidden = layers.add([layers.Dense(6, "tanh")(one), layers.Dense(6, "relu")(layers.Rescaling(0.1)(other))])
    outputs = [layers.Dense(CLASSES, "softmax", name="class")(hidden), layers.Dense(1, name="value")(hidden)]
    built = models.Model([one, other], outputs)
    losses = {"class": "sparse_categorical_crossentropy", "value": "mse"}
    built.compile("rmsprop", losses, {"class": ["accuracy"]}, backend=backend, memory_limit=limit)
    given = {"batch_size": BATCH, "epochs": epochs, "verbose": 0, "sample_weight": WEIGHTS_OF_PAIR, **options}
    return built, built.fit(PAIR, TARGETS, **given).history


def test_several_inputs_and_targets(cupy):
    (one, curves), (other, wanted) = (fitted_to_pairs(backend) for backend in ("cuda", "cpu"))
    assert_alike(one, other)
    for name, values in wanted.items():
        np.testing.assert_allclose(curves[name], values, rtol=1e-4)
    for a, b in zip(one.predict(PAIR, verbose=0), other.predict(PAIR, verbose=0), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    figures = [built.evaluate(PAIR, TARGETS, 9, verbose=0, sample_weight=WEIGHTS_OF_PAIR) for built in (one, other)]
    np.testing.assert_allclose(*figures, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"batch_size": 7}])
def test_several_inputs_and_targets_piece_by_piece(cupy, monkeypatch, options):
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    streamed = fitted_to_pairs(limit=SMALL_PAIR, **options)
    assert "streamed" in streamed[0].plan(PAIR).facts["samples"]
    assert bits(*streamed) == bits(*fitted_to_pairs(**options))


@host_only
@pytest.mark.parametrize("limit", [None, SMALL_PAIR])
def test_several_inputs_and_targets_go_there_once_and_are_not_made_batch_by_batch(cupy, monkeypatch, limit):
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    monkeypatch.setattr(DenseSource, "batch", None)
    found = []
    for epochs in (2, 4):
        cupy.sent.clear()
        cupy.launched.clear()
        fitted_to_pairs(limit=limit, epochs=epochs)
        assert "graph" in cupy.launched
        found.append(cupy.sent.count(4 * X.size))
    assert found == ([1, 1] if limit is None else [0, 0])


def of_few(kind):
    """Dense samples of next to nothing but zeros."""
    few = np.zeros((ROWS, 300))
    few[np.arange(ROWS), rng.permutation(ROWS)] = np.arange(1, ROWS + 1)
    return (few % 7).astype(kind)


@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "bool", "float16"])
def test_samples_of_next_to_nothing_but_zeros_are_csr_there(cupy, kind):
    x = of_few(kind)
    (one, curves), (other, wanted) = (fitted(x, backend) for backend in ("cuda", "cpu"))
    assert_alike(one, other)
    for name, values in wanted.items():
        np.testing.assert_allclose(curves[name], values, rtol=1e-4)
    facts = one.plan(x).facts
    assert "on the device as CSR" in facts["samples"]
    assert "are stepped later" in facts["first layer"]
    assert "as CSR" not in model().plan(samples("float32")).facts["samples"]
    np.testing.assert_allclose(one.predict(x, verbose=0), other.predict(x, verbose=0), rtol=1e-4, atol=1e-6)


LATE = ["default", "others", "all"]


@host_only
@pytest.mark.parametrize("kind", ["uint8", "csr"])
@pytest.mark.parametrize("late", LATE)
def test_streams_that_are_late_give_the_same_bits(cupy, monkeypatch, late, kind):
    """Where work is done only when somebody waits for it, all that has to wait does."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    wanted = bits(*fitted(samples(kind)))
    with cupy.late(late):
        assert bits(*fitted(samples(kind), compiling=SMALL)) == wanted


def streaming():
    """Pieces of two batches."""
    data = DataSet(DenseSource(X.astype("float32"), np.dtype("float32")))
    (table,) = tables.inputs(data.x, takes_csr=False)
    return supply._Streams([table], data, most=2 * BATCH * table.row)


def pieces_of(cupy, late):
    """Whether pieces that are read one after the other, without a look between, are those that were asked for."""
    streams, order = streaming(), rng.permutation(ROWS)
    found = []
    with cupy.late(late):
        batches = streams.batches(order, BATCH)
        for step in range(0, 8, 2):
            taken = batches.together(step, 2)
            found.append(taken.arrays[0].copy())
            taken.meanwhile()
        return all(np.array_equal(a.get(), X[order[32 * k : 32 * k + 32]]) for k, a in enumerate(found))


def no_record(place, name):
    getattr(place, name).record = lambda stream=None: None


def no_wait(place, name):
    getattr(place, name).synchronize = lambda: None


FAULTS = {
    "steps do not wait for the copy": (no_record, "copied"),
    "the copy does not wait for the steps": (no_record, "read"),
    "the host does not wait for pinned memory": (no_wait, "copied"),
}


@host_only
def test_memory_goes_back_when_copies_have_ended(cupy):
    """Of a fit that ends while a piece is under way."""
    streams = streaming()
    with cupy.late("others"):
        batches = streams.batches(np.arange(ROWS), BATCH)
        batches.together(0, 2).meanwhile()
        piece = streams._places[1].rooms[0].there
        assert not np.array_equal(piece._host, X[32:64])
        del batches, streams
        assert np.array_equal(piece._host, X[32:64])


@host_only
def test_pieces_are_those_asked_for(cupy):
    assert all(pieces_of(cupy, late) for late in LATE)


@host_only
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wait_that_is_missing_is_seen(cupy, monkeypatch, fault):
    spoil, name = FAULTS[fault]
    make = supply._Place.__init__

    def spoilt(self, *given):
        make(self, *given)
        spoil(self, name)

    monkeypatch.setattr(supply._Place, "__init__", spoilt)
    assert not all(pieces_of(cupy, late) for late in LATE)


@host_only
@pytest.mark.parametrize("what", ["fit", "evaluate", "predict"])
def test_samples_that_the_device_has_no_room_for(cupy, monkeypatch, what):
    """The error says what was asked, what is free and what to do; with a limit the same model goes on."""
    x = samples("float32")
    built, _ = fitted(x)
    before = bits(built, built.optimizer.iterations)
    built.compile(built.optimizer, built.loss, backend="cuda", memory_limit="1MB")
    given = (x,) if what == "predict" else (x, Y)
    monkeypatch.setattr(cupy, "most", x.nbytes - 1)
    with pytest.raises(MemoryError, match=rf"allocating {x.nbytes:,} bytes.*free on CUDA device 0.*memory_limit"):
        getattr(built, what)(*given, batch_size=BATCH, verbose=0)
    assert bits(built, built.optimizer.iterations) == before
    built.compile(built.optimizer, built.loss, backend="cuda", memory_limit="10kB")
    getattr(built, what)(*given, batch_size=BATCH, verbose=0)
