"""Training on several processes and machines, under Keras's names.

    mpiexec -n 4 python program.py

    npnet.distribution.set_distribution(npnet.distribution.DataParallel())
    model = ...                         # after it: the processes then draw the same seed
    model.fit(x, y, batch_size=1024)    # samples of all processes together

Every process runs the same program on the same data. ``fit`` and ``train_on_batch`` are computed by all of
them together and must be called by all; ``predict`` and ``evaluate`` are computed by each for itself.
``docs/distributed.md`` says how the work is divided, what happens when a process fails, and when it pays.
"""

import os
from functools import cache

from npnet.internal import checks, config, processes
from npnet.kernels.machine import cpus, threads

__all__ = [
    "DataParallel",
    "distribution",
    "initialize",
    "list_devices",
    "set_distribution",
    "warn_of_strangers",
]


class DataParallel:
    """Every process has the whole model and computes a part of each batch.

    Parameters
    ----------
    shards
        Into how many shards each batch is cut. Weights, history and predictions depend on it, as on the seed,
        but not on the number of processes: with 8 shards 1, 2, 3, 4 and 8 processes give the same bits.
        Numbers of processes that divide it share the work and the sums evenly.
    auto_shard_dataset
        True: all processes have the same x, and each takes its shards of each batch. False: x and the
        validation data are this process's part already, and ``batch_size`` is divided among the processes.

    Raises
    ------
    ValueError
        If there are fewer shards than processes.
    """

    @config.keras_arguments(device_mesh=None, devices=None)
    def __init__(self, shards: int = 8, auto_shard_dataset: bool = True):
        self.shards = checks.integer("shards", shards)
        self.auto_shard_dataset = checks.flag("auto_shard_dataset", auto_shard_dataset)

    def __repr__(self) -> str:
        return f"DataParallel(shards={self.shards}, auto_shard_dataset={self.auto_shard_dataset})"


_distribution: DataParallel | None = None
_divided = False  # whether the CPUs of this machine have been divided among its processes


def initialize(
    job_addresses: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the processes that mpiexec started; a program that was started without it stays alone.

    The CPUs that processes of one machine share are divided among them. From now on an exception that nobody
    catches ends all processes, with a message that names this one.

    Parameters
    ----------
    job_addresses, num_processes, process_id
        Keras's. MPI knows who takes part, so they must be left out or agree with it.

    Raises
    ------
    ImportError
        If mpiexec started several processes and there is no mpi4py.
    RuntimeError
        If mpiexec belongs to another MPI than mpi4py's.
    ValueError
        If an argument says something else than MPI does.
    """
    group = processes.join()
    for name, value, known in (
        ("job_addresses", job_addresses, None),
        ("num_processes", num_processes, group.size),
        ("process_id", process_id, group.rank),
    ):
        if value is not None and value != known:
            raise ValueError(f"{name} must be left out, or {known}, which MPI says, got {value!r}.")
    _divide_cpus(group)


def _divide_cpus(group: processes.Processes) -> None:
    """Use this process's fraction of the CPUs that the processes of its machine may all use."""
    global _divided
    if _divided or group.size == 1:
        return
    _divided = True
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    here = (group.hosts[group.rank], allowed)
    sharing = sum(
        (host, its) == here for host, its in zip(group.hosts, group.gather_values(allowed), strict=True)
    )
    if sharing > 1:
        threads.set_threads(max(1, min(cpus.usable_cpus(), threads.get_threads()) // sharing))


def set_distribution(value: DataParallel | None) -> None:
    """Train as ``value`` says from now on, joining the other processes first; None: each for itself.

    To be called first of all: processes that end before it leave the others waiting, and models without a
    seed that are made after it draw the same one everywhere.
    """
    global _distribution
    if value is not None:
        if not isinstance(value, DataParallel):
            raise TypeError(f"set_distribution expects DataParallel(...) or None, got {value!r}.")
        initialize()
        size = processes.world().size
        if size > value.shards:
            raise ValueError(
                f"shards must be at least the number of processes, {size}, got {value.shards}: some would"
                f" have nothing to do. DataParallel(shards={size})"
            )
        _require_same(processes.world(), value)
    _distribution = value
    processes.train_together(value is not None)


def _require_same(world: processes.Processes, value: DataParallel) -> None:
    """Raise a ValueError where processes have set different distributions."""
    everywhere = dict(zip(world.names, world.gather_values(repr(value)), strict=True))
    if len(set(everywhere.values())) > 1:
        said = ", ".join(f"{name} has {text}" for name, text in everywhere.items())
        raise ValueError(f"set_distribution must be given the same in all processes: {said}.")


def distribution() -> DataParallel | None:
    """Return what ``set_distribution`` was given last."""
    return _distribution


@cache
def warn_of_strangers() -> None:
    """Warn, once, where mpiexec started several processes and each trains a model of its own."""
    if processes.announced() > 1 and processes.announced_rank() == 0:
        checks.warn(
            f"mpiexec started {processes.announced()} processes, and each trains a model of its own. To train"
            " one together: npnet.distribution.set_distribution(npnet.distribution.DataParallel())."
        )


def list_devices(device_type: str | None = None) -> list[str]:
    """Return a name for each process: "cpu:0", "cpu:1" ..."""
    if device_type not in (None, "cpu"):
        raise ValueError(f'device_type must be "cpu" or left out, got {device_type!r}.')
    return [f"cpu:{rank}" for rank in range(processes.world().size)]
