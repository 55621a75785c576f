"""Pictures (N, H, W, C) read at places between pixels: turned, zoomed, resized. For both kernel sets."""

import numpy as np

__all__ = ["places", "read_between", "read_between_backward", "resize", "resize_backward", "resizing"]


def places(index, size, fill_mode):
    """The pixel that an index beyond the edge stands for; -1 for ``fill_value``.

    "nearest" aaa|abcd|ddd, "wrap" bcd|abcd|abc, "reflect" cba|abcd|dcb, "mirror" dcb|abcd|cba, which does not
    repeat the edge, "constant" ---|abcd|---.
    """
    if fill_mode == "nearest":
        return np.clip(index, 0, size - 1)
    if fill_mode == "wrap":
        return index % size
    if fill_mode == "reflect":
        there_and_back = index % (2 * size)
        return np.minimum(there_and_back, 2 * size - 1 - there_and_back)
    if fill_mode == "mirror":
        length = max(2 * size - 2, 1)  # there and back, each end once
        there_and_back = index % length
        return np.minimum(there_and_back, length - there_and_back) if size > 1 else there_and_back
    return np.where((index >= 0) & (index < size), index, -1)


def _corners(rows, columns, sides, fill_mode, nearest):
    """Go through the pixels that a place (rows, columns) lies between: indices, and how much each counts.

    Bilinear: between i and i + 1 pixel i counts 1 - f and pixel i + 1 counts f, f the fraction; in both axes.
    """
    if nearest:
        whole = (np.rint(axis).astype(int) for axis in (rows, columns))
        yield *(places(i, size, fill_mode) for i, size in zip(whole, sides, strict=True)), np.ones(rows.shape)
        return
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = rows - top, columns - left
    for i, vertical in ((top, 1 - down), (top + 1, down)):
        for j, horizontal in ((left, 1 - right), (left + 1, right)):
            yield places(i, sides[0], fill_mode), places(j, sides[1], fill_mode), vertical * horizontal


def read_between(x, rows, columns, fill_mode, fill_value, nearest):
    """y[n,i,j] = x[n] read at (rows[n,i,j], columns[n,i,j]), bilinearly or at the nearest pixel."""
    sample = np.arange(len(x))[:, None, None]
    y = np.zeros((*rows.shape, x.shape[-1]), x.dtype)
    for r, s, share in _corners(rows, columns, x.shape[1:3], fill_mode, nearest):
        pixels = np.where(((r >= 0) & (s >= 0))[..., None], x[sample, r, s], x.dtype.type(fill_value))
        y += share[..., None].astype(x.dtype) * pixels
    return y


def read_between_backward(dy, sides, rows, columns, fill_mode, nearest):
    """dx[n,h,w] = sum of share dy[n,i,j] over all places that pixel (h, w) was read for."""
    sample = np.arange(len(dy))[:, None, None]
    dx = np.zeros((len(dy), *sides, dy.shape[-1]), dy.dtype)
    for r, s, share in _corners(rows, columns, sides, fill_mode, nearest):
        read = np.where((r >= 0) & (s >= 0), share, 0)
        np.add.at(dx, (sample, r, s), read[..., None].astype(dy.dtype) * dy)
    return dx


def resizing(size, new_size, nearest):
    """The matrix R (new_size, size) of one axis: new pixel i is read at (i + 1/2) size / new_size - 1/2.

    Beyond the edge stands the edge's pixel. The nearest pixel is the one that the place lies in.
    """
    place = (np.arange(new_size) + 0.5) * size / new_size
    matrix = np.zeros((new_size, size))
    new = np.arange(new_size)
    if nearest:
        matrix[new, np.minimum(place.astype(int), size - 1)] = 1
        return matrix
    place = np.clip(place - 0.5, 0, size - 1)
    low = np.minimum(place.astype(int), max(size - 2, 0))
    matrix[new, low] = 1 - (place - low)
    matrix[new, np.minimum(low + 1, size - 1)] += place - low
    return matrix


def filling(sides, new_sides):
    """The matrices R and S that enlarge the middle of pictures to the new sides, their aspect ratio kept.

    The middle is the largest window with the aspect ratio of the new sides.
    """
    (height, width), (new_height, new_width) = sides, new_sides
    window = min(height, width * new_height // new_width), min(width, height * new_width // new_height)
    matrices = []
    for size, kept, new_size in zip(sides, window, new_sides, strict=True):
        kept = max(kept, 1)
        first = (size - kept) // 2
        matrix = np.zeros((new_size, size))
        matrix[:, first : first + kept] = resizing(kept, new_size, nearest=False)
        matrices.append(matrix)
    return matrices


def resize(x, rows, columns):
    """y[n] = R x[n] S' in each channel, with the matrices of ``resizing``."""
    return np.einsum("ih,nhwc,jw->nijc", rows, x, columns, optimize=True)


def resize_backward(dy, rows, columns):
    """dx[n] = R' dy[n] S."""
    return np.einsum("ih,nijc,jw->nhwc", rows, dy, columns, optimize=True)
