"""The products of ``fused.py`` on the processor's matrix unit, for float32; see ``amx.py``.

Every block is split where it is used, into memory that stays in the caches: parts that were kept would take
more time to move than to make again.

    y  = x W      A = x: rows             B = W: pairs
    dx = dy W'    A = dy: rows            B = W', turned over: pairs
    dW = x' dy    A = x', turned over     B = dy: pairs
"""

from functools import cache

from npnet.kernels.amx import (
    BLOCK,
    SPLIT,
    multiply_blocks,
    multiply_blocks_ahead,
    split_pairs,
    split_rows,
    start_unit,
    stop_unit,
    turn_block,
)
from npnet.kernels.fused import apply_update, backward_finish, forward_finish
from npnet.kernels.product import aligned_empty
from npnet.kernels.runtime import compiled
from npnet.kernels.tasks import done, take
from npnet.kernels.tiles import ROWS

SQUARE = BLOCK * BLOCK
SQUARES = 4  # of weights, used at a time: the parts of four, 25 KB, fit the L1 cache
HEIGHT = 16  # blocks of samples, used at a time: the parts of 16 by 4, 0.4 MB, fit the L2 cache
PANELS = 8  # of the result or of weights, at most, that a task handles: samples are split once for them
TASKS = 4  # a thread, where there is enough to do
LINES = SQUARE * 4 // 64  # cache lines of a square of weights


@compiled
def _split_samples(x, q, squares, first, blocks, n, split):
    """Split ``blocks`` blocks of samples from the first on, each of some panels of x from q on."""
    for b in range(blocks):
        for i in range(squares):
            at = ((q + i) * x.shape[1] + (first + b) * BLOCK) * BLOCK
            rows = n - (first + b) * BLOCK
            split_rows(x, at, BLOCK, rows, BLOCK, split, (b * SQUARES + i) * SPLIT, SPLIT)


@compiled
def _split_samples_turned(x, q, squares, first, blocks, n, split, turned):
    """Split some panels of x from q on turned over, each HEIGHT blocks of samples apart."""
    for i in range(squares):
        for b in range(blocks):
            turn_block(x, ((q + i) * x.shape[1] + (first + b) * BLOCK) * BLOCK, BLOCK, turned)
            rows = min(n - (first + b) * BLOCK, BLOCK)
            split_rows(turned, 0, BLOCK, BLOCK, rows, split, (i * HEIGHT + b) * SPLIT, SPLIT)


@compiled
def _split_deltas(dz, left, panels, n, split):
    """Split all blocks of some panels of what flows back, panel by panel."""
    blocks = -(-n // BLOCK)
    for p in range(panels):
        for b in range(blocks):
            at = ((left + p) * dz.shape[1] + b * BLOCK) * BLOCK
            split_pairs(dz, at, BLOCK, n - b * BLOCK, BLOCK, split, (p * blocks + b) * SPLIT, SPLIT)


@compiled
def _split_weights(weight, here, squares, split, at):
    """Split some squares of weights below each other."""
    square = weight.shape[2] * SQUARE
    for i in range(squares):
        split_pairs(weight, here + i * square, BLOCK, BLOCK, BLOCK, split, at + i * SPLIT, SPLIT)


@compiled
def _shape(panels, blocks, threads):
    """How many panels of the result and blocks of samples a task handles, so that there are enough."""
    across, height = min(PANELS, panels), min(HEIGHT, blocks)
    while -(-panels // across) * -(-blocks // height) < TASKS * threads and across * height > 1:
        if height > 2 * across or across == 1:
            height = (height + 1) // 2
        else:
            across = (across + 1) // 2
    return across, height


# --- forward: y = f(x W + b) -----------------------------------------------------------------------------


@cache
def _forward_panel(rule, remembers_x, lines):
    """One panel of y for some blocks of samples, as far as some squares of the weights go."""
    finish = forward_finish(rule, remembers_x)

    @compiled
    def work(
        split_x, split, at, bias, z, y, p, first, blocks, squares, add, is_last, ahead, ahead_start,
        ahead_square, constants,
    ):  # fmt: skip
        for b in range(blocks):
            place = (p * y.shape[1] + (first + b) * BLOCK) * BLOCK
            if b == 0:
                multiply_blocks_ahead(
                    split_x, 0, SPLIT, split, at, SPLIT, squares, y, place, BLOCK, add,
                    ahead, ahead_start, ahead_square, lines, 1,
                )  # fmt: skip
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
    forward_panel = _forward_panel(rule, remembers_x, LINES)

    @compiled
    def work(team, phase, x, weight, bias, n, z, y, constants):
        blocks, depth, square = -(-n // BLOCK), x.shape[0], weight.shape[2] * SQUARE
        across, height = _shape(y.shape[0], blocks, team[2])
        split_x, split = aligned_empty(height * SQUARES * SPLIT, y), aligned_empty(SQUARES * SPLIT, y)
        groups = -(-y.shape[0] // across)
        tasks = groups * -(-blocks // height)
        start_unit()
        task = take(team, phase, tasks)
        while task < tasks:
            top, left = task // groups * height, task % groups * across
            count = min(height, blocks - top)
            for q in range(0, depth, SQUARES):
                squares = min(SQUARES, depth - q)
                _split_samples(x, q, squares, top, count, n, split_x)
                for p in range(left, min(left + across, y.shape[0])):
                    here = (p * depth + q) * square
                    _split_weights(weight, here, squares, split, 0)
                    forward_panel(
                        split_x, split, 0, bias, z, y, p, top, count, squares, q > 0, q + squares == depth,
                        weight, here + depth * square, square, constants,
                    )  # fmt: skip
            done(team, phase)
            task = take(team, phase, tasks)
        stop_unit()
        return tasks

    return work


# --- backward --------------------------------------------------------------------------------------------


@cache
def backward_tasks(rule):
    """dz = rule(dy W', remembered): the gradient before the previous layer's activation."""
    finish = backward_finish(rule)

    @compiled
    def work(team, phase, dy, weight, n, remembered, dz, constants):
        blocks, depth, square = -(-n // BLOCK), dy.shape[0], weight.shape[2] * SQUARE
        across, height = _shape(dz.shape[0], blocks, team[2])
        split_dy, split = aligned_empty(height * SQUARES * SPLIT, dz), aligned_empty(SQUARES * SPLIT, dz)
        turned = aligned_empty(SQUARE, dz)
        groups = -(-dz.shape[0] // across)
        tasks = groups * -(-blocks // height)
        start_unit()
        task = take(team, phase, tasks)
        while task < tasks:
            top, left = task // groups * height, task % groups * across
            count = min(height, blocks - top)
            for q in range(0, depth, SQUARES):
                squares = min(SQUARES, depth - q)
                _split_samples(dy, q, squares, top, count, n, split_dy)
                for p in range(left, min(left + across, dz.shape[0])):
                    for i in range(squares):
                        turn_block(weight, ((q + i) * dz.shape[0] + p) * square, BLOCK, turned)
                        split_pairs(turned, 0, BLOCK, BLOCK, BLOCK, split, i * SPLIT, SPLIT)
                    for b in range(count):
                        at = (p * dz.shape[1] + (top + b) * BLOCK) * BLOCK
                        multiply_blocks(
                            split_dy, b * SQUARES * SPLIT, SPLIT, split, 0, SPLIT, squares,
                            dz, at, BLOCK, q > 0,
                        )  # fmt: skip
                        if q + squares == depth:
                            for r in range(0, SQUARE, ROWS * BLOCK):
                                finish(dz, at + r, p * BLOCK, remembered, constants)
            done(team, phase)
            task = take(team, phase, tasks)
        stop_unit()
        return tasks

    return work


@compiled
def _sum_early(x, split_dz, n, panels, q, squares, split_x, sums, turned):
    """Sum the gradients of some squares of some panels over all but the last HEIGHT blocks of samples.

    Return where those begin; x is split there.
    """
    blocks, first = -(-n // BLOCK), 0
    while True:
        count = min(HEIGHT, blocks - first)
        _split_samples_turned(x, q, squares, first, count, n, split_x, turned)
        if first + count == blocks:
            return first
        for p in range(panels):
            for i in range(squares):
                multiply_blocks(
                    split_x, i * HEIGHT * SPLIT, SPLIT, split_dz, (p * blocks + first) * SPLIT, SPLIT, count,
                    sums, (p * SQUARES + i) * SQUARE, BLOCK, first > 0,
                )  # fmt: skip
        first += count


@cache
def _update_panel(rule, slots):
    """(weights, bias): the update of some squares of one panel, and of its bias."""
    apply, update_bias = apply_update(rule, slots)

    @compiled
    def work(
        split_x, split_dz, at, blocks, add, sums, sums_at, weight, here, squares, inputs, ahead_start, decay,
        hyperparameters,
    ):  # fmt: skip
        square = weight.shape[2] * SQUARE
        for i in range(squares):
            multiply_blocks_ahead(
                split_x, i * HEIGHT * SPLIT, SPLIT, split_dz, at, SPLIT, blocks,
                sums, sums_at + i * SQUARE, BLOCK, add, weight, ahead_start + i * square, SQUARE, LINES, 1,
            )  # fmt: skip
            rows = min(BLOCK, inputs - i * BLOCK)
            apply(
                weight, here + i * square, sums, sums_at + i * SQUARE, rows * BLOCK, decay, hyperparameters
            )

    return work, update_bias


@compiled
def _sums_for(blocks, across, like):
    """Memory for gradients that are summed in several parts, or at once."""
    return aligned_empty((across if blocks > HEIGHT else 1) * SQUARES * SQUARE, like)


@cache
def update_tasks(rule, slots):
    """W, slots <- rule(decay W, x' dz, slots), and of b: the gradient is never stored."""
    update_panel, update_bias = _update_panel(rule, slots)

    @compiled
    def work(team, phase, x, dz, n, inputs, weight, bias, decay, hyperparameters):
        blocks, depth, square = -(-n // BLOCK), x.shape[0], weight.shape[2] * SQUARE
        across, tall = min(PANELS, weight.shape[0]), -(-depth // SQUARES) * SQUARES
        while -(-weight.shape[0] // across) * -(-depth // tall) < TASKS * team[2] and tall > SQUARES:
            tall = -(-tall // 2 // SQUARES) * SQUARES
        split_x, turned = aligned_empty(SQUARES * HEIGHT * SPLIT, weight), aligned_empty(SQUARE, weight)
        split_dz, sums = aligned_empty(across * blocks * SPLIT, weight), _sums_for(blocks, across, weight)
        groups = -(-weight.shape[0] // across)
        tasks = groups * -(-depth // tall)
        start_unit()
        task = take(team, phase, tasks)
        while task < tasks:
            top, left = task // groups * tall, task % groups * across
            panels = min(across, weight.shape[0] - left)
            _split_deltas(dz, left, panels, n, split_dz)
            for q in range(top, min(top + tall, depth), SQUARES):
                squares = min(SQUARES, depth - q)
                first = _sum_early(x, split_dz, n, panels, q, squares, split_x, sums, turned)
                for p in range(panels):
                    here = ((left + p) * depth + q) * square
                    following = here + (depth if p + 1 < panels else SQUARES - p * depth) * square
                    update_panel(
                        split_x, split_dz, (p * blocks + first) * SPLIT, blocks - first, first > 0,
                        sums, p * SQUARES * SQUARE if first > 0 else 0, weight, here, squares,
                        inputs - q * BLOCK, following, decay, hyperparameters,
                    )  # fmt: skip
            if top == 0:
                for p in range(left, left + panels):
                    update_bias(bias, dz, p, n, decay, hyperparameters)
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
    update_panel, update_bias = _update_panel(rule, slots)
    forward_panel = _forward_panel(activation, remembers_x, slots * LINES)

    @compiled
    def work(
        team, phase, x, dz, n, inputs, weight, bias, decay, hyperparameters, next_x, z, y, constants
    ):  # fmt: skip
        blocks, depth, square = -(-n // BLOCK), x.shape[0], weight.shape[2] * SQUARE
        across = max(1, min(PANELS, weight.shape[0] // team[2]))
        split_x, turned = aligned_empty(SQUARES * HEIGHT * SPLIT, weight), aligned_empty(SQUARE, weight)
        split_dz, sums = aligned_empty(across * blocks * SPLIT, weight), _sums_for(blocks, across, weight)
        split_next, split = (
            aligned_empty(SQUARES * HEIGHT * SPLIT, y), aligned_empty(SQUARES * across * SPLIT, y)
        )  # fmt: skip
        tasks = -(-weight.shape[0] // across)
        start_unit()
        task = take(team, phase, tasks)
        while task < tasks:
            left = task * across
            panels = min(across, weight.shape[0] - left)
            for p in range(left, left + panels):
                update_bias(bias, dz, p, n, decay, hyperparameters)
            _split_deltas(dz, left, panels, n, split_dz)
            for q in range(0, depth, SQUARES):
                squares = min(SQUARES, depth - q)
                is_last = q + squares == depth
                first = _sum_early(x, split_dz, n, panels, q, squares, split_x, sums, turned)
                for top in range(0, blocks, HEIGHT):
                    count = min(HEIGHT, blocks - top)
                    _split_samples(next_x, q, squares, top, count, n, split_next)
                    for p in range(panels):
                        here = ((left + p) * depth + q) * square
                        following = here + (depth if p + 1 < panels else SQUARES - p * depth) * square
                        if top == 0:
                            update_panel(
                                split_x, split_dz, (p * blocks + first) * SPLIT, blocks - first, first > 0,
                                sums, p * SQUARES * SQUARE if first > 0 else 0, weight, here, squares,
                                inputs - q * BLOCK, following, decay, hyperparameters,
                            )  # fmt: skip
                            _split_weights(weight, here, squares, split, p * SQUARES * SPLIT)
                        forward_panel(
                            split_next, split, p * SQUARES * SPLIT, bias, z, y, left + p, top, count, squares,
                            q > 0, is_last, weight, following + SQUARE, square, constants,
                        )  # fmt: skip
            done(team, phase)
            task = take(team, phase, tasks)
        stop_unit()
        return tasks

    return work
