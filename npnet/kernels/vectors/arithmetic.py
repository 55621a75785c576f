"""Arithmetic of vector registers: y + 1.0, y > 0.0, where(...), maximum(...), exp(y), total(y), ...

It follows the type: the numbers of a formula take the register's dtype. The rules of ``rules.py`` are made
callable here, so a formula written for arrays runs on registers as it stands.
"""

import inspect
import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, register_jitable

from npnet.kernels import more_rules, rules
from npnet.kernels.machine.jit import FASTMATH
from npnet.kernels.vectors import functions
from npnet.kernels.vectors.functions import emitter
from npnet.kernels.vectors.registers import I32, Vector, call_llvm, llvm_name, vector_of

__all__ = ["FLAGS", "SUMMED", "difference", "largest", "total"]

FLAGS = tuple(sorted(FASTMATH))

# --- operators and functions -----------------------------------------------------------------------------


def _vector_among(arguments):
    """The register type of a call's arguments, None where some argument is neither register nor number."""
    vectors = {a for a in arguments if isinstance(a, Vector) and a.dtype != types.boolean}
    known = all(isinstance(a, Vector | types.Number) for a in arguments)
    return vectors.pop() if known and len(vectors) == 1 else None


def _define(function, emit, arity, compares=False):
    """Make ``function`` work on registers; numbers among its arguments become registers first."""

    @infer_global(function)
    class Typing(AbstractTemplate):
        def generic(self, arguments, keywords):
            vector = _vector_among(arguments)
            if vector is None or len(arguments) != arity or keywords:
                return None
            return signature(vector.booleans if compares else vector, *[vector] * arity)

    def lower(context, builder, signature, arguments):
        return emit(context, builder, signature.args[0], *arguments)

    lower_builtin(function, *[Vector] * arity)(lower)


def difference(a, b):
    """a - b, computed before anything else is done to it.

    In ``x - shift - log_sum`` the compiler may compute shift + log_sum first (it may regroup sums, see
    ``jit.FASTMATH``): with a large shift the digits of log_sum are lost. A difference is not regrouped.
    """
    raise NotImplementedError("only inside compiled kernels")


def _instruction(name, flags=FLAGS):
    return lambda context, builder, kind, *a: getattr(builder, name)(*a, flags=flags)


def _comparison(sign):
    # NaN compares as in Python: everything is false but !=.
    if sign == "!=":
        return lambda context, builder, kind, a, b: builder.fcmp_unordered(sign, a, b)
    return lambda context, builder, kind, a, b: builder.fcmp_ordered(sign, a, b)


def _llvm_function(name):
    return lambda context, builder, kind, *a: call_llvm(builder, llvm_name(name, kind), a[0].type, a, FLAGS)


def _extreme(sign):
    """Maximum or minimum; NaN where either is NaN, as NumPy has it."""

    def emit(context, builder, kind, a, b):
        keep = builder.or_(builder.fcmp_ordered(sign, a, b), builder.fcmp_unordered("uno", a, a))
        return builder.select(keep, a, b)

    return emit


_define(operator.add, _instruction("fadd"), 2)
_define(operator.sub, _instruction("fsub"), 2)
_define(difference, _instruction("fsub", flags=("contract",)), 2)
_define(operator.mul, _instruction("fmul"), 2)
_define(operator.truediv, _instruction("fdiv"), 2)
_define(operator.neg, _instruction("fneg"), 1)
_define(operator.lt, _comparison("<"), 2, compares=True)
_define(operator.le, _comparison("<="), 2, compares=True)
_define(operator.gt, _comparison(">"), 2, compares=True)
_define(operator.ge, _comparison(">="), 2, compares=True)
_define(operator.eq, _comparison("=="), 2, compares=True)
_define(operator.ne, _comparison("!="), 2, compares=True)
_define(np.maximum, _extreme(">"), 2)
_define(np.minimum, _extreme("<"), 2)
_define(np.sqrt, _llvm_function("sqrt"), 1)
_define(np.abs, _llvm_function("fabs"), 1)
_define(np.exp, emitter(functions.exponential), 1)
_define(np.expm1, emitter(functions.exponential_minus_one), 1)
_define(np.log1p, emitter(functions.logarithm_of_one_plus), 1)
_define(np.tanh, emitter(functions.hyperbolic_tangent), 1)
_define(rules.erfc, emitter(functions.complementary_error_function), 1)


@infer_global(np.where)
class _Where(AbstractTemplate):
    """where(booleans, a, b): lane by lane a or b."""

    def generic(self, arguments, keywords):
        if len(arguments) != 3 or not isinstance(arguments[0], Vector):
            return None
        vector = _vector_among(arguments[1:]) or Vector(types.float64, 0)
        if vector.count == 0:  # two numbers: the booleans tell how many, and that tells the dtype
            vector = next(
                v for v in map(vector_of, (types.float32, types.float64)) if v.count == arguments[0].count
            )
        return signature(vector, arguments[0], vector, vector)


@lower_builtin(np.where, Vector, Vector, Vector)
def _where(context, builder, signature, arguments):
    return builder.select(*arguments)


for _rule in (*vars(rules).values(), *vars(more_rules).values()):
    if inspect.isfunction(_rule) and _rule is not rules.erfc:
        register_jitable(_rule)

# --- all lanes to one number -----------------------------------------------------------------------------


def _fold(context, builder, kind, values, combine):
    """One number from all lanes: the halves combined, then the quarters, ... in this order always."""
    undefined = ir.Constant(values.type, ir.Undefined)
    distance = kind.count // 2
    while distance:
        partner = [(lane + distance) % kind.count for lane in range(kind.count)]
        other = builder.shuffle_vector(
            values, undefined, ir.Constant(ir.VectorType(I32, kind.count), partner)
        )
        values = combine(context, builder, kind, values, other)
        distance //= 2
    return builder.extract_element(values, I32(0))


# So many numbers of a row are summed before their sum is added to that of the row: one long sum rounds more,
# above all in narrow registers, each lane of which sums more numbers.
SUMMED = 256


@intrinsic
def total(typing_context, values):
    """The sum of a register's numbers."""

    def emit(context, builder, signature, arguments):
        return _fold(context, builder, signature.args[0], arguments[0], _instruction("fadd"))

    return values.dtype(values), emit


@intrinsic
def largest(typing_context, values):
    """The largest of a register's numbers; NaN if there is one."""

    def emit(context, builder, signature, arguments):
        return _fold(context, builder, signature.args[0], arguments[0], _extreme(">"))

    return values.dtype(values), emit
