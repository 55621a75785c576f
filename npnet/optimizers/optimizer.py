"""Optimizers: from gradients to steps.

The formulas are in ``kernels.rules``; an optimizer chooses the rule, keeps its memory in the parameters'
slots and supplies the numbers of each step. Names, defaults and numerics are Keras 3's.
"""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from npnet.internal import checks, config, results
from npnet.kernels import Kernels, rules
from npnet.layers.parameter import Parameter
from npnet.optimizers import average, schedules

__all__ = [
    "COMPOSED", "NAMES", "SGD", "SQUARES", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "TwoMoments",
    "get",
]  # fmt: skip

SQUARES = frozenset(
    {"accumulator", "largest", "mean_square", "mean_square_step", "second_moment"}
)  # slots of roots to be taken


class Optimizer(config.Configurable):
    """One step for each parameter: w, slots <- rule(w, gradient, slots, hyperparameters).

    Parameters
    ----------
    learning_rate
        A number, or a schedule of ``npnet.schedules``.
    weight_decay
        Each step first shrinks every weight by learning_rate * weight_decay * w, apart from the gradient
        ("decoupled", Loshchilov & Hutter 2019), for every optimizer as in Keras 3.
    clipnorm
        Scale each parameter's gradient down to at most this norm.
    clipvalue
        Clip each element of the gradients to [-clipvalue, clipvalue].
    global_clipnorm
        Scale all gradients together down to at most this norm. Only one of the three may be given.
    use_ema, ema_momentum, ema_overwrite_frequency
        Keep a moving average of the weights, which they become at the end of ``fit`` and, if a frequency is
        given, every so many steps (see ``average.py``).

    Attributes
    ----------
    iterations
        Steps done.
    """

    slot_names: tuple[str, ...] = ()
    results: ClassVar = {
        "hyperparameters": results.numbers("hyperparameters", "the numbers of the next step, a tuple", None)
    }

    @config.keras_arguments(name=config.ANY, loss_scale_factor=None, gradient_accumulation_steps=None)
    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
    ):
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = [name for name, value in clips.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"Only one of clipnorm, clipvalue, global_clipnorm may be given, got {given}.")
        for name in given:
            clips[name] = checks.positive(name, clips[name])
        if weight_decay is not None:
            weight_decay = checks.number("weight_decay", weight_decay, least=0)
        if isinstance(learning_rate, (schedules.LearningRateSchedule, dict)):
            self.schedule: schedules.LearningRateSchedule | None = schedules.get(learning_rate)
        else:
            self.schedule = None
            self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clipnorm = clips["clipnorm"]
        self.clipvalue = clips["clipvalue"]
        self.global_clipnorm = clips["global_clipnorm"]
        self.use_ema = checks.flag("use_ema", use_ema)
        self.ema_momentum = checks.number("ema_momentum", ema_momentum, 0, 1)
        if ema_overwrite_frequency is not None:
            ema_overwrite_frequency = checks.integer("ema_overwrite_frequency", ema_overwrite_frequency)
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.iterations = 0
        self.memory: dict[Parameter, dict[str, np.ndarray]] = {}
        self.trains: object = None  # the identity of the model whose steps have been counted

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step; assign to change it."""
        return self._learning_rate if self.schedule is None else self.schedule(self.iterations)

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if self.schedule is not None:
            raise TypeError(
                "The learning rate follows a schedule and cannot be set. Give the optimizer a number instead."
            )
        self._learning_rate = checks.number("learning_rate", value, least=0)

    @property
    def rule(self) -> Callable[..., tuple]:
        """The function of ``kernels.rules`` that makes the step."""
        raise NotImplementedError(f"{type(self).__name__} has no property rule.")

    def hyperparameters(self) -> tuple[float, ...]:
        """Return the numbers of the next step, in the order of the rule's last arguments."""
        raise NotImplementedError(f"{type(self).__name__} has no hyperparameters().")

    def slots_of(self, parameter: Parameter, names: tuple[str, ...] | None = None) -> list[np.ndarray]:
        """Return this optimizer's memory of a parameter in the rule's order, created when first needed."""
        slots = parameter.slots = self.memory.setdefault(parameter, {})
        names = self.slot_names if names is None else names
        for name in names:
            if name not in slots:
                slots[name] = self.new_slot(parameter.value)
        return [slots[name] for name in names]

    def new_slot(self, value: np.ndarray) -> np.ndarray:
        """Return a slot before the first step: zeros."""
        return np.zeros_like(value)

    def step(self, parameters: list[Parameter], kernels: Kernels) -> None:
        """Change every parameter by one step along its ``grad``: clip, decay, update."""
        clipped = self.clip([parameter.grad for parameter in parameters])
        for parameter, gradient in zip(parameters, clipped, strict=True):
            parameter.grad = gradient
        self.apply(parameters, kernels)

    def apply(self, parameters: list[Parameter], kernels: Kernels) -> None:
        """Change every parameter by one step along its ``grad`` as it is: decay, update, constrain."""
        for parameter in parameters:
            if decay := self.decay_of(parameter):
                parameter.value[...] *= 1 - self.learning_rate * decay
        self.update_all(parameters, kernels)
        if self.use_ema:
            average.follow(self, parameters)
        for parameter in parameters:
            if parameter.constraint is not None:
                parameter.value[...] = parameter.constraint(parameter.value)
        self.iterations += 1

    def finalize_variable_values(self, parameters: list[Parameter]) -> None:
        """Put the moving averages in the weights' place, where there are any: ``fit`` does so at its end."""
        average.put_in_place(self, parameters)

    def decay_of(self, parameter: Parameter) -> float | None:
        """Return the weight decay of a parameter."""
        return self.weight_decay

    def update_all(self, parameters: list[Parameter], kernels: Kernels) -> None:
        """Change parameters and their slots."""
        for parameter in parameters:
            self.update(parameter, kernels)

    def update(self, parameter: Parameter, kernels: Kernels) -> None:
        """Change a parameter and its slots by the rule."""
        slots, hyperparameters = self.slots_of(parameter), self.hyperparameters()
        kernels.update(self.rule, parameter.value, parameter.grad, slots, hyperparameters)

    def clip(self, gradients: list[np.ndarray]) -> list[np.ndarray]:
        """Return the gradients, clipped; those that are as they were are the same arrays."""
        if self.clipvalue is not None:
            return [np.clip(gradient, -self.clipvalue, self.clipvalue) for gradient in gradients]
        if self.clipnorm is not None:
            return [_shrunk([gradient], self.clipnorm)[0] for gradient in gradients]
        if self.global_clipnorm is not None:
            return _shrunk(gradients, self.global_clipnorm)
        return gradients

    @property
    def clips(self) -> bool:
        """Whether gradients are clipped, and so needed whole before any parameter changes."""
        return not (self.clipvalue is self.clipnorm is self.global_clipnorm is None)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments; the schedule in place of a scheduled rate."""
        common = [name for name in inspect.signature(Optimizer).parameters if name != "learning_rate"]
        arguments = super().get_config() | {name: getattr(self, name) for name in common}
        if self.schedule is not None:
            arguments["learning_rate"] = config.serialize(self.schedule)
        return arguments


def _shrunk(gradients: list[np.ndarray], limit: float) -> list[np.ndarray]:
    """Return the gradients, scaled so that their joint norm is at most ``limit``."""
    norm = np.sqrt(sum(np.square(gradient, dtype=np.float64).sum() for gradient in gradients))
    if not norm > limit:  # NaN stays in the numbers it is in
        return gradients
    return [gradient * gradient.dtype.type(limit / norm) for gradient in gradients]


class SGD(Optimizer):
    """w <- w - lr g;  with momentum m <- mu m - lr g, w <- w + m;  with nesterov w <- w + mu m - lr g."""

    def __init__(
        self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False, **options: Any
    ):
        super().__init__(learning_rate, **options)
        self.momentum = checks.share("momentum", momentum)
        self.nesterov = nesterov

    @property
    def slot_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The velocity, where there is momentum."""
        return ("velocity",) if self.momentum else ()

    @property
    def rule(self) -> Callable[..., tuple]:
        """Plain, with momentum, or Nesterov's."""
        if not self.momentum:
            return rules.sgd
        return rules.sgd_nesterov if self.nesterov else rules.sgd_momentum

    def hyperparameters(self) -> tuple[float, ...]:
        """Return (learning_rate[, momentum])."""
        return (self.learning_rate, self.momentum) if self.momentum else (self.learning_rate,)


class RMSprop(Optimizer):
    """v <- rho v + (1-rho) g^2;  w <- w - lr g / sqrt(v + epsilon).

    Parameters
    ----------
    momentum
        Moves along a decaying sum of steps instead of the single step.
    centered
        Divides by the standard deviation of the gradient instead of its root mean square.
    epsilon_inside
        True as in Keras 3: sqrt(v + epsilon). False as in PyTorch and in Keras before 2.11:
        sqrt(v) + epsilon, whose first steps are up to thousands of times longer for small gradients.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        epsilon_inside: bool = True,
        **options: Any,
    ):
        super().__init__(learning_rate, **options)
        self.rho = checks.share("rho", rho)
        self.momentum = checks.share("momentum", momentum)
        self.epsilon = checks.positive("epsilon", epsilon)
        self.centered = centered
        self.epsilon_inside = epsilon_inside

    @property
    def plain(self) -> bool:
        """Whether no option is used."""
        return self.epsilon_inside and not self.momentum and not self.centered

    @property
    def slot_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The running means of g^2 and, for the options, of g and of the steps."""
        return ("mean_square",) if self.plain else ("mean_square", "mean", "velocity")

    @property
    def rule(self) -> Callable[..., tuple]:
        """The plain rule where no option is used."""
        return rules.rmsprop if self.plain else rules.rmsprop_general

    def hyperparameters(self) -> tuple[float, ...]:
        """Return (learning_rate, rho[, momentum], epsilon[, centered, outside])."""
        if self.plain:
            return self.learning_rate, self.rho, self.epsilon
        options = float(self.centered), float(not self.epsilon_inside)
        return self.learning_rate, self.rho, self.momentum, self.epsilon, *options


class Adagrad(Optimizer):
    """v <- v + g^2;  w <- w - lr g / sqrt(v + epsilon);  v begins at ``initial_accumulator_value``."""

    slot_names = ("accumulator",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: Any,
    ):
        super().__init__(learning_rate, **options)
        self.initial_accumulator_value = checks.number(
            "initial_accumulator_value", initial_accumulator_value, least=0
        )
        self.epsilon = checks.positive("epsilon", epsilon)

    @property
    def rule(self) -> Callable[..., tuple]:
        """Duchi's rule."""
        return rules.adagrad

    def new_slot(self, value: np.ndarray) -> np.ndarray:
        """Return the accumulator before the first step."""
        return np.full_like(value, self.initial_accumulator_value)

    def hyperparameters(self) -> tuple[float, ...]:
        """Return (learning_rate, epsilon)."""
        return self.learning_rate, self.epsilon


class TwoMoments(Optimizer):
    """Base of Adam and its relatives, with a running mean of g and a memory of how large g is.

    Parameters
    ----------
    beta_1, beta_2
        How much of the old value stays in each of them.
    epsilon
        Added to the second before it divides.
    """

    slot_names = ("first_moment", "second_moment")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Any,
    ):
        super().__init__(learning_rate, **options)
        self.beta_1 = checks.share("beta_1", beta_1)
        self.beta_2 = checks.share("beta_2", beta_2)
        self.epsilon = checks.positive("epsilon", epsilon)


class Adam(TwoMoments):
    """m, v <- running means of g, g^2;  w <- w - a m / (sqrt(v) + epsilon),  a = lr sqrt(1-b2^t) / (1-b1^t).

    Keras adds epsilon after folding the bias correction into a ("epsilon hat" of the paper); PyTorch
    before, so that its epsilon acts as epsilon / sqrt(1 - b2^t) here.

    Parameters
    ----------
    amsgrad
        Divide by the largest v so far instead of the present one.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **options)
        self.amsgrad = amsgrad

    @property
    def slot_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The running means of g and g^2, and the largest of the latter."""
        return super().slot_names + (("largest",) if self.amsgrad else ())

    @property
    def rule(self) -> Callable[..., tuple]:
        """Adam's or AMSGrad's."""
        return rules.amsgrad if self.amsgrad else rules.adam

    def hyperparameters(self) -> tuple[float, ...]:
        """Return (a, beta_1, beta_2, epsilon) with the bias correction of this step in a."""
        t = self.iterations + 1
        step_size = self.learning_rate * (1 - self.beta_2**t) ** 0.5 / (1 - self.beta_1**t)
        return step_size, self.beta_1, self.beta_2, self.epsilon


class AdamW(Adam):
    """Adam with decoupled weight decay, 0.004 by default (Loshchilov & Hutter 2019)."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ):
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **options
        )


NAMES: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": AdamW,
}


COMPOSED: dict[str, type[Optimizer]] = {}  # made of other optimizers: known in files, but by no name alone


def get(identifier: Any) -> Optimizer:
    """Return the optimizer meant by a name, an instance or a dict."""
    names = NAMES if isinstance(identifier, str) else NAMES | COMPOSED
    return config.get("optimizer", identifier, Optimizer, names)
