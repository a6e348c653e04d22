"""Training with products of bfloat16 numbers: against NumPy on rounded numbers, and what cannot be asked for."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, models, optimizers, utils
from fastnn.errors import BackendError
from fastnn.kernels.cpu import machine, threads

needs_pairs = pytest.mark.skipif(not machine.bfloat16_pairs(), reason="the targeted CPU lacks AVX512-BF16")

SIZES = [(35, 33, 65, 5), (32, 64, 10), (7, 1, 3), (1, 1), (130, 100, 100, 4)]
BATCHES = [1, 2, 31, 64]


def rounded(x):
    """x as the nearest bfloat16 numbers, in float64."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    nearest = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32)
    return nearest.view(np.float32).astype(np.float64)


def model(sizes, precision, optimizer=None, dtype="float32"):
    utils.set_random_seed(4)
    stack = [layers.Dense(n, "tanh", dtype=dtype) for n in sizes[1:-1]] + [layers.Dense(sizes[-1], dtype=dtype)]
    built = models.Sequential([layers.Input(sizes[:1]), *stack])
    built.compile(optimizer or optimizers.SGD(1.0), "mse", precision=precision)
    return built


def numpy_step(weights, x, y, round_off):
    """Weights after a step of gradient descent with rate 1 on the mean squared error; products of rounded numbers."""
    kernels, biases = weights[::2], weights[1::2]
    inputs = [x]
    for kernel, bias in zip(kernels, biases, strict=True):
        z = round_off(inputs[-1]) @ round_off(kernel) + bias
        inputs.append(z if kernel is kernels[-1] else np.tanh(z))
    dz = 2 * (inputs[-1] - y) / y.size
    after = []
    for s in range(len(kernels))[::-1]:
        dw, db = round_off(inputs[s]).T @ round_off(dz), dz.sum(axis=0)
        after[:0] = [kernels[s] - dw, biases[s] - db]
        if s > 0:
            dz = round_off(dz) @ round_off(kernels[s]).T * (1 - inputs[s] ** 2)
    return after


@needs_pairs
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("sizes", SIZES)
def test_a_step_is_that_of_rounded_numbers(sizes, batch):
    rng = np.random.default_rng(batch)
    x, y = rng.standard_normal((batch, sizes[0])), rng.standard_normal((batch, sizes[-1]))
    x, y = x.astype("float32"), y.astype("float32")
    built = model(sizes, "bfloat16")
    weights = [np.asarray(w, np.float64) for w in built.get_weights()]
    built.fit(x, y, batch_size=batch, epochs=1, shuffle=False, verbose=0)
    assert built.plan(x).precision == "bfloat16"
    moved = [w - before for w, before in zip(built.get_weights(), weights, strict=True)]
    expected = [w - before for w, before in zip(numpy_step(weights, x, y, rounded), weights, strict=True)]
    exact = [w - before for w, before in zip(numpy_step(weights, x, y, np.asarray), weights, strict=True)]
    for got, wanted in zip(moved, expected, strict=True):
        # an activation that float32 and float64 put on two sides of a rounding boundary moves by one part in 256
        assert abs(got - wanted).max() <= 2e-3 * abs(wanted).max() + 1e-6
    off, bound = abs(moved[0] - expected[0]).max(), abs(moved[0] - exact[0]).max()
    assert off < bound, "the products are those of unrounded numbers"


@needs_pairs
@pytest.mark.parametrize("kind", ["dense", "sparse", "expanded"])
def test_results_do_not_depend_on_threads(kind, monkeypatch):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    monkeypatch.setattr(threads, "SERIAL_BELOW_NS", 0.0)
    rng = np.random.default_rng(0)
    density = {"dense": 1.0, "sparse": 0.05, "expanded": 0.6}[kind]
    x = np.where(rng.random((101, 130)) < density, rng.standard_normal((101, 130)), 0).astype("float32")
    y = rng.standard_normal((101, 4)).astype("float32")
    given = scipy_sparse.csr_matrix(x) if kind == "expanded" else x
    found = []
    for count in (1, 2, 3, 4):
        monkeypatch.setitem(threads._state, "threads", count)
        built = model((130, 100, 67, 4), "bfloat16", "rmsprop")
        built.fit(given, y, batch_size=19, epochs=3, verbose=0)
        found.append(built.get_weights())
    for other in found[1:]:
        assert all((a == b).all() for a, b in zip(found[0], other, strict=True))
    dense = model((130, 100, 67, 4), "bfloat16", "rmsprop")
    dense.fit(x, y, batch_size=19, epochs=3, verbose=0)
    assert all((a == b).all() for a, b in zip(found[0], dense.get_weights(), strict=True))


@needs_pairs
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_training_follows_float32(optimizer):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((400, 20)).astype("float32")
    y = np.tanh(x @ rng.standard_normal((20, 3)) / 4).astype("float32")
    losses = []
    for precision in (None, "bfloat16", "auto"):
        built = model((20, 64, 3), precision, {"sgd": optimizers.SGD(0.1)}.get(optimizer, optimizer))
        losses.append(built.fit(x, y, batch_size=32, epochs=12, verbose=0).history["loss"])
    assert losses[1] == losses[2]
    assert losses[1] != losses[0]
    assert losses[1][-1] < 0.5 * losses[1][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.03)


def test_refused_where_the_cpu_lacks_it(monkeypatch):
    monkeypatch.setattr(machine, "bfloat16_pairs", lambda: False)
    with pytest.raises(BackendError, match=r"precision: got 'bfloat16'.* no AVX512-BF16.*'auto' falls back"):
        model((3, 2), "bfloat16")
    models._note_fallback.cache_clear()
    with pytest.warns(UserWarning, match="precision 'auto' is float32, because this CPU has no AVX512-BF16"):
        built = model((3, 2), "auto")
    model((3, 2), "auto")  # in silence: warnings are errors here
    plan = built.plan(np.ones((4, 3), "float32"))
    assert plan.precision == "float32"
    assert "in place of bfloat16, because this CPU has no AVX512-BF16" in str(plan)
    built.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)


@needs_pairs
def test_refused_where_training_cannot_use_it():
    x, y = np.ones((4, 3)), np.ones((4, 2))
    for wrong, match in ((("bfloat16", None, "float64"), "these are float64"), (("half", None), "wants one of")):
        with pytest.raises((BackendError, ValueError), match=match):
            model((3, 2), *wrong).fit(x, y, verbose=0)
    built = model((3, 2), "bfloat16")
    with pytest.raises(BackendError, match="the backend is 'naive'"):
        built.compile("sgd", "mse", backend="naive", precision="bfloat16")
