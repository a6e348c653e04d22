"""Parts of kernels: compiled once for all that call them, never made machine code, and Python's own for Python."""

from __future__ import annotations

import numpy as np
import pytest
from numba import types

from fastnn.kernels.cpu import jit
from fastnn.kernels.cpu.compiler import parts, store


@parts.compiled_in
def add_one(x):
    return x + 1.0


@parts.inlined
def twice(x):
    return 2.0 * add_one(x)


@parts.compiled_in
def applied(f, x):
    return f(x) + f(x + 1.0)


def _factory(MR, NR):
    def kernel(x, y, words, t, tasks):
        for i in range(t * x.size // tasks, (t + 1) * x.size // tasks):
            y[i] = applied(twice, x[i])

    return kernel


def _signature(dtype):
    return types.void(jit.flat(dtype, readonly=True), jit.flat(dtype))


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """Names of what the store is given; it keeps nothing: what it has is for the sources of kernels, not for these."""
    names = []
    monkeypatch.setattr(store.Entry, "load", lambda self, name, key: None)
    monkeypatch.setattr(store.Entry, "save", lambda self, name, key, data: names.append(name))
    return names


def _compile(dtype="float32"):
    kernel = jit.Kernel(_factory, _signature)
    kernel.compiled(np.dtype(dtype))
    return kernel


def _compiled(function):
    return next(each for each in parts._PARTS if each.py_func is function)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_call_parts_and_take_them_as_arguments(dtype):
    x = np.random.default_rng(0).random(100).astype(dtype)
    y = np.empty_like(x)
    _compile(dtype)(x.dtype, 0.0, x, y)
    np.testing.assert_allclose(y, 2 * (x + 1) + 2 * (x + 2), rtol=1e-6)


def test_parts_stay_functions_of_python():
    assert applied(twice, 1) == 10
    assert type(twice) is type(lambda: None)


def test_a_part_is_compiled_once_for_all_kernels():
    _compile()
    before = dict(_compiled(applied).overloads)
    _compile()
    assert before
    assert dict(_compiled(applied).overloads) == before


def test_a_part_is_no_machine_code():
    _compile()
    for overload in _compiled(add_one).overloads.values():
        name = overload.fndesc.llvm_func_name
        assert overload.library.get_pointer_to_function(name) == 0
        assert not overload.library._codegen._engine.is_symbol_defined(name)


def test_kernels_of_parts_are_kept(kept):
    _compile()
    assert kept == ["test_parts._factory.kernel"]
