"""What an event loop costs: process CPU per operation, side by side with every other installed loop.

`python -m pinloop bench` runs it; `docs/benchmarks.md` says how it measures.

Nothing is imported here: a measured process imports this package too, and must carry as little as it can.
"""

from __future__ import annotations

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Run the benchmark with the command line *argv* (without the program's name); return the exit status.

    Nothing is raised for what the user can mend: that is printed on standard error and ends in status 2.
    """
    from .cli import main as cli_main

    return cli_main(argv)
