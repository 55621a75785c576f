"""A callback of one's own, beside those there are."""

import numpy as np

from npnet import Sequential, callbacks, layers

x = np.random.default_rng(3).normal(0, 1, (400, 6))
y = x.sum(axis=1, keepdims=True)


class LossAndErrorPrinting(callbacks.Callback):
    """Print each epoch's loss, and stop when it is small enough."""

    def __init__(self, small_enough):
        super().__init__()
        self.small_enough = small_enough

    def on_train_begin(self, logs=None):
        """Say how long training may take."""
        print(f"at most {self.params['epochs']} epochs of {self.params['steps']} steps")

    def on_epoch_end(self, epoch, logs=None):
        """Print, and stop."""
        print(f"epoch {epoch}: loss {logs['loss']:.4f}, error {logs['mean_absolute_error']:.4f}")
        if logs["loss"] < self.small_enough:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Say where it ended."""
        print(f"stopped at a learning rate of {self.model.optimizer.learning_rate:.4g}")


model = Sequential([layers.Input((6,)), layers.Dense(1)])
model.compile("rmsprop", "mean_squared_error", metrics=["mean_absolute_error"])
model.optimizer.learning_rate = 0.02
reduce = callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=3)
model.fit(x, y, epochs=40, verbose=0, callbacks=[LossAndErrorPrinting(0.05), reduce])
