"""BackupAndRestore: a fit that was interrupted and restored ends like one that was not."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from fastnn import callbacks, layers, models, optimizers, saving, utils
from fastnn.callbacks import BackupAndRestore
from fastnn.engine import seeds
from fastnn.errors import DivergenceError

RNG = np.random.default_rng(4)
X, Y = RNG.normal(size=(50, 6)).astype("float32"), RNG.integers(0, 3, 50)
SPARSE = np.where(RNG.random(X.shape) < 0.2, X, 0).astype("float32")
OPTIONS = {"batch_size": 8, "epochs": 4, "verbose": 0}
STEPS = 7

OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.05, momentum=0.9),
    "rmsprop": lambda: optimizers.RMSprop(0.01),
    "adam": lambda: optimizers.Adam(0.01),
    "averaged": lambda: optimizers.RMSprop(0.01, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=4),
    "scheduled": lambda: optimizers.Adam(optimizers.schedules.CosineDecay(0.02, 20)),
}


def made(optimizer="rmsprop", metrics=("accuracy",), names=("a", "b")):
    model = models.Sequential([
        layers.Input((6,)),
        layers.Dense(8, activation="relu", name=names[0]),
        layers.Dropout(0.3),
        layers.Dense(3, activation="softmax", name=names[1]),
    ])  # fmt: skip
    model.compile(OPTIMIZERS[optimizer](), "sparse_categorical_crossentropy", list(metrics))
    return model


class Interrupt(callbacks.Callback):
    """Raises at the end of a batch of an epoch, or at the epoch's begin."""

    def __init__(self, epoch, batch=None):
        super().__init__()
        self.at = epoch, batch
        self.epoch = 0

    def listens_to_batches(self, kind):
        return kind == "train" and self.at[1] is not None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.at == (epoch, None):
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        if self.at == (self.epoch, batch):
            raise KeyboardInterrupt


def everything(model):
    """Weights, state of the optimizer, its count and rate."""
    state = [array for slots in model.optimizer.state.values() for array in slots.values()]
    return [*model.get_weights(), *state, model.optimizer.iterations, model.optimizer.learning_rate]


def uninterrupted(*watch, x=X, optimizer="rmsprop", **options):
    """What a fit makes of a model, its figures, and what is drawn behind it."""
    utils.set_random_seed(1)
    model = made(optimizer)
    history = model.fit(x, Y, callbacks=[*watch], **{**OPTIONS, **options})
    return everything(model), history.history, seeds.state()


def restored(folder, interrupt, x=X, optimizer="rmsprop", backup=None, **options):
    """The same of a fit that was interrupted, and another one that went on in another model under other seeds."""
    backup = backup or {}
    utils.set_random_seed(1)
    with pytest.raises(KeyboardInterrupt):
        made(optimizer).fit(x, Y, callbacks=[BackupAndRestore(folder, **backup), interrupt], **{**OPTIONS, **options})
    utils.set_random_seed(77)
    model = made(optimizer, names=("c", "d"))
    history = model.fit(x, Y, callbacks=[BackupAndRestore(folder, **backup)], **{**OPTIONS, **options})
    return everything(model), history, seeds.state()


def assert_equal(got, wanted):
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("interrupt", [Interrupt(2), Interrupt(2, 3), Interrupt(3, 6)], ids=["begin", "batch", "last"])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_interrupted_fit_ends_like_one_that_was_not(tmp_path, optimizer, shuffle, interrupt):
    wanted, figures, drawn = uninterrupted(optimizer=optimizer, shuffle=shuffle)
    got, history, drawn_too = restored(tmp_path / "backup", interrupt, optimizer=optimizer, shuffle=shuffle)
    assert_equal(got, wanted)
    assert drawn_too == drawn
    first = interrupt.at[0]
    assert history.epoch == list(range(first, 4))
    assert history.history == {name: values[first:] for name, values in figures.items()}
    assert not (tmp_path / "backup").exists()


def test_inputs_whose_zeros_are_skipped(tmp_path):
    wanted, _, _ = uninterrupted(x=SPARSE)
    got, _, _ = restored(tmp_path, Interrupt(1, 4), x=SPARSE)
    assert_equal(got, wanted)


@pytest.mark.parametrize("at", [(0, 4), (1, 0), (2, 5), (2, 6), (3, None)])
@pytest.mark.parametrize("every", [1, 2, 3, 5])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_that_was_begun_is_ended(tmp_path, shuffle, every, at):
    """Backed up within the epochs: no batch is trained on twice, none left out."""
    options = {"shuffle": shuffle, "validation_data": (X[:9], Y[:9])}
    wanted, figures, drawn = uninterrupted(Interrupt(9, 0), **options)
    got, history, drawn_too = restored(tmp_path, Interrupt(*at), backup={"save_freq": every}, **options)
    assert_equal(got, wanted)
    assert drawn_too == drawn
    assert history.history["val_loss"][-1] == figures["val_loss"][-1]


def test_a_fit_is_interrupted_again_and_again(tmp_path):
    wanted, _, _ = uninterrupted(Interrupt(9, 0))
    utils.set_random_seed(1)
    for at in ((0, 2), (0, 5), (1, 3), (1, 4), (2, None), (3, 1)):
        with pytest.raises(KeyboardInterrupt):
            # within an epoch that was begun before, batches count from its rest
            made().fit(X, Y, callbacks=[BackupAndRestore(tmp_path, 1), Stop(*at)], **OPTIONS)
    model = made()
    model.fit(X, Y, callbacks=[BackupAndRestore(tmp_path, 1)], **OPTIONS)
    assert_equal(everything(model), wanted)


class Stop(callbacks.Callback):
    """Raises at the end of the batch of an epoch whose number the optimizer's count tells, or at the epoch's begin."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at = STEPS * epoch + (0 if batch is None else batch + 1)

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == self.at:
            raise KeyboardInterrupt

    def on_epoch_begin(self, epoch, logs=None):
        if self.model.optimizer.iterations == self.at:
            raise KeyboardInterrupt


def test_layer_by_layer_too(tmp_path):
    """With a metric of one's own."""

    def zero(y_true, y_pred):
        return np.zeros(len(y_true))

    ends = []
    for interrupt in (None, Interrupt(2, 3)):
        utils.set_random_seed(1)
        if interrupt is not None:
            with pytest.raises(KeyboardInterrupt):
                made(metrics=[zero]).fit(X, Y, callbacks=[BackupAndRestore(tmp_path), interrupt], **OPTIONS)
        model = made(metrics=[zero])
        model.fit(X, Y, callbacks=[BackupAndRestore(tmp_path)], **OPTIONS)
        ends.append(everything(model))
    assert_equal(*ends)


def test_a_rate_that_was_set_is_kept(tmp_path):
    def fit(*watch):
        model = made()
        if watch:
            reduce = callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: model.optimizer.learning_rate.assign(0.5)
            )
            with pytest.raises(KeyboardInterrupt):
                model.fit(X, Y, callbacks=[reduce, BackupAndRestore(tmp_path), *watch], **OPTIONS)
        return model

    fit(Interrupt(2))
    model = fit()
    seen = []
    look = callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(float(model.optimizer.learning_rate))
    )
    model.fit(X, Y, callbacks=[BackupAndRestore(tmp_path), look], **OPTIONS)
    assert seen == [0.5, 0.5]


def interrupted(folder, interrupt=None, **options):
    with pytest.raises(KeyboardInterrupt):
        made().fit(X, Y, callbacks=[BackupAndRestore(folder, **options), interrupt or Interrupt(3)], **OPTIONS)


def test_the_backup_before_serves_where_the_last_one_is_damaged(tmp_path):
    interrupted(tmp_path, double_checkpoint=True)
    latest = tmp_path / "latest.safetensors"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest.safetensors", "previous.safetensors"]
    latest.write_bytes(latest.read_bytes()[:-20])
    told = "backup_dir: going on from the backup before, since filepath: got"
    with pytest.warns(UserWarning, match=told), pytest.raises(KeyboardInterrupt):
        made().fit(X, Y, callbacks=[BackupAndRestore(tmp_path), Interrupt(2)], **OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["latest.safetensors"]
    history = made().fit(X, Y, callbacks=[BackupAndRestore(tmp_path)], **OPTIONS)
    assert history.epoch == [2, 3]
    assert not tmp_path.exists()


def test_a_damaged_backup_is_told(tmp_path):
    interrupted(tmp_path)
    latest = tmp_path / "latest.safetensors"
    latest.write_bytes(latest.read_bytes()[:-20])
    model = made()
    with pytest.raises(ValueError, match=r"latest.safetensors', which is truncated, damaged or no model file"):
        model.fit(X, Y, callbacks=[BackupAndRestore(tmp_path)], **OPTIONS)
    assert model.optimizer.iterations == 0
    assert latest.exists()


def wider():
    model = models.Sequential([layers.Dense(9, input_shape=(6,)), layers.Dropout(0.3), layers.Dense(3, "softmax")])
    model.compile("rmsprop", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: made("adam"), {}, "optimizer: got 'RMSprop', wants one of 'Adam'"),
        (wider, {}, r"wants shape|wants an array of shape|wants \(6, 9\)"),
        (lambda: made("scheduled"), {}, "optimizer: got 'RMSprop'"),
        (made, {"batch_size": 4}, "steps: got 7 batches an epoch, where this fit has 13"),
    ],
)
def test_a_backup_of_another_fit_changes_nothing(tmp_path, make, options, message):
    interrupted(tmp_path, Interrupt(1, 3), save_freq=2)
    model = make()
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"backup_dir: got .*, which is no backup of such a fit .*({message})"):
        model.fit(X, Y, callbacks=[BackupAndRestore(tmp_path)], **{**OPTIONS, **options})
    assert_equal(model.get_weights(), before)
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize(
    "change",
    [
        {"class_name": "weights"},
        {"epoch": -1},
        {"batch": None},
        {"iterations": 1.5},
        {"learning_rate": None},
        {"learning_rate": -1.0},
        {"state": [99]},
        {"state": None},
        {"mask_seeds": [1]},
        {"mask_seeds": None},
        {"generator": {"bit_generator": "PCG64"}},
        {"generator": 3},
        {"drawn_from": None},
    ],
)
def test_a_crafted_backup_changes_nothing(tmp_path, change):
    interrupted(tmp_path, Interrupt(1, 3), save_freq=2)
    tensors, document = saving.read(tmp_path / "latest.safetensors")
    saving.replace(tmp_path / "latest.safetensors", saving.contents(tensors, {**document, **change}))
    model = made()
    before = everything(model)
    with pytest.raises(ValueError, match=r"backup_dir: got .*, which is no backup of such a fit"):
        model.fit(X, Y, callbacks=[BackupAndRestore(tmp_path)], **OPTIONS)
    assert_equal(everything(model), before)


def test_files_are_kept_where_that_is_asked_for_and_others_in_any_case(tmp_path):
    made().fit(X, Y, callbacks=[BackupAndRestore(tmp_path / "kept", delete_checkpoint=False)], **OPTIONS)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["latest.safetensors"]
    assert made().fit(X, Y, callbacks=[BackupAndRestore(tmp_path / "kept")], **OPTIONS).epoch == []
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "mine").write_text("mine")
    made().fit(X, Y, callbacks=[BackupAndRestore(tmp_path / "shared")], **OPTIONS)
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["mine"]


def test_a_place_that_cannot_be_written_to_is_found_before_training(tmp_path):
    (tmp_path / "file").write_text("mine")
    model = made()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="backup_dir: cannot make the folder"):
            model.fit(X, Y, callbacks=[BackupAndRestore(folder)], **OPTIONS)
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("",), ValueError, "backup_dir: got ''"),
        ((3,), TypeError, "backup_dir: got int 3"),
        (("b", "batch"), ValueError, "save_freq: got 'batch', wants 'epoch' or a number of batches"),
        (("b", False), TypeError, "save_freq: got bool False"),
        (("b", 0), ValueError, "save_freq: got 0"),
        (("b", 1, 1), TypeError, "double_checkpoint: got int 1"),
        (("b", 1, True, None), TypeError, "delete_checkpoint: got NoneType None"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        BackupAndRestore(*arguments)


def test_weights_that_overflowed_are_not_backed_up(tmp_path):
    model = models.Sequential([layers.Dense(1, input_shape=(2,))])
    model.compile(optimizers.SGD(1e30), "mse")
    with pytest.raises(DivergenceError, match=r"weights are not finite at epoch 1.*, and were not backed up"):
        model.fit(X[:, :2], X[:, :1] * 1e12, batch_size=50, verbose=0, callbacks=[BackupAndRestore(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_a_model_can_be_copied_within_a_fit_and_keeps_no_data_behind_it():
    copies = []
    model = made()
    look = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: copies.append(copy.deepcopy(model)))
    model.fit(X, Y, callbacks=[look], **OPTIONS)
    assert model._place is copies[0]._place is None
    assert not np.array_equal(copies[0].get_weights()[0], model.get_weights()[0])
