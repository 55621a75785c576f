"""The products of ``vector_unit.py`` on the processor's matrix unit: the same phases, in float32.

``products/amx.py`` says how the unit multiplies float32.

    y  = x W      A = x                   B = W
    dx = dy W'    A = dy                  B = W', turned over
    dW = x' dy    A = x', turned over     B = dy

Matrices lie as they do there. Blocks are split where they are used, into memory that stays in the caches:
to keep the parts would take longer than to make them again. ``panels``, ``squares`` and ``blocks`` are how
many are meant, in W, down W, and of samples; p, q and b one of them, ``left``, ``q`` and ``top`` the first.

How tasks are cut depends on the number of threads; in what order a sum is added up does not.
"""

from functools import cache

from npnet.kernels.fused.vector_unit import apply_update, backward_finish, forward_finish
from npnet.kernels.machine.jit import jit
from npnet.kernels.machine.tasks import done, take
from npnet.kernels.products.amx import (
    BLOCK,
    PIECES,
    SPLIT,
    multiply_blocks,
    multiply_blocks_beside,
    split_pairs,
    start_unit,
    stop_unit,
    turn_block,
)
from npnet.kernels.products.blocked import aligned_empty
from npnet.kernels.products.splits import (
    HEIGHT,
    SQUARE,
    SQUARES,
    split_deltas,
    split_part,
    split_samples,
    split_samples_turned,
    split_weights,
)
from npnet.kernels.products.tiles import ROWS

SUMMED = 4  # blocks of samples, summed at a time: their parts fit the L1 cache
PANELS = 8  # of the result or of weights, at most, that a task handles: samples are split once for them
TASKS = 4  # a thread, where there is enough to do


@jit
def _shape(panels, blocks, threads):
    """How many panels of the result and blocks of samples a task handles, so that there are enough."""
    across, height = min(PANELS, panels), min(HEIGHT, blocks)
    while -(-panels // across) * -(-blocks // height) < TASKS * threads and across * height > 1:
        if height > 2 * across or across == 1:
            height = (height + 1) // 2
        else:
            across = (across + 1) // 2
    return across, height


@cache
def _panels_of_blocks(do_task):
    """The phase in which ``do_task`` computes some panels of ``out`` for some blocks of samples at a time."""

    @jit
    def work(team, phase, n, out, operands):
        blocks = -(-n // BLOCK)
        across, height = _shape(out.shape[0], blocks, team[2])
        split_x, split = (
            aligned_empty(height * SQUARES * SPLIT, out), aligned_empty(across * SQUARES * SPLIT, out)
        )  # fmt: skip
        groups = -(-out.shape[0] // across)
        tasks = groups * -(-blocks // height)
        start_unit()
        task = take(team, phase, tasks)
        while task < tasks:
            top, left = task // groups * height, task % groups * across
            size = min(height, blocks - top), min(across, out.shape[0] - left)
            do_task(n, out, operands, left, size[1], top, size[0], split_x, split)
            done(team, phase)
            task = take(team, phase, tasks)
        stop_unit()
        return tasks

    return work


# --- forward: y = f(x W + b) -----------------------------------------------------------------------------


@cache
def _forward_panel(rule, remembers_x):
    """One panel of y for some blocks of samples, as far as some squares of the weights go."""
    finish = forward_finish(rule, remembers_x)

    @jit(refcount=False)
    def work(
        split_x, split, at, bias, z, y, p, first, blocks, squares, add, is_last, weight, following, to_split,
        constants,
    ):  # fmt: skip
        # Meanwhile ``to_split`` squares of the following weights are split, behind those in use.
        beside = weight, following, to_split, split, at + SQUARES * SPLIT
        for b in range(blocks):
            place = (p * y.shape[1] + (first + b) * BLOCK) * BLOCK
            if b == 0:
                multiply_blocks_beside(
                    split_part, beside, split_x, 0, SPLIT, split, at, SPLIT, squares, y, place, BLOCK, add
                )
            else:
                multiply_blocks(
                    split_x, b * SQUARES * SPLIT, SPLIT, split, at, SPLIT, squares, y, place, BLOCK, add
                )
            if is_last:
                for r in range(0, SQUARE, ROWS * BLOCK):
                    finish(y, place + r, p * BLOCK, bias, z, constants)

    return work


@cache
def forward_tasks(rule, remembers_x):
    """y = rule(x W + b); where the rule's derivative wants x W + b, that is written to z."""
    forward_panel = _forward_panel(rule, remembers_x)

    @jit(refcount=False)
    def do_task(n, y, operands, left, panels, top, blocks, split_x, split):
        x, weight, bias, z, constants = operands
        depth, square = x.shape[0], weight.shape[2] * SQUARE
        for q in range(0, depth, SQUARES):
            squares = min(SQUARES, depth - q)
            here = (left * depth + q) * square
            split_samples(x, q, squares, top, blocks, n, split_x)
            split_weights(weight, here, squares, split, 0)
            for p in range(panels):
                forward_panel(
                    split_x, split, p * SQUARES * SPLIT, bias, z, y, left + p, top, blocks, squares, q > 0,
                    q + squares == depth, weight, here + (p + 1) * depth * square,
                    squares if p + 1 < panels else 0, constants,
                )  # fmt: skip

    phase_of = _panels_of_blocks(do_task)

    @jit
    def work(team, phase, x, weight, bias, n, z, y, constants):
        return phase_of(team, phase, n, y, (x, weight, bias, z, constants))

    return work


# --- backward --------------------------------------------------------------------------------------------


@cache
def backward_tasks(rule):
    """dz = rule(dy W', remembered): the gradient before the previous layer's activation."""
    finish = backward_finish(rule)

    @jit(refcount=False)
    def do_task(n, dz, operands, left, panels, top, blocks, split_dy, split):
        dy, weight, remembered, turned, constants = operands
        depth, square = dy.shape[0], weight.shape[2] * SQUARE
        for q in range(0, depth, SQUARES):
            squares = min(SQUARES, depth - q)
            split_samples(dy, q, squares, top, blocks, n, split_dy)
            for p in range(left, left + panels):
                for i in range(squares):
                    turn_block(weight, ((q + i) * dz.shape[0] + p) * square, BLOCK, turned)
                    split_pairs(turned, 0, BLOCK, BLOCK, BLOCK, split, i * SPLIT, SPLIT)
                for b in range(blocks):
                    at = (p * dz.shape[1] + (top + b) * BLOCK) * BLOCK
                    multiply_blocks(
                        split_dy, b * SQUARES * SPLIT, SPLIT, split, 0, SPLIT, squares, dz, at, BLOCK, q > 0
                    )
                    if q + squares == depth:
                        for r in range(0, SQUARE, ROWS * BLOCK):
                            finish(dz, at + r, p * BLOCK, remembered, constants)

    phase_of = _panels_of_blocks(do_task)

    @jit
    def work(team, phase, dy, weight, n, remembered, dz, constants):
        turned = aligned_empty(SQUARE, dz)
        return phase_of(team, phase, n, dz, (dy, weight, remembered, turned, constants))

    return work


@jit(refcount=False)
def _sum_early(x, split_dz, n, panels, q, squares, split_x, sums, turned):
    """Sum the gradients of some squares of some panels over all but the last HEIGHT blocks of samples.

    Return where those begin; x is split there.
    """
    blocks, first = -(-n // BLOCK), 0
    while True:
        count = min(HEIGHT, blocks - first)
        split_samples_turned(x, q, squares, first, count, n, split_x, turned)
        if first + count == blocks:
            return first
        for p in range(panels):
            for b in range(0, count, SUMMED):
                for i in range(squares):
                    multiply_blocks(
                        split_x, (i * HEIGHT + b) * SPLIT, SPLIT,
                        split_dz, (p * blocks + first + b) * SPLIT, SPLIT, min(SUMMED, count - b),
                        sums, (p * SQUARES + i) * SQUARE, BLOCK, first + b > 0,
                    )  # fmt: skip
        first += count


@cache
def _update_panels(rule, slots):
    """(weights, bias): the update of some squares of some panels, and of a panel's bias."""
    apply, update_bias = apply_update(rule, slots)

    @jit(inline=True, refcount=False)
    def apply_part(i, piece, weight, here, sums, at, count, decay, hyperparameters):
        if i == 0:
            first, last = piece * SQUARE // PIECES, (piece + 1) * SQUARE // PIECES
            apply(weight, here, sums, at, first, min(last, count), decay, hyperparameters)

    @jit(refcount=False)
    def work(
        split_x, split_dz, p, panels, first, blocks, sums, weight, here, depth, squares, rows, decay,
        hyperparameters,
    ):  # fmt: skip
        # Sum the gradients of panel p and, meanwhile, update the panel before. ``here`` is where the panel's
        # squares begin; ``rows`` rows from there on have inputs.
        square, panels_kept = weight.shape[2] * SQUARE, sums.size // (SQUARES * SQUARE)
        this, before = p % panels_kept * SQUARES * SQUARE, (p - 1) % panels_kept * SQUARES * SQUARE
        for b in range(first, blocks if p < panels else first + 1, SUMMED):
            for i in range(squares):
                last = here + (i - depth) * square
                count = min(BLOCK, rows - i * BLOCK) * BLOCK if p > 0 and b == first else 0
                if p < panels:
                    multiply_blocks_beside(
                        apply_part, (weight, last, sums, before + i * SQUARE, count, decay, hyperparameters),
                        split_x, (i * HEIGHT + b - first) * SPLIT, SPLIT, split_dz, (p * blocks + b) * SPLIT,
                        SPLIT, min(SUMMED, blocks - b), sums, this + i * SQUARE, BLOCK, b > 0,
                    )  # fmt: skip
                else:
                    apply(weight, last, sums, before + i * SQUARE, 0, count, decay, hyperparameters)

    return work, update_bias


@jit
def _scratch(blocks, across, like):
    """Memory for some panels of x and dz, split, for sums of gradients, and for a block turned over.

    Gradients summed in several parts wait for the last one; of others there are two panels at a time.
    """
    return (
        aligned_empty(SQUARES * HEIGHT * SPLIT, like),
        aligned_empty(across * blocks * SPLIT, like),
        aligned_empty((across + 1 if blocks > HEIGHT else 2) * SQUARES * SQUARE, like),
        aligned_empty(SQUARE, like),
    )


@cache
def update_tasks(rule, slots):
    """W, slots <- rule(decay W, x' dz, slots), and of b: the gradient is never stored."""
    update_panels, update_bias = _update_panels(rule, slots)

    @jit(refcount=False)
    def do_task(x, dz, n, inputs, weight, bias, decay, hyperparameters, left, panels, top, bottom, scratch):
        split_x, split_dz, sums, turned = scratch
        blocks, depth, square = -(-n // BLOCK), x.shape[0], weight.shape[2] * SQUARE
        split_deltas(dz, left, panels, n, split_dz)
        for q in range(top, bottom, SQUARES):
            squares = min(SQUARES, depth - q)
            first = _sum_early(x, split_dz, n, panels, q, squares, split_x, sums, turned)
            for p in range(panels + 1):
                update_panels(
                    split_x, split_dz, p, panels, first, blocks, sums, weight,
                    ((left + p) * depth + q) * square, depth, squares, inputs - q * BLOCK, decay,
                    hyperparameters,
                )  # fmt: skip
        if top == 0:
            for p in range(left, left + panels):
                update_bias(bias, dz, p, n, decay, hyperparameters)

    @jit
    def work(team, phase, x, dz, n, inputs, weight, bias, decay, hyperparameters):
        depth = x.shape[0]
        across, tall = min(PANELS, weight.shape[0]), -(-depth // SQUARES) * SQUARES
        while -(-weight.shape[0] // across) * -(-depth // tall) < TASKS * team[2] and tall > SQUARES:
            tall = -(-tall // 2 // SQUARES) * SQUARES
        scratch = _scratch(-(-n // BLOCK), across, weight)
        groups = -(-weight.shape[0] // across)
        tasks = groups * -(-depth // tall)
        start_unit()
        task = take(team, phase, tasks)
        while task < tasks:
            top, left = task // groups * tall, task % groups * across
            do_task(
                x, dz, n, inputs, weight, bias, decay, hyperparameters,
                left, min(across, weight.shape[0] - left), top, min(top + tall, depth), scratch,
            )  # fmt: skip
            done(team, phase)
            task = take(team, phase, tasks)
        stop_unit()
        return tasks

    return work


@cache
def update_forward_tasks(rule, slots, activation, remembers_x):
    """``update_tasks`` with the present batch and ``forward_tasks`` with the next one, in one pass over W.

    A task takes panels of W from top to bottom, so it needs as many panels as there are threads to be fair.
    """
    update_panels, update_bias = _update_panels(rule, slots)
    forward_panel = _forward_panel(activation, remembers_x)

    @jit(refcount=False)
    def do_task(
        x, dz, n, inputs, weight, bias, decay, hyperparameters, next_x, z, y, constants, left, panels,
        scratch, split_next, split,
    ):  # fmt: skip
        split_x, split_dz, sums, turned = scratch
        blocks, depth, square = -(-n // BLOCK), x.shape[0], weight.shape[2] * SQUARE
        for p in range(left, left + panels):
            update_bias(bias, dz, p, n, decay, hyperparameters)
        split_deltas(dz, left, panels, n, split_dz)
        for q in range(0, depth, SQUARES):
            squares = min(SQUARES, depth - q)
            first = _sum_early(x, split_dz, n, panels, q, squares, split_x, sums, turned)
            for top in range(0, blocks, HEIGHT):
                count = min(HEIGHT, blocks - top)
                split_samples(next_x, q, squares, top, count, n, split_next)
                # In a pipeline: gradients of panel p, the update of the one before with its split, the
                # next batch through the one before that.
                for p in range(panels + 2 if top == 0 else 0):
                    here = ((left + p) * depth + q) * square
                    if p <= panels:
                        update_panels(
                            split_x, split_dz, p, panels, first, blocks, sums, weight, here, depth,
                            squares, inputs - q * BLOCK, decay, hyperparameters,
                        )  # fmt: skip
                    if p == 1:
                        split_weights(weight, here - depth * square, squares, split, 0)
                    elif p > 1:
                        forward_panel(
                            split_next, split, (p - 2) * SQUARES * SPLIT, bias, z, y, left + p - 2, top,
                            count, squares, q > 0, q + squares == depth, weight, here - depth * square,
                            squares if p <= panels else 0, constants,
                        )  # fmt: skip
                for p in range(panels if top > 0 else 0):
                    forward_panel(
                        split_next, split, p * SQUARES * SPLIT, bias, z, y, left + p, top, count, squares,
                        q > 0, q + squares == depth, weight, 0, 0, constants,
                    )  # fmt: skip

    @jit
    def work(
        team, phase, x, dz, n, inputs, weight, bias, decay, hyperparameters, next_x, z, y, constants
    ):  # fmt: skip
        across = max(1, min(PANELS, weight.shape[0] // team[2]))
        scratch = _scratch(-(-n // BLOCK), across, weight)
        split_next, split = (
            aligned_empty(SQUARES * HEIGHT * SPLIT, y), aligned_empty(SQUARES * across * SPLIT, y)
        )  # fmt: skip
        tasks = -(-weight.shape[0] // across)
        start_unit()
        task = take(team, phase, tasks)
        while task < tasks:
            left = task * across
            do_task(
                x, dz, n, inputs, weight, bias, decay, hyperparameters, next_x, z, y, constants,
                left, min(across, weight.shape[0] - left), scratch, split_next, split,
            )  # fmt: skip
            done(team, phase)
            task = take(team, phase, tasks)
        stop_unit()
        return tasks

    return work
