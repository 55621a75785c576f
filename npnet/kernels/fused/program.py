"""Programs: the phases of training steps, carried out one after the other inside one parallel loop.

Starting a parallel loop costs microseconds while its threads are awake and a tenth of a millisecond when they
have gone to sleep. Steps whose phases share one loop pay once. A program is a table with a row for each phase
(``Phase``): what is done, on which arrays, and which phase it waits for. The kernel that reads it is compiled
once for all networks; so is each operation, which is called by its address.

All panels of a plan lie in one array, ``flows``, all weights with their slots in another (``layouts.py`` says
how). ``flow_table`` and ``layer_table`` say where each begins.
"""

from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, typeof, types
from numba._dispatcher import compute_fingerprint
from numba.np.unsafe.ndarray import to_fixed_tuple

from npnet.kernels.fused import matrix_unit, vector_unit
from npnet.kernels.fused.vector_unit import apply_update, gather_tasks, softmax_tasks
from npnet.kernels.machine.addresses import call
from npnet.kernels.machine.helper import Job, compile_all
from npnet.kernels.machine.jit import get_num_threads, jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for_flushing
from npnet.kernels.machine.tasks import done, new_counters, take, wait
from npnet.kernels.products.amx import BFLOAT16, EXACT_LEFT, FLOAT32, SIDE
from npnet.kernels.products.tiles import width_of
from npnet.kernels.vectors.memory import lanes_of, load, load_planes, store_planes
from npnet.kernels.vectors.registers import AMX
from npnet.kernels.vectors.views import array_at, view

__all__ = [
    "AMX", "BFLOAT16", "LAYER_COLUMNS", "NOBODY", "LayerPlace", "Operands", "Phase", "apply", "backward",
    "forward", "gather", "gradient", "precision_of", "run", "softmax_cross_entropy", "tasks_of", "update",
    "update_forward",
]  # fmt: skip

SERIAL = 1 << 21  # multiplications up to which waking the other threads costs more than they save
NOBODY = -1  # what a phase waits for that needs nobody's results


class Phase(NamedTuple):
    """A row of a program. Numbers of flows and layers are rows of their tables.

    Attributes
    ----------
    operation
        Which of the program's operations.
    step
        Which of the steps: the row of batches, targets, losses and hyperparameters.
    after, also
        The phases whose results it needs, or NOBODY.
    layer
        The weights.
    x, y
        The flow that comes in, the flow that goes out.
    z
        What the activation's derivative reads: x W + b, or y.
    dy, dx
        The gradients of y and of x.
    next_x
        The flow of the next batch, for an update that is one pass with the next forward.
    constants
        Where the activation's numbers begin.
    """

    operation: int = 0
    step: int = 0
    after: int = NOBODY
    also: int = NOBODY
    layer: int = 0
    x: int = 0
    y: int = 0
    z: int = 0
    dy: int = 0
    dx: int = 0
    next_x: int = 0
    constants: int = 0


class LayerPlace(NamedTuple):
    """Where a layer's weights lie among those of all layers.

    Attributes
    ----------
    inputs, units
        The rows and columns of W that do not only fill up squares.
    planes
        Weights and slots.
    weight, bias
        Where the squares and the biases begin, with their slots.
    bias_columns
        Biases, with those that only fill up a panel: 0 without biases.
    gradient, bias_gradient
        Where their gradients begin.
    """

    inputs: int
    units: int
    planes: int
    weight: int
    bias: int
    bias_columns: int
    gradient: int
    bias_gradient: int


LAYER_COLUMNS = len(LayerPlace._fields)


class Operands(NamedTuple):
    """What the phases of a program work on.

    Attributes
    ----------
    flows, flow_table
        All panels (``rows`` rows each), and for each flow where it begins and its number of panels.
    weights, gradients, layer_table
        All squares and biases, and a ``LayerPlace`` for each layer.
    samples, columns, selected, scale, offset
        The address of the user's samples (N, D), D, which of them make the batch of each step, and what
        converts them.
    factor
        What the gathered numbers are to be multiplied by, where they are on levels (``levels.py``).
    targets, sample_weight, loss_scale
        For each step; ``sample_weight`` may have no columns: then every sample weighs 1.
    losses, y_pred
        Written: each sample's weighted loss and its probabilities.
    decay, hyperparameters
        Of the optimizer, a row for each step.
    constants
        Numbers of the activations.
    """

    rows: int
    flows: np.ndarray
    flow_table: np.ndarray
    weights: np.ndarray
    gradients: np.ndarray
    layer_table: np.ndarray
    samples: int
    columns: int
    selected: np.ndarray
    scale: float
    offset: float
    factor: float
    targets: np.ndarray
    sample_weight: np.ndarray
    loss_scale: float
    losses: np.ndarray
    y_pred: np.ndarray
    decay: np.ndarray
    hyperparameters: np.ndarray
    constants: np.ndarray


def precision_of(dtype, n, on_levels=False):
    """The precision in which products with n samples of this dtype run on the processor's matrix unit.

    None means that they run on its vector unit: with so few samples that they fill one of the matrix unit's
    squares, moving the weights takes longer than multiplying, and three products were no quicker than six.
    ``on_levels``: the samples on the left are.
    """
    if AMX and dtype == np.float32 and n > SIDE:
        return EXACT_LEFT if on_levels else FLOAT32
    return None


def _factor_of(precision):
    """The kernel that returns the last arguments of a phase that reads x."""

    @jit(spliced=True)
    def none(operands):
        return ()

    @jit(spliced=True)
    def factor(operands):
        return (operands.factor,)

    return factor if precision == EXACT_LEFT else none


def tasks_of(phase, precision, *arguments):
    """The tasks of a phase that multiplies matrices."""
    if precision is None:
        return getattr(vector_unit, f"{phase}_tasks")(*arguments)
    return getattr(matrix_unit, f"{phase}_tasks")(precision, *arguments)


# --- where things are ------------------------------------------------------------------------------------


@jit
def _flow(operands, number):
    """The panels of a flow."""
    start, panels = operands.flow_table[number, 0], operands.flow_table[number, 1]
    return view(operands.flows, start, (panels, operands.rows, width_of(operands.flows)))


@jit
def _place(operands, number):
    """Where a layer's weights lie, how many panels they are, and of how many squares."""
    w = width_of(operands.weights)
    place = LayerPlace(*to_fixed_tuple(operands.layer_table[number], LAYER_COLUMNS))
    return place, -(-place.units // w), -(-place.inputs // w)


@jit
def _weights(operands, number):
    """The squares of a layer's weights with their slots, their shape, and its biases with their slots."""
    (place, panels, squares), w = _place(operands, number), width_of(operands.weights)
    return (
        view(operands.weights, place.weight, (panels, squares, place.planes, w, w)),
        (place.inputs, place.units),
        view(operands.weights, place.bias, (place.planes, place.bias_columns)),
    )


@jit
def _gradients(operands, number):
    """The gradients of a layer's weights and biases, laid out as those are."""
    (place, panels, squares), w = _place(operands, number), width_of(operands.weights)
    return (
        view(operands.gradients, place.gradient, (panels, squares, 1, w, w)),
        (place.inputs, place.units),
        view(operands.gradients, place.bias_gradient, (1, place.bias_columns)),
    )


# --- operations: what a phase does -----------------------------------------------------------------------
# Each returns the function (team, number, phase, operands) that does its share of a phase beside the other
# threads, and returns how many tasks the phase has.


def _operation(make: Callable) -> Callable:
    """Make each operation once, and let it know how it was made, for a process that helps to compile it."""

    @cache
    @wraps(make)
    def made(*arguments):
        operation = make(*arguments)
        operation.make = partial(made, *arguments)
        return operation

    return made


@_operation
def gather(dtype):
    """y = scale x[index] + offset, as panels, of samples in this dtype."""
    kind = from_dtype(dtype)

    @jit(addressed=True)
    def operation(team, number, phase, operands):
        samples = array_at(operands.samples, kind, (0, operands.columns))
        scaling = operands.scale, operands.offset
        out = _flow(operands, phase.y)
        return gather_tasks(team, number, samples, operands.selected[phase.step], out, scaling)

    return operation


@_operation
def forward(precision, rule, remembers_x, constants):
    """y = rule(x W + b, *constants); z = x W + b if the rule's derivative wants that."""
    tasks, factor = tasks_of("forward", precision, rule, remembers_x), _factor_of(precision)

    @jit(addressed=True)
    def operation(team, number, phase, operands):
        weight, shape, bias = _weights(operands, phase.layer)
        return tasks(
            team, number, _flow(operands, phase.x), weight, shape, bias, operands.selected.shape[1],
            _flow(operands, phase.z), _flow(operands, phase.y),
            to_fixed_tuple(operands.constants[phase.constants :], constants), *factor(operands),
        )  # fmt: skip

    return operation


@_operation
def softmax_cross_entropy():
    """The weighted losses and softmax of logits x, and dx = d loss / d x."""

    @jit(addressed=True)
    def operation(team, number, phase, operands):
        step = phase.step
        return softmax_tasks(
            team, number, _flow(operands, phase.x), operands.targets[step], operands.sample_weight[step],
            operands.losses[step], operands.y_pred[step], _flow(operands, phase.dx), (operands.loss_scale,),
        )  # fmt: skip

    return operation


@_operation
def backward(precision, rule, constants):
    """dx = rule(dy W', z, *constants), where the rule is the derivative of the activation that made x."""
    tasks = tasks_of("backward", precision, rule)

    @jit(addressed=True)
    def operation(team, number, phase, operands):
        weight, shape, _ = _weights(operands, phase.layer)
        return tasks(
            team, number, _flow(operands, phase.dy), weight, shape, operands.selected.shape[1],
            _flow(operands, phase.z), _flow(operands, phase.dx),
            to_fixed_tuple(operands.constants[phase.constants :], constants),
        )  # fmt: skip

    return operation


@_operation
def update(precision, rule, slots, hyperparameters):
    """W, slots <- rule(decay W, x' dy, slots), and of b: the gradient is never stored."""
    tasks, factor = tasks_of("update", precision, rule, slots), _factor_of(precision)

    @jit(addressed=True)
    def operation(team, number, phase, operands):
        weight, shape, bias = _weights(operands, phase.layer)
        return tasks(
            team, number, _flow(operands, phase.x), _flow(operands, phase.dy), operands.selected.shape[1],
            weight, shape, bias, operands.decay[phase.step],
            to_fixed_tuple(operands.hyperparameters[phase.step], hyperparameters), *factor(operands),
        )  # fmt: skip

    return operation


@_operation
def update_forward(precision, rule, slots, hyperparameters, activation, remembers_x, constants):
    """``update`` with the present batch and ``forward`` with the next one, in one pass over the weights.

    With samples on levels it is one of the two where x or next_x is NOBODY: three kernels would take three
    times as long to compile.
    """
    tasks = tasks_of("update_forward", precision, rule, slots, activation, remembers_x)

    @jit(spliced=True)
    def as_it_is(operands, phase):
        return ()

    @jit(spliced=True)
    def on_levels(operands, phase):
        return operands.factor, phase.x != NOBODY, phase.next_x != NOBODY

    more = on_levels if precision == EXACT_LEFT else as_it_is

    @jit(addressed=True)
    def operation(team, number, phase, operands):
        weight, shape, bias = _weights(operands, phase.layer)
        return tasks(
            team, number, _flow(operands, max(phase.x, 0)), _flow(operands, phase.dy),
            operands.selected.shape[1],
            weight, shape, bias, operands.decay[phase.step],
            to_fixed_tuple(operands.hyperparameters[phase.step], hyperparameters),
            _flow(operands, max(phase.next_x, 0)),
            _flow(operands, phase.z), _flow(operands, phase.y),
            to_fixed_tuple(operands.constants[phase.constants :], constants), *more(operands, phase),
        )  # fmt: skip

    return operation


@jit
def _keep(before, gradient):
    return (gradient,)


@_operation
def gradient(precision):
    """dW = x' dy and db, as arrays: to clip them, to look at them, to add them up."""
    tasks, factor = tasks_of("update", precision, _keep, 0), _factor_of(precision)

    @jit(addressed=True)
    def operation(team, number, phase, operands):
        weight, shape, bias = _gradients(operands, phase.layer)
        return tasks(
            team, number, _flow(operands, phase.x), _flow(operands, phase.dy), operands.selected.shape[1],
            weight, shape, bias, 1.0, (), *factor(operands),
        )  # fmt: skip

    return operation


@_operation
def apply(rule, slots, hyperparameters):
    """W, slots <- rule(decay W, gradient, slots), and of b, with the gradients that ``gradient`` stored."""
    apply_square, _ = apply_update(rule, slots)
    planes = (0,) * (1 + slots)

    @jit
    def apply_bias(bias, gradient, decay, hyperparameters):
        for j in range(0, bias.shape[1], lanes_of(bias)):
            before = load_planes(bias, j, bias.shape[1], planes)
            after = rule(before[0] * decay, load(gradient, j, lanes_of(bias)), *before[1:], *hyperparameters)
            store_planes(bias, j, bias.shape[1], after)

    @jit(addressed=True)
    def operation(team, number, phase, operands):
        weight, shape, bias = _weights(operands, phase.layer)
        gradient, _, bias_gradient = _gradients(operands, phase.layer)
        (inputs, units), w = shape, width_of(weight)
        decay = operands.decay[phase.step]
        numbers = to_fixed_tuple(operands.hyperparameters[phase.step], hyperparameters)
        squares, tasks = weight.shape[1], weight.shape[0] + 1
        task = take(team, number, tasks)
        while task < tasks:
            if task == weight.shape[0]:
                apply_bias(bias, bias_gradient, decay, numbers)
            else:
                for q in range(squares):
                    square = task * squares + q
                    apply_square(
                        weight, square * weight.shape[2] * w * w, gradient, square * w * w, 0,
                        min(w, inputs - q * w), units - task * w, decay, numbers,
                    )  # fmt: skip
            done(team, number)
            task = take(team, number, tasks)
        return tasks

    return operation


# --- carrying programs out -------------------------------------------------------------------------------


@jit
def _work(thread, threads, counters, program, addresses, operands):
    """What one thread does: its share of each phase, in order."""
    team = counters, thread, threads
    tasks = np.empty(len(program), np.int64)
    for number in range(len(program)):
        row = program[number]
        phase = Phase(
            row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10], row[11]
        )
        if phase.after != NOBODY:
            wait(team, phase.after, tasks[phase.after])
        if phase.also != NOBODY:
            wait(team, phase.also, tasks[phase.also])
        tasks[number] = call(addresses[phase.operation], (team, number, phase, operands))


@jit(parallel=True)
def _carry_out(program, addresses, operands, multiplications):
    threads = serial_below(SERIAL, multiplications)
    team = get_num_threads()
    counters = new_counters(len(program), team)
    parallel_for_flushing(team, _work, (team, counters, program, addresses, Operands(*operands)))
    set_num_threads(threads)


def run(operations, program, operands, multiplications):
    """Carry out a program: an int64 table with a ``Phase`` in each row.

    Parameters
    ----------
    operations
        The tuple of operations that the rows number.
    operands
        ``Operands``.
    multiplications
        How much work it is: little is done by one thread.
    """
    # Numba finds the type of a plain tuple in a microsecond, that of a NamedTuple, in Python, in two hundred.
    plain = tuple(operands)
    key = operations, compute_fingerprint(plain)  # all that the type depends on
    if key not in _addresses:
        _addresses[key] = _compiled(operations, typeof(operands), typeof(plain))
    _carry_out(program, _addresses[key], plain, multiplications)


_TEAM = types.Tuple((types.Array(types.int64, 1, "C"), types.intp, types.intp))
_TABLE, _NUMBERS = types.Array(types.int64, 2, "C"), types.Array(types.int64, 1, "C")
_addresses: dict[Any, np.ndarray] = {}  # where operations' machine code lies, by their operands' types


def _loop():
    """Return the kernel that carries out a program: by this name another process finds it."""
    return _carry_out


def _compiled(operations, operands, plain):
    """Where the machine code of the operations lies, for operands of this type, and of the plain tuple's."""
    arguments = _TEAM, types.int64, typeof(Phase()), operands
    jobs = [Job(operation.make, arguments) for operation in operations]
    compile_all([Job(_loop, (_TABLE, _NUMBERS, plain, types.int64)), *jobs])
    return np.array([operation.address(arguments) for operation in operations], np.int64)
