# The budget: how many operations that need not wait a task may do before it lets the others run.
#
# What is ready completes without suspending, which is what makes it cheap; a task for which there is always
# something ready would keep the loop for ever.  So each such operation asks `budget_spent(loop)` before it
# does anything, once:
#
#     cdef object begin(self):
#         if budget_spent(loop):        # the share of this step is used up: not now
#             self.future = None        # no future to wait for: the task goes on in the next turn,
#             return WOULD_BLOCK        # and `proceed` then does the operation, without asking again
#         return ...
#
# `loop` is the running loop if it is one of ours, else None.  Giving way comes before the operation: a task
# that is cancelled there has taken nothing.  What has waited anyway does not ask: it has given way.
#
# On our loops a step is told from the next by the head of the ready ring, so that a new one begins with its
# whole share and no step pays for it.  (Where the ring has just grown, a step may begin it anew.)  Loops of
# other kinds say nothing of steps: there each BUDGETth operation of the thread gives way, whosever it is.

cdef object get_running_or_none = asyncio._get_running_loop

cdef enum:
    BUDGET = 128


cdef inline bint budget_spent(Loop loop) noexcept:
    """Count an operation that is ready; whether it is to give way for a turn first."""
    if loop is None:
        return thread_budget_spent()
    if loop.ready.head != loop.budget_step:
        loop.budget_step = loop.ready.head
        loop.budget_used = 0
    elif loop.budget_used == BUDGET:
        loop.budget_used = 0              # what comes after is a new step, or has been told
        return True
    loop.budget_used += 1
    return False


cdef bint thread_budget_spent() noexcept:
    cdef unsigned int* used = pl_budget_used()
    if used[0] == BUDGET:
        used[0] = 0
        return True
    used[0] += 1
    return False


@cython.final
@cython.internal
cdef class Turn(Call):
    """Lets the others run: always, or if the budget is spent."""

    def __dealloc__(self):
        warn_unawaited(self)

    cdef str qualified_name(self):
        return "yield_now" if self.always else "consume_budget"

    cdef object begin(self):
        cdef Loop loop = None
        running = get_running_or_none()
        if isinstance(running, Loop):
            loop = <Loop>running
        check_scopes(loop)
        if self.always or budget_spent(loop):
            return WOULD_BLOCK
        return None

    cdef object proceed(self):
        return None


cdef Turn new_turn(bint always):
    cdef Turn turn = Turn.__new__(Turn)
    turn.state = CALL_NEW
    turn.always = always
    return turn


def yield_now():
    """Let all others that are ready run once, then go on.  To be awaited; the result is None.

    The task may be cancelled there, and a cancellation that is due is raised there; in a scope that is
    cancelled CancelledError is raised each time.
    """
    return new_turn(True)


def consume_budget():
    """Count one operation, and let the others run if there were 128 in this step of the task.  To be awaited.

    For loops over what may be ready each time: cheap, but it keeps nobody waiting for long.  pinloop's own
    operations that may be ready, such as those of channels, count by themselves.  On event loops other than
    pinloop's all operations of the thread are counted together.  Where it gives way it is as `yield_now`.
    """
    return new_turn(False)
