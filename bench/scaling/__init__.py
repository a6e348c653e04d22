"""``fastnn bench scaling``: how the cost of a training step grows with width, batch, depth, density and threads.

``sweeps`` is the table of what is varied and what is held fixed, ``measure`` the stopwatch, ``report`` and ``plots``
write down what was found, ``command`` is the command line. Why a curve bends is for people to say:
``bench/results/scaling/report.md`` does, for one machine.
"""
