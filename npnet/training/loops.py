"""Fit, evaluate, predict: the loops over epochs and batches."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from npnet.callbacks import History, ProgbarLogger
from npnet.callbacks.callback import Callback, CallbackList, Logs, check_callbacks, hears_batches
from npnet.internal import checks, config, interrupts
from npnet.internal.progress import NoPauses, Pauses, Progress, check_verbose, is_watched
from npnet.kernels.machine.announce import announce_compilation
from npnet.layers import BatchNormalization, Normalization, Rescaling
from npnet.training import batches as data
from npnet.training.samples import Samples
from npnet.training.setup import Compiled, Steps

DEFAULT_BATCH_SIZE = 32


class Trainer(Compiled):
    """The training half of ``Sequential``.

    Attributes
    ----------
    history
        The History of the last ``fit``.
    stop_training
        A callback sets this to end training after the present step.
    position
        How far the last ``fit`` came. It is saved with the model, and ``fit(initial_epoch=model.position)``
        goes on from there, in the middle of an epoch too, to the same bits as if it had never stopped.
    """

    history: History
    stop_training = False
    position = data.Position()

    # --- fit ----------------------------------------------------------------------------------------------

    @config.keras_arguments(steps_per_epoch=None, validation_steps=None)
    def fit(
        self,
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
        initial_epoch: int | data.Position = 0,
        validation_batch_size: int | None = None,
        validation_freq: int | list[int] = 1,
    ) -> History:
        """Train for ``epochs`` passes over the samples; 0 passes leave the weights and an empty History.

        Parameters
        ----------
        x, y
            Samples (N, ...) and targets. Arrays of any numeric dtype and layout, or lists; only read, and
            converted batch by batch.
        batch_size
            Samples a step, 32 by default; the last batch of an epoch may be shorter.
        verbose
            0 silent; 1 or "auto" a live progress line (on a terminal); 2 a line an epoch.
        callbacks
            Objects of ``npnet.callbacks``.
        validation_split
            Share of the samples, taken from the end before shuffling, to validate on.
        validation_data
            (x, y) or (x, y, sample_weight) to validate on.
        shuffle
            Visit the samples in a new order each epoch, drawn from (seed, epoch).
        class_weight
            {label: weight}; labels left out weigh 1.
        sample_weight
            One weight a sample.
        initial_epoch
            Where to go on counting; training runs from here to ``epochs``. A model's ``position`` goes on in
            the middle of the epoch it was stopped in; all other arguments must be the same then.
        validation_batch_size
            Like ``batch_size``, which it is by default.
        validation_freq
            Validate every so many epochs, or after the epochs of a list (from 1).

        Returns
        -------
        History
            ``history`` (name -> value of each epoch), ``epoch``, ``params``.

        Raises
        ------
        RuntimeError
            Before ``compile``.
        ValueError, TypeError
            If an argument does not fit. Nothing has changed then.
        """
        self._require_compiled("fit")
        batch_size = checks.integer("batch_size", DEFAULT_BATCH_SIZE if batch_size is None else batch_size)
        epochs = checks.integer("epochs", epochs, least=0)
        if isinstance(initial_epoch, data.Position):
            start = initial_epoch
        else:
            start = data.Position(checks.integer("initial_epoch", initial_epoch, least=0))
        validation_batch_size = checks.integer(
            "validation_batch_size", batch_size if validation_batch_size is None else validation_batch_size
        )
        shown = check_verbose(verbose)
        validate_after = checks.validation_epochs(validation_freq)
        checks.flag("shuffle", shuffle)
        train = self._check_samples(x, y, sample_weight, class_weight)
        validation = None
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise ValueError("validation_data must be (x, y) or (x, y, sample_weight).")
            x_val, y_val, weight = (*validation_data, None)[:3]
            validation = self._check_samples(x_val, y_val, weight, prefix="validation ")
        elif validation_split:
            kept = data.split(len(train), checks.number("validation_split", validation_split))
            train, validation = train.rows(0, kept), train.rows(kept, len(train))
            if class_weight is not None:
                validation.weight = None  # as in Keras, classes are weighted in training only
        if validation is not None and validation.x.shape[1:] != train.x.shape[1:]:
            raise ValueError(
                f"validation x must hold samples of shape {train.x.shape[1:]} like x, got"
                f" {validation.x.shape[1:]}."
            )
        scaling = Rescaling, Normalization, BatchNormalization
        if not any(isinstance(layer, scaling) for layer in self.layers):
            checks.warn_about_pixels(train.x)

        steps = -(-len(train) // batch_size)
        if start.batch > steps:
            raise ValueError(
                f"initial_epoch is a position after {start.batch} steps of an epoch, got {steps} steps an"
                " epoch. Give the x and the batch_size it was training with."
            )
        history = History()
        params = {"verbose": shown, "epochs": epochs, "steps": steps}
        listeners, progbar = check_callbacks(callbacks), ProgbarLogger()
        watchers = [*listeners, history, *([progbar] if shown else [])]
        call = CallbackList(watchers, self, params)
        step = self._prepare_to_train(train)
        at_once = self._steps_at_once(batch_size, any(map(hears_batches, listeners)))
        self.history = history
        self.stop_training = False
        logs: Logs = {}
        with interrupts.deferred() as interrupt, _announced(shown) as progbar.pauses:
            call("on_train_begin", {})
            try:
                for epoch in range(start.epoch, epochs):
                    self.position = start if epoch == start.epoch else data.Position(epoch)
                    call("on_epoch_begin", epoch, {})
                    logs = self._train_epoch(step, train, batch_size, at_once, shuffle, call, interrupt)
                    if validation is not None and validate_after(epoch):
                        values = self._evaluate(validation, validation_batch_size, call, interrupt=interrupt)
                        logs |= {f"val_{name}": value for name, value in values.items()}
                    if self.position.batch == steps:
                        self.position = data.Position(epoch + 1)
                    call("on_epoch_end", epoch, logs)
                    interrupt.check()
                    if self.stop_training:
                        break
            finally:
                call("on_train_end", logs)
        return self.history

    def _train_epoch(
        self,
        step: Steps,
        train: Samples,
        batch_size: int,
        at_once: int,
        shuffle: bool,
        call: CallbackList,
        interrupt: interrupts.Interrupt,
    ) -> Logs:
        """Take one step for each batch from ``position`` on and return the epoch's means."""
        means = self._new_means()
        epoch, done, sums = self.position
        if done:
            means.resume(sums)
        order = data.epoch_order(len(train), shuffle, self.seed, epoch)
        batches = data.batches(order, batch_size)
        while done < len(batches):
            call("on_train_batch_begin", done, {})
            taken = [train.batch(index) for index in batches[done : done + at_once]]
            for batch, (loss, y_pred) in zip(taken, step(train.x, taken), strict=True):
                means.update(loss, batch.y_true, y_pred, batch.sample_weight)
            done += len(taken)
            self.position = data.Position(epoch, done, means.sums())
            call("on_train_batch_end", done - 1, means.logs())
            interrupt.check()
            if self.stop_training:
                break
        return means.logs()

    # --- evaluate, predict ----------------------------------------------------------------------------------

    @config.keras_arguments(steps=None)
    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        callbacks: list[Callback] | None = None,
        return_dict: bool = False,
    ) -> float | list[float] | Logs:
        """Return the loss and the metrics of the model on samples it does not learn from.

        Returns
        -------
        float, list or dict
            The loss alone where there are no metrics, else [loss, metric, ...]; a dict if ``return_dict``.
        """
        self._require_compiled("evaluate")
        self._require_built("evaluate")
        batch_size = checks.integer("batch_size", DEFAULT_BATCH_SIZE if batch_size is None else batch_size)
        samples = self._check_samples(x, y, sample_weight)
        self._prepare(samples)
        steps = -(-len(samples) // batch_size)
        with self._watch(steps, verbose, callbacks) as (call, progress):
            logs = self._evaluate(samples, batch_size, call, progress)
            if progress:
                progress.finish(logs)
        return self._reported(logs, return_dict)

    def _evaluate(
        self,
        samples: Samples,
        batch_size: int,
        call: CallbackList,
        progress: Progress | None = None,
        interrupt: interrupts.Interrupt | None = None,
    ) -> Logs:
        """Return the means over all samples."""
        call("on_test_begin", {})
        means = self._new_means()
        for batch, index in enumerate(data.batches(np.arange(len(samples)), batch_size)):
            call("on_test_batch_begin", batch, {})
            y = samples.y[index]
            weight = None if samples.weight is None else samples.weight[index]
            y_pred = self.forward(data.gather(samples.x, index, self.dtype))
            loss = self.loss.forward(y, y_pred, weight) + self.penalty()
            means.update(loss, y, y_pred, weight)
            call("on_test_batch_end", batch, means.logs())
            if progress:
                progress.update(batch + 1, means.logs())
            if interrupt:
                interrupt.check()
        call("on_test_end", means.logs())
        return means.logs()

    @config.keras_arguments(steps=None)
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        callbacks: list[Callback] | None = None,
    ) -> np.ndarray:
        """Return the outputs for samples x, a new array of shape (N, *output_shape); N may be 0."""
        batch_size = checks.integer("batch_size", DEFAULT_BATCH_SIZE if batch_size is None else batch_size)
        x = self._check_x(x, least=0)
        self._prepare_to_run(x)
        steps = -(-len(x) // batch_size)
        y = np.empty((len(x), *self.compute_output_shape(x.shape[1:])), self.dtype)
        with self._watch(steps, verbose, callbacks) as (call, progress):
            call("on_predict_begin", {})
            for batch, index in enumerate(data.batches(np.arange(len(x)), batch_size)):
                call("on_predict_batch_begin", batch, {})
                y[index[0] : index[-1] + 1] = self.forward(data.gather(x, index, self.dtype))
                call("on_predict_batch_end", batch, {})
                if progress:
                    progress.update(batch + 1, {})
            call("on_predict_end", {})
            if progress:
                progress.finish({})
        return y

    # --- single batches -------------------------------------------------------------------------------------

    def train_on_batch(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> float | list[float] | Logs:
        """Take one step on the batch; return its loss and metrics as ``evaluate`` does."""
        self._require_compiled("train_on_batch")
        batch = self._check_samples(x, y, sample_weight, class_weight)
        step = self._prepare_to_train(batch)
        [(loss, y_pred)] = step(batch.x, [batch.batch(np.arange(len(batch)))])
        means = self._new_means()
        means.update(loss, batch.y, y_pred, batch.weight)
        return self._reported(means.logs(), return_dict)

    def test_on_batch(
        self, x: Any, y: Any, sample_weight: Any = None, return_dict: bool = False
    ) -> float | list[float] | Logs:
        """Return the batch's loss and metrics without learning from it."""
        self._require_compiled("test_on_batch")
        self._require_built("test_on_batch")
        batch = self._check_samples(x, y, sample_weight)
        self._prepare(batch)
        logs = self._evaluate(batch, len(batch), CallbackList([], self, {}))
        return self._reported(logs, return_dict)

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """Return the outputs of one batch."""
        x = self._check_x(x, least=0)
        return self.predict(x, batch_size=max(1, len(x)), verbose=0)

    @contextmanager
    def _watch(
        self, steps: int, verbose: int | str, callbacks: list[Callback] | None
    ) -> Iterator[tuple[CallbackList, Progress | None]]:
        """Give who watches an evaluation or a prediction."""
        shown = check_verbose(verbose)
        params = {"verbose": shown, "epochs": 1, "steps": steps}
        call = CallbackList(check_callbacks(callbacks), self, params)
        with _announced(shown) as pauses:
            yield call, Progress(steps, live=shown == 1, pauses=pauses) if shown else None


def _announced(shown: int) -> AbstractContextManager[Pauses]:
    """Announce the kernels that are compiled in a block which shows anything; give what it waits for them."""
    if not shown:
        return nullcontext(NoPauses())
    return announce_compilation(live=shown == 1 and is_watched(sys.stdout))
