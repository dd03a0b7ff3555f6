"""The checks as nox sessions, for those who have many Pythons at hand. Each is a call of make."""

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]

nox.options.sessions = ["tests", "lint", "typing", "wheel_smoke"]
nox.options.default_venv_backend = "none"


def make(session: nox.Session, target: str, version: str | None = None) -> None:
    arguments = [f"PYTHON=python{version}"] if version else []
    session.run("make", target, *arguments, *session.posargs, external=True)


@nox.session
@nox.parametrize("version", PYTHONS)
def tests(session: nox.Session, version: str) -> None:
    """The suite on one Python: nox -s 'tests(version="3.14")'."""
    make(session, "test", version)


@nox.session
@nox.parametrize("version", PYTHONS)
def conformance(session: nox.Session, version: str) -> None:
    """CPython's own asyncio tests on one Python."""
    make(session, "conformance", version)


@nox.session
def lint(session: nox.Session) -> None:
    make(session, "ruff")
    make(session, "cython-lint")


@nox.session
def typing(session: nox.Session) -> None:
    make(session, "mypy")


@nox.session
@nox.parametrize("version", PYTHONS)
def wheel_smoke(session: nox.Session, version: str) -> None:
    make(session, "smoke", version)


@nox.session
def sanitize(session: nox.Session) -> None:
    make(session, "sanitize")


@nox.session
def ecosystem(session: nox.Session) -> None:
    """The suites of others: nox -s ecosystem -- SUITES="uvicorn websockets"."""
    make(session, "ecosystem")
