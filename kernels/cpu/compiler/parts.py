"""Parts of kernels: functions that kernels call, compiled into each of them.

Numba compiles a function that others call as if Python would call it too: wrapped twice, optimised with all that it
calls in turn, made machine code. Nobody calls a part but kernels. So it is no more than LLVM's text, cleaned up, until
the kernel around it is optimised as a whole: with parts within parts, each of them again and again, that took twice as
long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.imputils import lower_constant
from numba.core.typed_passes import NativeLowering
from numba.core.typing.templates import infer_global
from numba.extending import models, register_model


class _Text(JITCodeLibrary):
    """The code of a part: linked into kernels, never run by itself."""

    def _optimize_final_module(self) -> None:
        """Leave it to the kernel."""

    def _finalize_final_module(self) -> None:
        """Make no machine code."""
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Null: there is none."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        """What would put an environment, Python objects that no kernel has, where the machine code looks for it."""
        return _WithoutEnvironments


class _WithoutEnvironments:
    @staticmethod
    def set_env(name: str, environment: Any) -> None:
        """Put it nowhere."""


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    _name = "fastnn_part_lowering"

    def run_pass(self, state: Any) -> bool:
        """Lower into a library that is text."""
        state.library = _Text(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        lowered: bool = super().run_pass(state)
        return lowered


class _Compiler(CompilerBase):
    """Numba's own passes, but for the last."""

    def define_pipelines(self) -> list[Any]:
        """One: without fallback."""
        passes = PassManager("fastnn_part")
        for each, why in DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
            passes.add_pass(_Lowering if each is NativeLowering else each, why)
        passes.finalize()
        return [passes]


# Options are the parts' own: they would be compiled anew for each set of options of those that call them.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "_nrt": False,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


class _Part(types.Dispatcher):
    """The type of a part. One that is passed to another as an argument is known by its type: there is no value."""


register_model(_Part)(models.OpaqueModel)


@lower_constant(_Part)
def _no_value(context: Any, builder: Any, type_: Any, value: Any) -> Any:
    return context.get_dummy_value()


# What is compiled, which Numba's types refer to weakly.
_PARTS: list[Any] = []


def _enter(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Let kernels call a function that stays one of Python's."""
    compiled = njit(**_OPTIONS, **options, pipeline_class=_Compiler)(function)
    infer_global(function, _Part(compiled))
    _PARTS.append(compiled)
    return function


def compiled_in(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a part of a function: called or inlined as LLVM likes."""
    return _enter(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a part of a function, always inlined.

    A call would pass the structures of ``records`` number by number, some 200 at a time: without calls a step of
    13-64-64-1 at batch 1 takes 2.1 us, with them 3.
    """
    return _enter(function, forceinline=True)
