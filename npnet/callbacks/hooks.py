"""Callbacks that act on training: functions of one's own, a learning rate for each epoch, a stop at NaN."""

import math
from collections.abc import Callable
from typing import Any

from npnet.callbacks.callback import EVENTS, Callback, Logs
from npnet.internal import checks


class LambdaCallback(Callback):
    """A callback made of functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: ...)``."""

    def __init__(self, **hooks: Callable[..., None]):
        for event, hook in hooks.items():
            if event not in EVENTS:
                raise TypeError(f"Unknown hook {event!r}. Known: {', '.join(EVENTS)}.")
            setattr(self, event, checks.function(event, hook))


class LearningRateScheduler(Callback):
    """Set the learning rate of each epoch to ``schedule(epoch, learning_rate)``."""

    def __init__(self, schedule: Callable[[int, float], float], verbose: int = 0):
        self.schedule = checks.function("schedule", schedule)
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the learning rate."""
        optimizer = self.model.optimizer
        optimizer.learning_rate = self.schedule(epoch, optimizer.learning_rate)
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {optimizer.learning_rate:.6g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add the learning rate to the logs."""
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


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
            print(error)
            self.model.stop_training = True
