"""Servers for the load programs, the floor, and a load program that is run once."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pinloop.bench import measure
from pinloop.bench.process import Child

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """A blocking server of one connection in a thread; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                serve(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join(10)


def run_load(mode: str, port: int, command: str, connections: int = 1, **options: object) -> dict[str, Any]:
    """The report of a load program that obeys one command."""
    with Child(measure.load_command(mode, port, connections, **options), None, 15) as load:
        load.answer()
        return load.ask(command)


@contextlib.contextmanager
def floor(server: str = "") -> Iterator[tuple[Child, int]]:
    """The C floor; yields it and its port."""
    with Child(measure.server_command("C floor", server), None, 15) as child:
        yield child, child.answer()["port"]
