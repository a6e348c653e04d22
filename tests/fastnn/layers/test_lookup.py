"""Words and integers as places in a vocabulary."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers

WORDS = ["b", "a", "b", "c", "c", "d"]


def test_the_most_frequent_words_come_first():
    lookup = layers.StringLookup()
    lookup.adapt([["b", "a"], ["b", "c"], ["c", "d"]])
    assert lookup.get_vocabulary() == ["[UNK]", "c", "b", "d", "a"]
    assert lookup.get_vocabulary(include_special_tokens=False) == ["c", "b", "d", "a"]
    assert lookup.vocabulary_size() == 5
    assert lookup([["a", "x"], ["c", "b"]]).tolist() == [[4, 0], [1, 2]]
    assert lookup(np.array(["d", "d"])).dtype == np.int64
    assert lookup("b") == 2
    few = layers.StringLookup(max_tokens=3)
    few.adapt(WORDS)
    assert few.get_vocabulary() == ["[UNK]", "c", "b"]


def test_special_entries():
    lookup = layers.StringLookup(mask_token="", vocabulary=["a", "b"])
    assert lookup.get_vocabulary() == ["", "[UNK]", "a", "b"]
    assert lookup(["b", "", "x"]).tolist() == [3, 0, 1]
    assert layers.StringLookup(mask_token="", vocabulary=lookup.get_vocabulary())(["a"]).tolist() == [2]
    known = layers.IntegerLookup(num_oov_indices=0, vocabulary=[40, 7])
    assert known([[7], [40]]).tolist() == [[1], [0]]
    with pytest.raises(ValueError, match="inputs: got 8, wants integers of the vocabulary"):
        known([8])


def test_rows_and_back():
    given = [["a", "b"], ["b", "b"]]
    made = {mode: layers.StringLookup(vocabulary=["a", "b"], output_mode=mode) for mode in ("multi_hot", "count")}
    assert made["multi_hot"](given).tolist() == [[0, 1, 1], [0, 0, 1]]
    assert made["count"](given).tolist() == [[0, 1, 1], [0, 0, 2]]
    single = layers.IntegerLookup(vocabulary=[5, 9], output_mode="one_hot", max_tokens=4, pad_to_max_tokens=True)
    assert single([[9], [1]]).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    back = layers.StringLookup(vocabulary=["a", "b"], invert=True)
    assert back([[2, 1], [0, 9]]).tolist() == [["b", "a"], ["[UNK]", "[UNK]"]]
    again = layers.StringLookup.from_config(made["count"].get_config())
    assert again(given).tolist() == made["count"](given).tolist()


def test_counts_are_weighed_by_how_many_samples_have_an_entry():
    data = [["b", "a", "b"], ["c", "c", "d"], ["a", "b", "d"]]
    lookup = layers.StringLookup(output_mode="tf_idf")
    lookup.adapt(data)
    idf = {"a": np.log(1 + 3 / 3), "b": np.log(1 + 3 / 3), "c": np.log(1 + 3 / 2), "d": np.log(1 + 3 / 3)}
    wanted = np.array([[np.mean([*idf.values()]), 0, 2 * idf["b"], 0, 0]])
    assert lookup.get_vocabulary() == ["[UNK]", "b", "d", "c", "a"]
    np.testing.assert_allclose(lookup([["d", "x", "d"]]), wanted, rtol=1e-6)
    again = layers.StringLookup.from_config(lookup.get_config())
    assert np.array_equal(again(data), lookup(data))
    each = layers.IntegerLookup(output_mode="tf_idf")
    each.adapt([5, 5, 9])  # every entry is a sample
    np.testing.assert_allclose(each([[9]])[0, 2], np.log(1 + 3 / 2), rtol=1e-6)
    given = layers.StringLookup(vocabulary=["a", "b"], idf_weights=[1.0, 3.0], output_mode="tf_idf")
    assert given([["a", "b", "b"], ["x", "x", "a"]]).tolist() == [[0, 1, 6], [4, 1, 0]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: layers.StringLookup(vocabulary=["a"], output_mode="tf_idf"),
            ValueError,
            r"idf_weights: got shape \(0,\), wants \(1,\), one for each word",
        ),
        (
            lambda: layers.IntegerLookup(vocabulary=[1], idf_weights=[1.0]),
            ValueError,
            "idf_weights: got some with output_mode='int', wants 'tf_idf' or None",
        ),
        (lambda: layers.StringLookup()(["a"]), ValueError, "vocabulary: got none yet"),
        (lambda: layers.StringLookup(vocabulary="ab"), TypeError, "vocabulary: got str"),
        (lambda: layers.StringLookup(vocabulary=["a", "a"]), ValueError, "vocabulary: got 'a' twice"),
        (lambda: layers.StringLookup(max_tokens=2, vocabulary=["a", "b"]), ValueError, "vocabulary: got 3 entries"),
        (lambda: layers.StringLookup(vocabulary=["a"])([1]), TypeError, r"inputs\[0\]: got int 1, wants a word"),
        (lambda: layers.IntegerLookup(vocabulary=[1])(["a"]), TypeError, r"inputs\[0\]: got"),
        (lambda: layers.StringLookup(num_oov_indices=2), ValueError, "num_oov_indices: got 2"),
        (lambda: layers.StringLookup(output_mode="tf"), ValueError, "output_mode: got 'tf'"),
        (lambda: layers.StringLookup(invert=True, output_mode="count"), ValueError, "output_mode: got 'count' with"),
        (lambda: layers.StringLookup(pad_to_max_tokens=True), ValueError, "pad_to_max_tokens: got True"),
        (lambda: layers.StringLookup(invert=True, vocabulary=["a"])([0.5]), TypeError, "inputs: got dtype float64"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
