"""`python -m pinloop serve`: an app on every core, from the command line."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from typing import Any

from ..workers.errors import RemoteTraceback, WorkerError
from .apps import ASGI, HANDLER
from .binding import BALANCES
from .entry import serve
from .service import Service

OK, FAILED, USAGE = 0, 1, 2

EPILOG = """\
SIGTERM and SIGINT drain: nothing more is accepted, and what is open has --grace seconds to end; a second one
cuts it. SIGHUP replaces the workers one by one by new ones, which load the app anew, without a refused or cut
connection.

Exit status: 0 after a drain, 1 if the app cannot be started, the address is taken or workers crash too often,
2 for wrong arguments and an app that is not there.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    found = argparse.ArgumentParser(
        prog="python -m pinloop serve",
        description="Serve an app on every core: an ASGI app, or an async def handler(reader, writer).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add("app", metavar="module:attribute", help="what to serve")
    add("--host", action="append", help="where to listen (127.0.0.1); may be given several times")
    add("--port", type=int, help="the port (8000, unless --unix is given); 0 is one that is free")
    add("--unix", metavar="PATH", help="a Unix socket to listen at")
    add("-w", "--workers", type=int, metavar="N", help="how many (one for each CPU that may be used)")
    kinds = found.add_mutually_exclusive_group()
    for kind in (HANDLER, ASGI):
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help="what the app is")
    add(
        "--factory", action="store_true", help="the app is what the attribute, called in each worker, returns"
    )
    add("--balance", choices=BALANCES, help="who decides which worker gets a connection")
    add("--placement", choices=("spread", "pack", "none"), default="spread", help="on which CPUs (spread)")
    add("--certfile", metavar="PEM", help="for TLS: the certificate")
    add("--keyfile", metavar="PEM", help="and its key, if that is in another file")
    add("--grace", type=float, default=10.0, metavar="S", help="seconds for what is open to end (10)")
    add("--backlog", type=int, default=2048, metavar="N", help="connections that may wait (2048)")
    add("--heartbeat", type=float, metavar="S", help="kill a worker that does not answer for so many seconds")
    add("--memory-limit", type=int, metavar="MIB", help="kill a worker that uses more")
    add("--app-dir", default=".", metavar="DIR", help="where to look for the module first (.)")
    add("--log-level", default="info", choices=("debug", "info", "warning", "error", "critical"))
    asgi = found.add_argument_group("ASGI apps (uvicorn's own options)")
    asgi.add_argument("--no-access-log", action="store_true", help="do not log each request")
    asgi.add_argument("--root-path", default="", help="where the app is mounted")
    asgi.add_argument("--lifespan", choices=("auto", "on", "off"), default="auto")
    return found


def main(argv: list[str]) -> int:
    """Serve; the exit status."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=options.log_level.upper(), format="%(levelname)s: %(message)s")
    folder = os.path.abspath(options.app_dir)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        service = _service(options)
    except (ImportError, OSError, TypeError, ValueError) as error:
        return _say(error, USAGE)
    try:
        service.run(_announce)
    except KeyboardInterrupt:  # before it served
        return FAILED
    except Exception as error:
        return _failed(error)
    return OK


def _service(options: argparse.Namespace) -> Service:
    port = options.port
    if port is None and options.unix is None:
        port = 8000
    uvicorn: dict[str, Any] = {}
    if options.kind != HANDLER:
        uvicorn = {
            "log_level": options.log_level,
            "access_log": not options.no_access_log,
            "root_path": options.root_path,
            "lifespan": options.lifespan,
        }
    return serve(
        options.app,
        options.host or "127.0.0.1",
        port,
        unix=options.unix,
        workers=options.workers,
        kind=options.kind,
        factory=options.factory,
        balance=options.balance,
        certfile=options.certfile,
        keyfile=options.keyfile,
        grace=options.grace,
        backlog=options.backlog,
        uvicorn=uvicorn,
        placement=None if options.placement == "none" else options.placement,
        heartbeat=options.heartbeat,
        memory_limit=None if options.memory_limit is None else options.memory_limit << 20,
    )


def _announce(service: Service) -> None:
    pids = ", ".join(str(worker.pid) for worker in service.workers)
    logging.getLogger("pinloop.serve").info(
        "serving on %s with %d workers (%s), by process %d",
        " ".join(service.urls),
        len(service.workers),
        pids,
        os.getpid(),
    )


def _failed(error: BaseException) -> int:
    """Say what happened: with the worker's traceback, if it was in the app's own code."""
    cause = error.__cause__
    if isinstance(error, (ImportError, AttributeError, TypeError)) and str(error).startswith("cannot "):
        return _say(error, USAGE)
    if isinstance(cause, RemoteTraceback) and not str(error).startswith("the app could not"):
        print(cause.text.rstrip(), file=sys.stderr)
    elif not isinstance(error, (OSError, WorkerError, RuntimeError)):
        traceback.print_exception(error)
    return _say(error, FAILED)


def _say(error: BaseException, status: int) -> int:
    print(f"pinloop serve: {str(error) or type(error).__name__}", file=sys.stderr)
    return status


__all__ = ["main"]
