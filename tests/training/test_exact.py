"""The fused step computes what the objects say: whatever a reader changes, both kernel sets train alike."""

import inspect
import warnings
from functools import partial

import numpy as np
import pytest

from npnet import Sequential, activations, losses, optimizers, regularizers
from npnet.layers import (
    BatchNormalization,
    Conv1D,
    Conv2D,
    Dense,
    Flatten,
    MaxPooling2D,
    Rescaling,
    Reshape,
    UpSampling2D,
)
from npnet.training.fused.stages import KNOWN

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 2, 3)).astype(np.float32)
LABELS = np.arange(20) % 3
FORMULAS = {  # methods and properties that decide what is computed, of all the classes the plan knows
    "forward", "backward", "backward_parameters", "backward_input", "rule", "rule_backward", "remembers",
    "constants", "plain", "values", "gradient", "joint_gradient", "joint_gradient_fits", "targets",
    "sample_weight", "smoothed", "activation", "update", "update_all", "step", "apply", "clip",
    "hyperparameters", "backward_through_activation", "slots_of", "new_slot", "decay_of", "learning_rate",
    "slot_names", "chain", "bank", "bias_value", "as_pictures", "as_samples", "gamma_and_beta", "follow",
}  # fmt: skip
OTHERS = {  # that do not, or cannot without another change
    "add_parameter", "build", "clips", "compute_output_shape", "count_params", "from_config", "get_config",
    "get_weights", "input_dim",
    "weight_decay", "finalize_variable_values", "kernel", "leaves", "set_weights", "trainable_parameters",
    "weights", "variables", "trainable_weights", "trainable_variables", "non_trainable_weights",
    "non_trainable_variables", "windows", "window", "places", "check_padding", "groups_of", "filters_of",
    "add_bias", "look_at", "on_epoch_begin", "refuse_wide_borders", "normalize", "scale_and_shift",
    "dtype", "variable_dtype", "compute_dtype", "dtype_policy", "take_policy", "use", "use_own_kernels",
}  # fmt: skip
ACTIVATIONS = set(activations.NAMES.values())


def objects(cls=None, replacement=None):
    """A network's layers, loss and optimizer, where ``cls`` is there as ``replacement``."""

    def make(kind, *arguments, **options):
        return (replacement if kind is cls else kind)(*arguments, **options)

    activation = cls if cls in ACTIVATIONS else activations.ReLU
    last = cls if cls is activations.Softmax else activations.Softmax
    front = [make(Rescaling, 0.5, offset=0.1)]
    if cls is Conv1D:
        front += [Reshape((6, 1)), make(Conv1D, 4, 3, padding="same", activation="relu")]
    elif cls is BatchNormalization:
        front += [make(BatchNormalization)]
    elif cls in (Conv2D, MaxPooling2D):
        front += [
            Reshape((2, 3, 1)), UpSampling2D((4, 3)), make(Conv2D, 16, 3, padding="same", activation="elu"),
            make(Conv2D, 16, 3, padding="same", activation="relu"), make(MaxPooling2D), make(activation),
        ]  # fmt: skip
    loss = cls if cls in losses.NAMES.values() else losses.CategoricalCrossentropy
    optimizer = cls if cls in optimizers.NAMES.values() else optimizers.SGD
    layers = [
        *front, make(Flatten), make(Dense, 5), make(activation),
        make(Dense, 4, "tanh"), make(Dense, 3), make(last),
    ]  # fmt: skip
    return layers, make(loss), make(optimizer, learning_rate=0.05)


def trained(parts, between=None, kernels="numba"):
    """Weights after two fits, with a change between them."""
    layers, loss, optimizer = parts
    model = Sequential(layers, seed=2)
    y = LABELS if isinstance(loss, losses.SparseCategoricalCrossentropy) else np.eye(3)[LABELS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.compile(optimizer, loss, kernels=kernels)
        for fit in range(2):
            model.fit(X, y, batch_size=8, verbose=0)
            if between is not None and fit == 0:
                between(model)
    return model


def agree(make, between=None):
    """Assert that both kernel sets train alike, or both refuse; return the weights."""
    results = []
    for kernels in ("numpy", "numba"):
        try:
            model = trained(make(), between, kernels)
        except Exception as error:
            results.append(type(error))
        else:
            results.append(model.get_weights())
    if isinstance(results[0], type):
        assert results[0] is results[1]
        return None
    assert not isinstance(results[1], type), results[1]
    for readable, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, readable, rtol=2e-4, atol=2e-5)
    return results[0]


def altered(value):
    """Something else of the same kind, so that an override is seen."""
    if isinstance(value, np.ndarray):
        return value * value.dtype.type(1.25)
    if isinstance(value, tuple) and value and not isinstance(value[0], str):
        return tuple(map(altered, value))
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return list(map(altered, value))
    if isinstance(value, float):
        return 1.25 * value
    if callable(value):
        return lambda *operands: altered(value(*operands))
    return value


def overridden(cls, name):
    """A subclass with the method or property altered."""
    written = inspect.getattr_static(cls, name)
    if isinstance(written, property):
        return type(cls.__name__, (cls,), {name: property(lambda self: altered(written.fget(self)))})
    if isinstance(written, staticmethod):
        return type(cls.__name__, (cls,), {name: staticmethod(altered(written.__func__))})
    if not callable(written):
        return type(cls.__name__, (cls,), {name: altered(written)})
    return type(cls.__name__, (cls,), {name: lambda self, *a, **o: altered(written(self, *a, **o))})


def formulas(cls):
    return sorted(name for name in FORMULAS if hasattr(cls, name))


EFFECTIVE = {  # overrides that must be seen in the weights of this network, so that the test is not empty
    (Conv2D, "backward"), (MaxPooling2D, "forward"), (Dense, "backward"),
    (BatchNormalization, "gamma_and_beta"), (activations.ReLU, "backward"),
    (losses.CategoricalCrossentropy, "targets"),
    (optimizers.SGD, "hyperparameters"),
}  # fmt: skip
QUICK = {Dense, activations.ReLU}  # every name of theirs runs always, of the others these
QUICK_PICTURES = {(Conv2D, "backward_input"), (Conv2D, "bank"), (MaxPooling2D, "backward")}
QUICK_NAMES = {"update", "clip", "joint_gradient", "hyperparameters"}


def is_quick(cls, name):
    if cls in QUICK or (cls, name) in EFFECTIVE | QUICK_PICTURES:
        return True
    return cls in (optimizers.SGD, losses.CategoricalCrossentropy) and name in QUICK_NAMES


CASES = [
    pytest.param(
        cls, name, id=f"{cls.__name__}.{name}", marks=() if is_quick(cls, name) else pytest.mark.slow
    )
    for cls in sorted(KNOWN.bases, key=lambda cls: cls.__name__)
    for name in formulas(cls)
]


def test_every_public_name_of_a_known_class_is_listed():
    for cls in KNOWN.bases:
        names = {name for base in KNOWN.bases[cls] for name in vars(base) if not name.startswith("_")}
        public = {n for n in names if callable(getattr(cls, n)) or isinstance(vars_of(cls, n), property)}
        assert public <= FORMULAS | OTHERS, f"{cls.__name__}: {public - FORMULAS - OTHERS}"


def vars_of(cls, name):
    return inspect.getattr_static(cls, name)


@pytest.mark.parametrize(("cls", "name"), CASES)
def test_an_overridden_method_is_honoured(cls, name):
    own = agree(lambda: objects(cls, overridden(cls, name)))
    if (cls, name) in EFFECTIVE:
        plain = trained(objects(cls, cls), kernels="numpy").get_weights()
        assert any(not np.allclose(a, b) for a, b in zip(own, plain, strict=True))


@pytest.mark.parametrize("name", ["forward", "backward"])
def test_a_method_replaced_on_the_object_is_honoured(name):
    def between(model):
        link = model.layers[3]
        written = getattr(link, name)
        setattr(link, name, lambda *a, **o: altered(written(*a, **o)))

    assert agree(objects, between) is not None


@pytest.mark.parametrize("name", ["forward", "backward"])
def test_a_method_replaced_on_the_class_is_honoured(name, monkeypatch):
    written = getattr(activations.ReLU, name)
    with monkeypatch.context() as patched:

        def between(model):
            patched.setattr(activations.ReLU, name, lambda self, *a, **o: altered(written(self, *a, **o)))

        results = []
        for kernels in ("numpy", "numba"):
            results.append(trained(objects(), between, kernels).get_weights())
            patched.undo()
    for readable, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, readable, rtol=2e-4, atol=2e-5)


def values_to_try(name, value):
    """Other values for an attribute."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, float) or (isinstance(value, int) and name != "iterations"):
        return [0.5 * value + 0.1]
    return {
        "clipnorm": [1e-3], "clipvalue": [1e-4], "global_clipnorm": [1e-3], "weight_decay": [0.1],
        "max_value": [0.3], "reduction": ["sum"], "activation": [activations.Sigmoid(), None],
        "ignore_class": [1],
    }.get(name, [])  # fmt: skip


def set_attribute(cls, name, value, model):
    """Set the attribute of the model's loss or optimizer of this class, or of its last such layer."""
    things = [model.loss, model.optimizer, *reversed(model.layers)]
    setattr(next(thing for thing in things if type(thing) is cls), name, value)


def changes():
    """(name, function that changes one attribute of a model) for every attribute of every known object."""
    for cls in sorted(KNOWN.bases, key=lambda cls: cls.__name__):
        layers, loss, optimizer = objects(cls, cls)
        for thing in (*layers, loss, optimizer):
            if type(thing) is not cls:
                continue
            for private, value in vars(thing).items():
                name = private.removeprefix("_")
                for other in values_to_try(name, value):
                    yield cls, name, other, partial(set_attribute, cls, name, other)
            break


CHANGES = [
    pytest.param(
        cls, change, id=f"{cls.__name__}.{name}={other}", marks=() if cls in QUICK else pytest.mark.slow
    )
    for cls, name, other, change in changes()
]


@pytest.mark.parametrize(("cls", "change"), CHANGES)
def test_an_attribute_changed_between_two_fits_is_honoured(cls, change):
    agree(lambda: objects(cls, cls), change)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.layers[2].weight, "regularizer", regularizers.L2(0.1)),
        lambda model: setattr(model.layers[2].weight, "trainable", False),
        lambda model: model.add(Dense(3, "softmax")),
        lambda model: (model.pop(), model.add(activations.Softmax())),
    ],
    ids=["regularizer", "frozen weight", "add", "pop"],
)
def test_a_changed_parameter_or_structure_is_honoured(change):
    assert agree(objects, change) is not None


def test_a_loss_that_computes_in_float64_is_taken_as_it_is():
    class Doubled(losses.MeanSquaredError):
        def gradient(self, y_true, y_pred):
            return 2 * super().gradient(y_true.astype(np.float64), y_pred.astype(np.float64))

    def parts():
        return [Flatten(), Dense(4, "relu"), Dense(3)], Doubled(), optimizers.SGD(0.05)

    assert agree(parts) is not None
