"""Command line: run a program on pinloop, look at one that runs, or the benchmarks.

python -m pinloop script.py [args]    as `python script.py [args]`, on pinloop
python -m pinloop -m module [args]    as `python -m module [args]`, on pinloop
python -m pinloop -c code [args]      as `python -c code [args]`, on pinloop
python -m pinloop serve module:app    serve an app on every core (see serve --help)
python -m pinloop bench [options]     the performance comparison (see bench --help)
python -m pinloop top [PID]           the loops of running processes, live (see top --help)
python -m pinloop tasks PID           what every task of a running process does
"""

from __future__ import annotations

import builtins
import importlib.machinery
import io
import os
import runpy
import sys
import types
import zipfile

from .runner import install


def main(argv: list[str]) -> int:
    """Do what the arguments say; the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__.strip(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    command, rest = argv[0], argv[1:]
    if command == "bench":
        from .bench import main as bench

        return bench(rest)
    if command == "serve":
        from .serving.command import main as serve

        return serve(rest)
    if command in ("top", "tasks"):
        from . import top

        return (top.main if command == "top" else top.tasks_main)(rest)
    if command in ("-m", "-c") and not rest:
        print(f"pinloop: {command} needs an argument", file=sys.stderr)
        return 2
    if command.startswith("-") and command not in ("-m", "-c"):
        print(f"pinloop: unknown option {command}\n\n{__doc__.strip()}", file=sys.stderr)
        return 2
    install()
    if command == "-m":
        run_module(rest)
    elif command == "-c":
        run_code(rest)
    else:
        return run_script(argv)
    return 0


def run_script(argv: list[str]) -> int:
    """Run a script (or a directory or zip file with a __main__) as the interpreter would."""
    script = argv[0]
    if not os.path.exists(script):
        print(f"pinloop: can't open file {os.path.abspath(script)!r}: no such file", file=sys.stderr)
        return 2
    sys.argv[:] = argv
    if os.path.isdir(script) or zipfile.is_zipfile(script):
        runpy.run_path(script, run_name="__main__")
        return 0
    # Not by runpy, which would put the absolute path into sys.argv and leave sys.path as it was.
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    path = os.path.abspath(script)
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec")
    _run_as_main(code, __file__=path, __loader__=importlib.machinery.SourceFileLoader("__main__", path))
    return 0


def run_module(argv: list[str]) -> None:
    """Run a module as `python -m` would."""
    sys.argv[:] = argv
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd()
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


def run_code(argv: list[str]) -> None:
    """Run a string as `python -c` would."""
    sys.argv[:] = ["-c", *argv[1:]]
    if not sys.flags.safe_path:
        sys.path[0] = ""
    _run_as_main(compile(argv[0], "<string>", "exec"))


def _run_as_main(code: types.CodeType, **attributes: object) -> None:
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__dict__.update(attributes, __builtins__=builtins, __annotations__={})
    exec(code, module.__dict__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
