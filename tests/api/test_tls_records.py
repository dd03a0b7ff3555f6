"""TLS records that a program never sees: tampered with, renegotiating, changing keys, bringing tickets."""

import asyncio
import ssl
from typing import Any

import pytest

from tests.api.support import ON_PINLOOP, Made
from tests.conftest import Run
from tests.tls import both_versions, client_context, connect_peer, server_context, serving

# -------------------------------------------------------------------- broken records --


@both_versions
@pytest.mark.parametrize("fault", ["flipped", "repeated", "left out"])
def test_records_that_were_tampered_with(run: Run, version: ssl.TLSVersion, fault: str) -> None:
    """What came before is delivered; what comes after never is."""

    def ask(address: Any) -> None:
        with connect_peer(address, client_context(version=version)) as peer:
            sealed = []
            for text in (b"one", b"two", b"three"):
                peer.tls.write(text)
                sealed.append(peer.outgoing.read())
            if fault == "flipped":
                sealed[1] = sealed[1][:-1] + bytes([sealed[1][-1] ^ 1])
            elif fault == "repeated":
                sealed[1] = sealed[0]
            else:
                del sealed[1]
            peer.sock.sendall(b"".join(sealed))
            peer.at_end()
            if ON_PINLOOP:
                peer.incoming.write(bytes(peer.ciphertext[peer.seen :]))
                with pytest.raises(ssl.SSLError, match=r"(?i)alert.bad.record.mac"):
                    peer.tls.read(1)

    async def main() -> None:
        made = Made()
        async with serving(made, server_context(version=version)) as address:
            await asyncio.to_thread(ask, address)
            protocol = await made.next()
            assert isinstance(await protocol.lost, ssl.SSLError)
            assert protocol.data == (b"one" if ON_PINLOOP else b"")  # asyncio drops it
            assert not protocol.eof.done()

    run(main())
