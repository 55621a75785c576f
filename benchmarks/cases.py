"""A kernel as a worker's job: npnet's, NumPy's, or PyTorch's matrix products."""

from npnet.checking.measuring.cases import CASES


def torch_kernels(threads):
    """Return the products as PyTorch computes them (with MKL on x86), writing to memory it already has."""
    import torch

    torch.set_num_threads(threads)

    class Kernels:
        def __init__(self):
            self.memory = {}

        def out(self, *shape):
            return self.memory.setdefault(shape, torch.empty(shape))

        def dense_forward(self, x, w, b):
            x, w, b = map(torch.from_numpy, (x, w, b))
            return torch.addmm(b, x, w, out=self.out(len(x), w.shape[1]))

        def dense_backward_parameters(self, x, dy):
            x, dy = map(torch.from_numpy, (x, dy))
            return torch.matmul(x.T, dy, out=self.out(x.shape[1], dy.shape[1])), dy.sum(0)

        def dense_backward_input(self, dy, w):
            dy, w = map(torch.from_numpy, (dy, w))
            return torch.matmul(dy, w.T, out=self.out(len(dy), len(w)))

    return Kernels()


class Job:
    """One case on one kernel set ("npnet", "numpy" or "torch"), to be run by a worker."""

    def __init__(self, kernel_set, threads, case, sizes):
        if kernel_set == "torch":
            kernels = torch_kernels(threads)
        else:
            from npnet.kernels import load
            from npnet.kernels.machine.threads import set_threads

            set_threads(threads)
            kernels = load("numba" if kernel_set == "npnet" else "numpy")
        self.case, self.sizes = CASES[case], sizes
        self.operands = self.case.operands(*sizes)
        self.call = lambda operands: self.case.call(kernels, *operands)

    def reset(self):
        """Nothing to do: a kernel has no past. Updates go on with their own results."""

    def run(self, times):
        for _ in range(times):
            self.call(self.operands)

    def error(self):
        """Return the largest error against float64, in units of what rounding may do to it."""
        return self.case.error(self.call, self.sizes)
