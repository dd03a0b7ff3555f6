"""Dask clusters as one starts them by hand: a scheduler and workers in processes of their own."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def dask(command: str, *options: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{command}", *options],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )


@contextlib.contextmanager
def cluster_of(workers: int, folder: Path, *options: str) -> Iterator[str]:
    """A scheduler and workers, as one starts them by hand; its address."""
    file, log = folder / "scheduler.json", folder / "log"
    started = [
        dask("scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard", "--dashboard-address=127.0.0.1:0",
             f"--scheduler-file={file}", log=log)
    ]  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while not file.exists() or not file.read_text():
            assert time.monotonic() < deadline and started[0].poll() is None, log.read_text()
            time.sleep(0.01)
        started += [
            dask("worker", f"--scheduler-file={file}", "--host=127.0.0.1", "--nthreads=1", f"--name=w{i}",
                 "--no-dashboard", f"--local-directory={folder}", *options, log=log)
            for i in range(workers)
        ]  # fmt: skip
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
