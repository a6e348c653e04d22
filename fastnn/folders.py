"""Data in folders of files, a folder a class: images and texts in batches, under Keras's names.

Images are read by Pillow, which is imported when one is read.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.engine import seeds
from fastnn.engine.data import numeric_array
from fastnn.engine.protocols import Array
from fastnn.layers.preprocessing import Resizing

_IMAGES, _TEXTS = (".bmp", ".gif", ".jpeg", ".jpg", ".png"), (".txt",)
# Pillow's names of what images have at a place: (rows, columns, channels).
_MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
_LABELS = ("int", "categorical", "binary", None)
_SUBSETS = ("training", "validation", "both", None)


class Batches:
    """Batches that are made when they are asked for: ``fit``, ``evaluate`` and ``predict`` take them as data.

    ``len`` tells how many there are, ``[i]`` makes one. ``class_names`` and ``file_paths`` are those of folders.
    """

    def __init__(
        self,
        make: Callable[[int], Any],
        count: int,
        on_epoch_end: Callable[[], None] | None = None,
        class_names: Sequence[str] = (),
        file_paths: Sequence[str] = (),
    ) -> None:
        self._make, self._count, self._at_end = make, count, on_epoch_end
        self.class_names, self.file_paths = [*class_names], [*file_paths]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        """The batch of this number, the last one counted by -1."""
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"index: got {index}, wants one of {len(self)} batches")
        return self._make(place)

    def __iter__(self) -> Iterator[Any]:
        yield from map(self._make, range(len(self)))
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        """Change the order, where batches are shuffled."""
        if self._at_end is not None:
            self._at_end()

    def map(self, function: Callable[..., Any], num_parallel_calls: Any = None) -> Batches:
        """What a function makes of every batch, of (x, y) as two arguments; ``num_parallel_calls`` changes nothing."""

        def made(place: int) -> Any:
            batch = self[place]
            return function(*batch) if isinstance(batch, tuple) else function(batch)

        return self._like(made, len(self))

    def take(self, count: int) -> Batches:
        """The first ``count`` batches."""
        return self._like(self._make, min(len(self), checks.integer("count", count, 0)))

    def skip(self, count: int) -> Batches:
        """All but the first ``count`` batches."""
        first = min(len(self), checks.integer("count", count, 0))
        return self._like(lambda place: self._make(place + first), len(self) - first)

    def prefetch(self, buffer_size: Any = None) -> Batches:
        """These batches: nothing is fetched ahead."""
        return self

    def _like(self, make: Callable[[int], Any], count: int) -> Batches:
        return Batches(make, count, self._at_end, self.class_names, self.file_paths)


def image_dataset_from_directory(
    directory: str | os.PathLike[str],
    labels: str | None = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    color_mode: str = "rgb",
    batch_size: int = 32,
    image_size: tuple[int, int] = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    verbose: bool = True,
) -> Any:
    """Images in folders, a folder a class, as batches (x, y): x float32 (n, rows, columns, channels) of 0 to 255.

    Every image is resized to ``image_size``. y is by ``label_mode``: "int" the class's number by the order of names,
    "categorical" one-hot rows, "binary" (n, 1); with None, or ``labels=None`` for images in no folders, there is none.
    ``validation_split`` is the share of the last files for ``subset`` "validation"; "both" gives a pair.
    """
    height, width = checks.integers("image_size", image_size, 2, 1)
    mode = _MODES[checks.one_of("color_mode", color_mode, _MODES)]
    resize = Resizing(height, width, interpolation)

    def read(path: str) -> Array:
        return np.asarray(resize(_pixels(path, mode)[np.newaxis])[0])

    return _in_batches(
        directory, labels, label_mode, class_names, batch_size, shuffle, seed, validation_split, subset, verbose,
        _IMAGES, lambda paths: np.stack([*map(read, paths)]),
    )  # fmt: skip


def text_dataset_from_directory(
    directory: str | os.PathLike[str],
    labels: str | None = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    batch_size: int = 32,
    max_length: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    verbose: bool = True,
) -> Any:
    """Text files (.txt, UTF-8) in folders, a folder a class, as batches (x, y): x is an array (n,) of strings.

    ``max_length`` is the most characters of a text; all else as of images. ``layers.TextVectorization`` makes numbers
    of them: ``batches.map(lambda x, y: (vectorize(x), y))``.
    """
    most = None if max_length is None else checks.positive_int("max_length", max_length)

    def read(paths: Sequence[str]) -> Array:
        return np.array([Path(path).read_text(encoding="utf-8")[:most] for path in paths], dtype=object)

    return _in_batches(
        directory, labels, label_mode, class_names, batch_size, shuffle, seed, validation_split, subset, verbose,
        _TEXTS, read,
    )  # fmt: skip


def _in_batches(
    directory: Any, labels: Any, label_mode: Any, class_names: Any, batch_size: Any, shuffle: Any, seed: Any,
    validation_split: Any, subset: Any, verbose: Any, suffixes: Sequence[str], read: Callable[[Sequence[str]], Array],
) -> Any:  # fmt: skip
    """The batches of one part of the files, or of both."""
    checks.one_of("labels", labels or "None", ("inferred", "None"))
    _among("label_mode", label_mode, _LABELS)
    _among("subset", subset, _SUBSETS)
    if (validation_split is None) != (subset is None):
        raise ValueError("validation_split, subset: got one of them, wants both or none")
    share = 0.0 if validation_split is None else checks.real("validation_split", validation_split, 0, 1)
    size = checks.positive_int("batch_size", batch_size)
    paths, numbers, names = _files(Path(directory), suffixes, labels, class_names)
    if label_mode == "binary" and labels and len(names) != 2:
        raise ValueError(f"label_mode: got 'binary' for {len(names)} classes, wants 2")
    rng = np.random.default_rng(seeds.draw_seed() if seed is None else seed)
    order = rng.permutation(len(paths)) if shuffle else np.arange(len(paths))
    if verbose:
        print(f"Found {len(paths)} files" + (f" belonging to {len(names)} classes." if labels else "."))
    first = len(paths) - int(share * len(paths))

    def part(places: Array) -> Batches:
        places = places.copy()

        def make(place: int) -> Any:
            chosen = places[place * size : (place + 1) * size]
            x = read([paths[each] for each in chosen])
            return x if labels is None or label_mode is None else (x, _targets(numbers[chosen], len(names), label_mode))

        at_end = (lambda: rng.shuffle(places)) if shuffle else None
        return Batches(make, math.ceil(len(places) / size), at_end, names, [paths[each] for each in places])

    training, validation = order[:first], order[first:]
    if subset == "both":
        return part(training), part(validation)
    return part(validation if subset == "validation" else training)


def _among(name: str, value: Any, allowed: Sequence[Any]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: got {value!r}, wants one of {', '.join(map(repr, allowed))}")


def _files(folder: Path, suffixes: Sequence[str], labels: Any, wanted: Any) -> tuple[list[str], Array, list[str]]:
    """Paths in order, the number of each one's class, and the classes' names."""
    if not folder.is_dir():
        raise NotADirectoryError(f"directory: got {str(folder)!r}, wants a folder")
    found = sorted(each.name for each in folder.iterdir() if each.is_dir()) if labels else ["."]
    if wanted is not None and {*wanted} != {*found}:
        raise ValueError(f"class_names: got {[*wanted]}, wants the names of the folders in some order: {found}")
    names = found if wanted is None else [*wanted]
    of_each = [
        (str(path), number)
        for number, name in enumerate(names)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in suffixes and path.is_file()
    ]
    if not of_each:
        raise ValueError(f"directory: got {str(folder)!r} without files of {', '.join(suffixes)}, wants some")
    paths, numbers = zip(*of_each, strict=True)
    return [*paths], np.array(numbers, np.int32), names if labels else []


def _targets(numbers: Array, classes: int, label_mode: str) -> Array:
    if label_mode == "categorical":
        return np.eye(classes, dtype=np.float32)[numbers]
    return numbers.astype(np.float32)[:, np.newaxis] if label_mode == "binary" else numbers


def _pillow() -> Any:
    if importlib.util.find_spec("PIL") is None:
        raise ImportError("images in files need Pillow, which is not installed: pip install pillow")
    from PIL import Image

    return Image


def _pixels(path: Any, mode: str) -> Array:
    with _pillow().open(path) as image:
        pixels = np.asarray(image.convert(mode), dtype=np.float32)
    return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def load_img(
    path: Any, color_mode: str = "rgb", target_size: tuple[int, int] | None = None, interpolation: str = "nearest"
) -> Any:
    """An image of Pillow's, of (rows, columns) ``target_size`` where it is given."""
    kinds = _pillow().Resampling
    kind = kinds[checks.one_of("interpolation", interpolation, [each.name.lower() for each in kinds]).upper()]
    image = _pillow().open(path).convert(_MODES[checks.one_of("color_mode", color_mode, _MODES)])
    if target_size is None:
        return image
    height, width = checks.integers("target_size", target_size, 2, 1)
    return image.resize((width, height), kind)


def img_to_array(img: Any, dtype: Any = None) -> Array:
    """An image of Pillow's as an array (rows, columns, channels), of float32 by default."""
    pixels = np.asarray(img, dtype=dtype or "float32")
    if pixels.ndim not in (2, 3):
        raise ValueError(f"img: got an array of shape {pixels.shape}, wants (rows, columns) or with channels")
    return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def array_to_img(x: Any, scale: bool = True) -> Any:
    """An array (rows, columns, channels) of 1, 3 or 4 channels as an image; ``scale`` spreads it over 0 to 255."""
    pixels = numeric_array("x", x).astype(np.float32)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise ValueError(f"x: got shape {pixels.shape}, wants (rows, columns, channels) of 1, 3 or 4 channels")
    if scale:
        pixels = pixels - pixels.min()
        pixels = pixels * (255.0 / (pixels.max() or 1.0))
    whole = pixels.clip(0, 255).astype(np.uint8)
    return _pillow().fromarray(whole[..., 0] if whole.shape[2] == 1 else whole)


def save_img(path: Any, x: Any, scale: bool = True) -> None:
    """Write an array (rows, columns, channels) as the image that ``array_to_img`` makes of it."""
    array_to_img(x, scale).save(path)
