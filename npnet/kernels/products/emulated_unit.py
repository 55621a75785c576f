"""The instructions of the matrix unit in ordinary ones, for tests on processors that have no such unit.

With the environment variable NPNET_MATRIX_UNIT=emulated, read when the kernels are imported, all kernels are
compiled as for a processor with 512-bit registers and a matrix unit. The compiler makes each register of
several smaller ones; the functions here do what the unit does. This is slow: it is a means of testing.

The unit has eight tile registers of 16 rows of 64 bytes. Its product of A and B of bfloat16, added to C of
float32, is defined as (Intel, Software Developer's Manual, volume 2, TDPBF16PS)

    even[m, n] = sum_k A[m, 2k] B[k, 2n]            odd[m, n] = sum_k A[m, 2k+1] B[k, 2n+1]
    C[m, n] += even[m, n] + odd[m, n]               m, n, k = 0 ... 15

The sums begin with 0 and go through k in order, one fused multiply-add each. Operands and results below
2^-126 count as zeros of their sign.

Left out is what fails with an exception and not with a wrong number: the unit must be started by each thread.
"""

from llvmlite import ir
from numba.core import cgutils

from npnet.kernels.vectors.registers import I32, I64, broadcast, call_llvm

__all__ = ["EmulatedUnit"]

TILES, ROWS = 8, 16
ROW = ir.VectorType(I32, 16)  # 64 bytes: 16 float32, or 16 pairs of bfloat16
NUMBERS = ir.VectorType(ir.FloatType(), 16)


class EmulatedUnit:
    """The tile registers, in memory of the function that is being compiled, and what is done to them."""

    def __init__(self, builder):
        self.builder = builder
        with builder.goto_entry_block():
            self.tiles = builder.alloca(ir.ArrayType(ROW, TILES * ROWS))

    def zero(self, tile):
        """Set a tile register to zero."""
        self._call(_zero, self._tile(tile))

    def load(self, tile, start, row_bytes):
        """Read a tile register from memory, in which its rows are ``row_bytes`` apart."""
        self._call(_copy, self._tile(tile), I64(64), start, row_bytes)

    def store(self, tile, start, row_bytes):
        """Write a tile register to memory, in which its rows are ``row_bytes`` apart."""
        self._call(_copy, start, row_bytes, self._tile(tile), I64(64))

    def multiply(self, c, a, b):
        """C += A B."""
        self._call(_multiply, *map(self._tile, (c, a, b)))

    def _tile(self, tile):
        """Where a tile register begins, as a pointer to bytes."""
        place = self.builder.gep(self.tiles, [I64(0), I64(tile * ROWS)])
        return self.builder.bitcast(place, ir.IntType(8).as_pointer())

    def _call(self, emit, *arguments):
        """Call the function with the body ``emit``: inside its callers it would be compiled very often."""
        module, name = self.builder.module, f"npnet_emulated{emit.__name__}"
        function = module.globals.get(name)
        if function is None:
            kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
            function = ir.Function(module, kind, name)
            function.linkage = "internal"
            function.attributes.add("noinline")
            builder = ir.IRBuilder(function.append_basic_block())
            emit(builder, *function.args)
            builder.ret_void()
        self.builder.call(function, arguments)


def _row(builder, tile, row, row_bytes):
    """Where a row of a tile register begins."""
    start = builder.gep(tile, [builder.mul(row, row_bytes)])
    return builder.bitcast(start, ROW.as_pointer())


def _zero(builder, tile):
    with cgutils.for_range(builder, I64(ROWS)) as loop:
        builder.store(ROW(None), _row(builder, tile, loop.index, I64(64)), align=4)


def _copy(builder, target, target_bytes, source, source_bytes):
    with cgutils.for_range(builder, I64(ROWS)) as loop:
        row = builder.load(_row(builder, source, loop.index, source_bytes), align=4)
        builder.store(row, _row(builder, target, loop.index, target_bytes), align=4)


def _multiply(builder, c, a, b):
    rows_of_b = [_halves(builder, _row(builder, b, I64(k), I64(64))) for k in range(16)]
    with cgutils.for_range(builder, I64(ROWS)) as loop:
        row_of_a, sums = _halves(builder, _row(builder, a, loop.index, I64(64))), [NUMBERS(None)] * 2
        for k in range(16):
            for half in range(2):
                number = broadcast(builder, builder.extract_element(row_of_a[half], I32(k)), NUMBERS)
                operands = number, rows_of_b[k][half], sums[half]
                sums[half] = _flush(builder, call_llvm(builder, "llvm.fma.v16f32", NUMBERS, operands))
        place = builder.bitcast(_row(builder, c, loop.index, I64(64)), NUMBERS.as_pointer())
        before = _flush(builder, builder.load(place, align=4))
        builder.store(_add(builder, before, _add(builder, *sums)), place, align=4)


def _halves(builder, row):
    """The lower and the upper bfloat16 of each pair of a row, as float32."""
    pairs = builder.load(row, align=4)
    lower = builder.shl(pairs, broadcast(builder, I32(16), ROW))
    upper = builder.and_(pairs, broadcast(builder, I32(0xFFFF0000), ROW))
    return [_flush(builder, builder.bitcast(bits, NUMBERS)) for bits in (lower, upper)]


def _add(builder, x, y):
    # With a flag of its own the sum is not given those of the kernels, which would let it be reordered.
    return _flush(builder, builder.fadd(x, y, flags=("contract",)))


def _flush(builder, numbers):
    """Zeros of their sign in place of numbers below 2^-126."""
    bits = builder.bitcast(numbers, ROW)
    exponents = builder.and_(bits, broadcast(builder, I32(0x7F800000), ROW))
    signs = builder.and_(bits, broadcast(builder, I32(0x80000000), ROW))
    is_normal = builder.icmp_unsigned("!=", exponents, ROW(None))
    return builder.bitcast(builder.select(is_normal, bits, signs), NUMBERS)
