"""Reuters: 11,228 newswires of 46 topics, each a list of word ranks (from Reuters-21578, as prepared for Keras)."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.datasets import _files, _split, _texts

_NPZ = "reuters/reuters.npz"
_WORD_INDEX = "reuters/reuters_word_index.json"

# fmt: off
_LABEL_NAMES = (
    "cocoa", "grain", "veg-oil", "earn", "acq", "wheat", "copper", "housing", "money-supply", "coffee", "sugar",
    "trade", "reserves", "ship", "cotton", "carcass", "crude", "nat-gas", "cpi", "money-fx", "interest", "gnp",
    "meal-feed", "alum", "oilseed", "gold", "tin", "strategic-metal", "livestock", "retail", "ipi", "iron-steel",
    "rubber", "heat", "jobs", "lei", "bop", "zinc", "orange", "pet-chem", "dlr", "gas", "silver", "wpi", "hog", "lead",
)
# fmt: on


def load_data(
    path: str | os.PathLike[str] = "reuters.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    test_split: float = 0.2,
    seed: int | None = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
    *,
    data_dir: str | os.PathLike[str] | None = None,
) -> tuple[_split.Split, _split.Split]:
    """Return ``(x_train, y_train), (x_test, y_test)``: object arrays (n,) of lists of ints, int64 topics (n,).

    Newswires, words and order are Keras's for the same arguments; by default 8,982 train and 2,246 test. (Keras gives a
    table instead of an array of lists where all newswires of a part happen to be equally long; fastnn does not.)

    Parameters
    ----------
    path
        Where ``reuters.npz`` is kept. With the default name it is looked for in the data folder and in fastnn's cache;
        another name is a path of its own, relative to that cache, to which the file is downloaded if it is missing.
    num_words
        Words of this index and above are replaced; None or 0: the highest index that occurs (which is replaced too, as
        in Keras). Indices count `index_from`.
    skip_top
        Words of an index below this are replaced.
    maxlen
        Newswires of this many words or more (with `start_char`) are left out; None or 0: none are.
    test_split
        The share of test rows, in [0, 1).
    seed
        Of the shuffle; None shuffles differently each time.
    start_char
        Put before each newswire; None for nothing.
    oov_char
        What replaces a word; None takes the word out.
    index_from
        Added to each word's rank.
    data_dir
        The folder that holds ``reuters/``; the environment variable ``FASTNN_DATA`` by default.

    Raises
    ------
    DataFileError, ChecksumError
        The file is missing and cannot be downloaded, or is not the published one (it is then not unpickled).
    ValueError
        An argument is out of range, or `maxlen` leaves no newswire.
    """
    encoding = _texts.Encoding(num_words, skip_top, maxlen, start_char, oov_char, index_from)
    share, rng = _split.checked_test_split(test_split), _split.generator(seed)

    newswires, topics = _read(path, data_dir)
    order = np.arange(len(newswires))
    rng.shuffle(order)
    newswires, topics = newswires[order], topics[order]
    texts, (topics,) = _texts.encoded(encoding, (newswires,), (topics,), "newswire")
    n_train = _split.leading(len(topics), share)
    return (texts[:n_train], topics[:n_train]), (texts[n_train:], topics[n_train:])


def get_word_index(
    path: str | os.PathLike[str] = "reuters_word_index.json", *, data_dir: str | os.PathLike[str] | None = None
) -> dict[str, int]:
    """Return the rank of each word, 1 being the most frequent. `load_data` adds `index_from` to these.

    `path` and `data_dir` are as in `load_data`.
    """
    return _texts.word_index(_WORD_INDEX, _files.read_either(_WORD_INDEX, path, data_dir))


def get_label_names() -> tuple[str, ...]:
    """Return the names of the 46 topics, in label order."""
    return _LABEL_NAMES


def _read(path: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return newswires and topics as published: the only place that unpickles, and only bytes whose hash matched."""
    data = _files.read_either(_NPZ, path, data_dir)
    with np.load(io.BytesIO(data), allow_pickle=True) as arrays:
        return arrays["x"], arrays["y"]
