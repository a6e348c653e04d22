"""``fastnn bench scaling``: how the cost of a training step grows with width, batch, depth, density and threads.

``sweeps`` is the table of what is varied and what is held fixed, ``measure`` the stopwatch, ``knees`` finds in a curve
where its power law changes, ``limits`` computes where the machine and the program change it, ``report`` and ``plots``
put the two beside each other, ``command`` is the command line.
"""
