"""Every code block of the site: Python is run, page by page, and commands are what there is."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pages
import pytest

from fastnn import cli, datasets

_RUNS = [(path, needs) for path in pages.paths() for needs in pages.needed(pages.blocks(path.read_text("utf-8")))]


def _run(path, needs):
    marks = [getattr(pytest.mark, word) for word in ("slow", "gpu") if word in needs]
    return pytest.param(path, needs, marks=marks, id="-".join([pages.name(path), *sorted(needs)]))


@pytest.mark.parametrize(("path", "needs"), [_run(*each) for each in _RUNS])
def test_the_python_of_a_page(path, needs, tmp_path):
    """One script of its blocks, in an empty folder, warnings as errors; errors name the page's lines."""
    _skip_without(needs - {"slow", "gpu"})
    script = tmp_path / "blocks_of_a_page.py"
    script.write_text(pages.script(pages.blocks(path.read_text("utf-8")), needs), encoding="utf-8")
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", script.name]
    surroundings = {**os.environ, "MPLBACKEND": "agg"}
    done = subprocess.run(
        command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{path}: {done.stderr[-3000:]}"


def _skip_without(needs):
    for word in sorted(needs):
        if word not in datasets.__all__:
            pytest.importorskip(word)
        elif not (Path(os.environ.get("FASTNN_DATA", "nowhere")) / word).is_dir():
            pytest.skip(f"FASTNN_DATA names no folder with the files of {word}")


@pytest.mark.parametrize("path", pages.paths(), ids=pages.name)
def test_the_commands_of_a_page(path):
    for command in pages.commands(pages.blocks(path.read_text("utf-8"))):
        fault = _fault(command)
        assert fault is None, f"{command}: {fault}"


def _fault(command):
    """Why a command of a page is none; None where it is one."""
    program, *arguments = shlex.split(command)
    program = Path(program).name
    if program == "fastnn":
        return _fastnn_fault(arguments)
    if program == "pytest":
        return _pytest_fault(arguments)
    if program.startswith("python"):
        return _python_fault(arguments)
    if program == "pip":
        return _pip_fault(arguments)
    if (pages.ROOT / shlex.split(command)[0]).is_file() or program in {"cd", "git", "apt-get"}:
        return None
    return f"unknown program {program}"


def _fastnn_fault(arguments):
    if arguments[:1] == ["bench"]:
        return _unheard_of(arguments[1:], _help("bench", *[word for word in arguments[1:2] if word in ("scaling",)]))
    try:
        _, rest = cli._parser().parse_known_args(arguments)
    except SystemExit as stop:
        return None if stop.code == 0 else "refused"
    except Exception as error:
        return str(error)
    return f"unrecognized arguments {rest}" if rest else None


def _pytest_fault(arguments):
    marks = tomllib.loads((pages.ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]
    known = {mark.partition(":")[0] for mark in marks["markers"]}
    for flag, value in itertools.pairwise(arguments):
        if flag == "-m" and not set(re.findall(r"\w+", value)) - {"not", "or", "and"} <= known:
            return f"unknown mark {value}"
    folders = [word for word in arguments if word.startswith("tests/")]
    return next((f"no {folder}" for folder in folders if not (pages.ROOT / folder.partition("::")[0]).exists()), None)


def _python_fault(arguments):
    if arguments[:1] != ["-m"]:
        return None if (pages.ROOT / arguments[0]).is_file() else f"no {arguments[0]}"
    module, *rest = arguments[1:]
    if module in {"venv", "mkdocs"}:
        return None
    if importlib.util.find_spec(module) is None:
        return f"no module {module}"
    return _unheard_of([word for word in rest if word.startswith("-")], _help_of(["-m", module])) if rest else None


def _pip_fault(arguments):
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = {extra for word in arguments for extra in re.findall(r"\w+", word.partition("[")[2])}
    missing = named - project["optional-dependencies"].keys()
    return f"no extra {sorted(missing)}" if missing else None


def _unheard_of(words, said):
    return next((f"{word} is not in its --help" for word in words if word not in said), None)


def _help(*words):
    return _help_of(["-m", "fastnn", *words])


def _help_of(command):
    return _output(tuple(command))


@cache
def _output(command):
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=pages.ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("fastnn trian", "invalid choice"),
        ("fastnn train mnist --epoch 2x", "epoch"),
        ("fastnn info --peek", "unrecognized"),
        ("fastnn bench kernles", "kernles"),
        ("pytest -m slwo", "slwo"),
        ("pytest tests/nowhere", "nowhere"),
        ("python -m ci.nothing", "ci.nothing"),
        ("python -m ci.stubs --rite", "--rite"),
        ('pip install "fastnn-kernels[plto]"', "plto"),
        ("frobnicate", "unknown program"),
    ],
)
def test_a_command_that_is_none(command, said):
    assert said in _fault(command)


PAGE = """# Title

```python
x = 1
```

<!-- test: slow torch -->
```python
y = x
```

1. indented

    ```sh
    .venv/bin/fastnn train \\
        iris  # comment
    ```
"""


def test_blocks_are_read_with_their_places_and_needs():
    first, second, third = pages.blocks(PAGE)
    assert (first.line, first.code, first.needs) == (4, "x = 1\n", frozenset())
    assert (second.line, second.needs) == (9, {"slow", "torch"})
    assert third.language == "sh"
    assert pages.commands([third]) == [".venv/bin/fastnn train iris"]
    assert pages.script([first, second], frozenset()).splitlines()[3:] == ["x = 1"]
    assert pages.script([first, second], frozenset({"slow", "torch"})).splitlines()[8] == "y = x"
    assert pages.needed([first, second, third]) == [frozenset(), frozenset({"slow", "torch"})]


@pytest.mark.parametrize("text", ["```python\nx = 1\n", "<!-- test: slow -->\n\ntext\n"])
def test_what_belongs_to_no_block_is_an_error(text):
    with pytest.raises(ValueError, match="fenced block"):
        pages.blocks(text)
