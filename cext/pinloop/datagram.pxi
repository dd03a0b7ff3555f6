# Datagram transports.
