"""Classify small pictures with two hidden layers, as the first page of Keras's guides does."""

import numpy as np

from npnet import Sequential, layers

# In place of MNIST, which is not drawn on the spot: ten patterns of 14 x 14 pixels, shifted and noisy.
rng = np.random.default_rng(5)
patterns = rng.random((10, 14, 14)) > 0.6
labels = rng.integers(0, 10, 2400)
shifts = rng.integers(-1, 2, (2400, 2))
images = [np.roll(patterns[label], shift, (0, 1)) for label, shift in zip(labels, shifts, strict=True)]
images = np.clip(255 * np.array(images) + rng.normal(0, 60, (2400, 14, 14)), 0, 255).astype("uint8")
(x_train, y_train), (x_test, y_test) = (images[:2000], labels[:2000]), (images[2000:], labels[2000:])

x_train, x_test = x_train.astype("float32") / 255, x_test.astype("float32") / 255

model = Sequential(
    [
        layers.Input(shape=x_train.shape[1:]),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(10, activation="softmax"),
    ]
)
model.summary()
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x_train, y_train, batch_size=64, epochs=5, validation_split=0.1, verbose=2)
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test loss {loss:.3f}, test accuracy {accuracy:.3f}")
print("predicted classes:", np.argmax(model.predict(x_test[:5], verbose=0), axis=1))
