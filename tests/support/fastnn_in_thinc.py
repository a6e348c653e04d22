"""A plugin for pytest, under which thinc's own tests run on FastnnOps wherever they ask for NumpyOps or for none."""

from __future__ import annotations

import sys
import unittest.mock

import pytest
from thinc.api import NumpyOps, set_current_ops

from fastnn.thinc import FastnnOps

sys.modules.setdefault("mock", unittest.mock)  # some of thinc's tests import the package that became this module

_replaced = set()


def _ours(value):
    if value is NumpyOps:
        return FastnnOps
    return FastnnOps() if type(value) is NumpyOps else value


def pytest_configure():
    set_current_ops(FastnnOps())


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc):
    for mark in metafunc.definition.iter_markers("parametrize"):
        values = mark.args[1]
        if isinstance(values, list) and any(value is NumpyOps or type(value) is NumpyOps for value in values):
            values[:] = map(_ours, values)
        if isinstance(values, list) and any(value is FastnnOps or type(value) is FastnnOps for value in values):
            _replaced.add(metafunc.definition.nodeid)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.line(f"FastnnOps in {len(_replaced)} functions' parameters")
