"""IMDB: Keras's reviews for Keras's arguments, and nothing unpickled that was not verified."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastnn.datasets import imdb
from fastnn.errors import ChecksumError, DataFileError

NPZ, INDEX = "imdb/imdb.npz", "imdb/imdb_word_index.json"


def object_array(lists):
    array = np.empty(len(lists), dtype=object)
    array[:] = lists
    return array


def made_reviews(n, seed):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 30, length).tolist() for length in rng.integers(1, 12, n)], rng.integers(0, 2, n)


TRAIN, TEST = made_reviews(31, 0), made_reviews(17, 1)


@pytest.fixture
def made(put, make, data_dir):
    arrays = {
        "x_train": object_array(TRAIN[0]),
        "y_train": TRAIN[1],
        "x_test": object_array(TEST[0]),
        "y_test": TEST[1],
    }
    put(data_dir, NPZ, make.npz(**arrays))
    put(data_dir, INDEX, json.dumps({"the": 1, "and": 2}).encode())
    return data_dir


def slowly(*, num_words=None, skip_top=0, maxlen=None, seed=113, start_char=1, oov_char=2, index_from=3):
    """Keras's documented rules, one review and one word at a time."""
    rng, parts = np.random.RandomState(seed), []
    for reviews, labels in (TRAIN, TEST):
        order, rows = np.arange(len(reviews)), []
        rng.shuffle(order)
        for i in order:
            review = [start_char] * (start_char is not None) + [word + index_from for word in reviews[i]]
            if not maxlen or len(review) < maxlen:
                rows.append((review, labels[i]))
        parts.append(rows)
    limit = num_words or max(max(review) for rows in parts for review, _ in rows)
    for rows in parts:
        for i, (review, label) in enumerate(rows):
            words = [word if skip_top <= word < limit else oov_char for word in review]
            rows[i] = [word for word in words if word is not None], label
    return parts


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_words": 10},
        {"num_words": 20, "skip_top": 6},
        {"oov_char": None},
        {"oov_char": None, "num_words": 6, "skip_top": 5},
        {"maxlen": 5},
        {"start_char": None, "index_from": 0, "seed": 7},
        {"index_from": 7, "start_char": 4, "oov_char": 5, "num_words": 15, "maxlen": 8},
        {"num_words": 0, "maxlen": 0},
    ],
    ids=str,
)
def test_made_file_follows_the_rules(arguments, made):
    got = imdb.load_data(**arguments, data_dir=made)
    for (texts, labels), rows in zip(got, slowly(**arguments), strict=True):
        assert texts.dtype == object
        assert texts.shape == labels.shape == (len(rows),)
        assert list(texts) == [text for text, _ in rows]
        assert labels.tolist() == [label for _, label in rows]
    assert all(type(word) is int for text in got[0][0] for word in text)


def test_wrong_checksum_is_never_unpickled(made, make, tmp_path):
    marker = tmp_path / "unpickled"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (marker,))

    (made / NPZ).write_bytes(make.npz(x_train=object_array([Evil()])))
    with pytest.raises(ChecksumError, match=r"imdb\.npz is refused"):
        imdb.load_data(data_dir=made)
    assert not marker.exists()


def test_no_file_is_a_way_out(data_dir):
    with pytest.raises(DataFileError, match=r"set FASTNN_DATA to a folder that holds imdb/imdb\.npz"):
        imdb.load_data(data_dir=data_dir)


def test_path_of_its_own(made, tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes((made / NPZ).read_bytes())
    got, expected = imdb.load_data(path), imdb.load_data(data_dir=made)
    assert got[1][0].tolist() == expected[1][0].tolist()


def test_word_index(made, put, tmp_path):
    assert imdb.get_word_index(data_dir=made) == {"the": 1, "and": 2}
    path = tmp_path / "index.json"
    path.write_bytes((made / INDEX).read_bytes())
    assert imdb.get_word_index(path) == {"the": 1, "and": 2}
    put(made, INDEX, b'{"the": 1')
    with pytest.raises(DataFileError, match="damaged: not JSON"):
        imdb.get_word_index(data_dir=made)


def test_real_sizes(real):
    (x_train, y_train), (x_test, y_test) = imdb.load_data(num_words=10000, data_dir=real(NPZ))
    assert (len(x_train), len(x_test)) == (25000, 25000)
    assert x_train[0][:5] == [1, 14, 22, 16, 43]
    assert set(y_train) == set(y_test) == {0, 1}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_words": -1}, ValueError, "num_words: got -1, wants an integer of at least 0"),
        ({"skip_top": None}, TypeError, "skip_top: got NoneType None"),
        ({"maxlen": 1.5}, TypeError, "maxlen: got float"),
        ({"maxlen": 1}, ValueError, "maxlen: got 1, which leaves no review"),
        ({"seed": "113"}, TypeError, "seed: got str '113'"),
        ({"start_char": -1}, ValueError, "start_char: got -1"),
        ({"oov_char": 2.0}, TypeError, "oov_char: got float 2.0"),
        ({"index_from": -1}, ValueError, "index_from: got -1"),
        ({"path": 5}, TypeError, "path: got int 5, wants a path"),
    ],
    ids=str,
)
def test_bad_arguments(arguments, error, message, made):
    with pytest.raises(error, match=message):
        imdb.load_data(**arguments, data_dir=made)
