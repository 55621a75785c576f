"""Predict a number from a table, with inputs standardised by the model itself."""

import numpy as np

from npnet import Sequential, callbacks, layers, optimizers

rng = np.random.default_rng(0)
x = rng.uniform([0, 50, -3], [10, 90, 3], (600, 3))
y = 3 * x[:, 0] + 0.2 * x[:, 1] + np.sin(x[:, 2]) + rng.normal(0, 0.3, 600)

normalizer = layers.Normalization(axis=-1)
normalizer.adapt(x[:480])
model = Sequential([normalizer, layers.Dense(32, activation="relu"), layers.Dense(1)])
schedule = optimizers.schedules.CosineDecay(0.02, decay_steps=15 * 60)
model.compile(
    optimizer=optimizers.Adam(schedule),
    loss="huber",
    metrics=["mae", "root_mean_squared_error", "r2_score"],
)
stop = callbacks.EarlyStopping(monitor="val_loss", patience=10, restore_best_weights=True)
model.fit(x[:480], y[:480], epochs=60, validation_data=(x[480:], y[480:]), callbacks=[stop], verbose=0)
results = model.evaluate(x[480:], y[480:], return_dict=True, verbose=0)
print(", ".join(f"{name} {value:.3f}" for name, value in results.items()))
