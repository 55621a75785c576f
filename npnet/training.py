"""Compile, fit, evaluate, predict: what turns a stack of layers into a trained network."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from npnet import checks, data, fusion, interrupts, losses, optimizers
from npnet import metrics as metric_names
from npnet.callback import Callback, CallbackList, Logs, check_callbacks
from npnet.callbacks import History, ProgbarLogger
from npnet.kernels import load
from npnet.kernels.announce import announce_compilation
from npnet.layer import Layer, Shape
from npnet.layers import BatchNormalization, Rescaling
from npnet.metrics import Means, Metric
from npnet.network import Network
from npnet.parameter import Parameter
from npnet.progress import Progress, check_verbose
from npnet.samples import Samples, check_targets, class_weights, warn_about_last_layer

DEFAULT_BATCH_SIZE = 32
Step = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None], tuple[float, np.ndarray]]


class Trainer(Network):
    """The training half of ``Sequential``.

    Attributes
    ----------
    history
        The History of the last ``fit``.
    stop_training
        A callback sets this to end training after the present step.
    """

    layers: list[Layer]
    seed: int
    built: bool
    input_shape: Shape | None

    compiled = False
    requested_kernels: str | None = None
    fused = True
    history: History
    stop_training = False
    _requested_metrics: list[list[Any]]
    _metrics: list[list[Metric]]
    _step: Step | None = None
    _trained: list[Parameter]

    def build(self, input_shape: Any = None) -> None:
        """Create the parameters; given by ``Sequential``."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output sample; given by ``Sequential``."""
        raise NotImplementedError

    def _require_built(self, what: str) -> Shape:
        """Return the input shape, or raise a RuntimeError; given by ``Sequential``."""
        raise NotImplementedError

    # --- compile ------------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: list[Any] | None = None,
        weighted_metrics: list[Any] | None = None,
        kernels: str | None = None,
        fused: bool = True,
    ) -> None:
        """Choose how to train.

        Parameters
        ----------
        optimizer, loss
            A name or an object.
        metrics, weighted_metrics
            Names or objects; the latter are weighted by ``sample_weight`` and ``class_weight``.
        kernels
            "numba" for the compiled kernels, "numpy" for the readable ones; by default Numba's where it is
            installed.
        fused
            Compute neighbouring operations as one where the kernels can. The results agree to rounding.

        Raises
        ------
        ValueError, TypeError
            If a name is unknown (the nearest is named) or there is no loss. Nothing has changed then.
        """
        if loss is None:
            raise ValueError('compile needs a loss, for instance loss="categorical_crossentropy".')
        chosen_optimizer, chosen_loss = optimizers.get(optimizer), losses.get(loss)
        chosen_kernels = load(kernels)
        if chosen_loss.reduction is None:
            raise ValueError('The loss to train needs reduction="sum_over_batch_size" or "sum", got None.')
        requested: list[list[Any]] = []
        reported = {"loss"}
        for name, wanted in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if wanted is not None and not isinstance(wanted, (list, tuple)):
                raise TypeError(f"{name} must be a list of names or objects, got {wanted!r}.")
            requested.append(list(wanted or []))
            for metric in requested[-1]:
                key = metric_names.get(metric).name
                if key in reported:
                    raise ValueError(f"{name} reports {key!r} a second time; give a metric object name=...")
                reported.add(key)
        warn_about_last_layer(self.chain, chosen_loss)
        if chosen_optimizer is not getattr(self, "optimizer", None):
            for parameter in self.parameters:
                parameter.slots.clear()  # another optimizer's memory
        self.optimizer, self.loss, self.kernels = chosen_optimizer, chosen_loss, chosen_kernels
        self.requested_kernels = kernels
        self.fused = fused
        self._requested_metrics = requested
        self._metrics = []
        self._step = None
        self.compiled = True

    # --- fit ----------------------------------------------------------------------------------------------

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
        initial_epoch: int = 0,
        validation_batch_size: int | None = None,
        validation_freq: int | list[int] = 1,
    ) -> History:
        """Train for ``epochs`` passes over the samples.

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
            Where to go on counting; training runs from here to ``epochs``.
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
        epochs = checks.integer("epochs", epochs)
        initial_epoch = checks.integer("initial_epoch", initial_epoch, least=0)
        validation_batch_size = checks.integer(
            "validation_batch_size", batch_size if validation_batch_size is None else validation_batch_size
        )
        shown = check_verbose(verbose)
        validate_after = checks.validation_epochs(validation_freq)
        train = self._check_samples(x, y, sample_weight, class_weight)
        validation = None
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                raise ValueError("validation_data must be (x, y) or (x, y, sample_weight).")
            x_val, y_val, weight = (*validation_data, None)[:3]
            validation = self._check_samples(x_val, y_val, weight, prefix="validation ")
        elif validation_split:
            kept = data.split(len(train), validation_split)
            train, validation = train.rows(0, kept), train.rows(kept, len(train))
            if class_weight is not None:
                validation.weight = None  # as in Keras, classes are weighted in training only
        if validation is not None and validation.x.shape[1:] != train.x.shape[1:]:
            raise ValueError(
                f"validation x must hold samples of shape {train.x.shape[1:]} like x, got"
                f" {validation.x.shape[1:]}."
            )
        if not any(isinstance(layer, (Rescaling, BatchNormalization)) for layer in self.layers):
            checks.warn_about_pixels(train.x)

        history = History()
        params = {"verbose": shown, "epochs": epochs, "steps": -(-len(train) // batch_size)}
        watchers = [*check_callbacks(callbacks), history, *([ProgbarLogger()] if shown else [])]
        call = CallbackList(watchers, self, params)
        step = self._prepare_to_train(train)
        if shown:
            step = self._announcing(step)
        self.history = history
        self.stop_training = False
        logs: Logs = {}
        with interrupts.deferred() as interrupt:
            call("on_train_begin", {})
            try:
                for epoch in range(initial_epoch, epochs):
                    call("on_epoch_begin", epoch, {})
                    logs = self._train_epoch(step, train, batch_size, shuffle, epoch, call, interrupt)
                    if validation is not None and validate_after(epoch):
                        values = self._evaluate(validation, validation_batch_size, call, interrupt=interrupt)
                        logs |= {f"val_{name}": value for name, value in values.items()}
                    call("on_epoch_end", epoch, logs)
                    interrupt.check()
                    if self.stop_training:
                        break
            finally:
                call("on_train_end", logs)
        return self.history

    def _train_epoch(
        self,
        step: Step,
        train: Samples,
        batch_size: int,
        shuffle: bool,
        epoch: int,
        call: CallbackList,
        interrupt: interrupts.Interrupt,
    ) -> Logs:
        """Take one step for each batch and return the epoch's means."""
        means = self._new_means()
        order = data.epoch_order(len(train), shuffle, self.seed, epoch)
        for batch, index in enumerate(data.batches(order, batch_size)):
            call("on_train_batch_begin", batch, {})
            y = train.y[index]
            weight = None if train.weight is None else train.weight[index]
            loss, y_pred = step(train.x, index, y, weight)
            means.update(loss, y, y_pred, weight)
            call("on_train_batch_end", batch, means.logs())
            interrupt.check()
            if self.stop_training:
                break
        return means.logs()

    # --- evaluate, predict ----------------------------------------------------------------------------------

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
        call, progress = self._watch(steps, verbose, callbacks)
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

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        callbacks: list[Callback] | None = None,
    ) -> np.ndarray:
        """Return the outputs for samples x, a new array of shape (N, *output_shape)."""
        batch_size = checks.integer("batch_size", DEFAULT_BATCH_SIZE if batch_size is None else batch_size)
        x = self._check_x(x)
        self._prepare_to_run(x)
        steps = -(-len(x) // batch_size)
        call, progress = self._watch(steps, verbose, callbacks)
        y = np.empty((len(x), *self.compute_output_shape(x.shape[1:])), self.dtype)
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
        index = np.arange(len(batch))
        loss, y_pred = step(batch.x, index, batch.y[index], batch.weight)
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
        x = self._check_x(x)
        return self.predict(x, batch_size=len(x), verbose=0)

    # --- around them ---------------------------------------------------------------------------------------

    def _require_compiled(self, method: str) -> None:
        if not self.compiled:
            raise RuntimeError(
                f'{method} needs a compiled model: call model.compile(loss="categorical_crossentropy") first.'
            )

    def _check_x(self, x: Any, name: str = "x") -> np.ndarray:
        """Return the samples, checked against the input shape."""
        if not self.layers:
            raise RuntimeError("The model has no layers: add some first, model.add(Dense(...)).")
        first = self.layers[0]
        layer = f"{type(first).__name__} {first.name!r}"
        return checks.features(name, x, self.input_shape, layer, self.dtype)

    def _check_samples(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        prefix: str = "",
    ) -> Samples:
        """Return samples, targets and weights, checked against the model and each other."""
        x = self._check_x(x, f"{prefix}x")
        output_shape = self.compute_output_shape(x.shape[1:])
        y = check_targets(f"{prefix}y", y, self.loss, output_shape)
        checks.same_length(f"{prefix}y", y, f"{prefix}x", x)
        weight = None
        if sample_weight is not None and class_weight is not None:
            raise ValueError(
                "Give sample_weight or class_weight, not both; multiply them into sample_weight."
            )
        if sample_weight is not None:
            weight = checks.sample_weight(f"{prefix}sample_weight", sample_weight, len(x))
        if class_weight is not None:
            weight = class_weights(class_weight, y, output_shape[-1])
        return Samples(x, y, weight)

    def _prepare_to_run(self, x: np.ndarray) -> None:
        """Build the model if it is not, and give every link its kernels."""
        if not self.built:
            self.build((None, *x.shape[1:]))
        for link in self.chain:
            link.kernels = self.kernels

    def _prepare(self, samples: Samples) -> None:
        """Make ready to run and to compare with targets."""
        self._prepare_to_run(samples.x)
        self.loss.kernels = self.kernels
        if not self._metrics:
            units = self.compute_output_shape(samples.x.shape[1:])[-1]
            sparse = units > 1 and (samples.y.ndim == 1 or samples.y.shape[-1] == 1)
            self._metrics = [
                [metric_names.get(metric, sparse, units) for metric in requested]
                for requested in self._requested_metrics
            ]

    def _prepare_to_train(self, samples: Samples) -> Step:
        """Make ready to train and return the step."""
        self._prepare(samples)
        trained = self.trainable_parameters
        if not trained:
            raise RuntimeError("The model has nothing to train: no layer with parameters is trainable.")
        if self._step is None or trained != self._trained:
            self._trained = trained
            self._step = (fusion.plan(self) if self.fused else None) or self.train_step
        return self._step

    def _announcing(self, step: Step) -> Step:
        """Return the step with a line about the kernels its first call compiles, validation's among them."""
        announced = False

        def announcing(
            x: np.ndarray, index: np.ndarray, y_true: np.ndarray, sample_weight: np.ndarray | None
        ) -> tuple[float, np.ndarray]:
            nonlocal announced
            if announced:
                return step(x, index, y_true, sample_weight)
            announced = True
            with announce_compilation(sys.stdout):
                self.forward(data.gather(x, index[:1], self.dtype))
                return step(x, index, y_true, sample_weight)

        return announcing

    def _new_means(self) -> Means:
        """Return means that have seen nothing."""
        return Means(*self._metrics)

    def _reported(self, logs: Logs, return_dict: bool) -> float | list[float] | Logs:
        """Return the logs in the form Keras returns them."""
        if return_dict:
            return logs
        values = [logs["loss"], *(logs[metric.name] for group in self._metrics for metric in group)]
        return values if len(values) > 1 else values[0]

    def _watch(
        self, steps: int, verbose: int | str, callbacks: list[Callback] | None
    ) -> tuple[CallbackList, Progress | None]:
        """Return who watches an evaluation or a prediction."""
        shown = check_verbose(verbose)
        params = {"verbose": shown, "epochs": 1, "steps": steps}
        return CallbackList(check_callbacks(callbacks), self, params), Progress(
            steps, live=shown == 1
        ) if shown else None
