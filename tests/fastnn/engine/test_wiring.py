"""The wiring of a network: order, what is dropped when, gradients that add."""

from __future__ import annotations

import numpy as np

from fastnn.engine.wiring import Call, Wiring, mapped, stacked

# Value 0 goes into two calls, of which the second takes a list; both outputs are looked at.
DIAMOND = Wiring(1, (Call(0, (0,), (1,)), Call(0, (1,), (2,)), Call(1, (2, 0), (3,), listed=True)), (3, 1))


def scaled(place, call, x):
    return sum(x) if call.listed else 2 * x


def test_a_stack_is_one():
    assert stacked(3) == Wiring(1, (Call(0, (0,), (1,)), Call(1, (1,), (2,)), Call(2, (2,), (3,))), (3,))
    assert stacked(3).is_stack
    assert not DIAMOND.is_stack
    assert not Wiring(1, (Call(0, (0,), (1,)), Call(0, (1,), (2,))), (2,)).is_stack  # one layer, twice


def test_forward_follows_the_calls_and_keeps_no_value_that_nobody_needs():
    assert DIAMOND.dropped == ((), (), (0, 2))
    assert stacked(2).dropped == ((0,), (1,))
    assert DIAMOND.forward([np.full(3, 1.0)], scaled)[0].tolist() == [5, 5, 5]
    assert DIAMOND.forward([1.0], scaled) == [5.0, 2.0]


def test_gradients_of_a_value_that_is_taken_twice_add():
    asked = []

    def back(place, call, dy):
        asked.append((place, dy if dy is None else float(dy[0])))
        return None if dy is None else [dy, dy] if call.listed else 2 * dy

    slopes = DIAMOND.backward([np.ones(1), np.full(1, 10.0)], back)
    assert {value: float(slope[0]) for value, slope in slopes.items()} == {0: 4 + 20 + 1}
    assert asked == [(2, 1.0), (1, 1.0), (0, 12.0)]
    asked.clear()
    assert not DIAMOND.backward([None, None], back)
    assert asked == [(2, None), (1, None), (0, None)]


def test_what_depends_on_a_layer_and_what_is_an_output_alone():
    assert DIAMOND.behind({1}) == {3}
    assert DIAMOND.behind({0}) == {1, 2, 3}
    assert DIAMOND.only_outputs() == {0: 2}
    assert Wiring(1, (Call(0, (0,), (1,)),), (1, 1)).only_outputs() == {}


def test_mapped_goes_into_tuples_alone():
    assert mapped(len, [1, 2]) == 2
    assert mapped(len, ([1], [1, 2])) == (1, 2)
    assert mapped(max, (1, 5), (4, 2)) == (4, 5)
