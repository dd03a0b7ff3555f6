"""TLS of a service: what travels to its workers, and the context that each makes of it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Tls:
    """What a worker makes its context of. A context cannot be sent to a process; files and functions can."""

    certfile: str | None
    keyfile: str | None
    password: str | None = field(repr=False)
    make: Callable[[], ssl.SSLContext] | None
    context: ssl.SSLContext | None

    def load(self, alpn: Sequence[str]) -> ssl.SSLContext:
        """The context. Raises what the files or the function raise."""
        if self.context is not None:
            return self.context
        if self.make is not None:
            made: Any = self.make()
            if not isinstance(made, ssl.SSLContext):
                raise TypeError(f"the function given as ssl returned {made!r}, which is no SSLContext")
            return made
        assert self.certfile is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for path in (self.certfile, self.keyfile):
            if path is not None:
                with open(path, "rb"):  # load_cert_chain would not say which one there is not
                    pass
        try:
            context.load_cert_chain(self.certfile, self.keyfile, self.password)
        except ssl.SSLError as error:
            files = self.certfile if self.keyfile is None else f"{self.certfile} and {self.keyfile}"
            raise ValueError(f"{files} are no certificate and its key: {error}") from error
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


def tls_of(
    certfile: str | os.PathLike[str] | None,
    keyfile: str | os.PathLike[str] | None,
    password: str | None,
    ssl_given: Any,
    processes: bool,
) -> Tls | None:
    """Check the arguments; None if there is no TLS. Raises OSError or ValueError for files that do not do."""
    if ssl_given is not None and (certfile is not None or keyfile is not None):
        raise ValueError("ssl and certfile/keyfile cannot be given at the same time")
    if ssl_given is not None:
        if isinstance(ssl_given, ssl.SSLContext):
            if processes:
                raise TypeError(
                    "an SSLContext cannot be sent to a worker process: give certfile and keyfile, or"
                    " a function that makes the context, which is called in each worker"
                )
            return Tls(None, None, None, None, ssl_given)
        if not callable(ssl_given):
            raise TypeError(f"ssl must be a function that returns an SSLContext, not {ssl_given!r}")
        return Tls(None, None, None, ssl_given, None)
    if certfile is None:
        if keyfile is not None:
            raise ValueError("keyfile is given without certfile")
        return None
    found = Tls(
        os.path.abspath(certfile), None if keyfile is None else os.path.abspath(keyfile), password, None, None
    )
    found.load(())  # here, before any worker starts
    return found
