"""The register tile: a small block of a matrix product whose sums never leave the processor's registers.

    C[r, j] (+)= sum_k A[r, k] B[k, j]        r < ROWS,  j < width

Each step of k loads one row of B and multiplies it by ROWS numbers of A. Every matrix product of npnet is
made of this tile. It is written out in vector instructions because a compiler's own vectoriser neither keeps
the sums in registers nor uses registers of full width.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from npnet.kernels.vectors.registers import (
    I32,
    I64,
    REGISTER_BYTES,
    REGISTERS,
    alignment,
    broadcast,
    call_llvm,
    lanes,
    llvm_name,
    vector_of,
)

# ROWS * VECTORS sums, VECTORS of B and one number of A must fit into the registers, and ROWS must divide the
# columns of a tile, whatever the dtype. By bytes in a register and registers:
SHAPES = {(64, 32): (8, 2), (32, 16): (4, 3), (16, 16): (4, 2), (16, 32): (4, 4)}
ROWS, VECTORS = SHAPES[REGISTER_BYTES, REGISTERS]


def width(dtype) -> int:
    """Columns of a tile: 32 float32 or 16 float64 with 512-bit registers."""
    return VECTORS * lanes(dtype)


def width_of(array):
    """Columns of a tile of the array's dtype, a constant in compiled code."""
    raise NotImplementedError("only inside compiled kernels")


@overload(width_of)
def _width_of(array):
    columns = width(array.dtype.name)
    return lambda array: columns


UNROLLED = 2  # steps written out in the loop: counting and addressing compete with multiplying
AHEAD = 16  # steps
LINE = 64  # bytes in a cache line


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


class _Operand:
    """An array with its type, and where in it something begins."""

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
        """Ask for a cache line. Asking for what does not exist is allowed."""
        arguments = self.pointer(position), I32(int(to_write)), I32(3), I32(1)
        call_llvm(self.builder, "llvm.prefetch.p0", ir.VoidType(), arguments)


def _emit_tile(builder, vectors, a_rows, a_strides, b, b_strides, counts, c, c_row, add, before_step):
    """The tile's instructions, for some rows of A. Strides are (step, block), counts (steps, blocks).

    ``before_step(block, step, turn, row of B)`` may add instructions to each step; ``turn`` counts steps in
    the loop's body.
    """
    rows, lanes_ = len(a_rows), b.register.count
    places = [
        builder.add(builder.mul(c_row, I64(r)), I64(j * lanes_)) for r in range(rows) for j in range(vectors)
    ]
    before = builder.block
    with builder.if_then(add):
        old = [c.load(place) for place in places]
        reading = builder.block
    sums = []
    for value in old:
        start = builder.phi(b.register)
        start.add_incoming(ir.Constant(b.register, None), before)
        start.add_incoming(value, reading)
        sums.append(start)
    (a_step, a_block), (b_step, b_block), (steps, blocks) = a_strides, b_strides, counts
    multiply_add = llvm_name("fmuladd", vector_of(b.dtype))

    outer = _Loop(builder, blocks, sums)
    a_first, b_first = builder.mul(a_block, outer.index), builder.mul(b_block, outer.index)

    def one_step(step, turn, sums):
        b_at = builder.add(b_first, builder.mul(b_step, step))
        b_row = [b.load(builder.add(b_at, I64(j * lanes_))) for j in range(vectors)]
        before_step(outer.index, step, turn, b_row)
        a_at = builder.add(a_first, builder.mul(a_step, step))
        following = []
        for r in range(rows):
            number = a_rows[r].everywhere(a_at)
            for j in range(vectors):
                operands = number, b_row[j], sums[r * vectors + j]
                following.append(call_llvm(builder, multiply_add, b.register, operands))
        return following

    several = _Loop(builder, builder.sdiv(steps, I64(UNROLLED)), outer.values)
    sums = several.values
    for i in range(UNROLLED):
        sums = one_step(builder.add(builder.mul(several.index, I64(UNROLLED)), I64(i)), i, sums)
    sums = several.close(sums)
    left = builder.srem(steps, I64(UNROLLED))
    rest = _Loop(builder, left, sums)
    sums = rest.close(one_step(builder.add(builder.sub(steps, left), rest.index), 0, rest.values))
    sums = outer.close(sums)
    for value, place in zip(sums, places, strict=True):
        c.store(place, value)


@intrinsic
def multiply_tile(
    typing_context, a, a_start, a_row, a_step, a_block, b, b_start, b_step, b_block, steps, blocks,
    c, c_start, c_row, add,
):  # fmt: skip
    """C (+)= A B for one tile, summed over ``blocks`` blocks of ``steps`` steps each.

    Arrays are passed whole; positions and distances count elements. With k = block * steps + step:
    A[r, k] = a[a_start + r a_row + block a_block + step a_step],
    B[k, j] = b[b_start + block b_block + step b_step + j],  C[r, j] = c[c_start + r c_row + j].
    ``add`` says whether C's values are added; if not they are not read. The caller sees to it that ROWS rows
    and all columns exist.
    """
    return _tile_signature(a, b, c), _emit_blocks


@intrinsic
def multiply_tile_ahead(
    typing_context, a, a_start, a_row, a_step, a_block, b, b_start, b_step, b_block, steps, blocks,
    c, c_start, c_row, add, a_next, ahead, ahead_start, ahead_step, ahead_block,
):  # fmt: skip
    """``multiply_tile``, while what the next tiles need is called into the cache.

    Step by step these are asked for, a cache line once (``ahead_step`` is ROWS too):
    ahead[ahead_start + block ahead_block + step ahead_step]  and  a[a_next + block a_block + step ROWS].
    """
    return _tile_signature(a, b, c, types.intp, ahead, types.intp, types.intp, types.intp), _emit_blocks


@intrinsic
def multiply_tile_ahead_to_write(
    typing_context, a, a_start, a_row, a_step, a_block, b, b_start, b_step, b_block, steps, blocks,
    c, c_start, c_row, add, a_next, ahead, ahead_start, ahead_step, ahead_block,
):  # fmt: skip
    """``multiply_tile_ahead`` where ``ahead`` will be written: other cores are told to give it up.

    It is asked for in each step, whatever ``ahead_step`` is.

    A core that writes a line which others have read waits for them, longer than for memory.
    """

    def emit(context, builder, signature, arguments):
        return _emit_blocks(context, builder, signature, arguments, to_write=True)

    return _tile_signature(a, b, c, types.intp, ahead, types.intp, types.intp, types.intp), emit


def _tile_signature(a, b, c, *ahead):
    i = types.intp
    return types.void(a, i, i, i, i, b, i, i, i, i, i, c, i, i, types.boolean, *ahead)


def _emit_blocks(context, builder, signature, arguments, to_write=False):
    _, a_start, a_row, a_step, a_block, _, b_start, b_step, b_block, steps, blocks, _, c_start, c_row, add = (
        arguments[:15]
    )

    def operand(i, start):
        return _Operand(context, builder, signature.args[i], arguments[i], start)

    def no_more(block, step, turn, b_row):
        pass

    def call_ahead(block, step, turn, b_row):
        new_line = turn % (LINE // (ROWS * a_rows[0].align)) == 0
        if new_line:
            a_following.prefetch(builder.add(builder.mul(a_block, block), builder.mul(step, I64(ROWS))))
        if new_line or to_write:
            place = builder.add(builder.mul(ahead_block, block), builder.mul(ahead_step, step))
            ahead.prefetch(place, to_write)

    a_rows = [operand(0, builder.add(a_start, builder.mul(a_row, I64(r)))) for r in range(ROWS)]
    before_step = no_more
    if len(arguments) > 15:
        a_next, _, ahead_start, ahead_step, ahead_block = arguments[15:]
        a_following, ahead, before_step = operand(0, a_next), operand(16, ahead_start), call_ahead
    _emit_tile(
        builder, VECTORS, a_rows, (a_step, a_block), operand(5, b_start), (b_step, b_block), (steps, blocks),
        operand(11, c_start), c_row, add, before_step,
    )  # fmt: skip
    return context.get_dummy_value()


@intrinsic(prefer_literal=True)
def multiply_part(
    typing_context, vectors, a, a_start, a_rows, first, b, b_start, b_step, steps, c, c_start, add
):
    """``multiply_tile`` of one block with ``vectors`` registers of columns, a constant, and rows anywhere.

    A[r, k] = a[a_start + a_rows[first + r] + k a_step]; C is a whole tile in order. LLVM must not know that
    rows are equally far apart: it would make each address from the last, by additions that wait for each
    other and take the place of multiplications.
    """
    return _part_signature(vectors, a, a_rows, b, c), _emit_part


@intrinsic(prefer_literal=True)
def multiply_part_packing(
    typing_context, vectors, a, a_start, a_rows, first, b, b_start, b_step, steps, c, c_start, add,
    packed, packed_start,
):  # fmt: skip
    """``multiply_part``, while B is copied to packed[packed_start + step * width + j].

    B's rows are asked for AHEAD steps early: they may be far apart and far away.
    """
    return _part_signature(vectors, a, a_rows, b, c, packed, types.intp), _emit_part


def _part_signature(vectors, a, a_rows, b, c, *packed):
    i = types.intp
    return types.void(vectors, a, i, a_rows, i, b, i, i, i, c, i, types.boolean, *packed)


def _emit_part(context, builder, signature, arguments):
    _, _, a_start, a_rows, first, _, b_start, b_step, steps, _, c_start, add = arguments[:12]
    vectors = signature.args[0].literal_value

    def operand(i, start):
        return _Operand(context, builder, signature.args[i], arguments[i], start)

    b = operand(5, b_start)
    packed = operand(12, arguments[13]) if len(arguments) > 12 else None
    if signature.args[3] == types.none:
        places, a_step = [I64(r) for r in range(ROWS)], ROWS
    else:
        table = context.make_array(signature.args[3])(context, builder, a_rows).data
        places = [builder.load(builder.gep(table, [builder.add(first, I64(r))])) for r in range(ROWS)]
        a_step = 1
    rows = [operand(1, builder.add(a_start, place)) for place in places]

    def before_step(block, step, turn, b_row):
        if packed:
            count = b.register.count
            for j, register in enumerate(b_row):
                ahead = builder.mul(b_step, builder.add(step, I64(AHEAD)))
                b.prefetch(builder.add(ahead, I64(j * count)))
                at = builder.mul(step, I64(VECTORS * count))
                packed.store(builder.add(at, I64(j * count)), register)

    c_row = I64(VECTORS * b.register.count)
    _emit_tile(
        builder, vectors, rows, (I64(a_step), I64(0)), b, (b_step, I64(0)), (steps, I64(1)),
        operand(9, c_start), c_row, add, before_step,
    )  # fmt: skip
    return context.get_dummy_value()
