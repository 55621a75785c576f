"""Vector registers to and from memory: what kernels are written with.

``arithmetic.py`` computes with them.

    y = load(x, start, count)         then y + 1.0, y > 0.0, where(...), maximum(...), exp(y), ...
    store(target, start, count, y)    ``count`` < LANES reads and writes the first ``count`` numbers only
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from npnet.kernels.vectors.arithmetic import largest, total
from npnet.kernels.vectors.registers import (
    I32,
    I64,
    alignment,
    broadcast,
    call_llvm,
    lanes_of,
    register_pointer,
    vector_of,
)

__all__ = [
    "fill", "lanes_of", "largest", "load", "load_as", "load_each", "load_planes", "store", "store_as",
    "store_each", "store_parts", "store_planes", "total", "transpose",
]  # fmt: skip


def _mask(builder, count, vector):
    """Booleans: lane < count."""
    numbers = ir.VectorType(I64, vector.count)
    return builder.icmp_signed(
        "<", ir.Constant(numbers, list(range(vector.count))), broadcast(builder, count, numbers)
    )


def _read(context, builder, array_type, array, start, count):
    """What ``load`` does."""
    vector = vector_of(array_type.dtype)
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


def _write(context, builder, array_type, array, start, count, values):
    """What ``store`` does."""
    vector = vector_of(array_type.dtype)
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


@intrinsic
def load(typing_context, array, start, count):
    """array[start : start + count] as a register, zeros after it; all lanes where count >= LANES.

    Positions are counted from the first element and never from the end.
    """

    def emit(context, builder, signature, arguments):
        return _read(context, builder, array, *arguments)

    return vector_of(array.dtype)(array, types.intp, types.intp), emit


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
        align = context.get_abi_sizeof(element)
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

    def emit(context, builder, signature, arguments):
        _write(context, builder, array, *arguments)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector_of(array.dtype)), emit


@intrinsic
def store_as(typing_context, array, start, count, values):
    """``store`` to an array of signed integers, the numbers converted to its dtype."""
    vector = values

    def emit(context, builder, signature, arguments):
        array_type, (array, start, count, values) = signature.args[0], arguments
        target = ir.VectorType(context.get_data_type(array_type.dtype), vector.count)
        values = builder.fptosi(values, target)
        data = context.make_array(array_type)(context, builder, array).data
        place = builder.bitcast(builder.gep(data, [start]), target.as_pointer())
        align = alignment(array_type)
        name = f"llvm.masked.store.v{vector.count}i{8 * align}.p0"
        arguments = values, place, I32(align), _mask(builder, count, vector)
        call_llvm(builder, name, ir.VoidType(), arguments)
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


@intrinsic
def load_each(typing_context, operands, start, count):
    """The registers at one place of several arrays, as a tuple; numbers among them stay what they are."""
    kinds = [vector_of(kind.dtype) if isinstance(kind, types.Array) else kind for kind in operands]
    result = types.Tuple(kinds)

    def emit(context, builder, signature, arguments):
        values, start, count = arguments
        read = [
            _read(context, builder, kind, value, start, count) if isinstance(kind, types.Array) else value
            for kind, value in zip(operands, cgutils.unpack_tuple(builder, values), strict=True)
        ]
        return context.make_tuple(builder, result, read)

    return result(operands, types.intp, types.intp), emit


@intrinsic
def store_each(typing_context, arrays, start, count, values):
    """Store one register to the same place of each array."""

    def emit(context, builder, signature, arguments):
        items, start, count, registers = arguments
        each = [cgutils.unpack_tuple(builder, item) for item in (items, registers)]
        for kind, array, register in zip(arrays, *each, strict=True):
            _write(context, builder, kind, array, start, count, register)
        return context.get_dummy_value()

    return types.void(arrays, types.intp, types.intp, values), emit


def _planes(context, builder, array_type, array, start, distance, count):
    """Where the registers at ``start``, ``start + distance``, ... are."""
    for _ in range(count):
        yield register_pointer(context, builder, array_type, array, start)
        start = builder.add(start, distance)


@intrinsic
def load_planes(typing_context, array, start, distance, planes):
    """The registers at ``start``, ``start + distance``, ... as a tuple as long as the tuple ``planes``."""
    vector, count = vector_of(array.dtype), len(planes)
    result = types.UniTuple(vector, count)

    def emit(context, builder, signature, arguments):
        kind, align = context.get_value_type(vector), alignment(array)
        places = _planes(context, builder, array, *arguments[:3], count)
        read = [builder.load(place, align=align, typ=kind) for place in places]
        return context.make_tuple(builder, result, read)

    return result(array, types.intp, types.intp, planes), emit


@intrinsic
def store_planes(typing_context, array, start, distance, values):
    """Store registers to ``start``, ``start + distance``, ..."""

    def emit(context, builder, signature, arguments):
        registers = cgutils.unpack_tuple(builder, arguments[3])
        places = _planes(context, builder, array, *arguments[:3], len(registers))
        for register, place in zip(registers, places, strict=True):
            builder.store(register, place, align=alignment(array))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, values), emit


@intrinsic
def transpose(typing_context, source, start, row, rows, target, to, target_row):
    """target[j, i] = source[i, j] for one square of LANES x LANES numbers; rows are ``row`` elements apart.

    Where the source has fewer ``rows``, its last one is repeated. Rows i and i + LANES/2, i + LANES/4, ...
    exchange halves, quarters, ... log2(LANES) times.
    """
    vector = vector_of(source.dtype)

    def emit(context, builder, signature, arguments):
        source, start, row, rows, target, to, target_row = arguments
        kind, align, count = context.get_value_type(vector), alignment(signature.args[0]), vector.count

        def place(array_type, array, start, row, i):
            position = builder.add(start, builder.mul(row, i))
            return register_pointer(context, builder, array_type, array, position)

        last, values = builder.sub(rows, I64(1)), []
        for i in range(count):
            inside = builder.select(builder.icmp_signed("<", last, I64(i)), last, I64(i))
            address = place(signature.args[0], source, start, row, inside)
            values.append(builder.load(address, align=align, typ=kind))
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
        for i, value in enumerate(values):
            builder.store(value, place(signature.args[4], target, to, target_row, I64(i)), align=align)
        return context.get_dummy_value()

    index = types.intp
    return types.void(source, index, index, index, target, index, index), emit
