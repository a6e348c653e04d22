"""The ops as the textbooks write them: plain Python loops over numbers, one multiplication at a time.

They are the readable definition, the oracle of the other backends (Python floats are doubles) and the baseline of the
benchmarks. Each takes and returns NumPy arrays; the arithmetic in between is Python's.
"""
