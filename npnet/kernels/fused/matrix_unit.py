"""The phases of ``vector_unit.py`` on the processor's matrix unit. Names are explained there.

``products/amx.py`` says how the unit multiplies, in which ``precision``. The products and their operands are

    y  = x W      A = x                      B = W
    dx = dy W'    A = dy                     B = W', transposed square by square
    dW = x' dy    A = x', transposed too     B = dy

Matrices lie as they do there. The unit multiplies squares that have been split (``products/splits.py``).
They are split where they are used, into memory that stays in the caches: to keep the parts of weights and
samples would take longer than to make them again. Two names more than there:

    stripe   SIDE samples
    chunk    squares of a panel of W that are used at a time
    group    stripes that are summed at a time

The phases that read x take one argument more than those of the vector unit, ``factor``: x is what lies in
memory times this number, None is 1. So pixels can lie there as whole numbers, which are one part.

How tasks are cut depends on the number of threads; in what order a sum is added up does not.
"""

from functools import cache
from typing import Any, NamedTuple

from npnet.kernels.fused.vector_unit import apply_update, backward_finish, forward_finish
from npnet.kernels.machine.jit import jit
from npnet.kernels.machine.tasks import done, even_parts, stretch, take
from npnet.kernels.products.amx import (
    PIECES,
    SIDE,
    multiply_squares,
    multiply_squares_beside,
    split_pairs,
    split_size,
    start_unit,
    stop_unit,
    transpose_square,
)
from npnet.kernels.products.blocked import aligned_empty
from npnet.kernels.products.splits import (
    AT_ONCE,
    SQUARE,
    STRIPES,
    split_gradients,
    split_samples,
    split_samples_transposed,
    split_weights,
    split_weights_piece,
)
from npnet.kernels.products.tiles import ROWS, Squares, Sums

__all__ = ["backward_tasks", "forward_tasks", "update_forward_tasks", "update_tasks"]

PANELS = 8  # of the result or of weights, at most, that a task handles: samples are split once for them
TASKS = 4  # a thread, where there is enough to do


class Part(NamedTuple):
    """A task: ``panels`` panels from ``left`` on, of each ``count`` stripes or squares from ``top`` on."""

    left: Any
    panels: Any
    top: Any
    count: Any


# --- panels of a result for some stripes -----------------------------------------------------------------


@jit
def _shape(panels, stripes, threads):
    """How many panels of the result and stripes a task handles, so that there are enough tasks."""
    across, height = min(PANELS, panels), min(STRIPES, stripes)
    while -(-panels // across) * -(-stripes // height) < TASKS * threads and across * height > 1:
        if height > 2 * across or across == 1:
            height = (height + 1) // 2
        else:
            across = (across + 1) // 2
    return across, height


@cache
def _panels_of_stripes(do_task, precision):
    """The phase in which ``do_task`` computes some panels of ``out`` for some stripes at a time."""
    left_size, right_size = map(split_size, precision)
    chunk, _ = AT_ONCE[precision]

    @jit
    def work(team, phase, n, out, operands):
        stripes = -(-n // SIDE)
        across, height = _shape(out.shape[0], stripes, team[2])
        split_x = aligned_empty(height * chunk * left_size, out)
        split_weight = aligned_empty(across * chunk * right_size, out)
        groups = -(-out.shape[0] // across)
        tasks = groups * -(-stripes // height)
        start_unit()
        task = take(team, phase, tasks)
        while task < tasks:
            top, left = task // groups * height, task % groups * across
            part = Part(left, min(across, out.shape[0] - left), top, min(height, stripes - top))
            do_task(n, out, operands, part, split_x, split_weight)
            done(team, phase)
            task = take(team, phase, tasks)
        stop_unit()
        return tasks

    return work


# --- forward: y = f(x W + b) -----------------------------------------------------------------------------


class Stripes(NamedTuple):
    """``count`` stripes of x from stripe ``first`` on, split, as far as the squares in use go."""

    split: Any
    first: Any
    count: Any


class Output(NamedTuple):
    """What the forward epilogue reads and writes."""

    bias: Any
    z: Any
    y: Any
    constants: Any


@cache
def _forward_panel(rule, remembers_x, precision):
    """One panel of y for some stripes, over some squares of the weights."""
    finish = forward_finish(rule, remembers_x)
    (left_parts, right_parts), (left_size, right_size) = precision, map(split_size, precision)
    split_piece = split_weights_piece(right_parts)
    chunk, _ = AT_ONCE[precision]

    @jit(refcount=False)
    def forward_panel(x, weight, split_weight, output, left, p, q, squares, to_split, factor):
        """Multiply the Stripes ``x`` by ``squares`` squares from q down of panel left + p, which are split.

        ``split_weight`` holds chunk places for each panel from ``left`` on. Meanwhile ``to_split`` squares
        of the next panel are split into it.
        """
        bias, z, y, constants = output
        place_of_weight, depth = p * chunk * right_size, weight.shape[1]
        following = ((left + p + 1) * depth + q) * weight.shape[2] * SQUARE
        job = weight, following, to_split, split_weight, place_of_weight + chunk * right_size, factor
        b = Squares(split_weight, place_of_weight, right_size)
        for s in range(x.count):
            at = ((left + p) * y.shape[1] + (x.first + s) * SIDE) * SIDE
            a, c = Squares(x.split, s * chunk * left_size, left_size), Sums(y, at, SIDE)
            if s == 0:
                multiply_squares_beside(
                    split_piece, job, a, b, squares, c, q > 0, left_parts, right_parts
                )  # fmt: skip
            else:
                multiply_squares(a, b, squares, c, q > 0, left_parts, right_parts)
            if q + squares == depth:
                for r in range(0, SQUARE, ROWS * SIDE):
                    finish(y, at + r, (left + p) * SIDE, SIDE, bias, z, constants)

    return forward_panel


@cache
def forward_tasks(precision, rule, remembers_x):
    """y = rule(x W + b); where the rule's derivative wants x W + b, that is written to z."""
    forward_panel = _forward_panel(rule, remembers_x, precision)
    split_x_squares, split_weight_squares = split_samples(precision), split_weights(precision.right)
    chunk, _ = AT_ONCE[precision]

    @jit(refcount=False)
    def do_task(n, y, operands, part, split_x, split_weight):
        x, weight, bias, z, constants, factor = operands
        left, panels, top, stripes = part
        depth = x.shape[0]
        for q in range(0, depth, chunk):
            squares = min(chunk, depth - q)
            split_x_squares(x, q, squares, top, stripes, n, split_x)
            start = (left * depth + q) * weight.shape[2] * SQUARE
            split_weight_squares(weight, start, squares, split_weight, 0, factor)
            for p in range(panels):
                forward_panel(
                    Stripes(split_x, top, stripes), weight, split_weight, Output(bias, z, y, constants),
                    left, p, q, squares, squares if p + 1 < panels else 0, factor,
                )  # fmt: skip

    phase_of = _panels_of_stripes(do_task, precision)

    @jit
    def work(team, phase, x, weight, shape, bias, n, z, y, constants, factor=None):
        return phase_of(team, phase, n, y, (x, weight, bias, z, constants, factor))

    return work


# --- backward --------------------------------------------------------------------------------------------


@cache
def backward_tasks(precision, rule):
    """dz = rule(dy W', remembered): the gradient before the previous layer's activation."""
    finish = backward_finish(rule)
    (left_parts, right_parts), (left_size, right_size) = precision, map(split_size, precision)
    split_dy_squares, split_square = split_samples(precision), split_pairs(right_parts)
    chunk, _ = AT_ONCE[precision]

    @jit(refcount=False)
    def do_task(n, dz, operands, part, split_dy, split_weight):
        dy, weight, remembered, transposed, constants = operands
        left, panels, top, stripes = part
        depth, square = dy.shape[0], weight.shape[2] * SQUARE
        for q in range(0, depth, chunk):
            squares = min(chunk, depth - q)
            split_dy_squares(dy, q, squares, top, stripes, n, split_dy)
            for p in range(left, left + panels):
                for i in range(squares):
                    transpose_square(weight, ((q + i) * dz.shape[0] + p) * square, SIDE, transposed)
                    split_square(
                        transposed, 0, SIDE, SIDE, SIDE, split_weight, i * right_size, right_size, None
                    )
                b = Squares(split_weight, 0, right_size)
                for s in range(stripes):
                    at = (p * dz.shape[1] + (top + s) * SIDE) * SIDE
                    a = Squares(split_dy, s * chunk * left_size, left_size)
                    multiply_squares(a, b, squares, Sums(dz, at, SIDE), q > 0, left_parts, right_parts)
                    if q + squares == depth:
                        for r in range(0, SQUARE, ROWS * SIDE):
                            finish(dz, at + r, p * SIDE, SIDE, remembered, constants)

    phase_of = _panels_of_stripes(do_task, precision)

    @jit
    def work(team, phase, dy, weight, shape, n, remembered, dz, constants):
        transposed = aligned_empty(SQUARE, dz)
        return phase_of(team, phase, n, dz, (dy, weight, remembered, transposed, constants))

    return work


# --- the update: W, slots <- rule(W, x' dz, slots) -------------------------------------------------------


class Weights(NamedTuple):
    """W with its slots, its shape, and how it is updated."""

    weight: Any
    shape: Any
    decay: Any
    hyperparameters: Any


class Scratch(NamedTuple):
    """Memory of a thread for the gradients of some squares of some panels.

    split_x: squares of x, transposed and split; that of square i and stripe s at place i STRIPES + s
    split_dz: panels of dz, split; stripe s of panel p at place p stripes + s
    sums: the gradients, a chunk for each panel
    transposed: one square
    """

    split_x: Any
    split_dz: Any
    sums: Any
    transposed: Any


@cache
def _scratch(precision):
    """The kernel that makes a thread's Scratch."""
    left_size, right_size = map(split_size, precision)
    chunk, _ = AT_ONCE[precision]

    @jit
    def scratch(stripes, across, like):
        """Return Scratch for tasks of ``across`` panels.

        Gradients whose stripes are split in several goes wait for the last one. Otherwise there are those of
        two panels at a time.
        """
        return Scratch(
            aligned_empty(chunk * STRIPES * left_size, like),
            aligned_empty(across * stripes * right_size, like),
            aligned_empty((across + 1 if stripes > STRIPES else 2) * chunk * SQUARE, like),
            aligned_empty(SQUARE, like),
        )

    return scratch


@cache
def _sum_early(precision):
    """The kernel that sums gradients of so many samples that they are not split at once."""
    (left_parts, right_parts), (left_size, right_size) = precision, map(split_size, precision)
    split_x_squares = split_samples_transposed(left_parts)
    chunk, group = AT_ONCE[precision]

    @jit(refcount=False)
    def sum_early(x, n, panels, q, squares, scratch):
        """Sum the gradients of some squares of some panels over all but the last STRIPES stripes, or fewer.

        Return the first of those; x is split from there on.
        """
        split_x, split_dz, sums, transposed = scratch
        stripes, first = -(-n // SIDE), 0
        while True:
            count = min(STRIPES, stripes - first)
            split_x_squares(x, q, squares, first, count, n, split_x, transposed)
            if first + count == stripes:
                return first
            for p in range(panels):
                for s in range(0, count, group):
                    for i in range(squares):
                        a = Squares(split_x, (i * STRIPES + s) * left_size, left_size)
                        b = Squares(split_dz, (p * stripes + first + s) * right_size, right_size)
                        c = Sums(sums, (p * chunk + i) * SQUARE, SIDE)
                        summed = min(group, count - s)
                        multiply_squares(a, b, summed, c, first + s > 0, left_parts, right_parts)
            first += count

    return sum_early


@cache
def _update_panel(rule, slots, precision):
    """(sum_gradients, update_panel, update_bias): the steps of an update; ``first`` is from _sum_early."""
    apply, update_bias = apply_update(rule, slots)
    (left_parts, right_parts), (left_size, right_size) = precision, map(split_size, precision)
    chunk, group = AT_ONCE[precision]

    @jit(inline=True, refcount=False)
    def apply_piece(i, piece, weight, start, sums, at, count, decay, hyperparameters):
        """A piece of the update of one square: a job to do beside a product, of which only i = 0 is used."""
        if i == 0:
            first, last = piece * SIDE // PIECES, (piece + 1) * SIDE // PIECES
            apply(weight, start, sums, at, first, min(last, count), SIDE, decay, hyperparameters)

    @jit(refcount=False)
    def sum_gradients(weights, scratch, stripes, first, left, p, q, squares):
        """Sum the gradients of squares of panel left + p. Meanwhile update those of the panel before."""
        weight, (inputs, _), decay, hyperparameters = weights
        sums, square = scratch.sums, weight.shape[2] * SQUARE
        kept = sums.size // (chunk * SQUARE)  # panels
        before = ((left + p - 1) * weight.shape[1] + q) * square
        for s in range(first, stripes, group):
            for i in range(squares):
                summed = ((p - 1) % kept * chunk + i) * SQUARE
                count = min(SIDE, inputs - (q + i) * SIDE) if p > 0 and s == first else 0
                multiply_squares_beside(
                    apply_piece,
                    (weight, before + i * square, sums, summed, count, decay, hyperparameters),
                    Squares(scratch.split_x, (i * STRIPES + s - first) * left_size, left_size),
                    Squares(scratch.split_dz, (p * stripes + s) * right_size, right_size),
                    min(group, stripes - s),
                    Sums(sums, (p % kept * chunk + i) * SQUARE, SIDE), s > 0, left_parts, right_parts,
                )  # fmt: skip

    @jit(refcount=False)
    def update_panel(weights, scratch, left, p, q, squares):
        """Update squares of panel left + p by gradients that have been summed."""
        weight, (inputs, _), decay, hyperparameters = weights
        kept = scratch.sums.size // (chunk * SQUARE)
        for i in range(squares):
            start = ((left + p) * weight.shape[1] + q + i) * weight.shape[2] * SQUARE
            summed = (p % kept * chunk + i) * SQUARE
            count = min(SIDE, inputs - (q + i) * SIDE)
            apply(weight, start, scratch.sums, summed, 0, count, SIDE, decay, hyperparameters)

    return sum_gradients, update_panel, update_bias


@cache
def update_tasks(precision, rule, slots):
    """W, slots <- rule(decay W, x' dz, slots), and of b: the gradient is never stored."""
    sum_gradients, update_panel, update_bias = _update_panel(rule, slots, precision)
    sum_early, make_scratch = _sum_early(precision), _scratch(precision)
    split_dz_panels = split_gradients(precision.right)
    chunk, _ = AT_ONCE[precision]

    @jit(refcount=False)
    def do_task(x, dz, n, weights, bias, part, scratch, factor):
        left, panels, top, count = part
        stripes = -(-n // SIDE)
        split_dz_panels(dz, left, panels, n, scratch.split_dz, factor)
        for q in range(top, top + count, chunk):
            squares = min(chunk, x.shape[0] - q)
            first = sum_early(x, n, panels, q, squares, scratch)
            for p in range(panels):
                sum_gradients(weights, scratch, stripes, first, left, p, q, squares)
            update_panel(weights, scratch, left, panels - 1, q, squares)
        if top == 0:
            for p in range(left, left + panels):
                update_bias(bias, dz, p, n, weights.shape[1], weights.decay, weights.hyperparameters)

    @jit
    def work(team, phase, x, dz, n, weight, shape, bias, decay, hyperparameters, factor=None):
        depth, weights = x.shape[0], Weights(weight, shape, decay, hyperparameters)
        across, tall = min(PANELS, weight.shape[0]), -(-depth // chunk) * chunk
        while -(-weight.shape[0] // across) * -(-depth // tall) < TASKS * team[2] and tall > chunk:
            tall = -(-tall // 2 // chunk) * chunk
        scratch = make_scratch(-(-n // SIDE), across, weight)
        groups = -(-weight.shape[0] // across)
        tasks = groups * -(-depth // tall)
        start_unit()
        task = take(team, phase, tasks)
        while task < tasks:
            top, left = task // groups * tall, task % groups * across
            part = Part(left, min(across, weight.shape[0] - left), top, min(tall, depth - top))
            do_task(x, dz, n, weights, bias, part, scratch, factor)
            done(team, phase)
            task = take(team, phase, tasks)
        stop_unit()
        return tasks

    return work


@cache
def update_forward_tasks(precision, rule, slots, activation, remembers_x):
    """``update_tasks`` with this batch and ``forward_tasks`` with the next one, in one pass over W.

    A task takes panels of W from top to bottom. For a chunk of squares of each panel it is a pipeline, in
    which two things are done at once where that is possible:

        turn    panel 0            panel 1            panel 2            panel 3
        0       sum gradients
        1       update        and  sum gradients
                split
        2       forward            update        and  sum gradients
                              and  split
        3                          forward            update        and  sum gradients
                                                 and  split

    The kernel can also do one of the two alone, ``updates`` or ``forwards``.
    """
    sum_gradients, update_panel, update_bias = _update_panel(rule, slots, precision)
    forward_panel = _forward_panel(activation, remembers_x, precision)
    sum_early, make_scratch = _sum_early(precision), _scratch(precision)
    split_dz_panels = split_gradients(precision.right)
    split_x_squares, split_weight_squares = split_samples(precision), split_weights(precision.right)
    left_size, right_size = map(split_size, precision)
    chunk, _ = AT_ONCE[precision]

    @jit(refcount=False)
    def do_task(
        x, dz, n, weights, next_x, output, left, panels, scratch, split_next, split_weight, factor, updates,
        forwards,
    ):  # fmt: skip
        weight, depth, stripes, first = weights.weight, x.shape[0], -(-n // SIDE), 0
        if updates:
            for p in range(left, left + panels):
                update_bias(output.bias, dz, p, n, weights.shape[1], weights.decay, weights.hyperparameters)
            split_dz_panels(dz, left, panels, n, scratch.split_dz, factor)
        for q in range(0, depth, chunk):
            squares = min(chunk, depth - q)
            if updates:
                first = sum_early(x, n, panels, q, squares, scratch)
            count = min(STRIPES, stripes)
            if forwards:
                split_x_squares(next_x, q, squares, 0, count, n, split_next)
            for turn in range(panels + 2):
                if updates and turn < panels:
                    sum_gradients(weights, scratch, stripes, first, left, turn, q, squares)
                elif updates and turn == panels:
                    update_panel(weights, scratch, left, panels - 1, q, squares)
                if not forwards:
                    continue
                if turn == 1:
                    start = (left * depth + q) * weight.shape[2] * SQUARE
                    split_weight_squares(weight, start, squares, split_weight, 0, factor)
                elif turn > 1:
                    p = turn - 2
                    forward_panel(
                        Stripes(split_next, 0, count), weight, split_weight, output, left, p, q, squares,
                        squares if p + 1 < panels else 0, factor,
                    )  # fmt: skip
            # The stripes that have found no place:
            for top in range(STRIPES, stripes if forwards else 0, STRIPES):
                count = min(STRIPES, stripes - top)
                split_x_squares(next_x, q, squares, top, count, n, split_next)
                for p in range(panels):
                    forward_panel(
                        Stripes(split_next, top, count), weight, split_weight, output, left, p, q, squares,
                        0, factor,
                    )  # fmt: skip

    @jit
    def work(
        team, phase, x, dz, n, weight, shape, bias, decay, hyperparameters, next_x, z, y, constants,
        factor=None, updates=True, forwards=True,
    ):  # fmt: skip
        weights, output = Weights(weight, shape, decay, hyperparameters), Output(bias, z, y, constants)
        tasks = even_parts(weight.shape[0], PANELS, team[2])
        across = -(-weight.shape[0] // tasks)
        scratch = make_scratch(-(-n // SIDE), across, weight)
        split_next = aligned_empty(chunk * STRIPES * left_size, y)
        split_weight = aligned_empty(chunk * across * right_size, y)
        start_unit()
        task = take(team, phase, tasks)
        while task < tasks:
            left, right = stretch(task, tasks, weight.shape[0])
            do_task(
                x, dz, n, weights, next_x, output, left, right - left, scratch, split_next, split_weight,
                factor, updates, forwards,
            )  # fmt: skip
            done(team, phase)
            task = take(team, phase, tasks)
        stop_unit()
        return tasks

    return work
