"""`python -m pinloop`: runs what `python` would run, on pinloop."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.api.support import environment, python

pytestmark = pytest.mark.skipif(
    os.environ.get("PINLOOP_TEST_LOOP") == "asyncio", reason="tests pinloop's command line"
)

# What a program can see of how it was started.
FACTS = """
import asyncio, json, sys
import __main__

async def loop_type():
    loop = asyncio.get_running_loop()
    return f"{type(loop).__module__}.{type(loop).__name__}"

class Here:
    pass

facts = {
    "argv": sys.argv,
    "name": __name__,
    "file": globals().get("__file__"),
    "spec": getattr(globals().get("__spec__"), "name", None),
    "doc": __doc__,
    "main is here": getattr(__main__, "Here", None) is Here,
    "module of a class": Here.__module__,
    "sys.path": sys.path,
}
print(json.dumps(facts))
print(asyncio.run(loop_type()))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "script.py"
    path.parent.mkdir()
    path.write_text(f'"""The docstring."""\n{FACTS}')
    (path.parent / "neighbour.py").write_text("print('neighbour', __name__)\n")
    return path


def facts(done: "subprocess.CompletedProcess[str]") -> tuple[dict[str, Any], str]:
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    seen: dict[str, Any] = json.loads(lines[0])
    return seen, lines[1]


def assert_same(*args: str, cwd: Path, before: tuple[str, ...] = ()) -> None:
    """With pinloop a program sees what it sees without, but for the loop."""
    plain, asyncio_loop = facts(python(*before, *args, cwd=cwd))
    ours, our_loop = facts(python(*before, "-m", "pinloop", *args, cwd=cwd))
    assert ours == plain
    assert our_loop == "pinloop._loop.Loop"
    assert "pinloop" not in asyncio_loop


# ------------------------------------------------------------------------------- a script --


def test_a_script_sees_what_it_would_see(script: Path) -> None:
    assert_same(str(script), "one", "--two", "-m", cwd=script.parent.parent)


def test_a_script_given_by_a_relative_path_sees_what_it_would_see(script: Path) -> None:
    assert_same("folder/script.py", cwd=script.parent.parent)


def test_a_script_in_the_current_folder_sees_what_it_would_see(script: Path) -> None:
    assert_same("script.py", "arg", cwd=script.parent)


def test_a_script_behind_a_link_sees_what_it_would_see(script: Path) -> None:
    link = script.parent.parent / "link.py"
    link.symlink_to(script)
    assert_same("link.py", cwd=link.parent)


@pytest.mark.parametrize("what", ["script", "code", "module"])
def test_safe_path_is_kept(script: Path, what: str) -> None:
    args = {"script": [str(script)], "code": ["-c", FACTS], "module": ["-m", "script"]}[what]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(script.parent)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        assert_same(*args, cwd=script.parent.parent, before=("-P",))


def test_a_script_imports_its_neighbours(script: Path) -> None:
    script.write_text("import neighbour\n")
    assert python("-m", "pinloop", str(script), cwd="/").stdout == "neighbour neighbour\n"


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_folder_or_a_zip_file_with_a_main_runs(tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        target = tmp_path / "program"
        target.mkdir()
        (target / "__main__.py").write_text(FACTS)
    else:
        target = tmp_path / "program.zip"
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("__main__.py", FACTS)
    done = python("-m", "pinloop", str(target), "arg", cwd=tmp_path)
    seen, loop = facts(done)
    assert seen["argv"] == [str(target), "arg"]
    assert seen["name"] == "__main__"
    assert seen["sys.path"][0] == str(target)
    assert loop == "pinloop._loop.Loop"


def test_a_script_reads_standard_input(script: Path) -> None:
    script.write_text("print(input()[::-1])\n")
    assert python("-m", "pinloop", str(script), stdin="hello\n").stdout == "olleh\n"


def test_what_a_script_leaves_for_the_end_runs_at_the_end(script: Path) -> None:
    script.write_text(
        "import atexit, threading, time\n"
        "VALUE = 42\n"
        "def late(): time.sleep(0.05); print('thread', VALUE)\n"
        "def last(): print('atexit', VALUE)\n"
        "atexit.register(last)\n"
        "threading.Thread(target=late).start()\n"
        "print('end of script')\n"
    )
    done = python("-m", "pinloop", str(script))
    assert (done.stdout, done.stderr) == ("end of script\nthread 42\natexit 42\n", "")


def test_a_script_may_start_processes_that_import_it(script: Path) -> None:
    script.write_text(
        "import multiprocessing\n"
        "def double(n): return 2 * n\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(double, [1, 2]))\n"
        "        pool.close()\n"
        "        pool.join()\n"
    )
    done = python("-m", "pinloop", "script.py", cwd=script.parent)
    assert (done.stdout, done.stderr) == ("[2, 4]\n", "")


def test_a_class_of_a_script_can_be_pickled(script: Path) -> None:
    script.write_text(
        "import pickle\nclass Thing: pass\nprint(type(pickle.loads(pickle.dumps(Thing()))) is Thing)\n"
    )
    done = python("-m", "pinloop", str(script))
    assert (done.stdout, done.stderr) == ("True\n", "")


# ---------------------------------------------------------------------------- exit status --

ENDS = {
    "returns": "print('done')",
    "sys.exit()": "import sys; sys.exit()",
    "sys.exit(0)": "import sys; sys.exit(0)",
    "sys.exit(3)": "import sys; sys.exit(3)",
    "sys.exit(text)": "import sys; sys.exit('the reason')",
    "exception": "def inner():\n    raise ZeroDivisionError('mine')\ninner()",
    "exception in a task": "import asyncio\nasync def main():\n    int('mine')\nasyncio.run(main())",
    "exit in a task": "import asyncio, sys\nasync def main():\n    sys.exit(5)\nasyncio.run(main())",
    "syntax error": "print('never'\n",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_script_ends_with_the_same_status_and_last_words(script: Path, end: str) -> None:
    script.write_text(ENDS[end])
    plain, ours = python(str(script)), python("-m", "pinloop", str(script))
    assert ours.returncode == plain.returncode
    assert ours.stdout == plain.stdout
    assert ours.stderr.splitlines()[-1:] == plain.stderr.splitlines()[-1:]


def test_a_traceback_shows_the_scripts_lines(script: Path) -> None:
    script.write_text(ENDS["exception"])
    err = python("-m", "pinloop", str(script)).stderr
    assert f'File "{script}", line 3, in <module>' in err
    assert f'File "{script}", line 2, in inner' in err
    assert err.endswith("ZeroDivisionError: mine\n")


def test_ctrl_c_ends_a_script_as_it_would(script: Path) -> None:
    script.write_text(
        "import asyncio\n"
        "async def main():\n"
        "    print('running', flush=True)\n"
        "    try:\n"
        "        await asyncio.sleep(3600)\n"
        "    finally:\n"
        "        print('cleaned up', flush=True)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pinloop", str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert out == "cleaned up\n"
    assert err.endswith("KeyboardInterrupt\n")
    assert process.returncode == -signal.SIGINT


def test_a_script_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    plain = python(str(tmp_path / "nonesuch.py"))
    ours = python("-m", "pinloop", str(tmp_path / "nonesuch.py"))
    assert ours.returncode == plain.returncode == 2
    assert ours.stdout == ""
    assert "can't open file" in ours.stderr
    assert str(tmp_path / "nonesuch.py") in ours.stderr
    assert "Traceback" not in ours.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_script_that_may_not_be_read_is_said_so(script: Path) -> None:
    script.chmod(0)
    done = python("-m", "pinloop", str(script))
    assert done.returncode != 0
    assert "Permission denied" in done.stderr


# ------------------------------------------------------------------------- modules and code --


def test_a_module_sees_what_it_would_see(tmp_path: Path) -> None:
    (tmp_path / "a_module.py").write_text(FACTS)
    assert_same("-m", "a_module", "one", "-c", cwd=tmp_path)


def test_a_package_sees_what_it_would_see(tmp_path: Path) -> None:
    package = tmp_path / "a_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(FACTS)
    assert_same("-m", "a_package", "arg", cwd=tmp_path)


def test_a_module_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    done = python("-m", "pinloop", "-m", "no_such_module", cwd=tmp_path)
    assert done.returncode == 1
    assert "No module named no_such_module" in done.stderr


def test_code_sees_what_it_would_see(tmp_path: Path) -> None:
    assert_same("-c", FACTS, "one", "-m", cwd=tmp_path)


def test_code_that_raises_ends_with_status_1(tmp_path: Path) -> None:
    done = python("-m", "pinloop", "-c", "raise ZeroDivisionError('mine')", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: mine\n")


# -------------------------------------------------------------------------- the command line --


def test_without_arguments_it_says_how_to_use_it() -> None:
    done = python("-m", "pinloop")
    assert (done.returncode, done.stdout) == (2, "")
    assert "python -m pinloop script.py" in done.stderr


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_says_how_to_use_it(option: str) -> None:
    done = python("-m", "pinloop", option)
    assert (done.returncode, done.stderr) == (0, "")
    assert "python -m pinloop script.py" in done.stdout


def test_an_unknown_option_is_said_so() -> None:
    done = python("-m", "pinloop", "--nonesuch", "script.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown option --nonesuch" in done.stderr


@pytest.mark.parametrize("option", ["-m", "-c"])
def test_an_option_without_its_argument_is_said_so(option: str) -> None:
    done = python("-m", "pinloop", option)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{option} needs an argument" in done.stderr
