"""CPU kernels: Numba functions around the LLVM vectors of ``simd``, one module for each module of the table."""
