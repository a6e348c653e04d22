"""ONNX files: models to and from what onnxruntime, PyTorch, Keras and others exchange."""

from __future__ import annotations

from fastnn.onnx.reading import from_onnx
from fastnn.onnx.writing import DEFAULT_OPSET, OPSETS, proto, to_onnx

__all__ = ["DEFAULT_OPSET", "OPSETS", "from_onnx", "proto", "to_onnx"]
