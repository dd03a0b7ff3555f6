"""What the tests serve."""

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import pinloop


async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a line; "wait" says so, and answers the next one; "hang" never ends; "die" ends the process."""
    line = (await reader.readline()).decode().strip()
    if line == "wait":
        writer.write(b"waiting\n")
        line = (await reader.readline()).decode().strip()
    elif line == "hang":
        writer.write(b"hanging\n")
        await asyncio.get_running_loop().create_future()
    elif line == "die":
        os._exit(3)
    elif line == "fail":
        raise LookupError("not today")
    elif line == "state":
        worker = pinloop.current_worker()
        assert worker is not None
        line = f"{worker.state} {worker.index} {worker.backend} {type(asyncio.get_running_loop()).__module__}"
    elif line == "large":
        line = "x" * 10_000_000
    writer.write(f"{os.getpid()} {line}\n".encode())


class Application:
    """An ASGI app: says who it is; a POST is answered from its first piece on, until its last has come."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.live(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = f"{os.getpid()} {scope['scheme']} {scope['state'].get('word')}".encode()
        message = await receive()
        while message.get("more_body"):
            await send({"type": "http.response.body", "body": b"more ", "more_body": True})
            message = await receive()
        await send({"type": "http.response.body", "body": body})

    async def live(self, scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            told = os.environ.get("PINLOOP_TEST_TOLD")
            if told:
                with open(told, "a") as file:
                    file.write(message["type"] + "\n")
            scope["state"]["word"] = "started"
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return


application = Application()


async def unstartable(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "lifespan"
    raise LookupError("no database")


def make_application() -> Any:
    return Application()


def make_nothing() -> None:
    return None


async def either(*args: Any) -> None:
    """Neither the one nor the other, as far as one can see."""
    await handler(*args)


no_app = 42


def prepared() -> str:
    return "prepared"


def fail_if(path: str) -> None:
    """A setup that fails once a file is there."""
    if Path(path).exists():
        raise LookupError("it is there")


def append(path: str, word: str) -> None:
    with open(path, "a") as file:
        file.write(word + "\n")


def tls_of(path: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def no_context() -> int:
    return 5
