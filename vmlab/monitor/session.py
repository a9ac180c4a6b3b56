"""How a VM object reaches its machine: in a process of its own, or (for debugging) in this one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import IO, Any, Protocol

from vmlab.core.counters import PAGE_SIZE, CounterPage
from vmlab.core.device import Device
from vmlab.core.host import HOST
from vmlab.core.memory import GuestMemory
from vmlab.errors import EngineError, MonitorLost, WireError
from vmlab.monitor import wire

__all__ = ["LocalSession", "MonitorSession", "Session"]

#: seconds that a monitor has for one command; the longest is a reset of a large guest
COMMAND_TIMEOUT = 60.0
#: seconds from closing the connection to SIGKILL
GRACE = 2.0


class Session(Protocol):
    memory: GuestMemory
    page: CounterPage
    pid: int

    def parcel(self, device: Device) -> bytes:
        """The device, as commands carry it."""
        ...

    def call(self, command: wire.Command) -> Any:
        """The reply; the exception that the command ended with."""
        ...

    def close(self) -> None: ...


class LocalSession:
    """The machine in this process (`VM(isolate=False)`)."""

    def __init__(self, memory_size: int, tell: Callable[[wire.Event], None]) -> None:
        # here, so that a VM in a process of its own loads neither devices nor engines in this one
        from vmlab.monitor.controller import Controller

        self.memory = GuestMemory.allocate(memory_size)
        self.page = CounterPage()
        self.pid = os.getpid()
        self._controller = Controller(self.memory, self.page, tell)

    def parcel(self, device: Device) -> bytes:
        token = str(id(device)).encode()
        self._controller.parcels[token] = device
        return token

    def call(self, command: wire.Command) -> Any:
        reply = self._controller.handle(command)
        if isinstance(reply, wire.Failed):
            wire.raise_failure(reply)
        return reply

    def close(self) -> None:
        self._controller.close()
        self.memory.close()


class MonitorSession:
    """The machine in a monitor process. `tell` is called on the reader's thread; `lost` once, when
    the process is gone without having been asked to go, with the reason in words."""

    def __init__(
        self,
        memory_size: int,
        tell: Callable[[wire.Event], None],
        lost: Callable[[str], None],
    ) -> None:
        self._tell = tell
        self._lost = lost
        self._number = 0
        self._pending: dict[int, _Slot] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._closing = False
        self._gone: str | None = None
        self._stderr: IO[bytes] = tempfile.TemporaryFile()
        self._connection, theirs = socket.socketpair()
        memory_fd = page_fd = -1
        try:
            memory_fd = GuestMemory.backing(memory_size)
            page_fd = HOST.memory_fd("vmlab-counters", PAGE_SIZE)
            self.memory = GuestMemory.from_fd(memory_fd, memory_size)
            self._page_map = HOST.map(page_fd, PAGE_SIZE)
            self.page = CounterPage(memoryview(self._page_map))
            self._process = self._spawn(theirs.fileno(), memory_fd, memory_size, page_fd)
        except OSError as error:
            self._connection.close()
            self._stderr.close()
            raise EngineError(f"cannot start the monitor process: {error}") from error
        except BaseException:
            self._connection.close()
            self._stderr.close()
            raise
        finally:
            theirs.close()
            for fd in (memory_fd, page_fd):
                if fd >= 0:
                    os.close(fd)
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name="vmlab-session", daemon=True)
        self._reader.start()

    def _spawn(self, connection: int, memory: int, size: int, page: int) -> subprocess.Popen[bytes]:
        # -S and our own path: the monitor sees what this interpreter sees, without site's start-up
        path = [entry or os.getcwd() for entry in sys.path]
        program = (
            f"import sys; sys.path[:] = {path!r};"
            " from vmlab.monitor.server import main;"
            f" main({connection}, {memory}, {size}, {page}, {os.getpid()})"
        )
        return subprocess.Popen(
            [sys.executable, "-S", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            pass_fds=(connection, memory, page),
            # Ctrl-C in a terminal or a notebook must not end the guest
            start_new_session=True,
        )

    def parcel(self, device: Device) -> bytes:
        import cloudpickle

        data: bytes = cloudpickle.dumps(device)
        return data

    def call(self, command: wire.Command) -> Any:
        slot = _Slot()
        with self._lock:
            if self._gone is not None:
                raise MonitorLost(self._gone)
            self._number += 1
            number = self._number
            self._pending[number] = slot
        data = wire.pack(wire.Request(number, command))
        try:
            with self._sending:
                self._connection.sendall(data)
        except OSError:
            # the reader finds out why
            pass
        if not slot.ready.wait(COMMAND_TIMEOUT):
            raise MonitorLost(
                f"the monitor process {self.pid} did not answer for {COMMAND_TIMEOUT:.0f} s"
            )
        if slot.reply is None:
            raise MonitorLost(self._gone or "the monitor process is gone")
        if isinstance(slot.reply, wire.Failed):
            wire.raise_failure(slot.reply)
        return slot.reply

    def _read(self) -> None:
        trouble = ""
        try:
            while (message := wire.receive(self._connection, wire.FromMonitor)) is not None:
                if isinstance(message, wire.Answer):
                    slot = self._pending.pop(message.number, None)
                    if slot is not None:
                        slot.give(message.reply)
                else:
                    self._tell(message)
        except WireError as error:
            trouble = str(error)
            self._process.kill()
        if not self._closing:
            reason = self._reason(trouble)
            self._gone = reason
            self._lost(reason)
        else:
            self._gone = "the machine has been stopped"
        for slot in list(self._pending.values()):
            slot.give(None)
        self._pending.clear()

    def _reason(self, trouble: str) -> str:
        """Why the process is gone, in words."""
        try:
            status = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        what = f"the monitor process {self.pid} "
        if trouble:
            return f"{what}broke the wire format: {trouble}"
        if status < 0:
            return f"{what}was killed by {signal.Signals(-status).name}"
        self._stderr.seek(0)
        text = self._stderr.read()[-4000:].decode(errors="replace").strip()
        return f"{what}ended with status {status}" + (f":\n{text}" if text else "")

    def close(self) -> None:
        """End the process and free what was shared. Idempotent."""
        if self._closing:
            return
        self._closing = True
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._reader is not threading.current_thread():
            self._reader.join()
        self._connection.close()
        self._stderr.close()
        self.page.close()
        self.memory.close()
        try:
            self._page_map.close()
        except BufferError:
            # someone still looks at a count; the mapping goes with them
            pass


class _Slot:
    """Where an answer is awaited."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.reply: wire.Reply | None = None

    def give(self, reply: wire.Reply | None) -> None:
        self.reply = reply
        self.ready.set()
