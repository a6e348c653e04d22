"""Words and numbers as places in a vocabulary, which is given or counted once (``adapt``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.engine.protocols import Array
from fastnn.layers.vocabulary import Vocabulary


class _Lookup(Vocabulary):
    """What lookups share: places of entries, and rows made of places."""

    modes = "int", "one_hot", "multi_hot", "count", "tf_idf"

    def __init__(
        self,
        max_tokens: int | None,
        num_oov_indices: int,
        mask_token: Any,
        oov_token: Any,
        vocabulary: Any,
        idf_weights: Any,
        invert: bool,
        output_mode: str,
        pad_to_max_tokens: bool,
    ) -> None:
        self.num_oov_indices = checks.integer("num_oov_indices", num_oov_indices, 0, 1)
        self.mask_token, self.oov_token = mask_token, oov_token
        self.invert = checks.instance("invert", invert, bool, "True or False")
        if self.invert and output_mode != "int":
            raise ValueError(f"output_mode: got {output_mode!r} with invert=True, wants 'int'")
        super().__init__(max_tokens, output_mode, pad_to_max_tokens, vocabulary, idf_weights)

    @property
    def _special(self) -> list[Any]:
        """What is left out, and all that is not known."""
        masked = [self.mask_token] if self.mask_token is not None and self.output_mode == "int" else []
        return masked + [self.oov_token] * self.num_oov_indices

    def _own(self, vocabulary: Any) -> list[Any]:
        entries, special = self._entries("vocabulary", vocabulary), self._special
        return entries[len(special) :] if entries[: len(special)] == special else entries

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Take the most frequent entries of the data as the vocabulary; of equally frequent ones the later in order.

        For "tf_idf" a sample is what there is along the first axis.
        """
        entries, shape = self._entries("data", data), np.shape(data)
        size = len(entries) // shape[0] if shape and shape[0] else 1
        samples = [entries[at : at + size] for at in range(0, len(entries), max(size, 1))]
        self._adapt(samples, (self.mask_token, self.oov_token))

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
        """Of each place a row, or of all places of a sample."""
        if self.output_mode == "one_hot":
            single = places.reshape(places.shape[:-1] if places.ndim and places.shape[-1] == 1 else places.shape)
            return np.eye(self._width, dtype="float32")[single]
        samples = places.reshape(-1, places.shape[-1]) if places.ndim else places.reshape(1, 1)
        return self._counted(samples).reshape((*places.shape[:-1], self._width))

    def _entries(self, name: str, given: Any) -> list[Any]:
        """All entries, one behind the other."""
        flat = np.asarray(given, object).reshape(-1).tolist()
        return [self._checked(f"{name}[{place}]", entry) for place, entry in enumerate(flat)]

    def _checked(self, name: str, entry: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: wants a method _checked(name, entry)")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the vocabulary included."""
        names = "num_oov_indices", "mask_token", "oov_token", "invert"
        return {**{name: getattr(self, name) for name in names}, **self._vocabulary_config()}


class StringLookup(_Lookup):
    """Words as their places in a vocabulary, arrays and lists of any shape: Keras's layer, ahead of a model.

    The vocabulary begins with ``mask_token``, where there is one and the mode is "int", and with ``oov_token`` for all
    words that are not known; with ``num_oov_indices=0`` these are an error. ``output_mode``: "int", places; "one_hot",
    of each word a row; "multi_hot", "count" and "tf_idf", of a sample's words a row, 1 where one is among them, how
    often, or that times log(1 + samples / (1 + samples with the word)). ``invert`` gives the words at places. More than
    one number for unknown words is not supported.
    """

    _what = "word"

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: str | None = None,
        oov_token: str = "[UNK]",
        vocabulary: Sequence[str] | None = None,
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        pad_to_max_tokens: bool = False,
    ) -> None:
        own = num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert
        super().__init__(max_tokens, *own, output_mode, pad_to_max_tokens)

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
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        pad_to_max_tokens: bool = False,
    ) -> None:
        own = num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert
        super().__init__(max_tokens, *own, output_mode, pad_to_max_tokens)

    def _checked(self, name: str, entry: Any) -> int:
        return checks.integer(name, entry)
