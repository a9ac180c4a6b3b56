"""A guest that writes to a text screen which nobody sees."""

from __future__ import annotations

from collections.abc import Callable

from vmlab.arch import DEFAULT
from vmlab.arch.x86_64.text_mode import MEMORY, MEMORY_SIZE
from vmlab.vm import VM

__all__ = ["Unseen"]


class Unseen:
    """Tells `say`, once, that the guest writes where nobody sees it."""

    def __init__(self, vm: VM, say: Callable[[str], object]) -> None:
        self._vm, self._say = vm, say
        self._told = False

    def look(self) -> None:
        words = "" if self._told else self._words()
        if words:
            self._told = True
            self._say(words)

    def _words(self) -> str:
        vm = self._vm
        if vm.config.arch != DEFAULT or vm.connection.linux or vm.pid is None:
            return ""
        if vm.screen.there:
            silent = not vm.console.data and vm.screen.text.strip()
            return "the guest wrote on its text screen: --screen shows it" if silent else ""
        if any(vm.memory.view(MEMORY, MEMORY_SIZE)):
            return (
                "the guest wrote to the text screen at 0xb8000, and this machine has none: --screen gives it"
                " one"
            )
        return ""
