"""Files that pip does not know are found, whatever is installed."""

from __future__ import annotations

import pytest

from ci import installed


@pytest.fixture
def site(tmp_path):
    for name in ("fastnn/__init__.py", "fastnn/kernels/cpu/jit.py", "fastnn_kernels-1.dist-info/RECORD", "other/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


RECORD = ["fastnn/__init__.py", "fastnn/kernels/cpu/jit.py", "fastnn_kernels-1.dist-info/RECORD", "../../bin/fastnn"]


def test_what_is_recorded_and_its_byte_code_are_known(site):
    cache = site / "fastnn" / "kernels" / "cpu" / "__pycache__"
    cache.mkdir()
    (cache / "jit.cpython-311.pyc").write_text("")
    (cache / "jit.cpython-314.opt-1.pyc").write_text("")
    assert installed.unknown(site, RECORD) == []


@pytest.mark.parametrize(
    "name",
    [
        "fastnn/kernels/cpu/__pycache__/epoch.train.locals.train-113.py311.nbi",
        "fastnn/kernels/cpu/__pycache__/gone.cpython-311.pyc",
        "fastnn/kernels/cpu/gone.py",
        "fastnn/notes.txt",
    ],
)
def test_any_other_file_is_not(site, name):
    (site / name).parent.mkdir(exist_ok=True)
    (site / name).write_text("")
    assert installed.unknown(site, RECORD) == [name]


def test_a_folder_beside_an_editable_installation_is_a_left_over(site):
    editable = ["__editable___fastnn_kernels_1_finder.py", "fastnn_kernels-1.dist-info/RECORD"]
    assert installed.unknown(site, editable) == ["fastnn/__init__.py", "fastnn/kernels/cpu/jit.py"]


def test_this_environment(capsys):
    assert installed.main() == 0
    assert "all known to pip" in capsys.readouterr().out
