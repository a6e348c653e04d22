"""Callbacks: order of calls, and the rules of stopping, saving and scheduling."""

from __future__ import annotations

import math
import os
import signal

import numpy as np
import pytest

from fastnn import callbacks, files, layers, models, optimizers
from fastnn.errors import DivergenceError

X = np.linspace(-1, 1, 12).reshape(6, 2)
Y = X[:, :1] * 2


def model(**options):
    made = models.Sequential([layers.Dense(1, input_shape=(2,))])
    made.compile(optimizers.SGD(0.1), "mse", **options)
    return made


class Recorder(callbacks.Callback):
    """Notes every call."""

    def __init__(self):
        super().__init__()
        self.calls = []


for _name in [name for name in dir(callbacks.Callback) if name.startswith("on_") and not name.startswith("on_batch")]:

    def _hook(self, *args, _name=_name, **kwargs):
        self.calls.append((_name.removeprefix("on_"), *(a for a in args if isinstance(a, int))))

    setattr(Recorder, _name, _hook)


def test_order_of_calls_in_fit():
    recorder = Recorder()
    model().fit(X, Y, batch_size=3, epochs=2, validation_data=(X[:2], Y[:2]), callbacks=[recorder], verbose=0)
    epoch = lambda number: [  # noqa: E731
        ("epoch_begin", number),
        *[("train_batch_begin", 0), ("train_batch_end", 0), ("train_batch_begin", 1), ("train_batch_end", 1)],
        *[("test_begin",), ("test_batch_begin", 0), ("test_batch_end", 0), ("test_end",)],
        ("epoch_end", number),
    ]
    assert recorder.calls == [("train_begin",), *epoch(0), *epoch(1), ("train_end",)]
    wanted = {"verbose": 0, "epochs": 2, "steps": 2, "metrics": ["loss", "val_loss"]}
    assert recorder.params == {**wanted, "initial_epoch": 0, "validation_freq": 1}


def test_order_of_calls_in_evaluate_and_predict():
    recorder, made = Recorder(), model()
    made.evaluate(X, Y, batch_size=4, callbacks=[recorder], verbose=0)
    made.predict(X, batch_size=6, callbacks=recorder, verbose=0)
    assert [name for name, *_ in recorder.calls] == [
        *["test_begin", "test_batch_begin", "test_batch_end", "test_batch_begin", "test_batch_end", "test_end"],
        *["predict_begin", "predict_batch_begin", "predict_batch_end", "predict_end"],
    ]


def test_batch_hooks_see_running_figures():
    seen = []

    class Batches(callbacks.Callback):
        def on_batch_end(self, batch, logs=None):
            seen.append((batch, dict(logs)))

    made = model(metrics=["mae"])
    made.optimizer.learning_rate = 0
    made.fit(X, Y, batch_size=3, shuffle=False, callbacks=[Batches()], verbose=0)
    first = made.evaluate(X[:3], Y[:3], verbose=0, return_dict=True)
    both = made.evaluate(X, Y, batch_size=3, verbose=0, return_dict=True)
    assert [batch for batch, _ in seen] == [0, 1]
    assert seen[0][1] == pytest.approx(first)
    assert seen[1][1] == pytest.approx(both)


def test_a_batch_hook_can_stop_training():
    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    made = model()
    history = made.fit(X, Y, batch_size=1, epochs=5, callbacks=[Stop()], verbose=0)
    assert history.epoch == [0]
    assert made.optimizer.iterations == 2


def test_only_overridden_batch_hooks_are_called():
    assert not callbacks.Callback().listens_to_batches("train")
    assert not callbacks.History().listens_to_batches("train")
    assert not callbacks.ModelCheckpoint("m").listens_to_batches("train")
    assert callbacks.ModelCheckpoint("m", save_freq=2).listens_to_batches("train")
    assert callbacks.LambdaCallback(on_train_batch_end=print).listens_to_batches("train")
    assert not callbacks.LambdaCallback(on_epoch_end=print).listens_to_batches("train")


def test_history():
    made = model(metrics=["mae"])
    history = made.fit(X, Y, epochs=5, initial_epoch=2, validation_split=0.5, verbose=0)
    assert history is made.history
    assert history.epoch == [2, 3, 4]
    assert set(history.history) == {"loss", "mae", "val_loss", "val_mae"}
    assert all(len(values) == 3 for values in history.history.values())
    assert history.model is made


class Fake:
    """Stands for a model whose only weight is the number of the epoch."""

    weights = ()

    def __init__(self, metrics=()):
        self.stop_training = False
        self.metrics = metrics
        self.weight = -1.0

    def get_weights(self):
        return [np.array(self.weight)]

    def set_weights(self, weights):
        self.weight = float(weights[0])


def stopped(values, monitor="val_loss", **options):
    """Last epoch that ran, and the weights after training (the number of their epoch)."""
    stopper, fake = callbacks.EarlyStopping(monitor=monitor, **options), Fake()
    stopper.set_model(fake)
    stopper.on_train_begin()
    for epoch, value in enumerate(values):
        fake.weight = float(epoch)
        stopper.on_epoch_end(epoch, {monitor: value})
        if fake.stop_training:
            break
    stopper.on_train_end()
    return epoch, fake.weight


# Every row was compared with Keras 3.15.
@pytest.mark.parametrize(
    ("values", "options", "wanted"),
    [
        ([1, 2, 3, 4], {}, (1, 1)),
        ([3, 2, 1, 2, 3], {}, (3, 3)),
        ([3, 2, 1, 2, 3, 0.5, 9, 9, 9], {"patience": 2}, (4, 4)),
        ([3, 2.95, 2.9, 2.85], {"min_delta": 0.2}, (1, 1)),
        ([3, 2.95, 2.9, 2.85], {"min_delta": -0.2}, (1, 1)),
        ([5, 4, 3], {"baseline": 2, "patience": 1}, (2, 2)),
        ([5, 4, 1, 1, 1, 1], {"baseline": 2, "patience": 3}, (5, 5)),
        ([5, 4, 4.5, 4.6, 4.7], {"baseline": 2, "patience": 3}, (2, 2)),
        ([1, 2, 3, 4, 5], {"start_from_epoch": 2, "restore_best_weights": True}, (3, 2)),
        ([3, 1, 2, 3], {"restore_best_weights": True}, (2, 1)),
        ([3, 1, 2, 3], {"restore_best_weights": True, "patience": 9}, (3, 1)),
        ([1, 2, 3], {"mode": "max"}, (2, 2)),
        ([math.nan, math.nan, 1, 2], {"patience": 1}, (1, 1)),
        ([1, 1, 1, 1], {}, (1, 1)),
    ],
)
def test_early_stopping_rules(values, options, wanted):
    assert stopped(values, **options) == wanted


def test_early_stopping_knows_which_way_is_better():
    assert stopped([0.5, 0.6, 0.5, 0.4], "val_accuracy") == (2, 2)
    assert stopped([0.5, 0.6, 0.5, 0.4], "loss")[0] == 1
    with pytest.raises(ValueError, match="mode: got 'auto', which cannot tell"):
        stopped([1, 2], "val_something")


def test_early_stopping_warns_of_a_missing_figure():
    with pytest.warns(UserWarning, match="EarlyStopping: 'val_loss' is not among the figures of the epoch"):
        model().fit(X, Y, callbacks=[callbacks.EarlyStopping()], verbose=0)


def test_early_stopping_in_a_fit_restores_the_best_weights(capsys):
    made = model()
    seen = []
    stopper = callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True, verbose=1)
    rates = iter([0.1, 0.1, 2.0, 2.0, 2.0, 2.0])
    history = made.fit(
        X,
        Y,
        epochs=6,
        shuffle=False,
        verbose=0,
        callbacks=[
            callbacks.LearningRateScheduler(lambda epoch: next(rates)),
            stopper,
            callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(made.get_weights())),
        ],
    )
    best = int(np.argmin(history.history["loss"]))
    assert len(history.epoch) == stopper.stopped_epoch + 1 < 6
    assert (made.get_weights()[0] == seen[best][0]).all()
    assert f"Restoring the weights of the best epoch, {best + 1}" in capsys.readouterr().out


def test_early_stopping_serves_several_fits():
    stopper, made = callbacks.EarlyStopping("loss"), model()
    for size in (1, 100):  # the second fit starts from a larger loss than the first ended with
        history = made.fit(X, size * Y, epochs=3, shuffle=False, callbacks=[stopper], verbose=0)
        assert len(history.epoch) == 3


# ------------------------------------------------------------------------------------------------------ checkpoints


def test_checkpoint_every_epoch(tmp_path):
    path = tmp_path / "m-{epoch:02d}-{loss:.3f}.safetensors"
    history = model().fit(X, Y, epochs=3, callbacks=[callbacks.ModelCheckpoint(path)], verbose=0)
    wanted = [f"m-{epoch:02d}-{loss:.3f}.safetensors" for epoch, loss in enumerate(history.history["loss"], start=1)]
    assert sorted(os.listdir(tmp_path)) == wanted


@pytest.mark.parametrize("path", ["m.h5", "{epoch:02d}-{val_loss:.2f}.weights.h5"])
def test_checkpoint_under_a_name_that_promises_another_format(path):
    with pytest.raises(ValueError, match=r"filepath: got .*, whose suffix stands for Keras, wants '.*\.safetensors'"):
        callbacks.ModelCheckpoint(path)


def checkpointed(values, tmp_path, **options):
    """Epochs (from 1) that were saved."""
    saver, fake = callbacks.ModelCheckpoint(tmp_path / "{epoch}", **options), Fake()
    saved = []
    fake.save = fake.save_weights = lambda path: saved.append(int(os.path.basename(path)))
    saver.set_model(fake)
    for epoch, value in enumerate(values):
        saver.on_epoch_begin(epoch)
        saver.on_epoch_end(epoch, {"val_loss": value, "val_acc": value})
    return saved


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, [1, 2, 3, 4]),
        ({"save_best_only": True}, [1, 3]),
        ({"save_best_only": True, "mode": "max"}, [1, 2, 4]),
        ({"save_best_only": True, "monitor": "val_acc"}, [1, 2, 4]),
        ({"save_best_only": True, "initial_value_threshold": 1.5}, [3]),
    ],
)
def test_checkpoint_rules(tmp_path, options, wanted):
    assert checkpointed([2, 3, 1, 4], tmp_path, **options) == wanted


def test_checkpoint_of_weights_only(tmp_path):
    made = model()
    made.fit(X, Y, callbacks=[callbacks.ModelCheckpoint(tmp_path / "w", save_weights_only=True)], verbose=0)
    wanted = made.get_weights()
    made.set_weights([w * 0 for w in wanted])
    made.load_weights(tmp_path / "w")
    assert (made.get_weights()[0] == wanted[0]).all()
    with pytest.raises(ValueError, match="holds weights alone"):
        models.load_model(tmp_path / "w")


def test_checkpoint_every_few_batches(tmp_path):
    saver = callbacks.ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=4)
    model().fit(X, Y, batch_size=1, epochs=2, callbacks=[saver], verbose=0)
    assert sorted(os.listdir(tmp_path)) == ["1-4", "2-2", "2-6"]


class Never(callbacks.Callback):
    """Fails the test when an epoch ends: what is wrong has to be found before."""

    def on_epoch_end(self, epoch, logs=None):
        pytest.fail("an epoch was trained")


def refused_before_training(error, message, path, made=None, before=(), **options):
    made = made or model()
    saver = callbacks.ModelCheckpoint(path, **options)
    with pytest.raises(error, match=message):
        made.fit(X, Y, callbacks=[*before, saver, Never()], verbose=0)
    assert made.optimizer.iterations == 0


def test_checkpoint_with_an_unknown_figure(tmp_path):
    refused_before_training(KeyError, "with 'val_loss', wants names out of 'loss', 'epoch'", tmp_path / "{val_loss}")
    message = "wants names out of 'loss', 'epoch', 'batch'"
    refused_before_training(KeyError, message, tmp_path / "{val_loss}", save_freq=1)
    with pytest.warns(UserWarning, match="ModelCheckpoint: 'val_loss' is not among"):
        model().fit(X, Y, callbacks=[callbacks.ModelCheckpoint(tmp_path / "m", save_best_only=True)], verbose=0)
    assert os.listdir(tmp_path) == []


VALIDATED = {"validation_data": (X, Y), "validation_freq": 2, "verbose": 0}


@pytest.mark.parametrize(
    ("options", "first", "lacking"),
    [({}, 0, 1), ({}, 1, 3), ({"save_best_only": True, "monitor": "loss"}, 0, 1)],
)
def test_checkpoint_with_a_figure_that_some_epochs_lack(tmp_path, options, first, lacking):
    saver, made = callbacks.ModelCheckpoint(tmp_path / "{val_loss:.1f}", **options), model()
    message = f"'val_loss', which epoch {lacking} does not have by validation_freq=2, wants figures that every epoch"
    with pytest.raises(ValueError, match=message):
        made.fit(X, Y, epochs=4, initial_epoch=first, callbacks=[saver, Never()], **VALIDATED)
    assert made.optimizer.iterations == 0
    assert os.listdir(tmp_path) == []


def test_checkpoint_with_a_figure_that_every_epoch_saved_has(tmp_path):
    saver = callbacks.ModelCheckpoint(tmp_path / "{epoch}-{val_loss:.0f}")
    model().fit(X, Y, epochs=2, initial_epoch=1, callbacks=[saver], **VALIDATED)
    saver = callbacks.ModelCheckpoint(tmp_path / "best-{epoch}-{val_loss:.0f}", save_best_only=True)
    with pytest.warns(UserWarning, match="ModelCheckpoint: 'val_loss' is not among"):
        model().fit(X, Y, epochs=2, callbacks=[saver], **VALIDATED)
    assert [name.rpartition("-")[0] for name in sorted(os.listdir(tmp_path))] == ["2", "best-2"]


def test_checkpoint_with_a_figure_of_another_callback(tmp_path):
    own = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(f1=0.25))
    rate = callbacks.LearningRateScheduler(lambda epoch: 0.5)
    saver = callbacks.ModelCheckpoint(tmp_path / "{f1}-{learning_rate}")
    model().fit(X, Y, callbacks=[own, rate, saver], verbose=0)
    assert os.listdir(tmp_path) == ["0.25-0.5"]
    saver = callbacks.ModelCheckpoint(tmp_path / "{learning_rate:g}")
    model().fit(X, Y, callbacks=[rate, saver], verbose=0)
    refused_before_training(KeyError, "'learning_rate', wants names out of 'loss'", tmp_path / "{learning_rate}")
    with pytest.raises(KeyError, match="'f2', wants names out of 'loss', 'f1', 'epoch'"):
        model().fit(X, Y, callbacks=[own, callbacks.ModelCheckpoint(tmp_path / "{f2}")], verbose=0)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{epoch", "which is no template .*expected '}'"),
        ("epoch}", "which is no template .*Single '}'"),
        ("{}", "wants a name in every pair of braces"),
        ("{0}-{epoch}", "wants a name in every pair of braces"),
    ],
)
def test_checkpoint_with_a_malformed_template(path, message):
    with pytest.raises(ValueError, match=message):
        callbacks.ModelCheckpoint(path)


@pytest.mark.parametrize("path", ["{epoch:.2q}", "{loss:d}", "{loss.nothing}", "{loss[3]}"])
def test_checkpoint_with_a_template_that_cannot_be_filled_in(tmp_path, path):
    refused_before_training(ValueError, "which cannot be filled in", tmp_path / path)


def test_checkpoint_under_a_name_with_braces(tmp_path):
    model().fit(X, Y, callbacks=[callbacks.ModelCheckpoint(tmp_path / "{{a}}" / "{{b}}")], verbose=0)
    assert os.listdir(tmp_path / "{a}") == ["{b}"]
    model().fit(X, Y, callbacks=[callbacks.ModelCheckpoint(tmp_path / "{{a}}" / "{{b}}{epoch}")], verbose=0)
    assert sorted(os.listdir(tmp_path / "{a}")) == ["{b}", "{b}1"]


@pytest.mark.parametrize("path", ["runs/first/m", "runs/first/m-{epoch}", "runs/{epoch}/{loss:.0f}/m"])
def test_checkpoint_makes_its_folder(tmp_path, path):
    model().fit(X, Y, epochs=2, callbacks=[callbacks.ModelCheckpoint(tmp_path / path)], verbose=0)
    saved = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(saved) == (2 if "epoch" in path else 1)
    for file in saved:
        assert models.load_model(file).built


def test_checkpoint_makes_its_folder_before_the_first_epoch(tmp_path):
    seen = []
    look = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(os.listdir(tmp_path)))
    model().fit(X, Y, callbacks=[callbacks.ModelCheckpoint(tmp_path / "runs" / "m"), look], verbose=0)
    assert seen == [["runs"]]


def read_only(path):
    path.write_text("protected")
    path.chmod(0o444)


@pytest.mark.parametrize(
    ("make", "name", "error", "message"),
    [
        (os.mkdir, "m", IsADirectoryError, "filepath: got a folder, wants the name of a file"),
        (os.mkfifo, "m", FileExistsError, "filepath: got a FIFO, wants the name of a file"),
        (read_only, "m", PermissionError, "filepath: got a read-only file"),
        (read_only, "{epoch}", PermissionError, "filepath: got a read-only file"),
        (read_only, "1/m", FileExistsError, "filepath: cannot make the folder"),
        (read_only, "1/m/m", NotADirectoryError, "filepath: cannot make the folder"),
    ],
)
def test_checkpoint_that_cannot_be_written(tmp_path, make, name, error, message):
    make(tmp_path / ("1" if "epoch" in name or "/" in name else "m"))
    refused_before_training(error, message, tmp_path / name)


@pytest.mark.parametrize("name", ["m", "m-{loss}", "runs/{epoch}/m"])
def test_checkpoint_in_a_place_without_room(tmp_path, monkeypatch, name):
    def full(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files, "_new_file", full)
    message = r"filepath: cannot write the file \(Read-only file system\)"
    refused_before_training(OSError, message, tmp_path / name)


def test_checkpoint_of_a_model_that_cannot_be_saved(tmp_path):
    made = model()
    made.compile("sgd", lambda y_true, y_pred: (0.0, y_pred * 0))
    message = "loss: got the function '<lambda>', which a model file cannot hold"
    refused_before_training(ValueError, message, tmp_path / "m", made)
    saver = callbacks.ModelCheckpoint(tmp_path / "m", save_weights_only=True)
    made.fit(X, Y, callbacks=[saver], verbose=0)
    assert os.listdir(tmp_path) == ["m"]


def overflowing():
    """A model whose weights leave float32 in the first update, while the loss before it is finite."""
    made = models.Sequential([layers.Dense(1, input_shape=(2,))])
    made.compile(optimizers.SGD(1e35), "mse")
    return made


@pytest.mark.parametrize("weights_only", [False, True])
def test_checkpoint_keeps_the_good_file_when_weights_overflow(tmp_path, weights_only):
    path = tmp_path / "m"
    made = overflowing()
    (made.save_weights if weights_only else made.save)(path)
    before = path.read_bytes()
    saver = callbacks.ModelCheckpoint(path, save_weights_only=weights_only)
    wanted = r"weights are not finite at epoch 1, after the last batch, with learning rate 1e\+35, and were not saved"
    with pytest.raises(DivergenceError, match=wanted):
        made.fit(X, 1e8 * Y, epochs=3, callbacks=[saver], verbose=0)
    assert not all(np.isfinite(weight).all() for weight in made.get_weights())
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]


def test_checkpoint_every_few_batches_when_weights_overflow(tmp_path):
    saver = callbacks.ModelCheckpoint(tmp_path / "m", save_freq=1)
    with pytest.raises(DivergenceError, match="weights are not finite at epoch 1, after batch 1, with learning rate"):
        overflowing().fit(X, 1e8 * Y, callbacks=[saver], batch_size=3, shuffle=False, verbose=0)
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------------------------------------------ schedules


@pytest.mark.parametrize(
    "schedule", [lambda epoch: 0.1 / (epoch + 1), lambda epoch, rate: 0.1 if epoch == 0 else rate * epoch / (epoch + 1)]
)
def test_learning_rate_schedule(schedule):
    history = model().fit(X, Y, epochs=3, callbacks=[callbacks.LearningRateScheduler(schedule)], verbose=0)
    np.testing.assert_allclose(history.history["learning_rate"], [0.1, 0.05, 0.1 / 3])


def test_schedule_must_give_a_rate():
    with pytest.raises(TypeError, match="schedule's learning rate: got NoneType None"):
        model().fit(X, Y, callbacks=[callbacks.LearningRateScheduler(lambda epoch: None)], verbose=0)


def test_lambda_callback():
    lines = []
    spy = callbacks.LambdaCallback(
        on_train_begin=lambda logs: lines.append("begin"),
        on_epoch_end=lambda epoch, logs: lines.append((epoch, sorted(logs))),
        on_test_end=lambda logs: lines.append("test"),
        on_train_end=lambda logs: lines.append("end"),
    )
    model().fit(X, Y, validation_split=0.5, callbacks=[spy], verbose=0)
    assert lines == ["begin", "test", (0, ["loss", "val_loss"]), "end"]


# --- the learning rate on a plateau -----------------------------------------------------------------------------------


class Figures(callbacks.Callback):
    """Puts given values in place of the epochs' figures, for the callbacks behind it."""

    def __init__(self, **values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs.update({name: series[epoch] for name, series in self.values.items()})


def rates(values, **options):
    """The learning rate of every epoch, by a fit whose loss is ``values``."""
    made = model()
    watch = [Figures(loss=values), callbacks.ReduceLROnPlateau(monitor="loss", **options)]
    return made.fit(X, Y, epochs=len(values), callbacks=watch, verbose=0).history["learning_rate"]


@pytest.mark.parametrize(
    ("values", "options", "wanted"),
    [
        ([4, 3, 2, 1], {"patience": 1}, [0.1, 0.1, 0.1, 0.1]),
        ([1, 1, 1, 1], {"patience": 1}, [0.1, 0.1, 0.01, 0.001]),
        ([1, 1, 1, 1], {"patience": 0, "factor": 0.5}, [0.1, 0.1, 0.05, 0.025]),
        ([1, 1, 1, 1, 1], {"patience": 2, "factor": 0.5}, [0.1, 0.1, 0.1, 0.05, 0.05]),
        ([1, 2, 0.5, 2, 2, 2], {"patience": 2, "factor": 0.5}, [0.1, 0.1, 0.1, 0.1, 0.1, 0.05]),
        ([1, 1, 1, 1, 1, 1], {"patience": 1, "factor": 0.5, "cooldown": 2}, [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]),
        ([1, 1, 1, 1], {"patience": 1, "min_lr": 0.04}, [0.1, 0.1, 0.04, 0.04]),
        ([1, 0.9999, 0.9998, 0.5], {"patience": 1, "factor": 0.5, "min_delta": 0.01}, [0.1, 0.1, 0.05, 0.025]),
        ([1, 2, 3, 3], {"patience": 1, "factor": 0.5, "mode": "max"}, [0.1, 0.1, 0.1, 0.1]),
    ],
)
def test_reduction_on_a_plateau(values, options, wanted):
    assert rates(values, **options) == pytest.approx(wanted)


def test_reduction_is_told_and_starts_afresh(capsys):
    made, reduce = model(), callbacks.ReduceLROnPlateau("loss", patience=1, factor=0.5, verbose=1)
    for _ in range(2):
        made.optimizer.learning_rate = 0.1
        made.fit(X, Y, epochs=2, callbacks=[Figures(loss=[1, 1]), reduce], verbose=0)
        assert made.optimizer.learning_rate == 0.05
        assert capsys.readouterr().out == "Epoch 2: the learning rate is reduced to 0.05\n"
    assert not reduce.in_cooldown()


def test_reduction_needs_a_figure_and_a_rate_that_can_be_set():
    with pytest.warns(UserWarning, match="ReduceLROnPlateau: 'val_loss' is not among the figures"):
        history = model().fit(X, Y, callbacks=[callbacks.ReduceLROnPlateau()], verbose=0)
    assert history.history["learning_rate"] == [0.1]
    scheduled = models.Sequential([layers.Dense(1, input_shape=(2,))])
    scheduled.compile(optimizers.SGD(optimizers.schedules.CosineDecay(0.1, 10)), "mse")
    with pytest.raises(TypeError, match="ReduceLROnPlateau: got an optimizer whose learning rate follows CosineDecay"):
        scheduled.fit(X, Y, callbacks=[callbacks.ReduceLROnPlateau()], verbose=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 1.0}, "factor: got 1.0, wants .* below 1"),
        ({"patience": -1}, "patience: got -1"),
        ({"cooldown": -1}, "cooldown: got -1"),
        ({"min_lr": -1}, "min_lr: got -1"),
        ({"mode": "least"}, "mode: got 'least'"),
    ],
)
def test_bad_arguments_of_a_reduction(options, message):
    with pytest.raises(ValueError, match=message):
        callbacks.ReduceLROnPlateau(**options)


# --- the end of a fit that diverges -----------------------------------------------------------------------------------


class End(callbacks.Callback):
    """Whether the end of training was told."""

    ended = False

    def on_train_end(self, logs=None):
        self.ended = True


def diverging(rate=1e30, **options):
    made = model(**options)
    made.optimizer.learning_rate = rate
    return made


@pytest.mark.parametrize("metrics", [None, [lambda y_true, y_pred: np.zeros(len(y_true))]], ids=["fused", "layerwise"])
def test_a_fit_that_diverges_ends_quietly(capsys, metrics):
    """The weights are those of the batch before; the figures are NaN, under the names that there were to be."""
    made, end = diverging(metrics=metrics), End()
    history = made.fit(
        X.astype("float32"), Y, batch_size=2, epochs=9, validation_data=(X, Y), verbose=0,
        callbacks=[callbacks.TerminateOnNaN(), end],
    )  # fmt: skip
    assert history.epoch == [0]
    assert list(history.history) == [*made.metrics_names, *(f"val_{name}" for name in made.metrics_names)]
    assert all(math.isnan(value) for (value,) in history.history.values())
    assert end.ended
    assert made.stop_training
    assert all(np.isfinite(weight).all() for weight in made.get_weights())
    out = capsys.readouterr().out
    assert out.startswith("Training ends: the loss is ")
    assert "at epoch 1, batch" in out


def test_an_error_is_raised_where_it_is_asked_for():
    end = End()
    with pytest.raises(RuntimeError, match="at epoch 1, batch 2, with learning rate 1e") as raised:
        diverging().fit(
            X, Y, batch_size=2, epochs=9, verbose=0, callbacks=[callbacks.TerminateOnNaN(raise_error=True), end]
        )
    assert isinstance(raised.value.__cause__, DivergenceError)
    assert not end.ended
    with pytest.raises(TypeError, match="raise_error: got int 1, wants True or False"):
        callbacks.TerminateOnNaN(1)


def test_weights_thrown_out_by_the_last_update_end_quietly_too(capsys):
    made = diverging()
    history = made.fit(X, Y * 1e12, verbose=0, callbacks=[callbacks.TerminateOnNaN()])
    assert history.epoch == [0]
    assert math.isfinite(history.history["loss"][0])
    assert "Training ends: the weights are not finite at epoch 1, after the last batch" in capsys.readouterr().out


@pytest.mark.parametrize("save_freq", ["epoch", 1])
def test_weights_that_cannot_be_saved_end_quietly_too(tmp_path, capsys, save_freq):
    made = diverging()
    save = callbacks.ModelCheckpoint(tmp_path / "m.safetensors", save_freq=save_freq)
    history = made.fit(X, Y * 1e12, epochs=3, verbose=0, callbacks=[save, callbacks.TerminateOnNaN()])
    assert history.epoch == [0]
    assert list(tmp_path.iterdir()) == []
    out = capsys.readouterr().out
    assert out.count("Training ends: the weights are not finite at epoch 1") == out.count("Training ends") == 1


def test_quiet_endings_cost_the_fused_runner_nothing():
    assert not callbacks.TerminateOnNaN().listens_to_batches("train")
    with pytest.raises(DivergenceError):
        diverging().fit(X, Y, batch_size=2, epochs=9, verbose=0)


# --- figures in a file ------------------------------------------------------------------------------------------------


def table(path, separator=","):
    """The file's cells, by line."""
    text = path.read_bytes().decode()
    assert text.endswith("\r\n")
    return [line.split(separator) for line in text.split("\r\n")[:-1]]


def test_figures_are_written_epoch_by_epoch(tmp_path):
    path, seen = tmp_path / "new" / "log.csv", []

    class Look(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(len(table(path)))

    made = model(metrics=["mae"])
    log = [callbacks.CSVLogger(path), Look()]
    history = made.fit(X, Y, epochs=3, validation_split=0.5, callbacks=log, verbose=0)
    header, *rows = table(path)
    assert header == ["epoch", "loss", "mae", "val_loss", "val_mae"]
    assert seen == [2, 3, 4]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    for column, name in enumerate(header[1:], 1):
        assert [float(row[column]) for row in rows] == history.history[name]
    made.fit(X, Y, epochs=1, callbacks=log, verbose=0)
    assert len(table(path)) == 2  # begun anew


def test_columns_stay_those_of_the_first_epoch(tmp_path):
    path, made = tmp_path / "log.csv", model()
    log = callbacks.CSVLogger(path, separator=";")
    made.fit(X, Y, epochs=2, validation_split=0.5, validation_freq=2, callbacks=[log], verbose=0)
    header, first, second = table(path, ";")
    assert header == ["epoch", "loss", "val_loss"]
    assert (first[2], float(second[2])) == ("NA", made.history.history["val_loss"][0])
    log.on_epoch_end(2, {"more": 1.0, "val_loss": np.array([1, 2])})
    assert path.read_text().splitlines()[-1] == '2;NA;"""[1, 2]"""'


@pytest.mark.parametrize("ending", ["\r\n", "\n", ""])
def test_rows_are_added_below_the_columns_of_the_file(tmp_path, ending):
    path = tmp_path / "log.csv"
    path.write_bytes(f"epoch,other,loss\r\n0,1,2{ending}".encode())
    log = callbacks.CSVLogger(path, append=True)
    history = model().fit(X, Y, initial_epoch=1, epochs=2, callbacks=[log], verbose=0)
    lines = path.read_text().splitlines()
    assert lines == ["epoch,other,loss", "0,1,2", f"1,NA,{history.history['loss'][0]}"]


def test_an_empty_or_missing_file_gets_its_columns(tmp_path):
    path = tmp_path / "log.csv"
    for rows in (1, 2):
        model().fit(X, Y, callbacks=[callbacks.CSVLogger(path, append=True)], verbose=0)
        assert [line[0] for line in table(path)] == ["epoch", *["0"] * rows]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda path: callbacks.CSVLogger(path, ""), ValueError, "separator: got '', wants one character"),
        (lambda path: callbacks.CSVLogger(path, "\n"), ValueError, "separator: got "),
        (lambda path: callbacks.CSVLogger(path, b","), TypeError, "separator: got bytes"),
        (lambda path: callbacks.CSVLogger(path, append=1), TypeError, "append: got int 1"),
        (lambda path: callbacks.CSVLogger(3), TypeError, "filename: got int 3"),
        (lambda path: callbacks.CSVLogger(path.parent), OSError, "filename: the figures cannot be written"),
        (lambda path: callbacks.CSVLogger(path / "log.csv"), OSError, "filename: cannot make the folder"),
        (
            lambda path: callbacks.CSVLogger(path, append=True),
            ValueError,
            "filename: got .* whose first line is 'mine'",
        ),
    ],
)
def test_a_place_that_figures_cannot_go_to_is_found_before_training(tmp_path, make, error, message):
    path, made = tmp_path / "mine.txt", model()
    path.write_text("mine")
    with pytest.raises(error, match=message):
        made.fit(X, Y, callbacks=[make(path)], verbose=0)
    assert path.read_text() == "mine"
    assert made.optimizer.iterations == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full disk is made with Linux's /dev/full")
def test_a_full_disk_loses_no_training(tmp_path):
    made = model()
    with pytest.warns(UserWarning, match=r"figures cannot be written \(No space left on device\).*; training goes on"):
        history = made.fit(X, Y, epochs=3, callbacks=[callbacks.CSVLogger("/dev/full")], verbose=0)
    assert history.epoch == [0, 1, 2]


def test_rows_that_found_no_room_are_written_later(tmp_path, monkeypatch):
    path, log, room = tmp_path / "log.csv", callbacks.CSVLogger(tmp_path / "log.csv"), iter([True, False, False, True])
    real = callbacks.CSVLogger._write

    def write(self):
        if not next(room):
            raise OSError(28, "No space left on device")
        real(self)

    monkeypatch.setattr(callbacks.CSVLogger, "_write", write)
    with pytest.warns(UserWarning, match="training goes on") as warned:
        model().fit(X, Y, epochs=4, callbacks=[log], verbose=0)
    assert len(warned) == 2
    assert [line[0] for line in table(path)] == ["epoch", "0", "1", "2", "3"]


def test_half_a_row_is_taken_back(tmp_path):
    resource = pytest.importorskip("resource")
    log = callbacks.CSVLogger(tmp_path / "log.csv")
    log.on_train_begin()
    log.on_epoch_end(0, {"loss": 1.0})
    kept, before = (tmp_path / "log.csv").stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kept + 3, before[1]))
    try:
        with pytest.warns(UserWarning, match="figures cannot be written"):
            log.on_epoch_end(1, {"loss": 2.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "log.csv").stat().st_size == kept
    log.on_epoch_end(2, {"loss": 3.0})
    assert [line[0] for line in table(tmp_path / "log.csv")] == ["epoch", "0", "1", "2"]
