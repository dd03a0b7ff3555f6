"""Whose loops, and whose Task and Future, CPython's tests get: each setting is a pass of its own."""

from __future__ import annotations

from dataclasses import dataclass

# Where tasks and futures show. test_tasks alone takes as long as all the others.
ABOUT_TASKS = frozenset(
    {
        "test_base_events",
        "test_context",
        "test_eager_task_factory",
        "test_free_threading",
        "test_futures",
        "test_futures2",
        "test_graph",
        "test_locks",
        "test_pep492",
        "test_queues",
        "test_runners",
        "test_staggered",
        "test_streams",
        "test_taskgroups",
        "test_tasks",
        "test_threads",
        "test_timeouts",
        "test_waitfor",
    }
)


@dataclass(frozen=True)
class Setting:
    """One pass over the tests."""

    name: str
    title: str  # of its table
    about: str  # what is under its title
    own_loop: bool  # pinloop's loop is what tests get by the names of asyncio's loops
    own_names: bool  # pinloop's Task and Future are what they get by the names of asyncio's
    tasks: str  # what pinloop's loop makes: "pinloop" or "asyncio"
    modules: frozenset[str] | None = ABOUT_TASKS  # None: all
    own_streams: bool = False  # pinloop's streams are what they get by the names of asyncio's
    own_sync: bool = False  # so are pinloop's queues, locks and timeouts


DEFAULT = Setting("default", "", "", own_loop=True, own_names=False, tasks="pinloop", modules=None)
ALL = {
    each.name: each
    for each in (
        DEFAULT,
        Setting(
            "classes",
            "With `pinloop.Task` and `pinloop.Future` under asyncio's names",
            "`asyncio.Task`, `asyncio.tasks._CTask`, `asyncio.Future` and `asyncio.futures._CFuture` are "
            "pinloop's classes as well: they are what the tests make themselves, subclass and compare with.",
            own_loop=True,
            own_names=True,
            tasks="pinloop",
        ),
        Setting(
            "foreign",
            "The same classes on asyncio's loops",
            "Only the classes are pinloop's: they run on the stdlib's loops, on the tests' own `TestLoop` "
            "and on mocks.",
            own_loop=False,
            own_names=True,
            tasks="pinloop",
        ),
        Setting(
            "asyncio",
            'With `new_event_loop(tasks="asyncio")`',
            "pinloop's loop, which makes asyncio's own tasks and futures.",
            own_loop=True,
            own_names=False,
            tasks="asyncio",
        ),
        Setting(
            "streams",
            "With `pinloop.StreamReader` & co. under asyncio's names",
            "The classes and functions of asyncio's streams are pinloop's, on pinloop's loop.",
            own_loop=True,
            own_names=False,
            tasks="pinloop",
            modules=frozenset({"test_streams"}),
            own_streams=True,
        ),
        Setting(
            "sync",
            "With `pinloop.Queue`, `Lock`, `timeout` & co. under asyncio's names",
            "asyncio's queues, events, locks, semaphores and timeouts are pinloop's, on pinloop's loop. "
            "`asyncio.Condition` and `Barrier` are made of them; so is `asyncio.wait_for` from 3.12 on.",
            own_loop=True,
            own_names=False,
            tasks="pinloop",
            modules=frozenset({"test_locks", "test_queues", "test_timeouts", "test_waitfor"}),
            own_sync=True,
        ),
    )
}
