"""Formulas of one number: activations, losses, penalties, optimizer steps, each written once for every backend.

A formula is a function of an arithmetic ``v`` (``arithmetic.Arithmetic``) and of values that it knows nothing about: on
the CPU these are LLVM vectors (``cpu.simd``), in ``cpp`` the text of C++ expressions. So a formula says what is
computed, and a backend with which instructions. The naive loops are written apart from these, on purpose: they are the
oracle, and a formula that is wrong must not pass on every backend.
"""
