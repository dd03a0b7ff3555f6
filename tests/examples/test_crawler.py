"""examples/crawler.py on a site of this process."""

import asyncio
import contextlib

from examples import crawler
from tests.conftest import Run
from tests.examples.servers import http, output

HTML = "Content-Type: text/html\r\n"


class Site:
    """Pages 1 to `count`, a tree with links back, that notes how it is read."""

    def __init__(self, count: int = 40) -> None:
        self.count = count
        self.asked: list[str] = []
        self.running = self.most = 0

    async def answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        self.asked.append(path)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.002)
            if path == "/old":
                return 301, "Location: /2\r\n", b""
            if path == "/broken":
                return 500, HTML, b""
            if path == "/picture":
                return 200, "Content-Type: image/png\r\n", b"<a href=/never>"
            number = int(path.strip("/") or 1)
            links = [n for n in (2 * number, 2 * number + 1, number // 2) if 1 <= n <= self.count]
            page = "".join(f"<a href='/{n}#part'>x</a>" for n in links)
            if number == 5:
                page += "<a href='http://other.example/'>y</a><a href=old><img src=picture><a href=/broken>"
            return 200, HTML, page.encode()
        finally:
            self.running -= 1


def test_every_page_is_read_once_and_never_too_many_at_once(run: Run) -> None:
    site = Site()

    async def main() -> None:
        async with (
            http(site.answer) as url,
            contextlib.aclosing(crawler.crawl(url + "/1", at_once=4)) as pages,
        ):
            found = {page.url.removeprefix(url): page async for page in pages}
        assert found.keys() == {f"/{n}" for n in range(1, 41)} | {"/old", "/picture", "/broken"}
        assert sorted(site.asked) == sorted(found)
        assert 2 <= site.most <= 4
        assert {path for path, page in found.items() if page.status != 200} == {"/old", "/broken"}
        assert not any(page.error for page in found.values())

    run(main())


def test_left_early_it_leaves_no_request_behind(run: Run) -> None:
    site = Site()

    async def main() -> None:
        async with http(site.answer) as url:
            async with contextlib.aclosing(crawler.crawl(url + "/1", at_once=8)) as pages:
                async for page in pages:
                    if page.url.endswith("/9"):
                        break
            others = asyncio.all_tasks() - {asyncio.current_task()}
            assert not [
                task for task in others if "crawler" in repr(task) or "stream" in repr(task.get_coro())
            ]
        assert len(site.asked) < 43

    run(main())


def test_what_cannot_be_read_is_noted(run: Run) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n\r\n")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            assert (await crawler.fetch(f"http://127.0.0.1:{port}/")).error == "this is no HTTP"
        refused = await crawler.fetch(f"http://127.0.0.1:{port}/")
        assert refused.error
        assert not refused.links

    run(main())


def test_as_a_program(run: Run) -> None:
    site = Site(10)

    async def main() -> None:
        async with http(site.answer) as url:
            lines = (await output("crawler.py", url + "/1", "--at-once", "2", "--most", "8")).splitlines()
        assert lines[-1].startswith("8 pages, ")
        assert len(lines) == 9
        assert f"\t{url}/1" in lines[0]
        assert site.most <= 2

    run(main())
