"""The server that gdb connects to, as people hold it."""

from __future__ import annotations

import contextlib
from typing import Self

from vmlab.errors import ConfigError, VmlabError
from vmlab.monitor import wire
from vmlab.vm.connection import Connection

__all__ = ["Gdb", "serve"]


class Gdb:
    """A server for gdb, on the loopback interface, until `close` or the machine's end. port: its port;
    address: what gdb wants, `target remote ADDRESS`. One gdb at a time."""

    def __init__(self, connection: Connection, port: int) -> None:
        self._connection = connection
        self.port = port
        self.address = f"127.0.0.1:{port}"

    def close(self) -> None:
        """The gdb that is connected is sent away, and its breakpoints go. Idempotent."""
        with contextlib.suppress(VmlabError):  # the machine may be gone
            self._connection.call(wire.Gdb(None), fault=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<gdb server: target remote {self.address}>"


def serve(connection: Connection, port: int) -> Gdb:
    if type(port) is not int or not 0 <= port <= 0xFFFF:
        raise ConfigError(f"port={port!r:.60}: a whole number from 0 (any that is free) to 65535")
    return Gdb(connection, connection.call(wire.Gdb(port), fault=False).count)
