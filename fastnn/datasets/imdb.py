"""IMDB: 50,000 reviews of films, half of them favourable, each a list of word ranks (A. L. Maas et al. 2011, Keras)."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.datasets import _files, _split, _texts

_NPZ = "imdb/imdb.npz"
_WORD_INDEX = "imdb/imdb_word_index.json"


def load_data(
    path: str | os.PathLike[str] = "imdb.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int | None = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
    *,
    data_dir: str | os.PathLike[str] | None = None,
) -> tuple[_split.Split, _split.Split]:
    """Return ``(x_train, y_train), (x_test, y_test)``: object arrays (n,) of lists of ints, int64 labels (n,), 0 or 1.

    Reviews, words and order are Keras's for the same arguments; by default 25,000 train and 25,000 test.
    ``utils.pad_sequences`` makes a table of them.

    Parameters
    ----------
    path
        Where ``imdb.npz`` is kept. With the default name it is looked for in the data folder and in fastnn's cache;
        another name is a path of its own, relative to that cache, to which the file is downloaded if it is missing.
    num_words
        Words of this index and above are replaced; None or 0: the highest index that occurs (which is replaced too, as
        in Keras). Indices count `index_from`.
    skip_top
        Words of an index below this are replaced.
    maxlen
        Reviews of this many words or more (with `start_char`) are left out; None or 0: none are.
    seed
        Of the shuffles; None shuffles differently each time.
    start_char
        Put before each review; None for nothing.
    oov_char
        What replaces a word; None takes the word out.
    index_from
        Added to each word's rank.
    data_dir
        The folder that holds ``imdb/``; the environment variable ``FASTNN_DATA`` by default.

    Raises
    ------
    DataFileError, ChecksumError
        The file is missing and cannot be downloaded, or is not the published one (it is then not unpickled).
    ValueError
        An argument is out of range, or `maxlen` leaves no review of a part.
    """
    encoding = _texts.Encoding(num_words, skip_top, maxlen, start_char, oov_char, index_from)
    rng = _split.generator(seed)
    reviews, labels = [], []
    for texts, judged in _read(path, data_dir):
        order = np.arange(len(texts))
        rng.shuffle(order)
        reviews.append(texts[order])
        labels.append(judged[order])
    found, (y_train, y_test) = _texts.encoded(encoding, reviews, labels, "review")
    n_train = len(y_train)
    return (found[:n_train], y_train), (found[n_train:], y_test)


def get_word_index(
    path: str | os.PathLike[str] = "imdb_word_index.json", *, data_dir: str | os.PathLike[str] | None = None
) -> dict[str, int]:
    """Return the rank of each word, 1 being the most frequent. `load_data` adds `index_from` to these.

    `path` and `data_dir` are as in `load_data`.
    """
    return _texts.word_index(_WORD_INDEX, _files.read_either(_WORD_INDEX, path, data_dir))


def _read(path: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None) -> list[tuple[NDArray[Any], ...]]:
    """Return (reviews, labels) of both parts as published; only bytes whose hash matched are unpickled."""
    data = _files.read_either(_NPZ, path, data_dir)
    with np.load(io.BytesIO(data), allow_pickle=True) as arrays:
        return [(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")]
