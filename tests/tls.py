"""What the tests of TLS share: certificates, contexts, and a peer that is the ssl module's own."""

import array
import asyncio
import contextlib
import functools
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self, TypeVar

import pytest
import trustme

from tests.api.support import unlike_asyncio

T = TypeVar("T")

TLS_1_2 = ssl.TLSVersion.TLSv1_2
TLS_1_3 = ssl.TLSVersion.TLSv1_3
PATIENCE = 20.0  # seconds that a peer waits for anything

no_alerts = unlike_asyncio("sends no alert when a handshake fails")
both_versions = pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["1.2", "1.3"])


@functools.cache
def authority(name: str) -> trustme.CA:
    """A certificate authority of this run; every name is another one, "the" is the usual."""
    return trustme.CA(organization_name=f"{name} authority of the tests")


@functools.cache
def certificate(*names: str, of: str = "the") -> trustme.LeafCert:
    """A certificate for these names."""
    return authority(of).issue_cert(*names, common_name=names[0])


def server_context(
    *names: str,
    version: ssl.TLSVersion | None = None,
    client_certificates: ssl.VerifyMode = ssl.CERT_NONE,
) -> ssl.SSLContext:
    """A server's context, with a certificate for `names` or for this machine's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(*(names or ("localhost", "127.0.0.1", "::1"))).configure_cert(context)
    return _finish(context, version, client_certificates)


def client_context(
    *,
    version: ssl.TLSVersion | None = None,
    trust: str = "the",
    certificate_of: str | None = None,
) -> ssl.SSLContext:
    """A client's context that trusts one authority, with a client certificate of another if one is named."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if certificate_of is not None:
        certificate("client@example.org", of=certificate_of).configure_cert(context)
    authority(trust).configure_trust(context)
    return _finish(context, version, None)


def _finish(
    context: ssl.SSLContext, version: ssl.TLSVersion | None, verify: ssl.VerifyMode | None
) -> ssl.SSLContext:
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if verify is not None:
        authority("the").configure_trust(context)
        context.verify_mode = verify
    return context


class BlockingPeer:
    """The other end of a connection: the ssl module on a blocking socket, every record it receives noted.

    Its methods block, so it is used in a thread.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = "localhost",
    ) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=server_side,
            server_hostname=None if server_side else server_hostname,
        )
        self.ciphertext = bytearray()  # all that was received
        self.seen = 0  # bytes of it that the ssl module was given

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    @property
    def records(self) -> list[tuple[int, int]]:
        """The content type and length of each whole record received."""
        found, at = [], 0
        while at + 5 <= len(self.ciphertext):
            kind, _, size = struct.unpack_from("!BHH", self.ciphertext, at)
            at += 5 + size
            if at <= len(self.ciphertext):
                found.append((kind, size))
        return found

    def flush(self) -> None:
        """Send what the ssl module wants to be sent."""
        if self.outgoing.pending:
            self.sock.sendall(self.outgoing.read())

    def _fetch(self) -> None:
        data = self.sock.recv(1 << 16)
        self.ciphertext += data
        self.seen += len(data)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def _call(self, method: Callable[..., T], *args: Any) -> T:
        while True:
            try:
                result = method(*args)
            except ssl.SSLWantReadError:
                self.flush()
                self._fetch()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self.flush()  # the alert
                raise
            else:
                self.flush()
                return result

    def handshake(self) -> None:
        """Do the handshake.  Raises ssl.SSLError if it fails."""
        self._call(self.tls.do_handshake)

    def read(self, size: int = 1 << 16) -> bytes:
        """Some bytes; none at the other end's close_notify."""
        try:
            return self._call(self.tls.read, size)
        except ssl.SSLZeroReturnError:
            return b""

    def read_exactly(self, size: int) -> bytes:
        """As many bytes as asked for, or all there are before close_notify."""
        data = bytearray()
        while len(data) < size:
            part = self.read(size - len(data))
            if not part:
                break
            data += part
        return bytes(data)

    def read_all(self) -> bytes:
        """Everything up to close_notify."""
        return b"".join(iter(self.read, b""))

    def write(self, data: bytes) -> None:
        """Send `data`."""
        left = memoryview(data)
        while left:
            left = left[self._call(self.tls.write, left) :]

    def close_notify(self) -> None:
        """Send close_notify, without waiting for the other's."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.flush()

    def at_end(self) -> bool:
        """Whether the connection was closed: waits for the FIN."""
        try:
            while data := self.sock.recv(1 << 16):
                self.ciphertext += data
        except ConnectionResetError:
            pass
        return True


def connect_peer(
    address: tuple[Any, ...], context: ssl.SSLContext | None = None, **options: Any
) -> BlockingPeer:
    """A client of `address` that has shaken hands."""
    peer = BlockingPeer(
        socket.create_connection(address[:2], timeout=PATIENCE), context or client_context(), **options
    )
    try:
        peer.handshake()
    except BaseException:
        peer.sock.close()
        raise
    return peer


def accept_peer(listener: socket.socket, context: ssl.SSLContext | None = None) -> BlockingPeer:
    """The server's end of the next connection of `listener`, once it has shaken hands."""
    listener.settimeout(PATIENCE)
    sock, _ = listener.accept()
    peer = BlockingPeer(sock, context or server_context(), server_side=True)
    try:
        peer.handshake()
    except BaseException:
        peer.sock.close()
        raise
    return peer


@contextlib.contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A blocking listening socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def reset(sock: socket.socket) -> None:
    """Close with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def pattern(size: int, start: int = 0) -> bytes:
    """Bytes that tell where they belong."""
    numbers = array.array("I", range(start, start + size // 4 + 1))
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()[:size]


# ------------------------------------------------------------ on the loop --


async def tls_pair(
    client: Any,
    server: Any,
    *,
    of_client: ssl.SSLContext | None = None,
    of_server: ssl.SSLContext | None = None,
    server_hostname: str = "localhost",
    **options: Any,
) -> tuple[asyncio.Transport, asyncio.Transport]:
    """Two transports of the running loop, connected by TCP, that have shaken hands.

    `client` and `server` are their protocols; `options` go to both methods of the loop.
    """
    loop = asyncio.get_running_loop()
    with listening() as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    (first, _), (second, _) = await asyncio.gather(
        loop.create_connection(
            lambda: client,
            sock=near,
            ssl=of_client or client_context(),
            server_hostname=server_hostname,
            **options,
        ),
        loop.connect_accepted_socket(lambda: server, far, ssl=of_server or server_context(), **options),
    )
    return first, second


@contextlib.asynccontextmanager
async def serving(
    factory: Callable[[], Any], context: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[Any]:
    """A TLS server of the running loop on 127.0.0.1; gives its address and ends it with its connections."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context or server_context(), **options)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await server.wait_closed()
