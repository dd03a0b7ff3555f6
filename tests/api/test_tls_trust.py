"""TLS connections: certificates, names, and who is believed."""

import asyncio
import gc
import ssl
import weakref
from typing import Any

import pytest

from tests.api.support import (
    Echo,
    Made,
    Recorder,
    only_pinloop,
)
from tests.conftest import Run
from tests.tls import (
    TLS_1_3,
    both_versions,
    client_context,
    connect_peer,
    no_alerts,
    server_context,
    serving,
    tls_pair,
)


@both_versions
def test_a_client_certificate(run: Run, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        transport, accepted = await tls_pair(
            client,
            server,
            of_client=client_context(version=version, certificate_of="the"),
            of_server=server_context(client_certificates=ssl.CERT_REQUIRED),
        )
        names = accepted.get_extra_info("peercert")["subjectAltName"]
        assert names == (("email", "client@example.org"),)
        transport.close()
        await client.lost
        await server.lost

    run(main())


@no_alerts
@both_versions
@pytest.mark.parametrize("has", [None, "another"], ids=["none", "of another authority"])
def test_a_client_without_the_certificate_it_needs(
    run: Run, version: ssl.TLSVersion, has: str | None
) -> None:
    """With TLS 1.3 the client learns of it only when it reads: its own handshake is complete by then."""

    def ask(address: Any) -> None:
        with connect_peer(address, client_context(version=version, certificate_of=has)) as peer:
            peer.read()

    async def main() -> None:
        made = Made()
        context = server_context(client_certificates=ssl.CERT_REQUIRED)
        async with serving(made, context) as address:
            reason = "(?i)(handshake.failure|certificate.required|unknown.ca)"
            with pytest.raises(ssl.SSLError, match=reason):
                await asyncio.to_thread(ask, address)
        assert not made[0].made.done()

    run(main())


def test_an_optional_client_certificate_that_is_not_there(run: Run) -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        transport, accepted = await tls_pair(
            client, server, of_server=server_context(client_certificates=ssl.CERT_OPTIONAL)
        )
        assert not accepted.get_extra_info("peercert")
        transport.close()
        await client.lost
        await server.lost

    run(main())


def test_verification_after_the_handshake(run: Run) -> None:
    """TLS 1.3: the server asks for the client's certificate when it wants it."""

    async def main() -> None:
        of_client = client_context(version=TLS_1_3, certificate_of="the")
        of_client.post_handshake_auth = True
        of_server = server_context(client_certificates=ssl.CERT_REQUIRED)
        of_server.post_handshake_auth = True
        client, server = Echo(), Recorder()
        transport, accepted = await tls_pair(client, server, of_client=of_client, of_server=of_server)
        of_connection = accepted.get_extra_info("ssl_object")
        assert of_connection.getpeercert() is None
        of_connection.verify_client_post_handshake()
        accepted.write(b"who is it?")
        assert await server.receive(10) == b"who is it?"
        assert of_connection.getpeercert()["subjectAltName"] == (("email", "client@example.org"),)
        transport.close()
        assert await client.lost is None
        assert await server.lost is None

    run(main())


@no_alerts
def test_verification_after_the_handshake_that_fails(run: Run) -> None:
    async def main() -> None:
        of_client = client_context(version=TLS_1_3)
        of_client.post_handshake_auth = True
        of_server = server_context(client_certificates=ssl.CERT_REQUIRED)
        of_server.post_handshake_auth = True
        client, server = Echo(), Recorder()
        _, accepted = await tls_pair(client, server, of_client=of_client, of_server=of_server)
        accepted.get_extra_info("ssl_object").verify_client_post_handshake()
        accepted.write(b"who is it?")
        with pytest.raises(ssl.SSLError, match=r"(?i)peer.did.not.return.a.certificate"):
            raise await server.lost or AssertionError("it was let in")
        assert isinstance(await client.lost, (ssl.SSLError, ConnectionError))
        assert not server.data

    run(main())


@pytest.mark.parametrize(
    ("context", "name", "reason"),
    [
        (client_context, "wrong.example.org", "(?i)hostname mismatch"),
        (client_context, "127.0.0.2", "(?i)IP address mismatch"),
        (lambda: client_context(trust="another"), "localhost", "(?i)unable to get local issuer|self.signed"),
    ],
    ids=["hostname", "address", "authority"],
)
def test_a_server_that_is_not_to_be_trusted(run: Run, context: Any, name: str, reason: str) -> None:
    async def main() -> None:
        made = Made()
        async with serving(made) as address:
            with pytest.raises(ssl.SSLCertVerificationError, match=reason):
                await asyncio.get_running_loop().create_connection(
                    Recorder, *address, ssl=context(), server_hostname=name
                )
        assert not made or not made[0].made.done()

    run(main())


def test_no_name_to_be_checked(run: Run) -> None:
    """With server_hostname="" none is sent and none checked."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = client_context()
        async with serving(Made()) as address:
            context.check_hostname = False
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=context, server_hostname=""
            )
            assert transport.get_extra_info("ssl_object").server_hostname is None
            transport.close()
            await protocol.lost

    run(main())


def test_ssl_true_is_pythons_default_context(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trusts what the system does: the authority of these tests only where SSL_CERT_FILE says so."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving(Made()) as address:
            with pytest.raises(ssl.SSLCertVerificationError):
                await loop.create_connection(Recorder, *address, ssl=True)
            with certificate_file() as path:
                monkeypatch.setenv("SSL_CERT_FILE", path)
                transport, protocol = await loop.create_connection(Recorder, *address, ssl=True)
            context = transport.get_extra_info("sslcontext")
            assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
            transport.close()
            await protocol.lost

    run(main())


def certificate_file() -> Any:
    """A context manager: the path of a file with the authority's certificate."""
    from tests.tls import authority

    return authority("the").cert_pem.tempfile()


@only_pinloop  # asyncio has cycles there up to its newest releases
@pytest.mark.parametrize("way", ["create_connection", "start_tls"])
@no_alerts
def test_a_refused_certificate_leaves_nothing_for_the_collector(run: Run, way: str) -> None:
    """The exception, its traceback and the frames must not hold the transports in a cycle."""
    gone: list[weakref.ref[Any]] = []

    class Remembered(asyncio.Protocol):  # a Recorder would record the exception
        def __init__(self) -> None:
            gone.append(weakref.ref(self))

    async def connect(address: Any, options: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        if way == "create_connection":
            await loop.create_connection(Remembered, *address, ssl=client_context(trust="another"), **options)
        else:
            transport, protocol = await loop.create_connection(Remembered, *address)
            await loop.start_tls(transport, protocol, client_context(trust="another"), **options)

    async def main() -> None:
        async with serving(Made(), server_context()) as address:
            try:  # pytest.raises would keep the exception, and make a cycle of its own
                await connect(address, {"server_hostname": "localhost"})
            except ssl.SSLCertVerificationError:
                pass
            else:
                pytest.fail("the certificate was taken")

    gc.collect()
    gc.disable()
    try:
        run(main())
        assert [reference() for reference in gone] == [None]
    finally:
        gc.enable()
