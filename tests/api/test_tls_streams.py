"""asyncio's streams over TLS."""

import asyncio

from tests.api.support import Echo, Made
from tests.conftest import Run
from tests.tls import client_context, pattern, server_context, serving

MIB = 1 << 20


def test_streams_drain(run: Run) -> None:
    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(50_000):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context())
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port, ssl=client_context())
        data = pattern(5 * MIB)

        async def send() -> None:
            for i in range(0, len(data), 64_000):
                writer.write(data[i : i + 64_000])
                await writer.drain()

        sending = asyncio.create_task(send())
        assert await reader.readexactly(len(data)) == data
        await sending
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())


def test_many_connections_at_once(run: Run) -> None:
    async def main() -> None:
        made = Made(Echo)
        async with serving(made) as address:
            context = client_context()

            async def one(number: int) -> None:
                data = pattern(30_000 + number, number)
                reader, writer = await asyncio.open_connection(
                    *address, ssl=context, server_hostname="localhost"
                )
                writer.write(data)
                assert await reader.readexactly(len(data)) == data
                writer.close()
                await writer.wait_closed()

            await asyncio.gather(*(one(i) for i in range(40)))
            for protocol in made:
                assert await protocol.lost is None

    run(main())
