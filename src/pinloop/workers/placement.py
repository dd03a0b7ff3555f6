"""Which CPU each worker runs on: within the CPUs that this process is allowed, and no more than its quota."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

CPUs = tuple[int, ...]

CGROUPS = Path("/sys/fs/cgroup")
PROC_CGROUP = Path("/proc/self/cgroup")
TOPOLOGY = Path("/sys/devices/system/cpu")


def can_pin() -> bool:
    """Whether this platform keeps a thread on a CPU. macOS does not: there placement does nothing."""
    return hasattr(os, "sched_setaffinity")


def allowed_cpus() -> CPUs:
    """The CPUs that this process may run on, in order."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cpu_quota(proc: Path = PROC_CGROUP, root: Path = CGROUPS) -> float | None:
    """How many CPUs' time the cgroups of this process allow, whichever of them allows least; None: any."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            quotas += _quotas(root, path, _quota_v2)
        elif "cpu" in controllers.split(","):
            for mounted in ("cpu", "cpu,cpuacct", "cpuacct,cpu"):
                quotas += _quotas(root / mounted, path, _quota_v1)
    return min(quotas, default=None)


def _quotas(root: Path, path: str, read: Any) -> list[float]:
    """The quotas of a cgroup and those around it; of the root, if its path is one of the host's."""
    folder = root / path.strip("/")
    if not folder.is_dir():
        folder = root
    found = []
    while True:
        try:
            quota = read(folder)
        except (OSError, ValueError):
            quota = None
        if quota is not None and quota > 0:
            found.append(quota)
        if folder in (root, folder.parent):
            return found
        folder = folder.parent


def _quota_v2(folder: Path) -> float | None:
    quota, period = (folder / "cpu.max").read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    quota = int((folder / "cpu.cfs_quota_us").read_text())
    return None if quota < 0 else quota / int((folder / "cpu.cfs_period_us").read_text())


def default_count() -> int:
    """How many workers: one for each allowed CPU, and not more than the quota lets run at once."""
    count = len(allowed_cpus())
    quota = cpu_quota()
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def place(count: int | None, placement: str | Iterable[Any] | None) -> list[CPUs | None]:
    """The CPUs of each worker; None for one that is not pinned.

    `placement` is "spread" (each worker a core of its own as long as there are any, the sockets in turn),
    "pack" (neighbouring CPUs first, those of one core together), a list with a CPU or a set of CPUs for each
    worker, or None.

    Raises ValueError for a count below 1, where the allowed CPUs are too few for one each, and for a CPU that
    is not allowed; TypeError for what is no count or no CPU.
    """
    if count is not None:
        count = operator.index(count)
        if count < 1:
            raise ValueError(f"a pool has at least one worker, not {count}")
    if placement is None:
        return [None] * (count or default_count())
    allowed = allowed_cpus()
    if not isinstance(placement, str):
        return _explicit(count, list(placement), allowed)
    if placement not in ("spread", "pack"):
        raise ValueError(f"placement must be 'spread', 'pack', a list of CPUs or None, not {placement!r}")
    if count is None:
        count = default_count()
    if count > len(allowed):
        raise ValueError(
            f"{count} workers need {count} CPUs, and this process is allowed {len(allowed)}"
            f" ({ranges(allowed)}); with placement=None workers share them"
        )
    ordered = spread(allowed) if placement == "spread" else pack(allowed)
    return [(cpu,) for cpu in ordered[:count]]


def elsewhere(count: int | None, placement: str | Iterable[Any] | None) -> list[CPUs | None]:
    """The same for workers whose CPUs are not this process's to give: they are not pinned. Empty: any number.

    Raises ValueError for a count below 1, and for a placement other than None and "spread"; TypeError for
    what is no count.
    """
    if placement is not None and placement != "spread":
        raise ValueError(
            "placement is for workers that the pool starts: whoever starts a Dask worker says where it runs"
        )
    return [] if count is None else place(count, None)


def _explicit(count: int | None, placement: list[Any], allowed: CPUs) -> list[CPUs | None]:
    if not placement:
        raise ValueError("placement is an empty list: a pool has at least one worker")
    if count is not None and count != len(placement):
        raise ValueError(f"placement is for {len(placement)} workers, and there are {count}")
    placed: list[CPUs | None] = []
    for index, one in enumerate(placement):
        if isinstance(one, str):
            raise TypeError(f"worker {index} is to be placed on {one!r}, which is no CPU number")
        cpus = tuple(sorted({operator.index(cpu) for cpu in (one if isinstance(one, Iterable) else (one,))}))
        if not cpus:
            raise ValueError(f"worker {index} is to be placed on no CPU at all")
        for cpu in cpus:
            if cpu not in allowed:
                raise ValueError(
                    f"worker {index} is to be placed on CPU {cpu}, but this process is allowed"
                    f" {ranges(allowed)} only"
                )
        placed.append(cpus)
    return placed


def _where(cpu: int) -> tuple[int, int]:
    """The socket and the core of a CPU."""
    folder = TOPOLOGY / f"cpu{cpu}" / "topology"
    try:
        return int((folder / "physical_package_id").read_text()), int((folder / "core_id").read_text())
    except (OSError, ValueError):
        return 0, cpu


def pack(cpus: Sequence[int]) -> list[int]:
    """CPUs by socket, then core: neighbours share as many caches as can be."""
    return sorted(cpus, key=lambda cpu: (*_where(cpu), cpu))


def spread(cpus: Sequence[int]) -> list[int]:
    """CPUs as far apart as can be: the sockets in turn, and second threads of a core after all first ones."""
    threads: dict[tuple[int, int], int] = {}
    cores: dict[tuple[int, int], int] = {}
    ranked = []
    for cpu in sorted(cpus):
        socket, core = _where(cpu)
        thread = threads.get((socket, core), 0)
        threads[socket, core] = thread + 1
        rank = cores.get((socket, thread), 0)
        cores[socket, thread] = rank + 1
        ranked.append((thread, rank, socket, cpu))
    return [cpu for *_, cpu in sorted(ranked)]


def ranges(cpus: Iterable[int]) -> str:
    """CPUs as the kernel writes them: 0-3,8."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def pin(index: int, cpus: CPUs) -> None:
    """Keep the calling thread, and those that it starts from now on, on these CPUs.

    Where the platform cannot it does nothing. Raises OSError, which names worker and CPU, if the kernel
    refuses.
    """
    if not can_pin():
        return
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        one = f"CPU {cpus[0]}" if len(cpus) == 1 else f"CPUs {ranges(cpus)}"
        raise OSError(error.errno, f"worker {index} cannot be pinned to {one}: {error.strerror}") from None
