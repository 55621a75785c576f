"""The protocol every callback follows, and the list that calls them."""

from collections.abc import Callable, Iterator
from typing import Any

from npnet.internal import processes
from npnet.internal.strict import Strict

__all__ = [
    "EVENTS",
    "NAMES_OF",
    "Callback",
    "CallbackList",
    "Logs",
    "check_callbacks",
    "has_own",
    "hears_batches",
]

Logs = dict[str, float]
EVENTS = (
    "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end",
    "on_train_batch_begin", "on_train_batch_end",
    "on_test_begin", "on_test_end", "on_test_batch_begin", "on_test_batch_end",
    "on_predict_begin", "on_predict_end", "on_predict_batch_begin", "on_predict_batch_end",
)  # fmt: skip
NAMES_OF = {event: dict.fromkeys((event, event.replace("on_train_batch", "on_batch"))) for event in EVENTS}


class Callback(Strict):
    """Base of all callbacks: every hook does nothing.

    Keras's older names ``on_batch_begin`` and ``on_batch_end`` are called as well where a callback has them.

    Attributes
    ----------
    every_batch
        Whether hooks of batches must be called for each. Where no callback says so, training may take several
        steps at once and call them for the first and the last of these.
    first_only
        Whether, of several processes that train together, only the first is to call it: it writes or prints,
        and training does not depend on it.
    """

    every_batch = True
    first_only = False

    model: Any
    params: dict[str, Any]
    on_batch_begin: Any  # the older names, where somebody gives them
    on_batch_end: Any

    def set_model(self, model: Any) -> None:
        """Receive the model."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Receive {"verbose", "epochs", "steps"}."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called when training ends, however it ends."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before an epoch; epochs count from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after an epoch, validation included."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a training step; batches count from 0."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a training step with the epoch's means so far."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Called before evaluation or validation."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Called after evaluation or validation."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch of evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch of evaluation."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Called before prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Called after prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch of prediction."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch of prediction."""


def check_callbacks(callbacks: Any) -> list[Callback]:
    """Return the callbacks, given as one or in a list that may hold lists, as a list; empty for None."""
    return [] if callbacks is None else list(_flat(callbacks))


def _flat(callbacks: Any) -> Iterator[Callback]:
    if isinstance(callbacks, (list, tuple)):
        for callback in callbacks:
            yield from _flat(callback)
    elif isinstance(callbacks, Callback):
        yield callbacks
    else:
        hint = ""
        if isinstance(callbacks, type) and issubclass(callbacks, Callback):
            hint = f" That is the class; write {callbacks.__name__}(...)."
        raise TypeError(
            f"callbacks must be an instance of Callback or a list of them, got {callbacks!r}.{hint}"
        )


def has_own(callback: Callback, name: str) -> bool:
    """Tell whether the callback's hook does something."""
    return name in vars(callback) or getattr(type(callback), name, None) is not getattr(Callback, name, None)


def hears_batches(callback: Callback) -> bool:
    """Tell whether the callback has a hook that must be called for every batch of training."""
    events = "on_train_batch_begin", "on_train_batch_end"
    return callback.every_batch and any(
        has_own(callback, name) for event in events for name in NAMES_OF[event]
    )


class CallbackList:
    """Calls each event's hook of those callbacks that have one."""

    def __init__(self, callbacks: list[Callback], model: Any, params: dict[str, Any]):
        if not processes.group().first:
            callbacks = [callback for callback in callbacks if not callback.first_only]
        for callback in callbacks:
            callback.set_params(params)
            callback.set_model(model)
        self.hooks: dict[str, list[Callable[..., None]]] = {}
        for callback in callbacks:
            for event in EVENTS:
                own = [getattr(callback, name) for name in NAMES_OF[event] if has_own(callback, name)]
                self.hooks.setdefault(event, []).extend(own)

    def __call__(self, event: str, *arguments: Any) -> None:
        """Call every hook of ``event``; functions among the arguments are called first, if there is one."""
        hooks = self.hooks.get(event)
        if hooks:
            values = [argument() if callable(argument) else argument for argument in arguments]
            for hook in hooks:
                hook(*values)
