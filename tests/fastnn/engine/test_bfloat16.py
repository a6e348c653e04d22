"""Training with products of bfloat16 numbers: against NumPy on rounded numbers, and what cannot be asked for."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, models, optimizers, regularizers, utils
from fastnn.errors import BackendError
from fastnn.kernels.cpu.compiler import machine
from fastnn.kernels.cpu.teams import threads

needs_pairs = pytest.mark.skipif(not machine.bfloat16_pairs(), reason="the targeted CPU lacks AVX512-BF16")

SIZES = [(35, 33, 65, 5), (32, 64, 10), (7, 1, 3), (1, 1), (130, 100, 100, 4)]
BATCHES = [1, 2, 31, 64]


def rounded(x):
    """x as the nearest bfloat16 numbers, in float64."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    nearest = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32)
    return nearest.view(np.float32).astype(np.float64)


# What happens beside a plain step: L2 penalties on kernels and outputs, the optimizer's arguments, and what these do to
# a parameter and its gradient.
PLAIN = (0.0, {}, lambda w, g: (w, g))
OPTIONS = {
    "penalties": (0.05, {}, lambda w, g: (w, g)),
    "clipvalue": (0.01, {"clipvalue": 0.02}, lambda w, g: (w, np.clip(g, -0.02, 0.02))),
    "clipnorm": (0.01, {"clipnorm": 0.02}, lambda w, g: (w, g * min(1, 0.02 / np.linalg.norm(g)))),
    "decay": (0.01, {"weight_decay": 0.25}, lambda w, g: (0.75 * w, g)),
}


def model(sizes, precision, optimizer=None, dtype="float32", penalty=0.0):
    utils.set_random_seed(4)
    penalties = {"kernel_regularizer": regularizers.L2(penalty), "activity_regularizer": regularizers.L2(penalty)}
    activations = ["tanh"] * (len(sizes) - 2) + ["linear"]
    stack = [layers.Dense(*each, dtype=dtype, **penalties) for each in zip(sizes[1:], activations, strict=True)]
    built = models.Sequential([layers.Input(sizes[:1]), *stack])
    built.compile(optimizer or optimizers.SGD(1.0), "mse", precision=precision)
    return built


def numpy_step(weights, x, y, round_off, penalty, before):
    """Weights after a step of gradient descent with rate 1 on the mean squared error; products of rounded numbers.

    ``penalty`` is L2's on kernels and outputs; a step is made on what ``before`` makes of a parameter and its gradient.
    """
    kernels, biases = weights[::2], weights[1::2]
    inputs = [x]
    for kernel, bias in zip(kernels, biases, strict=True):
        z = round_off(inputs[-1]) @ round_off(kernel) + bias
        inputs.append(z if kernel is kernels[-1] else np.tanh(z))
    dz = 2 * (inputs[-1] - y) / y.size + 2 * penalty * inputs[-1] / len(x)
    gradients = []
    for s in range(len(kernels))[::-1]:
        dw = round_off(inputs[s]).T @ round_off(dz) + 2 * penalty * kernels[s]
        gradients[:0] = [dw, dz.sum(axis=0)]
        if s > 0:
            dy = round_off(dz) @ round_off(kernels[s]).T + 2 * penalty * inputs[s] / len(x)
            dz = dy * (1 - inputs[s] ** 2)
    return [np.subtract(*before(*each)) for each in zip(weights, gradients, strict=True)]


@needs_pairs
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    ("options", "sizes"), [("plain", sizes) for sizes in SIZES] + [(name, SIZES[0]) for name in OPTIONS]
)
def test_a_step_is_that_of_rounded_numbers(options, sizes, batch):
    penalty, arguments, before = OPTIONS.get(options, PLAIN)
    rng = np.random.default_rng(batch)
    x, y = rng.standard_normal((batch, sizes[0])), rng.standard_normal((batch, sizes[-1]))
    x, y = x.astype("float32"), y.astype("float32")
    built = model(sizes, "bfloat16", optimizers.SGD(1.0, **arguments), penalty=penalty)
    weights = [np.asarray(w, np.float64) for w in built.get_weights()]
    built.fit(x, y, batch_size=batch, epochs=1, shuffle=False, verbose=0)
    assert built.plan(x).precision == "bfloat16"
    moved = [w - old for w, old in zip(built.get_weights(), weights, strict=True)]
    expected, exact = (
        [w - old for w, old in zip(numpy_step(weights, x, y, round_off, penalty, before), weights, strict=True)]
        for round_off in (rounded, np.asarray)
    )
    for got, wanted in zip(moved, expected, strict=True):
        # an activation that float32 and float64 put on two sides of a rounding boundary moves by one part in 256
        assert abs(got - wanted).max() <= 2e-3 * abs(wanted).max() + 1e-6
    off, bound = abs(moved[0] - expected[0]).max(), abs(moved[0] - exact[0]).max()
    assert off < bound, "the products are those of unrounded numbers"


@needs_pairs
@pytest.mark.parametrize("options", ["plain", "decay", "clipnorm"])
@pytest.mark.parametrize("kind", ["dense", "sparse", "expanded"])
def test_results_do_not_depend_on_threads(kind, options, monkeypatch):
    penalty, arguments, _ = OPTIONS.get(options, PLAIN)

    def build():
        return model((130, 100, 67, 4), "bfloat16", optimizers.RMSprop(**arguments), penalty=penalty)

    scipy_sparse = pytest.importorskip("scipy.sparse")
    monkeypatch.setattr(threads, "SERIAL_BELOW_NS", 0.0)
    rng = np.random.default_rng(0)
    density = {"dense": 1.0, "sparse": 0.05, "expanded": 0.6}[kind]
    x = np.where(rng.random((101, 130)) < density, rng.standard_normal((101, 130)), 0).astype("float32")
    y = rng.standard_normal((101, 4)).astype("float32")
    given = scipy_sparse.csr_matrix(x) if kind == "expanded" else x
    found = []
    for count in (1, 2, 3, 4):
        monkeypatch.setattr(threads, "_default", count)
        built = build()
        built.fit(given, y, batch_size=19, epochs=3, verbose=0)
        found.append(built.get_weights())
    for other in found[1:]:
        assert all((a == b).all() for a, b in zip(found[0], other, strict=True))
    dense = build()
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
    models.arguments._note_fallback.cache_clear()
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
    with pytest.raises(BackendError, match="precision: got 'tf32', which cannot serve because CPUs do not multiply"):
        built.compile("sgd", "mse", backend="cpu", precision="tf32")
