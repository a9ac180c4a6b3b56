"""The controls: the machine's state, its figures, and the buttons that make sense now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from vmlab.notebook import html
from vmlab.notebook.view import STATIC, Client, Message, View, text_of

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["ControlsPart", "ControlsView"]


def _step(vm: VM) -> str:
    if vm.step():
        return ""
    return "the CPU is halted (HLT): it has no next instruction until an interrupt comes"


def _replace(vm: VM, id: str) -> None:
    """The newest class in the device's place; a guest that waited at its failure goes on."""
    failed = vm.state.fault is not None and vm.state.fault.device == id
    vm.replace(id)
    if failed and vm.state == "paused":
        vm.resume()


class ControlsPart(View):
    """For views that hold the buttons."""

    #: what they do; a text that comes back is shown beside them
    actions: ClassVar[dict[str, Callable[[VM], object]]] = {
        "start": lambda vm: vm.start(),
        "pause": lambda vm: vm.pause(),
        "resume": lambda vm: vm.resume(),
        "step": _step,
        "reset": lambda vm: vm.reset(),
        "stop": lambda vm: vm.stop(),
    }

    def page_do(self, client: Client, message: Message) -> None:
        action = text_of(message, "action", most=16)
        if action not in self.actions:
            raise ValueError(f"no action {action!r}; there are {', '.join(self.actions)}")
        # a machine that answers no more must still be stopped: nothing holds that up
        self.do(client, self.actions[action], message, "stop" if action == "stop" else "do")

    def page_replace(self, client: Client, message: Message) -> None:
        id = text_of(message, "id", most=64)
        lane = "hotplug" if message.get("panel") is True else "do"
        self.do(client, lambda vm: _replace(vm, id), message, lane)


class ControlsView(ControlsPart):
    """The bar of the dashboard; `vm.controls_view()`."""

    _esm = STATIC / "controls.js"
    parts = ()

    def fallback(self, vm: VM) -> str:
        return html.title(vm)
