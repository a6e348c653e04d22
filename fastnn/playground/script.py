"""The program that trains what is set, by itself."""

from __future__ import annotations

from collections.abc import Iterator

from fastnn.playground.settings import COUNT, LOSSES, PENALTIES, RULES, Settings


def script(settings: Settings, epochs: int = 100) -> str:
    """Python over fastnn alone: the same points, weights and order of samples as the page's, for so many epochs."""
    parts = (_imports(settings), _data(settings), _model(settings), _fit(settings, epochs))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _imports(settings: Settings) -> Iterator[str]:
    names = ["layers", "models", "optimizers", *(["regularizers"] if _penalty(settings) else []), "utils"]
    yield "import numpy as np\n"
    yield f"from fastnn import {', '.join(names)}"
    yield "from fastnn.playground.problems import features, points"


def _data(settings: Settings) -> Iterator[str]:
    chosen = ", ".join(f'"{name}"' for name in settings.features)
    yield f"utils.set_random_seed({settings.seed})"
    yield f'x, y = points("{settings.problem}", {COUNT}, noise={settings.noise / 100:g}, seed={settings.seed})'
    yield f"x, y = features(x, [{chosen}]), y[:, np.newaxis]"
    if LOSSES[settings.loss].zero_one:
        yield "y = (y + 1) / 2  # labels 0 and 1"
    yield f"order = np.random.default_rng({settings.seed}).permutation({COUNT})"
    yield f"train, test = order[:{settings.trained}], order[{settings.trained}:]"


def _model(settings: Settings) -> Iterator[str]:
    yield "model = models.Sequential()"
    yield f"model.add(layers.Input(({len(settings.features)},)))"
    penalty = _penalty(settings)
    for place, units in enumerate(settings.layers):
        yield f'model.add(layers.Dense({units}, activation="{settings.activation}"{penalty}))'
        if settings.dropout:
            yield f"model.add(layers.Dropout({settings.dropout / 100:g}, seed={settings.seed + place}))"
    yield f'model.add(layers.Dense(1, activation="{LOSSES[settings.loss].output}"{penalty}))'
    rule = RULES[settings.optimizer]
    options = "".join(f", {name}={value:g}" for name, value in rule.options.items())
    yield f'model.compile(optimizers.{rule.name}({settings.rate:g}{options}), loss="{LOSSES[settings.loss].loss}")'


def _fit(settings: Settings, epochs: int) -> Iterator[str]:
    yield f"model.fit(x[train], y[train], batch_size={settings.batch}, epochs={epochs}, verbose=0)"
    yield 'print(f"test loss {model.evaluate(x[test], y[test], verbose=0):.4f}")'


def _penalty(settings: Settings) -> str:
    """The argument of a layer, or nothing."""
    name = PENALTIES[settings.penalty].name
    if not (name and settings.penalty_rate):
        return ""
    return f", kernel_regularizer=regularizers.{name}({settings.penalty_rate:g})"
