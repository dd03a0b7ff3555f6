"""A crawler: reads the pages of one site, several at once but never more than it was told.

python examples/crawler.py http://127.0.0.1:8000/ --at-once 8 --most 1000

What a page links to is read in its turn. The pipeline pulls the next address only when a request has ended,
so there are never more than `at_once` connections, however many links are waiting.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import SplitResult, urldefrag, urljoin, urlsplit

import pinloop
from pinloop import fail_after, stream

MOST_BYTES = 1 << 20
"""No more than this is read of a page."""


@dataclass
class Page:
    """What came of one address: a status and links, or why there is none."""

    url: str
    status: int = 0
    size: int = 0
    links: list[str] = field(default_factory=list)
    error: str = ""


class Links(HTMLParser):
    """Collects where a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"a": "href", "link": "href", "img": "src", "script": "src"}.get(tag)
        self.found += [value for name, value in attrs if name == wanted and value]


async def get(parts: SplitResult) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields and body of one request."""
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    reader, writer = await pinloop.open_connection(parts.hostname, port, ssl=tls or None)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(f"GET {target} HTTP/1.0\r\nHost: {parts.netloc}\r\nAccept: text/html\r\n\r\n".encode())
        status = (await reader.readline()).decode("latin-1").split(maxsplit=2)
        if len(status) < 2 or not status[1].isdigit():
            raise ValueError("this is no HTTP")
        fields = {}
        while line := (await reader.readline()).decode("latin-1").strip():
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        body = bytearray()
        while len(body) < MOST_BYTES and (data := await reader.read(MOST_BYTES - len(body))):
            body += data
        return int(status[1]), fields, bytes(body)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def fetch(url: str, seconds: float = 10) -> Page:
    """A page, with the addresses on the same host that it refers to. What goes wrong is noted in it."""
    parts = urlsplit(url)
    try:
        async with fail_after(seconds):
            status, fields, body = await get(parts)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        return Page(url, error=str(error) or type(error).__name__)
    parser = Links()
    if "html" in fields.get("content-type", ""):
        parser.feed(body.decode(errors="replace"))
    targets = [fields["location"]] if "location" in fields else parser.found
    links = dict.fromkeys(urldefrag(urljoin(url, target)).url for target in targets)
    same = [link for link in links if urlsplit(link)[:2] == parts[:2]]
    return Page(url, status, len(body), same)


async def crawl(start: str, at_once: int = 8, most: int = 1000) -> AsyncGenerator[Page, None]:
    """The pages of a site as they come, up to `most`, read `at_once`. Close it, as with `aclosing`."""
    todo: pinloop.Queue[str] = pinloop.Queue()
    todo.put_nowait(start)
    seen = {start}
    missing = 1

    async def addresses() -> AsyncIterator[str]:
        while True:
            yield await todo.get()

    async with stream(addresses).map(fetch, concurrency=at_once, ordered=False) as pages:
        async for page in pages:
            for link in page.links:
                if link not in seen and len(seen) < most:
                    seen.add(link)
                    todo.put_nowait(link)
                    missing += 1
            yield page
            missing -= 1
            if not missing:
                return


async def main(start: str, at_once: int, most: int) -> None:
    count = failed = 0
    async with contextlib.aclosing(crawl(urldefrag(start).url, at_once, most)) as pages:
        async for page in pages:
            print(page.error or page.status, page.size, page.url, sep="\t", flush=True)
            count += 1
            failed += bool(page.error) or page.status >= 400
    print(f"{count} pages, {failed} of them failed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("start", help="where to begin; other hosts are left alone")
    parser.add_argument("--at-once", type=int, default=8, help="how many requests at once (8)")
    parser.add_argument("--most", type=int, default=1000, help="how many pages at most (1000)")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        pinloop.run(main(options.start, options.at_once, options.most))
