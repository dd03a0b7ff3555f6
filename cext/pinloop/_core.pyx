# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, nonecheck=False, cdivision=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic, auto_pickle=False
# cython: freethreading_compatible=True
"""The native floors of pinloop.

One module, so that calls between its parts inline; its body is split by role, in
floor order, and each file may use only the files above it.  The data model is in
_core.pxd.
"""

include "prelude.pxi"        # imports
include "errors.pxi"         # errno -> exception
include "poll.pxi"           # the Poller contract
include "poll_epoll.pxi"
include "poll_kqueue.pxi"
include "poll_scripted.pxi"  # a Poller without a kernel, for tests
include "poll_virtual.pxi"   # one whose clock stands still
include "current.pxi"        # asyncio.current_task
include "handle.pxi"         # Handle, TimerHandle
include "slots.pxi"          # Watcher, and who watches which fd
include "counters.pxi"       # what a loop counts
include "reactor.pxi"        # ring + heap + inbox + Poller: run_once
include "future.pxi"         # Future
include "future_await.pxi"   # what `await` finds in it
include "task.pxi"           # Task
include "task_elsewhere.pxi"  # ... on loops of other kinds
include "task_links.pxi"     # the tasks of a loop, call graphs
include "reuse.pxi"          # futures and tasks used again
include "watcher.pxi"        # add_reader, add_writer
include "transport.pxi"      # what every transport is
include "outqueue.pxi"       # what a transport has still to send
include "address.pxi"        # sockaddr -> tuple
include "stream_read.pxi"    # the two halves of a TCP transport
include "stream_write.pxi"
include "stream.pxi"         # TCP transports
include "sendfile.pxi"       # a file through a transport
include "tls_engine.pxi"     # TLS without sockets
include "tls_io.pxi"         # what flows through a TLS transport
include "tls.pxi"            # TLS transports
include "tls_records.pxi"    # ... on top of others
include "listener.pxi"       # accepting
include "parcels.pxi"        # what a datagram transport has still to send
include "datagram_read.pxi"  # the two halves of a datagram transport
include "datagram_write.pxi"
include "datagram.pxi"       # UDP, and datagrams over Unix sockets
include "pipe.pxi"           # pipes, one direction each
include "pipe_read.pxi"
include "pipe_write.pxi"
include "process.pxi"        # the exit of child processes
include "call.pxi"           # what native methods return to be awaited
include "sockwatch.pxi"      # the registration that sock_* calls share
include "sockcall_io.pxi"     # the system calls behind sock_recv & co.
include "sockcall.pxi"       # sock_recv & co.
include "loop.pxi"           # the asyncio-facing Loop
include "loop_calls.pxi"     # call_soon and its kin
include "budget.pxi"         # when what never has to wait gives way
include "waitq.pxi"          # how tasks wait for one another's doings
include "claim.pxi"          # who waits for one of several things
include "sync.pxi"           # Event, Lock, Semaphore
include "queue.pxi"
include "channel.pxi"        # what the ends of a channel share
include "channel_calls.pxi"  # what their methods return
include "channel_quick.pxi"  # ... and the usual course of it
include "channel_ends.pxi"   # Sender, Receiver
include "select.pxi"         # exactly one of several operations
include "timeout.pxi"
include "limiter.pxi"
include "arms.pxi"           # the children of join and its like
include "combine.pxi"        # join, try_join, race, race_ok
include "loop_virtual.pxi"   # the loop of pinloop.testing
include "streamcall.pxi"     # what a stream's methods return
include "streams.pxi"        # asyncio's streams: the reader
include "streams_writer.pxi"  # the protocol and the writer
include "typesetup.pxi"      # what is set on types beyond what Cython has words for
