"""Texts as numbers: words are counted once (``adapt``), then each text is a row of their numbers, or of counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.configurable import Configurable
from fastnn.engine.protocols import Array

_PUNCTUATION = re.compile(r"""[!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']""")
_STANDARDS: dict[str, Callable[[str], str]] = {
    "lower_and_strip_punctuation": lambda text: _PUNCTUATION.sub("", text.lower()),
    "lower": str.lower,
    "strip_punctuation": lambda text: _PUNCTUATION.sub("", text),
}
_SPLITS: dict[str, Callable[[str], Sequence[str]]] = {"whitespace": str.split, "character": list}
_MODES = "int", "multi_hot", "count", "tf_idf"
# What stands for no word, and for those that are not in the vocabulary.
_NONE, _UNKNOWN = "", "[UNK]"


class TextVectorization(Configurable):
    """Texts (n,) as rows of numbers, by a vocabulary of the most frequent words: Keras's layer, for arrays and lists.

    ``output_mode``: "int", the words' numbers (n, steps), padded with 0, 1 for words that are not known, of
    ``output_sequence_length`` steps or as many as the longest text has; or rows as wide as the vocabulary, or with
    ``pad_to_max_tokens`` as ``max_tokens``, whose first number stands for all words that are not known: "multi_hot",
    1 where a word is in the text, "count", how often, "tf_idf", that times log(1 + texts / (1 + texts with the word)).
    ``ngrams``: with 2 also pairs of neighbours are words, with a tuple runs of just these lengths. ``standardize`` is
    "lower_and_strip_punctuation", "lower", "strip_punctuation", None or a function of a text; ``split`` is
    "whitespace", "character", None or a function that gives a text's words.

    It stands before a model, not in it: models take numbers.
    """

    def __init__(
        self,
        max_tokens: int | None = None,
        standardize: Any = "lower_and_strip_punctuation",
        split: Any = "whitespace",
        ngrams: int | Sequence[int] | None = None,
        output_mode: str = "int",
        output_sequence_length: int | None = None,
        pad_to_max_tokens: bool = False,
        vocabulary: Sequence[str] | None = None,
        idf_weights: Any = None,
    ) -> None:
        self.max_tokens = None if max_tokens is None else checks.integer("max_tokens", max_tokens, 3)
        self.standardize, self._standard = standardize, _chosen("standardize", standardize, _STANDARDS, lambda x: x)
        self.split, self._words = split, _chosen("split", split, _SPLITS, lambda x: [x])
        self.ngrams = _lengths(ngrams)
        self.output_mode = checks.one_of("output_mode", output_mode, _MODES)
        length = output_sequence_length
        self.output_sequence_length = None if length is None else checks.positive_int("output_sequence_length", length)
        if length is not None and output_mode != "int":
            raise ValueError(
                f"output_sequence_length: got {length} with mode {output_mode!r}, wants mode 'int' or None"
            )
        self.pad_to_max_tokens = checks.instance("pad_to_max_tokens", pad_to_max_tokens, bool, "True or False")
        if pad_to_max_tokens and max_tokens is None:
            raise ValueError("pad_to_max_tokens: got True, wants max_tokens to pad to")
        self._known: list[str] | None = None
        self._numbers: dict[str, int] = {}
        self._idf: Array | None = None
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Take the most frequent words of texts as the vocabulary; of equally frequent ones the later by the alphabet.

        ``batch_size`` and ``steps`` are accepted and change nothing.
        """
        counts: Counter[str] = Counter()
        texts_with: Counter[str] = Counter()
        texts = _texts("data", data)
        for text in texts:
            words = self._tokens(text)
            counts.update(words)
            texts_with.update({*words})
        counts.pop(_NONE, None)
        most = None if self.max_tokens is None else self.max_tokens - self._reserved
        found = sorted(counts, key=lambda word: (counts[word], word), reverse=True)[:most]
        idf = [np.log1p(len(texts) / (1 + texts_with[word])) for word in found]
        self.set_vocabulary(found, idf if self.output_mode == "tf_idf" else None)

    @property
    def _reserved(self) -> int:
        """How many of the vocabulary's first entries are no words."""
        return 2 if self.output_mode == "int" else 1

    def set_vocabulary(self, vocabulary: Sequence[str], idf_weights: Any = None) -> None:
        """Take these words, the most frequent one first; "tf_idf" wants a weight for each."""
        if isinstance(vocabulary, str) or not hasattr(vocabulary, "__len__"):
            raise TypeError(f"vocabulary: got {checks.describe(vocabulary)}, wants a list of words")
        words = [*map(str, vocabulary)]
        words = words[next((i for i, word in enumerate(words) if word not in (_NONE, _UNKNOWN)), len(words)) :]
        twice = next((word for word, count in Counter(words).items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"vocabulary: got {twice!r} twice, wants every word once")
        if self.max_tokens is not None and len(words) + self._reserved > self.max_tokens:
            got = len(words) + self._reserved
            raise ValueError(f"vocabulary: got {got} entries with those for none and unknown, wants {self.max_tokens}")
        if self.output_mode == "tf_idf":
            weights = np.asarray(() if idf_weights is None else idf_weights, "float32")
            if weights.shape != (len(words),):
                raise ValueError(f"idf_weights: got shape {weights.shape}, wants ({len(words)},), one for each word")
            self._idf = np.concatenate([[weights.mean() if words else 1.0], weights]).astype("float32")
        self._known = words
        self._numbers = {word: number for number, word in enumerate(words, self._reserved)}

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """The words, the most frequent one first, behind what stands for none (in "int" mode) and for unknown ones."""
        special = [_NONE, _UNKNOWN][-self._reserved :] if include_special_tokens else []
        return [*special, *self._vocabulary()]

    def vocabulary_size(self) -> int:
        """How many entries the vocabulary has, those that are no words included."""
        return len(self._vocabulary()) + self._reserved

    def _vocabulary(self) -> list[str]:
        if self._known is None:
            raise ValueError("vocabulary: got none yet, wants a call of adapt(texts) before, or set_vocabulary(words)")
        return self._known

    def __call__(self, inputs: Any) -> Array:
        """The rows of texts, or of a single one its row."""
        single = isinstance(inputs, str)
        self._vocabulary()
        unknown = self._reserved - 1
        rows = [
            [self._numbers.get(token, unknown) for token in self._tokens(text) if token != _NONE]
            for text in _texts("inputs", [inputs] if single else inputs)
        ]
        made = self._padded(rows) if self.output_mode == "int" else self._counted(rows)
        return made[0] if single else made

    def _tokens(self, text: str) -> list[str]:
        words = [*self._words(self._standard(text))]
        if self.ngrams is None:
            return words
        return [" ".join(words[i : i + n]) for n in self.ngrams for i in range(len(words) - n + 1)]

    def _padded(self, rows: Sequence[Sequence[int]]) -> Array:
        steps = self.output_sequence_length or max(map(len, rows), default=0)
        made = np.zeros((len(rows), steps), np.int64)
        for to, row in zip(made, rows, strict=True):
            to[: len(row)] = row[:steps]
        return made

    def _counted(self, rows: Sequence[Sequence[int]]) -> Array:
        size = self.vocabulary_size()
        made = np.zeros((len(rows), self.max_tokens if self.pad_to_max_tokens else size), np.float32)  # type: ignore[arg-type]
        for to, row in zip(made, rows, strict=True):
            to[:size] = np.bincount(row, minlength=size) if row else 0
        if self.output_mode == "multi_hot":
            return np.minimum(made, 1, out=made)
        if self._idf is not None:
            made[:, :size] *= self._idf
        return made

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the vocabulary included."""
        names = "max_tokens", "standardize", "split", "ngrams", "output_mode", "output_sequence_length"
        weights = None if self._idf is None else self._idf[1:].tolist()
        own = {"pad_to_max_tokens": self.pad_to_max_tokens, "vocabulary": self._known, "idf_weights": weights}
        return {**{name: getattr(self, name) for name in names}, **own}


def _chosen(name: str, value: Any, known: dict[str, Any], nothing: Callable[[str], Any]) -> Callable[[str], Any]:
    """A function of a text by its name, one of the user's, or what None means."""
    if value is None:
        return nothing
    if callable(value):
        function: Callable[[str], Any] = value
        return function
    found: Callable[[str], Any] = known[checks.one_of(name, value, known)]
    return found


def _lengths(ngrams: Any) -> tuple[int, ...] | None:
    """The lengths of runs of words that count as words."""
    if ngrams is None:
        return None
    if isinstance(ngrams, (list, tuple)):
        return tuple(checks.positive_int(f"ngrams[{place}]", n) for place, n in enumerate(ngrams))
    return tuple(range(1, checks.positive_int("ngrams", ngrams) + 1))


def _texts(name: str, given: Any) -> list[str]:
    """Texts (n,) or (n, 1), as strings."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"{name}: got {checks.describe(given)}, wants a list or an array of texts")
    texts = np.asarray(given).reshape(-1).tolist() if isinstance(given, np.ndarray) else [*given]
    texts = [text[0] if isinstance(text, (list, tuple)) and len(text) == 1 else text for text in texts]
    for place, text in enumerate(texts):
        if isinstance(text, bytes):
            texts[place] = text.decode()
        elif not isinstance(text, str):
            raise TypeError(f"{name}[{place}]: got {checks.describe(text)}, wants a text")
    return texts
