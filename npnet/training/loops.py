"""Fit, evaluate, predict: the loops over epochs and batches."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from typing import Any

import numpy as np

from npnet.callbacks import BackupAndRestore, History, ProgbarLogger
from npnet.callbacks.callback import Callback, CallbackList, Logs, check_callbacks, hears_batches
from npnet.internal import checks, interrupts
from npnet.internal.progress import NoPauses, Pauses, Progress, check_verbose, is_watched
from npnet.kernels.machine.announce import announce_compilation
from npnet.layers import BatchNormalization, Normalization, Rescaling
from npnet.layers.chain import Chain
from npnet.layers.layer import Shape
from npnet.layers.more import Whole
from npnet.metrics import Means
from npnet.training import sources
from npnet.training.batches import Position, gather
from npnet.training.feeds import Feed
from npnet.training.fused import inference
from npnet.training.setup import Setup, blas_threads, check_features
from npnet.training.step import Steps

__all__ = ["Trainee", "evaluate", "fit", "predict", "predict_on_batch", "test_on_batch", "train_on_batch"]


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
    ended
        Whether the last ``fit`` came to its end, without an error and without an interrupt.
    position
        How far the last ``fit`` came. It is saved with the model, and ``fit(initial_epoch=model.position)``
        goes on from there, in the middle of an epoch too, to the same bits as if it had never stopped.
    epochs_trained
        Epochs that all calls of ``fit`` together have ended. Each visits the samples in an order of its own.
    class_names
        What the outputs stand for, if somebody said so. It is saved with the model.
    """

    setup: Setup | None = None
    history: History
    stop_training = False
    ended = False
    position = Position()
    epochs_trained = 0
    _class_names: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the outputs stand for; empty where nobody said so."""
        return self._class_names

    @class_names.setter
    def class_names(self, names: Sequence[str]) -> None:
        if not isinstance(names, (list, tuple)):
            raise TypeError(f"class_names must be a list of names, one for each output, got {names!r}.")
        self._class_names = tuple(checks.text("class_names", name) for name in names)

    def adopt(self, setup: Setup) -> None:
        """Train as ``setup`` says from now on."""
        with self.lock:
            self.setup = setup
            self.use(setup.kernels)

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Return the predictions for a batch in the model's dtype."""
        if self.setup is None or self.setup.fused:
            return inference.outputs(self, x)
        with blas_threads(self):
            return self.forward(x)

    def prepare(self, sample_shape: Shape) -> None:
        """Build the model for samples of a shape if it is not, and give its links their kernels."""
        if not self.built:
            self.build((None, *sample_shape))
        self.use(self.kernels if self.setup is None else self.setup.kernels)


def fit(
    model: Trainee,
    setup: Setup,
    x: Any,
    y: Any = None,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: int | str = "auto",
    callbacks: list[Callback] | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool | str = True,
    class_weight: dict[int, float] | None = None,
    sample_weight: Any = None,
    initial_epoch: int | Position = 0,
    validation_batch_size: int | None = None,
    validation_freq: int | list[int] = 1,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    drop_remainder: bool = False,
) -> History:
    """Train for ``epochs`` passes over the samples; ``Sequential.fit`` says what the arguments are."""
    epochs = checks.integer("epochs", epochs, least=0)
    if isinstance(initial_epoch, Position):
        start = initial_epoch
    else:
        start = Position(checks.integer("initial_epoch", initial_epoch, least=0))
    shown = check_verbose(verbose)
    validate_after = checks.validation_epochs(validation_freq)
    # Every epoch of the model's life has an order of its own; a run that goes on where the last one ended
    # counts on with it.
    earlier = max(0, model.epochs_trained - start.epoch)
    share = validation_split if validation_data is None else 0.0
    listeners = check_callbacks(callbacks)
    setup.require_alike(
        batch_size=batch_size, epochs=epochs, validation_split=share,
        validation_data=validation_data is not None, shuffle=shuffle, class_weight=class_weight,
        sample_weight=sample_weight is not None, initial_epoch=tuple(start[:2]),
        validation_batch_size=validation_batch_size, validation_freq=validation_freq,
        steps_per_epoch=steps_per_epoch, validation_steps=validation_steps, drop_remainder=drop_remainder,
        BackupAndRestore=any(isinstance(callback, BackupAndRestore) for callback in listeners),
    )  # fmt: skip
    with ExitStack() as opened:
        train, held_out = sources.to_train(
            setup, x, y, sample_weight, class_weight, batch_size, share, shuffle, steps_per_epoch, start,
            epochs - start.epoch, checks.flag("drop_remainder", drop_remainder),
        )  # fmt: skip
        opened.callback(train.close)
        validation = None
        if validation_data is not None or held_out is not None:
            validation = sources.to_validate(
                setup,
                held_out if validation_data is None else validation_data,
                validation_batch_size,
                batch_size,
                validation_steps,
                times=sum(map(validate_after, range(start.epoch, epochs))),
            )
            opened.callback(validation.close)
        elif validation_steps is not None:
            raise ValueError("validation_steps needs validation_data that gives batches.")
        _check_position(start, train)
        train.open(earlier + start.epoch, start.batch)
        if validation is not None and validation.open(0):
            shape, expected = validation.some.x.shape[1:], train.some.x.shape[1:]
            if shape != expected:
                raise ValueError(f"validation x must hold samples of shape {expected} like x, got {shape}.")
        scaling = Rescaling, Normalization, BatchNormalization, Whole
        if not any(isinstance(link, scaling) for link in model.links):
            checks.warn_about_pixels(train.some.x)
        history = History()
        progbar = ProgbarLogger()
        alike = setup.watchers(training=train, validation=validation)
        watchers = [*listeners, history, *([progbar] if shown else []), *alike]
        params = {"verbose": shown, "epochs": epochs, "steps": train.steps}
        call = CallbackList(watchers, model, params)
        setup.prepare(train.some.x)
        if validation is not None and setup.fused:
            inference.expect(model, validation.batch_size)
        heard = any(map(hears_batches, listeners))
        step = setup.step(heard)
        at_once = setup.at_once(step, train.batch_size, heard)
        model.history = history
        model.stop_training = model.ended = False
        before, model.position = model.position, start
        logs: Logs = {}
        with interrupts.deferred() as interrupt, _announced(shown) as progbar.pauses, blas_threads(model):
            call("on_train_begin", {})
            if model.position is start and start.epoch >= epochs:
                model.position = before
            else:
                start = model.position  # which a callback may have set: BackupAndRestore does
            earlier = max(0, model.epochs_trained - start.epoch)
            try:
                _check_position(start, train)
                for epoch in range(start.epoch, epochs):
                    position = start if epoch == start.epoch else Position(epoch)
                    if not train.open(earlier + epoch, position.batch):
                        break
                    model.position = position
                    for leaf in model.leaves().values():
                        leaf.on_epoch_begin(earlier + epoch)
                    call("on_epoch_begin", epoch, {})
                    means = setup.means(train.some)
                    _train_epoch(model, step, train, at_once, means, call, interrupt)
                    logs = means.logs()
                    if validation is not None and validate_after(epoch) and validation.open(0):
                        values = _evaluate(model, setup, step, validation, call, interrupt=interrupt).logs()
                        logs |= {f"val_{name}": value for name, value in values.items()}
                    params["steps"] = train.steps
                    if model.position.batch == train.steps:
                        model.position = Position(epoch + 1)
                        model.epochs_trained = earlier + epoch + 1
                    call("on_epoch_end", epoch, logs)
                    interrupt.check()
                    if model.stop_training:
                        break
                with model.lock:
                    setup.optimizer.finalize_variable_values(model.trainable_parameters)
                model.ended = True
            finally:
                call("on_train_end", logs)
    return history


def _train_epoch(
    model: Trainee,
    step: Steps,
    train: Feed,
    at_once: int,
    means: Means,
    call: CallbackList,
    interrupt: interrupts.Interrupt,
) -> None:
    """Take one step for each batch from the model's position on."""
    epoch, done, sums = model.position
    if done:
        means.resume(sums)
    for x, batches in train.groups(at_once):
        call("on_train_batch_begin", done, {})
        for batch, (loss, y_pred) in zip(batches, step(x, batches), strict=True):
            means.update(loss, batch.y_true, y_pred, batch.sample_weight)
        done += len(batches)
        model.position = Position(epoch, done, means.sums())
        call("on_train_batch_end", done - 1, means.logs)
        interrupt.check(before=step.collect)
        if model.stop_training:
            break
    step.collect()


def evaluate(
    model: Trainee,
    setup: Setup,
    x: Any,
    y: Any = None,
    batch_size: int | None = None,
    verbose: int | str = "auto",
    sample_weight: Any = None,
    callbacks: list[Callback] | None = None,
    return_dict: bool = False,
    steps: int | None = None,
) -> float | list[float] | Logs:
    """Return the loss and the metrics; ``Sequential.evaluate`` says what the arguments are."""
    model.require_built("evaluate")
    if verbose == 0 and batch_size is callbacks is steps is None and _is_one_batch(x):
        return test_on_batch(model, setup, x, y, sample_weight, return_dict)
    with (
        closing(sources.to_evaluate(setup, x, y, sample_weight, batch_size, steps)) as feed,
        _watch(model, feed.steps, verbose, callbacks) as (call, progress),
    ):
        feed.open(0)
        means = _evaluate(model, setup, setup.readable_step(), feed, call, progress)
        if progress:
            progress.finish(means.logs())
    return means.reported(return_dict)


def _evaluate(
    model: Trainee,
    setup: Setup,
    step: Steps,
    feed: Feed,
    call: CallbackList,
    progress: Progress | None = None,
    interrupt: interrupts.Interrupt | None = None,
) -> Means:
    """Return the means over all samples of a feed that is open, of the weights at one moment."""
    call("on_test_begin", {})
    means = setup.means(feed.some)
    with model.lock:
        setup.prepare(feed.some.x)
        for number, (x, [batch]) in enumerate(feed.groups()):
            call("on_test_batch_begin", number, {})
            _test(model, setup, means, step.outputs(x, batch), batch.y_true, batch.sample_weight)
            call("on_test_batch_end", number, means.logs)
            if progress:
                progress.update(number + 1, means.logs())
            if interrupt:
                interrupt.check()
    call("on_test_end", means.logs)
    return means


def _test(
    model: Trainee, setup: Setup, means: Means, y_pred: np.ndarray, y: np.ndarray, weight: np.ndarray | None
) -> None:
    """Take a batch's loss and metrics into the means."""
    means.update(setup.loss.forward(y, y_pred, weight) + model.penalty(), y, y_pred, weight)


def predict(
    model: Trainee,
    x: Any,
    batch_size: int | None = None,
    verbose: int | str = "auto",
    callbacks: list[Callback] | None = None,
    steps: int | None = None,
) -> np.ndarray:
    """Return the outputs for samples x, a new array of shape (N, *output_shape)."""
    if verbose == 0 and batch_size is callbacks is steps is None and _is_one_batch(x):
        return predict_on_batch(model, x)
    with (
        closing(sources.to_predict(model, x, batch_size, steps)) as feed,
        _watch(model, feed.steps, verbose, callbacks) as (call, progress),
    ):
        feed.open(0)
        call("on_predict_begin", {})
        with model.lock:
            shape = feed.some.x.shape[1:]
            model.prepare(shape)
            outputs = _outputs(model, feed, call, progress)
            if feed.rows is None or feed.steps == 1:
                y = np.concatenate(list(outputs))
            else:
                y, start = np.empty((feed.rows, *model.compute_output_shape(shape)), model.dtype), 0
                for output in outputs:
                    y[start : start + len(output)] = output
                    start += len(output)
        call("on_predict_end", {})
        if progress:
            progress.finish({})
    return y


def _check_position(start: Position, train: Feed) -> None:
    """Refuse to go on within an epoch that is another one: samples would be left out or come twice."""
    remedy = "Give the x and the batch_size it was training with, or begin with a whole epoch: initial_epoch="
    if train.steps is not None and start.batch > train.steps:
        raise ValueError(
            f"initial_epoch is a position after {start.batch} steps of an epoch, got {train.steps} steps"
            f" an epoch. {remedy}{start.epoch}."
        )
    after, seen = train.samples_after(start.batch), start.sums.get("loss", [0, None])[1]
    if None not in (after, seen) and after != seen:
        raise ValueError(
            f"initial_epoch is a position after {start.batch} steps and {seen:.0f} samples of an epoch, but"
            f" in batches of {train.batch_size} these are {after} samples. {remedy}{start.epoch}."
        )


def _is_one_batch(x: Any) -> bool:
    """Whether x is so few samples that a loop over batches would take one step."""
    return isinstance(x, np.ndarray) and x.ndim > 0 and len(x) <= sources.DEFAULT_BATCH_SIZE


def _outputs(
    model: Trainee, feed: Feed, call: CallbackList, progress: Progress | None
) -> Iterator[np.ndarray]:
    """Go through the outputs for each batch of a feed that is open."""
    for number, (x, [batch]) in enumerate(feed.groups()):
        call("on_predict_batch_begin", number, {})
        yield model.outputs(gather(x, batch.rows, model.dtype)).copy()
        call("on_predict_batch_end", number, {})
        if progress:
            progress.update(number + 1, {})


def predict_on_batch(model: Trainee, x: Any) -> np.ndarray:
    """Return the outputs for one batch: a check of x, and the forward pass."""
    x = check_features(model, x, least=0)
    with model.lock:
        model.prepare(x.shape[1:])
        if len(x) == 0:
            return np.empty((0, *model.output_shape), model.dtype)
        return model.outputs(np.array(x, model.dtype, order="C")).copy()


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
    with interrupts.deferred(), blas_threads(model):
        [(loss, y_pred)] = step(batch.x, [batch.batch(np.arange(len(batch)))])
    means = setup.means(batch, y_pred.shape[-1])
    means.update(loss, batch.y, y_pred, batch.weight)
    return means.reported(return_dict)


def test_on_batch(
    model: Trainee, setup: Setup, x: Any, y: Any, sample_weight: Any = None, return_dict: bool = False
) -> float | list[float] | Logs:
    """Return the batch's loss and metrics without learning from it."""
    model.require_built("test_on_batch")
    samples = setup.samples(x, y, sample_weight)
    with model.lock:
        setup.prepare(samples.x)
        y_pred = model.outputs(np.array(samples.x, model.dtype, order="C"))
        means = setup.means(samples, y_pred.shape[-1])
        _test(model, setup, means, y_pred, samples.y.copy(), samples.weight)  # the loss keeps its targets
    return means.reported(return_dict)


@contextmanager
def _watch(
    model: Trainee, steps: int | None, verbose: int | str, callbacks: list[Callback] | None
) -> Iterator[tuple[CallbackList, Progress | None]]:
    """Give who watches an evaluation or a prediction."""
    shown = check_verbose(verbose)
    params = {"verbose": shown, "epochs": 1, "steps": steps}
    call = CallbackList(check_callbacks(callbacks), model, params)
    with _announced(shown) as pauses, blas_threads(model):
        yield call, Progress(steps, live=shown == 1, pauses=pauses) if shown else None


def _announced(shown: int) -> AbstractContextManager[Pauses]:
    """Announce the kernels that are compiled in a block which shows anything; give what it waits for them."""
    if not shown:
        return nullcontext(NoPauses())
    return announce_compilation(live=shown == 1 and is_watched(sys.stdout))
