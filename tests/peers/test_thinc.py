"""thinc on FastnnOps: its own tests, equality with NumpyOps and PyTorch, its optimizers' steps, threads, bad input."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import threading
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import ops

thinc = pytest.importorskip("thinc.api", reason="thinc is not installed: pip install '.[peers]'")

from fastnn.thinc import SGD, Adam, FastnnOps, Optimizer  # noqa: E402 - which needs it
from fastnn.thinc.ops import SERVED  # noqa: E402

ROOT = Path(__file__).parents[2]
OURS, THEIRS = FastnnOps(), thinc.NumpyOps()

# thinc's activations of which the kernels have derivatives, by what these take beside dY.
ACTIVATIONS = {
    "gelu": "X",
    "gelu_approx": "X",
    "hard_swish_mobilenet": "X",
    "hard_tanh": "X",
    "mish": "X",
    "relu": "Y",
    "relu_k": "X",
    "sigmoid": "Y",
    "swish": "XY",
}
# How far results may be from NumpyOps', in units of the largest number or 1: it computes erf and its derivative, and
# gelu_approx's, with constants of seven digits, mish in float32 without care.
ROUGH = {"gelu": 2e-6, "gelu_approx": 2e-6, "mish": 2e-6}
DTYPES = ("float32", "float64")


def tolerance(dtype, name=""):
    return max(ROUGH.get(name, 0.0), 30 * float(np.finfo(dtype).eps))


def close(found, expected, dtype, name=""):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    largest = float(np.max(np.abs(expected), initial=1.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=largest * tolerance(dtype, name))


@pytest.fixture
def rng():
    return np.random.default_rng(16)


# thinc's own tests


def thincs_tests(tmp_path, *arguments):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    folder = Path(inspect.getfile(import_module("thinc.tests"))).parent
    paths = [str(folder / argument) if argument.endswith(".py") else argument for argument in arguments]
    options = ["-q", "-c", "pytest.ini", "--rootdir=.", "-p", "no:cacheprovider", "-p", "fastnn_in_thinc"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "support")}
    environment.pop("KERAS_BACKEND", None)  # other tests' choice, with which thinc may not import TensorFlow
    command = [sys.executable, "-m", "pytest", *options, *paths]
    return subprocess.run(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    ).stdout


def test_thincs_tests_of_its_ops_pass(tmp_path):
    """But those that compare with PyTorch, which make floats of arrays: newer NumPy refuses that of any ops."""
    pytest.importorskip("hypothesis", reason="hypothesis is not installed: pip install '.[peers]'")
    found = thincs_tests(tmp_path, "backends/test_ops.py", "-k", "not compare_activations_to_torch")
    assert re.search(r"^2\d\d passed[^f]*$", found, re.MULTILINE), found[-3000:]
    assert int(re.search(r"FastnnOps in (\d+) functions' parameters", found)[1]) > 50


def test_thincs_tests_of_layers_and_training_pass(tmp_path):
    pytest.importorskip("hypothesis", reason="hypothesis is not installed: pip install '.[peers]'")
    names = ("combinators", "feed_forward", "layers_api", "linear", "lstm", "reduce", "softmax", "sparse_linear")
    files = [f"layers/test_{name}.py" for name in names]
    found = thincs_tests(tmp_path, *files, "model/test_model.py", "test_optimizers.py")
    assert re.search(r"^\d{3} passed[^f]*$", found, re.MULTILINE), found[-3000:]


# The table of what is served


def test_the_table_lists_what_is_overridden():
    own = {name for name, member in vars(FastnnOps).items() if inspect.isfunction(member)}
    assert own == set(SERVED)
    assert {name for each in SERVED.values() for name in each} <= ops.TABLE.keys()


def calls(rng, dtype, shape=(7, 12)):
    """A call of every method that is served: its arguments, and those by keyword."""
    x, dy, y = (rng.normal(size=shape).astype(dtype) for _ in range(3))
    of = {"X": (x,), "Y": (np.abs(y) / (1 + np.abs(y)),), "XY": (x, THEIRS.swish(x))}
    made = {name: ((x,), {}) for name in ACTIVATIONS}
    made |= {f"backprop_{name}": ((dy, *of[given]), {}) for name, given in ACTIVATIONS.items()}
    w, b = rng.normal(size=(5, shape[1])).astype(dtype), rng.normal(size=5).astype(dtype)
    p = THEIRS.softmax(x)
    return made | {
        "affine": ((x, w, b), {}),
        "gemm": ((x, w), {"trans2": True}),
        "softmax": ((x,), {"temperature": 2.0}),
        "backprop_softmax": ((p, dy), {"temperature": 0.5}),
        "get_dropout_mask": ((shape, 0.25), {}),
        "adam": ((x, dy, y, np.square(y), 0.9, 0.99, 1e-3, 0.01), {}),
        "update_averages": ((*rng.normal(size=(2, 1 << 15)).astype(dtype), 3), {}),
    }


@pytest.mark.parametrize("method", SERVED)
def test_the_ops_that_the_table_names_are_called(method, rng, monkeypatch):
    called = []

    def spied(name, op):
        return lambda *arguments, **keywords: (called.append(name), op(*arguments, **keywords))[1]

    for name in ops.TABLE:
        monkeypatch.setattr(ops, name, spied(name, getattr(ops, name)))
    positional, keywords = calls(rng, "float32")[method]
    getattr(OURS, method)(*positional, **keywords)
    assert tuple(called) == SERVED[method]


# Equality


VIEWS = {
    "as it is": lambda a: a,
    "columns": np.asfortranarray,
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
}


@pytest.mark.parametrize("shape", [(7, 12), (1, 1), (33, 65), (0, 3)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", sorted(SERVED.keys() - {"adam", "get_dropout_mask", "update_averages"}))
def test_results_are_numpy_ops(method, dtype, shape, rng):
    positional, keywords = calls(rng, dtype, shape)[method]
    if not shape[0] and method == "softmax":
        pytest.skip("NumpyOps gives the maximum of nothing to an error of NumPy's")
    expected = getattr(THEIRS, method)(*(np.array(each) for each in positional), **keywords)
    for view in VIEWS.values():
        given = [view(each) for each in positional]
        before = [each.copy() for each in given]
        found = getattr(OURS, method)(*given, **keywords)
        close(found, expected, dtype, method.removeprefix("backprop_"))
        for each, was in zip(given, before, strict=True):
            np.testing.assert_array_equal(each, was)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", [prefix + name for prefix in ("", "backprop_") for name in ACTIVATIONS])
def test_in_place(method, dtype, rng):
    positional, _ = calls(rng, dtype)[method]
    expected = getattr(OURS, method)(*positional)
    given = [each.copy() for each in positional]
    found = getattr(OURS, method)(*given, inplace=True)
    assert found is given[1 if method == "backprop_sigmoid" else 0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trans1", [False, True])
@pytest.mark.parametrize("trans2", [False, True])
def test_products(dtype, trans1, trans2, rng):
    a, b = rng.normal(size=(9, 17)).astype(dtype), rng.normal(size=(17, 31)).astype(dtype)
    x, y = np.ascontiguousarray(a.T) if trans1 else a, np.ascontiguousarray(b.T) if trans2 else b
    close(OURS.gemm(x, y, trans1=trans1, trans2=trans2), a @ b, dtype)
    out = np.full((9, 31), np.nan, dtype)
    assert OURS.gemm(x, y, out=out, trans1=trans1, trans2=trans2) is out
    close(out, a @ b, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_along_other_axes_and_of_more_of_them(dtype, rng):
    x, dy = (rng.normal(size=(3, 4, 5)).astype(dtype) for _ in range(2))
    for axis in (-1, 2, 1, 0):
        y = OURS.softmax(x, axis=axis)
        close(y, THEIRS.softmax(x, axis=axis), dtype)
        close(OURS.backprop_softmax(y, dy, axis=axis), THEIRS.backprop_softmax(y, dy, axis=axis), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_pytorchs(name, dtype, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")
    functional = torch.nn.functional
    theirs = {
        "gelu": functional.gelu,
        "gelu_approx": lambda x: functional.gelu(x, approximate="tanh"),
        "hard_swish_mobilenet": functional.hardswish,
        "hard_tanh": functional.hardtanh,
        "mish": functional.mish,
        "relu": functional.relu,
        "relu_k": functional.relu6,
        "sigmoid": torch.sigmoid,
        "swish": functional.silu,
    }[name]
    x, dy = rng.uniform(-30, 30, 500).astype(dtype), rng.normal(size=500).astype(dtype)
    leaf = torch.tensor(x, requires_grad=True)
    expected = theirs(leaf)
    expected.backward(torch.tensor(dy))
    y = getattr(OURS, name)(x)
    given = {"dY": dy, **{each: {"X": x, "Y": y}[each] for each in ACTIVATIONS[name]}}
    atol = 1e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=atol)
    np.testing.assert_allclose(getattr(OURS, f"backprop_{name}")(**given), leaf.grad.numpy(), rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [10, 1 << 15])
def test_averages_of_weights(dtype, size, rng):
    ema, weights = rng.normal(size=(2, size)).astype(dtype)
    for t, stays in ((1, 2 / 11), (10**6, 0.9999)):
        expected = stays * ema.astype(np.longdouble) + (1 - stays) * weights
        assert OURS.update_averages(ema, weights, t) is None
        close(ema, expected.astype(dtype), dtype)
    before = ema.copy()
    OURS.update_averages(ema, weights, 5, max_decay=1.0)
    assert not np.array_equal(ema, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_adams_step_has_its_corrections_in_the_rate(dtype, rng):
    w, g, m, v = rng.normal(size=(4, 1000)).astype(dtype)
    v = np.square(v)
    expected_m, expected_v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
    expected = w - 0.05 * expected_m / (np.sqrt(expected_v) + 1e-3)
    found = OURS.adam(w, g, m, v, 0.9, 0.99, 1e-3, 0.05)
    assert all(a is b for a, b in zip(found, (w, g, m, v), strict=True))
    for each, value in zip(found, (expected, np.zeros_like(g), expected_m, expected_v), strict=True):
        close(each, value, dtype)


def test_dropout_masks(rng):
    thinc.fix_random_seed(3)
    mask = OURS.get_dropout_mask((200, 30, 10), 0.25)
    assert mask.dtype == np.float32
    assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(np.mean(mask == 0) - 0.25) < 0.01
    assert not np.array_equal(mask, OURS.get_dropout_mask((200, 30, 10), 0.25))
    thinc.fix_random_seed(3)
    np.testing.assert_array_equal(mask, OURS.get_dropout_mask((200, 30, 10), 0.25))
    for drop in (None, 0.0, -1.0, 1.0, 2.0):
        np.testing.assert_array_equal(OURS.get_dropout_mask((3, 2), drop), THEIRS.get_dropout_mask((3, 2), drop))


# What kernels do not take, bad input among it


STRANGE = {
    "shapes": lambda a: a[:-1] if a.ndim else a,
    "half": lambda a: a.astype(np.float16),
    "integers": lambda a: a.astype(np.int64),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "a list": lambda a: a.tolist(),
    "nothing": lambda _: None,
}


def outcome(method, positional, keywords):
    """What a call gives, or the kind and message of what it raises."""
    try:
        return method(*positional, **keywords), None
    except Exception as error:
        return None, (type(error), str(error).replace("FastnnOps", "NumpyOps"))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("method", sorted(SERVED.keys() - {"get_dropout_mask"}))
def test_other_arrays_are_numpy_ops_to_take_or_refuse(method, strange, rng):
    positional, keywords = calls(rng, "float32")[method]
    count = sum(isinstance(each, np.ndarray) for each in positional)
    for place in range(count):
        if strange == "shapes" and count == 1:
            continue
        pair = []
        for ours in (OURS, THEIRS):
            given = [each.copy() if isinstance(each, np.ndarray) else each for each in positional]
            given[place] = STRANGE[strange](given[place])
            pair.append(outcome(getattr(ours, method), given, keywords))
        (found, error), (expected, refused) = pair
        assert error == refused
        if isinstance(expected, np.ndarray):
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("method", "number"), [("relu_k", -1.0), ("mish", 2.0)])
def test_numbers_that_the_kernels_have_no_formula_for(method, number, rng):
    x, dy = rng.normal(size=(2, 50)).astype(np.float32) * 5
    np.testing.assert_array_equal(getattr(OURS, method)(x, number), getattr(THEIRS, method)(x, number))
    back = f"backprop_{method}"
    np.testing.assert_array_equal(getattr(OURS, back)(dy, x, number), getattr(THEIRS, back)(dy, x, number))


# Optimizers


def schedule():
    rate = 0.1
    while True:
        yield rate
        rate *= 0.7


RULES = {
    "adam": (thinc.Adam, Adam, {"learn_rate": 0.01}),
    "adam with a schedule": (thinc.Adam, Adam, {"learn_rate": schedule}),
    "adam with decay": (thinc.Adam, Adam, {"learn_rate": 0.01, "L2": 0.1, "grad_clip": 0.0}),
    "adam with a penalty": (thinc.Adam, Adam, {"learn_rate": 0.01, "L2": 0.1, "L2_is_weight_decay": False}),
    "adam clipped": (thinc.Adam, Adam, {"learn_rate": 0.01, "grad_clip": 0.5, "use_averages": False}),
    "adam, other betas": (thinc.Adam, Adam, {"beta1": 0.5, "beta2": 0.6, "eps": 1e-2}),
    "sgd": (thinc.SGD, SGD, {"learn_rate": 0.1}),
    "sgd with decay": (thinc.SGD, SGD, {"learn_rate": 0.1, "L2": 0.1, "use_averages": False}),
    "radam": (thinc.RAdam, lambda *a, **k: Optimizer(*a, use_radam=True, **k), {"learn_rate": 0.01}),
    "a negative rate": (thinc.SGD, SGD, {"learn_rate": -0.1}),
}


def made(rule, options):
    options = {name: value() if callable(value) else value for name, value in options.items()}
    return rule(**options)


@pytest.mark.parametrize("shape", [(3, 4), (300,), (2, 3, 4), (0,), (0, 5)])
@pytest.mark.parametrize("rule", RULES)
def test_steps_are_thincs(rule, shape, rng):
    theirs, ours, options = RULES[rule]
    both = made(theirs, options), made(ours, options)
    weights = [rng.normal(size=shape).astype(np.float32)] * 2
    weights = [each.copy() for each in weights]
    key = (1, "W")
    for step in range(12):
        gradient = rng.normal(size=shape).astype(np.float32)
        for place, optimizer in enumerate(both):
            given = gradient.copy()
            weights[place], left = optimizer(key, weights[place], given, lr_scale=1.0 + step % 2)
            assert not left.any()
            optimizer.step_schedules()
    close(weights[1], weights[0], "float32")
    for name in ("mom1", "mom2", "averages"):
        expected, found = (getattr(optimizer, name) or {} for optimizer in both)
        assert found.keys() == expected.keys()
        for each, value in expected.items():
            close(found[each].reshape(-1), value.reshape(-1), "float32")
    assert both[1].nr_update == both[0].nr_update


def test_steps_of_float64_keep_its_digits(rng):
    weights, gradients = rng.normal(size=(4, 5)), rng.normal(size=(6, 4, 5))
    expected, m, v, optimizer = weights.copy(), 0.0, 0.0, Adam(0.01, grad_clip=0.0)
    for t, gradient in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected -= 0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-8)
        weights, _ = optimizer((0, "W"), weights, gradient.copy())
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    assert optimizer.averages[0, "W"].dtype == np.float64


def test_steps_that_are_refused_are_refused_as_thincs(rng):
    w, g = rng.normal(size=(2, 3)).astype(np.float32)
    cases = [
        (lambda kind: kind(0.1, beta1=0.0, beta2=0.9), (w, g)),
        (lambda kind: kind(0.1), (w, g[:2])),
        (lambda kind: kind(0.1), (w.tolist(), g)),
        (lambda kind: kind("nonsense"), (w, g)),
    ]
    for make, arrays in cases:
        found, expected = (
            outcome(lambda kind=kind, make=make, arrays=arrays: make(kind)((0, "W"), *arrays), (), {})[1]
            for kind in (Optimizer, thinc.Optimizer)
        )
        assert expected is not None
        assert found == expected


# As thinc's users meet it


def network(hidden=32, dropout=0.2):
    layer = thinc.Relu(nO=hidden, dropout=dropout)
    return thinc.chain(layer, thinc.Relu(nO=hidden, dropout=dropout), thinc.Softmax())


def trained(name="fastnn", dropout=0.2, optimizer=Adam, steps=20):
    rng = np.random.default_rng(5)
    x, y = rng.random((640, 50), np.float32), np.eye(10, dtype=np.float32)[rng.integers(0, 10, 640)]
    draws = np.random.RandomState(7)
    with thinc.use_ops(name):
        model = network(dropout=dropout)
        model.initialize(X=x[:5], Y=y[:5])
        for node in model.walk():
            for parameter in node.param_names:
                shape = node.get_param(parameter).shape
                node.set_param(parameter, draws.normal(0, 0.2, shape).astype(np.float32))
        rule = optimizer(0.01)
        for step in range(steps):
            batch = slice(step * 32 % 640, step * 32 % 640 + 32)
            yh, backprop = model.begin_update(x[batch])
            backprop(yh - y[batch])
            model.finish_update(rule)
    return [node.get_param(name) for node in model.walk() for name in node.param_names]


def test_a_network_trains_to_the_weights_of_numpy_ops():
    for found, expected in zip(trained(dropout=0.0), trained("numpy", 0.0, thinc.Adam), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def seeded(seed=1):
    thinc.fix_random_seed(seed)
    return trained()


def equal(some, others):
    return all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


def test_a_seed_repeats_a_training_on_any_number_of_threads():
    before, alone = fastnn.get_num_threads(), seeded()
    try:
        for threads in (1, 2, 3, 4):
            fastnn.set_num_threads(threads)
            assert equal(seeded(), alone)
    finally:
        fastnn.set_num_threads(before)
    assert not equal(seeded(2), alone)


def test_several_threads_train_at_once():
    alone, found = trained(dropout=0.0), {}
    workers = [threading.Thread(target=lambda i=i: found.update({i: trained(dropout=0.0)})) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == len(workers)
    assert all(equal(each, alone) for each in found.values())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
# of Python and JAX, about other libraries' threads, which the child does not use
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:os.fork:RuntimeWarning")
def test_a_child_trains_too():
    alone = trained(dropout=0.0)
    child = os.fork()
    if not child:
        os._exit(0 if equal(trained(dropout=0.0), alone) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_names_are_found():
    assert type(thinc.get_ops("fastnn")) is FastnnOps
    assert thinc.get_ops("cpu").name != "fastnn"
    with thinc.use_ops("fastnn"):
        assert thinc.Linear(2, 3).ops.name == "fastnn"
    config = {"optimizer": {"@optimizers": "fastnn.Adam.v1", "learn_rate": 0.5}}
    found = thinc.registry.resolve(config)["optimizer"]
    assert isinstance(found, Optimizer)
    assert found.learn_rate(0) == 0.5
    assert thinc.registry.optimizers.get("fastnn.SGD.v1") is SGD


def test_names_are_found_by_installation_alone(tmp_path):
    """In a process that does not import ``fastnn.thinc``, by what pyproject.toml says of the installed package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (tmp_path / "installed-1.dist-info").mkdir()
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    )
    (tmp_path / "installed-1.dist-info" / "entry_points.txt").write_text("\n".join(groups))
    (tmp_path / "installed-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1\n")
    program = """
from thinc.api import get_ops, registry
print(type(get_ops("fastnn")), registry.optimizers.get("fastnn.Adam.v1").__module__)
print(registry.optimizers.get("fastnn.SGD.v1").__module__)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert found == ["<class", "'fastnn.thinc.ops.FastnnOps'>", *["fastnn.thinc.optimizers"] * 2]


def test_importing_it_loads_no_compiler():
    program = "import fastnn.thinc, sys; print([name for name in ('numba', 'llvmlite') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(("ours", "theirs"), [(Adam, thinc.Adam), (SGD, thinc.SGD)])
def test_arguments_and_defaults_are_thincs(ours, theirs):
    found, expected = inspect.signature(ours).parameters, inspect.signature(theirs).parameters
    assert {name: each.default for name, each in found.items()} == {name: p.default for name, p in expected.items()}
