"""The frameworks once more, each training or asking a convolutional network of ``networks``.

A peer has ``label``, ``packages`` and ``formulas`` as in ``peers``; further

- ``reset()``: back to the task's initial weights and an empty optimizer memory;
- ``losses(steps)``: train on the next ``steps`` batches, return the loss of each;
- ``run(times)``: what is timed: so many steps, or in the mode "inference" predictions of a batch.
"""

import os

import numpy as np

from .peers import Peer

KERAS = {"rmsprop": "rmsprop", "nesterov": "nesterov"}
PYTORCH = {"rmsprop": "rmsprop, eps outside", "nesterov": "nesterov"}
EPSILON, MOMENTUM = 1e-12, 0.6  # of batch normalisation


class NetworkPeer(Peer):
    """What they have in common: the task, the mode, and a batch to predict."""

    formulas = KERAS

    def __init__(self, task, threads):
        super().__init__(task, threads)
        self.mode = "training"
        self.batch = task.data[0][: task.batch]

    def run(self, times):
        if self.mode == "training":
            self.losses(times)
        else:
            for _ in range(times):
                self.predict()

    def arrays(self):
        """All weights in the order of the layers."""
        return [array for own in self.task.weights for array in own]


def make_layers(layers, task):
    """Return the network's layers from npnet's or Keras's module of layers: their names are the same."""

    def convolution(trainable, filters, window, padding, bias):
        return layers.Conv2D(filters, window, padding=padding, use_bias=bias, trainable=trainable)

    makers = {
        "conv": lambda *own: convolution(True, *own),
        "frozen": lambda *own: convolution(False, *own),
        "relu": layers.ReLU,
        "gelu": lambda: layers.Activation("gelu"),
        "pool": layers.MaxPooling2D,
        "norm": lambda: layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, scale=False),
        "dropout": layers.Dropout,
        "flatten": layers.Flatten,
        "maximum": layers.GlobalMaxPooling2D,
        "scale": layers.Rescaling,
        "dense": lambda units, bias: layers.Dense(units, use_bias=bias),
    }
    return [*(makers[kind](*numbers) for kind, *numbers in task.layers), layers.Softmax()]


class NetworkNpnet(NetworkPeer):
    """npnet's own training step, as ``fit`` runs it, on the batch's rows in the user's array."""

    label, packages = "npnet numba fused", ("numba",)
    kernels, fused = "numba", True

    def __init__(self, task, threads, kernels=None, fused=None, dtype="float32", formula=""):
        from npnet import layers
        from npnet.kernels.machine.threads import set_threads
        from npnet.models import Sequential
        from npnet.optimizers import SGD, RMSprop

        super().__init__(task, threads)
        if kernels is None:
            set_threads(threads)
        self.kernels, self.fused = kernels or self.kernels, self.fused if fused is None else fused
        self.model = Sequential(make_layers(layers, task), dtype=dtype, seed=task.seed)
        self.model.build((None, *task.data[0].shape[1:]))
        if task.optimizer == "rmsprop":
            inside = not formula.endswith("outside")
            self.optimizer = lambda: RMSprop(**task.hyperparameters, epsilon_inside=inside)
        else:
            self.optimizer = lambda: SGD(**task.hyperparameters, nesterov=True)

    def reset(self):
        loss = "categorical_crossentropy"
        self.model.compile(self.optimizer(), loss, kernels=self.kernels, fused=self.fused)
        statistics = {"moving_mean": 0, "moving_variance": 1}
        arrays = iter(self.arrays())
        for parameter in self.model.parameters:
            value = statistics.get(parameter.name)
            parameter.value[...] = next(arrays) if value is None else value
        x, _ = self.task.data
        setup = self.model.require_compiled("a benchmark")
        setup.prepare(x)
        self.step = setup.step()
        self.at_once = setup.at_once(self.step, self.task.batch, heard=False)
        self.steps = 0

    def losses(self, steps):
        from npnet.training.batches import Batch

        (x, _), y_true = self.task.data, self.task.one_hot
        batches = [Batch(np.arange(rows.start, rows.stop), y_true[rows]) for rows in self.next_batches(steps)]
        losses = []
        for first in range(0, steps, self.at_once):
            losses += [loss for loss, _ in self.step(x, batches[first : first + self.at_once])]
        return losses

    def predict(self):
        return self.model(self.batch)


class NetworkNpnetUnfused(NetworkNpnet):
    """Layer by layer: the same products, each result stored."""

    label, fused = "npnet numba unfused", False


class NetworkTorch(NetworkPeer):
    """Eager, channels_last, with the optimizer that updates all tensors in one call."""

    label, packages, formulas = "PyTorch eager", ("torch",), PYTORCH

    def __init__(self, task, threads):
        import torch

        super().__init__(task, threads)
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        self.torch, last = torch, torch.channels_last
        x, labels = (torch.from_numpy(a) for a in task.data)
        self.x, self.labels = x.permute(0, 3, 1, 2), labels  # (N, C, H, W), channels last in memory
        self.model = torch.nn.Sequential(*self.make_layers()).to(memory_format=last)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        numbers, optim = task.hyperparameters, torch.optim
        if task.optimizer == "rmsprop":
            rate, rho, epsilon = numbers["learning_rate"], numbers["rho"], numbers["epsilon"]
            self.optimizer = optim.RMSprop(trained, rate, rho, epsilon, foreach=True)
        else:
            rate, momentum = numbers["learning_rate"], numbers["momentum"]
            self.optimizer = optim.SGD(trained, rate, momentum, nesterov=True, fused=True)

    def make_layers(self):
        nn, made = self.torch.nn, []
        for (kind, *numbers), shape in zip(self.task.layers, self.task.shapes, strict=False):
            if kind in ("conv", "frozen"):
                filters, window, padding, bias = numbers
                made.append(nn.Conv2d(shape[-1], filters, window, padding=padding, bias=bias))
                made[-1].requires_grad_(kind == "conv")
            elif kind == "norm":
                made.append(nn.BatchNorm2d(shape[-1], EPSILON, 1 - MOMENTUM))
                made[-1].weight.requires_grad_(False)
            elif kind == "scale":
                made.append(Scale(self.torch, numbers[0]))
            elif kind == "dense":
                made.append(nn.Linear(shape[0], numbers[0], bias=numbers[1]))
            elif kind == "maximum":
                made += [nn.AdaptiveMaxPool2d(1), nn.Flatten()]
            else:
                kinds = {"relu": nn.ReLU, "gelu": nn.GELU, "pool": nn.MaxPool2d, "dropout": nn.Dropout}
                made.append({**kinds, "flatten": nn.Flatten}[kind](*numbers))
        return made

    def reset(self):
        nn = self.torch.nn
        holders = (m for m in self.model if isinstance(m, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)))
        maps = None  # (H, W, C) of the pictures that were flattened last
        with self.torch.no_grad():
            for (kind, *_), shape, own in zip(
                self.task.layers, self.task.shapes, self.task.weights, strict=False
            ):
                maps = shape if kind == "flatten" else maps
                if own:
                    self.assign(next(holders), *map(self.torch.from_numpy, own), maps=maps)
                    maps = None
            for slots in self.optimizer.state.values():
                for tensor in slots.values():
                    if tensor is not None:
                        tensor.zero_()
        self.model.train(self.mode == "training")
        self.steps = 0

    def assign(self, module, first, bias=None, maps=None):
        """Give a module its weights in PyTorch's order of axes; its Flatten goes by channels first."""
        if first.ndim == 1:
            module.reset_running_stats()
            module.bias.copy_(first)
            return
        if first.ndim == 4:
            first = first.permute(3, 2, 0, 1)
        elif maps is None:
            first = first.T
        else:
            first = first.reshape(*maps, -1).permute(3, 2, 0, 1).reshape(first.shape[1], -1)
        module.weight.copy_(first)
        if bias is not None:
            module.bias.copy_(bias)

    def loss(self, x, labels):
        return self.torch.nn.functional.cross_entropy(self.model(x), labels)

    def update(self):
        self.optimizer.step()

    def outputs(self, x):
        return self.model(x)

    def losses(self, steps):
        losses = []
        for rows in self.next_batches(steps):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(self.x[rows], self.labels[rows])
            loss.backward()
            self.update()
            losses.append(loss.detach())
        return self.torch.stack(losses).numpy()

    def predict(self):
        with self.torch.inference_mode():
            return self.outputs(self.x[: self.task.batch])


def Scale(torch, factor):  # noqa: N802 (a class, made where torch is known)
    """Return a module that multiplies by a number."""

    class Module(torch.nn.Module):
        def forward(self, x):
            return factor * x

    return Module()


class NetworkTorchCompiled(NetworkTorch):
    """Forward with backward, the optimizer's step, and predictions, compiled by Inductor."""

    label = "PyTorch compiled"

    def __init__(self, task, threads):
        super().__init__(task, threads)
        self.torch._dynamo.reset()  # else the shapes of the last task make this one's dynamic
        self.loss = self.torch.compile(super().loss)
        self.update = self.torch.compile(super().update)
        self.outputs = self.torch.compile(super().outputs)


class NetworkJax(NetworkPeer):
    """A compiled step; the state's buffers are donated to the next."""

    label, packages = "JAX jit", ("jax",)

    def __init__(self, task, threads):
        import jax
        from jax import lax
        from jax import numpy as jnp

        super().__init__(task, threads)
        self.jax = jax
        layers = task.layers
        frozen = [kind == "frozen" for kind, *_ in layers]

        def forward(weights, statistics, x, key, training):
            new = []
            for place, ((kind, *numbers), own, known) in enumerate(
                zip(layers, weights, statistics, strict=True)
            ):
                if kind in ("conv", "frozen"):
                    order = "NHWC", "HWIO", "NHWC"
                    x = lax.conv_general_dilated(
                        x, own[0], (1, 1), numbers[2].upper(), dimension_numbers=order
                    )
                    x = x + own[1] if numbers[3] else x
                elif kind == "dense":
                    x = x @ own[0]
                    x = x + own[1] if numbers[1] else x
                elif kind == "pool":
                    window = 1, numbers[0], numbers[0], 1
                    x = lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")
                elif kind == "norm":
                    mean, variance = known
                    if training:
                        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
                        known = tuple(
                            MOMENTUM * old + (1 - MOMENTUM) * lax.stop_gradient(batch)
                            for old, batch in zip(known, (mean, variance), strict=True)
                        )
                    x = (x - mean) * lax.rsqrt(variance + EPSILON) + own[0]
                elif kind == "dropout":
                    if training:
                        kept = jax.random.bernoulli(jax.random.fold_in(key, place), 1 - numbers[0], x.shape)
                        x = jnp.where(kept, x / (1 - numbers[0]), 0)
                elif kind == "scale":
                    x = numbers[0] * x
                elif kind == "maximum":
                    x = x.max((1, 2))
                elif kind == "flatten":
                    x = x.reshape(len(x), -1)
                else:
                    x = jax.nn.relu(x) if kind == "relu" else jax.nn.gelu(x, approximate=False)
                new.append(known)
            return x, new

        def loss(weights, statistics, x, labels, key):
            weights = [
                tuple(map(lax.stop_gradient, own)) if still else own
                for own, still in zip(weights, frozen, strict=True)
            ]
            logits, statistics = forward(weights, statistics, x, key, True)
            chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
            return -chosen.mean(), statistics

        def rmsprop(w, g, v, learning_rate, rho, epsilon):
            v = rho * v + (1 - rho) * g * g
            return w - learning_rate * g * lax.rsqrt(v + epsilon), v

        def nesterov(w, g, m, learning_rate, momentum):
            m = momentum * m - learning_rate * g
            return w + momentum * m - learning_rate * g, m

        rule = {"rmsprop": rmsprop, "nesterov": nesterov}[task.optimizer]

        def step(state, number, x, labels):
            weights, slots, statistics = state
            start = number % task.batches * task.batch
            x = lax.dynamic_slice_in_dim(x, start, task.batch)
            labels = lax.dynamic_slice_in_dim(labels, start, task.batch)
            key = jax.random.fold_in(jax.random.key(task.seed), number)
            (value, statistics), grads = jax.value_and_grad(loss, has_aux=True)(
                weights, statistics, x, labels, key
            )
            for i, (own, g, memory) in enumerate(zip(weights, grads, slots, strict=True)):
                if own and not frozen[i]:
                    new = [rule(*one, **task.hyperparameters) for one in zip(own, g, memory, strict=True)]
                    weights[i], slots[i] = (tuple(one) for one in zip(*new, strict=True))
            return (weights, slots, statistics), value

        self.compiled = jax.jit(step, donate_argnums=0)
        self.answer = jax.jit(lambda state, x: forward(state[0], state[2], x, None, False)[0])
        self.data = jnp.array(task.data[0]), jnp.array(task.data[1], jnp.int32)
        self.batch = jnp.array(self.batch)

    def reset(self):
        jnp, weights = self.jax.numpy, self.task.weights
        kinds = [kind for kind, *_ in self.task.layers]
        statistics = [
            (np.zeros_like(own[0]), np.ones_like(own[0])) if kind == "norm" else ()
            for kind, own in zip(kinds, weights, strict=True)
        ]
        slots = [tuple(np.zeros_like(array) for array in own) for own in weights]
        state = [tuple(own) for own in weights], slots, statistics
        self.state = self.jax.block_until_ready(self.jax.tree.map(jnp.array, state))
        self.steps = 0

    def losses(self, steps):
        losses = []
        for number in range(self.steps, self.steps + steps):
            self.state, loss = self.compiled(self.state, number, *self.data)
            losses.append(loss)
        self.steps += steps
        self.jax.block_until_ready((self.state, losses))
        return losses

    def predict(self):
        return self.jax.block_until_ready(self.answer(self.state, self.batch))


class NetworkKerasJit(NetworkPeer):
    """Keras on TensorFlow: ``fit`` on a data set of ready batches, and ``predict_on_batch``."""

    label, packages = "Keras TF jit", ("keras", "tensorflow")
    jit_compile = True

    def __init__(self, task, threads):
        super().__init__(task, threads)
        os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3")
        import keras
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        self.model = keras.Sequential([keras.Input(task.data[0].shape[1:]), *make_layers(keras.layers, task)])
        kind = {"rmsprop": keras.optimizers.RMSprop, "nesterov": keras.optimizers.SGD}[task.optimizer]
        more = {"nesterov": True} if task.optimizer == "nesterov" else {}
        self.model.compile(
            kind(**task.hyperparameters, **more),
            "sparse_categorical_crossentropy",
            jit_compile=self.jit_compile,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.fresh = [np.array(v) for v in self.model.optimizer.variables]
        x, labels = task.data
        batches = (a.reshape(task.batches, task.batch, *a.shape[1:]) for a in (x, labels))
        self.batches = tf.data.Dataset.from_tensor_slices(tuple(batches)).repeat()

    def reset(self):
        arrays = []
        for (kind, *_), own in zip(self.task.layers, self.task.weights, strict=True):
            arrays += own
            arrays += [np.zeros_like(own[0]), np.ones_like(own[0])] if kind == "norm" else []
        self.model.set_weights(arrays)
        for variable, value in zip(self.model.optimizer.variables, self.fresh, strict=True):
            variable.assign(value)
        self.steps = 0

    def run(self, times):
        if self.mode == "inference":
            super().run(times)
        else:
            self.fit(times)

    def fit(self, steps):
        data = self.batches.skip(self.steps % self.task.batches).take(steps).prefetch(2)
        self.steps += steps
        return self.model.fit(data, verbose=0).history["loss"]

    def losses(self, steps):
        """Keras reports the running mean of a call to ``fit``: a call for each step gives each loss."""
        return [self.fit(1)[0] for _ in range(steps)]

    def predict(self):
        return self.model.predict_on_batch(self.batch)


class NetworkKerasDefault(NetworkKerasJit):
    """Keras as it comes: on a machine without a GPU it leaves XLA out."""

    label, jit_compile = "Keras TF default", "auto"


NETWORK_PEERS = {
    "npnet-fused": NetworkNpnet,
    "npnet-unfused": NetworkNpnetUnfused,
    "torch": NetworkTorch,
    "torch-compiled": NetworkTorchCompiled,
    "jax": NetworkJax,
    "keras-jit": NetworkKerasJit,
    "keras-default": NetworkKerasDefault,
}
