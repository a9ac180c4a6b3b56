"""A real gdb, spoken to as at a terminal; and a client that speaks the protocol itself."""

from __future__ import annotations

import os
import re
import selectors
import socket
import subprocess
import time
from types import TracebackType
from typing import Self

from vmlab.gdb.packets import Framer, encode

__all__ = ["Client", "RealGdb"]

_PROMPT = b"(gdb) "
_PATIENCE = 30.0


class RealGdb:
    """`gdb.run("info threads")` -> what it says."""

    def __init__(self, address: str, image: str) -> None:
        self._process = subprocess.Popen(
            ["gdb-multiarch", "-q", "-nx", image],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TERM": "dumb", "HOME": "/nonexistent"},
        )
        self._until()
        for command in ("pagination off", "confirm off", "width 0"):
            self.run(f"set {command}")
        self.run(f"target remote {address}")

    def run(self, command: str) -> str:
        self.begin(command)
        return self._until()

    def begin(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()

    def _until(self) -> str:
        assert self._process.stdout is not None
        said, end = b"", time.monotonic() + _PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not said.endswith(_PROMPT):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError(said.decode(errors="replace"))
                part = os.read(self._process.stdout.fileno(), 65536)
                if not part:
                    break
                said += part
        return said.decode(errors="replace").removesuffix("(gdb) ")

    answer = _until

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(2)

    def value(self, expression: str) -> int:
        """A number, as `print` says it."""
        found = re.search(r"= (?:\(.*\) )?(0x[0-9a-f]+|\d+)", self.run(f"print/x {expression}"))
        assert found is not None
        return int(found[1], 0)

    def vanish(self) -> None:
        self._process.kill()
        self._close()

    def _close(self) -> None:
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._close()


class Client:
    """Packets by hand."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._framer = Framer()
        self._waiting: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, packet: bytes) -> bytes:
        self.send(encode(packet))
        return self.packet()

    def packet(self) -> bytes:
        """The next one; b"" when the other side has gone."""
        while not self._waiting:
            data = self.socket.recv(65536)
            if not data:
                return b""
            self._waiting += [one for one in self._framer.feed(data) if isinstance(one, bytes)]
        return self._waiting.pop(0)

    def close(self) -> None:
        self.socket.close()
