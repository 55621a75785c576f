"""A network learns which spiral arm a point is on, and draws what it would say everywhere else.

Takes a few seconds. Run it: python examples/spiral.py
"""

from pathlib import Path

from npnet.callbacks import LambdaCallback
from npnet.datasets import spiral
from npnet.layers import Dense
from npnet.models import Sequential
from npnet.optimizers import Adam
from npnet.plotting import decision_boundary

(x_train, y_train), (x_test, y_test) = spiral.load_data()

model = Sequential(
    [
        Dense(64, activation="relu", input_shape=(2,)),
        Dense(64, activation="relu"),
        Dense(3, activation="softmax"),
    ],
    seed=0,
)
model.compile(optimizer=Adam(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"])


def report(epoch, logs):
    """Print every tenth epoch."""
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1}: loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.3f}")


model.fit(x_train, y_train, epochs=60, verbose=0, callbacks=[LambdaCallback(on_epoch_end=report)])
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"{len(x_test)} points it has not seen: accuracy {accuracy:.3f}")

picture = Path("runs") / "spiral.png"
decision_boundary(model, x_test, y_test, path=picture)
print(f"What it learned: {picture}")
