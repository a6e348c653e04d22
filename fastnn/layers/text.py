"""Texts as numbers: words are counted once (``adapt``), then each text is a row of their numbers, or of counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.engine.protocols import Array
from fastnn.layers.vocabulary import Vocabulary

_PUNCTUATION = re.compile(r"""[!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']""")
_STANDARDS: dict[str, Callable[[str], str]] = {
    "lower_and_strip_punctuation": lambda text: _PUNCTUATION.sub("", text.lower()),
    "lower": str.lower,
    "strip_punctuation": lambda text: _PUNCTUATION.sub("", text),
}
_SPLITS: dict[str, Callable[[str], Sequence[str]]] = {"whitespace": str.split, "character": list}
# What stands for no word, and for those that are not in the vocabulary.
_NONE, _UNKNOWN = "", "[UNK]"


class TextVectorization(Vocabulary):
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

    _counts = "adapt(texts)"
    modes = "int", "multi_hot", "count", "tf_idf"

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
        self.standardize, self._standard = standardize, _chosen("standardize", standardize, _STANDARDS, lambda x: x)
        self.split, self._words = split, _chosen("split", split, _SPLITS, lambda x: [x])
        self.ngrams = _lengths(ngrams)
        length = output_sequence_length
        self.output_sequence_length = None if length is None else checks.positive_int("output_sequence_length", length)
        if length is not None and output_mode != "int":
            raise ValueError(
                f"output_sequence_length: got {length} with mode {output_mode!r}, wants mode 'int' or None"
            )
        super().__init__(max_tokens, output_mode, pad_to_max_tokens, vocabulary, idf_weights)

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Take the most frequent words of texts as the vocabulary; of equally frequent ones the later by the alphabet.

        ``batch_size`` and ``steps`` are accepted and change nothing.
        """
        self._adapt([self._tokens(text) for text in _texts("data", data)], [_NONE])

    @property
    def _special(self) -> list[Any]:
        """What stands for none (in "int" mode) and for unknown ones."""
        return [_NONE, _UNKNOWN] if self.output_mode == "int" else [_UNKNOWN]

    def _own(self, vocabulary: Any) -> list[Any]:
        words = [*map(str, vocabulary)]
        return words[next((i for i, word in enumerate(words) if word not in (_NONE, _UNKNOWN)), len(words)) :]

    def __call__(self, inputs: Any) -> Array:
        """The rows of texts, or of a single one its row."""
        single = isinstance(inputs, str)
        self._vocabulary()
        unknown = self._reserved - 1
        rows = [
            [self._places.get(token, unknown) for token in self._tokens(text) if token != _NONE]
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

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, the vocabulary included."""
        names = "standardize", "split", "ngrams", "output_sequence_length"
        return {**{name: getattr(self, name) for name in names}, **self._vocabulary_config()}


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
    several = [given] if isinstance(given, np.ndarray) else [*given]
    if several and all(isinstance(each, np.ndarray) for each in several):  # of batches
        several = [text for each in several for text in each.reshape(-1).tolist()]
    texts = several
    texts = [text[0] if isinstance(text, (list, tuple)) and len(text) == 1 else text for text in texts]
    for place, text in enumerate(texts):
        if isinstance(text, bytes):
            texts[place] = text.decode()
        elif not isinstance(text, str):
            raise TypeError(f"{name}[{place}]: got {checks.describe(text)}, wants a text")
    return texts
