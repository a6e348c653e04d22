"""What was measured, read from the saved results as the site is built: no figure of theirs is written in a page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import timing
from docs import text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
SCALING = RESULTS / "scaling"

# The run of ``fastnn bench`` whose tables are shown.
SUITE = RESULTS / "zen5-2-cores.json"

OURS = "fastnn cpu"

# Columns of the others, where they were measured at all; the loops are another matter.
PEERS = ("NumPy", "np.matmul", "PyTorch", "JAX", "Keras", "Keras XLA", "scikit-learn", "float32")

# In a page's text: <!-- made: NAME --> stands for what the function of that name gives.
_PLACE = re.compile(r"^<!-- made: (?P<name>[\w-]+) -->$", re.MULTILINE)


def filled(page: str) -> str:
    """A page with what is made in its places; ValueError for a name that nothing is made under."""

    def made(place: re.Match[str]) -> str:
        name = place["name"]
        if name not in MADE:
            raise ValueError(f"made: got {name!r}, wants {' or '.join(MADE)}")
        return MADE[name]()

    return _PLACE.sub(made, page)


def suite() -> Any:
    """All that the run of ``fastnn bench`` saved."""
    return json.loads(SUITE.read_text(encoding="utf-8"))


def _lines(*beginnings: str) -> Callable[[], str]:
    """A table of the suite's lines whose names begin so."""

    def made() -> str:
        lines = [line for line in suite()["lines"] if line["name"].startswith(beginnings)]
        peers = [peer for peer in PEERS if any(peer in line["ratios"] for line in lines)]
        head = ["", "fastnn", "rate", *(f"x {peer}" for peer in peers), "x plain loops"]
        return text.table(head, (_row(line, [*peers, "naive"]) for line in lines))

    return made


def _row(line: Mapping[str, Any], peers: Sequence[str]) -> list[str]:
    ratios = (line["ratios"].get(peer) for peer in peers)
    return [
        line["name"],
        timing.duration(line["seconds"][OURS]),
        f"{timing.figure(line['rates'][OURS])} {line['unit']}",
        *("" if ratio is None else f"{timing.figure(ratio['median'])}" for ratio in ratios),
    ]


def _promises() -> str:
    """What the project promises beside what was found."""
    bars = suite()["bars"]
    rows = ((bar["job"], bar["against"], bar["found"], bar["asked"], "yes" if bar["met"] else "**no**") for bar in bars)
    met = sum(bar["met"] for bar in bars)
    return f"{met} of {len(bars)} are met.\n\n" + text.table(("", "against", "found", "asked", "met"), rows)


def _conditions() -> str:
    """The machine and the versions that the suite's figures are of."""
    return text.table(("", ""), ((name, text.escaped(fact)) for name, fact in suite()["environment"].items()))


def _report() -> str:
    """The report of the scaling run, its title left to the page; its pictures are drawn as the site is built."""
    report = (SCALING / "report.md").read_text(encoding="utf-8")
    return report.partition("\n\n")[2].strip()


_FACTS = ("cpu", "target", "fastnn", "versions", "python", "commit", "date")


def facts(path: Path) -> dict[str, str]:
    """What a file of results says of where it was measured; nothing where it does not say."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        found = json.loads(content).get("environment", {})
    else:
        lines = (re.match(r"(?:- )?(\w+):\s+(.+)", line) for line in content.splitlines()[:40])
        found = {line[1]: line[2] for line in lines if line}
    return {name: found[name] for name in _FACTS if name in found}


def results() -> Iterator[Path]:
    """The files of results that the repository keeps, of measurements and of runs elsewhere."""
    for folder in (RESULTS, ROOT / "ci" / "results"):
        yield from (path for path in sorted(folder.rglob("*")) if path.suffix in {".txt", ".md", ".json"})


def _machines() -> str:
    """A row for each file of results that says where it comes from."""
    rows = []
    for path in results():
        said = facts(path)
        machine = said.get("cpu") or said.get("target")
        if machine:
            shown = [said.get(name, "") for name in ("fastnn", "commit", "date")]
            rows.append([f"`{path.relative_to(ROOT).as_posix()}`", *(text.escaped(each) for each in (machine, *shown))])
    return text.table(("results", "machine", "as", "commit", "date"), rows)


def _arm64() -> str:
    """What was run as ARM64, as its log says."""
    log = (ROOT / "ci" / "results" / "arm64.txt").read_text(encoding="utf-8")
    return f"```text\n{log.strip()}\n```"


MADE: dict[str, Callable[[], str]] = {
    "arm64": _arm64,
    "conditions": _conditions,
    "elementwise": _lines("relu", "sigmoid", "tanh", "softmax", "binary_cross_entropy", "mse", "dropout"),
    "epochs": _lines("epoch"),
    "machines": _machines,
    "predictions": _lines("predict"),
    "products": _lines("matmul", "linear"),
    "promises": _promises,
    "scaling": _report,
    "steps": _lines("sgd_step", "rmsprop_step", "adam_step"),
}
