"""Objects by name: lookup, configs, names."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import initializers, losses, metrics, regularizers
from fastnn.configurable import Configurable, aliases, deserialize, find, serialize, snake_case


class Pot(Configurable):
    def __init__(self, size=1):
        self.size = size

    def get_config(self):
        return {"size": self.size}


class Teapot(Pot):
    pass


NAMES = aliases((Pot, Teapot), kettle=Teapot)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("GlorotUniform", "glorot_uniform"),
        ("L1L2", "l1l2"),
        ("SGD", "sgd"),
        ("HalfSSE", "half_sse"),
        ("TopKCategoricalAccuracy", "top_k_categorical_accuracy"),
    ],
)
def test_snake_case(name, wanted):
    assert snake_case(name) == wanted


def test_find():
    pot = Pot(3)
    assert find("pot", pot, Pot, NAMES) is pot
    assert type(find("pot", Teapot, Pot, NAMES)) is Teapot
    assert type(find("pot", "kettle", Pot, NAMES)) is Teapot
    assert find("pot", {"class_name": "Pot", "config": {"size": 7}}, Pot, NAMES).size == 7
    with pytest.raises(ValueError, match=r"pot: got 'ketle'.*did you mean 'kettle'"):
        find("pot", "ketle", Pot, NAMES)
    with pytest.raises(TypeError, match=r"pot: got int 3, wants a name \(Pot, Teapot\) or a Pot object"):
        find("pot", 3, Pot, NAMES)


def test_round_trip():
    again = deserialize("pot", serialize(Teapot(5), NAMES), NAMES)
    assert type(again) is Teapot
    assert again.size == 5
    assert serialize(None, NAMES) is None


def test_only_known_classes_are_written():
    class Mine(Pot):
        pass

    with pytest.raises(ValueError, match="got an object of the class Mine, wants one of fastnn's own"):
        serialize(Mine(), NAMES)
    with pytest.raises(NotImplementedError, match="Configurable has no get_config"):
        Configurable().get_config()


@pytest.mark.parametrize("document", [{}, {"class_name": "Pot"}, {"class_name": "Pot", "config": 3}])
def test_documents_of_another_form(document):
    with pytest.raises(ValueError, match="wants a mapping with 'class_name' and 'config'"):
        deserialize("pot", document, NAMES)


PAIR = np.ones((2, 1), "float32"), np.ones((2, 1), "float32")


@pytest.mark.parametrize(
    ("base", "use", "wanted"),
    [
        (initializers.Initializer, lambda mine: mine((2, 3)), "__call__(shape, dtype) -> array"),
        (initializers.RandomInitializer, lambda mine: mine((2, 3)), "_draw(generator, shape) -> array"),
        (regularizers.Regularizer, lambda mine: mine(PAIR[0]), "value_and_gradient(x) -> (penalty, derivative by x)"),
        (losses.Loss, lambda mine: mine(*PAIR), "_rows(y_true, y_pred) -> the loss of every row; a loss may also be"),
        (losses.Loss, lambda mine: mine.value_and_gradient(*PAIR), "_batch(y_true, y_pred, sample_weight) -> (loss,"),
        (metrics.Metric, lambda mine: mine(*PAIR), "update_state(y_true, y_pred, sample_weight=None)"),
        (metrics.Metric, lambda mine: mine.result(), "result() -> float"),
        (metrics.Metric, lambda mine: mine.reset_state(), "reset_state()"),
        (metrics.Metric, lambda mine: mine.take(1.0, 1.0), "take(total, count), as it has a fused_form"),
    ],
)
def test_what_a_subclass_has_to_define(base, use, wanted):
    with pytest.raises(NotImplementedError) as caught:
        use(type("Mine", (base,), {})())
    assert str(caught.value).startswith(f"Mine: wants a method {wanted}")
