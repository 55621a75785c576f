"""Kernels that compute whole stretches of a training step in one pass over memory."""
