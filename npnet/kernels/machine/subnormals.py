"""Subnormal numbers, nearer to zero than 1e-38 (of float32): zero where weights are trained.

x86 takes many times as long for an operation that meets one. The square of a gradient of 1e-20 is such a
number, so a network that knew its batch by heart took six times as long for a step. On other processors
nothing is changed.
"""

import platform
from typing import Any

from llvmlite import ir
from numba.core import cgutils

__all__ = ["X86", "flush_subnormals", "restore_mode"]

X86 = platform.machine() in ("x86_64", "AMD64")
_MODE = ir.IntType(32)  # of the register MXCSR
_FLUSH = _MODE(1 << 15 | 1 << 6)  # subnormal results become zero, and such operands count as zero


def flush_subnormals(builder: Any) -> Any:
    """Let the thread compute with zero instead of subnormal numbers; return what ``restore_mode`` takes."""
    if not X86:
        return None
    mode = cgutils.alloca_once(builder, _MODE)
    _call("stmxcsr", builder, mode)
    before = builder.load(mode)
    restore_mode(builder, builder.or_(before, _FLUSH))
    return before


def restore_mode(builder: Any, mode: Any) -> None:
    """Let the thread compute as it did before ``flush_subnormals``."""
    if mode is not None:
        _call("ldmxcsr", builder, cgutils.alloca_once_value(builder, mode))


def _call(instruction: str, builder: Any, place: Any) -> None:
    """Store the register at a place in memory, or load it from there."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{instruction}")
    builder.call(function, [builder.bitcast(place, byte)])
