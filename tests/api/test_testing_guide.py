"""The examples of docs/testing.md run, and print what it says."""

import contextlib
import doctest
import io
import linecache
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "testing.md"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def no_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PINLOOP_SEED", raising=False)


@pytest.fixture
def namespace() -> Iterator[dict[str, Any]]:
    """That of a module, for hypothesis looks at where a test was made."""
    module = types.ModuleType("guide")
    sys.modules["guide"] = module
    yield vars(module)
    del sys.modules["guide"]


def test_the_examples(namespace: dict[str, Any]) -> None:
    blocks = BLOCK.findall(GUIDE.read_text())
    assert [kind for kind, _ in blocks].count("python") == 7
    assert [kind for kind, _ in blocks].count("text") == 4
    printed = ""
    for kind, block in blocks:
        if kind == "python":
            printed = output_of(block, namespace)
        else:
            check = doctest.OutputChecker().check_output
            assert check(block, printed, doctest.ELLIPSIS), f"{printed}\n\ninstead of\n\n{block}"


def output_of(block: str, namespace: dict[str, Any]) -> str:
    """What the block prints, and then the tests that it defines."""
    name = f"<example {len(linecache.cache)}>"
    linecache.cache[name] = (len(block), None, block.splitlines(keepends=True), name)
    known = set(namespace)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(block, name, "exec"), namespace)
        for test in [namespace[name] for name in namespace if name.startswith("test_") and name not in known]:
            for mark in getattr(test, "pytestmark", [pytest.mark.parametrize("", [()]).mark]):
                name, values = mark.args
                for value in values:
                    test(**({name: value} if name else {}))
    return printed.getvalue()
