"""What can be set: one table, which the page makes its controls of, checks messages by, and reads addresses with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

from fastnn import checks
from fastnn.playground.problems import FEATURES, PROBLEMS


@dataclass(frozen=True)
class LossChoice:
    """A loss as it is offered: Keras's name, the output's activation, whether labels are 0 and 1, and what it fits."""

    title: str
    loss: str
    output: str
    zero_one: bool = False
    regression: tuple[bool, ...] = (False, True)


LOSSES = {
    "squared": LossChoice("squared error", "mse", "tanh", regression=(False,)),
    "cross_entropy": LossChoice("cross-entropy", "binary_crossentropy", "sigmoid", zero_one=True, regression=(False,)),
    "hinge": LossChoice("hinge", "hinge", "linear", regression=(False,)),
    "mse": LossChoice("mean squared error", "mse", "linear", regression=(True,)),
    "mae": LossChoice("mean absolute error", "mae", "linear", regression=(True,)),
    "huber": LossChoice("Huber", "huber", "linear", regression=(True,)),
}

ACTIVATIONS = ("tanh", "relu", "sigmoid", "linear", "leaky_relu", "elu", "gelu", "swish")


@dataclass(frozen=True)
class Rule:
    """An optimizer or a penalty as it is offered, and its name and options in the library."""

    title: str
    name: str
    options: Mapping[str, float] = field(default_factory=dict)


RULES = {
    "sgd": Rule("SGD", "SGD"),
    "momentum": Rule("SGD, momentum 0.9", "SGD", {"momentum": 0.9}),
    "rmsprop": Rule("RMSprop", "RMSprop"),
    "adam": Rule("Adam", "Adam"),
    "adagrad": Rule("Adagrad", "Adagrad"),
    "nadam": Rule("Nadam", "Nadam"),
}
PENALTIES = {"none": Rule("none", ""), "l1": Rule("L1", "L1"), "l2": Rule("L2", "L2")}
COUNT = 500  # points of a problem, those that test included
MOST_LAYERS, MOST_NEURONS = 6, 8


@dataclass(frozen=True)
class Setting:
    """A row of the table. ``restarts`` tells whether training begins anew when it changes, ``help`` what it does."""

    title: str
    default: Any
    help: str
    restarts: bool = True
    kind: ClassVar[str] = ""

    def checked(self, name: str, value: Any) -> Any:
        """``value`` if it can be set; else an error that names the setting."""
        raise NotImplementedError

    def spelled(self, value: Any) -> str:
        """``value`` as an address has it."""
        return str(value)

    def read(self, text: str) -> Any:
        """The value that an address spells, or the text itself, for the check to refuse."""
        return text

    def described(self) -> dict[str, Any]:
        """The row as the page reads it."""
        return {"kind": self.kind, **{each.name: getattr(self, each.name) for each in fields(self)}}


@dataclass(frozen=True)
class Choice(Setting):
    """One of several, by name; the page shows their titles."""

    kind = "choice"
    choices: Mapping[str, str] = field(default_factory=dict)

    def checked(self, name: str, value: Any) -> str:
        """One of the choices."""
        return checks.one_of(name, value, self.choices)


@dataclass(frozen=True)
class Number(Setting):
    """A number between bounds; the page offers ``offered``, or steps of ``step``."""

    kind = "number"
    minimum: float = 0
    maximum: float = 1
    step: float = 1
    offered: tuple[float, ...] = ()
    unit: str = ""

    @property
    def _whole(self) -> bool:
        return isinstance(self.default, int)

    def checked(self, name: str, value: Any) -> float:
        """A number between the bounds, a whole one where the default is."""
        if self._whole:
            return checks.integer(name, value, int(self.minimum), int(self.maximum))
        number = checks.real(name, value, minimum=self.minimum)
        if number > self.maximum:
            raise ValueError(f"{name}: got {number:g}, wants at most {self.maximum:g}")
        return number

    def spelled(self, value: Any) -> str:
        """As an address has it."""
        return f"{value:d}" if self._whole else f"{value:g}"

    def read(self, text: str) -> Any:
        """What an address spells."""
        try:
            return int(text) if self._whole else float(text)
        except ValueError:
            return text


@dataclass(frozen=True)
class Several(Setting):
    """At least one of several, each once."""

    kind = "several"
    choices: Mapping[str, str] = field(default_factory=dict)

    def checked(self, name: str, value: Any) -> tuple[str, ...]:
        """The chosen ones in the table's order."""
        chosen = _listed(name, value)
        for each in chosen:
            checks.one_of(name, each, self.choices)
        if not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(f"{name}: got {list(chosen)}, wants at least one of {list(self.choices)}, each once")
        return tuple(each for each in self.choices if each in chosen)

    def spelled(self, value: Any) -> str:
        """As an address has it."""
        return ",".join(value)

    def read(self, text: str) -> Any:
        """What an address spells."""
        return text.split(",")


@dataclass(frozen=True)
class Widths(Setting):
    """The numbers of neurons of hidden layers, none at all included."""

    kind = "widths"
    most_layers: int = MOST_LAYERS
    most_neurons: int = MOST_NEURONS

    def checked(self, name: str, value: Any) -> tuple[int, ...]:
        """The widths from the inputs to the output."""
        widths = _listed(name, value)
        if len(widths) > self.most_layers:
            raise ValueError(f"{name}: got {len(widths)} layers, wants at most {self.most_layers}")
        return tuple(checks.integer(name, each, 1, self.most_neurons) for each in widths)

    def spelled(self, value: Any) -> str:
        """As an address has it."""
        return ",".join(map(str, value))

    def read(self, text: str) -> Any:
        """What an address spells."""
        parts = text.split(",") if text else []
        return [int(part) if part.isdecimal() and len(part) < 4 else part for part in parts]


def _listed(name: str, value: Any) -> Sequence[Any]:
    return tuple(checks.instance(name, value, (list, tuple), "a list"))


def _titles(rows: Mapping[str, Any]) -> dict[str, str]:
    return {key: row.title for key, row in rows.items()}


SETTINGS: dict[str, Setting] = {
    "problem": Choice("Problem", "xor", "what is learned", choices=_titles(PROBLEMS)),
    "noise": Number("Noise", 0, "how far points are moved from where they belong", maximum=50, step=5, unit="%"),
    "train_share": Number("Training share", 50, "of the 500 points; the others test", True, 10, 90, 10, unit="%"),
    "seed": Number("Seed", 0, "of points, initial weights, their order and dropout", maximum=2**32 - 1),
    "features": Several("Features", ("x1", "x2"), "what the network is given", choices={key: key for key in FEATURES}),
    "layers": Widths("Hidden layers", (4, 2), "neurons of each"),
    "activation": Choice(
        "Activation", "tanh", "of the hidden layers", choices={name: name.replace("_", " ") for name in ACTIVATIONS}
    ),
    "loss": Choice("Loss", "squared", "what becomes less", choices=_titles(LOSSES)),
    "optimizer": Choice("Optimizer", "sgd", "how weights follow their gradients", False, choices=_titles(RULES)),
    "rate": Number(
        "Learning rate", 0.03, "of the optimizer", False, 1e-6, 10.0,
        offered=(0.00001, 0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    ),
    "batch": Number("Batch size", 10, "points of a step", False, minimum=1, maximum=100),
    "penalty": Choice("Regularisation", "none", "of weights, added to the loss", False, choices=_titles(PENALTIES)),
    "penalty_rate": Number(
        "Regularisation rate", 0.001, "what the penalty is multiplied by", False, 0, 10.0,
        offered=(0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    ),
    "dropout": Number("Dropout", 0, "of hidden neurons, while training", False, maximum=80, step=5, unit="%"),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """A value for each row of the table: ``settings.values["rate"]``, or ``settings.rate``."""

    values: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        if name in SETTINGS:
            return self.values[name]
        raise AttributeError(name)

    @property
    def regression(self) -> bool:
        """Whether values are learned, no labels."""
        return PROBLEMS[self.values["problem"]].regression

    @property
    def trained(self) -> int:
        """How many of the points train."""
        return COUNT * int(self.values["train_share"]) // 100

    def restarts(self, other: Settings) -> bool:
        """Whether training by other settings begins anew."""
        return any(row.restarts and self.values[name] != other.values[name] for name, row in SETTINGS.items())

    def address(self) -> str:
        """What differs from the defaults, as the part of an address behind "#"."""
        changed = {name: row.spelled(self.values[name]) for name, row in SETTINGS.items()
                   if self.values[name] != row.default}  # fmt: skip
        return urlencode(changed, safe=",*^()")


def from_message(given: Any) -> Settings:
    """Settings of what a page has sent, a value for some rows; TypeError or ValueError that names the wrong one."""
    checks.instance("settings", given, dict, "an object")
    for name in given:
        checks.one_of("settings", name, SETTINGS)
    made = Settings({name: row.checked(name, given.get(name, row.default)) for name, row in SETTINGS.items()})
    fitting = [key for key, row in LOSSES.items() if made.regression in row.regression]
    if "loss" not in given:
        return Settings({**made.values, "loss": fitting[0]})
    if made.loss not in fitting:
        kind = "regression" if made.regression else "classification"
        raise ValueError(f"loss: got {made.loss!r}, wants one of {', '.join(map(repr, fitting))} for {kind}")
    return made


def from_address(text: str) -> Settings:
    """Settings of the part of an address behind "#"; errors as of ``from_message``."""
    pairs = dict(parse_qsl(text.rpartition("#")[2], keep_blank_values=True))
    return from_message({name: SETTINGS[checks.one_of("settings", name, SETTINGS)].read(value)
                         for name, value in pairs.items()})  # fmt: skip


def described() -> dict[str, Any]:
    """All that a page has to know to make its controls."""
    return {
        "settings": {name: row.described() for name, row in SETTINGS.items()},
        "regression": [name for name, row in PROBLEMS.items() if row.regression],
        "losses": {name: row.regression for name, row in LOSSES.items()},
    }
