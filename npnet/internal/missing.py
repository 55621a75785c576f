"""What Keras has and npnet has not: one table for the answers of public modules and for ``docs/keras.md``."""

__all__ = ["MISSING", "NOTEBOOKS", "instead", "page"]

# module -> reason, with what there is instead -> names
MISSING: dict[str, dict[str, str]] = {
    "layers": {
        "npnet has no recurrent layers. Give the last values of a series to Dense as features": """
            LSTM GRU SimpleRNN RNN Bidirectional TimeDistributed LSTMCell GRUCell SimpleRNNCell
            StackedRNNCells ConvLSTM1D ConvLSTM2D ConvLSTM3D""",
        "npnet has no attention": "Attention AdditiveAttention MultiHeadAttention GroupQueryAttention",
        "npnet has no functional API: layers follow one another in a Sequential": """
            Add Average Concatenate Dot Maximum Minimum Multiply Subtract add average concatenate dot maximum
            minimum multiply subtract Wrapper Pipeline InputLayer InputSpec""",
        "npnet does not derive functions: write a layer (examples/custom_layer.py shows how)": """
            Lambda EinsumDense FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper""",
        "npnet takes numbers. Turn text and categories into integers first, then CategoryEncoding": """
            TextVectorization StringLookup IntegerLookup Hashing HashedCrossing Discretization Masking
            MelSpectrogram STFTSpectrogram""",
        "another name of what npnet has: Conv2D, MaxPooling2D, GlobalAveragePooling1D, ...": """
            Convolution1D Convolution2D Convolution2DTranspose SeparableConvolution2D AvgPool1D AvgPool2D
            MaxPool1D MaxPool2D GlobalAvgPool1D GlobalAvgPool2D GlobalMaxPool1D GlobalMaxPool2D""",
        "not in this version": "Identity RepeatVector",
        "npnet has convolutions of pictures and sequences, the most used ones": """
            Conv3D Conv1DTranspose Conv3DTranspose Convolution3D Convolution1DTranspose
            Convolution3DTranspose SeparableConv1D SeparableConvolution1D DepthwiseConv1D
            AveragePooling3D AvgPool3D MaxPooling3D MaxPool3D GlobalAveragePooling3D GlobalAvgPool3D
            GlobalMaxPool3D GlobalMaxPooling3D AdaptiveAveragePooling1D
            AdaptiveAveragePooling2D AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D
            AdaptiveMaxPooling3D Cropping1D Cropping3D UpSampling1D UpSampling3D ZeroPadding1D ZeroPadding3D
            SpatialDropout1D SpatialDropout3D""",
        "of pictures npnet has the random changes listed among its layers": """
            AugMix AutoContrast ContrastLimitedAdaptiveHistogramEqualization CutMix Equalization
            MaxNumBoundingBoxes MixUp RandAugment RandomColorDegeneration RandomColorJitter
            RandomElasticTransform RandomErasing RandomGaussianBlur RandomGrayscale RandomHue RandomInvert
            RandomPerspective RandomPosterization RandomSaturation RandomSharpness RandomShear
            Solarization""",
        "Dropout and GaussianNoise are what npnet has of this kind": """
            ActivityRegularization AlphaDropout GaussianDropout""",
        "give the integers to Embedding, and its kernel to a Dense": "ReversibleEmbedding",
        "BatchNormalization is the nearest": """
            RMSNormalization SpectralNormalization UnitNormalization""",
    },
    "activations": {
        "write it as a layer (examples/custom_layer.py shows how)": """
            celu glu hard_shrink hard_silu hard_swish hard_tanh log_sigmoid soft_shrink sparse_plus
            sparse_sigmoid sparsemax squareplus tanh_shrink threshold""",
    },
    "losses": {
        "write it as a subclass of npnet.losses.Loss with values and gradient": """
            CTC CategoricalGeneralizedCrossEntropy Circle Dice Tversky categorical_generalized_cross_entropy
            circle ctc dice tversky""",
    },
    "metrics": {
        "give a function (y_true, y_pred), which compile takes as a metric": """
            Accuracy BinaryIoU ConcordanceCorrelation IoU MeanIoU OneHotIoU OneHotMeanIoU PearsonCorrelation
            Sum concordance_correlation pearson_correlation""",
    },
    "optimizers": {
        "Adam, AdamW and Muon are the nearest": "Adafactor Ftrl Lamb ScheduleFreeAdamW",
        "npnet has no float16: no loss needs to be scaled": "LossScaleOptimizer",
    },
    "callbacks": {
        "write a Callback with the hooks you need": "CallbackList RemoteMonitor",
        "ModelCheckpoint and BackupAndRestore save": "OrbaxCheckpoint",
        "optimizers with use_ema=True put the averages in place when fit ends": "SwapEMAWeights",
    },
    "regularizers": {"L1, L2 and L1L2 are there": "OrthogonalRegularizer orthogonal_regularizer"},
    "constraints": {"MaxNorm and NonNeg are there": "MinMaxNorm UnitNorm min_max_norm unit_norm"},
    "initializers": {
        "VarianceScaling draws from a normal or a uniform distribution": """
            TruncatedNormal""",
        "HeNormal or GlorotUniform are the nearest": """
            Identity IdentityInitializer Orthogonal OrthogonalInitializer STFT STFTInitializer identity
            orthogonal stft""",
        "write the class: HeNormal(), Zeros()": """
            constant glorot_normal glorot_uniform he_normal he_uniform lecun_normal lecun_uniform ones
            random_normal random_uniform variance_scaling zeros""",
    },
    "utils": {
        "fit takes arrays, memory-mapped files, iterables of batches and PyDataset": """
            FeatureSpace audio_dataset_from_directory text_dataset_from_directory
            timeseries_dataset_from_array split_dataset pad_sequences pack_x_y_sample_weight
            unpack_x_y_sample_weight""",
        "use Pillow and NumPy": "array_to_img save_img normalize",
        "give custom_objects to load_model": """
            CustomObjectScope custom_object_scope get_custom_objects get_registered_name get_registered_object
            register_keras_serializable""",
        "it is part of how Keras works": """
            Config Progbar disable_interactive_logging enable_interactive_logging get_source_inputs
            is_interactive_logging_enabled is_keras_tensor model_to_dot standardize_dtype
            deserialize_keras_object serialize_keras_object""",
    },
    "models": {
        "npnet has no functional API and no subclassed models: Sequential, and layers of your own": "Model",
        "from_config(json.loads(text)) does this": "model_from_json",
        "model.save(filepath) does this": "save_model",
    },
    "backend": {
        "npnet's only backends are compile's kernels; the dtype is the model's, Sequential(dtype=...)": """
            backend epsilon floatx get_uid image_data_format is_float_dtype is_int_dtype is_keras_tensor
            result_type set_epsilon set_floatx set_image_data_format standardize_dtype""",
    },
    "config": {
        "set_dtype_policy and Sequential(dtype=...) say what models compute in": "floatx set_floatx",
        "npnet's only backends are compile's kernels, and pictures are channels_last": """
            backend image_data_format is_nnx_enabled set_backend set_image_data_format""",
        "layers and losses have an epsilon each": "epsilon set_epsilon",
        "give fit its epochs and steps_per_epoch": """
            max_epochs max_steps_per_epoch set_max_epochs set_max_steps_per_epoch""",
        "give fit verbose=0, 1 or 2": """
            disable_interactive_logging enable_interactive_logging is_interactive_logging_enabled""",
        "npnet has no attention": """
            disable_flash_attention enable_flash_attention is_flash_attention_enabled""",
        "it is part of how Keras works": """
            disable_traceback_filtering enable_traceback_filtering enable_unsafe_deserialization
            is_traceback_filtering_enabled""",
    },
    "mixed_precision": {
        "bfloat16 has the exponents of float32: no loss needs to be scaled": "LossScaleOptimizer"
    },
}
# In how many of 163 public Keras notebooks a name was found that npnet took over because of it.
NOTEBOOKS = {
    "datasets.mnist": 31, "layers.Embedding": 19, "utils.plot_model": 12, "fit(steps_per_epoch=)": 12,
    "datasets.fashion_mnist": 11, "utils.image_dataset_from_directory": 10, "layers.RandomRotation": 8,
    "regularizers.l1, l2, l1_l2": 7, "backend.clear_session": 7, "layers.RandomZoom": 5, "layers.Resizing": 4,
    "callbacks.BackupAndRestore": 3,
}  # fmt: skip
# In how many of them a name is used that npnet has not; no other one is (``tests/golden/count_names.py``).
USED = {
    "layers.LSTM": 14, "layers.GRU": 9, "layers.SimpleRNN": 4, "layers.RNN": 2, "layers.Bidirectional": 8,
    "layers.TimeDistributed": 2, "layers.LSTMCell": 2, "layers.SimpleRNNCell": 1, "layers.Attention": 1,
    "layers.MultiHeadAttention": 6, "layers.Add": 2, "layers.Concatenate": 10, "layers.add": 4,
    "layers.concatenate": 6, "layers.InputLayer": 7, "layers.Lambda": 9, "layers.TFSMLayer": 1,
    "layers.TextVectorization": 12, "layers.StringLookup": 7, "layers.IntegerLookup": 3,
    "layers.Hashing": 1, "layers.Discretization": 2, "layers.MaxPool2D": 2, "layers.GlobalAvgPool2D": 2,
    "layers.RepeatVector": 2, "layers.Conv3D": 1, "layers.GlobalAveragePooling3D": 2,
    "layers.RandomInvert": 1, "layers.ActivityRegularization": 1, "layers.AlphaDropout": 1,
    "metrics.Accuracy": 3, "metrics.IoU": 1, "initializers.TruncatedNormal": 1,
    "initializers.glorot_normal": 1, "initializers.zeros": 2, "utils.audio_dataset_from_directory": 1,
    "utils.text_dataset_from_directory": 7, "utils.timeseries_dataset_from_array": 4,
    "utils.array_to_img": 4, "utils.save_img": 4, "utils.Progbar": 2, "models.Model": 74,
    "backend.epsilon": 2,
}  # fmt: skip
# What Keras's programs say of objects, what it is in npnet, and what to write instead.
DIFFERENT = {
    "optimizer.learning_rate.assign(0.5)": (
        "the learning rate is a number, no variable", "optimizer.learning_rate = 0.5"
    ),
    "model.input_shape, model.output_shape": (
        "shapes are those of one sample: (7, 8, 3) where Keras has (None, 7, 8, 3)",
        "(None, *model.input_shape)",
    ),
    "model.outputs": (
        "a method, which returns the predictions for a batch: there are no symbolic tensors",
        "model.output_shape, model.layers[-1]",
    ),
    "Dense(4) on (batch, steps, features)": (
        "Dense and Softmax take one row of features a sample", "Conv1D(4, 1), the same weights for each step"
    ),
    "axis=1 of BatchNormalization, LayerNormalization, Normalization, Softmax": (
        "features lie along the last axis", "arrays with that axis last: np.moveaxis(x, 1, -1)"
    ),
    "Normalization's mean, variance and count in get_weights()": (
        "statistics are no weights: save_weights keeps and load_weights restores them, get_weights has none",
        "layer.mean, layer.variance, layer.set_statistics(mean, variance)",
    ),
    "sparse_categorical_crossentropy on labels (N, H, W)": (
        "one label a sample", "one-hot targets (N, H, W, classes), categorical_crossentropy"
    ),
    "sample_weight of shape (N, H, W) or (N, steps)": ("one weight a sample", "sample_weight of shape (N,)"),
    "kernel_constraint of convolutions, gamma_constraint": (
        "constraints are for Dense and Embedding", "a callback that sets the weights"
    ),
    "LeakyReLU(alpha=0.1)": ("its older name", "LeakyReLU(negative_slope=0.1)"),
    "Input((None, None, 3))": ("pictures of one model have one size", "Resizing(height, width)"),
    "strides and dilation_rate above 1 of DepthwiseConv2D, SeparableConv2D": (
        "refused, as Conv2D refuses both", "strides=1, or dilation_rate=1"
    ),
    "outer.layers[0] is inner": (
        "a layer that computes by the model, with its layers", "inner, or Sequential(outer.layers[0].layers)"
    ),
    "class Own(Sequential): def train_step(self, data)": (
        "refused: fit takes npnet's own steps", "a layer, a loss or a callback; a loop of train_on_batch"
    ),
    "fit(x, y, steps_per_epoch=100)": ("arrays are gone through whole", "fit(x[:100 * batch_size], ...)"),
    'metrics=["mae"], weighted_metrics=["mae"]': (
        "two values of one name are refused",
        'weighted_metrics=[MeanAbsoluteError(name="weighted_mae")]',
    ),
    "loss=[...], loss_weights=[...]": ("a model has one output", 'loss="mse"'),
}  # fmt: skip
EVERYWHERE = {"objects have get_config, classes take its result": ("deserialize", "serialize")}


def instead(module: str, name: str) -> str | None:
    """Return why a module, "layers" for instance, lacks one of Keras's names, or None for other names."""
    for reason, names in MISSING.get(module, {}).items():
        if name in names.split():
            return reason
    return next((reason for reason, names in EVERYWHERE.items() if name in names), None)


def page(known: dict[str, list[str]]) -> str:
    """Return ``docs/keras.md``, given the names that each of Keras's modules has."""
    lines = [
        "# What Keras has and npnet has not",
        "",
        "Made of `npnet/internal/missing.py`, which the program answers from, too: see `npnet.layers.LSTM`.",
        "Counted are the public names of Keras 3.15, functions and second names included.",
        "",
        "| module | of Keras's names | npnet has |",
        "| --- | --- | --- |",
    ]
    for module, names in known.items():
        missing = sum(instead(module, name) is not None for name in names)
        lines.append(f"| {module} | {len(names)} | {len(names) - missing} |")
    lines += [
        "",
        "Of 163 public Keras notebooks, 64 have dense networks only. These names were added because so many",
        "notebooks use them. The tables below say in brackets how many use a name that npnet has not; names",
        "without a number are used in none. The notebooks are those of Deep Learning with Python, of",
        "Hands-On Machine Learning (third edition), and of TensorFlow's tutorials and guides; the",
        "count is made by `tests/golden/count_names.py`.",
        "",
        "| name | notebooks |",
        "| --- | --- |",
        *(f"| {name} | {count} |" for name, count in NOTEBOOKS.items()),
    ]
    for module, reasons in MISSING.items():
        lines += ["", f"## {module}", "", "| missing | instead |", "| --- | --- |"]
        for reason, missing_names in reasons.items():
            counted = [(USED.get(f"{module}.{name}", 0), name) for name in missing_names.split()]
            shown = [f"{name} ({count})" if count else name for count, name in counted]
            lines.append(f"| {', '.join(shown)} | {reason} |")
    lines += ["", "## What is otherwise", "", "| in Keras | in npnet | write |", "| --- | --- | --- |"]
    lines += [f"| `{theirs}` | {what} | `{ours}` |" for theirs, (what, ours) in DIFFERENT.items()]
    return "\n".join([*lines, ""])
