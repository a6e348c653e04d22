"""The engine: turns (layers, loss, optimizer, data) into a plan, and runs it.

It works on the objects it is given, through the protocols of ``engine.protocols``; it knows no layer, loss or
optimizer by name. ``plan`` decides what will run: ``cpu`` trains many steps in one compiled call, where ``form``,
``inputs`` and ``session`` are what it makes of a network, of data, of a fit; ``layerwise`` runs any network on any
backend through ``fastnn.ops``, and what ``recorded`` can make a program of by one compiled call for many steps, or one
for each step where callbacks listen to batches or the update is more than an op. ``cuda`` does so with all arrays on a
device: ``placement`` is what it asks of a place of arrays, ``supply`` how samples come to the device, and ``tables`` in
what form.
"""

from __future__ import annotations

from dataclasses import replace

from fastnn.engine import cpu, cuda
from fastnn.engine.cpu import FusedRunner
from fastnn.engine.cuda import DeviceRunner
from fastnn.engine.data import Batch, DataSet, index_source, input_source, numeric_array
from fastnn.engine.layerwise import LayerwiseRunner
from fastnn.engine.plan import Plan, make_plan
from fastnn.engine.protocols import Network, Runner, StepHooks

# The runners by the name that a plan gives; each takes (network, backend).
RUNNERS: dict[str, type[LayerwiseRunner]] = {
    cpu.RUNNER: FusedRunner,
    cuda.RUNNER: DeviceRunner,
    "layerwise": LayerwiseRunner,
}


def make_runner(network: Network, plan: Plan) -> Runner:
    """The runner that ``plan`` names, ready to run ``network``."""
    return RUNNERS[plan.runner](replace(network, precision=plan.precision), plan.backend)


__all__ = [
    "RUNNERS",
    "Batch",
    "DataSet",
    "DeviceRunner",
    "FusedRunner",
    "LayerwiseRunner",
    "Network",
    "Plan",
    "Runner",
    "StepHooks",
    "index_source",
    "input_source",
    "make_plan",
    "make_runner",
    "numeric_array",
]
