"""As much of ``cupyx.scipy.sparse`` as the launchers and their callers see of it, on the host."""

from __future__ import annotations

from typing import Any

from tests.cuda_host import cupy


class csr_matrix:  # noqa: N801 - CuPy's name
    """A CSR matrix on the device, of (data, indices, indptr)."""

    format, ndim = "csr", 2

    def __init__(self, parts: tuple[Any, Any, Any], shape: tuple[int, int]) -> None:
        self.data, self.indices, self.indptr = parts
        self.shape = shape

    dtype = property(lambda self: self.data.dtype)


def on_device(matrix: Any) -> csr_matrix:
    """A copy of a matrix of SciPy's."""
    return csr_matrix(tuple(map(cupy.asarray, (matrix.data, matrix.indices, matrix.indptr))), matrix.shape)
