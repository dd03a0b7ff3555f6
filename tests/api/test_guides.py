"""The examples of the guides do what the pages say, in virtual time: a busy machine changes nothing."""

import asyncio
import contextlib
import io
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import pinloop
from pinloop import testing

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = {
    "channels.md": 5,
    "combine.md": 6,
    "coming-from.md": 6,
    "pipelines.md": 6,
    "scopes.md": 7,
    "select.md": 3,
}
"""How many each page has; those of sync.md and testing.md have tests of their own."""

PAGES = {name: (DOCS / name).read_text() for name in EXAMPLES}
PROGRAM = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("name", PAGES)
def test_every_example_says_what_it_prints(name: str) -> None:
    assert len(PROGRAM.findall(PAGES[name])) == PAGES[name].count("```python\n") == EXAMPLES[name]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([\w-]+\.md)", PAGES[name]):
        assert (DOCS / link).exists(), link


def run_virtually(main: Coroutine[Any, Any, Any], **options: Any) -> Any:
    with asyncio.Runner(loop_factory=testing.new_event_loop) as runner:
        return runner.run(main)


@pytest.mark.parametrize(
    ("program", "output"),
    [
        pytest.param(*found, id=f"{name}-{number}")
        for name, text in PAGES.items()
        for number, found in enumerate(PROGRAM.findall(text))
    ],
)
def test_example(program: str, output: str, no_fd_leak: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinloop, "run", run_virtually)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "example", "exec"), {"__name__": "__main__"})
    assert printed.getvalue() == output
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
