"""Kernels that do nothing but reach the two limits of a machine: arithmetic and memory traffic.

Independent fused multiply-adds in registers, and y <- y + s x ("axpy") over arrays of a chosen size. All it
moves is counted: what is written was read before, where a result of its own would be read uncounted, by the
cache that writes it. Where there is a matrix unit, its products of float32 are a third limit.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from npnet.kernels.machine.jit import jit
from npnet.kernels.products.amx import (
    FLOAT32,
    SIDE,
    multiply_squares,
    split_pairs,
    split_rows,
    split_size,
    start_unit,
    stop_unit,
)
from npnet.kernels.products.layouts import aligned_zeros
from npnet.kernels.products.tiles import Squares, Sums
from npnet.kernels.vectors.registers import lanes

__all__ = ["CHAINS", "ROUNDS", "axpy_rate", "matrix_unit_rate", "multiply_add_rate"]

CHAINS = 12  # a multiply-add takes 4 or 5 cycles and two can start in each; 12 vectors and 2 fit 16 registers
ROUNDS = 150_000


def _make_multiply_add(dtype):
    """Return the kernel ``multiply_add(a, b)``: ROUNDS times CHAINS independent v <- v a + b."""
    number, bits, count = getattr(types, dtype), 8 * np.dtype(dtype).itemsize, lanes(dtype)

    @intrinsic
    def loop(typing_context, times, a, b):
        def emit(context, builder, signature, arguments):
            times, a, b = arguments
            vector = ir.VectorType(a.type, count)
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{count}f{bits}"
            )
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count)
            undefined = ir.Constant(vector, ir.Undefined)

            def spread(value):
                first = builder.insert_element(undefined, value, ir.IntType(32)(0))
                return builder.shuffle_vector(first, undefined, everywhere)

            factor, term = spread(a), spread(b)
            entry = builder.block
            body, end = builder.append_basic_block("body"), builder.append_basic_block("end")
            builder.branch(body)
            builder.position_at_end(body)
            done = builder.phi(times.type)
            done.add_incoming(times.type(0), entry)
            sums = [builder.phi(vector) for _ in range(CHAINS)]
            for i, total in enumerate(sums):
                total.add_incoming(ir.Constant(vector, [float(i)] * count), entry)
                total.add_incoming(builder.call(fma, [total, factor, term]), body)
            following = builder.add(done, times.type(1))
            done.add_incoming(following, body)
            builder.cbranch(builder.icmp_signed("<", following, times), body, end)
            builder.position_at_end(end)
            result = sums[0].incomings[1][0]
            for total in sums[1:]:
                result = builder.fadd(result, total.incomings[1][0])
            return builder.extract_element(result, ir.IntType(32)(0))

        return number(types.intp, number, number), emit

    @jit
    def multiply_add(a, b):
        return loop(ROUNDS, a, b)

    return multiply_add


@jit
def _axpy(s, x, y):
    for i in range(y.size):
        y[i] += s * x[i]


def _rate(work, amount, threads, seconds):
    """Return how much of ``amount`` a second ``threads`` threads get done at once, each at its best.

    Each thread repeats ``work(number of the thread)`` for ``seconds`` and counts its shortest time: a limit
    is what goes undisturbed. They never wait for each other, so another process costs a try, not a result.
    """

    def best(number):
        shortest, start = float("inf"), time.perf_counter()
        while (now := time.perf_counter()) - start < seconds:
            work(number)
            shortest = min(shortest, time.perf_counter() - now)
        return amount / shortest

    work(0)  # compiles
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(best, range(threads)))


def multiply_add_rate(dtype, threads, seconds):
    """Return GFLOP/s of multiply-adds in registers."""
    kernel, number = _make_multiply_add(dtype), np.dtype(dtype).type
    operations = 2 * CHAINS * lanes(dtype) * ROUNDS
    return _rate(lambda _: kernel(number(0.5), number(1)), operations / 1e9, threads, seconds)


_split_left, _split_right = split_rows(FLOAT32.left), split_pairs(FLOAT32.right)
_LEFT, _RIGHT = FLOAT32
_LEFT_SIZE, _RIGHT_SIZE = map(split_size, FLOAT32)


@jit
def _multiply_split(numbers, a, b, c, times):
    for i in range(2):
        start = i * SIDE * SIDE
        _split_left(numbers, start, SIDE, SIDE, SIDE, a, i * _LEFT_SIZE, _LEFT_SIZE)
        _split_right(numbers, start, SIDE, SIDE, SIDE, b, i * _RIGHT_SIZE, _RIGHT_SIZE, None)
    start_unit()
    for _ in range(times):
        left, right = Squares(a, 0, _LEFT_SIZE), Squares(b, 0, _RIGHT_SIZE)
        multiply_squares(left, right, 2, Sums(c, 0, SIDE), False, _LEFT, _RIGHT)
    stop_unit()


def matrix_unit_rate(threads, seconds):
    """Return GFLOP/s of float32 products on the matrix unit, in the first cache.

    The numbers are random: with zeros the unit takes less power and runs faster.
    """
    times, square = 10_000, SIDE * SIDE
    numbers = np.random.default_rng(0).standard_normal(2 * square).astype(np.float32)
    shapes = 2 * _LEFT_SIZE, 2 * _RIGHT_SIZE, square
    arrays = [[aligned_zeros(shape, np.float32) for shape in shapes] for _ in range(threads)]
    operations = 2 * 2 * SIDE**3 * times
    return _rate(
        lambda number: _multiply_split(numbers, *arrays[number], times), operations / 1e9, threads, seconds
    )


def axpy_rate(total, threads, seconds):
    """Return GB/s read and written by y <- y + s x, all arrays of all threads together ``total`` bytes."""
    size = total // threads // 2 // 4
    piece = min(size, 2**18)  # short enough to be done undisturbed
    arrays = [[np.ones(size, np.float32) for _ in "xy"] for _ in range(threads)]
    starts = [cycle(range(0, size - piece + 1, piece)) for _ in range(threads)]

    def work(number):
        start = next(starts[number])
        _axpy(np.float32(3), *(a[start : start + piece] for a in arrays[number]))

    return _rate(work, 3 * 4 * piece / 1e9, threads, seconds)
