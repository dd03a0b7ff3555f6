# The docstrings are those of the extension module, for the tools that show them.
# ruff: noqa: PYI021
"""The native floors of pinloop.

One module, so that calls between its parts inline; its body is split by role, in
floor order, and each file may use only the files above it.  The data model is in
_core.pxd.
"""

import asyncio
import ssl
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Hashable, Iterable
from contextvars import Context, ContextVar
from socket import socket
from traceback import StackSummary
from types import FrameType, GenericAlias, TracebackType
from typing import (
    IO,
    Any,
    Generic,
    Literal,
    NoReturn,
    Protocol,
    Self,
    SupportsIndex,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    final,
    overload,
    type_check_only,
)

from _typeshed import FileDescriptorLike, ReadableBuffer, WriteableBuffer
from typing_extensions import disjoint_base

from ._channel_parts import ChannelStatistics

_T = TypeVar("_T")
_T2 = TypeVar("_T2")
_T3 = TypeVar("_T3")
_T4 = TypeVar("_T4")
_T5 = TypeVar("_T5")
_Ts = TypeVarTuple("_Ts")

# factory(loop, coro), and from 3.13.3 on the keywords of create_task as they came.
_TaskFactory: TypeAlias = Callable[..., asyncio.Future[Any]]

# (fd, mask) or (fd, mask, generation)
_ScriptedEvent: TypeAlias = tuple[int, int] | tuple[int, int, int]
_ScriptedBatch: TypeAlias = Iterable[_ScriptedEvent] | Callable[[], Iterable[_ScriptedEvent] | None]

@type_check_only
class _TlsConfig(Protocol):
    @property
    def context(self) -> ssl.SSLContext: ...
    @property
    def handshake_timeout(self) -> float: ...
    @property
    def shutdown_timeout(self) -> float: ...

@type_check_only
class _TransportOwner(Protocol):
    """What a listener tells of its connections: a `Server`."""

    def _attach(self, transport: asyncio.Transport, /) -> object: ...
    def _detach(self, transport: asyncio.Transport, /) -> object: ...

# ------------------------------------------------------------------ the poll --

@disjoint_base
class Poller:
    """What the reactor needs of a kernel: readiness and a clock.  Never calls anyone."""

    @property
    def name(self) -> str: ...
    def register(self, fd: int, mask: int, generation: int = 0) -> None:
        """Watch `fd` for `mask` (EV_READ | EV_WRITE | EV_EDGE).

        Raises FileExistsError if it is registered already, and the kernel's OSError
        (EBADF, EPERM) for an fd that is closed or cannot be polled.
        """
    def change(self, fd: int, old: int, mask: int, generation: int = 0) -> None:
        """Watch a registered `fd`, whose mask is `old`, for `mask` instead."""
    def unregister(self, fd: int, mask: int) -> None:
        """Stop watching `fd`, whose mask is `mask`."""
    def poll(self, timeout: float | None = None, capacity: int = 64) -> list[tuple[int, int, int]]:
        """Wait up to `timeout` seconds (None: for ever); a list of (fd, mask, generation)."""
    def clock(self) -> int:
        """This poller's clock, in nanoseconds."""
    def close(self) -> None:
        """Give the kernel object back.  May be called twice."""

@disjoint_base
class EpollPoller(Poller):
    def fileno(self) -> int:
        """The epoll fd, -1 once closed."""

@disjoint_base
class KqueuePoller(Poller):
    def fileno(self) -> int:
        """The kqueue fd, -1 once closed."""

@disjoint_base
class ScriptedPoller(Poller):
    """Drives a reactor from a script.

    `script` is an iterable with an entry per wait: a list of (fd, mask) or
    (fd, mask, generation), or a callable that returns one (and may do anything
    meanwhile: push from a thread, raise); a callable that returns None is a wake
    without events.  Without a generation an event carries the one registered now.  A
    wait with no events lets its timeout pass on the virtual clock; one that would
    block for ever raises RuntimeError, since nothing could ever wake it.
    """

    def __init__(self, script: Iterable[_ScriptedBatch] = (), *, start_ns: int = ...) -> None: ...
    @property
    def clock_ns(self) -> int:
        """The virtual time, in nanoseconds."""
    @clock_ns.setter
    def clock_ns(self, value: int) -> None: ...
    @property
    def registered(self) -> dict[int, tuple[int, int]]: ...
    @property
    def calls(self) -> list[tuple[Any, ...]]: ...

@disjoint_base
class VirtualPoller(Poller):
    """The kernel's readiness on a clock of its own, which starts at 0 and stands still.

    `kernel` is the Poller that is asked for events, the platform's best by default.
    """

    def __init__(self, kernel: Poller | None = None) -> None: ...

def default_poller() -> Poller:
    """The best Poller of this platform: epoll on Linux, kqueue on macOS and the BSDs."""

def available_pollers() -> list[type[Poller]]:
    """The classes of the kernel-backed Pollers that work on this machine."""

# --------------------------------------------------------------- the reactor --

@disjoint_base
class Runnable:
    """What the ready ring and the flush list hold."""

@disjoint_base
class Watcher(Runnable):
    """An fd under a reactor.  Its registration ends before the fd is closed."""

class WakeWatcher(Watcher):
    """The inbox's fd: its readiness is the wake, there is nothing to read from it but that."""

@disjoint_base
class CallbackWatcher(Watcher):
    """add_reader / add_writer: one fd, up to two callbacks."""

@final
class SocketWatcher(CallbackWatcher):
    """add_reader / add_writer on a socket, and the sock_* calls that wait for it."""

@disjoint_base
class SlotTable:
    """Who watches which fd, in step with what the poller holds."""

@disjoint_base
class Reactor(SlotTable):
    slow_callback_duration: float

# ------------------------------------------------------------------- handles --

@disjoint_base
class Handle(Runnable):
    """A scheduled callback, as `call_soon` returns it.

    Not made directly.  It stands in for asyncio.Handle, `isinstance` included, but is
    not a subclass: it has no attributes of its own to set and no weak references.
    """

    def cancel(self) -> None:
        """Keep the callback from being called.  Has no effect once it was, or a second time."""
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
    def get_context(self) -> Context:
        """The contextvars.Context in which the callback runs."""
    @property
    def _callback(self) -> Callable[..., object] | None: ...
    @property
    def _args(self) -> tuple[Any, ...] | None: ...
    @property
    def _context(self) -> Context: ...
    @property
    def _cancelled(self) -> bool: ...
    @property
    def _source_traceback(self) -> StackSummary | None: ...

@final
class TimerHandle(Handle):
    """A callback scheduled for a time, as `call_later` and `call_at` return it."""

    def when(self) -> float:
        """The time at which it is due, in seconds on the loop's clock; an int if `call_at` was given one."""
    def cancel(self) -> None:
        """Keep the callback from being called.  O(1)."""
    @property
    def _when(self) -> float: ...
    @property
    def _scheduled(self) -> bool: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object) -> bool: ...
    def __lt__(self, other: TimerHandle) -> bool: ...
    def __le__(self, other: TimerHandle) -> bool: ...
    def __gt__(self, other: TimerHandle) -> bool: ...
    def __ge__(self, other: TimerHandle) -> bool: ...

# --------------------------------------------------------- futures and tasks --

class Future(Runnable, Generic[_T]):
    """A future of any asyncio loop.  Made by `loop.create_future()`, or by calling it.

    It stands in for asyncio.Future, `isinstance` included, and does in each case what that does.  On a
    pinloop loop callbacks go onto the ready ring directly, and so do tasks that await it.
    """

    _asyncio_future_blocking: bool
    _cancel_message: Any
    _log_traceback: bool
    def __init__(self, *, loop: asyncio.AbstractEventLoop | None = None) -> None: ...
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...
    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop it belongs to."""
    def done(self) -> bool:
        """Whether it has a result or an exception, or was cancelled."""
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
    def result(self) -> _T:
        """The result.

        Raises the exception if there is one, CancelledError if it was cancelled, InvalidStateError if it
        is not done.
        """
    def exception(self) -> BaseException | None:
        """The exception, or None if there is a result.

        Raises CancelledError if it was cancelled, InvalidStateError if it is not done.
        """
    def set_result(self, result: _T, /) -> None:
        """Complete it with a result.  Raises InvalidStateError if it is done already."""
    def set_exception(self, exception: type[BaseException] | BaseException, /) -> None:
        """Complete it with an exception, given as an instance or a class.

        Raises InvalidStateError if it is done already, TypeError for what is no exception.
        """
    def cancel(self, msg: Any = None) -> bool:
        """Cancel it, and have its callbacks called.  False if it is done already."""
    def add_done_callback(self, fn: Callable[[Any], object], /, *, context: Context | None = None) -> None:
        """Call `fn(future)` through the loop once it is done, in `context` or a copy of the current one."""
    def remove_done_callback(self, fn: Callable[[Any], object], /) -> int:
        """Forget every callback that equals `fn`; how many there were."""
    def __await__(self) -> Generator[Any, None, _T]: ...
    def __iter__(self) -> Generator[Any, None, _T]: ...
    def _make_cancelled_error(self) -> asyncio.CancelledError:
        """The CancelledError to raise: asyncio's own functions ask for it."""
    @property
    def _asyncio_awaited_by(self) -> frozenset[Any] | None: ...
    @property
    def _loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def _callbacks(self) -> list[tuple[Callable[[Any], object], Context]] | None: ...
    @property
    def _result(self) -> _T | None: ...
    @property
    def _exception(self) -> BaseException | None: ...
    @property
    def _state(self) -> str: ...
    @property
    def _source_traceback(self) -> StackSummary | None: ...

class Task(Future[_T]):
    """A task of any asyncio loop.  Made by `loop.create_task()` or `asyncio.create_task()`.

    It stands in for asyncio.Task, `isinstance` included, and does in each case what that does.
    """

    _log_destroy_pending: bool
    def __init__(
        self,
        coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool | None = None,
    ) -> None: ...
    def get_coro(self) -> Coroutine[Any, Any, _T] | Generator[Any, None, _T] | None:
        """The coroutine; None if it ended in its eager start."""
    def get_context(self) -> Context:
        """The contextvars.Context in which it runs."""
    def get_name(self) -> str:
        """Its name: "Task-1" and so on, unless it was given one."""
    def set_name(self, value: object, /) -> None:
        """Name it str(value)."""
    def get_stack(self, *, limit: int | None = None) -> list[FrameType]:
        """The frames where it is suspended, or those of the traceback of its exception; see asyncio.Task."""
    def print_stack(self, *, limit: int | None = None, file: IO[str] | None = None) -> None:
        """Print the frames of `get_stack` as a traceback, to `file` or stderr."""
    def set_result(self, result: object, /) -> NoReturn:
        """Not for tasks: raises RuntimeError."""
    def set_exception(self, exception: object, /) -> NoReturn:
        """Not for tasks: raises RuntimeError."""
    def cancel(self, msg: Any = None) -> bool:
        """Have CancelledError raised in the coroutine where it waits.  False if the task is done.

        The coroutine may clean up, or refuse; only when it ends with the error is the task cancelled.
        Each call counts: see `cancelling` and `uncancel`.
        """
    def cancelling(self) -> int:
        """How many times it was asked to cancel, less those taken back."""
    def uncancel(self) -> int:
        """Take one cancellation request back; how many are left."""
    @property
    def _coro(self) -> Any: ...
    @property
    def _fut_waiter(self) -> Any: ...
    @property
    def _must_cancel(self) -> bool: ...

def future_add_to_awaited_by(fut: Any, waiter: Any, /) -> None:
    """Record that `fut` is awaited by `waiter`."""

def future_discard_from_awaited_by(fut: Any, waiter: Any, /) -> None:
    """Record that `fut` is no longer awaited by `waiter`."""

# ---------------------------------------------------------------- transports --

class Transport(Watcher):
    """What every transport is: a watcher that calls a protocol, in a context of its own."""

    def __del__(self) -> None: ...

@final
class StreamTransport(Transport):
    """A connected stream socket.  Stands in for asyncio.Transport, `isinstance` included."""

    def close(self) -> None:
        """Stop reading, send what was written, then close; `connection_lost(None)` follows."""
    def abort(self) -> None:
        """Close at once, dropping what the kernel does not take; `connection_lost(None)` follows."""
    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what happens from now on to another protocol."""
    def get_protocol(self) -> asyncio.BaseProtocol | None:
        """The current protocol; None once the connection is closed."""
    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`; the peer is held up by TCP's own flow control."""
    def resume_reading(self) -> None:
        """Deliver again."""
    def is_reading(self) -> bool:
        """Whether bytes that arrive are delivered."""
    def write(self, data: ReadableBuffer) -> None:
        """Send bytes-like `data`, without blocking: what the kernel does not take is queued.

        It leaves at the latest in the flush phase of this turn.  Raises TypeError for
        what is not bytes-like and RuntimeError after `write_eof`.  On a connection that
        is closed or lost it does nothing (the fifth time it logs a warning).
        """
    def writelines(self, list_of_data: Iterable[ReadableBuffer]) -> None:
        """Send several bytes-like objects, in one system call where the kernel takes them."""
    def write_eof(self) -> None:
        """Shut the write side once all that was written has left; reading goes on."""
    def can_write_eof(self) -> bool:
        """True: a stream socket can be closed by halves."""
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When `pause_writing` (above `high` bytes queued) and `resume_writing` (at `low`) are called.

        The defaults are high = 4 * low, or 64 KiB, and low = high // 4.  Raises
        ValueError unless high >= low >= 0.
        """
    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high), in bytes."""
    def get_write_buffer_size(self) -> int:
        """Bytes written that have not left yet."""
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """'peername', 'sockname', 'socket' (an asyncio.trsock.TransportSocket), or `default`."""

@final
class DatagramTransport(Transport):
    """A datagram socket.  Stands in for asyncio.DatagramTransport, `isinstance` included."""

    def close(self) -> None:
        """Deliver nothing more, send what was queued, then close; `connection_lost(None)` follows."""
    def abort(self) -> None:
        """Close at once, dropping what was not sent; `connection_lost(None)` follows."""
    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what happens from now on to another protocol."""
    def get_protocol(self) -> asyncio.BaseProtocol | None:
        """The current protocol; None once it is closed."""
    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`; what the kernel has no room for then is lost."""
    def resume_reading(self) -> None:
        """Deliver again."""
    def is_reading(self) -> bool:
        """Whether what arrives is delivered."""
    def sendto(self, data: ReadableBuffer, addr: Any = None) -> None:
        """Send bytes-like `data` to `addr`, without blocking: what the kernel does not take is queued.

        It leaves at the latest in the flush phase of this turn.  `addr` may be left out, or
        must be the same, where the endpoint has a `remote_addr`: ValueError otherwise.  Raises
        TypeError for what is not bytes-like, and what the socket raises for what is no address;
        OSError is told to `error_received`.  On a closed endpoint it does nothing (the fifth
        time it logs a warning).  A host name is looked up each time, which blocks.
        """
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When `pause_writing` (above `high` bytes queued) and `resume_writing` (at `low`) are called.

        The defaults are high = 4 * low, or 64 KiB, and low = high // 4.  Raises
        ValueError unless high >= low >= 0.
        """
    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high), in bytes."""
    def get_write_buffer_size(self) -> int:
        """Bytes that have not left yet; since Python 3.13 each datagram counts 8 more."""
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """'peername', 'sockname', 'socket' (an asyncio.trsock.TransportSocket), or `default`."""

@final
class Peer:
    """An address that datagrams come from or go to, as the kernel and as Python know it.  Never changes."""

@final
class AddressCache:
    """The addresses a loop met lately: which tuple a sockaddr becomes, and what sockaddr a tuple means.

    Each table has one place per hash value; what comes later takes it.
    """

@final
class ReceiveBuffers:
    """Where a batch of datagrams lands: room for the largest that there are."""

class TlsEngine:
    """What TlsTransport needs of TLS."""

@final
class OpensslEngine(TlsEngine): ...

@final
class MemoryEngine(TlsEngine): ...

@final
class TlsRecords:
    """The protocol that the transport below a TlsTransport sees."""

    def connection_made(self, transport: Any) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self, exception: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

@final
class TlsTransport(Transport):
    """A TLS connection (RFC 8446, RFC 5246).  Stands in for asyncio.Transport, `isinstance` included."""

    def abort(self) -> None:
        """Close at once, dropping what was not sent; `connection_lost(None)` follows."""
    def close(self) -> None:
        """Stop delivering, send what was written and close_notify, then close; `connection_lost` follows.

        The peer's close_notify is awaited, for up to `ssl_shutdown_timeout` seconds in all; a
        peer that goes on sending data instead is cut off.
        """
    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what happens from now on to another protocol."""
    def get_protocol(self) -> asyncio.BaseProtocol:
        """The current protocol; None once the connection is closed."""
    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`; the peer is held up by TCP's own flow control."""
    def resume_reading(self) -> None:
        """Deliver again."""
    def is_reading(self) -> bool:
        """Whether bytes that arrive are delivered."""
    def write(self, data: ReadableBuffer) -> None:
        """Send bytes-like `data`, without blocking; small writes of one turn share a TLS record.

        Raises TypeError for what is not bytes-like.  On a connection that is closed or lost
        it does nothing (the fifth time it logs a warning).
        """
    def writelines(self, list_of_data: Iterable[ReadableBuffer]) -> None:
        """Send several bytes-like objects, in as few TLS records as they fit."""
    def write_eof(self) -> None:
        """Not possible with TLS: raises NotImplementedError."""
    def can_write_eof(self) -> bool:
        """False: a TLS connection cannot be closed by halves."""
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When `pause_writing` (above `high` bytes waiting) and `resume_writing` (at `low`) are called.

        The defaults are high = 4 * low, or 512 KiB, and low = high // 4.  Raises
        ValueError unless high >= low >= 0.
        """
    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high), in bytes."""
    def get_write_buffer_size(self) -> int:
        """Bytes written that have not left yet, encrypted or not."""
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """'sslcontext'; once the handshake is done 'ssl_object', 'peercert', 'cipher', 'compression'.

        All else ('peername', 'socket', ...) is asked of the transport below.
        """

def tls_engine_name() -> str:
    """The engine of new connections: "openssl", or "memory" where OpenSSL cannot be called directly."""

def tls_transport(
    loop: Loop,
    protocol: asyncio.BaseProtocol,
    config: _TlsConfig,
    server_hostname: str | None,
    server_side: bool,
    waiter: asyncio.Future[None] | None,
    announces: bool,
    early: bytes = b"",
) -> tuple[asyncio.Transport, TlsRecords]:
    """A TLS transport and the protocol to be given to the transport below it.

    `config` has `context`, `handshake_timeout` and `shutdown_timeout` (seconds).  `waiter` is
    done, or fails, with the handshake; `announces` says whether `protocol.connection_made` is
    called then.  `early` is ciphertext received already.
    """

@final
class Listener(Watcher):
    """Accepts connections on `sock` and makes a transport, with a protocol of `factory`, for each."""

    def __init__(
        self,
        loop: Loop,
        sock: socket,
        factory: Callable[[], asyncio.BaseProtocol],
        server: _TransportOwner | None,
        tls: _TlsConfig | None = None,
    ) -> None: ...
    def start(self) -> None:
        """Accept from now on."""
    def stop(self) -> None:
        """Accept no more.  The socket stays open; it is its owner's to close."""

def refuse_used_fd(loop: Reactor, fd: int) -> None:
    """Raise RuntimeError if `fd` is a transport's: two would steal each other's bytes."""

def stream_transport(
    loop: Loop,
    sock: socket,
    protocol: asyncio.BaseProtocol | TlsRecords,
    waiter: asyncio.Future[None] | None,
    server: _TransportOwner | None = None,
) -> asyncio.Transport:
    """The transport of a connected, non-blocking `sock`, which it owns from now on.

    connection_made is called in the next turn; then `waiter` (a future, or None) is done.
    """

def datagram_transport(
    loop: Loop,
    sock: socket,
    protocol: asyncio.BaseProtocol,
    remote_addr: Any,
    waiter: asyncio.Future[None],
) -> asyncio.DatagramTransport:
    """The transport of a non-blocking datagram `sock`, which it owns from now on.

    connection_made is called in the next turn; then `waiter` (a future) is done.
    """

@disjoint_base
class PipeTransport(Transport):
    """What the transports of both directions share."""

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """'pipe' (the file object or socket it was made of), or `default`."""
    def get_protocol(self) -> asyncio.BaseProtocol | None:
        """The current protocol; None once the pipe is closed."""

@final
class ReadPipeTransport(PipeTransport):
    """The reading end of a pipe.  Stands in for asyncio.ReadTransport, `isinstance` included."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what happens from now on to another protocol."""
    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`; the writer is held up once the pipe is full."""
    def resume_reading(self) -> None:
        """Deliver again."""
    def is_reading(self) -> bool:
        """Whether bytes that arrive are delivered."""
    def close(self) -> None:
        """Stop reading and close the pipe; `connection_lost(None)` follows."""
    def _drain(self) -> None:
        """Hand over what waits already; bounded, since a descendant of the writer may write on."""

@final
class WritePipeTransport(PipeTransport):
    """The writing end of a pipe.  Stands in for asyncio.WriteTransport, `isinstance` included."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what happens from now on to another protocol."""
    def write(self, data: ReadableBuffer) -> None:
        """Write bytes-like `data`, without blocking: what the kernel does not take is queued.

        Raises TypeError for what is not bytes-like.  On a pipe that is closed or lost it
        does nothing (the fifth time it logs a warning).
        """
    def writelines(self, list_of_data: Iterable[ReadableBuffer]) -> None:
        """Write several bytes-like objects, as one."""
    def is_reading(self) -> bool:
        """Not for a pipe that is written to: raises NotImplementedError."""
    def pause_reading(self) -> None:
        """Not for a pipe that is written to: raises NotImplementedError."""
    def resume_reading(self) -> None:
        """Not for a pipe that is written to: raises NotImplementedError."""
    def write_eof(self) -> None:
        """Close the pipe once all that was written has left: the reader sees the end."""
    def can_write_eof(self) -> bool:
        """True: closing the pipe is what its reader takes for the end."""
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When `pause_writing` (above `high` bytes queued) and `resume_writing` (at `low`) are called.

        The defaults are high = 4 * low, or 64 KiB, and low = high // 4.  Raises
        ValueError unless high >= low >= 0.
        """
    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high), in bytes."""
    def get_write_buffer_size(self) -> int:
        """Bytes written that have not left yet."""
    def close(self) -> None:
        """Write what is queued, then close the pipe; `connection_lost(None)` follows."""
    def abort(self) -> None:
        """Close at once, dropping what was not written; `connection_lost(None)` follows."""

def read_pipe_transport(
    loop: Loop,
    pipe: Any,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None],
) -> asyncio.ReadTransport:
    """The transport of the reading end `pipe` (a file object or socket), which it owns from now on.

    connection_made is called in the next turn; then `waiter` (a future) is done.  Raises
    ValueError for what is not a pipe, a socket or a character device.
    """

def write_pipe_transport(
    loop: Loop,
    pipe: Any,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None],
) -> asyncio.WriteTransport:
    """The same for a writing end."""

# ------------------------------------------------------------------ processes --

@final
class ChildWatcher(Watcher):
    """A child process that the loop watches.  Made by `watch_child`."""

    def send_signal(self, sig: int) -> None:
        """Send signal number `sig` to the child.

        Raises ProcessLookupError if it was waited for already, PermissionError if it
        runs as somebody else now, OSError (EINVAL) for what is no signal.
        """
    def close(self) -> None:
        """Watch no more.  The child is not waited for."""
    def is_running(self) -> bool:
        """Whether the child has not exited yet.  Its status stays to be taken."""

def watch_child(
    loop: Loop, pid: int, pidfd: int, callback: Callable[[int | None], object], context: Context
) -> ChildWatcher:
    """Wait for the child `pid`, whose pidfd becomes the watcher's.

    Once it has exited `callback(status)` is called in `context`: its exit status, -N if
    signal N ended it, or None if somebody else has waited for it.
    """

# ------------------------------------------------------------------ sendfile --

def end_with_parent(fd: int, parent: int, grace: float) -> None:
    """Wait until the parent ends, then `grace` seconds more, and end the process with code 1: for a thread.

    `fd` is a socket whose other end the parent has, and `parent` its pidfd, or -1.  The GIL, which other code
    may never release, is not needed; and where the process is stopped as its parent ends, it goes on (on
    Linux).
    """

@final
class FileSend:
    """What `send_file` returns."""

    @property
    def done(self) -> asyncio.Future[int]:
        """A future of the number of bytes sent; ConnectionError if the transport is closed meanwhile."""
    @property
    def bytes_sent(self) -> int:
        """So far."""
    def cancel(self) -> None:
        """Send no more.  Has no effect once all is sent."""

def send_file(transport: StreamTransport, file: int, offset: int, count: int | None) -> FileSend:
    """Send from the fd `file`: `count` bytes (None: up to its end) from `offset` on, after what was written.

    The file's own position plays no part.  RuntimeError if another is being sent.
    """

# ------------------------------------------------------------- sock_* calls --

@disjoint_base
class Call:
    """To be awaited once.  A coroutine in all but its type."""

    def __await__(self) -> Generator[Any, None, Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any, /) -> Any:
        """Go on; what to wait for, or StopIteration with the result."""
    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        """Give up what it waits for, and raise the exception."""
    def close(self) -> None:
        """Give up what it waits for."""
    @property
    def __name__(self) -> str: ...
    @property
    def __qualname__(self) -> str: ...
    @property
    def cr_await(self) -> Any: ...
    @property
    def cr_running(self) -> bool: ...
    @property
    def cr_suspended(self) -> bool: ...
    @property
    def cr_frame(self) -> None: ...
    @property
    def cr_code(self) -> None: ...
    @property
    def cr_origin(self) -> None: ...

@final
@disjoint_base
class SocketCall(Call):
    """A call of a sock_* method."""

    @property
    def bytes_sent(self) -> int:
        """Of sock_sendall or sock_sendfile, so far."""

def refuse_tls_socket(sock: object) -> None:
    """Raise TypeError for an ssl.SSLSocket: its bytes are not those that go over the wire."""

@disjoint_base
class SocketCalls(Reactor):
    """The sock_* methods of a loop."""

    def sock_recv(self, sock: socket, n: int) -> Coroutine[Any, Any, bytes]:
        """Receive up to `n` bytes from a non-blocking socket; b"" at the end.

        Raises OSError as the socket does; ValueError for a negative size or, in debug
        mode, for a blocking socket; TypeError for an SSLSocket; RuntimeError if a transport
        uses the socket.  Cancelled, it has received nothing.  Calls that wait for the same
        socket are served first come, first served.
        """
    def sock_recv_into(self, sock: socket, buf: WriteableBuffer) -> Coroutine[Any, Any, int]:
        """Receive into the writable buffer `buf`; the number of bytes, 0 at the end.  As `sock_recv`."""
    def sock_recvfrom(self, sock: socket, bufsize: int) -> Coroutine[Any, Any, tuple[bytes, Any]]:
        """Receive a datagram of up to `bufsize` bytes and return (bytes, address).  As `sock_recv`."""
    def sock_recvfrom_into(
        self, sock: socket, buf: WriteableBuffer, nbytes: int = 0
    ) -> Coroutine[Any, Any, tuple[int, Any]]:
        """Receive a datagram into `buf` and return (number of bytes, address).

        `nbytes` limits what is received; 0 means the length of the buffer.  As `sock_recv`.
        """
    def sock_sendall(self, sock: socket, data: ReadableBuffer) -> Coroutine[Any, Any, None]:
        """Send all of bytes-like `data`.

        Concurrent calls for one socket send one after the other, never mixed.  Cancelled or
        failed, some of it may have been sent.  Raises as `sock_recv` does.
        """
    def sock_sendto(self, sock: socket, data: ReadableBuffer, address: Any) -> Coroutine[Any, Any, int]:
        """Send a datagram to `address` and return the number of bytes.  Raises as `sock_recv` does."""
    def sock_accept(self, sock: socket) -> Coroutine[Any, Any, tuple[socket, Any]]:
        """Accept a connection and return (non-blocking socket, address).

        Cancelled, it has accepted nothing.  Raises as `sock_recv` does.
        """
    def _sock_connected(self, sock: socket) -> Coroutine[Any, Any, None]:
        """Wait until a connect that was begun has succeeded or failed."""
    def _sock_sendfile(self, sock: socket, file: int, offset: int, count: int | None) -> SocketCall:
        """Send from the fd `file` by sendfile(2): `count` bytes (None: up to its end) from `offset` on."""

# ------------------------------------------------------------------ the loop --

@disjoint_base
class Loop(SocketCalls):
    """The native half of `pinloop.Loop`."""

    def __init__(self, poller: Poller | None = None) -> None: ...
    def stop(self) -> None:
        """Leave `run_forever` after this turn: what is ready, and I/O that waits already, still runs."""
    def is_running(self) -> bool:
        """Whether a thread runs it."""
    def is_closed(self) -> bool:
        """Whether `close` was called."""
    def time(self) -> float:
        """The loop's monotonic clock, in seconds."""
    def get_debug(self) -> bool:
        """Whether debug mode is on."""
    def create_future(self) -> asyncio.Future[Any]:
        """A new future of this loop."""
    if sys.version_info >= (3, 12):
        def create_task(
            self,
            coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
            *,
            name: str | None = None,
            context: Context | None = None,
            eager_start: bool | None = None,
        ) -> asyncio.Task[_T]:
            """Schedule coroutine `coro` and return its Task.

            Keywords are those of asyncio.Task (`name`, `context`, and from 3.12 on `eager_start`); they go
            to the task factory, if there is one.  Raises TypeError for what is no coroutine, RuntimeError
            on a closed loop.
            """
    else:
        def create_task(
            self,
            coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
            *,
            name: str | None = None,
            context: Context | None = None,
        ) -> asyncio.Task[_T]:
            """Schedule coroutine `coro` and return its Task.

            Keywords are those of asyncio.Task (`name`, `context`, and from 3.12 on `eager_start`); they go
            to the task factory, if there is one.  Raises TypeError for what is no coroutine, RuntimeError
            on a closed loop.
            """

    def _pending_tasks(self) -> list[Task[Any]]:
        """The tasks that are not done, but for those of other classes."""
    def _set_stock_tasks(self, stock: bool) -> None:
        """Have `create_future` and `create_task` make asyncio's own classes."""
    def set_task_factory(self, factory: _TaskFactory | None) -> None:
        """Make `create_task` call `factory(loop, coro, **kwargs)`; None gives the default back."""
    def get_task_factory(self) -> _TaskFactory | None:
        """The task factory, or None."""
    def add_reader(self, fd: FileDescriptorLike, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None:
        """Call `callback(*args)` whenever `fd` (an int or an object with fileno()) is readable.

        Replaces the callback before.  Raises ValueError for a negative fd, RuntimeError
        for one that a transport uses, OSError for one that is closed (EBADF) or cannot
        be polled (EPERM: a regular file).
        """
    def add_writer(self, fd: FileDescriptorLike, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None:
        """Call `callback(*args)` whenever `fd` is writable.  As `add_reader` otherwise."""
    def remove_reader(self, fd: FileDescriptorLike) -> bool:
        """Stop calling back for reading; False if nothing was."""
    def remove_writer(self, fd: FileDescriptorLike) -> bool:
        """Stop calling back for writing; False if nothing was."""
    # What these return stands in for asyncio's own handles, isinstance() included.
    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Call `callback(*args)` in the next turn, in `context` or a copy of the current one,
        and return a Handle that can cancel it.  Callbacks run first in, first out.  Raises
        RuntimeError on a closed loop, TypeError for what cannot be called.
        """
    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As `call_soon`, from any thread or signal handler; wakes the loop up if it sleeps."""
    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call `callback(*args)` after at least `delay` seconds (at once, in a later turn, if it
        is zero or negative; never if it is infinite) and return a TimerHandle.  Never early;
        equal times run first in, first out.  Raises TypeError or ValueError for a delay that
        is no number or NaN.
        """
    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """As `call_later`, at the absolute time `when` of `loop.time()`."""
    # For the Python half.
    def _run(self) -> None:
        """Run turns until `stop`.  The caller has made this the running loop."""
    def _close(self) -> None:
        """Drop what is scheduled and watched; the kernel objects go back."""
    def _counted(self) -> dict[str, Any]:
        """What `metrics` is made of: counts by its names, times in ns."""
    def _set_spin(self, spin_us: float) -> None:
        """How many microseconds to keep asking the kernel before each sleep."""
    def _set_portable_tls(self, portable: bool) -> None:
        """Have new TLS connections use ssl.MemoryBIO even where OpenSSL can be called directly."""
    def _set_debug(self, enabled: bool) -> None: ...
    def _check_closed(self) -> None: ...
    @property
    def _thread_id(self) -> int | None: ...
    @property
    def _current_handle(self) -> Handle | None: ...
    @property
    def _owner_pid(self) -> int: ...

@disjoint_base
class VirtualLoop(Loop):
    """The native half of `pinloop.testing`'s loop."""

    def __init__(self, poller: Poller | None = None) -> None: ...
    # For the Python half.
    def _set_seed(self, seed: int | None) -> None:
        """Draw the order of what is ready from the int `seed`; None: first in, first out."""
    def _set_limits(self, steps: int, seconds: float) -> None:
        """Give up after so many more entries of the ready ring, or before the clock passes `seconds`."""
    def _job_begun(self) -> None:
        """A thread works for this loop: wait for what it says before the clock moves."""
    def _job_ended(self) -> None:
        """It has said it."""
    @property
    def _jobs(self) -> int: ...
    def _patience(self, watching: bool, last: bool) -> float:
        """For how many seconds to wait really, at most.

        `watching` says that there are fds whose events somebody wants, `last` that what does not come now
        never will.
        """
    def _stuck(self, why: str) -> NoReturn:
        """Raise the error for a loop that cannot go on."""

# ------------------------------------------------------------------- streams --

@disjoint_base
class StreamReader:
    """The native half of `pinloop.StreamReader`."""

    _source_traceback: Any
    def __init__(self, limit: float = 65536, loop: asyncio.AbstractEventLoop | None = None) -> None: ...
    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Take in bytes-like `data`: what a protocol does with what it receives.

        Pauses the transport's reading once more than twice the limit is buffered.
        """
    def feed_eof(self) -> None:
        """Nothing more will come: what waits gets what there is."""
    def set_exception(self, exc: Exception) -> None:
        """Have every later read, and the one that waits, raise `exc`."""
    def exception(self) -> Exception | None:
        """What `set_exception` was given, or None."""
    def at_eof(self) -> bool:
        """Whether all was read and nothing more will come."""
    def read(self, n: int = -1) -> Coroutine[Any, Any, bytes]:
        """Read up to `n` bytes, as soon as there are any; with n = -1 all up to the end.

        b"" at the end, or for n = 0. Raises what `set_exception` was given, and RuntimeError
        while another call waits. Cancelled, it has taken nothing of the buffer (a read up to
        the end, though, loses what it had).
        """
    def readexactly(self, n: int) -> Coroutine[Any, Any, bytes]:
        """Read `n` bytes.

        Raises asyncio.IncompleteReadError with what there was if the end comes before, and
        ValueError for a negative `n`; else as `read`. Cancelled, it has taken nothing.
        """
    def readuntil(
        self, separator: ReadableBuffer | tuple[ReadableBuffer, ...] = b"\n"
    ) -> Coroutine[Any, Any, bytes]:
        """Read up to `separator`, and that too; of a tuple of separators, up to whichever ends first.

        Raises asyncio.LimitOverrunError, and leaves the buffer as it is, if there are more bytes
        than the limit before it; asyncio.IncompleteReadError with what there was if the end
        comes first; ValueError for an empty separator; else as `read`. Cancelled, it has
        taken nothing.
        """
    def readline(self) -> Coroutine[Any, Any, bytes]:
        """Read a line with its b"\\n"; at the end what there is, at last b"".

        Raises ValueError for a line longer than the limit, which is dropped (what has come of
        it, if its end has not); else as `read`. Cancelled, it has taken nothing.
        """
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, bytes]: ...
    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """Have a transport, whose reading is paused while too much is buffered."""
    def _replace_transport(self, transport: asyncio.BaseTransport) -> None: ...
    def _wakeup_waiter(self) -> None: ...
    def _maybe_resume_transport(self) -> None: ...
    @property
    def _buffer(self) -> bytearray:
        """What is buffered, as a bytearray that may be changed; it counts until the reader is used again."""
    @property
    def _limit(self) -> float: ...
    @property
    def _loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def _eof(self) -> bool: ...
    @property
    def _paused(self) -> bool: ...
    @property
    def _exception(self) -> BaseException | None: ...
    @property
    def _waiter(self) -> asyncio.Future[None] | None: ...
    @property
    def _transport(self) -> asyncio.BaseTransport | None: ...

@disjoint_base
class StreamProtocol:
    """The native half of `pinloop.StreamReaderProtocol`."""

    def __init__(self, reader: asyncio.StreamReader | None, loop: asyncio.AbstractEventLoop) -> None: ...
    def data_received(self, data: ReadableBuffer) -> None:
        """Feed the reader."""
    def eof_received(self) -> bool:
        """Tell the reader; the connection stays open for writing, but not with TLS."""
    def pause_writing(self) -> None:
        """From now on `drain` waits."""
    def resume_writing(self) -> None:
        """What waits in `drain` goes on."""
    def _wake_drains(self, exception: BaseException | None) -> None:
        """Let what waits in `drain` go on, or raise."""
    @property
    def _stream_reader(self) -> asyncio.StreamReader | None: ...
    @_stream_reader.setter
    def _stream_reader(self, reader: asyncio.StreamReader | None) -> None: ...
    @property
    def _loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def _paused(self) -> bool: ...
    @property
    def _drain_waiters(self) -> deque[asyncio.Future[None]]: ...
    @property
    def _connection_lost(self) -> bool: ...
    @_connection_lost.setter
    def _connection_lost(self, lost: bool) -> None: ...
    @property
    def _over_ssl(self) -> bool: ...
    @_over_ssl.setter
    def _over_ssl(self, over_tls: bool) -> None: ...

@disjoint_base
class StreamWriter:
    """The native half of `pinloop.StreamWriter`."""

    @property
    def transport(self) -> asyncio.WriteTransport: ...
    def __init__(
        self,
        transport: asyncio.WriteTransport,
        protocol: asyncio.BaseProtocol,
        reader: asyncio.StreamReader | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None: ...
    def write(self, data: ReadableBuffer) -> None:
        """Send bytes-like `data` without waiting; what cannot leave at once is queued.

        Follow it by `await drain()`, which keeps the queue short. Raises what the transport's
        `write` does: TypeError for what is not bytes-like, RuntimeError after `write_eof`.
        """
    def writelines(self, data: Iterable[ReadableBuffer]) -> None:
        """Send several bytes-like objects. As `write`."""
    def write_eof(self) -> None:
        """Shut the write side once all that was written has left; reading goes on."""
    def can_write_eof(self) -> bool:
        """Whether the transport can be closed by halves (with TLS it cannot)."""
    def close(self) -> None:
        """Send what was written, then close. Follow it by `await wait_closed()`."""
    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the transport tells: 'peername', 'sockname', 'socket', 'sslcontext' and others."""
    def drain(self) -> Coroutine[Any, Any, None]:
        """Wait while more is queued than the transport's high-water mark.

        Raises what the reader's `set_exception` was given, and ConnectionResetError once the
        connection is lost. Where nothing need be waited for the task goes on at once.
        Cancelled, nothing is taken back of what was written.
        """
    @property
    def _transport(self) -> asyncio.WriteTransport: ...
    @property
    def _protocol(self) -> asyncio.BaseProtocol: ...
    @property
    def _reader(self) -> asyncio.StreamReader | None: ...
    @property
    def _loop(self) -> asyncio.AbstractEventLoop: ...

@final
@disjoint_base
class StreamCall(Call):
    """A call of a stream's method."""

def yield_now() -> Coroutine[Any, Any, None]:
    """Let all others that are ready run once, then go on.  To be awaited; the result is None.

    The task may be cancelled there, and a cancellation that is due is raised there; in a scope that is
    cancelled CancelledError is raised each time.
    """

def consume_budget() -> Coroutine[Any, Any, None]:
    """Count one operation, and let the others run if there were 128 in this step of the task.  To be awaited.

    For loops over what may be ready each time: cheap, but it keeps nobody waiting for long.  pinloop's own
    operations that may be ready, such as those of channels, count by themselves.  On event loops other than
    pinloop's all operations of the thread are counted together.  Where it gives way it is as `yield_now`.
    """

@final
@disjoint_base
class WaitCall(Call):
    """A call that waits for a queue, a lock or an event."""

@disjoint_base
class Waitable:
    """What calls can wait for."""

@disjoint_base
class Flag(Waitable):
    """A flag that tasks can wait for."""

    def is_set(self) -> bool:
        """Whether the flag is set."""
    def set(self) -> None:
        """Set the flag, and let all go on that wait for it."""
    def clear(self) -> None:
        """Take the flag back: who calls `wait` from now on waits for the next `set`."""
    def wait(self) -> Coroutine[Any, Any, Literal[True]]:
        """Wait until the flag is set; True.

        Who was let go on by a `set` returns even if the flag was taken back meanwhile.
        """

@disjoint_base
class Acquirable(Waitable):
    """What tasks acquire and release, by `async with` as well."""

    def __aenter__(self) -> Coroutine[Any, Any, None]: ...
    def __aexit__(self, *exc_info: object) -> Coroutine[Any, Any, None]: ...
    @property
    def _waiting(self) -> int: ...

@disjoint_base
class Lock(Acquirable):
    """A mutual exclusion lock for tasks.  Whoever waits longest gets it first."""

    def locked(self) -> bool:
        """Whether somebody holds it."""
    def acquire(self) -> Coroutine[Any, Any, Literal[True]]:
        """Take the lock, waiting until it is free; True.

        Cancelled while it waits, it does not have the lock, and whoever is next gets it.
        """
    def release(self) -> None:
        """Give the lock back, to whom waits longest if anybody does.  RuntimeError if nobody holds it."""

@disjoint_base
class Semaphore(Acquirable):
    """A number of permits that tasks take and give back.  Whoever waits longest gets one first."""

    def __init__(self, value: int = 1) -> None: ...
    @property
    def total(self) -> int:
        """How many permits there are, if each was given back as often as it was taken.

        It can be set, to an int of 0 or more.  More permits go to those who wait, at once; where fewer are
        left than were taken, nobody loses one, but `acquire` waits until enough have been given back.
        """
    @total.setter
    def total(self, total: int) -> None: ...
    @property
    def available(self) -> int:
        """How many permits could be taken now."""
    def locked(self) -> bool:
        """Whether `acquire` would wait."""
    def acquire(self) -> Coroutine[Any, Any, Literal[True]]:
        """Take a permit, waiting until there is one; True.

        Cancelled while it waits, it has taken none, and one that it was about to get goes to the next.
        """
    def release(self) -> None:
        """Give a permit back, or one more than there were; whoever waits longest gets it."""

class BoundedSemaphore(Semaphore):
    """A Semaphore that refuses to have more permits than at first."""

@disjoint_base
class Limiter(Acquirable):
    """So many tokens, lent to borrowers.  Whoever waits longest gets one first."""

    def __init__(self, total: float) -> None: ...
    @property
    def total(self) -> float:
        """How many tokens there are: an int of 0 or more, or math.inf.

        It can be set.  More tokens go to those who wait, at once; where fewer are left than have been
        lent, no borrower loses one, but nobody gets one until enough have been given back.
        """
    @total.setter
    def total(self, total: float) -> None: ...
    @property
    def borrowed(self) -> int:
        """How many tokens are lent."""
    @property
    def available(self) -> float:
        """How many could be lent now."""
    @property
    def borrowers(self) -> tuple[Any, ...]:
        """Who has borrowed one, in the order in which they did."""
    def acquire(self) -> Coroutine[Any, Any, None]:
        """Borrow a token for the task that runs, waiting until there is one.

        Cancelled while it waits, it has none, and one that it was about to get goes to the next; in a scope
        that is cancelled CancelledError is raised each time.  Raises RuntimeError if the task has one already
        or waits for one, and outside of a task.
        """
    def acquire_on_behalf_of(self, borrower: Hashable) -> Coroutine[Any, Any, None]:
        """The same for any hashable object as the borrower: a request, a connection, a name."""
    def acquire_nowait(self) -> None:
        """Borrow one for the task that runs, now.  Raises WouldBlock if there is none, and as `acquire`."""
    def acquire_on_behalf_of_nowait(self, borrower: Hashable) -> None:
        """The same for any hashable object as the borrower."""
    def release(self) -> None:
        """Give back what the task that runs has borrowed.  Raises RuntimeError if it has not."""
    def release_on_behalf_of(self, borrower: Hashable) -> None:
        """Give back what that borrower has.  Raises RuntimeError if it has nothing."""

@disjoint_base
class Queue(Waitable, Generic[_T]):
    """What tasks give to one another, in order."""

    def __init__(self, maxsize: int = 0) -> None: ...
    @classmethod
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...
    def qsize(self) -> int:
        """How many items are in it."""
    @property
    def maxsize(self) -> int:
        """How many items it may hold; 0 or less: any number."""
    def empty(self) -> bool:
        """Whether there is nothing in it."""
    def full(self) -> bool:
        """Whether it holds as many items as it may."""
    def put(self, item: _T) -> Coroutine[Any, Any, None]:
        """Put an item in, waiting until there is room.

        Raises QueueShutDown once the queue was shut down.  Cancelled while it waits, it has put nothing.
        """
    def get(self) -> Coroutine[Any, Any, _T]:
        """Take an item out, waiting until there is one.

        Raises QueueShutDown once the queue was shut down and is empty.  Cancelled while it waits, it has
        taken nothing, and what it was woken for goes to the next.
        """
    def put_nowait(self, item: _T) -> None:
        """Put an item in now.  Raises QueueFull if there is no room, QueueShutDown after `shutdown`."""
    def get_nowait(self) -> _T:
        """Take an item out now.  Raises QueueEmpty if there is none; QueueShutDown then, after `shutdown`."""
    def task_done(self) -> None:
        """Tell that the work on an item taken out is done.

        Raises ValueError if it is told more often than items were put in.
        """
    def join(self) -> Coroutine[Any, Any, None]:
        """Wait until `task_done` was called for each item that was put in."""
    def shutdown(self, immediate: bool = False) -> None:
        """Refuse further items; who waits to put one, or for one that will not come, gets QueueShutDown.

        With `immediate` what is in the queue is dropped, and counts as done.
        """

if sys.version_info >= (3, 13):
    QueueShutDown = asyncio.QueueShutDown
else:
    class QueueShutDown(Exception):
        """Raised by `put` and `get` of a queue that was shut down."""

scope_variable: ContextVar[Any]

def current_node(task: asyncio.Task[Any] | None) -> Any:
    """The innermost node of the tree of scopes that the task is in, which runs: as its host or as a child."""

def task_node(task: asyncio.Task[Any]) -> Any:
    """The same of a task that need not run, whatever its class; None where its context is not to be had."""

@final
@disjoint_base
class Group(Call):
    """A call of `join`, `try_join`, `race` or `race_ok`."""

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        """Cancelled, go on waiting until all have ended; else give them up."""
    def _spread(self, reason: str | None) -> None: ...

@overload
def join(aw1: Awaitable[_T], /) -> Coroutine[Any, Any, tuple[_T]]: ...
@overload
def join(aw1: Awaitable[_T], aw2: Awaitable[_T2], /) -> Coroutine[Any, Any, tuple[_T, _T2]]: ...
@overload
def join(
    aw1: Awaitable[_T], aw2: Awaitable[_T2], aw3: Awaitable[_T3], /
) -> Coroutine[Any, Any, tuple[_T, _T2, _T3]]: ...
@overload
def join(
    aw1: Awaitable[_T], aw2: Awaitable[_T2], aw3: Awaitable[_T3], aw4: Awaitable[_T4], /
) -> Coroutine[Any, Any, tuple[_T, _T2, _T3, _T4]]: ...
@overload
def join(
    aw1: Awaitable[_T], aw2: Awaitable[_T2], aw3: Awaitable[_T3], aw4: Awaitable[_T4], aw5: Awaitable[_T5], /
) -> Coroutine[Any, Any, tuple[_T, _T2, _T3, _T4, _T5]]: ...
@overload
def join(*aws: Awaitable[_T]) -> Coroutine[Any, Any, tuple[_T, ...]]:
    """Run all of `aws` at once until all have finished; their results in a tuple, in their order.

    Where some fail, the others finish all the same, and then all errors are raised in one ExceptionGroup.
    Of `join()` the result is ().

    `aws` are coroutines, which become children of the call, futures or tasks, or other awaitables.  One
    that is given twice is awaited once.  Raises TypeError for what is none of these, ValueError for the
    future of another loop, RuntimeError for the task that calls and outside of a task; the coroutines are
    closed then.

    When the caller is cancelled, all are cancelled and awaited, and then CancelledError is raised; errors
    that they raised go to the loop's exception handler.  In a scope that is cancelled nothing is begun, and
    CancelledError is raised each time.  An awaitable that was cancelled by somebody else has no result:
    CancelledError is raised then, as by awaiting it, unless there are errors.
    """

@overload
def try_join(aw1: Awaitable[_T], /) -> Coroutine[Any, Any, tuple[_T]]: ...
@overload
def try_join(aw1: Awaitable[_T], aw2: Awaitable[_T2], /) -> Coroutine[Any, Any, tuple[_T, _T2]]: ...
@overload
def try_join(
    aw1: Awaitable[_T], aw2: Awaitable[_T2], aw3: Awaitable[_T3], /
) -> Coroutine[Any, Any, tuple[_T, _T2, _T3]]: ...
@overload
def try_join(
    aw1: Awaitable[_T], aw2: Awaitable[_T2], aw3: Awaitable[_T3], aw4: Awaitable[_T4], /
) -> Coroutine[Any, Any, tuple[_T, _T2, _T3, _T4]]: ...
@overload
def try_join(
    aw1: Awaitable[_T], aw2: Awaitable[_T2], aw3: Awaitable[_T3], aw4: Awaitable[_T4], aw5: Awaitable[_T5], /
) -> Coroutine[Any, Any, tuple[_T, _T2, _T3, _T4, _T5]]: ...
@overload
def try_join(*aws: Awaitable[_T]) -> Coroutine[Any, Any, tuple[_T, ...]]:
    """As `join`, but the first that fails cancels the others, which are awaited, and its error is raised.

    That error itself, not a group.  What the others raise while they are being cancelled goes to the loop's
    exception handler.
    """

@overload
def race(aw1: Awaitable[_T], aw2: Awaitable[_T2], /) -> Coroutine[Any, Any, _T | _T2]: ...
@overload
def race(
    aw1: Awaitable[_T], aw2: Awaitable[_T2], aw3: Awaitable[_T3], /
) -> Coroutine[Any, Any, _T | _T2 | _T3]: ...
@overload
def race(
    aw1: Awaitable[_T], aw2: Awaitable[_T2], aw3: Awaitable[_T3], aw4: Awaitable[_T4], /
) -> Coroutine[Any, Any, _T | _T2 | _T3 | _T4]: ...
@overload
def race(
    aw1: Awaitable[_T], aw2: Awaitable[_T2], aw3: Awaitable[_T3], aw4: Awaitable[_T4], aw5: Awaitable[_T5], /
) -> Coroutine[Any, Any, _T | _T2 | _T3 | _T4 | _T5]: ...
@overload
def race(*aws: Awaitable[_T]) -> Coroutine[Any, Any, _T]:
    """Run all of `aws` at once until the first has finished: its result, or the error that it raises.

    The others are cancelled and awaited; errors that they raise go to the loop's exception handler.  Where
    some have finished at the call already, the first of these wins, and no coroutine is begun.

    Arguments, errors and cancellation are as with `join`; without arguments it raises ValueError.
    """

@overload
def race_ok(aw1: Awaitable[_T], aw2: Awaitable[_T2], /) -> Coroutine[Any, Any, _T | _T2]: ...
@overload
def race_ok(
    aw1: Awaitable[_T], aw2: Awaitable[_T2], aw3: Awaitable[_T3], /
) -> Coroutine[Any, Any, _T | _T2 | _T3]: ...
@overload
def race_ok(
    aw1: Awaitable[_T], aw2: Awaitable[_T2], aw3: Awaitable[_T3], aw4: Awaitable[_T4], /
) -> Coroutine[Any, Any, _T | _T2 | _T3 | _T4]: ...
@overload
def race_ok(
    aw1: Awaitable[_T], aw2: Awaitable[_T2], aw3: Awaitable[_T3], aw4: Awaitable[_T4], aw5: Awaitable[_T5], /
) -> Coroutine[Any, Any, _T | _T2 | _T3 | _T4 | _T5]: ...
@overload
def race_ok(*aws: Awaitable[_T]) -> Coroutine[Any, Any, _T]:
    """As `race`, but the first that succeeds wins; where all fail, an ExceptionGroup of all errors is raised.

    Errors of those that failed before another succeeded are not told.
    """

@disjoint_base
class Timeout:
    """An asynchronous context manager that cancels what runs in it when its time is up; made by `timeout`."""

    def __init__(self, when: float | None) -> None: ...
    def when(self) -> float | None:
        """The time at which it expires, in seconds on the loop's clock; None: never."""
    def reschedule(self, when: float | None) -> None:
        """Have it expire at `when` on the loop's clock; None: never.

        Raises RuntimeError unless it was entered, or once it has expired or was left.
        """
    def expired(self) -> bool:
        """Whether its time was up before it was left."""
    def __aenter__(self) -> Awaitable[Self]: ...
    def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> Awaitable[None]: ...

def timeout(delay: float | None) -> Timeout:
    """A `Timeout` that expires `delay` seconds from now; None: never, unless it is rescheduled.

    What runs in `async with pinloop.timeout(delay):` is cancelled then, and the block raises TimeoutError.
    If the task is cancelled by somebody else as well, CancelledError goes on.
    """

def timeout_at(when: float | None) -> Timeout:
    """The same, for a time on the loop's clock: `loop.time()`."""

def count_cancelled_scope(loop: object, change: int) -> None:
    """Note that a scope of the loop is open and cancelled, 1, or not any more, -1."""

@disjoint_base
class ClaimCall(Call):
    """A call that waits for one of several things, or for one."""

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        """Give up what it waits for, and raise the exception.

        What was done and cannot be undone is over: from Python 3.13 on the call then ends as such, and a
        CancelledError is raised at the task's next await instead.
        """

@final
class ReadyCall(Call):
    """A call whose result is there."""

@final
class ChannelCall(ClaimCall):
    """A call of a method of a channel's end."""

@final
class Channel(Waitable):
    """What the ends of a channel share."""

@disjoint_base
class ChannelEnd(Generic[_T]):
    """A sender or a receiver."""

    def clone(self) -> Self:
        """Another end of the same kind.  The channel's side is closed once all its ends are.

        Raises ClosedChannel if this end is closed, RuntimeError for that of a oneshot.
        """
    def close(self) -> None:
        """Close this end.  Without effect if it is closed.

        Who waits by way of this very end gets ClosedChannel.  Once the last sender is closed the receivers
        get what is still in the channel and EndOfChannel then; once the last receiver is, senders get
        BrokenChannel, and what is in the channel is dropped.
        """
    def _check_thread(self) -> None:
        """Raise RuntimeError in another thread than that of its event loop."""
    def _break(self, why: str) -> None:
        """Close this end, the last of its side, because what was behind it is lost.

        The other side is told `why`, by BrokenChannel; receivers once they have what is still there. So is
        whoever uses this end, or waits by way of it.
        """
    def _check_items(self, check: Callable[[Any], object] | None) -> None:
        """Have `check(item)` called for what is sent from now on, in place of a check before; None for none.

        What it raises the `send` raises.  Numbers, str, bytes and None are not asked about.
        """
    @property
    def closed(self) -> bool:
        """Whether this end is closed."""
    def statistics(self) -> ChannelStatistics:
        """Numbers about the channel at this moment: a named tuple.

        `capacity`, and how much of it is `buffered` and `reserved`; how many `senders` and `receivers` are
        open, and how many calls wait: `waiting_senders`, `waiting_receivers`.
        """
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def __aenter__(self) -> Awaitable[Self]: ...
    def __aexit__(self, *exc_info: object) -> Awaitable[None]: ...
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...

@final
class Sender(ChannelEnd[_T]):
    """The end of a channel that items are sent into.  Made by `channel`."""

    def send(self, item: _T) -> Coroutine[Any, Any, None]:
        """Send an item, waiting until a receiver takes it or there is room.

        Raises BrokenChannel once all receivers are closed, ClosedChannel if this end is, before or while it
        waits.  Cancelled while it waits, it has sent nothing.
        """
    def send_nowait(self, item: _T) -> None:
        """Send an item now.  Raises WouldBlock if it would have to wait, and what `send` does."""
    def reserve(self) -> Coroutine[Any, Any, Permit[_T]]:
        """Wait for a place, and keep it: a Permit, whose `send` need not wait.

        What is to be sent need not be there, or be computed, before there is room.  Raises as `send`.
        Cancelled while it waits, it keeps no place.
        """
    def reserve_nowait(self) -> Permit[_T]:
        """Keep a place now: a Permit.  Raises WouldBlock if there is none, and what `send` does."""
    def sending(self, item: _T) -> Sending:
        """The operation of sending an item, for `select`.  Nothing is sent unless it is chosen."""

@final
class Receiver(ChannelEnd[_T]):
    """The end of a channel that items come out of.  Made by `channel`.  `async for` takes them one by one."""

    def recv(self) -> Coroutine[Any, Any, _T]:
        """The next item, waiting until there is one.

        Raises EndOfChannel once all senders are closed and nothing is left, ClosedChannel if this end is
        closed, before or while it waits.  Cancelled while it waits, it has taken nothing: an item that was
        on its way goes to the next receiver, or back to the head.
        """
    def recv_nowait(self) -> _T:
        """The next item, now.  Raises WouldBlock if there is none, and what `recv` does."""
    def recv_many(self, n: int) -> Coroutine[Any, Any, list[_T]]:
        """A list of up to `n` items: waits for the first, and takes what else is there.

        Raises ValueError for `n` below 1, and what `recv` does; cancelled, it is as `recv`.
        """
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, _T]: ...

@final
class Permit(Generic[_T]):
    """A place in a channel, kept for one item.  What `Sender.reserve` gives.

    As a context manager it gives the place back if it was not used; so does dropping it.
    """

    def send(self, item: _T) -> None:
        """Send an item, without waiting, and use the permit up.

        Raises BrokenChannel if all receivers are closed, RuntimeError if the permit was used or released.
        """
    def release(self) -> None:
        """Give the place back.  Without effect if the permit was used or released."""
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...

@final
class Sending:
    """What `Sender.sending` gives: an operation for select."""

def open_channel(
    capacity: int, priority: bool = False, key: Any = None, single: bool = False
) -> tuple[Sender[Any], Receiver[Any]]:
    """The two ends of a new channel; a capacity of -1 is none.  A single one is a oneshot's."""

@final
class After:
    """What `after` gives: an operation for select."""

@final
class FdReady:
    """What `readable` and `writable` give: an operation for select."""

@final
class SelectCall(ClaimCall):
    """A call of `select`."""

def select(*ops: Any, biased: bool = False) -> Coroutine[Any, Any, tuple[int, Any]]:
    """Wait until one of the operations can be done, and do it, and no other: its position, and its result.

    An operation is a receiver (the result is the item), `tx.sending(item)` (None), a task or future (its
    result; it is observed, and never cancelled), a `pinloop.Event` (True), `after(seconds)` (None),
    `readable(fd)` or `writable(fd)` (the fd).  None is one that is off.

    Of several that can be done any is chosen, each with the same probability; with `biased` the first.

    What the operation raises is raised; errors of channels tell in `arm` which it was.  Cancelled while it
    waits, it has done nothing.  Raises TypeError for what is no operation, coroutines above all, ValueError
    if there is none, RuntimeError for what is of another loop.
    """

def select_nowait(*ops: Any, biased: bool = False) -> tuple[int, Any]:
    """The same without waiting: raises WouldBlock if none of the operations can be done."""

def after(delay: float) -> After:
    """An operation for select: `delay` seconds pass, from when the select begins to wait.

    Raises ValueError for a negative delay and NaN, TypeError for what is no number.
    """

def readable(fd: FileDescriptorLike) -> FdReady:
    """An operation for select: there is something to read from a file descriptor or what has a `fileno()`.

    Nothing is read, and others may watch it too.
    """

def writable(fd: FileDescriptorLike) -> FdReady:
    """An operation for select: a file descriptor, or what has a `fileno()`, can be written to."""
