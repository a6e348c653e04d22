"""Words and numbers as places in a vocabulary, which is given or counted once (``adapt``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.configurable import Configurable
from fastnn.engine.protocols import Array

_MODES = "int", "one_hot", "multi_hot", "count"


class _Lookup(Configurable):
    """What lookups share: the vocabulary, whose first entries are no words, and rows made of places in it."""

    # How a message calls an entry.
    _what = ""

    def __init__(
        self,
        max_tokens: int | None,
        num_oov_indices: int,
        mask_token: Any,
        oov_token: Any,
        vocabulary: Any,
        invert: bool,
        output_mode: str,
        pad_to_max_tokens: bool,
    ) -> None:
        self.num_oov_indices = checks.integer("num_oov_indices", num_oov_indices, 0, 1)
        self.mask_token, self.oov_token = mask_token, oov_token
        self.invert = checks.instance("invert", invert, bool, "True or False")
        self.output_mode = checks.one_of("output_mode", output_mode, _MODES)
        if self.invert and output_mode != "int":
            raise ValueError(f"output_mode: got {output_mode!r} with invert=True, wants 'int'")
        self.max_tokens = None if max_tokens is None else checks.integer("max_tokens", max_tokens, self._reserved + 1)
        self.pad_to_max_tokens = checks.instance("pad_to_max_tokens", pad_to_max_tokens, bool, "True or False")
        if pad_to_max_tokens and max_tokens is None:
            raise ValueError("pad_to_max_tokens: got True, wants max_tokens to pad to")
        self._known: list[Any] | None = None
        self._places: dict[Any, int] = {}
        if vocabulary is not None:
            self.set_vocabulary(vocabulary)

    @property
    def _special(self) -> list[Any]:
        """The vocabulary's first entries, which are no words: what is left out, and all that is not known."""
        masked = [self.mask_token] if self.mask_token is not None and self.output_mode == "int" else []
        return masked + [self.oov_token] * self.num_oov_indices

    @property
    def _reserved(self) -> int:
        return len(self._special)

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Take the most frequent entries of the data as the vocabulary; of equally frequent ones the later in order."""
        counts = Counter(self._entries("data", data))
        for token in (self.mask_token, self.oov_token):
            counts.pop(token, None)
        found = sorted(counts, key=lambda entry: (counts[entry], entry), reverse=True)
        self.set_vocabulary(found[: None if self.max_tokens is None else self.max_tokens - self._reserved])

    def set_vocabulary(self, vocabulary: Any) -> None:
        """Take these entries in their order, every one once; they may begin with those for left out and not known."""
        if isinstance(vocabulary, str) or not hasattr(vocabulary, "__len__"):
            raise TypeError(f"vocabulary: got {checks.describe(vocabulary)}, wants a list of {self._what}s")
        entries = self._entries("vocabulary", vocabulary)
        if self._special and entries[: self._reserved] == self._special:
            entries = entries[self._reserved :]
        twice = next((entry for entry, count in Counter(entries).items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"vocabulary: got {twice!r} twice, wants every {self._what} once")
        if self.max_tokens is not None and len(entries) + self._reserved > self.max_tokens:
            got = len(entries) + self._reserved
            raise ValueError(f"vocabulary: got {got} entries with those for special ones, wants {self.max_tokens}")
        self._known = entries
        self._places = {entry: place for place, entry in enumerate(entries, self._reserved)}

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """The entries in their order, behind those that are no words."""
        return [*(self._special if include_special_tokens else []), *self._vocabulary()]

    def vocabulary_size(self) -> int:
        """How many entries the vocabulary has, those that are no words included."""
        return len(self._vocabulary()) + self._reserved

    def _vocabulary(self) -> list[Any]:
        if self._known is None:
            raise ValueError("vocabulary: got none yet, wants a call of adapt(data) before, or set_vocabulary(...)")
        return self._known

    def __call__(self, inputs: Any) -> Array:
        """The places of entries, of the inputs' shape, or by mode rows; with ``invert`` the entries at places."""
        self._vocabulary()
        shape = np.shape(inputs)
        if self.invert:
            return self._inverted(np.asarray(inputs))
        places = np.array([self._place(entry) for entry in self._entries("inputs", inputs)], np.int64).reshape(shape)
        return places if self.output_mode == "int" else self._rows(places)

    def _place(self, entry: Any) -> int:
        if self.mask_token is not None and entry == self.mask_token and self.output_mode == "int":
            return 0
        place = self._places.get(entry, self._reserved - 1)
        if entry not in self._places and not self.num_oov_indices:
            raise ValueError(f"inputs: got {entry!r}, wants {self._what}s of the vocabulary, or num_oov_indices=1")
        return place

    def _inverted(self, places: Array) -> Array:
        if places.dtype.kind not in "iu":
            raise TypeError(f"inputs: got dtype {places.dtype}, wants places in the vocabulary, integers")
        entries = self.get_vocabulary()
        found = [entries[place] if 0 <= place < len(entries) else self.oov_token for place in places.reshape(-1)]
        return np.array(found).reshape(places.shape)

    def _rows(self, places: Array) -> Array:
        """Of each place a row, or of all places of a sample: 1 where a place is among them, or how often."""
        width = self.max_tokens if self.pad_to_max_tokens and self.max_tokens else self.vocabulary_size()
        if self.output_mode == "one_hot":
            single = places.reshape(places.shape[:-1] if places.ndim and places.shape[-1] == 1 else places.shape)
            return np.eye(width, dtype="float32")[single]
        samples = places.reshape(-1, places.shape[-1]) if places.ndim else places.reshape(1, 1)
        made = np.zeros((len(samples), width), "float32")
        np.add.at(made, (np.arange(len(samples))[:, None], samples), 1)
        made = np.minimum(made, 1) if self.output_mode == "multi_hot" else made
        return made.reshape((*places.shape[:-1], width))

    def _entries(self, name: str, given: Any) -> list[Any]:
        """All entries, one behind the other."""
        flat = np.asarray(given, object).reshape(-1).tolist()
        return [self._checked(f"{name}[{place}]", entry) for place, entry in enumerate(flat)]

    def _checked(self, name: str, entry: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: wants a method _checked(name, entry)")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the vocabulary included."""
        names = "max_tokens", "num_oov_indices", "mask_token", "oov_token", "invert", "output_mode"
        own = {"pad_to_max_tokens": self.pad_to_max_tokens, "vocabulary": self._known}
        return {**{name: getattr(self, name) for name in names}, **own}


class StringLookup(_Lookup):
    """Words as their places in a vocabulary, arrays and lists of any shape: Keras's layer, ahead of a model.

    The vocabulary begins with ``mask_token``, where there is one and the mode is "int", and with ``oov_token`` for all
    words that are not known; with ``num_oov_indices=0`` these are an error. ``output_mode``: "int", places; "one_hot",
    of each word a row; "multi_hot" and "count", of a sample's words a row, 1 where one is among them, or how often.
    ``invert`` gives the words at places. More than one number for unknown words is not supported.
    """

    _what = "word"

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: str | None = None,
        oov_token: str = "[UNK]",
        vocabulary: Sequence[str] | None = None,
        invert: bool = False,
        output_mode: str = "int",
        pad_to_max_tokens: bool = False,
    ) -> None:
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, invert, output_mode, pad_to_max_tokens
        )

    def _checked(self, name: str, entry: Any) -> str:
        if isinstance(entry, bytes):
            return entry.decode()
        return str(checks.instance(name, entry, str, "a word"))


class IntegerLookup(_Lookup):
    """Integers of any size as their places in a vocabulary: ``StringLookup`` of numbers, ``oov_token`` for others."""

    _what = "integer"

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: int | None = None,
        oov_token: int = -1,
        vocabulary: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        pad_to_max_tokens: bool = False,
    ) -> None:
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, invert, output_mode, pad_to_max_tokens
        )

    def _checked(self, name: str, entry: Any) -> int:
        return checks.integer(name, entry)
