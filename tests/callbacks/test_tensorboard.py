"""The TensorBoard callback: what TensorBoard's own reader finds in the files."""

import numpy as np
import pytest
from small import compiled, random

from npnet.callbacks import TensorBoard, tensorboard
from npnet.layers import Dense
from npnet.metrics import F1Score
from npnet.optimizers import SGD
from npnet.schedules import ExponentialDecay

X = random(0, 20, 4)
Y = random(1, 20, 2)


def model(**options):
    return compiled([Dense(3, "tanh", input_shape=(4,)), Dense(2)], metrics=["mae"], **options)


def fit(net, callback, **options):
    return net.fit(X, Y, verbose=0, callbacks=[callback], batch_size=5, **options).history


def read(folder):
    """Return {tag: ([step ...], [tensor ...])} of a folder's events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    found = {}
    for tag in events.Tags()["tensors"]:
        steps = events.Tensors(tag)
        found[tag] = [event.step for event in steps], [make_ndarray(event.tensor_proto) for event in steps]
    return found


def test_curves_are_laid_out_as_keras_does(tmp_path):
    net = model(optimizer=SGD(ExponentialDecay(0.1, 4, 0.5)))
    history = fit(net, TensorBoard(tmp_path), epochs=3, validation_split=0.25)
    train, validation = read(tmp_path / "train"), read(tmp_path / "validation")
    assert set(train) == {"epoch_loss", "epoch_mae", "epoch_learning_rate"}
    for name in ("loss", "mae"):
        assert train[f"epoch_{name}"] == ([0, 1, 2], pytest.approx(history[name]))
        assert validation[f"epoch_{name}"] == ([0, 1, 2], pytest.approx(history[f"val_{name}"]))
        assert validation[f"evaluation_{name}_vs_iterations"] == (
            [3, 6, 9], pytest.approx(history[f"val_{name}"])
        )  # fmt: skip
    rates = [0.1 * 0.5 ** (step / 4) for step in (3, 6, 9)]
    assert train["epoch_learning_rate"][1] == pytest.approx(rates)


@pytest.mark.parametrize(("update_freq", "steps"), [("batch", [*range(1, 9)]), (3, [3, 6])])
def test_batches_by_the_step(tmp_path, update_freq, steps):
    history = fit(model(), TensorBoard(tmp_path, update_freq=update_freq), epochs=2)
    found = read(tmp_path / "train")
    assert found["batch_loss"][0] == found["batch_mae"][0] == steps
    if update_freq == "batch":
        assert found["batch_loss"][1][3::4] == pytest.approx(history["loss"])
    assert not (tmp_path / "validation").exists()


def test_histograms_count_every_weight(tmp_path):
    net = model()
    fit(net, TensorBoard(tmp_path, histogram_freq=2), epochs=3)
    found = {tag: values for tag, values in read(tmp_path / "train").items() if "histogram" in tag}
    assert set(found) == {
        f"{layer}/{name}/histogram" for layer in ("dense", "dense_1") for name in ("kernel", "bias")
    }
    steps, histograms = found["dense/kernel/histogram"]
    assert steps == [0, 2]
    left, right, count = histograms[-1].T
    kernel = net.layers[0].weight.value
    assert count.sum() == kernel.size
    assert (left[0], right[-1]) == pytest.approx((kernel.min(), kernel.max()))


def test_weights_that_became_nan_do_not_end_the_run(tmp_path):
    net = model()
    net.build((None, 4))
    net.layers[1].bias.value[0] = np.nan
    fit(net, TensorBoard(tmp_path, histogram_freq=1), epochs=1)
    assert np.isnan(read(tmp_path / "train")["epoch_loss"][1]).all()


def test_a_second_fit_and_an_evaluation_go_on_in_the_same_folder(tmp_path):
    net = model()
    callback = TensorBoard(tmp_path, update_freq="batch")
    fit(net, callback)
    fit(net, callback, initial_epoch=1, epochs=2)
    loss = net.evaluate(X, Y, verbose=0, callbacks=[callback])[0]
    assert not callback.writers  # files are closed after training and after an evaluation
    assert read(tmp_path / "train")["batch_loss"][0] == [*range(1, 9)]
    assert read(tmp_path / "validation")["evaluation_loss_vs_iterations"] == ([8], [pytest.approx(loss)])


def test_many_fits_within_a_second_are_read_in_their_order(tmp_path):
    net = model()
    callback = TensorBoard(tmp_path, update_freq="batch")
    for epoch in range(12):
        fit(net, callback, initial_epoch=epoch, epochs=epoch + 1)
    assert len(list((tmp_path / "train").iterdir())) == 12
    assert read(tmp_path / "train")["batch_loss"][0] == [*range(1, 49)]


def test_arguments_are_checked(tmp_path):
    with pytest.raises(ValueError, match='update_freq must be "epoch", "batch"'):
        TensorBoard(tmp_path, update_freq="epochs")
    with pytest.raises(ValueError, match="update_freq must be at least 1"):
        TensorBoard(tmp_path, update_freq=0)
    with pytest.raises(TypeError, match="histogram_freq must be an integer"):
        TensorBoard(tmp_path, histogram_freq=0.5)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        TensorBoard()


def test_a_metric_of_each_class_is_a_curve_for_each(tmp_path):
    net = compiled([Dense(2, "sigmoid", input_shape=(4,))], "binary_crossentropy", metrics=[F1Score()])
    history = net.fit(X, (Y > 0) * 1.0, epochs=2, verbose=0, callbacks=[TensorBoard(tmp_path)]).history
    found = read(tmp_path / "train")
    for place in (0, 1):
        values = [each[place] for each in history["f1_score"]]
        assert found[f"epoch_f1_score/{place}"] == ([0, 1], pytest.approx(values))
