"""What is told of an error, whatever it takes to tell it."""

import traceback
import warnings
from typing import Any, NoReturn

import pytest

from pinloop.workers.errors import traceback_of


def raised() -> LookupError:
    try:
        raise LookupError("nothing there")
    except LookupError as error:
        return error


def test_a_traceback() -> None:
    text = traceback_of(raised())
    assert text.endswith("LookupError: nothing there\n") and "in raised" in text


def test_warnings_that_are_errors_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a main module which was run by its path, from Python 3.15 on."""
    formatted = traceback.format_exception

    def warned(error: BaseException) -> list[str]:
        warnings.warn("no __spec__.loader", DeprecationWarning, stacklevel=2)
        return formatted(error)

    monkeypatch.setattr(traceback, "format_exception", warned)
    assert "in raised" in traceback_of(raised())


def test_one_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> NoReturn:
        raise ValueError

    monkeypatch.setattr(traceback, "format_exception", refuse)
    assert traceback_of(raised()) == "LookupError: nothing there\n"
