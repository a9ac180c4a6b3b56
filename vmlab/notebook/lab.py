"""The dashboard: everything that can be seen of a machine, in one cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from vmlab.notebook.console import ConsolePart
from vmlab.notebook.hotplug import HotplugPart
from vmlab.notebook.pump import PUMP, Pump
from vmlab.notebook.view import STATIC, Client, Message, text_of

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["Lab", "lab_of"]


class Lab(ConsolePart, HotplugPart):
    """One view that holds all of them, so that it works wherever a widget does; `vm.lab()`.

    height: in pixels, when it is wide enough for two columns."""

    _esm = STATIC / "lab.js"
    parts = ("map", "devices", "irqs", "registers")

    #: what the buttons do
    actions: ClassVar[dict[str, Callable[[VM], object]]] = {
        "start": lambda vm: vm.start(),
        "pause": lambda vm: vm.pause(),
        "resume": lambda vm: vm.resume(),
        "step": lambda vm: vm.step(),
        "reset": lambda vm: vm.reset(),
        "stop": lambda vm: vm.stop(),
    }

    def __init__(self, vm: VM, height: int = 620, *, pump: Pump = PUMP) -> None:
        super().__init__(vm, pump=pump, height=int(height))

    def page_do(self, client: Client, message: Message) -> None:
        action = text_of(message, "action", most=16)
        if action not in self.actions:
            raise ValueError(f"no action {action!r}; there are {', '.join(self.actions)}")
        self.do(client, self.actions[action], "do")


def lab_of(vm: VM) -> Lab:
    """The dashboard that a bare `vm` shows: one for each VM, however often it is shown."""
    found = vm.__dict__.get("_lab")
    if not isinstance(found, Lab) or found._closed:
        found = vm.__dict__["_lab"] = Lab(vm)
    return found
