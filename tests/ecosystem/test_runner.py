"""The runner of the ecosystem's suites, tried on a suite of a few tests made for it."""

import sys
from pathlib import Path

import pytest

import pinloop
from tests.ecosystem.runner import report
from tests.ecosystem.runner.execute import Outcome, Run, Setting, run
from tests.ecosystem.runner.judge import judge
from tests.ecosystem.runner.prepare import Place
from tests.ecosystem.runner.suites import SUITES, Sdist, Suite, named

WHERE_PINLOOP_IS = Path(pinloop.__file__).parent.parent

TESTS = """
import asyncio, os, signal, subprocess, sys
import pytest

LOOP = "import asyncio; loop = asyncio.new_event_loop(); print(type(loop).__module__); loop.close()"

class Thing:
    pass

def kind():
    loop = asyncio.new_event_loop()
    loop.close()
    return type(loop).__module__

def test_passes():
    asyncio.run(asyncio.sleep(0))

def test_only_on_asyncio():
    assert kind().startswith("asyncio")

def test_only_on_pinloop():
    assert kind().startswith("pinloop")

def test_the_class_that_asyncio_names():
    loop = asyncio.SelectorEventLoop()
    loop.close()
    assert type(loop).__module__ == kind()

def test_child_processes():
    said = subprocess.run([sys.executable, "-c", LOOP], capture_output=True, text=True, check=True).stdout
    assert said.split()[-1] == kind()

def test_crashes_on_pinloop():
    if kind().startswith("pinloop"):
        os.kill(os.getpid(), signal.SIGKILL)

def test_is_skipped():
    pytest.skip("for the lack of a reason")

@pytest.mark.xfail
def test_fails_as_expected():
    assert False

def test_is_left_out():
    assert False

@pytest.mark.parametrize("thing", [Thing(), Thing()], ids=repr)
def test_with_an_address_in_its_name(thing):
    pass

@pytest.fixture
def failing_at_the_end():
    yield
    assert False

def test_whose_fixture_fails(failing_at_the_end):
    pass
"""


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    suite = Suite(
        name="tiny",
        version="1",
        source=Sdist("tiny"),
        requirements=(),
        tests=("{WHERE}",),
        deselect={"*::test_is_left_out": "made for that"},
    )
    place = Place(tmp_path, Path(sys.executable), tmp_path / "tree")
    place.tree.mkdir()
    (place.tree / "pytest.ini").write_text("[pytest]\n")
    (place.tree / "test_tiny.py").write_text(TESTS)
    return Setting(suite, place, WHERE_PINLOOP_IS, {"WHERE": "test_tiny.py"})


@pytest.mark.timeout(240)  # eight interpreters that each start pytest
def test_each_test_is_run_on_both_loops_and_compared(setting: Setting) -> None:
    asyncio, ours = run(setting, "asyncio", "first"), run(setting, "pinloop", "first")
    outcomes = {name.partition("::")[2]: test.outcome for name, test in asyncio.tests.items()}
    assert outcomes == {
        "test_passes": "passed",
        "test_only_on_asyncio": "passed",
        "test_only_on_pinloop": "failed",
        "test_the_class_that_asyncio_names": "passed",
        "test_child_processes": "passed",
        "test_crashes_on_pinloop": "passed",
        "test_is_skipped": "skipped",
        "test_fails_as_expected": "xfailed",
        "test_is_left_out": "deselected",
        "test_with_an_address_in_its_name[<test_tiny.Thing object at 0x*>]": "passed",
        "test_with_an_address_in_its_name[<test_tiny.Thing object at 0x*>] #2": "passed",
        "test_whose_fixture_fails": "failed",
    }
    assert asyncio.made["pinloop"] == 0 < asyncio.made["asyncio"]
    assert ours.made["asyncio"] == 0 < ours.made["pinloop"]
    assert asyncio.children == ours.children == 1

    # The crash cost one test, and those after it were run.
    assert set(ours.tests) == set(asyncio.tests)
    assert "SIGKILL" in ours.tests["test_tiny.py::test_crashes_on_pinloop"].why
    verdict = judge(asyncio, ours, lambda loop, label, only: run(setting, loop, label, only))
    assert set(verdict.differ) == {
        "test_tiny.py::test_only_on_asyncio",
        "test_tiny.py::test_crashes_on_pinloop",
    }
    assert not verdict.good
    assert not verdict.trouble
    assert "test_only_on_asyncio" in report.details(verdict)


def result(passed: str = "", failed: str = "", *, loop: str = "asyncio") -> Run:
    tests = {name: Outcome("passed") for name in passed.split()}
    tests |= {name: Outcome("failed", f"E  {name} is bad") for name in failed.split()}
    return Run(tests, made={"asyncio": 0, "pinloop": 0, loop: 1})


def test_what_differs_is_run_again_before_it_counts() -> None:
    later = {
        "asyncio": [result("bad unsteady lost", "flaky"), result("bad unsteady lost flaky")],
        "pinloop": [result("unsteady flaky", "bad"), result("flaky", "unsteady bad")],
    }
    asked = []

    def again(loop: str, label: str, only: set[str]) -> Run:
        asked.append((loop, only))
        return later[loop].pop(0)

    verdict = judge(
        result("good bad unsteady flaky lost", "broken"),
        result("good", "bad unsteady flaky broken", loop="pinloop"),
        again,
    )
    suspects = {"bad", "unsteady", "flaky", "lost"}
    assert asked == [("asyncio", suspects)] * 2 + [("pinloop", suspects)] * 2
    assert set(verdict.differ) == {"bad", "lost"}
    assert set(verdict.unsteady) == {"unsteady"}
    assert set(verdict.flaky) == {"flaky"}


def test_a_run_without_a_loop_of_its_kind_is_no_comparison() -> None:
    def never(loop: str, label: str, only: set[str]) -> Run:
        raise AssertionError("nothing differs")

    assert judge(result("good"), result("good", loop="pinloop"), never).good
    assert not judge(result("good"), result("good"), never).good
    assert not judge(result("good", loop="pinloop"), result("good", loop="pinloop"), never).good
    assert not judge(result(), result(loop="pinloop"), never).good


def test_rows_of_the_document_are_replaced_or_added(tmp_path: Path) -> None:
    document = tmp_path / "ecosystem.md"
    document.write_text(f"before\n{report.BEGIN}\n\n{report.END}\nafter\n")
    for row in (
        ("b", "1", "3.14", "9", "9", "0", "0", "0"),
        ("b", "1", "3.11", "9", "8", "1", "0", "0"),
        ("a", "1", "3.14", "5", "5", "0", "0", "0"),
        ("b", "2", "3.11", "9", "9", "0", "0", "0"),
    ):
        report.write(document, row)
    lines = document.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[-1] == "after"
    assert [line for line in lines if line.startswith(("| a", "| b"))] == [
        "| a | 1 | 3.14 | 5 | 5 | 0 | 0 | 0 |",
        "| b | 2 | 3.11 | 9 | 9 | 0 | 0 | 0 |",
        "| b | 1 | 3.14 | 9 | 9 | 0 | 0 | 0 |",
    ]


def test_suites_are_found_by_name() -> None:
    assert [suite.name for suite in named(["uvicorn", "aiohttp"])] == ["aiohttp", "uvicorn"]
    with pytest.raises(KeyError, match="nonesuch"):
        named(["nonesuch"])


def test_each_suite_says_why_it_leaves_tests_out() -> None:
    assert len({suite.name for suite in SUITES}) == len(SUITES)
    for suite in SUITES:
        assert all(why.strip() for why in [*suite.deselect.values(), *suite.unsupported.values()])
