"""Notebooks, made of scripts: the notebook itself to be downloaded, and a page of it with what its cells gave.

    python -m docs.notebook FOLDER    # writes them there, without outputs

``notebooks/*.py`` are their one source, in the percent form, which editors and Jupyter (by jupytext) open as notebooks.
What a run gave is kept in ``build/notebooks`` until its script, or the folder of data files, is another.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from base64 import b64decode
from pathlib import Path
from typing import Any

import jupytext
import nbformat

import fastnn
from docs import text

FOLDER = "notebooks"
_SOURCES = Path(__file__).with_name(FOLDER)
_KEPT = Path(__file__).parents[1] / "build" / FOLDER
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_SECONDS = 300  # for a cell, at most


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


def executed(source: Path, folder: Path) -> Any:
    """The notebook, run in a folder, with its outputs; nbclient's CellExecutionError where a cell fails."""
    from nbclient import NotebookClient

    folder.mkdir(parents=True, exist_ok=True)
    return NotebookClient(notebook(source), timeout=_SECONDS, resources={"metadata": {"path": str(folder)}}).execute()


def downloads() -> dict[str, str]:
    """The text of each notebook by its path."""
    return {f"{FOLDER}/{source.stem}.ipynb": nbformat.writes(notebook(source)) + "\n" for source in sources()}


def pages() -> dict[str, str | bytes]:
    """Pages, their pictures, and notebooks, by their paths; a notebook is run where no earlier run will do."""
    made: dict[str, str | bytes] = {**downloads()}
    for source in sources():
        made |= page(source.stem, _run(source))
    return made


def page(name: str, found: Any) -> dict[str, str | bytes]:
    """A notebook's page and the pictures of its outputs, by their paths."""
    pictures: dict[str, str | bytes] = {}
    parts = []
    for cell in found.cells:
        parts.append(cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                picture = f"{name}-{len(pictures) + 1}.png"
                pictures[f"{FOLDER}/{picture}"] = b64decode(output["data"]["image/png"])
                parts.append(f"![What the cell above draws]({picture})")
            elif said := output.get("text", "").strip("\n"):
                parts.append(f"```text\n{said}\n```")
    title, *rest = parts
    return {f"{FOLDER}/{name}.md": text.page(title, f"To be run: [{name}.ipynb]({name}.ipynb).", *rest), **pictures}


def _run(source: Path) -> Any:
    depends = source.read_text(encoding="utf-8") + fastnn.__version__ + os.environ.get("FASTNN_DATA", "")
    kept = _KEPT / f"{source.stem}-{hashlib.sha256(depends.encode()).hexdigest()[:12]}.ipynb"
    if not kept.is_file():
        found = executed(source, _KEPT)
        part = kept.with_suffix(".part")
        nbformat.write(found, part)
        part.rename(kept)
    return nbformat.read(kept, as_version=4)


def main() -> None:
    """Write the notebooks into a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in downloads().items():
        (folder / Path(path).name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
