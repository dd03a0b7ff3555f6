"""The examples of the guides to workers do what the pages say, each as a program."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workers.conftest import needs_dask

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = {"workers.md": 8, "serve.md": 1, "deployment.md": 1, "dask.md": 1}
"""How many programs each page has that print something."""

PAGES = {name: (DOCS / name).read_text() for name in EXAMPLES}
PROGRAM = re.compile(r"```python\n((?:(?!```).)*?)```\n\n```text\n(.*?)```", re.DOTALL)


NO_LOADER = "ignore:Module globals is missing a __spec__.loader:DeprecationWarning"
"""From 3.15 on linecache says so of a main module that multiprocessing has run."""


@pytest.mark.parametrize("name", PAGES)
def test_examples_say_what_they_print(name: str) -> None:
    assert len(PROGRAM.findall(PAGES[name])) == PAGES[name].count("```text\n") == EXAMPLES[name]


@pytest.mark.parametrize("name", PAGES)
def test_all_python_can_be_compiled(name: str) -> None:
    for program in re.findall(r"```python\n(.*?)```", PAGES[name], re.DOTALL):
        compile(program, name, "exec")


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize(
    ("program", "output"),
    [
        pytest.param(*found, id=f"{name}-{number}", marks=[needs_dask] if name == "dask.md" else [])
        for name, text in PAGES.items()
        for number, found in enumerate(PROGRAM.findall(text))
    ],
)
def test_example(program: str, output: str, tmp_path: Path) -> None:
    file = tmp_path / "example.py"  # processes import it
    file.write_text(program)
    command = [sys.executable, "-W", "error", "-W", NO_LOADER, str(file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert doctest.OutputChecker().check_output(output, done.stdout, doctest.ELLIPSIS), done.stdout


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    page = PAGES[name]
    for link in re.findall(r"\]\(([\w./-]+\.(?:md|py))", page):
        assert (DOCS / link).exists(), link
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
        for line in page.splitlines()
        if line.startswith("#")
    }
    for anchor in re.findall(r"\]\(#([\w-]+)\)", page):
        assert anchor in headings, anchor
