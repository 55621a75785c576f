"""Dtype policies: what models and layers compute in, under Keras's names, in files and in reports."""

import copy
import json
import pickle
import warnings

import numpy as np
import pytest
from small import one_hot, random

import npnet
from npnet import DTypePolicy, Sequential, layers, mixed_precision
from npnet.checking import explain
from npnet.checking.gradient_cases import EXAMPLES
from npnet.kernels import mixed, parallel, reference
from npnet.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, Layer
from npnet.models import clone_model, load_model, saving
from npnet.training import setup

pytestmark = pytest.mark.filterwarnings("ignore:mixed_bfloat16 is no faster")
MIXED = "mixed_bfloat16"
X, Y = random(0, 24, 6).astype(np.float32), one_hot(24, 3)


@pytest.fixture(autouse=True)
def _everybody_begins_with_float32():
    yield
    npnet.config.set_dtype_policy("float32")


def model(dtype=MIXED, last=None, compiled=True, **options):
    net = Sequential([Input((6,)), Dense(5, "relu"), Dense(3, "softmax", dtype=last)], dtype=dtype, seed=0)
    if compiled:
        net.compile("rmsprop", "categorical_crossentropy", ["accuracy"], **{"kernels": "numpy", **options})
    return net


def policies(net):
    return [layer.dtype_policy.name for layer in net.leaves().values()]


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "compute", "variable"),
    [("float32",) * 3, ("float64",) * 3, (MIXED, "bfloat16", "float32")],
)
def test_a_policy_says_what_is_multiplied_and_what_weights_are(name, compute, variable):
    policy = DTypePolicy(name)
    assert (policy.name, policy.compute_dtype, policy.variable_dtype) == (name, compute, variable)
    assert policy == DTypePolicy(name) == copy.deepcopy(policy) == pickle.loads(pickle.dumps(policy))
    net = model(name, compiled=False)
    for thing in (net, *net.layers):
        assert thing.dtype_policy == policy and thing.compute_dtype == compute and thing.dtype == variable
    assert net.layers[0].variable_dtype == variable
    assert {weight.dtype for weight in net.get_weights()} == {np.dtype(variable)}


@pytest.mark.parametrize(
    ("wrong", "use"),
    [
        ("bfloat16", 'Use "mixed_bfloat16", whose weights are float32'),
        ("float16", 'npnet has no float16, .*Use "mixed_bfloat16"'),
        ("mixed_float16", 'npnet has no float16, .*Use "mixed_bfloat16"'),
        ("mixed_bfloat", ""),
        (["float32"], ""),
        (3, ""),
    ],
)
def test_another_name_is_refused_with_those_there_are(wrong, use):
    known = r'dtype must be "float32", "float64" or "mixed_bfloat16", got .*'
    for make in (DTypePolicy, npnet.config.set_dtype_policy, lambda d: Dense(3, dtype=d), model):
        with pytest.raises(ValueError, match=known + use):
            make(wrong)
    with pytest.raises(ValueError, match="policy must be one, or a name"):
        npnet.config.set_dtype_policy(None)
    assert npnet.config.dtype_policy().name == "float32"


def test_the_global_policy_is_that_of_models_made_later_and_not_given_one():
    before = model(None, compiled=False)
    assert mixed_precision.Policy is DTypePolicy is mixed_precision.DTypePolicy
    for change, tell in (
        (npnet.config.set_dtype_policy, npnet.config.dtype_policy),
        (mixed_precision.set_global_policy, mixed_precision.global_policy),
        (mixed_precision.set_dtype_policy, mixed_precision.dtype_policy),
    ):
        for policy in (MIXED, DTypePolicy(MIXED)):
            change("float64")
            assert tell() == DTypePolicy("float64")
            change(policy)
            assert npnet.config.dtype_policy() == mixed_precision.global_policy() == DTypePolicy(MIXED)
    assert Dense(3).compute_dtype == "bfloat16" and Dense(3).dtype == "float32"
    assert policies(model(None, compiled=False)) == [MIXED, MIXED]
    assert policies(model("float64", compiled=False)) == ["float64", "float64"]
    assert policies(before) == ["float32", "float32"]
    npnet.utils.clear_session()
    assert npnet.config.dtype_policy().name == "float32"


def test_the_public_modules_can_be_imported_from():
    from npnet.config import set_dtype_policy
    from npnet.mixed_precision import set_global_policy

    assert set_dtype_policy is set_global_policy


# --- layers -----------------------------------------------------------------------------------------------


def test_a_layer_may_compute_in_another_dtype_than_its_model(kernels):
    net = model(last="float32", kernels=kernels)
    assert policies(net) == [MIXED, "float32"]
    exact = {"numpy": reference, "numba": parallel}[kernels]
    first, last = net.layers
    assert net.kernels is last.kernels is last.activation.kernels is exact
    assert first.kernels is mixed.computing_in("bfloat16", exact)
    x = random(1, 4, 5).astype(np.float32)
    np.testing.assert_allclose(last.forward(x), x @ last.kernel.value, rtol=1e-5, atol=1e-6)
    assert not np.allclose(first.forward(X), X @ first.kernel.value, rtol=1e-5, atol=1e-6)
    assert policies(model("float32", last=MIXED)) == ["float32", MIXED]


@pytest.mark.parametrize("cls", [cls for cls in layers.CLASSES.values() if cls is not Input])
def test_every_layer_takes_a_policy_and_is_described_with_it(cls):
    example = EXAMPLES.get(cls, lambda: [cls()])()[0]
    for given in (MIXED, DTypePolicy(MIXED)):
        layer = cls(**example.get_config() | {"dtype": given})
        assert (layer.compute_dtype, layer.dtype) == ("bfloat16", "float32")
        assert layer.get_config() == example.get_config() | {"dtype": MIXED}


def test_a_layer_computes_by_its_policy_before_anything_is_compiled():
    net = model(compiled=False)
    x = reference.to_bfloat16(X)
    y = x @ reference.to_bfloat16(net.layers[0].kernel.value)
    np.testing.assert_allclose(net.layers[0].forward(X), y, rtol=1e-6, atol=1e-6)
    assert net(X).dtype == net.predict(X, verbose=0).dtype == np.float32


def test_weights_of_another_dtype_than_the_model_s_are_refused():
    net = Sequential([Input((6,))], dtype=MIXED)
    layer = Dense(3, dtype="float64")
    with pytest.raises(
        ValueError, match="Dense 'dense' has dtype='float64', whose weights are float64; those"
    ):
        net.add(layer)
    assert layer.name == "" and not net.layers and layer.dtype == "float64"
    with pytest.raises(ValueError, match="has weights of float32; those of 'float64' are float64"):
        model().layers[0].dtype_policy = "float64"


def test_a_layer_that_could_not_be_added_has_no_policy_of_the_model():
    layer = Dense(3)
    with pytest.raises(ValueError, match="Flatten first"):
        Sequential([Input((6, 2))], dtype=MIXED).add(layer)
    assert layer.dtype_policy.name == "float32" and layer.kernels is reference
    assert "dtype" not in layer.get_config()


def test_a_policy_is_assigned_to_a_layer_and_to_no_model():
    net = model()
    weights = net.get_weights()
    net.layers[0].dtype_policy = DTypePolicy("float32")
    assert policies(net) == ["float32", MIXED] and net.layers[0].kernels is reference
    assert all(map(np.array_equal, net.get_weights(), weights))
    assert net.layers[0].get_config()["dtype"] == "float32"
    net.layers[0].dtype_policy = MIXED
    assert net.layers[0].kernels is mixed.computing_in("bfloat16", reference)
    for name in ("dtype_policy", "compute_dtype"):
        with pytest.raises(AttributeError, match=f"{name} of Sequential cannot be assigned"):
            setattr(net, name, MIXED)
    for name in ("dtype", "compute_dtype"):
        with pytest.raises(AttributeError, match=f"{name} of Dense cannot be assigned"):
            setattr(net.layers[0], name, "float32")


def test_a_description_holds_a_policy_where_it_was_given():
    given = [layer["config"].get("dtype") for layer in model(last="float32").get_config()["layers"]]
    assert given == [None, "float32"]
    assert model().get_config()["dtype"] == MIXED
    layer = Dense(3, dtype=DTypePolicy(MIXED))
    assert (
        layer.get_config()["dtype"] == MIXED
        and Dense.from_config(layer.get_config()).dtype_policy.name == MIXED
    )

    class Own(Layer):
        def forward(self, x, training=False):
            return x

    assert "dtype" not in Own().get_config() and Own(dtype=MIXED).get_config()["dtype"] == MIXED


def test_layers_of_a_model_in_another_one_keep_its_policy():
    inside = Sequential([Dense(4, input_shape=(6,)), Dense(2, dtype="float32")], dtype=MIXED, name="inside")
    outside = Sequential([inside, Dense(3)], seed=0)
    shared = Sequential([inside.layers[0], Dense(3)], seed=0)
    assert policies(outside) == [MIXED, "float32", "float32"] and policies(shared) == [MIXED, "float32"]
    for net in (outside, shared):
        net.compile(loss="mse", kernels="numpy")
        net.fit(X, Y, verbose=0)
        twin = clone_model(net)
        assert policies(twin) == policies(net) and twin.get_config() == net.get_config()
    first = outside.leaves()["inside/dense"]
    assert isinstance(first.kernels, mixed.Mixed)
    outside.layers[0].dtype_policy = "float32"
    assert policies(outside) == ["float32"] * 3 and first.kernels is reference


def test_a_nested_model_without_a_policy_has_the_one_around_it():
    def nested(**options):
        return layers.Nested([Dense(4), Dense(2, dtype="float32")], input_shape=(6,), **options)

    assert policies(Sequential([nested(), Dense(3)], dtype=MIXED)) == [MIXED, "float32", MIXED]
    assert policies(Sequential([nested(dtype=MIXED), Dense(3)])) == [MIXED, "float32", "float32"]
    unbuilt = Sequential([Dense(4)], dtype="float64")  # whose weights are those of the model around it
    assert policies(Sequential([Input((6,)), unbuilt], dtype=MIXED)) == [MIXED]


def test_a_layer_of_one_s_own_is_rounded_for_where_it_calls_the_kernels():
    class Own(Dense):
        def forward(self, x, training=False):
            self.seen = self.compute_dtype
            return super().forward(x, training)

    layer = Own(3)
    Sequential([Input((6,)), layer], dtype=MIXED)(X)
    assert layer.seen == "bfloat16"


# --- files, copies, reports -------------------------------------------------------------------------------


def test_a_file_keeps_the_policies_whatever_the_global_one_is(tmp_path):
    net = model(last="float32")
    net.fit(X, Y, verbose=0)
    net.save(tmp_path / "model.safetensors")
    for everybody_s in ("float32", "float64", MIXED):
        npnet.config.set_dtype_policy(everybody_s)
        loaded = load_model(tmp_path / "model.safetensors")
        assert loaded.dtype_policy.name == MIXED and policies(loaded) == [MIXED, "float32"]
        assert loaded.predict(X, verbose=0).tobytes() == net.predict(X, verbose=0).tobytes()
    tensors, _ = saving.read(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}


def test_a_file_of_before_holds_float32(tmp_path):
    net = model("float32")
    assert net.get_config()["dtype"] == "float32"
    net.save(tmp_path / "model.safetensors")
    npnet.config.set_dtype_policy(MIXED)
    assert policies(load_model(tmp_path / "model.safetensors")) == ["float32", "float32"]


@pytest.mark.parametrize("where", ["model", "layer"])
@pytest.mark.parametrize("unknown", ["mixed_fp8", None, ["float32"]])
def test_a_policy_in_a_file_that_npnet_does_not_know_is_refused(tmp_path, where, unknown):
    if where == "layer" and unknown is None:
        unknown = "float8"
    tensors, path = saving.weights_of(model()), tmp_path / "model.safetensors"
    described = model().get_config()
    (described if where == "model" else described["layers"][0]["config"])["dtype"] = unknown
    saving.write(path, tensors, {"architecture": described, "streams": {}}, True)
    message = (
        'describes no model that can be built: dtype must be "float32", "float64" or "mixed_bfloat16", got'
    )
    with pytest.raises(ValueError, match=message):
        load_model(path)


def test_weights_go_from_one_policy_to_another(tmp_path):
    net, other = model(), model("float32")
    net.fit(X, Y, verbose=0)
    net.save_weights(tmp_path / "weights.safetensors")
    other.load_weights(tmp_path / "weights.safetensors")
    assert all(map(np.array_equal, net.get_weights(), other.get_weights()))
    assert policies(other) == ["float32", "float32"]
    mine, theirs = net.predict(X, verbose=0), other.predict(X, verbose=0)
    assert not np.array_equal(mine, theirs)
    np.testing.assert_allclose(mine, theirs, atol=0.02)


def test_copies_compute_alike(kernels):
    net = model(last="float32", kernels=kernels)
    net.fit(X, Y, verbose=0)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert policies(twin) == policies(net)
        assert [layer.kernels for layer in twin.layers] == [layer.kernels for layer in net.layers]
        twin.fit(X, Y, verbose=0, initial_epoch=1, epochs=2)
        assert not np.array_equal(twin.get_weights()[0], net.get_weights()[0])


def test_summary_says_what_is_not_plain_float32():
    def told(net):
        lines = []
        net.summary(print_fn=lines.append)
        return [line for line in lines if "policy" in line]

    assert told(model("float32")) == []
    assert told(model("float64")) == [" Dtype policy: float64"]
    assert told(model()) == [" Dtype policy: mixed_bfloat16"]
    assert told(model(last="float32")) == [" Dtype policy: mixed_bfloat16; float32 of dense_1"]
    assert told(model("float32", last=MIXED)) == [" Dtype policy: float32; mixed_bfloat16 of dense_1"]
    assert "mixed_bfloat16" in model()._repr_html_()


def test_gradients_are_checked_and_steps_explained_without_rounding():
    net = model(last="float32")
    check = npnet.check_gradients(net, X[:5], Y[:5], verbose=False)
    assert check.passed and max(row.error for row in check.rows) < 1e-8
    assert explain.explain(net, X[:5], Y[:5]).right
    assert policies(net) == [MIXED, "float32"] and net.layers[0].weight.value.dtype == np.float32


# --- is it faster? ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernels", "unit", "reason"),
    [
        ("numpy", True, "NumPy's kernels round"),
        ("numba", False, "there is no matrix unit"),
        ("numba", True, None),
    ],
)
def test_compile_says_once_where_it_is_no_faster(monkeypatch, kernels, unit, reason):
    monkeypatch.setattr("npnet.kernels.vectors.registers.AMX", unit)
    setup._warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model("float32", kernels=kernels)
        assert not caught
        for net in (model(kernels=kernels), model("float32", last=MIXED, kernels=kernels)):
            net.fit(X, Y, verbose=0)
    expected = [] if reason is None else [f"mixed_bfloat16 is no faster than float32 here: {reason}"]
    assert [str(w.message)[: len(expected[0])] for w in caught] == expected
    assert all(w.filename == __file__ for w in caught)


def test_json_holds_the_policies():
    described = json.loads(model(last="float32").to_json())
    assert described["dtype"] == MIXED and described["layers"][1]["config"]["dtype"] == "float32"


def test_links_without_products_are_as_in_float32():
    """Normalisation, activations and dropout round nothing."""
    x = random(3, 8, 4, 4, 3).astype(np.float32)
    found = []
    for dtype in ("float32", MIXED):
        links = [BatchNormalization(input_shape=(4, 4, 3)), Activation("gelu"), Dropout(0.3), Flatten()]
        net = Sequential(links, dtype=dtype, seed=0)
        found.append(net(x, training=True).tobytes())
    assert found[0] == found[1]
    assert Conv2D(3, 3, dtype=MIXED).compute_dtype == "bfloat16"
