"""A console of the guest as a terminal in the page.

The guest's output is kept once, by its `Console`; a page is a place in it. It is sent as much as it has
drawn, so that a burst neither fills the memory nor freezes the page: what a page is too late for is left
out, and said to be.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vmlab.errors import DeviceNotFound
from vmlab.hints import unknown
from vmlab.notebook import html
from vmlab.notebook.pump import PUMP, Pump
from vmlab.notebook.view import STATIC, Client, Message, View

if TYPE_CHECKING:
    from vmlab.vm import VM
    from vmlab.vm.console import Console

__all__ = ["ConsolePart", "ConsoleView"]

#: bytes in one message; bytes sent that a page may not have drawn yet
PART, WINDOW = 32 << 10, 128 << 10
#: a page that is further behind is moved on, to this many bytes before the end
LATE, REPLAY = 512 << 10, 128 << 10
#: characters that wait to be typed
TYPED = 1 << 20
#: lines and columns that a terminal may have
MOST = 1000


class ConsolePart(View):
    """For views that hold a terminal."""

    def __init__(self, vm: VM, **options: Any) -> None:
        self._typed: list[bytes] = []
        self._waiting = 0
        #: the console that we listen to, and what ends that
        self._heard: Callable[[], Console | None] = lambda: None
        self._stop: Callable[[], None] = _nothing
        super().__init__(vm, **options)
        self._console(vm)

    def _find(self, vm: VM) -> Console | None:
        return vm.console

    def _console(self, vm: VM) -> Console | None:
        """The console now: a device that was plugged in anew has a new one."""
        console = self._find(vm)
        if console is not None and console is not self._heard():
            self._stop()
            self._heard, self._stop = weakref.ref(console), console.listen(_poke(self))
            for client in self._clients.values():
                self._replay(client, console)
        return console

    # --- the guest's output -----------------------------------------------------------------------

    def page_hello(self, client: Client, message: Message) -> None:
        super().page_hello(client, message)
        vm = self._vm()
        console = self._console(vm) if vm is not None else None
        if console is not None:
            self._replay(client, console)
            self._pump.poke(self)

    def _replay(self, client: Client, console: Console) -> None:
        start, end = console.span
        client.sent = client.drawn = max(start, end - REPLAY)
        self.tell(client, "replay", at=client.sent, end=end)

    def page_drawn(self, client: Client, message: Message) -> None:
        """The page has drawn everything up to a place in the output."""
        at = message.get("at")
        if isinstance(at, int) and client.drawn <= at <= client.sent:
            client.drawn = at
        self._pump.poke(self)

    def flush(self) -> None:
        vm = self._vm()
        if vm is None:
            return
        with self._guard:
            console = self._console(vm)
            for client in list(self._clients.values()):
                if client.ready and console is not None:
                    self._feed(console, client)

    def _feed(self, console: Console, client: Client) -> None:
        start, end = console.span
        late = end - client.sent > LATE or client.sent < start
        if late and client.drawn == client.sent:
            lost = end - REPLAY - client.sent
            client.sent = client.drawn = end - REPLAY
            self.tell(client, "skipped", bytes=lost, at=client.sent)
        while client.sent < end and client.sent - client.drawn < WINDOW:
            at, data = console.since(client.sent, PART)
            if not data:
                return
            client.sent = at + len(data)
            self.tell(client, "output", data, at=client.sent)

    # --- what is typed ----------------------------------------------------------------------------

    def page_type(self, client: Client, message: Message) -> None:
        text = message.get("text")
        if not isinstance(text, str):
            raise TypeError("what is typed must be text")
        data = text.encode("utf-8", "replace")
        if self._waiting + len(data) > TYPED:
            self.tell(client, "trouble", text="the guest has not taken what was typed before")
            return
        with self._guard:
            self._waiting += len(data)
            self._typed.append(data)
            if len(self._typed) == 1:
                self.do(client, self._send_typed, lane="type")

    def _send_typed(self, vm: VM) -> None:
        with self._guard:
            data = b"".join(self._typed)
            self._typed.clear()
        try:
            console = self._console(vm)
            sent = console.send(data) if console is not None else 0
        finally:
            self._waiting -= len(data)
        if sent < len(data):
            raise ValueError(f"the guest took {sent} of {len(data)} bytes; it does not read")

    def page_resize(self, client: Client, message: Message) -> None:
        """The page's terminal has this size now. A serial port cannot be told."""
        size = message.get("columns"), message.get("rows")
        if not all(isinstance(one, int) and 1 <= one <= MOST for one in size):
            raise ValueError(f"a terminal has 1 to {MOST} columns and rows")

    def close(self) -> None:
        # also called, by `__del__`, of one that was never made
        self.__dict__.get("_stop", _nothing)()
        super().close()


class ConsoleView(ConsolePart):
    """A terminal; `vm.console_view()`.

    name: as in `vm.consoles`; None: the serial port. height: in pixels. DeviceNotFound when there is no such
    console."""

    _esm = STATIC / "console.js"
    parts = ()

    def __init__(
        self, vm: VM, name: str | None = None, height: int = 360, *, pump: Pump = PUMP
    ) -> None:
        self._place: tuple[str, int] | None = None
        serial = vm.config.platform.serial
        name = serial if name is None else name
        if name != serial:
            known = vm.consoles
            if name not in known:
                raise DeviceNotFound(unknown("console", name, known))
            id, _, port = name.partition("/")
            self._place = (id, int(port or 0))
        super().__init__(vm, pump=pump, name=name, height=int(height))

    def _find(self, vm: VM) -> Console | None:
        # not `vm.consoles`: it may ask the machine, and this is the pump's thread
        return (
            vm.console if self._place is None else vm.connection.consoles_by_place.get(self._place)
        )

    def page_resize(self, client: Client, message: Message) -> None:
        super().page_resize(client, message)
        if self._place is not None:
            id, port = self._place
            columns, rows = message["columns"], message["rows"]
            self.do(client, lambda vm: vm.tell(id, "resize", columns, rows, port), lane="type")

    def fallback(self, vm: VM) -> str:
        console = self._find(vm)
        return html.console_text(console.text if console is not None else "")


def _nothing() -> None:
    """There is nothing to end."""


def _poke(view: ConsolePart) -> Callable[[bytes], None]:
    """Called by the session's reader with the guest's output; must not keep the view."""
    found, pump = weakref.ref(view), view._pump

    def listen(_: bytes) -> None:
        alive = found()
        if alive is not None:
            pump.poke(alive)

    return listen
