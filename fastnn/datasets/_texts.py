"""Texts as lists of word indices, by the rules that Keras has for them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import checks
from fastnn.errors import DataFileError


@dataclass(frozen=True)
class Encoding:
    """What becomes of the ranks of words: Keras's arguments, checked.

    Each rank counts `index_from` on, `start_char` comes before each text, texts of `maxlen` words or more are left out,
    indices below `skip_top` or from `num_words` on become `oov_char`, or are taken out where that is None.
    """

    num_words: int | None
    skip_top: int
    maxlen: int | None
    start_char: int | None
    oov_char: int | None
    index_from: int

    def __post_init__(self) -> None:
        for name in ("num_words", "skip_top", "maxlen", "start_char", "oov_char", "index_from"):
            value = getattr(self, name)
            if value is not None or name in ("skip_top", "index_from"):
                checks.integer(name, value, minimum=0)


def encoded(
    encoding: Encoding, parts: Sequence[NDArray[Any]], labels: Sequence[NDArray[Any]], what: str
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Return all texts of the `parts`, one part behind the other, and the labels of each: those that were kept.

    Texts are an object array of lists of Python ints. ValueError where `maxlen` leaves a part no text (`what`).
    """
    words, lengths = _flatten(np.concatenate(parts))
    words += encoding.index_from
    if encoding.start_char is not None:
        words = np.insert(words, np.cumsum(lengths) - lengths, encoding.start_char)
        lengths += 1
    if encoding.maxlen:
        short = lengths < encoding.maxlen
        of_part = np.split(short, np.cumsum([len(part) for part in parts])[:-1])
        words, lengths = words[np.repeat(short, lengths)], lengths[short]
        labels = [label[kept] for label, kept in zip(labels, of_part, strict=True)]
        if not all(map(len, labels)):
            raise ValueError(f"maxlen: got {encoding.maxlen}, which leaves no {what}; wants a greater length, or None")
    kept = (words >= encoding.skip_top) & (words < (encoding.num_words or words.max(initial=0)))
    if encoding.oov_char is None:
        lengths = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[kept], minlength=len(lengths))
        words = words[kept]
    else:
        words = np.where(kept, words, encoding.oov_char)
    return _lists(words, lengths), list(labels)


def word_index(name: str, data: bytes) -> dict[str, int]:
    """Return the rank of each word that the JSON file `name` holds."""
    try:
        index: dict[str, int] = json.loads(data)
    except ValueError as error:
        raise DataFileError(f"{name} is damaged: not JSON ({error})") from error
    return index


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
