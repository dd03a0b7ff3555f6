"""What a loop counts: turns, time, lag, tasks, timers, connections, bytes; and `Metrics` as a value."""

import asyncio
import contextlib
import gc
import json
import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pinloop
from pinloop import _core
from pinloop.metrics import BUCKETS, FIELDS, Histogram, Metrics, current_metrics
from pinloop.testing._loops import VirtualLoop
from tests.core.support import (
    MS,
    READ,
    SECOND,
    Connect,
    Pipe,
    Recorder,
    raise_reported,
    run_until,
    scripted,
    socket_pair,
    tcp_pair,
    turn,
)  # fmt: skip
from tests.tls import client_context, server_context

Make = Callable[..., tuple[pinloop.Loop, _core.ScriptedPoller]]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes scripted loops and closes them."""
    loops: list[pinloop.Loop] = []

    def make(script: Any = ()) -> tuple[pinloop.Loop, _core.ScriptedPoller]:
        loop, poller = scripted(script)
        loops.append(loop)
        return loop, poller

    yield make
    for loop in loops:
        loop.close()


def buckets(histogram: Histogram) -> dict[float, int]:
    """The buckets that hold something, by their upper bounds in µs."""
    return {
        bound * 1e6: count
        for bound, count in zip(histogram.BOUNDS, histogram.counts, strict=True)
        if count
    }  # fmt: skip


# ---------------------------------------------------------------------------- counts --


def test_a_new_loop_has_counted_nothing(make: Make) -> None:
    loop, _ = make()
    assert loop.metrics() == Metrics(loops=1)


def test_turns_polls_events_and_what_was_ready(make: Make) -> None:
    loop, _ = make([[(50, READ), (51, READ)], []])
    loop.add_reader(50, lambda: None)
    loop.add_reader(51, lambda: None)
    for _ in range(7):
        loop.call_soon(lambda: None)
    assert loop.metrics().ready == 7
    turn(loop)
    turn(loop)
    found = loop.metrics()
    assert (found.turns, found.polls, found.events) == (2, 2, 2)
    assert (found.callbacks, found.largest_batch) == (7, 7)  # what an event calls was never ready
    assert found.ready == 0


def test_a_chain_that_is_not_polled_for_makes_turns(make: Make) -> None:
    loop, _ = make()
    left = [100]

    def step() -> None:
        left[0] -= 1
        loop.call_soon(step if left[0] else loop.stop)

    loop.call_soon(step)
    loop.run_forever()
    found = loop.metrics()
    assert (found.turns, found.callbacks, found.polls) == (101, 101, 1)


def test_what_a_callback_sees_is_the_middle_of_its_turn(make: Make) -> None:
    loop, poller = make()
    seen: list[Metrics] = []

    def look() -> None:
        poller.clock_ns += 5 * MS
        loop.call_soon(lambda: None)
        seen.append(loop.metrics())

    loop.call_soon(look)
    turn(loop)
    assert seen[0].away == pytest.approx(0.005)
    assert seen[0].busy == pytest.approx(0.005)
    assert (seen[0].turns, seen[0].ready, seen[0].lag.count) == (1, 1, 0)
    assert loop.metrics().away == 0


def test_timers_that_are_armed_and_those_cancelled(make: Make) -> None:
    loop, _ = make()
    handles = [loop.call_later(delay, lambda: None) for delay in (1, 2, 3, 4)]
    assert loop.metrics().timers == 4
    handles[3].cancel()  # the last: taken out at once
    handles[0].cancel()  # stays where it is
    assert loop.metrics().timers == 2
    loop.call_later(3.5, loop.stop)
    loop.run_forever()
    assert loop.metrics().timers == 0


# ------------------------------------------------------------------------------ time --


def test_time_in_callbacks_and_time_asleep(make: Make) -> None:
    loop, poller = make()

    def work(ns: int) -> None:
        poller.clock_ns += ns

    loop.call_soon(work, 3 * MS)
    loop.call_later(1, work, 5 * MS)
    loop.call_later(2, loop.stop)
    start = loop.time()
    loop.run_forever()
    found = loop.metrics()
    assert found.busy == pytest.approx(0.008)
    assert found.busy + found.idle == pytest.approx(loop.time() - start)
    assert found.load == pytest.approx(0.008 / 2)
    poller.clock_ns += 10 * SECOND  # while nobody runs it
    assert loop.metrics() == found


def test_how_long_it_was_away_from_the_kernel(make: Make) -> None:
    def poller_moves(ns: int) -> None:
        poller.clock_ns += ns

    def slow_poll() -> list[tuple[int, int]]:
        poller_moves(2 * MS)
        return [(50, READ)]

    loop, poller = make([slow_poll, [(50, READ)], []])

    loop.add_reader(50, lambda: poller_moves(300_000))
    loop.call_soon(lambda: poller_moves(20 * MS))
    loop.call_later(1, loop.stop)
    loop.run_forever()
    found = loop.metrics()
    # 20 ms to the first poll, which may last; then two events of 0.3 ms each; nothing before the stop.
    assert {bound: count for bound, count in buckets(found.lag).items() if bound > 1} == {512: 2, 32768: 1}
    assert found.lag.total == pytest.approx(0.0206)
    assert found.lag.quantile(1) == pytest.approx(0.032768)
    assert found.lag.count >= found.polls


def test_how_late_timers_were(make: Make) -> None:
    loop, poller = make()
    start = loop.time()
    loop.call_at(start + 0.001, lambda: None)
    loop.call_at(start + 0.0035, lambda: None)
    loop.call_at(start + 0.004, lambda: None).cancel()
    loop.call_at(start + 30, loop.stop)

    def block() -> None:
        poller.clock_ns += 4 * MS

    loop.call_soon(block)
    loop.run_forever()
    found = loop.metrics().timer_lag
    assert buckets(found) == {1: 1, 512: 1, 4096: 1}  # the last was on time, the others 0.5 and 3 ms late
    assert found.total == pytest.approx(0.0035)


def test_durations_beyond_the_last_bound_are_in_the_last_bucket(make: Make) -> None:
    loop, poller = make()

    def block() -> None:
        poller.clock_ns += 100 * SECOND

    loop.call_soon(block)
    turn(loop)
    lag = loop.metrics().lag
    assert lag.counts[-1] == 1
    assert lag.quantile(1) == float("inf")
    assert lag.mean == pytest.approx(100 / lag.count)


def test_time_goes_on_where_a_callback_leaves_the_loop(make: Make) -> None:
    loop, poller = make()

    def leave() -> None:
        poller.clock_ns += MS
        raise SystemExit

    loop.call_soon(leave)
    loop.call_soon(loop.stop)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert loop.metrics().busy == pytest.approx(0.001)
    poller.clock_ns += SECOND
    loop.run_forever()
    assert loop.metrics().busy == pytest.approx(0.001)


def test_a_poll_that_fails_leaves_time_as_it_was(make: Make) -> None:
    def fail() -> None:
        poller.clock_ns += 2 * MS
        raise OSError(5, "no more")

    loop, poller = make([fail])
    loop.call_later(1, loop.stop)
    with pytest.raises(OSError, match="no more"):
        loop.run_forever()
    found = loop.metrics()
    assert found.idle == pytest.approx(0.002)
    assert (found.busy, found.away) == (0, 0)
    loop.run_forever()
    assert loop.metrics().idle == pytest.approx(1.0)


def test_time_in_spins_is_idle() -> None:
    poller = _core.ScriptedPoller()
    loop = pinloop.Loop(poller, spin_us=50)
    loop.set_exception_handler(raise_reported)
    loop.call_later(1, loop.stop)
    loop.run_forever()
    found = loop.metrics()
    assert found.idle == pytest.approx(1.0, abs=0.001)
    assert found.busy == 0
    assert found.polls == 3  # the spin, the sleep, and the last one, which does not wait
    loop.close()


def test_the_clock_of_a_loop_for_tests_is_its_own() -> None:
    loop = VirtualLoop(0)
    loop.run_until_complete(asyncio.sleep(3600))
    found = loop.metrics()
    assert found.idle == pytest.approx(3600)
    assert found.busy == 0
    assert found.turns >= 2
    assert found.callbacks >= 2
    loop.close()


# ----------------------------------------------------------------------- other threads --


def test_another_thread_sees_how_long_a_callback_blocks(loop: pinloop.Loop) -> None:
    blocked, seen = threading.Event(), threading.Event()
    found: list[Metrics] = []

    def watch() -> None:
        blocked.wait(10)
        end = time.monotonic() + 10
        while time.monotonic() < end and loop.metrics().away < 0.02:
            pass
        found.append(loop.metrics())
        seen.set()

    thread = threading.Thread(target=watch)
    thread.start()

    def block() -> None:
        blocked.set()
        seen.wait(10)

    loop.call_soon(block)
    turn(loop)
    thread.join()
    assert 0.02 <= found[0].away <= found[0].busy
    assert loop.metrics().away == 0
    assert loop.metrics().lag.quantile(1) >= 0.02


def test_another_thread_sees_it_sleep_and_does_not_wake_it(loop: pinloop.Loop) -> None:
    found: list[Metrics] = []

    def watch() -> None:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            first, second = loop.metrics(), loop.metrics()
            if first.idle > 0 and second.idle > first.idle:
                found.extend((first, second))
                break
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=watch)
    thread.start()
    loop.run_forever()
    thread.join()
    first, second = found
    assert (second.turns, second.polls, second.busy, second.away) == (first.turns, first.polls, first.busy, 0)


# ------------------------------------------------------------------------------ tasks --


def test_tasks_that_are_not_done(loop: pinloop.Loop) -> None:
    async def main() -> Metrics:
        gate = asyncio.Event()

        async def wait() -> None:
            await gate.wait()

        tasks = [loop.create_task(wait()) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        found = loop.metrics()
        gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        return found

    found = loop.run_until_complete(main())
    assert found.tasks == 5
    assert loop.metrics().tasks == 0
    if not os.environ.get("PINLOOP_TEST_TASKS"):
        assert (found.tasks_made, loop.metrics().tasks_made) == (6, 6)


@pytest.mark.skipif(
    os.environ.get("PINLOOP_TEST_TASKS") == "asyncio", reason="asyncio's own are in no list of the loop's"
)
def test_a_task_that_is_lost_is_not_counted_any_more(loop: pinloop.Loop, loop_errors: list[Any]) -> None:
    async def forever() -> None:
        future = loop.create_future()
        future.cycle = future  # type: ignore[attr-defined]
        await future

    def lose() -> None:
        loop.create_task(forever())
        turn(loop)

    lose()
    assert loop.metrics().tasks == 1
    gc.collect()
    assert loop.metrics().tasks == 0
    assert [context["message"] for context in loop_errors] == ["Task was destroyed but it is pending!"]
    loop_errors.clear()


def test_the_tasks_of_asyncios_own_class() -> None:
    loop = pinloop.new_event_loop(tasks="asyncio")

    async def main() -> int:
        other = asyncio.ensure_future(asyncio.sleep(0))
        found = loop.metrics().tasks
        await other
        return found

    assert loop.run_until_complete(main()) == 2
    assert loop.metrics().tasks_made == 0
    loop.close()


# ------------------------------------------------------------------- connections, bytes --


def moved(loop: pinloop.Loop, since: Metrics) -> tuple[int, int]:
    """Bytes received and sent since."""
    found = loop.metrics() - since
    return found.bytes_received, found.bytes_sent


@pytest.mark.parametrize("size", [1, 5_000, 40_000, 3_000_000])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_bytes_of_streams(loop: pinloop.Loop, connect: Connect, size: int, kind: Any) -> None:
    near, far = Recorder(), Recorder()
    ours, theirs = tcp_pair()
    theirs.setblocking(False)
    before = loop.metrics()
    connect(near, (ours, ours))
    connect(far, (theirs, theirs))
    assert loop.metrics().connections - before.connections == 2
    for _ in range(3):
        near.transport.write(kind(size))
    run_until(loop, lambda: len(far.got) == 3 * size)
    far.transport.writelines([b"a" * size, b"b" * size])
    run_until(loop, lambda: len(near.got) == 2 * size)
    assert moved(loop, before) == (5 * size, 5 * size)
    near.transport.close()
    run_until(loop, lambda: near.lost and far.lost)
    found = loop.metrics() - before
    assert (found.connections, found.connections_made) == (before.connections, 2)


def test_bytes_of_a_buffered_protocol_and_of_an_abort(loop: pinloop.Loop, connect: Connect) -> None:
    from tests.core.support import BufferedRecorder

    protocol = BufferedRecorder()
    transport, peer = connect(protocol)
    before = loop.metrics()
    peer.send(b"x" * 700)
    run_until(loop, lambda: len(protocol.got) == 700)
    transport.write(b"y" * 90)
    transport.abort()  # sends what is queued
    assert moved(loop, before) == (700, 90)


def test_connections_that_were_made_by_a_server(loop: pinloop.Loop) -> None:
    async def main() -> list[int]:
        counts = []
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [await loop.create_connection(Recorder, *address) for _ in range(3)]
        while len(made) < 3:
            await asyncio.sleep(0)
        counts.append(loop.metrics().connections)
        for transport, _ in clients:
            transport.close()
        while not all(each.lost for each in made):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        counts.append(loop.metrics().connections)
        server.close()
        await server.wait_closed()
        return counts

    assert loop.run_until_complete(main()) == [6, 0]
    assert loop.metrics().connections_made == 6


def test_bytes_of_pipes(loop: pinloop.Loop) -> None:
    pipe = Pipe(loop)
    before = loop.metrics()
    size = 300_000  # more than a pipe holds: some of it is queued
    pipe.wt.write(bytes(size))
    run_until(loop, lambda: pipe.has_read(size))
    assert moved(loop, before) == (size, size)
    pipe.end()


@pytest.mark.parametrize("connected", [False, True])
def test_bytes_of_datagrams(loop: pinloop.Loop, connected: bool) -> None:
    class Sink(asyncio.DatagramProtocol):
        got = 0

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.got += len(data)

    sink, source = Sink(), asyncio.DatagramProtocol()
    near, _ = loop.run_until_complete(loop.create_datagram_endpoint(lambda: sink, ("127.0.0.1", 0)))
    name = near.get_extra_info("sockname")
    far, _ = loop.run_until_complete(
        loop.create_datagram_endpoint(lambda: source, ("127.0.0.1", 0), name if connected else None)
    )
    before = loop.metrics()
    for size in (1, 0, 100, *[50] * 40):
        far.sendto(bytes(size), None if connected else name)
    run_until(loop, lambda: sink.got == 2101)
    assert moved(loop, before) == (2101, 2101)
    near.close()
    far.close()
    turn(loop)
    turn(loop)


def test_bytes_of_sock_calls(loop: pinloop.Loop) -> None:
    class Other(socket.socket):
        """Whose methods are called."""

    async def main() -> None:
        for cls in (socket.socket, Other):
            near, far = (cls(fileno=each.detach()) for each in socket_pair())
            near.setblocking(False)
            far.setblocking(False)
            await loop.sock_sendall(near, b"x" * 100)
            assert len(await loop.sock_recv(far, 60)) == 60
            assert await loop.sock_recv_into(far, bytearray(100)) == 40
            near.close()
            far.close()
            with cls(socket.AF_INET, socket.SOCK_DGRAM) as here:
                here.setblocking(False)
                here.bind(("127.0.0.1", 0))
                assert await loop.sock_sendto(here, b"y" * 30, here.getsockname()) == 30
                assert len((await loop.sock_recvfrom(here, 100))[0]) == 30
                await loop.sock_sendto(here, b"z" * 20, here.getsockname())
                assert (await loop.sock_recvfrom_into(here, bytearray(50)))[0] == 20

    before = loop.metrics()
    loop.run_until_complete(main())
    assert moved(loop, before) == (300, 300)


def test_bytes_of_files(loop: pinloop.Loop, connect: Connect, tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(b"f" * 10_000)
    near, far = Recorder(), Recorder()
    ours, theirs = tcp_pair()
    theirs.setblocking(False)
    connect(near, (ours, ours))
    connect(far, (theirs, theirs))
    before = loop.metrics()
    with (tmp_path / "file").open("rb") as file:
        loop.run_until_complete(loop.sendfile(near.transport, file))
        run_until(loop, lambda: len(far.got) == 10_000)
    assert moved(loop, before) == (10_000, 10_000)
    near.transport.abort()
    run_until(loop, lambda: far.lost)


def test_bytes_of_tls_are_those_on_the_wire(loop: pinloop.Loop) -> None:
    near, far = tcp_pair()
    far.setblocking(False)
    client, server = Recorder(), Recorder()
    before = loop.metrics()

    async def main() -> None:
        accepting = asyncio.ensure_future(
            loop.connect_accepted_socket(lambda: server, far, ssl=server_context())
        )
        await loop.create_connection(
            lambda: client, sock=near, ssl=client_context(), server_hostname="localhost"
        )
        await accepting
        client.transport.write(b"x" * 100_000)
        while len(server.got) < 100_000:
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert loop.metrics().connections == 2
    received, sent = moved(loop, before)
    assert 100_000 < received == sent < 110_000
    client.transport.abort()
    server.transport.abort()
    run_until(loop, lambda: client.lost and server.lost)
    for _ in range(3):
        turn(loop)
    assert loop.metrics().connections == 0


# ---------------------------------------------------------------------------- the value --


def test_a_loop_that_is_closed_or_never_was(loop_factory: Any) -> None:
    loop = loop_factory()
    turn(loop)
    loop.close()
    assert loop.metrics().turns == 1
    with pytest.raises(RuntimeError, match="not called"):
        _core.Loop.__new__(_core.Loop)._counted()


def some(loop: pinloop.Loop) -> Metrics:
    loop.run_until_complete(asyncio.sleep(0.002))
    return loop.metrics()


def test_a_value_can_be_pickled_compared_and_not_changed(loop: pinloop.Loop) -> None:
    found = some(loop)
    assert pickle.loads(pickle.dumps(found)) == found
    assert hash(found) == hash(pickle.loads(pickle.dumps(found)))
    with pytest.raises(AttributeError):
        found.turns = 0  # type: ignore[misc]


def test_the_metrics_of_the_loop_that_asks(loop: pinloop.Loop) -> None:
    turn(loop)
    found = loop.run_until_complete(current_metrics())
    assert (found.loops, found.turns, found.tasks) == (1, 2, 1)
    assert pickle.loads(pickle.dumps(current_metrics)) is current_metrics
    other = asyncio.SelectorEventLoop()
    with contextlib.closing(other), pytest.raises(TypeError, match="not one of pinloop's"):
        other.run_until_complete(current_metrics())


def test_sums_and_differences(loop: pinloop.Loop) -> None:
    early = some(loop)
    late = some(loop)
    both = early + late
    assert sum([early, late], Metrics()) == both
    assert (both.loops, both.turns, both.lag.count) == (
        2,
        early.turns + late.turns,
        early.lag.count + late.lag.count,
    )
    assert both.largest_batch == max(early.largest_batch, late.largest_batch)
    assert both.idle == pytest.approx(early.idle + late.idle)
    between = late - early
    assert (between.loops, between.turns) == (1, late.turns - early.turns)
    assert between.lag.count == late.lag.count - early.lag.count
    assert between.idle == pytest.approx(late.idle - early.idle)
    assert 0 < between.load < 1
    assert (late - late).load == 0
    for wrong in (1, None, "x"):
        with pytest.raises(TypeError):
            late + wrong  # type: ignore[operator]
        with pytest.raises(TypeError):
            late - wrong  # type: ignore[operator]
        with pytest.raises(TypeError):
            late.lag + wrong  # type: ignore[operator]
        with pytest.raises(TypeError):
            late.lag - wrong  # type: ignore[operator]


def test_through_json_and_back(loop: pinloop.Loop) -> None:
    found = some(loop)
    assert Metrics.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    assert Metrics.from_dict({"turns": 3, "of a later version": []}) == Metrics(turns=3)


@pytest.mark.parametrize(
    "values",
    [
        {"turns": 1.5},
        {"turns": True},
        {"turns": "1"},
        {"busy": "1"},
        {"busy": None},
        {"lag": 3},
        {"lag": {"counts": [1], "total": 0}},
        {"lag": {"counts": [0.5] * BUCKETS, "total": 0}},
        {"lag": {"counts": [0] * BUCKETS}},
        {"lag": {"counts": 7, "total": 0}},
        [],
    ],
)
def test_what_is_no_metrics_is_refused(values: Any) -> None:
    if values == []:
        assert Metrics.from_dict(values) == Metrics()
        return
    with pytest.raises(ValueError, match=r"must be|not the metrics|buckets"):
        Metrics.from_dict(values)


def test_a_histograms_quantiles() -> None:
    empty = Histogram()
    assert (empty.count, empty.mean, empty.quantile(0.5), empty.quantile(1)) == (0, 0, 0, 0)
    counts = [0] * BUCKETS
    counts[3], counts[10] = 90, 10
    found = Histogram(tuple(counts), 0.02)
    assert found.count == 100
    assert found.mean == pytest.approx(0.0002)
    assert found.quantile(0) == found.quantile(0.9) == 8e-6
    assert found.quantile(0.91) == found.quantile(1) == 1024e-6
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="share"):
            found.quantile(wrong)
    with pytest.raises(ValueError, match="25 buckets"):
        Histogram((1, 2))


def test_every_number_is_described() -> None:
    text = Path(sys.modules["pinloop.metrics"].__file__ or "").read_text()
    body = text[text.index("class Metrics") :]
    for name in FIELDS:
        line = next(line for line in body.splitlines() if line.startswith(f"    {name}: "))
        assert body[body.index(line) + len(line) :].lstrip().startswith('"""'), name
