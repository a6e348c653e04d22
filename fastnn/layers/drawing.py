"""What layers that draw numbers in training share: their seed, and what a pass draws from."""

from __future__ import annotations

from typing import Any

from fastnn import checks
from fastnn.engine import seeds
from fastnn.engine.protocols import Draw, Training
from fastnn.kernels.table.random import DRAWN
from fastnn.layers.base import Layer


class Drawing(Layer):
    """A layer whose numbers follow from a seed, the optimizer's count of steps and the layer's place in the model.

    Without ``seed`` each fit draws one from the library's generator (``utils.set_random_seed``). Called by itself with
    ``training=True`` the layer draws, too: other numbers in every call.
    """

    def __init__(self, seed: int | None = None, **options: Any) -> None:
        self.seed = None if seed is None else checks.option("seed", seed, DRAWN["seed"])
        self._calls = 0
        super().__init__(**options)

    def _draw(self, training: Training) -> Draw:
        """What a pass in training draws from: what the runner says, but for a seed of the layer's own."""
        if not isinstance(training, Draw):
            self._calls += 1
            return outside(self.seed, self._calls)
        return training if self.seed is None else training._replace(seed=self.seed)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"seed": self.seed, **super().get_config()}


def outside(seed: int | None, calls: int) -> Draw:
    """What a call outside of any fit draws from, the last of so many of a layer with this seed."""
    return Draw(seeds.draw_seed(), 0, 0) if seed is None else Draw(seed, calls - 1, 0)
