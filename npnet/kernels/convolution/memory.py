"""What the kernels of convolution share: the tile's shape, scratch memory, pictures with a border."""

import threading

import numpy as np

from npnet.kernels.machine.jit import get_num_threads, jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.machine.tasks import new_counters, take
from npnet.kernels.products.blocked import aligned_empty
from npnet.kernels.vectors.memory import fill, lanes_of, load, store
from npnet.kernels.vectors.registers import REGISTER_BYTES, REGISTERS, lanes

__all__ = [
    "ROWS",
    "SERIAL",
    "VECTORS",
    "add_pixels",
    "clear",
    "copy_picture",
    "panels_of",
    "scratch",
    "share_out",
    "tile_width",
    "up",
]

# The tile of a convolution, by bytes in a register and registers. Its columns divide the usual numbers of
# filters (16, 32, 64), and it multiplies as fast as the tile of ``tiles.py``: with 16 registers of 32 bytes
# 102 GFLOP/s beside 100 (one thread).
SHAPES = {(64, 32): (8, 2), (32, 16): (6, 2), (16, 16): (6, 2), (16, 32): (8, 2)}
ROWS, VECTORS = SHAPES[REGISTER_BYTES, REGISTERS]

SERIAL = 1 << 20  # multiplications below which waking the other threads costs more than they save

_kept = threading.local()


def tile_width(dtype) -> int:
    """Columns of a tile."""
    return VECTORS * lanes(dtype)


def up(number: int, multiple: int) -> int:
    """Return the next multiple, from ``number`` on."""
    return -(-number // multiple) * multiple


def scratch(dtype, threads: int, share: int) -> np.ndarray:
    """Return memory in which each thread may use ``share`` elements, uninitialised.

    It is kept between calls: memory that is new costs more to touch than to fill.
    """
    memory = getattr(_kept, dtype.char, None)
    if memory is None or memory.size < threads * share:
        memory = aligned_empty.py_func(threads * share, np.empty(0, dtype))
        setattr(_kept, dtype.char, memory)
    return memory


def share_out(do_task):
    """Return a kernel that shares out tasks among the threads.

    It is called with (operands, tasks, work, memory, share), and calls do_task(operands, task, memory, start)
    for each task: a thread's share of the memory begins at ``start``. ``work`` are multiplications.
    """

    @jit
    def do_tasks(thread, team, counters, operands, tasks, memory, share):
        task = take((counters, thread, team), 0, tasks)
        while task < tasks:
            do_task(operands, task, memory, thread * share)
            task = take((counters, thread, team), 0, tasks)

    @jit(parallel=True)
    def kernel(operands, tasks, work, memory, share):
        threads = serial_below(SERIAL, work)
        team = min(get_num_threads(), memory.size // share)
        counters = new_counters(1, team)
        parallel_for(team, do_tasks, (team, counters, operands, tasks, memory, share))
        set_num_threads(threads)

    return kernel


def panels_of(weight: np.ndarray, groups: int) -> np.ndarray:
    """Return filters (taps, C/groups, F) as panels (groups, panels, taps, C/groups, width), all in a row.

    Zeros fill the last panel of a group.
    """
    taps, channels, filters = weight.shape
    width = tile_width(weight.dtype)
    some = filters // groups
    padded = np.zeros((taps, channels, groups, up(some, width)), weight.dtype)
    padded[..., :some] = weight.reshape(taps, channels, groups, some)
    panels = padded.reshape(taps, channels, groups, -1, width).transpose(2, 3, 0, 1, 4)
    memory = aligned_empty.py_func(padded.size, padded)
    memory.reshape(panels.shape)[:] = panels
    return memory


@jit(refcount=False)
def copy_picture(x, start, size, channels, corner, target, to, shape, some, pixel):
    """Copy a part of a picture, with zeros where the part is larger: the border of a convolution.

    start
        Where the picture begins in x; its first channel, or another one.
    size
        Its height and width.
    channels
        Numbers of a pixel.
    corner
        Row and column of the picture with which the part begins; negative in the border.
    shape
        Height and width of the part, which begins at target[to].
    some
        How many channels are copied.
    pixel
        Numbers of a pixel in the target: ``some``, or more, and zeros after them.
    """
    (height, width), (top, left), (rows, columns) = size, corner, shape
    first = min(max(0, -left), columns)
    last = max(first, min(columns, width - left))
    for y in range(rows):
        line = to + y * columns * pixel
        if top + y < 0 or top + y >= height:
            clear(target, line, columns * pixel)
            continue
        source = start + ((top + y) * width + left + first) * channels
        clear(target, line, first * pixel)
        if pixel == channels:
            _copy(x, source, target, line + first * pixel, (last - first) * channels)
        else:
            for i in range(last - first):
                at = line + (first + i) * pixel
                _copy(x, source + i * channels, target, at, some)
                clear(target, at + some, pixel - some)
        clear(target, line + last * pixel, (columns - last) * pixel)


@jit(refcount=False)
def _copy(source, start, target, to, count):
    """target[to : to + count] = source[start : start + count]."""
    for i in range(0, count, lanes_of(target)):
        store(target, to + i, count - i, load(source, start + i, count - i))


@jit(refcount=False)
def clear(target, to, count):
    """target[to : to + count] = 0."""
    for i in range(0, count, lanes_of(target)):
        store(target, to + i, count - i, fill(target, 0.0))


@jit(refcount=False)
def add_pixels(memory, start, pixel, pixels, sums, to, count):
    """Add ``count`` numbers of pixels, which lie ``pixel`` apart from memory[start] on, to sums[to:]."""
    for c in range(0, count, lanes_of(memory)):
        total = fill(memory, 0.0)
        for q in range(pixels):
            total = total + load(memory, start + q * pixel + c, lanes_of(memory))
        store(sums, to + c, count - c, load(sums, to + c, count - c) + total)
