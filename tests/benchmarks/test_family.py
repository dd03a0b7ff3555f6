"""The CPU of a process and all below it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="read in Linux's /proc")


def test_a_family(program: Callable[[str], ModuleType]) -> None:
    family = program("family")
    child = "for _ in range(10**7): pass\ninput()"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
        while len(family.members(process.pid)) < 2:
            pass
        while family.cpu(process.pid) < 0.1:
            pass
        assert 0.05 < family.fine_cpu(process.pid) < 100
        assert process.stdin is not None
        process.stdin.write(b"\n")
