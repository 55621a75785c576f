"""The laboratory: the two kernels that decide how fast npnet trains, from three loops to what runs today.

``python -m benchmarks.variants`` checks every version against NumPy, times them in turns and prints what each
step gained. Each version changes one thing: read ``forward.py`` and ``update.py`` from top to bottom.
"""
