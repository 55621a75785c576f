"""Fit, evaluate, predict: the loops over epochs and batches."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from npnet.callbacks import History, ProgbarLogger
from npnet.callbacks.callback import Callback, CallbackList, Logs, check_callbacks, hears_batches
from npnet.internal import checks, interrupts
from npnet.internal.progress import NoPauses, Pauses, Progress, check_verbose, is_watched
from npnet.kernels.machine.announce import announce_compilation
from npnet.layers import BatchNormalization, Normalization, Rescaling
from npnet.layers.chain import Chain
from npnet.layers.more import Whole
from npnet.metrics import Means
from npnet.training.batches import Position, cut, epoch_order, gather, split
from npnet.training.samples import Samples
from npnet.training.setup import Setup, check_features
from npnet.training.step import Steps

__all__ = ["DEFAULT_BATCH_SIZE", "Trainee", "evaluate", "fit", "predict", "test_on_batch", "train_on_batch"]

DEFAULT_BATCH_SIZE = 32


class Trainee(Chain):
    """A chain with what ``fit`` reports of its training.

    Attributes
    ----------
    setup
        What ``compile`` chose, None before.
    history
        The History of the last ``fit``.
    stop_training
        A callback sets this to end training after the present step.
    position
        How far the last ``fit`` came. It is saved with the model, and ``fit(initial_epoch=model.position)``
        goes on from there, in the middle of an epoch too, to the same bits as if it had never stopped.
    epochs_trained
        Epochs that all calls of ``fit`` together have ended. Each visits the samples in an order of its own.
    """

    setup: Setup | None = None
    history: History
    stop_training = False
    position = Position()
    epochs_trained = 0

    def adopt(self, setup: Setup) -> None:
        """Train as ``setup`` says from now on."""
        with self.lock:
            self.setup = setup
            self.use(setup.kernels)


def fit(
    model: Trainee,
    setup: Setup,
    x: Any,
    y: Any,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: int | str = "auto",
    callbacks: list[Callback] | None = None,
    validation_split: float = 0.0,
    validation_data: tuple | None = None,
    shuffle: bool = True,
    class_weight: dict[int, float] | None = None,
    sample_weight: Any = None,
    initial_epoch: int | Position = 0,
    validation_batch_size: int | None = None,
    validation_freq: int | list[int] = 1,
) -> History:
    """Train for ``epochs`` passes over the samples; ``Sequential.fit`` says what the arguments are."""
    batch_size = _batch_size(batch_size)
    epochs = checks.integer("epochs", epochs, least=0)
    if isinstance(initial_epoch, Position):
        start = initial_epoch
    else:
        start = Position(checks.integer("initial_epoch", initial_epoch, least=0))
    validation_batch_size = checks.integer(
        "validation_batch_size", batch_size if validation_batch_size is None else validation_batch_size
    )
    shown = check_verbose(verbose)
    validate_after = checks.validation_epochs(validation_freq)
    checks.flag("shuffle", shuffle)
    train = setup.samples(x, y, sample_weight, class_weight)
    validation = None
    if validation_data is not None:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            raise ValueError("validation_data must be (x, y) or (x, y, sample_weight).")
        x_val, y_val, weight = (*validation_data, None)[:3]
        validation = setup.samples(x_val, y_val, weight, prefix="validation ")
    elif validation_split:
        kept = split(len(train), checks.number("validation_split", validation_split))
        train, validation = train.rows(0, kept), train.rows(kept, len(train))
        if class_weight is not None:
            validation.weight = None  # as in Keras, classes are weighted in training only
    if validation is not None and validation.x.shape[1:] != train.x.shape[1:]:
        raise ValueError(
            f"validation x must hold samples of shape {train.x.shape[1:]} like x, got"
            f" {validation.x.shape[1:]}."
        )
    scaling = Rescaling, Normalization, BatchNormalization, Whole
    if not any(isinstance(link, scaling) for link in model.links):
        checks.warn_about_pixels(train.x)

    steps = -(-len(train) // batch_size)
    if start.batch > steps:
        raise ValueError(
            f"initial_epoch is a position after {start.batch} steps of an epoch, got {steps} steps an"
            " epoch. Give the x and the batch_size it was training with."
        )
    history = History()
    listeners, progbar = check_callbacks(callbacks), ProgbarLogger()
    watchers = [*listeners, history, *([progbar] if shown else [])]
    call = CallbackList(watchers, model, {"verbose": shown, "epochs": epochs, "steps": steps})
    setup.prepare(train.x)
    step = setup.step()
    at_once = setup.at_once(step, batch_size, any(map(hears_batches, listeners)))
    model.history = history
    model.stop_training = False
    before, model.position = model.position, start
    logs: Logs = {}
    with interrupts.deferred() as interrupt, _announced(shown) as progbar.pauses:
        call("on_train_begin", {})
        start = model.position  # which a callback may have set: BackupAndRestore does
        if start.epoch >= epochs:
            model.position = before
        # Every epoch of the model's life has an order of its own; a run that goes on where the last one ended
        # counts on with it.
        earlier = max(0, model.epochs_trained - start.epoch)
        try:
            for epoch in range(start.epoch, epochs):
                model.position = start if epoch == start.epoch else Position(epoch)
                call("on_epoch_begin", epoch, {})
                order = epoch_order(len(train), shuffle, model.seed, earlier + epoch)
                means = setup.means(train)
                _train_epoch(model, step, train, cut(order, batch_size), at_once, means, call, interrupt)
                logs = means.logs()
                if validation is not None and validate_after(epoch):
                    values = _evaluate(
                        model, setup, validation, validation_batch_size, call, interrupt=interrupt
                    ).logs()
                    logs |= {f"val_{name}": value for name, value in values.items()}
                if model.position.batch == steps:
                    model.position = Position(epoch + 1)
                    model.epochs_trained = earlier + epoch + 1
                call("on_epoch_end", epoch, logs)
                interrupt.check()
                if model.stop_training:
                    break
            with model.lock:
                setup.optimizer.finalize_variable_values(model.trainable_parameters)
        finally:
            call("on_train_end", logs)
    return history


def _train_epoch(
    model: Trainee,
    step: Steps,
    train: Samples,
    batches: list[np.ndarray],
    at_once: int,
    means: Means,
    call: CallbackList,
    interrupt: interrupts.Interrupt,
) -> None:
    """Take one step for each batch from the model's position on."""
    epoch, done, sums = model.position
    if done:
        means.resume(sums)
    while done < len(batches):
        call("on_train_batch_begin", done, {})
        taken = [train.batch(rows) for rows in batches[done : done + at_once]]
        for batch, (loss, y_pred) in zip(taken, step(train.x, taken), strict=True):
            means.update(loss, batch.y_true, y_pred, batch.sample_weight)
        done += len(taken)
        model.position = Position(epoch, done, means.sums())
        call("on_train_batch_end", done - 1, means.logs())
        interrupt.check()
        if model.stop_training:
            break


def evaluate(
    model: Trainee,
    setup: Setup,
    x: Any,
    y: Any,
    batch_size: int | None = None,
    verbose: int | str = "auto",
    sample_weight: Any = None,
    callbacks: list[Callback] | None = None,
    return_dict: bool = False,
) -> float | list[float] | Logs:
    """Return the loss and the metrics; ``Sequential.evaluate`` says what the arguments are."""
    model.require_built("evaluate")
    batch_size = _batch_size(batch_size)
    samples = setup.samples(x, y, sample_weight)
    with _watch(model, -(-len(samples) // batch_size), verbose, callbacks) as (call, progress):
        means = _evaluate(model, setup, samples, batch_size, call, progress)
        if progress:
            progress.finish(means.logs())
    return means.reported(return_dict)


def _evaluate(
    model: Trainee,
    setup: Setup,
    samples: Samples,
    batch_size: int,
    call: CallbackList,
    progress: Progress | None = None,
    interrupt: interrupts.Interrupt | None = None,
) -> Means:
    """Return the means over all samples, of the weights at one moment."""
    call("on_test_begin", {})
    means = setup.means(samples)
    with model.lock:
        setup.prepare(samples.x)
        for number, rows in enumerate(cut(np.arange(len(samples)), batch_size)):
            call("on_test_batch_begin", number, {})
            _, y, weight = batch = samples.batch(rows)
            y_pred = model.forward(gather(samples.x, batch.rows, model.dtype))
            means.update(setup.loss.forward(y, y_pred, weight) + model.penalty(), y, y_pred, weight)
            call("on_test_batch_end", number, means.logs())
            if progress:
                progress.update(number + 1, means.logs())
            if interrupt:
                interrupt.check()
    call("on_test_end", means.logs())
    return means


def predict(
    model: Trainee,
    x: Any,
    batch_size: int | None = None,
    verbose: int | str = "auto",
    callbacks: list[Callback] | None = None,
) -> np.ndarray:
    """Return the outputs for samples x, a new array of shape (N, *output_shape)."""
    batch_size = _batch_size(batch_size)
    x = check_features(model, x, least=0)
    with _watch(model, -(-len(x) // batch_size), verbose, callbacks) as (call, progress):
        call("on_predict_begin", {})
        with model.lock:
            if not model.built:
                model.build((None, *x.shape[1:]))
            model.use(model.kernels)
            y = np.empty((len(x), *model.compute_output_shape(x.shape[1:])), model.dtype)
            for number, rows in enumerate(cut(np.arange(len(x)), batch_size)):
                call("on_predict_batch_begin", number, {})
                y[rows[0] : rows[-1] + 1] = model.forward(gather(x, rows, model.dtype))
                call("on_predict_batch_end", number, {})
                if progress:
                    progress.update(number + 1, {})
        call("on_predict_end", {})
        if progress:
            progress.finish({})
    return y


def train_on_batch(
    model: Trainee,
    setup: Setup,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    class_weight: dict[int, float] | None = None,
    return_dict: bool = False,
) -> float | list[float] | Logs:
    """Take one step on the batch; return its loss and metrics as ``evaluate`` does."""
    batch = setup.samples(x, y, sample_weight, class_weight)
    setup.prepare(batch.x)
    step = setup.step()
    with interrupts.deferred():
        [(loss, y_pred)] = step(batch.x, [batch.batch(np.arange(len(batch)))])
    means = setup.means(batch)
    means.update(loss, batch.y, y_pred, batch.weight)
    return means.reported(return_dict)


def test_on_batch(
    model: Trainee, setup: Setup, x: Any, y: Any, sample_weight: Any = None, return_dict: bool = False
) -> float | list[float] | Logs:
    """Return the batch's loss and metrics without learning from it."""
    model.require_built("test_on_batch")
    batch = setup.samples(x, y, sample_weight)
    return _evaluate(model, setup, batch, len(batch), CallbackList([], model, {})).reported(return_dict)


def _batch_size(batch_size: int | None) -> int:
    return checks.integer("batch_size", DEFAULT_BATCH_SIZE if batch_size is None else batch_size)


@contextmanager
def _watch(
    model: Trainee, steps: int, verbose: int | str, callbacks: list[Callback] | None
) -> Iterator[tuple[CallbackList, Progress | None]]:
    """Give who watches an evaluation or a prediction."""
    shown = check_verbose(verbose)
    params = {"verbose": shown, "epochs": 1, "steps": steps}
    call = CallbackList(check_callbacks(callbacks), model, params)
    with _announced(shown) as pauses:
        yield call, Progress(steps, live=shown == 1, pauses=pauses) if shown else None


def _announced(shown: int) -> AbstractContextManager[Pauses]:
    """Announce the kernels that are compiled in a block which shows anything; give what it waits for them."""
    if not shown:
        return nullcontext(NoPauses())
    return announce_compilation(live=shown == 1 and is_watched(sys.stdout))
