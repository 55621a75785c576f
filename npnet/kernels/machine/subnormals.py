"""Subnormal numbers, nearer to zero than 1e-38 (of float32): zero where weights are trained.

x86 takes some hundred cycles for an operation that meets one. The square of a gradient of 1e-20 is such a
number, so a network that knew its batch by heart took six times as long for a step. Other processors are as
quick with them as with all others.
"""

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["flush_subnormals", "restore_mode"]

X86 = platform.machine() in ("x86_64", "AMD64")
FLUSH = (
    1 << 15 | 1 << 6
)  # in the register MXCSR: results that are subnormal become zero, operands count as zero


@intrinsic
def flush_subnormals(typing_context):
    """Let this thread compute with zero instead of subnormal numbers; return what ``restore_mode`` takes."""

    def emit(context, builder, signature, arguments):
        mode = cgutils.alloca_once_value(builder, _MODE(0))
        if X86:
            _call("stmxcsr", builder, mode)
            _call(
                "ldmxcsr",
                builder,
                cgutils.alloca_once_value(builder, builder.or_(builder.load(mode), _FLUSH)),
            )
        return builder.load(mode)

    return types.uint32(), emit


@intrinsic
def restore_mode(typing_context, mode):
    """Let this thread compute as it did before ``flush_subnormals``."""

    def emit(context, builder, signature, arguments):
        if X86:
            _call("ldmxcsr", builder, cgutils.alloca_once_value(builder, arguments[0]))
        return context.get_dummy_value()

    return types.void(types.uint32), emit


_MODE = ir.IntType(32)
_FLUSH = _MODE(FLUSH)


def _call(instruction, builder, place):
    """Store the register at a place in memory, or load it from there."""
    bytes_ = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [bytes_])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{instruction}")
    builder.call(function, [builder.bitcast(place, bytes_)])
