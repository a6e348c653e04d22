"""What a wheel must and must not hold."""

from __future__ import annotations

from pathlib import Path

from ci import wheel_contents

ROOT = Path(__file__).parents[2]


def complete():
    files = ["fastnn/py.typed", "fastnn/ops.pyi", "fastnn_kernels-0.1.0.dist-info/METADATA"]
    files += [f"fastnn/{path.relative_to(ROOT / 'fastnn')}" for path in (ROOT / "fastnn").rglob("*.py")]
    kernels = [path for ending in ("*.py", "*.cu", "*.cuh") for path in (ROOT / "kernels").rglob(ending)]
    return files + [f"fastnn/kernels/{path.relative_to(ROOT / 'kernels')}" for path in kernels]


def test_a_complete_wheel():
    assert wheel_contents.faults(complete()) == []


def test_a_missing_module_and_a_second_top_level_package():
    lost = ["fastnn/kernels/cpu/gemm.py", "fastnn/kernels/cuda/gemm.cu"]
    names = [name for name in complete() if name not in lost]
    faults = wheel_contents.faults([*names, "kernels/__init__.py", "fastnn-0.1.0.dist-info/METADATA"])
    beside = ["installed beside fastnn: fastnn-0.1.0.dist-info", "installed beside fastnn: kernels"]
    assert faults == [*(f"missing: {name}" for name in lost), *beside]
