"""A case measured: its contenders checked, timed by turns and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bench import timing
from bench.load import Watch, disturbed
from bench.suite import FASTNN, NAIVE, NUMPY, Case, Workload
from fastnn import get_num_threads

# A line during which others took cores that it needed is measured once more, and marked if that did not help.
_ATTEMPTS = 2


@dataclass(frozen=True)
class Effort:
    """How long to measure: blocks of a kernel's line, of an epoch's line, and of plain Python."""

    blocks: int
    slow_blocks: int
    naive_blocks: int
    block_seconds: float


FULL = Effort(blocks=9, slow_blocks=5, naive_blocks=3, block_seconds=0.04)
QUICK = Effort(blocks=3, slow_blocks=3, naive_blocks=1, block_seconds=0.02)


@dataclass(frozen=True)
class Line:
    """One line of the table: seconds a call and rate of every contender, fastnn's ratio to the others."""

    name: str
    unit: str
    seconds: Mapping[str, float]
    rates: Mapping[str, float]
    ratios: Mapping[str, timing.Ratio]
    notes: Mapping[str, str]
    at_least: float | None
    others: float = 0.0  # cores that other processes used meanwhile
    disturbed: bool = False

    @property
    def bar_met(self) -> bool | None:
        """Whether the promised ratio to NumPy was reached; None without a promise."""
        return None if self.at_least is None else self.ratios[NUMPY].median >= self.at_least

    def as_json(self) -> dict[str, Any]:
        """The line as plain dictionaries, for ``--json``."""
        return {**asdict(self), "bar_met": self.bar_met}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Line:
        """The line that ``as_json`` wrote."""
        given = {name: value for name, value in fields.items() if name != "bar_met"}
        given["ratios"] = {name: timing.Ratio(**ratio) for name, ratio in fields["ratios"].items()}
        return cls(**given)


def measure(case: Case, effort: Effort) -> Line:
    """Check that the contenders agree, then time them; AssertionError where they do not."""
    workload = case.make()
    workload.check()
    rivals = {name: contender.run for name, contender in workload.contenders.items() if name != NAIVE}
    blocks = effort.slow_blocks if case.slow else effort.blocks
    for _ in range(_ATTEMPTS):
        watch = Watch()
        samples = timing.interleave(rivals, blocks, effort.block_seconds)
        others = watch.others()
        if not (noisy := disturbed(others, get_num_threads())):
            break
    ratios = {name: timing.ratio(sample, samples[FASTNN]) for name, sample in samples.items() if name != FASTNN}
    if NAIVE in workload.contenders:
        samples[NAIVE] = timing.alone(workload.contenders[NAIVE].run, effort.naive_blocks)
        ratios[NAIVE] = _by_rate(workload, samples)
    seconds = {name: sample.seconds for name, sample in samples.items()}
    return Line(
        name=case.name,
        unit=workload.unit,
        seconds=seconds,
        rates={name: workload.contenders[name].rate(time) for name, time in seconds.items()},
        ratios=ratios,
        notes={name: contender.note for name, contender in workload.contenders.items() if contender.note},
        at_least=case.at_least,
        others=round(others, 2),
        disturbed=noisy,
    )


def _by_rate(workload: Workload, samples: Mapping[str, timing.Sample]) -> timing.Ratio:
    """How many times plain Python's rate: its sizes may be smaller."""
    ours = workload.contenders[FASTNN].rate(samples[FASTNN].seconds)
    theirs = [workload.contenders[NAIVE].rate(seconds) for seconds in samples[NAIVE].blocks]
    middle = workload.contenders[NAIVE].rate(samples[NAIVE].seconds)
    return timing.Ratio(ours / middle, ours / max(theirs), ours / min(theirs))
