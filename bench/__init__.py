"""Benchmarks: what each op and each training epoch costs on fastnn, NumPy, plain Python, PyTorch and JAX.

``suite`` says what a line of the table is, ``kernels`` and ``training`` list the lines, ``peers`` holds the others'
side of each. Two commands run them:

- ``fastnn bench`` (``report``): contenders interleaved, one table with ratios, ``--json`` for machines;
- ``pytest bench``: pytest-benchmark, for its statistics, ``--benchmark-autosave`` and ``--benchmark-compare``.

A third measures fastnn alone: ``fastnn bench scaling`` (``scaling``), how the cost grows and why its growth changes.

``environment`` makes sure that NumPy runs at its best and says what ran, ``load`` whether the machine was quiet;
``timing`` is the stopwatch. ``results`` keeps result files of ``fastnn bench --json``.
"""
