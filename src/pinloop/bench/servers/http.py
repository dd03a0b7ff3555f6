"""Hello by HTTP."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from .sockets import BACKLOG

HELLO = b"Hello, World!"


async def _hello_asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(HELLO)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": HELLO})


async def by_uvicorn(listener: socket.socket) -> object:
    """uvicorn with httptools and the smallest ASGI application, access log off."""
    import uvicorn

    config = uvicorn.Config(
        _hello_asgi, http="httptools", ws="none", lifespan="off", access_log=False, log_level="warning"
    )
    server = uvicorn.Server(config)
    serving = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
        if serving.done():
            serving.result()
            raise RuntimeError("uvicorn ended before it served")
    return server, serving


async def by_aiohttp(listener: socket.socket) -> object:
    """aiohttp's server with one handler, access log off."""
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=HELLO, content_type="text/plain")

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=BACKLOG).start()
    return runner
