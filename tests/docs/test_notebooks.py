"""The notebooks: their scripts make valid ones, and they run from top to bottom (slow)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install -e '.[docs]'")
pytest.importorskip("jupytext", reason="jupytext is not installed: pip install -e '.[docs]'")

from docs import notebook  # noqa: E402
from fastnn.kernels import user_cache  # noqa: E402

SOURCES = notebook.sources()
PICTURES = {"iris": 4, "mnist": 5, "reuters": 2}
LEAST = {"iris": 0.9, "mnist": 0.975, "reuters": 0.77}


def by_name(path):
    return path.stem


def test_the_notebooks():
    assert set(map(by_name, SOURCES)) == PICTURES.keys()


@pytest.mark.parametrize("source", SOURCES, ids=by_name)
def test_a_notebook_is_valid_has_no_outputs_and_is_made_alike_each_time(source):
    path = f"notebooks/{source.stem}"
    first, second = notebook.downloads(), notebook.downloads()
    assert first == second
    made = nbformat.reads(first[f"{path}.ipynb"], as_version=4)
    nbformat.validate(made)
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    assert len(code) >= 5
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert made.cells[0].cell_type == "markdown"
    assert made.cells[0].source.startswith("# ")


@pytest.mark.parametrize("source", SOURCES, ids=by_name)
def test_a_page_shows_every_cell_and_where_the_notebook_is(source):
    made = notebook.notebook(source)
    (page,) = notebook.page(source.stem, made).values()
    assert f"]({source.stem}.ipynb)" in page
    for cell in made.cells:
        assert cell.source in page
    assert page.count("```") == 2 * sum(cell.cell_type == "code" for cell in made.cells)


def test_a_page_shows_what_cells_print_and_draw():
    v4 = nbformat.v4
    outputs = [
        v4.new_output("stream", text="two\nlines\n"),
        v4.new_output("execute_result", {"text/plain": "<Axes>"}),
        v4.new_output("display_data", {"image/png": "AAEC", "text/plain": "<Figure>"}),
    ]
    made = v4.new_notebook(cells=[v4.new_markdown_cell("# Title"), v4.new_code_cell("f()", outputs=outputs)])
    found = notebook.page("x", made)
    page = found.pop("notebooks/x.md")
    assert "```python\nf()\n```\n\n```text\ntwo\nlines\n```\n\n![What the cell above draws](x-1.png)\n" in page
    assert "Axes" not in page
    assert found == {"notebooks/x-1.png": b"\x00\x01\x02"}


def test_the_command_writes_them(tmp_path):
    subprocess.run([sys.executable, "-m", "docs.notebook", str(tmp_path / "made")], check=True, cwd=Path.cwd())
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == sorted(f"{each}.ipynb" for each in PICTURES)


def run(source, folder, **environment):
    """What a notebook prints, and its pictures; in a process of its own, which Jupyter's threads do not outlive."""
    program = (
        "import sys, nbformat; from pathlib import Path; from docs import notebook\n"
        "source, folder, out = map(Path, sys.argv[1:])\n"
        "nbformat.write(notebook.executed(source, folder), out)"
    )
    out = folder / "run.ipynb"
    done = subprocess.run(
        [sys.executable, "-c", program, source, folder, out],
        env={**os.environ, **environment},
        cwd=notebook._SOURCES.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = [each for cell in nbformat.read(out, 4).cells for each in cell.get("outputs", ())]
    printed = "".join(each.text for each in outputs if each.output_type == "stream")
    return printed, sum("image/png" in each.get("data", {}) for each in outputs)


def accuracy(printed):
    return float(re.search(r"test accuracy ([\d.]+)", printed)[1])


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=by_name)
def test_a_notebook_runs_from_top_to_bottom(source, tmp_path):
    pytest.importorskip("nbclient", reason="nbclient is not installed: pip install -e '.[docs]'")
    if source.stem != "iris" and not (Path(os.environ.get("FASTNN_DATA", "nowhere")) / source.stem).is_dir():
        pytest.skip(f"FASTNN_DATA names no folder with the files of {source.stem}")
    printed, pictures = run(source, tmp_path)
    assert accuracy(printed) >= LEAST[source.stem]
    assert pictures == PICTURES[source.stem]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "reuters"])
def test_without_files_and_network_a_notebook_says_so_and_goes_on(name, tmp_path):
    pytest.importorskip("nbclient", reason="nbclient is not installed: pip install -e '.[docs]'")
    source = notebook._SOURCES / f"{name}.py"
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    empty, kernels = tmp_path / "empty", user_cache.folder("kernels")
    empty.mkdir()
    kernels.mkdir(parents=True, exist_ok=True)
    (empty / "kernels").symlink_to(kernels)  # what is compiled stays compiled
    printed, pictures = run(source, tmp_path, FASTNN_DATA=str(empty), FASTNN_CACHE=str(empty), **nowhere)
    assert f"NO {name.upper()}: going on with" in printed
    assert accuracy(printed) > 0.85
    assert pictures == PICTURES[name]
