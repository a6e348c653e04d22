"""The model file: one safetensors file with every array, and in its header a JSON document with everything else.

Nothing in it is executed on reading. A file is written whole or not at all (``fastnn.files``). Where Keras has a
module of this name, it has what registers classes for files; ``fastnn.models`` has what writes and reads them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastnn import absent, checks, files
from fastnn.configurable import custom_object_scope, register_keras_serializable
from fastnn.engine.protocols import Array

FORMAT_VERSION = 1
_FORMAT = "fastnn-model"
# Parameters and the state of optimizers: safetensors' names of the types that models compute in.
_DTYPES = ("F32", "F64")
# A document goes eight levels deep, its shapes have few axes, and its longest integers are seeds of 128 bits. What goes
# far beyond that was not written here, and would only be work for those who read it.
_DEEPEST, _MOST_AXES, _MOST_DIGITS = 32, 32, 40
# What people mistake for a model file, by its first bytes.
_FOREIGN = {
    b"PK\x03\x04": "a zip archive (perhaps Keras's .keras, PyTorch's .pt or NumPy's .npz)",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (perhaps Keras's .h5 format)",
    **dict.fromkeys((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a pickle, which fastnn never loads"),
}
# How names of the files end that Keras reads a whole model of, and weights alone.
KERAS_MODEL, KERAS_WEIGHTS = ".keras", ".weights.h5"
# Suffixes whose readers a safetensors file would disappoint, and whose they are.
_PROMISES = {
    **dict.fromkeys((".keras", ".h5", ".hdf5"), "Keras"),
    **dict.fromkeys((".pt", ".pth"), "PyTorch"),
    **dict.fromkeys((".npy", ".npz"), "NumPy"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "pickle"),
    **dict.fromkeys((".pb", ".tflite"), "TensorFlow"),
    ".onnx": "ONNX",
}


def destination(argument: str, filepath: Any, keras: str = "") -> Path:
    """``filepath`` as a path to write to; ValueError, with the suffix to use, for one that promises another format.

    ``keras`` is the suffix of the files of Keras's that can be written, too.
    """
    path = files.checked_path(argument, filepath)
    reader = _PROMISES.get(path.suffix.lower())
    if reader is not None and not (keras and path.name.endswith(keras)):
        names = [f"{path.stem.removesuffix('.weights')}{suffix}" for suffix in (".safetensors", keras) if suffix]
        raise ValueError(
            f"{argument}: got {path.name!r}, whose suffix stands for {reader}, wants {', '.join(map(repr, names))} "
            "or another name: what is written is a safetensors file"
        )
    return path


def replace(filepath: Any, fill: Callable[[BinaryIO], object], overwrite: bool = True) -> None:
    """Write what ``fill`` writes to ``filepath``, whole or not at all; OSError names the file that cannot be written.

    FileExistsError, unless ``overwrite``, where there is a file.
    """
    path = files.checked_path("filepath", filepath)
    if not overwrite and path.exists():
        raise FileExistsError(errno.EEXIST, "filepath: the file exists and overwrite is False", str(path))
    files.write("filepath", path, fill)


def contents(tensors: Mapping[str, Array], document: Mapping[str, Any]) -> Callable[[BinaryIO], object]:
    """What writes the model file of these arrays and this document."""
    import safetensors.numpy

    text = encode(document)
    metadata = {
        "format": _FORMAT,
        "format_version": str(FORMAT_VERSION),
        "checksum": _checksum(tensors, text),
        "document": text,
    }
    data = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata)
    return lambda file: file.write(data)


def read(filepath: Any) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays (float32 or float64, finite or not) and document of a model file.

    OSError where there is no file that can be read; ValueError for one that is damaged, of another program or of a
    newer format. Of the document nothing is known yet but its form: JSON, no deeper than ``encode`` writes.
    """
    path = files.checked_path("filepath", filepath)
    found = files.kind(os.stat(path).st_mode)
    if found is not None and found != "a folder":  # a FIFO would wait for a writer; opening a folder says what it is
        raise _refused(path, f"which is {found}")
    with _opened(path) as opened:
        metadata = opened.metadata() or {}
        _check_format(path, metadata)
        names = list(opened.keys())
        for name in names:
            _check_tensor(path, name, opened.get_slice(name))
        tensors = {name: opened.get_tensor(name) for name in names}
    text = metadata.get("document", "")
    if metadata.get("checksum") != _checksum(tensors, text):
        raise _refused(path, "whose contents fail their checksum", "an undamaged file")
    try:
        return tensors, decode(text)
    except ValueError as error:
        raise _refused(path, f"whose description cannot be read ({error})") from error


def encode(document: Mapping[str, Any]) -> str:
    """A document as text; ValueError for numbers that are not finite, TypeError for what JSON cannot hold."""
    return json.dumps(document, allow_nan=False, default=_plain)


def decode(text: str) -> dict[str, Any]:
    """The document that ``encode`` wrote; ValueError for a text that it cannot have written."""
    try:
        document = json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError(f"a JSON text of more than {_DEEPEST} levels") from None
    if not isinstance(document, dict):
        raise ValueError("no JSON object")
    depth, level = 0, [document]
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"a JSON text of more than {_DEEPEST} levels")
        level = [child for value in level for child in _children(value)]
    return document


def _plain(value: Any) -> Any:
    """A NumPy number as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"got {checks.describe(value)}, wants what JSON can hold")


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:_MOST_DIGITS]}")
    return number


def _children(value: Any) -> Iterable[Any]:
    """What a JSON value holds."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refused(path: Path, reason: str, wants: str = "a file that fastnn's model.save wrote") -> ValueError:
    return ValueError(f"filepath: got {str(path)!r}, {reason}; wants {wants}")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The safetensors file at ``path``; ValueError for what is none."""
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:
        start = file.read(8)
    try:
        with safe_open(path, framework="np") as opened:
            yield opened
    except SafetensorError as error:
        # only now: a model file begins with the length of its header, which may be anything
        foreign = next((kind for magic, kind in _FOREIGN.items() if start.startswith(magic)), None)
        reason = foreign or f"which is truncated, damaged or no model file ({error})"
        raise _refused(path, reason) from error


def _check_format(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != _FORMAT:
        raise _refused(path, "a safetensors file of another program")
    version = metadata.get("format_version", "")
    if version != str(FORMAT_VERSION):
        raise _refused(path, f"of format version {version[:_MOST_DIGITS]!r}", f"version {FORMAT_VERSION}")


def _check_tensor(path: Path, name: str, tensor: Any) -> None:
    """Raise unless NumPy can hold the tensor, and a model; safetensors knows types that NumPy does not."""
    if tensor.get_dtype() not in _DTYPES or len(tensor.get_shape()) > _MOST_AXES:
        shown = f"a tensor of type {tensor.get_dtype()} and {len(tensor.get_shape())} axes, {name[:_MOST_DIGITS]!r}"
        raise _refused(path, f"which holds {shown}")


def _checksum(tensors: Mapping[str, Array], document: str) -> str:
    """CRC-32 of the document and all arrays in the order of their names: safetensors would not notice a flipped bit."""
    code = zlib.crc32(document.encode())
    for name in sorted(tensors):
        numbers = np.ascontiguousarray(tensors[name]).reshape(-1)
        code = zlib.crc32(numbers.view(np.uint8).data, zlib.crc32(name.encode(), code))
    return f"{code:08x}"


__all__ = ["custom_object_scope", "register_keras_serializable"]
absent.explain(__name__)
