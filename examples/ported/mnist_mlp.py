"""Classify small pictures with two hidden layers, as the first page of Keras's guides does."""

import numpy as np

from npnet import Sequential, layers
from npnet.datasets import shapes

(x_train, y_train), (x_test, y_test) = shapes.load_data(1500, 300)
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
