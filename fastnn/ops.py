"""The functional API: each op of the table, its arguments checked once, run where its arrays live.

The functions of this module are made from ``fastnn.kernels.table``; ``ops.pyi`` beside it, made from the same table,
tells editors and type checkers.
"""

from __future__ import annotations

import builtins  # any and all of this module are Keras's
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from operator import attrgetter
from typing import Any

import numpy as np

from fastnn import absent, adoption, backends, checks, control, discrete, mathematics, numerics, places, spatial, tape
from fastnn.kernels.table import TABLE, Op, varying

# Plans remembered for an op, by what its arrays are like: a training loop makes the same few calls over and over.
_REMEMBERED = 256

# What of an array the checks look at and plans depend on; and of one of CuPy's, which NumPy's lack.
_LIKENESS = ("__class__", "dtype", "shape", "strides", "flags.num")
_LIKENESS_ON_DEVICE = ("__class__", "dtype", "shape", "strides", "data.device_id")
# What of a CSR matrix of CuPy's; how long its arrays are is for each call to see.
_LIKENESS_OF_CSR = ("__class__", "dtype", "shape", "data.data.device_id")

# The public function of an op. What a call is like is compared with earlier ones by code written out for the op's own
# parameters: a loop over them would take twice as long, and be a large part of a small call. Device arrays have a
# function of their own, which this one hands them to.
_FUNCTION = """
def {name}({parameters}):{start}
    try:
        known = (override() or backends.default, {likeness})
        run = remembered.get(known)
    except (AttributeError, TypeError):  # other arrays than those meant here, or no array or option at all
        known = run = None
    if run is None or not ({kept}):
        return {unknown}
    {end}
"""

# What becomes of calls that are like none before.
_UNKNOWN = "checked(known, {given})"
_UNKNOWN_OR_ON_DEVICE = (
    "on_device({call}) if known is None and hasattr({first}.__class__, '__cuda_array_interface__') else " + _UNKNOWN
)

# Where an operand may be a CSR matrix, calls with one of CuPy's have a function of their own, too.
_UNKNOWN_OR_CSR = "of_csr({call}) if known is None and hasattr({sparse}, 'indptr') else "

# How that of an op begins whose operands may be lists, which have a function of their own.
_START_OF_LISTS = """
    if isinstance({first}, (list, tuple)):
        return listed({call})"""

# How it ends: a loss whose operands must have certain values is NaN where they have not, if its plan is remembered.
_END = "return run({call})"
_END_ON_DEVICE = """try:
        return run({call})
    except MemoryError as error:
        raise out_of_memory(error) from None"""
_END_OF_LOSS = """loss, derivative = run({call})
    return (loss, derivative) if loss == loss else checked(None, {given})"""


# That of an op that gathers rows: there is no result where one is wanted that is not there.
_END_OF_ROWS = """rows = run({call})
    return checked(None, {given}) if rows is None else rows"""

# That of lists: what runs says whether the arrays were as it was planned for.
_END_OF_LISTS = """if not run({call}):
        return checked(known, {given})"""

# What distinguishes plans for lists: the first one's arrays. Compiled code compares the rest.
_LIKENESS_OF_LISTS = ("dtype", "shape")


def _publish(op: Op) -> Callable[..., Any]:
    """The public function of one row: check and plan, or run as a call like it was planned."""
    arrays = _arrays(op)
    changing = [name for name, spec in op.options.items() if varying(spec)]
    named = [p.name for p in op.signature.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    others = [name for name in op.signature.parameters if name not in named]
    remembered, by_values = backends.new_plans(), checks.depends_on_values(op)
    numbers = [*op.operands] if op.module == "elementwise" and [*op.operands] in (["x"], ["a", "b"]) else []

    def checked(known: Any, given: dict[str, Any]) -> Any:
        held = tape.operands(given)
        if held is not None or adoption.adopt(given, arrays):
            return call(**(held or given))
        if builtins.any(tape.is_number(given[name]) for name in numbers) and tape.symbol_among(given.values()) is None:
            return _of_numbers(call, {name: given[name] for name in numbers}, given)
        follower = _of_other_ranks(op, given) or _follower(op, given)
        if follower is not None:
            return follower(call, given)
        of_csr = builtins.any(checks.is_csr(given[name]) for name in op.sparse)
        if of_csr and known is None:
            known = _known_of_csr(op, given)
            run = remembered.get(known)
            if run is not None:
                result = run(*(given[name] for name in others), **{name: given[name] for name in named})
                if result is not None or not by_values:  # else there is none of such operands
                    return result
        plain = builtins.all(_is_plain(given[name]) for name in arrays)
        backend = _home(op, arrays, given)
        if backend == "cuda" and _adopt(op, arrays, given):
            return call(**given)
        if not (plain or backend == "cuda") or not builtins.all(_is_number(given[name]) for name in changing):
            known = None
        as_given = [given[name] for name in op.options]
        _check_options(op, given)
        checks.operands(op, given)
        _check_rules(op, given)
        run = backends.implementation(backend, "csr" if of_csr else op.module, op.name)
        arguments, keywords = [given[name] for name in others], {name: given[name] for name in named}
        if known is not None:
            planned = hasattr(run, "plan")
            converted = as_given != [given[name] for name in op.options]
            if planned:
                run = run.plan(*arguments, **keywords)
            if planned or not (by_values or converted) or backend == "cuda":  # a plan knows the options
                _remember(remembered, known, run)
        return _run_on_device(run, arguments, keywords) if backend == "cuda" else run(*arguments, **keywords)

    names = {"checked": checked, "remembered": remembered, "listed": _publish_lists(op) if op.lists else None}
    of_csr = _compile(op, _parts(op, "csr"), **names) if op.sparse else None
    on_device = _compile(op, _parts(op, "device"), **names, of_csr=of_csr)
    call = _compile(op, _parts(op, "host"), **names, on_device=on_device, of_csr=of_csr)
    call.__doc__ = op.doc
    call.__signature__ = op.signature  # type: ignore[attr-defined]
    return call


def _of_symbols_too(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is made of ops, which symbols may be given to as arrays are."""
    bind = inspect.signature(function).bind

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        symbol = tape.symbol_among((*arguments, *named.values()))
        if symbol is None:
            return function(*arguments, **named)
        return symbol.applied(call, bind(*arguments, **named).arguments)

    return call


def _of_any_axis(rows: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """What is made of an op of rows for every axis; NumPy's matrices go straight to the op."""

    @wraps(function)
    def call(x: Any, axis: int = -1, *, out: Any = None) -> Any:
        if axis == -1 and type(x) is np.ndarray and x.ndim == 2:
            return rows(x, out=out)
        return function(x, axis, out=out)

    return call


def _of_numbers(call: Callable[..., Any], operands: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """What an op makes of numbers: a number, or beside an array what it makes of one that is stretched."""
    arrays = [each for each in operands.values() if not tape.is_number(each)]
    for name, each in operands.items():
        if not (tape.is_number(each) or hasattr(each, "dtype")):
            raise TypeError(f"{name}: got {checks.describe(each)}, wants a NumPy or CuPy array")
    y = call(**{**given, **{name: _beside(each, arrays) for name, each in operands.items()}})
    return y if arrays else globals()["total"](y)[0]


def _beside(operand: Any, arrays: Sequence[Any]) -> Any:
    """A number as an array (1,) of the dtype of the one beside it; an array itself."""
    return tape.as_array(operand, *arrays) if tape.is_number(operand) else operand


def _remember(remembered: dict[Any, Any], known: Any, run: Callable[..., Any]) -> None:
    """Keep what runs calls like one, and not too many of such."""
    if len(remembered) >= _REMEMBERED:
        remembered.clear()
    remembered[known] = run


def _compile(op: Op, parts: Mapping[str, str], **names: Any) -> Callable[..., Any]:
    """The function that ``_FUNCTION`` gives of these parts; ``names`` are those that are the op's own."""
    space: dict[str, Any] = {
        "__name__": __name__,
        "override": backends.override.get,
        "backends": backends,
        "like": attrgetter(*_LIKENESS_OF_LISTS),
        "surroundings": _surroundings,
        "out_of_memory": _out_of_memory,
        "inf": math.inf,
        **names,
    }
    exec(compile(_FUNCTION.format(**parts), f"<fastnn.ops.{op.name}>", "exec"), space)  # the table alone writes it
    call: Callable[..., Any] = space[op.name]
    return call


def _publish_lists(op: Op) -> Callable[..., None]:
    """The function that a call with lists goes to: as ``_publish``, for all of their elements at once."""
    remembered = backends.new_plans()

    def checked(known: Any, given: dict[str, Any]) -> None:
        if adoption.adopt(given, op.operands):
            return call(**given)
        follower = _follower(op, given)
        if follower is not None:
            return follower(call, given)
        lists = checks.lists(op, given)
        if not builtins.all(_is_number(given[name]) for name, spec in op.options.items() if varying(spec)):
            known = None
        _check_options(op, given)
        _check_rules(op, given)
        calls = [{**given, **dict(zip(lists, each, strict=True))} for each in zip(*lists.values(), strict=True)]
        homes = [_check_element(op, calls, index) for index in range(len(calls))]
        if not calls:
            return None
        if len(set(homes)) > 1:
            raise TypeError(f"{next(iter(lists))}: got arrays of NumPy and of CuPy, wants all arrays in one place")
        step = backends.implementation(homes[0], op.module, op.name)
        given |= {name: [single[name] for single in calls] for name in lists}
        run = step.plan_lists(*given.values()) if hasattr(step, "plan_lists") else None
        if homes[0] == "cuda":
            step, run = _explaining(step), run and _explaining(run)
        if run is None or not run(*given.values()):
            for single in calls:
                step(*single.values())
        elif known is not None:
            _remember(remembered, known, run)
        return None

    call = _compile(op, _parts(op, "lists"), checked=checked, remembered=remembered)
    return call


def _follower(op: Op, given: Mapping[str, Any]) -> Callable[..., Any] | None:
    """What takes a call in place of its backend: a symbol, or who follows it for gradients or records a program."""
    symbol = tape.symbol_among(given.values())
    if symbol is not None:
        return symbol.applied
    if tape.follows(given):
        return lambda call, given: tape.record(op.name, call, given, op.inplace, op.into)
    recorder = backends.recorder()
    return None if recorder is None else partial(recorder.call, op)


def _of_other_ranks(op: Op, given: Mapping[str, Any]) -> Callable[..., Any] | None:
    """What takes a call whose operands have other ranks than the op's row says, where that is made of ops."""
    function = numerics.OF_OTHER_RANKS.get(op.name)
    if function is None or tape.symbol_among(given.values()) is not None:
        return None
    if builtins.all(_has_rank(op, name, given[name]) for name in op.operands):
        return None
    return lambda call, given: function(**given)


def _has_rank(op: Op, name: str, array: Any) -> bool:
    """Whether an operand has the rank of its row, or is something else than an array."""
    return getattr(array, "ndim", None) in (None, len(op.operands[name].split()))


def _check_element(op: Op, calls: Sequence[dict[str, Any]], index: int) -> str:
    """Check one of the calls that a call with lists stands for; the backend of its arrays."""
    call, first = calls[index], next(iter(op.operands))
    with checks.element(index):
        home = _home(op, tuple(op.operands), call)
        if home == "cuda":
            _adopt(op, tuple(op.operands), call)
        checks.operands(op, call)
    dtype = calls[0][first].dtype
    if call[first].dtype != dtype:
        raise TypeError(f"{first}[{index}]: got dtype {call[first].dtype}, wants {dtype}, the dtype of {first}[0]")
    return home


def _check_options(op: Op, given: dict[str, Any]) -> None:
    """Check and convert the options of a call."""
    for name, spec in op.options.items():
        given[name] = checks.option(name, given[name], spec)


def _check_rules(op: Op, given: Mapping[str, Any]) -> None:
    """Check what must hold between the parameters of a call."""
    for rule in op.rules:
        if not rule.holds(given):
            got = checks.describe(given[rule.parameter])
            raise ValueError(f"{rule.parameter}: got {got}, wants it {rule.wants}")


def _arrays(op: Op) -> tuple[str, ...]:
    """The parameters that are arrays."""
    return (*op.operands, *op.into)


def _is_plain(array: Any) -> bool:
    """Whether what is known of a call tells all about this array of the host's."""
    return array is None or type(array) is np.ndarray or hasattr(array, "packed_for") or checks.is_csr(array)


def _known_of_csr(op: Op, given: Mapping[str, Any]) -> Any:
    """What a call with CSR matrices is like; None where arrays or options are such that none is remembered."""
    try:
        arrays = [_of_array(given[name]) for name in _arrays(op)]
        known = backends.current(), *arrays, *((given[name].__class__, given[name]) for name in op.options)
        hash(known)
    except (AttributeError, TypeError):
        return None
    return known


def _of_array(array: Any) -> Any:
    if array is None:
        return None
    if not checks.is_csr(array):
        on_host = isinstance(array, np.ndarray) or hasattr(array, "packed_for")
        return attrgetter(*(_LIKENESS if on_host else _LIKENESS_ON_DEVICE))(array)
    likeness = attrgetter("__class__", "dtype", "shape")(array)
    return likeness if isinstance(array.data, np.ndarray) else (likeness, array.data.data.device_id, _surroundings())


def _is_number(option: Any) -> bool:
    """Whether an option needs no conversion: what is known of a call says of a varying one just its class."""
    return type(option) in (int, float)


def _parts(op: Op, takes: str) -> dict[str, str]:
    """What the source of an op's function is made of, which takes arrays of the "host", of the "device", or "lists".

    Or "csr": arrays of the device beside CSR matrices there.
    """
    parameters, call, likeness, kept, named = [], [], [], [], False
    for name, parameter in op.signature.parameters.items():
        required = parameter.default is inspect.Parameter.empty
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not named:
            parameters.append("*")
            named = True
        parameters.append(name if required else f"{name}={parameter.default!r}")
        call.append(f"{name}={name}" if named else name)
        if name in _arrays(op):
            attributes = _LIKENESS_ON_DEVICE if takes in ("device", "csr") else _LIKENESS
            attributes = _LIKENESS_OF_CSR if takes == "csr" and name in op.sparse else attributes
            like = ", ".join(f"{name}.{attribute}" for attribute in attributes)
            if takes == "lists":
                like = f"{name}.__class__, " + (f"len({name})" if likeness else f"*map(like, {name})")
            likeness.append(like if required else f"None if {name} is None else ({like})")
        elif varying(op.options[name]):
            likeness.append(f"{name}.__class__")
            kept.append(checks.bounds(name, op.options[name]))
        else:
            likeness.append(f"{name}.__class__, {name}")
    if takes in ("device", "csr"):
        likeness.append("surroundings()")
    first, passed = next(iter(op.operands)), ", ".join(call)
    given = "{" + ", ".join(f"{name!r}: {name}" for name in op.signature.parameters) + "}"
    start = _START_OF_LISTS if op.lists and takes == "host" else ""
    unknown = _UNKNOWN_OR_ON_DEVICE if takes == "host" else _UNKNOWN
    if op.sparse and takes in ("host", "device"):
        unknown = _UNKNOWN_OR_CSR.replace("{sparse}", op.sparse[0]) + unknown
    return {
        "name": op.name,
        "parameters": ", ".join(parameters),
        "start": start.format(first=first, call=passed),
        "likeness": ", ".join(likeness),
        "kept": " and ".join(kept) or "True",
        "unknown": unknown.format(first=first, call=passed, given=given),
        "end": _end(op, takes).format(call=passed, given=given),
    }


def _end(op: Op, takes: str) -> str:
    """How an op's function ends. Of a device nobody reads values here: what is wrong with them shows in results."""
    if takes == "lists":
        return _END_OF_LISTS
    if takes in ("device", "csr"):
        return _END_ON_DEVICE
    if not checks.depends_on_values(op):
        return _END
    return _END_OF_ROWS if "row_numbers" in op.draw.values() else _END_OF_LOSS


def _surroundings() -> Any:
    """What plans for device arrays depend on beside them; BackendError where the backend "cuda" cannot serve."""
    return backends.implementation("cuda", "launch", "surroundings")()


def _run_on_device(run: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """What an op returns; MemoryError with what the device has where that is too little."""
    try:
        return run(*arguments, **keywords)
    except MemoryError as error:
        raise _out_of_memory(error) from None


def _explaining(run: Callable[..., Any]) -> Callable[..., Any]:
    """A function on device arrays, as ``_run_on_device`` runs it."""
    return lambda *arguments: _run_on_device(run, arguments, {})


def _out_of_memory(error: MemoryError) -> MemoryError:
    """What CuPy says of memory that a device has not, and what it has."""
    explained: MemoryError = backends.implementation("cuda", "launch", "out_of_memory")(error)
    return explained


def _home(op: Op, arrays: tuple[str, ...], given: dict[str, Any]) -> str:
    """The backend of the place where the arrays live; raises for what is no array and for arrays in two places."""
    homes: dict[str, str] = {}
    for name in arrays:
        array = given[name]
        if type(array) is np.ndarray:
            homes["host"] = name
        elif array is None and (name in op.into or op.optional(name)):
            continue
        elif name in op.packed and hasattr(array, "packed_for"):
            homes["host"] = name
            if backends.current() != array.packed_for:
                raise TypeError(f"{name}: got {array!r}, wants an array while the backend is {backends.current()!r}")
        elif (name in op.sparse or not checks.is_csr(array)) and checks.is_on_device(array):
            homes["device"] = name
        elif name in op.sparse and checks.is_csr(array):
            homes["host"] = name
        elif isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray):
            given[name] = array.view(np.ndarray)
            homes["host"] = name
        else:
            others = ", or a CSR matrix of SciPy's or CuPy's" if name in op.sparse else ""
            raise TypeError(f"{name}: got {checks.describe(array)}, wants a NumPy or CuPy array{others}")
    if len(homes) > 1:
        device, host = homes["device"], homes["host"]
        raise TypeError(
            f"{device}: got {checks.of_device(given[device])} beside the NumPy array {host}, wants all arrays in one "
            "place (cupy.asarray or cupy.asnumpy copies; fastnn never copies between host and device by itself)"
        )
    if "device" in homes:
        return "cuda"
    chosen = backends.current()
    if chosen == "cuda":
        raise TypeError(f"{homes['host']}: got a NumPy array, wants a CuPy array while the backend is 'cuda'")
    return chosen


def _adopt(op: Op, arrays: tuple[str, ...], given: dict[str, Any]) -> bool:
    """Put CuPy arrays in the place of other libraries' device arrays, over their memory; whether there were any.

    Raises unless all are on the current device, and those that are written to may be.
    """
    adopted = backends.implementation("cuda", "arrays", "adopted")
    foreign = False
    for name in arrays:
        array = given[name]
        if array is None or checks.is_csr(array):
            continue
        try:
            given[name] = adopted(array)
        except Exception as error:  # whatever its library raises: for a gradient that it keeps, a dtype, a dead device
            raise TypeError(f"{name}: got {checks.of_device(array)} that cannot be taken: {error}") from error
        if given[name] is not array:
            foreign = True
            if name in op.inplace or name in op.into:
                checks.not_locked(name, array)
    _check_device({name: given[name] for name in arrays if given[name] is not None})
    return foreign


def _check_device(arrays: Mapping[str, Any]) -> None:
    """Raise ValueError unless device arrays are on the current device, all of them."""
    device_of = backends.implementation("cuda", "arrays", "device")
    current, *_ = _surroundings()
    devices = {name: device_of(array) for name, array in arrays.items()}
    first = next(iter(devices))
    for name, device in devices.items():
        if device != devices[first]:
            raise ValueError(
                f"{name}: got an array of CUDA device {device} beside {first} of device {devices[first]}, wants all "
                "arrays on one device"
            )
    if devices[first] != current:
        raise ValueError(
            f"{first}: got an array of CUDA device {devices[first]}, wants one of the current device, {current} (with "
            f"cupy.cuda.Device({devices[first]}): chooses another)"
        )


def pack(w: Any) -> Any:
    """Weights (in, out) laid out as the kernels read them fastest, for ``linear`` (w) and ``matmul`` (b).

    Pays where the same weights meet many batches. A copy: later changes of ``w`` do not reach it, but
    ``linear_backward`` takes it, and steps such as ``linear_rmsprop_step`` step it in place, with what they keep of it
    packed alike; ``unpack`` reads it. float32 or float64, any strides; on the "cpu" backend only. Raises TypeError and
    ValueError as the ops do.
    """
    if backends.recorder() is not None:
        raise TypeError("w: got weights to pack inside a program, wants them packed outside")
    backend = backends.current()
    if backend != "cpu":
        raise TypeError(f"w: got {checks.describe(w)}, wants the backend 'cpu' to pack it for, not {backend!r}")
    w = adoption.adopted("w", w)
    checks.matrix("w", w)
    panels = backends.implementation("cpu", "gemm", "Panels")
    return panels(w)


def unpack(packed: Any) -> Any:
    """Packed weights as a new array (in, out) in C order. Raises TypeError for what ``pack`` has not made."""
    if not hasattr(packed, "packed_for"):
        raise TypeError(f"packed: got {checks.describe(packed)}, wants what pack returned")
    return packed.array()


# What is made of the table's ops, a module each.
_MADE = (numerics, discrete, places, mathematics, spatial, control)
_MADE_OF_OPS = {name: _of_symbols_too(getattr(module, name)) for module in _MADE for name in module.NAMES}
__all__ = sorted({*TABLE, *_MADE_OF_OPS, "pack", "unpack"})
globals().update({name: _publish(op) for name, op in TABLE.items()})
numerics.OPS.update({name: globals()[name] for name in TABLE})
globals().update(_MADE_OF_OPS)
globals().update({name: _of_any_axis(numerics.OPS[name], made) for name, made in _MADE_OF_OPS.items() if name in TABLE})
shape, ndim = numerics.shape, numerics.ndim  # a symbol has them
tape.OPERATORS.update(plus=globals()["add"], minus=globals()["subtract"], times=globals()["multiply"])
tape.OPERATORS.update(over=globals()["divide"], square=globals()["square"], sqrt=globals()["sqrt"])
tape.OPERATORS.update(total=globals()["total"], product=globals()["matmul"])
tape.OPERATORS.update(log=globals()["log"], exponential=globals()["exponential"])
tape.OPERATORS.update(sum=globals()["sum"], mean=globals()["mean"])
absent.explain(__name__)
