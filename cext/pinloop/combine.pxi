# join, try_join, race and race_ok: children that a call runs, and what it comes to.
#
# A Group is one such call, and a node in the tree of scopes (src/pinloop/_scope_tree.py): a scope that is
# cancelled finds the arms of the calls in it, and the shields in these.  It is told by its arms as they
# finish: a future of ours on a loop of ours keeps the group among its waiters and tells it in place, any
# other by a callback.  A group cancels its arms and never its host, so it has no request to take back.

cdef enum:
    EAGER_DEPTH = 16         # first steps one in another, each deeper on the C stack
    NODE_CLOSED = 1          # as the states of scopes
    NODE_OPEN = 2

cdef tuple GROUP_NAMES = ("join", "try_join", "race", "race_ok")

# The innermost node of the tree.  Each task made in one inherits it, whether it belongs to it or not.
scope_variable = contextvars.ContextVar("pinloop_scope", default=None)


cdef inline object get_variable(object variable):
    cdef PyObject* value
    PyContextVar_Get(variable, NULL, &value)
    return pl_give(value)


cdef inline int set_variable(object variable, object value) except -1:
    PyContextVar_Set(variable, value)
    return 0


@cython.final
cdef class Group(Call):
    """A call of `join`, `try_join`, `race` or `race_ok`."""

    def __dealloc__(self):
        warn_unawaited(self)

    cdef str qualified_name(self):
        return GROUP_NAMES[<int>self.rule]

    # -------------------------------------------------------------- its course --

    cdef object begin(self):
        if not self.given and self.rule <= FIRST_ERROR:
            return ()
        self.enter()
        if self.left:
            self.wait()
            return WOULD_BLOCK
        return self.outcome()

    cdef object proceed(self):
        if is_pending(self.future):
            raise RuntimeError("await wasn't used with future")
        if self.left:
            self.wait()
            return WOULD_BLOCK
        return self.outcome()

    def throw(self, typ, val=None, tb=None, /):
        """Cancelled, go on waiting until all have ended; else give them up."""
        if self.state == CALL_RUNNING:
            self.refuse_state()
        error = thrown(typ, val, tb)
        if self.state != CALL_WAITING or not isinstance(error, CancelledError):
            self.finish()
            raise error
        self.state = CALL_RUNNING
        try:
            self.cancellation = error
            self.spread(error.args[0] if error.args else None)
            if not self.left:
                self.outcome()
            self.wait()
        except BaseException:
            self.finish()
            raise
        self.state = CALL_WAITING
        return mark_awaited(self.future)

    cdef int wait(self) except -1:
        cdef object loop = self.loop
        self.future = make_future(<Loop>loop) if isinstance(loop, Loop) else loop.create_future()
        return 0

    cdef int finish(self) except -1:
        """Over, or given up: then its arms are cancelled, but nobody waits for them."""
        self.state = CALL_DONE
        given, self.given = self.given, None
        if not self.entered:
            for awaitable in given or ():
                close_unstarted(awaitable)
            return 0
        try:
            if self.left:
                self.spread(None)
        finally:
            self.leave()
        return 0

    cdef int enter(self) except -1:
        """Take what was given, and begin to run it."""
        cdef list awaitables
        self.loop = get_running_loop()
        self.host = current_task(self.loop)
        if self.host is None:
            raise RuntimeError(f"{self.qualified_name()}() can be awaited by a task only")
        if not self.given:
            raise ValueError(f"{self.qualified_name()}() needs at least one awaitable: nobody could win")
        awaitables = self.checked()
        check_scopes(<Loop>self.loop if isinstance(self.loop, Loop) else None)
        self.arms = []
        self.outer = get_variable(scope_variable)
        if self.outer is not None:
            self.parent = current_node(self.host)
            if self.parent is not None:
                self.parent._inner[self.host] = self
        set_variable(scope_variable, self)
        self.entered = True
        return self.add_all(awaitables)

    cdef int leave(self) except -1:
        """Take it out of the tree, and let go of what it refers to."""
        cdef object parent = self.parent, host = self.host
        self.parent = None
        if parent is not None and parent._inner.get(host) is self:
            del parent._inner[host]
        if get_variable(scope_variable) is self:
            set_variable(scope_variable, self.outer)
        self.arms = []
        self.members = self.ended = self.inner = None
        self.outer = self.decider = self.fault = self.cancellation = self.future = self.host = None
        return 0

    # -------------------------------------------------------------------- arms --

    cdef list checked(self):
        """What was given, each once, as coroutines and futures."""
        cdef tuple given = self.given
        cdef Py_ssize_t at, before
        cdef list awaitables = []
        cdef object seen = None if len(given) < 8 else set()
        for at in range(len(given)):
            awaitable = given[at]
            if seen is not None:
                if <size_t><PyObject*>awaitable in seen:
                    continue
                seen.add(<size_t><PyObject*>awaitable)
            else:
                for before in range(at):
                    if given[before] is awaitable:
                        break
                else:
                    before = -1
                if before >= 0:
                    continue
            awaitables.append(
                awaitable if type(awaitable) is CoroutineType else self.checked_one(awaitable))
        return awaitables

    cdef object checked_one(self, object awaitable):
        cdef str name = self.qualified_name()
        if asyncio.isfuture(awaitable):
            if awaitable is self.host:
                raise RuntimeError(f"{name}() cannot await the task that calls it")
            if futures._get_loop(awaitable) is not self.loop:
                raise ValueError(f"{name}() was given a future of another loop: {awaitable!r}")
            return awaitable
        if isinstance(awaitable, types.GeneratorType):
            if inspect.isawaitable(awaitable):
                return _awaiting(awaitable)
        elif asyncio.iscoroutine(awaitable):
            return awaitable
        elif inspect.isawaitable(awaitable):
            return _awaiting(awaitable)
        advice = ""
        if isinstance(awaitable, (list, tuple, set, types.GeneratorType)):
            advice = f": did you mean {name}(*...)?"
        elif callable(awaitable):
            advice = ": did you mean to call it?"
        raise TypeError(f"{name}() takes awaitables, not {type(awaitable).__name__}{advice}")

    cdef int add_all(self, list awaitables) except -1:
        # First those that run already: one that has finished may decide, and then nothing is begun.
        cdef bint some = False
        for awaitable in awaitables:
            if type(awaitable) is not CoroutineType and asyncio.isfuture(awaitable):
                some = True
                self.arms.append(awaitable)
                self.add(awaitable)
        self.add_children(awaitables)
        if some and len(self.arms) == len(awaitables):
            self.arms = in_order(awaitables, self.arms)
        return 0

    cdef int add_children(self, list awaitables) except -1:
        cdef object create = self.loop.create_task
        # The method of ours, which nobody has put another in the place of.
        cdef bint ours = type(create) is types.BuiltinMethodType and isinstance(self.loop, Loop)
        for awaitable in awaitables:
            if type(awaitable) is not CoroutineType and asyncio.isfuture(awaitable):
                continue
            if self.decided or self.fault is not None:
                awaitable.close()
                continue
            if self.aborted:              # by the first step of another: this one is cancelled before its own
                awaitable.close()
                task = self.loop.create_future()
                task.cancel(msg=self.reason)
                self.arms.append(task)
                self.add(task)
                continue
            self.starting = awaitable
            try:
                task = start_child(<Loop>self.loop, awaitable) if ours else create(awaitable)
                self.arms.append(task)
                self.add(task)
                if (self.aborted or self.decided) and not task.done():
                    self.abort_late(task)
            except BaseException as error:
                self.fault = error
                awaitable.close()
                self.spread("another awaitable could not be run")
            self.starting = None
        return 0

    cdef int abort_late(self, object arm) except -1:
        """The arms were cancelled, or it was decided, by this one's first step, when it was no arm yet."""
        cdef list passed = []
        if not self.aborted:
            return self.spread(f"{self.qualified_name()}() is decided")
        self.cancel_arm(arm, passed)
        return self.spread_over(passed, self.reason)

    cdef int add(self, object arm) except -1:
        """Be told when the arm finishes, if it has not."""
        self.left += 1
        if type(arm) is Task or type(arm) is Future:
            if (<Future>arm).state != PENDING:
                return self.arrived(arm)
            if (<Future>arm).native:
                return (<Future>arm).add_waiter(self)
        elif arm.done():
            return self.arrived(arm)
        try:
            arm.add_done_callback(PyCFunction_New(&arrived_method, self))
        except BaseException:
            self.left -= 1
            raise
        if KNOWS_AWAITED_BY:
            future_add_to_awaited_by(arm, self.host)
        return 0

    cdef int arrived(self, object arm) except -1:
        """An arm has finished."""
        self.left -= 1
        if self.state == CALL_DONE:       # given up: there is nobody to raise it
            if not arm_cancelled(arm):
                error = arm_error(arm)
                if error is not None:
                    self.report(arm, error)
            return 0
        if self.rule != NONE_DECIDES and not self.decided and not self.aborted:
            self.decide(arm)
        if self.left == 0 and self.future is not None and is_pending(self.future):
            complete(self.future)
        return 0

    cdef int decide(self, object arm) except -1:
        cdef bint failed
        if self.rule != FIRST:
            failed = arm_cancelled(arm) or arm_error(arm) is not None
            if failed != (self.rule == FIRST_ERROR):
                return 0
        self.decided = True
        self.decider = arm
        if self.rule == FIRST_RESULT:
            self.ended = [each for each in self.arms if each.done()]
        if not self.left:
            return 0
        return self.spread(f"{self.qualified_name()}() is decided")

    # ------------------------------------------------------------ cancellation --

    cdef int spread(self, object reason) except -1:
        """Cancel the arms, once, and what is in the scopes in them."""
        return self.spread_over([self], reason)

    cdef int spread_over(self, list nodes, object reason) except -1:
        while nodes:
            node = nodes.pop()
            if type(node) is Group:
                nodes += (<Group>node).cancel_arms(reason)
            else:
                node._spread(reason)
        return 0

    cdef list cancel_arms(self, object reason):
        """The same; the scopes in them are returned."""
        passed = []
        if self.aborted:
            return passed
        self.aborted = True
        self.reason = reason
        for arm in list(self.arms):
            self.cancel_arm(arm, passed)
        return passed

    cdef int cancel_arm(self, object arm, list passed) except -1:
        reason = self.reason
        if self.inner is not None and arm in self.inner:
            if not arm.done():
                passed += self._tell(arm, reason)
        elif type(arm) is Task:
            request_cancel(<Task>arm, reason)
        elif type(arm) is Future:
            (<Future>arm).settle_cancelled(reason)
        elif not arm.done():
            arm.cancel(msg=reason)
        return 0

    cdef bint is_arm(self, object task) except -1:
        if self.starting is not None and task.get_coro() is self.starting:
            return True              # which makes its first step, and is no arm yet
        if self.members is None or len(self.members) != len(self.arms):
            self.members = set(self.arms)
        return task in self.members

    # ----------------------------------------------------------------- outcome --

    cdef object outcome(self):
        """The result of the call, or its error; errors that are neither are told to the exception handler."""
        cdef list failed = []
        cdef bint all_count
        cdef object cut = None, interrupt = None
        cdef object stopped = self.cancellation if self.cancellation is not None else self.fault
        cdef object decider = self.decider if stopped is None else None
        all_count = stopped is None and decider is None
        for arm in self.arms:
            if arm_cancelled(arm):
                cut = arm
                continue
            error = arm_error(arm)
            if error is None or arm is decider:
                continue
            if interrupt is None and is_exit(error):
                interrupt = error
            elif self.rule != FIRST_RESULT or decider is None or arm not in self.ended:
                failed.append((arm, error))
        if interrupt is not None:
            if decider is not None and not arm_cancelled(decider) and arm_error(decider) is not None:
                failed.append((decider, arm_error(decider)))
            stopped = interrupt
        if stopped is None and all_count and failed:
            errors = [error for arm, error in failed]
            raise BaseExceptionGroup(
                f"{len(errors)} of {len(self.arms)} given to {self.qualified_name()}() failed", errors)
        for arm, error in failed:
            self.report(arm, error)
        if stopped is not None:
            raise stopped
        if decider is not None:
            return arm_result(decider)
        if cut is not None:
            return arm_result(cut)
        return results(self.given, self.arms)

    cdef int report(self, object arm, object error) except -1:
        self.loop.call_exception_handler({
            "message": f"{self.qualified_name()}() came to something else than this error of an awaitable",
            "exception": error,
            "awaitable": arm,     # as "future" its context would be entered, which may be this one
        })
        return 0

    # ---------------------------------------------- what the tree of scopes asks --

    def _tell(self, task, reason):
        """Cancel an arm, but not behind a shield; the scopes in it that are cancelled too."""
        node, passed = self, []
        while True:
            node = node._inner.get(task)
            if node is None:
                break
            if node._shield:
                node._held.append((self, reason))
                return passed
            passed.append(node)
        task.cancel(reason)
        return passed

    def _reach(self, task, reason):
        for node in self._tell(task, reason):
            node._spread(reason)

    def _spread(self, reason):
        self.spread(reason)

    @property
    def _is_block(self):
        return False

    @property
    def _shield(self):
        return False

    @property
    def _state(self):
        return NODE_CLOSED if self.state == CALL_DONE else NODE_OPEN

    @property
    def _aborted(self):
        return self.aborted

    @_aborted.setter
    def _aborted(self, value):
        self.aborted = bool(value)

    @property
    def _cancelled(self):
        return False             # its arms are told once: only a scope stays cancelled for who asks again

    @property
    def _host(self):
        return self.host

    @property
    def _parent(self):
        return self.parent

    @property
    def _children(self):
        return self.arms

    @property
    def _inner(self):
        if self.inner is None:
            self.inner = {}
        return self.inner


# Told by arms of other kinds.

cdef PyMethodDef arrived_method


cdef object group_arrived(PyObject* self, PyObject* arm):
    if KNOWS_AWAITED_BY and (<Group>self).host is not None:
        future_discard_from_awaited_by(<object>arm, (<Group>self).host)
    (<Group>self).arrived(<object>arm)
    return None


arrived_method.ml_name = b"arrived"
arrived_method.ml_meth = <void*>group_arrived
arrived_method.ml_flags = METH_O


def current_node(task):
    """The innermost node of the tree of scopes that the task is in, which runs: as its host or as a child."""
    return own_node(get_variable(scope_variable), task)


def task_node(task):
    """The same of a task that need not run, whatever its class; None where its context is not to be had."""
    if type(task) is Task:
        # One that is at rest stays so: what is looked at is another with the same in it.
        context = whole_context((<Task>task).context) if (<Task>task).context is not None else None
    else:
        context = task.get_context() if hasattr(task, "get_context") else None
    return None if context is None else own_node(context.get(scope_variable), task)


cdef object own_node(object node, object task):
    """The node that a task's variable says, if the task is in it and did not only inherit it."""
    if node is None or task is None:
        return None
    if type(node) is Group:
        return node if task is (<Group>node).host or (<Group>node).is_arm(task) else None
    if task is node._host or task in node._children:
        return node
    # The first step of an eager task is made before anyone has got hold of the task.
    if node._starting is not None and task.get_coro() is node._starting:
        return node
    return None


cdef object new_group(GroupRule rule, tuple given):
    cdef Group group = Group.__new__(Group)
    group.rule = rule
    group.given = given
    group.state = CALL_NEW
    return group


def join(*aws):
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
    return new_group(NONE_DECIDES, aws)


def try_join(*aws):
    """As `join`, but the first that fails cancels the others, which are awaited, and its error is raised.

    That error itself, not a group.  What the others raise while they are being cancelled goes to the loop's
    exception handler.
    """
    return new_group(FIRST_ERROR, aws)


def race(*aws):
    """Run all of `aws` at once until the first has finished: its result, or the error that it raises.

    The others are cancelled and awaited; errors that they raise go to the loop's exception handler.  Where
    some have finished at the call already, the first of these wins, and no coroutine is begun.

    Arguments, errors and cancellation are as with `join`; without arguments it raises ValueError.
    """
    return new_group(FIRST, aws)


def race_ok(*aws):
    """As `race`, but the first that succeeds wins; where all fail, an ExceptionGroup of all errors is raised.

    Errors of those that failed before another succeeded are not told.
    """
    return new_group(FIRST_RESULT, aws)
