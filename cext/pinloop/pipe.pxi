# Pipe transports.
