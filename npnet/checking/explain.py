"""One training step, told: what is computed, by which formula, how large it is, and whether it is right.

Nothing is told from a second list. The step runs on kernels that write down every call, and the formulas are
the docstrings of the kernels and rules that were called.
"""

import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from npnet.checking.differences import compare, differentiate, rounding_noise
from npnet.checking.gradient_check import float64_twin, measured_loss
from npnet.kernels import reference
from npnet.layers.layer import Layer
from npnet.losses import Loss
from npnet.models import Sequential
from npnet.training.batches import gather

__all__ = [
    "ENTRIES",
    "INDENT",
    "STEP",
    "TOLERANCE",
    "Array",
    "Call",
    "Explanation",
    "Nudge",
    "Operation",
    "Recorder",
    "array_of",
    "explain",
    "first_line",
    "formula",
    "heading",
    "left_sides",
    "titles",
    "told",
    "verdict",
    "wrapped",
]

STEP, TOLERANCE = 1e-3, 1e-8  # the largest nudge, and what counts as agreement
ENTRIES = 200  # numbers nudged in each array
INDENT = 4


class Call(NamedTuple):
    """A kernel that was called: the function whose docstring has the formula, arguments and results."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    results: tuple[Any, ...]


class Recorder:
    """The readable kernels, writing down their calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        kernel = getattr(reference, name)

        def recorded(*arguments: Any) -> Any:
            results = kernel(*arguments)
            function = arguments[0] if name in ("elementwise", "update") else kernel
            self.calls.append(
                Call(function, arguments, results if isinstance(results, tuple) else (results,))
            )
            return results

        return recorded

    def taken(self) -> list[Call]:
        """Return the calls since the last time, and forget them."""
        calls, self.calls = self.calls, []
        return calls


@dataclass
class Array:
    """An array in words: for a gradient, how far it is from nudging, None where it was not nudged."""

    name: str
    shape: tuple[int, ...]
    norm: float
    note: str = ""
    error: float | None = None

    def line(self, name: int, shape: int) -> str:
        """Return the array in a line, with columns of these widths."""
        words = f"{self.name:<{name}}  {self.shape!s:<{shape}}  norm {self.norm:<8.4g}"
        return f"{words} {self.note if self.error is None else verdict(self.error)}".rstrip()


@dataclass
class Operation:
    """A step on the way: its name, formulas with their reasons, and the arrays that came of it."""

    name: str
    formulas: list[str]
    reasons: list[str] = field(default_factory=list)
    arrays: list[Array] = field(default_factory=list)


@dataclass
class Explanation:
    """A whole training step.

    Attributes
    ----------
    forward, backward
        The links in the order they were computed.
    update
        The optimizer's formula, and what it did to each parameter.
    loss, after
        Of the batch before and after the step.
    promised
        What the gradient said the loss would change by: the sum of gradient times step.
    """

    forward: list[Operation]
    backward: list[Operation]
    update: Operation
    loss: float
    after: float
    promised: float

    @property
    def errors(self) -> list[float]:
        """How far each gradient is from nudging; NaN where the loss has a kink."""
        arrays = [array for operation in self.backward for array in operation.arrays]
        return [array.error for array in arrays if array.error is not None]

    @property
    def right(self) -> bool:
        """Whether every gradient agrees with nudging."""
        return all(error <= TOLERANCE for error in self.errors)

    def text(self, width: int = 80) -> str:
        """Return the story in lines of at most ``width`` columns."""
        lines = [
            *heading("FORWARD: what does the network say?", width),
            *told(self.forward, width),
            *heading("BACKWARD: who is to blame? dname is ∂loss/∂name, in the shape of name", width),
            *told(self.backward, width),
            *heading("UPDATE: do better", width),
            *told([self.update], width),
            *heading("AND NOW?", width),
        ]
        change = self.after - self.loss
        end = (
            f"On the same batch the loss goes from {self.loss:.6f} to {self.after:.6f}: {change:+.6f}."
            f" Gradient times step, summed over all weights, had said {self.promised:+.6f}; the rest is"
            " curvature."
        )
        return "\n".join([*lines, *textwrap.wrap(end, width)])


# --- running the step -----------------------------------------------------------------------------------


def explain(model: Sequential, x: Any, y: Any) -> Explanation:
    """Take one training step on a copy of a compiled model, in float64, and return its story.

    Parameters
    ----------
    x, y
        The batch.
    """
    setup = model.require_compiled("explain")
    samples = setup.samples(x, y)
    setup.prepare(samples.x)
    twin, recorder = float64_twin(model), Recorder()
    kernels: Any = recorder
    twin.use(kernels)
    twin.loss.kernels = kernels
    generators = [layer.rng.bit_generator for layer in twin.layers if layer.rng]
    states = [generator.state for generator in generators]
    chain = twin.links

    def loss_from(start: int, flow: np.ndarray, links: list[Layer], criterion: Loss) -> float:
        """Return the loss if the output of link ``start - 1`` were ``flow``."""
        for generator, state in zip(generators, states, strict=True):
            generator.state = state
        for link in links[start:]:
            flow = link.forward(flow, training=True)
        loss = float(criterion.forward(samples.y, flow)) + twin.penalty()
        recorder.calls.clear()  # of these nobody tells
        return loss

    flow = gather(samples.x, np.arange(len(samples)), np.float64)
    inputs, forward_calls = [flow], []
    for link in chain:
        flow = link.forward(flow, training=True)
        inputs.append(np.ascontiguousarray(flow))  # numbers are nudged in memory's order
        forward_calls.append(recorder.taken())
    loss = float(twin.loss.forward(samples.y, flow)) + twin.penalty()
    loss_calls = recorder.taken()
    links, dy = twin.require_compiled("explain").readable_step().start_of_backward()
    blames = [(len(links), dy, recorder.taken())]
    for i in reversed(range(len(links))):
        dy = links[i].backward(dy)
        blames.append((i, dy, recorder.taken()))
    twin.regularize()

    measured = measured_loss(twin)

    def nudged(start: int, flow: np.ndarray) -> float:
        """Return the loss that is differentiated, NaN where it is clipped."""
        return loss_from(start, flow, *measured) if measured else float("nan")

    nudge = Nudge(nudged, inputs[0], [parameter.value for parameter in twin.trainable_parameters])
    names = titles(twin)
    backward, letters = [], {}
    for i, dy, calls in blames:
        operation = Operation(*_of_backward(chain, i, calls, names, joined=i == len(links) < len(chain)))
        left = left_sides(operation.formulas) if i == len(links) or links[i].told_by_kernels else []
        if i < len(links):
            trained = [p for p in links[i].parameters if p in twin.trainable_parameters]
            for parameter, letter in zip(trained, left, strict=False):
                letters[id(parameter)] = letter[1:]
            for parameter in trained:
                name = f"d{letters[id(parameter)]}" if left else f"of {parameter.name}"
                error = nudge(i, inputs[i], parameter.value, parameter.grad)
                operation.arrays.append(array_of(name, parameter.grad, error=error))
        error = nudge(i, inputs[i], inputs[i], dy)
        operation.arrays.append(array_of(left[-1] if left else "dx", dy, error=error))
        backward.append(operation)

    forward = [Operation("input", [], arrays=[array_of("x", inputs[0])])]
    for i, (link, calls) in enumerate(zip(chain, forward_calls, strict=True)):
        operation = Operation(
            names[i], *_of_calls(calls if link.told_by_kernels else [], first_line(type(link)))
        )
        for parameter in link.parameters:
            letter = letters.get(id(parameter), parameter.name)
            operation.arrays.append(array_of(letter, parameter.value))
        zeros = np.mean(inputs[i + 1] == 0)
        note = f"{zeros:.0%} of it 0" if zeros > 0.01 else ""
        operation.arrays.append(array_of("y", inputs[i + 1], note))
        forward.append(operation)
    values = [array for call in loss_calls[:1] for array in call.results[:1]]
    forward.append(
        Operation(
            "loss", *_of_calls(loss_calls, first_line(type(twin.loss))),
            arrays=[array_of("L", v, f"loss {loss:.6f}") for v in values],
        )
    )  # fmt: skip

    update, promised = _update(twin, letters, recorder)
    after = loss_from(0, inputs[0], chain, twin.loss)
    return Explanation(forward, backward, update, loss, after, promised)


class Nudge:
    """Compares gradients with what the loss does when numbers are nudged."""

    def __init__(
        self, loss_from: Callable[[int, np.ndarray], float], x: np.ndarray, values: list[np.ndarray]
    ):
        self.loss_from = loss_from
        self.rng = np.random.default_rng(0)
        self.noise = rounding_noise(lambda: loss_from(0, x), [x, *values], self.rng)

    def __call__(self, start: int, flow: np.ndarray, values: np.ndarray, gradient: np.ndarray) -> float:
        """Return the error of the gradient of ``values``, NaN where nudging does not tell the derivative."""
        chosen = np.arange(values.size)
        if values.size > ENTRIES:
            chosen = np.sort(self.rng.choice(values.size, ENTRIES, replace=False))
        found = differentiate(lambda: self.loss_from(start, flow), values, chosen, STEP, self.noise)
        error = compare(gradient.reshape(-1)[chosen], found, TOLERANCE)
        return float("nan") if error is None else error


def _of_backward(
    chain: list[Layer], i: int, calls: list[Call], names: list[str], joined: bool
) -> tuple[str, list[str], list[str]]:
    """Return name, formulas and reasons of a step back: through link i, or out of the loss."""
    if i == len(chain):
        return "loss", *_of_calls(calls, "")
    if joined:
        return f"loss and {names[i]}", *_of_calls(calls, "")
    meaning = re.sub(r"^Return ", "dx = ", first_line(type(chain[i]).backward))
    return names[i], *_of_calls(calls if chain[i].told_by_kernels else [], meaning)


def _of_calls(calls: list[Call], otherwise: str) -> tuple[list[str], list[str]]:
    """Return the formulas of calls and their reasons; ``otherwise`` where no kernel was called."""
    if not calls:
        return ([otherwise] if otherwise else []), []
    formulas, reasons = zip(*(formula(call.function) for call in calls), strict=True)
    return [line for lines in formulas for line in lines], [line for lines in reasons for line in lines]


def _update(twin: Sequential, letters: dict[int, str], recorder: Recorder) -> tuple[Operation, float]:
    """Let the optimizer take its step; return its story, and the sum of gradient times step."""
    before = [parameter.value.copy() for parameter in twin.trainable_parameters]
    kernels: Any = recorder
    optimizer = twin.optimizer
    rate, decay = optimizer.learning_rate, optimizer.weight_decay
    optimizer.step(twin.trainable_parameters, kernels)
    operation = Operation(type(optimizer).__name__, [])
    for call in {call.function: call for call in recorder.taken()}.values():
        formulas, reasons = formula(call.function)
        operation.formulas += formulas
        operation.reasons += reasons
        if call.function is call.arguments[0]:  # an update's rule, whose last arguments are numbers
            numbers = call.arguments[-1]
            words = list(inspect.signature(call.function).parameters)[-len(numbers) :]
            settings = (f"{word} {number:.4g}" for word, number in zip(words, numbers, strict=True))
            operation.formulas.append(f"with {', '.join(settings)}")
    if decay:
        operation.formulas.append(f"before that every weight is multiplied by 1 - {rate:.4g} * {decay:.4g}")
    promised = 0.0
    owners = {id(p): layer.name for layer in twin.layers for p in layer.parameters}
    for parameter, old in zip(twin.trainable_parameters, before, strict=True):
        step = parameter.value - old
        promised += float((parameter.grad * step).sum())
        size = np.linalg.norm(step) / np.linalg.norm(old) if old.any() else None
        note = f"step {np.linalg.norm(step):.4g}" + (f", {size:.2%} of it" if size else "")
        name = f"{owners[id(parameter)]}/{letters.get(id(parameter), parameter.name)}"
        operation.arrays.append(array_of(name, old, note))
    return operation, promised


# --- words ----------------------------------------------------------------------------------------------


def formula(function: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """Return the formulas at the head of a kernel's or rule's docstring, and the lines that say why.

    >>> formula(reference.dense_backward_input)
    (["Whom do I blame?  dx = dy W'  (N, D)"], ['dx[n,i] = sum_j ∂y[n,j]/∂x[n,i] dy[n,j] = ...'])
    """
    head, *others = (inspect.getdoc(function) or function.__name__).split("\n\n")
    reasons = [line for paragraph in others for line in paragraph.splitlines()]
    if reasons and not re.search(r"=|<-", head):  # a sentence; the formulas follow
        return reasons, []
    sentence = head.replace("\n", " ").partition(".  ")[0]  # without a remark about arguments
    return [sentence.rstrip(".")], reasons


def first_line(thing: Any) -> str:
    """Return the first line of a docstring, without its full stop."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].rstrip(".")


def left_sides(formulas: list[str]) -> list[str]:
    """Return the names of the gradients that formulas give: ["dW", "db", "dx"]."""
    return re.findall(r"(?<![\w∂/])(d[A-Za-z]\w*?)(?:_k)? =", "  ".join(formulas))


def titles(model: Sequential) -> list[str]:
    """Return a name for each link: the layer's, or the activation's with the layer it belongs to."""
    return [
        layer.name if link is layer else f"{type(link).__name__} of {layer.name}"
        for layer in model.layers
        for link in layer.chain()
    ]


def array_of(name: str, array: np.ndarray, note: str = "", error: float | None = None) -> Array:
    """Describe an array."""
    return Array(name, array.shape, float(np.linalg.norm(array)), note, error)


def verdict(error: float) -> str:
    """Return in words how a gradient compares with nudging."""
    if np.isnan(error):
        return "at a kink or clipped: nudging tells nothing"
    return f"nudged {error:.0e}" + ("" if error <= TOLERANCE else " WRONG")


def heading(text: str, width: int) -> list[str]:
    """Return a heading with room around it."""
    return ["", *textwrap.wrap(text, width), ""]


def told(operations: list[Operation], width: int) -> list[str]:
    """Return the lines of operations; reasons are given the first time only."""
    lines, known = [], set()
    for number, operation in enumerate(operations, 1):
        lines.append(f"{number:>2}. {operation.name}" if len(operations) > 1 else f"    {operation.name}")
        for text in operation.formulas:
            lines += wrapped(text, width, INDENT + 2)
        for reason in operation.reasons:
            if reason not in known:
                known.add(reason)
                lines += wrapped(f"| {reason}", width, INDENT + 4, "| ")
        columns = [max(len(str(part)) for part in parts) for parts in zip(
            *((array.name, array.shape) for array in operation.arrays), strict=True)]  # fmt: skip
        for array in operation.arrays:
            lines += wrapped(array.line(*columns), width, INDENT + 2)
    return lines


def wrapped(text: str, width: int, indent: int, again: str = "") -> list[str]:
    """Return a text in lines of at most ``width`` columns, those after the first a little further in."""
    return textwrap.wrap(
        text, width, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2) + again,
        break_long_words=False, break_on_hyphens=False, drop_whitespace=True,
    )  # fmt: skip
