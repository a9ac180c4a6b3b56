"""A machine in a monitor process of its own, as the notebook's side sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

from vmlab.arch import DEFAULT
from vmlab.core.counters import PAGE_SIZE, CounterPage
from vmlab.core.device import Device
from vmlab.core.host import HOST
from vmlab.core.log import Log
from vmlab.core.memory import GuestMemory
from vmlab.errors import EngineError, MonitorLost, StateError, WireError
from vmlab.monitor import wire
from vmlab.monitor.local import COMMAND_TIMEOUT
from vmlab.monitor.parcel import pickled
from vmlab.virtio.device import VirtioDevice

__all__ = ["MonitorSession", "pickled"]

log = Log(__name__)

#: seconds from closing the connection to SIGKILL; the same when a device's code does not return
GRACE, STUCK_GRACE = 2.0, 0.4


class MonitorSession:
    """The machine in a monitor process. `tell` is called on the reader's thread; `lost` once, when
    the process is gone without having been asked to go, with the reason in words."""

    def __init__(
        self,
        memory_size: int,
        tell: Callable[[wire.Event], None],
        lost: Callable[[str], None],
        arch: str = DEFAULT,
    ) -> None:
        self._owner = os.getpid()
        self._tell = tell
        self._lost = lost
        self._number = 0
        self._pending: dict[int, _Slot] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._ending = threading.Lock()
        self._closing = False
        self._gone: str | None = None
        #: whose code does not return
        self._busy = ""
        try:
            self._begin(memory_size, arch)
        except OSError as error:
            raise EngineError(f"cannot start the monitor process: {error}") from error
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name="vmlab-session", daemon=True)
        self._reader.start()

    def _begin(self, memory_size: int, arch: str) -> None:
        """Make what is shared, and the process; nothing is left of it when that fails."""
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as handed:
            memory_fd = GuestMemory.backing(memory_size)
            handed.callback(os.close, memory_fd)
            page_fd = HOST.memory_fd("vmlab-counters", PAGE_SIZE)
            handed.callback(os.close, page_fd)
            self.memory = GuestMemory.from_fd(memory_fd, memory_size, arch=arch)
            undo.callback(self.memory.close)
            self._page_map = HOST.map(page_fd, PAGE_SIZE)
            undo.callback(self._page_map.close)
            self.page = CounterPage(memoryview(self._page_map))
            undo.callback(self.page.close)
            # no file: a host may have no folder for it
            errors = HOST.memory_fd("vmlab-errors", 0, sealed=False)
            self._stderr: IO[bytes] = undo.enter_context(open(errors, "w+b"))
            self._connection, theirs = socket.socketpair()
            handed.enter_context(theirs)
            undo.enter_context(self._connection)
            self._process = self._spawn(theirs.fileno(), memory_fd, memory_size, arch, page_fd)
            undo.pop_all()

    def _spawn(
        self, connection: int, memory: int, size: int, arch: str, page: int
    ) -> subprocess.Popen[bytes]:
        # -S and our own path: the monitor sees what this interpreter sees, without site's start-up
        path = [entry or os.getcwd() for entry in sys.path]
        program = (
            f"import sys; sys.path[:] = {path!r};"
            " from vmlab.monitor.begin import main;"
            f" main({connection}, {memory}, {size}, {arch!r}, {page}, {os.getpid()})"
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

    def parcel(self, device: Device | VirtioDevice) -> bytes:
        return pickled(device)

    def call(self, command: wire.Command, timeout: float = COMMAND_TIMEOUT) -> Any:
        if threading.current_thread() is self._reader:
            raise StateError("a console listener cannot ask the machine for anything; use a thread")
        slot = _Slot()
        with self._lock:
            if self._gone is not None:
                raise MonitorLost(self._gone)
            self._number += 1
            number = self._number
            data = wire.pack_request(number, command)
            self._pending[number] = slot
        try:
            with self._sending:
                self._connection.sendall(data)
        except OSError:
            # the reader finds out why
            pass
        if not slot.ready.wait(timeout):
            raise MonitorLost(
                f"the monitor process {self.pid} has not answered for {timeout:.0f} s;"
                f" {self._busy or 'code of a device may not return'}"
            )
        if slot.reply is None:
            raise MonitorLost(str(self._gone))
        if isinstance(slot.reply, wire.Failed):
            wire.raise_failure(slot.reply)
        try:
            return wire.result(command, slot.reply)
        except WireError as error:
            self._process.kill()
            raise MonitorLost(
                f"the monitor process {self.pid} is not to be trusted: {error}"
            ) from error

    def _read(self) -> None:
        trouble = ""
        try:
            while (message := wire.receive(self._connection, wire.FromMonitor)) is not None:
                self._take(message)
        except WireError as error:
            trouble = str(error)
            self._process.kill()
        reason = "the machine has been stopped" if self._closing else self._reason(trouble)
        with self._lock:
            self._gone = reason
            slots = list(self._pending.values())
            self._pending.clear()
        for slot in slots:
            slot.give(None)
        if not self._closing:
            self._lost(reason)

    def _take(self, message: wire.FromMonitor) -> None:
        if isinstance(message, wire.Answer):
            slot = self._pending.pop(message.number, None)
            if slot is not None:
                slot.give(message.reply)
            return
        if isinstance(message, wire.Busy):
            self._busy = str(message.calls[0]) if message.calls else ""
        try:
            self._tell(message)
        except BaseException:  # what listens must not end the session
            log.exception("what the machine told could not be handled")

    def _reason(self, trouble: str) -> str:
        """Why the process is gone, in words."""
        status = self._ended(GRACE)
        what = f"the monitor process {self.pid} "
        if trouble:
            return f"{what}broke the wire format: {trouble}"
        if status < 0:
            return f"{what}was killed by {_signal_name(-status)}"
        self._stderr.seek(0)
        text = self._stderr.read()[-4000:].decode(errors="replace").strip()
        return f"{what}ended with status {status}" + (f":\n{text}" if text else "")

    def _ended(self, grace: float) -> int:
        """The process's status; after `grace` seconds it is killed. Of what it has started nothing stays."""
        with self._ending:
            if self._process.returncode is not None:
                return self._process.returncode
            if not _has_ended(self.pid, grace):
                self._process.kill()
                _has_ended(self.pid, GRACE)
            # while the process is not waited for, nobody else's group has its number
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
            return self._process.wait()

    def close(self, stuck: bool = False) -> None:
        """End the process and free what was shared. Idempotent."""
        with self._lock:
            if self._closing or self._owner != os.getpid():
                return  # a fork has copies of the descriptors, but the machine is not its own
            self._closing = True
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._ended(STUCK_GRACE if stuck else GRACE)
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


def _has_ended(pid: int, grace: float) -> bool:
    """Wait for a child and leave its status to be fetched; False when it lives on."""
    end, pause = time.monotonic() + grace, 0.0005
    while True:
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                return True
        except ChildProcessError:
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Slot:
    """Where an answer is awaited."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.reply: wire.Reply | None = None

    def give(self, reply: wire.Reply | None) -> None:
        self.reply = reply
        self.ready.set()
