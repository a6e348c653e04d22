"""Docstrings, signatures and tables as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

# What Markdown or HTML would take for markup in prose and formulas.
_MARKUP = re.compile(r"([\\`*_\[\]<>|#])")

# What is code within prose: ``linear``.
_CODE = re.compile(r"``?(.+?)``?", re.DOTALL)

# Where a paragraph is laid out in lines: from an example on, or a table's first rule.
_LINES = re.compile(r"^(?:>>> |====)", re.MULTILINE)


def escaped(text: str) -> str:
    """Prose as Markdown that shows each of its characters; what stands in backticks as code."""
    parts = _CODE.split(text)
    return "".join(f"`{part}`" if place % 2 else _MARKUP.sub(r"\\\1", part) for place, part in enumerate(parts))


def docstring(doc: str) -> str:
    """A docstring's paragraphs, escaped; its examples and tables as they are."""
    paragraphs = []
    for paragraph in inspect.cleandoc(doc).split("\n\n"):
        title, _, rest = paragraph.partition("\n")
        if rest.startswith("---"):
            paragraphs.append(_section(title, rest.splitlines()[1:]))
            continue
        begin = _LINES.search(paragraph)
        prose, lines = (paragraph, "") if begin is None else (paragraph[: begin.start()], paragraph[begin.start() :])
        kind = "pycon" if lines.startswith(">>>") else "text"
        paragraphs += [escaped(prose), f"```{kind}\n{lines}\n```" if lines else ""]
    return "\n\n".join(filter(None, paragraphs))


def _section(title: str, lines: Sequence[str]) -> str:
    """NumPy's form of arguments or errors: a name, and indented below it what it is."""
    items: list[str] = []
    for line in lines:
        if line.startswith(" "):
            items[-1] += f" {escaped(line.strip())}"
        else:
            items.append(f"- `{line}`:")
    return "\n".join([f"**{title}**", "", *items])


def first_sentence(doc: str) -> str:
    """What a docstring says first, as one line of Markdown."""
    return escaped(inspect.cleandoc(doc).partition("\n\n")[0].replace("\n", " "))


def signature(name: str, function: Callable[..., Any]) -> str:
    """How something is called, as a block of code: in one line where that is short, else a line a parameter."""
    try:
        parameters = [*inspect.signature(function).parameters.values()]
    except ValueError:  # an exception's, say, which Python itself has written
        return f"```python\n{name}(...)\n```"
    shown = [str(each.replace(annotation=inspect.Parameter.empty)) for each in parameters if each.name != "self"]
    kinds = [each.kind for each in parameters if each.name != "self"]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        shown.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    line = f"{name}({', '.join(shown)})"
    if len(line) > 80:
        line = f"{name}(\n" + "".join(f"    {each},\n" for each in shown) + ")"
    return f"```python\n{line}\n```"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown; nothing where there are no rows."""
    body = [*rows]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if body else ""


def page(*parts: str) -> str:
    """Parts of a page, one behind the other; empty ones are left out."""
    return "\n\n".join(filter(None, parts)) + "\n"
