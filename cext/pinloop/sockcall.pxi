# The loop's sock_* methods: the system call first, a future only when it would block.
