"""The hot-plug panel: choose a device, set its options, add it, watch the guest take it, remove it."""

from __future__ import annotations

import html as escaping
import re
import time
from typing import TYPE_CHECKING, Any

from vmlab.errors import ConfigError
from vmlab.notebook import forms, html
from vmlab.notebook.controls import ControlsPart
from vmlab.notebook.view import STATIC, Client, Message, text_of

if TYPE_CHECKING:
    from vmlab.notebook.snapshot import Snapshot
    from vmlab.vm import VM

__all__ = ["HotplugPart", "HotplugView"]

#: seconds between two looks at which classes the notebook has
CLASSES_EVERY = 1.0
#: options in one message
MOST = 40
#: what can be typed again, in a cell and at a guest's prompt
_ID = re.compile(r"[\w.-]*")


class HotplugPart(ControlsPart):
    """For views that hold the panel."""

    _choices: list[dict[str, Any]] | None = None
    _chosen_at = 0.0
    _own: dict[str, type] | None = None

    def content(self, look: Snapshot) -> dict[str, Any]:
        now = time.monotonic()
        if self._choices is None or now >= self._chosen_at + CLASSES_EVERY:
            self._chosen_at = now
            own = forms.own()
            if self._choices is None or own != self._own:
                self._own, self._choices = own, forms.choices(own)
        return {**super().content(look), "choices": self._choices}

    def page_add(self, client: Client, message: Message) -> None:
        name, id = text_of(message, "name", most=200), text_of(message, "id", empty=True, most=64)
        options = message.get("options", {})
        if not isinstance(options, dict) or len(options) > MOST:
            raise TypeError("options must be a table of at most 40 texts")
        if not _ID.fullmatch(id.strip()):
            raise ConfigError(f"id {id!r}: letters, digits, and . _ - only")

        def add(vm: VM) -> None:
            device = forms.build(forms.find(name), options)
            view = vm.hot_add(device, id.strip() or None)
            self.tell(client, "added", id=view.id)

        self.do(client, add, message, "hotplug")

    def page_remove(self, client: Client, message: Message) -> None:
        id, force = text_of(message, "id", most=64), message.get("force") is True
        # what is forced does not wait for a guest that was asked before and has not answered
        lane = "force" if force else "hotplug"
        self.do(client, lambda vm: vm.hot_remove(id, force), message, lane)


class HotplugView(HotplugPart):
    """Devices come and go while the guest runs; `vm.hotplug_view()`."""

    _esm = STATIC / "hotplug.js"
    parts = ("devices",)

    def fallback(self, vm: VM) -> str:
        names = ", ".join(one["name"] for one in forms.choices())
        return f"{html.devices_table(vm)}<p>To plug in: {escaping.escape(names)}</p>"
