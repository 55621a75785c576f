"""Products of float32 on the processor's matrix unit (Intel AMX), which multiplies bfloat16.

A bfloat16 is the upper half of a float32: 8 significant bits of 24. Three of them hold a float32 exactly,

    x = x0 + x1 + x2        x0 = round(x), x1 = round(x - x0), x2 = x - x0 - x1

and the product of two of them is exact in float32. Of the nine products of parts

    a b = a0 b0 + (a0 b1 + a1 b0) + (a0 b2 + a1 b1 + a2 b0) + ...

six are summed, in float32. The three left out are together at most 2^-24 |a b|, which is the rounding error
of one float32 operation: over all mantissas with a = b they reach 2^-24.01 and exceed 2^-26 for 13 %. The
result is therefore about as accurate as that of float32 multiply-adds. The unit is 16 times as fast as the
vector units per cycle, but six products are needed and its clock is lower: about twice as fast overall.

Two differences are left. An infinity becomes NaN, its parts being inf - inf: ``blocked.py`` computes again
what is not finite, a fused step is NaN one step earlier than it would be. And what is below 2^-126 counts
as zero, parts too: numbers below 2^-103 (1e-31) lose digits. Subnormal numbers slow nothing down.

Source: Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
Computations", 2019.

Fewer parts will do where fewer bits are wanted or there (``Precision``): whole numbers up to 256 are a
bfloat16 each, so that pixels take three products, and mixed precision rounds both operands and takes one.

Matrices are multiplied in squares of SIDE x SIDE numbers. A square that has been split takes ``split_size``
places of a float32 array: [part, half, row, pair], each part 2 x 16 x 16, each place two bfloat16. Half of a
part fills one of the unit's eight tile registers. The unit sums over pairs; here those are columns j and
j + 16 of a row of A, and rows k and k + 16 of a column of B.
"""

from functools import cache
from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from npnet.kernels.machine.jit import jit
from npnet.kernels.products.emulated_unit import EmulatedUnit
from npnet.kernels.vectors.memory import fill, load, transpose
from npnet.kernels.vectors.registers import (
    EMULATED,
    I32,
    I64,
    broadcast,
    call_llvm,
    unpack,
    vector_of,
)

__all__ = [
    "BFLOAT16", "EXACT_LEFT", "FLOAT32", "HALF", "PIECES", "SIDE", "Precision", "multiply_squares",
    "multiply_squares_beside", "split_pairs", "split_rows", "split_size", "start_unit", "stop_unit",
    "store_split", "transpose_square",
]  # fmt: skip

SIDE = 32  # rows and columns of a square
HALF = 16 * 16  # places of half of a part
# The 16 places to spare keep parts and squares from competing for the same cache sets.
PART, SPARE = 2 * HALF + 16, 16
PIECES = 2  # of a job done beside the product of two squares


class Precision(NamedTuple):
    """How many parts the left and the right operand of a product have."""

    left: int
    right: int


FLOAT32 = Precision(3, 3)
EXACT_LEFT = Precision(1, 3)  # float32, where a bfloat16 holds each number on the left
BFLOAT16 = Precision(1, 1)
# By precision: parts of a, with the parts of b they are multiplied by.
TERMS = {
    FLOAT32: ((0, (0, 1, 2)), (1, (0, 1)), (2, (0,))),
    EXACT_LEFT: ((0, (0, 1, 2)),),
    BFLOAT16: ((0, (0,)),),
}


def split_size(parts):
    """Places of a square that has been split."""
    return parts * PART + SPARE


I8, VOID = ir.IntType(8), ir.VoidType()


# --- splitting -------------------------------------------------------------------------------------------


@intrinsic(prefer_literal=True)
def store_split(typing_context, target, start, low, high, parts):
    """Split two registers and store the parts of both, in pairs, PART places apart from start on.

    ``parts`` is a constant. A single part is rounded to the nearest bfloat16, halves to the even one.
    """
    vector, count = vector_of(target.dtype), parts.literal_value

    def emit(context, builder, signature, arguments):
        target, start, *rests = arguments[:4]
        data = context.make_array(signature.args[0])(context, builder, target).data
        integers = ir.VectorType(I32, vector.count)
        upper = broadcast(builder, I32(0xFFFF0000), integers)
        half = broadcast(builder, I32(0x8000), integers)
        for part in range(count):
            halves = []
            for i, rest in enumerate(rests):
                bits = builder.bitcast(rest, integers)
                if count == 1:
                    bits = _to_nearest_even(builder, rest, bits)
                elif part < count - 1:
                    bits = builder.and_(builder.add(bits, half), upper)
                    rests[i] = builder.fsub(rest, builder.bitcast(bits, rest.type))
                halves.append(bits)
            # The last of three parts has no more bits than it can hold, unless it is subnormal.
            low = builder.lshr(halves[0], broadcast(builder, I32(16), integers))
            pairs = builder.or_(low, builder.and_(halves[1], upper))
            place = builder.gep(data, [builder.add(start, I64(part * PART))])
            builder.store(pairs, builder.bitcast(place, integers.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(target, types.intp, vector, vector, parts), emit


def _to_nearest_even(builder, numbers, bits):
    """The bits of each number, whose upper halves are the nearest bfloat16; NaN stays NaN."""

    def everywhere(constant):
        return broadcast(builder, I32(constant), bits.type)

    odd = builder.and_(builder.lshr(bits, everywhere(16)), everywhere(1))
    rounded = builder.add(bits, builder.add(odd, everywhere(0x7FFF)))
    is_nan = builder.fcmp_unordered("uno", numbers, numbers)
    return builder.select(is_nan, builder.or_(bits, everywhere(0x00400000)), rounded)


@cache
def split_rows(parts):
    """The kernel that splits squares beside each other for the left of a product."""

    @jit(refcount=False)
    def split(source, start, row, rows, columns, target, to, distance):
        """Split to places ``distance`` apart from ``to`` on.

        The source's rows are ``row`` apart; missing numbers are zero.
        """
        for r in range(SIDE):
            left = columns if r < rows else 0
            for j in range(0, columns, SIDE):
                at = start + r * row + j
                low, high = load(source, at, left - j), load(source, at + 16, left - j - 16)
                store_split(target, to + j // SIDE * distance + r * 16, low, high, parts)

    return split


@cache
def split_pairs(parts):
    """The kernel that splits squares beside each other for the right of a product."""

    @jit(refcount=False)
    def split(source, start, row, rows, columns, target, to, distance, factor):
        """Split to places ``distance`` apart from ``to`` on, multiplied by a factor unless that is None.

        The source's rows are ``row`` apart; missing numbers are zero.
        """
        for r in range(16):
            for j in range(0, columns, 16):
                at = start + r * row + j
                low = load(source, at, columns - j if r < rows else 0)
                high = load(source, at + 16 * row, columns - j if r + 16 < rows else 0)
                if factor is not None:
                    low, high = low * factor, high * factor
                store_split(
                    target, to + j // SIDE * distance + j % SIDE // 16 * HALF + r * 16, low, high, parts
                )
            if columns % SIDE in range(1, 17):
                zeros = fill(target, 0.0)
                store_split(target, to + columns // SIDE * distance + HALF + r * 16, zeros, zeros, parts)

    return split


@jit(refcount=False)
def transpose_square(source, start, row, target):
    """target[j * SIDE + i] = source[start + i * row + j]; all numbers of the square must exist."""
    for i in range(0, SIDE, 16):
        for j in range(0, SIDE, 16):
            transpose(source, start + i * row + j, row, 16, target, j * SIDE + i, SIDE)


# --- multiplying -----------------------------------------------------------------------------------------


class _Unit:
    """The unit's instructions. Its tile registers are numbered from 0 to 7."""

    def __init__(self, builder):
        self.builder = builder

    def zero(self, tile):
        """Set a tile register to zero."""
        call_llvm(self.builder, "llvm.x86.tilezero", VOID, [I8(tile)])

    def load(self, tile, start, row_bytes):
        """Read a tile register from memory, in which its rows are ``row_bytes`` apart."""
        call_llvm(self.builder, "llvm.x86.tileloadd64", VOID, [I8(tile), start, row_bytes])

    def store(self, tile, start, row_bytes):
        """Write a tile register to memory, in which its rows are ``row_bytes`` apart."""
        call_llvm(self.builder, "llvm.x86.tilestored64", VOID, [I8(tile), start, row_bytes])

    def multiply(self, c, a, b):
        """C += A B, of float32, the factors bfloat16."""
        call_llvm(self.builder, "llvm.x86.tdpbf16ps", VOID, [I8(c), I8(a), I8(b)])


@intrinsic
def start_unit(typing_context):
    """Tell the unit the shape of its tile registers; each thread must do so before it multiplies."""

    def emit(context, builder, signature, arguments):
        if EMULATED:
            return context.get_dummy_value()
        rows, row_bytes = [16] * 8, [64, 0] * 8
        configuration = bytes([1, *[0] * 15, *row_bytes, *[0] * 16, *rows, *[0] * 8])
        constant = ir.Constant(ir.ArrayType(I8, 64), bytearray(configuration))
        memory = ir.GlobalVariable(builder.module, constant.type, builder.module.get_unique_name("tiles"))
        memory.initializer, memory.global_constant, memory.linkage = constant, True, "internal"
        call_llvm(builder, "llvm.x86.ldtilecfg", VOID, [builder.bitcast(memory, I8.as_pointer())])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def stop_unit(typing_context):
    """Release the unit: its 8 KiB of registers need not be saved when threads take turns."""

    def emit(context, builder, signature, arguments):
        if not EMULATED:
            call_llvm(builder, "llvm.x86.tilerelease", VOID, [])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic(prefer_literal=True)
def multiply_squares(typing_context, a, b, count, c, add, left_parts, right_parts):
    """C (+)= A_0 B_0 + ... + A_(count-1) B_(count-1), for squares that have been split and count >= 1.

    ``a`` and ``b`` are Squares, ``c`` Sums, all of ``tiles.py``. ``add`` says whether to add to C as it is.
    The numbers of parts are constants.
    """
    precision = Precision(left_parts.literal_value, right_parts.literal_value)

    def emit(context, builder, signature, arguments):
        return _emit_multiply(context, builder, signature.args[:5], arguments[:5], precision)

    return types.void(a, b, types.intp, c, types.boolean, left_parts, right_parts), emit


@intrinsic(prefer_literal=True)
def multiply_squares_beside(
    typing_context, job, job_arguments, a, b, count, c, add, left_parts, right_parts
):  # fmt: skip
    """``multiply_squares``, while the processor's other units do a job that does not need the products.

    The job is called in pieces: job(i, piece, *job_arguments) for i from 0 to count - 1 and each piece, a
    constant below PIECES. Its instructions stand among those of the product and wait for none of them, so
    the processor runs them while the matrix unit is busy.
    """
    called = job.get_call_type(typing_context, (types.intp, types.intp, *job_arguments.types), {})
    precision = Precision(left_parts.literal_value, right_parts.literal_value)

    def emit(context, builder, signature, arguments):
        function = context.get_function(job, called)
        for library in function.libs:
            context.active_code_library.add_linking_library(library)
        others = cgutils.unpack_tuple(builder, arguments[1])

        def do_piece(i, piece):
            function(builder, [i, I64(piece), *others])

        return _emit_multiply(
            context, builder, signature.args[2:7], arguments[2:7], precision, do_piece
        )  # fmt: skip

    kinds = job, job_arguments, a, b, types.intp, c, types.boolean, left_parts, right_parts
    return types.void(*kinds), emit


def _emit_multiply(context, builder, kinds, arguments, precision, do_piece=None):
    a, b, count, c, add = arguments
    a, b, c = (
        unpack(context, builder, kind, operand)
        for kind, operand in ((kinds[0], a), (kinds[1], b), (kinds[3], c))
    )
    a_start, b_start, c_start = (
        builder.gep(context.make_array(kind.types[0])(context, builder, operand.array).data, [operand.start])
        for kind, operand in ((kinds[0], a), (kinds[1], b), (kinds[3], c))
    )
    row_bytes = builder.mul(c.row, I64(4))
    unit = EmulatedUnit(builder) if EMULATED else _Unit(builder)

    def move(instruction, tile, start, offset, row_bytes):
        instruction(tile, builder.bitcast(builder.gep(start, [offset]), I8.as_pointer()), row_bytes)

    def move_sums(instruction):
        for i in range(2):
            for j in range(2):
                offset = builder.add(builder.mul(c.row, I64(16 * i)), I64(16 * j))
                move(instruction, 2 * i + j, c_start, offset, row_bytes)

    with builder.if_else(add) as (more, first):
        with more:
            move_sums(unit.load)
        with first:
            for tile in range(4):
                unit.zero(tile)
    before, loop = builder.block, builder.append_basic_block("squares")
    after = builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    i = builder.phi(I64)
    i.add_incoming(I64(0), before)
    a_at, b_at = builder.mul(a.distance, i), builder.mul(b.distance, i)
    products = [
        (a_part, b_part, half, r)
        for a_part, b_parts in TERMS[precision] for b_part in b_parts for half in range(2) for r in range(2)
    ]  # fmt: skip
    for number, (a_part, b_part, half, r) in enumerate(products):
        # Registers 0 to 3 hold the sums, 4 and 5 the halves of a part of A, 6 and 7 those of a part of B.
        if b_part == half == 0:
            move(unit.load, 4 + r, a_start, builder.add(a_at, I64(a_part * PART + r * HALF)), I64(64))
        if r == 0:
            move(unit.load, 6 + half, b_start, builder.add(b_at, I64(b_part * PART + half * HALF)), I64(64))
        unit.multiply(2 * r + half, 4 + r, 6 + half)
        piece, rest = divmod((number + 1) * PIECES, len(products))
        if do_piece and rest == 0:
            do_piece(i, piece - 1)
    following = builder.add(i, I64(1))
    i.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    move_sums(unit.store)
    return context.get_dummy_value()
