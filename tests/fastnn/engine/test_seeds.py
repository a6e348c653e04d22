"""The one source of randomness: what is drawn aside changes nothing, in this thread or in another."""

from __future__ import annotations

import threading

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
