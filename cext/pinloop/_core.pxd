# The data model: every cdef class, the owner and purpose of every field.
#
# Lifetimes.  A reactor owns the ready ring, the timers, the inbox and a table
# of watchers by fd.  Each holds strong references, released when the entry leaves.
# Six calls go up the floors, and no others: Runnable.run, Watcher.on_ready,
# Watcher.gives_way, Watcher.evicted, Reactor.report and Reactor.run_until_stopped.
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from pinloop.bytespool cimport BytesPool
from pinloop.c_epoll cimport epoll_event
from pinloop.c_kqueue cimport kevent_t
from pinloop.c_libssl cimport pl_bio, pl_ssl, pl_wire
from pinloop.c_posix cimport iovec, pl_mmsghdr, sockaddr, sockaddr_storage, socklen_t
from pinloop.inbox cimport Inbox, InboxNode
from pinloop.ring cimport Ring
from pinloop.timers cimport Timers

# ------------------------------------------------------------------ the poll --

cdef enum:
    EV_READ = 1          # readable, or the peer closed, or an error waits to be read
    EV_WRITE = 2
    EV_EDGE = 4          # asked for, never reported: tell each change once
    EV_OTHER = 8         # beside data there is the end, an error or urgent bytes

cdef struct Event:
    int fd
    uint32_t generation  # of the registration that asked; stale if the slot moved on
    uint32_t mask


cdef class Poller:
    """What the reactor needs of a kernel: readiness and a clock.  Never calls anyone."""
    cdef readonly str name
    cdef bint tells_other        # whether it reports EV_OTHER

    cdef int add(self, int fd, uint32_t mask, uint32_t generation) except -1
    cdef int modify(self, int fd, uint32_t old, uint32_t mask, uint32_t generation) except -1
    cdef int remove(self, int fd, uint32_t mask) except -1
    cdef bint holds(self, int fd, uint32_t mask, uint32_t generation) noexcept
    cdef int wait(self, Event* events, int capacity, int64_t timeout_ns) except -1
    cdef int spin(self, Event* events, int capacity, int64_t spin_ns, Inbox* inbox) except -1
    cdef int64_t now(self) noexcept
    cdef int reset(self) except -1
    cdef void shut(self) noexcept


cdef class EpollPoller(Poller):
    cdef int epfd
    cdef bint has_pwait2         # cleared at the first ENOSYS (Linux < 5.11)

    cdef int control(self, int operation, int fd, uint32_t mask, uint32_t generation) noexcept
    cdef int wait_ns(self, epoll_event* events, int capacity, int64_t timeout_ns) noexcept nogil
    @cython.final
    cdef int take(self, epoll_event* batch, int count, int error, Event* events) except -1


cdef class KqueuePoller(Poller):
    cdef int kq

    cdef int control(self, int fd, int filter, int flags, uint32_t generation) noexcept
    @cython.final
    cdef int take(self, kevent_t* batch, int count, int error, Event* events) except -1


cdef class ScriptedPoller(Poller):
    cdef object script           # iterator of event batches, or of callables that give one
    cdef int64_t clock           # virtual ns; a wait advances it
    cdef readonly dict registered    # fd -> (mask, generation)
    cdef readonly list calls     # what the reactor asked for, in order


cdef class VirtualPoller(Poller):
    cdef Poller kernel
    cdef int64_t virtual_ns      # what time it is
    cdef int registrations       # that the kernel holds, or held until their fd was closed


# --------------------------------------------------------------- the reactor --

include "model_counters.pxi"


cdef class Runnable:
    """What the ready ring and the flush list hold."""
    cdef int run(self, Reactor reactor) except -1


cdef class Watcher(Runnable):
    """An fd under a reactor.  Its registration ends before the fd is closed."""
    cdef Reactor reactor
    cdef int fd                  # -1 once released
    cdef uint32_t interest       # the mask the poller holds for it; 0: not registered

    cdef int on_ready(self, uint32_t mask) except -1
    cdef bint gives_way(self) noexcept
    cdef int evicted(self) except -1


cdef class WakeWatcher(Watcher):
    """The inbox's fd: its readiness is the wake, there is nothing to read from it but that."""


cdef struct Slot:
    PyObject* watcher            # owned, or NULL
    uint32_t generation          # moves on with each registration of this fd number
    uint32_t changed             # reactor.polls when it last did: tells stale from orphaned


cdef class SlotTable:
    """Who watches which fd, in step with what the poller holds."""
    cdef Poller poller
    cdef Slot* slots             # by fd number
    cdef int slot_count
    cdef uint32_t polls          # how many waits have returned
    cdef int fork_depth          # of the process that made it
    cdef bint sent               # something was sent or closed since the last poll

    @cython.final
    cdef void drop_watchers(self) noexcept
    @cython.final
    cdef int watch(self, Watcher watcher, uint32_t mask) except -1
    @cython.final
    cdef int unwatch(self, Watcher watcher) except -1
    @cython.final
    cdef Watcher watcher_at(self, int fd)
    @cython.final
    cdef bint lost_its_fd(self, Watcher watcher) noexcept
    @cython.final
    cdef int register(self, Watcher watcher, uint32_t mask, Slot* slot) except -1
    @cython.final
    cdef int settle(self, Watcher watcher, uint32_t mask) except -1
    @cython.final
    cdef int widen_slots(self, int fd) except -1
    @cython.final
    cdef int orphaned(self, int fd) except -1


cdef struct Spares:
    PyObject** items             # owned
    int count


cdef class Reactor(SlotTable):
    cdef Ring ready              # Runnables, run in the next batch
    cdef Ring flushing           # transports with writes gathered this turn
    cdef Timers timers
    cdef Inbox inbox             # handles from other threads
    cdef Watcher wake_watcher    # on inbox.rfd
    cdef Event* events           # the batch being dispatched
    cdef int event_count

    cdef Spares handles          # Handles and TimerHandles that ran and that nobody
    cdef Spares timer_handles    # else holds, to be used again
    cdef Spares futures          # and Futures and Tasks whose last reference went
    cdef Spares tasks
    cdef PyObject* spare_context  # the Context that those at rest are run in, or NULL; see compat.h

    cdef PyObject* first_task    # of the list of tasks that are not done; borrowed
    cdef PyObject** current_slot  # where asyncio keeps the current task of the thread that runs it, or NULL
    cdef bint task_entered       # asyncio.current_task() gives a task of this reactor

    cdef bint stopping           # leave after this turn
    cdef bint closed
    cdef bint debug
    cdef Handle running_handle   # in debug mode, for reports of what it calls; else None
    cdef public double slow_callback_duration   # seconds; debug mode reports what took longer
    cdef long owner_pid          # named in the error that a forked child gets
    cdef unsigned long thread_id  # ident of the thread that runs it; 0: none does

    cdef int64_t spin_ns         # how long to ask before each sleep; 0: sleep at once
    cdef Counters counts         # what `metrics` tells
    cdef int64_t last_poll       # ns; 0: not yet asked since the poll
    cdef int turns               # made since the last poll
    cdef int turns_to_clock      # turns that may pass before the clock is read again
    cdef bint slept              # the last poll ended because its time was up
    cdef int64_t slack           # ns; a sleep for a timer lasts at least this

    cdef size_t budget_step      # the head of the ready ring in the step that these are counted in
    cdef unsigned int budget_used  # operations that were ready; see budget.pxi
    cdef int eager_depth         # children of `join` and its like that are making their first steps

    cdef int setup(self, Poller poller) except -1
    cdef void teardown(self) noexcept
    @cython.final
    cdef void empty_inbox(self) noexcept
    cdef int report(self, dict context) except -1
    cdef int forked(self) except -1

    @cython.final
    cdef int flush_later(self, Runnable writer) except -1
    @cython.final
    cdef int add_timer(self, TimerHandle handle, int64_t when) except -1
    @cython.final
    cdef int timer_cancelled(self, TimerHandle handle) except -1
    @cython.final
    cdef int compact_timers(self) except -1
    @cython.final
    cdef int push_from_thread(self, Handle handle) except -1

    @cython.final
    cdef int recycle(self, PyObject* entry) except -1
    @cython.final
    cdef int keep_spare(self, Spares* spares, PyObject* entry) except -1

    @cython.final
    cdef int run_once(self) except -1
    @cython.final
    cdef int due_timers(self) except -1
    @cython.final
    cdef void adapt_slack(self, size_t fired) noexcept
    @cython.final
    cdef int ready_batch(self) except -1
    @cython.final
    cdef int flush(self) except -1
    @cython.final
    cdef int poll(self) except -1
    @cython.final
    cdef void note_sleep(self) noexcept
    @cython.final
    cdef void note_poll(self) noexcept
    @cython.final
    cdef bint spin(self, int64_t timeout) except -1
    @cython.final
    cdef int dispatch(self) except -1
    @cython.final
    cdef bint may_skip_poll(self) noexcept
    @cython.final
    cdef int64_t poll_timeout(self) noexcept
    @cython.final
    cdef int drain_inbox(self) except -1
    cdef int run_until_stopped(self) except -1


# ------------------------------------------------------------------- handles --

cdef class Handle(Runnable):
    cdef InboxNode node          # link in the inbox; the inbox owns a reference meanwhile
    cdef object callback         # None once cancelled
    cdef object argument         # the first of one or two
    cdef object arguments        # the second of two; a tuple of all, if there are more
    cdef object context          # or what is in it; see compat.h
    cdef Reactor reactor         # whose clock, debug flag and exception handler it uses
    cdef object trace            # debug: the stack that scheduled it
    cdef int argument_count
    cdef unsigned char is_cancelled
    cdef unsigned char own_context  # given to the program, or by it: the context stays this object

    @cython.final
    cdef PyObject* call(self) noexcept
    @cython.final
    cdef int run_debug(self, Reactor reactor) except -1
    @cython.final
    cdef int failed(self, Reactor reactor) except -1
    @cython.final
    cdef void drop_callback(self) noexcept


@cython.final
cdef class TimerHandle(Handle):
    cdef double deadline         # as given to call_at, or computed by call_later; seconds
    cdef bint whole              # call_at was given an int
    cdef bint in_heap

# --------------------------------------------------------- futures and tasks --

include "model_task.pxi"

# ------------------------------------------------ what stands on the reactor --

include "model_call.pxi"
include "model_sockets.pxi"
include "model_stream.pxi"
include "model_tls.pxi"
include "model_datagram.pxi"
include "model_pipe.pxi"
include "model_streams.pxi"
include "model_sync.pxi"
include "model_combine.pxi"
include "model_channel.pxi"

# ------------------------------------------------------------------ the loop --

cdef class SocketCalls(Reactor):
    """The sock_* methods of a loop."""


cdef class Loop(SocketCalls):
    cdef dict future_keywords    # {"loop": self} while it runs: what a future is made with
    cdef char* scratch           # where small reads land before they become bytes
    cdef BytesPool pool          # and the objects that they become
    cdef ReceiveBuffers buffers  # these two: made for the first datagram transport
    cdef AddressCache addresses
    cdef char* tls_scratch       # see tls_io.pxi; made for the first TLS connection
    cdef bint portable_tls       # use ssl.MemoryBIO even where OpenSSL can be called directly
    cdef object task_factory     # set_task_factory's
    cdef PyObject* kept_stop     # a StopIteration by which calls end, while it is not in use; see compat.h
    cdef uint64_t draws          # the state of what select draws from
    cdef Py_ssize_t cancelled_scopes  # scopes that are open and cancelled
    cdef bint stock_tasks        # futures and tasks are asyncio's own classes
    cdef object __weakref__

    cdef object make_task(self, object coro, dict kwargs)
    cdef int add_callback(self, object fd, object callback, tuple args, bint writing, str method) except -1
    @cython.final
    cdef Handle make_handle(self, PyObject* callback, PyObject** args, Py_ssize_t count, PyObject* context)
    @cython.final
    cdef TimerHandle make_timer(self, double deadline, PyObject* callback, PyObject** args, Py_ssize_t count,
                                PyObject* context)
    @cython.final
    cdef int fill(self, Handle handle, PyObject* callback, PyObject** args, Py_ssize_t count,
                  PyObject* context) except -1
    @cython.final
    cdef int check_call(self, object callback, str method, bint any_thread) except -1
    @cython.final
    cdef int soon(self, object callback, PyObject* argument, object context) except -1
    @cython.final
    cdef TimerHandle later(self, double delay, object callback, object context)

include "model_virtual.pxi"
