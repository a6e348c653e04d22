"""The page that compares Keras's public names with ours, made of both libraries' names."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ci import keras_names
from docs import text

PATH = "coming-from/keras_names.md"


def pages() -> dict[str, str]:
    """The text of the page by its path."""
    rows = keras_names.rows()
    counts = f"Of {len(rows)} names {_count(rows, _same)} are the same and {_count(rows, _different)} differ"
    return {
        PATH: text.page(
            "# Keras's names",
            f"The public names of Keras {keras_names.saved_version()} beside those of fastnn, made as this site was "
            f"built. {counts}; the rest is missing. Arguments that only Keras's own machinery takes (its backends, "
            "policies of dtypes, places of channels) are left out. What behaves otherwise is told in "
            "[From Keras](keras.md).",
            *(part for module in keras_names.MODULES for part in _module(module, rows)),
        )
    }


def _module(module: str, rows: list[keras_names.Row]) -> Iterator[str]:
    own = [row for row in rows if row.keras.rpartition(".")[0] == f"keras.{module}"]
    same, missing = ([_last(row) for row in own if holds(row)] for holds in (_same, _missing))
    yield f"## {module}"
    if same:
        yield f"The same: {', '.join(same)}."
    different = [(_last(row), "; ".join(map(_said, row.differing))) for row in own if _different(row)]
    yield text.table(("Different", "Here"), different)
    if missing:
        yield f"Missing: {', '.join(missing)}."


def _same(row: keras_names.Row) -> bool:
    return row.ours is not None and not row.differing


def _different(row: keras_names.Row) -> bool:
    return row.ours is not None and bool(row.differing)


def _missing(row: keras_names.Row) -> bool:
    return row.ours is None


def _count(rows: list[keras_names.Row], holds: Callable[[keras_names.Row], bool]) -> int:
    return sum(map(holds, rows))


def _last(row: keras_names.Row) -> str:
    return f"`{row.keras.rpartition('.')[2]}`"


def _said(difference: str) -> str:
    """What differs of an argument, "axis: lacking", in words."""
    name, _, what = difference.partition(": ")
    ours, given, theirs = what.partition(" for ")
    if what == "lacking":
        return f"no `{name}`"
    if what == "required here" or (given and ours == "required"):
        return f"`{name}` is required"
    if not given:
        return f"`{name}` is `{what}`"
    return f"`{name}` is `{ours}` by default" + ("" if theirs == "required" else f", not `{theirs}`")
