"""The performance gate: no kernel and no training epoch may become slower than at the baseline, which is a commit.

``python -m ci.perf_gate`` checks that commit out beside the tree (``baseline``), and times the lines of the kernel
suite and two training epochs of both, on this machine, by turns (``sides``, ``contender``): whatever the CPU is, a
change is judged by what it changes. A line fails where it takes about 15% longer than at the baseline; one that takes a
third longer always does.

``--advance [COMMIT]`` moves the baseline forward. ``--unchanged`` compares the tree with itself and succeeds if no
line is called slow; ``--self-test`` makes a product, a kernel of rows, an optimizer and an epoch of the tree's a third
slower than they are, and succeeds if their lines are called slow, and no other line. What earlier commits reached
beside other libraries, and on which CPU, is in ``bench/results``: history to look at, which nothing is judged by.
``--compile`` compiles the baseline's kernels and measures nothing: the gate does not wait for them afterwards.

Everything runs on one thread, which a busy neighbour on another core disturbs little. What threads add is gated on a
few lines only. Where others use the cores meanwhile, such a line is reported but not judged: on two cores, a region
whose second thread has to wait for a time slice takes ten times as long.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from time import perf_counter

from bench import environment  # first, and alone: NumPy must not be loaded before the environment is right
from bench.attempts import disturbed, enough
from bench.timing import duration
from ci import baseline
from ci.sides import Attempt, NoBaselineError, Pair, Side, SideError, Tree

# What must be caught: a line that takes this many times as long.
SLOWER = 4 / 3
# Ratios to the baseline, equally far apart in their logarithms: from CLEAR up a line is not slow, down to CERTAIN it
# is, between them it depends on which side of FLOOR it lies, which is as far from 1 as from 1 / SLOWER.
CLEAR, FLOOR, CERTAIN = SLOWER**-0.25, SLOWER**-0.5, SLOWER**-0.75

# A line is measured until the median of its ratios tells (bench/attempts.py), each time in new processes, on operands
# at other places: what disturbs a measurement comes and goes, and what lies where differs from one process to the next,
# but a slow kernel stays slow. One that seems slow is never so called after fewer attempts than _FEWEST_SLOW, on
# threads, which share caches and memory's bandwidth, after fewer than _FEWEST_SLOW_ON_THREADS; one that
# does not is measured again where the blocks of the first attempt were at odds, a quarter of them below FLOOR: for a
# moment the machine may favour one side by as much as the gate looks for.
_ATTEMPTS = 7
_FEWEST_SLOW, _FEWEST_SLOW_ON_THREADS = 3, 5
_MORE = 3  # times as many blocks in every attempt but the first

# Lines beyond are left to smaller ones, which watch the same code: multiplications of a product, numbers of others.
_MOST_PRODUCTS, _MOST_NUMBERS = 1.2e9, 5e6
# Activations, their derivatives and the losses are loops over a formula each, emitted alike: one of a kind of formula
# stands for others, which are not measured.
_STANDS_FOR: Mapping[str, Sequence[str]] = {
    # comparisons and a few operations
    "relu": (
        *("identity", "relu6", "bounded_relu", "leaky_relu", "hard_sigmoid", "hard_tanh", "hard_silu", "threshold"),
        *("soft_shrink", "hard_shrink", "binary_step", "sign", "softsign", "square", "sqrt", "absolute"),
        "rsqrt",
    ),
    "sigmoid": ("silu", "gelu_tanh", "mish", "exponential", "sin", "cos"),
    "elu": ("celu", "selu", "expm1"),
    "softplus": ("log_sigmoid", "log", "log1p"),
    "gelu": ("erf",),
    "mse": ("mae", "half_sse", "quadratic_cost", "mape", "huber", "hinge", "squared_hinge"),
    "binary_cross_entropy": ("msle", "log_cosh", "poisson", "half_poisson_deviance", "binary_focal_cross_entropy"),
    # pairs of numbers
    "add": ("subtract", "multiply", "average", "divide"),
    "maximum": ("minimum",),
    # steps in another library's form
    "sgd_step": ("heavy_ball_step",),
    "rmsprop_step": ("rmsprop_root_step",),
    "adagrad_step": ("adagrad_root_step",),
    "rprop_step": ("rprop_minus_step",),
    # products of many small matrices
    "attention": ("batch_matmul",),
    # rows
    "softmax": ("log_softmax",),
    "kl_divergence": (
        *("cosine_similarity", "categorical_hinge", "multiclass_hinge", "nll", "categorical_focal_cross_entropy"),
    ),
    "batch_norm": ("batch_norm_inference",),
    # images and sequences, of which a kernel reads windows or steps alike
    "conv2d": ("conv1d", "conv2d_transpose"),
    "max_pool2d": ("average_pool2d",),
    "global_average_pool": ("global_max_pool",),
    "zero_pad2d": ("crop2d",),
    "lstm": ("simple_rnn", "gru"),
    "sequence_mean": ("sequence_max", "step_mask", "mask_steps"),
    "embedding": ("embedding_mask",),
}
_STOOD_FOR = {f"{op}{ending}" for ops in _STANDS_FOR.values() for op in ops for ending in ("", "_backward")}
# Lines gated on two threads as well: the product, a memory-bound op.
_THREADED = re.compile(r"^(matmul 1024x1024x1024|softmax_cross_entropy 4096x1000)$|^epoch ")
_THREADS = 2

# What the self-test makes slow, the lines that must fail by it, epochs of each kind of runner among them, and lines of
# the same kinds that must not.
_SLOWED = ("matmul", "softmax_cross_entropy", "adam_step", "epoch")
_CAUGHT = re.compile(
    r"^(matmul 128x784x512|matmul 512x512x512|softmax_cross_entropy 4096x1000|adam_step .*"
    r"|epoch mnist, .*|epoch reuters, .*|epoch 200 of 10000x16-mean.*)$"
)
_CONTROLS = re.compile(r"^(linear 128x784x512|softmax 4096x1000|sgd_step .*|mse .*|sigmoid 10000)$")

# What an attempt is told by.
_COLUMNS = ("base", "ours", "others")

# Verdicts.
OK, SLOW, FAILS, NO_BASELINE, NOT_JUDGED = "ok", "SLOW", "FAILS", "no baseline", "not judged"

TREE = Tree("the tree", environment.ROOT)


@dataclass(frozen=True)
class Line:
    """A case of the benchmarks on a number of threads."""

    case: str
    threads: int

    def __str__(self) -> str:
        return f"{self.case}, {self.threads} thread{'s' * (self.threads > 1)}"


@dataclass
class Outcome:
    """What was found of a line: attempts at it, or why there can be none."""

    line: Line
    attempts: list[Attempt] = field(default_factory=list)
    obstacle: str = ""  # FAILS or NO_BASELINE
    reason: str = ""

    @property
    def verdict(self) -> str | None:
        """What is known; None while more attempts are needed."""
        return self.obstacle or verdict(self.attempts, self.line.threads)

    def told(self, width: int) -> str:
        """The table's row: seconds a call at the baseline and now, ratio, verdict, and what it took to find it."""
        if self.obstacle:
            return f"{self.line!s:{width}}  {self.obstacle}: {self.reason}"
        base, ours, others = (statistics.median(getattr(one, name) for one in self.attempts) for name in _COLUMNS)
        ratio = _ratio(self.attempts)
        told = f"{self.line!s:{width}}  {duration(base):>8}  {duration(ours):>8}  {ratio:5.2f}  {self.verdict}"
        if len(ratios := [one.ratio for one in self.attempts]) == 1:
            return told
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        return f"{told} after {len(ratios)} attempts of {spread}, others used {others:.1f} cores"


def verdict(attempts: Sequence[Attempt], threads: int) -> str | None:
    """What the attempts at a line on ``threads`` threads say; None while more of them are needed."""
    fewest = _FEWEST_SLOW if threads == 1 else _FEWEST_SLOW_ON_THREADS
    if not enough(attempts, partial(_tell, fewest), _ATTEMPTS):
        return None
    if _ratio(attempts) >= FLOOR:
        return OK
    return NOT_JUDGED if threads > 1 and disturbed([attempt.others for attempt in attempts], threads) else SLOW


def _tell(fewest_slow: int, attempts: Sequence[Attempt]) -> bool:
    """Whether the attempts are no close call."""
    if _ratio(attempts) >= CLEAR:
        return len(attempts) > 1 or attempts[0].low >= FLOOR
    return _ratio(attempts) <= CERTAIN and len(attempts) >= fewest_slow


def _ratio(attempts: Sequence[Attempt]) -> float:
    """How many times as fast as the baseline: the median of the attempts."""
    return statistics.median(attempt.ratio for attempt in attempts)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments ask for; 0 if all is well, 1 if a line is slow, 2 if nothing can be compared."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
    try:
        if options.advance is not None:
            print(f"{baseline.advance(options.advance)}\nNow commit ci/{baseline.FILE.name}.")
            return 0
        if environment.prepared(options.target) != dict(os.environ):
            return environment.run_prepared("ci.perf_gate", arguments, options.target)
        if options.compile:
            return compile_baseline()
        print(environment.heading(environment.facts(with_blas=False)), flush=True)
        only = partial(_matches, options.only)
        run = self_test if options.self_test else partial(unchanged if options.unchanged else gate, only)
        return max(run() for _ in range(options.repeat))
    except (baseline.BaselineError, SideError) as error:
        print(f"perf_gate: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ci.perf_gate", description=(__doc__ or "").partition("\n\n")[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--self-test", action="store_true", help="slow some kernels: succeed if just they are caught")
    mode.add_argument("--compile", action="store_true", help="compile the baseline's kernels, and measure nothing")
    mode.add_argument("--unchanged", action="store_true", help="compare the tree with itself: succeed without an alarm")
    mode.add_argument("--advance", metavar="COMMIT", nargs="?", const="HEAD", help="make COMMIT (HEAD) the baseline")
    parser.add_argument("--only", metavar="REGEX", type=re.compile, default=re.compile(""), help="lines that match")
    parser.add_argument("--repeat", metavar="N", type=_count, default=1, help="do it N times")
    parser.add_argument("--target", choices=environment.TARGETS, default="host", help="as in fastnn bench")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, wants a number of at least 1")
    return int(text)


def _matches(pattern: re.Pattern[str], line: Line) -> bool:
    return pattern.search(str(line)) is not None


def compile_baseline() -> int:
    """Compile the baseline's kernels; 0, for what it cannot compile the gate tells by the line."""
    side = Side(baseline.tree())
    try:
        side.check()
        side.ask("compile")
    except SideError as error:
        print(f"NOTE: {error}")
    finally:
        side.close()
    return 0


def gate(wanted: Callable[[Line], bool]) -> int:
    """Compare the wanted lines with the baseline; 1 if one is slow or fails, or if none could be compared."""
    started = perf_counter()
    base = baseline.tree()
    print(f"{'baseline:':10}{baseline.described()}", flush=True)
    outcomes = compare(base, wanted)
    print(table(outcomes))
    bad = [outcome for outcome in outcomes if outcome.verdict in (SLOW, FAILS)]
    without = sum(outcome.verdict == NO_BASELINE for outcome in outcomes)
    print(f"{len(bad)} of {len(outcomes)} lines slow or failing, {without} without a baseline, {_since(started)}")
    if bad:
        print(f"{SLOW} or {FAILS}: {'; '.join(str(outcome.line) for outcome in bad)}")
        print("If that is meant to be, commit it and move the baseline behind it: python -m ci.perf_gate --advance")
    if without == len(outcomes):
        print("Nothing could be compared. Move the baseline to a commit that can: python -m ci.perf_gate --advance")
    return 1 if bad or without == len(outcomes) else 0


def unchanged(wanted: Callable[[Line], bool]) -> int:
    """Compare the tree's wanted lines with themselves; 1 if any is called slow."""
    started = perf_counter()
    outcomes = compare(TREE, wanted)
    alarms = [outcome for outcome in outcomes if outcome.verdict in (SLOW, FAILS)]
    again = [outcome for outcome in outcomes if len(outcome.attempts) > 1]
    if again:
        print(table(again))
    print(f"unchanged: {len(alarms)} alarms, {len(again)} of {len(outcomes)} lines measured again, {_since(started)}")
    return 1 if alarms else 0


def self_test() -> int:
    """Compare the tree with itself, one of each kind slowed; 0 if the gate sees those, and nothing else."""
    started = perf_counter()
    outcomes = compare(TREE, lambda line: line.threads == 1 and (_caught(line) or _control(line)), _SLOWED)
    print(table(outcomes))
    wrong = [str(outcome.line) for outcome in outcomes if outcome.verdict != (SLOW if _caught(outcome.line) else OK)]
    told = f"{'; '.join(wrong)}: wrong" if wrong else "the slowed lines, and no other, were caught"
    print(f"self-test: {told}, {_since(started)}")
    return 1 if wrong else 0


def _caught(line: Line) -> bool:
    return _CAUGHT.search(line.case) is not None


def _control(line: Line) -> bool:
    return _CONTROLS.search(line.case) is not None


def compare(base: Tree, wanted: Callable[[Line], bool] = lambda _: True, slowed: Sequence[str] = ()) -> list[Outcome]:
    """Measure the lines of the tree that are ``wanted`` beside the base's, each as often as it takes to judge it."""
    with Pair(TREE, base, slowed) as pair:
        known = listed(pair)
        outcomes = [outcome for outcome in known if wanted(outcome.line)]
        if not outcomes:
            raise SideError(f"none of the {len(known)} lines is wanted, such as {known[0].line!s:.60}")
        _attempt(pair, outcomes, 0)
    for number in range(1, _ATTEMPTS):
        left = [outcome for outcome in outcomes if outcome.verdict is None]
        if left:
            with Pair(TREE, base, slowed) as pair:
                _attempt(pair, left, number)
    _progress("")
    return outcomes


def listed(pair: Pair) -> list[Outcome]:
    """The gate's lines, those that the base does not have marked; SideError where the tree's cannot be listed."""
    base = pair.base.tree.name
    names, failed = pair.ours.lines()
    for suite, reason in failed.items():
        raise SideError(f"{pair.ours.tree.name} cannot run bench.{suite}: {reason}")
    known, failed = pair.base.lines()
    for suite, reason in failed.items():
        print(f"NOTE: {base} cannot run bench.{suite}: {reason}")
    if gone := [name for name in gated(known) if name not in names]:
        print(f"NOTE: lines of {base} that the tree has no more: {'; '.join(gone)}")
    missing = f"{base} has no such line"
    return [Outcome(line) if line.case in known else Outcome(line, [], NO_BASELINE, missing) for line in lines(names)]


def lines(names: Sequence[str]) -> list[Line]:
    """What is gated of the cases: on one thread all but the largest, on two what shows that threads work."""
    chosen = gated(names)
    listed = [Line(name, 1) for name in chosen]
    if (os.cpu_count() or 1) < _THREADS:
        print(f"NOTE: one CPU: nothing is measured on {_THREADS} threads")
        return listed
    return listed + [Line(name, _THREADS) for name in chosen if _THREADED.search(name)]


def gated(names: Sequence[str]) -> list[str]:
    """The epochs, of each op that none stands for the cases that are small enough, or its smallest one."""
    names = [name for name in names if name.partition(" ")[0] not in _STOOD_FOR]
    smallest: dict[str, str] = {}
    for name in names:
        op = name.partition(" ")[0]
        if op not in smallest or _size(name) < _size(smallest[op]):
            smallest[op] = name
    return [name for name in names if _size(name) <= 1 or name in smallest.values()]


def _size(name: str) -> float:
    """Multiplications or numbers of a case, by the sizes in its name, as parts of what the gate measures at most."""
    found = [[int(size) for size in sizes.split("x")] for sizes in re.findall(r"\b\d+(?:x\d+)*\b", name)]
    if name.startswith("epoch ") or not found:
        return 0.0
    return max(prod(sizes) / (_MOST_PRODUCTS if len(sizes) > 2 else _MOST_NUMBERS) for sizes in found)


def _attempt(pair: Pair, outcomes: Sequence[Outcome], number: int) -> None:
    """Measure lines once, those that have no obstacle."""
    for position, outcome in enumerate(outcomes, 1):
        if outcome.obstacle:
            continue
        _progress(f"attempt {number + 1}, {position}/{len(outcomes)} {outcome.line}")
        try:
            effort = _MORE if number else 1
            outcome.attempts.append(pair.measure(outcome.line.case, outcome.line.threads, number, effort))
        except SideError as error:
            outcome.obstacle, outcome.reason = FAILS, str(error)
        except NoBaselineError as error:
            outcome.obstacle, outcome.reason = NO_BASELINE, str(error)


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as text."""
    width = max(len(str(outcome.line)) for outcome in outcomes)
    return "\n".join([f"{'':{width}}  baseline       now  ratio", *(outcome.told(width) for outcome in outcomes)])


def _since(started: float) -> str:
    return f"{perf_counter() - started:.0f} s"


def _progress(text: str) -> None:
    """What is being measured, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
