"""The fixtures of these tests beside those of tests/conftest.py."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def quick_collections() -> Iterator[None]:
    """Keeps the collector from going through all imported modules two or three times a test."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
