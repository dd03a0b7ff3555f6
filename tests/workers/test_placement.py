"""Placement: the allowed CPUs, the quota, who goes where."""

import os
from pathlib import Path
from typing import Any

import pytest

from pinloop.workers import Workers, WorkersFailed, placement
from tests.conftest import Run
from tests.workers import jobs
from tests.workers.conftest import pool_of

LINUX = hasattr(os, "sched_setaffinity")


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def allow(*cpus: int) -> None:
        monkeypatch.setattr(placement, "allowed_cpus", lambda: cpus)
        monkeypatch.setattr(placement, "cpu_quota", lambda: None)

    return allow


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A topology: for each CPU its socket and its core."""

    def build(cpus: dict[int, tuple[int, int]]) -> None:
        for cpu, (package, core) in cpus.items():
            folder = tmp_path / f"cpu{cpu}" / "topology"
            folder.mkdir(parents=True)
            (folder / "physical_package_id").write_text(f"{package}\n")
            (folder / "core_id").write_text(f"{core}\n")
        monkeypatch.setattr(placement, "TOPOLOGY", tmp_path)

    return build


def test_spread_and_pack_over_sockets_cores_and_threads(machine: Any) -> None:
    # Two sockets of two cores of two threads, numbered as Linux does: second threads last.
    machine({cpu: (cpu // 2 % 2, cpu % 2) for cpu in range(8)})
    assert placement.spread(range(8)) == [0, 2, 1, 3, 4, 6, 5, 7]
    assert placement.pack(range(8)) == [0, 4, 1, 5, 2, 6, 3, 7]
    # Whatever is not allowed is left out, and the rest still keeps its order.
    assert placement.spread([1, 2, 5, 6]) == [1, 2, 5, 6]
    assert placement.spread([5, 3, 7]) == [5, 3, 7] or placement.spread([5, 3, 7]) == [3, 5, 7]


def test_without_a_topology_they_go_by_number(machine: Any) -> None:
    machine({})
    assert placement.spread([3, 1, 2]) == placement.pack([3, 1, 2]) == [1, 2, 3]


def test_counts_and_words(allowed: Any) -> None:
    allowed(2, 3, 5)
    assert placement.place(None, "pack") == [(2,), (3,), (5,)]
    assert placement.place(2, "spread") == [(2,), (3,)]
    assert placement.place(4, None) == [None] * 4
    assert placement.place(None, None) == [None] * 3
    with pytest.raises(ValueError, match=r"4 workers need 4 CPUs, and this process is allowed 3 \(2-3,5\)"):
        placement.place(4, "spread")
    with pytest.raises(ValueError, match="'spread', 'pack', a list of CPUs or None, not 'apart'"):
        placement.place(1, "apart")
    with pytest.raises(ValueError, match="at least one worker, not 0"):
        placement.place(0, "spread")
    with pytest.raises(TypeError):
        placement.place(1.5, "spread")  # type: ignore[arg-type]


def test_lists(allowed: Any) -> None:
    allowed(0, 1, 4)
    assert placement.place(None, [4, {1, 0}]) == [(4,), (0, 1)]
    assert placement.place(2, [4, 4]) == [(4,), (4,)]
    with pytest.raises(
        ValueError, match="worker 1 is to be placed on CPU 2, but this process is allowed 0-1,4"
    ):
        placement.place(None, [0, 2])
    with pytest.raises(ValueError, match="for 2 workers, and there are 3"):
        placement.place(3, [0, 1])
    with pytest.raises(ValueError, match="empty list"):
        placement.place(None, [])
    with pytest.raises(ValueError, match="worker 0 is to be placed on no CPU"):
        placement.place(None, [()])
    with pytest.raises(TypeError, match="no CPU number"):
        placement.place(None, ["0"])


def test_a_mask_of_one(allowed: Any) -> None:
    allowed(7)
    assert placement.place(None, "spread") == [(7,)]
    with pytest.raises(ValueError, match=r"is allowed 1 \(7\)"):
        placement.place(2, "pack")


@pytest.mark.parametrize(("quota", "count"), [(None, 4), (8.0, 4), (2.0, 2), (2.5, 3), (0.2, 1)])
def test_the_quota_bounds_the_default(
    monkeypatch: pytest.MonkeyPatch, allowed: Any, quota: float | None, count: int
) -> None:
    allowed(0, 1, 2, 3)
    monkeypatch.setattr(placement, "cpu_quota", lambda: quota)
    assert placement.default_count() == len(placement.place(None, "spread")) == count


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_quota_of_cgroup_v2(tmp_path: Path) -> None:
    proc, root = tmp_path / "cgroup", tmp_path / "fs"
    proc.write_text("0::/app/web\n")
    assert placement.cpu_quota(proc, root) is None
    write(root / "app/web/cpu.max", "max 100000\n")
    assert placement.cpu_quota(proc, root) is None
    write(root / "app/cpu.max", "150000 100000\n")
    assert placement.cpu_quota(proc, root) == 1.5
    write(root / "cpu.max", "300000 100000\n")
    assert placement.cpu_quota(proc, root) == 1.5
    write(root / "app/web/cpu.max", "50000 100000\n")
    assert placement.cpu_quota(proc, root) == 0.5
    write(root / "app/web/cpu.max", "nonsense\n")
    assert placement.cpu_quota(proc, root) == 1.5


def test_quota_in_a_container_whose_path_is_the_hosts(tmp_path: Path) -> None:
    proc, root = tmp_path / "cgroup", tmp_path / "fs"
    proc.write_text("0::/docker/0123\n")
    write(root / "cpu.max", "200000 100000\n")
    assert placement.cpu_quota(proc, root) == 2


def test_quota_of_cgroup_v1(tmp_path: Path) -> None:
    proc, root = tmp_path / "cgroup", tmp_path / "fs"
    proc.write_text("5:memory:/app\n4:cpu,cpuacct:/app\n0::/\n")
    write(root / "cpu,cpuacct/app/cpu.cfs_quota_us", "-1\n")
    write(root / "cpu,cpuacct/app/cpu.cfs_period_us", "100000\n")
    assert placement.cpu_quota(proc, root) is None
    write(root / "cpu,cpuacct/app/cpu.cfs_quota_us", "120000\n")
    assert placement.cpu_quota(proc, root) == 1.2


def test_without_cgroups(tmp_path: Path) -> None:
    assert placement.cpu_quota(tmp_path / "nothing", tmp_path) is None


@pytest.mark.skipif(not LINUX, reason="this platform does not keep a thread on a CPU")
def test_workers_are_where_they_were_put(run: Run) -> None:
    cpus = placement.allowed_cpus()

    async def main() -> None:
        async with pool_of(2, placement=[cpus[0], cpus]) as pool:
            assert await pool[0].run(jobs.affinity) == [cpus[0]]
            assert await pool[1].run(jobs.affinity) == list(cpus)
            assert pool[0].cpus == (await pool[0].run(jobs.worker)).cpus == (cpus[0],)
        assert placement.allowed_cpus() == cpus

    run(main())


@pytest.mark.skipif(not LINUX, reason="this platform does not keep a thread on a CPU")
def test_a_cpu_that_the_kernel_refuses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "allowed_cpus", lambda: (1000,))

    async def main() -> None:
        async with pool_of(None, placement="spread"):  # type: ignore[arg-type]
            raise AssertionError("it cannot be up")

    with pytest.raises(OSError, match="worker 0 cannot be pinned to CPU 1000") as caught:
        run(main())
    assert not isinstance(caught.value, WorkersFailed)


@pytest.mark.skipif(not LINUX, reason="this platform does not keep a thread on a CPU")
@pytest.mark.parametrize("backend", ["process", "thread"])
def test_a_process_that_is_allowed_one_cpu(run: Run, backend: str) -> None:
    before = os.sched_getaffinity(0)
    one = max(before)

    async def main() -> None:
        async with Workers(backend=backend) as pool:
            assert len(pool) == 1 and pool[0].cpus == (one,)
            assert await pool.run(jobs.affinity) == [one]
            assert await pool.run(jobs.add, 1, 2) == 3

    os.sched_setaffinity(0, {one})
    try:
        with pytest.raises(
            ValueError, match=rf"2 workers need 2 CPUs, and this process is allowed 1 \({one}\)"
        ):
            Workers(2)
        run(main())
    finally:
        os.sched_setaffinity(0, before)
