"""How fast is it, and how fast could it be? Limits of the machine, what kernels cost, and fair timing."""
