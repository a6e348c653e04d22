"""Training on a device: whole scripts, and ways to the same result, these on the host that stands in too (slow)."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers, models, optimizers, utils
from fastnn.engine import pace, recorded
from tests.cuda_host.places import device_only
from tests.golden import test_scripts as golden

SCRIPTS = [name.removeprefix("test_") for name in vars(golden) if name.endswith("_script_on_made_data")]

# What the device shows takes data of some size; the host takes its time for them.
SIZES = {True: (104, 24, 16), False: (20_000, 300, 128)}


@device_only
@pytest.mark.parametrize("name", SCRIPTS)
def test_golden_scripts(cupy, name, monkeypatch, capsys):
    """On made data: "auto" is the backend that is chosen around them."""
    given = {"capsys": capsys} if "boston" not in name else {}
    with fastnn.use_backend("cuda"):
        getattr(golden, f"test_{name}")(monkeypatch=monkeypatch, **given)


@device_only
@golden.real
@golden.of_real_data
def test_golden_scripts_on_real_data(cupy, name, figure, low, high):
    with fastnn.use_backend("cuda"):
        assert low < golden.run(name)[figure] < high


@pytest.fixture(params=["float32", "uint8", "csr"])
def data(request, cupy):
    rows, features, _ = SIZES[hasattr(cupy, "launched")]
    rng = np.random.default_rng(0)
    x = np.where(rng.random((rows, features)) < 0.2, rng.integers(1, 9, (rows, features)), 0).astype("float32")
    y = (x[:, :4] + 0.5 * rng.random((rows, 4))).argmax(axis=1)
    if request.param == "csr":
        return pytest.importorskip("scipy.sparse").csr_array(x), y
    return x.astype(request.param), y


def fitted(cupy, data, backend="cuda", optimizer="adam", **options):
    """A model, its curves, and outputs."""
    _, _, batch = SIZES[hasattr(cupy, "launched")]
    utils.set_random_seed(1)
    stack = [layers.Dense(32, "relu"), layers.Dropout(0.2, seed=2), layers.Dense(4, "softmax")]
    built = models.Sequential(stack)
    built.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"], backend=backend, **options)
    curves = built.fit(*data, batch_size=batch, epochs=3, verbose=0, validation_data=data).history
    return built, curves, built.predict(data[0], verbose=0)


def assert_same(one, other):
    assert one[1] == other[1]
    assert one[2].tobytes() == other[2].tobytes()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one[0].get_weights(), other[0].get_weights(), strict=True))


def assert_alike(one, other):
    for name, values in one[1].items():
        np.testing.assert_allclose(values, other[1][name], rtol=1e-3, atol=1e-3, err_msg=name)
    np.testing.assert_allclose(one[2], other[2], rtol=1e-2, atol=1e-3)


def test_curves_are_those_of_the_fused_cpu_runner(cupy, data):
    assert_alike(fitted(cupy, data), fitted(cupy, data, "cpu"))


def test_bits_repeat(cupy, data):
    assert_same(fitted(cupy, data), fitted(cupy, data))


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adagrad"])
def test_rows_that_batches_do_not_have_are_stepped_later_to_the_same_bits(cupy, optimizer, monkeypatch):
    """Of CSR samples with features that few have, as many steps at once as there are, and one by one."""
    rows, features, _ = SIZES[hasattr(cupy, "launched")]
    rng = np.random.default_rng(3)
    x = np.where(rng.random((rows, 8 * features)) < 0.02, rng.random((rows, 8 * features)), 0).astype("float32")
    given = pytest.importorskip("scipy.sparse").csr_array(x), rng.integers(0, 4, rows)
    found = []
    for seconds in (0, 1e6, 1e6):
        monkeypatch.setattr(pace, "CALL_SECONDS", seconds)
        found.append(fitted(cupy, given, optimizer=optimizer))
        assert "stepped later" in found[-1][0].plan(given[0]).facts["first layer"]
    assert_same(found[0], found[1])
    assert_same(found[1], found[2])
    assert_alike(found[0], fitted(cupy, given, "cpu", optimizer=optimizer))


@device_only
@pytest.mark.parametrize("options", [{"clipvalue": 0.01}, {"clipnorm": 0.05}, {"global_clipnorm": 0.1}], ids=str)
def test_clipped_steps_are_captured_and_those_of_the_cpu(cupy, data, options):
    found = fitted(cupy, data, optimizer=optimizers.SGD(0.05, **options))
    assert found[0].plan(data[0]).facts["steps"] == "captured as a graph, launched turn after turn"
    assert_same(found, fitted(cupy, data, optimizer=optimizers.SGD(0.05, **options)))
    assert_alike(found, fitted(cupy, data, "cpu", optimizer=optimizers.SGD(0.05, **options)))


@device_only
@pytest.mark.parametrize("limit", [None, 0.3], ids=["resident", "streamed"])
def test_several_inputs_are_those_of_the_cpu(cupy, limit):
    rows, features, batch = SIZES[hasattr(cupy, "launched")]
    rng, found = np.random.default_rng(0), []
    x = {"one": rng.random((rows, features), "float32"), "other": rng.integers(0, 256, (rows, 7)).astype("uint8")}
    y = (x["one"][:, :4] + x["other"][:, :4] / 255).argmax(axis=1)
    most = None if limit is None else int(limit * sum(each.nbytes for each in x.values()))
    for backend in ("cuda", "cpu", "cuda"):
        utils.set_random_seed(1)
        one, other = layers.Input((features,), name="one"), layers.Input((7,), name="other")
        joined = layers.concatenate([layers.Dense(9, "relu")(one), layers.Rescaling(1 / 255)(other)])
        built = models.Model([one, other], layers.Dense(4, "softmax")(joined))
        built.compile(optimizers.Adam(0.003), "sparse_categorical_crossentropy", ["accuracy"], backend=backend,
                      memory_limit=most if backend == "cuda" else None)  # fmt: skip
        curves = built.fit(x, y, batch_size=batch, epochs=3, verbose=0).history
        found.append((built, curves, built.predict(x, verbose=0)))
    assert ("streamed" in found[0][0].plan(x).facts["samples"]) == (limit is not None)
    assert_same(found[0], found[2])
    assert_alike(found[0], found[1])


def test_time_does_not_decide_on_bits(cupy, data, monkeypatch):
    """Whether steps are made one by one or many at once."""
    alone, together = [], []
    for seconds, made in ((0, alone), (1e6, together)):
        monkeypatch.setattr(pace, "CALL_SECONDS", seconds)
        made.extend(fitted(cupy, data))
    assert_same(alone, together)


def test_graphs_are_the_steps_op_by_op(cupy, data, monkeypatch):
    of_graphs = fitted(cupy, data)
    monkeypatch.setattr(recorded, "is_recordable", lambda network: False)
    assert_alike(of_graphs, fitted(cupy, data))


def test_pieces_are_the_samples_as_a_whole(cupy, data):
    if hasattr(data[0], "indptr"):
        pytest.skip("CSR samples that are too large are made dense on the host")
    limit = data[0].nbytes // 3
    resident, streamed = fitted(cupy, data), fitted(cupy, data, memory_limit=limit)
    assert "streamed" in streamed[0].plan(data[0]).facts["samples"]
    assert_same(resident, streamed)


@device_only
def test_a_limit_keeps_memory(cupy):
    """Of samples of 256 MB no more is there than was allowed, beside what steps take."""
    x, y = np.zeros((1 << 16, 1 << 10), "float32"), np.zeros(1 << 16, "int64")
    pool, taken = cupy.get_default_memory_pool(), []
    for limit in (None, "32MB"):
        pool.free_all_blocks()
        before = pool.total_bytes()
        built = models.Sequential([layers.Dense(4, "softmax")])
        built.compile("sgd", "sparse_categorical_crossentropy", backend="cuda", memory_limit=limit)
        built.fit(x, y, batch_size=256, verbose=0)
        taken.append(pool.total_bytes() - before)
        del built
    assert taken[0] > x.nbytes
    assert taken[1] < x.nbytes / 2
