"""The two sides of a comparison: processes that are asked by turns, so that only one of them computes at a time."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bench import environment
from bench.load import Watch

# Blocks of each side of a line, and of one of which a call takes long.
_BLOCKS, _LONG_BLOCKS = 10, 5
_LONG_SECONDS = 0.02
# A process that is silent for longer is ended: a kernel's compilation on a busy machine is not.
_ANSWER_SECONDS = 600


class SideError(Exception):
    """A side cannot do what it is asked for."""


class NoBaselineError(Exception):
    """The base cannot."""


@dataclass(frozen=True)
class Tree:
    """A fastnn on disk: its name for the reader, the folder to import it from, and where its kernels are compiled to.

    ``cache`` None leaves compiled kernels where they usually are.
    """

    name: str
    folder: Path
    cache: Path | None = None


@dataclass(frozen=True)
class Attempt:
    """Seconds a call of ours and of the base, the ratios of neighbouring blocks, and the cores that others used."""

    ours: float
    base: float
    ratios: tuple[float, ...]
    others: float = 0.0

    @property
    def ratio(self) -> float:
        """How many times as fast ours is: the median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def low(self) -> float:
        """The lower quartile of the ratios."""
        return statistics.quantiles(self.ratios, n=4, method="inclusive")[0] if len(self.ratios) > 1 else self.ratio


class Side:
    """A process that runs a tree's fastnn; one that ends is started again."""

    def __init__(self, tree: Tree, slowed: Sequence[str] = ()) -> None:
        self.tree = tree
        self.cpu_seconds = 0.0
        self._slowed = slowed
        self._start()

    def _start(self) -> None:
        folders = [str(self.tree.folder), str(environment.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
        if self.tree.cache is not None:
            variables["NUMBA_CACHE_DIR"] = str(self.tree.cache)
        self._connection, theirs = multiprocessing.Pipe()
        command = [sys.executable, "-P", "-m", "ci.contender", str(theirs.fileno()), *self._slowed]
        self._process = subprocess.Popen(command, env=variables, pass_fds=[theirs.fileno()])
        theirs.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """What a method of ``ci.contender.Contender`` returns there; SideError if it fails, ends or never answers."""
        try:
            self._connection.send((method, arguments))
            if not self._connection.poll(_ANSWER_SECONDS):
                self._process.kill()
            result, failure, self.cpu_seconds = self._connection.recv()
        except (EOFError, OSError) as error:
            status = self.close()
            self._start()
            raise SideError(f"{self.tree.name}: its process ended with status {status}") from error
        if failure is not None:
            raise SideError(f"{self.tree.name}: {failure}")
        return result

    def check(self) -> None:
        """Raise SideError unless it imports its own tree's fastnn."""
        for file in self.ask("files"):
            if not Path(file).resolve().is_relative_to(self.tree.folder.resolve()):
                raise SideError(f"{self.tree.name}: imports {file}, wants it from {self.tree.folder}")

    def lines(self) -> tuple[list[str], dict[str, str]]:
        """The names of its lines, and by suite why it has none."""
        names, failed = self.ask("lines")
        return names, failed

    def close(self) -> int:
        """End the process; its exit status."""
        self._connection.close()
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Pair:
    """Both sides, for the length of a ``with`` block; ``slowed`` names what of ours is made slow on purpose."""

    def __init__(self, ours: Tree, base: Tree, slowed: Sequence[str] = ()) -> None:
        self.ours, self.base = Side(ours, slowed), Side(base)

    def __enter__(self) -> Pair:
        try:
            self.ours.check()
            self.base.check()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End both processes."""
        self.ours.close()
        self.base.close()

    def measure(self, name: str, threads: int, place: int, effort: int = 1) -> Attempt:
        """Measure a line by turns, on operands at the same places, in ``effort`` times the usual number of blocks.

        The ratio is the median of those of neighbouring blocks, which see the same machine. SideError where our side
        cannot run the line, NoBaselineError where the base cannot.
        """
        seconds = self.ours.ask("take", name, threads, place)
        self._of_base("take", name, threads, place)
        watch = Watch(self._own_seconds)
        turns = effort * (_BLOCKS if seconds < _LONG_SECONDS else _LONG_BLOCKS)
        blocks = [self._turn(turn) for turn in range(turns)]
        ours, base = (statistics.median(side) for side in zip(*blocks, strict=True))
        return Attempt(ours, base, tuple(b / a for a, b in blocks), watch.others())

    def _turn(self, turn: int) -> tuple[float, float]:
        """A block of ours and one of the base's, in an order that reverses every turn."""
        if turn % 2:
            base = self._of_base("block")
            return self.ours.ask("block"), base
        return self.ours.ask("block"), self._of_base("block")

    def _of_base(self, method: str, *arguments: Any) -> float:
        try:
            answer: float = self.base.ask(method, *arguments)
        except SideError as error:
            raise NoBaselineError(str(error)) from error
        return answer

    def _own_seconds(self) -> float:
        return time.process_time() + self.ours.cpu_seconds + self.base.cpu_seconds
