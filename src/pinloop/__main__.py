"""Command line: run a program on pinloop, or the benchmarks.

python -m pinloop script.py [args]    as `python script.py [args]`, on pinloop
python -m pinloop -m module [args]    as `python -m module [args]`, on pinloop
python -m pinloop -c code [args]      as `python -c code [args]`, on pinloop
python -m pinloop bench [options]     the performance comparison (see bench --help)
"""

from __future__ import annotations

import os
import runpy
import sys

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
    if os.path.isfile(script) and not script.endswith((".zip", ".pyz")):
        # runpy leaves sys.path[0] as it was for a plain file; the interpreter puts the script's folder there.
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    runpy.run_path(script, run_name="__main__")
    return 0


def run_module(argv: list[str]) -> None:
    """Run a module as `python -m` would."""
    sys.argv[:] = argv
    sys.path[0] = os.getcwd()
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


def run_code(argv: list[str]) -> None:
    """Run a string as `python -c` would."""
    sys.argv[:] = ["-c", *argv[1:]]
    sys.path[0] = ""
    exec(compile(argv[0], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
