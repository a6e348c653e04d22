"""A case measured: its contenders checked, timed by turns and compared; a gauge read; what was promised of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from dataclasses import fields as dataclass_fields
from typing import Any

from bench import attempts, timing
from bench.load import Watch
from bench.suite import FASTNN, NAIVE, NOT_INSTALLED, Case, Gauge
from fastnn import get_num_threads

# Attempts at a line in one process: the second and third where others took a core that the first one needed.
_MOST_ATTEMPTS = 3


@dataclass(frozen=True)
class Effort:
    """How long one process measures: blocks of a kernel's line, of an epoch's, of plain Python; readings of a gauge.

    ``passes`` is how many processes do so, one after the other.
    """

    blocks: int
    slow_blocks: int
    naive_blocks: int
    block_seconds: float
    readings: int = 1
    passes: int = 1


# Passes, because a virtual machine's cores share a cache at one time and none at another, for seconds or minutes: the
# same epoch on two threads took 92 ms, and 160 in the next process.
FULL = Effort(blocks=4, slow_blocks=2, naive_blocks=1, block_seconds=0.04, readings=5, passes=3)
QUICK = Effort(blocks=3, slow_blocks=3, naive_blocks=1, block_seconds=0.02)


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
    """One line of the table: seconds a call of every contender, block by block, and the work that a call does.

    ``work`` is counted in what the unit is made of; ``notes`` say whose is less than the line's. ``ours`` is whom the
    others are compared with. ``limit`` is the most that the machine can do in the unit, where that was measured, and
    ``share_at_least`` the share of it that the project promises.
    """

    name: str
    unit: str
    samples: Mapping[str, timing.Sample]
    work: Mapping[str, float]
    notes: Mapping[str, str]
    at_least: Mapping[str, float] = field(default_factory=dict)
    threads: int = 1
    others: tuple[float, ...] = (0.0,)  # cores that other processes used meanwhile, attempt by attempt
    ours: str = FASTNN
    limit: float | None = None
    share_at_least: float | None = None

    @property
    def disturbed(self) -> bool:
        """Whether other processes took a core that the line needed."""
        return attempts.disturbed(self.others, self.threads)

    @property
    def label(self) -> str:
        """The name, marked where others disturbed the line."""
        return f"{self.name}{' *' if self.disturbed else ''}"

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds a call, by contender."""
        return {name: sample.seconds for name, sample in self.samples.items()}

    @property
    def rates(self) -> Mapping[str, float]:
        """Work a second, by contender."""
        return {name: self.work[name] / seconds for name, seconds in self.seconds.items()}

    @property
    def ratios(self) -> Mapping[str, timing.Ratio]:
        """How many times as fast fastnn is, by contender; plain Python is compared by rates, its sizes being others."""
        ours = self.samples[self.ours]
        return {
            name: self._by_rate(sample) if name == NAIVE else timing.ratio(sample, ours)
            for name, sample in self.samples.items()
            if name != self.ours
        }

    @property
    def share(self) -> float | None:
        """Our rate as a share of the limit."""
        return None if self.limit is None else self.rates[self.ours] / self.limit

    def _by_rate(self, theirs: timing.Sample) -> timing.Ratio:
        ours = self.rates[self.ours] / self.work[NAIVE]
        return timing.Ratio(*(ours * seconds for seconds in (theirs.seconds, min(theirs.blocks), max(theirs.blocks))))

    def bars(self) -> Iterator[Bar]:
        """What was promised, by contender."""
        ratios = self.ratios
        for name, bar in self.at_least.items():
            asked = f"at least {bar:g}x"
            if name in ratios:
                ratio = ratios[name]
                yield Bar(self.label, name, f"{timing.figure(ratio.median)}x", asked, ratio.median >= bar)
            else:
                yield Bar(self.label, name, NOT_INSTALLED, asked, None)
        if self.share_at_least is not None and self.share is not None:
            found, asked = f"{self.share:.0%}", f"at least {self.share_at_least:.0%} of the limit"
            yield Bar(self.label, "", found, asked, self.share >= self.share_at_least)

    def and_also(self, other: Line) -> Line:
        """The line with the blocks of another process as well."""
        samples = {name: timing.joined([sample, other.samples[name]]) for name, sample in self.samples.items()}
        return replace(self, samples=samples, others=self.others + other.others)

    def as_json(self) -> dict[str, Any]:
        """The line as plain dictionaries, for ``--json``; beside what it is made of, what follows from that."""
        ratios = {name: asdict(ratio) for name, ratio in self.ratios.items()}
        follows = {"seconds": self.seconds, "rates": self.rates, "ratios": ratios, "disturbed": self.disturbed}
        follows["share"] = self.share
        return {**asdict(self), **follows}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Line:
        """The line that ``as_json`` wrote."""
        own = {f.name: fields[f.name] for f in dataclass_fields(cls)}
        samples = {name: timing.Sample(tuple(sample["blocks"])) for name, sample in fields["samples"].items()}
        return cls(**{**own, "samples": samples, "others": tuple(fields["others"])})


@dataclass(frozen=True)
class Reading:
    """One quantity of ours as often as it was read, and the bounds promised."""

    name: str
    unit: str
    values: tuple[float, ...]
    at_most: float | None
    at_least: float | None

    @property
    def median(self) -> float:
        """Median of the values."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        figures = [timing.figure(value) for value in (self.median, low, high)]
        return "{} [{}-{}]".format(*figures) if low < high else figures[0]

    def bars(self) -> Iterator[Bar]:
        """What was promised."""
        found = f"{timing.figure(self.median)} {self.unit}"
        if self.at_most is not None:
            yield Bar(self.name, "", found, f"at most {self.at_most:g} {self.unit}", self.median <= self.at_most)
        if self.at_least is not None:
            yield Bar(self.name, "", found, f"at least {self.at_least:g} {self.unit}", self.median >= self.at_least)

    def and_also(self, other: Reading) -> Reading:
        """The reading with the values of another process as well."""
        return replace(self, values=self.values + other.values)

    def as_json(self) -> dict[str, Any]:
        """The reading as a plain dictionary, for ``--json``."""
        return {**asdict(self), "median": self.median}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Reading:
        """The reading that ``as_json`` wrote."""
        own = {f.name: fields[f.name] for f in dataclass_fields(cls)}
        return cls(**{**own, "values": tuple(fields["values"])})


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
    return Reading(gauge.name, gauge.unit, tuple(gauge.read(effort.readings)), gauge.at_most, gauge.at_least)


@dataclass(frozen=True)
class _Attempt:
    """The contenders timed by turns once, and the cores that other processes used meanwhile."""

    samples: Mapping[str, timing.Sample]
    others: float


def _undisturbed(made: Sequence[_Attempt]) -> bool:
    return not attempts.disturbed([attempt.others for attempt in made], get_num_threads())


def measure(case: Case, effort: Effort) -> Line:
    """Check that the contenders agree, then time them; AssertionError where they do not."""
    workload = case.make()
    workload.check()
    contenders = workload.contenders
    rivals = {name: contender.run for name, contender in contenders.items() if name != NAIVE}
    blocks = effort.slow_blocks if case.slow else effort.blocks
    made: list[_Attempt] = []
    while not attempts.enough(made, _undisturbed, _MOST_ATTEMPTS):
        watch = Watch()
        samples = timing.interleave(rivals, blocks, effort.block_seconds)
        made.append(_Attempt(samples, round(watch.others(), 2)))
    samples = {name: timing.joined(attempt.samples[name] for attempt in made) for name in rivals}
    if NAIVE in contenders:
        samples[NAIVE] = timing.alone(contenders[NAIVE].run, effort.naive_blocks)
    return Line(
        name=case.name,
        unit=workload.unit,
        samples=samples,
        work={name: contenders[name].rate(1.0) for name in samples},
        notes={name: contender.note for name, contender in contenders.items() if contender.note},
        at_least=case.at_least,
        threads=get_num_threads(),
        others=tuple(attempt.others for attempt in made),
    )
