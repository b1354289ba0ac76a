"""Ports for servers that begin to listen some time after their address was written down."""

from __future__ import annotations

import errno
import secrets
import socket

RANGE = range(10_000, 30_000)
"""Below what the kernel gives to outgoing connections (32768 and up), and to NodePorts (30000)."""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of an address that nobody has, and that no outgoing connection will be given.

    A port that the kernel chooses (bind to 0) lies among those of outgoing connections: until the
    server begins to listen, or while it is stopped, any client of this machine may be given it.
    """
    while True:
        port = secrets.choice(RANGE)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            return port
