"""Classify handwritten digits: load_data, scale, fit, evaluate, as tutorials begin."""

import numpy as np

from npnet import Sequential, datasets, layers, utils

num_classes = 10
(x_train, y_train), (x_test, y_test) = datasets.mnist.load_data()
x_train = x_train.reshape(-1, 28 * 28).astype("float32") / 255
x_test = x_test.reshape(-1, 28 * 28).astype("float32") / 255
print(x_train.shape[0], "train samples")
print(x_test.shape[0], "test samples")
y_train = utils.to_categorical(y_train, num_classes)
y_test = utils.to_categorical(y_test, num_classes)

model = Sequential()
model.add(layers.Dense(64, activation="relu", input_shape=(784,)))
model.add(layers.Dropout(0.2))
model.add(layers.Dense(num_classes, activation="softmax"))
model.compile(loss="categorical_crossentropy", optimizer="rmsprop", metrics=["accuracy"])
model.fit(x_train, y_train, batch_size=32, epochs=5, validation_data=(x_test, y_test), verbose=2)
print(f"test accuracy {model.evaluate(x_test, y_test, verbose=0)[1]:.3f}")
print("the first digit is a", np.argmax(model.predict(x_test[:1], verbose=0)))
