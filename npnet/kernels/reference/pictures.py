"""Pictures (N, H, W, C) and samples before the network: pixels moved, numbers standardised."""

import numpy as np

__all__ = ["move_pixels", "move_pixels_backward", "standardize"]


def move_pixels(x, rows, columns, ways, fill_value):
    """y[n,i,j] = x[n, r[n,i], s[n,j]]  with  r[n] = rows[ways[0,n]]  and  s[n] = columns[ways[1,n]].

    rows (., H) and columns (., W) are the ways pixels can come to lie, ways (2, N) says which of them each
    picture goes. An index of -1 stands for ``fill_value``.
    """
    r, s = rows[ways[0]][:, :, None], columns[ways[1]][:, None, :]
    y = x[np.arange(len(x))[:, None, None], r, s]
    y[(r < 0) | (s < 0)] = fill_value
    return y


def move_pixels_backward(dy, rows, columns, ways):
    """dx[n,h,w] = sum of dy[n,i,j] over all i with r[n,i] = h and all j with s[n,j] = w."""
    r, s = rows[ways[0]][:, :, None], columns[ways[1]][:, None, :]
    dx = np.zeros_like(dy)
    came = ((r >= 0) & (s >= 0))[..., None]
    np.add.at(dx, (np.arange(len(dy))[:, None, None], r, s), np.where(came, dy, 0))
    return dx


def standardize(x, mean, deviation):
    """y = (x - mean) / deviation, column by column of (N, D), in the dtype of ``mean``."""
    return (x.astype(mean.dtype, copy=False) - mean) / deviation
