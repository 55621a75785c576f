"""Backpropagation by hand: a whole neural network in NumPy and nothing else.

The task: 600 points lie on three spiral arms; given a point, which arm is it on? The network:

    x (N,2) --W1,b1--> relu --> h1 (N,H) --W2,b2--> relu --> h2 (N,H) --W3,b3--> softmax --> p (N,3)

Training repeats four moves: *forward* (guess), *loss* (how wrong was that?), *backward* (who is to
blame?) and *update* (do better). Backward is the chain rule, read from the loss towards the input.
One convention carries it: ``dname`` means d loss / d name and has the shape of ``name``.

Run it: python examples/backprop_by_hand.py
"""

import numpy as np

HIDDEN, BATCH, EPOCHS = 32, 32, 40
LEARNING_RATE, RHO, EPSILON = 0.003, 0.9, 1e-7


def spiral(rng, points=600):
    """Points of three spiral arms (N,2) and their arms as one-hot rows (N,3)."""
    arm = np.arange(points) % 3
    radius = rng.uniform(0.1, 1, points)
    angle = 2 * np.pi * arm / 3 + 5 * radius + rng.normal(0, 0.25, points)
    return radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]), np.eye(3)[arm]


def initial_weights(rng):
    """[W1, b1, W2, b2, W3, b3]: every b zero, every W small and random, or all units would learn the same."""
    weights = []
    for rows, columns in ((2, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 3)):
        limit = np.sqrt(6 / (rows + columns))  # keeps signals of one size from layer to layer (Glorot 2010)
        weights += [rng.uniform(-limit, limit, (rows, columns)), np.zeros(columns)]
    return weights


def forward(weights, x):
    """Guess: the probabilities p, and the h on the way there, which backward will need again."""
    W1, b1, W2, b2, W3, b3 = weights
    h1 = np.maximum(x @ W1 + b1, 0)  # a weighted sum for each unit; relu keeps it where it is positive
    h2 = np.maximum(h1 @ W2 + b2, 0)
    z = h2 @ W3 + b3  # logits: one score for each class
    powers = np.exp(z - z.max(axis=1, keepdims=True))  # the shift cancels below, and nothing overflows
    p = powers / powers.sum(axis=1, keepdims=True)  # softmax: positive, and each row sums to 1
    return h1, h2, p


def cross_entropy(p, t):
    """How wrong? -log of the probability given to the true class, averaged over the batch: 0 is perfect."""
    return -np.log((p * t).sum(axis=1)).mean()


def backward(weights, x, t, h1, h2, p):
    """Who is to blame? [dW1, db1, dW2, db2, dW3, db3], found from the last layer to the first.

    Start.    L = -log p_true and p = softmax(z) give dL/dz_k = p_k - [k is the true class]: for each class
              what was said minus what should have been said. The mean over N samples divides it by N.
    Dense.    z = h W + b, so z_nj changes by h_ni when W_ij does. Summing over the samples n: dW = h' dz and
              db = sum of dz. And z_nj changes by W_ij when h_ni does. Summing over the units j: dh = dz W'.
    Relu.     h = max(z, 0) passed the signal where h > 0, so it passes the blame there and nowhere else.
    """
    _, _, W2, _, W3, _ = weights
    dz3 = (p - t) / len(x)
    dW3, db3 = h2.T @ dz3, dz3.sum(axis=0)
    dh2 = dz3 @ W3.T
    dz2 = dh2 * (h2 > 0)
    dW2, db2 = h1.T @ dz2, dz2.sum(axis=0)
    dh1 = dz2 @ W2.T
    dz1 = dh1 * (h1 > 0)
    dW1, db1 = x.T @ dz1, dz1.sum(axis=0)
    return [dW1, db1, dW2, db2, dW3, db3]


def update(weights, gradients, mean_squares):
    """Do better: step downhill, each weight in units of its own recent gradient size (RMSprop)."""
    for w, g, v in zip(weights, gradients, mean_squares, strict=True):
        v[...] = RHO * v + (1 - RHO) * g**2
        w -= LEARNING_RATE * g / np.sqrt(v + EPSILON)


def train_step(weights, mean_squares, x, t):
    """The four moves on one batch; returns the loss before the update."""
    h1, h2, p = forward(weights, x)
    loss = cross_entropy(p, t)
    update(weights, backward(weights, x, t, h1, h2, p), mean_squares)
    return loss


def numerical_gradient(weights, w, x, t, eps=1e-5):
    """Trust nobody: nudge every number of ``w`` up and down, watch the loss, divide by the distance."""
    gradient = np.empty_like(w)
    for i in np.ndindex(w.shape):
        value = w[i]
        w[i] = value + eps
        above = cross_entropy(forward(weights, x)[-1], t)
        w[i] = value - eps
        below = cross_entropy(forward(weights, x)[-1], t)
        w[i] = value
        gradient[i] = (above - below) / (2 * eps)
    return gradient


def accuracy(weights, x, t):
    """The share of points whose most probable class is the true one."""
    return (forward(weights, x)[-1].argmax(axis=1) == t.argmax(axis=1)).mean()


def main():
    """Check the gradients, train, and draw what was learned."""
    rng = np.random.default_rng(0)
    (x, t), (x_test, t_test) = spiral(rng), spiral(rng)
    weights = initial_weights(rng)
    mean_squares = [np.zeros_like(w) for w in weights]

    print("Is backward right? Compared with nudging every weight:\n\ntensor  shape     relative error")
    gradients = backward(weights, x[:BATCH], t[:BATCH], *forward(weights, x[:BATCH]))
    for name, w, g in zip(["W1", "b1", "W2", "b2", "W3", "b3"], weights, gradients, strict=True):
        n = numerical_gradient(weights, w, x[:BATCH], t[:BATCH])
        error = np.linalg.norm(g - n) / np.linalg.norm(n)
        print(f"{name:6}  {w.shape!s:8}  {error:14.1e}  {'right' if error < 1e-7 else 'WRONG'}")

    print("\nTraining:\n\nepoch    loss  accuracy  on new points")
    for epoch in range(1, EPOCHS + 1):
        order = rng.permutation(len(x))  # every point once an epoch, in a new order each time
        batches = [order[i : i + BATCH] for i in range(0, len(x), BATCH)]
        loss = np.mean([train_step(weights, mean_squares, x[rows], t[rows]) for rows in batches])
        if epoch in (1, 2, 5) or epoch % 10 == 0:
            seen, new = accuracy(weights, x, t), accuracy(weights, x_test, t_test)
            print(f"{epoch:5}  {loss:.4f}  {seen:8.1%}  {new:13.1%}")

    print("\nWhat it learned: the plane, coloured in by the network\n")
    for height in np.linspace(1, -1, 23):
        line = np.column_stack([np.linspace(-1, 1, 46), np.full(46, height)])
        print("".join(".o#"[k] for k in forward(weights, line)[-1].argmax(axis=1)))


if __name__ == "__main__":
    main()
