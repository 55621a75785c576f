"""Training in a loop of one's own: batches, metrics and the learning rate in plain sight."""

import numpy as np

from npnet import Sequential, layers, losses, metrics, optimizers

rng = np.random.default_rng(4)
x = rng.normal(0, 1, (640, 5)).astype("float32")
y = (np.linalg.norm(x, axis=1) > 2).astype("int64")
x_val, y_val = x[512:], y[512:]

model = Sequential([layers.Input((5,)), layers.Dense(32, "mish"), layers.Dense(2)])
model.compile(optimizers.Adam(1e-2), losses.SparseCategoricalCrossentropy(from_logits=True))
mean_loss, accuracy = metrics.Mean(), metrics.SparseCategoricalAccuracy()

for epoch in range(12):
    order = rng.permutation(512)
    for step in range(0, 512, 64):
        rows = order[step : step + 64]
        mean_loss.update_state(model.train_on_batch(x[rows], y[rows]))
    accuracy.update_state(y_val, model(x_val))
    print(f"epoch {epoch}: loss {mean_loss.result():.4f}, validation accuracy {accuracy.result():.3f}")
    mean_loss.reset_state()
    accuracy.reset_state()
