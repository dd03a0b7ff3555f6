"""python -m tests.ecosystem.runner: run suites of the ecosystem on asyncio and on pinloop, and compare."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from . import report
from .execute import Outcome, Run, Setting, run
from .judge import Verdict, judge
from .prepare import Unavailable, prepare
from .servers import started
from .suites import SUITES, Suite, named


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.ecosystem.runner", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="their names; all if there is none")
    parser.add_argument("--list", action="store_true", help="list the suites and stop")
    parser.add_argument("--smoke", action="store_true", help="only the fast ones")
    parser.add_argument("--pinloop", type=Path, help="a wheel, or a folder with a built package")
    parser.add_argument("--work", type=Path, default=Path("build/ecosystem"), help="where everything is put")
    parser.add_argument("--docs", type=Path, help="the document whose table the results go into")
    parser.add_argument("--keep-baseline", action="store_true", help="take asyncio's results of the last run")
    parser.add_argument(
        "--allow-missing", action="store_true", help="a suite that cannot be run here is no failure"
    )
    parser.add_argument("-k", dest="expression", help="only the tests that pytest's -k selects")
    return parser.parse_args()


def main() -> int:
    """0 if each suite does on pinloop what it does on asyncio; 1 if not, or if one could not be run."""
    options = arguments()
    if options.list:
        for suite in SUITES:
            print(f"{suite.name} {suite.version}{' (smoke)' if suite.smoke else ''}")
        return 0
    try:
        chosen = named(options.suites) if options.suites else list(SUITES)
    except KeyError as unknown:
        sys.exit(f"there is no suite {unknown}; there are {', '.join(suite.name for suite in SUITES)}")
    if options.pinloop is None or not options.pinloop.exists():
        sys.exit("--pinloop must name a wheel or a folder with a built package")
    bad, missing = [], []
    suites = [suite for suite in chosen if suite.smoke or not options.smoke]
    for suite in suites:
        print(f"--- {suite.name} {suite.version} on Python {report.PYTHON}", flush=True)
        try:
            verdict = compare(suite, options)
        except Unavailable as why:
            print(f"  NOT RUN: {why}", flush=True)
            missing.append(suite.name)
            continue
        print(report.summary(verdict), report.details(verdict), sep="\n", flush=True)
        if not verdict.good:
            bad.append(suite.name)
        if options.docs is not None and options.expression is None and not verdict.trouble:
            report.write(options.docs, report.row(suite, verdict))
    ran = len(suites) - len(missing)
    print(
        f"\necosystem: {ran} suites run, {ran - len(bad)} good; "
        f"not good: {', '.join(bad) or 'none'}; not run: {', '.join(missing) or 'none'}"
    )
    return 1 if bad or (missing and not options.allow_missing) else 0


def compare(suite: Suite, options: argparse.Namespace) -> Verdict:
    """Prepare and run one suite.  Raises Unavailable if that cannot be done here."""
    if report.PYTHON in suite.unsupported:
        raise Unavailable(f"not for Python {report.PYTHON}: {suite.unsupported[report.PYTHON]}")
    with started(suite.servers) as environment:
        place = prepare(suite, options.work.resolve(), options.pinloop.resolve())
        extra = ("-k", options.expression) if options.expression else ()
        setting = Setting(suite, place, options.pinloop.resolve(), environment, extra)
        baseline = kept_baseline(setting) if options.keep_baseline else None
        if baseline is None:
            baseline = run(setting, "asyncio", "first")
            if not extra:
                keep_baseline(setting, baseline)
        ours = run(setting, "pinloop", "first")
        if extra:
            baseline.tests = {name: test for name, test in baseline.tests.items() if name in ours.tests}
        return judge(baseline, ours, lambda loop, label, only: run(setting, loop, label, only))


def keep_baseline(setting: Setting, result: Run) -> None:
    kept = {
        "suite": repr(setting.suite),
        "tests": {name: [test.outcome, test.why, test.seconds] for name, test in result.tests.items()},
        "made": result.made,
        "trouble": result.trouble,
        "seconds": result.seconds,
    }
    (setting.place.folder / "baseline.json").write_text(json.dumps(kept))


def kept_baseline(setting: Setting) -> Run | None:
    """What asyncio gave the last time; None if the suite's entry in the table has changed since."""
    path = setting.place.folder / "baseline.json"
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    if kept["suite"] != repr(setting.suite):
        return None
    tests = {name: Outcome(*test) for name, test in kept["tests"].items()}
    return Run(tests, made=kept["made"], trouble=kept["trouble"], seconds=kept["seconds"])


if __name__ == "__main__":
    # What it started is stopped on the way out, as with Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # A shell ignores Ctrl-C for what it runs in the background, and tests that send it would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
