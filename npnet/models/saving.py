"""Models and weights in one safetensors file: arrays and plain JSON, no code.

Tensors are called ``layer/parameter`` and ``layer/parameter/slot``. The metadata hold

    format        "npnet 1"
    architecture  the layers: class names of a closed list with their arguments; which parameters are frozen
    training      optimizer, loss and metrics as compiled, the optimizer's step, and the position in ``fit``
    streams       where Dropout's random streams stand
    statistics    mean and variance of each Normalization layer: no parameters, but no prediction without them
    class_names   what the outputs stand for, if the model knows
    digest        SHA-256 over all of the above and the tensors, so that a damaged file is refused
"""

import hashlib
import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors

from npnet import layers
from npnet.internal import checks, config
from npnet.internal.files import Buffer, owner_of, refuse_other_formats, write_atomically
from npnet.internal.mixed_precision import DTypePolicy
from npnet.kernels import why_no_numba
from npnet.layers.layer import MOST_NUMBERS, shapes_in_file
from npnet.layers.parameter import Parameter
from npnet.layers.parameter import assign as assign_all
from npnet.layers.preprocessing import Normalization
from npnet.optimizers import Optimizer, average
from npnet.optimizers.optimizer import SQUARES
from npnet.training.batches import Position
from npnet.training.loops import Trainee
from npnet.training.setup import Setup

__all__ = [
    "FORMAT",
    "MOST_LAYERS",
    "MOST_STEPS",
    "T",
    "Tensors",
    "architecture",
    "assign",
    "built",
    "digest",
    "load_model",
    "load_training",
    "load_weights",
    "named_parameters",
    "read",
    "restore_training",
    "save_model",
    "save_weights",
    "slots_of",
    "training_state",
    "weights_of",
    "write",
]

FORMAT = "npnet 1"
# What a file may describe. The time to build grows with the square of the layers, and a step count is turned
# into a float, exactly.
MOST_LAYERS, MOST_STEPS = 1000, 2**53
KINDS = {"float32": "F32", "float64": "F64"}  # of numbers, as the format calls them
Tensors = dict[str, np.ndarray]
Statistics = dict[str, dict[str, Any]]
T = TypeVar("T", bound=Trainee)


def save_model(model: Trainee, filepath: str | Path, overwrite: bool = True) -> None:
    """Write architecture, weights and, of a compiled model, the training state.

    Parameters
    ----------
    filepath
        ``.safetensors`` is customary; the endings of other formats, such as Keras's .h5, are refused.
    overwrite
        False refuses to replace a file.

    Raises
    ------
    FileExistsError, OSError, ValueError
        If the file is there, cannot be written, or a weight is NaN or infinite. The file that was there is
        untouched then.
    """
    model.require_built("save")
    with model.lock:  # between two steps
        metadata: dict[str, Any] = {"architecture": architecture(model)}
        tensors = weights_of(model)
        if model.setup is not None:
            metadata["training"] = training_state(model, model.setup)
            tensors |= slots_of(model)
        leaves = model.leaves().items()
        streams = {path: layer.rng.bit_generator.state for path, layer in leaves if layer.rng}
        metadata["streams"], metadata["statistics"] = streams, statistics_of(model)
        if model.class_names:
            metadata["class_names"] = model.class_names
        write(Path(filepath), tensors, metadata, overwrite)


def save_weights(model: Trainee, filepath: str | Path, overwrite: bool = True) -> None:
    """Write the weights alone, with the statistics of ``Normalization``."""
    model.require_built("save_weights")
    with model.lock:
        write(Path(filepath), weights_of(model), {"statistics": statistics_of(model)}, overwrite)


def load_weights(model: Trainee, filepath: str | Path, skip_mismatch: bool = False) -> None:
    """Read weights into a built model, by layer and parameter name.

    Parameters
    ----------
    skip_mismatch
        Leave parameters as they are whose tensor is missing or of another shape, with a warning that names
        them, instead of refusing.

    Raises
    ------
    ValueError
        If the file is damaged, holds NaN or infinity, or does not fit. Nothing has changed then.
    """
    model.require_built("load_weights")
    path = Path(filepath)
    tensors, metadata = read(path)
    with model.lock:
        statistics = _fitting_statistics(model, metadata, path, skip_mismatch)
        assign(named_parameters(model), tensors, path, skip_mismatch)
        for layer, values in statistics:
            layer.set_statistics(**values)


def load_training(model: Trainee, setup: Setup, filepath: str | Path) -> None:
    """Read weights, the optimizer's memory, random streams and the place in ``fit`` into a compiled model.

    So is the learning rate, unless it follows a schedule.

    Raises
    ------
    ValueError
        If the file is damaged, holds no training, or was saved by a model of other layers or with another
        optimizer.
    """
    model.require_built("load_training")
    path = Path(filepath)
    tensors, metadata = read(path)
    if "training" not in metadata:
        raise ValueError(f"{path} holds no training: save a compiled model.")
    with model.lock:
        rate = _rate(setup.optimizer, metadata["training"], path)
        statistics = _fitting_statistics(model, metadata, path)
        assign(named_parameters(model), tensors, path)
        for layer, values in statistics:
            layer.set_statistics(**values)
        with _blaming(path):
            _restore_progress(model, setup, metadata["training"], tensors)
            _restore_streams(model, metadata["streams"])
            if rate is not None:
                setup.optimizer.learning_rate = rate


def _rate(optimizer: Optimizer, state: dict[str, Any], path: Path) -> float | None:
    """Return the learning rate in a file, None for a schedule; refuse the memory of another optimizer."""
    with _blaming(path):
        name, rate = state["optimizer"]["class_name"], state["optimizer"]["config"]["learning_rate"]
    if name != type(optimizer).__name__:
        raise ValueError(
            f"{path} was saved with the optimizer {name}, the model is compiled with"
            f" {type(optimizer).__name__}. Compile it as it was, or read the weights alone: load_weights."
        )
    return rate if optimizer.schedule is None and not isinstance(rate, dict) else None


def load_model(
    kind: type[T], filepath: str | Path, custom_objects: dict[str, Any] | None, compile: bool
) -> T:
    """Return the model of class ``kind`` that a file holds; see ``npnet.models.load_model``."""
    path = Path(filepath)
    tensors, metadata = read(path)
    if "architecture" not in metadata:
        raise ValueError(f"{path} holds weights only: build the model and call load_weights.")
    description = metadata["architecture"]
    token = shapes_in_file.set({name: tensor.shape for name, tensor in tensors.items()})
    try:
        with config.custom_objects(custom_objects):
            with _blaming(path):
                model = built(kind, description)
            parameters = named_parameters(model)
            for name, tensor in _fitting(parameters, tensors, path).items():
                parameters[name].array = tensor.astype(model.dtype, copy=False)
            with _blaming(path):
                if compile and "training" in metadata:
                    restore_training(model, metadata["training"], tensors)
                _restore_streams(model, metadata["streams"])
                model.class_names = metadata.get("class_names", [])
    finally:
        shapes_in_file.reset(token)
    return model


def built(kind: type[T], description: dict[str, Any]) -> T:
    """Return a new model of class ``kind``, as ``architecture`` described it."""
    if len(description["layers"]) > MOST_LAYERS:
        raise ValueError(f"it has {len(description['layers'])} layers, at most {MOST_LAYERS} are read")
    if (size := math.prod(description["input_shape"])) > MOST_NUMBERS:
        raise ValueError(f"its samples have {size:,} numbers, at most {MOST_NUMBERS:,} are read")
    policy = DTypePolicy(description["dtype"])
    model = kind(name=description["name"], dtype=policy, seed=description["seed"])
    for layer in description["layers"]:
        model.add(layers.from_config(layer))
    if description["input_shape"]:
        model.build((None, *description["input_shape"]))
    for name in description.get("frozen", ()):
        named_parameters(model)[name].trainable = False
    return model


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Turn whatever a strange description leads to into a ValueError that names the file."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else repr(error)
        raise ValueError(f"{path} describes no model that can be built: {reason}") from error


def _restore_streams(model: Trainee, streams: dict[str, Any]) -> None:
    """Set the layers' random streams to where they stood."""
    for path, layer in model.leaves().items():
        if layer.rng:
            layer.rng.bit_generator.state = streams[path]


# --- a model as tensors and JSON ----------------------------------------------------------------------------


def architecture(model: Trainee) -> dict[str, Any]:
    """Return what ``load_model`` needs to build the model again."""
    description = {
        "name": model.name,
        "dtype": model.dtype_policy.name,
        "seed": model.seed,
        "input_shape": list(model.input_shape or ()),
        "layers": [config.serialize(layer) for layer in model.layers],
    }
    frozen = [name for name, parameter in named_parameters(model).items() if parameter.frozen]
    return description | ({"frozen": frozen} if frozen else {})


def named_parameters(model: Trainee) -> dict[str, Parameter]:
    """Return the parameters as "layer/parameter" -> Parameter."""
    return {f"{path}/{p.name}": p for path, layer in model.leaves().items() for p in layer.parameters}


def weights_of(model: Trainee) -> Tensors:
    """Return the parameters' arrays by name.

    Raises
    ------
    ValueError
        If one holds NaN or infinity: such a model must not replace a good one.
    """
    weights = {name: parameter.value for name, parameter in named_parameters(model).items()}
    for name, value in weights.items():
        if not (math.isfinite(value.min(initial=0)) and math.isfinite(value.max(initial=0))):
            raise ValueError(f"{name} holds NaN or infinity: training has diverged. Nothing was saved.")
    return weights


def statistics_of(model: Trainee) -> Statistics:
    """Return mean and variance of the layers that standardise, by name."""
    layers = {path: layer for path, layer in model.leaves().items() if isinstance(layer, Normalization)}
    return {
        path: {name: getattr(layer, name).tolist() for name in ("mean", "variance")}
        for path, layer in layers.items()
    }


def _fitting_statistics(
    model: Trainee, metadata: dict[str, Any], path: Path, skip_mismatch: bool = False
) -> list[tuple[Normalization, dict[str, Any]]]:
    """Return the layers that take statistics from a file, with these; files of earlier versions hold none.

    Raises
    ------
    ValueError
        If they do not fit a layer, unless mismatches are skipped. Nothing has changed then.
    """
    fitting, leaves = [], model.leaves()
    with _blaming(path):
        found = dict(metadata.get("statistics", {}))
    for name, values in found.items():
        layer = leaves.get(name)
        try:
            if not isinstance(layer, Normalization):
                raise ValueError(f"it holds statistics of {name}, which is no Normalization of the model")
            layer.checked_statistics(**values)
        except (TypeError, ValueError) as error:
            trouble = f"{path} does not fit the model: {str(error).removesuffix('.')}."
            if not skip_mismatch:
                raise ValueError(f"{trouble} load_weights(skip_mismatch=True) leaves it out.") from None
            warnings.warn(trouble, stacklevel=4)
        else:
            fitting.append((layer, values))
    return fitting


def slots_of(model: Trainee) -> Tensors:
    """Return the optimizer's memory as "layer/parameter/slot" -> array."""
    memory = {} if model.setup is None else model.setup.optimizer.memory
    tensors: Tensors = {}
    for name, parameter in named_parameters(model).items():
        parameter.come_home()
        tensors |= {f"{name}/{slot}": array for slot, array in memory.get(parameter, {}).items()}
    return tensors


def training_state(model: Trainee, setup: Setup) -> dict[str, Any]:
    """Return the arguments of ``compile``, the optimizer's step and how far ``fit`` came."""
    return {
        "optimizer": config.serialize(setup.optimizer),
        "loss": config.serialize(setup.loss),
        "metrics": config.serialize(setup.metrics),
        "weighted_metrics": config.serialize(setup.weighted_metrics),
        "kernels": setup.requested_kernels,
        "fused": setup.fused,
        "iterations": setup.optimizer.iterations,
        "position": model.position._asdict(),
        "epochs_trained": model.epochs_trained,
    }


def restore_training(model: Trainee, state: dict[str, Any], tensors: Tensors) -> None:
    """Compile the model as it was and give the optimizer its memory back."""
    arguments = "optimizer", "loss", "metrics", "weighted_metrics", "kernels", "fused"
    chosen = {name: state[name] for name in arguments}
    if why_no_numba() and chosen["kernels"] == "numba":
        chosen["kernels"] = None
    setup = Setup(model, **chosen)
    _restore_progress(model, setup, state, tensors)
    model.adopt(setup)


def _restore_progress(model: Trainee, setup: Setup, state: dict[str, Any], tensors: Tensors) -> None:
    """Give the optimizer its memory back, and the model its place in the training."""
    setup.optimizer.iterations = checks.integer("iterations", state["iterations"], least=0)
    if setup.optimizer.iterations > MOST_STEPS:
        raise ValueError(f"iterations must be at most {MOST_STEPS:,}, got {setup.optimizer.iterations:,}.")
    epoch, batch = (checks.integer(name, state["position"][name], least=0) for name in ("epoch", "batch"))
    sums = {name: [float(number) for number in added] for name, added in state["position"]["sums"].items()}
    model.position = Position(epoch, batch, sums)
    model.epochs_trained = checks.integer("epochs_trained", state.get("epochs_trained", epoch), least=0)
    for name, parameter in named_parameters(model).items():
        slots = {}
        for slot in (*setup.optimizer.slot_names, average.SLOT):
            saved = tensors.get(f"{name}/{slot}")
            if saved is None:
                continue
            if saved.shape != parameter.shape:
                raise ValueError(f"{name}/{slot} must have shape {parameter.shape}, got {saved.shape}.")
            checks.finite(f"{name}/{slot}", saved, model.dtype, "Training had diverged. Use another file.")
            if slot in SQUARES and saved.min(initial=0) < 0:
                raise ValueError(f"{name}/{slot} sums up squares and cannot hold {saved.min()}.")
            slots[slot] = saved.astype(model.dtype, copy=False)
        parameter.slots = slots
        if slots:
            setup.optimizer.memory[parameter] = slots
        else:
            setup.optimizer.memory.pop(parameter, None)


def assign(
    parameters: dict[str, Parameter], tensors: Tensors, path: Path, skip_mismatch: bool = False
) -> None:
    """Overwrite parameters by the tensors of their names, all or none."""
    fitting = _fitting(parameters, tensors, path, skip_mismatch)
    assign_all([parameters[name] for name in fitting], list(fitting.values()))


def _fitting(
    parameters: dict[str, Parameter], tensors: Tensors, path: Path, skip_mismatch: bool = False
) -> Tensors:
    """Return the tensors that parameters take: all must fit, unless mismatches are skipped."""
    fitting = {}
    mismatches = []
    for name, parameter in parameters.items():
        got = tensors[name].shape if name in tensors else None
        if got == parameter.shape:
            fitting[name] = tensors[name]
        else:
            found = f"has shape {got}" if got is not None else "is not in it"
            mismatches.append(f"{name} of shape {parameter.shape} {found}")
    slots = {name for name in tensors if name.rpartition("/")[0] in tensors}
    mismatches += [
        f"it holds {name}, which the model has not" for name in sorted(tensors.keys() - parameters - slots)
    ]
    if mismatches and not skip_mismatch:
        raise ValueError(f"{path} does not fit the model: {mismatches[0]}.")
    for name, tensor in fitting.items():
        limit = np.finfo(parameters[name].dtype).max
        if not (tensor.min(initial=0) >= -limit and tensor.max(initial=0) <= limit):  # False for NaN as well
            raise ValueError(
                f"{path} holds NaN or infinity in {name}: training had diverged. Use another file."
            )
    if mismatches:
        warnings.warn(f"{path} does not fit all of the model: {'; '.join(mismatches)}.", stacklevel=5)
    return fitting


# --- files ------------------------------------------------------------------------------------------------


def write(path: Path, tensors: Tensors, metadata: dict[str, Any], overwrite: bool) -> None:
    """Write tensors and metadata to one file, atomically."""
    refuse_other_formats(path)
    if not overwrite and path.exists():
        raise FileExistsError(f"{path} exists; give another name or overwrite=True.")
    texts = {key: json.dumps(value) for key, value in metadata.items()} | {"format": FORMAT}
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}  # numbers, too
    texts["digest"] = digest(tensors, texts)
    write_atomically(path, *_pieces(tensors, texts))


def _pieces(tensors: Tensors, texts: dict[str, str]) -> list[Buffer]:
    """Return a safetensors file: its header, and the numbers of each tensor where they are.

    The library would copy all of them twice. The format (github.com/huggingface/safetensors): the header's
    length, a JSON table of where each tensor lies, and their numbers without gaps, the widest first, each on
    a multiple of its width.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    ends = [0, *accumulate(tensors[name].nbytes for name in order)]
    header: dict[str, Any] = {"__metadata__": texts}
    for name, offsets in zip(order, pairwise(ends), strict=True):
        kind, shape = KINDS[tensors[name].dtype.name], tensors[name].shape
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    little = [tensors[name].astype(tensors[name].dtype.newbyteorder("<"), copy=False) for name in order]
    return [len(text).to_bytes(8, "little"), text, *(tensor.reshape(-1).data for tensor in little)]


def read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Return a file's tensors and metadata after checking the digest.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no npnet file or any part of it was changed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            texts = dict(file.metadata() or {})
            if texts.get("format") != FORMAT:
                raise ValueError(f"{path} is no {FORMAT} file (format {texts.get('format')!r}).")
            names = list(file.keys())
            if unknown := {file.get_slice(name).get_dtype() for name in names} - {*KINDS.values()}:
                raise ValueError(
                    f"{path} holds numbers of the kind {min(unknown)}; npnet writes F32 and F64."
                )
            tensors = {name: file.get_tensor(name) for name in names}
    except safetensors.SafetensorError as error:
        owner = owner_of(path)
        hint = "" if owner in (None, "safetensors") else f" Its name is that of a file of {owner}."
        raise ValueError(f"{path} is no safetensors file or is damaged: {error}.{hint}") from None
    expected = texts.pop("digest", None)
    if digest(tensors, texts) != expected:
        raise ValueError(f"{path} is damaged: its digest does not match. Use another copy.")
    try:
        return tensors, {key: json.loads(text) for key, text in texts.items() if key != "format"}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} holds a description that is no JSON: {error}") from None


def digest(tensors: Tensors, texts: dict[str, str]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes of all tensors and of all texts."""
    result = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        result.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        result.update(np.ascontiguousarray(tensor).data)
    for key in sorted(texts):
        result.update(f"{key} {texts[key]}\n".encode())
    return result.hexdigest()
