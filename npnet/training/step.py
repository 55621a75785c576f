"""The training step: forward, loss, backward in reverse, update. What all the rest of npnet is there for."""

import numpy as np

from npnet import losses, optimizers
from npnet.kernels import UsesKernels
from npnet.layers import activations
from npnet.layers.layer import Layer
from npnet.layers.parameter import Parameter
from npnet.training import batches as data

Result = tuple[float, np.ndarray]  # of a step: the loss before it, and the predictions it was computed from


class Network(UsesKernels):
    """A chain of links, a loss and an optimizer.

    Attributes
    ----------
    chain
        The links in the order of computation: layers, each followed by its activation.
    loss, optimizer
        What ``compile`` was given, as objects.
    kernels
        The set of kernels: ``kernels.reference`` or ``kernels.parallel``.
    """

    dtype: np.dtype
    loss: losses.Loss
    optimizer: optimizers.Optimizer

    @property
    def chain(self) -> list[Layer]:
        """The links in the order of computation; given by ``Sequential``."""
        raise NotImplementedError

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, layer by layer; given by ``Sequential``."""
        raise NotImplementedError

    @property
    def trainable_parameters(self) -> list[Parameter]:
        """The parameters that training changes; given by ``Sequential``."""
        raise NotImplementedError

    def train_step(
        self, x: np.ndarray, index: np.ndarray, y_true: np.ndarray, sample_weight: np.ndarray | None
    ) -> Result:
        """One step in the readable order: forward, loss, backward, update.

        Parameters
        ----------
        x
            All samples; the batch is their rows ``index``.
        y_true, sample_weight
            Targets and weights of the batch.

        Returns
        -------
        tuple
            The loss before the step and the predictions it was computed from.
        """
        y_pred = self.forward(data.gather(x, index, self.dtype), training=True)
        loss = self.loss.forward(y_true, y_pred, sample_weight)
        links, dy = self._start_of_backward()
        first = next(i for i, link in enumerate(links) if link.trainable and link.parameters)
        for link in reversed(links[first + 1 :]):
            dy = link.backward(dy)
        links[first].backward_parameters(dy)  # nobody asks for the gradient of the data
        loss += self.regularize()
        self.optimizer.step(self.trainable_parameters, self.kernels)
        return loss, y_pred

    def train_steps(self, x: np.ndarray, batches: list[data.Batch]) -> list[Result]:
        """Take one step after the other; return what ``train_step`` returns for each."""
        return [self.train_step(x, *batch) for batch in batches]

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the output of the chain for a batch in the model's dtype."""
        for link in self.chain:
            x = link.forward(x, training)
        return x

    def backward(self) -> np.ndarray:
        """Set every parameter's gradient after ``forward`` and ``loss.forward``; return the input's."""
        links, dy = self._start_of_backward()
        for link in reversed(links):
            dy = link.backward(dy)
        return dy

    def _start_of_backward(self) -> tuple[list[Layer], np.ndarray]:
        """Return the links still to go through and the loss's gradient at their output."""
        if self.joined:
            return self.chain[:-1], self.loss.backward_through_activation()
        return self.chain, self.loss.backward()

    def regularize(self) -> float:
        """Add each regularizer's derivative to its gradient; return the sum of the penalties."""
        for parameter in self.trainable_parameters:
            if parameter.regularizer is not None:
                parameter.grad = parameter.grad + parameter.regularizer.gradient(parameter.value)
        return self.penalty()

    def penalty(self) -> float:
        """Return the sum of the regularizers' penalties."""
        return sum(
            parameter.regularizer.penalty(parameter.value)
            for parameter in self.trainable_parameters
            if parameter.regularizer is not None
        )

    @property
    def joined(self) -> bool:
        """Whether the last link is the activation whose derivative the loss takes in."""
        if self.loss.activation is None or not self.loss.joint_gradient_fits:
            return False
        return type(self.chain[-1]) is activations.NAMES[self.loss.activation]
