"""The command line: what it trains, prints and keeps, and how it says no."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import backends, cli, files, models
from fastnn.cli import train
from fastnn.recipes import RECIPES, Recipe

FAST = ["train", "iris", "--epochs", "2", "--quiet"]
NUMBER = r"-?\d+\.\d{4}"


@pytest.fixture
def run(capsys):
    """Run a command in this process; return its status and what it printed."""

    def _run(*argv):
        status = cli.main([str(argument) for argument in argv])
        printed = capsys.readouterr()
        return types.SimpleNamespace(status=status, out=printed.out, err=printed.err)

    return _run


@pytest.fixture
def untrained(monkeypatch):
    """Fail the test if anything is trained."""
    monkeypatch.setattr(models.Sequential, "fit", lambda *_, **__: pytest.fail("trained before it looked"))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No data folder, an empty cache, no network."""
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("FASTNN_CACHE", str(tmp_path / "cache"))

    def refuse(*_):
        raise ConnectionError("Temporary failure in name resolution")

    monkeypatch.setattr("fastnn.datasets._files._download", refuse)


def scores(out):
    """Return {quantity: {part: value}} of the table in `out`."""
    lines = out.splitlines()
    header = next(i for i, line in enumerate(lines) if line.split()[:1] == ["train"])
    parts, table = lines[header].split(), {}
    for line in lines[header + 1 :]:
        name, *values = line.split()
        if not all(re.fullmatch(NUMBER, value) for value in values):
            break
        table[name] = dict(zip(parts, map(float, values), strict=True))
    return table


# --- training -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("offline")
def test_train_without_arguments_learns_digits_without_a_network(run):
    result = run("train")
    assert result.status == 0
    assert result.out.startswith("digits 64-128-64-10: relu, rmsprop, batch 32, seed 0, on ")
    assert scores(result.out)["accuracy"]["test"] > 0.95


@pytest.mark.usefixtures("offline")
def test_train_imdb_learns_made_reviews_where_there_are_no_files(run, tmp_path):
    result = run("train", "imdb", "--epochs", 8, "--save", tmp_path / "reviews.safetensors")
    assert result.status == 0
    assert result.err.startswith("fastnn: made data in place of files that are not there:\nimdb/imdb.npz: no copy")
    assert "imdb 256 of 10000-16-16-1: relu, adam, batch 128, seed 0, on " in result.out
    assert scores(result.out)["accuracy"]["test"] > 0.85
    assert models.load_model(tmp_path / "reviews.safetensors").input_shape == (None, 256)
    assert run("train", "imdb", "--data-dir", tmp_path).status == 2


@pytest.mark.parametrize(("dataset", "least"), [("iris", 0.9), ("xor", 0.98)])
def test_the_other_sets_that_need_no_files(dataset, least, run):
    assert scores(run("train", dataset, "--quiet").out)["accuracy"]["test"] >= least


def test_the_table(run):
    result = run(*FAST)
    table = scores(result.out)
    assert list(table) == ["loss", "accuracy"]
    assert all(list(row) == ["train", "test"] for row in table.values())
    last = result.out.splitlines()[-1]
    assert re.fullmatch(r"\S+ s an epoch \(median of 2\), 120 rows, \S+ GFLOP/s", last)
    assert result.err == ""


def test_gflops_are_the_formulas(run, monkeypatch):
    ticks = iter(np.arange(100) * 0.25)
    monkeypatch.setattr(train, "perf_counter", lambda: next(ticks))
    last = run(*FAST, "--hidden", "50,20").out.splitlines()[-1]
    flops = 120 * (6 * (4 * 50 + 50 * 20 + 20 * 3) - 2 * 4 * 50)
    assert last == f"0.25 s an epoch (median of 2), 120 rows, {flops / 0.25e9:,.3g} GFLOP/s"


def test_the_clock_leaves_validation_out(monkeypatch):
    monkeypatch.setattr(train, "perf_counter", lambda: now)
    watch, now = train._Stopwatch(), 10.0
    watch.on_epoch_begin(0)
    now = 11.0
    watch.on_test_begin()
    now = 15.0
    watch.on_epoch_end(0)
    watch.on_test_begin()  # of an evaluate after the fit
    assert watch.seconds == [1.0]


def test_same_seed_same_network(run):
    first, again, other = (scores(run(*FAST, "--seed", seed).out) for seed in (3, 3, 4))
    assert first == again != other


def test_flags_reach_the_network(run, tmp_path):
    path = tmp_path / "model.fastnn"
    flags = "--hidden 8,5 --activation tanh --optimizer sgd --learning-rate 0.05 --l2 0.25 --batch-size 16"
    result = run(*FAST, *flags.split(), "--save", path)
    assert result.status == 0, result.err
    assert result.out.splitlines()[-1] == f"model kept in {path}"
    model = fastnn.load_model(path)
    assert [weights.shape for weights in model.get_weights()] == [(4, 8), (8,), (8, 5), (5,), (5, 3), (3,)]
    hidden, _, last = (layer.get_config() for layer in model.layers if "units" in layer.get_config())
    assert (hidden["activation"], last["activation"]) == ("tanh", "softmax")
    assert "0.25" in str(last["kernel_regularizer"])
    assert model.optimizer.learning_rate == pytest.approx(0.05)
    assert type(model.optimizer).__name__ == "SGD"


def test_saved_network_scores_as_the_table_said(run, tmp_path):
    path = tmp_path / "model.fastnn"
    table = scores(run(*FAST, "--save", path).out)
    x, y = RECIPES["iris"].data().test
    assert fastnn.load_model(path).evaluate(x, y, verbose=0)[1] == pytest.approx(table["accuracy"]["test"], abs=1e-4)


def test_no_hidden_layer(run, tmp_path):
    run(*FAST, "--hidden", "0", "--save", tmp_path / "model.fastnn")
    assert [w.shape for w in fastnn.load_model(tmp_path / "model.fastnn").get_weights()] == [(4, 3), (3,)]


def test_plot(run, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "curves.png"
    result = run(*FAST, "--plot", path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]
    assert list(scores(result.out)["loss"]) == ["train", "validation", "test"]
    assert "108 rows" in result.out
    assert result.out.splitlines()[-1] == f"curves drawn in {path}"


def test_naive_backend(run):
    result = run("train", "xor", "--hidden", "2", "--epochs", "1", "--batch-size", "100", "--backend", "naive")
    assert result.status == 0
    assert "on naive" in result.out


def test_threads_do_not_change_the_result(run):
    before = fastnn.get_num_threads()
    try:
        assert scores(run(*FAST, "--threads", "1").out) == scores(run(*FAST, "--threads", "2").out)
    finally:
        fastnn.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "metric", "passes"),
    [
        ("mnist", "accuracy", lambda score: score >= 0.975),
        ("fashion_mnist", "accuracy", lambda score: score >= 0.85),
        ("reuters", "accuracy", lambda score: score >= 0.78),
        ("boston_housing", "mae", lambda score: score <= 3.0),
    ],
)
def test_real_data(dataset, metric, passes, run):
    folder = os.environ.get("FASTNN_DATA")
    if not (folder and any((Path(folder) / dataset).glob("*"))):
        pytest.skip(f"FASTNN_DATA has no {dataset}")
    assert passes(scores(run("train", dataset, "--quiet").out)[metric]["test"])


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("trian", "invalid choice: 'trian'"),
        ("train mnits", r"argument DATASET: got 'mnits', wants one of .*\(did you mean 'mnist'\?\)"),
        ("train --epochs 0", "argument --epochs: got 0, wants an integer of at least 1"),
        ("train --epochs two", "argument --epochs: got str 'two', wants an integer of at least 1"),
        ("train --epochs 1.5", "argument --epochs: got str '1.5', wants an integer"),
        ("train --epochs", "argument --epochs: expected one argument"),
        ("train --batch-size -1", "argument --batch-size: .*at least 1"),
        ("train --hidden 64,x", "argument --hidden: got str 'x', wants an integer of at least 1"),
        ("train --hidden 64,0", "argument --hidden: got 0, wants an integer of at least 1"),
        ("train --hidden ,", "argument --hidden: got str ''"),
        ("train --activation rleu", r"argument --activation: got 'rleu', .*\(did you mean 'relu'\?\)"),
        ("train --optimizer adm", r"argument --optimizer: got 'adm', .*\(did you mean 'adam'\?\)"),
        ("train --learning-rate 0", r"argument --learning-rate: got 0\.0, wants a finite number above 0"),
        ("train --learning-rate -1e-3", "argument --learning-rate: "),
        ("train --learning-rate nan", "argument --learning-rate: got nan"),
        ("train --learning-rate fast", "argument --learning-rate: got str 'fast'"),
        ("train --l2=-1", r"argument --l2: got -1\.0, wants a finite number at least 0"),
        ("train --seed -1", "argument --seed: .*at least 0"),
        ("train --seed 4294967296", "argument --seed: got 4294967296, wants at most 4294967295"),
        ("train --backend gpu", r"argument --backend: got 'gpu', wants one of 'auto'.* \(did you mean 'cuda'\?\)"),
        ("train --threads 0", "argument --threads: got 0, wants an integer of at least 1"),
        ("train --data-dir /no/such/folder", "argument --data-dir: /no/such/folder is not a folder"),
        ("train --save /no/such/folder/m", "argument --save: there is no folder /no/such/folder"),
        ("train --save .", r"argument --save: got a folder, wants the name of a file: \."),
        ("train --save m.h5", r"argument --save: got 'm\.h5', .*wants 'm\.safetensors', 'm\.keras'"),
        ("train --plot /no/such/folder/p.png", "argument --plot: there is no folder"),
        ("train --plot curves.jpeg", r"argument --plot: curves\.jpeg ends in none of \.png"),
        ("train --plot a.png --save a.png", r"argument --plot: a\.png is also where --save keeps the model"),
        ("train --frobnicate", "unrecognized arguments: --frobnicate"),
        ("train mnist reuters", "unrecognized arguments: reuters"),
        ("convert", "the following arguments are required: SOURCE, DESTINATION"),
        (
            "convert no/such/model.safetensors m.onnx",
            r"argument SOURCE: got no/such/model\.safetensors, wants a file: .* nothing",
        ),
        ("convert . model.onnx", r"argument SOURCE: got \., wants a file: this is a folder"),
        ("convert pyproject.toml model.h5", r"argument DESTINATION: got 'model\.h5', .*wants 'model\.safetensors'"),
        ("convert pyproject.toml .", r"argument DESTINATION: got a folder, wants the name of a file: \."),
        ("convert pyproject.toml no/such/m.onnx", "argument DESTINATION: there is no folder no/such"),
        (
            "convert pyproject.toml model.onnx",
            r"argument SOURCE: got 'pyproject\.toml', which is truncated, damaged or no",
        ),
        (
            "example xor --out pyproject.toml",
            r"argument --out: cannot make the folder \(File exists\), .*: pyproject\.toml",
        ),
        ("convert a b.onnx --opset 12", "argument --opset: .*at least 13"),
        ("info --verbose", "unrecognized arguments: --verbose"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(argv, message, run):
    result = run(*argv.split())
    assert result.status == 2
    assert result.out == ""
    assert result.err.count("\n") == 1
    assert re.match(f"fastnn: error: .*{message}", result.err), result.err


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("flag", ["--save", "--plot"])
def test_a_file_that_cannot_be_written_is_found_before_training(flag, run, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files, "_new_file", full)
    path = tmp_path / "file.png"
    result = run("train", flag, path)
    assert result.status == 2
    assert result.err.startswith(f"fastnn: error: argument {flag}: cannot write the file (Read-only file system)")
    assert result.err.endswith(f": {path}\n")
    path.write_text("protected")
    path.chmod(0o444)
    result = run("train", flag, path)
    assert result.status == 2
    assert result.err.startswith(f"fastnn: error: argument {flag}: got a read-only file (mode 444), wants")


@pytest.mark.usefixtures("untrained")
def test_missing_matplotlib_is_found_before_training(run, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(backends, "resolve", lambda name: "cpu")
    result = run("train", "--plot", tmp_path / "curves.png")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert 'pip install ".[plot]"' in result.err


@pytest.mark.usefixtures("untrained", "offline")
def test_no_data_names_the_ways_out(run):
    result = run("train", "reuters")
    assert result.status == 2
    assert result.err.startswith("fastnn: error: reuters/reuters.npz: no copy of it that can be used")
    for way in ("set FASTNN_DATA", "put the file at", "connect to the network"):
        assert way in result.err
    assert "Traceback" not in result.err


@pytest.mark.usefixtures("untrained", "offline")
def test_data_with_a_wrong_checksum(run, tmp_path):
    path = tmp_path / "boston_housing" / "housing.data"
    path.parent.mkdir()
    path.write_text("1 2 3")
    result = run("train", "boston_housing", "--data-dir", tmp_path)
    assert result.status == 2
    assert result.err.startswith(f"fastnn: error: {path} is refused")
    assert result.err.count("\n") == 1


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("dataset", [[], ["mnist"]])
def test_unavailable_backend(run, dataset):
    """One line with the reason, before any data are looked for."""
    if backends.available_backends()["cuda"].available:
        pytest.skip("this machine has a CUDA device")
    result = run("train", *dataset, "--backend", "cuda")
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert re.match(r"fastnn: error: backend 'cuda' is unavailable: .* Available: ", result.err)


def test_divergence(run):
    result = run("train", "xor", "--optimizer", "sgd", "--learning-rate", "1e38", "--activation", "linear", "--quiet")
    assert result.status == 2
    assert result.err.startswith("fastnn: error: ")
    assert "epoch 1" in result.err
    assert "Traceback" not in result.err


def test_interrupt(run, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(models.Sequential, "fit", interrupted)
    result = run("train", "--save", tmp_path / "model.fastnn")
    assert result.status == 130
    assert "fastnn: interrupted" in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes")
def test_a_reader_that_has_enough_is_no_error():
    for argv in (["info"], ["example", "--list"]):
        with subprocess.Popen(
            [sys.executable, "-m", "fastnn", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as command:
            command.stdout.close()
            assert command.stderr.read() == b""
        assert command.returncode == 141


def test_a_port_that_is_taken(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("playground", "--no-browser", "--port", port)
    assert (result.status, result.out) == (2, "")
    assert re.fullmatch(rf"fastnn: error: argument --port: got {port} \(.*\), wants a port that is free\n", result.err)


def test_a_bug_is_not_dressed_up_as_a_users_error(run, monkeypatch):
    def bug(*_):
        raise ValueError("a bug")

    monkeypatch.setattr(Recipe, "data", bug)
    with pytest.raises(ValueError, match="a bug"):
        run("train")


# --- help, info, bench ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["convert", "--help"], ["--version"]])
def test_help_and_version(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 0
    assert capsys.readouterr().out


def test_help_teaches_flags_data_sets_and_defaults(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    text = capsys.readouterr().out
    network = {"epochs", "batch-size", "hidden", "activation", "optimizer", "learning-rate", "l2", "seed"}
    for flag in network | {"backend", "threads", "data-dir", "save", "plot", "quiet"}:
        assert f"--{flag} " in text
    for name, recipe in RECIPES.items():
        assert f"{name} " in text
        assert recipe.architecture in text
    assert "FASTNN_DATA" in text
    assert max(map(len, text.splitlines())) <= 120


def test_info(run):
    result = run("info")
    assert result.status == 0
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in result.out.splitlines())
    for name in ("fastnn", "python", "numpy", "numba", "llvmlite", "CPU", "compiled for", "register tile", "caches"):
        assert rows[name]
    assert rows["fastnn"].startswith(fastnn.__version__)
    assert int(rows["threads"]) == fastnn.get_num_threads()
    folder, files, size, state = rows["kernel cache"].rsplit(", ", 3)
    assert Path(folder).is_dir()
    assert re.fullmatch(r"\d+ files", files)
    assert re.fullmatch(r"[\d.]+ (bytes|KiB|MiB|GiB)", size)
    assert state == "writable"
    assert not any(name.startswith("peak") for name in rows)
    for name, state in backends.available_backends().items():
        assert rows[f"backend {name}"].endswith(state.reason)


def test_info_without_a_cache(run, monkeypatch):
    from fastnn.kernels.cpu.compiler import store

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.Entry, "check", full)
    result = run("info")
    assert result.status == 0
    state = (
        r"cannot be written to \(No space left on device\), so .*: set (FASTNN|NUMBA)_CACHE\w* to a folder that can be"
    )
    assert re.search(rf"^kernel cache .* files, [\d.]+ \w+, {state}$", result.out, re.MULTILINE)


def test_info_with_the_peak(run, monkeypatch):
    from fastnn.kernels.cpu import peak

    monkeypatch.setattr(peak, "dtypes", lambda: ("float32", "bfloat16"))
    monkeypatch.setattr(peak, "measure", lambda dtype, threads: len(dtype) * threads * 1e10)
    monkeypatch.setattr(peak, "bandwidth", lambda threads: 2.5e10)
    monkeypatch.setattr(fastnn, "get_num_threads", lambda: 3)
    lines = run("info", "--peak").out.splitlines()
    assert [re.split(r"\s{2,}", line, maxsplit=1) for line in lines[-3:]] == [
        ["peak float32", "70 GFLOP/s on 1 thread, 210 GFLOP/s on 3 threads"],
        ["peak bfloat16", "80 GFLOP/s on 1 thread, 240 GFLOP/s on 3 threads"],
        ["memory", "25 GB/s on 1 thread, 25 GB/s on 3 threads (a + b, larger than the caches)"],
    ]
    monkeypatch.setattr(fastnn, "get_num_threads", lambda: 1)
    assert run("info", "--peak").out.splitlines()[-2].endswith("80 GFLOP/s on 1 thread")


def test_bench_hands_over_to_the_checkout(run, tmp_path, monkeypatch):
    for folder in ("bench", "kernels/table"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bench" / "__init__.py").write_text("")
    (tmp_path / "bench" / "report.py").write_text("def main(argv):\n    print('bench', argv)\n    return 7\n")
    monkeypatch.setattr(fastnn, "__file__", str(tmp_path / "fastnn" / "__init__.py"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.split(".")[0] == "bench"]:
        monkeypatch.delitem(sys.modules, name)
    result = run("bench", "--only", "matmul", "-h")
    for name in [name for name in sys.modules if name.split(".")[0] == "bench"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert (result.status, result.out) == (7, "bench ['--only', 'matmul', '-h']\n")


def test_bench_outside_a_checkout(run, tmp_path, monkeypatch):
    monkeypatch.setattr(fastnn, "__file__", str(tmp_path / "fastnn" / "__init__.py"))
    monkeypatch.chdir(tmp_path)
    result = run("bench")
    assert result.status == 2
    assert "clone fastnn's repository" in result.err


def test_module_is_the_command():
    result = subprocess.run([sys.executable, "-m", "fastnn", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"fastnn {fastnn.__version__}\n"
