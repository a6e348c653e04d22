"""The package onnx, which this one needs to read and write files, and nothing else of fastnn does."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from fastnn.errors import installing

# Bytes that a protocol buffer can have.
LARGEST = 2**31 - 1


def onnx(submodule: str = "") -> Any:
    """The package onnx, or one of its submodules; ImportError that says how to install it."""
    if importlib.util.find_spec("onnx") is None:
        raise ImportError(f"ONNX files need onnx, which is not installed: {installing('onnx')}")
    return importlib.import_module(f"onnx.{submodule}" if submodule else "onnx")


def decode_error() -> type[Exception]:
    """What parsing raises for bytes that are no protocol buffer."""
    found: type[Exception] = importlib.import_module("google.protobuf.message").DecodeError
    return found
