"""Notebooks, made of scripts: a page of each, and the notebook itself to be downloaded, without outputs.

    python -m docs.notebook FOLDER    # writes them there

``notebooks/*.py`` are their one source, in the percent form, which editors and Jupyter (by jupytext) open as notebooks.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from docs import text

FOLDER = "notebooks"
_SOURCES = Path(__file__).with_name(FOLDER)
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def sources() -> list[Path]:
    """The scripts, in the order of their names."""
    return sorted(_SOURCES.glob("*.py"))


def notebook(source: Path) -> Any:
    """A script as a notebook: the same one each time, without outputs."""
    made = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    made.metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    for place, cell in enumerate(made.cells):
        cell.id = f"{source.stem}-{place}"
        cell.metadata = {}
    made.nbformat_minor = max(made.nbformat_minor, 5)  # from which on cells have an id
    nbformat.validate(made)
    return made


def pages() -> dict[str, str]:
    """The text of each page, and of each notebook, by its path."""
    made = {}
    for source in sources():
        found = notebook(source)
        made[f"{FOLDER}/{source.stem}.md"] = _page(source.stem, found)
        made[f"{FOLDER}/{source.stem}.ipynb"] = nbformat.writes(found) + "\n"
    return made


def _page(name: str, found: Any) -> str:
    title, *rest = (_cell(cell) for cell in found.cells)
    return text.page(title, f"To be run: [{name}.ipynb]({name}.ipynb).", *rest)


def _cell(cell: Any) -> str:
    return cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"


def main() -> None:
    """Write the notebooks into a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in pages().items():
        if path.endswith(".ipynb"):
            (folder / Path(path).name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
