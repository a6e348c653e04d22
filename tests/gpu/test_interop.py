"""Arrays of other libraries on the same device, without a copy."""

from __future__ import annotations

import os

import numpy as np
import pytest

from fastnn import ops
from tests.cuda_host.places import device_only

pytestmark = [device_only, pytest.mark.filterwarnings("default")]  # theirs are not ours to answer for

A = np.random.default_rng(1).integers(-4, 5, (33, 50)).astype("float32")
B = np.random.default_rng(2).integers(-4, 5, (50, 20)).astype("float32")


def test_pytorchs_tensors(cupy):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch without CUDA")
    a, b = (torch.from_numpy(each).cuda() for each in (A, B))
    ours = [cupy.from_dlpack(each) for each in (a, b)]
    assert [each.data.ptr for each in ours] == [a.data_ptr(), b.data_ptr()]
    out = torch.zeros(33, 20, device="cuda")
    target = cupy.from_dlpack(out)
    assert ops.matmul(*ours, out=target) is target
    cupy.cuda.get_current_stream().synchronize()
    assert torch.equal(out, a @ b)
    assert torch.equal(torch.from_dlpack(ops.relu(a)), torch.relu(a))
    found = ops.matmul(a, b, out=out.zero_())
    assert (type(found), found.data.ptr) == (cupy.ndarray, out.data_ptr())
    cupy.cuda.get_current_stream().synchronize()
    assert torch.equal(out, a @ b)
    with pytest.raises(TypeError, match="x: got an array of torch's on a CUDA device that cannot be taken"):
        ops.relu(a.requires_grad_())


def test_pytorchs_tensors_as_they_are(cupy):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch without CUDA")
    a, b = (torch.from_numpy(each).cuda() for each in (A, B))
    out = torch.zeros(33, 20, device="cuda")
    assert np.array_equal(ops.matmul(a, b).get(), A @ B)
    ops.matmul(a, b, out=out)
    assert np.array_equal(out.cpu().numpy(), A @ B)
    with pytest.raises(TypeError, match=r"^b: "):
        ops.matmul(a, torch.from_numpy(B))


def test_pytorchs_current_stream(cupy):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch without CUDA")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), cupy.cuda.ExternalStream(stream.cuda_stream):
        a = torch.from_numpy(A).cuda()
        for _ in range(50):
            a = torch.from_dlpack(ops.add(cupy.from_dlpack(a), cupy.from_dlpack(a))) / 2
    stream.synchronize()
    assert np.array_equal(a.cpu().numpy(), A)


def test_jaxs_arrays(cupy, monkeypatch):
    if "XLA_PYTHON_CLIENT_PREALLOCATE" not in os.environ:
        monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # it takes most of the memory else
    jax = pytest.importorskip("jax")
    try:
        device = jax.devices("gpu")[0]
    except RuntimeError as error:
        pytest.skip(f"JAX without CUDA: {error}")
    a, b = (jax.device_put(each, device).block_until_ready() for each in (A, B))
    for given in ((cupy.from_dlpack(a), cupy.from_dlpack(b)), (a, b)):
        found = ops.matmul(*given)
        assert np.array_equal(found.get(), A @ B)
    with pytest.raises(ValueError, match="out: got a read-only array"):
        ops.matmul(a, b, out=jax.device_put(A @ B, device))
    assert np.array_equal(np.asarray(jax.dlpack.from_dlpack(found)), A @ B)
