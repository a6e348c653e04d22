"""What kernels are given: numbers that may be others from call to call are apart from all else. None is compiled."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fastnn import ops
from fastnn.kernels.cases import draw, variant_name
from fastnn.kernels.table import TABLE, Integer, Real


class Arena:
    """Memory at the same places again and again."""

    def __init__(self):
        self._whole, self._used = np.zeros(2**22, np.uint8), 0

    def malloc(self, size):
        start = self._used
        self._used += -(-size // 512) * 512
        assert self._used <= self._whole.size
        part = self._whole[start : start + size]
        return SimpleNamespace(mem=SimpleNamespace(bytes=part, ptr=part.ctypes.data, device_id=0))

    def free_all(self):
        self._used = 0


def others(spec):
    """Two numbers that an option may be."""
    if isinstance(spec, Integer):
        return spec.low + 3, spec.low + 4
    low, high = max(spec.low, -8.0), min(spec.high, 8.0)
    return low + 0.3 * (high - low), low + 0.6 * (high - low)


def given_to(op, variant):
    """All arguments of a call by name; of what may be bytes those, which take more numbers."""
    defaults = {name: parameter.default for name, parameter in op.signature.parameters.items()}
    given = defaults | draw(op, op.cases[-1], variant, "float32", np.random.default_rng(0))
    return given | {name: np.ones(given[name].shape, np.uint8) for name in op.of_bytes}


def options():
    """Every option that is a number, of every variant of its op whose rules let it be another."""
    for op in TABLE.values():
        for variant in op.variants:
            for name, spec in op.options.items():
                if isinstance(spec, (Real, Integer)) and not op.shapes(name):
                    given = given_to(op, variant)
                    if all(rule.holds({**given, name: value}) for value in others(spec) for rule in op.rules):
                        yield pytest.param(op, variant, name, id=f"{op.name}-{variant_name(variant)}-{name}")


@pytest.mark.parametrize(("op", "variant", "option"), list(options()))
def test_an_option_is_among_the_numbers(device, op, variant, option):
    """All that differs in what kernels are given are bytes of ``own``, which a captured launch finds elsewhere."""
    from fastnn.kernels.cuda import launch

    given = {
        name: device.asarray(each) if isinstance(each, np.ndarray) else each
        for name, each in given_to(op, variant).items()
    }
    changed = [{**given, option: value} for value in others(op.options[option])]
    arena, found = Arena(), []

    def take(kernel, grid, block, record):
        offset, size, _ = kernel.span
        rest = record.copy().view(np.uint8)
        rest[offset : offset + size] = 0
        found[-1].append((id(kernel), grid, rest.tobytes()))
        kernel.function(grid, block, (np.frombuffer(rest.tobytes(), record.dtype),))

    token = launch.takes_launches.set(take)
    try:
        for each in changed:
            found.append([])
            for _ in range(2):  # the first one makes a plan, and memory for it
                arena.free_all()
                device.records.clear()
                found[-1].clear()
                with device.cuda.using_allocator(arena.malloc):
                    getattr(ops, op.name)(**each)
            found[-1].append(list(device.records))
    finally:
        launch.takes_launches.reset(token)
    assert found[0] == found[1]
