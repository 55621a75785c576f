"""Optimizers that fewer trainings use: Muon, and relatives of Adam. Formulas in ``kernels.more_rules``."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npnet.internal import checks, config
from npnet.kernels import Kernels, more_rules
from npnet.kernels.reference.optimizers import NEWTON_SCHULZ
from npnet.layers.parameter import Parameter
from npnet.optimizers.optimizer import NAMES, Adam, Optimizer, TwoMoments

__all__ = ["Adadelta", "Adamax", "Lion", "Muon", "Nadam"]


class Nadam(TwoMoments):
    """Adam with Nesterov's momentum (Dozat 2016):  w <- w - lr (a m + b g) / (sqrt(c v) + epsilon).

    With u_t = beta_1 (1 - 0.96^t / 2), the momentum that grows from step to step, and U_t = u_1 u_2 ... u_t:
    a = u_(t+1) / (1 - U_(t+1)), b = (1 - u_t) / (1 - U_t), c = 1 / (1 - beta_2^t).
    """

    @property
    def rule(self) -> Callable[..., tuple]:
        """Dozat's."""
        return more_rules.nadam

    def hyperparameters(self) -> tuple[float, ...]:
        """Return (learning_rate, a, b, beta_1, beta_2, c, epsilon)."""
        t = self.iterations + 1
        u, following = (self.beta_1 * (1 - 0.5 * 0.96**step) for step in (t, t + 1))
        grown = 1 - 0.5 * 0.96 ** np.arange(1, min(t, 1000) + 1)  # 1 to the last bit from there on
        product = self.beta_1**t * float(grown.prod())
        ahead, now = following / (1 - product * following), (1 - u) / (1 - product)
        correction = 1 / (1 - self.beta_2**t)
        return self.learning_rate, ahead, now, self.beta_1, self.beta_2, correction, self.epsilon


class Adamax(TwoMoments):
    """m, u <- running mean of g, falling maximum of |g|;  w <- w - lr / (1 - b1^t) m / (u + epsilon)."""

    slot_names = ("first_moment", "largest")

    @property
    def rule(self) -> Callable[..., tuple]:
        """Kingma's and Ba's second."""
        return more_rules.adamax

    def hyperparameters(self) -> tuple[float, ...]:
        """Return (lr / (1 - b1^t), beta_1, beta_2, epsilon)."""
        step_size = self.learning_rate / (1 - self.beta_1 ** (self.iterations + 1))
        return step_size, self.beta_1, self.beta_2, self.epsilon


class Adadelta(Optimizer):
    """v, d <- running means of g^2 and of squared steps;  w <- w - lr g sqrt(d + eps) / sqrt(v + eps)."""

    slot_names = ("mean_square", "mean_square_step")

    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.95, epsilon: float = 1e-7, **options: Any):
        super().__init__(learning_rate, **options)
        self.rho = checks.share("rho", rho)
        self.epsilon = checks.positive("epsilon", epsilon)

    @property
    def rule(self) -> Callable[..., tuple]:
        """Zeiler's."""
        return more_rules.adadelta

    def hyperparameters(self) -> tuple[float, ...]:
        """Return (learning_rate, rho, epsilon)."""
        return self.learning_rate, self.rho, self.epsilon


class Lion(Optimizer):
    """w <- w - lr sign(b1 m + (1-b1) g);  m <- b2 m + (1-b2) g  (Chen et al. 2023)."""

    slot_names = ("momentum",)

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.99, **options: Any):
        super().__init__(learning_rate, **options)
        self.beta_1 = checks.number("beta_1", beta_1, 0, 1)
        if self.beta_1 == 0:
            raise ValueError("beta_1 must be above 0: else only the gradient's sign would count.")
        self.beta_2 = checks.share("beta_2", beta_2)

    @property
    def rule(self) -> Callable[..., tuple]:
        """Chen's."""
        return more_rules.lion

    def hyperparameters(self) -> tuple[float, ...]:
        """Return (learning_rate, beta_1, beta_2)."""
        return self.learning_rate, self.beta_1, self.beta_2


class Muon(Adam):
    """m <- momentum m + g;  W <- W - lr rms_rate sqrt(max(D, M)) U V'  where U S V' = g + momentum m.

    For matrices (D, M) only: what they learn rarely counts as much as what they learn all the time, because
    every singular value of a step is about 1. Filters (kh, kw, C, F) are matrices (kh kw C, F), where Keras
    leaves them to Adam. Vectors follow Adam. U V' comes from Newton-Schulz steps (``kernels.orthogonalize``),
    which cost more than a small batch and less than a large one. (Jordan et al. 2024; the scale, which lets
    learning rates and decays for Adam serve here, is Liu et al.'s of 2025.)

    Parameters
    ----------
    adam_beta_1, adam_beta_2, epsilon
        Of Adam, for vectors.
    adam_weight_decay
        The weight decay of vectors.
    momentum, nesterov
        Without nesterov U S V' = m.
    ns_steps
        How many Newton-Schulz steps to take.
    rms_rate
        Root mean square of a step's elements, in units of the learning rate. None: W <- W - lr U V'.
    rescale
        Before each step scale each matrix to the Frobenius norm sqrt(M), so that its columns have norm 1 in
        the mean. For filters before a normalisation, where only their directions count.
    """

    @config.keras_arguments(
        exclude_layers=None,
        exclude_embeddings=True,
        adam_lr_ratio=1,
        **dict(zip(("muon_a", "muon_b", "muon_c"), NEWTON_SCHULZ, strict=True)),
    )
    def __init__(
        self,
        learning_rate: Any = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float = 0.004,
        epsilon: float = 1e-7,
        weight_decay: float = 0.004,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        rescale: bool = False,
        **options: Any,
    ):
        for name in options.keys() & {"beta_1", "beta_2"}:
            raise TypeError(f"Muon got an unexpected argument {name!r}. Did you mean adam_{name}?")
        super().__init__(
            learning_rate, adam_beta_1, adam_beta_2, epsilon, weight_decay=weight_decay, **options
        )
        self.adam_weight_decay = checks.number("adam_weight_decay", adam_weight_decay, least=0)
        self.momentum = checks.share("momentum", momentum)
        self.ns_steps = checks.integer("ns_steps", ns_steps)
        self.nesterov = nesterov
        self.rms_rate = None if rms_rate is None else checks.positive("rms_rate", rms_rate)
        self.rescale = checks.flag("rescale", rescale)

    @property
    def beta_1(self) -> float:
        """``adam_beta_1``, as Adam calls it."""
        return self.adam_beta_1

    @beta_1.setter
    def beta_1(self, value: float) -> None:
        self.adam_beta_1 = value

    @property
    def beta_2(self) -> float:
        """``adam_beta_2``, as Adam calls it."""
        return self.adam_beta_2

    @beta_2.setter
    def beta_2(self, value: float) -> None:
        self.adam_beta_2 = value

    @property
    def slot_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Of matrices the momentum, of vectors Adam's."""
        return ("momentum", *super().slot_names)

    def decay_of(self, parameter: Parameter) -> float | None:
        """Return the matrices' weight decay or the vectors'."""
        return self.weight_decay if _is_matrix(parameter) else self.adam_weight_decay

    def slots_of(self, parameter: Parameter, names: tuple[str, ...] | None = None) -> list[np.ndarray]:
        """Return m of a matrix, Adam's memory of a vector."""
        return super().slots_of(
            parameter, names or (self.slot_names[:1] if _is_matrix(parameter) else self.slot_names[1:])
        )

    def update_all(self, parameters: list[Parameter], kernels: Kernels) -> None:
        """Change matrices by U V', vectors by Adam's rule."""
        super().update_all([parameter for parameter in parameters if not _is_matrix(parameter)], kernels)
        matrices = [parameter for parameter in parameters if _is_matrix(parameter)]
        directions = [self._direction(parameter) for parameter in matrices]
        orthogonal = kernels.orthogonalize(directions, self.ns_steps)
        for parameter, its in zip(matrices, orthogonal, strict=True):
            self._move(_as_matrix(parameter.value), its)

    def _direction(self, parameter: Parameter) -> np.ndarray:
        """Let m follow the gradient; return g + momentum m."""
        gradient, m = map(_as_matrix, (parameter.grad, *self.slots_of(parameter)))
        m *= self.momentum
        m += gradient
        return gradient + self.momentum * m if self.nesterov else m

    def _move(self, matrix: np.ndarray, orthogonal: np.ndarray) -> None:
        step_size = self.learning_rate
        if self.rms_rate is not None:
            step_size *= self.rms_rate * max(matrix.shape) ** 0.5
        if self.rescale and (norm := float(np.linalg.norm(matrix))):
            matrix *= matrix.shape[1] ** 0.5 / norm
        matrix -= step_size * orthogonal


def _is_matrix(parameter: Parameter) -> bool:
    return len(parameter.shape) >= 2


def _as_matrix(array: np.ndarray) -> np.ndarray:
    """Return filters (kh, kw, C, F) as (kh kw C, F): the same numbers, of an array in C order."""
    return array.reshape(-1, array.shape[-1])


NAMES |= {"muon": Muon, "nadam": Nadam, "adamax": Adamax, "adadelta": Adadelta, "lion": Lion}
