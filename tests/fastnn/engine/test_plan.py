"""The plan's figures: FLOP, steps, text."""

from __future__ import annotations

import numpy as np

from fastnn import layers, losses
from fastnn.engine import Network, input_source, make_plan
from fastnn.engine.plan import training_flops


def stack(*sizes):
    made, shape = [], (None, sizes[0])
    for units in sizes[1:]:
        made.append(layers.Dense(units))
        made[-1].build(shape)
        shape = (None, units)
    return made


def test_flops_of_the_documents_network():
    """784-512-10: forward 2 (784 512 + 512 10) a sample, weights' gradients as much, one gradient of inputs."""
    assert training_flops(stack(784, 512, 10)) == 4 * (784 * 512 + 512 * 10) + 2 * 512 * 10


def test_flops_of_layers_without_products():
    assert training_flops([layers.Flatten(), layers.Activation("relu")]) == 0
    one = layers.Dense(2)
    one.build((None, 5, 3))
    assert training_flops([layers.Flatten(), one]) == 4 * 5 * 3 * 2


def test_steps_and_text():
    net = Network(stack(3, 2), np.dtype("float32"))
    source = input_source("x", np.zeros((60001, 3), "float32"), net.dtype)
    plan = make_plan(net, "naive", source, 128)
    assert plan.steps_per_epoch == 469
    assert "float32 array" in str(plan)
    assert "469 an epoch" in str(plan)
    assert "naive (asked for)" in str(plan)
    empty = make_plan(net, "naive", None, 128)
    assert empty.steps_per_epoch is None
    assert empty.flop_per_epoch is None
    assert "not given" in str(empty)


def test_notes():
    made = stack(3, 2)
    plain = Network(made, np.dtype("float32"), loss=losses.get("mse"))
    assert make_plan(plain, "cpu").notes == ()
    assert "slower" in str(make_plan(plain, "naive"))
    assert "can predict, not train" in str(make_plan(Network(made, np.dtype("float32")), "cpu"))
    last = layers.Dense(2, "softmax", activity_regularizer="l2")
    last.build((None, 2))
    apart = Network([*made, last], np.dtype("float32"), loss=losses.get("categorical_crossentropy"))
    assert "a penalty on the outputs" in str(make_plan(apart, "cpu"))
