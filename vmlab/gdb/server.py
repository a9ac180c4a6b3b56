"""Where gdb connects: the loopback interface, one client at a time.

One thread does it all: it waits for who connects, for packets, and for the machine to stop. What a client
sends is bounded (`packets`), and so is what waits to be sent to it.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable

from vmlab.errors import ConfigError, VmlabError
from vmlab.gdb.packets import Framer, Signal, encode
from vmlab.gdb.session import Session
from vmlab.machine.machine import Machine

__all__ = ["GdbServer"]

HOST = "127.0.0.1"
#: bytes of one read; seconds that a client has to take an answer; seconds that `close` waits for the thread
_READ, _PATIENCE, _JOIN = 0x10000, 5.0, 2.0
_BUSY = encode(b"E.vmlab: another gdb is connected")


class GdbServer:
    """port: 0 for any that is free. ConfigError where it cannot be had."""

    def __init__(self, machine: Machine, port: int) -> None:
        if not 0 <= port <= 0xFFFF:
            raise ConfigError(f"port {port}: 0 to 65535")
        self._machine = machine
        try:
            self._listener = socket.create_server((HOST, port))
        except OSError as error:
            raise ConfigError(f"gdb cannot be served at {HOST}:{port}: {error.strerror}") from error
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._client: socket.socket | None = None
        self._session: Session | None = None
        self._framer = Framer()
        self._last = b""
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="vmlab-gdb", daemon=True)
        self._thread.start()

    def on_state(self) -> None:
        """The machine's state is another one; any thread."""
        with contextlib.suppress(OSError):  # full: it will look anyway
            self._wake.send(b"\0")

    def close(self) -> None:
        self._closing = True
        self.on_state()
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN)

    # -- the thread ------------------------------------------------------------------------------------

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            self._selector = selector
            while not self._closing:
                for key, _ in selector.select():
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj is self._woken:
                        with contextlib.suppress(OSError):
                            self._woken.recv(4096)
                        self._guarded(self._look)
                    elif key.fileobj is self._client:
                        self._guarded(self._receive)
            self._drop()
        for one in (self._listener, self._wake, self._woken):
            one.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        client.settimeout(_PATIENCE)
        if self._client is not None:
            with contextlib.suppress(OSError), client:
                client.sendall(b"+" + _BUSY)
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client, self._framer = client, Framer()
        self._session = Session(self._machine, self._send)
        self._selector.register(client, selectors.EVENT_READ)
        self._guarded(self._session.begin)

    def _guarded(self, act: Callable[[], None]) -> None:
        """A client that is gone, or a machine that does not do what it is asked, ends the session alone."""
        try:
            with self._machine.watch:
                act()
        except (OSError, VmlabError):
            self._drop()
            return
        session = self._session
        if session is not None and session.over:
            self._drop()

    def _look(self) -> None:
        session = self._session
        if session is not None and (told := session.look()) is not None:
            self._send(told)

    def _receive(self) -> None:
        client, session = self._client, self._session
        assert client is not None
        assert session is not None
        data = client.recv(_READ)
        if not data:
            self._drop()
            return
        for one in self._framer.feed(data):
            if one is Signal.INTERRUPT:
                self._send(session.interrupt())
            elif one is Signal.AGAIN:
                client.sendall(self._last)
            elif one is Signal.BAD:
                if session.acknowledges:
                    client.sendall(b"-")
            elif isinstance(one, bytes):
                if session.acknowledges:
                    client.sendall(b"+")
                self._send(session.answer(one))
            if session.over:
                return

    def _send(self, packet: bytes | None) -> None:
        if packet is not None and self._client is not None:
            self._last = encode(packet)
            self._client.sendall(self._last)

    def _drop(self) -> None:
        """The client is gone, or is to go."""
        client, self._client = self._client, None
        session, self._session = self._session, None
        if client is not None:
            self._selector.unregister(client)
            client.close()
        if session is not None:
            with contextlib.suppress(VmlabError):
                session.end()
