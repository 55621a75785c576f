"""Fused kernels: whole stretches of a training step, each in one pass over memory.

Every matrix here lies in panels: ``panels[p, r, j]`` is row r, column p * W + j, with W the columns of a
register tile. Weights (D, M), activations (N, D) and what flows back (N, M) all have this layout, because the
tile can read it in each of its roles without copying:

    y  = x W      A = x: rows of a panel         B = W: one panel
    dW = x' dy    A = x: columns of a panel      B = dy: one panel
    dx' = W dy'   A = W: rows of a panel         B = dy', turned over one square of W x W numbers at a time

Rows and columns are filled up to whole panels. Weights are zero there and stay so; what the other arrays hold
there is never used.

Threads take tasks from a counter, so that none waits for one that was delayed; tasks are cut by shape alone.
"""

import math
from functools import cache

import numpy as np
from numba import prange

from npnet.kernels.product import aligned_empty
from npnet.kernels.reference import PROBABILITY_CLIP
from npnet.kernels.runtime import compiled, get_num_threads, set_num_threads
from npnet.kernels.tiles import ROWS, multiply_tile_ahead, width, width_of
from npnet.kernels.vectors import (
    fill,
    lanes_of,
    largest,
    load,
    load_as,
    load_each,
    load_stack,
    store,
    store_each,
    store_stack,
    take,
    total,
    transpose,
)

DEPTH = 128  # steps of a sum at a time: 128 x 32 numbers of the weights take a third of the L1 cache
SPARE_ROWS = 8
ROW_BLOCK = 128  # samples a task handles: 128 rows of DEPTH numbers fit the L2 cache beside the weights
TASKS = 16  # at least, where there is enough to do
SERIAL = 1 << 21  # multiplications below which one thread is quicker than waking the others


def aligned_zeros(shape, dtype):
    """An array of zeros on a cache line's boundary."""
    size = int(np.prod(shape))
    memory = np.zeros(size + 64, dtype)
    start = -(memory.ctypes.data // memory.itemsize) % (64 // memory.itemsize)
    return memory[start : start + size].reshape(shape)


def panels(rows, columns, dtype):
    """An array of zeros for a matrix of this shape.

    The rows to spare keep the panels of a large power of two of rows from competing for the same cache sets.
    """
    w = width(dtype)
    return aligned_zeros((-(-columns // w), -(-rows // w) * w + SPARE_ROWS, w), dtype)


def to_panels(matrix, out):
    """Write a matrix (R, C) into panels."""
    (rows, columns), w = matrix.shape, out.shape[2]
    whole = columns // w * w
    split = matrix[:, :whole].reshape(rows, whole // w, w)
    out[: whole // w, :rows] = split.transpose(1, 0, 2)
    if whole < columns:
        out[-1, :rows, : columns - whole] = matrix[:, whole:]


def from_panels(array, rows, columns):
    """Read a matrix (rows, columns) out of panels."""
    filled = array[:, :rows].transpose(1, 0, 2).reshape(rows, -1)
    return np.ascontiguousarray(filled[:, :columns])


def squares(rows, columns, slots, dtype):
    """An array of zeros for a weight matrix and its slots: [panel, square, weight or slot, row, column].

    Each square of W x W weights is followed by its slots, so that an update walks through memory in order.
    """
    w = width(dtype)
    return aligned_zeros((-(-columns // w), -(-rows // w), 1 + slots, w, w), dtype)


def to_squares(matrix, out, layer):
    """Write a matrix into squares as weight (layer 0) or slot."""
    panel_count, square_count, _, w, _ = out.shape
    filled = np.zeros((square_count * w, panel_count * w), out.dtype)
    filled[: matrix.shape[0], : matrix.shape[1]] = matrix
    out[:, :, layer] = filled.reshape(square_count, w, panel_count, w).transpose(2, 0, 1, 3)


def from_squares(array, layer, out):
    """Read a matrix out of squares."""
    panel_count, square_count, _, w, _ = array.shape
    filled = array[:, :, layer].transpose(1, 2, 0, 3).reshape(square_count * w, panel_count * w)
    out[...] = filled[: out.shape[0], : out.shape[1]]


@compiled
def new_counter():
    """A counter of tasks; written out, for in a parallel kernel np.zeros is itself a loop over threads."""
    counter = np.empty(1, np.int64)
    counter[0] = 0
    return counter


# --- the batch -------------------------------------------------------------------------------------------


@compiled(parallel=True)
def gather(x, index, scale, offset, out):
    """out = scale x[index] + offset, converted to out's dtype."""
    threads = get_num_threads()
    counter = new_counter()
    if index.size * x.shape[1] <= SERIAL // 8:
        set_num_threads(1)
    for _ in prange(get_num_threads()):
        _gather_rows(counter, x, index, scale, offset, out)
    set_num_threads(threads)


@compiled
def _gather_rows(counter, x, index, scale, offset, out):
    # A few samples at a time, so that each panel is written in stretches and not row by row.
    columns, rows, w = x.shape[1], out.shape[1], width_of(out)
    task = take(counter)
    while task * ROWS < index.size:
        for p in range(out.shape[0]):
            for n in range(task * ROWS, min(task * ROWS + ROWS, index.size)):
                for j in range(0, w, lanes_of(out)):
                    left = columns - p * w - j
                    numbers = load_as(out, x, index[n] * columns + p * w + j, left) * scale + offset
                    store(out, (p * rows + n) * w + j, left, numbers)
        task = take(counter)


# --- forward: y = f(x W + b) -----------------------------------------------------------------------------


@cache
def dense_forward(rule, remembers_x):
    """The kernel of y = rule(x W + b); where the rule's derivative wants x W + b, that is written to z."""

    @compiled
    def finish(bias, z, y, at, column, constants):
        for r in range(ROWS):
            for j in range(0, width_of(y), lanes_of(y)):
                place = at + r * width_of(y) + j
                numbers = load(y, place, lanes_of(y)) + load(bias, column + j, bias.size - column - j)
                if remembers_x:
                    store(z, place, lanes_of(y), numbers)
                store(y, place, lanes_of(y), rule(numbers, *constants))

    @compiled
    def work(counter, x, weight, bias, n, z, y, constants, group):
        w, rows = width_of(y), x.shape[1]
        square = weight.shape[2] * w * w
        block = DEPTH // w
        groups = -(-y.shape[0] // group)
        tasks = -(-n // ROW_BLOCK) * groups
        task = take(counter)
        while task < tasks:
            top, left = task // groups * ROW_BLOCK, task % groups * group
            for q in range(0, x.shape[0], block):
                blocks = min(block, x.shape[0] - q)
                for p in range(left, min(left + group, y.shape[0])):
                    here = (p * x.shape[0] + q) * square
                    for r in range(top, min(top + ROW_BLOCK, n), ROWS):
                        at = (p * rows + r) * w
                        # Meanwhile the next rows of x are called to the cache, and the next weights, a part
                        # with each of the first tiles.
                        part = (r - top) // ROWS % (w // ROWS) * w * ROWS
                        multiply_tile_ahead(
                            x, (q * rows + r) * w, w, 1, rows * w,
                            weight, here, w, square, w, blocks, y, at, w, q > 0,
                            (q * rows + r + ROWS) * w, weight, here + block * square + part, ROWS, square,
                        )  # fmt: skip
                        if q + blocks == x.shape[0]:
                            finish(bias, z, y, at, p * w, constants)
            task = take(counter)

    @compiled(parallel=True)
    def kernel(x, weight, bias, n, z, y, constants, group):
        threads = get_num_threads()
        counter = new_counter()
        if n * weight.size <= SERIAL:
            set_num_threads(1)
        for _ in prange(get_num_threads()):
            work(counter, x, weight, bias, n, z, y, constants, group)
        set_num_threads(threads)

    return kernel


def forward_group(n, y):
    """Panels of y that a task computes."""
    return max(1, y.shape[0] * -(-n // ROW_BLOCK) // TASKS)


# --- backward --------------------------------------------------------------------------------------------


@cache
def dense_backward_input(rule):
    """The kernel of dz = rule(dy W', remembered): the gradient before the previous layer's activation."""

    @compiled
    def turn_over(dy, n0, out):
        # out[m, n] = dy[n, m] for the samples n0 ... n0 + W
        w, rows, square = width_of(dy), dy.shape[1], lanes_of(dy)
        for p in range(dy.shape[0]):
            for j in range(0, w, square):
                for n in range(0, w, square):
                    transpose(dy, (p * rows + n0 + n) * w + j, w, out, (p * w + j) * w + n, w)

    @compiled
    def work(counter, dy, weight, n, remembered, dz, constants, group):
        w, rows, square = width_of(dz), dz.shape[1], lanes_of(dz)
        place, block = weight.shape[2] * w * w, DEPTH // w
        turned = aligned_empty(dy.shape[0] * w * w, dz)
        tile = aligned_empty(w * w, dz)
        row = aligned_empty(square * square, dz)
        groups = -(-dz.shape[0] // group)
        tasks = -(-n // w) * groups
        present = -1
        task = take(counter)
        while task < tasks:
            n0 = task // groups * w
            if n0 != present:
                turn_over(dy, n0, turned)
                present = n0
            for q in range(task % groups * group, min(task % groups * group + group, dz.shape[0])):
                for m in range(0, weight.shape[0], block):
                    blocks = min(block, weight.shape[0] - m)
                    for i in range(0, w, ROWS):
                        at = (m * dz.shape[0] + q) * place + i * w
                        multiply_tile_ahead(
                            weight, at, w, 1, dz.shape[0] * place,
                            turned, m * w * w, w, w * w, w, blocks, tile, i * w, w, m > 0,
                            at + ROWS * w, turned, (m + block) * w * w + i * w * ROWS, ROWS, w * w,
                        )  # fmt: skip
                for i in range(0, w, square):
                    for j in range(0, w, square):
                        transpose(tile, i * w + j, w, row, 0, square)
                        for r in range(square):
                            at = (q * rows + n0 + j + r) * w + i
                            numbers = rule(
                                load(row, r * square, square), load(remembered, at, square), *constants
                            )
                            store(dz, at, square, numbers)
            task = take(counter)

    @compiled(parallel=True)
    def kernel(dy, weight, n, remembered, dz, constants, group):
        threads = get_num_threads()
        counter = new_counter()
        if n * weight.size <= SERIAL:
            set_num_threads(1)
        for _ in prange(get_num_threads()):
            work(counter, dy, weight, n, remembered, dz, constants, group)
        set_num_threads(threads)

    return kernel


def backward_group(n, dz):
    """Panels of dz that a task computes."""
    return max(1, dz.shape[0] * -(-n // dz.shape[2]) // (TASKS // 2))


@cache
def dense_update(rule, slots):
    """The kernel of W, slots <- rule(decay W, x' dz, slots), and of b: the gradient is never stored."""
    layers = (0,) * (1 + slots)

    @compiled
    def update_square(weight, at, gradient, count, decay, hyperparameters):
        every, square = lanes_of(weight), width_of(weight) * width_of(weight)
        for e in range(0, count, every):
            before = load_stack(weight, at + e, square, layers)
            after = rule(before[0] * decay, load(gradient, e, every), *before[1:], *hyperparameters)
            store_stack(weight, at + e, square, after)

    @compiled
    def update_bias(bias, slots, dz, p, n, decay, hyperparameters):
        w, rows = width_of(dz), dz.shape[1]
        for j in range(0, w, lanes_of(dz)):
            sums = fill(dz, 0.0)
            for r in range(n):
                sums = sums + load(dz, (p * rows + r) * w + j, lanes_of(dz))
            place, left = p * w + j, bias.size - p * w - j
            before = (load(bias, place, left) * decay, sums, *load_each(slots, place, left))
            store_each((bias, *slots), place, left, rule(*before, *hyperparameters))

    @compiled
    def work(counter, x, dz, n, inputs, weight, bias, bias_slots, decay, hyperparameters, group, across):
        w, rows = width_of(weight), x.shape[1]
        square = weight.shape[2] * w * w
        gradient = aligned_empty(w * w, weight)
        groups = -(-x.shape[0] // group)
        strips = -(-weight.shape[0] // across)
        task = take(counter)
        while task < groups * strips:
            first, left = task % groups * group, task // groups * across
            for p in range(left, min(left + across, weight.shape[0])):
                for q in range(first, min(first + group, x.shape[0])):
                    here = (p * x.shape[0] + q) * square
                    for k in range(0, n, ROW_BLOCK):
                        steps = min(ROW_BLOCK, n - k)
                        last = k + steps == n
                        # Meanwhile what comes next is called to the cache: the next samples, or after the
                        # last ones the weights with their slots and the next columns of x.
                        x_next = (q + 1) * rows if last else q * rows + k + steps
                        for i in range(0, w, ROWS):
                            if last:
                                multiply_tile_ahead(
                                    x, (q * rows + k) * w + i, 1, w, 0,
                                    dz, (p * rows + k) * w, w, 0, steps, 1, gradient, i * w, w, k > 0,
                                    x_next * w + i * steps,
                                    weight, here + i // ROWS * steps * lanes_of(weight), lanes_of(weight), 0,
                                )  # fmt: skip
                            else:
                                multiply_tile_ahead(
                                    x, (q * rows + k) * w + i, 1, w, 0,
                                    dz, (p * rows + k) * w, w, 0, steps, 1, gradient, i * w, w, k > 0,
                                    x_next * w + i * steps,
                                    dz, (p * rows + k + steps) * w + i * steps, ROWS, 0,
                                )  # fmt: skip
                    # Rows that only fill up stay zero. So do such columns: they have no gradient.
                    update_square(weight, here, gradient, min(w, inputs - q * w) * w, decay, hyperparameters)
                if first == 0:
                    update_bias(bias, bias_slots, dz, p, n, decay, hyperparameters)
            task = take(counter)

    @compiled(parallel=True)
    def kernel(x, dz, n, inputs, weight, bias, bias_slots, decay, hyperparameters, group, across):
        threads = get_num_threads()
        counter = new_counter()
        if n * weight.size <= SERIAL:
            set_num_threads(1)
        for _ in prange(get_num_threads()):
            work(counter, x, dz, n, inputs, weight, bias, bias_slots, decay, hyperparameters, group, across)
        set_num_threads(threads)

    return kernel


def update_group(n, x, weight):
    """Panels of x and of weight whose products a task forms."""
    if n <= ROW_BLOCK:
        return -(-x.shape[0] // 4), 1  # a stretch of one weight panel
    return max(1, min(4, x.shape[0] * weight.shape[0] // TASKS)), weight.shape[0]


# --- the end: softmax with cross-entropy -----------------------------------------------------------------


@compiled(parallel=True)
def softmax_cross_entropy(logits, y_true, weight, scale, probabilities, dlogits):
    """Return scale * sum of the weighted losses; write softmax(logits) and d loss / d logits.

    ``weight`` (N,) may be empty: then every sample weighs 1.
    """
    n, classes = y_true.shape
    losses = np.empty(n)
    threads = get_num_threads()
    if n * classes <= SERIAL // 16:
        set_num_threads(1)
    for row in prange(n):
        factor = scale * (weight[row] if weight.size else 1.0)
        losses[row] = factor * _softmax_row(logits, y_true, row, factor, probabilities, dlogits)
    set_num_threads(threads)
    result = 0.0
    for row in range(n):
        result += losses[row]
    return result


@compiled
def _softmax_row(logits, y_true, n, factor, probabilities, dlogits):
    """-sum t log p of one sample, p clipped; the probabilities and (p sum t - t) factor are written."""
    classes, rows, w, every = y_true.shape[1], logits.shape[1], width_of(logits), lanes_of(logits)
    first = n * classes
    highest, whole = fill(logits, -np.inf), classes // every * every
    for k in range(0, whole, every):
        highest = np.maximum(highest, load(logits, (k // w * rows + n) * w + k % w, every))
    shift = largest(highest)
    for k in range(whole, classes):
        shift = np.maximum(shift, logits[k // w, n, k % w])
    powers, targets = fill(logits, 0.0), fill(logits, 0.0)
    for k in range(0, classes, every):
        left = classes - k
        store(
            probabilities,
            first + k,
            left,
            np.exp(load(logits, (k // w * rows + n) * w + k % w, left) - shift),
        )
        powers = powers + load(probabilities, first + k, left)
        targets = targets + load(y_true, first + k, left)
    power_sum, target_sum = total(powers), total(targets)
    for k in range(0, classes, every):
        left = classes - k
        p = load(probabilities, first + k, left) / power_sum
        store(probabilities, first + k, left, p)
        gradient = (p * target_sum - load(y_true, first + k, left)) * factor
        store(dlogits, (k // w * rows + n) * w + k % w, left, gradient)
    loss = 0.0
    for k in range(classes):
        if y_true[n, k] != 0:
            p = min(max(probabilities[n, k], PROBABILITY_CLIP), 1 - PROBABILITY_CLIP)
            loss -= y_true[n, k] * math.log(p if probabilities[n, k] == probabilities[n, k] else np.nan)
    return loss
