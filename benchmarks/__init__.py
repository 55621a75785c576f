"""How fast is npnet, beside its peers and beside what the machine can do?  ``python -m benchmarks``."""
