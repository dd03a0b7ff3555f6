"""The Poller contract, on every backend that this machine has."""

import errno
import os
import select
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator

import pytest

from pinloop import _core
from tests.core.support import EDGE, OTHER, READ, WRITE, run_python, socket_pair


@pytest.fixture(params=_core.available_pollers(), ids=lambda cls: cls.__name__)
def poller(request: pytest.FixtureRequest) -> Iterator[_core.Poller]:
    poller = request.param()
    yield poller
    poller.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket_pair()
    yield near, far
    near.close()
    far.close()


Pair = tuple[socket.socket, socket.socket]


def fill(sock: socket.socket) -> None:
    """Write until nothing more fits."""
    with pytest.raises(BlockingIOError):
        while True:
            sock.send(bytes(65536))


def masks(poller: _core.Poller, timeout: float = 0) -> dict[int, int]:
    """fd -> everything that one poll told of it, but for OTHER, which not every backend knows."""
    found: dict[int, int] = {}
    for fd, mask, _ in poller.poll(timeout):
        found[fd] = found.get(fd, 0) | mask & ~OTHER
    return found


def test_there_is_a_backend_and_the_default_is_one() -> None:
    assert type(_core.default_poller()) in _core.available_pollers()


def test_a_name_and_a_descriptor(poller: _core.Poller) -> None:
    assert poller.name in ("epoll", "kqueue")
    assert not os.get_inheritable(poller.fileno())


# ------------------------------------------------------------------- readiness --


def test_readable(poller: _core.Poller, pair: Pair) -> None:
    near, far = pair
    poller.register(near.fileno(), READ, 7)
    assert poller.poll(0) == []
    far.send(b"x")
    assert poller.poll(None) == [(near.fileno(), READ, 7)]


def test_writable(poller: _core.Poller, pair: Pair) -> None:
    near, far = pair
    fill(near)
    poller.register(near.fileno(), WRITE, 8)
    assert poller.poll(0) == []
    while True:
        try:
            far.recv(1 << 20)
        except BlockingIOError:
            break
    assert poller.poll(None) == [(near.fileno(), WRITE, 8)]


def test_both(poller: _core.Poller, pair: Pair) -> None:
    near, far = pair
    poller.register(near.fileno(), READ | WRITE)
    assert masks(poller) == {near.fileno(): WRITE}
    far.send(b"x")
    assert masks(poller) == {near.fileno(): READ | WRITE}


def test_what_was_not_asked_for_is_not_told(poller: _core.Poller, pair: Pair) -> None:
    near, far = pair
    fill(near)
    far.send(b"x")
    poller.register(near.fileno(), WRITE)
    poller.register(far.fileno(), READ)
    assert masks(poller) == {far.fileno(): READ}
    near.recv(1)


def test_the_generation_is_carried_whole(poller: _core.Poller, pair: Pair) -> None:
    near, far = pair
    far.send(b"x")
    for generation in (0, 1, 0xFFFF_FFFF, 0x8000_0000):
        poller.register(near.fileno(), READ, generation)
        assert poller.poll(0) == [(near.fileno(), READ, generation)]
        poller.unregister(near.fileno(), READ)


def test_a_level_is_told_again_and_again(poller: _core.Poller, pair: Pair) -> None:
    near, far = pair
    poller.register(near.fileno(), READ)
    far.send(b"x")
    for _ in range(3):
        assert masks(poller) == {near.fileno(): READ}
    near.recv(1)
    assert poller.poll(0) == []


def test_an_edge_is_told_once(poller: _core.Poller, pair: Pair) -> None:
    near, far = pair
    poller.register(near.fileno(), READ | EDGE)
    for _ in range(2):
        far.send(b"x")
        assert masks(poller) == {near.fileno(): READ}
        assert poller.poll(0) == []


def test_change(poller: _core.Poller, pair: Pair) -> None:
    near, far = pair
    far.send(b"x")
    fd = near.fileno()
    poller.register(fd, READ, 1)
    poller.change(fd, READ, WRITE, 2)
    assert poller.poll(0) == [(fd, WRITE, 2)]
    poller.change(fd, WRITE, READ | WRITE, 3)
    assert masks(poller) == {fd: READ | WRITE}
    poller.change(fd, READ | WRITE, READ, 4)
    assert poller.poll(0) == [(fd, READ, 4)]


def test_unregister(poller: _core.Poller, pair: Pair) -> None:
    near, far = pair
    far.send(b"x")
    poller.register(near.fileno(), READ | WRITE)
    poller.unregister(near.fileno(), READ | WRITE)
    assert poller.poll(0) == []
    poller.register(near.fileno(), READ)
    assert masks(poller) == {near.fileno(): READ}


# ------------------------------------------------------------ hang-ups and errors --


@pytest.mark.parametrize("asked", [READ, WRITE, READ | WRITE])
def test_a_hang_up_is_told_at_least_as_what_was_asked_for(
    poller: _core.Poller, pair: Pair, asked: int
) -> None:
    near, far = pair
    fill(near)
    poller.register(near.fileno(), asked)
    far.close()
    assert masks(poller, 5)[near.fileno()] & asked == asked


def test_a_half_closed_peer_is_readable(poller: _core.Poller, pair: Pair) -> None:
    near, far = pair
    fill(near)
    poller.register(near.fileno(), READ | WRITE)
    far.shutdown(socket.SHUT_WR)
    assert masks(poller) == {near.fileno(): READ}
    assert near.recv(1) == b""


@pytest.mark.parametrize("asked", [READ, WRITE])
def test_a_refused_connect_is_told_at_least_as_what_was_asked_for(poller: _core.Poller, asked: int) -> None:
    with socket.socket() as bound, socket.socket() as sock:
        bound.bind(("127.0.0.1", 0))  # not listening
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.connect(bound.getsockname())
        poller.register(sock.fileno(), asked)
        assert masks(poller, 5)[sock.fileno()] & asked == asked
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_the_broken_read_end_of_a_pipe_is_told_to_the_writer(poller: _core.Poller) -> None:
    near, far = os.pipe()
    poller.register(far, WRITE)
    os.close(near)
    assert masks(poller)[far] & WRITE
    poller.unregister(far, WRITE)
    os.close(far)


# ------------------------------------------------------------------------ timeouts --


@pytest.mark.parametrize("timeout", [1e-9, 1e-6, 0.0001, 0.00099, 0.001, 0.0015, 0.01, 0.0333])
def test_a_timeout_is_never_early_and_not_long_overdue(poller: _core.Poller, timeout: float) -> None:
    for _ in range(3):
        begin = poller.clock()
        assert poller.poll(timeout) == []
        elapsed = poller.clock() - begin
        assert elapsed >= timeout * 1e9
        assert elapsed < timeout * 1e9 + 1e9


WITHOUT_PWAIT2 = """
import ctypes, struct, sys, time
from pinloop import _core

SYS_epoll_pwait2, ALLOW, ERRNO = 441, 0x7FFF0000, 0x00050000
filters = b"".join(struct.pack("HBBI", *each) for each in [
    (0x20, 0, 0, 0),                              # load the number of the system call
    (0x15, 0, 1, SYS_epoll_pwait2),               # is it this one?
    (0x06, 0, 0, ERRNO | int(sys.argv[1])),
    (0x06, 0, 0, ALLOW),
])
code = ctypes.create_string_buffer(filters)
program = struct.pack("HxxxxxxP", 4, ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0):
    print("no seccomp here")
    sys.exit()
poller = _core.EpollPoller()
for timeout in (1e-9, 0.0001, 0.00099, 0.001, 0.0015, 0.0101):
    begin = poller.clock()
    assert poller.poll(timeout) == []
    assert timeout * 1e9 <= poller.clock() - begin < timeout * 1e9 + 1e9, timeout
print("never early")
"""


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="Linux")
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_a_kernel_without_epoll_pwait2_is_never_early_either(error: int) -> None:
    out = run_python(WITHOUT_PWAIT2, str(error))
    if "no seccomp" in out:
        pytest.skip("no seccomp here")
    assert out == "never early\n"


@pytest.mark.parametrize("timeout", [0, -1, 0.0, -0.5])
def test_zero_and_less_do_not_wait(poller: _core.Poller, timeout: float) -> None:
    begin = time.monotonic()
    assert poller.poll(timeout) == []
    assert time.monotonic() - begin < 1


def test_none_waits_for_as_long_as_it_takes_without_the_gil(poller: _core.Poller, pair: Pair) -> None:
    near, far = pair
    poller.register(near.fileno(), READ)
    thread = threading.Thread(target=far.send, args=(b"x",))  # could not run if the wait held the GIL
    thread.start()
    assert masks(poller, None) == {near.fileno(): READ}  # type: ignore[arg-type]
    thread.join()


def test_an_event_ends_a_long_wait_early(poller: _core.Poller, pair: Pair) -> None:
    near, far = pair
    poller.register(near.fileno(), READ)
    thread = threading.Thread(target=far.send, args=(b"x",))
    thread.start()
    begin = time.monotonic()
    assert masks(poller, 30) == {near.fileno(): READ}
    assert time.monotonic() - begin < 10
    thread.join()


def test_the_clock_is_the_monotonic_one(poller: _core.Poller) -> None:
    before = time.monotonic_ns()
    now = poller.clock()
    assert before <= now <= time.monotonic_ns()


# ------------------------------------------------------------------------- signals --


def kill_while_waiting(poller: _core.Poller, seconds: float) -> list[tuple[int, int, int]]:
    """What a wait gives during which SIGUSR1 arrives."""
    main = threading.main_thread().ident
    assert main is not None
    # Sent until it was heeded: one that came before the wait would not end it.
    done = threading.Event()

    def send() -> None:
        while not done.wait(0.01):
            signal.pthread_kill(main, signal.SIGUSR1)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        return poller.poll(seconds)
    finally:
        done.set()
        thread.join()


def test_a_signal_ends_a_wait_without_events_after_its_handler_ran(poller: _core.Poller) -> None:
    ran: list[int] = []
    previous = signal.signal(signal.SIGUSR1, lambda sig, _: ran.append(sig))
    try:
        begin = time.monotonic()
        assert kill_while_waiting(poller, 30) == []
        assert time.monotonic() - begin < 10
        assert ran
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_an_exception_of_a_signals_handler_comes_out_of_the_wait(poller: _core.Poller) -> None:
    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        raise ZeroDivisionError

    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(ZeroDivisionError):
            kill_while_waiting(poller, 30)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert poller.poll(0) == []


# ------------------------------------------------------------------------ refusals --


def test_a_closed_fd_is_ebadf(poller: _core.Poller) -> None:
    near, far = os.pipe()
    os.close(near)
    os.close(far)
    for call in (
        lambda: poller.register(near, READ),
        lambda: poller.change(near, READ, WRITE),
        lambda: poller.unregister(near, READ),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EBADF
        assert str(near) in str(caught.value)


def test_a_second_registration_is_refused(poller: _core.Poller, pair: Pair) -> None:
    if poller.name == "kqueue":
        pytest.skip("EV_ADD changes an existing filter; the reactor keeps the masks")
    poller.register(pair[0].fileno(), READ)
    with pytest.raises(FileExistsError):
        poller.register(pair[0].fileno(), WRITE)


def test_what_was_never_registered_cannot_be_unregistered(poller: _core.Poller, pair: Pair) -> None:
    with pytest.raises(FileNotFoundError):
        poller.unregister(pair[0].fileno(), READ)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="kqueue can watch files")
def test_a_regular_file_is_eperm(poller: _core.Poller) -> None:
    with tempfile.TemporaryFile() as file, pytest.raises(PermissionError):
        poller.register(file.fileno(), READ)


@pytest.mark.skipif(_core.KqueuePoller in _core.available_pollers(), reason="there is a kqueue here")
def test_a_backend_that_the_platform_lacks_cannot_be_made() -> None:
    with pytest.raises(OSError) as caught:
        _core.KqueuePoller()
    assert caught.value.errno == errno.ENOSYS


@pytest.mark.skipif(_core.EpollPoller in _core.available_pollers(), reason="there is an epoll here")
def test_epoll_cannot_be_made_where_there_is_none() -> None:
    with pytest.raises(OSError):
        _core.EpollPoller()


def test_close_may_be_called_twice_and_nothing_works_after_it(poller: _core.Poller, pair: Pair) -> None:
    poller.close()
    assert poller.fileno() == -1
    innocent = os.dup(pair[0].fileno())  # likely the number that the poller had
    poller.close()
    os.fstat(innocent)
    os.close(innocent)
    with pytest.raises(OSError):
        poller.register(pair[0].fileno(), READ)
    with pytest.raises(OSError):
        poller.poll(0)


# --------------------------------------------------------------------- many at once --


@pytest.mark.parametrize(("count", "capacity"), [(50, 8), (400, 64), (400, 1000)])
def test_more_ready_fds_than_fit_are_told_over_several_polls(
    poller: _core.Poller, count: int, capacity: int
) -> None:
    pipes = [os.pipe() for _ in range(count)]
    for generation, (near, far) in enumerate(pipes):
        poller.register(near, READ, generation)
        os.write(far, b"x")
    seen: dict[int, int] = {}
    for _ in range(count):
        events = poller.poll(0, capacity)
        assert len(events) <= capacity
        for fd, _, generation in events:
            os.read(fd, 1)
            seen[fd] = generation
        if not events:
            break
    assert seen == {near: generation for generation, (near, _) in enumerate(pipes)}
    for near, far in pipes:
        poller.unregister(near, READ)
        os.close(near)
        os.close(far)


# ---------------------------------------------------------------------- the abstract --


def test_the_base_class_says_what_is_missing() -> None:
    poller = _core.Poller()
    for call in (
        lambda: poller.register(0, READ),
        lambda: poller.change(0, READ, WRITE),
        lambda: poller.unregister(0, READ),
        lambda: poller.poll(0),
    ):
        with pytest.raises(NotImplementedError, match=r"Poller\."):
            call()
    poller.close()


def test_scripted_registrations_follow_the_contract() -> None:
    poller = _core.ScriptedPoller()
    poller.register(5, READ, 9)
    assert poller.registered == {5: (READ, 9)}
    with pytest.raises(FileExistsError):
        poller.register(5, WRITE)
    poller.change(5, READ, WRITE, 10)
    assert poller.registered == {5: (WRITE, 10)}
    poller.unregister(5, WRITE)
    with pytest.raises(FileNotFoundError):
        poller.unregister(5, WRITE)
    with pytest.raises(FileNotFoundError):
        poller.change(5, READ, WRITE)


def test_scripted_waits_play_the_script() -> None:
    def late() -> list[tuple[int, int]]:
        poller.register(6, READ, 4)
        return [(6, READ)]

    poller = _core.ScriptedPoller([[(5, READ), (5, WRITE, 77)], [], late, lambda: None], start_ns=100)
    poller.register(5, READ, 3)
    assert poller.poll(1) == [(5, READ, 3), (5, WRITE, 77)]
    assert poller.clock() == 100
    assert poller.poll(1e-6) == []
    assert poller.clock() == 1100
    assert poller.poll(None) == [(6, READ, 4)]
    assert poller.poll(None) == []  # a wake
    assert poller.poll(0.5) == []
    assert poller.clock_ns == 500_001_100
    with pytest.raises(RuntimeError, match="never return"):
        poller.poll(None)


def test_a_scripted_batch_is_cut_to_the_capacity() -> None:
    poller = _core.ScriptedPoller([[(fd, READ, 0) for fd in range(10)]])
    assert len(poller.poll(0, 4)) == 4
