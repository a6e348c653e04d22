"""The code blocks of the documentation's pages and of the README, and what they need to be run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "pages"

# A fenced block, perhaps indented, below a comment that says what it needs: <!-- test: gpu -->.
_FENCE = re.compile(
    r"(?:^[ ]*<!-- test: (?P<needs>[\w ]+) -->\n\s*)?^(?P<indent>[ ]*)```(?P<language>\w*)[^\n]*\n"
    r"(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)

# What begins a line that belongs to a block.
_MARK = re.compile(r"^\s*(```|<!-- test:)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: where its code begins in the page, and what has to be there for it to run.

    ``needs`` are words: "slow"; "gpu"; a data set of which FASTNN_DATA has the files; else a package to be imported.
    """

    line: int
    language: str
    code: str
    needs: frozenset[str]


def paths() -> list[Path]:
    """The README and all pages that people wrote."""
    return [ROOT / "README.md", *sorted(PAGES.rglob("*.md"))]


def name(path: Path) -> str:
    """What a page is called in tests: its path without the ending."""
    return path.relative_to(ROOT if path.parent == ROOT else PAGES).with_suffix("").as_posix()


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a page, in order; ValueError where a fence or a comment of a test stands alone."""
    found = []
    for match in _FENCE.finditer(text):
        lines = match["code"].splitlines(keepends=True)
        code = "".join(line.removeprefix(match["indent"]) for line in lines)
        line = text.count("\n", 0, match.start("code")) + 1
        found.append(Block(line, match["language"], code, frozenset((match["needs"] or "").split())))
    rest = _FENCE.sub("", text)
    if stray := _MARK.search(rest):
        raise ValueError(f"page: got {stray.group(1)!r} that belongs to no fenced block, wants each to")
    return found


def script(page: list[Block], needs: frozenset[str]) -> str:
    """One script of the Python blocks that need no more than ``needs``, each on the lines where the page has it."""
    lines: list[str] = []
    for block in page:
        if block.language == "python" and block.needs <= needs:
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines) + "\n"


def needed(page: list[Block]) -> list[frozenset[str]]:
    """What the page's Python blocks need, each set once: a page is run once for each."""
    return sorted({block.needs for block in page if block.language == "python"}, key=sorted)


def commands(page: list[Block]) -> list[str]:
    """The commands of the page's shell blocks, parts joined by ``&&`` apart, without comments and variables."""
    found = []
    for block in page:
        if block.language == "sh":
            for line in block.code.replace("\\\n", " ").splitlines():
                spoken = re.sub(r"(^|\s)#.*|^([A-Z_]+=\S+ )+", "", line)
                found += [" ".join(part.split()) for part in spoken.split("&&") if part.strip()]
    return found
