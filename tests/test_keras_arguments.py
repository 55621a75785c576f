"""Arguments that Keras has and npnet has not: taken where they ask for nothing, else refused by name."""

import functools
import inspect
import re

import pytest
from small import compiled, one_hot, random

import npnet
from npnet import callbacks, initializers, layers, losses, metrics, optimizers, schedules
from npnet.internal import config
from npnet.internal.strict import Strict

X, Y = random(0, 12, 4), one_hot(12, 3)


def model():
    return compiled([layers.Dense(3, "softmax", input_shape=(4,))], "categorical_crossentropy")


def known(method):
    """Return what a method's ``keras_arguments`` were: name -> the value that asks for nothing."""
    return getattr(method, "of_keras", {})


METRIC_ARGUMENTS = {
    metrics.PrecisionAtRecall: {"recall": 0.5},
    metrics.RecallAtPrecision: {"precision": 0.5},
    metrics.SensitivityAtSpecificity: {"specificity": 0.5},
    metrics.SpecificityAtSensitivity: {"sensitivity": 0.5},
    metrics.MeanMetricWrapper: {"fn": losses.mse},
}
MAKERS = {
    **{cls: cls for cls in optimizers.NAMES.values()},
    layers.Dense: lambda **o: layers.Dense(3, **o),
    layers.Input: lambda **o: layers.Input((4,), **o),
    layers.Flatten: layers.Flatten,
    layers.Dropout: lambda **o: layers.Dropout(0.5, **o),
    layers.BatchNormalization: layers.BatchNormalization,
    layers.Normalization: layers.Normalization,
    layers.Conv1D: lambda **o: layers.Conv1D(3, 3, **o),
    layers.Conv2D: lambda **o: layers.Conv2D(3, 3, **o),
    layers.DepthwiseConv2D: lambda **o: layers.DepthwiseConv2D(3, **o),
    layers.SeparableConv2D: lambda **o: layers.SeparableConv2D(3, 3, **o),
    layers.Conv2DTranspose: lambda **o: layers.Conv2DTranspose(3, 3, **o),
    layers.MaxPooling2D: layers.MaxPooling2D,
    layers.GlobalMaxPooling2D: layers.GlobalMaxPooling2D,
    layers.LayerNormalization: layers.LayerNormalization,
    layers.GroupNormalization: layers.GroupNormalization,
    layers.RandomFlip: layers.RandomFlip,
    layers.RandomTranslation: lambda **o: layers.RandomTranslation(0.1, 0.1, **o),
    layers.ReLU: layers.ReLU,
    **{cls: cls for cls in losses.NAMES.values()},
    **{cls: functools.partial(cls, **METRIC_ARGUMENTS.get(cls, {})) for cls in metrics.NAMES.values()},
    callbacks.TensorBoard: callbacks.TensorBoard,
    optimizers.MultiOptimizer: lambda **o: optimizers.MultiOptimizer(optimizers.OptimizerMap("sgd"), **o),
    schedules.ExponentialDecay: lambda **o: schedules.ExponentialDecay(0.1, 10, 0.9, **o),
    schedules.PiecewiseConstantDecay: lambda **o: schedules.PiecewiseConstantDecay([1], [0.2, 0.1], **o),
    schedules.CosineDecay: lambda **o: schedules.CosineDecay(0.1, 10, **o),
    callbacks.ReduceLROnPlateau: callbacks.ReduceLROnPlateau,
}
METHODS = {
    "compile": lambda **o: model().compile(loss="categorical_crossentropy", kernels="numpy", **o),
    "fit": lambda **o: model().fit(X, Y, verbose=0, **o),
    "evaluate": lambda **o: model().evaluate(X, Y, verbose=0, **o),
    "predict": lambda **o: model().predict(X, verbose=0, **o),
    "summary": lambda **o: model().summary(print_fn=lambda line: None, **o),
}


def all_known(cls):
    """Return the arguments known to a class's constructor and to those it passes them on to."""
    found = {}
    for base in cls.__mro__:
        if "__init__" in vars(base):
            found = known(base.__init__) | found
            parameters = inspect.signature(base.__init__).parameters.values()
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
                break
    return found


CALLS = [
    *((cls.__name__, maker, name, value) for cls, maker in MAKERS.items()
      for name, value in all_known(cls).items()),
    *((method, call, name, value) for method, call in METHODS.items()
      for name, value in known(getattr(npnet.Sequential, method)).items()),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "call", "name", "nothing"), CALLS)
def test_what_asks_for_nothing_is_taken_and_what_asks_for_something_refused_by_name(
    owner, call, name, nothing
):
    if nothing is config.ANY:
        call(**{name: "a name"})
        return
    call(**{name: nothing})
    for value in (7, "something", not nothing):
        with pytest.raises(
            TypeError, match=rf"^{name} must be .* or left out, got .*Keras has it, but npnet's"
        ):
            call(**{name: value})


def test_functions_take_them_as_methods_do(tmp_path):
    for function, given, ask in (
        (npnet.models.clone_model, {"model": model()}, {"clone_function": abs}),
        (npnet.models.load_model, {"filepath": "none.safetensors"}, {"safe_mode": False}),
        (npnet.utils.image_dataset_from_directory, {"directory": tmp_path}, {"pad_to_aspect_ratio": True}),
        (npnet.utils.plot_model, {"model": model()}, {"rankdir": "LR"}),
    ):
        with pytest.raises(TypeError, match=rf"Keras has it, but npnet's {function.__name__} knows nothing"):
            function(**given, **ask)
        assert set(ask) <= known(function).keys()


def test_what_was_named_in_reports_is_among_them():
    assert {"loss_scale_factor", "gradient_accumulation_steps"} <= all_known(optimizers.Adam).keys()
    assert {"write_graph", "profile_batch"} <= all_known(callbacks.TensorBoard).keys()
    assert {"lora_rank", "activity_regularizer", "autocast"} <= all_known(layers.Dense).keys()
    with pytest.raises(TypeError, match="value must be a number, got array"):
        initializers.Constant(X)


class OwnDense(layers.Dense):
    def __init__(self, units, **options):
        super().__init__(units, **options)


class OwnLayer(layers.Layer):
    def __init__(self, **options):
        self.kept = options.pop("kept", None)
        super().__init__(**options)


@pytest.mark.parametrize(
    ("make", "given", "hint"),
    [
        (lambda **o: layers.Dense(3, **o), "use_biass", "Did you mean 'use_bias'?"),
        (lambda **o: layers.Dense.from_config({"units": 3} | o), "unit", "Did you mean 'units'?"),
        (lambda **o: layers.Conv2D(4, 3, **o), "stride", "Did you mean 'strides'?"),
        (lambda **o: OwnDense(3, **o), "use_biass", "Did you mean 'use_bias'?"),
        (OwnLayer, "nam", "Did you mean 'name'?"),
        (npnet.Sequential, "layer", "Did you mean 'layers'?"),
        (optimizers.Adam, "use_emma", "Did you mean 'use_ema'?"),
        (optimizers.Adam, "lr", "Did you mean 'learning_rate'?"),
        (npnet.regularizers.L2, "lr", "It takes l2."),  # and no learning_rate
        (losses.Huber, "detla", "Did you mean 'delta'?"),
        (metrics.Precision, "threshold", "Did you mean 'thresholds'?"),
        (callbacks.EarlyStopping, "patince", "Did you mean 'patience'?"),
        (callbacks.History, "x", "It takes none."),
        (lambda **o: schedules.CosineDecay(0.1, 10, **o), "alhpa", "Did you mean 'alpha'?"),
        (npnet.regularizers.L2, "q", "It takes l2."),
        (npnet.constraints.MaxNorm, "max_valeu", "Did you mean 'max_value'?"),
        (initializers.HeNormal, "sed", "Did you mean 'seed'?"),
    ],
)
def test_what_neither_has_is_refused_in_the_name_of_the_class_that_was_written(make, given, hint):
    with pytest.raises(
        TypeError, match=rf"^[A-Z]\w+ got an unexpected argument '{given}'\. {re.escape(hint)}$"
    ):
        make(**{given: 2})


def test_every_class_of_npnet_names_itself():
    for module in (layers, optimizers, losses, metrics, callbacks, schedules, initializers):
        for name, cls in vars(module).items():
            if inspect.isclass(cls) and issubclass(cls, Strict) and name not in ("LambdaCallback", "Nested"):
                said = r"( got an unexpected argument 'qqqqq'|\(\) takes no arguments)"
                with pytest.raises(TypeError, match=f"^{cls.__name__}{said}"):
                    cls(qqqqq=1)


def test_a_constructor_of_ones_own_takes_what_it_likes():
    class Open(callbacks.Callback):
        def __init__(self, **options):
            self.options = options

    assert OwnLayer(kept=3).kept == 3 and Open(anything=3).options == {"anything": 3}


def test_descriptions_hold_npnet_s_arguments_alone():
    adam = optimizers.Adam(0.5, name="mine", loss_scale_factor=None)
    assert (
        "loss_scale_factor" not in adam.get_config()
        and optimizers.Adam(**adam.get_config()).learning_rate == 0.5
    )


@pytest.mark.peers
def test_keras_has_no_other_arguments():
    """Run this when Keras is newer: every argument it has is npnet's, or known."""
    import keras

    def arguments(function):
        kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        parameters = inspect.signature(function).parameters.values()
        return {p.name for p in parameters if p.kind in kinds} - {"self"}

    def all_arguments(cls):
        return set().union(*(arguments(base.__init__) for base in cls.__mro__ if "__init__" in vars(base)))

    inherited = {
        "factor",
        "bounding_box_format",
    }  # of a base class of Keras's, which RandomFlip does not take
    for module in (layers, optimizers, losses, metrics, callbacks, schedules):
        theirs = vars(getattr(keras, module.__name__.partition(".")[2], keras.optimizers.schedules))
        for name, cls in vars(module).items():
            if inspect.isclass(cls) and inspect.isclass(theirs.get(name)):
                own = all_arguments(cls) | all_known(cls).keys() | inherited
                assert arguments(theirs[name].__init__) <= own, name
    for module in (npnet.utils, npnet.models):
        theirs = vars(getattr(keras, module.__name__.partition(".")[2]))
        for name in module.__all__:
            own = getattr(module, name)
            if inspect.isfunction(own) and name in theirs:
                assert arguments(theirs[name]) <= arguments(own) | known(own).keys(), name
    for name in ("mnist", "fashion_mnist", "cifar10", "cifar100", "california_housing"):
        theirs, own = getattr(keras.datasets, name), getattr(npnet.datasets, name)
        assert arguments(theirs.load_data) <= arguments(own.load_data), name
    for method in (*METHODS, "save", "save_weights", "load_weights", "export", "train_on_batch"):
        own = getattr(npnet.Sequential, method)
        assert arguments(getattr(keras.Sequential, method)) <= arguments(own) | known(own).keys(), method
