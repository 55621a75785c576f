# %% [markdown]
"""
# A first neural network, on CIFAR-10

60,000 colour photographs of 32 x 32 pixels, ten kinds of things, and a network of three layers that learns to
tell them apart. Read it from top to bottom; each cell is one step. It runs as a script,

    python examples/cifar10_mlp.py                       # 20 epochs on all images
    EPOCHS=2 LIMIT=2000 python examples/cifar10_mlp.py   # a quick look

and cell by cell as a notebook, in VS Code as it is, in Jupyter as `cifar10_mlp.ipynb`, which `make notebook`
makes of it. The pictures and the trained network end up in the folder `runs`.
"""

# %%
import os
from pathlib import Path

import numpy as np

from npnet import plotting
from npnet.datasets import DatasetUnavailableError, cifar10, shapes
from npnet.layers import Dense
from npnet.models import Sequential, load_model
from npnet.utils import to_categorical

EPOCHS = int(os.environ.get("EPOCHS", "20"))
LIMIT = int(os.environ.get("LIMIT", "50000"))  # how many training images to use at most

# %% [markdown]
# ## 1. The data
#
# `load_data` finds CIFAR-10 on this machine or downloads it once (170 MB). Without a network it cannot; then
# we draw our own ten classes of small pictures, `shapes`, and everything below works the same.

# %%
try:
    data, name = cifar10, "cifar10"
    (x_train, y_train), (x_test, y_test) = cifar10.load_data()
except DatasetUnavailableError:
    print("CIFAR-10 is not on this machine and cannot be downloaded: training on drawn shapes instead.")
    data, name = shapes, "shapes"
    (x_train, y_train), (x_test, y_test) = shapes.load_data()

x_train, y_train = x_train[:LIMIT], y_train[:LIMIT]
RUN = Path("runs") / f"{name}-mlp"

# An image is a block of 32 x 32 x 3 numbers from 0 to 255 (height, width, and red, green, blue);
# its label is a number from 0 to 9.
print("training images", x_train.shape, x_train.dtype, " labels", y_train.shape)
print("test images    ", x_test.shape, x_test.dtype, " labels", y_test.shape)

# %% [markdown]
# What do they look like? Each with the name of its class and the class's index, which is all the network
# will ever see of the name.

# %%
plotting.image_grid(x_train, y_train, data.CLASS_NAMES, rows=4, cols=8, path=RUN / "samples.png")

# %% [markdown]
# ## 2. Preparing it
#
# A dense layer takes a row of numbers, so each image is unrolled into 32 · 32 · 3 = 3072 of them, and since
# networks learn best from small numbers, they are scaled to 0..1. (float32, because float64 would only
# double the memory.)
#
# The labels become rows with a single one: class 3 turns into `0 0 0 1 0 0 0 0 0 0`, the probabilities an
# ideal network would answer with.

# %%
images_test, labels_test = x_test, y_test  # kept for the pictures
x_train = np.reshape(x_train, (len(x_train), 3072)) / np.float32(255)
x_test = np.reshape(x_test, (len(x_test), 3072)) / np.float32(255)

y_train = to_categorical(y_train, 10)
y_test = to_categorical(y_test, 10)

print("one label:", labels_test[0], "->", y_test[0])

# %% [markdown]
# ## 3. The network
#
# 3072 numbers go in. Two layers of 512 units each compute weighted sums of what came before; `relu` replaces
# the negative ones by zero, and that bend is what makes a network more than one big weighted sum. Ten units
# come out, one for each class, and `softmax` turns their scores into probabilities.

# %%
model = Sequential(seed=0)
model.add(Dense(units=512, activation="relu", input_shape=(3072,)))
model.add(Dense(units=512, activation="relu"))
model.add(Dense(units=10, activation="softmax"))
model.summary()

# %% [markdown]
# 1.8 million weights, all of them random so far. What makes one set of weights better than another? A smaller
# *loss*. Cross-entropy is the negative logarithm of the probability that the network gave to the true class:
# sure and right costs nothing, sure and wrong costs a lot. The optimizer, the rule by which the weights are
# changed, is RMSprop unless you name another.

# %%
model.compile(loss="categorical_crossentropy", metrics=["accuracy"])

# %% [markdown]
# ## 4. Training
#
# In each epoch the network sees every image once, 32 at a time. After each 32 it moves all its weights
# a little in the direction that lowers the loss; finding that direction is what backpropagation is for
# (`backprop_by_hand.py` shows it in a page). The test images are only looked at, never learned from: how well
# it does on those (`val_accuracy`) is what counts. Guessing would give 0.1.

# %%
history = model.fit(x_train, y_train, epochs=EPOCHS, verbose=1, validation_data=(x_test, y_test))

# %% [markdown]
# ## 5. How did it go?
#
# Both curves should fall and rise together. When the training loss goes on falling while the validation loss
# turns upwards, the network has begun to learn its examples by heart.

# %%
plotting.history_curves(history, path=RUN / "history.png")

# %% [markdown]
# ## 6. What does it get wrong?

# %%
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
probabilities = model.predict(x_test, verbose=0)
print(f"{len(x_test):,} test images: loss {loss:.4f}, accuracy {accuracy:.4f}")

plotting.confusion_matrix(labels_test, probabilities, data.CLASS_NAMES, path=RUN / "confusion.png")

# %% [markdown]
# In CIFAR-10, cats and dogs are taken for each other more often than for ships. And these are the mistakes
# the network was surest of:

# %%
plotting.confident_mistakes(
    images_test, labels_test, probabilities, data.CLASS_NAMES, path=RUN / "mistakes.png"
)

# %% [markdown]
# ## 7. What did it learn to look for?
#
# Each unit of the first layer has one weight for every number of the image, so its weights can be looked at
# as an image. A unit answers most strongly to pictures that look like its own.

# %%
plotting.first_layer_weights(model, image_shape=(32, 32, 3), count=64, path=RUN / "weights.png")

# %% [markdown]
# ## 8. Keeping it

# %%
model.save(RUN / "model.safetensors")
again = load_model(RUN / "model.safetensors")
assert np.array_equal(again.predict(x_test, verbose=0), probabilities)

print(f"""
{RUN}/
  samples.png         the images and their classes
  history.png         loss and accuracy over the epochs
  confusion.png       which class is taken for which
  mistakes.png        the mistakes it was surest about
  weights.png         what the first layer looks for
  model.safetensors   the trained network""")

# %% [markdown]
# A network of dense layers treats an image as a bag of pixels: it would learn just as well if the same
# shuffling were applied to all of them. That is why it stops at about half of CIFAR-10. Layers that know
# which pixels are neighbours, convolutions, are the next step: `cifar10_cnn.py`.
