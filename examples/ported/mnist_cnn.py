"""Classify small pictures with two convolutions, as the first page of Keras's guides about pictures does."""

import numpy as np

from npnet import Sequential, layers, optimizers, utils

# In place of MNIST, which is not drawn on the spot: ten patterns of 14 x 14 pixels, shifted and noisy.
rng = np.random.default_rng(5)
patterns = rng.random((10, 14, 14)) > 0.6
labels = rng.integers(0, 10, 1200)
shifts = rng.integers(-2, 3, (1200, 2))
images = [np.roll(patterns[label], shift, (0, 1)) for label, shift in zip(labels, shifts, strict=True)]
images = np.clip(255 * np.array(images) + rng.normal(0, 60, (1200, 14, 14)), 0, 255).astype("uint8")
(x_train, y_train), (x_test, y_test) = (images[:1000], labels[:1000]), (images[1000:], labels[1000:])

num_classes = 10
input_shape = (14, 14, 1)
x_train, x_test = x_train.astype("float32") / 255, x_test.astype("float32") / 255
x_train, x_test = np.expand_dims(x_train, -1), np.expand_dims(x_test, -1)
print("x_train shape:", x_train.shape)
y_train = utils.to_categorical(y_train, num_classes)
y_test = utils.to_categorical(y_test, num_classes)

model = Sequential(
    [
        layers.Input(shape=input_shape),
        layers.Conv2D(16, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(num_classes, activation="softmax"),
    ]
)
model.summary()
model.compile(loss="categorical_crossentropy", optimizer=optimizers.Adam(5e-3), metrics=["accuracy"])
model.fit(x_train, y_train, batch_size=32, epochs=8, validation_split=0.1, verbose=2)
score = model.evaluate(x_test, y_test, verbose=0)
print(f"test loss {score[0]:.3f}, test accuracy {score[1]:.3f}")
