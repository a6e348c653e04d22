"""Resilient propagation that looks at all weights together: a step in place."""

from __future__ import annotations

from fastnn.kernels.table.row import ELEMENTWISE, Choice, Real, op, shapes

# What the weight is chosen by that balances all others' changes.
BALANCES = ("none", "gradient", "step_size")

_POSITIVE = Real(low=0.0, open_low=True)


@op(
    "resilient",
    w="...",
    dw="...",
    step_size="...",
    gradient="...",
    returns=(),
    inplace=("w", "step_size", "gradient"),
    options={
        "balance": Choice(BALANCES),
        "eta_minus": Real(low=0.0, high=1.0, open_low=True, open_high=True),
        "eta_plus": Real(low=1.0, open_low=True),
        "step_min": _POSITIVE,
        "step_max": _POSITIVE,
        "delta": _POSITIVE,
    },
    cases=ELEMENTWISE,
    bench=shapes((10_000,)),
    variants=(
        {},
        {"balance": "gradient"},
        {"balance": "step_size"},
        {"balance": "gradient", "eta_minus": 0.3, "eta_plus": 1.5, "step_min": 0.5, "step_max": 0.6, "delta": 0.1},
    ),
    draw={"step_size": "positive"},
)
def rprop_minus_step(
    w,
    dw,
    step_size,
    gradient,
    balance="none",
    eta_minus=0.5,
    eta_plus=1.2,
    step_min=1e-6,
    step_max=50.0,
    delta=1e-6,
):
    """One step of resilient propagation, in place, without weight backtracking (Igel and Huesken 2003).

    ``gradient`` is dw of the step before, 0 in the first. Where the two have one sign, step_size = min(step_size *
    eta_plus, step_max); where they have not, step_size = max(step_size * eta_minus, step_min). Then
    w -= sign(dw) * step_size, and gradient = dw.

    With a ``balance`` (the globally convergent variants: Anastasiadis, Magoulas and Vrahatis 2005), one weight of those
    with a derivative makes up for all others: its step_size becomes -(sum over the others of step_size * dw +
    delta) / dw, no less than step_min and no more than step_max. "gradient" chooses the first with the smallest |dw|,
    "step_size" the first with the smallest step_size.
    """
