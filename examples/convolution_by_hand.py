r"""Convolution by hand: a small convolutional network in NumPy and nothing else.

The task: a noisy picture of 10 x 10 pixels shows one stroke somewhere; which way does it run, - | \ or / ?
A dense layer would have to learn each stroke at each place anew. A convolution learns a stroke once: it lays
the same 3 x 3 weights, a *filter*, over every place of the picture. The network:

    x (N,10,10,1) --W1,b1, convolution--> relu --> h1 (N,8,8,6) --largest of 2 x 2--> p1 (N,4,4,6)
                  --W2,b2, convolution--> relu --> h2 (N,2,2,8) --W3,b3, dense--> softmax --> y (N,4)

``backprop_by_hand.py`` explains forward, loss, backward and update; here are the two new pieces, convolution
and pooling. As there, ``dname`` means d loss / d name and has the shape of ``name``.

Run it: python examples/convolution_by_hand.py
"""

import numpy as np

STROKES = {"-": (0, 1), "|": (1, 0), "\\": (1, 1), "/": (1, -1)}  # one step down, one step to the right
SIZE, FILTERS, BATCH, EPOCHS = 10, (6, 8), 32, 20
LEARNING_RATE, RHO, EPSILON = 0.01, 0.9, 1e-7


def strokes(rng, pictures=1200):
    """Pictures (N,10,10,1) with a stroke of four pixels each, and the way it runs as one-hot rows (N,4)."""
    way = np.arange(pictures) % 4
    x = rng.normal(0, 0.25, (pictures, SIZE, SIZE, 1))
    for picture, (down, right) in zip(x, np.array(list(STROKES.values()))[way], strict=True):
        row = rng.integers(0, SIZE - 3 * down)
        column = rng.integers(3 if right < 0 else 0, SIZE - 3 * max(right, 0))
        for i in range(4):
            picture[row + i * down, column + i * right] += 1
    return x, np.eye(4)[way]


def initial_weights(rng):
    """[W1, b1, W2, b2, W3, b3]: every b zero, every W small and random (Glorot 2010)."""
    first, second = FILTERS
    weights = []
    for shape in ((3, 3, 1, first), (3, 3, first, second), (4 * second, 4)):
        taps = np.prod(shape[:-2])  # a filter's output adds up all its taps, and a pixel goes into as many
        limit = np.sqrt(6 / (taps * shape[-2] + taps * shape[-1]))
        weights += [rng.uniform(-limit, limit, shape), np.zeros(shape[-1])]
    return weights


def convolve(x, W):
    """Lay every filter of W (3,3,C,F) over every place of x (N,H,W,C): z (N,H-2,W-2,F).

    z[n,i,j,f] = sum over p, q, c of x[n,i+p,j+q,c] W[p,q,c,f]. For one tap (p, q) that is the picture,
    shifted by p and q, times the matrix W[p,q]: a dense layer on each pixel. The convolution is the sum of
    the nine.
    """
    height, width = x.shape[1] - 2, x.shape[2] - 2
    return sum(x[:, p : p + height, q : q + width] @ W[p, q] for p in range(3) for q in range(3))


def convolve_backward(x, W, dz):
    """Who is to blame? dx and dW: for each tap what a dense layer does, dW = x' dz and dx = dz W'.

    The tap (p, q) took the pixels x[:, p:, q:], so its x' dz is theirs, summed over all places and pictures,
    and its dz W' goes back to where they were. A pixel was under up to nine taps: it adds up their blame.
    """
    height, width = dz.shape[1:3]
    dx, dW = np.zeros_like(x), np.zeros_like(W)
    for p in range(3):
        for q in range(3):
            dW[p, q] = np.einsum("nijc,nijf->cf", x[:, p : p + height, q : q + width], dz)
            dx[:, p : p + height, q : q + width] += dz @ W[p, q].T
    return dx, dW


def in_fours(h):
    """(N,H,W,C) -> (N,H/2,W/2,4,C): each 2 x 2 pixels together, row after row."""
    n, height, width, channels = h.shape
    blocks = h.reshape(n, height // 2, 2, width // 2, 2, channels).swapaxes(2, 3)
    return blocks.reshape(n, height // 2, width // 2, 4, channels)


def pool_backward(h, dp):
    """dh: the largest of four passed its value on, so it gets all the blame; the first, if several are."""
    n, height, width, channels = h.shape
    dfours = np.zeros((n, height // 2, width // 2, 4, channels))
    place = in_fours(h).argmax(axis=3)
    np.put_along_axis(dfours, place[:, :, :, None], dp[:, :, :, None], axis=3)
    return dfours.reshape(n, height // 2, width // 2, 2, 2, channels).swapaxes(2, 3).reshape(h.shape)


def forward(weights, x):
    """Guess: the probabilities y, and what backward will need again."""
    W1, b1, W2, b2, W3, b3 = weights
    h1 = np.maximum(convolve(x, W1) + b1, 0)
    p1 = in_fours(h1).max(axis=3)  # half as high and wide: where in the four the stroke was no longer matters
    h2 = np.maximum(convolve(p1, W2) + b2, 0)
    z = h2.reshape(len(x), -1) @ W3 + b3
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return h1, p1, h2, powers / powers.sum(axis=1, keepdims=True)


def cross_entropy(y, t):
    """How wrong? -log of the probability given to the true class, averaged over the batch: 0 is perfect."""
    return -np.log((y * t).sum(axis=1)).mean()


def backward(weights, x, t, h1, p1, h2, y):
    """Who is to blame? [dW1, db1, dW2, db2, dW3, db3], found from the last layer to the first.

    A bias b_f is added at each place of each picture: db sums dz over all of them.
    """
    W1, _, W2, _, W3, _ = weights
    dz3 = (y - t) / len(x)
    dW3, db3 = h2.reshape(len(x), -1).T @ dz3, dz3.sum(axis=0)
    dz2 = (dz3 @ W3.T).reshape(h2.shape) * (h2 > 0)
    dp1, dW2 = convolve_backward(p1, W2, dz2)
    db2 = dz2.sum(axis=(0, 1, 2))
    dz1 = pool_backward(h1, dp1) * (h1 > 0)
    _, dW1 = convolve_backward(x, W1, dz1)
    db1 = dz1.sum(axis=(0, 1, 2))
    return [dW1, db1, dW2, db2, dW3, db3]


def update(weights, gradients, mean_squares):
    """Do better: step downhill, each weight in units of its own recent gradient size (RMSprop)."""
    for w, g, v in zip(weights, gradients, mean_squares, strict=True):
        v[...] = RHO * v + (1 - RHO) * g**2
        w -= LEARNING_RATE * g / np.sqrt(v + EPSILON)


def train_step(weights, mean_squares, x, t):
    """Forward, loss, backward and update on one batch; returns the loss before the update."""
    h1, p1, h2, y = forward(weights, x)
    loss = cross_entropy(y, t)
    update(weights, backward(weights, x, t, h1, p1, h2, y), mean_squares)
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
    """The share of pictures whose most probable class is the true one."""
    return (forward(weights, x)[-1].argmax(axis=1) == t.argmax(axis=1)).mean()


def main():
    """Check the gradients, train, and show the filters that were learned."""
    rng = np.random.default_rng(0)
    (x, t), (x_test, t_test) = strokes(rng), strokes(rng)
    weights = initial_weights(rng)
    mean_squares = [np.zeros_like(w) for w in weights]

    print("Is backward right? Compared with nudging every weight:\n\ntensor  shape         relative error")
    some = np.s_[:12]
    gradients = backward(weights, x[some], t[some], *forward(weights, x[some]))
    for name, w, g in zip(["W1", "b1", "W2", "b2", "W3", "b3"], weights, gradients, strict=True):
        n = numerical_gradient(weights, w, x[some], t[some])
        error = np.linalg.norm(g - n) / np.linalg.norm(n)
        print(f"{name:6}  {w.shape!s:12}  {error:14.1e}  {'right' if error < 1e-7 else 'WRONG'}")

    print("\nTraining:\n\nepoch    loss  accuracy  on new pictures")
    for epoch in range(1, EPOCHS + 1):
        order = rng.permutation(len(x))
        batches = [order[i : i + BATCH] for i in range(0, len(x), BATCH)]
        loss = np.mean([train_step(weights, mean_squares, x[rows], t[rows]) for rows in batches])
        if epoch in (1, 2) or epoch % 5 == 0:
            seen, new = accuracy(weights, x, t), accuracy(weights, x_test, t_test)
            print(f"{epoch:5}  {loss:.4f}  {seen:8.1%}  {new:15.1%}")

    print("\nWhat the six filters of W1 look for (# bright, . dark):\n")
    W1 = weights[0][:, :, 0]
    marks = np.select([W1 > 0.35, W1 < -0.35], ["#", "."], " ")
    for p in range(3):
        print("   ".join(" ".join(marks[p, :, f]) for f in range(FILTERS[0])))


if __name__ == "__main__":
    main()
