"""Classify a folder of pictures, a sub-folder for each class; batches are read when they are needed."""

import numpy as np

from npnet import Sequential, layers, optimizers, utils

image_size = (24, 24)
options = {"validation_split": 0.2, "seed": 1337, "image_size": image_size, "batch_size": 8}
train_ds = utils.image_dataset_from_directory("flowers", subset="training", **options)
val_ds = utils.image_dataset_from_directory("flowers", subset="validation", **options)
print("classes:", train_ds.class_names)

model = Sequential(
    [
        layers.Input(shape=(*image_size, 3)),
        layers.Rescaling(1.0 / 255),
        layers.RandomFlip("horizontal"),
        layers.Conv2D(16, 3, strides=2, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(len(train_ds.class_names), activation="softmax"),
    ]
)
model.compile(optimizers.Adam(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train_ds, epochs=8, validation_data=val_ds, verbose=2)

picture = utils.load_img("flowers/rose/0.png", target_size=image_size)
probabilities = model.predict(np.expand_dims(utils.img_to_array(picture), 0), verbose=0)[0]
print("the first rose is a", train_ds.class_names[np.argmax(probabilities)])
print(f"validation accuracy {model.evaluate(val_ds, verbose=0)[1]:.3f}")
