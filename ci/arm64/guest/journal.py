"""A plugin of pytest's: it writes down what became of each test, leaves out what is written, and stops in time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where to write, and until when to run."""
    parser.addoption("--journal", type=Path, required=True, help="file of one JSON object a line")
    parser.addoption("--until", type=float, default=float("inf"), help="time.time() after which no test is begun")


def pytest_configure(config: pytest.Config) -> None:
    """Begin."""
    config.pluginmanager.register(_Journal(config.getoption("--journal"), config.getoption("--until")))


class _Journal:
    def __init__(self, path: Path, until: float) -> None:
        self.path, self.until = path, until
        self.session: Any = None
        self.current: dict[str, Any] = {}

    def write(self, **entry: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    @pytest.hookimpl(trylast=True)  # after -k
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        self.session = session
        self.write(collected=[item.nodeid for item in items])
        entries = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
        done = {entry["test"] for entry in entries if "test" in entry}
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
        items[:] = [item for item in items if item.nodeid not in done]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.current = {"test": nodeid, "outcome": "passed", "seconds": 0.0}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.current["seconds"] += report.duration
        if report.failed:
            self.current.update(outcome="failed", why=report.longreprtext)
        elif report.skipped:
            why = report.wasxfail if hasattr(report, "wasxfail") else report.longrepr[2]  # type: ignore[index]
            self.current.update(outcome="skipped", why=why.removeprefix("Skipped: "))

    def pytest_runtest_logfinish(self) -> None:
        self.write(**self.current)
        if time.time() > self.until:
            self.session.shouldstop = "the time is up"
