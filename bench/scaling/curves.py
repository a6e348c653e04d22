"""A curve measured and explained: its knees beside the limits that are computed to lie there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.scaling import knees, limits
from bench.scaling.knees import Knee, Law
from bench.scaling.limits import Crossing, Kind
from bench.scaling.measure import Parts, Point
from bench.scaling.sweeps import Sweep

# A sum of two costs bends over a factor of about two on either side of where they are equal.
_NEAR = 2.0


@dataclass(frozen=True)
class Curve:
    """One sweep on one number of threads."""

    sweep: Sweep
    threads: int
    points: Sequence[Point]
    parts: Mapping[int, Parts]

    @cached_property
    def law(self) -> Law:
        """The power law of the cost, with its knees."""
        return knees.fit([point.value for point in self.points], self.costs, [point.spread for point in self.points])

    @cached_property
    def crossings(self) -> list[Crossing]:
        """The limits that are computed to lie within the sweep."""
        return limits.crossings(self.sweep, self.threads, self.parts)

    @cached_property
    def expected(self) -> Law:
        """The power law of what the parts of a step cost together, each measured alone, with its knees."""
        costs = [self._cost(point, sum(self.alone(point).values())) for point in self.points]
        return knees.fit([point.value for point in self.points], costs, [0.0] * len(costs))

    @property
    def costs(self) -> list[float]:
        """Seconds on one core for each useful floating-point operation: flat where nothing changes."""
        return [self._cost(point, point.seconds) for point in self.points]

    @staticmethod
    def _cost(point: Point, seconds: float) -> float:
        return seconds * point.setting.threads / point.setting.useful_flops

    def _around(self, knee: Knee) -> tuple[float, float]:
        """What lies not further off a knee than a factor of two or the next point."""
        values = [point.value for point in self.points]
        at = values[knee.index]
        return min(values[knee.index - 1], at / _NEAR), max(values[knee.index + 1], at * _NEAR)

    def near(self, knee: Knee) -> list[Crossing]:
        """Limits that explain a knee: around it, and bending like it."""
        at = self.points[knee.index].value
        low, high = self._around(knee)
        inside = [crossing for crossing in self.crossings if low <= crossing.value <= high]
        found = [crossing for crossing in inside if crossing.kind.bends(knee.before, knee.after)]
        return sorted(found, key=lambda crossing: abs(math.log(crossing.value / at)))

    def foreseen(self, knee: Knee) -> list[Knee]:
        """Knees of the expected law around a knee that bend like it."""
        low, high = self._around(knee)
        inside = [other for other in self.expected.knees if low <= self.points[other.index].value <= high]
        return [other for other in inside if (other.after > other.before) == (knee.after > knee.before)]

    def passed(self, knee: Knee) -> list[Crossing]:
        """Limits that raised the cost since the knee before this one: where it falls, they are behind it."""
        if knee.after > knee.before:
            return []
        before = [other.index for other in self.law.knees if other.index < knee.index]
        low, high = (self.points[index].value for index in (before[-1] if before else 0, knee.index))
        between = [c for c in self.crossings if low / _NEAR <= c.value <= high and c.kind is Kind.CAPACITY]
        return [crossing for crossing in between if self.effect(crossing) > 1 + knees.TOLERANCE]

    def effect(self, crossing: Crossing) -> float:
        """Cost at twice the crossing's value over that at half of it, between points along the chord; ends are ends."""
        u = np.log([point.value for point in self.points])
        v = np.log(self.costs)
        ends = [math.log(crossing.value * factor) for factor in (1 / _NEAR, _NEAR)]
        low, high = np.interp(ends, u, v)
        return math.exp(high - low)

    def share(self, point: Point) -> float:
        """Share of the peak of as many threads, zeros counted as work."""
        return point.flops / point.seconds / self.parts[point.setting.threads].peak

    def useful_share(self, point: Point) -> float:
        """Share of the peak of as many threads, products of zeros not counted."""
        return self.share(point) * point.setting.useful_flops / point.setting.flops

    @property
    def best(self) -> Point:
        """The point nearest to the peak."""
        return max(self.points, key=self.useful_share)

    def alone(self, point: Point) -> dict[str, float]:
        """Seconds a sample by part, each measured alone."""
        return limits.times(point.setting, self.parts[point.setting.threads])
