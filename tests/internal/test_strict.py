"""No assignment is silently ignored: a misspelt attribute of a layer, model or optimizer says so."""

import inspect

import pytest

from npnet import Sequential, layers, optimizers
from npnet.layers import Dense, Layer


@pytest.mark.parametrize(
    ("thing", "name", "meant"),
    [
        (optimizers.SGD(), "lr", "learning_rate"),
        (optimizers.Adam(), "beta1", "beta_1"),
        (Dense(3), "activaton", "activation"),
        (Sequential(), "trainabel", "trainable"),
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
    required = {
        "units": 3,
        "rate": 0.5,
        "activation": "relu",
        "shape": (4,),
        "mode": "horizontal",
    }
    required |= {"filters": 3, "kernel_size": 2, "pool_size": 2, "target_shape": (4,), "dims": (2, 1)}
    required |= {"height_factor": 0.1, "width_factor": 0.1}
    for cls in (*layers.CLASSES.values(), *optimizers.NAMES.values()):
        signature = inspect.signature(cls.__init__).parameters.values()
        names = [p.name for p in signature if p.name != "self" and p.kind is not p.VAR_KEYWORD]
        given = {name: required[name] for name in names if name in required}
        given |= {"scale": 2.0} if cls is layers.Rescaling else {}
        thing = cls(**given)
        assert set(names) - {"input_dim"} <= set(thing.get_config()) | {"shape"}, cls.__name__
        with pytest.raises(TypeError, match="unexpected keyword"):
            cls(**given, no_such_argument=1)
