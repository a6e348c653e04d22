"""Settings: one table for the page, its messages and its address."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastnn.playground import settings
from fastnn.playground.settings import LOSSES, SETTINGS, from_address, from_message


def drawn(seed):
    """Values that can be set."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, row in SETTINGS.items():
        if row.kind == "choice":
            values[name] = str(rng.choice(list(row.choices)))
        elif row.kind == "several":
            values[name] = [each for each in row.choices if rng.random() < 0.5] or ["x2"]
        elif row.kind == "widths":
            values[name] = rng.integers(1, 9, rng.integers(0, 7)).tolist()
        else:
            at = rng.uniform(row.minimum, row.maximum)
            values[name] = int(at) if isinstance(row.default, int) else float(f"{at:.4g}")
    regression = values["problem"] in ("plane", "hills")
    values["loss"] = next(name for name, row in LOSSES.items() if regression in row.regression)
    return values


@pytest.mark.parametrize("seed", range(40))
def test_an_address_holds_all_that_is_set(seed):
    made = from_message(drawn(seed))
    assert from_address(made.address()) == made
    assert from_address(f"http://127.0.0.1:1/token/#{made.address()}") == made


def test_defaults_need_no_address():
    assert from_address("").address() == ""
    assert from_address("") == from_message({})


def test_the_loss_follows_the_problem_unless_it_is_given():
    assert from_address("problem=plane").loss == "mse"
    assert from_address("problem=plane&loss=huber").loss == "huber"


def test_what_the_page_reads_is_json():
    read = json.loads(json.dumps(settings.described()))
    assert read["settings"].keys() == SETTINGS.keys()
    assert read["settings"]["rate"]["kind"] == "number"
    assert read["settings"]["problem"]["choices"]["xor"] == "XOR"


def test_what_begins_anew():
    one = from_message({})
    assert not one.restarts(
        from_message({"rate": 0.1, "batch": 7, "optimizer": "adam", "penalty": "l2", "dropout": 10})
    )
    for change in ({"layers": [4]}, {"seed": 1}, {"noise": 5}, {"features": ["x1"]}, {"activation": "relu"}):
        assert one.restarts(from_message(change))


@pytest.mark.parametrize(
    ("message", "error", "said"),
    [
        ([], TypeError, "settings: got .* wants an object"),
        ({"rat": 1}, ValueError, "settings: got 'rat'.*did you mean 'rate'"),
        ({"problem": "xro"}, ValueError, "problem: got 'xro'"),
        ({"problem": 3}, TypeError, "problem: got int 3"),
        ({"rate": "fast"}, TypeError, "rate: got str 'fast'"),
        ({"rate": float("nan")}, ValueError, "rate: got nan"),
        ({"rate": 11}, ValueError, "rate: got 11, wants at most 10"),
        ({"rate": 0}, ValueError, "rate: got 0"),
        ({"batch": 0}, ValueError, "batch: got 0"),
        ({"batch": 2.5}, TypeError, "batch: got float 2.5"),
        ({"noise": True}, TypeError, "noise: got bool"),
        ({"seed": 2**32}, ValueError, "seed: got 4294967296"),
        ({"layers": 3}, TypeError, "layers: got int 3, wants a list"),
        ({"layers": [9]}, ValueError, "layers: got 9"),
        ({"layers": [1] * 7}, ValueError, "layers: got 7 layers, wants at most 6"),
        ({"features": []}, ValueError, "features: got \\[\\], wants at least one"),
        ({"features": ["x1", "x1"]}, ValueError, "each once"),
        ({"features": ["x3"]}, ValueError, "features: got 'x3'"),
        ({"loss": "mse"}, ValueError, "loss: got 'mse', wants one of .* for classification"),
    ],
)
def test_bad_messages(message, error, said):
    with pytest.raises(error, match=said):
        from_message(message)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("problem=xro", "problem: got 'xro'"),
        ("rate=fast", "rate: got str 'fast'"),
        ("layers=4,x", "layers: got str 'x'"),
        ("layers=99999999", "layers: got str '99999999'"),
        ("colour=red", "settings: got 'colour'"),
        ("features=", "features: got ''"),
    ],
)
def test_bad_addresses(address, said):
    with pytest.raises((TypeError, ValueError), match=said):
        from_address(address)
