"""The examples' pages: each is run as the site is built, for what it prints and the pictures that it draws.

What a run gave is kept in ``build/examples`` until its script, or how pictures are drawn, changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from pathlib import Path

import fastnn
from docs import text
from fastnn import examples
from fastnn.errors import ChecksumError, DataFileError

FOLDER = "examples"
_ROOT = Path(__file__).parents[1]
_KEPT = _ROOT / "build" / FOLDER
_SCRIPTS = _ROOT / "fastnn" / "examples"
_PRINTED = "printed.txt"


def pages(full: bool) -> tuple[dict[str, str], dict[str, Path]]:
    """The text of each page by its path, and the pictures' files by theirs; ``full``: not on small settings."""
    texts, pictures = {f"{FOLDER}/index.md": _index(full)}, {}
    for name in examples.NAMES:
        run = _run(name, full)
        drawn = sorted(run.glob("*.png"))
        texts[f"{FOLDER}/{name}.md"] = _page(name, run / _PRINTED, drawn)
        pictures.update({f"{FOLDER}/{path.name}": path for path in drawn})
    return texts, pictures


def _script(name: str) -> Path:
    return _SCRIPTS / f"{name.replace('-', '_')}.py"


def _run(name: str, full: bool) -> Path:
    """The folder of what an example prints and draws; it is run where no earlier run will do."""
    folder = _KEPT / f"{name}-{'full' if full else 'small'}-{_digest(name)}"
    if not folder.is_dir():
        unfinished = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                examples.run(name, unfinished, 0, quick=not full)
            except (ChecksumError, DataFileError):
                return unfinished  # to be tried again where the files are
        (unfinished / _PRINTED).write_text(printed.getvalue(), encoding="utf-8")
        unfinished.rename(folder)
    return folder


def _digest(name: str) -> str:
    sources = [_script(name), *sorted((_ROOT / "fastnn" / "plotting").glob("*.py"))]
    read = b"".join(path.read_bytes() for path in sources)
    return hashlib.sha256(fastnn.__version__.encode() + read).hexdigest()[:12]


def _index(full: bool) -> str:
    rows = [(f"[{name}]({name}.md)", text.escaped(examples.title(name))) for name in examples.NAMES]
    settings = "" if full else "Figures and pictures here are those of small settings: less data, fewer epochs."
    return text.page(
        "# Examples",
        "What the course documents do, as short scripts of `fastnn/examples`. `fastnn example NAME` prints the figures "
        "of one and draws its picture; these pages were made by running each as the site was built.",
        settings,
        text.table(("Example", ""), rows),
    )


def _page(name: str, printed: Path, pictures: list[Path]) -> str:
    shown = [f"![{text.escaped(examples.title(name))}]({path.name})" for path in pictures]
    lines = printed.read_text(encoding="utf-8").strip() if printed.is_file() else ""
    source = _script(name).read_text(encoding="utf-8").strip()
    return text.page(
        f"# {name}",
        text.escaped(examples.title(name)),
        f"```sh\nfastnn example {name}\n```",
        f"```text\n{lines}\n```" if lines else "Its data set was not there when this site was built.",
        *shown,
        f"## The script\n\n```python\n{source}\n```",
    )
