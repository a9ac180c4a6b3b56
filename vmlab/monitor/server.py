"""The monitor process: one machine, one connection, no way to outlive the notebook."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

from vmlab.core import sources
from vmlab.core.counters import PAGE_SIZE, CounterPage
from vmlab.core.host import HOST
from vmlab.core.memory import GuestMemory
from vmlab.monitor import wire
from vmlab.monitor.controller import Controller
from vmlab.monitor.gather import Gathered
from vmlab.monitor.sayings import NoTerminal, Sayings, Teller, no_debugger, speaker

__all__ = ["main"]

#: the console's bytes gather this long, seconds: a message per byte would cost the guest
GATHER = 0.002
#: of what devices print, so many sayings go at once, and more of them only after so many seconds
SAID_AT_ONCE, GATHER_SAID = 200, 0.05
#: seconds between two looks at whether the parent is still there; a fork of it may hold the socket open
PARENT_CHECK = 0.5


class Server:
    """Reads requests, answers them in order but for removals, and sends events between."""

    def __init__(self, connection: socket.socket, memory: GuestMemory, page: CounterPage) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._gathered = Gathered()
        self._sayings = Sayings()
        self.teller = Teller(self._printed, self._speaker)
        self._flushing = threading.Lock()
        self._wake = threading.Event()
        self.controller = Controller(memory, page, self.tell)
        threading.Thread(target=self._pump, name="vmlab-console", daemon=True).start()

    def send(self, data: bytes) -> None:
        with self._sending:
            try:
                self._connection.sendall(data)
            except OSError:
                os._exit(1)

    def tell(self, event: wire.Event) -> None:
        if isinstance(event, wire.Output):
            self._gathered.add(event)
        elif isinstance(event, wire.Said):
            for saying in event.sayings:
                self._sayings.add(saying)
        else:
            self._flush()
            self.send(wire.pack(event))
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
        devices = list(machine.board.devices.items()) if machine is not None else []
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
        while (request := wire.receive(self._connection, wire.Request)) is not None:
            if isinstance(request.command, wire.HotRemove):
                # the guest is asked and may take seconds: nothing else waits for that
                name = f"vmlab-remove-{request.command.id}"
                threading.Thread(
                    target=self._answer, args=(request,), name=name, daemon=True
                ).start()
            else:
                self._answer(request)

    def _answer(self, request: wire.Request) -> None:
        reply = self.controller.handle(request.command)
        self._flush()
        self.send(wire.pack_answer(request.number, reply))


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK)
    os._exit(1)


def main(connection_fd: int, memory_fd: int, memory_size: int, page_fd: int, parent: int) -> None:
    """Serve until the other side is gone. Descriptors are inherited."""
    connection = socket.socket(fileno=connection_fd)
    memory = GuestMemory.from_fd(memory_fd, memory_size)
    page = CounterPage(memoryview(HOST.map(page_fd, PAGE_SIZE)))
    os.close(memory_fd)
    os.close(page_fd)
    server = Server(connection, memory, page)
    sys.stdout = sys.stderr = server.teller
    sys.stdin, sys.breakpointhook = NoTerminal(), no_debugger
    sources.reporter = server.report
    threading.Thread(target=_watch_parent, args=(parent,), name="vmlab-parent", daemon=True).start()
    status = 0
    try:
        server.serve()
        server.controller.close()
    except BaseException:  # noqa: BLE001 - told to the notebook, which reads this process's stderr
        import traceback

        os.write(2, traceback.format_exc().encode())
        status = 1
    # no interpreter shutdown: a device's thread must not keep the process alive
    os._exit(status)
