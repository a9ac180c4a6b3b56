"""The serial console as a terminal in the page.

The guest's output is kept once, in `vm.console`; a page is a place in it. It is sent as much as it has
drawn, so that a burst neither fills the memory nor freezes the page: what a page is too late for is left
out, and said to be.
"""

from __future__ import annotations

import html as escaping
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vmlab.notebook.view import STATIC, Client, Message, View

if TYPE_CHECKING:
    from vmlab.console import Console
    from vmlab.notebook.watch import Look
    from vmlab.vm import VM

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
        super().__init__(vm, **options)
        # not what `listen` returns: that holds the console, which holds the VM
        self._listener = _poke(self)
        vm.console.listen(self._listener)

    def content(self, look: Look) -> dict[str, Any]:
        return super().content(look)

    # --- the guest's output -----------------------------------------------------------------------

    def page_hello(self, client: Client, message: Message) -> None:
        super().page_hello(client, message)
        vm = self._vm()
        if vm is not None:
            start, end = _span(vm.console)
            client.sent = client.drawn = max(start, end - REPLAY)
            self.tell(client, "replay", at=client.sent, end=end)
            self._pump.poke(self)

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
            for client in list(self._clients.values()):
                if client.ready:
                    self._feed(vm.console, client)

    def _feed(self, console: Console, client: Client) -> None:
        start, end = _span(console)
        late = end - client.sent > LATE or client.sent < start
        if late and client.drawn == client.sent:
            lost = end - REPLAY - client.sent
            client.sent = client.drawn = end - REPLAY
            self.tell(client, "skipped", bytes=lost, at=client.sent)
        while client.sent < end and client.sent - client.drawn < WINDOW:
            at, data = _since(console, client.sent, PART)
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
                self.do(client, self._send_typed)

    def _send_typed(self, vm: VM) -> None:
        with self._guard:
            data = b"".join(self._typed)
            self._typed.clear()
        try:
            sent = vm.console.send(data)
        finally:
            self._waiting -= len(data)
        if sent < len(data):
            raise ValueError(f"the guest took {sent} of {len(data)} bytes; it does not read")

    def page_resize(self, client: Client, message: Message) -> None:
        """The terminal's size: for guests whose console can be told (virtio-console)."""
        size = message.get("columns"), message.get("rows")
        if not all(isinstance(one, int) and 1 <= one <= MOST for one in size):
            raise ValueError("a terminal has 1 to 1000 columns and rows")
        vm = self._vm()
        if vm is None or vm._session is None:
            return
        for entry in list(vm._directory):
            if any(one.name == "resize" for one in entry.commands):
                self.do(client, _resize(entry.id, *size))

    def close(self) -> None:
        vm = self._vm()
        if vm is not None:
            vm.console._forget(self._listener)
        super().close()


class ConsoleView(ConsolePart):
    """A terminal on the serial line; `vm.console_view()`. height: in pixels."""

    _esm = STATIC / "console.js"
    parts = ()

    def __init__(self, vm: VM, height: int = 360) -> None:
        super().__init__(vm, height=int(height))

    def fallback(self, vm: VM) -> str:
        return f"<pre>{escaping.escape(vm.console.text[-8000:])}</pre>"


def _span(console: Console) -> tuple[int, int]:
    """Of what is kept of the output: its first byte and its end, counted from the first ever written."""
    with console._condition:
        return console._dropped, console._dropped + len(console._data)


def _since(console: Console, position: int, most: int) -> tuple[int, bytes]:
    """(where it begins, at most `most` bytes) of the output from `position` on, or from what is kept."""
    with console._condition:
        start = max(position - console._dropped, 0)
        return console._dropped + start, bytes(console._data[start : start + most])


def _poke(view: ConsolePart) -> Callable[[bytes], None]:
    """Called by the session's reader with the guest's output; must not keep the view."""
    found, pump = weakref.ref(view), view._pump

    def listen(_: bytes) -> None:
        alive = found()
        if alive is not None:
            pump.poke(alive)

    return listen


def _resize(id: str, columns: Any, rows: Any) -> Callable[[VM], object]:
    return lambda vm: vm.tell(id, "resize", columns, rows)
