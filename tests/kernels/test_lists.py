"""Steps over lists of parameters: bit for bit what a call for each parameter gives, on every backend."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

import fastnn
from fastnn import checks, ops
from fastnn.backends import use_num_threads
from fastnn.kernels.cases import draw, variant_name
from fastnn.kernels.table import DTYPES, TABLE

BACKENDS = ("naive", "cpu")
SHAPES = ((3, 5), (), (67,), (0,), (2, 3, 7), (16,))
LARGE = ((120, 130), (7,), (40_001,), (1,))


def calls():
    for op in TABLE.values():
        for variant in op.variants if op.lists else ():
            yield pytest.param(op, variant, id=f"{op.name}-{variant_name(variant)}")


def drawn(op, variant, dtype, shapes=SHAPES):
    """The arguments of a call for each of the shapes."""
    rng = np.random.default_rng(zlib.crc32(repr((op.name, variant)).encode()))
    return [draw(op, {"...": shape}, variant, dtype, rng) for shape in shapes]


def copied(each):
    return [{name: v.copy() if isinstance(v, np.ndarray) else v for name, v in given.items()} for given in each]


def together(op, each):
    """The arguments of the one call for all."""
    return {name: [given[name] for given in each] if name in op.operands else v for name, v in each[0].items()}


def assert_same(op, each, others):
    for given, other in zip(each, others, strict=True):
        for name in op.operands:
            if name in given:
                assert given[name].tobytes() == other[name].tobytes(), name


def one_by_one(op, each):
    for given in each:
        getattr(ops, op.name)(**given)
    return each


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("op", "variant"), list(calls()))
def test_a_call_with_lists_is_a_call_for_each(op, variant, dtype, backend):
    each, step = drawn(op, variant, dtype), getattr(ops, op.name)
    with fastnn.use_backend(backend):
        expected = one_by_one(op, copied(each))
        for kind in (list, tuple, list):  # from the second call on as the first was planned, from other memory
            found = copied(each)
            given = together(op, found)
            assert step(**given | {name: kind(given[name]) for name in op.operands if name in given}) is None
            assert_same(op, found, expected)


@pytest.mark.parametrize(("op", "variant"), list(calls()))
def test_results_do_not_depend_on_threads(op, variant):
    each = drawn(op, variant, "float32", LARGE)
    expected = one_by_one(op, copied(each))
    for threads in (1, 2, 3):
        found = copied(each)
        with use_num_threads(threads):
            getattr(ops, op.name)(**together(op, found))
        assert_same(op, found, expected)


@pytest.mark.parametrize("shared", [0, 5, 300_000])
def test_parameters_that_share_memory_are_stepped_in_turn(shared):
    """By any number of threads: tied weights, or views of one array."""
    size, results = 400_000, []
    for threads in (1, 2):
        memory = np.random.default_rng(0).standard_normal(2 * size - shared).astype("float32")
        weights, squares = [memory[:size], memory[size - shared :]], np.ones((2, size), "float32")
        gradients = [np.sin(weights[0]), np.cos(weights[1])]
        with use_num_threads(threads):
            ops.rmsprop_step(weights, gradients, [*squares])
        results.append(memory)
    expected = np.random.default_rng(0).standard_normal(2 * size - shared).astype("float32")
    for start, gradient in zip((0, size - shared), gradients, strict=True):
        ops.rmsprop_step(expected[start : start + size], gradient, np.ones(size, "float32"))
    for memory in results:
        assert np.array_equal(memory, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("op", "variant"), list(calls()))
def test_any_strides(op, variant, backend):
    """One array among the others that is no run of numbers, and a gradient that nobody may write to."""
    each = drawn(op, variant, "float32")
    with fastnn.use_backend(backend):
        expected = one_by_one(op, copied(each))
        for name in op.operands:
            found = copied(each)
            if name not in found[0]:
                continue
            wide = np.full((4, *found[4][name].shape), np.nan, "float32").T
            wide[..., 1] = found[4][name].T
            found[4][name] = wide[..., 1].T
            found[0]["dw"].flags.writeable = False
            for _ in range(2):
                getattr(ops, op.name)(**together(op, again := copied(found)))
                assert_same(op, again, expected)
            getattr(ops, op.name)(**together(op, found))
            assert_same(op, found, expected)
            assert np.isnan(wide[..., [0, 2, 3]]).all()


def test_calls_that_are_alike_are_checked_once(monkeypatch):
    op = TABLE["adam_step"]
    each = drawn(op, op.variants[0], "float32")
    ops.adam_step(**together(op, copied(each)))
    monkeypatch.setattr(checks, "operands", None)
    for step in range(1, 4):
        found = copied(each)
        ops.adam_step(**together(op, found) | {"step": step, "learning_rate": 0.1 / step})
        monkeypatch.undo()
        expected = copied(each)
        for given in expected:
            ops.adam_step(**given | {"step": step, "learning_rate": 0.1 / step})
        assert_same(op, found, expected)
        monkeypatch.setattr(checks, "operands", None)


def test_no_parameters_are_no_work():
    for backend in BACKENDS:
        with fastnn.use_backend(backend):
            assert ops.sgd_step([], []) is None
            assert ops.rmsprop_step((), (), ()) is None


def wrong_after_a_plan():
    def shape(given):
        given["dw"][2] = given["dw"][2][:-1]

    def dimensions(given):
        given["m"][0] = given["m"][0].ravel()

    def dtype(given):
        given["v"][2] = given["v"][2].astype("float64")

    def locked(given):
        given["w"][4].flags.writeable = False

    def shared(given):
        given["m"][2] = np.lib.stride_tricks.as_strided(np.ones(67, "float32"), (67,), (0,))

    def masked(given):
        given["w"][2] = np.ma.array(given["w"][2])

    def no_array(given):
        given["w"][2] = given["w"][2].tolist()

    def missing(given):
        given["m"][1] = None

    def fewer(given):
        given["v"].pop()

    def rate(given):
        given["learning_rate"] = np.nan

    names = ("dw[2]", "m[0]", "v[2]", "w[4]", "m[2]", "w[2]", "w[2]", "m[1]", "v", "learning_rate")
    changes = (shape, dimensions, dtype, locked, shared, masked, no_array, missing, fewer, rate)
    return [pytest.param(change, name, id=change.__name__) for change, name in zip(changes, names, strict=True)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("change", "name"), wrong_after_a_plan())
def test_what_differs_from_the_plan_is_refused_and_nothing_is_written(change, name, backend):
    op = TABLE["adam_step"]
    each = drawn(op, op.variants[0], "float32")
    with fastnn.use_backend(backend):
        ops.adam_step(**together(op, copied(each)))
        found = copied(each)
        given = together(op, found)
        change(given)
        for _ in range(2):
            with pytest.raises((TypeError, ValueError)) as caught:
                ops.adam_step(**given)
            assert str(caught.value).startswith(f"{name}: got ")
        assert_same(op, found, each)


@pytest.mark.parametrize("backend", BACKENDS)
def test_subclasses_of_arrays_are_updated(backend, tmp_path):
    """Weights in a file."""
    w = np.lib.format.open_memmap(tmp_path / "w.npy", "w+", np.float32, (3,))
    with fastnn.use_backend(backend):
        for _ in range(2):
            ops.sgd_step([w, np.ones(2, "f")], [np.ones(3, "f"), np.ones(2, "f")], learning_rate=0.5)
    assert w.tolist() == [-1.0, -1.0, -1.0]
