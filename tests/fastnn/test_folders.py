"""Images and texts in folders, data sets of the user's own, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, models, utils

pillow = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(14)


@pytest.fixture
def pictures(tmp_path):
    """Grey images whose level says what they are: cats 0 to 5, dogs 100 to 105."""
    for kind, level in (("dog", 100), ("cat", 0)):
        folder = tmp_path / kind
        folder.mkdir()
        for number in range(6):
            pixels = np.full((7, 9, 3), level + number, np.uint8)
            pillow.fromarray(pixels).save(folder / f"{number}.png")
        (folder / "notes.md").write_text("no image")
    return tmp_path


def read(batches):
    """All images' levels, and labels."""
    parts = [batch if isinstance(batch, tuple) else (batch, None) for batch in batches]
    levels = np.concatenate([x[:, 0, 0, 0] for x, _ in parts])
    return levels, None if parts[0][1] is None else np.concatenate([y for _, y in parts])


def test_images_in_batches(pictures, capsys):
    batches = utils.image_dataset_from_directory(pictures, image_size=(4, 5), batch_size=5, seed=1)
    assert capsys.readouterr().out == "Found 12 files belonging to 2 classes.\n"
    assert batches.class_names == ["cat", "dog"]
    assert [x.shape for x, _ in batches] == [(5, 4, 5, 3), (5, 4, 5, 3), (2, 4, 5, 3)]
    levels, labels = read(batches)
    assert sorted(levels) == [0, 1, 2, 3, 4, 5, 100, 101, 102, 103, 104, 105]
    assert np.array_equal(labels, levels >= 100)
    again, _ = read(batches)
    assert not np.array_equal(again, levels)  # another epoch, another order
    same, _ = read(utils.image_dataset_from_directory(pictures, image_size=(4, 5), batch_size=5, seed=1))
    first, _ = read(utils.image_dataset_from_directory(pictures, image_size=(4, 5), batch_size=5, seed=1))
    assert np.array_equal(same, first)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("int", lambda y: y.astype("int32")),
        ("binary", lambda y: y.astype("float32")[:, None]),
        ("categorical", lambda y: np.eye(2, dtype="float32")[y.astype(int)]),
        (None, lambda y: None),
    ],
)
def test_labels(pictures, mode, wanted):
    batches = utils.image_dataset_from_directory(pictures, label_mode=mode, shuffle=False, verbose=False)
    levels, labels = read(batches)
    assert np.array_equal(labels, wanted(levels >= 100))


def test_parts_are_apart(pictures):
    options = {"validation_split": 0.25, "seed": 3, "image_size": (2, 2), "color_mode": "grayscale", "verbose": False}
    training, validation = utils.image_dataset_from_directory(pictures, subset="both", **options)
    (seen, _), (unseen, _) = read(training), read(validation)
    assert (len(seen), len(unseen)) == (9, 3)
    assert {*seen} | {*unseen} == {*range(6), *range(100, 106)}
    alone, _ = read(utils.image_dataset_from_directory(pictures, subset="validation", **options))
    assert sorted(alone) == sorted(unseen)


def test_a_network_learns_from_folders(pictures):
    utils.set_random_seed(4)
    batches = utils.image_dataset_from_directory(pictures, image_size=(4, 4), batch_size=4, seed=2, verbose=False)
    model = models.Sequential(
        [layers.Input((4, 4, 3)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(1, "sigmoid")]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    losses = model.fit(batches, epochs=20, validation_data=batches, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model.predict(batches.map(lambda x, y: x), verbose=0).shape == (12, 1)
    assert len(model.evaluate(batches.take(2), verbose=0)) == 2
    assert len(batches.skip(2)) == 1
    assert batches.prefetch(1) is batches


def test_texts_in_batches(tmp_path):
    for kind in ("neg", "pos"):
        (tmp_path / kind).mkdir()
        for number in range(4):
            (tmp_path / kind / f"{number}.txt").write_text(f"a {kind} film, the {number}th", encoding="utf-8")
    batches = utils.text_dataset_from_directory(tmp_path, batch_size=3, shuffle=False, max_length=10, verbose=False)
    texts = [text for x, _ in batches for text in x]
    assert texts[0] == "a neg film"
    assert texts[-1] == "a pos film"
    vectorize = layers.TextVectorization(output_sequence_length=4)
    vectorize.adapt(batches.map(lambda x, y: x))
    assert vectorize.get_vocabulary()[2:] == ["film", "a", "pos", "neg"]
    numbers = batches.map(lambda x, y: (vectorize(x), y), num_parallel_calls=4)
    assert [x.shape for x, _ in numbers] == [(3, 4), (3, 4), (2, 4)]


def test_images_to_arrays_and_back(tmp_path):
    pixels = RNG.integers(0, 256, (5, 6, 3)).astype("float32")
    pixels[0, 0], pixels[0, 1] = 0, 255
    utils.save_img(tmp_path / "x.png", pixels)
    assert np.array_equal(utils.img_to_array(utils.load_img(tmp_path / "x.png")), pixels)
    assert utils.img_to_array(utils.load_img(tmp_path / "x.png", "grayscale", (3, 2))).shape == (3, 2, 1)
    assert np.asarray(utils.array_to_img(np.ones((2, 2, 1)), scale=False)).tolist() == [[1, 1], [1, 1]]


def test_batches_of_the_users_own():
    class Halves(utils.PyDataset):
        ends = 0

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.full((4, 3), index, "float32"), np.full((4, 1), index, "float32")

        def on_epoch_end(self):
            self.ends += 1

    data = Halves(workers=2, use_multiprocessing=True)
    model = models.Sequential([layers.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(data, epochs=3, verbose=0)
    assert data.ends == 3
    with pytest.raises(NotImplementedError, match="PyDataset: wants a method __len__"):
        len(utils.PyDataset())


def test_names_begin_anew():
    layers.Dense(1)
    utils.clear_session()
    assert [layers.Dense(1).name, layers.Dense(1).name] == ["dense", "dense_1"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"directory": "nowhere"}, NotADirectoryError, "directory: got 'nowhere', wants a folder"),
        ({"labels": "none"}, ValueError, "labels: got 'none'"),
        ({"label_mode": "ints"}, ValueError, "label_mode: got 'ints', wants one of 'int', 'categorical'"),
        ({"subset": "validation"}, ValueError, "validation_split, subset: got one of them"),
        ({"validation_split": 1.5, "subset": "both"}, ValueError, "validation_split: got 1.5"),
        ({"class_names": ["cat", "cow"]}, ValueError, r"class_names: got \['cat', 'cow'\], wants the names"),
        ({"color_mode": "cmyk"}, ValueError, "color_mode: got 'cmyk'"),
        ({"image_size": (0, 3)}, ValueError, "image_size"),
        ({"batch_size": 0}, ValueError, "batch_size: got 0"),
    ],
)
def test_what_does_not_fit_is_refused(pictures, options, error, message):
    given = {"directory": pictures, "verbose": False, **options}
    with pytest.raises(error, match=message):
        utils.image_dataset_from_directory(**given)


def test_a_folder_without_files_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"without files of .txt"):
        utils.text_dataset_from_directory(tmp_path)
    with pytest.raises(ValueError, match=r"x: got shape \(2, 2\), wants"):
        utils.array_to_img(np.ones((2, 2)))
    with pytest.raises(ValueError, match="img: got an array of shape"):
        utils.img_to_array(np.ones(2))
