"""What methods of one's own classes return is looked at where it is first used, whoever computes the rest."""

import copy
import pickle

import numpy as np
import pytest
from small import compiled, one_hot, random

import npnet
from npnet import Sequential, optimizers
from npnet.constraints import Constraint
from npnet.initializers import Initializer
from npnet.layers import Dense, Layer
from npnet.losses import Loss
from npnet.metrics import Metric
from npnet.regularizers import Regularizer
from npnet.schedules import LearningRateSchedule

N, D, K = 8, 6, 3
X, Y = random(1, N, D).astype(np.float32), one_hot(N, K)
ENGINES = [{"kernels": "numpy"}, {"kernels": "numba", "fused": False}, {"kernels": "numba"}]


class Scaled(Layer):
    """y = w x, with nothing missing; the others are made of it."""

    def build(self, input_shape, rng, dtype):
        self.w = self.add_parameter("w", input_shape, "ones", rng, dtype)

    def forward(self, x, training=False):
        self.x = x
        return self.w.value * x

    def backward(self, dy):
        self.w.grad = (dy * self.x).sum(axis=0)
        return self.w.value * dy


def returning(method, change):
    """Return a class whose method returns what ``change`` makes of what it should return."""

    def changed(self, *arguments, **options):
        return change(self, getattr(Scaled, method)(self, *arguments, **options))

    return type("Mine", (Scaled,), {method: changed})


def with_grad(grad):
    def change(self, dx):
        self.w.grad = grad(self.w.grad)
        return dx

    return returning("backward", change)


FORWARD = {
    "forward must return y, an array, got None": returning("forward", lambda self, y: None),
    "forward must return y, an array, got a list": returning("forward", lambda self, y: y.tolist()),
    "add compute_output_shape(self, input_shape), which returns (2,)": returning(
        "forward", lambda self, y: y[:, :2]
    ),
    "forward returned an array of shape (6,) where": returning("forward", lambda self, y: y[0]),
    "where compute_output_shape says (8, 7)": type(
        "Mine", (Scaled,), {"compute_output_shape": lambda self, shape: (7,), "forward": Scaled.forward}
    ),
}
BACKWARD = {
    "backward must return dx, an array of the shape of x, got None": returning(
        "backward", lambda self, dx: None
    ),
    "an array of the shape of x, got a float": returning("backward", lambda self, dx: 1.0),
    "dx of the shape of x, (8, 6), got (8, 2)": returning("backward", lambda self, dx: dx[:, :2]),
    "dx of the shape of x, (8, 6), got (1, 6)": returning("backward", lambda self, dx: dx[:1]),
    "backward must set grad of the parameter 'w', got None": with_grad(lambda grad: None),
    "grad of the parameter 'w' must have its shape, (6,), got (2, 6)": with_grad(
        lambda grad: np.ones((2, 6))
    ),
}


def network(layer, place, engine):
    """Return a network with the layer before, between or behind others."""
    stack = {
        "first": [layer, Dense(K, "softmax")],
        "middle": [Dense(D, "relu"), layer, Dense(K, "softmax")],
        "last": [Dense(D, "relu"), layer],
    }[place]
    model = Sequential([npnet.layers.Input((D,)), *stack], seed=0)
    model.compile("adam", "mse", **engine)
    return model


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("place", ["first", "middle"])
@pytest.mark.parametrize("said", [*FORWARD, *BACKWARD])
def test_every_call_says_what_check_gradients_says(said, place, engine):
    cls = (FORWARD | BACKWARD)[said]
    model = network(cls(), place, engine)
    calls = [lambda: model.fit(X, Y, verbose=0), lambda: model.train_on_batch(X, Y)]
    if said in FORWARD:
        calls += [
            lambda: model.predict(X, verbose=0),
            lambda: model.predict_on_batch(X),
            lambda: model(X),
            lambda: model.evaluate(X, Y, verbose=0),
            lambda: model.test_on_batch(X, Y),
        ]
    calls.append(lambda: npnet.check_gradients(model, X, Y, verbose=False))
    complaints = set()
    for call in (*calls, calls[0]):  # and a second time
        with pytest.raises(TypeError, match=r"^Mine 'mine': ") as error:
            call()
        complaints.add(str(error.value))
    assert len(complaints) == 1 and said in complaints.pop()


@pytest.mark.parametrize("engine", ENGINES)
def test_what_comes_last_is_looked_at_before_the_loss(engine):
    for cls in (returning("forward", lambda self, y: None), returning("backward", lambda self, dx: None)):
        with pytest.raises(TypeError, match=r"^Mine 'mine': .*must return .*got None"):
            network(cls(), "last", engine).fit(X, one_hot(N, D), verbose=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_training_and_prediction_are_two_cases(engine):
    class Half(Scaled):
        def forward(self, x, training=False):
            return super().forward(x) if training else None

    model = network(Half(), "middle", engine)
    model.fit(X, Y, verbose=0)
    with pytest.raises(TypeError, match="Half 'half': forward must return y, an array, got None"):
        model.predict(X, verbose=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_so_are_two_shapes(engine):
    class Fixed(Scaled):
        def backward(self, dy):
            return super().backward(dy)[:6]

    model = network(Fixed(), "middle", engine)
    model.fit(X[:6], Y[:6], verbose=0)
    with pytest.raises(TypeError, match=r"dx of the shape of x, \(8, 6\), got \(6, 6\)"):
        model.fit(X, Y, verbose=0)


def test_a_gradient_of_another_dtype_is_named_where_compiled_kernels_would_not_take_it():
    wide = with_grad(lambda grad: grad.astype(np.float64))
    network(wide(), "middle", {"kernels": "numpy"}).fit(X, Y, verbose=0)
    with pytest.raises(
        TypeError, match="grad of the parameter 'w' must have its dtype, float32, got float64"
    ):
        network(wide(), "middle", {"kernels": "numba"}).fit(X, Y, verbose=0)


def test_an_activation_of_ones_own_assigned_later():
    class Snake(Layer):
        def forward(self, x, training=False):
            return x + np.sin(x) ** 2

        def backward(self, dy):
            return None

    model = compiled([Dense(D, "relu", input_shape=(D,)), Dense(K)], "mse")
    model.layers[0].activation = Snake()
    with pytest.raises(TypeError, match=r"Snake.*: backward must return dx"):
        model.fit(X, Y, verbose=0)


def test_what_a_method_gives_its_subclass_is_not_looked_at():
    class Pair(Scaled):
        def forward(self, x, training=False):
            return super().forward(x), x

    class Sum(Pair):
        def forward(self, x, training=False):
            scaled, x = super().forward(x, training)
            return scaled + x

        def backward(self, dy):
            return super().backward(dy) + dy

    model = compiled([Sum(input_shape=(D,)), Dense(K)], "mse")
    assert npnet.check_gradients(model, X, Y, verbose=False).passed
    model.fit(X, Y, verbose=0)


def test_one_look_a_shape_is_enough(monkeypatch):
    looks = []
    for name, check in Layer.results.items():
        monkeypatch.setitem(
            Layer.results, name, lambda *given, check=check, name=name: looks.append(name) or check(*given)
        )

    class Watched(Scaled):
        def forward(self, x, training=False):
            return super().forward(x, training)

        def backward(self, dy):
            return super().backward(dy)

    model = compiled([Watched(input_shape=(D,)), Dense(K)], "mse")
    model.fit(X, Y, batch_size=4, epochs=3, verbose=0)
    assert looks == ["forward", "backward"]
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(network(Scaled(), "first", {})))):
        twin.fit(X, Y, batch_size=4, verbose=0)
    assert looks == ["forward", "backward"]


def fit(loss="mse", optimizer="sgd", metrics=None, kernels="numpy", **options):
    model = Sequential([Dense(4, "relu", input_shape=(D,), **options), Dense(K, "softmax")])
    model.compile(optimizer, loss, metrics=metrics, kernels=kernels)
    return model.fit(X, Y, verbose=0)


def own(base, **methods):
    """Return an object of a class of one's own with methods that return these values."""
    given = {
        "values": lambda self, t, y: ((y - t) ** 2).sum(axis=1),
        "gradient": lambda self, t, y: 2 * (y - t),
    }
    if base is Regularizer:
        given = {"penalty": lambda self, w: 1.0, "gradient": lambda self, w: w}
    made = {name: lambda self, *arguments, value=value: value for name, value in methods.items()}
    return type("Mine", (base,), {"key": "mine"} | given | made)()


OTHERS = {
    "values must return the loss of each sample, an array of shape (8,)": lambda value: {
        "loss": own(Loss, values=value)
    },
    "gradient must return d values[n] / d y_pred[n], an array of the shape of y_pred, (8, 3)": lambda value: {
        "loss": own(Loss, gradient=value)
    },
    "values must return one number a sample, an array of shape (8,)": lambda value: {
        "metrics": [own(Metric, values=value)]
    },
    "result must return a number, or an array of numbers": lambda value: {
        "metrics": [own(Metric, result=value)]
    },
    "penalty must return the term added to the loss, a number": lambda value: {
        "kernel_regularizer": own(Regularizer, penalty=value)
    },
    "gradient must return d penalty / d weight, an array of the shape of weight, (6, 4)": lambda value: {
        "kernel_regularizer": own(Regularizer, gradient=value)
    },
    "__call__ must return the weight as it may be, an array of the shape of weight, (6, 4)": lambda value: {
        "kernel_constraint": own(Constraint, __call__=value)
    },
    "__call__ must return an array of shape (6, 4)": lambda value: {
        "kernel_initializer": own(Initializer, __call__=value)
    },
    "__call__ must return the learning rate, a number": lambda value: {
        "optimizer": optimizers.SGD(own(LearningRateSchedule, __call__=value))
    },
    "hyperparameters must return the numbers of the next step, a tuple": lambda value: {
        "optimizer": type("Mine", (optimizers.SGD,), {"hyperparameters": lambda self: value})()
    },
}


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
@pytest.mark.parametrize("said", OTHERS)
def test_what_other_objects_of_ones_own_return(said, kernels):
    for value, told in ((None, "None"), ("x", "a str")):
        with pytest.raises(TypeError) as error:
            fit(**OTHERS[said](value), kernels=kernels)
        assert str(error.value) in (f"Mine: {said}, got {told}.", f"Mine 'mine': {said}, got {told}.")


def test_shapes_of_what_they_return():
    for said in OTHERS:
        if "an array of" in said and "or an array" not in said:
            with pytest.raises(TypeError, match=r"got an array of shape \(2,\)\.$"):
                fit(**OTHERS[said](np.zeros(2)))


def test_what_was_taken_before_is_taken_still():
    fit(own(Loss, values=np.float64(0.5)))  # the mean of the batch
    assert fit(metrics=[own(Metric, result=[1.0, 2.0])]).history["mine"] == [[1.0, 2.0]]
    fit(optimizer=optimizers.SGD(own(LearningRateSchedule, __call__=np.float32(0.5))))


def test_a_function_as_metric():
    def nothing(y_true, y_pred):
        return None

    with pytest.raises(
        TypeError, match="nothing must return one number a sample or one for the batch, got None"
    ):
        fit(metrics=[nothing])


@pytest.mark.parametrize(
    ("reduction", "given"), [("sum", {}), ("sum_over_batch_size", {"sample_weight": np.arange(N) / N})]
)
def test_a_mean_of_the_batch_cannot_be_weighted_or_summed(reduction, given):
    """It would be multiplied by each sample's weight, or by 1, in place of its loss."""
    loss = own(Loss, values=np.float64(0.5))
    loss.reduction = reduction
    model = compiled([Dense(K, input_shape=(D,))], loss)
    with pytest.raises(
        ValueError, match=r"Mine\.values must return the loss of each sample, .* shape \(8,\)"
    ):
        model.fit(X, Y, batch_size=N, verbose=0, **given)
