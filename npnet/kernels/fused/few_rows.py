"""Dense layers with their activations, one after the other, for FEW_ROWS samples at most: one call.

For one sample the small layers of a network take a few microseconds each, as long as a call from Python. The
kernel reads a table with a row for each layer (``Row``) and is compiled once for all networks. Activations
are kernels of their own, which it calls by their addresses.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import from_dtype, types
from numba.np.unsafe.ndarray import to_fixed_tuple

from npnet.kernels.machine.addresses import call
from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.parallel.arrays import flat
from npnet.kernels.parallel.layers import softmax_row
from npnet.kernels.products.few import PART, SERIAL, add_part, add_up
from npnet.kernels.rules import linear
from npnet.kernels.vectors.memory import lanes_of, load, store
from npnet.kernels.vectors.views import array_at, view

__all__ = ["Layer", "Network", "can_read", "forward", "network", "takes"]


class Layer(NamedTuple):
    """y = activation(x W + b).

    Attributes
    ----------
    weight, bias
        W (D, M), and b (M,) or None.
    activation
        A function of ``rules``, or the name of the kernel that computes it row by row: "softmax_forward".
    constants
        Further arguments of the rule.
    """

    weight: np.ndarray
    bias: np.ndarray | None
    activation: Callable | str = linear
    constants: tuple[float, ...] = ()


class Row(NamedTuple):
    """What the table says of a layer.

    Attributes
    ----------
    weight, bias, finish
        The addresses of W, of b, and of the kernel that makes y of x W + b.
    inputs, units
        D and M.
    constants
        Where its constants begin among those of all layers.
    """

    weight: int
    bias: int
    finish: int
    inputs: int
    units: int
    constants: int


COLUMNS = len(Row._fields)


class Network(NamedTuple):
    """Layers as the kernel takes them.

    Attributes
    ----------
    arrays
        All weights and biases: the table holds their addresses.
    table, constants
        A ``Row`` for each layer, and the constants of all.
    memory
        How many numbers the kernel writes for each row of x: the sums and y of all layers.
    run
        The kernel, as it is called for these layers: on all threads, or on one if all layers are small.
    """

    arrays: list[np.ndarray]
    table: np.ndarray
    constants: np.ndarray
    memory: int
    run: Callable


def can_read(layers):
    """Whether the layers fit each other, and all arrays are of one dtype and lie in memory order."""
    inputs, dtype = layers[0].weight.shape[:1], layers[0].weight.dtype
    for weight, bias, _, _ in layers:
        units = weight.shape[1:]
        if weight.shape[:1] != inputs or len(units) != 1 or (bias is not None and bias.shape != units):
            return False
        for array in (weight,) if bias is None else (weight, bias):
            if array.dtype != dtype or not (array.flags.c_contiguous and array.flags.aligned):
                return False
        inputs = units
    return dtype in (np.float32, np.float64)


def network(layers):
    """The network of these layers, which ``can_read``."""
    arrays, table, constants, memory = [], [], [], 0
    for weight, bias, activation, numbers in layers:
        if bias is None:
            bias = np.zeros(weight.shape[1], weight.dtype)
        if isinstance(activation, str):
            finish = _row_wise(activation)
        else:
            finish = _elementwise(activation, len(numbers))
        places = weight.ctypes.data, bias.ctypes.data, _address(finish, weight.dtype)
        table.append(Row(*places, *weight.shape, len(constants)))
        arrays += weight, bias
        constants += numbers
        memory += (-(-len(weight) // PART) + 1) * bias.size
    run = _forward.below(SERIAL, max(array.size for array in arrays))
    return Network(arrays, np.array(table), np.array(constants, np.float64), memory, run)


def takes(network, x):
    """Whether x is of the shape (N, D) and the dtype that the network's first layer takes."""
    weight = network.arrays[0]
    return x.dtype == weight.dtype and x.shape[1:] == weight.shape[:1]


def forward(network, x):
    """y of the last layer for x (N, D), N at most FEW_ROWS."""
    rows, units = len(x), network.arrays[-1].size
    memory = np.empty(rows * network.memory, x.dtype)
    network.run(network.table, network.constants, flat(x), memory)
    return memory[-rows * units :].reshape(rows, units).copy()


@jit(parallel=True, refcount=False)
def _forward(table, constants, x, memory):
    """Write the sums of each layer's parts (``few.py``) and its y to memory, one behind the other.

    x is given as its numbers, row by row.
    """
    rows, place = x.size // table[0, 3], 0
    for number in range(table.shape[0]):
        row = view(table, number * COLUMNS, (COLUMNS,))
        layer = Row(*to_fixed_tuple(row, COLUMNS))
        weight = array_at(layer.weight, x.dtype, (layer.inputs * layer.units,))
        bias = array_at(layer.bias, x.dtype, (layer.units,))
        parts = -(-layer.inputs // PART)
        sums = view(memory, place, (parts, rows, layer.units))
        threads = serial_below(SERIAL, weight.size)
        parallel_for(parts, add_part, (x, weight, sums))
        set_num_threads(threads)
        z = view(memory, place, (rows, layer.units))  # in place of the first part
        add_up(sums, bias, z)
        place += parts * rows * layer.units
        y = view(memory, place, (rows, layer.units))
        call(layer.finish, (z, view(constants, layer.constants, (constants.size,)), y))
        x = view(memory, place, (rows * layer.units,))
        place += rows * layer.units


# --- what finishes a layer -------------------------------------------------------------------------------
# Each of these returns a kernel that writes y (N, M), given z = x W + b. It returns 0 because
# ``addresses.call`` expects a number.


@cache
def _elementwise(rule, count):
    """y = rule(z, *constants), with ``count`` constants."""

    @jit(addressed=True, refcount=False)
    def finish(z, constants, y):
        numbers = to_fixed_tuple(constants, count)
        for i in range(0, z.size, lanes_of(z)):
            store(y, i, z.size - i, rule(load(z, i, z.size - i), *numbers))
        return 0

    return finish


@cache
def _row_wise(name):
    """y = softmax(z) or its logarithm, as the kernel of this name has it."""
    row = softmax_row(name)

    @jit(addressed=True, refcount=False)
    def finish(z, constants, y):
        for r in range(z.shape[0]):
            row(r, z, y)
        return 0

    return finish


@cache
def _address(finish, dtype):
    """The address of a kernel that finishes layers of this dtype."""
    kind = from_dtype(dtype)
    numbers = types.Array(kind, 2, "C")
    return finish.address((numbers, types.Array(types.float64, 1, "C"), numbers))
