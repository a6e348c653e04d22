"""``accelerate``: a model that is there runs on fastnn's kernels, by other classes of its modules and optimizers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fastnn import checks
from fastnn.torch import modules, optim
from fastnn.torch.arrays import unserved

# PyTorch's classes, and ours of the same names.
_MODULES: dict[type, Any] = {
    nn.Linear: modules.Linear,
    nn.Conv2d: modules.Conv2d,
    nn.CrossEntropyLoss: modules.CrossEntropyLoss,
    nn.Sequential: modules.Sequential,
}
_OPTIMIZERS: dict[type, Any] = {getattr(torch.optim, name): getattr(optim, name) for name in optim.__all__}
_THEIRS: dict[type, type] = {ours: theirs for theirs, ours in (_MODULES | _OPTIMIZERS).items()}


@dataclass(frozen=True)
class Line:
    """A module or optimizer: its name in the model, its class, whether fastnn runs it, and how or why not."""

    name: str
    kind: str
    accelerated: bool
    note: str = ""


class Report(tuple[Line, ...]):
    """What ``accelerate`` has found, a line each; printed it is a table."""

    __slots__ = ()

    def __str__(self) -> str:
        rows = [("name", "class", "runs on", "")]
        rows += [(line.name, line.kind, "fastnn" if line.accelerated else "PyTorch", line.note) for line in self]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join("  ".join((*map(str.ljust, row[:3], widths), row[3])).rstrip() for row in rows)


def accelerate(module: nn.Module, *others: nn.Module | torch.optim.Optimizer) -> Report:
    """Let ``module``, and other modules (a loss) and optimizers, run on fastnn's kernels where these serve them.

    Linear, Conv2d and CrossEntropyLoss, wherever they are in the modules, and the optimizers of ``fastnn.torch.optim``
    take fastnn's class of the same name; in a Sequential a layer takes in the activation behind it, and linear layers
    run together. Parameters, buffers, hooks and names stay the objects that they are, the state dict too; ``restore``
    undoes it. The report says what runs how, and why not.

    Gradients are those of PyTorch up to rounding; second derivatives (``create_graph=True``) are refused. TypeError for
    what is no module or optimizer, before anything is changed.
    """
    things = _things(module, *others)
    lines: list[Line] = []
    for thing in things:
        lines += _modules(thing) if isinstance(thing, nn.Module) else [_optimizer(thing)]
    return Report(lines)


def restore(module: nn.Module, *others: nn.Module | torch.optim.Optimizer) -> None:
    """Undo ``accelerate``: give modules and optimizers PyTorch's classes again."""
    for thing in _things(module, *others):
        for each in thing.modules() if isinstance(thing, nn.Module) else (thing,):
            if type(each) in _THEIRS:
                each.__class__ = _THEIRS[type(each)]


def _things(*given: Any) -> tuple[Any, ...]:
    for place, thing in enumerate(given):
        name = "module" if place == 0 else f"others[{place - 1}]"
        checks.instance(name, thing, (nn.Module, torch.optim.Optimizer), "a module or an optimizer of PyTorch's")
    return given


def _modules(root: nn.Module) -> Iterator[Line]:
    """Swap the modules of a tree; a line for each that computes."""
    together: set[nn.Module] = set()
    for name, module in root.named_modules():
        kind = type(module).__name__
        if type(module) in (nn.Sequential, modules.Sequential):
            module.__class__ = modules.Sequential
            together |= _activations(module)
        elif any(True for _ in module.children()):
            continue
        elif module in together:
            yield Line(name, kind, True, "in the layer before it")
        else:
            reason = _reason(module)
            if reason is None:
                module.__class__ = _MODULES.get(type(module), type(module))
            yield Line(name, kind, reason is None, reason or "")


def _activations(sequence: nn.Module) -> set[nn.Module]:
    """The activations that layers take in."""
    found, before = set(), None
    for module in sequence.children():
        if before is not None and modules.activation(module) and modules.is_plain(module):
            found.add(module)
            before = None
        else:
            takes_in = type(module) in _LAYERS and _reason(module) is None and modules.is_plain(module)
            before = module if takes_in else None
    return found


_LAYERS = (nn.Linear, nn.Conv2d, modules.Linear, modules.Conv2d)


def _reason(module: Any) -> str | None:
    """Why a module without children is left as it is; None where fastnn runs it."""
    ours = _MODULES.get(type(module), type(module))
    if ours not in _THEIRS:
        if modules.activation(module):
            return "an activation that is behind no layer of a Sequential"
        bases = [base.__name__ for base in _MODULES if isinstance(module, base)]
        return f"a subclass of {bases[0]}, with ways of its own" if bases else "no kernel for it"
    reason = ours.unserved(module) if hasattr(ours, "unserved") else None
    return reason or next(filter(None, map(unserved, module.parameters())), None)


def _optimizer(optimizer: torch.optim.Optimizer) -> Line:
    """Swap an optimizer's class, if that serves its groups."""
    theirs = _THEIRS.get(type(optimizer), type(optimizer))
    ours, reason = _OPTIMIZERS.get(theirs), None
    if ours is None:
        reason = "no kernel for it"
    elif "step" in vars(optimizer) and type(optimizer) is theirs:
        reason = "a scheduler holds its step: accelerate it before the scheduler is made"
    else:
        optimizer.__class__ = ours
        optimizer._patch_step_function()
        reason = optimizer.unserved()  # type: ignore[attr-defined]
        if reason is not None:
            optimizer.__class__ = theirs
    return Line("optimizer", theirs.__name__, reason is None, reason or "all parameters by one call")
