"""The training plan: what will run, on what, and why; the trainer prints it and picks the runner by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from fastnn import backends
from fastnn.engine import cpu, cuda
from fastnn.engine.data import Source
from fastnn.engine.protocols import Layer, Network
from fastnn.errors import BackendError


class Own(Protocol):
    """What a backend's own runner says of itself: the module that has it."""

    RUNNER: str

    def obstacle(self, network: Network) -> str | None:
        """Why it cannot train this network, or predict with one that has no loss; None where it can."""
        ...

    def precision_obstacle(self, precision: str, dtype: np.dtype[Any]) -> str | None:
        """Why training cannot multiply numbers of this format; None where it can."""
        ...

    def facts(self, network: Network, source: Source | None, fused: bool) -> Mapping[str, str]:
        """What runs on this machine, by name, for people to read."""
        ...


# Backends with a runner of their own.
OWN: dict[str, Own] = {"cpu": cpu, "cuda": cuda}


def precision_meant(precision: str) -> str:
    """The format that ``precision`` of ``compile`` asks for: "auto" is the one that a CPU may have as well."""
    return "bfloat16" if precision == "auto" else precision


def precision_obstacle(backend: str, precision: str, dtype: np.dtype[Any]) -> str | None:
    """Why training on ``backend`` cannot multiply numbers of a format; None where it can."""
    return OWN[backend].precision_obstacle(precision, dtype) if backend in OWN else f"the backend is {backend!r}"


@dataclass(frozen=True)
class Plan:
    """What a fit runs; ``rows``, ``steps_per_epoch``, ``input`` and ``density`` are None while no data are given."""

    runner: str
    backend: str
    reason: str
    dtype: str
    precision: str
    parameters: int
    trainable_parameters: int
    flop_per_sample: int
    batch_size: int
    fused_loss: bool
    input: str | None = None
    density: float | None = None
    rows: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())

    @property
    def steps_per_epoch(self) -> int | None:
        """Batches an epoch, a short last one included."""
        return None if self.rows is None else -(-self.rows // self.batch_size)

    @property
    def flop_per_epoch(self) -> int | None:
        """Floating-point operations of the matrix products of one training epoch."""
        return None if self.rows is None else self.rows * self.flop_per_sample

    def __str__(self) -> str:
        lines = {
            "runner": self.runner,
            "backend": f"{self.backend} ({self.reason})",
            "input": self.input or "not given",
            "density": None if self.density is None else f"{self.density:.2%}",
            "dtype": self.dtype,
            "precision": f"products of {self.precision}, sums and weights of {self.dtype}",
            "batch": f"{self.batch_size:,} samples"
            + ("" if self.rows is None else f", {self.steps_per_epoch:,} an epoch"),
            "parameters": f"{self.parameters:,}, {self.trainable_parameters:,} of them trained",
            "arithmetic": _arithmetic(self),
            "loss": "fused with the last activation, on its logits" if self.fused_loss else "on the outputs",
            **self.facts,
            "notes": "; ".join(self.notes) or None,
        }
        return "\n".join(f"{name + ':':13}{text}" for name, text in lines.items() if text is not None)


def _arithmetic(plan: Plan) -> str:
    per_sample = f"{plan.flop_per_sample / 1e6:,.3g} MFLOP a sample"
    return (
        per_sample if plan.flop_per_epoch is None else f"{plan.flop_per_epoch / 1e9:,.3g} GFLOP an epoch, {per_sample}"
    )


def training_flops(layers: Sequence[Layer]) -> int:
    """Floating-point operations of one sample's training pass, matrix products only.

    A product of the forward pass costs as much again for the weights' gradient and for the input's; the first layer
    with weights needs no gradient of its input.
    """
    costs = [layer.flops for layer in layers if layer.flops]
    return 3 * sum(costs) - costs[0] if costs else 0


def flops(network: Network) -> int:
    """Floating-point operations of one sample's products: of its training, or without an optimizer its forward pass."""
    if network.optimizer is not None:
        return training_flops(network.layers)
    return sum(layer.flops for layer in network.layers)


def _of_size(backend: str, step_flop: float) -> str:
    """What the size of a step has to do with the choice of a backend."""
    return f", for {step_flop / 1e9:,.3g} GFLOP a step" if backend == "cuda" and step_flop >= backends.CUDA_FROM else ""


def make_plan(network: Network, backend: str = "auto", source: Source | None = None, batch_size: int = 32) -> Plan:
    """Decide what runs ``network``: the backend that ``backend`` resolves to, and the runner for it.

    Raises BackendError where a backend or a precision named explicitly cannot serve.
    """
    step_flop = batch_size * flops(network) if cuda.captures(network) else 0
    chosen = backends.resolve(backend, step_flop)
    reason = "asked for" if backend != "auto" else f"chosen by 'auto'{_of_size(chosen, step_flop)}"
    parameters = network.parameters
    known = OWN.get(chosen)
    obstacle = None if known is None else known.obstacle(network)
    runner = "layerwise" if known is None or obstacle is not None else known.RUNNER
    precision, fallback = _precision(network, chosen, obstacle)
    facts = {} if known is None else known.facts(replace(network, precision=precision), source, obstacle is None)
    return Plan(
        runner=runner,
        backend=chosen,
        reason=reason,
        dtype=str(network.dtype),
        precision=precision,
        parameters=sum(parameter.value.size for parameter in parameters),
        trainable_parameters=sum(parameter.value.size for parameter in parameters if parameter.trainable),
        flop_per_sample=training_flops([network.layers[call.layer] for call in network.graph.calls]),
        batch_size=batch_size,
        fused_loss=bool(network.fused_losses),
        input=None if source is None else source.description,
        density=None if source is None else source.density,
        rows=None if source is None else source.rows,
        facts=facts,
        notes=(*_notes(network, chosen, obstacle), *fallback),
    )


def _precision(network: Network, backend: str, obstacle: str | None) -> tuple[str, tuple[str, ...]]:
    """The format of the numbers that training multiplies, and a note where "auto" fell back."""
    if network.precision in (None, str(network.dtype)) or not network.has_loss:
        return str(network.dtype), ()
    meant = precision_meant(network.precision)
    reason = precision_obstacle(backend, meant, network.dtype)
    reason = reason or (obstacle and f"training goes layer by layer: {obstacle}")
    if reason is None:
        return meant, ()
    if network.precision == "auto":
        return str(network.dtype), (f"products of {network.dtype} in place of {meant}, because {reason}",)
    raise BackendError(
        f"precision: got {network.precision!r}, which cannot serve because {reason}; precision='auto' falls back to "
        f"{network.dtype}"
    )


def _notes(network: Network, backend: str, obstacle: str | None) -> Iterator[str]:
    """What somebody who wonders about speed or results should know."""
    if backend == "naive":
        yield "the naive backend is plain Python loops, thousands of times slower than cpu"
    if network.has_loss and network.optimizer is not None and obstacle is not None:
        yield f"layer by layer, because {obstacle}"
    if not network.has_loss:
        yield "no loss is compiled: this model can predict, not train"
    elif network.is_stack and network.fused_loss is None and _on_logits(network):
        yield "a penalty on the outputs keeps loss and last activation apart"


def _on_logits(network: Network) -> bool:
    """Whether the loss could take the last layer's logits, if nothing else looked at its outputs."""
    loss, layers = network.loss, network.layers
    return bool(layers) and loss is not None and loss.logits_form(layers[-1].epilogue.name) is not None
