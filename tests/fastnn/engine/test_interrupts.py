"""Interrupts: whatever a signal hits, weights, slots and iterations are those of one whole step, and fit goes on."""

from __future__ import annotations

import itertools
import signal
import threading
from time import perf_counter, sleep

import numpy as np
import pytest
from interrupting import interrupted_at

import fastnn
from fastnn import callbacks, engine, layers, models, ops, optimizers, programs, progress, utils
from fastnn.engine import cpu, pace, recorded
from fastnn.engine.session import Session

pytestmark = pytest.mark.usefixtures("control_c")

ROWS, BATCH, FEATURES = 60, 16, 12
STEPS = -(-ROWS // BATCH)
OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.05),
    "rmsprop": lambda: optimizers.RMSprop(0.01),
    "adam": lambda: optimizers.Adam(0.01),
    "nesterov, clipped": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True, global_clipnorm=0.5),
}
RNG = np.random.default_rng(2)
X = {"dense": RNG.standard_normal((ROWS, FEATURES)).astype("float32")}
X["sparse"] = np.where(RNG.random(X["dense"].shape) < 0.15, X["dense"], 0).astype("float32")
Y = RNG.integers(0, 3, ROWS)


@pytest.fixture
def one_step_a_call(monkeypatch):
    """Every compiled call makes one step, or predicts the fewest rows."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 0.0)


@pytest.fixture
def threads_pay(monkeypatch):
    """However little work there is."""
    from fastnn.kernels.cpu.teams import threads

    monkeypatch.setattr(threads, "SERIAL_BELOW_NS", 0.0)


def model(optimizer="adam"):
    utils.set_random_seed(1)
    made = models.Sequential([layers.Input((FEATURES,)), layers.Dense(9, "tanh"), layers.Dense(3, "softmax")])
    made.compile(OPTIMIZERS[optimizer](), "sparse_categorical_crossentropy", ["accuracy"])
    return made


def fit(made, kind="dense", rows=ROWS, **options):
    return made.fit(X[kind][:rows], Y[:rows], batch_size=BATCH, shuffle=False, verbose=0, **options)


def state(made):
    """Weights, slots and iterations, as bytes."""
    slots = [array.tobytes() for path in made.optimizer.state.values() for array in path.values()]
    return made.optimizer.iterations, *(array.tobytes() for array in made.get_weights()), *slots


def after(steps, optimizer, kind, threads=1):
    """The state after so many steps, made without any interrupt."""
    made = model(optimizer)
    made.optimizer.build(made.weights)
    fit(made, kind, epochs=steps // STEPS, threads=threads)
    if steps % STEPS:
        fit(made, kind, rows=min(ROWS, steps % STEPS * BATCH), threads=threads)
    return state(made)


class Interrupted:
    """Stands for a kernel or an op: a signal comes before or after one of its calls."""

    def __init__(self, kernel, call, when, number=signal.SIGINT):
        self.kernel, self.call, self.when, self.number = kernel, call, when, number
        self.calls = 0

    def __getattr__(self, name):
        return getattr(self.kernel, name)

    def __call__(self, *arguments, **options):
        self.calls += 1
        if self.calls == self.call and self.when == "before":
            signal.raise_signal(self.number)
        result = self.kernel(*arguments, **options)
        if self.calls == self.call and self.when == "after":
            signal.raise_signal(self.number)
        return result


# ------------------------------------------------------------------------------------------------------- at every point

# Python cannot raise what a signal does to a generator that it throws away, or to what others have it call when it
# looks for garbage, as JAX does: the interrupt is lost then, and what it hit goes on.
discards = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize(("runner", "listens"), [("fused", False), ("fused", True), ("layerwise", False)])
@pytest.mark.parametrize(("kind", "optimizer"), [("dense", "adam"), ("sparse", "rmsprop")])
@pytest.mark.parametrize("apart", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("one_step_a_call")
@discards
def test_interrupts_at_any_line_of_a_fit(apart, runner, listens, kind, optimizer, monkeypatch):
    """Also where a callback wants the arrays up to date after every batch."""
    if runner == "layerwise":
        monkeypatch.setitem(engine.RUNNERS, "fused", engine.LayerwiseRunner)
    listeners = [callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)] if listens else []
    whole = [after(steps, optimizer, kind) for steps in range(STEPS + 1)]
    seen = set()
    for point in itertools.count(1, apart * (13 if runner == "fused" else 31)):
        made = model(optimizer)
        made.optimizer.build(made.weights)
        if not interrupted_at(point, lambda made=made: fit(made, kind, threads=1, callbacks=listeners)):
            break
        assert state(made) == whole[made.optimizer.iterations]
        seen.add(made.optimizer.iterations)
    assert seen == set(range(STEPS + 1))


@discards
def test_interrupts_at_any_line_of_set_weights():
    made = model()
    old, new = ([np.full_like(w, value) for w in made.get_weights()] for value in (1.0, 2.0))
    for point in itertools.count(1):
        made.set_weights(old)
        if not interrupted_at(point, lambda: made.set_weights(new)):
            break
        assert len({float(number) for w in made.get_weights() for number in w.ravel()}) == 1
    assert point > 10


# ----------------------------------------------------------------------------------------------------- the fused runner


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", X)
@pytest.mark.usefixtures("one_step_a_call", "threads_pay")
def test_an_interrupted_fit_is_one_that_made_fewer_steps(kind, optimizer, when, threads, monkeypatch):
    from fastnn.kernels.cpu.epochs import epoch

    for call in (1, 3, STEPS, STEPS + 2):
        made = model(optimizer)
        with monkeypatch.context() as patch:
            patch.setattr(epoch, "train", Interrupted(epoch.train, call, when))
            with pytest.raises(KeyboardInterrupt):
                fit(made, kind, epochs=3, threads=threads)
        assert made.optimizer.iterations == call
        assert state(made) == after(call, optimizer, kind)
        assert made.history.epoch == list(range((call - 1) // STEPS if call % STEPS else call // STEPS - 1))
        # and goes on as one that was never interrupted
        fit(made, kind, threads=threads)
        other = model(optimizer)
        fit(other, kind, epochs=call // STEPS)
        if call % STEPS:
            fit(other, kind, rows=call % STEPS * BATCH)
        fit(other, kind)
        assert state(made) == state(other)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", X)
@pytest.mark.usefixtures("threads_pay")
def test_calls_of_any_length_train_alike(kind, threads, monkeypatch):
    results = []
    for seconds in (0.0, 1e9):
        monkeypatch.setattr(pace, "CALL_SECONDS", seconds)
        made = model("rmsprop")
        history = fit(made, kind, epochs=3, threads=threads).history
        results.append((history, state(made)))
    assert results[0] == results[1]


def test_calls_last_as_long_as_they_should():
    measured = pace.Pace(least=4)
    assert measured.amount == 4
    measured.measured(4, 4e-4)
    assert measured.amount == pytest.approx(pace.CALL_SECONDS / 1e-4, abs=1)
    measured.measured(500, 500 * pace.CALL_SECONDS / 20)  # others were at work
    assert measured.amount == 20
    measured.measured(20, 60.0)
    assert measured.amount == 4


@pytest.mark.parametrize("call", [1, 2])
def test_an_epoch_is_made_in_calls_of_that_length(call, monkeypatch):
    """A clock of its own: each step takes a third of what a call should."""
    from fastnn.kernels.cpu.epochs import epoch

    now, calls, train = [0.0], [], epoch.train

    class Slow(Interrupted):
        def __call__(self, dtype, nanoseconds, *arguments):
            order = arguments[6]
            calls.append(-(-order.size // 2))
            now[0] += calls[-1] * pace.CALL_SECONDS / 3
            train(dtype, nanoseconds, *arguments)

    monkeypatch.setattr(cpu, "perf_counter", lambda: now[0])
    monkeypatch.setattr(epoch, "train", Slow(train, 0, ""))
    model().fit(X["dense"], Y, batch_size=2, epochs=2, verbose=0)
    assert calls[0] == 1
    assert sum(calls) == 60
    assert max(calls) <= 3


@pytest.mark.usefixtures("one_step_a_call")
def test_a_handler_that_raises_nothing(monkeypatch):
    """It runs at a whole step, with the arrays up to date, and training goes on."""
    from fastnn.kernels.cpu.epochs import epoch

    made, seen = model(), []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(state(made)))
    try:
        monkeypatch.setattr(epoch, "train", Interrupted(epoch.train, 2, "before"))
        fit(made)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert seen == [after(2, "adam", "dense")]
    assert state(made) == after(STEPS, "adam", "dense")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.usefixtures("one_step_a_call")
def test_interrupts_while_weights_stay_in_panels(when, monkeypatch):
    """In any of the epochs between which nobody looks at the weights."""
    from fastnn.kernels.cpu.epochs import epoch

    for call in range(1, 2 * STEPS + 1):
        made = model("rmsprop")
        with monkeypatch.context() as patch:
            patch.setattr(epoch, "train", Interrupted(epoch.train, call, when))
            with pytest.raises(KeyboardInterrupt):
                fit(made, "sparse", epochs=3)
        assert state(made) == after(call, "rmsprop", "sparse")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.usefixtures("one_step_a_call")
def test_an_error_out_of_nowhere(when, monkeypatch):
    """As ``PyThreadState_SetAsyncExc`` raises one in any thread: the compiled call never returns."""
    from fastnn.kernels.cpu.epochs import epoch

    class Broken(Interrupted):
        def __call__(self, *arguments):
            self.calls += 1
            if self.when == "after" or self.calls != self.call:
                self.kernel(*arguments)
            if self.calls == self.call:
                raise MemoryError

    for call in range(1, STEPS + 1):
        made = model("rmsprop")
        with monkeypatch.context() as patch:
            patch.setattr(epoch, "train", Broken(epoch.train, call, when))
            with pytest.raises(MemoryError):
                fit(made, "sparse")
        assert state(made) == after(call - (when == "before"), "rmsprop", "sparse")


@pytest.mark.usefixtures("one_step_a_call")
def test_one_interrupt_behind_the_other(monkeypatch):
    """The second one comes when the first has ended the epoch, before the arrays are up to date."""
    store = Session.store

    def interrupted(session):
        signal.raise_signal(signal.SIGINT)
        store(session)

    class Line(progress.Progress):
        def _step(self, step, logs):
            if step == 1:
                signal.raise_signal(signal.SIGINT)

        def open(self, title, steps):
            pass

    made = model()
    with monkeypatch.context() as patch:
        patch.setattr(Session, "store", interrupted)
        patch.setattr(models.fitting, "progress", lambda verbose: Line("bar"))
        with pytest.raises(KeyboardInterrupt):
            fit(made)
    assert state(made) == after(2, "adam", "dense")


def test_a_fit_in_a_thread():
    """Handlers run in the main thread; the other one's fit goes on meanwhile, and to its end."""
    made, begun = model(), threading.Event()

    class Begun(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            begun.set()

    thread = threading.Thread(target=lambda: fit(made, epochs=200, threads=2, callbacks=[Begun()]))

    def interrupted():
        thread.start()
        begun.wait()
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    thread.join()
    assert state(made) == after(200 * STEPS, "adam", "dense")


@pytest.mark.usefixtures("one_step_a_call")
def test_the_progress_line_fails(monkeypatch):
    """A terminal that goes away."""

    class Gone(progress.Progress):
        def __init__(self):
            super().__init__("bar")

        def open(self, title, steps):
            pass

        def _step(self, step, logs):
            assert logs().keys() == {"loss", "accuracy"}
            if step == 1:
                raise BrokenPipeError

    made = model()
    with monkeypatch.context() as patch:
        patch.setattr(models.fitting, "progress", lambda verbose: Gone())
        with pytest.raises(BrokenPipeError):
            fit(made)
    assert state(made) == after(2, "adam", "dense")


def test_iterations_in_callbacks():
    made, seen = model(), []

    class Watch(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.optimizer.iterations)

    class WatchBatches(Watch):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(self.model.optimizer.iterations)
            if batch == 2 and len(seen) > STEPS:
                signal.raise_signal(signal.SIGINT)

    fit(made, epochs=2, callbacks=[Watch()])
    assert seen == [STEPS, 2 * STEPS]
    made, seen[:] = model(), []
    with pytest.raises(KeyboardInterrupt):
        fit(made, epochs=2, callbacks=[WatchBatches()])
    assert seen == [1, 2, 3, 4, 4, 5, 6, 7]
    assert state(made) == after(7, "adam", "dense")


def test_an_interrupt_while_kernels_compile(monkeypatch):
    from fastnn.kernels.cpu.epochs import epoch

    def compiled(dtype):
        signal.raise_signal(signal.SIGINT)

    made = model()
    with monkeypatch.context() as patch:
        patch.setattr(epoch.train, "compiled", compiled)
        with pytest.raises(KeyboardInterrupt):
            fit(made)
    assert made.optimizer.iterations == 0
    fit(made)
    assert state(made) == after(STEPS, "adam", "dense")


@pytest.mark.parametrize("runner", ["fused", "layerwise"])
@discards
def test_train_on_batch(runner, monkeypatch):
    if runner == "layerwise":
        monkeypatch.setitem(engine.RUNNERS, "fused", engine.LayerwiseRunner)
    made, whole = model(), []
    made.optimizer.build(made.weights)
    for _ in range(3):
        whole.append(state(made))
        made.train_on_batch(X["dense"], Y)
    seen = set()
    for point in itertools.count(1, 23):
        made = model()
        made.optimizer.build(made.weights)

        def twice(made=made):
            for _ in range(2):
                made.train_on_batch(X["dense"], Y)

        if not interrupted_at(point, twice):
            break
        assert state(made) == whole[made.optimizer.iterations]
        seen.add(made.optimizer.iterations)
    assert seen == {0, 1, 2}


# ------------------------------------------------------------------------------------ validation, and layer by layer

VALIDATION = np.tile(X["dense"], (20, 1)), np.tile(Y, 20)


@pytest.mark.parametrize("call", [1, 2, 5])
@pytest.mark.usefixtures("one_step_a_call")
def test_an_interrupt_in_the_validation_of_a_fit(call, monkeypatch):
    """It ends with the compiled call at hand, of many; what the epoch has made stays."""
    from fastnn.kernels.cpu.epochs import epoch

    made, forward = model(), Interrupted(epoch.forward, call, "after")
    monkeypatch.setattr(epoch, "forward", forward)
    with pytest.raises(KeyboardInterrupt):
        fit(made, epochs=2, validation_data=VALIDATION)
    assert forward.calls == call
    assert made.history.epoch == []
    assert state(made) == after(STEPS, "adam", "dense")


@pytest.mark.parametrize(
    ("op", "call", "steps"),
    [
        ("linear", 1, 0),
        ("linear", 2 * 2 + 1, 2),  # two layers a step: in the third
        ("linear", 2 * STEPS + 5, STEPS),  # in the validation
        ("adam_step", 2, 2),  # of all parameters: the second step is made first
    ],
)
def test_an_interrupt_of_a_fit_layer_by_layer(op, call, steps, monkeypatch):
    """It ends with the op at hand, or with the update."""
    monkeypatch.setitem(engine.RUNNERS, "fused", engine.LayerwiseRunner)
    made, counted = model(), Interrupted(getattr(ops, op), call, "after")
    with monkeypatch.context() as patch:
        patch.setattr(ops, op, counted)
        with pytest.raises(KeyboardInterrupt):
            fit(made, epochs=2, validation_data=VALIDATION)
    assert counted.calls == call
    assert made.history.epoch == []
    made.optimizer.build(made.weights)
    assert state(made) == after(steps, "adam", "dense")


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_interrupt_of_steps_made_together(call, optimizer, monkeypatch):
    """It ends with the call at hand: all its steps are made."""
    monkeypatch.setitem(engine.RUNNERS, "fused", engine.LayerwiseRunner)
    monkeypatch.setattr(recorded, "OP_BY_OP", 1)
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e9)
    repeats = Interrupted(programs.Program.repeat, call, "after")
    made = model(optimizer)
    with monkeypatch.context() as patch:
        patch.setattr(programs.Program, "repeat", lambda *given, **named: repeats(*given, **named))  # noqa: PLW0108 - a method
        if optimizer == "nesterov, clipped":  # is made one by one
            fit(made, epochs=3)
        else:
            with pytest.raises(KeyboardInterrupt):
                fit(made, epochs=3)
            assert repeats.calls == call
            assert len(made.history.epoch) == call - 1
    assert state(made) == after(made.optimizer.iterations, optimizer, "dense")
    assert made.optimizer.iterations == (3 if repeats.calls == 0 else call) * STEPS
    fit(made)
    assert np.isfinite(made.get_weights()[0]).all()


@pytest.mark.parametrize("apart", [997, pytest.param(97, marks=pytest.mark.slow)])
@discards
def test_interrupts_at_any_line_of_steps_made_together(apart, monkeypatch):
    """In two epochs, of which each has one alone or all the others together."""
    monkeypatch.setitem(engine.RUNNERS, "fused", engine.LayerwiseRunner)
    monkeypatch.setattr(recorded, "OP_BY_OP", 1)
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e9)
    whole = {steps: after(steps, "adam", "dense") for steps in (0, 1, STEPS, 2 * STEPS)}
    seen = set()
    for point in itertools.count(1, apart):
        made = model()
        made.optimizer.build(made.weights)
        if not interrupted_at(point, lambda made=made: fit(made, epochs=2, threads=1)):
            break
        assert state(made) == whole[made.optimizer.iterations]
        seen.add(made.optimizer.iterations)
    assert seen == whole.keys()


# ------------------------------------------------------------------------------------------------- outputs and figures


@pytest.mark.parametrize("kind", X)
@pytest.mark.usefixtures("one_step_a_call")
def test_interrupts_while_outputs_are_computed(kind, monkeypatch):
    from fastnn.kernels.cpu.epochs import epoch

    x, y = np.tile(X[kind], (20, 1)), np.tile(Y, 20)
    made = model()
    before, outputs, figures = state(made), made.predict(x, verbose=0), made.evaluate(x, y, verbose=0)
    for call in (1, 2, 5):
        for use in (lambda: made.predict(x, verbose=0), lambda: made.evaluate(x, y, verbose=0)):
            with monkeypatch.context() as patch:
                forward = Interrupted(epoch.forward, call, "after")
                patch.setattr(epoch, "forward", forward)
                with pytest.raises(KeyboardInterrupt):
                    use()
                assert forward.calls == call
    assert state(made) == before
    assert np.array_equal(made.predict(x, verbose=0), outputs)
    assert made.evaluate(x, y, verbose=0) == figures


@pytest.mark.parametrize("kind", X)
@pytest.mark.parametrize("batch_size", [7, 1000, 10**9])
def test_outputs_do_not_depend_on_the_calls(kind, batch_size, monkeypatch):
    from fastnn.kernels.cpu.epochs import epoch

    x, y = np.tile(X[kind], (40, 1)), np.tile(Y, 40)
    results = []
    for seconds in (0.0, 1e9):
        monkeypatch.setattr(pace, "CALL_SECONDS", seconds)
        made, forward = model(), Interrupted(epoch.forward, 0, "")
        with monkeypatch.context() as patch:
            patch.setattr(epoch, "forward", forward)
            outputs = made.predict(x, batch_size, verbose=0)
        assert forward.calls >= (len(x) / (64 * fastnn.get_num_threads()) if seconds == 0 else 2)
        results.append((outputs.tobytes(), made.evaluate(x, y, batch_size, verbose=0)))
    assert results[0] == results[1]


# --------------------------------------------------------------------------------------------------------- real signals


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
@pytest.mark.parametrize("runner", ["fused", "layerwise"])
@discards
def test_interrupts_at_any_time(runner, monkeypatch):
    """A team of more threads than cores, as on a machine that is busy: some of them are late at every barrier."""
    from fastnn.kernels.cpu.teams.threads import available

    if runner == "layerwise":
        monkeypatch.setitem(engine.RUNNERS, "fused", engine.LayerwiseRunner)
    threads = available() + 2 if runner == "fused" else 1
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((640, 40)).astype("float32"), rng.integers(0, 10, 640)

    def big():
        utils.set_random_seed(1)
        made = models.Sequential([layers.Input((40,)), layers.Dense(256, "relu"), layers.Dense(10, "softmax")])
        made.compile("adam", "sparse_categorical_crossentropy")
        made.optimizer.build(made.weights)
        return made

    class Remember(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            whole.append(state(self.model))

    def end(number, frame):
        raise KeyboardInterrupt

    made = big()
    whole = [state(made)]
    made.fit(x, y, 64, verbose=0, shuffle=False, callbacks=[Remember()], threads=1)
    made = big()
    started = perf_counter()
    made.fit(x, y, 64, verbose=0, shuffle=False, threads=threads)
    seconds = perf_counter() - started
    assert state(made) == whole[-1]
    before, seen = signal.signal(signal.SIGALRM, end), []
    try:
        for _ in range(60):
            made = big()
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, seconds))
                made.fit(x, y, 64, verbose=0, shuffle=False, threads=threads)
                sleep(seconds)  # the timer's signal, where it was later than the fit
            except KeyboardInterrupt:
                seen.append(made.optimizer.iterations)
            assert state(made) == whole[made.optimizer.iterations]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(seen) > 20
