"""The two kinds of apps in a worker: what makes a protocol for each connection, and how those end."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, TypeVar, cast

from .._streams import StreamReader, StreamReaderProtocol

T = TypeVar("T", bound=Hashable)

ALPN = ("http/1.1",)

DECIDED = frozenset(
    (
        *(
            "app",
            "host",
            "port",
            "uds",
            "fd",
            "workers",
            "loop",
            "factory",
            "backlog",
            "reload",
            "reload_dirs",
        ),
        *("reload_delay", "reload_includes", "reload_excludes", "timeout_graceful_shutdown"),
        *("ssl_keyfile", "ssl_certfile", "ssl_keyfile_password", "ssl_version", "ssl_cert_reqs"),
        *("ssl_ca_certs", "ssl_ciphers", "ssl_context_factory", "limit_max_requests"),
        *("limit_max_requests_jitter", "timeout_worker_healthcheck"),
    )
)
"""Options of uvicorn's that are the service's to decide, or make no sense in it."""


class Watched(set[T]):
    """A set that tells when it has become larger or smaller."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    def add(self, item: T) -> None:
        super().add(item)
        self._changed()

    def discard(self, item: object) -> None:
        super().discard(item)
        self._changed()

    def remove(self, item: T) -> None:
        super().remove(item)
        self._changed()


class Site(Protocol):
    """An app in a worker."""

    @property
    def alpn(self) -> Sequence[str]:
        """What it speaks, for TLS."""

    def protocol(self) -> asyncio.BaseProtocol:
        """A protocol for a connection that was accepted."""

    @property
    def open(self) -> int:
        """How many connections are open."""

    @property
    def busy(self) -> int:
        """How much there is to wait for: connections, and what the app still does for those that ended."""

    def wind_down(self) -> None:
        """No connections will come: those that there are should end when their request has."""

    def nudge(self) -> None:
        """Close the connections on which nothing is under way."""

    def cut(self) -> None:
        """End everything now."""

    async def close(self) -> None:
        """Nothing is open: let the app end."""


class HandlerSite:
    """`async def handler(reader, writer)`."""

    alpn = ()

    def __init__(self, handler: Callable[..., Any], limit: int, changed: Callable[[], None]) -> None:
        self._handler = handler
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._tasks: Watched[asyncio.Task[None]] = Watched(changed)

    def protocol(self) -> asyncio.BaseProtocol:
        return StreamReaderProtocol(StreamReader(self._limit, self._loop), self._connected, self._loop)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. It is over once all that the handler wrote has been sent."""
        try:
            result = self._handler(reader, writer)
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        except Exception as error:
            if not (writer.transport.is_closing() and isinstance(error, ConnectionError)):
                self._loop.call_exception_handler(
                    {
                        "message": "the handler of a connection failed",
                        "exception": error,
                        "transport": writer.transport,
                    }
                )
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:  # the peer has gone before
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
            raise

    @property
    def open(self) -> int:
        return len(self._tasks)

    @property
    def busy(self) -> int:
        return len(self._tasks)

    def wind_down(self) -> None:
        pass

    def nudge(self) -> None:
        pass

    def cut(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def close(self) -> None:
        pass


class AsgiSite:
    """An ASGI app, by uvicorn's protocols and its lifespan; listening and ending are ours."""

    alpn = ALPN

    def __init__(self, app: Callable[..., Any], options: dict[str, Any], changed: Callable[[], None]) -> None:
        uvicorn = import_uvicorn()
        self._config = uvicorn.Config(app, loop="none", **options)
        self._config.load()
        self._server = uvicorn.Server(self._config)
        self._state = self._server.server_state
        self._state.connections = Watched(changed)  # its tasks are not: there is one for each request
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """The app's startup. Raises RuntimeError if it fails; why, uvicorn has logged."""
        self._server.lifespan = self._config.lifespan_class(self._config)
        try:
            await self._server.startup(sockets=[])
        except SystemExit:
            raise RuntimeError(
                "the app could not be started: its lifespan's startup failed, and the log says why"
            ) from None
        self._main = self._loop.create_task(self._server.main_loop(), name="pinloop serve: uvicorn's clock")

    def protocol(self) -> asyncio.BaseProtocol:
        return cast(
            asyncio.BaseProtocol,
            self._config.http_protocol_class(
                config=self._config,
                server_state=self._state,
                app_state=self._server.lifespan.state,
                _loop=self._loop,
            ),
        )

    @property
    def open(self) -> int:
        return len(self._state.connections)

    @property
    def busy(self) -> int:
        return len(self._state.connections) + len(self._state.tasks)

    def wind_down(self) -> None:
        # uvicorn would close what is between two requests now, and cut the one that is on its way. Told by
        # the response to the next one, the client knows.
        close = (b"connection", b"close")
        self._config.encoded_headers = [*self._config.encoded_headers, close]
        self._state.default_headers = [*self._state.default_headers, close]

    def nudge(self) -> None:
        for connection in list(self._state.connections):
            connection.shutdown()

    def cut(self) -> None:
        for task in list(self._state.tasks):
            task.cancel()
        for connection in list(self._state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()

    async def close(self) -> None:
        self._server.should_exit = True
        self._main.cancel()
        await asyncio.wait([self._main])
        await self._server.lifespan.shutdown()


def import_uvicorn() -> Any:
    """Raises ImportError that says how to install it."""
    try:
        import uvicorn
    except ImportError as error:
        raise ImportError(
            "an ASGI app is served through uvicorn, which is not there:"
            f" pip install 'pinloop[serve]' ({error})"
        ) from error
    return uvicorn


def check_options(options: dict[str, Any]) -> None:
    """Raises ValueError for options of uvicorn's that are not for a service."""
    wrong = sorted(DECIDED & options.keys())
    if wrong:
        raise ValueError(f"uvicorn's {', '.join(wrong)}: not here, the service itself sees to it")
