"""The parts of `pinloop.bench` that a measured process needs, without the rest of pinloop.

Importing pinloop changes functions of asyncio, which another loop's figures must not contain; the package of
the benchmark is therefore imported under a private name, as its own `child.py` does it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def _import_bench(name: str) -> ModuleType:
    found = importlib.util.find_spec("pinloop")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "bench"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAME = "_pinloop_bench"


def part(name: str) -> ModuleType:
    """A module of the benchmark's package."""
    if NAME not in sys.modules:
        _import_bench(NAME)
    return importlib.import_module(f"{NAME}.{name}")


cells, loops = part("cells"), part("loops")
part("cells_sync")  # enters its cells in those of `cells`
