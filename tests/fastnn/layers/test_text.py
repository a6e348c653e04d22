"""Texts as numbers: words by their frequency, runs of words, modes; wrong in every way."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers
from fastnn.layers import TextVectorization

TEXTS = ["The cat sat, on the mat.", "The DOG sat!", "a cat; a dog", ""]


def adapted(**options):
    layer = TextVectorization(**options)
    layer.adapt(TEXTS)
    return layer


def test_numbers_are_by_frequency():
    layer = adapted()
    assert layer.get_vocabulary() == ["", "[UNK]", "the", "sat", "dog", "cat", "a", "on", "mat"]
    assert layer.vocabulary_size() == 9
    assert layer(["the mat", "zebra a cat sat"]).tolist() == [[2, 8, 0, 0], [1, 6, 5, 3]]
    assert layer("the mat").tolist() == [2, 8]
    assert layer(np.array([["the"], ["mat"]])).tolist() == [[2], [8]]
    assert layer([""]).shape == (1, 0)
    assert adapted(output_sequence_length=3)(["the cat sat on", "a"]).tolist() == [[2, 5, 3], [6, 0, 0]]
    assert adapted(max_tokens=4).get_vocabulary(include_special_tokens=False) == ["the", "sat"]


def test_counts():
    texts = ["the the cat zebra", ""]
    assert adapted(output_mode="multi_hot")(texts).tolist() == [[1, 1, 0, 0, 1, 0, 0, 0], [0] * 8]
    assert adapted(output_mode="count")(texts).tolist() == [[1, 2, 0, 0, 1, 0, 0, 0], [0] * 8]
    idf = {"the": np.log(1 + 4 / 3), "cat": np.log(1 + 4 / 3)}
    row = adapted(output_mode="tf_idf")(texts)[0]
    np.testing.assert_allclose(row[[1, 4]], [2 * idf["the"], idf["cat"]], rtol=1e-6)
    assert adapted(output_mode="count", max_tokens=20, pad_to_max_tokens=True)(texts).shape == (2, 20)


def test_runs_of_words_and_own_functions():
    pairs = adapted(ngrams=2, output_mode="multi_hot")
    assert "cat sat" in pairs.get_vocabulary()
    assert adapted(ngrams=(3,)).get_vocabulary()[2:] == sorted(
        ["the cat sat", "cat sat on", "sat on the", "on the mat", "the dog sat", "a cat a", "cat a dog"], reverse=True
    )
    assert {"The", "DOG", "cat;"} < {*adapted(standardize=None).get_vocabulary()}
    assert adapted(split="character", standardize=str.upper)(["t"]).shape == (1, 1)
    assert adapted(split=lambda text: text.split(";"), standardize="lower")(["a cat"]).tolist() != [[1]]


def test_a_config_holds_the_vocabulary():
    for options in ({"ngrams": 2}, {"output_mode": "tf_idf", "max_tokens": 7}):
        layer = adapted(**options)
        again = TextVectorization.from_config(layer.get_config())
        assert again.get_vocabulary() == layer.get_vocabulary()
        assert np.array_equal(again(TEXTS), layer(TEXTS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TextVectorization()(["a"]), r"vocabulary: got none yet, wants a call of adapt"),
        (lambda: TextVectorization(max_tokens=2), "max_tokens: got 2"),
        (lambda: TextVectorization(output_mode="ints"), "output_mode: got 'ints'"),
        (lambda: TextVectorization(standardize="upper"), "standardize: got 'upper'"),
        (lambda: TextVectorization(split=3), "split: got int 3|split"),
        (lambda: TextVectorization(ngrams=0), "ngrams: got 0"),
        (lambda: TextVectorization(output_mode="count", output_sequence_length=3), "output_sequence_length: got 3"),
        (lambda: TextVectorization(pad_to_max_tokens=True), "pad_to_max_tokens: got True, wants max_tokens"),
        (lambda: TextVectorization(vocabulary=["a", "a"]), "vocabulary: got 'a' twice"),
        (lambda: TextVectorization(vocabulary="ab"), "vocabulary: got str 'ab', wants a list of words"),
        (lambda: TextVectorization(3, vocabulary=["a", "b"]), "vocabulary: got 4 entries"),
        (
            lambda: TextVectorization(output_mode="tf_idf", vocabulary=["a"]),
            r"idf_weights: got shape \(0,\), wants \(1,\)",
        ),
        (lambda: adapted().adapt("abc"), "data: got str 'abc', wants a list or an array of texts"),
        (lambda: adapted()([3]), r"inputs\[0\]: got int 3, wants a text"),
    ],
)
def test_what_cannot_be(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_it_is_public():
    assert layers.TextVectorization is TextVectorization
