"""Imported by every Python process at its start, for this folder is in PYTHONPATH."""

import os

if "PINLOOP_ECOSYSTEM" in os.environ:
    import loop_in_place  # noqa: F401
