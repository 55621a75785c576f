"""Batches from a generator: data that are never in memory as a whole."""

import numpy as np

from npnet import Sequential, layers, optimizers


def batches(size=32, seed=0):
    """Give batches of noisy sine curves and the number of their waves, without end."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, 40)
    while True:
        waves = rng.integers(1, 5, size)
        curves = np.sin(2 * np.pi * waves[:, None] * time) + rng.normal(0, 0.2, (size, 40))
        yield curves.astype("float32"), waves - 1


model = Sequential(
    [layers.Input((40,)), layers.Dense(32), layers.PReLU(), layers.Dense(4, activation="softmax")]
)
model.compile(optimizers.Nadam(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(
    batches(), steps_per_epoch=40, epochs=3, validation_data=batches(seed=1), validation_steps=5, verbose=2
)
loss, accuracy = model.evaluate(batches(seed=99), steps=10, verbose=0)
print(f"accuracy {accuracy:.3f}")
