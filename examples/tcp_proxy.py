"""A TCP proxy with backpressure: what one side does not take, the other is not read for.

python examples/tcp_proxy.py 9000 127.0.0.1:8000 --most 1000

Each direction is a loop that reads a piece and waits until it is written, so a slow side holds up the fast
one, and a connection needs no more memory than a few pieces. Beyond `most` connections new ones wait in the
system's queue. When one side has no more to send, the other is told, and may go on answering.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import socket

import pinloop
from pinloop import StreamReader, StreamWriter, scope

PIECE = 64 * 1024
NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


async def pump(reader: StreamReader, writer: StreamWriter) -> None:
    """Everything from one side to the other, and then that there is no more."""
    while data := await reader.read(PIECE):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def relay(client: socket.socket, host: str, port: int) -> None:
    """Serve one connection. That one side breaks off is no error: then so does the other."""
    writers = []
    try:
        near, to_near = await pinloop.open_connection(sock=client, limit=PIECE)
        writers.append(to_near)
        far, to_far = await pinloop.open_connection(host, port, limit=PIECE)
        writers.append(to_far)
        async with scope() as s:
            s.spawn(pump(near, to_far))
            s.spawn(pump(far, to_near))
    except* OSError:
        for writer in writers:
            writer.transport.abort()  # what is left has nobody to go to
    finally:
        for writer in writers:
            writer.close()  # both, before anything is awaited: this may be cancelled here, too
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def accept(listener: socket.socket) -> socket.socket:
    """The next connection, also where some went before they were accepted, or there is no descriptor left."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            client, _ = await loop.sock_accept(listener)
        except ConnectionError:
            continue
        except OSError as error:
            if error.errno not in NO_RESOURCES:
                raise
            await asyncio.sleep(0.1)
        else:
            return client


async def proxy(listener: socket.socket, host: str, port: int, most: int = 1000) -> None:
    """Serve until cancelled; then all connections are cut, and it ends when they have."""
    free = pinloop.Semaphore(most)

    async with scope() as s:
        while True:
            await free.acquire()
            client = await accept(listener)
            task = s.spawn(relay(client, host, port))

            def ended(_: object, client: socket.socket = client) -> None:
                client.close()  # also where it was cancelled before it began
                free.release()

            task.add_done_callback(ended)


async def main(port: int, target: str, most: int) -> None:
    host, _, target_port = target.rpartition(":")
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.setblocking(False)
        print(f"listening on {listener.getsockname()[1]}", flush=True)
        await proxy(listener, host.strip("[]"), int(target_port), most)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int, help="where to listen on 127.0.0.1; 0 for any free port")
    parser.add_argument("target", help="HOST:PORT to connect to")
    parser.add_argument("--most", type=int, default=1000, help="how many connections at once (1000)")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        pinloop.run(main(options.port, options.target, options.most))
