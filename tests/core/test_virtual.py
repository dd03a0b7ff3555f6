"""The loop for tests and its poller: the native half of pinloop.testing."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

import pinloop
from pinloop import _core
from pinloop.testing._loops import _NoWakeup
from tests.core.support import READ, SECOND, WRITE, raise_reported, run_until, socket_pair, turn, waits


class Loop(pinloop.Loop, _core.VirtualLoop):
    """As pinloop.testing's, without its Python half."""

    patience = 0.0

    def __init__(self, poller: _core.Poller | None = None) -> None:
        super().__init__(poller)
        self._signals = _NoWakeup(self)  # whose pipe would be a watched fd
        self.asked: list[tuple[bool, bool]] = []
        self.set_exception_handler(raise_reported)

    def _patience(self, watching: bool, last: bool) -> float:
        self.asked.append((watching, last))
        return self.patience


def scripted(script: Any = ()) -> tuple[Loop, _core.ScriptedPoller]:
    kernel = _core.ScriptedPoller(script)
    return Loop(_core.VirtualPoller(kernel)), kernel


# ------------------------------------------------------------------------------ the poller --


def test_the_poller_hands_all_on_to_the_kernels_but_the_clock() -> None:
    kernel = _core.ScriptedPoller([[(5, READ)]])
    poller = _core.VirtualPoller(kernel)
    poller.register(5, READ, 7)
    poller.change(5, READ, WRITE, 8)
    assert kernel.registered == {5: (WRITE, 8)}
    assert poller.poll(1) == [(5, READ, 8)]
    assert poller.clock() == 0
    poller.unregister(5, WRITE)
    assert kernel.registered == {}
    assert [call[0] for call in kernel.calls] == ["add", "modify", "wait", "remove"]
    assert poller.name == "virtual, scripted"


def test_the_pollers_kernel_is_the_platforms_by_default() -> None:
    poller = _core.VirtualPoller()
    assert poller.name == f"virtual, {_core.default_poller().name}"
    near, far = socket_pair()
    with near, far:
        poller.register(near.fileno(), READ)
        assert poller.poll(0) == []
        far.send(b"x")
        assert poller.poll(5) == [(near.fileno(), READ, 0)]
    poller.close()
    poller.close()


def test_an_error_of_the_kernels_leaves_the_count_of_registrations() -> None:
    loop, kernel = scripted()
    near, far = socket_pair()
    with near, far:
        loop.add_reader(near, print)
        with pytest.raises(FileExistsError):
            kernel.register(near.fileno(), READ)
        loop.remove_reader(near)
    loop.call_later(1, loop.stop)
    loop.run_forever()
    assert loop.asked == []  # nothing is watched
    loop.close()


def test_only_a_virtual_poller_will_do() -> None:
    with pytest.raises(TypeError, match="poller must be a VirtualPoller, not 'ScriptedPoller'"):
        _core.VirtualLoop(_core.ScriptedPoller())
    loop = Loop()
    with pytest.raises(RuntimeError, match="initialised already"):
        _core.VirtualLoop.__init__(loop)
    loop.close()


# ------------------------------------------------------------------------------- the clock --


def test_timers_alone_never_ask_the_kernel() -> None:
    loop, kernel = scripted()
    times: list[float] = []
    for delay in (3, 1, 2):
        loop.call_later(delay, lambda: times.append(loop.time()))
    loop.call_later(4, loop.stop)
    loop.run_forever()
    assert times == [1, 2, 3]
    assert loop.time() == 4
    assert waits(kernel) == []
    loop.close()


def test_a_jump_is_to_the_nanosecond() -> None:
    loop, _ = scripted()
    loop.call_later(1e-9, loop.stop)
    loop.run_forever()
    assert loop.time() == 1e-9
    loop.close()


def test_while_fds_are_watched_the_kernel_is_asked_each_turn_and_before_a_jump() -> None:
    loop, kernel = scripted()
    near, far = socket_pair()
    with near, far:
        loop.add_reader(near, print)
        loop.call_soon(loop.call_later, 5, loop.stop)
        loop.run_forever()
        assert loop.asked == [(True, False)]
        assert waits(kernel) == [0, 0]  # patience was nothing; and once after the jump, on the way out
        loop.remove_reader(near)
    loop.close()


def test_patience_is_a_wait_in_real_time_which_an_event_ends() -> None:
    near, far = socket_pair()
    with near, far:
        loop, kernel = scripted([[], [(near.fileno(), READ)]])
        loop.patience = 60.0
        loop.add_reader(near, loop.stop)
        loop.call_later(5, print)
        loop.run_forever()
        assert loop.time() == 0
        assert all(0 < wait <= SECOND // 20 for wait in waits(kernel)[:2])
        loop.remove_reader(near)
        loop.close()


def test_jobs_are_waited_for() -> None:
    def arrive() -> None:
        loop._job_ended()
        loop.call_soon_threadsafe(loop.stop)

    loop, _ = scripted([arrive])
    loop.patience = 60.0
    loop._job_begun()
    loop.call_later(5, print)
    loop.run_forever()
    assert loop.time() == 0
    assert loop.asked == [(False, False)]
    assert loop._jobs == 0
    loop.close()


@pytest.mark.parametrize(
    ("why", "steps", "seconds"), [("deadlock", 100, 100), ("steps", 3, 100), ("time", 100, 4)]
)
def test_what_cannot_go_on_is_stuck(why: str, steps: int, seconds: float) -> None:
    def again() -> None:
        loop.call_soon(again)

    loop = Loop()
    loop._set_limits(steps, seconds)
    if why == "steps":
        again()
    elif why == "time":
        loop.call_later(5, print)
    with pytest.raises(RuntimeError, match=why):
        loop.run_forever()
    # It can be run again.
    loop._set_limits(1000, 1000)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()


def test_stop_leaves_what_is_ready_for_the_next_run() -> None:
    called: list[str] = []

    def first() -> None:
        called.append("first")
        loop.stop()
        loop.call_soon(called.append, "next run")

    for seed in (None, 1):
        loop = Loop()
        loop._set_seed(seed)
        loop.call_soon(first)
        loop.call_soon(called.append, "same run")
        loop.run_forever()
        assert called == ["first", "same run"]
        turn(loop)
        assert called == ["first", "same run", "next run"]
        called.clear()
        loop.close()


# ------------------------------------------------------------------------------- the order --


@pytest.mark.parametrize("seed", range(12))
def test_an_exception_that_ends_the_run_loses_nothing_of_the_batch(seed: int) -> None:
    async def leave(number: int) -> None:
        ran.append(number)
        if number == 2:
            raise SystemExit

    ran: list[int] = []
    loop = Loop()
    loop._set_seed(seed)
    tasks = [loop.create_task(leave(number)) for number in range(5)]
    with pytest.raises(SystemExit):
        loop.run_forever()
    run_until(loop, lambda: len(ran) == 5)
    assert sorted(ran) == [0, 1, 2, 3, 4]
    with pytest.raises(SystemExit):
        tasks[2].result()
    loop.close()


@pytest.mark.parametrize("seed", range(12))
def test_a_ring_that_grows_and_wraps_while_it_is_drawn_from(seed: int) -> None:
    ran = 0

    async def spawn(depth: int) -> None:
        nonlocal ran
        ran += 1
        if depth:
            await asyncio.gather(*(spawn(depth - 1) for _ in range(6)))

    loop = Loop()
    loop._set_seed(seed)
    loop.run_until_complete(spawn(4))
    assert ran == 1 + 6 + 36 + 216 + 1296
    loop.close()


def test_named_tasks_have_an_identity_too() -> None:
    def order(seed: int, names: str) -> str:
        async def walk(name: str) -> None:
            for _ in range(3):
                ran.append(name)
                await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.gather(*(asyncio.create_task(walk(name), name=name) for name in names))

        ran: list[str] = []
        loop = Loop()
        loop._set_seed(seed)
        loop.run_until_complete(main())
        loop.close()
        return "".join(ran)

    orders = [order(seed, "aé漢🐍") for seed in range(50)]
    assert len(set(orders)) > 30
    assert orders == [order(seed, "aé漢🐍") for seed in range(50)]


# --------------------------------------------------------------------------------- its end --


def test_dropped_without_close_it_is_collected_with_what_it_holds() -> None:
    class Witness:
        pass

    def make() -> list[weakref.ref[Any]]:
        loop = Loop()
        held = [Witness() for _ in range(3)]
        loop.call_soon(lambda: (loop, held[0]))
        loop.call_later(5, lambda: (loop, held[1]))
        near, far = socket_pair()
        with near, far:
            loop.add_reader(near, lambda: (loop, held[2]))
            return [weakref.ref(loop), *map(weakref.ref, held)]

    def make_and_drop() -> list[weakref.ref[Any]]:
        references = make()
        gc.collect()
        return references

    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        references = make_and_drop()
    assert [reference() for reference in references] == [None] * 4
