"""How kernels meet the machine: the compiler, its cache, threads and their tasks."""
