"""Kernels by backend: arrays, sizes and codes only; nothing here knows layers, models or data sets.

``table`` declares every op once; ``naive``, ``cpu`` and ``cuda`` implement them in modules of the same names, so the op
``matmul`` of module ``gemm`` is ``fastnn.kernels.<backend>.gemm.matmul``.
"""
