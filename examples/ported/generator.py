"""Batches from a generator: data that are never in memory as a whole."""

import numpy as np

from npnet import Sequential, layers, optimizers


def batches(count, size=32, seed=0):
    """Give batches of noisy sine curves and the number of their waves."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, 40)
    for _ in range(count):
        waves = rng.integers(1, 5, size)
        curves = np.sin(2 * np.pi * waves[:, None] * time) + rng.normal(0, 0.2, (size, 40))
        yield curves.astype("float32"), waves - 1


model = Sequential(
    [layers.Input((40,)), layers.Dense(32), layers.PReLU(), layers.Dense(4, activation="softmax")]
)
model.compile(optimizers.Nadam(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
for epoch in range(3):
    losses = [model.train_on_batch(x, y)[0] for x, y in batches(40, seed=epoch)]
    print(f"epoch {epoch}: loss {np.mean(losses):.4f}")
results = [model.test_on_batch(x, y) for x, y in batches(10, seed=99)]
print(f"accuracy {np.mean(results, axis=0)[1]:.3f}")
