"""The examples of docs/channels.md and docs/select.md do what the pages say."""

import contextlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {"channels.md": 5, "select.md": 3}
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
EXAMPLES = [
    pytest.param(*example, id=f"{page}-{i}")
    for page in PAGES
    for i, example in enumerate(EXAMPLE.findall((DOCS / page).read_text()))
]


def test_every_example_says_what_it_prints() -> None:
    for page, count in PAGES.items():
        text = (DOCS / page).read_text()
        assert len(EXAMPLE.findall(text)) == text.count("```python\n") == count


@pytest.mark.parametrize(("program", "output"), EXAMPLES)
def test_example(program: str, output: str, no_fd_leak: None) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "example", "exec"), {"__name__": "__main__"})
    assert printed.getvalue() == output
