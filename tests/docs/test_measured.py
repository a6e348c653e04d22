"""What pages say of measurements is what the saved results hold; pictures are drawn of all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pages
import pictures
import pytest

from docs import figures, measured


def test_every_place_of_a_page_is_filled():
    names = {name for path in pages.paths() for name in re.findall(r"<!-- made: ([\w-]+) -->", path.read_text("utf-8"))}
    assert names == measured.MADE.keys()
    for path in pages.paths():
        assert "<!-- made:" not in measured.filled(path.read_text("utf-8"))


def test_a_name_that_nothing_is_made_under():
    with pytest.raises(ValueError, match="made: got 'epoch', wants arm64 or "):
        measured.filled("text\n\n<!-- made: epoch -->\n")


def test_tables_show_the_saved_figures():
    """A line's own time, its rate and its ratios, as the file has them."""
    (line,) = [
        line
        for line in measured.suite()["lines"]
        if line["name"].startswith("epoch reuters") and "real" in line["name"]
    ]
    (row,) = [row for row in measured.MADE["epochs"]().splitlines() if row.startswith(f"| {line['name']} |")]
    head = measured.MADE["epochs"]().splitlines()[0]
    shown = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert shown["fastnn"] == f"{1000 * line['seconds']['fastnn cpu']:.3g} ms"
    assert float(shown["x PyTorch"]) == pytest.approx(line["ratios"]["PyTorch"]["median"], rel=0.005)
    assert shown["x Keras"] == ""


def test_promises_that_are_not_met_are_told():
    bars = measured.suite()["bars"]
    said = measured.MADE["promises"]()
    assert said.startswith(f"{sum(bar['met'] for bar in bars)} of {len(bars)} are met.")
    assert said.count("| **no** |") == sum(not bar["met"] for bar in bars) > 0


def test_every_line_of_the_suite_is_on_the_page():
    shown = "".join(made() for made in measured.MADE.values())
    rest = [line["name"] for line in measured.suite()["lines"] if f"| {line['name']} |" not in shown]
    assert rest == ["add 10000000"]


def test_facts_of_a_file(tmp_path):
    (tmp_path / "a.txt").write_text("cpu:      Some CPU\nversions: a 1, b 2\nnothing:  here\n\ntable\n")
    assert measured.facts(tmp_path / "a.txt") == {"cpu": "Some CPU", "versions": "a 1, b 2"}
    (tmp_path / "a.json").write_text(json.dumps({"environment": {"cpu": "x", "commit": "y", "other": "z"}}))
    assert measured.facts(tmp_path / "a.json") == {"cpu": "x", "commit": "y"}


def test_machines_of_all_results_that_name_one():
    shown = measured.MADE["machines"]()
    for name in ("zen5-2-cores.json", "zen4-2-cores-networks.txt", "neuralnet/table.md", "scaling/report.md"):
        assert f"`bench/results/{name}`" in shown
    assert "`ci/results/arm64.txt` | neoverse-n1" in shown


def test_pictures_of_the_scaling_report(tmp_path):
    pytest.importorskip("matplotlib")
    drawn = figures.drawn(tmp_path)
    report = (measured.SCALING / "report.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\w+\.png)\)", report)) == {Path(name).name for name in drawn}
    for path in drawn.values():
        assert pictures.colours(pictures.pixels(path)) > 50


def test_the_picture_of_the_readme_is_that_of_the_results(tmp_path):
    """Drawn anew it is as large and as dark, on whatever version of matplotlib."""
    pytest.importorskip("matplotlib")
    figures.speed(tmp_path / "speed.png")
    kept, made = pictures.pixels(figures.SPEED), pictures.pixels(tmp_path / "speed.png")
    assert kept.shape == made.shape
    assert abs(kept.astype(float) - made).mean() < 2


def test_pictures_of_the_repository_are_small():
    kept = [path for folder in ("docs/pages", "bench") for path in (pages.ROOT / folder).rglob("*.png")]
    assert len(kept) >= 2
    assert [path.name for path in kept if path.stat().st_size > 100_000] == []
