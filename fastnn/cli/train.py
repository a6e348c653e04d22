"""``fastnn train``: a network on a data set, how good it is and how fast that was."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import fastnn
from fastnn import _environment, backends, checks, layers, optimizers, plotting, regularizers, saving, utils
from fastnn.callbacks import Callback
from fastnn.cli.arguments import UsageError, check_writable_path, checked, number, whole
from fastnn.kernels.precision import ROUNDED
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS
from fastnn.models import Sequential
from fastnn.recipes import RECIPES, Data, Recipe

_OPTIMIZERS = ("adam", "rmsprop", "sgd")
_HELD_OUT = 0.1  # of the training rows, for the validation curves of a plot
_EVALUATION_BATCH = 1024

_EXAMPLES = """\
examples:
  fastnn train                              digits: no files, no network, seconds
  fastnn train --plot digits.png            the same, and its learning curves
  fastnn train mnist --save m.safetensors   the course's network; the model is kept
  fastnn train mnist --hidden 128,64 --optimizer adam --learning-rate 0.002 --l2 1e-5
  FASTNN_DATA=~/data fastnn train reuters   data files from a folder of your own

A data set marked * needs files: they are looked for in the data folder (--data-dir, else the environment variable
FASTNN_DATA), then in your cache, then downloaded. Every file is checked against its published checksum.

The last line's GFLOP/s counts the matrix products of the training passes, from their sizes: 6 * rows * sum(in * out)
over the layers, less 2 * rows * in * out of the first one, whose inputs need no gradient; the clock is the median
epoch's, without validation.
"""


def add(commands: Any) -> None:
    """The command, to a parser's."""
    train = commands.add_parser(
        "train",
        help="train a network on a data set and print how good it is and how fast that was",
        description="Train a dense network on a data set, test it on rows it has not seen, and print a table of both.",
        epilog=f"{_defaults_table()}\n\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.set_defaults(run=_train)
    train.add_argument(
        "dataset",
        nargs="?",
        default="digits",
        metavar="DATASET",
        type=checked(lambda text: checks.one_of("DATASET", text, RECIPES)),
        help=f"{', '.join(RECIPES)} (default: digits)",
    )

    network = train.add_argument_group("the network and its training (defaults: the data set's, below)")
    network.add_argument(
        "--model",
        choices=("dense", "conv"),
        default="dense",
        help="conv: 20 maps of 5x5, 2x2 pooling and 100 units, for data sets of images (default: dense)",
    )
    network.add_argument(
        "--hidden",
        metavar="N[,N...]",
        type=checked(_widths),
        help="units of each hidden layer, as in 64,64; 0 for no hidden layer",
    )
    network.add_argument(
        "--activation",
        metavar="NAME",
        type=checked(lambda text: checks.one_of("--activation", text, ELEMENTWISE_ACTIVATIONS)),
        help=f"of the hidden layers: {', '.join(ELEMENTWISE_ACTIVATIONS)}",
    )
    network.add_argument(
        "--optimizer",
        metavar="NAME",
        type=checked(lambda text: checks.one_of("--optimizer", text, _OPTIMIZERS)),
        help=", ".join(_OPTIMIZERS),
    )
    network.add_argument(
        "--learning-rate",
        metavar="X",
        type=checked(lambda text: checks.real("--learning-rate", number(float, text), minimum=0, open_low=True)),
        help="default: the optimizer's own, 0.001 for adam and rmsprop, 0.01 for sgd; of conv it falls from 0.002 to 0",
    )
    network.add_argument("--epochs", metavar="N", type=whole("--epochs", 1), help="passes over the training rows")
    network.add_argument("--batch-size", metavar="N", type=whole("--batch-size", 1), help="rows in one update")
    network.add_argument(
        "--l2",
        metavar="X",
        default=0.0,
        type=checked(lambda text: checks.real("--l2", number(float, text), minimum=0)),
        help="adds X * (sum of squared weights) to the loss (default: 0)",
    )
    network.add_argument(
        "--seed",
        metavar="N",
        default=0,
        type=whole("--seed", 0, 2**32 - 1),
        help="of initial weights and row order; the same seed gives the same network (default: 0)",
    )

    machine = train.add_argument_group("the machine")
    machine.add_argument(
        "--backend",
        metavar="NAME",
        default="auto",
        type=checked(lambda text: checks.one_of("--backend", text, ("auto", *backends.NAMES))),
        help=f"auto, {', '.join(backends.NAMES)} (default: auto, the fastest that is available)",
    )
    machine.add_argument(
        "--precision",
        metavar="NAME",
        type=checked(lambda text: checks.one_of("--precision", text, ("float32", *ROUNDED, "auto"))),
        help="of the products in training: float32, tf32 (with cuda alone), bfloat16 (on a CPU with AVX512-BF16 up to "
        "twice as fast), or auto, the faster that is available (default: float32)",
    )
    machine.add_argument(
        "--threads",
        metavar="N",
        type=whole("--threads", 1),
        help="CPU threads (default: all; results do not depend on it)",
    )

    files = train.add_argument_group("files")
    files.add_argument("--data-dir", metavar="DIR", type=Path, help="folder of data files (default: FASTNN_DATA)")
    files.add_argument(
        "--save",
        metavar="FILE.safetensors",
        type=checked(lambda text: saving.destination("--save", text, saving.KERAS_MODEL)),
        help="keep the trained model, which fastnn.load_model reads; so does Keras that of a name ending in .keras",
    )
    files.add_argument(
        "--plot",
        metavar="FILE.png",
        type=Path,
        help=f"draw loss and metric, training and validation ({', '.join(plotting.FORMATS)}); "
        f"{_HELD_OUT:.0%}% of the training rows are then held out for validation",
    )
    train.add_argument("--quiet", action="store_true", help="print the final table only")


def _widths(text: str) -> tuple[int, ...]:
    if text.strip() == "0":
        return ()
    return tuple(checks.positive_int("--hidden", number(int, part)) for part in text.split(","))


def _defaults_table() -> str:
    """Return the recipes as the help's table."""
    lines = ["data sets and their defaults:"]
    for name, recipe in RECIPES.items():
        lines.append(f"  {name + ' *' * recipe.from_files:18}{recipe.what}")
        lines.append(f"  {'':18}{recipe.architecture} {_settings(recipe)}, {recipe.epochs} epochs, loss {recipe.loss}")
    return "\n".join(lines)


def _settings(recipe: Recipe) -> str:
    return f"{recipe.activation}, {recipe.optimizer}, batch {recipe.batch_size}"


@dataclass(frozen=True)
class _Result:
    """What the table at the end says: scores by part of the data, the clock, the arithmetic."""

    scores: Mapping[str, Mapping[str, float]]
    epoch_seconds: Sequence[float]
    rows: int
    flop_per_sample: int

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.epoch_seconds)

    def __str__(self) -> str:
        quantities = next(iter(self.scores.values()))
        width = max(map(len, quantities)) + 2
        lines = [" " * width + "".join(f"{part:>12}" for part in self.scores)]
        lines += [
            f"{name:{width}}" + "".join(f"{score[name]:12.4f}" for score in self.scores.values()) for name in quantities
        ]
        speed = self.rows * self.flop_per_sample / self.median_seconds / 1e9
        clock = f"{self.median_seconds:.3g} s an epoch (median of {len(self.epoch_seconds)})"
        return "\n".join([*lines, f"{clock}, {self.rows:,} rows, {speed:,.3g} GFLOP/s"])


def _train(arguments: argparse.Namespace) -> int:
    backend = backends.resolve(arguments.backend)
    _check_paths(arguments)
    if arguments.threads is not None:
        fastnn.set_num_threads(arguments.threads)
    recipe = _chosen_recipe(arguments)
    data = recipe.data(arguments.data_dir)
    if data.note:
        print(f"fastnn: {data.note}", file=sys.stderr)
    if arguments.plot is not None:
        data = data.hold_out(_HELD_OUT)

    utils.set_random_seed(arguments.seed)
    steps = recipe.epochs * -(-len(data.train[0]) // recipe.batch_size)
    model = _build(
        recipe, l2=arguments.l2, learning_rate=arguments.learning_rate, steps=steps, backend=backend,
        precision=arguments.precision,
    )  # fmt: skip
    if not arguments.quiet:
        print(f"{arguments.dataset} {recipe.architecture}: {_settings(recipe)}, seed {arguments.seed}, on {backend}")
        if backend == "cpu" and not _environment.has_kernels("epoch"):
            print("the first run compiles the kernels and keeps them: ten to thirty seconds, once")
    watch = _Stopwatch()
    history = model.fit(
        *data.train,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        validation_data=data.validation,
        callbacks=[watch],
        verbose=0 if arguments.quiet else "auto",
    )
    result = _Result(_scores(model, data), watch.seconds, len(data.train[0]), model.plan().flop_per_sample)
    print(result)
    if arguments.save is not None:
        model.save(arguments.save)
        print(f"model kept in {arguments.save}")
    if arguments.plot is not None:
        score = f"test {plotting.spelled(recipe.metric)} {result.scores['test'][recipe.metric]:.4f}"
        figure = plotting.history_figure(
            history.history,
            title=f"{arguments.dataset} {recipe.architecture}: {score}",
            subtitle=f"{_settings(recipe)}, seed {arguments.seed}; {_rows(data)}",
        )
        plotting.save(figure, arguments.plot)
        print(f"curves drawn in {arguments.plot}")
    return 0


def _check_paths(arguments: argparse.Namespace) -> None:
    """Raise before anything is trained if what is to be kept could not be written at the end."""
    if arguments.data_dir is not None and not arguments.data_dir.is_dir():
        raise UsageError(f"argument --data-dir: {arguments.data_dir} is not a folder")
    for flag in ("save", "plot"):
        path = getattr(arguments, flag)
        if path is not None:
            check_writable_path(f"--{flag}", path)
    if arguments.plot is not None:
        if arguments.plot == arguments.save:
            raise UsageError(f"argument --plot: {arguments.plot} is also where --save keeps the model")
        if arguments.plot.suffix.lower() not in plotting.FORMATS:
            raise UsageError(f"argument --plot: {arguments.plot} ends in none of {', '.join(plotting.FORMATS)}")
        plotting.require()


def _chosen_recipe(arguments: argparse.Namespace) -> Recipe:
    """Return the data set's recipe with what the flags say in place of its defaults."""
    flags = {field.name: getattr(arguments, field.name, None) for field in fields(Recipe)}
    recipe = RECIPES[arguments.dataset]
    if arguments.model == "conv":
        try:
            recipe = recipe.convolutional()
        except ValueError as error:
            raise UsageError(f"argument --model: {error}") from error
    if arguments.optimizer is not None:  # the rates of another one are its own
        recipe = replace(recipe, falling=0.0)
    return replace(recipe, **{name: value for name, value in flags.items() if value is not None})


def _build(
    recipe: Recipe, *, l2: float, learning_rate: float | None, steps: int, backend: str, precision: str | None
) -> Sequential:
    """Return the compiled network, whose learning rate falls for so many steps where the recipe says so."""
    widths = [(units, recipe.activation) for units in recipe.hidden] + [(recipe.outputs, recipe.output_activation)]
    model = Sequential([layers.Input(shape=(recipe.inputs,)), *recipe.front()])
    for units, activation in widths:
        penalty = regularizers.L2(l2) if l2 else None
        model.add(layers.Dense(units, activation=activation, kernel_regularizer=penalty))
    optimizer = optimizers.get(recipe.optimizer)
    if learning_rate is not None:
        optimizer.learning_rate = learning_rate
    elif recipe.falling:
        optimizer.learning_rate = optimizers.schedules.CosineDecay(recipe.falling, steps)
    model.compile(optimizer=optimizer, loss=recipe.loss, metrics=[recipe.metric], backend=backend, precision=precision)
    return model


class _Stopwatch(Callback):
    """Lists in `seconds` how long the training part of each epoch took."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.started: float | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.started = perf_counter()

    def on_test_begin(self, logs: Any = None) -> None:
        self._stop()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.started is not None:
            self.seconds.append(perf_counter() - self.started)
            self.started = None


def _scores(model: Sequential, data: Data) -> dict[str, dict[str, float]]:
    """Return loss and metric of the trained network on each part of the data; the test rows are seen only here."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        name: model.evaluate(*part, batch_size=_EVALUATION_BATCH, verbose=0, return_dict=True)
        for name, part in parts.items()
        if part is not None
    }


def _rows(data: Data) -> str:
    return f"{len(data.train[0]):,} training and {len(data.validation[0]) if data.validation else 0:,} validation rows"
