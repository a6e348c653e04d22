"""The vector functions keep their bounds on a stratified sample of all numbers; the ruler that says so is straight."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import itertools
import os

import numpy as np
import pytest

from bench import environment
from ci import ulp
from fastnn import ops
from fastnn.kernels.cpu.compiler import machine
from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.formulas.activations import ACTIVATIONS

DTYPES = ("float32", "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ulp.FUNCTIONS)
def test_bounds_on_a_sample(name, dtype):
    if obstacle := ulp.FUNCTIONS[name].obstacle(dtype):
        pytest.skip(obstacle)
    found, bound = ulp.tally(name, ulp.sample(name, dtype)), ulp.FUNCTIONS[name].bounds[dtype]
    print(name, dtype, found)
    assert found.worst <= bound
    if bound > 0.5:
        assert found.beyond_half > 0, "a comparison that finds every result correctly rounded compares it with itself"


def test_every_activation_and_every_vector_function_has_bounds():
    of_vectors = {name for name, f in vars(Vectors).items() if inspect.isfunction(f)}
    assert of_vectors | set(ACTIVATIONS) == set(ulp.FUNCTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["haswell", "nehalem"])
def test_bounds_on_lower_levels(target):
    if machine._target()[0] not in ("x86_64", "amd64"):
        pytest.skip("targets x86 levels")
    assert environment.run_prepared("ci.ulp", ["--sample"], target) == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_ops_are_the_functions_that_are_measured(name, dtype):
    x = ulp.sample(name, dtype)
    assert np.array_equal(getattr(ops, name)(x), ulp.vector_function(name, dtype)(x), equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sample_has_every_exponent_and_the_special_numbers(dtype):
    x, info = ulp.sample("exp", dtype), np.finfo(dtype)
    _, exponents = np.frexp(x[np.isfinite(x) & (x != 0)])
    assert set(exponents) >= set(range(info.minexp + 1, info.maxexp + 1))
    for number in (0.0, info.smallest_subnormal, info.smallest_normal, info.max, np.inf):
        for signed in (number, -number):
            assert np.any((x == signed) & (np.signbit(x) == np.signbit(signed))), signed
    assert np.isnan(x).any()
    largest_denormal = np.nextafter(info.smallest_normal, x.dtype.type(0))
    assert largest_denormal in x
    positive = ulp.sample("log", dtype)
    assert (positive.min(), positive.max()) == (info.smallest_normal, info.max)


def test_all_numbers_are_all():
    shares = list(ulp.every("tanh", "float32"))
    assert shares[0].start == 0
    assert shares[-1].stop == 1 << 32
    assert all(one.stop == other.start for one, other in itertools.pairwise(shares))
    numbers = sum(map(len, ulp.every("log", "float32")))
    least, infinity = (int(np.float32(x).view(np.uint32)) for x in (np.finfo("float32").smallest_normal, np.inf))
    assert numbers == infinity - least


def test_shares_add_up(monkeypatch):
    first = int(np.float32(0.2).view(np.uint32))
    parts = [range(first, first + 20_000), range(first + 20_000, first + 50_001)]
    monkeypatch.setattr(ulp, "every", lambda name, dtype: iter(parts))
    x = np.arange(first, first + 50_001, dtype=np.uint32).view(np.float32)
    assert ulp.tally_every("tanh", "float32", threads=3) == ulp.tally("tanh", x)


@pytest.mark.parametrize(
    ("got", "exact", "error"),
    [
        (1.0, 1.0, 0.0),
        (1.0, 1.0 + 2**-24, 0.5),
        (1.0 + 2**-23, 1.0, 1.0),
        (1.0 - 2**-24, 1.0, 0.5),  # the unit is that of the numbers from 1 on
        (2.0**-149, 2.0**-150, 0.5),
        (0.0, 2.0**-149, 1.0),
        (0.0, 1e-300, 0.0),
        (-0.0, 0.0, np.inf),
        (0.0, -0.0, np.inf),
        (2.0**-149, 0.0, 1.0),
        (np.inf, 1e300, 0.0),
        (np.inf, np.inf, 0.0),
        (-np.inf, np.inf, np.inf),
        (np.inf, 2.0**128 - 2.0**104, 1.0),
        (-np.inf, -(2.0**128 - 2.0**103), 0.0),
        (np.inf, 2.0**127, 2.0**23),
        (2.0**128 - 2.0**104, np.inf, np.inf),
        (np.nan, 1.0, np.inf),
        (1.0, np.nan, np.inf),
        (np.nan, np.nan, 0.0),
    ],
)
def test_error(got, exact, error):
    found = ulp.error(np.array([got], np.float32), np.array([exact], np.float64))
    assert found == pytest.approx([error], abs=1e-9)


def test_denormals_that_a_result_may_be_off():
    got, exact = np.array([3 * 2.0**-149, 1.0], np.float32), np.array([2.0**-149, 1.0 + 2**-23])
    assert ulp.error(got, exact, denormals=1) == pytest.approx([1.0, 1.0])
    assert ulp.error(got, exact, denormals=2) == pytest.approx([0.0, 1.0])


def test_the_normal_distribution_is_not_measured_without_scipy(capsys, monkeypatch):
    monkeypatch.setattr(environment, "prepared", lambda _: dict(os.environ))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert ulp.main(["--sample", "--functions", "gelu"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert lines[0][:4] == ["gelu", "float32", "not", "measured:"]
    assert lines[1][:2] == ["gelu", "float64"]


def test_the_normal_distribution_in_a_long_double():
    x = np.array([-200, -30, -2, -1e-9, 0, 1, 5, np.nan])
    wanted = pytest.importorskip("scipy.special").ndtr(x)
    np.testing.assert_allclose(ulp._normal(x.astype(np.longdouble)).astype(float), wanted, rtol=1e-13)


def test_a_format_without_a_wider_one_is_not_measured(capsys, monkeypatch):
    monkeypatch.setattr(environment, "prepared", lambda _: dict(os.environ))
    monkeypatch.setattr(np, "longdouble", np.float64)
    assert ulp.main(["--sample", "--functions", "exp"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[3:]] == [["exp", "float64", "not", "measured:"]]


def test_command(capsys, monkeypatch):
    monkeypatch.setattr(environment, "prepared", lambda _: dict(os.environ))
    assert ulp.main(["--sample", "--functions", "exp"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [["exp", "float32"], ["exp", "float64"]]
    strict = dataclasses.replace(ulp.FUNCTIONS["exp"], bounds={"float32": 0.5})
    monkeypatch.setitem(ulp.FUNCTIONS, "exp", strict)
    assert ulp.main(["--sample", "--functions", "exp"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("NOT KEPT")
    with pytest.raises(SystemExit):
        ulp.main(["--functions", "exp,tahn"])
    assert "did you mean 'tanh'" in capsys.readouterr().err
