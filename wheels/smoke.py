"""Smoke test of an installed wheel: run it as `python -I -W error smoke.py` where only pinloop is installed.

It uses the standard library alone and needs no source tree.
"""

import asyncio
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pinloop
import pinloop._core

PAYLOAD = bytes(range(256)) * 4096
CLIENTS = 10


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def ask(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PAYLOAD)
    writer.write_eof()
    assert await reader.read() == PAYLOAD
    writer.close()
    await writer.wait_closed()


async def serve_and_ask() -> str:
    """An echo server and its clients on one loop; the module of that loop."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await asyncio.wait_for(asyncio.gather(*(ask(port) for _ in range(CLIENTS))), 30)
    return type(asyncio.get_running_loop()).__module__


def check_installation() -> None:
    """The wheel's own files are used, there is nothing beside them, and importing says nothing."""
    place = Path(sysconfig.get_path("platlib")).resolve()
    for module in (pinloop, pinloop._core):
        assert place in Path(str(module.__file__)).resolve().parents, f"{module.__name__} is not from {place}"
    needs = [line for line in metadata.requires("pinloop") or [] if "extra ==" not in line]
    assert not needs, f"runtime dependencies: {needs}"
    command = [sys.executable, "-I", "-W", "error", "-c", "import pinloop"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    for name in ("py.typed", "_core.pyi"):
        assert (place / "pinloop" / name).exists(), f"no {name}"


def main() -> None:
    check_installation()
    ran_on = pinloop.run(serve_and_ask())
    assert ran_on.startswith("pinloop"), f"pinloop.run used a loop of {ran_on}"
    with asyncio.Runner(loop_factory=pinloop.new_event_loop) as runner:
        ran_on = runner.run(serve_and_ask())
    assert ran_on.startswith("pinloop"), f"loop_factory gave a loop of {ran_on}"
    print(f"smoke: pinloop {metadata.version('pinloop')} works on Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
