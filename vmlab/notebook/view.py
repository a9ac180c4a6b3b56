"""What every live view is: one snapshot for the page, and commands from it.

The page is not to be trusted to send sense: whatever arrives is checked, and nothing of it raises in
the kernel. Each view on a page (a cell that is shown twice has two) is a `Client`: it says hello with a
name that it made up, numbers its messages, and tells whether it is on screen.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import traitlets

from vmlab.errors import VmlabError
from vmlab.notebook.pump import PUMP, Pump
from vmlab.notebook.sequencing import Resequencer, SerialExecutor
from vmlab.notebook.snapshot import Snapshot, Snapshots, snapshots_of

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["STATIC", "Client", "Message", "View", "text_of"]

log = logging.getLogger(__name__)

STATIC = Path(__file__).with_name("static")
#: what the page sends
Message = dict[str, Any]
#: pages that may show one view at a time; the one not heard of for longest goes
CLIENTS = 16
#: seconds without a word after which a page is taken for closed (one on screen says something every
#: minute, but in some front ends not while a cell computes)
SILENCE = 600.0
#: what a page's command is answered under, so that the page knows whose the answer is
ANSWERS = {"do": "do", "replace": "do", "add": "hotplug", "remove": "hotplug"}


class Client:
    """One rendering of a view on some page."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.order: Resequencer[Message] = Resequencer()
        self.visible = False
        self.heard = now
        #: devices whose registers this one has open
        self.opened: frozenset[str] = frozenset()
        #: where a console view is: what was sent, what the page has drawn
        self.sent = self.drawn = 0
        self.ready = False


class View(anywidget.AnyWidget):
    """Base of the live views. `close()` takes it off every page."""

    snapshot = traitlets.Dict().tag(sync=True)

    #: the parts of a look that this view shows
    parts: ClassVar[tuple[str, ...]] = ("devices",)

    def __init__(self, vm: VM, *, pump: Pump = PUMP, **options: Any) -> None:
        self._made = False
        self._vm = weakref.ref(vm)
        self._watch: Snapshots = snapshots_of(vm)
        self._name = repr(vm).split(":", 1)[0].removeprefix("<")
        self._pump = pump
        self._options = options
        self._guard = threading.RLock()
        self._clients: dict[str, Client] = {}
        self._errands: dict[str, SerialExecutor] = {}
        self._sent: dict[str, Any] | None = None
        self._closed = False
        super().__init__(snapshot=self._compose(self._watch.look()))
        # ipykernel 7.4 hands what a page sends to the thread that last sent something to it. Ours do from
        # many; on the main thread, it would wait for a busy cell. So the page's own choice holds.
        self.comm._reply_subshell_for = None
        self._made = True
        self.on_msg(self._on_message)
        pump.add(self)

    # --- towards the page -------------------------------------------------------------------------

    def content(self, look: Snapshot) -> dict[str, Any]:
        """What the page is shown; more than `parts` where a view has more."""
        return {part: getattr(look, part) for part in self.parts}

    def _compose(self, look: Snapshot) -> dict[str, Any]:
        self._sent = {
            "machine": look.machine,
            "selected": self._watch.selected,
            "options": self._options,
            **self.content(look),
        }
        return {**self._sent, "clock": round(look.clock, 1)}

    @property
    def watched(self) -> bool:
        """Whether some page has it on screen."""
        return any(one.visible for one in list(self._clients.values()))

    def refresh(self) -> bool:
        """Look at the machine; the page is told only of what is new. Whether something was."""
        self._expire()
        before = self._sent
        fresh = self._compose(self._watch.look())
        new = self._sent != before and not self._closed
        if new:
            self.snapshot = fresh
        return new

    def flush(self) -> None:
        """Send what does not wait for the next look; consoles do."""

    def tell(self, client: Client | None, kind: str, *buffers: bytes, **fields: Any) -> None:
        """A message to one page, or to all; a page that is gone does not matter."""
        if self._closed:
            return
        try:
            self.send(
                {"kind": kind, "to": client.name if client else None, **fields}, list(buffers)
            )
        except Exception:  # the kernel is being shut down, or its sockets are closed
            log.debug("a view could not send", exc_info=True)

    # --- from the page ----------------------------------------------------------------------------

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Ignored: the kernel owns what is shown."""

    def _on_message(self, _: object, message: object, buffers: object) -> None:
        try:
            with self._guard:
                self._sort(message)
        except Exception:  # whatever it was: it must not raise in the kernel
            log.exception("%r: a message could not be handled", self)

    def _sort(self, message: object) -> None:
        if not isinstance(message, dict):
            return
        name, number = message.get("from"), message.get("n")
        if not isinstance(name, str) or not 0 < len(name) <= 64:
            return
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            return
        client = self._clients.get(name)
        if client is None:
            if number > 8:
                # one that was taken for closed: it shall begin anew
                self.send({"kind": "who", "to": name})
                return
            client = self._welcome(name)
        client.heard = time.monotonic()
        for one in client.order.put(number, message):
            self._handle(client, one)

    def _welcome(self, name: str) -> Client:
        while len(self._clients) >= CLIENTS:
            oldest = min(self._clients.values(), key=lambda one: one.heard)
            del self._clients[oldest.name]
        client = self._clients[name] = Client(name, time.monotonic())
        return client

    def _expire(self) -> None:
        now = time.monotonic()
        with self._guard:
            for client in list(self._clients.values()):
                if now - client.heard > SILENCE:
                    del self._clients[client.name]
                elif client.order.gap:
                    for one in client.order.due():
                        self._handle(client, one)

    def _handle(self, client: Client, message: Message) -> None:
        kind = message.get("kind")
        handler = getattr(self, f"page_{kind}", None) if isinstance(kind, str) else None
        if handler is None:
            log.debug("%r: no such message: %.80r", self, message)
            return
        try:
            handler(client, message)
        except (VmlabError, TypeError, ValueError, KeyError) as error:
            self.tell(client, "trouble", text=str(error), **_answer(message))

    def page_hello(self, client: Client, message: Message) -> None:
        """A page shows the view, for the first time or after a reload: it gets everything."""
        client.ready = True
        with self.hold_trait_notifications():
            self.snapshot = self._compose(self._watch.look())
        self.send_state("snapshot")
        self.tell(client, "welcome")

    def page_seen(self, client: Client, message: Message) -> None:
        client.visible = message.get("on") is True
        self._open()
        self._pump.wake()

    def page_alive(self, client: Client, message: Message) -> None:
        """Still there."""

    def page_bye(self, client: Client, message: Message) -> None:
        self._clients.pop(client.name, None)
        self._open()

    def page_select(self, client: Client, message: Message) -> None:
        id = text_of(message, "id", empty=True)
        self._watch.selected = id or None
        self._pump.wake()

    def page_open(self, client: Client, message: Message) -> None:
        ids = message.get("ids")
        if isinstance(ids, list) and len(ids) <= 64:
            client.opened = frozenset(one for one in ids if isinstance(one, str))
        self._open()
        self._pump.wake()

    def _open(self) -> None:
        """Have the registers read of what is open on some page."""
        wanted: set[str] = set()
        for client in self._clients.values():
            if client.visible:
                wanted |= client.opened
        self._watch.open(self, frozenset(wanted))

    def do(
        self,
        client: Client | None,
        errand: Callable[[VM], object],
        message: Message | None = None,
        lane: str = "",
    ) -> None:
        """Have `errand(vm)` done off the kernel's threads; its failure, and a text that it returns, is
        told to the page as the answer to `message`. One errand at a time of each `lane`: a device that
        the guest does not let go holds up no button and nothing that is typed."""
        answer = _answer(message or {})

        def run() -> None:
            vm = self._vm()
            if vm is None:
                self.tell(client, "trouble", text="the VM object is gone", **answer)
                return
            try:
                said = errand(vm)
            except Exception as error:  # noqa: BLE001 - a user's device may raise anything
                self.tell(client, "trouble", text=_words(error), **answer)
            else:
                if answer["what"]:
                    self.tell(client, "done", text=said if isinstance(said, str) else "", **answer)
            self._pump.wake()

        if not self._errands.setdefault(lane, SerialExecutor(f"vmlab-does-{lane}")).put(run):
            text = "too much at once: earlier commands still run"
            self.tell(client, "trouble", text=text, **answer)

    # --- without a page ---------------------------------------------------------------------------

    def fallback(self, vm: VM) -> str:
        """HTML for where nothing live can be shown: the same for the same machine."""
        from vmlab.notebook import html

        return html.page(vm)

    def _repr_html_(self) -> str:
        vm = self._vm()
        return self.fallback(vm) if vm is not None else "<p>the VM is gone</p>"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        if not bundle:
            return bundle
        data, metadata = bundle
        return {**data, "text/plain": repr(self), "text/html": self._repr_html_()}, metadata

    def __repr__(self) -> str:
        vm = self._vm()
        state = "closed" if self._closed else "its VM is gone" if vm is None else str(vm.state)
        return f"<{type(self).__name__} of {self._name}: {state}>"

    def close(self) -> None:
        """Take the view off every page. Idempotent; the VM does not notice."""
        if self.__dict__.get("_closed", True):
            return
        self._closed = True
        self._pump.remove(self)
        with self._guard:
            self._clients.clear()
            self._watch.open(self, frozenset())
        super().close()


def _answer(message: Message) -> dict[str, str]:
    """Whose answer it is: the kind of command, and the name that the page gave it."""
    kind, of = message.get("kind"), message.get("of")
    if message.get("panel") is True:
        kind = "add"
    return {
        "what": ANSWERS.get(kind, "") if isinstance(kind, str) else "",
        "of": of if isinstance(of, str) and len(of) <= 200 else "",
    }


def _words(error: Exception) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a user's exception
        text = "an exception without a text"
    return text if isinstance(error, VmlabError) else f"{type(error).__name__}: {text}"


def text_of(message: Message, key: str, *, empty: bool = False, most: int = 4096) -> str:
    """A text in a message; ValueError when it is none."""
    value = message.get(key)
    if value is None and empty:
        return ""
    if not isinstance(value, str) or len(value) > most or not (value or empty):
        raise ValueError(f"{key} must be a text of at most {most} characters")
    return value
