"""Reuters: Keras's newswires for Keras's arguments, and nothing unpickled that was not verified."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from fastnn.datasets import _files, reuters
from fastnn.errors import ChecksumError, DataFileError

NPZ, INDEX = "reuters/reuters.npz", "reuters/reuters_word_index.json"


def object_array(lists):
    array = np.empty(len(lists), dtype=object)
    array[:] = lists
    return array


def made_newswires(n=40, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 12, n)
    return [rng.integers(1, 30, length).tolist() for length in lengths], rng.integers(0, 46, n)


@pytest.fixture
def made(put, make, data_dir):
    texts, topics = made_newswires()
    put(data_dir, NPZ, make.npz(x=object_array(texts), y=topics))
    put(data_dir, INDEX, json.dumps({"the": 1, "of": 2}).encode())
    return data_dir


def slowly(
    *, num_words=None, skip_top=0, maxlen=None, test_split=0.2, seed=113, start_char=1, oov_char=2, index_from=3
):
    """Keras's documented rules, one newswire and one word at a time."""
    texts, topics = made_newswires()
    order = np.arange(len(texts))
    np.random.RandomState(seed).shuffle(order)
    rows = []
    for i in order:
        text = [word + index_from for word in texts[i]]
        if start_char is not None:
            text.insert(0, start_char)
        if not maxlen or len(text) < maxlen:
            rows.append((text, topics[i]))
    limit = num_words or max(max(text) for text, _ in rows)
    for i, (text, topic) in enumerate(rows):
        result = []
        for word in text:
            if skip_top <= word < limit:
                result.append(word)
            elif oov_char is not None:
                result.append(oov_char)
        rows[i] = result, topic
    cut = int(len(rows) * (1 - test_split))
    return rows[:cut], rows[cut:]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_words": 10},
        {"num_words": 20, "skip_top": 6},
        {"oov_char": None},
        {"oov_char": None, "num_words": 6, "skip_top": 5},  # many newswires become empty
        {"maxlen": 5},
        {"start_char": None, "maxlen": 5, "test_split": 0.5},
        {"start_char": None, "index_from": 0},
        {"index_from": 7, "start_char": 4, "oov_char": 5, "num_words": 15},
        {"test_split": 0.0, "seed": 5},
        {"num_words": 0, "maxlen": 0},
    ],
    ids=str,
)
def test_made_file_follows_the_rules(arguments, made):
    got = reuters.load_data(**arguments, data_dir=made)
    for (texts, topics), rows in zip(got, slowly(**arguments), strict=True):
        assert texts.dtype == object
        assert texts.shape == topics.shape == (len(rows),)
        assert list(texts) == [text for text, _ in rows]
        assert topics.tolist() == [topic for _, topic in rows]
    assert all(type(word) is int for text in got[0][0] for word in text)


def test_newswires_of_one_length_stay_lists(put, make, data_dir):
    put(data_dir, NPZ, make.npz(x=object_array([[1, 2], [3, 4], [5, 6]]), y=np.arange(3)))
    (texts, _), _ = reuters.load_data(test_split=0, data_dir=data_dir)
    assert texts.shape == (3,)
    assert all(isinstance(text, list) for text in texts)


# Start of the SHA-256 of json.dumps([x_train, y_train, x_test, y_test], as lists) of what Keras 3.15.1 returns.
KERAS = [
    ({}, "316981b8945ac7fc8ab3db9a894035ba"),
    ({"num_words": 10000}, "0bda3a8ecc13f207a02e679a777296df"),
    ({"num_words": 1000, "skip_top": 20, "maxlen": 100}, "11c333f16afa2f04cacfed9fead70796"),
    ({"num_words": 500, "skip_top": 5, "oov_char": None}, "63950ebc07ec098419d7924b3dd28b86"),
    ({"start_char": None, "maxlen": 30, "test_split": 0.1, "seed": 7}, "c13a6a84ccde223dacb7998fab3da08c"),
]


@pytest.mark.parametrize(("arguments", "digest"), KERAS, ids=[str(arguments) for arguments, _ in KERAS])
def test_real_file_gives_what_keras_gives(arguments, digest, real):
    train, test = reuters.load_data(**arguments, data_dir=real(NPZ))
    text = json.dumps([array.tolist() for array in (*train, *test)])
    assert hashlib.sha256(text.encode()).hexdigest().startswith(digest)


def test_real_sizes_and_word_index(real):
    (x_train, y_train), (x_test, y_test) = reuters.load_data(num_words=10000, data_dir=real(NPZ))
    assert (len(x_train), len(x_test)) == (8982, 2246)
    assert set(np.concatenate([y_train, y_test])) == set(range(46))
    index = reuters.get_word_index(data_dir=real(INDEX))
    assert index["the"] == 1
    words = {rank + 3: word for word, rank in index.items()}
    assert " ".join(words.get(i, "?") for i in x_train[0][:9]) == "? ? ? said as a result of its"


def evil_npz(make, marker: Path) -> bytes:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (marker,))

    return make.npz(x=object_array([Evil()]), y=np.zeros(1, int))


def test_wrong_checksum_is_never_unpickled(made, make, tmp_path):
    marker = tmp_path / "unpickled"
    evil = evil_npz(make, marker)
    (made / NPZ).write_bytes(evil)
    with pytest.raises(ChecksumError, match=r"reuters\.npz is refused"):
        reuters.load_data(data_dir=made)
    assert not marker.exists()
    with np.load(made / NPZ, allow_pickle=True) as arrays:  # the trap itself works
        _ = arrays["x"]
    assert marker.exists()


def test_what_was_hashed_is_what_is_unpickled(made, make, tmp_path, monkeypatch):
    """A file exchanged right after it was verified does no harm: it is not opened again."""
    marker, verify = tmp_path / "unpickled", _files._verified
    expected = reuters.load_data(data_dir=made)

    def verify_then_exchange(data, name, place):
        verified = verify(data, name, place)
        Path(place).write_bytes(evil_npz(make, marker))
        return verified

    monkeypatch.setattr(_files, "_verified", verify_then_exchange)
    got = reuters.load_data(data_dir=made)
    assert got[0][0].tolist() == expected[0][0].tolist()
    assert not marker.exists()


def test_path_of_its_own(made, tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes((made / NPZ).read_bytes())
    got, expected = reuters.load_data(path), reuters.load_data(data_dir=made)
    assert got[1][0].tolist() == expected[1][0].tolist()


def test_word_index(made, tmp_path):
    assert reuters.get_word_index(data_dir=made) == {"the": 1, "of": 2}
    path = tmp_path / "index.json"
    path.write_bytes((made / INDEX).read_bytes())
    assert reuters.get_word_index(path) == {"the": 1, "of": 2}


def test_word_index_that_is_damaged(put, data_dir):
    put(data_dir, INDEX, b'{"the": 1')
    with pytest.raises(DataFileError, match="damaged: not JSON"):
        reuters.get_word_index(data_dir=data_dir)


def test_label_names():
    names = reuters.get_label_names()
    assert (len(names), names[0], names[3], names[45]) == (46, "cocoa", "earn", "lead")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_words": -1}, ValueError, "num_words: got -1, wants an integer of at least 0"),
        ({"num_words": 1e4}, TypeError, "num_words: got float 10000.0"),
        ({"num_words": True}, TypeError, "num_words: got bool True"),
        ({"skip_top": -1}, ValueError, "skip_top: got -1"),
        ({"skip_top": None}, TypeError, "skip_top: got NoneType None"),
        ({"maxlen": -3}, ValueError, "maxlen: got -3"),
        ({"maxlen": 1}, ValueError, "maxlen: got 1, which leaves no newswire"),
        ({"test_split": 1.5}, ValueError, r"test_split: got 1\.5"),
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
        reuters.load_data(**arguments, data_dir=made)
