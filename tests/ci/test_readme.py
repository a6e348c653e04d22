"""The README's commands are found, and run with another Python and another folder."""

from __future__ import annotations

import pytest

from ci import readme

TEXT = """# title

<!-- other -->
```sh
ls
```

<!-- test-command -->

```sh
python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest
```
"""


def test_command_as_written():
    assert readme.command(TEXT, "other") == "ls"
    expected = 'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest'
    assert readme.command(TEXT, "test-command") == expected


def test_command_with_another_python_and_folder():
    expected = 'python3.12 -m venv .venv-ci && .venv-ci/bin/pip install -e ".[test]" && .venv-ci/bin/pytest'
    assert readme.command(TEXT, "test-command", "python3.12", ".venv-ci") == expected


def test_a_missing_command_is_named():
    with pytest.raises(ValueError, match="<!-- nothing -->"):
        readme.command(TEXT, "nothing")


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("run-command", ["pip install . && .venv/bin/fastnn train"]),
        ("test-command", ["pytest -n 2"]),
        (
            "next-commands",
            [
                *("train mnist", "train mnist --model conv", "train reuters --plot curves.png", "train imdb"),
                *("train --help", "example --list", "example xor", "info", "info --peak"),
            ],
        ),
    ],
)
def test_the_readme_has_what_is_run(name, ends):
    """A line without its comment is one command, and what it calls lies in the environment."""
    lines = readme.command(readme.README.read_text(encoding="utf-8"), name).splitlines()
    commands = [line.partition("  #")[0].rstrip() for line in lines]
    assert all(command.endswith(end) for command, end in zip(commands, ends, strict=True))
    assert all(".venv/bin/" in command for command in commands)
