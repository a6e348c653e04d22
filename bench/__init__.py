"""Benchmarks: what each op and each training epoch costs on fastnn, and on NumPy, plain Python and other libraries.

``suite`` says what a line of the tables is; ``kernels``, ``addresses``, ``training``, ``prediction``, ``estimators``,
``likelihood``, ``acceleration``, ``thinc``, ``adoption``, ``startup`` and ``onnx`` list the lines; ``peers`` holds the
others' side of each; ``child`` is what must be measured in a process of its own.
Two commands run them (start-up lines: the first one only):

- ``fastnn bench`` (``report``): contenders interleaved, tables with ratios, and what the project promises beside what
  was found, ``--json`` for machines;
- ``pytest bench``: pytest-benchmark, for its statistics, ``--benchmark-autosave`` and ``--benchmark-compare``.

A third measures fastnn alone: ``fastnn bench scaling`` (``scaling``), how the cost grows. A fourth measures a device:
``fastnn bench kernels --backend cuda`` (``cuda``), and what
its calls cost the host: ``fastnn bench calls``. ``gpu.sh`` runs all that a machine with a GPU has to show.

``environment`` makes sure that NumPy runs at its best and says what ran, ``load`` what others did meanwhile;
``timing`` is the stopwatch, ``attempts`` says when a measurement is made again, ``placing`` where operands begin.
``results`` keeps result files of ``fastnn bench --json``.
"""
