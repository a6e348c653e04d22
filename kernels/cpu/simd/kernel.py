"""Micro-kernels: functions that emit LLVM IR, declared by the kinds of their operands.

``@micro_kernel`` makes of ``def scale_row(v: Vectors, count: Size, x: Pointer, factor: Number) -> Nothing`` the
intrinsic that Numba functions call; the body is given the operands as LLVM values and emits code with ``v``. Operands
that several micro-kernels take alike are declared once, as the fields of a NamedTuple, and come to the body as one.

A Numba kernel holds calls, not copies: ``library`` compiles all micro-kernels once for a dtype. Intrinsics are module
globals, so that compiled kernels stay cacheable on disk; dtype, vector length and tile follow from the pointers' type
and the targeted CPU.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Annotated, Any, get_type_hints

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.cpu.compiler.machine import tile
from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.vectors import FORMATS, I32, I64

# --------------------------------------------------------------------------------------------------------------- kinds


@dataclass(frozen=True, eq=False)
class Kind:
    """What an operand or result is to LLVM, to Numba and to ctypes, for a dtype."""

    llvm: Callable[[Any], Any]
    numba: Callable[[Any], Any]
    ctype: Callable[[Any], Any]


def _scalar(dtype: Any) -> Any:
    return FORMATS[dtype].scalar


def _pointer_to(llvm: Any, numba: Any) -> Kind:
    return Kind(lambda _: llvm.as_pointer(), lambda _: types.CPointer(numba), lambda _: ctypes.c_void_p)


# A size, stride or code; a number; a pointer to numbers; two numbers; nothing; a pointer to int32 indices; a pointer to
# sizes; a pointer to bytes.
Size = Annotated[Any, Kind(lambda _: I64, lambda _: types.int64, lambda _: ctypes.c_int64)]
Number = Annotated[
    Any, Kind(_scalar, lambda dtype: dtype, lambda dtype: ctypes.c_float if dtype.bitwidth == 32 else ctypes.c_double)
]
Pointer = Annotated[Any, Kind(lambda dtype: _scalar(dtype).as_pointer(), types.CPointer, lambda _: ctypes.c_void_p)]
Pair = Annotated[
    Any, Kind(lambda dtype: ir.ArrayType(_scalar(dtype), 2), lambda dtype: types.UniTuple(dtype, 2), lambda _: None)
]
Nothing = Annotated[None, Kind(lambda _: ir.VoidType(), lambda _: types.void, lambda _: None)]
Indices = Annotated[Any, _pointer_to(I32, types.int32)]
Sizes = Annotated[Any, _pointer_to(I64, types.int64)]
Bytes = Annotated[Any, _pointer_to(ir.IntType(8), types.uint8)]


def _kind_of(annotation: Any) -> Kind:
    """The kind that an annotation carries."""
    kind: Kind = annotation.__metadata__[0]
    return kind


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, tuple)


_PAIR, _NOTHING = _kind_of(Pair), _kind_of(Nothing)


# -------------------------------------------------------------------------------------------------------- micro-kernels


@dataclass(frozen=True)
class MicroKernel:
    """A function that emits the IR of one micro-kernel.

    The annotations of its parameters are ``Kind``s, or NamedTuples of such, which stand for their fields in order.
    """

    emit: Callable[..., Any]

    @property
    def name(self) -> str:
        """The function's name."""
        return self.emit.__name__

    @cached_property
    def arguments(self) -> dict[str, Kind]:
        """The kinds of the arguments, by name."""
        kinds: dict[str, Kind] = {}
        for name, annotation in self._parameters.items():
            fields = get_type_hints(annotation, include_extras=True) if _is_group(annotation) else {name: annotation}
            kinds |= {field: _kind_of(each) for field, each in fields.items()}
        return kinds

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        _, *parameters = inspect.signature(self.emit, eval_str=True).parameters.values()
        return {parameter.name: parameter.annotation for parameter in parameters}

    def _operands(self, values: Iterable[Any]) -> list[Any]:
        """The arguments' values as the body wants them."""
        left = iter(values)
        return [
            each._make(islice(left, len(each._fields))) if _is_group(each) else next(left)
            for each in self._parameters.values()
        ]

    @cached_property
    def result(self) -> Kind:
        """The kind of the result."""
        return _kind_of(inspect.signature(self.emit, eval_str=True).return_annotation)

    def symbol(self, dtype: Any) -> str:
        """The name of its machine code for a dtype."""
        return f"fastnn.{self.name}.{dtype}"

    def declare(self, module: Any, dtype: Any) -> Any:
        """The function as LLVM knows it, without a body."""
        kind = ir.FunctionType(self.result.llvm(dtype), [each.llvm(dtype) for each in self.arguments.values()])
        return cgutils.get_or_insert_function(module, kind, self.symbol(dtype))

    def define(self, module: Any, dtype: Any) -> Any:
        """The function with its body."""
        function = self.declare(module, dtype)
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        emitted = self.emit(Vectors(builder, dtype, tile(dtype.bitwidth // 8).VL), *self._operands(function.args))
        if self.result is _NOTHING:
            builder.ret_void()
        elif self.result is _PAIR:
            pair = ir.Constant(function.function_type.return_type, ir.Undefined)
            for i, number in enumerate(emitted):
                pair = builder.insert_value(pair, number, i)
            builder.ret(pair)
        else:
            builder.ret(emitted)
        return function

    def prototype(self, dtype: Any) -> Any:
        """The function as ctypes calls it; pointers are addresses. Not for a result of two numbers."""
        return ctypes.CFUNCTYPE(*(kind.ctype(dtype) for kind in (self.result, *self.arguments.values())))

    def intrinsic(self) -> Any:
        """What Numba functions call: a call of the machine code, for the dtype of the first pointer to numbers."""

        def typer(typingctx: Any, *given: Any) -> Any:
            dtype = next(a.dtype for a in given if isinstance(a, types.CPointer) and a.dtype in FORMATS)

            def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                returned = builder.call(self.declare(builder.module, dtype), values)
                return context.get_dummy_value() if self.result is _NOTHING else returned

            return self.result.numba(dtype)(*(kind.numba(dtype) for kind in self.arguments.values())), codegen

        typer.__name__, typer.__doc__ = self.name, self.emit.__doc__
        typer.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
                for name in ("typingctx", *self.arguments)
            ]
        )
        return intrinsic(typer)


# The micro-kernels of the rooms that are imported; ``library`` imports all.
ENTERED: list[MicroKernel] = []


def micro_kernel(emit: Callable[..., Any]) -> Any:
    """Enter ``emit(v, *operands)`` as a micro-kernel and make of it the intrinsic that calls it."""
    ENTERED.append(MicroKernel(emit))
    return ENTERED[-1].intrinsic()


def call(v: Vectors, name: str, *operands: Any) -> Any:
    """The result of another micro-kernel, which the library holds as well."""
    (found,) = (kernel for kernel in ENTERED if kernel.name == name)
    return v.builder.call(found.declare(v.builder.module, v.dtype), operands)


# ------------------------------------------------------------------------------------------------ pointers, prefetching


def _address(typingctx: Any, base: Any, offset: Any) -> Any:
    """Pointer to the element ``offset`` places behind the first element of an array, or behind that of a pointer."""
    signature = types.CPointer(base.dtype)(base, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = arguments[0]
        if isinstance(signature.args[0], types.Array):
            first = context.make_array(signature.args[0])(context, builder, first).data
        return builder.gep(first, [arguments[1]])

    return signature, codegen


def _pointer(typingctx: Any, like: Any, address: Any) -> Any:
    """Pointer to numbers of an array's dtype, from their address in memory."""
    signature = types.CPointer(like.dtype)(like, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return signature, codegen


def _prefetch(typingctx: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of the element ``offset`` places behind the first one, ahead of its use."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        emit_prefetch(builder, builder.gep(data, [arguments[1]]), INTO_L1)
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


def _copy_bytes(typingctx: Any, target: Any, source: Any, count: Any) -> Any:
    """Copy so many bytes from one address in memory to another."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        to, since = (builder.inttoptr(each, byte) for each in arguments[:2])
        cgutils.raw_memcpy(builder, to, since, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


# How near to the core a prefetch brings a line.
INTO_L1, INTO_L2 = 3, 2


def emit_prefetch(builder: Any, pointer: Any, level: int) -> None:
    """A prefetch, to read, of data."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [builder.bitcast(pointer, byte), I32(0), I32(level), I32(1)])


def opaque(builder: Any, value: Any) -> Any:
    """The value, through an empty instruction that the optimiser cannot see through.

    Left to itself LLVM rewrites rows' addresses as one chain of additions, each waiting for the one before.
    """
    same = ir.InlineAsm(ir.FunctionType(value.type, [value.type]), "", "=r,0", side_effect=False)
    return builder.call(same, [value])


# Called in the kernels as address(base, offset), pointer(like, address), prefetch(array, offset) and copy_bytes(target,
# source, count); Numba supplies the typing context.
address: Any = intrinsic(_address)
pointer: Any = intrinsic(_pointer)
prefetch: Any = intrinsic(_prefetch)
copy_bytes: Any = intrinsic(_copy_bytes)
