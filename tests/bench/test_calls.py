"""What calls on device arrays cost the host: each op is called, twice alike, and launches can be stood in for."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import numpy as np
import pytest

from bench.cuda import calls
from fastnn import backends
from fastnn.errors import BackendError
from fastnn.kernels.table import TABLE
from tests.cuda_host import sparse
from tests.cuda_host.places import device

__all__ = ["device"]

SOME = [line for line in calls.lines() if line.op.name in ("relu", "linear_sgd_step", "adam_step", "gather")]


@pytest.fixture(autouse=True)
def matrices(monkeypatch):
    """Where CuPy has them."""
    modules = {name: ModuleType(name) for name in ("cupyx", "cupyx.scipy", "cupyx.scipy.sparse")}
    modules["cupyx.scipy.sparse"].csr_matrix = sparse.csr_matrix
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_every_op_has_a_line_of_each_kind_that_it_takes():
    found = {(line.op.name, line.kind) for line in calls.lines()}
    assert found >= {(name, "") for name in TABLE}
    assert {name for name, kind in found if kind == calls.LISTS} == {name for name, op in TABLE.items() if op.lists}
    assert {name for name, kind in found if kind == calls.CSR} == {name for name, op in TABLE.items() if op.sparse}
    names = [line.name for line in calls.lines()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("line", SOME, ids=lambda line: line.name)
def test_a_call_has_arrays_of_its_kind(device, line):
    run = calls.call(device, line)
    operands = [run.keywords[name] for name in line.op.operands if name in run.keywords]
    if line.kind == calls.LISTS:
        assert {len(each) for each in operands} == {6}
    elif line.kind == calls.CSR:
        assert hasattr(run.keywords[line.op.sparse[0]], "indptr")
        assert "dx" not in run.keywords.get("need", ())
    else:
        assert all(isinstance(each, device.ndarray) for each in operands)
        assert set(line.op.into) <= set(run.keywords) or "need" in run.keywords


def test_a_csr_matrix_has_every_other_number(device):
    dense = np.arange(1.0, 8.0, dtype="float32").reshape(1, 7).repeat(2, axis=0)
    made = calls._sparse(device, dense)
    assert made.indptr.get().tolist() == [0, 4, 7]
    assert made.indices.get().tolist() == [0, 2, 4, 6, 1, 3, 5]
    assert made.data.get().tolist() == [1, 3, 5, 7, 2, 4, 6]


def test_launches_are_counted_and_stood_in_for(device, monkeypatch):
    monkeypatch.setattr(calls, "_CALLS", 3)
    monkeypatch.setattr(calls, "_BLOCKS", 2)
    launched = []
    real = calls._microseconds

    def spy(cupy, run):
        device.launched.clear()
        found = real(cupy, run)
        launched.append(len(device.launched))
        return found

    monkeypatch.setattr(calls, "_microseconds", spy)
    line = next(line for line in SOME if line.name.startswith("linear_sgd_step velocity=None"))
    found = calls.cost(device, line)
    assert found.name == line.name
    assert found.launches > 1
    assert 0 < found.python < 1e6
    assert launched == [2 * 3 * found.launches, 0]
    assert calls.cost(device, line).launches == found.launches  # they are as they were


def test_the_table_begins_with_what_costs_most():
    costs = [calls.Cost("a", 1, 3.0, 5.0), calls.Cost("b", 4, 12.3, 20.0)]
    assert [row.split() for row in calls.table(costs).splitlines()[1:]] == [
        ["12.3", "20.0", "4", "b"],
        ["3.0", "5.0", "1", "a"],
    ]


def test_the_command_prints_and_keeps_what_it_found(device, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(calls.limits, "facts", lambda cupy: {"device": "the host"})
    monkeypatch.setattr(calls, "_CALLS", 1)
    assert calls.main(["--only", "^relu ", "--json", str(tmp_path / "calls.json")]) == 0
    out = capsys.readouterr().out
    assert "relu default" in out
    assert "of 1 calls take less than 10 us of Python" in out
    kept = json.loads((tmp_path / "calls.json").read_text())
    assert kept["environment"]["device"] == "the host"
    assert [each["name"] for each in kept["calls"]] == ["relu default"]


def test_without_a_device_the_reason_is_one_line(monkeypatch, capsys):
    def refuse(name):
        raise BackendError("no device\nat all")

    monkeypatch.setattr(backends, "require", refuse)
    assert calls.main([]) == 2
    assert capsys.readouterr().err == "fastnn bench: error: no device at all\n"
