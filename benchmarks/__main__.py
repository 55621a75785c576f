"""``python -m benchmarks NAME``: run one of the benchmarks, or list them."""

import sys
from importlib import import_module

BENCHMARKS = {
    "training": "a training step beside JAX, PyTorch, Keras and scikit-learn; model.fit itself",
    "kernels": "every kernel beside NumPy, MKL and the limits of this machine; roofline and curves",
    "convolution": "layers of convolution beside oneDNN, and whole networks beside the frameworks",
    "distributed": "processes beside threads and PyTorch's DDP, on one host and over a limited link",
    "start": "the first minute and the single call, beside PyTorch, Keras and scikit-learn",
    "scaling": "what a step costs as batch, width, depth and threads grow",
}


def main(argv):
    if not argv or argv[0] not in BENCHMARKS:
        print("python -m benchmarks NAME [--help]\n")
        print("\n".join(f"  {name:11} {text}" for name, text in BENCHMARKS.items()))
        return 0 if not argv else 2
    import_module(f".{argv[0]}", __package__).main(argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
