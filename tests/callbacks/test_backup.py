"""BackupAndRestore: a training that was killed goes on to the same bits."""

import numpy as np
import pytest
from small import compiled, one_hot, random

from npnet.callbacks import BackupAndRestore, Callback
from npnet.layers import BatchNormalization, Dense, Dropout
from npnet.optimizers import Adam

X, Y = random(0, 20, 4), one_hot(20, 3)


class Kill(Callback):
    """Fail at a step, as a machine does."""

    def __init__(self, step):
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise OSError("power is out")


def model():
    layers = [Dense(5, "relu", input_shape=(4,)), Dropout(0.3), BatchNormalization(), Dense(3, "softmax")]
    return compiled(layers, "categorical_crossentropy", optimizer=Adam(0.05), metrics=["accuracy"])


def fit(model, *callbacks):
    return model.fit(X, Y, batch_size=6, epochs=4, verbose=0, callbacks=list(callbacks)).history


@pytest.mark.parametrize("save_freq", ["epoch", 3, 1])
@pytest.mark.parametrize("step", [2, 6, 8, 15])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, save_freq, step):
    whole = model()
    history = fit(whole)
    with pytest.raises(OSError, match="power"):
        fit(model(), BackupAndRestore(tmp_path, save_freq), Kill(step))
    again = model()
    rest = fit(again, BackupAndRestore(tmp_path, save_freq))
    for name, values in rest.items():
        assert values == history[name][-len(values) :]
    for ours, theirs in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not list(tmp_path.iterdir())  # a training that has ended leaves nothing


def test_the_file_can_stay_and_ends_training_at_once(tmp_path):
    first, second = model(), model()
    fit(first, BackupAndRestore(tmp_path, delete_checkpoint=False))
    assert fit(second, BackupAndRestore(tmp_path)) == {}
    np.testing.assert_array_equal(first.get_weights()[0], second.get_weights()[0])


def test_what_cannot_be_is_refused(tmp_path):
    for wrong, error in (({"save_freq": 0}, ValueError), ({"double_checkpoint": True}, TypeError)):
        with pytest.raises(error, match=next(iter(wrong))):
            BackupAndRestore(tmp_path, **wrong)
    with pytest.raises(ValueError, match="backup_dir"):
        BackupAndRestore("")
    model().save_weights(tmp_path / "backup.safetensors")
    with pytest.raises(ValueError, match="holds no training"):
        fit(model(), BackupAndRestore(tmp_path))
