"""When a measurement is made again, and when it was disturbed."""

from __future__ import annotations

import pytest

from bench import attempts


@pytest.mark.parametrize(
    ("made", "tells", "expected"),
    [
        (0, True, False),
        (1, True, True),
        (1, False, False),
        (2, True, False),  # the median of two lies between them
        (3, True, True),
        (4, True, False),
        (5, False, True),
        (5, True, True),
        (6, False, True),
    ],
)
def test_attempts_are_made_until_an_odd_number_tells_or_there_are_most(made, tells, expected):
    assert attempts.enough([0.0] * made, lambda given: tells, 5) is expected


def test_all_attempts_are_asked_whether_they_tell():
    asked = []
    attempts.enough([1, 2, 3], lambda given: asked.append(list(given)) or False, 5)
    assert asked == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("others", "threads", "expected"),
    [
        ([0.0], 2, False),
        ([0.05], 2, False),
        ([0.11], 2, True),
        ([0.9], 1, False),
        ([1.5], 1, True),
        ([1.0, 0.0, 0.0], 2, False),
        ([1.0, 0.0, 1.0], 2, True),
    ],
)
def test_disturbed_where_the_median_attempt_lacked_a_core_that_threads_need(monkeypatch, others, threads, expected):
    monkeypatch.setattr(attempts.os, "cpu_count", lambda: 2)
    assert attempts.disturbed(others, threads) is expected


def test_a_machine_that_does_not_tell_its_cores_has_one(monkeypatch):
    monkeypatch.setattr(attempts.os, "cpu_count", lambda: None)
    assert [attempts.disturbed([0.0], threads) for threads in (1, 2)] == [False, True]
