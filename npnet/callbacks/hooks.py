"""Callbacks that act on training: own functions, learning rates, layers frozen, a stop at NaN."""

import contextlib
import inspect
import math
from collections.abc import Callable
from typing import Any

from npnet.callbacks.callback import EVENTS, NAMES_OF, Callback, Logs
from npnet.internal import checks, processes

__all__ = ["DivergedError", "FreezeLayers", "LambdaCallback", "LearningRateScheduler", "TerminateOnNaN"]


class LambdaCallback(Callback):
    """A callback made of functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: ...)``.

    The first six, in this order, may be given without their names, as in Keras. None stands for no function.
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., None] | None = None,
        on_epoch_end: Callable[..., None] | None = None,
        on_train_begin: Callable[..., None] | None = None,
        on_train_end: Callable[..., None] | None = None,
        on_train_batch_begin: Callable[..., None] | None = None,
        on_train_batch_end: Callable[..., None] | None = None,
        **others: Callable[..., None] | None,
    ):
        hooks = others | {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        known = [name for event in EVENTS for name in NAMES_OF[event]]
        for name, hook in hooks.items():
            if name not in known:
                raise TypeError(f"Unknown hook {name!r}. Known: {', '.join(known)}.")
            if hook is not None:
                setattr(self, name, checks.function(name, hook))


class FreezeLayers(Callback):
    """Train some layers in the first epochs only: from ``epoch`` on they are frozen.

    Parameters
    ----------
    layers
        Their names.
    epoch
        The first one, from 0, that leaves them as they are.
    """

    def __init__(self, layers: list[str], epoch: int):
        self.layers = [checks.text("layers", name) for name in layers]
        self.epoch = checks.integer("epoch", epoch, least=0)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Freeze them, or let them be trained."""
        for name in self.layers:
            self.model.get_layer(name).trainable = epoch < self.epoch


class LearningRateScheduler(Callback):
    """Set the learning rate of each epoch to ``schedule(epoch, learning_rate)`` or ``schedule(epoch)``.

    Parameters
    ----------
    schedule
        A function of the epoch, from 0, and, if it takes a second argument, of the present learning rate.
    verbose
        1 prints each epoch's learning rate.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        self.schedule = checks.function("schedule", schedule)
        self.verbose = verbose
        self.takes_rate = _takes("schedule", schedule, "epoch", "learning_rate")

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the learning rate."""
        optimizer = self.model.optimizer
        known = (epoch, optimizer.learning_rate) if self.takes_rate else (epoch,)
        optimizer.learning_rate = self.schedule(*known)
        if self.verbose:
            processes.tell(f"Epoch {epoch + 1}: learning rate {optimizer.learning_rate:.6g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add the learning rate to the logs."""
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


def _takes(name: str, function: Callable, first: str, second: str) -> bool:
    """Tell whether a function of one argument takes a second one as well, or raise a TypeError."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C do not say
        return True
    for given in ((first, second), (first,)):
        with contextlib.suppress(TypeError):
            signature.bind(*given)
            return len(given) == 2
    raise TypeError(f"{name} must take ({first}) or ({first}, {second}), got one that takes {signature}.")


class DivergedError(RuntimeError):
    """The loss became NaN or infinite.

    Attributes
    ----------
    what
        The step, the loss and the learning rate in words. The message goes on with what to try.
    """

    def __init__(self, model: Any, loss: float):
        optimizer, (epoch, batch, _) = model.optimizer, model.position
        step = optimizer.iterations
        rate = optimizer.schedule(step - 1) if optimizer.schedule else optimizer.learning_rate
        place = f"Step {step:,}, batch {batch} of epoch {epoch + 1}"
        self.what = f"{place}: the loss is {loss} at a learning rate of {rate:g}."
        super().__init__(f"{self.what} Try a learning rate of {rate / 10:g}, or clipnorm=1.0.")


class TerminateOnNaN(Callback):
    """Stop as soon as the loss is NaN or infinite.

    ``npnet.checking.divergence.first_non_finite`` tells where in the network it began, given the weights
    from before.

    Parameters
    ----------
    raise_error
        Raise a DivergedError, which is a RuntimeError, instead of stopping after the message.
    """

    def __init__(self, raise_error: bool = False):
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Look at the loss."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            error = DivergedError(self.model, loss)
            if self.raise_error:
                raise error
            processes.tell(error)
            self.model.stop_training = True
