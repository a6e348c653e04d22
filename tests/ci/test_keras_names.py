"""Names of Keras's beside ours: what differs is told, argument by argument."""

from __future__ import annotations

import os

import pytest

from ci.keras_names import MODULES, Row, differing, rows


class Base:
    def __init__(self, rate=0.1, name=None):
        pass


class Ours(Base):
    def __init__(self, units, size=2, **options):
        super().__init__(**options)


def function(a, b, axis=0):
    pass


def test_arguments_that_are_alike_do_not_differ():
    assert not differing(lambda units, size=(2, 2), rate=0.1, name="ours", data_format=None, **others: None, Ours)


@pytest.mark.parametrize(
    ("theirs", "found"),
    [
        (lambda units, size=3: None, ("size: 2 for 3",)),
        (lambda units, size: None, ("size: 2 for required",)),
        (lambda units, size=2, momentum=0.9: None, ("momentum: lacking",)),
        (lambda units, rate=0.2: None, ("rate: 0.1 for 0.2",)),
        (lambda size=2: None, ("units: required here",)),
        (lambda n, size=2: None, ("n: units",)),
    ],
)
def test_what_differs_is_told(theirs, found):
    assert differing(theirs, Ours) == found


def test_operands_by_other_names_are_told_in_their_order():
    assert differing(lambda x1, x2, axis=0: None, function) == ("x1: a", "x2: b")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_all_modules_are_walked():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    pytest.importorskip("keras", minversion="3.15", reason="Keras is not installed: pip install -e '.[peers]'")
    found = {row.keras: row for row in rows()}
    assert {name.removeprefix("keras.").rpartition(".")[0] for name in found} == set(MODULES)
    assert found["keras.layers.LSTM"] == Row("keras.layers.LSTM", "fastnn.layers.LSTM")
    assert found["keras.layers.Conv3D"] == Row("keras.layers.Conv3D", None)
    assert "keras.datasets.mnist" in found
    assert "keras.optimizers.schedules" not in found
