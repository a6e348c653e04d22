"""A vocabulary, which is given or counted once (``adapt``), and rows of how often its entries are in samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.configurable import Configurable
from fastnn.engine.protocols import Array


class Vocabulary(Configurable):
    """What layers share that have a vocabulary, whose first entries are no words, and modes to put samples in rows.

    A mode is "int", places; or a sample's row is as wide as the vocabulary, or as ``max_tokens`` with
    ``pad_to_max_tokens``: "multi_hot", 1 where an entry is in the sample; "count", how often; "tf_idf", that times
    log(1 + samples / (1 + samples with the entry)), of what is not known times the mean of these.
    """

    # How a message calls an entry, and what counts entries.
    _what, _counts = "word", "adapt(data)"
    modes: Sequence[str]

    def __init__(
        self, max_tokens: int | None, output_mode: str, pad_to_max_tokens: bool, vocabulary: Any, idf_weights: Any
    ) -> None:
        self.output_mode = checks.one_of("output_mode", output_mode, self.modes)
        self.max_tokens = None if max_tokens is None else checks.integer("max_tokens", max_tokens, self._reserved + 1)
        self.pad_to_max_tokens = checks.instance("pad_to_max_tokens", pad_to_max_tokens, bool, "True or False")
        if pad_to_max_tokens and max_tokens is None:
            raise ValueError("pad_to_max_tokens: got True, wants max_tokens to pad to")
        self._known: list[Any] | None = None
        self._places: dict[Any, int] = {}
        self._idf: Array | None = None
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)

    @property
    def _special(self) -> list[Any]:
        """The vocabulary's first entries, which are no words."""
        raise NotImplementedError(f"{type(self).__name__}: wants a property _special")

    @property
    def _reserved(self) -> int:
        return len(self._special)

    def _own(self, vocabulary: Any) -> list[Any]:
        """The entries of a vocabulary, which may begin with those that are no words, without these."""
        raise NotImplementedError(f"{type(self).__name__}: wants a method _own(vocabulary)")

    def _adapt(self, samples: Sequence[Sequence[Any]], left_out: Sequence[Any]) -> None:
        """Take the most frequent entries of samples; of equally frequent ones the later in order."""
        counts = Counter(entry for sample in samples for entry in sample)
        samples_with = Counter(entry for sample in samples for entry in {*sample})
        for entry in left_out:
            counts.pop(entry, None)
        most = None if self.max_tokens is None else self.max_tokens - self._reserved
        found = sorted(counts, key=lambda entry: (counts[entry], entry), reverse=True)[:most]
        idf = [math.log1p(len(samples) / (1 + samples_with[entry])) for entry in found]
        self.set_vocabulary(found, idf if self.output_mode == "tf_idf" else None)

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Take these entries in their order, every one once; "tf_idf" wants a weight for each.

        They may begin with those that are no words.
        """
        if isinstance(vocabulary, str) or not hasattr(vocabulary, "__len__"):
            raise TypeError(f"vocabulary: got {checks.describe(vocabulary)}, wants a list of {self._what}s")
        entries = self._own(vocabulary)
        twice = next((entry for entry, count in Counter(entries).items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"vocabulary: got {twice!r} twice, wants every {self._what} once")
        if self.max_tokens is not None and len(entries) + self._reserved > self.max_tokens:
            got = len(entries) + self._reserved
            raise ValueError(f"vocabulary: got {got} entries with those for special ones, wants {self.max_tokens}")
        self._idf = self._weights(entries, idf_weights)
        self._known = entries
        self._places = {entry: place for place, entry in enumerate(entries, self._reserved)}

    def _weights(self, entries: Sequence[Any], idf_weights: Any) -> Array | None:
        """What counts are multiplied with, of entries that are no words by the others' mean."""
        if self.output_mode != "tf_idf":
            if idf_weights is not None:
                raise ValueError(f"idf_weights: got some with output_mode={self.output_mode!r}, wants 'tf_idf' or None")
            return None
        weights = np.asarray(() if idf_weights is None else idf_weights, "float32")
        if weights.shape != (len(entries),):
            what = f"one for each {self._what}"
            raise ValueError(f"idf_weights: got shape {weights.shape}, wants ({len(entries)},), {what}")
        mean = weights.mean() if entries else 1.0
        return np.concatenate([[mean] * self._reserved, weights]).astype("float32")

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """The entries in their order, behind those that are no words."""
        return [*(self._special if include_special_tokens else []), *self._vocabulary()]

    def vocabulary_size(self) -> int:
        """How many entries the vocabulary has, those that are no words included."""
        return len(self._vocabulary()) + self._reserved

    def _vocabulary(self) -> list[Any]:
        if self._known is None:
            raise ValueError(f"vocabulary: got none yet, wants a call of {self._counts} before, or set_vocabulary(...)")
        return self._known

    @property
    def _width(self) -> int:
        """Of a sample's row."""
        return self.max_tokens if self.pad_to_max_tokens and self.max_tokens else self.vocabulary_size()

    def _counted(self, samples: Sequence[Sequence[int]] | Array) -> Array:
        """Rows of samples of places (n, width)."""
        size = self.vocabulary_size()
        made = np.zeros((len(samples), self._width), np.float32)
        for to, places in zip(made, samples, strict=True):
            to[:size] = np.bincount(places, minlength=size) if len(places) else 0
        if self.output_mode == "multi_hot":
            return np.minimum(made, 1, out=made)
        if self._idf is not None:
            made[:, :size] *= self._idf
        return made

    def _vocabulary_config(self) -> dict[str, Any]:
        """The constructor's arguments that are the vocabulary's."""
        weights = None if self._idf is None else self._idf[self._reserved :].tolist()
        own = {name: getattr(self, name) for name in ("max_tokens", "output_mode", "pad_to_max_tokens")}
        return {**own, "vocabulary": self._known, "idf_weights": weights}
