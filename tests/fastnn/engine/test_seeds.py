"""The one source of randomness: what is drawn aside changes nothing, in this thread or in another."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from fastnn.engine import seeds


def test_draws_aside_leave_the_generator_untouched():
    seeds.reset(3)
    wanted = [seeds.draw_seed() for _ in range(4)]
    seeds.reset(3)
    assert seeds.draw_seed() == wanted[0]
    with seeds.untouched():
        assert [seeds.draw_seed() for _ in range(3)] == wanted[1:]
    assert [seeds.draw_seed() for _ in range(3)] == wanted[1:]


def test_other_threads_draw_as_ever():
    """What another thread draws meanwhile stays drawn: it must not come a second time."""
    drawn = []
    seeds.reset(3)
    with seeds.untouched():
        other = threading.Thread(target=lambda: drawn.append(seeds.draw_seed()))
        other.start()
        other.join()
    drawn.append(seeds.draw_seed())
    seeds.reset(3)
    assert drawn == [seeds.draw_seed(), seeds.draw_seed()]


def test_a_reset_inside_holds_outside():
    with seeds.untouched():
        seeds.reset(5)
    first = seeds.draw_seed()
    seeds.reset(5)
    assert seeds.draw_seed() == first


def test_a_generator_in_a_state_draws_what_this_one_drew():
    state = json.loads(json.dumps(seeds.state()))
    other, drawn = seeds.in_state(state), seeds.generator().permutation(20)
    np.testing.assert_array_equal(other.permutation(20), drawn)
    assert other.bit_generator.state == seeds.state() != state


@pytest.mark.parametrize(
    "state",
    [None, 3, {}, {"bit_generator": "PCG64"}, {"bit_generator": "MT19937"}, {"bit_generator": "PCG64", "state": 1}],
)
def test_a_state_of_no_such_generator_is_refused(state):
    before = seeds.state()
    with pytest.raises(ValueError, match="got a state that no generator of this kind can be in"):
        seeds.in_state(state)
    assert seeds.state() == before
