"""The measured process: runs one cell, or one server, on one loop.

    python -P child.py cell   --loop NAME --cell NAME --seconds S | --count N
    python -P child.py server --loop NAME --server NAME

It is started by its path, not with `-m pinloop.bench.child`: so there is nothing of pinloop in a process that
measures another loop. Answers are lines of JSON on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any


def _import_package() -> str:
    """Import the package around this file under a private name, and return the name."""
    name, folder = "_pinloop_bench", Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return name


def say(**answer: Any) -> None:
    """Print one line of JSON, at once."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def cpu_used() -> dict[str, float]:
    """What this process and its children that have ended used so far.

    `cpu_ns`, exact to the microsecond for children, and its parts `user` and `system` in seconds. The parts
    are as fine as the kernel's accounting; on many kernels they are sampled by the clock tick.
    """
    used, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    of_children = round((children.ru_utime + children.ru_stime) * 1e9)
    return {
        "cpu_ns": time.process_time_ns() + of_children,
        "user": used.ru_utime + children.ru_utime,
        "system": used.ru_stime + children.ru_stime,
    }


def resident_bytes() -> int:
    """The resident set now; where the system does not tell (macOS), its highest so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()


def count_fds() -> int:
    """How many file descriptors are open."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return len(os.listdir(folder)) - 1


def census() -> dict[str, float]:
    """What a leak would show in: `rss` in bytes, `fds`, and `objects` that the garbage collector tracks."""
    gc.collect()
    return {"rss": resident_bytes(), "fds": count_fds(), "objects": len(gc.get_objects())}


# ---- cells


async def timed(function: Any, n: int) -> dict[str, float]:
    before = cpu_used()
    operations = await function(n)
    after = cpu_used()
    return {key: after[key] - before[key] for key in before} | {"operations": operations}


async def measure_for(function: Any, seconds: float, least: int) -> dict[str, float]:
    """Find the count of operations that takes *seconds* of CPU, run it, and return what it took.

    No run has fewer than *least* operations. The runs that find the count warm the interpreter's caches up.
    """
    n = least
    while True:
        took = await timed(function, n)
        share = took["cpu_ns"] / 1e9 / seconds
        if share >= 0.1:
            break
        n = int(n * min(10.0, max(2.0, 0.3 / max(share, 1e-6))))
    return await timed(function, max(least, int(took["operations"] / share)))


def run_cell(arguments: argparse.Namespace, factory: Any) -> None:
    """Run one cell that needs no server, print what it took."""
    from . import cells, cells_combine, cells_pipes, cells_process, cells_sync  # noqa: F401 - enter theirs

    function = (cells.CELLS | cells_pipes.CELLS | cells_process.CELLS)[arguments.cell]
    least = 20 if arguments.cell in cells_process.CELLS else 1000
    with asyncio.Runner(loop_factory=factory) as runner:
        if arguments.count:
            took = runner.run(timed(function, arguments.count))
        else:
            took = runner.run(measure_for(function, arguments.seconds, least))
        # Before the loop closes: one that hangs in its close has still been measured.
        say(**took)
    os._exit(0)


# ---- servers


def _obey(commands: Any) -> None:
    """Answer the parent from a thread of its own, so that the loop under test has nothing to do with it."""
    answers = {"cpu": cpu_used, "census": census}
    for line in commands:
        say(**answers[line.strip()]())
    os._exit(0)


def wear_heap_in() -> None:
    """Free one large block, as every program does that has done some work.

    Until then glibc maps and unmaps each block from 128 KiB up, which costs a loop that receives into a fresh
    256 KiB buffer (asyncio, rloop) some 20 µs per read. That is true of a process that is all new, and of no
    other.
    """
    bytearray(4 << 20)


async def _serve(name: str) -> None:
    from .servers import SERVERS

    server = SERVERS[name]
    bound = server.bind()
    # Before the server starts: some loops take the socket's fd over and leave an empty object behind.
    port = bound.getsockname()[1]
    keep = await server.start(bound)
    say(port=port)
    threading.Thread(target=_obey, args=(sys.stdin,), daemon=True).start()
    await asyncio.get_running_loop().create_future()
    del keep


def run_server(arguments: argparse.Namespace, factory: Any) -> None:
    """Serve until the parent closes our standard input."""
    wear_heap_in()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(arguments.server))


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="child")
    parser.add_argument("what", choices=["cell", "server"])
    parser.add_argument("--loop", required=True)
    parser.add_argument("--cell")
    parser.add_argument("--server")
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--count", type=int)
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Do what *argv* says; tell the parent in JSON if the loop does not offer it, or what went wrong."""
    from .loops import named

    arguments = _parse(argv)
    try:
        factory = named(arguments.loop).load()
        (run_cell if arguments.what == "cell" else run_server)(arguments, factory)
    except NotImplementedError as error:
        say(not_offered=str(error) or "not implemented")
    except (Exception, SystemExit) as error:
        say(failed=f"{type(error).__name__}: {error}")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(importlib.import_module(f"{_import_package()}.child").main(sys.argv[1:]))
