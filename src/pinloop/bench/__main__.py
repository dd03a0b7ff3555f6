"""`python -m pinloop.bench`: the same as `python -m pinloop bench`."""

from __future__ import annotations

import sys

from . import main

sys.exit(main(sys.argv[1:]))
