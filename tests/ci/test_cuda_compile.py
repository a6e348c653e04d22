"""The compile gate of CUDA: what it reads of ptxas, and what it calls a jump."""

from __future__ import annotations

import pytest

from ci import cuda_compile
from ci.cuda_compile import Table, Task, Usage

LOG = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'summed' for 'sm_90'
ptxas info    : Function properties for summed
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers
ptxas info    : Compile time = 9.0 ms
ptxas info    : Compiling entry function 'product' for 'sm_90'
ptxas info    : Function properties for product
    0 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 38912 bytes smem
"""


def test_what_ptxas_says():
    assert cuda_compile.usages(LOG) == {"summed": Usage(32, 0, 0), "product": Usage(128, 38912, 20)}


def test_the_table_is_read_as_it_was_written():
    found = {("a: b: c", 75): Usage(40, 512, 0), ("a: b: c", 90): Usage(48, 512, 0), ("a: d: e", 120): Usage(9, 1, 0)}
    table = Table("12.9", {"a: b": "0123", "a: d": "4567"}, found)
    assert cuda_compile.read(cuda_compile.written(table)) == table


def test_a_table_is_renewed_room_by_room():
    """Of what was not compiled, the other rooms and what is as it was stay; modules that are no more go."""
    kept = {("a: y: k", 75): Usage(2, 0, 0), ("b: z: k", 75): Usage(3, 0, 0)}
    before = {**kept, ("a: x: k", 75): Usage(1, 0, 0), ("a: gone: k", 75): Usage(4, 0, 0)}
    known = Table("12.9", {"a: x": "1", "a: y": "2", "b: z": "3", "a: gone": "4"}, before)
    whole = [Task("a: x", "", "5", 75, True), Task("a: y", "", "2", 75, False)]
    found = {("a: x: k", 75): Usage(9, 0, 0)}
    wanted = Table("12.9", {"a: x": "5", "a: y": "2", "b: z": "3"}, kept | found)
    assert cuda_compile.renewed(known, whole, found) == wanted
    assert list(cuda_compile.leftovers(known, whole)) == ["a: gone: in the table, and no module (--write)"]


def test_what_the_table_was_made_of():
    task = Task("a: b", "text", "0123", 90, False)
    assert Table("12.9", {"a: b": "0123"}, {}).is_of(task)
    assert not Table("12.9", {"a: b": "4567", "c: d": "0123"}, {}).is_of(task)
    assert not Table("12.9", {}, {}).is_of(task)


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        (Usage(112, 1024, 0), []),
        (Usage(113, 1024, 0), ["k, sm_90: 113 registers, 100 before"]),
        (Usage(20, 1025, 0), ["k, sm_90: 1025 bytes of shared memory, 1024 before"]),
    ],
)
def test_jumps(usage, said):
    assert list(cuda_compile.jumps({("k", 90): usage}, {("k", 90): Usage(100, 1024, 0)})) == said


def test_a_kernel_that_the_table_lacks():
    assert list(cuda_compile.jumps({("k", 90): Usage(1, 0, 0)}, {})) == ["k, sm_90: not in the table (--write)"]


def test_every_kernel_of_the_table_is_of_a_room_that_is_compiled():
    table = cuda_compile.read(cuda_compile.TABLE.read_text(encoding="utf-8"))
    assert {name.partition(":")[0] for name in table.digests} == set(cuda_compile.ROOMS)
