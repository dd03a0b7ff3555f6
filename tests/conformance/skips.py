"""The skip list, `skip.txt`: CPython's tests that can only be run on the stdlib's own loop or classes."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("skip.txt")


@dataclass(frozen=True)
class Entry:
    """A line of the list."""

    pattern: str  # of module.Class.test, with the wildcards of fnmatch
    first: tuple[int, int]  # the versions of Python that have such a test
    last: tuple[int, int]
    reason: str
    settings: tuple[str, ...] = ()  # those in which it counts; none: all with pinloop's loop


def parse(text: str) -> list[Entry]:
    """The entries of a list.  Raises ValueError for a line without a reason, or that is no entry at all."""
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split(maxsplit=1)
        versions, named = "3.11-3.99", []
        if len(fields) == 2 and fields[1].startswith("["):
            limits, _, reason = fields[1][1:].partition("]")
            for limit in limits.split():
                if limit[0].isdigit():
                    versions = limit
                else:
                    named.append(limit)
            fields[1] = reason.strip()
        if len(fields) != 2 or not fields[1] or fields[0].count(".") < 1:
            raise ValueError(f"skip list, line {number}: not `module.Class.test [versions] reason`: {line!r}")
        first, _, last = versions.partition("-")
        entries.append(Entry(fields[0], _version(first), _version(last or first), fields[1], tuple(named)))
    return entries


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def load(setting: str = "default", own_loop: bool = True) -> list[Entry]:
    """The entries of the list that count in a setting, on this version of Python."""
    version = sys.version_info[:2]
    return [
        each
        for each in parse(FILE.read_text("utf-8"))
        if each.first <= version <= each.last and (setting in each.settings if each.settings else own_loop)
    ]


def of_module(module: str, entries: Iterable[Entry]) -> list[Entry]:
    """Those about the tests of one module."""
    return [each for each in entries if each.pattern.partition(".")[0] == module]


def matches(pattern: str, name: str) -> bool:
    """Whether a test's name is meant: a class means all its tests."""
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")


def matching(entries: Iterable[Entry], names: Iterable[str]) -> dict[str, str]:
    """The names that are to be skipped, and by which pattern."""
    entries = list(entries)
    found = {}
    for name in names:
        for entry in entries:
            if matches(entry.pattern, name):
                found[name] = entry.pattern
                break
    return found
