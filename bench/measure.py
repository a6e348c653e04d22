"""A case measured: its contenders checked, timed by turns and compared; a gauge read; what was promised of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bench import timing
from bench.load import Watch, disturbed
from bench.suite import FASTNN, NAIVE, NOT_INSTALLED, Case, Gauge, Workload
from fastnn import get_num_threads

# A line during which others took cores that it needed is measured once more, and marked if that did not help.
_ATTEMPTS = 2


@dataclass(frozen=True)
class Effort:
    """How long to measure: blocks of a kernel's line, of an epoch's line, of plain Python; readings of a gauge."""

    blocks: int
    slow_blocks: int
    naive_blocks: int
    block_seconds: float
    readings: int = 1


FULL = Effort(blocks=9, slow_blocks=5, naive_blocks=3, block_seconds=0.04, readings=5)
QUICK = Effort(blocks=3, slow_blocks=3, naive_blocks=1, block_seconds=0.02, readings=1)


@dataclass(frozen=True)
class Bar:
    """One promise: of which line, against whom, what was found, what was asked; ``met`` is None without a figure."""

    job: str
    against: str
    found: str
    asked: str
    met: bool | None


@dataclass(frozen=True)
class Line:
    """One line of the table: seconds a call and rate of every contender, fastnn's ratio to the others."""

    name: str
    unit: str
    seconds: Mapping[str, float]
    rates: Mapping[str, float]
    ratios: Mapping[str, timing.Ratio]
    notes: Mapping[str, str]
    at_least: Mapping[str, float] = field(default_factory=dict)
    others: float = 0.0  # cores that other processes used meanwhile
    disturbed: bool = False

    @property
    def label(self) -> str:
        """The name, marked where others disturbed the line."""
        return f"{self.name}{' *' if self.disturbed else ''}"

    def bars(self) -> Iterator[Bar]:
        """What was promised, by contender."""
        for name, bar in self.at_least.items():
            asked = f"at least {bar:g}x"
            if name in self.ratios:
                ratio = self.ratios[name]
                yield Bar(self.label, name, f"{timing.figure(ratio.median)}x", asked, ratio.median >= bar)
            else:
                yield Bar(self.label, name, NOT_INSTALLED, asked, None)

    def as_json(self) -> dict[str, Any]:
        """The line as plain dictionaries, for ``--json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Line:
        """The line that ``as_json`` wrote."""
        ratios = {name: timing.Ratio(**ratio) for name, ratio in fields["ratios"].items()}
        return cls(**{**fields, "ratios": ratios})


@dataclass(frozen=True)
class Reading:
    """One quantity of ours: median, smallest and largest reading, and the bounds promised."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    at_most: float | None
    at_least: float | None

    def __str__(self) -> str:
        figures = [timing.figure(value) for value in (self.median, self.low, self.high)]
        return "{} [{}-{}]".format(*figures) if self.low < self.high else figures[0]

    def bars(self) -> Iterator[Bar]:
        """What was promised."""
        found = f"{timing.figure(self.median)} {self.unit}"
        if self.at_most is not None:
            yield Bar(self.name, "", found, f"at most {self.at_most:g} {self.unit}", self.median <= self.at_most)
        if self.at_least is not None:
            yield Bar(self.name, "", found, f"at least {self.at_least:g} {self.unit}", self.median >= self.at_least)


def skipped(item: Case | Gauge, reason: str) -> list[Bar]:
    """What was promised of something that cannot be measured here."""
    if isinstance(item, Case):
        return [Bar(item.name, name, reason, f"at least {bar:g}x", None) for name, bar in item.at_least.items()]
    bounds = {"at most": item.at_most, "at least": item.at_least}
    return [
        Bar(item.name, "", reason, f"{side} {bound:g} {item.unit}", None)
        for side, bound in bounds.items()
        if bound is not None
    ]


def read(gauge: Gauge, effort: Effort) -> Reading:
    """Read a gauge as often as the effort allows."""
    values = gauge.read(effort.readings)
    return Reading(
        name=gauge.name,
        unit=gauge.unit,
        median=statistics.median(values),
        low=min(values),
        high=max(values),
        at_most=gauge.at_most,
        at_least=gauge.at_least,
    )


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
