"""Several optimizers for one model, each with parameters of its own. Names and meaning are Keras 3's."""

import re
from typing import Any

from npnet.internal import config
from npnet.kernels import Kernels
from npnet.layers.parameter import Parameter
from npnet.optimizers.optimizer import COMPOSED, Optimizer, get

__all__ = ["MultiOptimizer", "OptimizerMap"]


class OptimizerMap(config.Configurable):
    """Which optimizer trains a parameter, by its path "layer/parameter".

    Parameters
    ----------
    default_optimizer
        For parameters that no pattern fits.
    optimizer_map
        Pattern -> optimizer. A pattern is a path, or a regular expression that must fit all of it:
        ``".*/bias"``. At most one may fit a parameter, unless one is its very path.
    """

    def __init__(self, default_optimizer: Any, optimizer_map: dict[str, Any] | None = None):
        self.default_optimizer = get(default_optimizer)
        self.optimizer_map = {pattern: get(one) for pattern, one in (optimizer_map or {}).items()}
        for pattern in self.optimizer_map:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"optimizer_map: {pattern!r} is no regular expression: {error}.") from None
        if any(isinstance(optimizer, MultiOptimizer) for optimizer in self.optimizers):
            raise ValueError("optimizer_map holds a MultiOptimizer; put its patterns in this map instead.")

    @property
    def optimizers(self) -> list[Optimizer]:
        """All of them, each once, the default first."""
        return list(dict.fromkeys([self.default_optimizer, *self.optimizer_map.values()]))

    def __call__(self, parameter: Parameter) -> Optimizer:
        """Return the optimizer of a parameter."""
        if parameter.path in self.optimizer_map:
            return self.optimizer_map[parameter.path]
        fitting = [pattern for pattern in self.optimizer_map if re.fullmatch(pattern, parameter.path)]
        if len(fitting) > 1:
            raise ValueError(f"optimizer_map: more than one pattern fits {parameter.path}: {fitting}.")
        return self.optimizer_map[fitting[0]] if fitting else self.default_optimizer


class MultiOptimizer(Optimizer):
    """Gives each parameter to one of several optimizers, which has its own learning rate, decay and clipping.

    The optimizers take their steps together: they have one count of steps, and one memory.

    Parameters
    ----------
    optimizer_map
        An OptimizerMap.

    Attributes
    ----------
    learning_rate
        The default optimizer's. It can be assigned to each of ``optimizers`` only.

    Examples
    --------
    >>> MultiOptimizer(OptimizerMap(SGD(0.1, momentum=0.9), {"conv2d.*/kernel": Muon(0.02)}))
    """

    @config.keras_arguments(name=config.ANY, loss_scale_factor=None)
    def __init__(self, optimizer_map: Any):
        if isinstance(optimizer_map, dict) and optimizer_map.get("class_name") == "OptimizerMap":
            optimizer_map = OptimizerMap(**optimizer_map["config"])
        if not isinstance(optimizer_map, OptimizerMap):
            raise TypeError(f"optimizer_map must be an OptimizerMap, got {type(optimizer_map).__name__}.")
        if any(optimizer.use_ema for optimizer in optimizer_map.optimizers):
            raise ValueError("optimizer_map: use_ema is not known inside a MultiOptimizer; leave it out.")
        self.optimizer_map = optimizer_map
        super().__init__(learning_rate=0.0)
        for optimizer in self.optimizers:
            optimizer.memory = self.memory

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers, the default one first."""
        return self.optimizer_map.optimizers

    @property
    def slot_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """What any of them keeps of a parameter."""
        return tuple(dict.fromkeys(name for optimizer in self.optimizers for name in optimizer.slot_names))

    @property
    def iterations(self) -> int:
        """Steps done, the same of all."""
        return self.optimizers[0].iterations

    @iterations.setter
    def iterations(self, steps: int) -> None:
        for optimizer in self.optimizers:
            optimizer.iterations = steps

    @property
    def learning_rate(self) -> float:
        """The default optimizer's learning rate of the next step."""
        return self.optimizers[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if value:  # not the 0 that every optimizer begins with
            raise TypeError("A MultiOptimizer has no learning rate of its own: assign to one of .optimizers.")

    def step(self, parameters: list[Parameter], kernels: Kernels) -> None:
        """Let each optimizer change its parameters by one step, clipped as it says."""
        for optimizer, own in self._divided(parameters):
            optimizer.step(own, kernels)

    def apply(self, parameters: list[Parameter], kernels: Kernels) -> None:
        """Let each optimizer change its parameters along their gradients as they are."""
        for optimizer, own in self._divided(parameters):
            optimizer.apply(own, kernels)

    def _divided(self, parameters: list[Parameter]) -> list[tuple[Optimizer, list[Parameter]]]:
        """Return all optimizers with the parameters of each, also those without: they count the step."""
        owners = [self.optimizer_map(parameter) for parameter in parameters]
        return [
            (optimizer, [p for p, owner in zip(parameters, owners, strict=True) if owner is optimizer])
            for optimizer in self.optimizers
        ]

    def get_config(self) -> dict[str, Any]:
        """Return the map."""
        return {"optimizer_map": config.serialize(self.optimizer_map)}


COMPOSED["multi_optimizer"] = MultiOptimizer
