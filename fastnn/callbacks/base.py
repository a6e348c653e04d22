"""What all callbacks share, how several are called, and the simplest of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from fastnn import checks
from fastnn.engine.protocols import Logs, StepHooks
from fastnn.errors import DivergenceError


class Callback:
    """Base class: override what is wanted. ``self.model`` is the model, ``self.params`` epochs, steps and verbose.

    In a fit ``self.params["metrics"]`` names the figures of an epoch; it is None where a callback of the user's comes
    before, which may add others. Those of the validation come every ``self.params["validation_freq"]`` epochs.
    """

    # What fastnn's own callbacks add to the figures of an epoch, each class for itself; others may add what they like.
    ADDED_FIGURES: ClassVar[tuple[str, ...] | None] = None

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The model that is being trained; None before training."""
        return getattr(self, "_model", None)

    def set_params(self, params: dict[str, Any]) -> None:
        """Told by ``fit`` before training."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Told by ``fit`` before training."""
        self._model = model

    def listens_to_batches(self, kind: str) -> bool:
        """Whether a batch hook of ``kind`` ("train", "test", "predict") does anything here."""
        hooks = [f"on_{kind}_batch_begin", f"on_{kind}_batch_end"]
        if kind == "train":
            hooks += ["on_batch_begin", "on_batch_end"]
        return any(hook in vars(self) or getattr(type(self), hook) is not getattr(Callback, hook) for hook in hooks)

    def leaves_weights(self) -> bool:
        """Whether it looks at no weights and no state before training has ended; others may, and what they hold too."""
        return False

    def takes_divergence(self, error: DivergenceError) -> bool:
        """Whether a fit that diverges ends without ``error`` for this callback's sake, its training stopped."""
        return False

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of ``on_train_batch_begin``."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of ``on_train_batch_end``."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch; epochs count from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation; ``logs`` holds the epoch's figures."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a training batch; batches count from 0."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a training batch; ``logs`` holds the epoch's figures so far."""
        self.on_batch_end(batch, logs=logs)

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch of an evaluation."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch of a prediction."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before training."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After training."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an evaluation, those of ``fit`` included."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After an evaluation, those of ``fit`` included."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """After a prediction."""


class CallbackList:
    """Several callbacks as one."""

    def __init__(self, callbacks: Iterable[Callback], model: Any, params: dict[str, Any]) -> None:
        self.callbacks = list(callbacks)
        self.model = model
        figures: list[str] | None = params.get("metrics")
        for callback in self.callbacks:
            callback.set_params({**params, "metrics": figures} if "metrics" in params else params)
            callback.set_model(model)
            added = vars(type(callback)).get("ADDED_FIGURES")
            figures = None if figures is None or added is None else [*figures, *added]

    def call(self, hook: str, *args: Any) -> None:
        """Call ``hook`` of every callback, in order; one may find that the fit has diverged."""
        for callback in self.callbacks:
            try:
                getattr(callback, hook)(*args)
            except DivergenceError as error:
                self.diverged(error)

    def diverged(self, error: DivergenceError) -> None:
        """Raise ``error``, unless a callback takes it."""
        if not any(callback.takes_divergence(error) for callback in self.callbacks):
            raise error

    def leave_weights(self) -> bool:
        """Whether none looks at weights before training has ended; a class derived from another speaks for itself."""
        return all("leaves_weights" in vars(type(each)) and each.leaves_weights() for each in self.callbacks)

    def step_hooks(self, kind: str, progress: Callable[[int, Callable[[], Logs]], None] | None) -> StepHooks | None:
        """What the runner is to call around every batch of ``kind``; None where nobody listens."""
        listeners = [callback for callback in self.callbacks if callback.listens_to_batches(kind)]
        if not listeners and progress is None:
            return None
        return _Steps(listeners, kind, self.model, progress)


class _Steps:
    """Tells the callbacks that listen, and the progress line, about every batch."""

    def __init__(
        self,
        listeners: Sequence[Callback],
        kind: str,
        model: Any,
        progress: Callable[[int, Callable[[], Logs]], None] | None,
    ) -> None:
        self._begin = [getattr(callback, f"on_{kind}_batch_begin") for callback in listeners]
        self._end = [getattr(callback, f"on_{kind}_batch_end") for callback in listeners]
        self._model = model
        self._progress = progress
        self._training = kind == "train"
        self.every_batch = bool(listeners)

    def begin(self, step: int) -> None:
        """Before batch ``step``."""
        for hook in self._begin:
            hook(step, {})

    def end(self, step: int, logs: Callable[[], Logs]) -> bool:
        """After batch ``step``; True if a callback asked training to stop."""
        if self._end:
            figures = logs()
            for hook in self._end:
                hook(step, figures)
        if self._progress is not None:
            self._progress(step, logs)
        return self._training and bool(self._model.stop_training)


def checked(callbacks: Any) -> list[Callback]:
    """``callbacks`` (None, one or several) as a list; TypeError for anything that is no callback."""
    several = [] if callbacks is None else [callbacks] if isinstance(callbacks, Callback) else callbacks
    if not isinstance(several, (list, tuple)):
        raise TypeError(f"callbacks: got {checks.describe(callbacks)}, wants a list of Callback objects")
    for index, callback in enumerate(several):
        wants = "a Callback object (with parentheses: EarlyStopping(), not EarlyStopping)"
        checks.instance(f"callbacks[{index}]", callback, Callback, wants)
    return list(several)


class History(Callback):
    """The figures of every epoch, in ``history`` by name and ``epoch`` by number; ``fit`` returns it."""

    ADDED_FIGURES = ()

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def leaves_weights(self) -> bool:
        """It looks at figures only."""
        return True

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start empty."""
        self.epoch = []
        self.history = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Append the epoch's figures."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class TerminateOnNaN(Callback):
    """End a fit that diverges quietly: ``fit`` returns, where without this it raises a DivergenceError.

    The message is printed, ``model.stop_training`` is True, the figures of the epoch are NaN, and the hooks of its end
    and of the training's are called. A batch whose loss is not finite changes no weights, unlike in Keras, and its
    ``on_train_batch_end`` is not called. What also counts are gradients and a loss of the validation that are not
    finite, and weights out of bounds behind the last update, or where a callback was to save them.

    With ``raise_error`` the fit ends at once in a RuntimeError, and ``on_train_end`` of no callback is called.
    """

    ADDED_FIGURES = ()

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = checks.instance("raise_error", raise_error, bool, "True or False")
        self._told = False

    def leaves_weights(self) -> bool:
        """It looks at figures only."""
        return True

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start afresh, so that the object can serve several fits."""
        self._told = False

    def takes_divergence(self, error: DivergenceError) -> bool:
        """Stop training, or raise where that is asked for."""
        if self.raise_error:
            raise RuntimeError(str(error)) from error
        if not self._told:
            print(f"Training ends: {error}")
        self._told = True
        self.model.stop_training = True
        return True


class LambdaCallback(Callback):
    """A callback of functions given by the hooks' names, with the hooks' arguments."""

    def __init__(
        self,
        on_epoch_begin: Callable[..., None] | None = None,
        on_epoch_end: Callable[..., None] | None = None,
        on_train_begin: Callable[..., None] | None = None,
        on_train_end: Callable[..., None] | None = None,
        on_train_batch_begin: Callable[..., None] | None = None,
        on_train_batch_end: Callable[..., None] | None = None,
        **hooks: Callable[..., None],
    ) -> None:
        super().__init__()
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **hooks,
        }
        known = [name for name in dir(Callback) if name.startswith("on_")]
        for name, function in given.items():
            checks.one_of("LambdaCallback", name, known)
            if function is not None:
                if not callable(function):
                    raise TypeError(f"{name}: got {checks.describe(function)}, wants a function")
                setattr(self, name, function)
