"""``fastnn convert``: model files of one kind to another."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from fastnn import onnx, saving
from fastnn.cli.arguments import UsageError, check_writable_path, whole
from fastnn.models import load_model

# What from_onnx and load_model call what they read.
_READERS_ARGUMENT = re.compile("^(source|filepath): ")


def add(commands: Any) -> None:
    """The command, to a parser's."""
    convert = commands.add_parser(
        "convert",
        help="make an ONNX file, a file of Keras's or a model file of another",
        description="Read a model from one file and write it to another. The suffix .onnx is ONNX, .keras a file of "
        "Keras 3; any other name is fastnn's own model file (safetensors). The last two also have how the model was "
        "compiled.",
        epilog="examples:\n"
        "  fastnn convert mnist.safetensors mnist.onnx     for onnxruntime and others\n"
        "  fastnn convert model.keras model.onnx           the same of Keras's, without Keras\n"
        "  fastnn convert mnist.safetensors mnist.keras    for Keras\n"
        "  fastnn convert theirs.onnx ours.safetensors     fastnn.load_model reads it, to train on",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert.set_defaults(run=_convert)
    convert.add_argument("source", metavar="SOURCE", type=Path, help="the file to read")
    convert.add_argument("destination", metavar="DESTINATION", type=Path, help="the file to write, or to replace")
    convert.add_argument(
        "--opset",
        metavar="N",
        default=onnx.DEFAULT_OPSET,
        type=whole("--opset", onnx.OPSETS[0], onnx.OPSETS[-1]),
        help=f"version of ONNX's operators, {onnx.OPSETS[0]} to {onnx.OPSETS[-1]} (default: {onnx.DEFAULT_OPSET})",
    )


def _convert(arguments: argparse.Namespace) -> int:
    source, destination = arguments.source, arguments.destination
    if not source.is_file():
        raise UsageError(f"argument SOURCE: got {source}, wants a file: {_instead_of_a_file(source)}")
    try:
        if not _is_onnx(destination):
            saving.destination("argument DESTINATION", destination, saving.KERAS_MODEL)
        check_writable_path("DESTINATION", destination)
        model = onnx.from_onnx(source) if _is_onnx(source) else load_model(source)
        if _is_onnx(destination):
            onnx.to_onnx(model, destination, opset=arguments.opset)
        else:
            model.save(destination)
    except ValueError as error:
        raise UsageError(_READERS_ARGUMENT.sub("argument SOURCE: ", str(error))) from error
    print(f"{destination}: {len(model.layers)} layers, {model.count_params():,} parameters")
    return 0


def _instead_of_a_file(path: Path) -> str:
    return "this is a folder" if path.is_dir() else "this is none" if path.exists() else "there is nothing of that name"


def _is_onnx(path: Path) -> bool:
    return path.suffix.lower() == ".onnx"
