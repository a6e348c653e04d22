"""SIMD: the inner loops, emitted as LLVM vectors.

Numba's own vectoriser stops at 256 bits and cannot keep a tile of C in registers, so the inner loops are emitted as
LLVM vectors, once for float32 and float64 and for every vector length:

- ``vectors``: the primitives (load, store, splat, fma, min, max, select, ...); ``functions``: exp, log, tanh, ... on
  them, and with these ``Vectors``, the arithmetic that ``kernels/formulas`` is written in;
- ``kernel``: how micro-kernels declare their operands, and how Numba functions call them; ``loops``: what their bodies
  are made of;
- the micro-kernels: ``elementwise``, ``losses``, ``normalization``, ``optim``, ``pooling``, ``patches``, ``softmax``,
  ``random``, ``dropout``, ``tile``, ``sparse``, ``recurrent``, ``windows``, ``winograd``;
- ``library``: all of them as machine code.

Grammar of the micro-kernels: ``<what>_<extent>(codes, sizes, sources, destinations)``; pointers are made by
``address``; sizes and strides count elements, not bytes.
"""
