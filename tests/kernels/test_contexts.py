"""What is chosen for a ``with`` block."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import pytest

from fastnn.kernels.contexts import setting


def test_a_setting_ends_with_its_block_and_stays_in_its_thread():
    variable, seen = ContextVar("variable", default=1), []
    with setting(variable, 2):
        other = threading.Thread(target=lambda: seen.append(variable.get()))
        other.start()
        other.join()
        with setting(variable, 3):
            seen.append(variable.get())
        seen.append(variable.get())
    assert [*seen, variable.get()] == [1, 3, 2, 1]


def test_a_setting_ends_with_an_error():
    variable = ContextVar("variable", default=1)
    with pytest.raises(ValueError, match="inside"), setting(variable, 2):
        raise ValueError("inside")
    assert variable.get() == 1


def test_none_leaves_a_variable_as_it_is_where_the_block_begins():
    variable = ContextVar("variable", default=1)
    same = setting(variable, None)
    with setting(variable, 2):
        with same:
            assert variable.get() == 2
        assert variable.get() == 2
    assert variable.get() == 1
