"""The text screen of a PC in the page, with its keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmlab.devices.pc.scan_codes import KEYS
from vmlab.errors import VmlabError
from vmlab.notebook.pump import PUMP, Pump
from vmlab.notebook.snapshot import Snapshot
from vmlab.notebook.view import STATIC, Client, Message, View
from vmlab.vm.keys import Strike
from vmlab.vm.screen import Picture

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["ScreenPart", "ScreenView"]

#: keys in one message
MOST = 64


class ScreenPart(View):
    """For views that hold a text screen: `screen` is None where the machine has none."""

    def __init__(self, vm: VM, **options: Any) -> None:
        #: the last look, and what the page was told of it
        self._picture: Picture | None = None
        self._drawn: dict[str, Any] | None = None
        super().__init__(vm, **options)

    def content(self, look: Snapshot) -> dict[str, Any]:
        return {**super().content(look), "screen": self._draw()}

    def _draw(self) -> dict[str, Any] | None:
        vm = self._vm()
        # it is shared memory, as the counters are: the machine is not asked
        seen = vm.connection.observation.screen() if vm is not None else None
        picture = Picture(*seen) if seen is not None else None
        if vm is not None and picture != self._picture:
            self._picture = picture
            self._drawn = None if picture is None else _plain(picture)
        return self._drawn

    def page_keys(self, client: Client, message: Message) -> None:
        """Keys go down and up, as they do on the page: pairs of KeyboardEvent.code and whether it goes down.
        A PC has fewer keys than there are codes."""
        keys = message.get("keys")
        if not isinstance(keys, list) or len(keys) > MOST:
            raise ValueError(f"keys must be a list of at most {MOST}")
        struck = [
            (one[0], one[1] is True)
            for one in keys
            if isinstance(one, list)
            and len(one) == 2
            and isinstance(one[0], str)
            and one[0] in KEYS
        ]
        if struck:
            self.do(client, lambda vm: self._strike(client, vm, struck), lane="keys")

    def _strike(self, client: Client, vm: VM, struck: list[Strike]) -> None:
        try:
            vm.screen.strike(struck)
        except VmlabError as error:
            # what is typed is no command of the page's: nothing else answers it
            self.tell(client, "trouble", text=str(error), what="screen", of="")


def _plain(picture: Picture) -> dict[str, Any]:
    """lines: of each its pieces, a text and its attribute. cursor: row and column, None where it is off."""
    cursor = picture.cursor
    return {
        "lines": [[list(run) for run in row] for row in picture.runs()],
        "cursor": [cursor.row, cursor.column] if cursor.visible else None,
    }


class ScreenView(ScreenPart):
    """The text screen; `vm.screen_view()`. StateError where the machine has none."""

    _esm = STATIC / "screen.js"
    parts = ()

    def __init__(self, vm: VM, *, pump: Pump = PUMP) -> None:
        _ = vm.screen.picture
        super().__init__(vm, pump=pump)

    def fallback(self, vm: VM) -> str:
        return vm.screen.picture.html()
