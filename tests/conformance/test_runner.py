"""The runner of CPython's tests: its skip list, its table, and whose loops the tests get."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.conformance import skips, table

FOLDER = Path(__file__).parent

needs_cpython_tests = pytest.mark.skipif(
    importlib.util.find_spec("test") is None
    or importlib.util.find_spec("test.support") is None
    or importlib.util.find_spec("test.test_asyncio") is None,
    reason="this Python comes without its test package",
)


# ------------------------------------------------------------------- the skip list --


def test_the_skip_list_can_be_read_in_a_minute() -> None:
    text = skips.FILE.read_text("utf-8")
    assert skips.parse(text)
    assert len([line for line in text.splitlines() if line.strip() and not line.startswith("#")]) <= 80


def test_an_entry_has_a_pattern_versions_and_a_reason() -> None:
    (entry,) = skips.parse("# a comment\n\ntest_x.C.test_y  [3.12-3.14]  mocks _selector\n")
    assert entry == skips.Entry("test_x.C.test_y", (3, 12), (3, 14), "mocks _selector")


def test_an_entry_may_name_one_version_or_none() -> None:
    one, every = skips.parse("test_x.C [3.13] why\ntest_x.D why\n")
    assert (one.first, one.last) == ((3, 13), (3, 13))
    assert every.first == (3, 11)


@pytest.mark.parametrize(
    "line", ["test_x.C.test_y", "test_x.C.test_y [3.12]", "test_x why", "test_x.C [3] why"]
)
def test_an_entry_that_is_not_whole_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        skips.parse(line)


def test_an_entry_may_name_settings() -> None:
    one, other = skips.parse("test_x.C [classes 3.13] why\ntest_x.D [classes foreign] why\n")
    assert (one.settings, one.first, one.last) == (("classes",), (3, 13), (3, 13))
    assert (other.settings, other.first) == (("classes", "foreign"), (3, 11))


def test_what_is_skipped_depends_on_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "skip.txt"
    file.write_text("test_x.L why\ntest_x.C [classes foreign] why\ntest_x.D [classes] why\n", "utf-8")
    monkeypatch.setattr(skips, "FILE", file)

    def loaded(setting: str, own_loop: bool) -> list[str]:
        return [each.pattern for each in skips.load(setting, own_loop)]

    assert loaded("default", True) == loaded("asyncio", True) == ["test_x.L"]
    assert loaded("classes", True) == ["test_x.L", "test_x.C", "test_x.D"]
    assert loaded("foreign", False) == ["test_x.C"]


def test_a_class_means_all_its_tests_and_no_other() -> None:
    names = ["test_x.C.test_a", "test_x.C.test_b", "test_x.CD.test_a", "test_y.C.test_a"]
    entries = skips.parse("test_x.C why")
    assert list(skips.matching(entries, names)) == names[:2]


# ----------------------------------------------------------------------- the table --


def test_a_run_changes_its_own_column_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "conformance.md"
    old = {"3.9.1": table.cells({"test_a": table.Counts(5, 0, 2), "test_gone": table.Counts(1)})}
    file.write_text(f"{table.HEAD}\n{table.render(old)}{table.TAIL}", "utf-8")
    monkeypatch.setattr(table, "this_python", lambda: "{}.{}.0".format(*sys.version_info))
    table.update(file, {"test_a": table.Counts(1, 1, 1)})
    monkeypatch.setattr(table, "this_python", lambda: "{}.{}.7".format(*sys.version_info))
    table.update(file, {"test_a": table.Counts(7, 0, 1, left_out=3, on_pinloop=6)})
    columns = table.parse(file.read_text("utf-8"))
    assert columns.pop("3.9.1") == old["3.9.1"]
    ((version, column),) = columns.items()
    assert version.endswith(".7")
    assert column["test_a"] == "7 / 0 / 1"
    assert column["*left themselves out*"] == "3"


def test_each_setting_has_a_table_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "conformance.md"
    table.update(file, {"test_a": table.Counts(1)})
    table.update(file, {"test_a": table.Counts(2)}, "With that", "What it is.")
    table.update(file, {"test_a": table.Counts(3)}, "With this", "What this is.")
    before = file.read_text("utf-8")
    table.update(file, {"test_a": table.Counts(4)}, "With that", "What it is.")
    after = file.read_text("utf-8")
    assert after == before.replace("2 / 0 / 0", "4 / 0 / 0")
    assert [line for line in after.splitlines() if line.startswith(("## ", "| test_a"))] == [
        "| test_a | 1 / 0 / 0 |",
        "## With that", "| test_a | 4 / 0 / 0 |",
        "## With this", "| test_a | 3 / 0 / 0 |",
    ]  # fmt: skip
    table.update(file, {"test_a": table.Counts(1)})
    assert file.read_text("utf-8") == after


# ------------------------------------------------------------------ whose loops --


def run_child(code: str) -> str:
    """The output of code that has the runner's child process at hand, before it changed anything."""
    program = f"import sys; sys.path.insert(0, {str(FOLDER)!r})\n" + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_cpython_tests
def test_the_streams_are_pinloops_where_the_setting_says_so() -> None:
    code = """
        import asyncio, asyncio.streams, child, settings
        child.setting = settings.ALL["{}"]
        child.substitute()
        names = [(module, name) for module in (asyncio, asyncio.streams) for name in asyncio.streams.__all__]
        print(*sorted({{getattr(module, name).__module__ for module, name in names}}))
    """
    assert run_child(code.format("streams")).split() == ["pinloop._streams"]
    assert run_child(code.format("default")).split() == ["asyncio.streams"]


@needs_cpython_tests
def test_every_way_to_a_loop_leads_to_pinloop() -> None:
    assert run_child("""
        import asyncio, asyncio.events, selectors
        import child
        child.substitute()
        from asyncio import SelectorEventLoop
        from test.test_asyncio import utils
        ways = [
            asyncio.new_event_loop, asyncio.events.new_event_loop, SelectorEventLoop,
            lambda: SelectorEventLoop(selectors.SelectSelector()), asyncio.BaseEventLoop,
            lambda: asyncio.Runner().get_loop(), utils.TestLoop,
        ]
        for way in ways:
            loop = way()
            assert isinstance(loop, child.pinloop.Loop), way
            loop.close()
        assert child.made == {"pinloop": len(ways), "stdlib": 0}, child.made
        print("ok")
    """).endswith("ok\n")


@needs_cpython_tests
def test_a_loop_of_the_stdlib_is_noticed() -> None:
    assert run_child("""
        import asyncio.unix_events
        native = asyncio.unix_events.SelectorEventLoop
        import io, json, unittest
        import child
        child.substitute()

        class Test(unittest.TestCase):
            def test_own(self): asyncio.new_event_loop().close()
            def test_native(self): native().close()

        file = io.StringIO()
        unittest.defaultTestLoader.loadTestsFromTestCase(Test).run(child.Report(file))
        lines = [json.loads(line) for line in file.getvalue().splitlines()]
        print(*(f"{line['test'].rpartition('.')[2]}: {line['outcome']}" for line in lines))
    """).endswith("test_native: failed test_own: passed\n")


@needs_cpython_tests
def test_the_test_loop_keeps_virtual_time() -> None:
    assert run_child("""
        import asyncio
        import child

        def times():
            when = yield
            assert abs(when - 100) < 1e-9
            yield 100

        loop = child.TestLoop(times)
        loop.run_until_complete(asyncio.sleep(100))
        assert loop.time() == 100
        loop.close()
        print("ok")
    """).endswith("ok\n")


@needs_cpython_tests
def test_the_runner_runs_a_module_and_keeps_its_log(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER), "--logs", str(tmp_path), "test_context"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_context" in done.stdout
    assert "1 made a pinloop loop" in done.stdout
    assert (tmp_path / "test_context.log").exists()


# ------------------------------------------------------------ whose tasks and futures --


@needs_cpython_tests
def test_the_names_of_tasks_and_futures_lead_to_pinloops() -> None:
    assert run_child("""
        import asyncio
        import child, classes, settings
        child.setting = settings.ALL["classes"]
        child.substitute()
        from test.test_asyncio import test_futures, test_tasks
        import pinloop
        assert test_futures.CFutureTests.cls is pinloop.Future
        assert issubclass(test_futures.CSubFutureTests.cls, pinloop.Future)
        assert test_tasks.CTask_CFuture_Tests.Task is pinloop.Task is asyncio.Task
        assert test_tasks.CTask_CFuture_Tests.Future is pinloop.Future is asyncio.Future
        assert classes.is_about(test_tasks.CTask_PyFuture_Tests, "pinloop")
        assert not classes.is_about(test_tasks.PyTask_PyFuture_Tests, "pinloop")
        print("ok")
    """).endswith("ok\n")


@needs_cpython_tests
@pytest.mark.parametrize(("setting", "own_loop"), [("classes", True), ("foreign", False), ("asyncio", True)])
def test_each_setting_has_its_loop_and_its_classes(setting: str, own_loop: bool) -> None:
    assert run_child(f"""
        import asyncio
        import child, classes, settings
        child.setting = settings.ALL[{setting!r}]
        child.substitute()
        import pinloop
        loop = asyncio.new_event_loop()
        assert isinstance(loop, pinloop.Loop) is {own_loop}
        task = loop.create_task(asyncio.sleep(0))
        assert (type(task), type(loop.create_future())) == classes.promised(child.setting.tasks)
        assert set(classes.seen) == set(classes.promised(child.setting.tasks)) and not classes.wrong
        loop.run_until_complete(task)
        loop.close()
        print("ok")
    """).endswith("ok\n")


@needs_cpython_tests
def test_a_task_of_the_wrong_class_is_noticed() -> None:
    assert run_child("""
        import asyncio, io, json, unittest
        import child, classes
        child.substitute()

        class Test(unittest.TestCase):
            def test_wrong(self):
                future = asyncio.futures._PyFuture(loop=asyncio.new_event_loop())
                classes.saw(future, "pinloop").get_loop().close()

        file = io.StringIO()
        unittest.defaultTestLoader.loadTestsFromTestCase(Test).run(child.Report(file))
        line = json.loads(file.getvalue())
        print(line["outcome"], line["why"])
    """).startswith("failed got asyncio.futures.Future where another class is promised")


@needs_cpython_tests
def test_a_module_that_meets_none_of_the_classes_fails(tmp_path: Path) -> None:
    """asyncio's Python classes in place of ours: none of the loop's objects is of them."""
    done = subprocess.run(
        [sys.executable, str(FOLDER), "--setting", "default", "test_threads"],
        capture_output=True, text=True, timeout=50, check=False,
        env=os.environ | {"PINLOOP_CONFORMANCE_STAND_IN": "1"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "no test met a task or future of this setting's" in done.stdout


@needs_cpython_tests
def test_the_names_of_queues_locks_and_timeouts_lead_to_pinloops() -> None:
    assert run_child("""
        import asyncio
        import child, settings
        theirs = {name: getattr(asyncio, name) for names in child.SYNC.values() for name in names}
        assert set(theirs) == {
            *set(asyncio.locks.__all__) - {"Condition", "Barrier"},
            *(name for name in asyncio.queues.__all__ if name.endswith("Queue")),
            *asyncio.timeouts.__all__,
        }
        child.setting = settings.ALL["sync"]
        child.substitute()
        import pinloop
        for name in theirs:
            assert getattr(asyncio, name) is getattr(pinloop, name) is not theirs[name]
        for home, names in child.SYNC.items():
            assert all(getattr(home, name) is getattr(pinloop, name) for name in names)

        async def main():
            assert type(asyncio.Condition()._lock) is pinloop.Lock

        asyncio.run(main())
        print("ok")
    """).endswith("ok\n")
