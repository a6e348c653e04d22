"""What there is for CUDA: every op of the table, and every source, for the compile gate. Nothing is compiled here."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from ci import cuda_compile
from fastnn import backends
from fastnn.kernels.table import TABLE
from tests.cuda_host.backend import on_host

SOURCES = Path(__file__).parents[3] / "kernels" / "cuda"


@pytest.fixture(scope="module")
def _device():
    with on_host():
        yield


@pytest.fixture(scope="module")
def texts(_device):
    """What the gate compiles, by name and room."""
    return {task.name: task.text for task in cuda_compile.tasks(cuda_compile.ROOMS, (90,))}


@pytest.mark.usefixtures("_device")
@pytest.mark.parametrize("op", TABLE.values(), ids=lambda op: op.name)
def test_every_op_has_its_launcher(op):
    """And those that take CSR matrices another one for these."""
    for module in (op.module, *(["csr"] if op.sparse else [])):
        launcher = inspect.signature(backends.implementation("cuda", module, op.name))
        wanted = [(p.name, p.kind, p.default) for p in op.signature.parameters.values()]
        assert [(p.name, p.kind, p.default) for p in launcher.parameters.values()] == wanted, module


def test_the_gate_compiles_every_source(texts):
    """A source is named where its lines are counted from."""
    wanted = {path.name for path in (*SOURCES.glob("*.cu"), *SOURCES.glob("*.cuh"))}
    assert {name for text in texts.values() for name in re.findall(r'#line 1 "(\S+)"', text)} == wanted


def test_every_room_has_modules_of_other_names(texts):
    assert {name.partition(":")[0] for name in texts} == set(cuda_compile.ROOMS)
    assert len(texts) == sum(1 for _ in cuda_compile.tasks(cuda_compile.ROOMS, (90,)))
