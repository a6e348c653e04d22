"""What is swept: one parameter of a network and its training at a time, the others held fixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from fastnn.engine.inputs import SPARSE_BELOW

_QUICK_POINTS = 5


@dataclass(frozen=True)
class Setting:
    """A network of dense layers and how it is trained; ``density`` is the share of its inputs that are not zero."""

    hidden: tuple[int, ...] = (512,)
    batch: int = 128
    density: float = 1.0
    threads: int = 1
    inputs: int = 784
    outputs: int = 10

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths from the inputs to the outputs."""
        return (self.inputs, *self.hidden, self.outputs)

    @property
    def flops(self) -> int:
        """Floating-point operations of a sample's matrix products, zeros included, as ``plan`` counts them.

        2 * k * n for the outputs, the weights' gradient and, but for the first layer, the inputs' gradient.
        """
        return 6 * sum(k * n for k, n in pairwise(self.sizes)) - 2 * self.sizes[0] * self.sizes[1]

    @property
    def useful_flops(self) -> float:
        """The same without the products of the inputs that are zero."""
        return self.flops - (1 - self.density) * 4 * self.sizes[0] * self.sizes[1]


# Networks whose threads are swept, by the sweep's name: what they are, and the density of the data they are named for.
NETWORKS: dict[str, tuple[str, Setting]] = {
    "threads": ("784-512-10", Setting()),
    "mnist": ("784-512-10, as many zeros as MNIST has", Setting(density=0.191)),
    "fashion": ("784-512-10, as many zeros as Fashion-MNIST has", Setting(density=0.498)),
    "wide": ("784-2048-2048-10", Setting((2048, 2048))),
    "reuters": (
        "10000-64-64-46, batch 512, as many zeros as Reuters has",
        Setting((64, 64), batch=512, density=0.0082, inputs=10_000, outputs=46),
    ),
}

# How a parameter's value goes into a setting.
PARAMETERS: dict[str, Callable[[Setting, float], Setting]] = {
    "width": lambda setting, value: replace(setting, hidden=(int(value),) * len(setting.hidden)),
    "batch": lambda setting, value: replace(setting, batch=int(value)),
    "depth": lambda setting, value: replace(setting, hidden=setting.hidden[:1] * int(value)),
    "density": lambda setting, value: replace(setting, density=value),
    "threads": lambda setting, value: replace(setting, threads=int(value)),
}


@dataclass(frozen=True)
class Sweep:
    """A parameter, its values, and the setting that holds the others; a curve for each number of ``threads``."""

    name: str
    parameter: str
    values: tuple[float, ...]
    what: str
    fixed: Setting = Setting()
    threads: tuple[int, ...] = (1,)

    def at(self, value: float, threads: int) -> Setting:
        """The setting of one point."""
        return PARAMETERS[self.parameter](replace(self.fixed, threads=threads), value)

    def text(self, value: float) -> str:
        """A value of the parameter as people write it: a density in per cent."""
        return f"{100 * value:.3g}%" if self.parameter == "density" else f"{value:.0f}"

    def quick(self) -> Sweep:
        """The ends and a few values between them."""
        last = len(self.values) - 1
        kept = sorted({round(i * last / (_QUICK_POINTS - 1)) for i in range(_QUICK_POINTS)})
        return replace(self, values=tuple(self.values[i] for i in kept))


def sweeps(threads: int) -> tuple[Sweep, ...]:
    """All sweeps for a machine of so many threads: each with all of them, and with one.

    Widths are powers of two and halfway between, whole tiles from 32 on, so that the curve shows no teeth of padding.
    """
    curves = (threads, 1) if threads > 1 else (1,)
    doubled = tuple(1 << i for i in range(13))
    widths = tuple(sorted({*doubled[4:], *(3 * w // 2 for w in doubled[4:-1])}))
    beside = (round(0.975 * SPARSE_BELOW, 4), round(1.025 * SPARSE_BELOW, 4))
    densities = tuple(sorted({0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, *beside, 0.5, 0.7, 1.0}))
    counts = tuple(sorted({*(t for t in doubled if t < threads), threads}))
    return (
        Sweep("width", "width", widths, "units of both hidden layers of 784-W-W-10", Setting((512, 512)), curves),
        Sweep("batch", "batch", doubled, "rows in one update of 784-512-10", threads=curves),
        Sweep("narrow", "batch", doubled, "rows in one update of 784-32-10, a small network", Setting((32,)), curves),
        Sweep("depth", "depth", tuple(range(1, 9)), "hidden layers of 512 units", threads=curves),
        Sweep("density", "density", densities, "share of the inputs that are not zero, 784-512-10", threads=curves),
        *(
            Sweep(name, "threads", counts, f"CPU threads, {what}", setting, (threads,))
            for name, (what, setting) in NETWORKS.items()
        ),
    )


NAMES = tuple(sweep.name for sweep in sweeps(1))
