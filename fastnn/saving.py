"""The model file: one safetensors file with every array, and in its header a JSON document with everything else.

Nothing in it is executed on reading. A file is written whole or not at all (``fastnn.files``).
"""

from __future__ import annotations

import errno
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import files
from fastnn.engine.protocols import Array

FORMAT_VERSION = 1
_FORMAT = "fastnn-model"
# What people mistake for a model file, by its first bytes.
_FOREIGN = {
    b"PK\x03\x04": "a zip archive (perhaps Keras's .keras, PyTorch's .pt or NumPy's .npz)",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (perhaps Keras's .h5 format)",
    **dict.fromkeys((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a pickle, which fastnn never loads"),
}
# Suffixes whose readers a safetensors file would disappoint, and whose they are.
_PROMISES = {
    **dict.fromkeys((".keras", ".h5", ".hdf5"), "Keras"),
    **dict.fromkeys((".pt", ".pth"), "PyTorch"),
    **dict.fromkeys((".npy", ".npz"), "NumPy"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "pickle"),
    **dict.fromkeys((".pb", ".tflite"), "TensorFlow"),
    ".onnx": "ONNX",
}


def destination(argument: str, filepath: Any) -> Path:
    """``filepath`` as a path to write to; ValueError, with the suffix to use, for one that promises another format."""
    path = files.checked_path(argument, filepath)
    reader = _PROMISES.get(path.suffix.lower())
    if reader is not None:
        raise ValueError(
            f"{argument}: got {path.name!r}, whose suffix stands for {reader}, wants {path.stem + '.safetensors'!r} or "
            "another name: what is written is a safetensors file"
        )
    return path


def write(filepath: Any, tensors: Mapping[str, Array], document: Mapping[str, Any], overwrite: bool = True) -> None:
    """Write arrays and document to ``filepath``, whole or not at all; OSError names the file that cannot be written."""
    import safetensors.numpy

    path = destination("filepath", filepath)
    if not overwrite and path.exists():
        raise FileExistsError(errno.EEXIST, "filepath: the file exists and overwrite is False", str(path))
    text = json.dumps(document, allow_nan=False)
    metadata = {
        "format": _FORMAT,
        "format_version": str(FORMAT_VERSION),
        "checksum": _checksum(tensors, text),
        "document": text,
    }
    data = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata)
    files.write("filepath", path, lambda file: file.write(data))


def read(filepath: Any) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays and document of a model file; ValueError for a file that is none, is damaged, or is of a newer format."""
    from safetensors import SafetensorError, safe_open

    path = files.checked_path("filepath", filepath)
    with open(path, "rb") as file:
        start = file.read(8)
    try:
        with safe_open(path, framework="np") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        # only now: a model file begins with the length of its header, which may be anything
        for magic, kind in _FOREIGN.items():
            if start.startswith(magic):
                raise ValueError(
                    f"filepath: got {str(path)!r}, {kind}; wants a file that fastnn's model.save wrote"
                ) from None
        raise ValueError(
            f"filepath: got {str(path)!r}, which is truncated, damaged or no model file ({error}); wants a file that "
            "fastnn's model.save wrote"
        ) from error
    return tensors, _document(path, tensors, metadata)


def _document(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"filepath: got {str(path)!r}, a safetensors file of another program, wants a model file")
    version = metadata.get("format_version", "")
    if version != str(FORMAT_VERSION):
        raise ValueError(f"filepath: got {str(path)!r} of format version {version!r}, wants version {FORMAT_VERSION}")
    text = metadata.get("document", "")
    if metadata.get("checksum") != _checksum(tensors, text):
        raise ValueError(f"filepath: got {str(path)!r}, whose contents fail their checksum, wants an undamaged file")
    document: dict[str, Any] = json.loads(text)
    return document


def _checksum(tensors: Mapping[str, Array], document: str) -> str:
    """CRC-32 of the document and all arrays in the order of their names: safetensors would not notice a flipped bit."""
    code = zlib.crc32(document.encode())
    for name in sorted(tensors):
        numbers = np.ascontiguousarray(tensors[name]).reshape(-1)
        code = zlib.crc32(numbers.view(np.uint8).data, zlib.crc32(name.encode(), code))
    return f"{code:08x}"
