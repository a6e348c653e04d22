"""How the work of an epoch is split: shares of equal work, every piece in one of them."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.kernels.cpu.compiler.machine import tile
from fastnn.kernels.cpu.epochs import layout
from fastnn.kernels.cpu.epochs.layout import Layout, StageKind
from fastnn.kernels.cpu.simd.sparse import SPARSE_TILES


@pytest.mark.parametrize("tasks", [1, 2, 3, 7])
@pytest.mark.parametrize("sparse", [True, False])
def test_shares_are_of_equal_work(sparse, tasks):
    one_panel = SPARSE_TILES * tile(4).NR  # of several, each has the frequent words
    sizes = (5000, one_panel if sparse else 64, 46)
    plan = Layout(sizes, 128, 4, sparse)
    table, _, _ = plan.stages([StageKind(0, product=True, trains_kernel=True, trains_bias=True)] * 2)
    frequencies = 1 / (1 + np.arange(sizes[0]))  # words by rank
    cuts = plan.cuts(table, tasks, frequencies, lazy=True)
    assert cuts.shape == (tasks + 1,)
    assert (np.diff(cuts) >= 0).all()
    assert cuts[[0, -1]].tolist() == [0, table["units"].sum()]
    units = np.diff(cuts)
    if sparse and 1 < tasks < 7:
        assert units[0] < units[1]  # the frequent words come first
    elif not sparse:
        assert units.max() - units.min() <= 4


def test_rows_without_entries_are_work_unless_updates_are_lazy():
    plan = Layout((5000, SPARSE_TILES * tile(4).NR), 128, 4, True)
    table, _, _ = plan.stages([StageKind(0, product=True, trains_kernel=True, trains_bias=True)])
    frequencies = np.where(np.arange(5000) < 1000, 0.01, 0.0)
    rows = plan.cuts(table, 2, frequencies) / table["units"].sum() * 5000
    lazy = plan.cuts(table, 2, frequencies, lazy=True) / table["units"].sum() * 5000
    assert rows[1] == pytest.approx(2300, abs=100)  # others cost two thirds
    assert lazy[1] == pytest.approx(500, abs=100)


def test_a_share_of_nothing_is_empty():
    plan = Layout((3, 2), 1, 4)
    table, _, _ = plan.stages([StageKind(0, product=True)])
    assert plan.cuts(table, 2, np.ones(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 40])
def test_cuts_make_even_shares(tasks):
    work = np.random.default_rng(0).exponential(1.0, 200)
    cuts = layout._even(work, tasks)
    shares = np.diff(np.concatenate([[0], np.cumsum(work)])[cuts])
    assert len(shares) == tasks
    assert shares.sum() == pytest.approx(work.sum())
    assert shares.max() <= shares.min() + 2 * work.max()


def test_sparse_inputs_are_not_gathered():
    kinds = [StageKind(0, product=True, trains_kernel=True, trains_bias=True)] * 2
    dense, sparse = (Layout((5000, 64, 46), 128, 4, each) for each in (False, True))
    assert dense.stages(kinds)[2] - sparse.stages(kinds)[2] == 128 * dense.ld
