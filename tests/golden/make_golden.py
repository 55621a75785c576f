"""Train small networks with the real Keras 3 and write what happened to ``keras.json`` beside this file.

    pip install keras jax
    python tests/golden/make_golden.py

Keras computes in float64, without shuffling, from the weights and data kept in the file. (A few of its parts,
tanh and batch normalisation among them, compute in float32 all the same.)
``tests/models/test_keras_agreement.py`` repeats each of the runs with npnet. A case is described in names
that both libraries know: layers and objects as [class name, arguments].
"""

import copy
import inspect
import json
import operator
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np

jax.config.update("jax_enable_x64", True)
keras.config.set_floatx("float64")

TRAIN, VALIDATION, INPUTS, CLASSES = 22, 7, 4, 3
PICTURE = (5, 4, 2)
FIT = {"batch_size": 8, "epochs": 3, "validation_batch_size": 4}  # 8 + 8 + 6 samples an epoch; 4 + 3 validate

rng = np.random.default_rng(20260101)
labels = np.arange(TRAIN + VALIDATION) % CLASSES
DATA = {
    "x": rng.normal(0.3, 1.0, (TRAIN + VALIDATION, INPUTS)).round(3),
    "labels": labels,
    "one_hot": np.eye(CLASSES)[labels],
    "ignored": np.where(np.arange(TRAIN + VALIDATION) % 5 == 1, 255, labels),
    "bits": rng.integers(0, 2, (TRAIN + VALIDATION, CLASSES)).astype(float),
    "bit": rng.integers(0, 2, TRAIN + VALIDATION).astype(float),
    "numbers": rng.normal(0, 1, (TRAIN + VALIDATION, CLASSES)).round(3),
    "weight": rng.uniform(0.0, 2.0, TRAIN + VALIDATION).round(3),
    "pictures": copy.deepcopy(rng).normal(0.3, 1.0, (TRAIN + VALIDATION, *PICTURE)).round(3),
    "counts": rng.integers(0, 5, (TRAIN + VALIDATION, CLASSES)).astype(float),
    "soft": rng.dirichlet(np.ones(CLASSES), TRAIN + VALIDATION),
    "positive": rng.uniform(0.5, 2, (TRAIN + VALIDATION, CLASSES)).round(3),
}
SGD = ["SGD", {"learning_rate": 0.1}]
CROSS_ENTROPY = ["CategoricalCrossentropy", {}]
SCHEDULES = {
    "polynomial": [
        "PolynomialDecay",
        {"initial_learning_rate": 0.2, "decay_steps": 6, "end_learning_rate": 0.01, "power": 2.0},
    ],
    "polynomial_cycle": [
        "PolynomialDecay",
        {"initial_learning_rate": 0.2, "decay_steps": 4, "cycle": True},
    ],
    "inverse_time": [
        "InverseTimeDecay",
        {"initial_learning_rate": 0.2, "decay_steps": 3, "decay_rate": 0.5},
    ],
    "inverse_time_staircase": [
        "InverseTimeDecay",
        {"initial_learning_rate": 0.2, "decay_steps": 3, "decay_rate": 0.5, "staircase": True},
    ],
    "cosine_restarts": [
        "CosineDecayRestarts",
        {"initial_learning_rate": 0.2, "first_decay_steps": 2, "m_mul": 0.8, "alpha": 0.1},
    ],
    "cosine_restarts_equal": [
        "CosineDecayRestarts",
        {"initial_learning_rate": 0.2, "first_decay_steps": 3, "t_mul": 1.0},
    ],
    "exponential": ["ExponentialDecay", {"initial_learning_rate": 0.2, "decay_steps": 4, "decay_rate": 0.5}],
    "staircase": [
        "ExponentialDecay",
        {"initial_learning_rate": 0.2, "decay_steps": 4, "decay_rate": 0.5, "staircase": True},
    ],
    "piecewise": ["PiecewiseConstantDecay", {"boundaries": [2, 5], "values": [0.2, 0.1, 0.02]}],
    "cosine": ["CosineDecay", {"initial_learning_rate": 0.2, "decay_steps": 6, "alpha": 0.1}],
    "cosine_with_warmup": [
        "CosineDecay",
        {"initial_learning_rate": 0.01, "decay_steps": 5, "warmup_target": 0.2, "warmup_steps": 3},
    ],
}


def network(hidden="relu", last="softmax", **options):
    """Return the layers of a small network with its middle given by name or as further layers."""
    middle = [["Dense", {"units": 5, "activation": hidden, **options}]]
    if not isinstance(hidden, str):
        middle = [["Dense", {"units": 5, **options}], *hidden]
    return [*middle, ["Dense", {"units": CLASSES, "activation": last}]]


def case(optimizer=SGD, layers=None, loss=CROSS_ENTROPY, y="one_hot", metrics=("accuracy",), **more):
    """Return the description of one training run."""
    return {
        "optimizer": optimizer, "layers": layers or network(), "loss": loss, "y": y, "metrics": list(metrics),
        **more,
    }  # fmt: skip


optimizers = {
    "sgd": SGD,
    "sgd_momentum": ["SGD", {"learning_rate": 0.05, "momentum": 0.9}],
    "sgd_nesterov": ["SGD", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}],
    "sgd_weight_decay": ["SGD", {"learning_rate": 0.1, "weight_decay": 0.1}],
    "sgd_clipvalue": ["SGD", {"learning_rate": 0.5, "clipvalue": 0.05}],
    "sgd_clipnorm": ["SGD", {"learning_rate": 0.5, "clipnorm": 0.1}],
    "sgd_global_clipnorm": ["SGD", {"learning_rate": 0.5, "global_clipnorm": 0.2}],
    "clipped_and_decayed": [
        "SGD", {"learning_rate": 0.5, "momentum": 0.5, "clipnorm": 0.1, "weight_decay": 0.05},
    ],
    "rmsprop": ["RMSprop", {"learning_rate": 0.01}],
    "rmsprop_momentum": ["RMSprop", {"learning_rate": 0.005, "momentum": 0.8, "rho": 0.8}],
    "rmsprop_centered": ["RMSprop", {"learning_rate": 0.01, "centered": True}],
    "rmsprop_centered_momentum": ["RMSprop", {"learning_rate": 0.005, "centered": True, "momentum": 0.8}],
    "adagrad": ["Adagrad", {"learning_rate": 0.05}],
    "adam": ["Adam", {"learning_rate": 0.01}],
    "adam_amsgrad": ["Adam", {"learning_rate": 0.02, "amsgrad": True, "beta_2": 0.5}],
    "adam_weight_decay": ["Adam", {"learning_rate": 0.01, "weight_decay": 0.1}],
    "adamw": ["AdamW", {"learning_rate": 0.02}],
    "muon": ["Muon", {"learning_rate": 0.02}],
    "muon_plain": [
        "Muon",
        {
            "learning_rate": 0.01, "momentum": 0.8, "nesterov": False, "ns_steps": 3, "rms_rate": 0.5,
            "weight_decay": 0.5, "adam_weight_decay": 0.1,
        },
    ],
    "nadam": ["Nadam", {"learning_rate": 0.01}],
    "nadam_weight_decay": ["Nadam", {"learning_rate": 0.02, "beta_1": 0.7, "weight_decay": 0.1}],
    "adamax": ["Adamax", {"learning_rate": 0.02}],
    "adadelta": ["Adadelta", {"learning_rate": 10.0, "rho": 0.8}],
    "lion": ["Lion", {"learning_rate": 0.01}],
    "sgd_ema": ["SGD", {"learning_rate": 0.2, "use_ema": True, "ema_momentum": 0.5}],
    "adam_ema": [
        "Adam",
        {"learning_rate": 0.02, "use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 4},
    ],
}  # fmt: skip
CASES = {name: case(optimizer) for name, optimizer in optimizers.items()}
CASES |= {
    f"schedule_{name}": case(["SGD", {"learning_rate": schedule}]) for name, schedule in SCHEDULES.items()
}
CASES["schedule_adamw"] = case(["AdamW", {"learning_rate": SCHEDULES["cosine_with_warmup"]}])
CASES |= {
    f"activation_{name}": case(layers=network(name))
    for name in (
        "linear", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "softmax", "log_softmax",
        "gelu", "silu", "mish", "exponential", "softsign", "hard_sigmoid", "relu6",
    )
}  # fmt: skip
CASES |= {
    f"layer_{kind.lower()}_{i}": case(layers=network([[kind, arguments]]))
    for i, (kind, arguments) in enumerate(
        [
            ["ReLU", {}],
            ["ReLU", {"max_value": 0.5, "negative_slope": 0.1, "threshold": 0.2}],
            ["LeakyReLU", {}],
            ["ELU", {"alpha": 0.7}],
            ["Softmax", {}],
            ["Activation", {"activation": "tanh"}],
            ["BatchNormalization", {}],
            ["BatchNormalization", {"momentum": 0.5, "epsilon": 0.1, "center": False}],
            ["BatchNormalization", {"momentum": 0.5, "scale": False}],
            ["BatchNormalization", {"momentum": 0.5, "trainable": False}],
            ["Dense", {"units": 4, "activation": "relu", "trainable": False}],
            ["Dense", {"units": 4, "use_bias": False}],
            ["Rescaling", {"scale": 0.5, "offset": 0.1}],
        ]
    )
}
losses = {
    "smoothing": (["CategoricalCrossentropy", {"label_smoothing": 0.2}], "one_hot", "softmax"),
    "logits": (["CategoricalCrossentropy", {"from_logits": True}], "one_hot", None),
    "logits_smoothing": (
        ["CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}],
        "one_hot",
        None,
    ),
    "sum": (["CategoricalCrossentropy", {"reduction": "sum"}], "one_hot", "softmax"),
    "unnormalized": (["CategoricalCrossentropy", {}], "one_hot", "sigmoid"),
    "sparse": (["SparseCategoricalCrossentropy", {}], "labels", "softmax"),
    "sparse_logits": (["SparseCategoricalCrossentropy", {"from_logits": True}], "labels", None),
    "ignore_class": (["SparseCategoricalCrossentropy", {"ignore_class": 255}], "ignored", "softmax"),
    "binary": (["BinaryCrossentropy", {}], "bits", "sigmoid"),
    "binary_smoothing": (["BinaryCrossentropy", {"label_smoothing": 0.2}], "bits", "sigmoid"),
    "binary_logits": (["BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.2}], "bits", None),
    "mse": (["MeanSquaredError", {}], "numbers", "tanh"),
    "mse_sum": (["MeanSquaredError", {"reduction": "sum"}], "numbers", "linear"),
    "mae": (["MeanAbsoluteError", {}], "numbers", "tanh"),
    "mape": (["MeanAbsolutePercentageError", {}], "positive", "softplus"),
    "msle": (["MeanSquaredLogarithmicError", {}], "counts", "softplus"),
    "huber": (["Huber", {"delta": 0.7}], "numbers", "linear"),
    "log_cosh": (["LogCosh", {}], "numbers", "linear"),
    "poisson": (["Poisson", {}], "counts", "softplus"),
    "kl_divergence": (["KLDivergence", {}], "soft", "softmax"),
    "cosine_similarity": (["CosineSimilarity", {}], "numbers", "linear"),
    "hinge": (["Hinge", {}], "bits", "tanh"),
    "squared_hinge": (["SquaredHinge", {}], "bits", "tanh"),
    "categorical_hinge": (["CategoricalHinge", {}], "one_hot", "linear"),
    "categorical_focal": (["CategoricalFocalCrossentropy", {"alpha": 0.6}], "one_hot", "softmax"),
    "categorical_focal_logits": (
        ["CategoricalFocalCrossentropy", {"gamma": 1.5, "from_logits": True, "label_smoothing": 0.1}],
        "one_hot",
        None,
    ),
    "binary_focal": (["BinaryFocalCrossentropy", {}], "bits", "sigmoid"),
    "binary_focal_balanced": (
        ["BinaryFocalCrossentropy", {"apply_class_balancing": True, "alpha": 0.7, "gamma": 1.0}],
        "bits",
        "sigmoid",
    ),
}
for name, (loss, y, last) in losses.items():
    rate = 0.01 if loss[1].get("reduction") == "sum" else 0.002 if name == "mape" else 0.1
    chosen = ["SGD", {"learning_rate": rate, "momentum": 0.5}]
    metrics = [] if y in ("bits", "numbers", "counts", "soft", "positive") else ["accuracy"]
    CASES[f"loss_{name}"] = case(chosen, network("tanh", last), loss, y, metrics)
weighted = {"sample_weight": True, "weighted_metrics": ["accuracy"], "metrics": ["mae"]}
CASES |= {
    "sample_weight": case(**weighted),
    "sample_weight_ignore_class": case(
        loss=["SparseCategoricalCrossentropy", {"ignore_class": 255}],
        y="ignored",
        metrics=[],
        sample_weight=True,
    ),
    "sample_weight_binary": case(
        layers=[["Dense", {"units": 1, "activation": "sigmoid"}]],
        loss=["BinaryCrossentropy", {}],
        y="bit",
        sample_weight=True,
        weighted_metrics=["acc"],
        metrics=["accuracy"],
    ),
    "class_weight": case(class_weight={"0": 0.5, "2": 3.0}, weighted_metrics=["accuracy"], metrics=[]),
    "class_weight_sparse": case(
        loss=["SparseCategoricalCrossentropy", {}], y="labels", class_weight={"1": 2.0, "0": 0.0}
    ),
    "validation_split": case(validation_split=0.3),
    "metrics": case(
        metrics=[
            "acc", "top_k_categorical_accuracy", "mse", ["TopKCategoricalAccuracy", {"k": 2, "name": "top2"}],
        ]
    ),
    "metrics_sparse": case(
        loss=["SparseCategoricalCrossentropy", {}],
        y="labels",
        metrics=["accuracy", ["SparseTopKCategoricalAccuracy", {"k": 2, "name": "top2"}]],
    ),
    "metrics_binary": case(
        layers=network("tanh", "sigmoid"),
        loss=["BinaryCrossentropy", {}],
        y="bits",
        metrics=["binary_accuracy", ["BinaryAccuracy", {"threshold": 0.6, "name": "strict"}], "mae"],
    ),
    "metrics_that_are_losses": case(
        layers=network("tanh", "softplus"),
        loss=["MeanSquaredError", {}],
        y="counts",
        metrics=[
            "mape", "msle", "cosine_similarity", "poisson", ["LogCoshError", {}],
            ["RootMeanSquaredError", {}], ["R2Score", {}],
            ["R2Score", {"class_aggregation": "variance_weighted_average", "name": "by_variance"}],
        ],
        weighted_metrics=[
            ["R2Score", {"name": "r2w"}], ["RootMeanSquaredError", {"name": "rmsew"}],
        ],
        sample_weight=True,
    ),
    "metrics_that_are_cross_entropies": case(
        metrics=[
            "categorical_crossentropy", "kl_divergence", "categorical_hinge", "hinge", "squared_hinge",
            ["F1Score", {"average": "macro"}], ["F1Score", {"average": "micro", "name": "micro"}],
            ["FBetaScore", {"average": "weighted", "beta": 2.0, "threshold": 0.4}],
        ],
    ),
    "metrics_that_count": case(
        layers=network("tanh", "sigmoid"),
        loss=["BinaryCrossentropy", {}],
        y="bits",
        metrics=[
            ["Precision", {}], ["Recall", {}], ["AUC", {}], ["TruePositives", {}], ["FalsePositives", {}],
            ["TrueNegatives", {"thresholds": 0.4}], ["FalseNegatives", {}], "binary_crossentropy",
            ["Precision", {"thresholds": 0.45, "class_id": 1, "name": "second"}],
            ["Recall", {"top_k": 2, "name": "top2"}],
            ["AUC", {"curve": "PR", "name": "pr"}],
            ["AUC", {"curve": "PR", "summation_method": "majoring", "name": "pr_major"}],
            ["AUC", {"multi_label": True, "num_thresholds": 20, "name": "each"}],
            ["AUC", {"curve": "PR", "multi_label": True, "name": "each_pr"}],
            ["AUC", {"summation_method": "minoring", "thresholds": [0.3, 0.5, 0.55], "name": "three"}],
        ],
        weighted_metrics=[
            ["Precision", {"name": "pw"}], ["AUC", {"name": "aucw"}], ["Recall", {"name": "rw"}],
        ],
        sample_weight=True,
    ),
    "metrics_at_bounds": case(
        layers=network("tanh", "sigmoid"),
        loss=["BinaryCrossentropy", {}],
        y="bits",
        metrics=[
            ["SensitivityAtSpecificity", {"specificity": 0.5}],
            ["SpecificityAtSensitivity", {"sensitivity": 0.5}],
            ["PrecisionAtRecall", {"recall": 0.4}], ["RecallAtPrecision", {"precision": 0.6}],
            ["PrecisionAtRecall", {"recall": 0.4, "num_thresholds": 1, "name": "one"}],
        ],
    ),
    "metrics_sparse_crossentropy": case(
        loss=["SparseCategoricalCrossentropy", {}], y="labels",
        metrics=["sparse_categorical_crossentropy"],
    ),
    "regularizers": case(
        layers=network(
            "relu", kernel_regularizer=["L1L2", {"l1": 0.01, "l2": 0.02}], bias_regularizer=["L2", {}]
        )
    ),
    "constraints": case(
        layers=network(
            "relu", kernel_constraint=["MaxNorm", {"max_value": 0.5}], bias_constraint=["NonNeg", {}]
        )
    ),
    "constraint_by_name": case(layers=network("tanh", kernel_constraint="max_norm")),
    "regularizer_l1": case(layers=network("tanh", kernel_regularizer="l1")),
    "regularizer_of_frozen_layer": case(
        layers=network([["Dense", {"units": 4, "kernel_regularizer": "l2", "trainable": False}]])
    ),
}  # fmt: skip
SEQUENCE = ["Reshape", {"target_shape": (10, 4)}]
TANH = {"activation": "tanh"}
pictures = {
    "conv2d": [["Conv2D", {"filters": 3, "kernel_size": 3, "activation": "relu"}]],
    "conv2d_same_with_strides": [
        ["Conv2D", {"filters": 3, "kernel_size": (2, 3), "strides": (3, 2), "padding": "same", **TANH}]
    ],
    "conv2d_with_even_strides": [
        ["Conv2D", {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same", "use_bias": False}]
    ],
    "conv2d_with_dilation_and_groups": [
        ["Conv2D", {"filters": 4, "kernel_size": 2, "dilation_rate": 2, "groups": 2, **TANH}]
    ],
    "conv2d_larger_than_the_picture": [
        ["Conv2D", {"filters": 2, "kernel_size": 7, "padding": "same", "kernel_regularizer": ["L2", {}]}]
    ],
    "conv2d_frozen": [["Conv2D", {"filters": 2, "kernel_size": 3, "trainable": False}]],
    "conv1d": [SEQUENCE, ["Conv1D", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"}]],
    "conv1d_causal": [
        SEQUENCE,
        ["Conv1D", {"filters": 4, "kernel_size": 3, "dilation_rate": 2, "padding": "causal", "groups": 2}],
    ],
    "depthwise": [["DepthwiseConv2D", {"kernel_size": 3, **TANH}]],
    "depthwise_with_multiplier": [
        ["DepthwiseConv2D", {"kernel_size": 3, "strides": 2, "padding": "same", "depth_multiplier": 3}]
    ],
    "separable": [["SeparableConv2D", {"filters": 3, "kernel_size": 3, **TANH}]],
    "separable_with_multiplier": [
        ["SeparableConv2D", {"filters": 3, "kernel_size": 2, "strides": 2, "padding": "same",
                             "depth_multiplier": 2, "pointwise_regularizer": ["L2", {}]}]
    ],
    "transpose": [["Conv2DTranspose", {"filters": 2, "kernel_size": 3, **TANH}]],
    "transpose_with_strides": [["Conv2DTranspose", {"filters": 2, "kernel_size": (2, 3), "strides": 3}]],
    "transpose_same": [
        ["Conv2DTranspose", {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same"}]
    ],
    "transpose_same_with_an_even_kernel": [
        ["Conv2DTranspose", {"filters": 2, "kernel_size": 4, "strides": 3, "padding": "same"}]
    ],
    "transpose_with_output_padding": [
        ["Conv2DTranspose", {"filters": 2, "kernel_size": 3, "strides": 3, "output_padding": (1, 2)}]
    ],
    "transpose_same_with_output_padding": [
        ["Conv2DTranspose",
         {"filters": 2, "kernel_size": 4, "strides": 2, "padding": "same", "output_padding": (0, 1)}]
    ],
    "transpose_with_dilation": [
        ["Conv2DTranspose", {"filters": 2, "kernel_size": 2, "padding": "same", "dilation_rate": 2}]
    ],
    **{
        f"{kind.lower()}_{i}": [*([SEQUENCE] if kind.endswith("1D") else []), [kind, options]]
        for kind in ("MaxPooling2D", "AveragePooling2D", "MaxPooling1D", "AveragePooling1D")
        for i, options in enumerate(
            [{"pool_size": 2}, {"pool_size": 3, "strides": 1, "padding": "same"},
             {"pool_size": 3, "strides": 2, "padding": "same"}]
        )
    },
    **{
        f"{kind.lower()}_{'kept' if keepdims else 'alone'}": [
            *([SEQUENCE] if kind.endswith("1D") else []), [kind, {"keepdims": keepdims}]
        ]
        for kind in (
            "GlobalMaxPooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalAveragePooling1D"
        )
        for keepdims in (False, True)
    },
    "zero_padding": [["ZeroPadding2D", {"padding": ((1, 0), (2, 1))}], ["GlobalMaxPooling2D", {}]],
    "zero_padding_pair": [["ZeroPadding2D", {"padding": (1, 2)}], ["MaxPooling2D", {"pool_size": 3}]],
    "cropping": [["Cropping2D", {"cropping": ((1, 0), (1, 2))}]],
    "up_sampling_nearest": [["UpSampling2D", {"size": (2, 3)}], ["MaxPooling2D", {"pool_size": 3}]],
    "up_sampling_bilinear": [
        ["UpSampling2D", {"size": (2, 3), "interpolation": "bilinear"}],
        ["AveragePooling2D", {"pool_size": 3}],
    ],
    "permute": [["Permute", {"dims": (3, 1, 2)}], ["GlobalMaxPooling2D", {}]],
    "batch_normalization": [["BatchNormalization", {"momentum": 0.5}]],
    "layer_normalization": [["LayerNormalization", {"epsilon": 0.01}]],
    "layer_normalization_bare": [["LayerNormalization", {"center": False, "scale": False}]],
    "group_normalization": [["GroupNormalization", {"groups": 1}]],
    "group_normalization_of_channels": [["GroupNormalization", {"groups": -1}]],
    "network": [
        ["Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same", "activation": "relu"}],
        ["BatchNormalization", {"momentum": 0.5}], ["MaxPooling2D", {}],
        ["Conv2D", {"filters": 3, "kernel_size": 2, "activation": "gelu"}],
    ],
}  # fmt: skip
CASES |= {
    f"pictures_{name}": case(
        ["SGD", {"learning_rate": 0.02}],
        [*stack, ["Flatten", {}], ["Dense", {"units": CLASSES}]],
        [
            "CategoricalCrossentropy",
            {"from_logits": True},
        ],  # probabilities would be clipped: README, "differs"
        x="pictures",
    )
    for name, stack in pictures.items()
}


def make(description):
    """Return the Keras object of [class name, arguments]; names stay names."""
    if not isinstance(description, list):
        return description
    name, arguments = description
    arguments = {
        key: make(value) if isinstance(value, list) and value and isinstance(value[0], str) else value
        for key, value in arguments.items()
    }
    places = (
        keras.layers, keras.optimizers, keras.optimizers.schedules, keras.losses, keras.metrics,
        keras.regularizers, keras.constraints,
    )  # fmt: skip
    return next(getattr(place, name) for place in places if hasattr(place, name))(**arguments)


def trace(case):
    """Return initial weights, history, final weights, evaluation and predictions of one run."""
    x = DATA[case.get("x", "x")]
    model = keras.Sequential([keras.Input(x.shape[1:]), *map(make, case["layers"])])
    draw = np.random.default_rng(7)
    initial = []
    for weight in model.weights:
        positive = weight.name in ("gamma", "moving_variance")
        values = draw.normal(0, 0.6, weight.shape).round(3)
        initial.append(0.5 + np.abs(values) if positive else values)
    model.set_weights(initial)
    model.compile(
        optimizer=make(case["optimizer"]),
        loss=make(case["loss"]),
        metrics=[make(metric) for metric in case["metrics"]],
        weighted_metrics=[make(metric) for metric in case.get("weighted_metrics", [])],
    )
    y, weight = DATA[case["y"]], DATA["weight"]
    arguments = dict(FIT)
    if "sample_weight" in case:
        arguments["sample_weight"] = weight[:TRAIN]
    if "class_weight" in case:
        arguments["class_weight"] = {int(key): value for key, value in case["class_weight"].items()}
    if "validation_split" in case:
        arguments["validation_split"] = case["validation_split"]
    else:
        arguments["validation_data"] = (x[TRAIN:], y[TRAIN:])
        if "sample_weight" in case:
            arguments["validation_data"] += (weight[TRAIN:],)
    history = model.fit(x[:TRAIN], y[:TRAIN], shuffle=False, verbose=0, **arguments).history
    return {
        "initial": [array.tolist() for array in initial],
        "history": {name: [rounded(value) for value in values] for name, values in history.items()},
        "weights": [rounded(array.tolist()) for array in model.get_weights()],
        "predictions": rounded(np.asarray(model.predict(x[TRAIN:], verbose=0)).tolist()),
        "evaluation": rounded(
            model.evaluate(x[TRAIN:], y[TRAIN:], batch_size=4, verbose=0, return_dict=True)
        ),
    }


def rounded(value):
    """Keep twelve digits of every number."""
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.12g}")


def main():
    """Write the file."""
    cases = {}
    for name, description in CASES.items():
        cases[name] = description | trace(description)
        print(name, cases[name]["history"]["loss"])
    document = {
        "made_by": f"make_golden.py with keras {keras.__version__}, jax {jax.__version__}, floatx float64",
        "train": TRAIN,
        "fit": FIT,
        "data": {name: values.tolist() for name, values in DATA.items()},
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in document.items()]
    lines += ['"cases": {']
    lines += [",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in cases.items())]
    text = ",\n".join(lines[:-2]) + ",\n" + lines[-2] + "\n" + lines[-1]
    Path(__file__).with_name("keras.json").write_text("{" + text + "}}\n")


NAMES = (
    "layers", "activations", "losses", "metrics", "optimizers", "optimizers.schedules", "callbacks",
    "regularizers", "constraints", "initializers", "utils", "models", "backend", "config", "mixed_precision",
)  # fmt: skip


def write_names():
    """Write the public names of Keras's modules to ``keras_names.json``."""
    lines = []
    for path in NAMES:
        module = operator.attrgetter(path)(keras)
        names = [
            name for name, value in vars(module).items() if name[0] != "_" and not inspect.ismodule(value)
        ]
        lines.append(f"{json.dumps(path.rpartition('.')[2])}: {json.dumps(sorted(names))}")
    Path(__file__).with_name("keras_names.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


PICTURES = [  # factors with equal limits: nothing is left to chance
    ["RandomRotation", {"factor": [0.07, 0.07]}],
    ["RandomRotation", {"factor": [-0.2, -0.2], "fill_mode": "constant", "fill_value": 3.0}],
    ["RandomRotation", {"factor": [0.1, 0.1], "fill_mode": "wrap", "interpolation": "nearest"}],
    ["RandomRotation", {"factor": [0.13, 0.13], "fill_mode": "nearest"}],
    ["RandomZoom", {"height_factor": [0.3, 0.3]}],
    ["RandomZoom", {"height_factor": [-0.3, -0.3], "width_factor": [0.2, 0.2], "fill_mode": "constant"}],
    ["RandomBrightness", {"factor": [0.2, 0.2]}],
    ["RandomContrast", {"factor": [0.0, 0.0]}],
    ["Resizing", {"height": 3, "width": 9}],
    ["Resizing", {"height": 7, "width": 4, "interpolation": "nearest"}],
    ["Resizing", {"height": 2, "width": 2}],
    ["CenterCrop", {"height": 2, "width": 3}],
    ["CenterCrop", {"height": 7, "width": 4}],  # from here on larger than the pictures
    ["CenterCrop", {"height": 4, "width": 9}],
    ["CenterCrop", {"height": 1, "width": 20}],
    ["RandomCrop", {"height": 10, "width": 12}],
]


def write_pictures():
    """Write what layers of pictures make of some, to ``keras_pictures.json``."""
    x = np.random.default_rng(0).uniform(0, 255, (2, 5, 6, 2)).round(4)
    lines = []
    for name, arguments in PICTURES:
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
        y = getattr(keras.layers, name)(**given)(x, **({"training": True} if "Random" in name else {}))
        lines.append(json.dumps([name, arguments, np.asarray(y, float).round(4).tolist()]))
    text = f'{{"x": {json.dumps(x.tolist())},\n"cases": [\n' + ",\n".join(lines) + "\n]}\n"
    Path(__file__).with_name("keras_pictures.json").write_text(text)


if __name__ == "__main__":
    main()
    write_pictures()
    write_names()
