"""What the tests have workers do. Workers import it by its name."""

import asyncio
import contextvars
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

import pinloop

colour: contextvars.ContextVar[Any] = contextvars.ContextVar("colour", default="none")


async def add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


async def echo(value: Any) -> Any:
    return value


def plain(value: Any) -> tuple[Any, int]:
    return value, os.getpid()


def pid() -> int:
    return os.getpid()


async def fail(message: str) -> NoReturn:
    raise LookupError(message)


def fail_plainly(message: str) -> NoReturn:
    raise LookupError(message)


async def fail_after(message: str, path: str | None) -> NoReturn:
    """Fail at once, or when there is such a file."""
    while path is not None and not os.path.exists(path):
        await asyncio.sleep(0.001)
    raise LookupError(message)


class Picky(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("picky")
        self.args = ("picky",)


class Holder(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__(threading.Lock())


async def raise_picky() -> NoReturn:
    raise Picky(1, 2)


async def raise_holder() -> NoReturn:
    raise Holder


async def raise_group() -> NoReturn:
    raise ExceptionGroup("two", [ValueError("one"), KeyError("two")])


async def raise_base() -> NoReturn:
    raise BaseExceptionGroup("one", [asyncio.CancelledError("inside")])


def raise_stop() -> NoReturn:
    raise StopIteration(3)


async def exit_softly(code: int) -> NoReturn:
    sys.exit(code)


def exit_hard(code: int) -> NoReturn:
    os._exit(code)


async def cancel_itself(message: str) -> None:
    raise asyncio.CancelledError(message)


async def unpicklable() -> Any:
    return threading.Lock()


class Explosive:
    """Cannot be unpickled."""

    def __reduce__(self) -> Any:
        return explode, ()


def explode() -> NoReturn:
    raise ValueError("it went off")


async def explosive() -> Explosive:
    return Explosive()


async def generate() -> Any:
    yield 1


class Waits:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return "awaited"


def wait() -> Waits:
    return Waits()


async def touch_and_wait(path: str) -> None:
    """Say that it runs, then wait for its cancellation, and say that it came."""
    report(path, "running")
    try:
        await asyncio.Event().wait()
    finally:
        report(path, "cancelled")


async def slow_to_go(path: str) -> None:
    report(path, "running")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        for _ in range(5):
            await asyncio.sleep(0.01)
        report(path, "gone")
        raise


async def will_not_go(path: str) -> str:
    report(path, "running")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        pass
    return "stayed"


async def fails_to_go(path: str) -> None:
    report(path, "running")
    try:
        await asyncio.Event().wait()
    finally:
        raise LookupError("while it was cancelled")


def report(path: str, what: str) -> None:
    with open(path, "a") as file:
        file.write(what + "\n")


async def block(path: str) -> None:
    """Block the loop for ever."""
    report(path, "running")
    threading.Event().wait()


def wait_for_file(path: str, other: str) -> None:
    """Block the loop until there is another file."""
    report(path, "running")
    while not os.path.exists(other):
        time.sleep(0.001)


async def run_until_killed(path: str) -> None:
    report(path, "running")
    await asyncio.Event().wait()


def segfault() -> None:
    ctypes.string_at(0)


def kill_yourself(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)


def affinity() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def name_of_loop() -> str:
    return type(asyncio.get_running_loop()).__module__


def worker() -> Any:
    return pinloop.workers.current_worker()


def get_colour() -> Any:
    return colour.get()


async def get_colour_later() -> Any:
    await asyncio.sleep(0)
    return colour.get()


async def set_colour(value: str) -> None:
    colour.set(value)


async def remaining() -> float | None:
    scope = pinloop.scopes.current_scope()
    if scope is None or scope.deadline is None:
        return None
    return scope.deadline - asyncio.get_running_loop().time()


def square(x: int) -> int:
    return x * x


async def square_slowly(x: int) -> int:
    await asyncio.sleep(0.001 * (x % 3))
    return x * x


async def fails_at(x: int, bad: int) -> int:
    if x == bad:
        raise LookupError(f"at {x}")
    return x


def plain_first(pair: tuple[int, int]) -> int:
    return pair[0]


async def later(x: int) -> int:
    await asyncio.sleep(0)
    return x


def now_or_later(x: int, odd: bool = True) -> Any:
    return later(x) if x % 2 == odd else x


def stops_at_3(x: int) -> int:
    if x == 3:
        raise StopIteration
    return x


async def later_fails_at_3(x: int) -> int:
    return await later(x) if x != 3 else await fail("at 3")


def nap(seconds: float) -> None:
    time.sleep(seconds)


async def wait_in_file(path: str, x: int) -> None:
    report(path, f"running {x}")
    try:
        await asyncio.Event().wait()
    finally:
        report(path, f"cancelled {x}")


# Hooks: what they do is seen by later calls.

opened: contextvars.ContextVar[list[str]] = contextvars.ContextVar("opened")


async def open_something() -> str:
    await asyncio.sleep(0)
    opened.set(["opened"])
    return "a connection"


def open_plainly() -> str:
    opened.set(["plainly"])
    return "plain"


def get_opened() -> list[str]:
    return opened.get()


def mark_close(path: str) -> None:
    report(path, f"closed {opened.get()[0]}")


async def setup_fails() -> NoReturn:
    raise LookupError("no database")


def setup_exits() -> NoReturn:
    os._exit(9)


def setup_fails_once(path: str) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))  # one of two that ask at once is the first
    except FileExistsError:
        raise LookupError("not again") from None


async def setup_hangs() -> None:
    await asyncio.Event().wait()


def teardown_fails() -> NoReturn:
    raise LookupError("cannot close")


async def teardown_hangs() -> None:
    await asyncio.Event().wait()


def make_lock(_: int) -> Any:
    return threading.Lock()


def crash_once(path: str, x: int) -> int:
    if x == 5 and not os.path.exists(path):
        report(path, "crashed")
        os._exit(1)
    return x


# Channels: one end of each is here.


async def produce(tx: pinloop.Sender[Any], items: Any) -> str:
    async with tx:
        for item in items:
            await tx.send(item)
    return "produced"


async def produce_then(tx: pinloop.Sender[Any], items: Any, then: Any) -> None:
    for item in items:
        await tx.send(item)
    await asyncio.sleep(0.05)  # so that they have left
    then()


async def consume(rx: pinloop.Receiver[Any], most: int = 10**9) -> list[Any]:
    got = []
    async with rx:
        async for item in rx:
            got.append(item)
            if len(got) == most:
                break
    return got


async def answer(rx: pinloop.Receiver[Any], tx: pinloop.Sender[Any]) -> None:
    async with rx, tx:
        async for item in rx:
            await tx.send(item + 1)


def spend(seconds: float) -> None:
    """Hold up the loop for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


async def spend_later(seconds: float) -> None:
    spend(seconds)


async def send_back(rx: pinloop.Receiver[Any], tx: pinloop.Sender[Any]) -> None:
    async with rx, tx:
        async for item in rx:
            await tx.send(item)


async def hold(end: Any, path: str) -> None:
    report(path, "holding")
    try:
        await asyncio.Event().wait()
    finally:
        end.close()


async def recv_one(rx: pinloop.Receiver[Any], hold_on: float = 0) -> Any:
    return await rx.recv()


async def send_until_broken(tx: pinloop.Sender[Any]) -> tuple[int, str]:
    sent = 0
    while True:
        try:
            await tx.send(sent)
        except pinloop.BrokenChannel as error:
            return sent, str(error)
        sent += 1


async def recv_until_broken(rx: pinloop.Receiver[Any]) -> tuple[list[Any], str]:
    got = []
    while True:
        try:
            got.append(await rx.recv())
        except pinloop.ChannelError as error:
            return got, f"{type(error).__name__}: {error}"


async def select_from(rx1: pinloop.Receiver[Any], rx2: pinloop.Receiver[Any]) -> list[Any]:
    got = []
    while len(got) < 4:
        arm, item = await pinloop.select(rx1, rx2)
        got.append((arm, item))
    rx1.close()
    rx2.close()
    return got


async def ignore_second(rx: pinloop.Receiver[Any], _: Any) -> None:
    rx.close()


# Supervision.

hoard: list[bytes] = []


def swell(size: int) -> int:
    hoard.append(b"\1" * size)
    return size


def stop_yourself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


async def pause(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


def open_files() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return found


def files_of_a_child() -> str:
    import subprocess

    code = (
        "import os; print(*(os.readlink(p) for i in range(20) if os.path.exists(p := f'/proc/self/fd/{i}')))"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, close_fds=False, check=True).stdout


async def sometimes(x: int, chance: int) -> int:
    """One in `chance` ends the worker."""
    await asyncio.sleep(0)
    if chance and x % chance == chance - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


# Threads.

thread_gate = threading.Event()


def where() -> int:
    return threading.get_ident()


async def wait_at_gate(path: str) -> None:
    report(path, "running")
    thread_gate.wait()


def thread_affinity() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def stdin_is_empty() -> bool:
    return os.read(0, 1) == b""


def process_name() -> str:
    import multiprocessing

    return multiprocessing.current_process().name


# Sockets.


async def serve_one(listener: socket.socket) -> str:
    """Accept a connection, and send what comes back in capitals."""
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    with listener:
        connection, _ = await loop.sock_accept(listener)
        with connection:
            await loop.sock_sendall(connection, (await loop.sock_recv(connection, 100)).upper())
    return f"{listener.family.name} {listener.type.name}"


def send_on(a: socket.socket, text: str, b: socket.socket, block: bytes) -> list[Any]:
    with a, b:
        a.sendall(text.encode())
        b.sendall(text[::-1].encode())
        return [a.gettimeout(), b.gettimeout(), len(block)]


def boom_with(sock: socket.socket, explosive: Any) -> None: ...


def kind_of(value: Any) -> str:
    with value:
        return type(value).__name__


def busy(seconds: float) -> int:
    """Compute for a while; the worker that did."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    where = pinloop.workers.current_worker()
    assert where is not None
    return where.index


async def busy_later(seconds: float) -> int:
    return busy(seconds)


def busy_told(path: str, x: int, seconds: float = 0.001) -> int:
    report(path, str(x))
    return busy(seconds)


def busy_length(value: bytearray) -> tuple[int, int]:
    return len(value), busy(0.002)


def busy_with(value: Any) -> int:
    return busy(0.002)


class PickledOnce:
    """What it becomes cannot be pickled."""

    def __reduce__(self) -> Any:
        return threading.Lock, ()


class UnpickledThere:
    """It can be unpickled everywhere but where it comes from."""

    def __reduce__(self) -> Any:
        return unpickled_there, (os.getpid(),)


class Back(UnpickledThere):
    """Of `UnpickledThere`, what comes of it: pickled once more, it says where it was first."""

    def __init__(self, origin: int) -> None:
        self.origin = origin

    def __reduce__(self) -> Any:
        return unpickled_there, (self.origin,)


def unpickled_there(origin: int) -> Back:
    if os.getpid() == origin:
        raise LookupError("not here")
    return Back(origin)
