"""Tell from a CSV file who is ill: numbers are standardised by the model, categories become columns."""

import csv
from pathlib import Path

import numpy as np

from npnet import Sequential, layers

with Path("heart.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
numbers = np.array([[float(row[name]) for name in ("age", "pulse", "pressure")] for row in rows])
kinds = sorted({row["pain"] for row in rows})
pain = np.array([kinds.index(row["pain"]) for row in rows])
target = np.array([int(row["target"]) for row in rows])

one_hot = layers.CategoryEncoding(len(kinds), output_mode="one_hot")
normalizer = layers.Normalization()
normalizer.adapt(numbers)
x = np.concatenate([normalizer(numbers), one_hot(pain[:, None])], axis=1)

model = Sequential(
    [layers.Input((x.shape[1],)), layers.Dense(32, activation="relu"), layers.Dropout(0.3),
     layers.Dense(1, activation="sigmoid")]
)  # fmt: skip
model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
model.fit(x, target, epochs=40, batch_size=16, validation_split=0.2, verbose=0)
print(f"accuracy {model.evaluate(x[-80:], target[-80:], verbose=0)[1]:.3f}")
