"""Learn one task, freeze what was learnt, and use it for another with few samples."""

import numpy as np

from npnet import Sequential, layers, optimizers

rng = np.random.default_rng(2)
x = rng.normal(0, 1, (2000, 10)).astype("float32")
hidden = np.tanh(x @ rng.normal(0, 1, (10, 6)))
first, second = (np.argmax(hidden @ rng.normal(0, 1, (6, classes)), axis=1) for classes in (5, 3))

base = Sequential([layers.Input((10,)), layers.Dense(64, "relu"), layers.Dense(32, "relu")], name="base")
pretraining = Sequential([base, layers.Dense(5, activation="softmax")])
pretraining.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
pretraining.fit(x, first, epochs=20, verbose=0)

base.trainable = False
model = Sequential([base, layers.Dense(3, activation="softmax")])
model.compile(optimizers.Adam(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
print("trained arrays:", len(model.trainable_weights), "of", len(model.weights))
frozen = base.get_weights()
model.fit(x[:200], second[:200], epochs=30, verbose=0)
assert all((a == b).all() for a, b in zip(frozen, base.get_weights(), strict=True))
print(f"head alone: accuracy {model.evaluate(x[500:], second[500:], verbose=0)[1]:.3f}")

base.trainable = True
model.compile(optimizers.Adam(1e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x[:200], second[:200], epochs=10, verbose=0)
print(f"fine-tuned: accuracy {model.evaluate(x[500:], second[500:], verbose=0)[1]:.3f}")
