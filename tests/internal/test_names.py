"""Names that npnet does not have, or has elsewhere, are answered with a sentence."""

import subprocess
import sys

import numpy as np
import pytest

import npnet
from npnet import Sequential
from npnet.layers import Activation, BatchNormalization, Dense, Flatten, Input, ReLU

MODULES = [npnet, *(vars(npnet)[name] for name in npnet.__all__ if hasattr(vars(npnet)[name], "__file__"))]


@pytest.mark.parametrize("module", MODULES)
def test_every_public_module_says_what_it_has(module):
    with pytest.raises(AttributeError, match=rf"^{module.__name__} has no Lstm3D\. .*Known: .*\.$"):
        _ = module.Lstm3D
    assert not hasattr(module, "__wrapped__") and not hasattr(module, "_ipython_display_")


@pytest.mark.parametrize(
    ("where", "name", "message"),
    [
        ("npnet", "Dense", "npnet has no Dense; it is npnet.layers.Dense."),
        ("npnet.losses", "Adam", "npnet.losses has no Adam; it is npnet.optimizers.Adam."),
        ("npnet.layers", "dense", 'npnet.layers has no dense. Did you mean "Dense"?'),
        ("npnet", "sequential", 'npnet has no sequential. Did you mean "Sequential"?'),
    ],
)
def test_what_is_elsewhere_or_alike_is_named(where, name, message):
    with pytest.raises(AttributeError) as caught:
        getattr(sys.modules[where], name)
    assert str(caught.value).startswith(message)


def test_modules_of_their_own_are_imported_by_name():
    program = """
import npnet
try:
    npnet.sklearn
except AttributeError as error:
    print(error)
import npnet.sklearn
print(npnet.sklearn.__name__, npnet.datasets.spiral.__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "npnet.sklearn is a module of its own: import npnet.sklearn",
        "npnet.sklearn npnet.datasets.spiral",
    ]


@pytest.mark.parametrize("make", [lambda: Dense(3), lambda: Flatten(), lambda: Sequential([Dense(3)])])
def test_there_is_no_functional_api(make):
    for given in (Input((4,)), Dense(2)):
        with pytest.raises(
            TypeError, match=r"called on arrays, got <.*no functional API.*Sequential\(\[Input"
        ):
            make()(given)


@pytest.mark.parametrize("layer", [Dense(3), BatchNormalization()])
def test_a_layer_that_was_not_built_says_so(layer):
    with pytest.raises(RuntimeError, match=f"^{type(layer).__name__} '' is not built: "):
        layer(np.ones((2, 4)))


def test_a_layer_with_nothing_to_build_runs_as_it_is():
    assert ReLU()(np.array([[-1.0, 1.0]])).tolist() == [[0, 1]]
    layer = Dense(3, "relu")
    Sequential([layer, Activation("tanh")], seed=0).build((None, 4))
    assert layer(np.ones((2, 4), np.float32)).shape == (2, 3)
