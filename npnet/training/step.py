"""The training step: forward, loss, backward in reverse, update. What all the rest of npnet is there for."""

from typing import Protocol

import numpy as np

from npnet.internal.exact import Known
from npnet.kernels import Kernels
from npnet.layers import activations
from npnet.layers.chain import Chain
from npnet.layers.layer import Layer
from npnet.losses import Loss
from npnet.optimizers import Optimizer
from npnet.training.batches import Batch, gather

__all__ = ["Result", "Step", "Steps", "joined", "require_trainable"]

Result = tuple[float, np.ndarray]  # of a step: the loss before it, and the predictions it was computed from


def require_trainable(chain: Chain) -> None:
    """Raise a RuntimeError if no parameter is trainable."""
    if not chain.trainable_parameters:
        raise RuntimeError("The model has nothing to train: no layer with parameters is trainable.")


class Steps(Protocol):
    """Whoever takes training steps: ``Step`` in the readable order, ``FusedStep`` in few passes."""

    def __call__(self, x: np.ndarray, batches: list[Batch]) -> list[Result]:
        """Take a step for each batch, which is some rows of ``x``, all samples."""

    def at_once(self, batch_size: int) -> int:
        """Return how many steps of this many samples to take in one call."""

    def outputs(self, x: np.ndarray, batch: Batch) -> np.ndarray:
        """Return the predictions for a batch, to validate."""

    def collect(self) -> None:
        """Bring together the optimizer's memory, if processes keep parts of it between steps."""


class Step:
    """A chain of links, a loss, an optimizer, and the kernels they compute with."""

    def __init__(self, chain: Chain, loss: Loss, optimizer: Optimizer, kernels: Kernels):
        self.chain = chain
        self.loss = loss
        self.optimizer = optimizer
        self.kernels = kernels

    def take(self, x: np.ndarray, batch: Batch) -> Result:
        """Take one step: forward, loss, backward, update.

        Returns
        -------
        tuple
            The loss before the step and the predictions it was computed from.
        """
        require_trainable(self.chain)  # a callback may have frozen all
        y_pred = self.chain.forward(gather(x, batch.rows, self.chain.dtype), training=True)
        loss = self.loss.forward(batch.y_true, y_pred, batch.sample_weight)
        links, dy = self.start_of_backward()
        first = next(i for i, link in enumerate(links) if link.trainable_parameters)
        for link in reversed(links[first + 1 :]):
            dy = link.backward(dy)
        links[first].backward_parameters(dy)  # nobody asks for the gradient of the data
        loss += self.chain.regularize()
        self.optimizer.step(self.chain.trainable_parameters, self.kernels)
        return loss, y_pred

    def start_of_backward(self) -> tuple[list[Layer], np.ndarray]:
        """Return the links still to go through after ``loss.forward``, and the gradient of their output."""
        if joined(self.chain, self.loss):
            return self.chain.links[:-1], self.loss.backward_through_activation()
        return self.chain.links, self.loss.backward()

    def backward(self) -> np.ndarray:
        """Set every parameter's gradient after ``forward`` and ``loss.forward``; return the input's."""
        links, dy = self.start_of_backward()
        for link in reversed(links):
            dy = link.backward(dy)
        return dy

    def __call__(self, x: np.ndarray, batches: list[Batch]) -> list[Result]:
        """Take one step after the other; between two of them other threads may read the weights."""
        results = []
        for batch in batches:
            with self.chain.lock:
                results.append(self.take(x, batch))
        return results

    def at_once(self, batch_size: int) -> int:
        """Return 1: there is nothing to save."""
        return 1

    def outputs(self, x: np.ndarray, batch: Batch) -> np.ndarray:
        """Return the predictions for a batch."""
        return self.chain.outputs(gather(x, batch.rows, self.chain.dtype))

    def collect(self) -> None:
        """Do nothing: it is all here."""


JOINABLE = Known([activations.Softmax, activations.Sigmoid])


def joined(chain: Chain, loss: Loss) -> bool:
    """Whether the last link is the activation whose derivative the loss takes in (softmax, sigmoid)."""
    if loss.activation is None or not loss.joint_gradient_fits:
        return False
    last = chain.links[-1]
    return last in JOINABLE and type(last) is activations.NAMES[loss.activation]
