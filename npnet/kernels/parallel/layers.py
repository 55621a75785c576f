"""Layers, compiled: the affine map and activations."""

from functools import cache

import numpy as np

from npnet.kernels import reference
from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.parallel.arrays import BLOCK, SERIAL, flat, is_for_numpy, is_rule, plain
from npnet.kernels.products.blocked import is_small, multiply
from npnet.kernels.vectors.arithmetic import SUMMED, difference
from npnet.kernels.vectors.memory import fill, lanes_of, largest, load, load_each, store, total

__all__ = [
    "dense_backward_input",
    "dense_backward_parameters",
    "dense_forward",
    "elementwise",
    "log_softmax_backward",
    "log_softmax_forward",
    "row_maximum",
    "softmax_backward",
    "softmax_forward",
    "softmax_row",
]

# --- dense -----------------------------------------------------------------------------------------------


def dense_forward(x, weight, bias):
    """y = x W + b."""
    if is_small(*x.shape, weight.shape[1]):
        return reference.dense_forward(x, weight, bias)
    return multiply(plain(x), plain(weight), None if bias is None else plain(bias))


def dense_backward_parameters(x, dy):
    """dW = x' dy,  db = column sums of dy."""
    if is_small(x.shape[1], *dy.shape):
        return reference.dense_backward_parameters(x, dy)
    return multiply(plain(x).T, plain(dy)), dy.sum(axis=0)


def dense_backward_input(dy, weight):
    """dx = dy W'."""
    if is_small(*dy.shape, len(weight), by_rows=False):
        return reference.dense_backward_input(dy, weight)
    return multiply(plain(dy), plain(weight).T)


# --- elementwise -----------------------------------------------------------------------------------------


def elementwise(rule, *operands):
    """Apply a function of ``rules`` to an array, numbers and further arrays of its shape and dtype."""
    first = operands[0]
    if is_for_numpy(rule.__name__, first) or not is_rule(rule):
        return reference.elementwise(rule, *operands)
    shape, dtype, numbers = first.shape, first.dtype, []
    for operand in operands:
        if not isinstance(operand, np.ndarray):
            numbers.append(float(operand))
        elif operand.shape == shape and operand.dtype == dtype:
            numbers.append(flat(operand))
        else:
            return reference.elementwise(rule, *operands)
    out = np.empty(shape, dtype)
    _elementwise_kernel(rule).below(SERIAL, out.size)(out.reshape(-1), tuple(numbers))
    return out


@cache
def _elementwise_kernel(rule):
    @jit(refcount=False)
    def block_of(block, out, operands):
        for i in range(block * BLOCK, min(out.size, (block + 1) * BLOCK), lanes_of(out)):
            store(out, i, out.size - i, rule(*load_each(operands, i, out.size - i)))

    @jit(parallel=True)
    def kernel(out, operands):
        threads = serial_below(SERIAL, out.size)
        parallel_for(-(-out.size // BLOCK), block_of, (out, operands))
        set_num_threads(threads)

    return kernel


# --- rows: softmax ---------------------------------------------------------------------------------------


def _by_row(name, make, *arrays):
    """Run a kernel on arrays seen as matrices of rows; the result has the shape of the first."""
    first = arrays[0]
    if is_for_numpy(name, first):
        return getattr(reference, name)(*arrays)
    out = np.empty(first.shape, first.dtype)
    rows = (-1, first.shape[-1])
    run = make(name).below(SERIAL, out.size)
    run(*(plain(a).reshape(rows) for a in arrays), out.reshape(rows))
    return out


def softmax_forward(x):
    """y = e^x / sum e^x."""
    return _by_row("softmax_forward", _forward_kernel, x)


def softmax_backward(dy, y):
    """dx = y (dy - sum dy y)."""
    return _by_row("softmax_backward", _backward_kernel, dy, y)


def log_softmax_forward(x):
    """y = x - log sum e^x."""
    return _by_row("log_softmax_forward", _forward_kernel, x)


def log_softmax_backward(dy, y):
    """dx = dy - e^y sum dy."""
    return _by_row("log_softmax_backward", _backward_kernel, dy, y)


@cache
def softmax_row(name):
    """The kernel that computes row n of y, for the kernel of this name."""
    logarithm = name.startswith("log")

    @jit
    def row(n, x, y):
        columns = x.shape[1]
        shift = row_maximum(x[n])
        powers = _powers(x[n], shift, y[n])
        log_sum = np.log(powers)
        for k in range(0, columns, lanes_of(x)):
            at, left = n * columns + k, columns - k
            if logarithm:
                store(y, at, left, difference(difference(load(x, at, left), shift), log_sum))
            else:
                store(y, at, left, load(y, at, left) / powers)

    return row


@cache
def _forward_kernel(name):
    row = softmax_row(name)

    @jit(parallel=True)
    def kernel(x, y):
        threads = serial_below(SERIAL, x.size)
        parallel_for(len(x), row, (x, y))
        set_num_threads(threads)

    return kernel


@cache
def _backward_kernel(name):
    logarithm = name.startswith("log")

    @jit
    def row(n, dy, y, dx):
        columns = y.shape[1]
        sums = fill(y, 0.0)
        for block in range(0, columns, SUMMED):
            part = fill(y, 0.0)
            for k in range(block, min(columns, block + SUMMED), lanes_of(y)):
                at, left = n * columns + k, columns - k
                term = load(dy, at, left)
                if not logarithm:
                    term = term * load(y, at, left)
                part = part + term
            sums = sums + part
        along = total(sums)
        for k in range(0, columns, lanes_of(y)):
            at, left = n * columns + k, columns - k
            if logarithm:
                store(dx, at, left, load(dy, at, left) - np.exp(load(y, at, left)) * along)
            else:
                store(dx, at, left, load(y, at, left) * (load(dy, at, left) - along))

    @jit(parallel=True)
    def kernel(dy, y, dx):
        threads = serial_below(SERIAL, y.size)
        parallel_for(len(y), row, (dy, y, dx))
        set_num_threads(threads)

    return kernel


@jit
def row_maximum(row):
    """The largest number of a row; NaN if there is one."""
    highest = fill(row, -np.inf)
    whole = row.size // lanes_of(row) * lanes_of(row)
    for k in range(0, whole, lanes_of(row)):
        highest = np.maximum(highest, load(row, k, lanes_of(row)))
    result = largest(highest)
    for k in range(whole, row.size):
        result = np.maximum(result, row[k])
    return result


@jit
def _powers(row, shift, out):
    """Write out = e^(row - shift) and return the sum."""
    sums = fill(row, 0.0)
    for block in range(0, row.size, SUMMED):
        part = fill(row, 0.0)
        for k in range(block, min(row.size, block + SUMMED), lanes_of(row)):
            left = row.size - k
            store(out, k, left, np.exp(difference(load(row, k, left), shift)))
            part = part + load(out, k, left)
        sums = sums + part
    return total(sums)
