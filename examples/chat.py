"""A chat server: what one says, all others get, over a broadcast channel.

python examples/chat.py 9000            # and then: nc 127.0.0.1 9000

Each client has a task that listens to it and one that tells it what there is to tell; both end with the
connection. Nobody waits for a slow client: it misses the oldest lines, and is told how many they were.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
from functools import partial

import pinloop
from pinloop import StreamReader, StreamWriter, fail_after, scope
from pinloop.channels import BroadcastReceiver, EndOfChannel, Lagged, broadcast

LONGEST_LINE = 4096
LINES_KEPT = 100
"""So many lines a client may be behind."""

Line = tuple[str, str]
"""Who said it, or "" for the room, and the text."""


class Room:
    """Who is here, and the channel that all of them listen to."""

    def __init__(self, kept: int = LINES_KEPT) -> None:
        self.names: set[str] = set()
        self.channel, unused = broadcast(kept, overflow="lag")
        unused.close()  # each client has its own

    def enter(self, name: str) -> BroadcastReceiver[Line]:
        """Somebody comes; what there will be to hear. Raises ValueError for a name that will not do."""
        if not name.isprintable() or not 1 <= len(name) <= 20:
            raise ValueError("a name has 1 to 20 characters")
        if name in self.names:
            raise ValueError(f"{name} is here already")
        self.say("", f"{name} is here")
        self.names.add(name)
        return self.channel.subscribe()

    def leave(self, name: str, lines: BroadcastReceiver[Line]) -> None:
        lines.close()
        self.names.discard(name)
        self.say("", f"{name} has left")

    def say(self, name: str, text: str) -> None:
        self.channel.send_nowait((name, text))  # with "lag" it never has to wait


async def read_line(reader: StreamReader) -> str:
    """A line without its end; "" at the end. Raises ValueError for one that is too long."""
    return (await reader.readline()).decode(errors="replace")


async def tell(lines: BroadcastReceiver[Line], writer: StreamWriter, own: str) -> None:
    """Write what the others say, as fast as the client takes it."""
    while True:
        try:
            name, text = await lines.recv()
        except Lagged as lagged:
            writer.write(f"* you have missed {lagged.missed} lines\n".encode())
        except EndOfChannel:
            return
        else:
            if name != own:
                writer.write(f"{name}: {text}\n".encode() if name else f"* {text}\n".encode())
        await writer.drain()


async def listen(reader: StreamReader, writer: StreamWriter, room: Room, name: str) -> None:
    """Say what the client says, until it has no more or wants to go."""
    while line := await read_line(reader):
        text = line.strip()
        if text == "/quit":
            return
        if text == "/who":
            writer.write(f"* here: {', '.join(sorted(room.names))}\n".encode())
        elif text:
            room.say(name, text)


async def welcome(reader: StreamReader, writer: StreamWriter, room: Room) -> None:
    """Everything about one client, from its name on."""
    async with fail_after(60):
        writer.write(b"* your name?\n")
        name = (await read_line(reader)).strip()
    try:
        lines = room.enter(name)
    except ValueError as error:
        writer.write(f"* {error}\n".encode())
        return
    try:
        writer.write(f"* welcome, {name}; here: {', '.join(sorted(room.names))}\n".encode())
        async with scope() as s:
            s.spawn(tell(lines, writer, name))
            await listen(reader, writer, room, name)
            s.cancel("the client has left")
    finally:
        room.leave(name, lines)


async def attend(sock: socket.socket, room: Room) -> None:
    """Serve one connection. What a client does wrong, or breaks off, ends it and nothing else."""
    reader, writer = await pinloop.open_connection(sock=sock, limit=LONGEST_LINE)
    try:
        await welcome(reader, writer, room)
    except* (OSError, ValueError):
        writer.transport.abort()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def serve(listener: socket.socket, room: Room) -> None:
    """Serve until cancelled; all clients are cut off then."""
    loop = asyncio.get_running_loop()
    async with scope() as s:
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except ConnectionError:
                continue  # gone before it was accepted
            # Also where it is cancelled before it begins.
            s.spawn(attend(client, room)).add_done_callback(partial(close, client))


def close(client: socket.socket, _: object) -> None:
    client.close()


async def main(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.setblocking(False)
        print(f"listening on {listener.getsockname()[1]}", flush=True)
        await serve(listener, Room())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int, help="where to listen on 127.0.0.1; 0 for any free port")
    with contextlib.suppress(KeyboardInterrupt):
        pinloop.run(main(parser.parse_args().port))
