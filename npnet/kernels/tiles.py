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
    I64,
    REGISTERS,
    alignment,
    broadcast,
    call_llvm,
    lanes,
    llvm_name,
    register_pointer,
    vector_of,
)

# ROWS * VECTORS sums, VECTORS of B and one number of A must fit into the registers.
ROWS, VECTORS = (8, 2) if REGISTERS == 32 else (4, 3)


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


@intrinsic
def multiply_tile(
    typing_context,
    a,
    a_start,
    a_row,
    a_step,
    a_block,
    b,
    b_start,
    b_step,
    steps,
    blocks,
    c,
    c_start,
    c_row,
    add,
):
    """C (+)= A B for one tile, summed over ``blocks`` blocks of ``steps`` steps each.

    Arrays are passed whole; positions and distances count elements. With k = block * steps + step:
    A[r, k] = a[a_start + r a_row + block a_block + step a_step],  B[k, j] = b[b_start + k b_step + j],
    C[r, j] = c[c_start + r c_row + j]. ``add`` says whether C's values are added; if not they are not read.
    The caller sees to it that ROWS rows and all columns exist and that ``steps`` and ``blocks`` are positive.
    """
    vector = vector_of(a.dtype)

    def emit(context, builder, signature, arguments):
        a, a_start, a_row, a_step, a_block, b, b_start, b_step, steps, blocks, c, c_start, c_row, add = (
            arguments
        )
        a_type, b_type, c_type = signature.args[0], signature.args[5], signature.args[10]
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
        k_first = builder.mul(steps, outer.index)
        inner = _Loop(builder, steps, outer.values)
        a_at = builder.add(a_first, builder.mul(a_step, inner.index))
        b_at = builder.add(b_start, builder.mul(b_step, builder.add(k_first, inner.index)))
        b_row = [builder.load(place, align=align, typ=kind) for place in registers(b_type, b, b_at)]
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

    index = types.intp
    signature = types.void(
        a, index, index, index, index, b, index, index, index, index, c, index, index, types.boolean
    )
    return signature, emit
