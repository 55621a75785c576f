"""A vector register as a type of compiled code: eight or sixteen numbers that are computed with as one.

What the machine has, the type, and what ``arithmetic.py``, ``memory.py`` and ``tiles.py`` emit it with.
"""

import ctypes
import os
import platform
import sys

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import PrimitiveModel
from numba.core.imputils import lower_cast
from numba.core.registry import cpu_target
from numba.extending import intrinsic, register_model

__all__ = [
    "AMX",
    "EMULATED",
    "I32",
    "I64",
    "MATRIX_UNIT",
    "REGISTERS",
    "REGISTER_BYTES",
    "Vector",
    "alignment",
    "broadcast",
    "call_llvm",
    "lanes",
    "lanes_of",
    "llvm_name",
    "register_pointer",
    "unpack",
    "vector_of",
]

I32, I64 = ir.IntType(32), ir.IntType(64)

# --- what the machine has --------------------------------------------------------------------------------


def _matrix_unit() -> str:
    """What NPNET_MATRIX_UNIT asks for.

    Unset, the processor's matrix unit is used, if it has one. "off" leaves it out: on a shared machine others
    may keep it busy. "emulated" is for tests (see ``products/emulated_unit.py``).
    """
    chosen = os.environ.get("NPNET_MATRIX_UNIT", "")
    if chosen not in ("", "off", "emulated"):
        raise ValueError(f"NPNET_MATRIX_UNIT must be unset, 'off' or 'emulated', got {chosen!r}.")
    return chosen


MATRIX_UNIT = _matrix_unit()
EMULATED = MATRIX_UNIT == "emulated"


def _vector_registers() -> tuple[int, int]:
    """Bytes in a vector register and how many there are, asked of the compiler that will emit the kernels.

    It knows what Numba was told to compile for (NUMBA_CPU_NAME and NUMBA_CPU_FEATURES change that). Beside
    an emulated matrix unit they are those of the processors that have one.
    """
    if EMULATED:
        return 64, 32
    vector = "<16 x float>"
    source = f"define {vector} @f({vector} %a) {{\n %b = fadd {vector} %a, %a\n ret {vector} %b\n}}"
    assembly = cpu_target.target_context.codegen()._tm.emit_assembly(llvm.parse_assembly(source))
    if "zmm" in assembly:
        return 64, 32
    if "ymm" in assembly:
        return 32, 16
    return 16, 16 if "xmm" in assembly else 32


REGISTER_BYTES, REGISTERS = _vector_registers()


def _has_matrix_unit() -> bool:
    """Whether there is a matrix unit that kernels may use; on Linux each process has to ask for it."""
    if MATRIX_UNIT == "off":
        return False
    features = cpu_target.target_context.codegen()._get_host_cpu_features().split(",")
    if not {"+amx-tile", "+amx-bf16"} <= set(features) or REGISTER_BYTES != 64:
        return False
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


AMX = EMULATED or _has_matrix_unit()


def lanes(dtype) -> int:
    """Numbers of this dtype in one register."""
    return REGISTER_BYTES // np.dtype(dtype).itemsize


@intrinsic
def lanes_of(typing_context, array):
    """Numbers of the array's dtype in one register, a constant."""
    return types.intp(array), lambda *_: I64(lanes(array.dtype.name))


# --- the type --------------------------------------------------------------------------------------------


class Vector(types.Type):
    """One register of float32, float64 or booleans (of which it has as many as the numbers compared)."""

    def __init__(self, dtype, count):
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Vector({dtype}, {count})")

    @property
    def booleans(self):
        """The type of a comparison's result."""
        return Vector(types.boolean, self.count)


def vector_of(dtype):
    """The register type for a Numba number type."""
    return Vector(dtype, lanes(dtype.name))


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager, kind):
        element = (
            ir.IntType(1) if kind.dtype == types.boolean else manager.lookup(kind.dtype).get_value_type()
        )
        super().__init__(manager, kind, ir.VectorType(element, kind.count))


def broadcast(builder, number, kind):
    """A register with ``number`` in every lane."""
    lane = builder.insert_element(ir.Constant(kind, ir.Undefined), number, I32(0))
    return builder.shuffle_vector(
        lane, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
    )


def llvm_name(name, kind):
    """An LLVM intrinsic for registers of this type: llvm.sqrt.v16f32."""
    return f"llvm.{name}.v{kind.count}f{kind.dtype.bitwidth}"


def call_llvm(builder, name, result, arguments, flags=()):
    """Call an LLVM intrinsic by its full name."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments, fastmath=flags)


def unpack(context, builder, kind, value):
    """The fields of a NamedTuple in compiled code, in a NamedTuple of the same class; integers as intp."""
    fields = zip(kind.types, cgutils.unpack_tuple(builder, value), strict=True)
    return kind.instance_class(
        *(context.cast(builder, v, k, types.intp) if isinstance(k, types.Integer) else v for k, v in fields)
    )


@lower_cast(types.Number, Vector)
def _number_to_vector(context, builder, number, vector, value):
    return broadcast(
        builder, context.cast(builder, value, number, vector.dtype), context.get_value_type(vector)
    )


def register_pointer(context, builder, array_type, array, position):
    """Where the register beginning at an element is.

    Made from the array's own pointer and not from an integer: LLVM must know what an address points into.
    """
    data = context.make_array(array_type)(context, builder, array).data
    kind = context.get_value_type(vector_of(array_type.dtype))
    return builder.bitcast(builder.gep(data, [position]), kind.as_pointer())


def alignment(array_type):
    """Bytes on which every element begins; registers are read from any element on."""
    return array_type.dtype.bitwidth // 8
