"""A new layer and a new activation, each checked against differences of the loss before it is trusted.

A layer says how it computes (``forward``) and whom to blame (``backward``); summary, optimizers, callbacks,
saving and all the rest then work with it as with any other. Run it: python examples/custom_layer.py
"""

from pathlib import Path

import numpy as np

import npnet
from npnet.datasets import spiral
from npnet.kernels.rules import sigmoid
from npnet.layers import Dense, Layer
from npnet.models import Sequential, load_model
from npnet.optimizers import Adam


class GatedDense(Layer):
    """y = (x A) * sigmoid(x B): A computes, B decides how much of it passes (Dauphin et al. 2017)."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def compute_output_shape(self, input_shape):
        """(D,) becomes (M,)."""
        return (self.units,)

    def build(self, input_shape, rng, dtype):
        """Create A and B, both (D, M)."""
        shape = (*input_shape, self.units)
        self.a = self.add_parameter("a", shape, "glorot_uniform", rng, dtype)
        self.b = self.add_parameter("b", shape, "glorot_uniform", rng, dtype)

    def forward(self, x, training=False):
        """Compute y, keeping what backward needs."""
        self.x = x
        self.signal = x @ self.a.value
        self.gate = sigmoid(x @ self.b.value)
        return self.signal * self.gate

    def backward(self, dy):
        """Product rule: dsignal = dy gate, dgate = dy signal; then back through sigmoid, A and B."""
        dsignal = dy * self.gate
        dlogit = dy * self.signal * self.gate * (1 - self.gate)
        self.a.grad = self.x.T @ dsignal
        self.b.grad = self.x.T @ dlogit
        return dsignal @ self.a.value.T + dlogit @ self.b.value.T


class Snake(Layer):
    """y = x + sin(x)^2 (Ziyin et al. 2020)."""

    def forward(self, x, training=False):
        """Compute y, keeping x."""
        self.x = x
        return x + np.sin(x) ** 2

    def backward(self, dy):
        """dx = dy (1 + 2 sin x cos x) = dy (1 + sin 2x)."""
        return dy * (1 + np.sin(2 * self.x))


class Careless(GatedDense):
    """GatedDense with a slip: backward forgets the derivative of the sigmoid."""

    def backward(self, dy):
        """Set dB to x' (dy signal), where x' (dy signal gate (1 - gate)) is right."""
        dx = super().backward(dy)
        self.b.grad = self.x.T @ (dy * self.signal)
        return dx


def network(first_layer):
    """Build a network for points of the plane in three classes."""
    model = Sequential([first_layer, Dense(32), Snake(), Dense(3, activation="softmax")], seed=0)
    model.compile(optimizer=Adam(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


# Any points will do to compare the gradients with differences.
x, y = np.random.default_rng(0).normal(size=(8, 2)), np.arange(8) % 3
for layer in (GatedDense, Careless):
    print(f"{layer.__name__}:")
    npnet.check_gradients(network(layer(32, input_shape=(2,))), x, y)
    print()

(x_train, y_train), (x_test, y_test) = spiral.load_data()
model = network(GatedDense(32, input_shape=(2,)))
model.summary()
model.fit(x_train, y_train, epochs=60, verbose=0)
# A file holds the names of classes and no code, so loading it takes the classes that are not npnet's.
Path("runs").mkdir(exist_ok=True)
model.save("runs/custom_layer.safetensors")
custom_objects = {"GatedDense": GatedDense, "Snake": Snake}
model = load_model("runs/custom_layer.safetensors", custom_objects)
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"Trained for 60 epochs: accuracy {accuracy:.3f} on {len(x_test)} points it has not seen")
