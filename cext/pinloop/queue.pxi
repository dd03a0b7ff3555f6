# Queue: asyncio.Queue in all that user code can see, on the wait queue.
#
# As there, a put does not hand its item to who waits but lets them go on, and whoever comes first takes it.
# A plain queue keeps its items in a ring; a subclass with an _init, _get or _put of its own (asyncio's
# PriorityQueue and LifoQueue are such) keeps them itself.

cdef object QueueEmpty = asyncio.QueueEmpty
cdef object QueueFull = asyncio.QueueFull

try:
    QueueShutDown = asyncio.QueueShutDown
except AttributeError:        # before 3.13
    class QueueShutDown(Exception):
        """Raised by `put` and `get` of a queue that was shut down."""

# What a subclass may have instead of ours, which its calls then go by.
cdef tuple OVERRIDABLE = ("qsize", "empty", "full", "get_nowait", "put_nowait")

cdef enum:
    GET
    PUT
    JOIN

cdef enum:
    LEAST_ROOM = 8           # items, for which an empty queue has memory
    KEPT_ROOM = 4096         # more than this it gives back when it is emptied


cdef class Queue(Waitable):
    """What tasks give to one another, in order."""

    def __cinit__(self):
        ring_init(&self.items, LEAST_ROOM)

    def __init__(self, maxsize=0):
        kind = type(self)
        self.given_maxsize = maxsize
        self.room = as_room(maxsize)
        self.plain = (
            all([getattr(kind, name) is getattr(AsyncioQueue, name) for name in ("_init", "_get", "_put")])
            and all([getattr(kind, name) is getattr(PlainQueue, name) for name in OVERRIDABLE]))
        if not self.plain:
            self._init(maxsize)

    def __dealloc__(self):
        ring_free(&self.items)

    @classmethod
    def __class_getitem__(cls, item):
        return types.GenericAlias(cls, item)

    def qsize(self):
        """How many items are in it."""
        return ring_count(&self.items) if self.plain else len(self._queue)

    @property
    def maxsize(self):
        """How many items it may hold; 0 or less: any number."""
        return self.given_maxsize

    def empty(self):
        """Whether there is nothing in it."""
        return self.qsize() == 0

    def full(self):
        """Whether it holds as many items as it may."""
        return 0 < self.room <= self.qsize()

    def put(self, item):
        """Put an item in, waiting until there is room.

        Raises QueueShutDown once the queue was shut down.  Cancelled while it waits, it has put nothing.
        """
        return self.call(PUT, item)

    def get(self):
        """Take an item out, waiting until there is one.

        Raises QueueShutDown once the queue was shut down and is empty.  Cancelled while it waits, it has
        taken nothing, and what it was woken for goes to the next.
        """
        return self.call(GET, None)

    def put_nowait(self, item):
        """Put an item in now.  Raises QueueFull if there is no room, QueueShutDown after `shutdown`."""
        if self.is_shut:
            raise QueueShutDown
        if self.is_full():
            raise QueueFull
        self.add(item)

    def get_nowait(self):
        """Take an item out now.  Raises QueueEmpty if there is none; QueueShutDown then, after `shutdown`."""
        if self.is_empty():
            if self.is_shut:
                raise QueueShutDown
            raise QueueEmpty
        return self.take()

    def task_done(self):
        """Tell that the work on an item taken out is done.

        Raises ValueError if it is told more often than items were put in.
        """
        if self.unfinished <= 0:
            raise ValueError("task_done() called too many times")
        self.unfinished -= 1
        if self.unfinished == 0:
            wake_all(&self.joiners)

    def join(self):
        """Wait until `task_done` was called for each item that was put in."""
        return self.call(JOIN, None)

    def shutdown(self, immediate=False):
        """Refuse further items; who waits to put one, or for one that will not come, gets QueueShutDown.

        With `immediate` what is in the queue is dropped, and counts as done.
        """
        self.is_shut = True
        if immediate:
            while not self.is_empty():
                self.remove()
                if self.unfinished > 0:
                    self.unfinished -= 1
            if self.unfinished == 0:
                wake_all(&self.joiners)
        wake_all(&self.getters)
        wake_all(&self.putters)

    # ------------------------------------------------------------------ waiting --

    cdef object attempt(self, WaitCall call):
        if call.waiter.operation == GET:
            if not self.is_empty():
                return self.take() if self.plain else self.get_nowait()
            if self.is_shut:
                raise QueueShutDown
            return self.wait_in(call, &self.getters)
        if call.waiter.operation == PUT:
            if self.is_shut:
                raise QueueShutDown
            if self.is_full():
                return self.wait_in(call, &self.putters)
            if self.plain:
                self.add(call.argument)
                return None
            return self.put_nowait(call.argument)
        if self.unfinished > 0 and not call.resumed:
            return self.wait_in(call, &self.joiners)
        return None

    cdef int gave_up(self, WaitCall call) except -1:
        if call.woken and call.waiter.operation == GET and not self.is_empty():
            wake_first(&self.getters)
        elif call.woken and call.waiter.operation == PUT and not self.is_full():
            wake_first(&self.putters)
        return 0

    cdef str operation_name(self, int operation):
        return "Queue.get" if operation == GET else "Queue.put" if operation == PUT else "Queue.join"

    # -------------------------------------------------------------------- items --

    cdef bint is_empty(self) except -1:
        return ring_count(&self.items) == 0 if self.plain else self.empty()

    cdef bint is_full(self) except -1:
        if self.plain:
            return 0 < self.room <= <Py_ssize_t>ring_count(&self.items)
        return self.full()

    cdef int add(self, object item) except -1:
        if self.plain:
            ring_push(&self.items, item)
        else:
            self._put(item)
        self.unfinished += 1
        wake_first(&self.getters)
        return 0

    cdef object take(self):
        item = self.remove()
        wake_first(&self.putters)
        return item

    cdef object remove(self):
        if not self.plain:
            return self._get()
        item = pl_give(ring_pop(&self.items))
        if self.items.head == self.items.tail and self.items.mask >= KEPT_ROOM:
            ring_shrink(&self.items, LEAST_ROOM)
        return item

    # --------------------------------------------------- asyncio's private names --

    def __getattr__(self, name):
        # Whoever asks for asyncio's deque gets one, and from now on it is where the items are.
        if name != "_queue" or not self.plain:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        items = collections.deque()
        while ring_count(&self.items):
            items.append(pl_give(ring_pop(&self.items)))
        self.plain = False
        self._queue = items
        return items

    @property
    def _getters(self):
        return awaited_in(&self.getters, self.getters.sleeper)

    @property
    def _putters(self):
        return awaited_in(&self.putters, self.putters.sleeper)

    @property
    def _unfinished_tasks(self):
        return self.unfinished

    @_unfinished_tasks.setter
    def _unfinished_tasks(self, Py_ssize_t count):
        self.unfinished = count

    @property
    def _maxsize(self):
        return self.given_maxsize

    @_maxsize.setter
    def _maxsize(self, maxsize):
        self.room = as_room(maxsize)
        self.given_maxsize = maxsize

    @property
    def _is_shutdown(self):
        return self.is_shut

    def _format(self):
        parts = [f"maxsize={self.given_maxsize!r}"]
        contents = ring_list(&self.items) if self.plain else list(getattr(self, "_queue", None) or ())
        if contents:
            parts.append(f"_queue={contents!r}")
        for name, waiting in (("_getters", self._getters), ("_putters", self._putters)):
            if waiting:
                parts.append(f"{name}[{len(waiting)}]")
        if self.unfinished:
            parts.append(f"tasks={self.unfinished}")
        if self.is_shut:
            parts.append("shutdown")
        return " ".join(parts)

    def __repr__(self):
        return f"<{type(self).__name__} at {<size_t><PyObject*>self:#x} {self._format()}>"

    def __str__(self):
        return f"<{type(self).__name__} {self._format()}>"


cdef object PlainQueue = Queue
cdef object AsyncioQueue = asyncio.Queue


cdef Py_ssize_t as_room(object maxsize) except -1:
    """The largest number of items, as a number; 0: there is no limit."""
    if not 0 < maxsize <= PY_SSIZE_T_MAX:
        return 0
    return <Py_ssize_t>int(-(-maxsize // 1))


cdef list ring_list(Ring* ring):
    cdef size_t at
    found = []
    for at in range(ring.head, ring.tail):
        found.append(<object>ring.slots[at & ring.mask])
    return found
