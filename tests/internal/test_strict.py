"""No assignment is silently ignored: it takes effect as if the constructor had been given it, or raises."""

import inspect

import numpy as np
import pytest
from small import random

from npnet import (
    Sequential,
    callbacks,
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
)
from npnet.internal import config
from npnet.layers import Dense, Layer

REQUIRED = {  # arguments without a default, and values of them that fit each other
    "units": 3, "rate": 0.5, "activation": "relu", "shape": (4,), "mode": "horizontal", "filters": 3,
    "kernel_size": 2, "pool_size": 2, "target_shape": (4,), "dims": (2, 1), "height_factor": 0.1,
    "width_factor": 0.1, "factor": 0.1, "height": 2, "width": 2, "input_dim": 3, "output_dim": 2,
    "num_tokens": 3, "stddev": 0.1, "scale": 2.0, "layers": [], "initial_learning_rate": 0.1,
    "decay_steps": 10, "decay_rate": 0.9, "boundaries": [2], "values": [0.1, 0.2], "first_decay_steps": 3,
    "recall": 0.5, "precision": 0.5, "specificity": 0.5, "sensitivity": 0.5, "fn": losses.mse,
    "max_value": 2.0, "value": 0.1, "max_learning_rate": 0.1, "total_steps": 5,
}  # fmt: skip
OTHERS = (
    1, 2, 3, 0.25, 0.75, True, False, "l2", "zeros", "tanh", "same", "bilinear", "reflect", "vertical", "max",
    "PR", "non_neg", "sum", "macro", "multi_hot", "batch", "loss", None, (2, 2), (0, 1), [0.2, 0.6], [1, 2],
)  # fmt: skip
ABSTRACT = {"Layer", "Optimizer", "Loss", "Metric", "Callback", "Constraint", "Regularizer", "Initializer"}
MODULES = (layers, optimizers, losses, metrics, regularizers, constraints, initializers, schedules)


def arguments_of(cls):
    """Return the names of a class's arguments, and values of those that must be given."""
    signature = inspect.signature(cls).parameters.values()
    names = [p.name for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = {p.name: REQUIRED[p.name] for p in signature if p.default is p.empty and p.name in REQUIRED}
    needed |= {"groups": 2} if cls is layers.GroupNormalization else {}  # 32 would be more than the channels
    return names, needed


def made(cls, given):
    """Return an object, or None where the arguments do not fit."""
    try:
        return cls(**given)
    except (AttributeError, TypeError, ValueError):  # or it is a base class
        return None


def shown(value):
    """Return a value, or an object's attributes, in a form that == compares."""
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.get_config() if isinstance(value, config.Configurable) else value


@pytest.mark.parametrize(
    ("thing", "name", "meant"),
    [
        (optimizers.SGD(), "lr", "learning_rate"),
        (optimizers.Adam(), "beta1", "beta_1"),
        (Dense(3), "activaton", "activation"),
        (Sequential(), "trainabel", "trainable"),
        (losses.Huber(), "detla", "delta"),
        (metrics.Precision(), "threshold", "thresholds"),
        (callbacks.EarlyStopping(), "patince", "patience"),
        (schedules.CosineDecay(0.1, 10), "decay_step", "decay_steps"),
    ],
)
def test_a_misspelt_attribute_is_refused_with_the_right_name(thing, name, meant):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}' to set. Did you mean '{meant}'"):
        setattr(thing, name, 1)
    assert not hasattr(thing, name)


def test_every_attribute_that_exists_can_be_set():
    model = Sequential([Dense(3, "relu", input_shape=(4,)), layers.Dropout(0.5), layers.BatchNormalization()])
    model.compile(optimizers.Adam(amsgrad=True), "mse")
    for thing in (model, model.optimizer, *model.layers):
        for name, value in list(vars(thing).items()):
            setattr(thing, name, value)


def test_a_class_of_ones_own_may_hold_what_it_likes():
    class Own(Layer):
        def forward(self, x, training=False):
            return x

    own = Own()
    own.note = "mine"
    assert own.note == "mine"


def test_a_model_is_frozen_and_trained_as_a_whole():
    model = Sequential([Dense(3), Dense(2)])
    model.trainable = False
    assert not model.trainable
    assert not any(layer.trainable for layer in model.layers)
    model.trainable = True
    assert model.trainable
    assert all(layer.trainable for layer in model.layers)


def test_constructors_keep_or_refuse_every_argument():
    """``get_config`` returns each of them; a name that there is not is refused."""
    for cls in (*layers.CLASSES.values(), *optimizers.NAMES.values()):
        signature = inspect.signature(cls.__init__).parameters.values()
        names = [p.name for p in signature if p.name != "self" and p.kind is not p.VAR_KEYWORD]
        given = arguments_of(cls)[1]
        own = {"dtype"} if issubclass(cls, layers.Layer) else set()  # kept where it was given
        own |= {"input_dim"} if cls is not layers.Embedding else set()
        thing = cls(**given)
        assert set(names) - own <= set(thing.get_config()) | {"shape"}, cls.__name__
        with pytest.raises(TypeError, match=f"{cls.__name__} got an unexpected argument"):
            cls(**given, no_such_argument=1)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_an_argument_assigned_later_is_what_the_constructor_makes_of_it_or_refused(module):
    """And nothing else was made of it: an attribute computed from it would be stale."""
    taken = refused = 0
    for cls in vars(module).values():
        if not inspect.isclass(cls) or cls.__name__ in ABSTRACT or not cls.__module__.startswith("npnet"):
            continue
        names, needed = arguments_of(cls)
        for name in names:
            for value in OTHERS:
                thing, wanted = made(cls, needed), made(cls, needed | {name: value})
                if thing is None or wanted is None or name == "name":
                    continue
                try:
                    setattr(thing, name, value)
                except (AttributeError, TypeError):
                    refused += 1
                    continue
                taken += 1
                of_both = vars(thing).keys() - {"memory"}
                changed = {key for key in of_both if shown(vars(thing)[key]) != shown(vars(wanted)[key])}
                assert not changed, f"{cls.__name__}.{name} = {value!r} leaves {changed} stale"
    assert taken or refused


CHANGED = {
    "activation": "tanh", "rate": 0.25, "stddev": 0.5, "momentum": 0.5, "epsilon": 0.1, "scale": 3.0,
    "offset": 1.0, "negative_slope": 0.2, "alpha": 0.3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (cls, name)
        for cls in layers.CLASSES.values()
        for name in cls.changeable
        if name != "trainable" and made(cls, arguments_of(cls)[1]) is not None
    ],
)
def test_what_may_be_assigned_later_takes_effect_in_a_built_layer(cls, name):
    shape = (6,) if cls is Dense else (4, 6) if "1D" in cls.__name__ else (4, 4, 6)
    needed, x = arguments_of(cls)[1], random(0, 5, *shape).astype(np.float32)

    def outputs(given, later):
        model = Sequential([cls(**given, input_shape=shape)], seed=1)
        for argument, value in later.items():
            setattr(model.layers[0], argument, value)
        y = model.forward(x, training=True)
        return [y, model.backward(y), model.forward(x)]

    changed = outputs(needed, {name: CHANGED[name]})
    for one, other in zip(changed, outputs(needed | {name: CHANGED[name]}, {}), strict=True):
        np.testing.assert_array_equal(one, other)
    before = outputs(needed, {})
    assert any((one != other).any() for one, other in zip(changed, before, strict=True))


def test_what_weights_were_made_from_cannot_be_assigned_any_more():
    model = Sequential([Dense(3, "relu", input_shape=(4,))])
    for name, value in {"units": 5, "kernel_regularizer": "l2", "use_bias": False, "name": "new"}.items():
        with pytest.raises(AttributeError, match=f"^{name} of Dense cannot be assigned later: .*{name}="):
            setattr(model.layers[0], name, value)
    for name, value in {"dtype": "float64", "seed": 3, "layers": []}.items():
        with pytest.raises(AttributeError, match=f"^{name} of Sequential cannot be assigned later"):
            setattr(model, name, value)
    with pytest.raises(AttributeError, match=r"chosen by compile\(kernels='numba'\)"):
        model.kernels = "numba"
    with pytest.raises(AttributeError, match=r"loss of Sequential cannot be assigned. It is: The loss that"):
        model.loss = "mse"
    with pytest.raises(AttributeError, match=r"Parameter has no attribute 'trainble' to set. Did you mean"):
        model.layers[0].kernel.trainble = False


def test_what_is_assigned_later_is_checked_as_in_the_constructor():
    for thing, name, value, message in (
        (optimizers.SGD(), "clipnorm", -1.0, "clipnorm must be finite and positive"),
        (optimizers.SGD(clipnorm=1.0), "clipvalue", 0.5, "Only one of clipnorm"),
        (layers.Dropout(0.5), "rate", 3, "rate must be at least 0 and below 1"),
        (Dense(3), "activation", "tahn", "Did you mean .tanh"),
        (losses.Huber(), "delta", -1, "delta must be"),
    ):
        with pytest.raises(ValueError, match=message):
            setattr(thing, name, value)
