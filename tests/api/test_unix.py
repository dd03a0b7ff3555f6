"""Stream connections and servers over Unix sockets, as a user of asyncio sees them."""

import asyncio
import os
import socket
import stat
import sys
import tempfile
from asyncio.trsock import TransportSocket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.support import Echo, Made, Recorder, only_pinloop, turns
from tests.conftest import Run

linux = pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")

CLEANS_UP = sys.version_info >= (3, 13)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for the address of a Unix socket."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


async def serve(factory: Any, path: Any = None, **options: Any) -> Any:
    return await asyncio.get_running_loop().create_unix_server(factory, path, **options)


async def connect(path: Any = None, **options: Any) -> tuple[Any, Any]:
    return await asyncio.get_running_loop().create_unix_connection(Recorder, path, **options)


async def close(server: asyncio.AbstractServer, *protocols: Any) -> None:
    for protocol in protocols:
        (await protocol.made).close()
        await protocol.lost
    server.close()
    await server.wait_closed()


# ------------------------------------------------------------------ to and fro --


@pytest.mark.parametrize("kind", [Path, str, os.fsencode], ids=["path", "str", "bytes"])
def test_an_echo(run: Run, folder: Path, kind: Any) -> None:
    async def main() -> None:
        made = Made(Echo)
        path = kind(folder / "socket")
        server = await serve(made, path)
        transport, protocol = await connect(path)
        assert await protocol.made is transport
        data = os.urandom(300_000)
        transport.write(data)
        assert await protocol.receive(len(data)) == data
        await close(server, protocol, await made.next())

    run(main())


@linux
@pytest.mark.parametrize("kind", [str, os.fsencode])
def test_an_abstract_name(run: Run, folder: Path, kind: Any) -> None:
    async def main() -> None:
        made = Made(Echo)
        name = kind(f"\0{folder}")
        server = await serve(made, name)
        assert server.sockets[0].getsockname() == os.fsencode(name)
        transport, protocol = await connect(name)
        assert transport.get_extra_info("peername") == os.fsencode(name)
        transport.write(b"data")
        assert await protocol.receive(4) == b"data"
        await close(server, protocol, await made.next())

    run(main())


def test_streams(run: Run, folder: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.readline())
        writer.write_eof()
        writer.close()

    async def main() -> None:
        path = folder / "socket"
        server = await asyncio.start_unix_server(answer, path)
        answers = []
        for word in (b"one\n", b"two\n"):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(word)
            answers.append(await reader.read())
            writer.close()
            await writer.wait_closed()
        assert answers == [b"you said one\n", b"you said two\n"]
        await close(server)

    run(main())


def test_connecting_goes_by_way_of_sock_connect(run: Run) -> None:
    """Programs replace it."""

    async def main() -> None:
        async def sock_connect(sock: socket.socket, address: Any) -> None:
            raise ConnectionResetError(f"not to {address}")

        asyncio.get_running_loop().sock_connect = sock_connect  # type: ignore[method-assign]
        with pytest.raises(ConnectionResetError, match="not to /nowhere"):
            await connect("/nowhere")

    run(main())


def test_a_socket_of_ones_own_on_each_side(run: Run, folder: Path) -> None:
    async def main() -> None:
        path = str(folder / "socket")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(path)
        made = Made(Echo)
        server = await serve(made, sock=listening)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(path)
        transport, protocol = await connect(sock=sock)
        assert sock.gettimeout() == 0
        transport.write(b"data")
        assert await protocol.receive(4) == b"data"
        await close(server, protocol, await made.next())
        assert listening.fileno() == sock.fileno() == -1

    run(main())


def test_the_end_of_a_socket_pair(run: Run) -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        with far:
            transport, protocol = await connect(sock=near)
            far.send(b"data")
            assert await protocol.receive(4) == b"data"
            assert transport.get_extra_info("sockname") == ""
            assert transport.get_extra_info("peername") == ""
            transport.close()
            await protocol.lost

    run(main())


def test_a_half_closed_connection(run: Run, folder: Path) -> None:
    class Keeping(Recorder):
        def eof_received(self) -> bool:
            super().eof_received()
            return True

    async def main() -> None:
        made = Made(Keeping)
        server = await serve(made, folder / "socket")
        transport, protocol = await connect(folder / "socket")
        peer = await made.next()
        transport.write(b"question")
        transport.write_eof()
        await peer.eof
        assert peer.data == b"question"
        peer.made.result().write(b"answer")
        peer.made.result().close()
        await protocol.lost
        assert protocol.data == b"answer"
        await close(server)

    run(main())


# --------------------------------------------------------------------- names --


def test_names_of_both_ends(run: Run, folder: Path) -> None:
    async def main() -> None:
        path = str(folder / "socket")
        made = Made()
        server = await serve(made, path)
        assert [sock.getsockname() for sock in server.sockets] == [path]
        transport, protocol = await connect(path)
        peer = await (await made.next()).made
        for which, names in ((transport, ("", path)), (peer, (path, ""))):
            assert (which.get_extra_info("sockname"), which.get_extra_info("peername")) == names
            sock = which.get_extra_info("socket")
            assert type(sock) is TransportSocket
            assert (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
            assert (sock.getsockname(), sock.getpeername()) == names
        await close(server, protocol, made[0])
        assert transport.get_extra_info("peername") == path
        assert peer.get_extra_info("sockname") == path

    run(main())


def test_the_name_of_a_client_that_has_one(run: Run, folder: Path) -> None:
    async def main() -> None:
        made = Made()
        server = await serve(made, folder / "socket")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(folder / "client"))
        sock.connect(str(folder / "socket"))
        transport, protocol = await connect(sock=sock)
        peer = await made.next()
        assert (await peer.made).get_extra_info("peername") == str(folder / "client")
        assert transport.get_extra_info("sockname") == str(folder / "client")
        await close(server, protocol, peer)

    run(main())


def test_a_name_that_is_not_utf8(run: Run, folder: Path) -> None:
    async def main() -> None:
        path = os.fsencode(folder) + b"/\xff\xfe"
        made = Made()
        try:
            server = await serve(made, path)
        except OSError:
            assert sys.platform == "darwin"  # whose file names are all UTF-8
            return
        transport, protocol = await connect(path)
        assert transport.get_extra_info("peername") == os.fsdecode(path)
        await close(server, protocol, await made.next())

    run(main())


def test_the_name_of_a_peer_that_is_gone(run: Run, folder: Path) -> None:
    async def main() -> None:
        made = Made()
        server = await serve(made, folder / "socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(str(folder / "client"))
            sock.connect(str(folder / "socket"))
        peer = await made.next()
        await peer.lost
        assert peer.made.result().get_extra_info("peername") == str(folder / "client")
        await close(server)

    run(main())


# ------------------------------------------------------------------- bad input --


def test_what_does_not_go_together(run: Run, folder: Path) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            with pytest.raises(ValueError, match="path and sock can not be specified at the same time"):
                await connect("path", sock=sock)
            with pytest.raises(ValueError, match="path and sock can not be specified at the same time"):
                await serve(Recorder, "path", sock=sock)
        with pytest.raises(ValueError, match="no path and sock were specified"):
            await connect()
        with pytest.raises(ValueError, match="path was not specified, and no sock specified"):
            await serve(Recorder)

    run(main())


@pytest.mark.parametrize("kind", [(socket.AF_INET, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_DGRAM)])
def test_a_socket_of_another_kind(run: Run, kind: tuple[int, int]) -> None:
    async def main() -> None:
        with socket.socket(*kind) as sock:
            with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"):
                await connect(sock=sock)
            with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"):
                await serve(Recorder, sock=sock)

    run(main())


def test_tls_options_without_tls(run: Run, folder: Path) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
            await connect(folder / "socket", server_hostname="name")
        with pytest.raises(ValueError, match="have to pass server_hostname"):
            await connect(folder / "socket", ssl=True)
        with pytest.raises(TypeError, match="ssl argument must be an SSLContext or None"):
            await serve(Recorder, folder / "socket", ssl=True)
        for option in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
            timeout: dict[str, Any] = {option: 1.0}
            with pytest.raises(ValueError, match=f"{option} is only meaningful with ssl"):
                await connect(folder / "socket", **timeout)
            with pytest.raises(ValueError, match=f"{option} is only meaningful with ssl"):
                await serve(Recorder, folder / "socket", **timeout)

    run(main())


def test_nobody_listens(run: Run, folder: Path) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await connect(folder / "nobody")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(str(folder / "left"))
        with pytest.raises(ConnectionRefusedError):
            await connect(folder / "left")

    run(main())


def test_a_path_that_cannot_be_bound(run: Run, folder: Path) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="path too long"):
            await serve(Recorder, "x" * 200)
        with pytest.raises(FileNotFoundError):
            await serve(Recorder, folder / "no such folder" / "socket")
        (folder / "file").write_text("precious")
        with pytest.raises(OSError, match=r"Address '.*file' is already in use"):
            await serve(Recorder, str(folder / "file"))
        assert (folder / "file").read_text() == "precious"

    run(main())


@only_pinloop
def test_a_factory_that_fails_leaves_nothing_open(run: Run, folder: Path) -> None:
    """asyncio leaves the socket to the collector."""

    def factory() -> Recorder:
        raise ZeroDivisionError

    async def main() -> None:
        server = await serve(Recorder, folder / "socket", start_serving=False)
        await server.start_serving()
        with pytest.raises(ZeroDivisionError):
            await asyncio.get_running_loop().create_unix_connection(factory, str(folder / "socket"))
        await close(server)

    run(main())


# -------------------------------------------------------------- the socket file --


def test_a_stale_socket_file_is_replaced(run: Run, folder: Path) -> None:
    async def main() -> None:
        path = folder / "socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(str(path))
        assert stat.S_ISSOCK(path.stat().st_mode)
        made = Made()
        server = await serve(made, path)
        _, protocol = await connect(path)
        await close(server, protocol, await made.next())

    run(main())


@pytest.mark.skipif(not CLEANS_UP, reason="servers remove their file since 3.13")
def test_the_file_goes_with_the_server(run: Run, folder: Path) -> None:
    async def main() -> None:
        path = folder / "socket"
        await close(await serve(Recorder, path))
        assert not path.exists()
        await close(await serve(Recorder, path, cleanup_socket=False))
        assert path.exists()
        server = await serve(Recorder, path)
        path.unlink()
        server.close()  # there is nothing to remove, and that is fine
        await server.wait_closed()

    run(main())


@only_pinloop
@pytest.mark.skipif(CLEANS_UP, reason="servers remove their file since 3.13")
def test_before_3_13_the_file_stays_unless_asked(run: Run, folder: Path) -> None:
    async def main() -> None:
        path = folder / "socket"
        await close(await serve(Recorder, path))
        assert path.exists()
        await close(await serve(Recorder, path, cleanup_socket=True))
        assert not path.exists()

    run(main())


@pytest.mark.skipif(not CLEANS_UP, reason="servers remove their file since 3.13")
def test_the_file_of_a_socket_of_ones_own_goes_too(run: Run, folder: Path) -> None:
    async def main() -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(folder / "socket"))
        await close(await serve(Recorder, sock=sock))
        assert not (folder / "socket").exists()

    run(main())


@pytest.mark.skipif(not CLEANS_UP, reason="servers remove their file since 3.13")
def test_a_file_that_took_its_place_stays(run: Run, folder: Path) -> None:
    async def main() -> None:
        path = folder / "socket"
        first = await serve(Recorder, path)
        # Made beside it and moved there, so that it cannot have the number of the first one's file.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(str(folder / "second"))
        os.replace(folder / "second", path)
        await close(first)
        assert path.exists()

    run(main())


def test_a_server_that_does_not_serve_yet(run: Run, folder: Path) -> None:
    async def main() -> None:
        made = Made()
        server = await serve(made, folder / "socket", start_serving=False)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await connect(folder / "socket")
        await server.start_serving()
        _, protocol = await connect(folder / "socket")
        await close(server, protocol, await made.next())

    run(main())


# ------------------------------------------------------------------- many at once --


def test_many_clients(run: Run, folder: Path) -> None:
    async def main() -> None:
        made = Made(Echo)
        server = await serve(made, folder / "socket", backlog=200)
        clients = [await connect(folder / "socket") for _ in range(100)]
        for number, (transport, _) in enumerate(clients):
            transport.write(b"%06d" % number)
        for number, (_, protocol) in enumerate(clients):
            assert await protocol.receive(6) == b"%06d" % number
        peers = [await made.next() for _ in clients]
        await close(server, *(protocol for _, protocol in clients), *peers)

    run(main())


@only_pinloop
@linux
def test_connecting_waits_while_the_queue_is_full(run: Run, folder: Path) -> None:
    """asyncio takes a connection that did not begin for one that is there."""

    async def main() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(folder / "socket"))
            listening.listen(0)
            tasks = [asyncio.ensure_future(connect(folder / "socket")) for _ in range(5)]
            while not any(task.done() for task in tasks):
                await turns(1)
            await turns(20)
            assert not all(task.done() for task in tasks)
            accepted = [await asyncio.to_thread(listening.accept) for _ in tasks]
            clients = await asyncio.gather(*tasks)
            late = asyncio.ensure_future(connect(folder / "socket"))
            full = asyncio.ensure_future(connect(folder / "socket"))
            await late
            await turns(3)
            full.cancel()
            with pytest.raises(asyncio.CancelledError):
                await full
            for transport, protocol in (*clients, late.result()):
                transport.close()
                await protocol.lost
            for sock, _ in accepted:
                sock.close()

    run(main())
