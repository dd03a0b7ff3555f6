"""The programs of `benchmarks/` import one another as they do when they are run: from their own folder."""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

if os.environ.get("PYTHONASYNCIODEBUG"):
    collect_ignore_glob = ["test_*.py"]  # nobody measures in debug mode

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a program by its name."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    return importlib.import_module
