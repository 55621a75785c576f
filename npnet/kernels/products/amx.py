"""Products of float32 on the processor's matrix unit (Intel AMX), which multiplies bfloat16.

A bfloat16 is the upper half of a float32: 8 significant bits of 24. Three of them hold a float32 exactly,

    x = x0 + x1 + x2        x0 = round(x), x1 = round(x - x0), x2 = x - x0 - x1

and the product of two of them is exact in float32. Of the nine products of parts

    a b = a0 b0 + (a0 b1 + a1 b0) + (a0 b2 + a1 b1 + a2 b0) + ...

six are summed, in float32; the other three are below 2^-26 |a b|, less than a float32 rounds off. So the
result is as good as that of multiply-adds of float32. The unit does sixteen times as many multiplications a
cycle as the vector units do; of six times as many, at the clock it gets, a gain of two remains.

Two differences are left. An infinity becomes NaN, its parts being inf - inf: ``blocked.py`` computes again
what is not finite, a fused step is NaN one step earlier than it would be. And what is below 2^-126 counts
as zero, parts too: numbers below 1e-33 lose digits, with nothing slowed down.

Source: Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
Computations", 2019.

Matrices are multiplied in blocks of BLOCK x BLOCK numbers. A block that has been split takes SPLIT places of
a float32 array: [part, half, row, pair], 3 x 2 x 16 x 16, each place two bfloat16. The unit sums over pairs;
here those are columns j and j + 16 of a row of A, and rows k and k + 16 of a column of B.
"""

import ctypes
import platform
import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from npnet.kernels.machine.jit import jit
from npnet.kernels.products.emulated_unit import EmulatedUnit
from npnet.kernels.vectors.memory import fill, load, transpose
from npnet.kernels.vectors.registers import (
    EMULATED,
    I32,
    I64,
    REGISTER_BYTES,
    broadcast,
    call_llvm,
    vector_of,
)

BLOCK = 32
TILE = 16 * 16  # places of one of the unit's eight tiles: 16 rows of 64 bytes
PARTS = 3
# The 16 places to spare keep parts and blocks from competing for the same cache sets.
PART = 2 * TILE + 16
SPLIT = PARTS * PART + 16
PIECES = 2  # of a job done beside a block's product
TERMS = ((0, (0, 1, 2)), (1, (0, 1)), (2, (0,)))  # parts of a, with the parts of b they are multiplied by

I8, VOID = ir.IntType(8), ir.VoidType()


def _permitted() -> bool:
    """Whether there is a matrix unit that kernels may use; Linux wants to be asked once in each process."""
    features = cpu_target.target_context.codegen()._get_host_cpu_features().split(",")
    if not {"+amx-tile", "+amx-bf16"} <= set(features) or REGISTER_BYTES != 64:
        return False
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


AMX = EMULATED or _permitted()


# --- splitting -------------------------------------------------------------------------------------------


@intrinsic
def store_split(typing_context, target, start, low, high):
    """Split two registers and store the parts of both, in pairs, to start, start + PART, start + 2 PART."""
    vector = vector_of(target.dtype)

    def emit(context, builder, signature, arguments):
        target, start, *rests = arguments
        data = context.make_array(signature.args[0])(context, builder, target).data
        numbers = ir.VectorType(I32, vector.count)
        upper = broadcast(builder, I32(0xFFFF0000), numbers)
        half = broadcast(builder, I32(0x8000), numbers)
        for part in range(PARTS):
            halves = []
            for i, rest in enumerate(rests):
                bits = builder.bitcast(rest, numbers)
                if part < PARTS - 1:
                    bits = builder.and_(builder.add(bits, half), upper)
                    rests[i] = builder.fsub(rest, builder.bitcast(bits, rest.type))
                halves.append(bits)
            # The last part has no more bits than it can hold, unless it is subnormal.
            low = builder.lshr(halves[0], broadcast(builder, I32(16), numbers))
            pairs = builder.or_(low, builder.and_(halves[1], upper))
            place = builder.gep(data, [builder.add(start, I64(part * PART))])
            builder.store(pairs, builder.bitcast(place, numbers.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(target, types.intp, vector, vector), emit


@jit(refcount=False)
def split_rows(source, start, row, rows, columns, target, to, panel):
    """Split blocks beside each other for the left of a product, ``panel`` places apart.

    The source's rows are ``row`` apart; missing numbers are zero.
    """
    for r in range(BLOCK):
        left = columns if r < rows else 0
        for j in range(0, columns, BLOCK):
            at = start + r * row + j
            low, high = load(source, at, left - j), load(source, at + 16, left - j - 16)
            store_split(target, to + j // BLOCK * panel + r * 16, low, high)


@jit(refcount=False)
def split_pairs(source, start, row, rows, columns, target, to, panel):
    """Split blocks beside each other for the right of a product, ``panel`` places apart.

    The source's rows are ``row`` apart; missing numbers are zero.
    """
    for r in range(16):
        for j in range(0, columns, 16):
            at = start + r * row + j
            low = load(source, at, columns - j if r < rows else 0)
            high = load(source, at + 16 * row, columns - j if r + 16 < rows else 0)
            store_split(target, to + j // BLOCK * panel + j % BLOCK // 16 * TILE + r * 16, low, high)
        if columns % BLOCK in range(1, 17):
            zeros = fill(target, 0.0)
            store_split(target, to + columns // BLOCK * panel + TILE + r * 16, zeros, zeros)


@jit(refcount=False)
def turn_block(source, start, row, target):
    """target[j * BLOCK + i] = source[start + i * row + j], all of them there."""
    for i in range(0, BLOCK, 16):
        for j in range(0, BLOCK, 16):
            transpose(source, start + i * row + j, row, 16, target, j * BLOCK + i, BLOCK)


# --- multiplying -----------------------------------------------------------------------------------------


class _Unit:
    """The unit's instructions. Its tiles are numbered from 0 to 7."""

    def __init__(self, builder):
        self.builder = builder

    def zero(self, tile):
        """Set a tile to zero."""
        call_llvm(self.builder, "llvm.x86.tilezero", VOID, [I8(tile)])

    def load(self, tile, start, row_bytes):
        """Read a tile from memory, in which its rows are ``row_bytes`` apart."""
        call_llvm(self.builder, "llvm.x86.tileloadd64", VOID, [I8(tile), start, row_bytes])

    def store(self, tile, start, row_bytes):
        """Write a tile to memory, in which its rows are ``row_bytes`` apart."""
        call_llvm(self.builder, "llvm.x86.tilestored64", VOID, [I8(tile), start, row_bytes])

    def multiply(self, c, a, b):
        """C += A B, of float32, the factors bfloat16."""
        call_llvm(self.builder, "llvm.x86.tdpbf16ps", VOID, [I8(c), I8(a), I8(b)])


@intrinsic
def start_unit(typing_context):
    """Tell the unit the shape of its tiles; a thread does so before it multiplies."""

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
    """Let go of the unit: its 8 KiB of tiles need not be kept when threads take turns."""

    def emit(context, builder, signature, arguments):
        if not EMULATED:
            call_llvm(builder, "llvm.x86.tilerelease", VOID, [])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def multiply_blocks(typing_context, a, a_start, a_block, b, b_start, b_block, blocks, c, c_start, c_row, add):
    """C (+)= sum_i A_i B_i for one block of C and ``blocks`` blocks of A and B that have been split.

    A_i begins at a[a_start + i a_block], B_i at b[b_start + i b_block], row r of C at c[c_start + r c_row].
    """

    def emit(context, builder, signature, arguments):
        return _emit_multiply(context, builder, signature.args, arguments)

    return types.void(*_types(a, b, c)), emit


@intrinsic
def multiply_blocks_beside(
    typing_context, job, job_arguments, a, a_start, a_block, b, b_start, b_block, blocks,
    c, c_start, c_row, add,
):  # fmt: skip
    """``multiply_blocks``, while the processor's other units do a job that needs no products.

    It is handed out in pieces, as the calls job(block, piece, *job_arguments) with ``piece`` a constant below
    PIECES: instructions that wait for nothing run while the matrix unit is busy, as far as they are found
    among its own.
    """
    called = job.get_call_type(typing_context, (types.intp, types.intp, *job_arguments.types), {})

    def emit(context, builder, signature, arguments):
        function = context.get_function(job, called)
        for library in function.libs:
            context.active_code_library.add_linking_library(library)
        others = cgutils.unpack_tuple(builder, arguments[1])

        def do_piece(block, piece):
            function(builder, [block, I64(piece), *others])

        return _emit_multiply(context, builder, signature.args[2:], arguments[2:], do_piece)

    return types.void(job, job_arguments, *_types(a, b, c)), emit


def _types(a, b, c):
    i = types.intp
    return a, i, i, b, i, i, i, c, i, i, types.boolean


def _emit_multiply(context, builder, kinds, arguments, do_piece=None):
    _, a_start, a_block, _, b_start, b_block, blocks, _, c_start, c_row, add = arguments

    def place(i, start):
        return builder.gep(context.make_array(kinds[i])(context, builder, arguments[i]).data, [start])

    a, b, c = place(0, a_start), place(3, b_start), place(7, c_start)
    c_bytes = builder.mul(c_row, I64(4))
    unit = EmulatedUnit(builder) if EMULATED else _Unit(builder)

    def tile(move, number, base, offset, stride):
        move(number, builder.bitcast(builder.gep(base, [offset]), I8.as_pointer()), stride)

    def sums(move):
        for i in range(2):
            for j in range(2):
                offset = builder.add(builder.mul(c_row, I64(16 * i)), I64(16 * j))
                tile(move, 2 * i + j, c, offset, c_bytes)

    with builder.if_else(add) as (more, first):
        with more:
            sums(unit.load)
        with first:
            for number in range(4):
                unit.zero(number)
    before, loop = builder.block, builder.append_basic_block("blocks")
    after = builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    i = builder.phi(I64)
    i.add_incoming(I64(0), before)
    a_at, b_at = builder.mul(a_block, i), builder.mul(b_block, i)
    products = [
        (a_part, b_part, half, r)
        for a_part, b_parts in TERMS for b_part in b_parts for half in range(2) for r in range(2)
    ]  # fmt: skip
    for number, (a_part, b_part, half, r) in enumerate(products):
        if b_part == half == 0:
            tile(unit.load, 4 + r, a, builder.add(a_at, I64(a_part * PART + r * TILE)), I64(64))
        if r == 0:
            tile(unit.load, 6 + half, b, builder.add(b_at, I64(b_part * PART + half * TILE)), I64(64))
        unit.multiply(2 * r + half, 4 + r, 6 + half)
        piece, rest = divmod((number + 1) * PIECES, len(products))
        if do_piece and rest == 0:
            do_piece(i, piece - 1)
    following = builder.add(i, I64(1))
    i.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, blocks), loop, after)
    builder.position_at_end(after)
    sums(unit.store)
    return context.get_dummy_value()
