"""Reuters: 11,228 newswires of 46 topics, each a list of word ranks (from Reuters-21578, as prepared for Keras)."""

from __future__ import annotations

import io
import itertools
import json
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import checks
from fastnn.datasets import _files, _split
from fastnn.errors import DataFileError

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
    num_words = _count("num_words", num_words)
    maxlen = _count("maxlen", maxlen)
    skip_top = checks.integer("skip_top", skip_top, minimum=0)
    index_from = checks.integer("index_from", index_from, minimum=0)
    for name, value in (("start_char", start_char), ("oov_char", oov_char)):
        if value is not None:
            checks.integer(name, value, minimum=0)
    share, rng = _split.checked_test_split(test_split), _split.generator(seed)

    newswires, topics = _read(path, data_dir)
    order = np.arange(len(newswires))
    rng.shuffle(order)
    newswires, topics = newswires[order], topics[order]
    words, lengths = _flatten(newswires)
    words += index_from
    if start_char is not None:
        words = np.insert(words, np.cumsum(lengths) - lengths, start_char)
        lengths += 1
    if maxlen:
        short = lengths < maxlen
        words, lengths, topics = words[np.repeat(short, lengths)], lengths[short], topics[short]
        if not len(topics):
            raise ValueError(f"maxlen: got {maxlen}, which leaves no newswire; wants a greater length, or None")
    kept = (words >= skip_top) & (words < (num_words or words.max(initial=0)))
    if oov_char is None:
        lengths = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[kept], minlength=len(lengths))
        words = words[kept]
    else:
        words = np.where(kept, words, oov_char)

    texts = _lists(words, lengths)
    n_train = _split.leading(len(topics), share)
    return (texts[:n_train], topics[:n_train]), (texts[n_train:], topics[n_train:])


def get_word_index(
    path: str | os.PathLike[str] = "reuters_word_index.json", *, data_dir: str | os.PathLike[str] | None = None
) -> dict[str, int]:
    """Return the rank of each word, 1 being the most frequent. `load_data` adds `index_from` to these.

    `path` and `data_dir` are as in `load_data`.
    """
    data = _file(_WORD_INDEX, path, data_dir)
    try:
        index: dict[str, int] = json.loads(data)
    except ValueError as error:
        raise DataFileError(f"{_WORD_INDEX} is damaged: not JSON ({error})") from error
    return index


def get_label_names() -> tuple[str, ...]:
    """Return the names of the 46 topics, in label order."""
    return _LABEL_NAMES


def _count(name: str, value: int | None) -> int | None:
    return None if value is None else checks.integer(name, value, minimum=0)


def _file(name: str, path: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None) -> bytes:
    return _files.read(name, data_dir=data_dir) if _files.is_default(path, name) else _files.read_at(name, path)


def _read(path: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return newswires and topics as published: the only place that unpickles, and only bytes whose hash matched."""
    data = _file(_NPZ, path, data_dir)
    with np.load(io.BytesIO(data), allow_pickle=True) as arrays:
        return arrays["x"], arrays["y"]


def _flatten(lists: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all words in one array, and how many belong to each list."""
    lengths = np.fromiter(map(len, lists), np.int64, count=len(lists))
    return np.fromiter(itertools.chain.from_iterable(lists), np.int64, count=int(lengths.sum())), lengths


def _lists(words: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[Any]:
    """Return an object array (n,) of lists of Python ints: the inverse of `_flatten`."""
    flat, ends = words.tolist(), np.cumsum(lengths)
    texts = np.empty(len(lengths), dtype=object)
    texts[:] = [flat[start:end] for start, end in zip((ends - lengths).tolist(), ends.tolist(), strict=True)]
    return texts
