"""The plan of a fused step: which links are computed as one, and the programs that compute them.

The results agree with the readable step to rounding. A Dense with its activation is one stage: bias and
activation are applied while a tile of the product is at hand; in the backward pass a tile of the weight
gradient goes straight into the optimizer's rule. A convolution with its activation and max pooling is one
stage, too, and multiplies its input's gradient by the derivative of the activation before it; and so is batch
normalisation with the activation behind it. Where gradients are clipped they are needed whole: they are then
written to memory first, clipped, and applied. Links that cannot be fused run as they are, on rows.

Fused is only what is exactly known (``stages.KNOWN``), and everything the plan was made from is compared with
what it was before each call: a subclass with a formula of its own runs as it is written, and a setting that
has changed makes a new plan.

Where the weights are meanwhile, and who gets them back when, is in ``weights.py``.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import is_, itemgetter
from typing import Any

import numpy as np

from npnet.internal.exact import Settings
from npnet.internal.strict import is_own
from npnet.layers.core import Dense
from npnet.layers.layer import Layer
from npnet.losses import CategoricalCrossentropy
from npnet.optimizers import Optimizer
from npnet.training.batches import Batch
from npnet.training.fused import stages
from npnet.training.fused.convolutions import FusedConvolution, can_convolve
from npnet.training.fused.flows import AddUp, Call, Flow, Meeting, Memory, Precisions, Todo
from npnet.training.fused.normalization import FusedNormalization, can_normalize
from npnet.training.fused.stages import KNOWN, FusedDense, Stage, Todos, multiplies_bfloat16
from npnet.training.fused.weights import GivesBack, Weights, taking_steps
from npnet.training.step import Result, Step, joined

__all__ = ["FusedStep", "Plan", "Writer", "can_fuse", "plan"]

MOST_STEPS = 32  # in one call
WORK_AT_ONCE = 1 << 33  # multiplications of their forward passes: 0.15 s on two cores of a server
SIZES_KEPT = 2  # of batches whose memories are kept
OUTPUT_AT_ONCE = 1 << 22  # predictions of one call: 16 MiB of float32


def plan(step: Step, whole_gradients: bool = False, begin_update: Meeting | None = None) -> "Plan | None":
    """Return a plan for the step, or None where there is nothing to fuse.

    That is without a convolution, and without a trained Dense whose update is fused: that takes an optimizer
    whose rule the kernels know, and that does not average the weights.

    Parameters
    ----------
    whole_gradients
        Compute all gradients before the first parameter changes: to clip them, to look at them.
    begin_update
        What the update begins with, instead of adding the regularizers' gradients. If the optimizer does not
        clip, it updates the weights of fused stages, too, and has their slots (``Plan.slots_apart``).
    """
    links = step.chain.links
    if any(map(can_convolve, links)) or (can_update(step.optimizer) and any(map(can_fuse, links))):
        return Plan(step, whole_gradients, begin_update)
    return None


def can_update(optimizer: Optimizer) -> bool:
    """Whether the kernels know what the optimizer does with a gradient."""
    return optimizer in KNOWN and not optimizer.use_ema


def can_fuse(link: Layer) -> bool:
    """Whether a link is a Dense that is trained, without penalty or constraint.

    One that multiplies bfloat16 is left as it is where no matrix unit does so.
    """
    if link not in KNOWN or not isinstance(link, Dense) or not link.trainable:
        return False
    if multiplies_bfloat16(link) and not stages.program().AMX:
        return False
    return all(p.trainable and p.regularizer is None and p.constraint is None for p in link.parameters)


class FusedStep:
    """Training steps with as much fused as can be: a plan, made anew when something has changed.

    Parameters
    ----------
    step
        What the steps are.
    begin_update
        Of plans with whole gradients; None: they are made as the optimizer needs them.
    """

    def __init__(self, step: Step, begin_update: Meeting | None = None):
        self.step = step
        self.begin_update = begin_update
        self.plan: Plan | None = None
        self.made_from: MadeFrom | None = None
        self.as_written = True

    def __call__(self, x: np.ndarray, batches: list[Batch]) -> list[Result]:
        """Take a step for each batch."""
        with self.step.chain.lock:
            present = self.current()
            if present is not None:
                with taking_steps():
                    return present(x, batches)
        return self.step(x, batches)

    def at_once(self, batch_size: int) -> int:
        """Return how many steps of this many samples to take in one call."""
        present = self.current()
        return 1 if present is None else present.at_once(batch_size)

    def outputs(self, x: np.ndarray, batch: Batch) -> np.ndarray:
        """Return the predictions for a batch."""
        return self.step.outputs(x, batch)

    def collect(self) -> None:
        """Do nothing: who reads the optimizer's memory gets it back."""

    def current(self) -> "Plan | None":
        """Return the plan for the step as it is now."""
        if self.made_from is None or not self.made_from.holds():
            made_from, whole = MadeFrom(self.step), self.begin_update is not None
            self.plan = plan(self.step, whole, self.begin_update) if self.as_written else None
            self.made_from = made_from
        return self.plan

    def look_at_classes(self) -> None:
        """Look whether somebody has rewritten a class: before a training, not before each of its steps."""
        step = self.step
        as_written = KNOWN.unchanged([*step.chain.links, step.loss, step.optimizer])
        if as_written != self.as_written:
            self.as_written, self.made_from = as_written, None


# What changes from step to step and decides nothing: what links and losses remember, optimizers count.
REMEMBERED = frozenset(
    {
        "x", "y", "remembered", "geometry", "taken", "sample_shape", "kernels", "normalized", "variance",
        "frozen",
    }
)  # fmt: skip
OF_THE_LOSS = frozenset({"y_true", "y_pred", "weight", "probabilities", "kernels"})
COUNTED = frozenset({"iterations", "memory", "trains", "schedule", "_learning_rate"})
NUMBERS = frozenset({"array", "grad", "home", "_slots"})


class MadeFrom:
    """Everything a plan is made from, as it is now."""

    def __init__(self, step: Step):
        self.step = step
        links = step.chain.links
        self.objects = self._objects()
        self.settings = Settings(
            [
                *((link, REMEMBERED) for link in links if link in KNOWN),
                *((parameter, NUMBERS) for link in links for parameter in link.parameters),
                (step.loss, OF_THE_LOSS),
                (step.optimizer, COUNTED),
            ]
        )
        self.others = [(link, link.trainable) for link in links if link not in KNOWN]

    def _objects(self) -> list[Any]:
        step, links = self.step, self.step.chain.links
        parameters = [parameter for link in links for parameter in link.parameters]
        return [step.chain.dtype, step.loss, step.optimizer, *links, *parameters]

    def holds(self) -> bool:
        """Whether all of it is the same now."""
        objects = self._objects()
        return (
            len(objects) == len(self.objects)
            and all(map(is_, objects, self.objects))
            and self.settings.hold()
            and all(link.trainable == trainable for link, trainable in self.others)
        )


class Plan:
    """Fused training steps of one chain, loss and optimizer, as they are now.

    Attributes
    ----------
    slots_apart
        Whether weights lie as their gradients do, without slots, and ``begin_update`` updates both.
    slots
        Who has them then.
    """

    slots: GivesBack | None = None

    def __init__(
        self,
        step: Step,
        whole_gradients: bool,
        begin_update: Meeting | None = None,
    ):
        self.step = step
        fuses = can_update(step.optimizer)
        self.dense = [link for link in step.chain.links if fuses and can_fuse(link)]
        self.whole_gradients = bool(self.dense) and (whole_gradients or step.optimizer.clips)
        self.begin_update = begin_update or Meeting(self._regularize)
        self.slots_apart = bool(self.dense) and begin_update is not None and not step.optimizer.clips
        self.panel_counts: list[int] = []
        self.arrays_of_rows = 0
        self.layers: list[tuple[int, int, bool]] = []
        self.constants: list[float] = []
        self.memories: dict[int, dict[int, Memory]] = defaultdict(dict)
        self._make_stages()
        self._lay_out_weights()
        self._make_todos()
        self.numbers = np.array(self.constants, np.float64)

    # --- space for stages -------------------------------------------------------------------------------

    def new_panels(self, columns: int) -> int:
        """Return the number of new panels for so many columns."""
        from npnet.kernels.products.tiles import width

        self.panel_counts.append(-(-columns // width(self.step.chain.dtype)))
        return len(self.panel_counts) - 1

    def new_rows(self) -> int:
        """Return the number of a new array of rows."""
        self.arrays_of_rows += 1
        return self.arrays_of_rows

    def new_layer(self, inputs: int, units: int, has_bias: bool) -> int:
        """Return the number of new weights."""
        self.layers.append((inputs, units, has_bias))
        return len(self.layers) - 1

    def new_constants(self, numbers: tuple[float, ...]) -> int:
        """Return where these numbers begin among the plan's constants."""
        self.constants += numbers
        return len(self.constants) - len(numbers)

    def weights_of(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the squares and biases of a layer, with their slots."""
        place = self.places[layer]
        return self._part(place, self.weights, place.planes, place.weight, place.bias)

    def part_of(self, layer: int, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a layer's squares and biases, of numbers that lie as gradients do."""
        place = self.places[layer]
        return self._part(place, numbers, 1, place.gradient, place.bias_gradient)

    def _part(
        self, place: Any, numbers: np.ndarray, planes: int, start: int, bias: int
    ) -> tuple[np.ndarray, np.ndarray]:
        w = self.width
        shape = -(-place.units // w), -(-place.inputs // w), planes, w, w
        in_squares = numbers[start : start + math.prod(shape)].reshape(shape)
        return in_squares, numbers[bias : bias + planes * place.bias_columns].reshape(planes, -1)

    # --- making it --------------------------------------------------------------------------------------

    def _make_stages(self) -> None:
        """Decide which stage computes which links, and insert what changes rows to panels and back."""
        chain, loss, optimizer = self.step.chain, self.step.loss, self.step.optimizer
        join = joined(chain, loss)
        links = chain.links[:-1] if join else chain.links
        first = next((i for i, link in enumerate(links) if link in self.dense), len(links))
        head = links[:first]
        self.start: Any = stages.GatherRows(chain)
        if first < len(links) and not any(link.trainable_parameters for link in head):
            self.start = stages.GatherPanels(chain, head, links[first], self)  # type: ignore[arg-type]
            links = links[first:]
        made: list[Stage] = []
        for link in links:
            if link in self.dense:
                made.append(FusedDense(link, optimizer, self))  # type: ignore[arg-type]
            elif not made or not made[-1].absorb(link):
                made.append(self._stage_of(link))
        last = made[-1]
        takes_softmax = join and isinstance(last, FusedDense) and last.activation is None
        if takes_softmax and loss in KNOWN and isinstance(loss, CategoricalCrossentropy):
            self.end: Any = stages.SoftmaxLoss(loss, last.units, chain.dtype, self)  # type: ignore[attr-defined]
        else:
            self.end = stages.LossOfRows(self.step)
        self.fused = [stage for stage in made if isinstance(stage, FusedDense)]
        self.made = made

    def _stage_of(self, link: Layer) -> Stage:
        if can_convolve(link):
            return FusedConvolution(link, self)
        if can_normalize(link):
            return FusedNormalization(link, self)
        return stages.Plain(link)

    def _lay_out_weights(self) -> None:
        """Give all weights, slots and gradients their places."""
        from npnet.kernels.fused.program import LAYER_COLUMNS, LayerPlace
        from npnet.kernels.products.layouts import aligned_zeros
        from npnet.kernels.products.tiles import width

        dtype = self.step.chain.dtype
        w = self.width = width(dtype)
        planes = 1 if self.slots_apart else 1 + len(self.step.optimizer.slot_names)
        place, gradient, self.places = 0, 0, []
        for inputs, units, has_bias in self.layers:
            panels, squares = -(-units // w), -(-inputs // w)
            columns, size = panels * w if has_bias else 0, panels * squares * w * w
            starts = place, place + planes * size, columns, gradient, gradient + size
            self.places.append(LayerPlace(inputs, units, planes, *starts))
            place += planes * (size + columns)
            gradient += size + columns
        self.layer_table = np.array(self.places, np.int64).reshape(-1, LAYER_COLUMNS)
        self.weights = aligned_zeros(place, dtype)
        self.gradient_size = gradient if self.whole_gradients else 0
        self.homes = [Weights(stage, self, self.step.chain.lock) for stage in self.fused]

    def _make_todos(self) -> None:
        """Write down what a step does, in order."""
        chain = self.step.chain
        flow, todos = self.start.forward()
        passed: list[tuple[Stage, Flow]] = []

        def append(stage: Stage) -> None:
            nonlocal flow
            passed.append((stage, flow))
            flow, more = stage.forward(flow)
            todos.extend(more)

        def convert(in_panels: bool, columns: int, differentiates: bool = False) -> None:
            if flow.derivative is not None and not (flow.in_panels or differentiates):
                append(stages.Differentiate(chain))
            if in_panels and not flow.in_panels:
                append(stages.ToPanels(columns, self))
            elif flow.in_panels and not in_panels:
                append(stages.ToRows(flow, chain, self))

        for stage in self.made:
            columns = stage.inputs if isinstance(stage, FusedDense) else 0
            convert(stage.in_panels, columns, stage.differentiates)
            append(stage)
        convert(self.end.in_panels, 0)
        dy, more = self.end.todos(flow)
        todos += more

        trained = [bool(stage.parameters) for stage, _ in passed]
        first = trained.index(True)
        learns: list[tuple[FusedDense, Flow, Flow]] = []
        for i in range(len(passed) - 1, first - 1, -1):
            stage, x = passed[i]
            if isinstance(stage, FusedDense):
                learns.append((stage, x, dy))
            if i > first:
                dy, more = stage.backward(x, dy)
                todos += more
            else:
                todos += stage.backward_parameters(x, dy)
        self.plain_parameters = [
            p for p in chain.trainable_parameters if not any(p in stage.parameters for stage in self.fused)
        ]
        self.todos = todos + self._updates(learns)
        self.whole = all(isinstance(todo, Todo) for todo in self.todos)
        # A layer of one's own sees the weights after the step before, wherever it is.
        self.takes_several = self.whole and all(is_own(type(link)) for link in self.start.prefix)
        if self.whole:
            first_dense, x, dy = learns[-1]
            self.second_batch = self.new_panels(x.columns)
            self.learn_and_forward = first_dense.learn_and_forward(x, dy, self.second_batch)

    def _updates(self, learns: list[tuple[FusedDense, Flow, Flow]]) -> Todos:
        """Return what changes the parameters: all gradients have flowed back by the weights as they were."""
        optimizer = self.step.optimizer
        if self.whole_gradients:
            return [
                *(todo for stage, x, dy in learns for todo in stage.gradients(x, dy)),
                self.begin_update,
                *([] if self.slots_apart else self._apply()),
                Call(lambda memory: optimizer.apply(self.plain_parameters, self.step.kernels)),
            ]
        todos: Todos = [todo for stage, x, dy in learns for todo in stage.learn(x, dy)]
        if self.plain_parameters:
            todos.append(self.begin_update)
            todos.append(Call(lambda memory: optimizer.step(self.plain_parameters, self.step.kernels)))
        return todos

    def _apply(self) -> Todos:
        """Return what updates the fused parameters by gradients in memory."""
        return [Call(self._clip), *(todo for stage in self.fused for todo in stage.apply())]

    def _regularize(self, memories: list[Memory], add_up: AddUp) -> None:
        """Add to the gradients of the parameters that are not fused what their regularizers say."""
        memories[-1].penalty = self.step.chain.regularize()

    def _clip(self, memory: Memory) -> None:
        """Clip all gradients, those of the fused stages where they lie."""
        parts = [self.part_of(stage.layer, memory.gradients) for stage in self.fused]
        lying = [gradient.reshape(-1) for part in parts for gradient in part]
        others = [parameter.grad for parameter in self.plain_parameters]
        clipped = self.step.optimizer.clip(lying + others)
        for gradient, new in zip(lying, clipped, strict=False):
            if new is not gradient:
                gradient[...] = new
        for parameter, new in zip(self.plain_parameters, clipped[len(lying) :], strict=True):
            parameter.grad = new

    # --- taking steps -----------------------------------------------------------------------------------

    def __call__(self, x: np.ndarray, batches: list[Batch]) -> list[Result]:
        """Take a step for each batch; those of one kind together where no Python code runs in a step."""
        results = []
        for _, of_one_size in groupby(batches, lambda batch: len(batch.rows)):
            group = list(of_one_size)
            for on_levels, alike in groupby(
                zip(self.start.on_levels(x, group), group, strict=True), itemgetter(0)
            ):
                together = [batch for _, batch in alike]
                if self.takes_several:
                    results += self.take(x, together, on_levels)
                else:
                    for batch in together:
                        results += self.take(x, [batch], on_levels)
        return results

    def at_once(self, batch_size: int) -> int:
        """Return how many steps of this many samples to take in one call.

        So many that starting threads no longer matters, so few that progress bars move and Ctrl-C works, and
        that the predictions they all return need little memory.
        """
        if not self.takes_several:
            return 1
        work = batch_size * sum(inputs * units for inputs, units, _ in self.layers)
        output = batch_size * self.fused[-1].units
        return max(1, min(MOST_STEPS, WORK_AT_ONCE // work, OUTPUT_AT_ONCE // output))

    def take(self, x: np.ndarray, batches: list[Batch], on_levels: bool) -> list[Result]:
        """Take a step for each of some batches of one size, which are ``on_levels`` or not."""
        memory = self.memory(len(batches[0].rows))
        for meeting in self.run(memory, x, batches, on_levels):
            meeting.do([memory], lambda arrays: arrays[0])
        return self.results(memory)

    def run(
        self, memory: Memory, x: np.ndarray, batches: list[Batch], on_levels: bool
    ) -> Iterator[Meeting]:  # fmt: skip
        """Take a step for each of some batches of one size; whoever iterates holds the meetings."""
        from npnet.kernels.fused import program

        steps, n = len(batches), memory.n
        memory.batch = batches[0]
        samples, index = self.start.rows(memory, x, batches)
        scale, offset, factor = self.start.scaling(x, on_levels)
        dtype, optimizer = self.step.chain.dtype, self.step.optimizer
        if isinstance(self.end, stages.SoftmaxLoss):
            ends = [self.end.targets(memory, batch) for batch in batches]
            targets, weights = (np.array(arrays) for arrays in zip(*ends, strict=True))
            losses, y_pred = np.empty((steps, n)), np.empty((steps, n, self.end.classes), dtype)
            loss_scale = self.end.scale(memory)
            memory.losses, memory.y_pred = losses, y_pred
        else:
            targets, weights = np.empty((steps, 0, 0), dtype), np.empty((steps, 0), dtype)
            losses, y_pred, loss_scale = np.empty((steps, 0)), np.empty((steps, 0, 0), dtype), 1.0
        decay, hyperparameters = self.hyperparameters(steps)
        operands = program.Operands(
            memory.panel_rows, memory.array, memory.table, self.weights, memory.gradients, self.layer_table,
            samples.ctypes.data, samples.shape[1], index.reshape(steps, n), scale, offset, factor, targets,
            weights, loss_scale, losses, y_pred, decay, hyperparameters, self.numbers,
        )  # fmt: skip
        before = optimizer.iterations
        for part in self._parts(memory, steps, on_levels):
            if isinstance(part, Meeting):
                yield part
            elif isinstance(part, Call):
                part.do(memory)
            else:
                operations, table, work = part
                self.take_weights()  # a layer or a loss of one's own may have read them, and written to them
                program.run(operations, table, operands, work)
        optimizer.iterations = before + steps

    def take_weights(self) -> None:
        """Copy here what has been given back, to change it."""
        for home in self.homes:
            home.take()

    def results(self, memory: Memory) -> list[Result]:
        """Return loss and predictions of each of the steps that were taken in a memory."""
        return [
            (float(np.sum(loss)) + memory.penalty, y_pred)
            for loss, y_pred in zip(memory.losses, memory.y_pred, strict=True)
        ]

    def hyperparameters(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what multiplies the weights in each of the next steps, and the numbers of their rule."""
        optimizer, before = self.step.optimizer, self.step.optimizer.iterations
        decay, numbers = np.ones(steps), []
        if not self.dense:
            return decay, np.empty((steps, 0))
        try:
            for step in range(steps):
                optimizer.iterations = before + step
                if optimizer.weight_decay:
                    decay[step] = 1 - optimizer.learning_rate * optimizer.weight_decay
                numbers.append(optimizer.hyperparameters())
        finally:
            optimizer.iterations = before
        return decay, np.array(numbers, np.float64)

    def memory(self, n: int, shard: int = 0) -> Memory:
        """Return the flows of n samples; those of two sizes are kept: an epoch's last batch is shorter.

        Shards of one batch, which are on their way together, have each its own.
        """
        kept = self.memories[shard]
        if n not in kept:
            while len(kept) >= SIZES_KEPT:
                del kept[next(iter(kept))]
            kept[n] = Memory(n, self.panel_counts, self.gradient_size, self.step.chain.dtype)
        return kept[n]

    # --- programs ---------------------------------------------------------------------------------------

    def _parts(self, memory: Memory, steps: int, on_levels: bool) -> list[Any]:
        """Return the programs and calls that make the steps, made once for each kind."""
        from npnet.kernels.machine.threads import get_threads

        # A thread takes whole panels of weights through an update with the next forward pass.
        one_pass = self.whole and self.fused[0].units >= 2 * get_threads() * memory.width
        key = steps, one_pass, self.start.samples, on_levels
        if key not in memory.parts:
            if self.whole:
                memory.parts[key] = [self._steps(memory.n, steps, one_pass, on_levels)]
            else:
                memory.parts[key] = list(self.segments(memory.n, on_levels))
        return memory.parts[key]

    def segments(self, n: int, on_levels: bool) -> Iterator[Any]:
        """Go through the parts of one step: a program for the phases between two calls, each call."""
        for is_phase, todos in groupby(self.todos, lambda todo: isinstance(todo, Todo)):
            if not is_phase:
                yield from todos
            else:
                writer = Writer(self, n, on_levels, self.todos)
                for todo in todos:
                    writer.append(todo, 0, after=writer.last)
                yield writer.program()

    def _steps(self, n: int, steps: int, one_pass: bool, on_levels: bool) -> Any:
        """Return the program of several steps.

        While a step flows back, threads that have nothing to do gather the next one's batch into the other of
        two flows. With ``one_pass`` the first layer's update and its next forward pass are one phase.
        """
        gather, *others = self.todos
        assert isinstance(gather, Todo)
        batch = gather.fields["y"], self.second_batch
        writer = Writer(self, n, on_levels)
        gathered, last = writer.append(gather, 0, after=writer.last), writer.last
        for step in range(steps):
            this, following = batch[step % 2], batch[(step + 1) % 2]
            for place, todo in enumerate(others):
                assert isinstance(todo, Todo)
                is_last = place == len(others) - 1
                if one_pass and step > 0 and place == 0:
                    continue
                also = gathered if place == 0 else writer.nobody
                if one_pass and step + 1 < steps and is_last:
                    todo, also, flows = self.learn_and_forward, gathered, {"x": this, "next_x": following}
                elif one_pass and on_levels and place == 0:
                    todo, flows = self.learn_and_forward, {"x": writer.nobody, "next_x": this}
                elif one_pass and on_levels and is_last:
                    todo, flows = self.learn_and_forward, {"x": this, "next_x": writer.nobody}
                else:
                    flows = {"x": this} if todo.fields.get("x") == batch[0] else {}
                last = writer.append(todo, step, last, also, **flows)
                if "dx" in todo.fields and "dy" not in todo.fields and step + 1 < steps:  # the loss
                    gathered = writer.append(gather, step + 1, writer.nobody, y=following)
        return writer.program()


class Writer:
    """Writes a program, phase after phase.

    Parameters
    ----------
    others
        What programs that will follow do: its operations are compiled with those of this one.
    """

    def __init__(self, plan: Plan, n: int, on_levels: bool = False, others: Iterable[Any] = ()):
        from npnet.kernels.fused import program

        self.phase, self.nobody = program.Phase, program.NOBODY
        dtype = plan.step.chain.dtype
        self.precisions = Precisions(
            of_batch=program.precision_of(dtype, n, on_levels),
            others=program.precision_of(dtype, n),
            mixed=program.BFLOAT16,
        )
        self.n = n
        self.operations: dict[Any, int] = {}
        self.rows: list[tuple[int, ...]] = []
        self.work = 0
        for todo in others:
            if isinstance(todo, Todo):
                self._number(todo)

    def _number(self, todo: Todo) -> int:
        """Return the number of an operation."""
        return self.operations.setdefault(todo.operation(self.precisions), len(self.operations))

    @property
    def last(self) -> int:
        """The number of the last phase; NOBODY before the first."""
        return len(self.rows) - 1 if self.rows else self.nobody

    def append(self, todo: Todo, step: int, after: int, also: int | None = None, **fields: int) -> int:
        """Write a phase that waits for two others; return its number."""
        operation = self._number(todo)
        waits = {"after": after, "also": self.nobody if also is None else also}
        self.rows.append(self.phase(operation=operation, step=step, **waits, **{**todo.fields, **fields}))
        self.work += self.n * todo.work
        return self.last

    def program(self) -> tuple[tuple[Any, ...], np.ndarray, int]:
        """Return the operations, the table, and the multiplications it takes."""
        return tuple(self.operations), np.array(self.rows, np.int64), self.work
