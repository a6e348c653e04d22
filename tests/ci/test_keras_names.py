"""Names of Keras's beside ours: what differs is told, argument by argument."""

from __future__ import annotations

import os

import pytest

from ci.keras_names import MODULES, Row, arguments, differing, listed, rows, saved, saved_version


class Base:
    def __init__(self, rate=0.1, name=None):
        pass


class Ours(Base):
    def __init__(self, units, size=2, **options):
        super().__init__(**options)


def function(a, b, axis=0):
    pass


def test_arguments_that_are_alike_do_not_differ():
    wanted = arguments(lambda units, size=(2, 2), rate=0.1, name="ours", data_format=None, **others: None)
    assert not differing(wanted, Ours)
    assert not differing(None, Ours)


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
    assert differing(arguments(theirs), Ours) == found


def test_operands_by_other_names_are_told_in_their_order():
    assert differing(arguments(lambda x1, x2, axis=0: None), function) == ("x1: a", "x2: b")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_saved_names_are_those_of_keras():
    """Where this fails for a newer Keras: python -m ci.keras_names --write."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is not installed: pip install -e '.[peers]'")
    if keras.__version__.split(".")[:2] != saved_version().split(".")[:2]:
        pytest.skip(f"the names are of Keras {saved_version()}, installed is {keras.__version__}")
    assert saved() == listed()


def test_all_modules_are_walked():
    found = {row.keras: row for row in rows()}
    assert {name.removeprefix("keras.").rpartition(".")[0] for name in found} == set(MODULES)
    assert found["keras.layers.LSTM"] == Row("keras.layers.LSTM", "fastnn.layers.LSTM")
    assert found["keras.layers.Conv3D"] == Row("keras.layers.Conv3D", None)
    assert "keras.datasets.mnist" in found
    assert "keras.optimizers.schedules" not in found
