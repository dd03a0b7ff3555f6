"""The stub of the native module has what the module has: names, docstrings, kinds."""

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pinloop
from pinloop import _core

STUB = Path(pinloop.__file__).with_name("_core.pyi")

# Not for anyone outside the module.
INTERNAL = {"Spelled", "describe_callback", "describe_future", "where_called"}

Definition = ast.ClassDef | ast.FunctionDef | ast.AnnAssign


def definitions(body: list[ast.stmt]) -> Iterator[tuple[str, Definition]]:
    """The names that these statements define on this version of Python."""
    for node in body:
        if isinstance(node, ast.If):
            holds = eval(ast.unparse(node.test), {"sys": sys})
            yield from definitions(node.body if holds else node.orelse)
        elif isinstance(node, ast.FunctionDef) and any(
            "setter" in ast.unparse(d) for d in node.decorator_list
        ):
            continue  # the getter has the docstring
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node


def entries() -> dict[str, tuple[Definition, Any]]:
    """Everything in the stub by its dotted name, and its counterpart in the module (None: there is none)."""
    found: dict[str, tuple[Definition, Any]] = {}
    module = ast.parse(STUB.read_text())
    for name, node in definitions(module.body):
        if isinstance(node, ast.AnnAssign) or any(
            "type_check_only" in ast.unparse(d) for d in node.decorator_list
        ):
            continue
        counterpart = getattr(_core, name, None)
        found[name] = (node, counterpart)
        if isinstance(node, ast.ClassDef):
            for member, definition in definitions(node.body):
                found[f"{name}.{member}"] = (definition, vars(counterpart).get(member))
    return found


ENTRIES = entries()


@pytest.mark.parametrize("name", ENTRIES)
def test_what_the_stub_has_is_in_the_module(name: str) -> None:
    assert ENTRIES[name][1] is not None


@pytest.mark.parametrize("name", [name for name in ENTRIES if not name.endswith("__")])
def test_the_docstring_of_the_stub_is_the_modules(name: str) -> None:
    node, counterpart = ENTRIES[name]
    text = counterpart.__doc__
    docstring = None if isinstance(node, ast.AnnAssign) else ast.get_docstring(node)
    assert docstring == (inspect.cleandoc(text) if isinstance(text, str) else None)


def test_the_docstring_of_the_module_is_the_stubs() -> None:
    assert ast.get_docstring(ast.parse(STUB.read_text())) == inspect.cleandoc(_core.__doc__ or "")


@pytest.mark.parametrize(
    "name", [name for name, (node, _) in ENTRIES.items() if isinstance(node, ast.ClassDef)]
)
def test_a_class_has_the_bases_that_the_stub_says(name: str) -> None:
    node, cls = ENTRIES[name]
    assert isinstance(node, ast.ClassDef)
    # Generic is for type checkers alone.
    stub = [ast.unparse(base).partition("[")[0] for base in node.bases]
    stub = [base for base in stub if base != "Generic"]
    assert stub == [base.__name__ for base in cls.__bases__ if base is not object]


def test_what_is_public_in_the_module_is_in_the_stub() -> None:
    public = {
        name
        for name, value in vars(_core).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == "pinloop._core"
    }
    assert public - ENTRIES.keys() == INTERNAL


@pytest.mark.parametrize(
    "name", [name for name, (node, _) in ENTRIES.items() if isinstance(node, ast.ClassDef)]
)
def test_what_is_public_in_a_class_is_in_the_stub(name: str) -> None:
    public = {f"{name}.{member}" for member in vars(ENTRIES[name][1]) if not member.startswith("_")}
    assert public - ENTRIES.keys() == set()
