"""Compile, and what fit, evaluate and predict have in common: checked samples and everything made ready."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npnet import losses, optimizers
from npnet import metrics as metric_names
from npnet.callbacks.callback import Logs
from npnet.internal import checks, config
from npnet.kernels import load
from npnet.layers.layer import Layer, Shape
from npnet.layers.parameter import Parameter
from npnet.metrics import Means, Metric
from npnet.training import batches as data
from npnet.training.fused import plan as fusion
from npnet.training.samples import Samples, check_targets, class_weights, warn_about_last_layer
from npnet.training.step import Network, Result

Steps = Callable[[np.ndarray, list[data.Batch]], list[Result]]


class Compiled(Network):
    """A network with a loss, an optimizer and metrics, and the gate its data pass."""

    layers: list[Layer]
    seed: int
    built: bool
    input_shape: Shape | None

    compiled = False
    requested_kernels: str | None = None
    fused = True
    steps_per_execution: int | str = "auto"
    _requested_metrics: list[list[Any]]
    _metrics: list[list[Metric]]
    _step: Steps | None = None
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

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_step": None}  # a plan belongs to one model; it is made again

    # --- compile ------------------------------------------------------------------------------------------

    @config.keras_arguments(loss_weights=None, run_eagerly=False, jit_compile="auto", auto_scale_loss=True)
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: list[Any] | None = None,
        weighted_metrics: list[Any] | None = None,
        kernels: str | None = None,
        fused: bool = True,
        steps_per_execution: int | str = "auto",
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
        steps_per_execution
            Steps that ``fit`` takes in one call of the kernels, with the same results, bit for bit. Callbacks
            hear of the first batch of each call before it and of the last one after it. "auto": as many as
            pay, but one where a callback listens to batches.

        Raises
        ------
        ValueError, TypeError
            If a name is unknown (the nearest is named) or there is no loss. Nothing has changed then.
        """
        if loss is None:
            raise ValueError('compile needs a loss, for instance loss="categorical_crossentropy".')
        chosen_optimizer, chosen_loss = optimizers.get(optimizer), losses.get(loss)
        chosen_kernels = load(kernels)
        if steps_per_execution != "auto":
            steps_per_execution = checks.integer("steps_per_execution", steps_per_execution)
        checks.flag("fused", fused)
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
        self.steps_per_execution = steps_per_execution
        self._requested_metrics = requested
        self._metrics = []
        self._step = None
        self.compiled = True

    # --- the gate -------------------------------------------------------------------------------------------

    def _require_compiled(self, method: str) -> None:
        if not self.compiled:
            raise RuntimeError(
                f'{method} needs a compiled model: call model.compile(loss="categorical_crossentropy") first.'
            )

    def _check_x(self, x: Any, name: str = "x", least: int = 1) -> np.ndarray:
        """Return the samples, at least so many, checked against the input shape."""
        if not self.layers:
            raise RuntimeError("The model has no layers: add some first, model.add(Dense(...)).")
        first = self.layers[0]
        layer = f"{type(first).__name__} {first.name!r}"
        return checks.features(name, x, self.input_shape, layer, self.dtype, least)

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

    def _prepare_to_train(self, samples: Samples) -> Steps:
        """Make ready to train and return the function that takes the steps."""
        self._prepare(samples)
        trained = self.trainable_parameters
        if not trained:
            raise RuntimeError("The model has nothing to train: no layer with parameters is trainable.")
        if self._step is None or trained != self._trained:
            self._trained = trained
            self._step = (fusion.plan(self) if self.fused else None) or self.train_steps
        return self._step

    def _steps_at_once(self, batch_size: int, heard: bool) -> int:
        """Return how many steps to take in one call; ``heard``: a callback listens to batches."""
        if self.steps_per_execution != "auto":
            return int(self.steps_per_execution)
        if heard or not isinstance(self._step, fusion.FusedSteps):
            return 1
        return self._step.steps_at_once(batch_size)

    def _new_means(self) -> Means:
        """Return means that have seen nothing."""
        return Means(*self._metrics)

    def _reported(self, logs: Logs, return_dict: bool) -> float | list[float] | Logs:
        """Return the logs in the form Keras returns them."""
        if return_dict:
            return logs
        values = [logs["loss"], *(logs[metric.name] for group in self._metrics for metric in group)]
        return values if len(values) > 1 else values[0]
