"""``fastnn bench kernels --backend cuda``: the table's ops on a device, beside CuPy, PyTorch and JAX.

``kernels`` lists the lines, ``operands`` makes random arrays for them, ``stopwatch`` times by CUDA events, ``limits``
measures what the device can do, in the same run; ``peers`` holds the others' side, ``command`` runs it all. Tables,
JSON and ratios are those of the CPU's benchmarks (``bench.measure``, ``bench.report``). ``calls`` is a command of its
own: what a call costs the host.
"""
