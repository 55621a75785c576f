"""Find the few positives among many negatives: class weights, precision and recall."""

import numpy as np

from npnet import Sequential, layers, metrics, optimizers

rng = np.random.default_rng(1)
y = (rng.random(3000) < 0.04).astype("uint8")[:, None]
x = rng.normal(0, 1, (3000, 8)).astype("float32") + 1.2 * y

counts = np.bincount(y[:, 0])
weight_for_0, weight_for_1 = 1.0 / counts[0], 1.0 / counts[1]
model = Sequential(
    [
        layers.Input(shape=(8,)),
        layers.Dense(32, activation="relu", kernel_regularizer="l2"),
        layers.GaussianNoise(0.1),
        layers.Dense(1, activation="sigmoid"),
    ]
)
model.compile(
    optimizer=optimizers.Adam(1e-2),
    loss="binary_crossentropy",
    metrics=[
        metrics.FalseNegatives(name="fn"),
        metrics.FalsePositives(name="fp"),
        metrics.Precision(name="precision"),
        metrics.Recall(name="recall"),
        metrics.AUC(name="auc"),
    ],
)
scale = 1 / min(weight_for_0, weight_for_1)
class_weight = {0: weight_for_0 * scale, 1: weight_for_1 * scale}
model.fit(
    x[:2400], y[:2400], batch_size=256, epochs=15, validation_data=(x[2400:], y[2400:]),
    class_weight=class_weight, verbose=0,
)  # fmt: skip
results = model.evaluate(x[2400:], y[2400:], return_dict=True, verbose=0)
print(", ".join(f"{name} {value:.3f}" for name, value in results.items()))
