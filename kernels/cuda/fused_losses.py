"""Losses of a recorded step whose launches go on, so that what comes back to the last layer takes no more of them.

- Targets are made there of others, number by number (``goals.py``): labels are smoothed, or are signs.
- Loss and derivative are multiplied there by what comes behind them: a sum is a mean times the number of rows.
- The derivative goes back through the activation that made the predictions; one of rows is made there, too, of the
  layer's logits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from fastnn.kernels.cuda import goals
from fastnn.kernels.cuda.losses import GOALS_NAMED, Further, Scored
from fastnn.kernels.cuda.recorded import Origin, Slope, is_written, made_by, passes, slope_of
from fastnn.kernels.graph import Block, Call, Figure, View
from fastnn.kernels.table import TABLE
from fastnn.kernels.table.losses import LOSSES

# What multiplies loss and derivative: a calculation of one of them and a number, and what the launch calls this.
_FACTORS = (("times", "of_value"), ("scaled", "of_slope"))


def is_loss(call: Call) -> bool:
    """Whether it is a loss of rows of predictions."""
    pred = call.given[_pred(call.op)] if call.op in LOSSES else None
    return isinstance(pred, View) and pred.ndim == 2 and pred.size > 0


def _pred(op: str) -> str:
    """The name of a loss's predictions."""
    return next(iter(TABLE[op].operands))


def gone_on(calls: list[Origin], loss: Origin, kept: Collection[Block]) -> list[Origin]:
    """With what follows a loss in its launch."""
    calls = _retargeted(calls, loss, kept)
    calls = _multiplied(calls, _loss_of(calls, loss.number), kept)
    return _slope_behind(calls, loss.number, kept)


def _further(call: Call) -> Further:
    """What a loss's launch goes on with so far."""
    return call.run.further if isinstance(call.run, Scored) else Further()


def _retargeted(calls: list[Origin], loss: Origin, kept: Collection[Block]) -> list[Origin]:
    """With the targets made in its launch."""
    call = loss.call
    name = [*TABLE[call.op].operands][1]
    source = goals.source_of(calls, loss, call.given[name], kept)
    if source is None:
        return calls
    given = {**call.given, name: source.targets, "constants": source.constants}
    given |= dict(zip(GOALS_NAMED, source.numbers, strict=False))
    made = replace(call, given=given, run=Scored(call.op, Further(goals=source.goals)))
    return [replace(each, call=made) if each is loss else each for each in calls if each not in source.calls]


def _loss_of(calls: Sequence[Origin], number: int) -> Origin:
    """The call of a loss by its number."""
    return next(each for each in calls if each.number == number and each.call.op in LOSSES)


def _multiplied(calls: list[Origin], loss: Origin, kept: Collection[Block]) -> list[Origin]:
    """With the numbers that its results are multiplied by in its launch."""
    made, gone = loss.call, list[Origin]()
    for place, (op, name) in enumerate(_FACTORS):
        result = made.results[place]
        behind = next((each for each in calls if each.call.op == op and result in each.call.given.values()), None)
        if behind is None or not passes(calls, result, kept, loss, behind):
            continue
        number = next((each for each in behind.call.given.values() if isinstance(each, Figure)), None)
        if number is not None and number.early:
            results = (*made.results[:place], *behind.call.results, *made.results[place + 1 :])
            run = Scored(made.op, _further(made))
            made = replace(made, given={**made.given, name: number}, results=results, run=run)
            gone.append(behind)
    return [replace(each, call=made) if each is loss else each for each in calls if each not in gone]


def _slope_behind(calls: list[Origin], number: int, kept: Collection[Block]) -> list[Origin]:
    """With what goes back through an activation in its launch, where nobody else needs what goes there."""
    loss = _loss_of(calls, number)
    value, dy = loss.call.results
    slopes = ((each, found) for each in calls if (found := slope_of(each.call)) is not None and found.dy == dy)
    behind, found = next(slopes, (None, None))
    if behind is None or found is None or not passes(calls, dy, kept, loss, behind):
        return calls
    if is_written(found.s, calls[calls.index(loss) : calls.index(behind)]):
        return calls
    further = replace(_further(loss.call), activation=found.activation, numbers=found.numbers)
    (dz,) = behind.call.results
    given, run = loss.call.given, Scored(loss.call.op, further)
    if not found.of_rows:
        made = replace(loss.call, given={**given, "s": found.s}, results=(value, dz), run=run)
        return [replace(each, call=made) if each is loss else each for each in calls if each is not behind]
    ahead = _logits(calls, loss, found)
    if ahead is None:
        return calls
    layer, left, logits = ahead
    made = replace(loss.call, given={**given, _pred(loss.call.op): logits}, results=(value, dz, found.s), run=run)
    changed = {id(behind): [], id(layer): left, id(loss): [replace(loss, call=made)]}
    return [one for each in calls for one in changed.get(id(each), [each])]


def _logits(calls: Sequence[Origin], loss: Origin, slope: Slope) -> tuple[Origin, list[Origin], View] | None:
    """Who makes predictions by an activation of rows, what becomes of it where it leaves that alone, and the logits."""
    pred = loss.call.given[_pred(loss.call.op)]
    if pred != slope.s or not (pred.contiguous and pred.block.inner):
        return None
    maker = made_by(calls, slope.activation, pred)
    layer = maker or made_by(calls, "linear", pred)
    if layer is None:
        return None
    between = calls[calls.index(layer) + 1 : calls.index(loss)]
    if any(pred.block in each.call.touched() for each in between):
        return None
    if maker is not None:
        logits = maker.call.given["x"]
        return None if is_written(logits, between) else (maker, [], logits)
    if layer.call.given["activation"] != slope.activation:
        return None
    logits = replace(pred, block=Block(pred.block.size))
    linear = replace(layer.call, given={**layer.call.given, "activation": "linear"}, results=(logits,))
    return layer, [replace(layer, call=linear)], logits
