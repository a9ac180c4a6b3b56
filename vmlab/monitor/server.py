"""The monitor process: one machine, one connection, no way to outlive the notebook."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from vmlab.core import sources
from vmlab.core.counters import PAGE_SIZE, CounterPage
from vmlab.core.host import HOST
from vmlab.core.memory import GuestMemory
from vmlab.core.patience import PATIENCE
from vmlab.machine.busy import TICK
from vmlab.monitor import forks, wire
from vmlab.monitor.controller import Controller
from vmlab.monitor.output_buffer import Gathered
from vmlab.monitor.sayings import NoTerminal, Sayings, Teller, no_debugger, speaker

__all__ = ["main"]

#: the console's bytes gather this long, seconds: a message per byte would cost the guest
GATHER = 0.002
#: seconds of the longest sleep without a step of Python
NAP = 0.25
#: what `time.sleep` refuses
LONGEST_NAP = 9e9
#: seconds that a command waits for the one before it
RELIEF = 0.25
#: seconds that a device's code has for a command, as looks see it, before the command is answered without it
PATIENT = PATIENCE - TICK
#: commands that may take longer: code of any length is asked for, or the end does not wait for it
LENGTHY = (wire.Build, wire.Tell, wire.Stop)
#: seconds that devices have for their end when the notebook is gone
LAST = 3.0
#: of what devices print, so many sayings go at once, and more of them only after so many seconds
SAID_AT_ONCE, GATHER_SAID = 200, 0.05
#: seconds between two looks at whether the parent is still there; a fork of it may hold the socket open
PARENT_CHECK = 0.5


class Server:
    """Reads requests, answers them and sends events between."""

    def __init__(self, connection: socket.socket, memory: GuestMemory, page: CounterPage) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._gathered = Gathered()
        self._sayings = Sayings()
        self.teller = Teller(self._printed, self._speaker)
        self._flushing = threading.Lock()
        self._wake = threading.Event()
        self._waiting: deque[wire.Request] = deque()
        self._arrived = threading.Condition()
        self._serving = self._over = False
        self._broken: BaseException | None = None
        #: number of a request that has no answer yet -> (who does it, since when, what it is)
        self._under_way: dict[int, tuple[int, float, wire.Request]] = {}
        self.controller = Controller(memory, page, self.tell)
        self.controller.on_look = self._answer_stuck
        threading.Thread(target=self._pump, name="vmlab-console", daemon=True).start()

    def send(self, data: bytes) -> None:
        with self._sending:
            try:
                self._connection.sendall(data)
            except OSError:
                _end(1)

    def tell(self, event: wire.Event) -> None:
        if isinstance(event, wire.Output):
            self._gathered.add(event)
        elif isinstance(event, wire.Said):
            for saying in event.sayings:
                self._sayings.add(saying)
        else:
            self._flush()
            self.send(wire.pack_event(event))
            return
        if not self._wake.is_set():
            self._wake.set()

    def report(self, text: str) -> None:
        """What a device's code raised where nobody waits for it."""
        self._say("fault", self._speaker(), text)

    def _printed(self, device: str, text: str) -> None:
        self._say("print", device, text)

    def _say(self, kind: str, device: str, text: str) -> None:
        self.tell(wire.Said([wire.Saying(time.monotonic(), device, kind, text)]))

    def _speaker(self) -> str:
        machine = self.controller.machine
        devices = list(machine.device_manager.devices.items()) if machine is not None else []
        return speaker((id, plugged.device) for id, plugged in devices)

    def _flush(self, said: bool = True) -> int:
        """Send what waits; returns how many sayings that were. What a device printed goes before what
        its guest then wrote: a cell that waits for that shows both."""
        with self._flushing:
            outputs = self._gathered.take()
            self.teller.settle()
            sayings = self._sayings.take() if said else []
            for message in (*sayings, *outputs):
                self.send(wire.pack(message))
        return sum(len(one.sayings) for one in sayings)

    def _pump(self) -> None:
        begun, sent = 0.0, 0
        while True:
            self._wake.wait(None if self._quiet() else GATHER_SAID)
            self._wake.clear()
            now = time.monotonic()
            if now >= begun + GATHER_SAID:
                begun, sent = now, 0
            # of a flood, a part at a time: nobody can read it faster
            sent += self._flush(said=sent < SAID_AT_ONCE)
            time.sleep(GATHER)

    def _quiet(self) -> bool:
        """Whether no saying waits for its time."""
        return not self._sayings.waiting and not self.teller.waiting

    def serve(self) -> None:
        """Until the other side is gone: commands in their order, on this thread, which devices may take
        for granted. What waits for RELIEF because one takes long is done beside it."""
        threading.Thread(target=self._receive, name="vmlab-receive", daemon=True).start()
        while (request := self._next()) is not None:
            reply = self._handle(request)
            self._serving = False  # before it is told: what follows at once is no reason for relief
            self._answer(request, reply)
        if self._broken is not None:
            raise self._broken

    def _next(self) -> wire.Request | None:
        with self._arrived:
            while not self._waiting and not self._over:
                self._arrived.wait()
            self._serving = not self._over
            return None if self._over else self._waiting.popleft()

    def _receive(self) -> None:
        try:
            while (request := wire.receive(self._connection, wire.Request)) is not None:
                # the guest is asked and may take seconds: nothing else waits for that
                beside = isinstance(request.command, wire.HotRemove)
                if not beside:
                    with self._arrived:
                        self._waiting.append(request)
                        self._arrived.notify()
                        if not self._serving:
                            continue
                threading.Thread(
                    target=self._relieve, args=(request, beside), name="vmlab-relief", daemon=True
                ).start()
        except BaseException as error:  # noqa: BLE001 - raised by `serve`
            self._broken = error
        threading.Thread(target=_end_after, args=(LAST,), name="vmlab-last", daemon=True).start()
        with self._arrived:
            self._over = True
            self._arrived.notify()

    def _relieve(self, request: wire.Request, now: bool) -> None:
        if not now:
            time.sleep(RELIEF)
            with self._arrived:
                if request not in self._waiting:
                    return
                self._waiting.remove(request)
        self._answer(request, self._handle(request))

    def _handle(self, request: wire.Request) -> wire.Reply:
        self._under_way[request.number] = threading.get_ident(), time.monotonic(), request
        return self.controller.handle(request.command)

    def _answer(self, request: wire.Request, reply: wire.Reply) -> None:
        """Once each: `pop` is what tells two threads apart."""
        if self._under_way.pop(request.number, None) is not None:
            self._flush()
            self.send(wire.pack_answer(request.number, reply))

    def _answer_stuck(self) -> None:
        """Nobody waits for ever for a device's code. What it was called for goes on, when it returns."""
        machine = self.controller.machine
        if machine is None:
            return
        for thread, began, request in list(self._under_way.values()):
            late = time.monotonic() - began >= PATIENT
            if not late or isinstance(request.command, LENGTHY):
                continue
            if (stuck := machine.watch.stays(thread, PATIENT)) is not None:
                name, where = stuck
                what = type(request.command).__name__.lower()
                text = (
                    f"{what} is not done, and goes on when that returns: {where};"
                    f" hot_remove({name!r}, force=True) takes the device out of it"
                )
                self._answer(request, wire.Failed("StateError", text, ""))


def _end_after(seconds: float) -> None:
    time.sleep(seconds)
    _end(1)


def _sleep_in_parts(seconds: Any, /, _sleep: Callable[[float], None] = time.sleep) -> None:
    """`time.sleep` of this process: a device that sleeps for hours can be taken out, since only between
    two steps of Python can its thread be told."""
    if not (isinstance(seconds, (int, float)) and NAP < seconds < LONGEST_NAP):
        _sleep(seconds)
        return
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        _sleep(min(left, NAP))


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK)
    _end(1)


def _end(status: int) -> NoReturn:
    """No interpreter shutdown: a device's thread must not keep the process alive."""
    forks.end_group()
    os._exit(status)


def main(
    connection_fd: int, memory_fd: int, memory_size: int, arch: str, page_fd: int, parent: int
) -> None:
    """Serve until the other side is gone. Descriptors are inherited."""
    connection = socket.socket(fileno=connection_fd)
    memory = GuestMemory.from_fd(memory_fd, memory_size, arch=arch)
    page = CounterPage(memoryview(HOST.map(page_fd, PAGE_SIZE)))
    os.close(memory_fd)
    os.close(page_fd)
    forks.guard(connection)
    server = Server(connection, memory, page)
    sys.stdout = sys.stderr = server.teller
    sys.stdin, sys.breakpointhook = NoTerminal(), no_debugger
    sources.reporter = server.report
    vars(time)["sleep"] = _sleep_in_parts
    threading.Thread(target=_watch_parent, args=(parent,), name="vmlab-parent", daemon=True).start()
    status = 0
    try:
        server.serve()
        server.controller.close()
    except BaseException:  # noqa: BLE001 - told to the notebook, which reads this process's stderr
        import traceback

        os.write(2, traceback.format_exc().encode())
        status = 1
    _end(status)
