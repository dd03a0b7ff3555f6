"""The table of loops, and transports that are put on top of one."""

import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from pinloop.bench import loops
from pinloop.bench.errors import BenchError

BOTH = loops.named("uvloop+aiofastnet")


def test_the_parts_of_a_name() -> None:
    assert (BOTH.base, BOTH.module) == ("uvloop", "aiofastnet")
    assert (loops.PINLOOP.base, loops.PINLOOP.module) == ("", "pinloop")


def test_transports_are_made_on_top_of_their_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    below = SimpleNamespace(new_event_loop=lambda: "a loop")
    above = SimpleNamespace(loop_factory=lambda factory: lambda: f"transports on {factory()}")
    monkeypatch.setitem(sys.modules, "uvloop", below)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "aiofastnet", above)  # type: ignore[arg-type]
    assert BOTH.load()() == "transports on a loop"  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("installed", "version"),
    [({"uvloop": "1", "aiofastnet": "2"}, "1+2"), ({"uvloop": "1"}, None), ({"aiofastnet": "2"}, None)],
)
def test_both_parts_must_be_installed(
    installed: dict[str, str], version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops.importlib.util, "find_spec", installed.get)
    monkeypatch.setattr(metadata, "version", installed.__getitem__)
    assert BOTH.version() == version


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(
        BenchError, match=r"unknown loop 'uvloop\+'; known: asyncio, uvloop, uvloop\+aiofastnet"
    ):
        loops.named("uvloop+")
