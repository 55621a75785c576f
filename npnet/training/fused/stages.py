"""What a fused step is made of: where a batch begins, stages, and where it ends.

Between stages flow rows, as everywhere in npnet, or panels, the layout of the fused kernels. A stage has
``parameters``, ``forward(x, n)`` for n samples, ``backward(dy, n, update)``, which learns too, and ``learn``
where nobody wants the gradient of x.
"""

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from npnet.kernels import rules
from npnet.layers import Dense, Flatten, Rescaling
from npnet.layers.activations import Elementwise
from npnet.layers.layer import Layer
from npnet.optimizers import Optimizer
from npnet.training import batches as data
from npnet.training.step import Network


class Update(NamedTuple):
    """What the optimizer does with each gradient in this step."""

    decay: float
    hyperparameters: tuple[float, ...]


def update_of(optimizer: Optimizer) -> Update:
    """Return what the optimizer does in its next step."""
    decay = 1 - optimizer.learning_rate * optimizer.weight_decay if optimizer.weight_decay else 1.0
    return Update(decay, tuple(float(number) for number in optimizer.hyperparameters()))


# --- where a batch begins --------------------------------------------------------------------------------


class GatherRows:
    """The batch as rows in the model's dtype, for a plain first link."""

    def __init__(self, model: Network):
        self.dtype = model.dtype

    def __call__(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Return the rows ``index`` of ``x``."""
        return data.gather(x, index, self.dtype)


class GatherPanels:
    """The batch as panels, converted, rescaled and flattened on the way.

    What else comes before the first fused stage has nothing to learn, and runs as it is on the batch's rows.
    """

    def __init__(self, kernels: ModuleType, model: Network, head: list[Layer]):
        self.kernels = kernels
        self.dtype = model.dtype
        self.buffers = Buffers(kernels, model.dtype)
        plain = [i for i, link in enumerate(head) if not isinstance(link, (Flatten, Rescaling))]
        self.prefix = head[: plain[-1] + 1] if plain else []
        self.scale, self.offset = 1.0, 0.0
        for link in head[len(self.prefix) :]:
            if isinstance(link, Rescaling):
                self.scale, self.offset = link.scale * self.scale, link.scale * self.offset + link.offset

    def rows(self, x: np.ndarray, batches: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return an array (rows, D), ``x`` itself where that will do, and which rows the batches are."""
        index = np.concatenate(batches)
        if self.prefix:
            x, index = np.concatenate([self._prepared(x[i]) for i in batches]), np.arange(len(index))
        columns = int(np.prod(x.shape[1:]))
        if not (x.flags.c_contiguous and x.dtype.isnative and x.dtype.char in "?bBhHiIlLqQfd"):
            x, index = np.ascontiguousarray(x[index], self.dtype), np.arange(len(index))
        return x.reshape(len(x), columns), index

    def _prepared(self, batch: np.ndarray) -> np.ndarray:
        """Return the batch after the links of ``prefix``; integers stay integers as long as they can."""
        if batch.dtype.kind not in "bui" or not batch.dtype.isnative:
            batch = batch.astype(self.dtype, copy=False)
        for link in self.prefix:
            if not link.takes_integers:
                batch = batch.astype(self.dtype, copy=False)
            batch = link.forward(batch, training=True)
        return batch

    def __call__(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Return scale x[index] + offset."""
        x, index = self.rows(x, [index])
        out = self.buffers("x", len(index), x.shape[1])
        self.kernels.gather(x, index, self.scale, self.offset, out)
        return out


class Buffers:
    """Panels kept from step to step, for two batch sizes: the usual one and that of an epoch's last batch."""

    def __init__(self, kernels: ModuleType, dtype: np.dtype):
        self.kernels = kernels
        self.dtype = dtype
        self.kept: dict[int, dict[str, np.ndarray]] = {}

    def __call__(self, name: str, n: int, columns: int) -> np.ndarray:
        """Return the panels called ``name`` for n samples."""
        if n not in self.kept:
            while len(self.kept) > 1:
                del self.kept[next(iter(self.kept))]
            self.kept[n] = {}
        arrays = self.kept[n]
        if name not in arrays:
            arrays[name] = self.kernels.panels(n, columns, self.dtype)
        return arrays[name]


# --- stages ----------------------------------------------------------------------------------------------


class Plain:
    """A link as it is, on rows."""

    def __init__(self, link: Layer):
        self.link = link
        self.parameters = link.parameters if link.trainable else []

    def forward(self, x: np.ndarray, n: int) -> np.ndarray:
        """Return y."""
        return self.link.forward(x, training=True)

    def backward(self, dy: np.ndarray, n: int, update: Update) -> np.ndarray:
        """Set the gradients, return dx."""
        return self.link.backward(dy)

    def learn(self, dy: np.ndarray, n: int, update: Update) -> None:
        """Set the gradients only."""
        self.link.backward_parameters(dy)


class ToPanels:
    """From rows to panels, before a fused stage."""

    parameters = ()

    def __init__(self, kernels: ModuleType, model: Network, following: Dense):
        self.kernels = kernels
        self.buffers = Buffers(kernels, model.dtype)
        self.columns = following.weight.shape[0]

    def forward(self, x: np.ndarray, n: int) -> np.ndarray:
        """Return x as panels."""
        out = self.buffers("x", n, self.columns)
        self.kernels.to_panels(x, out)
        return out

    def backward(self, dy: np.ndarray, n: int, update: Update) -> np.ndarray:
        """Return dy as rows."""
        return self.kernels.from_panels(dy, n, self.columns)


class ToRows:
    """From panels to rows, after a fused stage."""

    parameters = ()

    def __init__(self, kernels: ModuleType, before: "FusedDense"):
        self.kernels = kernels
        self.before = before

    def forward(self, x: np.ndarray, n: int) -> np.ndarray:
        """Return x as rows."""
        return self.kernels.from_panels(x, n, self.before.link.units)

    def backward(self, dy: np.ndarray, n: int, update: Update) -> np.ndarray:
        """Return the gradient before the fused stage's activation, as panels."""
        before = self.before
        out = before.buffers("dy", n, before.link.units)
        self.kernels.to_panels(dy, out)
        if before.activation is None:
            return out
        rule, constants = before.activation.rule_backward, before.constants
        return before.link.kernels.elementwise(rule, out, before.remembered, *constants)


class FusedDense:
    """y = activation(x W + b) in one pass, and gradient with update in another.

    ``backward`` takes the gradient before its own activation and returns the one before the activation of
    the fused stage ahead of it, if there is one.
    """

    activation: Elementwise | None = None

    def __init__(self, kernels: ModuleType, link: Dense, optimizer: Optimizer, before: Any):
        self.kernels = kernels
        self.link = link
        self.optimizer = optimizer
        self.before = before if isinstance(before, FusedDense) else None
        self.parameters = link.parameters
        dtype = link.weight.value.dtype
        self.buffers = Buffers(kernels, dtype)
        rows = 1 + len(optimizer.slot_names)
        self.squares = kernels.squares(*link.weight.shape, rows - 1, dtype)
        units = self.squares.shape[0] * self.squares.shape[3]
        self.bias = np.zeros((rows, 0 if link.bias is None else units), dtype)  # b, then its slots

    @property
    def constants(self) -> tuple[float, ...]:
        """The numbers of the activation."""
        return () if self.activation is None else tuple(float(c) for c in self.activation.constants)

    def borrow(self) -> None:
        """Take the parameters and their slots, unless they are here."""
        if all(parameter.borrower is self for parameter in self.parameters):
            return
        for layer, (weight, bias) in enumerate(zip(*self._arrays(), strict=True)):
            self.kernels.to_squares(weight, self.squares, layer)
            self.bias[layer, : len(bias)] = bias
        for parameter in self.parameters:
            parameter.borrower = self

    def give_back(self) -> None:
        """Write the parameters and their slots back."""
        for parameter in self.parameters:
            parameter.borrower = None
        for layer, (weight, bias) in enumerate(zip(*self._arrays(), strict=True)):
            self.kernels.from_squares(self.squares, layer, weight)
            bias[...] = self.bias[layer, : len(bias)]

    def _arrays(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return W with its slots, and b with its slots, or empty arrays where there is none."""
        weight, bias = self.link.weight, self.link.bias
        weights = [weight.value, *self.optimizer.slots_of(weight)]
        if bias is None:
            return weights, [np.empty(0) for _ in weights]
        return weights, [bias.value, *self.optimizer.slots_of(bias)]

    def buffers_of(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the panels of y, and of x W + b if the activation's derivative wants that, else y again."""
        y = self.buffers("y", n, self.link.units)
        return y, self.buffers("z", n, self.link.units) if self.wants_x else y

    @property
    def wants_x(self) -> bool:
        """Whether the activation's derivative needs its input."""
        return self.activation is not None and self.activation.remembers == "x"

    def forward(self, x: np.ndarray, n: int) -> np.ndarray:
        """Return y."""
        self.borrow()
        rule = rules.linear if self.activation is None else self.activation.rule
        y, z = self.buffers_of(n)
        self.x, self.remembered = x, z
        self.kernels.forward(rule, self.wants_x, x, self.squares, self.bias, n, z, y, self.constants)
        return y

    def backward(self, dz: np.ndarray, n: int, update: Update) -> np.ndarray:
        """Update the parameters, return dx computed with the weights before."""
        before = self.before
        dx = self.buffers("dx", n, self.link.weight.shape[0])
        rule, remembered = rules.linear_backward, dx
        constants: tuple[float, ...] = ()
        if before is not None and before.activation is not None:
            rule, remembered, constants = (
                before.activation.rule_backward, before.remembered, before.constants
            )  # fmt: skip
        self.kernels.backward(rule, dz, self.squares, n, remembered, dx, constants)
        self.learn(dz, n, update)
        return dx

    def learn(self, dz: np.ndarray, n: int, update: Update) -> None:
        """Update the parameters."""
        inputs, slots = self.link.weight.shape[0], len(self.optimizer.slot_names)
        self.kernels.update(
            self.optimizer.rule, slots, self.x, dz, n, inputs, self.squares, self.bias, *update
        )


# --- where it ends ---------------------------------------------------------------------------------------


class PlainLoss:
    """The model's loss on rows."""

    def __init__(self, model: Network):
        self.model = model

    def __call__(
        self, flow: np.ndarray, y_true: np.ndarray, sample_weight: np.ndarray | None
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return loss, y_pred and the gradient to start from."""
        model = self.model
        y_pred = model.chain[-1].forward(flow, training=True) if model.joined else flow
        loss = model.loss.forward(y_true, y_pred, sample_weight)
        return (
            loss,
            y_pred,
            model.loss.backward_through_activation() if model.joined else model.loss.backward(),
        )


class SoftmaxCrossEntropy:
    """Softmax, cross-entropy and d loss / d logits in one pass over the logits."""

    def __init__(self, kernels: ModuleType, model: Network, classes: int):
        self.kernels = kernels
        self.loss = model.loss
        self.classes = classes
        self.dtype = model.dtype
        self.buffers = Buffers(kernels, model.dtype)

    def targets(self, y_true: np.ndarray, sample_weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return targets (N, K) and weights, (N,) or empty for none."""
        like = np.empty((len(y_true), self.classes), self.dtype)
        targets = np.ascontiguousarray(self.loss.targets(y_true, like))
        weight = self.loss.sample_weight(y_true, sample_weight)
        return targets, np.asarray(() if weight is None else weight, self.dtype)

    def scale(self, n: int) -> float:
        """Return what multiplies every loss."""
        return 1 / n if self.loss.reduction == "sum_over_batch_size" else 1.0

    def __call__(
        self, logits: np.ndarray, y_true: np.ndarray, sample_weight: np.ndarray | None
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return loss, probabilities and d loss / d logits as panels."""
        n = len(y_true)
        targets, weight = self.targets(y_true, sample_weight)
        y_pred, dlogits = np.empty_like(targets), self.buffers("dlogits", n, self.classes)
        loss = self.kernels.softmax_cross_entropy(logits, targets, weight, self.scale(n), y_pred, dlogits)
        return loss, y_pred, dlogits
