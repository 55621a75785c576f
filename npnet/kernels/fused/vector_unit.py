"""Fused kernels: whole stretches of a training step, each in one pass over memory.

Matrices lie in panels and squares, see ``layouts.py``. Each function here does its share of one phase beside
the other threads of a parallel loop (see ``tasks.py``) and returns how many tasks the phase has. Tasks are
cut by shape alone. ``steps.py`` puts the phases together. Large batches of float32 are multiplied in
``matrix_unit.py`` where the processor has a matrix unit.
"""

import math
from functools import cache

import numpy as np

from npnet.kernels.machine.jit import jit
from npnet.kernels.machine.tasks import done, take
from npnet.kernels.products.blocked import aligned_empty
from npnet.kernels.products.tiles import ROWS, multiply_tile_ahead, multiply_tile_ahead_to_write, width_of
from npnet.kernels.reference.losses import PROBABILITY_CLIP
from npnet.kernels.vectors.memory import (
    fill,
    lanes_of,
    largest,
    load,
    load_as,
    load_stack,
    store,
    store_stack,
    total,
    transpose,
)

DEPTH = 128  # steps of a sum at a time: 128 x 32 numbers of the weights take a third of the L1 cache
ROW_BLOCK = 128  # samples a task handles: 128 rows of DEPTH numbers fit the L2 cache beside the weights
UPDATE_DEPTH = 64  # samples a gradient sums at a time: beside them in the L1 cache lie weights and slots
PANEL_ROWS = 64  # samples up to which updates go panel by panel
TASKS = 16  # at least, where there is enough to do
PANELS = 8  # of weights, at most, that a task of many samples updates and uses: x is read once for them

# --- the batch -------------------------------------------------------------------------------------------


@jit
def gather_tasks(team, phase, x, index, out, numbers):
    """out = scale x[index] + offset, converted to out's dtype; ``numbers`` are scale and offset."""
    # A few samples at a time, so that each panel is written in stretches and not row by row.
    scale, offset = numbers
    columns, rows, w = x.shape[1], out.shape[1], width_of(out)
    tasks = -(-index.size // ROWS)
    task = take(team, phase, tasks)
    while task < tasks:
        for p in range(out.shape[0]):
            for n in range(task * ROWS, min(task * ROWS + ROWS, index.size)):
                for j in range(0, w, lanes_of(out)):
                    left = columns - p * w - j
                    numbers = load_as(out, x, index[n] * columns + p * w + j, left) * scale + offset
                    store(out, (p * rows + n) * w + j, left, numbers)
        done(team, phase)
        task = take(team, phase, tasks)
    return tasks


# --- forward: y = f(x W + b) -----------------------------------------------------------------------------


@cache
def _product_block(finish):
    """One panel of y = x W for one block of samples, as far as some squares of the weights go."""

    @jit
    def work(x, weight, here, square, n, y, p, q, blocks, top, ahead, ahead_here, ahead_square, arguments):
        """Add x W to y for samples from ``top`` on and ``blocks`` squares from q on.

        They lie ``square`` apart from ``here`` on; those of ``ahead`` are what will be needed next. After the
        last ones finish(y, place, column, *arguments) makes of ROWS rows what they are to be.
        """
        w, rows = width_of(y), x.shape[1]
        for r in range(top, min(top + ROW_BLOCK, n), ROWS):
            at = (p * rows + r) * w
            # Meanwhile the next rows of x are called to the cache, and ``ahead``, a part with each of the
            # first tiles.
            part = (r - top) // ROWS % (w // ROWS) * w * ROWS
            multiply_tile_ahead(
                x, (q * rows + r) * w, w, 1, rows * w,
                weight, here, w, square, w, blocks, y, at, w, q > 0,
                (q * rows + r + ROWS) * w, ahead, ahead_here + part, ROWS, ahead_square,
            )  # fmt: skip
            if q + blocks == x.shape[0]:
                finish(y, at, p * w, *arguments)

    return work


@cache
def forward_finish(rule, remembers_x):
    """What makes of sums x W, ROWS rows of a panel, what they are to be: rule(x W + b)."""

    @jit(refcount=False)
    def finish(y, at, column, bias, z, constants):
        for r in range(ROWS):
            for j in range(0, width_of(y), lanes_of(y)):
                place = at + r * width_of(y) + j
                numbers = load(y, place, lanes_of(y)) + load(bias, column + j, bias.shape[1] - column - j)
                if remembers_x:
                    store(z, place, lanes_of(y), numbers)
                store(y, place, lanes_of(y), rule(numbers, *constants))

    return finish


@cache
def _forward_block(rule, remembers_x):
    """One panel of y for one block of samples, as far as some squares of the weights go."""
    product_block = _product_block(forward_finish(rule, remembers_x))

    @jit
    def work(x, weight, bias, n, z, y, p, q, blocks, top, constants):
        square = weight.shape[2] * weight.shape[3] * weight.shape[4]
        here = (p * x.shape[0] + q) * square
        product_block(
            x, weight, here, square, n, y, p, q, blocks, top, weight, here + blocks * square, square,
            (bias, z, constants),
        )  # fmt: skip

    return work


@cache
def forward_tasks(rule, remembers_x):
    """y = rule(x W + b); where the rule's derivative wants x W + b, that is written to z."""
    forward_block = _forward_block(rule, remembers_x)

    @jit
    def work(team, phase, x, weight, bias, n, z, y, constants):
        block = DEPTH // width_of(y)
        group = max(1, y.shape[0] * -(-n // ROW_BLOCK) // TASKS)  # panels of y that a task computes
        groups = -(-y.shape[0] // group)
        tasks = -(-n // ROW_BLOCK) * groups
        task = take(team, phase, tasks)
        while task < tasks:
            top, left = task // groups * ROW_BLOCK, task % groups * group
            for q in range(0, x.shape[0], block):
                blocks = min(block, x.shape[0] - q)
                for p in range(left, min(left + group, y.shape[0])):
                    forward_block(x, weight, bias, n, z, y, p, q, blocks, top, constants)
            done(team, phase)
            task = take(team, phase, tasks)
        return tasks

    return work


# --- backward --------------------------------------------------------------------------------------------


@cache
def backward_finish(rule):
    """What makes of sums dy W', ROWS rows of a panel, what they are to be: rule(dy W', remembered)."""

    @jit(refcount=False)
    def finish(dz, at, column, remembered, constants):
        for place in range(at, at + ROWS * width_of(dz), lanes_of(dz)):
            numbers = load(dz, place, lanes_of(dz)), load(remembered, place, lanes_of(dz))
            store(dz, place, lanes_of(dz), rule(*numbers, *constants))

    return finish


@cache
def backward_tasks(rule):
    """dz = rule(dy W', remembered): the gradient before the previous layer's activation."""
    product_block = _product_block(backward_finish(rule))

    @jit
    def turn_over(weight, q, out):
        # out[m, i] = W[i, m] for the rows of W in square q of each panel
        w, every, squares = width_of(weight), lanes_of(weight), weight.shape[1]
        for p in range(weight.shape[0]):
            here = (p * squares + q) * weight.shape[2] * w * w
            for i in range(0, w, every):
                for j in range(0, w, every):
                    transpose(weight, here + i * w + j, w, every, out, (p * w + j) * w + i, w)

    @jit
    def work(team, phase, dy, weight, n, remembered, dz, constants):
        w, block = width_of(dz), DEPTH // width_of(dz)
        square = weight.shape[2] * w * w
        turned = aligned_empty(dy.shape[0] * w * w, dz)
        heights, present = -(-n // ROW_BLOCK), -1
        tasks = dz.shape[0] * heights
        task = take(team, phase, tasks)
        while task < tasks:
            p, top = task // heights, task % heights * ROW_BLOCK
            if p != present:
                turn_over(weight, p, turned)
                present = p
            for q in range(0, dy.shape[0], block):
                blocks = min(block, dy.shape[0] - q)
                product_block(
                    dy, turned, q * w * w, w * w, n, dz, p, q, blocks, top,
                    weight, (q * dz.shape[0] + p + 1) * square, dz.shape[0] * square, (remembered, constants),
                )  # fmt: skip
            done(team, phase)
            task = take(team, phase, tasks)
        return tasks

    return work


@cache
def apply_update(rule, slots):
    """(weights, bias): the rule for some numbers of a square of weights, and for one panel's bias."""
    layers = (0,) * (1 + slots)

    @jit(inline=True, refcount=False)
    def apply(weight, at, gradient, start, first, last, decay, hyperparameters):
        every, square = lanes_of(weight), width_of(weight) * width_of(weight)
        for e in range(first, last, every):
            before = load_stack(weight, at + e, square, layers)
            after = rule(before[0] * decay, load(gradient, start + e, every), *before[1:], *hyperparameters)
            store_stack(weight, at + e, square, after)

    @jit(refcount=False)
    def update_bias(bias, dz, p, n, decay, hyperparameters):
        if bias.size == 0:
            return
        w, rows = width_of(dz), dz.shape[1]
        for j in range(0, w, lanes_of(dz)):
            sums = fill(dz, 0.0)
            for r in range(n):
                sums = sums + load(dz, (p * rows + r) * w + j, lanes_of(dz))
            before = load_stack(bias, p * w + j, bias.shape[1], layers)
            after = rule(before[0] * decay, sums, *before[1:], *hyperparameters)
            store_stack(bias, p * w + j, bias.shape[1], after)

    return apply, update_bias


@cache
def _update(rule, slots):
    """(square, bias): the update of one square of the weights, and of one panel's bias."""
    apply, update_bias = apply_update(rule, slots)

    @jit
    def update_square(x, dz, n, inputs, weight, gradient, p, q, decay, hyperparameters):
        w, rows = width_of(weight), x.shape[1]
        here = (p * x.shape[0] + q) * weight.shape[2] * w * w
        for k in range(0, n, UPDATE_DEPTH):
            steps = min(UPDATE_DEPTH, n - k)
            last = k + steps == n
            # Meanwhile what comes next is called to the cache: the next samples, or after the last ones the
            # weights with their slots and the next columns of x.
            x_next = (q + 1) * rows if last else q * rows + k + steps
            for i in range(0, w, ROWS):
                if last:
                    multiply_tile_ahead_to_write(
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
        apply(weight, here, gradient, 0, 0, min(w, inputs - q * w) * w, decay, hyperparameters)

    return update_square, update_bias


@cache
def update_tasks(rule, slots):
    """W, slots <- rule(decay W, x' dz, slots), and of b: the gradient is never stored."""
    update_square, update_bias = _update(rule, slots)

    @jit
    def work(team, phase, x, dz, n, inputs, weight, bias, decay, hyperparameters):
        gradient = aligned_empty(width_of(weight) * width_of(weight), weight)
        if n <= PANEL_ROWS:  # a task is a stretch of one panel of weights
            group, across = -(-x.shape[0] // 4), 1
        else:  # or all that some panels of x have to do, while they stay in the L2 cache
            group, across = max(1, min(4, x.shape[0] // 8)), weight.shape[0]
        groups = -(-x.shape[0] // group)
        tasks = groups * -(-weight.shape[0] // across)
        task = take(team, phase, tasks)
        while task < tasks:
            first, left = task % groups * group, task // groups * across
            for p in range(left, min(left + across, weight.shape[0])):
                for q in range(first, min(first + group, x.shape[0])):
                    update_square(x, dz, n, inputs, weight, gradient, p, q, decay, hyperparameters)
                if first == 0:
                    update_bias(bias, dz, p, n, decay, hyperparameters)
            done(team, phase)
            task = take(team, phase, tasks)
        return tasks

    return work


@cache
def update_forward_tasks(rule, slots, activation, remembers_x):
    """``update_tasks`` with the present batch and ``forward_tasks`` with the next one, in one pass over W.

    A task takes panels of W from top to bottom, so it needs as many panels as there are threads to be fair.
    """
    update_square, update_bias = _update(rule, slots)
    forward_block = _forward_block(activation, remembers_x)

    @jit
    def work(
        team, phase, x, dz, n, inputs, weight, bias, decay, hyperparameters, next_x, z, y, constants
    ):  # fmt: skip
        gradient = aligned_empty(width_of(weight) * width_of(weight), weight)
        block = DEPTH // width_of(y)
        across = 1 if n <= PANEL_ROWS else max(1, min(PANELS, weight.shape[0] // team[2]))
        tasks = -(-weight.shape[0] // across)
        task = take(team, phase, tasks)
        while task < tasks:
            panels = range(task * across, min(task * across + across, weight.shape[0]))
            for p in panels:
                update_bias(bias, dz, p, n, decay, hyperparameters)
            for q in range(0, x.shape[0], block):
                blocks = min(block, x.shape[0] - q)
                for p in panels:
                    for i in range(q, q + blocks):
                        update_square(x, dz, n, inputs, weight, gradient, p, i, decay, hyperparameters)
                    for top in range(0, n, ROW_BLOCK):
                        forward_block(next_x, weight, bias, n, z, y, p, q, blocks, top, constants)
            done(team, phase)
            task = take(team, phase, tasks)
        return tasks

    return work


# --- the end: softmax with cross-entropy -----------------------------------------------------------------


@jit
def softmax_tasks(team, phase, logits, y_true, weight, losses, probabilities, dlogits, numbers):
    """Write each sample's weighted loss, softmax(logits) and d loss / d logits.

    ``weight`` (N,) may be empty: then every sample weighs 1. The one of ``numbers`` scales all losses.
    """
    n = y_true.shape[0]
    tasks = -(-n // ROWS)
    task = take(team, phase, tasks)
    while task < tasks:
        for row in range(task * ROWS, min(task * ROWS + ROWS, n)):
            factor = numbers[0] * (weight[row] if weight.size else 1.0)
            losses[row] = factor * _softmax_row(logits, y_true, row, factor, probabilities, dlogits)
        done(team, phase)
        task = take(team, phase, tasks)
    return tasks


@jit
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
