"""The native floors have no counterpart in asyncio: nothing here runs on another loop."""

import os

collect_ignore_glob = ["test_*.py"] if os.environ.get("PINLOOP_TEST_LOOP") == "asyncio" else []
