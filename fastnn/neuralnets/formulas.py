"""R's formulas as text: names, comparisons of columns with values, and the same in formulaic's words."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

WANTS = "'response ~ covariate + ...', or two lists of columns: (responses, covariates)"

# A column's name: R's names, which have dots, or any text between backticks.
_NAME = r"(?:`[^`]+`|[^\W\d][\w.]*+|\.)"
_PLAIN = re.compile(rf"\s*{_NAME}\s*(?:\+\s*{_NAME}\s*)*")

# A comparison stands in parentheses, or is all there is between others' or on a side.
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_VALUE = r"\"[^\"]*\"|'[^']*'|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|TRUE|FALSE"
_COMPARED = rf"\s*({_NAME})\s*({'|'.join(_SIGNS)})\s*({_VALUE})\s*"
_COMPARISON = re.compile(rf"(?<![\w.])\({_COMPARED}\)|(?:^|(?<=[(,])){_COMPARED}(?=$|[),])")

# What a formula is made of; a name before a parenthesis is a function's.
_TOKEN = re.compile(rf"\"[^\"]*\"|'[^']*'|\d[\w.]*|({_NAME})(?!\s*\()|{_NAME}|[=!<>]=|.", re.DOTALL)

# Names of R's, as formulaic and Python have them.
_WORDS = {"factor": "C", "as.factor": "C", "TRUE": "True", "FALSE": "False", "^": "**"}


class Comparison(NamedTuple):
    """A column that a formula makes: 1 where another one compares with a value as it says, else 0."""

    name: str
    column: str
    sign: str
    value: str | float

    def holds(self, number: Any) -> bool:
        """Whether a number or class of the column compares so."""
        return bool(_SIGNS[self.sign](number, self.value))


def read(formula: str) -> tuple[list[str], list[Comparison]]:
    """Both sides of a formula, with names in place of comparisons, and these."""
    sides = formula.split("~")
    if len(sides) != 2:
        raise ValueError(f"formula: got {formula!r}, wants {WANTS}")
    found: dict[str, Comparison] = {}

    def named(match: re.Match[str]) -> str:
        column, sign, value = (each for each in match.groups() if each is not None)
        comparison = _comparison(column.strip("`"), sign, value)
        found[comparison.name] = comparison
        return f"`{comparison.name}`"

    sides = [_COMPARISON.sub(named, side.strip()) for side in sides]
    for side in sides:
        left = [token for token in _tokens(side) if token in _SIGNS]
        if left:
            wants = "comparisons of a column with a text or a number, in parentheses"
            raise ValueError(f"formula: got {formula!r} with {left[0]!r}, wants {wants}")
    return sides, [*found.values()]


def _comparison(column: str, sign: str, text: str) -> Comparison:
    name = f"{column} {sign} {text}"
    if text[0] in "\"'":
        return Comparison(name, column, sign, text[1:-1])
    return Comparison(name, column, sign, float(text == "TRUE") if text in ("TRUE", "FALSE") else float(text))


def names(side: str) -> list[str] | None:
    """The names of a side that are added up; None where it is more than that."""
    return [name.strip("`") for name in re.findall(_NAME, side)] if _PLAIN.fullmatch(side) else None


def mentioned(side: str) -> set[str]:
    """The names of a side, but functions'."""
    return {match[1].strip("`") for match in _TOKEN.finditer(side) if match[1]}


def translated(side: str, columns: Sequence[str], others: Sequence[str]) -> str:
    """A side as formulaic reads it, where "." stands for ``others``."""

    def word(token: str) -> str:
        if token == ".":
            return f"({' + '.join(f'`{name}`' for name in others)})"
        return f"`{token}`" if token in columns and not token.isidentifier() else _WORDS.get(token, token)

    return "".join(map(word, _tokens(side)))


def _tokens(side: str) -> list[str]:
    return [match[0] for match in _TOKEN.finditer(side)]


def covariate(name: str) -> str:
    """What R calls a column that formulaic has made: "Speciessetosa" of "Species[T.setosa]", "I(x^2)" of "I(x**2)"."""
    return re.sub(r"\[(?:T\.)?([^\]]+)\]", r"\1", name).replace("`", "").replace(" ** ", "^")


def response(name: str) -> str:
    """What R's neuralnet calls a response that formulaic has made: "setosa" of "Species[setosa]"."""
    found = re.fullmatch(r"[^\[]+\[(?:T\.)?(.+)\]", name)
    return covariate(name) if found is None else found[1]
