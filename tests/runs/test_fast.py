"""The recipe "fast": its network, who trains which parameter, and several views of a picture."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from npnet import optimizers
from npnet.cli import main
from npnet.datasets import shapes
from npnet.initializers import patch_covariance
from npnet.layers import Dense, Flatten
from npnet.models import Sequential, load_model
from npnet.optimizers import Muon
from npnet.runs import airbench, datasets, outcome, recipes, train, views
from npnet.runs.report import pictures
from npnet.runs.settings import complete

PICTURES = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
MEAN, VARIANCE = [120.0, 130.0, 140.0], [4000.0, 5000.0, 6000.0]


def build(pictures=PICTURES, steps_per_epoch=25, **changes):
    recipe = dataclasses.replace(recipes.FAST, **changes)
    classes, kernels = 10, "numpy"
    measured = MEAN, VARIANCE, pictures
    return recipes.build(recipe, PICTURES.shape[1:], classes, steps_per_epoch, 0, kernels, *measured)


@pytest.fixture(scope="module")
def net():
    return build()


# --- the network


def test_it_is_the_network_of_airbench94(net):
    normalised = ["BatchNormalization", "Activation"]
    group = ["Conv2D", "MaxPooling2D", *normalised, "Conv2D", *normalised]
    assert [type(layer).__name__ for layer in net.layers] == [
        "RandomFlip", "RandomTranslation", "Normalization", "Conv2D", *group, *group, *group,
        "GlobalMaxPooling2D", "Rescaling", "Dense",
    ]  # fmt: skip
    assert [layer.filters for layer in net.layers if hasattr(layer, "filters")] == [
        24, 64, 64, 256, 256, 256, 256,
    ]  # fmt: skip
    kernels = sum(9 * c * f for c, f in ((24, 64), (64, 64), (64, 256), *[(256, 256)] * 3))
    assert net.count_params() == 12 * 24 + 24 + kernels + 3 * 2 * (64 + 256 + 256) + 2560
    assert recipes.widths(recipes.FAST, (32, 32, 3), 10) == (
        "32x32x3-whitening-64-pool-64-256-pool-256-256-pool-256-pool-10"
    )
    flip, shift, norm = net.layers[0], net.layers[1], net.get_layer("batch_normalization")
    assert (flip.mode, flip.alternate, shift.fill_mode) == ("horizontal", True, "mirror")
    assert shift.height_factor == shift.width_factor == (-2 / 32, 2 / 32)
    assert (norm.momentum, norm.epsilon, norm.gamma) == (0.6, 1e-12, None)
    assert net.loss.label_smoothing == 0.2


def test_it_begins_as_the_recipe_says(net):
    x = (PICTURES - np.array(MEAN)) / np.sqrt(VARIANCE)
    whitening = net.get_layer("whitening")
    assert whitening.kernel.frozen and whitening.bias.trainable
    filters = whitening.kernel.value[..., :12].reshape(12, 12).astype(float)
    scaled = filters.T @ patch_covariance(x, 2) @ filters
    np.testing.assert_allclose(scaled, np.diag(np.diag(scaled)), atol=1e-4)
    assert 0.1 < np.abs(whitening.bias.value).max() <= 12**-0.5
    second = net.get_layer("conv2d_2").kernel.value  # of 64 channels and 256 filters
    np.testing.assert_array_equal(second[1, 1, :, :64], np.eye(64))
    rest, limit = second[..., 64:], (9 * 64) ** -0.5
    assert 0.99 * limit < np.abs(rest).max() <= limit
    assert net.get_layer("head").kernel.value.std() == pytest.approx(1, rel=0.03)
    assert net.get_layer("rescaling").scale == 1 / 256


def test_who_trains_what_and_how_fast(net):
    recipe, owner = recipes.FAST, net.optimizer.optimizer_map
    names = {}
    for parameter in net.trainable_parameters:
        names.setdefault(owner(parameter), []).append(parameter.path)
    muon, bias, betas, head = names
    muon, bias = (muon, bias) if isinstance(muon, Muon) else (bias, muon)
    assert [names[bias], names[head]] == [["whitening/bias"], ["head/kernel"]]
    assert sorted(names[muon]) == sorted(f"conv2d{i}/kernel" for i in ("", "_1", "_2", "_3", "_4", "_5"))
    assert len(names[betas]) == 6 and all(name.endswith("/beta") for name in names[betas])
    assert (muon.momentum, muon.ns_steps, muon.rms_rate, muon.rescale) == (0.6, 3, None, True)
    for optimizer, rate, epochs in (
        (muon, 0.24, 8), (bias, 0.053 * 2000, 3), (betas, 0.053 * 2000, 8), (head, 0.67 * 2000, 8)
    ):  # fmt: skip
        for step in (0, 10, 25 * epochs):
            expected = rate * (1 - step / (25 * epochs))
            assert optimizer.schedule(step) == pytest.approx(expected, abs=1e-12)
        assert isinstance(optimizer, Muon) or (optimizer.momentum, optimizer.nesterov) == (0.85, True)
    decays = {p.path: 2 * p.regularizer.l2 for p in net.trainable_parameters if p.regularizer}
    assert decays.keys() == {*names[bias], *names[betas], *names[head]}
    for path, decay in decays.items():  # for the mean; 2000 times that for the sum
        rate = 0.67 if path == "head/kernel" else 0.053
        assert decay * 2000 * rate == pytest.approx(2e-6 * recipe.batch_size)


def test_with_another_optimizer_there_is_that_one_alone():
    net = build(filters=(2, 3, 4), optimizer="adam", learning_rate=1e-3, weight_decay=0.01)
    assert type(net.optimizer) is optimizers.Adam and net.optimizer.weight_decay == 0.01
    assert net.optimizer.schedule(50) == pytest.approx(1e-3 * 0.75)
    assert not any(p.regularizer for p in net.parameters) and net.get_layer("whitening").kernel.frozen
    assert airbench.freezing(recipes.FAST)[0].epoch == 3 and airbench.freezing(recipes.CNN) == []


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match='network="airbench" needs the training pictures'):
        build(None)
    for changes, message in (
        ({"filters": ()}, "got no filters"),
        ({"hidden": (8,), "dropout": 0.5}, r"got hidden \(8,\), dropout 0.5"),
    ):
        with pytest.raises(ValueError, match=message):
            build(**changes)
    assert recipes.steps_per_epoch(recipes.FAST, 50_001) == 25
    assert recipes.steps_per_epoch(recipes.CNN, 129) == 2
    with pytest.raises(ValueError, match="batch_size must be at most 1999"):
        recipes.steps_per_epoch(recipes.FAST, 1999)
    with pytest.raises(ValueError, match="recipe fast is for pictures, not for spiral"):
        complete({"recipe": "fast", "dataset": "spiral"})
    kept = complete({"dataset": "spiral"}) | {"recipe": "fast"}  # the config.json of an earlier version
    assert complete(kept) == kept
    with pytest.raises(ValueError, match="views are of pictures; the samples of spiral"):
        complete({"dataset": "spiral", "views": 6})
    with pytest.raises(ValueError, match="views must be 1 or 6, got 2"):
        complete({"views": 2})


# --- views


def logits_of(model, x):
    """log p, which differs from the logits by a number for each picture."""
    return np.log(model.predict(x, verbose=0).astype(np.float64))


def test_six_views_are_the_mean_of_the_logits():
    x = PICTURES[:, :7, :6]
    model = Sequential([Flatten(), Dense(5, "softmax")], seed=0, dtype="float64")
    model.compile(loss="categorical_crossentropy", kernels="numpy")
    model.build((None, 7, 6, 3))
    model.set_weights([w / 1000 for w in model.get_weights()])
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    total = 0
    for top, weight in ((1, 0.25), (0, 0.125), (2, 0.125)):  # in place, and moved down-right and up-left
        seen = padded[:, top : top + 7, top : top + 6]
        total = total + weight * (logits_of(model, seen) + logits_of(model, seen[:, :, ::-1]))
    expected = np.exp(total)
    expected /= expected.sum(axis=1, keepdims=True)
    found = views.predict(model, x, 6)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert np.abs(found - model.predict(x, verbose=0)).max() > 1e-3
    np.testing.assert_array_equal(views.predict(model, x), model.predict(x, verbose=0))
    model.set_weights([w * 1e6 for w in model.get_weights()])  # probabilities of 0
    np.testing.assert_allclose(views.predict(model, x, 6).sum(axis=1), 1)


def test_a_run_is_measured_with_its_views_and_so_are_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(outcome, "draw", lambda *arguments: None)
    monkeypatch.setattr(pictures, "LOOKS", 1)  # where it looks takes most of a report's time
    few = (lambda path, limit: shapes.load_data(limit or 50, 50)), shapes.CLASS_NAMES
    monkeypatch.setitem(datasets.LOADERS, "shapes", few)
    settings = {
        "dataset": "shapes", "kernels": "numpy", "epochs": 1, "recipe": "fast", "filters": [2, 3, 4],
        "activation": "relu", "limit": 60, "batch_size": 16, "views": 6,
    }  # fmt: skip
    result = train(settings, tmp_path / "run", quiet=True)
    assert result["status"] == "finished" and result["views"] == 6
    assert (tmp_path / "run/report.html").exists()
    assert result["images_per_second"] is not None

    def asked(*arguments):
        assert main([*map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    of_six, of_one = (asked("evaluate", tmp_path / "run", *more) for more in ((), ("--views", 1)))
    assert of_six["test"] == result["test"] and of_six["test"] != of_one["test"]
    picture = shapes.load_data(1, 1)[1][0][0]
    Image.fromarray(picture).save(tmp_path / "a.png")
    model = load_model(tmp_path / "run/last.safetensors")
    for more, number in (((), 6), (("--views", 1), 1)):
        (answer,) = asked("predict", tmp_path / "run", tmp_path / "a.png", *more)["images"]
        expected = views.predict(model, picture[None], number)[0].max()
        assert answer["classes"][0]["probability"] == pytest.approx(float(expected))
