"""The table of event loops: how each is found, and how it makes a loop."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from asyncio import AbstractEventLoop
from collections.abc import Callable
from dataclasses import dataclass

from .errors import BenchError


@dataclass(frozen=True)
class Loop:
    """One event loop: its module offers `factory`, its distribution on PyPI has the name of the module.

    A name `base+module` stands for transports that `module` puts on top of the loop `base`: it makes the
    factory from that of the base.
    """

    name: str
    factory: str = "new_event_loop"
    homepage: str = ""

    @property
    def base(self) -> str:
        """The loop that runs below, if this is one with other transports."""
        return self.name.rpartition("+")[0]

    @property
    def module(self) -> str:
        """The module that offers the factory."""
        return self.name.rpartition("+")[2]

    def version(self) -> str | None:
        """The installed version, or None if there is none. The loop is not imported: some patch asyncio."""
        if self.base:
            below, above = named(self.base).version(), Loop(self.module).version()
            return f"{below}+{above}" if below and above else None
        if self.name == "asyncio":
            return platform.python_version()
        if importlib.util.find_spec(self.name) is None:
            return None
        # Here, because every measured process imports this module and none of them needs the metadata.
        from importlib import metadata

        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return "unknown"

    def load(self) -> Callable[[], AbstractEventLoop]:
        """Import the loop and return its factory. Raises whatever the import raises."""
        offered = getattr(importlib.import_module(self.module), self.factory)
        factory: Callable[[], AbstractEventLoop] = offered(named(self.base).load()) if self.base else offered
        return factory


ASYNCIO = Loop("asyncio", homepage="https://docs.python.org/3/library/asyncio.html")
PINLOOP = Loop("pinloop")
LOOPS = (
    ASYNCIO,
    Loop("uvloop", homepage="https://github.com/MagicStack/uvloop"),
    Loop("uvloop+aiofastnet", "loop_factory", homepage="https://github.com/aio-libs/aiofastnet"),
    Loop("rloop", homepage="https://github.com/gi0baro/rloop"),
    Loop("rsloop", homepage="https://github.com/RustedBytes/rsloop"),
    Loop("zuvloop", homepage="https://pypi.org/project/zuvloop/"),
    Loop("zloop", homepage="https://pypi.org/project/zloop/"),
    Loop("blazio", homepage="https://github.com/lalinsky/blazio"),
    PINLOOP,
)
NAMES = tuple(loop.name for loop in LOOPS)

FLOOR = "C floor"
"""The name under which the bare C server stands among the loops."""


def named(name: str) -> Loop:
    """The loop of that name; raises `BenchError` that lists the known ones."""
    for loop in LOOPS:
        if loop.name == name:
            return loop
    raise BenchError(f"unknown loop {name!r}; known: {', '.join(NAMES)}")


def installed() -> dict[str, str]:
    """Name and version of each installed loop, in the order of the table."""
    return {loop.name: version for loop in LOOPS if (version := loop.version()) is not None}


def select(names: list[str] | None) -> dict[str, str]:
    """Name and version of the loops asked for, or of all installed ones for None.

    Raises `BenchError` for a name that is unknown or not installed.
    """
    if names is None:
        return installed()
    chosen = {}
    for loop in map(named, names):
        version = loop.version()
        if version is None:
            raise BenchError(f"{loop.name} is not installed (installed: {', '.join(installed())})")
        chosen[loop.name] = version
    return chosen
