"""One row a data set: how ``fastnn train`` loads, prepares and learns it. The defaults are the course documents'.

To add a data set to the command line, add its row to `RECIPES`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import datasets
from fastnn.errors import ChecksumError, DataFileError
from fastnn.layers import Conv2D, Dropout, Embedding, Flatten, GlobalAveragePooling1D, Layer, MaxPooling2D, Reshape
from fastnn.utils import pad_sequences

Part = tuple[NDArray[Any], NDArray[Any]]
Folder = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Data:
    """Rows to learn from, to watch while learning (with a plot only) and to be judged by; a ``note`` about them."""

    train: Part
    test: Part
    validation: Part | None = None
    note: str = ""

    def hold_out(self, share: float) -> Data:
        """Return the data with the last `share` of the training rows (at least one) as validation rows."""
        x, y = self.train
        n = len(x) - max(1, round(share * len(x)))
        return replace(self, train=(x[:n], y[:n]), validation=(x[n:], y[n:]))


@dataclass(frozen=True)
class Recipe:
    """How a data set is learned: what the command line takes where its flags say nothing else."""

    what: str
    load: Callable[[Folder], tuple[Any, Any]]
    prepare: Callable[[Any, Any], tuple[NDArray[Any], NDArray[Any]]]  # the inputs of both parts, by the train part
    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    epochs: int
    batch_size: int
    output_activation: str = "softmax"
    loss: str = "sparse_categorical_crossentropy"
    metric: str = "accuracy"
    activation: str = "relu"
    optimizer: str = "rmsprop"
    from_files: bool = True  # False: ships with fastnn or is made
    words: tuple[int, int] | None = None  # inputs are words: how many there are, and the width of their vectors
    image: tuple[int, int] | None = None  # inputs are the pixels of images of this height and width
    maps: tuple[tuple[int, int], ...] = ()  # of convolutions, 2x2 pooling behind each: how many, and the kernel's width
    dropout: float = 0.0  # of what convolutions and pooling give, in training
    falling: float = 0.0  # the learning rate from which half a cosine leads to 0; without one the optimizer's own stays
    made: Callable[[], tuple[Any, Any]] | None = None  # what there is where no files are

    @property
    def architecture(self) -> str:
        """Return the widths of layers, as in ``784-512-10``.

        Where inputs are words, ``9 of 80-4-2``: vectors of 4; where they are images, ``28x28-20 of 5x5-100-10``: maps.
        """
        inputs: tuple[Any, ...] = (self.inputs,)
        if self.words is not None:
            inputs = f"{self.inputs} of {self.words[0]}", self.words[1]
        elif self.image is not None and self.maps:
            inputs = "x".join(map(str, self.image)), *(f"{count} of {width}x{width}" for count, width in self.maps)
        return "-".join(map(str, (*inputs, *self.hidden, self.outputs)))

    def convolutional(self) -> Recipe:
        """Return the recipe for a network of 20 maps of 5x5, 2x2 pooling and 100 units; ValueError if none is given.

        Chosen on the last 10,000 of MNIST's training images, of which it gets 98.9% right (mean of two seeds).
        """
        if self.image is None:
            known = ", ".join(name for name, recipe in RECIPES.items() if recipe.image is not None)
            raise ValueError(f"got 'conv' for inputs that are no images, wants a data set of images: {known}")
        return replace(
            self,
            maps=((20, 5),),
            hidden=(100,),
            dropout=0.5,
            optimizer="adam",
            falling=0.002,
            epochs=max(8, self.epochs),
        )

    def data(self, data_dir: Folder = None) -> Data:
        """Return the data set ready to train on: float32 (or uint8) rows or indices of words, labels or values.

        Where there are no files in the usual places, and there is something made in their place, that; a note says so.
        """
        note = ""
        try:
            (x_train, y_train), (x_test, y_test) = self.load(data_dir)
        except DataFileError as error:
            if self.made is None or data_dir is not None or isinstance(error, ChecksumError):
                raise
            (x_train, y_train), (x_test, y_test) = self.made()
            note = f"made data in place of files that are not there:\n{error}"
        x_train, x_test = self.prepare(x_train, x_test)
        return Data((x_train, y_train), (x_test, y_test), note=note)

    def front(self) -> list[Layer]:
        """Return the layers ahead of the dense ones: of words, the mean of their vectors; of images, convolutions."""
        if self.image is not None and self.maps:
            stack: list[Layer] = [Reshape((*self.image, 1))]
            for count, width in self.maps:
                stack += [Conv2D(count, width, activation=self.activation), MaxPooling2D(2)]
            return [*stack, *([Dropout(self.dropout)] if self.dropout else []), Flatten()]
        if self.words is None:
            return []
        count, width = self.words
        return [Embedding(count, width, mask_zero=True), GlobalAveragePooling1D()]


def pixels(train: NDArray[Any], test: NDArray[Any], *, white: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return images (n, h, w) as float32 rows (n, h * w) of 0 to 1."""
    rows_train, rows_test = (
        part.reshape(len(part), -1).astype(np.float32) / np.float32(white) for part in (train, test)
    )
    return rows_train, rows_test


def standardized(train: NDArray[Any], test: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return columns of mean 0 and deviation 1 over the training rows; the test rows get the same shift and scale."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0] = 1
    return ((train - mean) / deviation).astype(np.float32), ((test - mean) / deviation).astype(np.float32)


def as_given(train: NDArray[Any], test: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the rows as float32, unchanged."""
    return train.astype(np.float32), test.astype(np.float32)


def multi_hot(train: NDArray[Any], test: NDArray[Any], *, words: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return lists of word indices as uint8 rows (n, words): 1 where a word occurs. A quarter of float32's memory."""

    def encode(texts: NDArray[Any]) -> NDArray[np.uint8]:
        rows = np.zeros((len(texts), words), np.uint8)
        row_of_word = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        rows[row_of_word, np.fromiter(chain.from_iterable(texts), np.int64)] = 1
        return rows

    return encode(train), encode(test)


def padded(train: NDArray[Any], test: NDArray[Any], *, length: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the last words of each text as int32 rows (n, length), zeros before the first."""
    rows_train, rows_test = (pad_sequences(part, length) for part in (train, test))
    return rows_train, rows_test


_WORDS = 10000

_MNIST = Recipe(
    what="70,000 hand-written digits, 28x28 pixels",
    load=lambda folder: datasets.mnist.load_data(data_dir=folder),
    prepare=partial(pixels, white=255),
    inputs=784,
    hidden=(512,),
    outputs=10,
    epochs=5,
    batch_size=128,
    image=(28, 28),
)

RECIPES: dict[str, Recipe] = {
    "digits": Recipe(
        what="1,797 hand-written digits, 8x8 pixels",
        load=lambda _: datasets.digits.load_data(),
        prepare=partial(pixels, white=16),
        inputs=64,
        hidden=(128, 64),
        outputs=10,
        epochs=30,
        batch_size=32,
        from_files=False,
        image=(8, 8),
    ),
    "mnist": _MNIST,
    "fashion_mnist": replace(
        _MNIST,
        what="70,000 articles of clothing, 28x28 pixels",
        load=lambda folder: datasets.fashion_mnist.load_data(data_dir=folder),
    ),
    "reuters": Recipe(
        what="11,228 newswires of 46 topics: which of 10,000 words occur",
        load=lambda folder: datasets.reuters.load_data(num_words=_WORDS, data_dir=folder),
        prepare=partial(multi_hot, words=_WORDS),
        inputs=_WORDS,
        hidden=(64, 64),
        outputs=46,
        epochs=9,
        batch_size=512,
    ),
    "imdb": Recipe(
        what="50,000 reviews of films, good or bad: their last 256 words, of 10,000",
        load=lambda folder: datasets.imdb.load_data(num_words=_WORDS, data_dir=folder),
        prepare=partial(padded, length=256),
        inputs=256,
        hidden=(16,),
        outputs=1,
        epochs=10,
        batch_size=128,
        output_activation="sigmoid",
        loss="binary_crossentropy",
        optimizer="adam",
        words=(_WORDS, 16),
        made=lambda: datasets.reviews.load_data(num_words=_WORDS),
    ),
    "boston_housing": Recipe(
        what="506 suburbs, 13 attributes, the median home value in thousand dollars",
        load=lambda folder: datasets.boston_housing.load_data(data_dir=folder),
        prepare=standardized,
        inputs=13,
        hidden=(64, 64),
        outputs=1,
        epochs=200,
        batch_size=32,
        output_activation="linear",
        loss="mse",
        metric="mae",
    ),
    "iris": Recipe(
        what="150 flowers of 3 species, 4 lengths",
        load=lambda _: datasets.iris.load_data(),
        prepare=standardized,
        inputs=4,
        hidden=(10,),
        outputs=3,
        epochs=150,
        batch_size=16,
        from_files=False,
    ),
    "xor": Recipe(
        what="1,000 noisy points at the corners of a square, label 1 where the signs differ",
        load=lambda _: datasets.xor.load_data(),
        prepare=as_given,
        inputs=2,
        hidden=(8,),
        outputs=1,
        epochs=100,
        batch_size=32,
        output_activation="sigmoid",
        loss="binary_crossentropy",
        from_files=False,
    ),
}
