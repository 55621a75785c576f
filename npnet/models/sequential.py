"""Sequential: a stack of layers."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from npnet.callbacks import Callback, History
from npnet.callbacks.callback import Logs
from npnet.internal import checks, config
from npnet.layers.layer import Layer, refuse_layers
from npnet.layers.nested import as_layer
from npnet.losses import Loss
from npnet.metrics import Metric
from npnet.models import saving
from npnet.models.summary import html_summary, print_summary
from npnet.optimizers import Optimizer
from npnet.training import loops
from npnet.training.batches import Position
from npnet.training.setup import Setup, check_features
from npnet.utils import new_seed

__all__ = ["Sequential", "clone_model", "load_model"]

# What subclasses of Keras's Model write of their own.
KERAS_HOOKS = (
    "call", "train_step", "test_step", "predict_step", "make_train_function", "make_test_function",
    "make_predict_function", "compute_loss", "compute_metrics",
)  # fmt: skip


class Sequential(loops.Trainee):
    """A network whose layers follow one another.

    Parameters
    ----------
    layers
        The layers, first to last; more can be added.
    name
        "sequential" by default.
    dtype
        What layers compute in that say nothing else: "float32", "float64", or "mixed_bfloat16" for products
        of bfloat16 with weights of float32 (see ``npnet.mixed_precision``). By default the global policy,
        ``npnet.config.dtype_policy()``, which is "float32" at the beginning.
    seed
        Where all random numbers of the model come from (initial weights, shuffling, dropout). The same seed
        gives the same bits, at any thread count. A random one by default; NumPy's generator is not touched.

    Examples
    --------
    >>> model = Sequential([Dense(512, "relu", input_shape=(3072,)), Dense(10, "softmax")])
    >>> model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    >>> history = model.fit(x_train, y_train, epochs=20, validation_data=(x_test, y_test))
    """

    def __init__(
        self,
        layers: list[Layer] | None = None,
        name: str | None = None,
        dtype: Any = None,
        seed: int | None = None,
    ):
        super().__init__("sequential" if name is None else name, dtype, new_seed() if seed is None else seed)
        if layers is not None and not isinstance(layers, (list, tuple)):
            raise TypeError(f"layers must be a list of layers, got {layers!r}.")
        for layer in layers or []:
            self.add(layer)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in KERAS_HOOKS:
            if hasattr(cls, name):
                raise TypeError(
                    f"npnet never calls {cls.__name__}.{name}, as Keras does. Write a layer"
                    " with forward and backward, a loss, a metric or a callback; or a loop of train_on_batch."
                )

    def add(self, layer: Any) -> None:
        """Append a layer, or another model as one (see ``layers/nested.py``)."""
        super().add(as_layer(layer, {other.name for other in self.layers}))

    def __call__(self, x: Any, training: bool = False) -> np.ndarray:
        """Return the outputs of one batch."""
        refuse_layers(x)
        x = check_features(self, x)
        with self.lock:
            self.prepare(x.shape[1:])
            x = np.array(x, self.dtype, order="C")
            return self.forward(x, training) if training else self.outputs(x)

    # --- compile --------------------------------------------------------------------------------------------

    @config.keras_arguments(loss_weights=None, auto_scale_loss=True)
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: list[Any] | None = None,
        weighted_metrics: list[Any] | None = None,
        kernels: str | None = None,
        fused: bool = True,
        steps_per_execution: int | str = "auto",
        jit_compile: bool | str = "auto",
        run_eagerly: bool = False,
    ) -> None:
        """Choose how to train.

        Parameters
        ----------
        optimizer, loss
            A name or an object.
        metrics, weighted_metrics
            Names or objects; the latter are weighted by ``sample_weight`` and ``class_weight``.
        kernels
            "numba" for the compiled kernels, "numpy" for the readable ones. By default Numba's, where it is
            installed; for networks with at most 10,000 weights and no filters NumPy's, which need not be
            compiled first.
        fused
            Compute neighbouring operations as one where the kernels can. The results agree to rounding.
        steps_per_execution
            Steps that ``fit`` takes in one call of the kernels, with the same results, bit for bit. Callbacks
            hear of the first batch of each call before it and of the last one after it. "auto": as many as
            pay, but one where a callback listens to batches.
        jit_compile, run_eagerly
            Taken for Keras's sake; a warning says what to use instead.

        Raises
        ------
        ValueError, TypeError
            If a name is unknown (the nearest is named) or there is no loss. Nothing has changed then.
        """
        if jit_compile != "auto":
            checks.warn('jit_compile changes nothing: kernels="numba" are compiled, kernels="numpy" are not.')
        if run_eagerly:
            checks.warn('run_eagerly changes nothing: kernels="numpy" are the ones to step through.')
        self.adopt(
            Setup(self, optimizer, loss, metrics, weighted_metrics, kernels, fused, steps_per_execution)
        )

    @property
    def compiled(self) -> bool:
        """Whether ``compile`` was called."""
        return self.setup is not None

    @property
    def fused(self) -> bool:
        """Whether neighbouring operations are to be computed as one."""
        return self.require_compiled("fused").fused

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer that ``compile`` was given."""
        return self.require_compiled("optimizer").optimizer

    @property
    def loss(self) -> Loss:
        """The loss that ``compile`` was given."""
        return self.require_compiled("loss").loss

    @property
    def metrics(self) -> list[Metric]:
        """The metrics that ``compile`` was given, as objects that have seen nothing."""
        return self.require_compiled("metrics").reported

    @property
    def metrics_names(self) -> list[str]:
        """What ``evaluate`` returns: "loss", then the metrics' names."""
        return ["loss", *(metric.name for metric in self.metrics)]

    def reset_metrics(self) -> None:
        """Do nothing: each epoch, evaluation and batch counts from the start."""

    def require_compiled(self, what: str) -> Setup:
        """Return the setup; raise a RuntimeError that names ``what`` before ``compile``."""
        if self.setup is None:
            raise RuntimeError(
                f'{what} needs a compiled model: call model.compile(loss="categorical_crossentropy") first.'
            )
        return self.setup

    # --- training and prediction ----------------------------------------------------------------------------

    def fit(
        self,
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
        """Train for ``epochs`` passes over the samples; 0 passes leave the weights and an empty History.

        Parameters
        ----------
        x, y
            Samples (N, ...) and targets. Arrays of any numeric dtype and layout, or lists; only read, and
            converted batch by batch. Or x alone: an iterable that gives batches (x, y) or
            (x, y, sample_weight), one at a time in memory: a generator, a ``utils.PyDataset``, a DataLoader
            of PyTorch, a ``tf.data.Dataset``.
        batch_size
            Samples a step, 32 by default; the last batch of an epoch may be shorter.
        verbose
            0 silent; 1 or "auto" a live progress line (on a terminal); 2 a line an epoch.
        callbacks
            Objects of ``npnet.callbacks``.
        validation_split
            Fraction of the samples, taken from the end before shuffling, to validate on.
        validation_data
            (x, y) or (x, y, sample_weight) to validate on, or an iterable that gives batches of these.
        shuffle
            Visit the samples in a new order each epoch, drawn from (seed, epochs trained so far). "blocks"
            for arrays mapped from a slow disk: blocks of 4,096 rows in random order, mixed within 8 blocks.
            Of a PyDataset the batches change places; other iterables have an order of their own.
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
        steps_per_epoch
            Batches that an epoch takes from an iterable; by default all that it gives. The next epoch goes on
            where this one ended; an iterable that has ended is begun anew. Where a generator has ended,
            training ends with a warning.
        validation_steps
            Batches that a validation takes from an iterable; each begins anew, except with a generator.
        drop_remainder
            Leave the last batch of an epoch out if it is shorter than the others, as ``tf.data`` and PyTorch
            do under this name: with batch normalisation its few samples would count as much as a whole batch.

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
        return loops.fit(
            self, self.require_compiled("fit"), x, y, batch_size, epochs, verbose, callbacks,
            validation_split, validation_data, shuffle, class_weight, sample_weight, initial_epoch,
            validation_batch_size, validation_freq, steps_per_epoch, validation_steps, drop_remainder,
        )  # fmt: skip

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        callbacks: list[Callback] | None = None,
        return_dict: bool = False,
        steps: int | None = None,
    ) -> float | list[float] | Logs:
        """Return the loss and the metrics of the model on samples it does not learn from.

        x and y are what ``fit`` takes; of an iterable ``steps`` batches, by default all.

        Returns
        -------
        float, list or dict
            The loss alone where there are no metrics, else [loss, metric, ...]; a dict if ``return_dict``.
        """
        setup = self.require_compiled("evaluate")
        return loops.evaluate(
            self, setup, x, y, batch_size, verbose, sample_weight, callbacks, return_dict, steps
        )

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        callbacks: list[Callback] | None = None,
        steps: int | None = None,
    ) -> np.ndarray:
        """Return the outputs for samples x, a new array of shape (N, *output_shape); N may be 0.

        x is an array, or an iterable that gives batches of x, or (x, y); of those ``steps``, by default all.
        """
        return loops.predict(self, x, batch_size, verbose, callbacks, steps)

    def train_on_batch(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> float | list[float] | Logs:
        """Take one step on the batch; return its loss and metrics as ``evaluate`` does."""
        setup = self.require_compiled("train_on_batch")
        return loops.train_on_batch(self, setup, x, y, sample_weight, class_weight, return_dict)

    def test_on_batch(
        self, x: Any, y: Any, sample_weight: Any = None, return_dict: bool = False
    ) -> float | list[float] | Logs:
        """Return the batch's loss and metrics without learning from it."""
        setup = self.require_compiled("test_on_batch")
        return loops.test_on_batch(self, setup, x, y, sample_weight, return_dict)

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """Return the outputs of one batch."""
        return loops.predict_on_batch(self, x)

    # --- showing and saving ---------------------------------------------------------------------------------

    @config.keras_arguments(positions=None, expand_nested=False, show_trainable=False, layer_range=None)
    def summary(self, line_length: int | None = None, print_fn: Any = None) -> None:
        """Print layers, output shapes and numbers of parameters as Keras does."""
        print_summary(self, line_length, print_fn or print)

    @config.keras_arguments(zipped=None)
    def save(self, filepath: str | Path, overwrite: bool = True) -> None:
        """Write architecture, weights and training state to one safetensors file (see ``saving.py``)."""
        saving.save_model(self, filepath, overwrite)

    @config.keras_arguments(max_shard_size=None)
    def save_weights(self, filepath: str | Path, overwrite: bool = True) -> None:
        """Write the weights alone to a safetensors file."""
        saving.save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: str | Path, skip_mismatch: bool = False) -> None:
        """Read the weights from a file of ``save`` or ``save_weights``, by layer and parameter name."""
        saving.load_weights(self, filepath, skip_mismatch)

    def load_training(self, filepath: str | Path) -> None:
        """Read weights, the optimizer's memory and learning rate, and the place in ``fit`` from a file.

        The model is compiled and built as it was then; ``fit(initial_epoch=model.position)`` goes on.
        """
        saving.load_training(self, self.require_compiled("load_training"), filepath)

    @config.keras_arguments(verbose=None, input_signature=None)
    def export(self, filepath: str | Path, format: str = "onnx") -> None:
        """Write the model for other runtimes (see ``onnx.py``)."""
        if format != "onnx":
            raise ValueError(f'format must be "onnx", got {format!r}.')
        from npnet.models import onnx

        onnx.export(self, filepath)

    def get_config(self) -> dict[str, Any]:
        """Return the architecture as values that JSON can hold, for ``from_config``."""
        return saving.architecture(self)

    def to_json(self, **options: Any) -> str:
        """Return ``get_config`` as JSON; the options are those of ``json.dumps``."""
        return json.dumps(self.get_config(), **options)

    @classmethod
    def from_config(
        cls, description: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "Sequential":
        """Return a new model as ``get_config`` described it; its weights begin as those of the other did."""
        with config.custom_objects(custom_objects):
            return saving.built(cls, description)

    def __repr__(self) -> str:
        return f"<Sequential {self.name!r}: {', '.join(repr(layer) for layer in self.layers)}>"

    def _repr_html_(self) -> str:
        """Return the summary as a table, for notebooks."""
        return html_summary(self)


@config.keras_arguments(input_tensors=None, clone_function=None, call_function=None, recursive=False)
def clone_model(model: Sequential, custom_objects: dict[str, Any] | None = None) -> Sequential:
    """Return a new model of the same layers, whose weights begin as those of ``model`` did; not compiled.

    ``custom_objects`` are the classes of layers that are not npnet's. For a twin with the same weights and
    training state use ``copy.deepcopy(model)``.
    """
    own = {type(layer).__name__: type(layer) for layer in model.leaves().values()}
    return type(model).from_config(model.get_config(), own | (custom_objects or {}))


@config.keras_arguments(safe_mode=True)
def load_model(
    filepath: str | Path, custom_objects: dict[str, Any] | None = None, compile: bool = True
) -> Sequential:
    """Return the model a file of ``model.save`` holds, ready to go on training.

    Parameters
    ----------
    custom_objects
        {"ClassName": class} of layers, losses or optimizers that are not npnet's.
    compile
        False leaves the training state in the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, no npnet model, or names an unknown class.
    """
    return saving.load_model(Sequential, filepath, custom_objects, compile)
