"""Every op of the table on every backend: against the oracle, exactly on integers, by differences, with odd arrays."""

from __future__ import annotations

import inspect
import zlib
from contextlib import contextmanager
from functools import partial

import numpy as np
import oracle
import pytest

import fastnn
from fastnn import backends, numerics, ops
from fastnn.backends import use_num_threads
from fastnn.kernels.cases import draw, sizes_name, variant_name
from fastnn.kernels.table import ACTIVATIONS, DTYPES, ELEMENTWISE_ACTIVATIONS, NUMBERS, TABLE, Integer, varying
from fastnn.kernels.table.elementwise import FROM_INPUT

BACKENDS = ("naive", "cpu")
# The modules of ops that slide kernels over images.
WINDOWS = ("convolution", "depthwise")
# The modules of ops that sum products.
PRODUCTS = ("gemm", "linear_steps", "convolution", "depthwise", "recurrent")
# The plain loops take a second per hundred million multiplications; beyond this many elements they sit out.
NAIVE_LIMIT = 40_000


def calls():
    """An op, a variant of it and a dtype: a test takes all of the op's cases."""
    for op in TABLE.values():
        for variant in op.variants:
            for dtype in DTYPES:
                yield pytest.param(op, variant, dtype, id=f"{op.name}-{variant_name(variant)}-{dtype}")


@contextmanager
def in_case(sizes):
    """Say in what goes wrong inside the block that it does so in this case."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the case {sizes_name(sizes)}")
        raise


def seeded(*parts):
    return np.random.default_rng(zlib.crc32(repr(parts).encode()))


def run(op, given, backend):
    """Results of the public op in the shape of ``oracle.call``; in-place operands are copied first."""
    given = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in given.items()}
    with fastnn.use_backend(backend):
        return named(op, getattr(ops, op.name)(**given), given)


def named(op, result, given):
    """What a call has returned and updated, in the shape of ``oracle.call``; what was not needed is left out."""
    assert op.returns or result is None
    returned = enumerate(result if isinstance(result, tuple) else (result,))
    updated = {name: given[name] for name in op.inplace if given.get(name) is not None}
    return {**{key: value for key, value in returned if value is not None}, **updated}


def reduction_length(op, sizes):
    """How many terms the longest sum of an op has."""
    if op.module in ("convolution", "depthwise"):  # over a window, or over all windows' places
        window, channels = sizes.get("kh", 1) * sizes["kw"], max(sizes["c"], sizes.get("f", 1))
        return 4 + max(window * channels, 2 * sizes["n"] * sizes.get("h", 1) * sizes["w"])
    if op.module in PRODUCTS:
        return (2 if op.module == "gemm" else 18) + sum(size for size in sizes.values())
    if op.module in ("softmax", "losses", "prelu", "normalization", "embedding", "sequences", "pooling", "attention"):
        numbers = (np.prod(size) for size in sizes.values() if not isinstance(size, str) and np.ndim(size) < 2)
        return 16 + int(np.prod(list(numbers)))
    return 16


def expected_and_allowed(op, given, sizes, dtype):
    """What the oracle says, and how far from it a result may be.

    That is k * eps * magnitude: k the number of roundings on the way, magnitude that of the terms, not of their sum.
    """
    expected = magnitude = oracle.call(op, given)
    if op.module in PRODUCTS:
        magnitude = oracle.call(op, {k: abs(v) if isinstance(v, np.ndarray) else v for k, v in given.items()})
    eps = np.finfo(dtype).eps
    terms = reduction_length(op, sizes)
    allowed = {
        key: terms * eps * max(1.0, float(np.max(abs(np.asarray(value)), initial=0.0)))
        for key, value in magnitude.items()
    }
    return expected, allowed


def tolerance(op, given, sizes, dtype):
    return expected_and_allowed(op, given, sizes, dtype)[1]


def calls_by_backend():
    """The plain loops compute in doubles whatever the dtype, so float32 is left to one case a variant."""
    for call in calls():
        op, _, dtype = call.values
        for backend in BACKENDS:
            cases = op.cases if backend != "naive" or dtype == "float64" else op.cases[-1:]
            yield pytest.param(*call.values, cases, backend, id=f"{call.id}-{backend}")


@pytest.mark.parametrize(("op", "variant", "dtype", "cases", "backend"), list(calls_by_backend()))
def test_matches_oracle(op, variant, dtype, cases, backend):
    compared = 0
    for sizes in cases:
        given = draw(op, sizes, variant, dtype, seeded(op.name, variant, sizes))
        work = sum(v.size for v in given.values() if isinstance(v, np.ndarray))
        if backend == "naive" and work > NAIVE_LIMIT:
            continue
        with in_case(sizes):
            assert_near(run(op, given, backend), *expected_and_allowed(op, given, sizes, dtype), dtype)
        compared += 1
    if not compared:
        pytest.skip("too large for plain Python loops")


def assert_near(results, expected, allowed, dtype):
    assert results.keys() == expected.keys()
    for key, result in results.items():
        if isinstance(result, float):
            assert abs(result - expected[key]) <= allowed[key], key
            continue
        assert result.dtype == dtype, key
        assert result.shape == expected[key].shape, key
        np.testing.assert_allclose(oracle.wide(result), expected[key], rtol=0, atol=allowed[key], err_msg=str(key))


@pytest.mark.parametrize("op", TABLE.values(), ids=lambda op: op.name)
def test_tolerances_leave_room_for_an_oracle_in_doubles(op, monkeypatch):
    """Half of each, for systems whose long double has no more bits."""
    calls = [(variant, sizes) for variant in op.variants for sizes in op.cases]
    drawn = [draw(op, sizes, variant, "float64", seeded(op.name, variant, sizes)) for variant, sizes in calls]
    exact = [oracle.call(op, given) for given in drawn]
    monkeypatch.setattr(oracle, "WIDE", np.float64)
    monkeypatch.setattr(oracle, "CLIP", np.float64(oracle.CLIP))
    for (_, sizes), given, expected in zip(calls, drawn, exact, strict=True):
        allowed = tolerance(op, given, sizes, "float64")
        for key, result in oracle.call(op, given).items():
            assert np.all(abs(result - expected[key]) <= allowed[key] / 2), (sizes, key)


@pytest.mark.parametrize("backend", BACKENDS)
def test_signatures_are_the_tables(backend):
    """Every backend has every op, with the table's parameters and defaults."""
    for op in TABLE.values():
        implementation = inspect.signature(backends.implementation(backend, op.module, op.name))
        wanted = [(p.name, p.kind, p.default) for p in op.signature.parameters.values()]
        assert [(p.name, p.kind, p.default) for p in implementation.parameters.values()] == wanted, op.name
        if op.name not in numerics.NAMES:  # which take arrays of other ranks by the same names
            assert inspect.signature(getattr(ops, op.name)) == op.signature
            assert getattr(ops, op.name).__doc__ == op.doc


@pytest.mark.parametrize("op", TABLE.values(), ids=lambda op: op.name)
def test_ops_plan_for_calls_that_are_alike(op):
    """What a plan was made of may change, but for what it is like: arrays' numbers, and the options that vary."""
    implementation = backends.implementation("cpu", op.module, op.name)
    run_again = None
    for seed in range(2):
        given = draw(op, op.cases[-2], op.variants[0], "float32", seeded("plans", op.name, seed))
        varied = [name for name, option in op.options.items() if isinstance(option, Integer) and varying(option)]
        given |= dict.fromkeys(varied, seed + 3)
        expected = run(op, given, "cpu")
        call = inspect.signature(implementation).bind(**given)
        call.apply_defaults()
        run_again = run_again or implementation.plan(*call.args, **call.kwargs)
        result = run_again(*call.args, **call.kwargs)
        for key, value in expected.items():
            again = given[key] if key in given else result[key] if isinstance(result, tuple) else result
            assert np.array_equal(again, value), key


def test_every_op_has_cases_and_a_docstring():
    for op in TABLE.values():
        assert op.cases, op.name
        assert op.doc, op.name


@pytest.mark.parametrize("backend", BACKENDS)
def test_signatures_of_what_takes_csr_are_the_tables(backend):
    for op in TABLE.values():
        if op.sparse:
            implementation = backends.implementation(backend, "csr", op.name)
            assert list(inspect.signature(implementation).parameters) == list(op.signature.parameters), op.name


def test_an_op_without_a_formula_is_measured_by_its_loops(monkeypatch):
    """The naive backend stands in, so that an op needs no more than its three places."""
    monkeypatch.setattr(oracle, "ORACLES", {})
    for name in ("tanh", "mse", "adam_step"):
        op = TABLE[name]
        sizes, variant = op.cases[-2], op.variants[0]
        given = draw(op, sizes, variant, "float32", seeded("loops", name))
        for key, value in run(op, given, "cpu").items():
            np.testing.assert_allclose(value, oracle.call(op, given)[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", TABLE["matmul"].cases, ids=sizes_name)
def test_matmul_of_integers_is_exact(sizes, dtype):
    """Sums of small integers are exact in any order: one wrong index shows."""
    rng = seeded("integers", sizes)
    a, b = (rng.integers(-4, 5, shape).astype(dtype) for shape in ((sizes["n"], sizes["k"]), (sizes["k"], sizes["m"])))
    assert np.array_equal(ops.matmul(a, b), a.astype(np.int64) @ b.astype(np.int64))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(((5, 37), shape) for shape in ((37,), (1, 37), (5, 1), (1, 1), (1,), ())),
        *(((2, 3, 17), shape) for shape in ((17,), (3, 17), (1, 3, 17), (2, 1, 17), (3, 1))),
        ((1, 9), (4, 1)),
        ((1, 9), (9,)),
        ((0, 3), (3,)),
        ((400, 300), (300,)),
    ],
)
def test_pairs_of_what_broadcasts(one, other, dtype, backend):
    """As NumPy's, in either order, beside and in place of an operand, by any number of threads."""
    rng = seeded("broadcast", one, other)
    a, b = rng.standard_normal(one).astype(dtype), rng.standard_normal(other).astype(dtype)
    for name in ("add", "subtract", "multiply", "maximum", "minimum"):
        op, numpy = getattr(ops, name), getattr(np, name)
        for threads in (1, 3):
            with fastnn.use_backend(backend), use_num_threads(threads):
                for p, q in ((a, b), (b, a)):
                    assert op(p, q).dtype == dtype
                    assert np.array_equal(op(p, q), numpy(p, q)), name
                if numpy(a, b).shape == one:
                    place = a.copy()
                    assert np.array_equal(op(place, b, out=place), numpy(a, b)), name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_choices_of_nan_and_of_equals(name, backend):
    """NaN comes through from either side; of equals, the first one has the derivative."""
    nan = np.nan
    a, b = np.array([nan, 1.0, 2.0, nan, -0.0, 3.0]), np.array([1.0, nan, 2.0, nan, 0.0, 5.0])
    with fastnn.use_backend(backend):
        np.testing.assert_array_equal(getattr(ops, name)(a, b), getattr(np, name)(a, b))
        da, db = getattr(ops, f"{name}_backward")(np.arange(1.0, 7.0), a, b)
    first = [True, False, True, True, True, name == "minimum"]
    assert np.array_equal(da, np.where(first, np.arange(1.0, 7.0), 0))
    assert np.array_equal(db, np.where(first, 0, np.arange(1.0, 7.0)))


def strided(array, how):
    """The same numbers behind other strides."""
    if how == "fortran":
        return array.copy(order="F")
    if how == "step":
        poison = np.nan if array.dtype.kind == "f" else -1
        wide = np.full(tuple(2 * n for n in array.shape), poison, array.dtype)
        view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    elif how == "reversed":
        view = np.empty(array.shape, array.dtype)[tuple(slice(None, None, -1) for _ in array.shape)]
    elif how == "offset":
        raw = np.empty(array.nbytes + 1, np.uint8)[1:]
        view = raw.view(array.dtype).reshape(array.shape)
    else:
        view = np.empty((*array.shape, 3), array.dtype)[..., 1]
    view[...] = array
    return view


@pytest.mark.parametrize("op", list(TABLE.values()), ids=list(TABLE))
def test_any_strides(op):
    sizes = op.cases[-2]
    variant = op.variants[0]
    given = draw(op, sizes, variant, "float32", seeded("strides", op.name))
    plain, allowed = run(op, given, "cpu"), tolerance(op, given, sizes, "float32")
    for how in ("fortran", "step", "reversed", "offset", "interleaved"):
        odd = {k: strided(v, how) if isinstance(v, np.ndarray) and v.size else v for k, v in given.items()}
        with fastnn.use_backend("cpu"):
            results = named(op, getattr(ops, op.name)(**odd), odd)
        for key, value in results.items():
            np.testing.assert_allclose(value, plain[key], rtol=0, atol=2 * allowed[key], err_msg=f"{how} {key}")


def results_of(op, given, backend):
    """Results of a call on these very arrays, in-place operands included."""
    with fastnn.use_backend(backend):
        result = getattr(ops, op.name)(**given)
    updated = [given[name] for name in op.inplace if given.get(name) is not None]
    return [*(result if isinstance(result, tuple) else (result,)), *updated]


def locked(array):
    """The same numbers where nobody may write."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", TABLE.values(), ids=lambda op: op.name)
def test_read_only_operands_are_read_like_any_others(op, backend):
    """Each, and all of them at once."""
    read = [name for name in op.operands if name not in op.inplace]
    for variant in op.variants:
        for dtype in DTYPES:
            given = draw(op, op.cases[-2], variant, dtype, seeded("locked", op.name, variant))
            arrays = {k: v for k, v in given.items() if isinstance(v, np.ndarray)}
            before = results_of(op, {**given, **{k: v.copy() for k, v in arrays.items()}}, backend)
            for names in (*({name} for name in read), set(read)):
                if names.isdisjoint(arrays):
                    continue
                held = {k: locked(v) if k in names else v.copy() for k, v in arrays.items()}
                for one, other in zip(before, results_of(op, {**given, **held}, backend), strict=True):
                    assert np.array_equal(one, other), (variant, dtype, names)


@pytest.mark.parametrize("backend", BACKENDS)
def test_read_only_operands_of_several_threads(backend):
    """The kernels' parallel twins, which are compiled apart, take them too."""
    size = 300 if backend == "cpu" else 4
    x = np.random.default_rng(0).standard_normal((size, size)).astype("float32")
    labels, weights = np.arange(size), np.linspace(0, 1, size, dtype="float32")
    for name, arrays in (
        ("linear", (x, x, x[0])),
        ("softmax_cross_entropy", (x, labels, weights)),
        ("mse", (x, x.T.copy(), weights)),
    ):
        op, (one, other) = getattr(ops, name), (arrays, map(locked, arrays))
        with fastnn.use_backend(backend), use_num_threads(2):
            for first, second in zip(map(np.asarray, op(*one)), map(np.asarray, op(*other)), strict=True):
                assert np.array_equal(first, second), name


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint64"])
@pytest.mark.parametrize("name", ["softmax_cross_entropy", "cross_entropy"])
def test_labels_of_any_integers_and_from_anywhere(name, dtype):
    rows, labels = np.full((4, 3), 1 / 3, "float32"), np.array([2, 0, 1, 1], dtype)
    loss, gradient = getattr(ops, name)(rows, labels.astype(np.int64))
    for same in (labels, locked(labels), np.frombuffer(labels.tobytes(), dtype)):
        other, slope = getattr(ops, name)(rows, same, np.broadcast_to(np.float32(1), 4))
        assert other == loss
        assert np.array_equal(slope, gradient)


def in_place_operands():
    for op in TABLE.values():
        yield from (pytest.param(op, name, id=f"{op.name}-{name}") for name in op.inplace)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("op", "name"), list(in_place_operands()))
def test_read_only_operands_are_not_updated(op, name, backend):
    variant = next(variant for variant in op.variants if variant.get(name, ...) is not None)
    given = draw(op, op.cases[-2], variant, "float32", seeded("refused", op.name))
    held = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in given.items()}
    held[name].flags.writeable = False
    with pytest.raises(ValueError, match=f"^{name}: got a read-only array, wants one that can be written to"):
        results_of(op, held, backend)
    for key, value in given.items():
        assert np.array_equal(held[key], value), key


WITH_OUT = [op for op in TABLE.values() if "out" in op.signature.parameters]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", WITH_OUT, ids=lambda op: op.name)
def test_read_only_out_is_refused(op, backend):
    given = draw(op, op.cases[-2], op.variants[0], "float32", seeded("out", op.name))
    out = np.full_like(run(op, given, backend)[0], 7)
    out.flags.writeable = False
    with (
        fastnn.use_backend(backend),
        pytest.raises(ValueError, match=r"^out: got a read-only array, wants one that can be written to"),
    ):
        getattr(ops, op.name)(**given, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("op", WITH_OUT, ids=lambda op: op.name)
def test_out_is_filled_and_nothing_beside_it(op, backend):
    """The result lands in ``out``; guard numbers around it stay, and poison inside it is gone."""
    sizes, variant = op.cases[-2], op.variants[0]
    given = draw(op, sizes, variant, "float32", seeded("out", op.name))
    expected = run(op, given, backend)[0]
    for order in ("C", "F"):
        guarded = np.full((expected.size + 64,), 123.0, np.float32)
        out = guarded[32 : 32 + expected.size].reshape(expected.shape, order=order)
        out[...] = np.nan
        with fastnn.use_backend(backend):
            assert getattr(ops, op.name)(**given, out=out) is out
        assert np.array_equal(out, expected)
        assert (guarded[:32] == 123.0).all()
        assert (guarded[32 + expected.size :] == 123.0).all()
    strip = np.full((*expected.shape[:-1], expected.shape[-1] + 7), 123.0, np.float32)
    out = strip[..., : expected.shape[-1]]
    with fastnn.use_backend(backend):
        getattr(ops, op.name)(**given, out=out)
    assert np.array_equal(out, expected)
    assert (strip[..., expected.shape[-1] :] == 123.0).all()


@pytest.mark.parametrize("op", WITH_OUT, ids=lambda op: op.name)
def test_out_may_alias_an_operand(op):
    """Writing over an operand, or over part of one, gives what a fresh result would."""
    sizes = dict.fromkeys(("rows", "n", "k", "m", "in", "out", "c", "t", "f", "d", "s", "e", "a", "b"), 16)
    sizes |= dict.fromkeys(("h", "w"), 16) if op.module not in WINDOWS else {"h": 4, "w": 3, "kh": 1, "kw": 1}
    sizes |= {"...": (16, 16), "*": (16, 16)} | {
        name: op.cases[-1][name] for name in op.options if name in op.cases[-1]
    }
    given = draw(op, sizes, op.variants[0], "float64", seeded("alias", op.name))
    expected = run(op, given, "cpu")[0]
    for name in op.operands:
        if name not in given or given[name].shape != expected.shape or given[name].dtype != expected.dtype:
            continue
        copies = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in given.items()}
        ops_result = getattr(ops, op.name)(**copies, out=copies[name])
        assert np.array_equal(ops_result, expected), name
        memory = np.zeros(expected.size + 5)
        shifted = memory[5:].reshape(expected.shape)
        shifted[...] = given[name]
        overlapping = memory[:-5].reshape(expected.shape)
        getattr(ops, op.name)(**{**given, name: shifted}, out=overlapping)
        assert np.array_equal(overlapping, expected), f"shifted {name}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NUMBERS)
def test_special_values(name, dtype):
    """Signed zeros, infinities, NaN, denormals and the ends of the range."""
    info = np.finfo(dtype)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, info.tiny, -info.tiny, info.max, info.min], dtype)
    x = np.concatenate([x, np.array([info.smallest_subnormal, -info.smallest_subnormal, 88.8, -88.8, -103.9], dtype)])
    x = np.concatenate([x, np.array([0.5, -0.5, 1, -1, 3, -3, 6, 5.999999, 20, -20, 1e-4, -1e-4, 1e-20], dtype)])
    y = getattr(ops, name)(np.tile(x, 5))[-x.size :]
    with np.errstate(all="ignore"):
        expected = oracle.activation(name)(oracle.wide(x)).astype(dtype)
    assert np.array_equal(np.isnan(y), np.isnan(expected))
    finite = np.isfinite(expected)
    # a gate that multiplies x may itself be a denormal number; an ULP of gelu_tanh's cubic is many of its result
    ulps = 1100 if name == "gelu_tanh" else 4
    with np.errstate(all="ignore"):
        allowed = ulps * np.maximum(np.spacing(abs(expected)), abs(x) * info.smallest_subnormal)
        assert (abs(y - expected) <= allowed)[finite].all(), x[finite & (abs(y - expected) > allowed)]
    finite = ~np.isnan(expected)
    if name in ("identity", "sigmoid", "tanh", "softsign"):
        assert np.array_equal(np.signbit(y[finite]), np.signbit(expected[finite]))
    assert np.array_equal(y[np.isinf(expected)], expected[np.isinf(expected)])


@pytest.mark.parametrize("name", ELEMENTWISE_ACTIVATIONS.values())
def test_derivatives_at_special_values(name):
    """No NaN that x did not bring, and none but 0 where dy is 0."""
    x = np.array([0.0, -0.0, 1e30, -1e30, 88.8, -88.8, -103.9, 1e-30, 3.0, -3.0, 6.0, 0.5, -0.5], np.float32)
    with np.errstate(over="ignore"):
        y = getattr(ops, name)(x)
    backward = getattr(ops, f"{name}_backward")
    ones, finite = np.ones_like(x), np.isfinite(y)  # e^x grows beyond all numbers
    assert np.isfinite(backward(ones, x, y)[finite]).all()
    assert (backward(0 * ones, x, y)[finite] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_is_its_product_and_its_activation(activation, backend):
    rng = seeded("fused", activation)
    x, w, b, dy = (rng.standard_normal(shape) for shape in ((5, 4), (4, 19), (19,), (5, 19)))
    op = ELEMENTWISE_ACTIVATIONS.get(activation, activation)
    with fastnn.use_backend(backend):
        z = ops.linear(x, w, b)
        y = getattr(ops, op)(z)
        np.testing.assert_allclose(ops.linear(x, w, b, activation), y, rtol=1e-14, atol=1e-15)
        dz = getattr(ops, f"{op}_backward")(dy, z, y)
        kept = z if activation in FROM_INPUT else None
        for one, other in zip(
            ops.linear_backward(dy, x, w, y, activation, kept), ops.linear_backward(dz, x, w, y), strict=True
        ):
            assert np.array_equal(one, other)
        with pytest.raises(ValueError, match=r"^z: got"):
            ops.linear_backward(dy, x, w, y, activation, z if kept is None else None)


def gradient_cases():
    activations = (op for op in TABLE.values() if op.module in ("elementwise", "softmax"))
    yield from (pytest.param(op.name, id=op.name) for op in activations if list(op.operands) == ["dy", "x", "y"])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", list(gradient_cases()))
def test_activation_gradient_by_central_differences(name, backend):
    rng = seeded("difference", name)
    x, dy = rng.standard_normal((4, 5)), rng.standard_normal((4, 5))
    x[abs(x) < 1e-3] = 0.5  # stay off relu's kink
    if TABLE[name].draw.get("x") == "positive":
        x = abs(x) + 0.1
    with fastnn.use_backend(backend):
        forward = getattr(ops, name.removesuffix("_backward"))
        dx = getattr(ops, name)(dy, x, forward(x))
        assert_is_gradient(lambda x: float((forward(x) * dy).sum()), x, dx)


def assert_is_gradient(function, x, gradient, step=1e-5):
    """(f(x + h) - f(x - h)) / 2h for each element, in float64."""
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        slope = (function(up) - function(down)) / (2 * step)
        assert abs(slope - gradient[index]) <= 1e-7 * max(1.0, abs(slope)), (index, slope, gradient[index])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_gradient_by_central_differences(activation, backend):
    rng = seeded("linear", activation)
    x, w, b, dy = (rng.standard_normal(shape) for shape in ((3, 4), (4, 5), (5,), (3, 5)))
    with fastnn.use_backend(backend):

        def loss(x, w, b):
            return float((ops.linear(x, w, b, activation) * dy).sum())

        z = ops.linear(x, w, b) if activation in FROM_INPUT else None
        dx, dw, db = ops.linear_backward(dy, x, w, ops.linear(x, w, b, activation), activation, z)
        assert_is_gradient(lambda x: loss(x, w, b), x, dx)
        assert_is_gradient(lambda w: loss(x, w, b), w, dw)
        assert_is_gradient(lambda b: loss(x, w, b), b, db)


LOSSES = ["softmax_cross_entropy", "cross_entropy", "binary_cross_entropy", "mse", "mae", "half_sse", "l1_l2_penalty"]


def value_at(loss, given, name, x):
    """The loss with one operand replaced."""
    return loss(**{**given, name: x})[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_gradient_by_central_differences(name, backend):
    op = TABLE[name]
    for variant in op.variants:
        sizes = {"n": 4, "c": 3, "...": (3,)} if name != "l1_l2_penalty" else {"...": (4, 3)}
        given = draw(op, sizes, variant, "float64", seeded("loss", name, variant))
        first = next(iter(op.operands))
        with fastnn.use_backend(backend):
            _, gradient = getattr(ops, name)(**given)
            value = partial(value_at, getattr(ops, name), given, first)
            assert_is_gradient(value, given[first], gradient)


@pytest.mark.parametrize("backend", BACKENDS)
def test_prelu_gradients_by_central_differences(backend):
    rng = seeded("prelu")
    x, alpha, dy = rng.standard_normal((5, 2, 3)), rng.standard_normal((2, 3)), rng.standard_normal((5, 2, 3))
    with fastnn.use_backend(backend):
        dx, dalpha = ops.prelu_backward(dy, x, alpha)
        assert_is_gradient(lambda x: float((ops.prelu(x, alpha) * dy).sum()), x, dx)
        assert_is_gradient(lambda alpha: float((ops.prelu(x, alpha) * dy).sum()), alpha, dalpha)


def test_softmax_cross_entropy_is_stable():
    """No finite logits overflow: the loss is the distance to the largest logit."""
    for dtype, far in (("float32", 1e38), ("float64", 1e308)):
        logits = np.array([[far, 0.0, -far], [0.0, 0.0, 0.0]], dtype)
        loss, dlogits = ops.softmax_cross_entropy(logits, np.array([0, 1]))
        assert np.isfinite(loss)
        assert loss == pytest.approx(np.log(3) / 2, rel=1e-6)
        assert np.isfinite(dlogits).all()


def test_results_do_not_depend_on_threads():
    rng = seeded("threads")
    # more rows than columns and fewer: shared by rows and by panels
    x, w = rng.standard_normal((257, 300)).astype("f"), rng.standard_normal((300, 130)).astype("f")
    big = rng.standard_normal(300_001).astype("f")
    labels = rng.integers(0, 130, 257)
    results = []
    before = fastnn.get_num_threads()
    try:
        for threads in (1, 2, 3, 4):
            fastnn.set_num_threads(threads)
            y = ops.linear(x, w, w[0], "tanh")
            dw = ops.matmul(x[:100].T, y[:100])
            wide = ops.matmul(w.T, x.T)
            loss, dlogits = ops.softmax_cross_entropy(y, labels)
            results.append(
                [y, dw, wide, dlogits, np.array(loss), ops.sigmoid(big), np.array(ops.mse(big, big[::-1].copy())[0])]
            )
    finally:
        fastnn.set_num_threads(before)
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert np.array_equal(first, second)
