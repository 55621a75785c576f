"""Layers that fewer networks use: noise, a learned slope, and numbers that stand for things."""

from typing import Any

import numpy as np

from npnet import constraints, initializers, regularizers
from npnet.internal import checks, config
from npnet.layers.layer import Layer, Shape, refuse_larger

__all__ = ["CategoryEncoding", "Embedding", "GaussianNoise", "PReLU", "Whole"]


class GaussianNoise(Layer):
    """y = x + normal noise in training, else x.

    Parameters
    ----------
    stddev
        Its standard deviation.
    seed
        A random stream of its own; by default one derived from the model's seed.
    """

    changeable = ("trainable", "stddev")

    def __init__(self, stddev: float, seed: int | None = None, **options: Any):
        super().__init__(**options)
        self.stddev = checks.number("stddev", stddev, least=0)
        self.seed = checks.optional_seed(seed)

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Keep the stream the noise is drawn from."""
        self.rng = rng if self.seed is None else np.random.default_rng(self.seed)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return x with noise in training, else x."""
        if not training:
            return x
        if self.rng is None:
            raise RuntimeError(f"GaussianNoise {self.name!r} has no random numbers before it is built.")
        return x + self.rng.normal(0, self.stddev, x.shape).astype(x.dtype)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dy."""
        return dy


class PReLU(Layer):
    """y = x where x > 0, else alpha x, with a learned alpha for each input (He et al. 2015).

    Parameters
    ----------
    alpha_initializer, alpha_regularizer, alpha_constraint
        How alpha begins, its penalty, and what each step ends with.
    shared_axes
        Axes, from 1, along which there is one alpha for all: [1, 2] for one a channel of pictures.
    """

    def __init__(
        self,
        alpha_initializer: Any = "zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: Any = None,
        **options: Any,
    ):
        super().__init__(**options)
        self.alpha_initializer = initializers.get(alpha_initializer)
        self.alpha_regularizer = regularizers.get(alpha_regularizer)
        self.alpha_constraint = constraints.get(alpha_constraint)
        axes = [] if shared_axes is None else np.atleast_1d(shared_axes).tolist()
        self.shared_axes = [checks.integer("shared_axes", axis) for axis in axes]

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Create alpha, of the input's shape but for 1 along shared axes."""
        if max(self.shared_axes, default=0) > len(input_shape):
            raise ValueError(f"shared_axes names axis {max(self.shared_axes)} of samples {input_shape}.")
        shape = tuple(1 if i + 1 in self.shared_axes else size for i, size in enumerate(input_shape))
        self.alpha = self.add_parameter(
            "alpha", shape, self.alpha_initializer, rng, dtype, self.alpha_regularizer,
            constraint=self.alpha_constraint,
        )  # fmt: skip

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return x, times alpha where it is not positive."""
        self.x = x
        return np.where(x > 0, x, self.alpha.value * x)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Set dalpha = sums of dy x where x is not positive; return dx = dy, times alpha there."""
        self.alpha.grad = np.where(self.x > 0, 0, dy * self.x).sum(
            axis=(0, *self.shared_axes), keepdims=True
        )[0]
        return np.where(self.x > 0, dy, self.alpha.value * dy)


class Whole(Layer):
    """Base of layers whose inputs are whole numbers from 0 on, which have no gradient.

    Before one there may only be layers that move numbers: what a layer computes is rarely whole, and rounding
    it, as Keras does without a word, makes a network that cannot learn. ``Chain.build`` refuses it.
    """

    takes_integers = True

    def expect_exact(self, count: int, dtype: np.dtype) -> None:
        """Raise a ValueError unless ``dtype`` holds all whole numbers below ``count``."""
        exact = 2 ** (np.finfo(dtype).nmant + 1)
        if count > exact:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} takes {count:,} whole numbers, but {dtype} holds those"
                f' up to {exact:,} only: Sequential(dtype="float64").'
            )

    def numbers(self, x: np.ndarray, count: int) -> np.ndarray:
        """Return x, rounded to whole numbers, all below ``count``."""
        numbers = np.rint(x).astype(np.int64)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= count):
            wrong = numbers.min() if numbers.min() < 0 else numbers.max()
            raise ValueError(
                f"{type(self).__name__} {self.name!r} takes whole numbers from 0 to {count - 1}, got {wrong}."
            )
        self.shape = x.shape
        return numbers


class Embedding(Whole):
    """y[n,l] = E[x[n,l]]: each whole number from 0 to ``input_dim`` - 1 has a learned row of E.

    Parameters
    ----------
    input_dim
        How many numbers there are.
    output_dim
        The length of a row.
    embeddings_initializer, embeddings_regularizer, embeddings_constraint
        How E begins, its penalty, and what each step ends with.
    """

    input_dim = 0  # of other layers a property: their ``input_shape``

    @config.keras_arguments(
        mask_zero=False,
        weights=None,
        lora_rank=None,
        lora_alpha=None,
        quantization_config=None,
        input_length=config.ANY,
    )
    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        **options: Any,
    ):
        super().__init__(**options)
        self.input_dim = checks.integer("input_dim", input_dim)
        self.output_dim = checks.integer("output_dim", output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"input_dim": self.input_dim}

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Create E (input_dim, output_dim)."""
        self.expect_exact(self.input_dim, dtype)
        self.embeddings = self.add_parameter(
            "embeddings", (self.input_dim, self.output_dim), self.embeddings_initializer, rng, dtype,
            self.embeddings_regularizer, constraint=self.embeddings_constraint,
        )  # fmt: skip

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape with an axis of ``output_dim`` behind it."""
        return (*input_shape, self.output_dim)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the row of each number."""
        self.rows = self.numbers(x, self.input_dim)
        return self.embeddings.value[self.rows]

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Set dE: to each row the sum of dy of its places; return zeros, whole numbers have no gradient."""
        self.embeddings.grad = np.zeros(self.embeddings.shape, dy.dtype)
        np.add.at(self.embeddings.grad, self.rows, dy)
        return np.zeros(self.shape, dy.dtype)


class CategoryEncoding(Whole):
    """Whole numbers as zeros and ones.

    Parameters
    ----------
    num_tokens
        K: numbers are 0 to K - 1.
    output_mode
        "one_hot": (L,) becomes (L, K), (1,) becomes (K,). "multi_hot": (L,) becomes (K,), 1 where a number
        occurs. "count": how often it does.
    """

    @config.keras_arguments(sparse=False)
    def __init__(self, num_tokens: int, output_mode: str = "multi_hot", **options: Any):
        super().__init__(**options)
        self.num_tokens = checks.integer("num_tokens", num_tokens)
        config.lookup("output_mode", output_mode, dict.fromkeys(("one_hot", "multi_hot", "count")))
        self.output_mode = output_mode

    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: np.dtype) -> None:
        """Remember in which dtype zeros and ones are wanted."""
        self.expect_exact(self.num_tokens, dtype)
        self.float_dtype = np.dtype(dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (K,) or (L, K)."""
        refuse_larger(self, "categories", (*input_shape, self.num_tokens))
        kept = input_shape if self.output_mode == "one_hot" and input_shape[-1:] != (1,) else input_shape[:-1]
        return (*kept, self.num_tokens)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return zeros and ones, or counts."""
        numbers = self.numbers(x, self.num_tokens)
        y = (numbers[..., None] == np.arange(self.num_tokens)).astype(self.float_dtype)
        if self.output_mode == "one_hot":
            return y[..., 0, :] if x.shape[1:][-1:] == (1,) else y
        return y.max(axis=-2) if self.output_mode == "multi_hot" else y.sum(axis=-2)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return zeros: whole numbers have no gradient."""
        return np.zeros(self.shape, dy.dtype)
