"""The register tile: a small part of a matrix product whose sums never leave the processor's registers.

    C[r, j] (+)= sum_k A[r, k] B[k, j]        r < ROWS,  j < width

Each step of k loads one row of B and multiplies it by ROWS numbers of A. Every matrix product of npnet is
made of this tile, unless it runs on a matrix unit. The tile is written in vector instructions because a
compiler's own vectoriser neither keeps the sums in registers nor uses registers of full width.

Operands are arrays passed whole, with positions and distances counted in elements. The sum may go through
several segments: k stands for (i, s), step s of segment i.
"""

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from npnet.kernels.vectors.registers import (
    AMX,
    I32,
    I64,
    REGISTER_BYTES,
    REGISTERS,
    alignment,
    broadcast,
    call_llvm,
    lanes,
    llvm_name,
    unpack,
    vector_of,
)

__all__ = [
    "ROWS", "VECTORS", "WIDE", "Columns", "Placed", "Prefetch", "Rows", "RowsAt", "Squares", "Sums", "Target",
    "multiply_part", "multiply_part_packing", "multiply_placed", "multiply_tile", "multiply_tile_prefetching",
    "multiply_tile_prefetching_to_write", "wide_of", "width", "width_of",
]  # fmt: skip

# ROWS * WIDE sums, WIDE of B and one number of A must fit into the registers, and ROWS must divide the
# columns of a tile, whatever the dtype. By bytes in a register and registers:
SHAPES = {(64, 32): (8, 3), (32, 16): (4, 3), (16, 16): (4, 2), (16, 32): (4, 4)}
ROWS, WIDE = SHAPES[REGISTER_BYTES, REGISTERS]

# Layers that a matrix unit may multiply are stored in its squares, which are two registers wide.
VECTORS = 2 if AMX else WIDE

UNROLLED = 2  # steps written out in the loop: counting and addressing compete with multiplying
PREFETCHED = 16  # steps between the prefetch of a row of B and its use
LINE = 64  # bytes in a cache line


def width(dtype) -> int:
    """Columns of a tile: 48 float32 or 24 float64 with 512-bit registers."""
    return VECTORS * lanes(dtype)


@intrinsic
def width_of(typing_context, array):
    """Columns of a tile of the array's dtype, a constant."""
    return types.intp(array), lambda *_: I64(width(array.dtype.name))


@intrinsic
def wide_of(typing_context, array):
    """Columns of a wide tile of the array's dtype, a constant."""
    return types.intp(array), lambda *_: I64(WIDE * lanes(array.dtype.name))


# --- operands --------------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """A[r, (i, s)] = array[start + r row + i segment + s step]."""

    array: Any
    start: Any
    row: Any
    step: Any
    segment: Any


class RowsAt(NamedTuple):
    """A[r, s] = array[start + places[first + r] + s].

    Where ``places`` is None the rows are packed: A[r, s] = array[start + r + s ROWS].
    """

    array: Any
    start: Any
    places: Any
    first: Any


class Placed(NamedTuple):
    """A[r, (i, s)] = array[start + places[row + r] + offsets[segment + i] + s step]."""

    array: Any
    start: Any
    places: Any
    row: Any
    step: Any
    offsets: Any
    segment: Any


class Columns(NamedTuple):
    """B[(i, s), j] = array[start + i segment + s step + j]."""

    array: Any
    start: Any
    step: Any
    segment: Any


class Sums(NamedTuple):
    """C[r, j] = array[start + r row + j]."""

    array: Any
    start: Any
    row: Any


class Target(NamedTuple):
    """Where sums are written: array[start + r row + j] = C[r, j] + bias[column + j]."""

    array: Any
    start: Any
    row: Any
    bias: Any
    column: Any


class Squares(NamedTuple):
    """Squares below each other: square i begins at array[start + i distance]."""

    array: Any
    start: Any
    distance: Any


class Prefetch(NamedTuple):
    """What to call into the cache in step (i, s): the line of array[start + i segment + s step]."""

    array: Any
    start: Any
    step: Any
    segment: Any


# --- instructions ----------------------------------------------------------------------------------------


class _Loop:
    """for index in range(count), carrying registers from turn to turn."""

    def __init__(self, builder, count, carried):
        self.builder = builder
        before, self.head = builder.block, builder.append_basic_block("head")
        body, self.after = builder.append_basic_block("body"), builder.append_basic_block("after")
        builder.branch(self.head)
        builder.position_at_end(self.head)
        self.index = builder.phi(I64)
        self.index.add_incoming(I64(0), before)
        self.values = [builder.phi(value.type) for value in carried]
        for phi, value in zip(self.values, carried, strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", self.index, count), body, self.after)
        builder.position_at_end(body)

    def close(self, values):
        """End the body; what is emitted next runs after the loop and may use what is returned."""
        self.index.add_incoming(self.builder.add(self.index, I64(1)), self.builder.block)
        for phi, value in zip(self.values, values, strict=True):
            phi.add_incoming(value, self.builder.block)
        self.builder.branch(self.head)
        self.builder.position_at_end(self.after)
        return self.values


class _Memory:
    """An array, with its type, from ``start`` on."""

    def __init__(self, context, builder, kind, array, start):
        self.builder, self.dtype, self.align = builder, kind.dtype, alignment(kind)
        self.register = context.get_value_type(vector_of(kind.dtype))
        self.data = builder.gep(context.make_array(kind)(context, builder, array).data, [start])

    def pointer(self, position):
        """Where the register beginning at a position is."""
        return self.builder.bitcast(self.builder.gep(self.data, [position]), self.register.as_pointer())

    def load(self, position):
        """The register beginning at a position."""
        return self.builder.load(self.pointer(position), align=self.align, typ=self.register)

    def store(self, position, value):
        """Write a register."""
        self.builder.store(value, self.pointer(position), align=self.align)

    def everywhere(self, position):
        """The number at a position, in every lane."""
        number = self.builder.load(self.builder.gep(self.data, [position]), align=self.align)
        return broadcast(self.builder, number, self.register)

    def prefetch(self, position, to_write=False):
        """Call a cache line into the cache. A position outside the array does no harm."""
        arguments = self.pointer(position), I32(int(to_write)), I32(3), I32(1)
        call_llvm(self.builder, "llvm.prefetch.p0", ir.VoidType(), arguments)


class _Total:
    """Memory in which registers are added to what is there, if ``add`` says so."""

    def __init__(self, memory, add):
        self.memory, self.add = memory, add

    def load(self, position):
        return self.memory.load(position)

    def store(self, position, value):
        builder, nothing = self.memory.builder, ir.Constant(value.type, None)
        old = builder.select(self.add, self.memory.load(position), nothing)
        self.memory.store(position, builder.fadd(old, value))


class _Table:
    """An array of integers, from ``first`` on."""

    def __init__(self, context, builder, kind, array, first):
        self.builder = builder
        self.data = builder.gep(context.make_array(kind)(context, builder, array).data, [first])

    def __getitem__(self, index):
        return self.builder.load(self.builder.gep(self.data, [index]))


def _operand(context, builder, kind, value):
    """An operand with its array replaced by the ``_Memory`` from its start on."""
    operand = unpack(context, builder, kind, value)
    return operand._replace(array=_Memory(context, builder, kind.types[0], operand.array, operand.start))


def _emit_tile(builder, vectors, rows, a, b, counts, c, add, before_step, unrolled=UNROLLED):
    """The tile's instructions; returns the sums, row by row, which ``_store`` writes.

    ``rows`` are the rows of A in memory, ``a``, ``b`` and ``c`` the operands, ``counts`` steps and segments:
    the steps are a number, or a function that emits those of a segment. Where the segments of A begin is said
    by a distance or a ``_Table``.
    ``before_step(segment, step, turn, row_of_b)`` may add instructions to each step; ``turn`` counts the
    ``unrolled`` steps in the loop's body.
    """
    lanes_, register = b.array.register.count, b.array.register
    before = builder.block
    with builder.if_then(add):
        old = [c.array.load(place) for place in _places(builder, c.row, len(rows), vectors, lanes_)]
        reading = builder.block
    sums = []
    for value in old:
        start = builder.phi(register)
        start.add_incoming(ir.Constant(register, None), before)
        start.add_incoming(value, reading)
        sums.append(start)
    steps, segments = counts
    multiply_add = llvm_name("fmuladd", vector_of(b.array.dtype))

    outer = _Loop(builder, segments, sums)
    steps = steps(outer.index) if callable(steps) else steps
    placed = isinstance(a.segment, _Table)
    a_first = a.segment[outer.index] if placed else builder.mul(a.segment, outer.index)
    b_first = builder.mul(b.segment, outer.index)

    def one_step(step, turn, sums):
        b_at = builder.add(b_first, builder.mul(b.step, step))
        row_of_b = [b.array.load(builder.add(b_at, I64(j * lanes_))) for j in range(vectors)]
        before_step(outer.index, step, turn, row_of_b)
        a_at = builder.add(a_first, builder.mul(a.step, step))
        following = []
        for r, row in enumerate(rows):
            number = row.everywhere(a_at)
            for j in range(vectors):
                operands = number, row_of_b[j], sums[r * vectors + j]
                following.append(call_llvm(builder, multiply_add, register, operands))
        return following

    several = _Loop(builder, builder.sdiv(steps, I64(unrolled)), outer.values)
    sums = several.values
    for i in range(unrolled):
        sums = one_step(builder.add(builder.mul(several.index, I64(unrolled)), I64(i)), i, sums)
    sums = several.close(sums)
    if unrolled > 1:
        left = builder.srem(steps, I64(unrolled))
        rest = _Loop(builder, left, sums)
        sums = rest.close(one_step(builder.add(builder.sub(steps, left), rest.index), 0, rest.values))
    return outer.close(sums)


def _places(builder, row, rows, vectors, lanes_):
    """Where the registers of a tile are, row by row."""
    return [
        builder.add(builder.mul(row, I64(r)), I64(j * lanes_)) for r in range(rows) for j in range(vectors)
    ]


def _store(builder, vectors, c, sums):
    """Write the sums of a tile to c, Sums."""
    places = _places(builder, c.row, len(sums) // vectors, vectors, sums[0].type.count)
    for place, value in zip(places, sums, strict=True):
        c.array.store(place, value)


def _nothing(segment, step, turn, row_of_b):
    """Add nothing to a step."""


# --- whole tiles -----------------------------------------------------------------------------------------


@intrinsic
def multiply_tile(typing_context, a, b, steps, depth, c, columns, add):
    """C (+)= A B for one tile, summed over ``depth`` steps in segments of ``steps``.

    ``a`` are Rows, ``b`` Columns, ``c`` Sums. ``columns``: how many of the tile's are used; registers of
    others are neither computed nor written. ``add`` says whether to add to the values of C; if not they are
    not read. The caller sees to it that ROWS rows and all columns exist.
    """
    return _signature(a, b, c), _emit_whole_tile


@intrinsic
def multiply_tile_prefetching(typing_context, a, b, steps, depth, c, columns, add, next_a, following):
    """``multiply_tile``, with a prefetch of what the next tiles need.

    That is, in step (i, s), the cache lines of a.array[next_a + i segment + s ROWS] and of ``following``, a
    Prefetch with ROWS elements from step to step.
    """
    return _signature(a, b, c, types.intp, following), _emit_whole_tile


@intrinsic
def multiply_tile_prefetching_to_write(
    typing_context, a, b, steps, depth, c, columns, add, next_a, following
):  # fmt: skip
    """``multiply_tile_prefetching`` where ``following`` will be written.

    Other cores then give the lines up beforehand: a core that writes a line which others have read waits for
    them, longer than for memory. There is a prefetch in each step, whatever ``following.step`` is.
    """

    def emit(context, builder, signature, arguments):
        return _emit_whole_tile(context, builder, signature, arguments, to_write=True)

    return _signature(a, b, c, types.intp, following), emit


def _signature(a, b, c, *prefetched):
    return types.void(a, b, types.intp, types.intp, c, types.intp, types.boolean, *prefetched)


def _emit_whole_tile(context, builder, signature, arguments, to_write=False):
    kinds, (_, b, steps, depth, c, columns, add, *prefetched) = signature.args, arguments
    a = unpack(context, builder, kinds[0], arguments[0])
    b, c = _operand(context, builder, kinds[1], b), _operand(context, builder, kinds[4], c)

    def memory(start):
        return _Memory(context, builder, kinds[0].types[0], a.array, start)

    rows = [memory(builder.add(a.start, builder.mul(a.row, I64(r)))) for r in range(ROWS)]

    def prefetch(segment, step, turn, row_of_b):
        is_new_line = turn % (LINE // (ROWS * next_rows.align)) == 0
        if is_new_line:
            at = builder.add(builder.mul(a.segment, segment), builder.mul(step, I64(ROWS)))
            next_rows.prefetch(at)
        if is_new_line or to_write:
            at = builder.add(builder.mul(following.segment, segment), builder.mul(following.step, step))
            following.array.prefetch(at, to_write)

    before_step = _nothing
    if prefetched:
        next_rows = memory(prefetched[0])
        following, before_step = _operand(context, builder, kinds[8], prefetched[1]), prefetch

    def steps_of(segment):
        left = builder.sub(depth, builder.mul(steps, segment))
        return builder.select(builder.icmp_signed("<", steps, left), steps, left)

    counts = steps_of, builder.sdiv(builder.add(depth, builder.sub(steps, I64(1))), steps)

    def emit(vectors):
        if vectors < VECTORS:
            fit = builder.icmp_signed("<=", columns, I64(vectors * b.array.register.count))
            with builder.if_else(fit) as (these, more):
                with more:
                    emit(vectors + 1)
                with these:
                    emit_tile(vectors)
        else:
            emit_tile(vectors)

    def emit_tile(vectors):
        sums = _emit_tile(builder, vectors, rows, a, b, counts, c, add, before_step)
        _store(builder, vectors, c, sums)

    emit(1)
    return context.get_dummy_value()


# --- tiles of which rows or columns may be missing -------------------------------------------------------


@intrinsic(prefer_literal=True)
def multiply_part(typing_context, vectors, a, b, steps, c, add, target):
    """C (+)= A B for ``vectors`` registers of columns, a constant, and rows anywhere; one segment.

    ``a`` are RowsAt, ``b`` Columns; ``c`` are Sums, where the old values of C are read, and ``target`` is
    where the new ones are written. LLVM must not know that rows are equally far apart: it would make each
    address from the last, by additions that wait for each other and take the place of multiplications.
    """
    return types.void(vectors, a, b, types.intp, c, types.boolean, target), _emit_part


@intrinsic(prefer_literal=True)
def multiply_part_packing(typing_context, vectors, a, b, steps, c, add, target, packed, packed_start):
    """``multiply_part``, while B is copied to packed[packed_start + step * columns + j].

    There is a prefetch of B's rows PREFETCHED steps early: they may be far apart and far away.
    """
    return types.void(vectors, a, b, types.intp, c, types.boolean, target, packed, types.intp), _emit_part


def _emit_part(context, builder, signature, arguments):
    kinds, (_, a, b, steps, c, add, target, *packed) = signature.args, arguments
    vectors, count = kinds[0].literal_value, lanes(kinds[2].types[0].dtype.name)
    a = unpack(context, builder, kinds[1], a)
    b, c = _operand(context, builder, kinds[2], b), _operand(context, builder, kinds[4], c)
    target = _operand(context, builder, kinds[6], target)
    if packed:
        packed = _Memory(context, builder, kinds[7], *packed)
    kind_of_places = kinds[1].types[2]
    if kind_of_places == types.none:
        places, a_step = [I64(r) for r in range(ROWS)], ROWS
    else:
        table = _Table(context, builder, kind_of_places, a.places, a.first)
        places, a_step = [table[I64(r)] for r in range(ROWS)], 1
    rows = [
        _Memory(context, builder, kinds[1].types[0], a.array, builder.add(a.start, place)) for place in places
    ]

    def pack(segment, step, turn, row_of_b):
        if packed:
            for j, register in enumerate(row_of_b):
                early = builder.mul(b.step, builder.add(step, I64(PREFETCHED)))
                b.array.prefetch(builder.add(early, I64(j * count)))
                at = builder.mul(step, I64(vectors * count))
                packed.store(builder.add(at, I64(j * count)), register)

    a = Rows(a.array, a.start, None, I64(a_step), I64(0))
    # Two steps that pack hold two rows of B: beside them the sums would not fit into 16 registers.
    unrolled = 1 if packed else UNROLLED
    sums = _emit_tile(builder, vectors, rows, a, b, (steps, I64(1)), c, add, pack, unrolled)
    bias = _Memory(context, builder, kinds[6].types[3], target.bias, target.column)
    biases = [bias.load(I64(j * count)) for j in range(vectors)] * len(rows)
    _store(builder, vectors, target, list(map(builder.fadd, sums, biases)))
    return context.get_dummy_value()


@intrinsic(prefer_literal=True)
def multiply_placed(typing_context, rows, vectors, a, b, steps, segments, c, add):
    """C (+)= A B for a tile of ``rows`` and ``vectors`` registers of columns, both constants.

    ``a`` are Placed, ``b`` Columns, ``c`` Sums. The tile's own sum is added to the old values of C at its
    end: a long sum in several calls has the error of a sum of blocks, which is smaller than that of one
    running sum (Higham 1993, SIAM J. Sci. Comput. 14, 783).
    """
    arguments = rows, vectors, a, b, types.intp, types.intp, c, types.boolean
    return types.void(*arguments), _emit_placed


def _emit_placed(context, builder, signature, arguments):
    kinds, (_, _, a, b, steps, segments, c, add) = signature.args, arguments
    rows, vectors = kinds[0].literal_value, kinds[1].literal_value
    kind, a = kinds[2], unpack(context, builder, kinds[2], a)
    b, c = _operand(context, builder, kinds[3], b), _operand(context, builder, kinds[6], c)
    table = _Table(context, builder, kind.types[2], a.places, a.row)
    places = [builder.add(a.start, table[I64(r)]) for r in range(rows)]
    memory = [_Memory(context, builder, kind.types[0], a.array, place) for place in places]
    offsets = _Table(context, builder, kind.types[5], a.offsets, a.segment)
    a, c = Rows(a.array, a.start, None, a.step, offsets), c._replace(array=_Total(c.array, add))
    sums = _emit_tile(
        builder, vectors, memory, a, b, (steps, segments), c, ir.Constant(add.type, 0), _nothing
    )
    _store(builder, vectors, c, sums)
    return context.get_dummy_value()
