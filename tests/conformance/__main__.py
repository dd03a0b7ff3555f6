"""Run CPython's own asyncio tests on pinloop: `python tests/conformance`, or `make conformance`.

Exits with 1 if a test failed, a module did not come to its end, the skip list has an entry that no test
of this version of Python answers to, or no test of a module met the classes for whose sake it is run.
`settings.py` has the settings, a pass each. `--write FILE` puts the counts into this version's column of the
tables, see `table.py`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import settings
import table
from settings import Setting

CHILD = Path(__file__).with_name("child.py")

# Where a loop's behaviour shows. Not: test_selector_events, test_proactor_events and test_windows_*, which
# are unit tests of the stdlib's loops; test_protocols and test_transports, which have no loop; test_tools,
# which is about a debugger.
MODULES = [
    "test_base_events",
    "test_buffered_proto",
    "test_context",
    "test_eager_task_factory",
    "test_events",
    "test_free_threading",
    "test_futures",
    "test_futures2",
    "test_graph",
    "test_locks",
    "test_pep492",
    "test_queues",
    "test_runners",
    "test_sendfile",
    "test_server",
    "test_server_context",
    "test_sock_lowlevel",
    "test_ssl",
    "test_sslproto",
    "test_staggered",
    "test_streams",
    "test_subprocess",
    "test_taskgroups",
    "test_tasks",
    "test_threads",
    "test_timeouts",
    "test_unix_events",
    "test_waitfor",
]

# The long ones first, so that they do not run alone at the end.
LONG = ["test_ssl", "test_tasks", "test_sslproto", "test_sendfile", "test_events", "test_subprocess"]


@dataclass
class Result:
    """What became of one module in one setting."""

    module: str
    setting: Setting
    counts: table.Counts = field(default_factory=table.Counts)
    failures: dict[str, str] = field(default_factory=dict)  # test -> why
    alike: list[str] = field(default_factory=list)  # tests that fail on asyncio's own loop as well
    seconds: float = 0.0
    slowest: tuple[float, str] = (0.0, "")


def available() -> list[str]:
    """The modules of `MODULES` that this Python has.  SystemExit if it has none."""
    try:
        package = importlib.util.find_spec("test.test_asyncio")
    except ModuleNotFoundError:
        package = None
    if package is None or not package.submodule_search_locations:
        sys.exit(
            f"{sys.executable} comes without its test package, test.test_asyncio (on Debian and Ubuntu: "
            "libpython3-testsuite). --tolerate-missing makes this no error"
        )
    folder = Path(next(iter(package.submodule_search_locations)))
    return [name for name in MODULES if (folder / f"{name}.py").exists()]


@dataclass
class Job:
    """How one module is run."""

    module: str
    setting: Setting
    patterns: list[str]
    unskip: bool
    timeout: float
    folder: Path  # for its report and its log


def run(job: Job) -> Result:
    """Run one module, and what fails of it once more on asyncio's own loop, with asyncio's own tasks."""
    module = job.module
    arguments = [*job.patterns, *(["--unskip"] if job.unskip else [])]
    # One word: the log of test_tasks in the default setting is test_tasks.log.
    name = module if job.setting is settings.DEFAULT else f"{module}-{job.setting.name}"
    result = run_once(job, arguments, job.folder / name)
    failed = [each for each in result.failures if each.startswith(f"{module}.")]
    if failed:
        compared = run_once(job, [*failed, "--stdlib"], job.folder / f"{name}-stdlib")
        result.alike = [each for each in failed if each in compared.failures]
        for each in result.alike:
            del result.failures[each]
        result.counts.failed -= len(result.alike)
        result.counts.alike = len(result.alike)
        result.seconds += compared.seconds
    whole = module in settings.ABOUT_TASKS and not job.patterns and not job.unskip
    if whole and result.counts.passed and not result.counts.with_classes:
        result.failures[f"{module} ({job.setting.name})"] = "no test met a task or future of this setting's"
        result.counts.failed += 1
    return result


def run_once(job: Job, arguments: list[str], files: Path) -> Result:
    """Run tests of one module in a process of its own."""
    report, log = files.with_suffix(".jsonl"), files.with_suffix(".log")
    command = [
        sys.executable, str(CHILD), job.module, str(report), *arguments, "--setting", job.setting.name
    ]  # fmt: skip
    result = Result(job.module, job.setting)
    began = time.monotonic()
    # In a folder of its own: tests leave files and sockets where they run.
    with open(log, "wb") as output, tempfile.TemporaryDirectory() as place:
        environment = os.environ | {"PINLOOP_CONFORMANCE_TIMEOUT": str(job.timeout)}
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=place, env=environment
        )
        try:
            # The child ends itself, with a traceback of what it was at; this is for one that cannot.
            status: object = child.wait(job.timeout + 30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            status = "none, it was killed"
    result.seconds = time.monotonic() - began
    ended = read(report, result)
    if not ended:
        said = log.read_text("utf-8", "replace").splitlines()[-60:]
        result.failures[f"{job.module} (exit status {status})"] = "\n".join(said)
        result.counts.failed += 1
    return result


def read(report: Path, result: Result) -> bool:
    """Count what a report tells; true if it is whole."""
    counts = result.counts
    for line in report.read_text("utf-8").splitlines() if report.exists() else ():
        entry = json.loads(line)
        if "end" in entry:
            return True
        if "unmatched" in entry:
            name = f"{result.module}: skip list, {entry['unmatched']}"
            result.failures[name] = "no test of this Python is meant by it"
            counts.failed += 1
            continue
        outcome = entry["outcome"]
        setattr(counts, outcome, getattr(counts, outcome) + 1)
        if outcome == "failed":
            result.failures[entry["test"]] = entry["why"]
        counts.on_pinloop += entry.get("on_pinloop", False)
        counts.with_classes += entry.get("with_classes", False)
        result.slowest = max(result.slowest, (entry.get("seconds", 0.0), entry["test"]))
    return False


def show(result: Result) -> None:
    counts = result.counts
    print(
        f"{result.module:24} {result.setting.name:8} {counts.passed:5} passed {counts.failed:4} failed "
        f"{counts.skipped:4} skipped {counts.left_out:4} left out {result.seconds:6.1f} s",
        flush=True,
    )
    for name in result.alike:
        print(f"fails on asyncio's own loop as well: {name}", flush=True)
    for name, why in result.failures.items():
        print(f"FAILED {name}\n{why.rstrip()}\n", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/conformance", description=__doc__)
    parser.add_argument("tests", nargs="*", help="modules, or patterns of module.Class.test (all modules)")
    parser.add_argument(
        "--setting", action="append", choices=settings.ALL, metavar="NAME",
        help=f"only this pass ({', '.join(settings.ALL)}); may be given several times",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="modules at a time (%(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=300, metavar="S", help="for one module (%(default)s)"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the counts into this file's table")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="keep each module's output here")
    parser.add_argument("--unskip", action="store_true", help="run what the skip list skips, and only that")
    parser.add_argument(
        "--tolerate-missing", action="store_true", help="a Python without these tests is no error"
    )
    options = parser.parse_args()
    if options.tolerate_missing and importlib.util.find_spec("test") is None:
        print(f"{sys.executable} comes without its test package: nothing was run")
        return 0
    modules = available()
    wanted = {each.partition(".")[0] for each in options.tests} or set(modules)
    if unknown := wanted - set(MODULES):
        parser.error(f"not one of the modules that are run: {', '.join(sorted(unknown))}")
    wanted &= set(modules)
    if options.write and (options.tests or options.unskip):
        parser.error("--write wants all modules")
    passes = [settings.ALL[name] for name in options.setting or settings.ALL]
    print(f"Python {table.this_python()}: CPython's asyncio tests on pinloop", flush=True)
    results: dict[str, dict[str, Result]] = {each.name: {} for each in passes}
    with (
        tempfile.TemporaryDirectory() as temporary,
        concurrent.futures.ThreadPoolExecutor(options.jobs) as pool,
    ):
        folder = options.logs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [
            Job(
                module,
                setting,
                [each for each in options.tests if each.startswith(f"{module}.")],
                options.unskip,
                options.timeout,
                folder.resolve(),
            )
            for module in sorted(wanted, key=lambda name: (name not in LONG, name))
            for setting in passes
            if setting.modules is None or module in setting.modules
        ]
        for done in concurrent.futures.as_completed([pool.submit(run, job) for job in jobs]):
            result = done.result()
            results[result.setting.name][result.module] = result
            show(result)
    ran = [each for of_setting in results.values() for each in of_setting.values()]
    total = sum((each.counts for each in ran), table.Counts())
    if len(passes) > 1:
        for setting in passes:
            counts = sum((each.counts for each in results[setting.name].values()), table.Counts())
            print(f"{setting.name}: {counts}")
    seconds, test = max((each.slowest for each in ran), default=(0.0, "none"))
    print(f"total: {total}; the slowest took {seconds:.1f} s: {test}")
    if options.write:
        for setting in passes:
            counts_of = {name: each.counts for name, each in results[setting.name].items()}
            table.update(options.write, counts_of, setting.title, setting.about)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
