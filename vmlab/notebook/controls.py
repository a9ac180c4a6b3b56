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
        self.do(client, self.actions[action], "do")


class ControlsView(ControlsPart):
    """The bar of the dashboard; `vm.controls_view()`."""

    _esm = STATIC / "controls.js"
    parts = ()

    def fallback(self, vm: VM) -> str:
        return html.title(vm)
