"""`pinloop.serve`: what its arguments mean, and which of them do not do."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..workers.backends import check_watch, make_backend
from ..workers.placement import place
from ..workers.supervise import Restart, Rules
from ..workers.worker import Hooks
from .apps import ASGI, KINDS, kind_of, travelling
from .binding import ACCEPTOR, BALANCES, REUSEPORT, SHARED, open_listeners, reuseport_option
from .host import Plan, finish, prepare
from .service import Service
from .sites import check_options, import_uvicorn
from .tls import tls_of

MARGIN = 5.0
"""Seconds beyond `grace` that a worker has for its teardown, before it is killed."""


def serve(
    app: Any,
    host: str | Sequence[str] | None = "127.0.0.1",
    port: int | None = None,
    *,
    unix: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    kind: str | None = None,
    factory: bool = False,
    balance: str | None = None,
    ssl: Any = None,
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
    password: str | None = None,
    grace: float = 10.0,
    backlog: int = 2048,
    limit: int = 64 * 1024,
    setup: Callable[..., Any] | None = None,
    teardown: Callable[..., Any] | None = None,
    uvicorn: dict[str, Any] | None = None,
    backend: str | None = None,
    placement: str | Iterable[Any] | None = "spread",
    restart: Restart | None = None,
    heartbeat: float | None = None,
    memory_limit: int | None = None,
    start_timeout: float = 60.0,
    spin_us: float = 0,
) -> Service:
    """Serve an app by several workers, each on a pinned loop of its own.

    async with pinloop.serve(handler, port=8000) as service:
        ...                                     # it is served until the block is left
    pinloop.serve("module:app", port=8000).run()    # in a script: until SIGTERM or SIGINT; SIGHUP reloads

    `app` is an `async def handler(reader, writer)`, whose connection is closed when it returns, or an ASGI
    app, which goes through uvicorn (`pip install 'pinloop[serve]'`); or the name of one, "module:attribute".
    It must be one that a worker can import. `kind`, "handler" or "asgi", is needed only if it does not show
    in what the app takes; with `factory` the app is what `app()` returns, in each worker.

    It listens at `port` of `host`, a name, an address or several (None: all of this machine's), and at the
    Unix socket `unix`. Port 0 is one that is free, the same for all workers: see `Service.addresses`.

    `workers` is how many (None: one for each CPU that this process may use, within its cgroup's quota).
    `balance` says who gets a connection: "reuseport", each worker has a listener, and the kernel spreads over
    them (the default, where it can); "acceptor", this process accepts, and hands each connection to the
    worker that has the fewest (the default elsewhere); "shared", all accept from one listener, whoever is
    first, as it is with Unix sockets in place of "reuseport".

    TLS is by `certfile` and `keyfile` (PEM, with `password`), or by `ssl`, a function that makes an
    SSLContext in each worker.

    Left, the service drains: it accepts no more, and what is open has `grace` seconds to end before it is
    cut. A worker that ends by itself is restarted; more often than `restart` allows (3 times in 5 s), and the
    service fails: its block is cancelled, and WorkersFailed raised.

    `limit` is the readers', as for `start_server`; `uvicorn` are further options of uvicorn's `Config`.
    `setup`, `teardown`, `backend`, `placement`, `heartbeat`, `memory_limit`, `start_timeout` and `spin_us`
    are as for `Workers`.

    Raises ValueError and TypeError for arguments that do not do. Entering raises OSError that names the
    address which cannot be listened at, before any worker is started; ImportError, AttributeError and what
    else loading the app or `setup` raises in a worker; WorkerError if a worker does not start.
    """
    _check_choices(kind, balance, port, unix)
    check_least(0, grace=grace, start_timeout=start_timeout)
    check_least(1, backlog=backlog, limit=limit)
    if backend not in (None, "process", "thread"):
        raise ValueError(f"a service is of workers that are 'process' or 'thread', not {backend!r}")
    places = place(workers, placement)
    made = make_backend(backend, spin_us, grace + MARGIN)
    processes = made.name == "process"
    check_watch(made.name, heartbeat, memory_limit)
    options = dict(uvicorn or {})
    check_options(options)
    sent = travelling(app)
    kind = kind or _kind_here(app, factory)
    if kind == ASGI:
        import_uvicorn()
    plan = Plan(
        *(sent, kind, factory, tls_of(certfile, keyfile, password, ssl, processes), grace, backlog, limit),
        *(processes, setup, teardown, options),
    )
    hooks = Hooks(functools.partial(prepare, plan), functools.partial(finish, plan))
    balance = _balance(balance, len(places), port is not None)
    return Service(
        plan,
        functools.partial(open_listeners, host, port, unix, len(places), balance, backlog),
        places,
        made,
        Rules(hooks, start_timeout, grace + MARGIN, heartbeat, memory_limit),
        restart or Restart(),
        balance,
    )


def _kind_here(app: Any, factory: bool) -> str | None:
    """The kind of an app that is at hand; one that is named is looked at in the workers."""
    return None if isinstance(app, str) or factory else kind_of(app)


def _balance(asked: str | None, workers: int, tcp: bool) -> str:
    can = reuseport_option() is not None
    if asked == REUSEPORT and not can:
        raise ValueError("this platform cannot balance by SO_REUSEPORT: balance='acceptor' does it here")
    if asked is None:
        asked = REUSEPORT if can or workers == 1 else ACCEPTOR
    if asked == REUSEPORT and (workers == 1 or not tcp):
        return SHARED
    return asked


def _check_choices(kind: str | None, balance: str | None, port: int | None, unix: Any) -> None:
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be 'handler', 'asgi' or None, not {kind!r}")
    if balance is not None and balance not in BALANCES:
        raise ValueError(f"balance must be 'reuseport', 'shared', 'acceptor' or None, not {balance!r}")
    if port is None and unix is None:
        raise ValueError("neither port nor unix is given: there is nowhere to listen")
    if port is not None:
        check_port(port)


def check_port(port: int) -> None:
    """Raise ValueError for what is no port."""
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be 0 to 65535, not {port!r}")


def check_least(least: int, **values: float) -> None:
    """Raise ValueError for a value below the least."""
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name} must be {least} or more, not {value!r}")
