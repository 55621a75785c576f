# %% [markdown]
"""
# A convolutional network, on CIFAR-10

The second chapter, after `cifar10_mlp.py`. The same photographs, and a network that knows which pixels are
neighbours. It runs as a script,

    python examples/cifar10_cnn.py                       # 10 epochs on all images
    EPOCHS=2 LIMIT=2000 python examples/cifar10_cnn.py   # a quick look

and cell by cell as a notebook, in VS Code as it is, in Jupyter as `cifar10_cnn.ipynb`, which `make notebook`
makes of it. The pictures and the trained network end up in the folder `runs`.
"""

# %%
import os
from pathlib import Path

import numpy as np

from npnet import plotting
from npnet.datasets import DatasetUnavailableError, cifar10, shapes
from npnet.layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from npnet.models import Sequential, load_model
from npnet.utils import to_categorical

EPOCHS = int(os.environ.get("EPOCHS", "10"))
LIMIT = int(os.environ.get("LIMIT", "50000"))  # how many images to train on, and to test on, at most

# %%
try:
    data, name = cifar10, "cifar10"
    (x_train, y_train), (x_test, y_test) = cifar10.load_data()
except DatasetUnavailableError:
    print("CIFAR-10 is not on this machine and cannot be downloaded: training on drawn shapes instead.")
    data, name = shapes, "shapes"
    (x_train, y_train), (x_test, y_test) = shapes.load_data()

x_train, y_train, x_test, y_test = x_train[:LIMIT], y_train[:LIMIT], x_test[:LIMIT], y_test[:LIMIT]
RUN = Path("runs") / f"{name}-cnn"
print("training images", x_train.shape, " test images", x_test.shape)

# %% [markdown]
# ## 1. Why are a pixel's neighbours worth knowing?
#
# The first chapter's network took an image as a row of 3072 numbers. To see what was lost, shuffle the
# pixels of all images in the same way:

# %%
places = np.random.default_rng(0).permutation(32 * 32)
shuffled = x_train[:8].reshape(-1, 32 * 32, 3)[:, places].reshape(-1, 32, 32, 3)
both = np.concatenate([x_train[:8], shuffled])
plotting.image_grid(
    both, np.tile(y_train[:8], (2, 1)), data.CLASS_NAMES, rows=2, cols=8, path=RUN / "shuffled.png"
)

# %% [markdown]
# You can no longer name the lower row. The dense network would not notice: each of its units has one weight
# for every number, wherever it stands, so shuffled images teach it exactly as much.
#
# What is it that you see and it does not? Pixels that are close to each other belong together. How much
# alike are two pixels that are so many columns apart? (1 means that one tells the other, 0 that it tells
# nothing.)

# %%
grey = x_train[:2000].mean(axis=3)
for distance in (1, 2, 4, 8, 16):
    left, right = grey[:, :, :-distance], grey[:, :, distance:]
    print(f"{distance:3} columns apart: correlation {np.corrcoef(left.ravel(), right.ravel())[0, 1]:.2f}")

# %% [markdown]
# A pixel says much about its neighbours and little about the far side of the image. And an edge is an edge
# wherever it is: what helps to find it in one corner helps in every other.
#
# ## 2. A convolution
#
# So let us look at 3 x 3 pixels at a time, weigh each of the nine, and add them up; and do that with the
# same nine weights, a *filter*, at every place. This filter takes what is left of a pixel from what is
# right of it. Its answer is large where the image gets brighter from left to right: it finds vertical
# edges.

# %%
vertical = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
horizontal = vertical.T


def convolve(image, weights):
    """Lay the 3 x 3 weights over every place of the image (32, 32): 30 x 30 sums of nine products."""
    y = np.zeros((30, 30))
    for row in range(3):
        for column in range(3):
            y += weights[row, column] * image[row : row + 30, column : column + 30]
    return y


def in_unit(y):
    """Scale numbers to 0..1, zero to the middle: grey."""
    return 0.5 + 0.5 * y / np.abs(y).max()


picture = grey[0]
answers = [
    picture[1:-1, 1:-1] / 255,
    in_unit(convolve(picture, vertical)),
    in_unit(convolve(picture, horizontal)),
]
titles = ["the picture", "vertical edges", "horizontal edges"]
plotting.image_grid(np.stack(answers), [0, 1, 2], titles, rows=1, cols=3, path=RUN / "edges.png")

# %% [markdown]
# These two filters we made up. A convolutional layer, `Conv2D`, learns its own: its weights are weights
# like any others, and backpropagation says how each must change (`convolution_by_hand.py` shows how).
# Compare the numbers of weights: a dense layer from 32 x 32 x 3 numbers to 512 has 1.6 million; 32 filters
# of 3 x 3 x 3 have 896 with their biases, and each of them learns from every place of every image.
#
# ## 3. The network
#
# It is the one of Keras's example, cifar10_cnn. Four convolutions look at ever larger parts of the image.
# `MaxPooling2D` keeps the largest of each 2 x 2 numbers: it no longer matters where exactly something was
# found, and the next filter sees twice as far. `Dropout` leaves out some numbers at random in every step,
# so that no unit can rely on a single other one. In the end `Flatten` makes a row of 2304 numbers, and two
# dense layers decide.

# %%
labels_test = y_test  # kept for the pictures
y_train, y_test = to_categorical(y_train, 10), to_categorical(y_test, 10)
x_train, x_test = x_train / np.float32(255), x_test / np.float32(255)

model = Sequential(seed=0)
model.add(Conv2D(32, 3, padding="same", activation="relu", input_shape=(32, 32, 3)))
model.add(Conv2D(32, 3, activation="relu"))
model.add(MaxPooling2D(2))
model.add(Dropout(0.25))
model.add(Conv2D(64, 3, padding="same", activation="relu"))
model.add(Conv2D(64, 3, activation="relu"))
model.add(MaxPooling2D(2))
model.add(Dropout(0.25))
model.add(Flatten())
model.add(Dense(512, activation="relu"))
model.add(Dropout(0.5))
model.add(Dense(10, activation="softmax"))
model.summary()

# %% [markdown]
# It has fewer weights than the dense network, 1.25 million against 1.84, nearly all of them in the first
# dense layer.
#
# ## 4. Training
#
# As before, with Adam and 128 images a step. A step costs more: each filter is used at 1024 places.

# %%
model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
history = model.fit(
    x_train, y_train, batch_size=128, epochs=EPOCHS, verbose=1, validation_data=(x_test, y_test)
)

# %% [markdown]
# ## 5. How did it go?
#
# The dense network ended at 0.44. On all images this one passes that in its first epoch and comes to 0.75 and
# more, a third of all images more. Its validation curve may lie above the training curve: while it trains,
# dropout leaves numbers out.

# %%
plotting.history_curves(history, path=RUN / "history.png")

# %%
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
probabilities = model.predict(x_test, verbose=0)
print(f"{len(x_test):,} test images: loss {loss:.4f}, accuracy {accuracy:.4f}")

plotting.confusion_matrix(labels_test, probabilities, data.CLASS_NAMES, path=RUN / "confusion.png")

# %% [markdown]
# ## 6. What did it learn to look for?
#
# The filters of the first layer, each 3 x 3 pixels of red, green and blue. Grey is zero. Light beside dark
# finds an edge, as ours did; a plain colour finds that colour.

# %%
plotting.first_layer_weights(model, image_shape=(32, 32, 3), path=RUN / "filters.png")

# %% [markdown]
# What becomes of one picture, layer by layer? What a filter answers at every place is a picture again, its
# *feature map*. Near the input you still see what it is. With each layer there is less of the picture and
# more of an answer: a bright dot says "here is what I look for".

# %%
plotting.feature_maps(model, x_test[0], path=RUN / "feature_maps.png")

# %% [markdown]
# ## 7. What does it look at?
#
# Cover a part of a picture with a grey square and ask again. Where the probability of the true class falls,
# there was something the network needed. Below, each picture is bright where that is. Does it look at the
# thing, or at what is around it? A ship is often told by the water.

# %%
firsts = np.unique(labels_test, return_index=True)[1][:8]  # the first picture of each class
plotting.occlusion(model, x_test[firsts], labels_test[firsts], data.CLASS_NAMES, path=RUN / "occlusion.png")

# %% [markdown]
# And these are the mistakes it was surest of.

# %%
plotting.confident_mistakes(x_test, labels_test, probabilities, data.CLASS_NAMES, path=RUN / "mistakes.png")

# %% [markdown]
# ## 8. Keeping it

# %%
model.save(RUN / "model.safetensors")
again = load_model(RUN / "model.safetensors")
assert np.array_equal(again.predict(x_test[:100], verbose=0), model.predict(x_test[:100], verbose=0))

print(f"""
{RUN}/
  shuffled.png        the images as the dense network saw them
  edges.png           two filters made by hand
  history.png         loss and accuracy over the epochs
  confusion.png       which class is taken for which
  filters.png         what the first layer looks for
  feature_maps.png    one picture, layer by layer
  occlusion.png       what the network looks at
  mistakes.png        the mistakes it was surest about
  model.safetensors   the trained network""")

# %% [markdown]
# Where to go from here? The same network with images mirrored and shifted at random and with batch
# normalisation, `npnet train --recipe cnn --flip --shift 3 --batch-norm --epochs 30`, sees something new in
# every epoch and can learn longer before it knows its examples by heart.
