"""A vector register as a value of compiled code: eight or sixteen numbers that are computed with as one.

    y = load(x, start, count)         then y + 1.0, y > 0.0, where(...), maximum(...), exp(y), ...
    store(target, start, count, y)    ``count`` < LANES reads and writes the first ``count`` numbers only

Arithmetic follows the type: the numbers of a formula take the register's dtype. The rules of ``rules.py``
are made callable here, so a formula written for arrays runs on registers as it stands.
"""

import inspect
import math
import operator

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import PrimitiveModel
from numba.core.imputils import lower_builtin, lower_cast
from numba.core.registry import cpu_target
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, overload, register_jitable, register_model

from npnet.kernels import rules
from npnet.kernels.runtime import FASTMATH

FLAGS = tuple(sorted(FASTMATH))
I32, I64 = ir.IntType(32), ir.IntType(64)

# --- what the machine has --------------------------------------------------------------------------------


def _vector_registers() -> tuple[int, int]:
    """Bytes in a vector register and how many there are, asked of the compiler that will emit the kernels.

    It knows what Numba was told to compile for (NUMBA_CPU_NAME and NUMBA_CPU_FEATURES change that).
    """
    vector = "<16 x float>"
    source = f"define {vector} @f({vector} %a) {{\n %b = fadd {vector} %a, %a\n ret {vector} %b\n}}"
    assembly = cpu_target.target_context.codegen()._tm.emit_assembly(llvm.parse_assembly(source))
    if "zmm" in assembly:
        return 64, 32
    if "ymm" in assembly:
        return 32, 16
    return 16, 16 if "xmm" in assembly else 32


REGISTER_BYTES, REGISTERS = _vector_registers()


def lanes(dtype) -> int:
    """Numbers of this dtype in one register."""
    return REGISTER_BYTES // np.dtype(dtype).itemsize


def lanes_of(array):
    """Numbers of the array's dtype in one register, a constant in compiled code."""
    raise NotImplementedError("only inside compiled kernels")


@overload(lanes_of)
def _lanes_of(array):
    count = lanes(array.dtype.name)
    return lambda array: count


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


def call_llvm(builder, name, result, arguments, flags=()):
    """Call an LLVM intrinsic by its full name."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments, fastmath=flags)


@lower_cast(types.Number, Vector)
def _number_to_vector(context, builder, number, vector, value):
    return broadcast(
        builder, context.cast(builder, value, number, vector.dtype), context.get_value_type(vector)
    )


# --- arithmetic ------------------------------------------------------------------------------------------


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


def llvm_name(name, kind):
    """An LLVM intrinsic for registers of this type: llvm.sqrt.v16f32."""
    return f"llvm.{name}.v{kind.count}f{kind.dtype.bitwidth}"


def _instruction(name):
    return lambda context, builder, kind, *a: getattr(builder, name)(*a, flags=FLAGS)


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


def _lane_by_lane(function):
    """For functions that have no vector form: the C library's, one number at a time."""

    def emit(context, builder, kind, a):
        call = context.get_function(function, signature(kind.dtype, kind.dtype))
        result = ir.Constant(a.type, ir.Undefined)
        for lane in range(kind.count):
            number = call(builder, [builder.extract_element(a, I32(lane))])
            result = builder.insert_element(result, number, I32(lane))
        return result

    return emit


def _exponential(context, builder, kind, x):
    """e^x = 2^k e^r with k = round(x / log 2): 2^k is written into the exponent's bits, e^r is a series.

    |r| <= 0.35, so that 7 terms suffice for float32 and 13 for float64.
    """
    single = kind.dtype == types.float32
    terms, bits, bias, top, bottom = (
        (7, 23, 127, 88.7228, -87.3) if single else (13, 52, 1023, 709.7827, -708.3)
    )
    number, integer = x.type, ir.VectorType(I32 if single else I64, kind.count)

    def constant(value, kind=number):
        return ir.Constant(kind, [value] * x.type.count)

    def fma(a, b, c):
        return call_llvm(builder, llvm_name("fmuladd", kind), number, (a, b, c))

    # Out of range and NaN are put aside first: converting them to integers is undefined.
    inside = builder.select(builder.fcmp_ordered(">", x, constant(bottom)), x, constant(bottom))
    inside = builder.select(builder.fcmp_ordered("<", inside, constant(top)), inside, constant(top))
    half = builder.select(builder.fcmp_ordered("<", x, constant(0.0)), constant(-0.5), constant(0.5))
    small = ir.VectorType(I32, kind.count)
    k = builder.fptosi(fma(inside, constant(1 / math.log(2)), half), small)
    # The top of the range would round to a power that has no bits: one below it, with a larger r.
    k = builder.select(builder.icmp_signed("<", k, constant(bias, small)), k, constant(bias, small))
    r = fma(builder.sitofp(k, number), constant(-math.log(2)), inside)
    series = constant(1 / math.factorial(terms))
    for n in range(terms - 1, -1, -1):
        series = fma(series, r, constant(1 / math.factorial(n)))
    if not single:
        k = builder.sext(k, integer)
    power = builder.bitcast(
        builder.shl(builder.add(k, constant(bias, integer)), constant(bits, integer)), number
    )
    y = builder.fmul(series, power)
    y = builder.select(builder.fcmp_ordered("<", x, constant(bottom)), constant(0.0), y)
    y = builder.select(builder.fcmp_ordered(">", x, constant(top)), constant(math.inf), y)
    return builder.select(builder.fcmp_unordered("uno", x, x), x, y)


_define(operator.add, _instruction("fadd"), 2)
_define(operator.sub, _instruction("fsub"), 2)
_define(operator.mul, _instruction("fmul"), 2)
_define(operator.truediv, _instruction("fdiv"), 2)
_define(operator.neg, _instruction("fneg"), 1)
_define(operator.lt, _comparison("<"), 2, compares=True)
_define(operator.le, _comparison("<="), 2, compares=True)
_define(operator.gt, _comparison(">"), 2, compares=True)
_define(operator.ge, _comparison(">="), 2, compares=True)
_define(operator.ne, _comparison("!="), 2, compares=True)
_define(np.maximum, _extreme(">"), 2)
_define(np.minimum, _extreme("<"), 2)
_define(np.sqrt, _llvm_function("sqrt"), 1)
_define(np.abs, _llvm_function("fabs"), 1)
_define(np.exp, _exponential, 1)
_define(np.expm1, _lane_by_lane(math.expm1), 1)
_define(np.log1p, _lane_by_lane(math.log1p), 1)
_define(np.tanh, _lane_by_lane(math.tanh), 1)
_define(rules.erfc, _lane_by_lane(math.erfc), 1)


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


for _rule in vars(rules).values():
    if inspect.isfunction(_rule) and _rule is not rules.erfc:
        register_jitable(_rule)

# --- memory ----------------------------------------------------------------------------------------------


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


def _mask(builder, count, vector):
    """Booleans: lane < count."""
    numbers = ir.VectorType(I64, vector.count)
    return builder.icmp_signed(
        "<", ir.Constant(numbers, list(range(vector.count))), broadcast(builder, count, numbers)
    )


@intrinsic
def load(typing_context, array, start, count):
    """array[start : start + count] as a register, zeros after it; all lanes where count >= LANES.

    Positions are counted from the first element and never from the end.
    """
    vector = vector_of(array.dtype)

    def emit(context, builder, signature, arguments):
        array_type, (array, start, count) = signature.args[0], arguments
        kind = context.get_value_type(vector)
        place = register_pointer(context, builder, array_type, array, start)
        align = alignment(array_type)
        enough = builder.icmp_signed(">=", count, I64(vector.count))
        with builder.if_else(enough) as (whole, part):
            with whole:
                all_lanes, after_whole = builder.load(place, align=align, typ=kind), builder.block
            with part:
                zeros = ir.Constant(kind, None)
                mask = _mask(builder, count, vector)
                name = f"llvm.masked.load.v{vector.count}f{8 * align}.p0"
                some_lanes = call_llvm(builder, name, kind, (place, I32(align), mask, zeros))
                after_part = builder.block
        result = builder.phi(kind)
        result.add_incoming(all_lanes, after_whole)
        result.add_incoming(some_lanes, after_part)
        return result

    return vector(array, types.intp, types.intp), emit


@intrinsic
def load_as(typing_context, like, array, start, count):
    """``load`` from an array of any real dtype, the numbers converted to ``like``'s dtype."""
    vector, stored = vector_of(like.dtype), array.dtype

    def emit(context, builder, signature, arguments):
        _, array, start, count = arguments
        kind = context.get_value_type(vector)
        element = context.get_data_type(stored)
        data = context.make_array(signature.args[1])(context, builder, array).data
        source = ir.VectorType(element, vector.count)
        place = builder.bitcast(builder.gep(data, [start]), source.as_pointer())
        align = max(1, stored.bitwidth // 8)
        zeros = ir.Constant(source, None)
        letter = "i" if isinstance(element, ir.IntType) else "f"
        name = f"llvm.masked.load.v{vector.count}{letter}{8 * align}.p0"
        enough = builder.icmp_signed(">=", count, I64(vector.count))
        with builder.if_else(enough) as (whole, part):
            with whole:
                all_lanes, after_whole = builder.load(place, align=align, typ=source), builder.block
            with part:
                mask = _mask(builder, count, vector)
                some_lanes = call_llvm(builder, name, source, (place, I32(align), mask, zeros))
                after_part = builder.block
        values = builder.phi(source)
        values.add_incoming(all_lanes, after_whole)
        values.add_incoming(some_lanes, after_part)
        if isinstance(stored, types.Integer | types.Boolean):
            signed = isinstance(stored, types.Integer) and stored.signed
            return (builder.sitofp if signed else builder.uitofp)(values, kind)
        if stored.bitwidth == vector.dtype.bitwidth:
            return values
        return (builder.fpext if stored.bitwidth < vector.dtype.bitwidth else builder.fptrunc)(values, kind)

    return vector(like, array, types.intp, types.intp), emit


@intrinsic
def store(typing_context, array, start, count, values):
    """array[start : start + count] = the first ``count`` values; all of them where count >= LANES."""
    vector = vector_of(array.dtype)

    def emit(context, builder, signature, arguments):
        array_type, (array, start, count, values) = signature.args[0], arguments
        place = register_pointer(context, builder, array_type, array, start)
        align = alignment(array_type)
        enough = builder.icmp_signed(">=", count, I64(vector.count))
        with builder.if_else(enough) as (whole, part):
            with whole:
                builder.store(values, place, align=align)
            with part:
                mask = _mask(builder, count, vector)
                name = f"llvm.masked.store.v{vector.count}f{8 * align}.p0"
                call_llvm(builder, name, ir.VoidType(), (values, place, I32(align), mask))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector), emit


@intrinsic
def store_parts(typing_context, array, start, distance, part, values):
    """Store a register in parts of ``part`` numbers (a constant) to ``start``, ``start + distance``, ..."""
    if not isinstance(part, types.IntegerLiteral):
        return None
    vector = vector_of(array.dtype)
    size = min(part.literal_value, vector.count)

    def emit(context, builder, signature, arguments):
        array_type, (array, start, distance, _, values) = signature.args[0], arguments
        for first in range(0, vector.count, size):
            choice = ir.Constant(ir.VectorType(I32, size), list(range(first, first + size)))
            numbers = builder.shuffle_vector(values, ir.Constant(values.type, ir.Undefined), choice)
            data = context.make_array(array_type)(context, builder, array).data
            place = builder.bitcast(builder.gep(data, [start]), numbers.type.as_pointer())
            builder.store(numbers, place, align=alignment(array_type))
            start = builder.add(start, distance)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, part, vector), emit


@intrinsic
def fill(typing_context, like, number):
    """A register of the array's dtype with ``number`` in every lane."""
    vector = vector_of(like.dtype)

    def emit(context, builder, signature, arguments):
        return context.cast(builder, arguments[1], number, vector)

    return vector(like, number), emit


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


def load_each(operands, start, count):
    """The registers at one place of several arrays, as a tuple; numbers among them stay what they are."""
    raise NotImplementedError("only inside compiled kernels")


@overload(load_each)
def _load_each(operands, start, count):
    if len(operands) == 0:
        return lambda operands, start, count: ()
    if isinstance(operands[0], types.Array):
        return lambda operands, start, count: (
            (load(operands[0], start, count),) + load_each(operands[1:], start, count)  # noqa: RUF005
        )
    return lambda operands, start, count: (operands[0],) + load_each(operands[1:], start, count)  # noqa: RUF005


def store_each(arrays, start, count, values):
    """Store one register to the same place of each array."""
    raise NotImplementedError("only inside compiled kernels")


@overload(store_each)
def _store_each(arrays, start, count, values):
    if len(arrays) == 0:
        return lambda arrays, start, count, values: None

    def store_first(arrays, start, count, values):
        store(arrays[0], start, count, values[0])
        store_each(arrays[1:], start, count, values[1:])

    return store_first


def load_stack(array, start, distance, layers):
    """The registers at ``start``, ``start + distance``, ... as a tuple as long as the tuple ``layers``."""
    raise NotImplementedError("only inside compiled kernels")


@overload(load_stack)
def _load_stack(array, start, distance, layers):
    if len(layers) == 0:
        return lambda array, start, distance, layers: ()
    return lambda array, start, distance, layers: (
        (load(array, start, lanes_of(array)),) + load_stack(array, start + distance, distance, layers[1:])  # noqa: RUF005
    )


def store_stack(array, start, distance, values):
    """Store registers to ``start``, ``start + distance``, ..."""
    raise NotImplementedError("only inside compiled kernels")


@overload(store_stack)
def _store_stack(array, start, distance, values):
    if len(values) == 0:
        return lambda array, start, distance, values: None

    def store_first(array, start, distance, values):
        store(array, start, lanes_of(array), values[0])
        store_stack(array, start + distance, distance, values[1:])

    return store_first


@intrinsic
def transpose(typing_context, source, start, row, target, to, target_row):
    """target[j, i] = source[i, j] for one square of LANES x LANES numbers; rows are ``row`` elements apart.

    Rows i and i + LANES/2, i + LANES/4, ... exchange halves, quarters, ... log2(LANES) times.
    """
    vector = vector_of(source.dtype)

    def emit(context, builder, signature, arguments):
        source, start, row, target, to, target_row = arguments
        kind, align, count = context.get_value_type(vector), alignment(signature.args[0]), vector.count

        def places(array_type, array, start, row):
            rows = [builder.add(start, builder.mul(row, I64(i))) for i in range(count)]
            return [register_pointer(context, builder, array_type, array, position) for position in rows]

        values = [
            builder.load(place, align=align, typ=kind)
            for place in places(signature.args[0], source, start, row)
        ]
        distance = count // 2
        while distance:
            # Lanes with this bit go to the partner, lanes without it stay.
            stay = [lane if not lane & distance else count + lane - distance for lane in range(count)]
            come = [lane + distance if not lane & distance else count + lane for lane in range(count)]
            for i in range(count):
                if not i & distance:
                    pair = values[i], values[i + distance]
                    for at, lanes_taken in ((i, stay), (i + distance, come)):
                        choice = ir.Constant(ir.VectorType(I32, count), lanes_taken)
                        values[at] = builder.shuffle_vector(*pair, choice)
            distance //= 2
        for value, place in zip(values, places(signature.args[3], target, to, target_row), strict=True):
            builder.store(value, place, align=align)
        return context.get_dummy_value()

    index = types.intp
    return types.void(source, index, index, target, index, index), emit
