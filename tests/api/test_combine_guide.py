"""The examples of docs/combine.md and docs/coming-from.md do what the pages say."""

import asyncio
import contextlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {name: (DOCS / name).read_text() for name in ("combine.md", "coming-from.md")}
EXAMPLES = [
    (name, *found)
    for name, text in PAGES.items()
    for found in re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)
]


def test_every_example_says_what_it_prints() -> None:
    for name, text in PAGES.items():
        assert sum(example[0] == name for example in EXAMPLES) == text.count("```python\n") >= 5


@pytest.mark.parametrize(("name", "program", "output"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(
    name: str, program: str, output: str, no_fd_leak: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, name, "exec"), {"__name__": "__main__"})
    assert printed.getvalue() == output
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_links_lead_somewhere() -> None:
    for text in PAGES.values():
        for link in re.findall(r"\]\(([\w-]+\.md)", text):
            assert (DOCS / link).exists(), link
