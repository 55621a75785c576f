"""The frameworks, each at its best settings: one short class that trains the task with each of them.

A peer has ``label`` and ``packages`` (what must be installed), ``formulas`` (for each optimizer the entry of
``reference.FORMULAS`` that it computes), ``dtypes`` (those of ``task.DTYPES`` that it has), and

- ``reset()``: back to the task's initial weights and an empty optimizer memory;
- ``losses(steps)``: train on the next ``steps`` batches, return the loss of each when all is done;
- ``run(steps)``: what is timed; the same thing, unless the framework is faster without telling each loss.
"""

import os
from dataclasses import replace

import numpy as np

from .task import DTYPES

KERAS = {"rmsprop": "rmsprop", "adam": "adam", "momentum": "momentum"}
PYTORCH = {"rmsprop": "rmsprop, eps outside", "adam": "adam, eps corrected", "momentum": "momentum"}
SCIKIT_LEARN = {"rmsprop": "adam", "adam": "adam", "momentum": "momentum"}


class Peer:
    """What the peers have in common: a task and the number of steps trained on it."""

    dtypes = DTYPES

    def __init__(self, task, threads):
        self.task, self.threads, self.steps = task, threads, 0

    def next_batches(self, steps):
        """Yield the rows of each of the next ``steps`` batches."""
        for number in range(self.steps, self.steps + steps):
            yield slice(self.task.start(number), self.task.start(number) + self.task.batch)
        self.steps += steps

    def run(self, steps):
        self.losses(steps)


class Npnet(Peer):
    """npnet's own training step, as ``fit`` runs it, on the batch's rows in the user's array."""

    label, packages, formulas = "npnet numba fused", ("numba",), KERAS
    kernels, fused = "numba", True

    def __init__(self, task, threads):
        from npnet.kernels.machine.threads import set_threads
        from npnet.layers import Dense, Input
        from npnet.models import Sequential
        from npnet.optimizers import SGD, Adam, RMSprop

        super().__init__(task, threads)
        set_threads(threads)
        *hidden, classes = task.widths[1:]
        layers = [Dense(units, activation="relu") for units in hidden]
        layers.append(Dense(classes, activation="softmax"))
        self.model = Sequential([Input((task.widths[0],)), *layers], dtype=task.dtype)
        self.optimizer = {"rmsprop": RMSprop, "adam": Adam, "momentum": SGD}[task.optimizer]

    def reset(self):
        optimizer = self.optimizer(**self.task.hyperparameters)
        self.model.compile(optimizer, "categorical_crossentropy", kernels=self.kernels, fused=self.fused)
        self.model.set_weights([p for pair in self.task.weights for p in pair])
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


class NpnetUnfused(Npnet):
    """Layer by layer: the same products, each result stored."""

    label, fused = "npnet numba unfused", False


class NpnetNumpy(Npnet):
    """The textbook's kernels, on NumPy's BLAS."""

    label, packages, kernels = "npnet numpy", (), "numpy"


class Jax(Peer):
    """One compiled call per run: ``lax.scan`` over the batches, the state's buffers donated."""

    label, packages, formulas = "JAX jit, scan", ("jax",), KERAS

    def __init__(self, task, threads):
        import jax
        from jax import lax
        from jax import numpy as jnp

        super().__init__(task, threads)

        def affine(x, weight, bias, result):
            if task.dtype == "float32":
                return x @ weight + bias
            x, weight = x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16)
            return lax.dot(x, weight, preferred_element_type=result) + bias.astype(result)

        def loss(params, x, labels):
            *hidden, last = params
            for weight, bias in hidden:
                x = jax.nn.relu(affine(x, weight, bias, jnp.bfloat16))
            x = affine(x, *last, jnp.float32)
            return -jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], axis=1).mean()

        def rmsprop(t, w, g, v, learning_rate, rho, epsilon):
            v = rho * v + (1 - rho) * g * g
            return w - learning_rate * g * lax.rsqrt(v + epsilon), v

        def adam(t, w, g, m, v, learning_rate, beta_1, beta_2, epsilon):
            m, v = m + (1 - beta_1) * (g - m), v + (1 - beta_2) * (g * g - v)
            step_size = learning_rate * jnp.sqrt(1 - beta_2**t) / (1 - beta_1**t)
            return w - step_size * m / (jnp.sqrt(v) + epsilon), m, v

        def momentum(t, w, g, m, learning_rate, momentum):
            m = momentum * m - learning_rate * g
            return w + m, m

        rule, slots = {"rmsprop": (rmsprop, 1), "adam": (adam, 2), "momentum": (momentum, 1)}[task.optimizer]

        def step(state, number, x, labels):
            # state: for each layer (weight, *its slots), (bias, *its slots)
            start = number % task.batches * task.batch
            x = lax.dynamic_slice_in_dim(x, start, task.batch)
            labels = lax.dynamic_slice_in_dim(labels, start, task.batch)
            params = [(weight[0], bias[0]) for weight, bias in state]
            value, grads = jax.value_and_grad(loss)(params, x, labels)
            t = (number + 1).astype(jnp.float32)
            new = [
                tuple(rule(t, s[0], g, *s[1:], **task.hyperparameters) for s, g in zip(*pair, strict=True))
                for pair in zip(state, grads, strict=True)
            ]
            return new, value

        def run(state, first, x, labels, steps):
            return lax.scan(lambda s, n: step(s, n, x, labels), state, first + jnp.arange(steps))

        self.slots, self.jax = slots, jax
        self.compiled = jax.jit(run, static_argnames="steps", donate_argnums=0)
        self.data = jnp.array(task.data[0]), jnp.array(task.data[1], jnp.int32)

    def reset(self):
        state = [tuple((p, *[np.zeros_like(p)] * self.slots) for p in pair) for pair in self.task.weights]
        self.state = self.jax.block_until_ready(self.jax.tree.map(self.jax.numpy.array, state))
        self.steps = 0

    def losses(self, steps):
        self.state, losses = self.compiled(self.state, self.steps, *self.data, steps=steps)
        self.jax.block_until_ready((self.state, losses))
        self.steps += steps
        return losses


class Torch(Peer):
    """Eager, with the optimizer that updates all tensors in one call (fused where there is one)."""

    label, packages, formulas = "PyTorch eager", ("torch",), PYTORCH

    def __init__(self, task, threads):
        import torch

        super().__init__(task, threads)
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        self.torch = torch
        self.x, self.labels = (torch.from_numpy(a) for a in task.data)
        layers = []
        for d, m in task.layers:
            layers += [torch.nn.Linear(d, m), torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*layers[:-1])
        self.optimizer = self.make_optimizer()

    def make_optimizer(self):
        optim, numbers = self.torch.optim, self.task.hyperparameters
        params, rate = self.model.parameters(), numbers["learning_rate"]
        if self.task.optimizer == "rmsprop":
            return optim.RMSprop(params, rate, numbers["rho"], numbers["epsilon"], foreach=True)
        if self.task.optimizer == "adam":
            betas = numbers["beta_1"], numbers["beta_2"]
            return optim.Adam(params, rate, betas, numbers["epsilon"], fused=True)
        return optim.SGD(params, rate, numbers["momentum"], fused=True)

    def reset(self):
        with self.torch.no_grad():
            for layer, (weight, bias) in zip(self.model[::2], self.task.weights, strict=True):
                layer.weight.copy_(self.torch.from_numpy(weight.T))
                layer.bias.copy_(self.torch.from_numpy(bias))
            for slots in self.optimizer.state.values():
                for tensor in slots.values():
                    tensor.zero_()
        self.steps = 0

    def loss(self, x, labels):
        mixed = self.task.dtype == "mixed_bfloat16"
        with self.torch.autocast("cpu", dtype=self.torch.bfloat16, enabled=mixed):
            return self.torch.nn.functional.cross_entropy(self.model(x), labels)

    def update(self):
        self.optimizer.step()

    def losses(self, steps):
        losses = []
        for rows in self.next_batches(steps):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(self.x[rows], self.labels[rows])
            loss.backward()
            self.update()
            losses.append(loss.detach())
        return self.torch.stack(losses).numpy()


class TorchCompiled(Torch):
    """Forward with backward, and the optimizer's step, compiled by Inductor."""

    label = "PyTorch compiled"

    def __init__(self, task, threads):
        super().__init__(task, threads)
        self.torch._dynamo.reset()  # else the shapes of the last task make this one's dynamic
        self.loss = self.torch.compile(super().loss)
        self.update = self.torch.compile(super().update)


class KerasJit(Peer):
    """Keras on TensorFlow: ``fit`` on a data set of ready batches, several steps per call of the graph."""

    label, packages, formulas = "Keras TF jit", ("keras", "tensorflow"), KERAS
    jit_compile = True

    def __init__(self, task, threads):
        super().__init__(task, threads)
        os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3")
        import keras
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        keras.config.set_dtype_policy(task.dtype)
        *hidden, classes = task.widths[1:]
        layers = [keras.layers.Dense(units, activation="relu") for units in hidden]
        layers.append(keras.layers.Dense(classes, activation="softmax", dtype="float32"))
        self.model = keras.Sequential([keras.Input((task.widths[0],)), *layers])
        optimizers = keras.optimizers
        kind = {"rmsprop": optimizers.RMSprop, "adam": optimizers.Adam, "momentum": optimizers.SGD}
        self.model.compile(
            kind[task.optimizer](**task.hyperparameters),
            "sparse_categorical_crossentropy",
            jit_compile=self.jit_compile,
            steps_per_execution=min(16, task.batches),
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.fresh = [np.array(v) for v in self.model.optimizer.variables]
        x, labels = task.data
        rows = task.batches * task.batch
        batches = (a[:rows].reshape(task.batches, task.batch, *a.shape[1:]) for a in (x, labels))
        self.batches = tf.data.Dataset.from_tensor_slices(tuple(batches)).repeat()

    def reset(self):
        self.model.set_weights([p for pair in self.task.weights for p in pair])
        for variable, value in zip(self.model.optimizer.variables, self.fresh, strict=True):
            variable.assign(value)
        self.steps = 0

    def run(self, steps):
        data = self.batches.skip(self.steps % self.task.batches).take(steps).prefetch(2)
        self.steps += steps
        return self.model.fit(data, verbose=0).history["loss"]

    def losses(self, steps):
        """Keras reports the running mean of a call to ``fit``: a call for each step gives each loss."""
        return [self.run(1)[0] for _ in range(steps)]


class KerasDefault(KerasJit):
    """Keras as it comes: on a machine without a GPU it leaves XLA out."""

    label, jit_compile = "Keras TF default", "auto"


class ScikitLearn(Peer):
    """``MLPClassifier.partial_fit`` batch by batch. It has no RMSprop and takes part with Adam."""

    label, packages, formulas = "scikit-learn", ("sklearn",), SCIKIT_LEARN
    dtypes = ("float32",)

    def __init__(self, task, threads):
        from sklearn.neural_network import MLPClassifier

        if task.optimizer == "rmsprop":
            task, self.label = replace(task, optimizer="adam"), "scikit-learn (Adam)"
        super().__init__(task, threads)
        numbers = task.hyperparameters
        solver = {"solver": "adam", "epsilon": 1e-7}
        if task.optimizer == "momentum":
            solver = {"solver": "sgd", "momentum": numbers["momentum"], "nesterovs_momentum": False}
        rate = numbers["learning_rate"]
        self.model = MLPClassifier(
            task.widths[1:-1], learning_rate_init=rate, batch_size=task.batch, alpha=0.0, **solver
        )
        x, labels = task.data
        self.model.partial_fit(x[: task.batch], labels[: task.batch], classes=np.arange(task.widths[-1]))

    def reset(self):
        for i, (weight, bias) in enumerate(self.task.weights):
            self.model.coefs_[i][...], self.model.intercepts_[i][...] = weight, bias
        del self.model._optimizer  # the next partial_fit makes a new one, with empty moments
        self.steps = 0

    def losses(self, steps):
        losses, (x, labels) = [], self.task.data
        for rows in self.next_batches(steps):
            self.model.partial_fit(x[rows], labels[rows])
            losses.append(self.model.loss_)
        return losses


PEERS = {
    "npnet-fused": Npnet,
    "npnet-unfused": NpnetUnfused,
    "npnet-numpy": NpnetNumpy,
    "jax": Jax,
    "torch": Torch,
    "torch-compiled": TorchCompiled,
    "keras-jit": KerasJit,
    "keras-default": KerasDefault,
    "sklearn": ScikitLearn,
}
