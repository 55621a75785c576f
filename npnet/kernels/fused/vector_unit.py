"""The phases of a training step, each in one pass over memory, on the processor's vector unit.

Matrices lie in panels and squares, see ``layouts.py``. A phase is cut into tasks, by shape alone, which the
threads of a parallel loop share (see ``tasks.py``): each function here is called by every thread, does the
tasks it gets and returns how many the phase has. ``steps.py`` puts the phases together. Where the processor
has a matrix unit, large batches of float32 are multiplied by the phases of ``matrix_unit.py``.

Names in both modules:

    n        samples in the batch
    shape    (inputs, units): the rows and columns of W that do not only fill up squares
    w        columns of a panel, rows and columns of a square
    p        a panel of the result, or of W
    q        a square of a panel of W, counted from the top; the panel of x that it is multiplied by
    squares  how many squares, from q down, are used before other samples are looked at
    top      the first sample of a stripe, which is some samples in a row
    square   numbers from one square of W to the one below: the weights and all slots
"""

import math
from functools import cache

import numpy as np

from npnet.kernels.machine.jit import jit
from npnet.kernels.machine.tasks import done, even_parts, shrinking_part, shrinking_parts, stretch, take
from npnet.kernels.products.blocked import aligned_empty
from npnet.kernels.products.tiles import (
    ROWS,
    Columns,
    Prefetch,
    Rows,
    Squares,
    Sums,
    multiply_tile_prefetching,
    multiply_tile_prefetching_to_write,
    width_of,
)
from npnet.kernels.reference.losses import PROBABILITY_CLIP
from npnet.kernels.vectors.arithmetic import SUMMED
from npnet.kernels.vectors.memory import (
    fill,
    lanes_of,
    largest,
    load,
    load_as,
    load_planes,
    store,
    store_planes,
    total,
    transpose,
)

__all__ = [
    "apply_update", "backward_finish", "backward_tasks", "forward_finish", "forward_tasks", "gather_tasks",
    "softmax_tasks", "update_forward_tasks", "update_tasks",
]  # fmt: skip

DEPTH = 128  # steps of a sum at a time: 128 x 32 numbers of the weights take a third of the L1 cache
STRIPE = 128  # samples in a stripe: 128 rows of DEPTH numbers fit the L2 cache beside the weights
UPDATE_DEPTH = 64  # samples a gradient sums at a time: beside them in the L1 cache lie weights and slots
PANEL_ROWS = 64  # samples up to which updates go panel by panel
TASKS = 16  # at least, where there is enough to do
PANELS = 8  # of weights, at most, that a task of many samples updates and uses: x is read once for them

# --- the batch -------------------------------------------------------------------------------------------


@jit
def gather_tasks(team, phase, x, index, out, scaling):
    """out = scale x[index] + offset, converted to out's dtype; ``scaling`` is (scale, offset)."""
    # A few samples at a time, so that each panel is written in stretches and not row by row.
    scale, offset = scaling
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


# --- columns that are used -------------------------------------------------------------------------------


@jit(inline=True, refcount=False)
def _computed(array, columns):
    """How many columns are computed where a panel or a square has ``columns`` in use: whole registers."""
    lanes = lanes_of(array)
    return min(width_of(array), (columns + lanes - 1) // lanes * lanes)


# --- forward: y = f(x W + b) -----------------------------------------------------------------------------


@cache
def _product_stripe(finish):
    """One panel of y (+)= x W for one stripe of samples, over some squares of the weights."""

    @jit(refcount=False)
    def work(x, weights, shape, squares, n, y, p, q, top, following, arguments):
        """Add x W, for ``squares`` squares from q down; the first of them overwrite y.

        ``weights`` are these Squares, ``following`` those that will be needed next, which are called into the
        cache meanwhile: a part with each of the first tiles. After the last square of all,
        finish(y, place, column, columns, *arguments) is called for each ROWS rows of y.
        """
        (inputs, units), w, rows = shape, width_of(y), x.shape[1]
        for r in range(top, min(top + STRIPE, n), ROWS):
            at = (p * rows + r) * w
            part = (r - top) // ROWS % (w // ROWS) * w * ROWS
            multiply_tile_prefetching(
                Rows(x, (q * rows + r) * w, w, 1, rows * w),
                Columns(weights.array, weights.start, w, weights.distance),
                w, min(squares * w, inputs - q * w),
                Sums(y, at, w), units - p * w, q > 0,
                (q * rows + r + ROWS) * w,
                Prefetch(following.array, following.start + part, ROWS, following.distance),
            )  # fmt: skip
            if q + squares == x.shape[0]:
                finish(y, at, p * w, units - p * w, *arguments)

    return work


@cache
def forward_finish(rule, remembers_x):
    """The epilogue of the forward product, for ROWS rows of a panel: y = rule(y + b).

    The panel begins at ``column`` of ``bias``; ``columns`` of it are used.
    """

    @jit(refcount=False)
    def finish(y, at, column, columns, bias, z, constants):
        for r in range(ROWS):
            for j in range(0, _computed(y, columns), lanes_of(y)):
                place = at + r * width_of(y) + j
                numbers = load(y, place, lanes_of(y)) + load(bias, column + j, bias.shape[1] - column - j)
                if remembers_x:
                    store(z, place, lanes_of(y), numbers)
                store(y, place, lanes_of(y), rule(numbers, *constants))

    return finish


@cache
def _forward_stripe(rule, remembers_x):
    """One panel of y for one stripe of samples, over some squares of the weights."""
    product_stripe = _product_stripe(forward_finish(rule, remembers_x))

    @jit(refcount=False)
    def work(x, weight, shape, bias, n, z, y, p, q, squares, top, constants):
        square = weight.shape[2] * weight.shape[3] * weight.shape[4]
        start = (p * x.shape[0] + q) * square
        product_stripe(
            x, Squares(weight, start, square), shape, squares, n, y, p, q, top,
            Squares(weight, start + squares * square, square), (bias, z, constants),
        )  # fmt: skip

    return work


@cache
def forward_tasks(rule, remembers_x):
    """y = rule(x W + b); where the rule's derivative wants x W + b, that is written to z."""
    forward_stripe = _forward_stripe(rule, remembers_x)

    @jit
    def work(team, phase, x, weight, shape, bias, n, z, y, constants):
        most = DEPTH // width_of(y)
        panels, stripes = y.shape[0], -(-n // STRIPE)
        groups = even_parts(panels, max(1, panels * stripes // TASKS), 1)  # of panels that a task computes
        tasks = stripes * groups
        task = take(team, phase, tasks)
        while task < tasks:
            top = task // groups * STRIPE
            left, right = stretch(task % groups, groups, panels)
            for q in range(0, x.shape[0], most):
                squares = min(most, x.shape[0] - q)
                for p in range(left, right):
                    forward_stripe(x, weight, shape, bias, n, z, y, p, q, squares, top, constants)
            done(team, phase)
            task = take(team, phase, tasks)
        return tasks

    return work


# --- backward --------------------------------------------------------------------------------------------


@cache
def backward_finish(rule):
    """The epilogue of the backward product, for ROWS rows of a panel: dz = rule(dz, remembered)."""

    @jit(refcount=False)
    def finish(dz, at, column, columns, remembered, constants):
        for r in range(ROWS):
            for j in range(0, _computed(dz, columns), lanes_of(dz)):
                place = at + r * width_of(dz) + j
                numbers = load(dz, place, lanes_of(dz)), load(remembered, place, lanes_of(dz))
                store(dz, place, lanes_of(dz), rule(*numbers, *constants))

    return finish


@cache
def backward_tasks(rule):
    """dz = rule(dy W', remembered): the gradient before the previous layer's activation."""
    product_stripe = _product_stripe(backward_finish(rule))

    @jit
    def transpose_row(weight, q, out):
        # out[m, i] = W[i, m] for the rows of W in square q of each panel
        w, lanes, squares = width_of(weight), lanes_of(weight), weight.shape[1]
        for p in range(weight.shape[0]):
            start = (p * squares + q) * weight.shape[2] * w * w
            for i in range(0, w, lanes):
                for j in range(0, w, lanes):
                    transpose(weight, start + i * w + j, w, lanes, out, (p * w + j) * w + i, w)

    @jit
    def work(team, phase, dy, weight, shape, n, remembered, dz, constants):
        (inputs, units), w, most = shape, width_of(dz), DEPTH // width_of(dz)
        square = weight.shape[2] * w * w
        transposed = aligned_empty(dy.shape[0] * w * w, dz)
        stripes, present = -(-n // STRIPE), -1
        tasks = dz.shape[0] * stripes
        task = take(team, phase, tasks)
        while task < tasks:
            p, top = task // stripes, task % stripes * STRIPE
            if p != present:
                transpose_row(weight, p, transposed)
                present = p
            for q in range(0, dy.shape[0], most):
                squares = min(most, dy.shape[0] - q)
                product_stripe(
                    dy, Squares(transposed, q * w * w, w * w), (units, inputs), squares, n, dz, p, q, top,
                    Squares(weight, (q * dz.shape[0] + p + 1) * square, dz.shape[0] * square),
                    (remembered, constants),
                )  # fmt: skip
            done(team, phase)
            task = take(team, phase, tasks)
        return tasks

    return work


@cache
def apply_update(rule, slots):
    """(weights, bias): the rule for some rows of a square of weights, and for one panel's bias.

    ``columns`` of the square are used.
    """
    planes = (0,) * (1 + slots)

    @jit(inline=True, refcount=False)
    def apply(weight, at, gradient, start, first, last, columns, decay, hyperparameters):
        w, lanes = width_of(weight), lanes_of(weight)
        for row in range(first, last):
            for e in range(row * w, row * w + _computed(weight, columns), lanes):
                before = load_planes(weight, at + e, w * w, planes)
                summed = load(gradient, start + e, lanes)
                after = rule(before[0] * decay, summed, *before[1:], *hyperparameters)
                store_planes(weight, at + e, w * w, after)

    @jit(refcount=False)
    def update_bias(bias, dz, p, n, units, decay, hyperparameters):
        if bias.size == 0:
            return
        w, rows = width_of(dz), dz.shape[1]
        for j in range(0, min(w, units - p * w), lanes_of(dz)):
            sums = fill(dz, 0.0)
            for r in range(n):
                sums = sums + load(dz, (p * rows + r) * w + j, lanes_of(dz))
            before = load_planes(bias, p * w + j, bias.shape[1], planes)
            after = rule(before[0] * decay, sums, *before[1:], *hyperparameters)
            store_planes(bias, p * w + j, bias.shape[1], after)

    return apply, update_bias


@cache
def _update(rule, slots):
    """(square, bias): the update of one square of the weights, and of one panel's bias."""
    apply, update_bias = apply_update(rule, slots)

    @jit(refcount=False)
    def update_square(x, dz, n, shape, weight, gradient, p, q, decay, hyperparameters):
        (inputs, units), w, rows = shape, width_of(weight), x.shape[1]
        start = (p * x.shape[0] + q) * weight.shape[2] * w * w
        for k in range(0, n, UPDATE_DEPTH):
            steps = min(UPDATE_DEPTH, n - k)
            is_last = k + steps == n
            # Meanwhile what comes next is called into the cache: the next samples, or after the last ones the
            # weights with their slots and the next columns of x.
            next_x = (q + 1) * rows if is_last else q * rows + k + steps
            b = Columns(dz, (p * rows + k) * w, w, 0)
            for i in range(0, min(w, inputs - q * w), ROWS):
                a, c = Rows(x, (q * rows + k) * w + i, 1, w, 0), Sums(gradient, i * w, w)
                if is_last:
                    written = start + i // ROWS * steps * lanes_of(weight)
                    multiply_tile_prefetching_to_write(
                        a, b, steps, steps, c, units - p * w, k > 0,
                        next_x * w + i * steps, Prefetch(weight, written, lanes_of(weight), 0),
                    )  # fmt: skip
                else:
                    next_dz = (p * rows + k + steps) * w + i * steps
                    multiply_tile_prefetching(
                        a, b, steps, steps, c, units - p * w, k > 0,
                        next_x * w + i * steps, Prefetch(dz, next_dz, ROWS, 0),
                    )  # fmt: skip
        # Rows that only fill up a square stay zero. So do such columns: left out, or without a gradient.
        used = min(w, inputs - q * w)
        apply(weight, start, gradient, 0, 0, used, units - p * w, decay, hyperparameters)

    return update_square, update_bias


@cache
def update_tasks(rule, slots):
    """W, slots <- rule(decay W, x' dz, slots), and of b: the gradient is never stored."""
    update_square, update_bias = _update(rule, slots)

    @jit
    def work(team, phase, x, dz, n, weight, shape, bias, decay, hyperparameters):
        gradient = aligned_empty(width_of(weight) * width_of(weight), weight)
        depth = x.shape[0]
        if n <= PANEL_ROWS:  # a task is a stretch of one panel of weights
            groups, across = min(4, depth), 1
        else:  # or all that some panels of x have to do, while they stay in the L2 cache
            groups = even_parts(depth, max(1, min(4, depth // 8)), team[2])
            across = weight.shape[0]
        tasks = groups * -(-weight.shape[0] // across)
        task = take(team, phase, tasks)
        while task < tasks:
            group, left = task % groups, task // groups * across
            top, bottom = stretch(group, groups, depth)
            for p in range(left, min(left + across, weight.shape[0])):
                for q in range(top, bottom):
                    update_square(x, dz, n, shape, weight, gradient, p, q, decay, hyperparameters)
                if group == 0:
                    update_bias(bias, dz, p, n, shape[1], decay, hyperparameters)
            done(team, phase)
            task = take(team, phase, tasks)
        return tasks

    return work


@cache
def update_forward_tasks(rule, slots, activation, remembers_x):
    """``update_tasks`` with this batch and ``forward_tasks`` with the next one, in one pass over W.

    A task takes panels of W from top to bottom. With many samples a thread has few tasks, the last of them
    small, for load balance.
    """
    update_square, update_bias = _update(rule, slots)
    forward_stripe = _forward_stripe(activation, remembers_x)

    @jit
    def work(
        team, phase, x, dz, n, weight, shape, bias, decay, hyperparameters, next_x, z, y, constants
    ):  # fmt: skip
        gradient = aligned_empty(width_of(weight) * width_of(weight), weight)
        most = DEPTH // width_of(y)
        panels = 1 if n <= PANEL_ROWS else PANELS
        tasks = shrinking_parts(weight.shape[0], panels, team[2])
        task = take(team, phase, tasks)
        while task < tasks:
            left, right = shrinking_part(task, tasks, weight.shape[0], panels, team[2])
            for p in range(left, right):
                update_bias(bias, dz, p, n, shape[1], decay, hyperparameters)
            for first in range(0, x.shape[0], most):
                squares = min(most, x.shape[0] - first)
                for p in range(left, right):
                    for q in range(first, first + squares):
                        update_square(x, dz, n, shape, weight, gradient, p, q, decay, hyperparameters)
                    for top in range(0, n, STRIPE):
                        forward_stripe(
                            next_x, weight, shape, bias, n, z, y, p, first, squares, top, constants
                        )
            done(team, phase)
            task = take(team, phase, tasks)
        return tasks

    return work


# --- the end: softmax with cross-entropy -----------------------------------------------------------------


@jit
def softmax_tasks(team, phase, logits, y_true, weight, losses, probabilities, dlogits, scaling):
    """Write each sample's weighted loss, softmax(logits) and d loss / d logits.

    ``weight`` (N,) may be empty: then every sample has weight 1. ``scaling`` is (scale,), a factor of all
    losses.
    """
    n = y_true.shape[0]
    tasks = -(-n // ROWS)
    task = take(team, phase, tasks)
    while task < tasks:
        for row in range(task * ROWS, min(task * ROWS + ROWS, n)):
            factor = scaling[0] * (weight[row] if weight.size else 1.0)
            losses[row] = factor * _softmax_row(logits, y_true, row, factor, probabilities, dlogits)
        done(team, phase)
        task = take(team, phase, tasks)
    return tasks


@jit
def _softmax_row(logits, y_true, n, factor, probabilities, dlogits):
    """Return -sum t log p of one sample, p clipped; write the probabilities and (p sum t - t) factor."""
    classes, rows, w, lanes = y_true.shape[1], logits.shape[1], width_of(logits), lanes_of(logits)
    first = n * classes
    highest, whole = fill(logits, -np.inf), classes // lanes * lanes
    for k in range(0, whole, lanes):
        highest = np.maximum(highest, load(logits, (k // w * rows + n) * w + k % w, lanes))
    shift = largest(highest)
    for k in range(whole, classes):
        shift = np.maximum(shift, logits[k // w, n, k % w])
    powers, targets = fill(logits, 0.0), fill(logits, 0.0)
    for block in range(0, classes, SUMMED):
        some_powers, some_targets = fill(logits, 0.0), fill(logits, 0.0)
        for k in range(block, min(classes, block + SUMMED), lanes):
            left = classes - k
            power = np.exp(load(logits, (k // w * rows + n) * w + k % w, left) - shift)
            store(probabilities, first + k, left, power)
            some_powers = some_powers + load(probabilities, first + k, left)
            some_targets = some_targets + load(y_true, first + k, left)
        powers, targets = powers + some_powers, targets + some_targets
    power_sum, target_sum = total(powers), total(targets)
    for k in range(0, classes, lanes):
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
