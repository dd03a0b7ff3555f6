"""The examples of docs/watching.md do what the page says."""

import asyncio
import contextlib
import doctest
import io
import linecache
import re
from pathlib import Path

import pytest

from tests.api.support import ON_PINLOOP

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "watching.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)

pytestmark = pytest.mark.skipif(not ON_PINLOOP, reason="the page is about pinloop's loops")


def test_every_example_says_what_it_prints() -> None:
    assert len(EXAMPLES) == PAGE.count("```python\n") == 7


@pytest.mark.parametrize(("program", "output"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(program: str, output: str, no_fd_leak: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PINLOOP_WATCH", "PINLOOP_WATCH_DIR", "PYTHONASYNCIODEBUG"):
        monkeypatch.delenv(name, raising=False)
    if "prometheus_client" in program:
        pytest.importorskip("prometheus_client", reason="the extra `prometheus` is not installed")
    name = f"<example {len(linecache.cache)}>"
    linecache.cache[name] = (len(program), None, program.splitlines(keepends=True), name)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, name, "exec"), {"__name__": "__main__"})
    check = doctest.OutputChecker().check_output
    assert check(output, printed.getvalue(), doctest.ELLIPSIS), (
        f"{printed.getvalue()}\n\ninstead of\n\n{output}"
    )
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([\w-]+\.md)", PAGE):
        assert (DOCS / link).exists(), link
