"""The register tile: a small block of a matrix product whose sums never leave the processor's registers.

    C[r, j] (+)= sum_k A[r, k] B[k, j]        r < ROWS,  j < width

Each step of k loads one row of B and multiplies it by ROWS numbers of A. Every matrix product of npnet is
made of this tile. It is written out in vector instructions because a compiler's own vectoriser neither keeps
the sums in registers nor uses registers of full width.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from npnet.kernels.vectors import (
    I32,
    I64,
    REGISTER_BYTES,
    REGISTERS,
    alignment,
    broadcast,
    call_llvm,
    lanes,
    llvm_name,
    register_pointer,
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


CACHE_LINE = 64  # bytes


class _Loop:
    """for index in range(count), count >= 1, carrying registers from turn to turn."""

    def __init__(self, builder, count, carried):
        self.builder, self.count = builder, count
        before, self.body = builder.block, builder.append_basic_block("loop")
        builder.branch(self.body)
        builder.position_at_end(self.body)
        self.index = builder.phi(I64)
        self.index.add_incoming(I64(0), before)
        self.values = [builder.phi(value.type) for value in carried]
        for phi, value in zip(self.values, carried, strict=True):
            phi.add_incoming(value, before)

    def close(self, values):
        """End the body; what is emitted next runs after the loop and may use ``values``."""
        following = self.builder.add(self.index, I64(1))
        self.index.add_incoming(following, self.builder.block)
        for phi, value in zip(self.values, values, strict=True):
            phi.add_incoming(value, self.builder.block)
        after = self.builder.append_basic_block("after")
        self.builder.cbranch(self.builder.icmp_signed("<", following, self.count), self.body, after)
        self.builder.position_at_end(after)
        return values


def _emit_tile(context, builder, signature, arguments):
    """The tile's instructions; the last five arguments are those of ``multiply_tile_ahead``."""
    a, a_start, a_row, a_step, a_block, b, b_start, b_step, b_block, steps, blocks, c, c_start, c_row, add = (
        arguments[:15]
    )
    a_type, b_type, c_type = signature.args[0], signature.args[5], signature.args[11]
    vector = vector_of(a_type.dtype)
    kind, align = context.get_value_type(vector), alignment(a_type)
    a_data = context.make_array(a_type)(context, builder, a).data

    def registers(array_type, array, start):
        starts = [builder.add(start, I64(j * vector.count)) for j in range(VECTORS)]
        return [register_pointer(context, builder, array_type, array, position) for position in starts]

    places = [
        place
        for r in range(ROWS)
        for place in registers(c_type, c, builder.add(c_start, builder.mul(c_row, I64(r))))
    ]
    before = builder.block
    with builder.if_then(add):
        old = [builder.load(place, align=align, typ=kind) for place in places]
        reading = builder.block
    sums = []
    for value in old:
        start = builder.phi(kind)
        start.add_incoming(ir.Constant(kind, None), before)
        start.add_incoming(value, reading)
        sums.append(start)

    a_rows = [builder.mul(a_row, I64(r)) for r in range(ROWS)]
    outer = _Loop(builder, blocks, sums)
    a_first = builder.add(a_start, builder.mul(a_block, outer.index))
    b_first = builder.add(b_start, builder.mul(b_block, outer.index))
    inner = _Loop(builder, steps, outer.values)
    if len(arguments) > 15:
        a_next, ahead, ahead_start, ahead_step, ahead_block = arguments[15:]
        for kind_of_array, array, start, step, block in (
            (a_type, a, a_next, I64(ROWS), a_block),
            (signature.args[16], ahead, ahead_start, ahead_step, ahead_block),
        ):
            position = builder.add(start, builder.mul(block, outer.index))
            position = builder.add(position, builder.mul(step, inner.index))
            _prefetch(context, builder, kind_of_array, array, position)
    b_row = [
        builder.load(place, align=align, typ=kind)
        for place in registers(b_type, b, builder.add(b_first, builder.mul(b_step, inner.index)))
    ]
    a_at = builder.add(a_first, builder.mul(a_step, inner.index))
    sums = []
    for r in range(ROWS):
        number = builder.load(builder.gep(a_data, [builder.add(a_at, a_rows[r])]), align=align)
        number = broadcast(builder, number, kind)
        for j in range(VECTORS):
            operands = number, b_row[j], inner.values[r * VECTORS + j]
            sums.append(call_llvm(builder, llvm_name("fmuladd", vector), kind, operands))
    sums = outer.close(inner.close(sums))
    for value, place in zip(sums, places, strict=True):
        builder.store(value, place, align=align)
    return context.get_dummy_value()


def _prefetch(context, builder, array_type, array, position):
    """Ask for the cache line of an element. Asking for what does not exist is allowed."""
    place = register_pointer(context, builder, array_type, array, position)
    call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), (place, I32(0), I32(3), I32(1)))


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
    and all columns exist and that ``steps`` and ``blocks`` are positive.
    """
    return _tile_signature(a, b, c), _emit_tile


@intrinsic
def multiply_tile_ahead(
    typing_context, a, a_start, a_row, a_step, a_block, b, b_start, b_step, b_block, steps, blocks,
    c, c_start, c_row, add, a_next, ahead, ahead_start, ahead_step, ahead_block,
):  # fmt: skip
    """``multiply_tile``, while what the next tiles need is called into the cache.

    Step by step these are asked for:
    ahead[ahead_start + block ahead_block + step ahead_step]  and  a[a_next + block a_block + step ROWS].
    """
    return _tile_signature(a, b, c, types.intp, ahead, types.intp, types.intp, types.intp), _emit_tile


def _tile_signature(a, b, c, *ahead):
    i = types.intp
    return types.void(a, i, i, i, i, b, i, i, i, i, i, c, i, i, types.boolean, *ahead)
