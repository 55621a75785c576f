"""Pictures of data, training and networks.

Every function returns a ``matplotlib.figure.Figure`` and, given a ``path``, also saves it there (png, svg
or pdf, by the ending). No display, window or global state of matplotlib is involved, so they work on a
server and in threads; a notebook shows the figure. ``figure.get_label()`` says in words what is to be seen.

Labels are class indices (N,) or (N, 1), or rows of K scores (one-hot or probabilities) whose largest is the
class. Images are (N, H, W), (N, H, W, 1) or (N, H, W, 3): uint8 in 0..255 or floats in 0..1.
"""

from npnet.plotting.canvas import PathLike
from npnet.plotting.convolutions import (
    FeatureMaps,
    Occlusion,
    convolves,
    feature_map_images,
    feature_maps,
    occlude,
    occlusion,
)
from npnet.plotting.figures import (
    confident_mistakes,
    confusion_matrix,
    decision_boundary,
    first_layer_images,
    first_layer_weights,
    history_curves,
    image_grid,
    predictions,
)

__all__ = [
    "FeatureMaps",
    "Occlusion",
    "PathLike",
    "confident_mistakes",
    "confusion_matrix",
    "convolves",
    "decision_boundary",
    "feature_map_images",
    "feature_maps",
    "first_layer_images",
    "first_layer_weights",
    "history_curves",
    "image_grid",
    "occlude",
    "occlusion",
    "predictions",
]
