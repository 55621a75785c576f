"""What ``compile`` chose, the gate that data pass, and who takes the steps."""

import copy
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np

from npnet import losses, optimizers
from npnet import metrics as metric_names
from npnet.callbacks.callback import Callback
from npnet.internal import checks, processes
from npnet.internal.strict import is_own
from npnet.kernels import Kernels, load, name_of, why_no_numba
from npnet.kernels.machine.threads import one_blas_thread
from npnet.layers.chain import Chain
from npnet.layers.layer import Shape
from npnet.losses import SparseCategoricalCrossentropy
from npnet.metrics import MeanMetricWrapper, Means, Metric
from npnet.training.distribution import distribution, warn_of_strangers
from npnet.training.fused.plan import FusedStep
from npnet.training.samples import Samples, check_targets, class_weights, warn_about_last_layer
from npnet.training.step import Step, Steps, require_trainable

__all__ = ["SMALL", "Setup", "blas_threads", "check_features", "default_kernels", "is_small"]

SMALL = 10_000  # weights of a network that NumPy's kernels train before Numba's are compiled


class Setup:
    """A chain with a loss, an optimizer, metrics and kernels: how it is to be trained.

    Parameters
    ----------
    optimizer, loss
        A name or an object.
    metrics, weighted_metrics
        Names or objects; the latter are weighted by ``sample_weight`` and ``class_weight``.
    kernels
        "numba" for the compiled kernels, "numpy" for the readable ones; None: see ``default_kernels``.
    fused
        Compute neighbouring operations as one where the kernels can. The results agree to rounding.
    steps_per_execution
        Steps that ``fit`` takes in one call of the kernels, with the same results, bit for bit. "auto": as
        many as pay, but one where a callback listens to batches.

    Raises
    ------
    ValueError, TypeError
        If a name is unknown (the nearest is named) or there is no loss.
    """

    def __init__(
        self,
        chain: Chain,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: list[Any] | None = None,
        weighted_metrics: list[Any] | None = None,
        kernels: str | None = None,
        fused: bool = True,
        steps_per_execution: int | str = "auto",
    ):
        if loss is None:
            raise ValueError('compile needs a loss, for instance loss="categorical_crossentropy".')
        self.chain = chain
        self.optimizer, self.loss = optimizers.get(optimizer), losses.get(loss)
        if kernels is not None:
            load(kernels)
        self.requested_kernels = kernels
        if steps_per_execution != "auto":
            steps_per_execution = checks.integer("steps_per_execution", steps_per_execution)
        self.steps_per_execution = steps_per_execution
        self.fused = checks.flag("fused", fused)
        if self.loss.reduction is None:
            raise ValueError('The loss to train needs reduction="sum_over_batch_size" or "sum", got None.')
        self.metrics = _requested("metrics", metrics)
        self.weighted_metrics = _requested("weighted_metrics", weighted_metrics)
        # The shapes of targets and outputs that the metrics take.
        self._fitting_shapes: set[tuple[Shape, Shape]] = set()
        reported = {"loss"}
        for name in ("metrics", "weighted_metrics"):
            for metric in getattr(self, name):
                key = metric_names.get(metric).name
                if key in reported:
                    raise ValueError(f"{name} reports {key!r} a second time; give a metric object name=...")
                reported.add(key)
        warn_about_last_layer(chain.links, self.loss)
        if "bfloat16" in {chain.compute_dtype, *(layer.compute_dtype for layer in chain.leaves().values())}:
            from npnet.kernels.mixed import why_no_faster

            _warn_once(why_no_faster(self.kernels))
        self._fused_step: FusedStep | None = None
        self._fused_distributed_step: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # A plan belongs to one model; it is made again.
        return vars(self) | {"_fused_step": None, "_fused_distributed_step": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({"_fitting_shapes": set()} | state)
        if why_no_numba():
            self.requested_kernels = None

    @property
    def kernels(self) -> Kernels:
        """The set of kernels that was chosen, or the default for the chain as it is now."""
        name = self.requested_kernels
        return default_kernels(self.chain) if name is None else load(name)

    # --- the gate -------------------------------------------------------------------------------------------

    def samples(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        prefix: str = "",
    ) -> Samples:
        """Return samples, targets and weights, checked against the model and each other."""
        x = check_features(self.chain, x, f"{prefix}x")
        output_shape = self.chain.compute_output_shape(x.shape[1:])
        y = check_targets(f"{prefix}y", y, self.loss, output_shape)
        checks.same_length(f"{prefix}y", y, f"{prefix}x", x)
        self._check_metrics(y, output_shape)
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

    def _check_metrics(self, y: np.ndarray, output_shape: Shape) -> None:
        """Ask npnet's own metrics about one sample: what does not fit is said before a step is taken."""
        shapes = y.shape[1:], output_shape
        if shapes in self._fitting_shapes or len(y) == 0:
            return
        y_pred = np.zeros((1, *output_shape), np.float32)
        for metric in self._copies_of_metrics(y, output_shape[-1]):
            if isinstance(metric, MeanMetricWrapper) or not is_own(type(metric)):
                continue
            metric.reset_state()
            try:
                with np.errstate(all="ignore"):
                    metric.update_state(y[:1], y_pred)
            except (ValueError, TypeError) as error:
                hint = ""
                if isinstance(self.loss, SparseCategoricalCrossentropy):
                    hint = (
                        " The targets are labels. A metric of one-hot rows wants"
                        " npnet.utils.to_categorical(y) and loss='categorical_crossentropy'."
                    )
                raise type(error)(f"Metric {metric.name!r} of one sample: {error}{hint}") from error
        self._fitting_shapes.add(shapes)

    def prepare(self, x: np.ndarray) -> None:
        """Build the chain for samples x if it is not, and give kernels to everything that computes."""
        if not self.chain.built:
            self.chain.build((None, *x.shape[1:]))
        kernels = self.kernels
        if self.loss.kernels is not kernels:
            self.loss.kernels = kernels
        self.chain.use(kernels)

    @property
    def reported(self) -> list[Metric]:
        """The metrics that are reported, as objects that have seen nothing."""
        return [metric_names.get(metric) for metric in (*self.metrics, *self.weighted_metrics)]

    def means(self, samples: Samples, units: int | None = None) -> Means:
        """Return means of the loss and the metrics that have seen nothing, and that nobody else holds.

        ``units`` is the number of outputs, where it is known already.
        """
        if units is None:
            units = self.chain.compute_output_shape(samples.x.shape[1:])[-1]
        metrics = self._copies_of_metrics(samples.y, units)
        return Means(metrics[: len(self.metrics)], metrics[len(self.metrics) :])

    def _copies_of_metrics(self, y: np.ndarray, units: int) -> list[Metric]:
        """Return the metrics, then the weighted ones, as objects that nobody else holds."""
        sparse = units > 1 and (y.ndim == 1 or y.shape[-1] == 1)
        return [
            metric_names.get(metric, sparse, units) if isinstance(metric, str) else copy.deepcopy(metric)
            for metric in (*self.metrics, *self.weighted_metrics)
        ]

    # --- the steps ------------------------------------------------------------------------------------------

    def readable_step(self) -> Step:
        """Return the step in the readable order."""
        return Step(self.chain, self.loss, self.optimizer, self.kernels)

    def step(self, heard: bool = True) -> Steps:
        """Return who takes the training steps.

        Parameters
        ----------
        heard
            Whether anybody looks at the model between two steps. If not, processes divide the optimizer's
            memory among them until ``collect``.

        Raises
        ------
        RuntimeError
            If nothing is trainable, or the optimizer has taken steps for another model.
        """
        require_trainable(self.chain)
        self._bind_optimizer()
        shared = distribution()
        if shared is not None and shared.shards > 1:
            return self._distributed_step(shared.shards, heard)
        if shared is None:
            warn_of_strangers()
        if not self._fuses:
            return self.readable_step()
        if self._fused_step is None:
            self._fused_step = FusedStep(self.readable_step())
        self._fused_step.look_at_classes()
        return self._fused_step

    @property
    def _fuses(self) -> bool:
        return self.fused and name_of(self.kernels) == "numba"

    def _distributed_step(self, shards: int, heard: bool) -> Steps:
        """Return who takes the steps of several processes."""
        from npnet.training.distributed import DistributedStep
        from npnet.training.fused.sharded import FusedDistributedStep

        group = processes.group()
        if not self._fuses:
            return DistributedStep(self.readable_step(), group, shards)
        present = self._fused_distributed_step
        if present is not None:
            present.collect()  # an error may have ended its last epoch
        if present is None or (present.group, present.sums.shards) != (group, shards):
            present = FusedDistributedStep(self.readable_step(), group, shards)
            self._fused_distributed_step = present
        present.divides = group.size > 1 and not heard
        present.fused.look_at_classes()
        return present

    def require_alike(self, **arguments: Any) -> None:
        """Raise a ValueError if processes of a distributed training give ``fit`` different arguments.

        These decide when and how often the processes meet, so they must be compared before anything else is
        exchanged.
        """
        group = processes.group()
        if group.size > 1:
            from npnet.training.alike import AT_THE_START, require_alike

            require_alike(group, AT_THE_START, {name: str(value) for name, value in arguments.items()})

    def watchers(self, **feeds: Any) -> list[Callback]:
        """Return what watches that the processes of a distributed training do the same with these feeds."""
        group = processes.group()
        if group.size == 1:
            return []
        from npnet.training.alike import Alike

        return [Alike(group, self, feeds)]

    def _bind_optimizer(self) -> None:
        """Let the optimizer count this model's steps and no other's."""
        optimizer, model = self.optimizer, self.chain.identity
        if optimizer.iterations and optimizer.trains not in (None, model):
            name = type(optimizer).__name__
            raise RuntimeError(
                f"This {name} has taken {optimizer.iterations} steps for another model and counts them for"
                " its learning rate and its memory. Give each model an optimizer of its own:"
                f" model.compile({name}(...), ...)."
            )
        if optimizer.trains is not model:
            optimizer.trains = model

    def at_once(self, step: Steps, batch_size: int, heard: bool) -> int:
        """Return how many steps to take in one call; ``heard``: a callback listens to batches."""
        if self.steps_per_execution != "auto":
            return int(self.steps_per_execution)
        return 1 if heard else step.at_once(batch_size)


def default_kernels(chain: Chain) -> Kernels:
    """Return the kernels for a chain whose user has not chosen: Numba's, but NumPy's for a small network.

    Compiling its kernels would take longer than most of its trainings. Nothing but its shapes decides, so
    that the same program always gives the same numbers.
    """
    return load("numpy" if is_small(chain) else None)


def is_small(chain: Chain) -> bool:
    """Whether a chain is built, has at most 10,000 weights, and no filters, which work all over a picture."""
    if not chain.built:
        return False
    sizes = (parameter.size for layer in chain.layers for parameter in layer.parameters)
    if any(size > SMALL for size in accumulate(sizes)):  # of a large network the first one tells
        return False
    return all(len(parameter.shape) <= 2 for parameter in chain.parameters)


def blas_threads(chain: Chain) -> AbstractContextManager[None]:
    """Return a block in which NumPy's BLAS takes one thread where more would do harm, else all of them.

    The products of a small chain are too small to share. And beside compiled kernels BLAS's threads, which
    wait awake for 0.1 s, keep kernels from their cores: layers of one's own that multiply take one thread.
    """
    if name_of(chain.kernels) == "numpy":
        one = is_small(chain)
    else:
        one = not all(is_own(type(link)) for link in chain.links)
    return one_blas_thread() if one else nullcontext()


def check_features(chain: Chain, x: Any, name: str = "x", least: int = 1) -> np.ndarray:
    """Return the samples, at least so many, checked against the chain's input shape."""
    if not chain.layers:
        raise RuntimeError("The model has no layers: add some first, model.add(Dense(...)).")
    first = chain.layers[0]
    layer = f"{type(first).__name__} {first.name!r}"
    x = checks.features(name, x, chain.input_shape, layer, chain.dtype, least)
    if chain.takes_whole_numbers:
        checks.whole(name, x, layer)
    return x


@cache
def _warn_once(why_no_faster: str | None) -> None:
    """Warn that mixed precision saves no time, and why, the first time in this process."""
    if why_no_faster is not None:
        checks.warn(f"mixed_bfloat16 is no faster than float32 here: {why_no_faster}.")


def _requested(name: str, wanted: list[Any] | None) -> list[Any]:
    if wanted is not None and not isinstance(wanted, (list, tuple)):
        raise TypeError(f"{name} must be a list of names or objects, got {wanted!r}.")
    return [one if isinstance(one, str) else metric_names.get(one) for one in wanted or []]
