"""The test suites of asyncio's ecosystem, each run on asyncio's loop and on pinloop, compared test by test.

`make ecosystem` runs them all, `make ecosystem SUITES="uvicorn websockets"` some; see docs/ecosystem.md.
"""
