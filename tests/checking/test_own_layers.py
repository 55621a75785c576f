"""Layers of one's own: for each thing that can be missing, the sentence that says so."""

import numpy as np
import pytest
from small import compiled, random

import npnet
from npnet.kernels.rules import sigmoid
from npnet.layers import Dense, Layer, ReLU
from npnet.layers.parameter import Parameter
from npnet.models import load_model

N, D, M, K = 5, 3, 4, 2
X, Y = random(1, N, D), random(2, N, K)


class Gated(Layer):
    """y = (x A) * sigmoid(x B), with nothing missing; the others are made of it."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def compute_output_shape(self, input_shape):
        return (self.units,)

    def build(self, input_shape, rng, dtype):
        self.a = self.add_parameter("a", (*input_shape, self.units), "glorot_uniform", rng, dtype)
        self.b = self.add_parameter("b", (*input_shape, self.units), "glorot_uniform", rng, dtype)

    def forward(self, x, training=False):
        self.x = x
        self.signal = x @ self.a.value
        self.gate = sigmoid(x @ self.b.value)
        return self.signal * self.gate

    def backward(self, dy):
        dsignal, dlogit = dy * self.gate, dy * self.signal * self.gate * (1 - self.gate)
        self.a.grad = self.x.T @ dsignal
        self.b.grad = self.x.T @ dlogit
        return dsignal @ self.a.value.T + dlogit @ self.b.value.T


def check(layer, **options):
    model = compiled([layer, Dense(K)])
    return npnet.check_gradients(model, X, Y, verbose=False, **options)


def complaint(layer):
    with pytest.raises(TypeError) as error:
        check(layer)
    return str(error.value)


# --- adding it to a model ---------------------------------------------------------------------------------


def test_a_constructor_without_super():
    class Forgetful(Gated):
        def __init__(self, units):
            self.units = units

    with pytest.raises(AttributeError, match=r"Forgetful .* begin with super\(\).__init__\(\*\*options\)"):
        npnet.Sequential([Forgetful(M)])


def test_an_attribute_that_is_not_there_before_the_layer_is_built():
    layer = Gated(M)
    with pytest.raises(AttributeError, match=r"'a'; it is not built yet"):
        layer.a.value  # noqa: B018
    check(layer2 := Gated(M, input_shape=(D,)))
    with pytest.raises(AttributeError, match=r"Gated 'gated' has no attribute 'c'\.$"):
        layer2.c  # noqa: B018
    assert not hasattr(layer, "a") and hasattr(layer2, "a")


@pytest.mark.parametrize("shape", [None, M, (None, M), (2.5,), ()])
def test_an_output_shape_that_is_none(shape):
    class Shapeless(Gated):
        def compute_output_shape(self, input_shape):
            return shape

    with pytest.raises(
        TypeError, match=r"Shapeless.compute_output_shape must return .* without the batch axis"
    ):
        npnet.Sequential([Shapeless(M, input_shape=(D,)), Dense(K)])
    model = npnet.Sequential([Shapeless(M), Dense(K)])
    with pytest.raises(TypeError, match=r"compute_output_shape must return"):
        model.build((None, D))


# --- forward and backward -----------------------------------------------------------------------------------


def test_no_output_shape():
    class Shapeless(Gated):
        compute_output_shape = Layer.compute_output_shape

    said = complaint(Shapeless(M, input_shape=(D,)))
    assert "Shapeless 'shapeless'" in said and "(4,) of those of shape (3,)" in said
    assert "add compute_output_shape" in said


def test_no_output_shape_of_the_last_layer():
    """The targets do not fit the output shape the model believes in: that is not what is wrong."""

    class Shapeless(Gated):
        compute_output_shape = Layer.compute_output_shape

    model = compiled([Shapeless(K, input_shape=(D,))])
    with pytest.raises(TypeError, match="add compute_output_shape"):
        npnet.check_gradients(model, X, Y)


def test_a_wrong_output_shape():
    class Wrong(Gated):
        def compute_output_shape(self, input_shape):
            return (self.units + 1,)

    assert "compute_output_shape says (5, 5)" in complaint(Wrong(M, input_shape=(D,)))


def wrong_forward(change):
    class Wrong(Gated):
        def forward(self, x, training=False):
            return change(self, x, super().forward(x, training))

    return Wrong(M, input_shape=(D,))


def wrong_backward(change):
    class Wrong(Gated):
        def backward(self, dy):
            return change(self, dy, super().backward(dy))

    return Wrong(M, input_shape=(D,))


def clear(array, result):
    array[0] = 0
    return result


def test_what_forward_returns():
    for change, said in (
        (lambda self, x, y: None, "forward must return y, an array, got None"),
        (lambda self, x, y: y.tolist(), "got a list"),
        (lambda self, x, y: y[0], "forward returned an array of shape (4,)"),
        (lambda self, x, y: y.astype(np.float32), "the dtype of x, float64, got float32"),
        (lambda self, x, y: clear(x, y), "forward changed x"),
        (lambda self, x, y: y + np.random.default_rng().random(), "must come from self.rng"),
    ):
        assert said in complaint(wrong_forward(change))


def test_what_backward_returns_and_sets():
    def without_grad(self, dy, dx):
        del self.b.grad
        return dx

    def with_grad(grad):
        def change(self, dy, dx):
            self.b.grad = grad(self)
            return dx

        return change

    def adding(self, dy, dx):
        self.total = getattr(self, "total", 0) + self.b.grad
        self.b.grad = self.total
        return dx

    for change, said in (
        (lambda self, dy, dx: None, "backward must return dx, an array of the shape of x, got None"),
        (lambda self, dy, dx: dx.T, "of the shape of x, (5, 3), got (3, 5)"),
        (lambda self, dy, dx: clear(dy, dx), "backward changed dy"),
        (without_grad, "backward must set grad of the parameter 'b', got None"),
        (with_grad(lambda self: None), "backward must set grad of the parameter 'b', got None"),
        (with_grad(lambda self: self.b.grad.T), "must have its shape, (3, 4), got (4, 3)"),
        (adding, "must overwrite grad of the parameter 'b', not add to it"),
    ):
        assert said in complaint(wrong_backward(change))


def test_a_grad_of_an_earlier_training_does_not_count():
    class Lazy(Gated):
        def backward(self, dy):
            dx = super().backward(dy)
            if self.lazy:
                del self.b.grad
            return dx

    layer = Lazy(M, input_shape=(D,))
    layer.lazy = False
    model = compiled([layer, Dense(K)])
    model.train_on_batch(X, Y)
    layer.lazy = True
    with pytest.raises(TypeError, match="must set grad"):
        npnet.check_gradients(model, X, Y)


def test_no_forward_and_no_backward():
    for method in ("forward", "backward"):
        cls = type("Half", (Gated,), {method: getattr(Layer, method)})
        with pytest.raises(NotImplementedError, match=rf"Half has no {method}\("):
            check(cls(M, input_shape=(D,)))


def test_a_frozen_layer_needs_no_gradients():
    class Frozen(Gated):
        def backward(self, dy):
            dx = super().backward(dy)
            del self.a.grad, self.b.grad
            return dx

    assert check(Frozen(M, input_shape=(D,), trainable=False)).passed


def test_an_activation_of_ones_own_is_examined():
    class Snake(Layer):
        def forward(self, x, training=False):
            return x + np.sin(x) ** 2

        def backward(self, dy):
            return None

    assert "Snake '': backward must return dx" in complaint(Dense(M, activation=Snake(), input_shape=(D,)))


def test_layers_of_npnet_are_not_examined():
    class Better(ReLU):
        pass

    assert check(Dense(M, "relu", input_shape=(D,))).notes == []
    (note,) = check(Dense(M, Better(), input_shape=(D,))).notes
    assert note == 'To load a saved model: load_model(path, custom_objects={"Better": Better}).'


# --- saving -----------------------------------------------------------------------------------------------


def test_the_note_about_loading_is_true(tmp_path):
    layer = Gated(M, input_shape=(D,))
    result = check(layer)
    assert result.passed
    assert str(result).splitlines()[-1] == result.notes[-1]
    assert result.notes == ['To load a saved model: load_model(path, custom_objects={"Gated": Gated}).']
    model = compiled([layer])
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r'Unknown layer .Gated.*custom_objects={"Gated": Gated}'):
        load_model(tmp_path / "model")
    loaded = load_model(tmp_path / "model", custom_objects={"Gated": Gated})
    np.testing.assert_array_equal(loaded.predict_on_batch(X), model.predict_on_batch(X))


class Scaled(Layer):
    """y = factor x; the following keep the factor in some way that files miss."""

    def __init__(self, factor, **options):
        super().__init__(**options)
        self.factor = factor

    def scale(self):
        return self.factor

    def forward(self, x, training=False):
        return self.scale() * x

    def backward(self, dy):
        return self.scale() * dy


class UnderAnotherName(Scaled):
    def __init__(self, factor, **options):
        Layer.__init__(self, **options)
        self.hidden = factor

    def scale(self):
        return self.hidden


class WithoutOptions(Scaled):
    def __init__(self, factor):
        super().__init__(factor)


class KeepsOptions(Scaled):
    def __init__(self, factor, **options):
        super().__init__(factor)


class Doubling(Scaled):
    def __init__(self, factor, **options):
        super().__init__(2 * factor, **options)


class OfFunction(Scaled):
    def scale(self):
        return self.factor()


class ChangedLater(Scaled):
    extra = 1.0

    def scale(self):
        return self.factor * self.extra


class OwnArray(Scaled):
    def build(self, input_shape, rng, dtype):
        self.array = self.draw(rng).standard_normal(input_shape)

    def draw(self, rng):
        return np.random.default_rng()

    def scale(self):
        return self.array


class OwnParameter(Scaled):
    def build(self, input_shape, rng, dtype):
        self.own = Parameter("own", rng.standard_normal(input_shape))

    def scale(self):
        return self.own.value


def changed_later():
    layer = ChangedLater(3.0)
    layer.extra = 2.0
    return layer


LOST = {
    "has no attribute 'factor': saving needs each argument of __init__ in an": lambda: UnderAnotherName(3.0),
    "Let __init__ take **options and begin with super().__init__(**options)": lambda: WithoutOptions(3.0),
    "made with name='keeps_options' its attribute 'name' is ''": lambda: KeepsOptions(3.0),
    "made with factor=6.0 its attribute 'factor' is 12.0": lambda: Doubling(3.0),
    "its argument 'factor' is a function; files hold numbers": lambda: OfFunction(lambda: 3.0),
    "what is made of its arguments and parameters computes something else": changed_later,
    "must be an argument of __init__, made by self.add_parameter": lambda: OwnArray(3.0),
}


@pytest.mark.parametrize("said", LOST)
def test_what_saving_misses(said, tmp_path):
    """The gradients are right and the note says what gets lost; without heeding it, it does get lost."""
    layer = LOST[said]()
    model = compiled([Dense(M, input_shape=(D,)), layer, Dense(K)])
    layer.trainable = False
    result = npnet.check_gradients(model, X, Y, verbose=False)
    assert result.passed
    assert said in result.notes[0] and result.notes[0].startswith("Saving misses something of")
    try:
        model.save(tmp_path / "model")
        loaded = load_model(tmp_path / "model", custom_objects={type(layer).__name__: type(layer)})
    except (AttributeError, TypeError, ValueError):
        return
    same = np.array_equal(loaded.predict_on_batch(X), model.predict_on_batch(X))
    assert not same or loaded.layers[1].get_config() != layer.get_config()


def test_a_parameter_that_nobody_trains():
    (note, _) = check(OwnParameter(3.0, input_shape=(D,))).notes
    assert "self.own was not made by self.add_parameter, so it is neither trained nor saved" in note


def test_what_build_draws_again_is_not_missed(tmp_path):
    """A fixed random array drawn from the stream that build is given is the same after loading."""

    class Fixed(OwnArray):
        def draw(self, rng):
            return rng

    model = compiled([Dense(M, input_shape=(D,)), Fixed(3.0), Dense(K)])
    assert len(npnet.check_gradients(model, X, Y, verbose=False).notes) == 1
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model", custom_objects={"Fixed": Fixed})
    np.testing.assert_array_equal(loaded.predict_on_batch(X), model.predict_on_batch(X))


def test_notes_in_notebooks():
    result = check(UnderAnotherName(3.0, input_shape=(D,)))
    assert "UnderAnotherName &#x27;under_another_name&#x27;" in result._repr_html_()


def test_a_parameter_of_one_number(tmp_path):
    class Gain(Layer):
        def build(self, input_shape, rng, dtype):
            self.gain = self.add_parameter("gain", (), "glorot_uniform", rng, dtype)

        def forward(self, x, training=False):
            self.x = x
            return self.gain.value * x

        def backward(self, dy):
            self.gain.grad = (dy * self.x).sum()
            return self.gain.value * dy

    model = compiled([Dense(M, input_shape=(D,)), Gain(), Dense(K)])
    result = npnet.check_gradients(model, X, Y, verbose=False)
    assert result.passed and len(result.notes) == 1
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model", custom_objects={"Gain": Gain})
    np.testing.assert_array_equal(loaded.predict_on_batch(X), model.predict_on_batch(X))


# --- random numbers ---------------------------------------------------------------------------------------


class RandomMask(Layer):
    """y = mask x, where each element of the mask is 0 or 2, drawn anew in each training step."""

    def build(self, input_shape, rng, dtype):
        self.rng = rng

    def forward(self, x, training=False):
        self.mask = 2.0 * self.rng.integers(0, 2, x.shape) if training else np.ones(x.shape)
        return (self.mask * x).astype(x.dtype)

    def backward(self, dy):
        return (self.mask * dy).astype(dy.dtype)


def masked():
    return compiled([Dense(8, "tanh", input_shape=(D,)), RandomMask(), Dense(K)], optimizer="adam")


def test_a_random_stream_of_its_own_passes_the_check():
    model = masked()
    before = model.layers[1].rng.bit_generator.state
    assert npnet.check_gradients(model, X, Y, verbose=False).passed
    assert model.layers[1].rng.bit_generator.state == before


def test_a_random_stream_of_its_own_goes_on_where_it_was(tmp_path):
    """Saved in the middle and loaded, the training ends at the same bits."""
    whole, first = masked(), masked()
    whole.fit(X, Y, epochs=6, batch_size=2, verbose=0)
    first.fit(X, Y, epochs=3, batch_size=2, verbose=0)
    first.save(tmp_path / "model")
    second = load_model(tmp_path / "model", custom_objects={"RandomMask": RandomMask})
    second.fit(X, Y, epochs=6, batch_size=2, verbose=0, initial_epoch=second.position)
    for ours, theirs in zip(second.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_random_stream_belongs_to_the_models_seed():
    one, same, other = (
        compiled([RandomMask(input_shape=(D,)), Dense(K)], seed=seed)(X, training=True) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
