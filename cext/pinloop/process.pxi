# Child processes: their exit.
