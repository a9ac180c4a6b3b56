"""Conditions of breakpoints: Python functions that run here, in the process that has made them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from vmlab.core.safely import text_of
from vmlab.machine.debug.records import BreakEvent
from vmlab.monitor import wire

__all__ = ["Condition", "Conditions"]

#: of an event: whether the machine is to stop
Condition = Callable[[BreakEvent], Any]


class Conditions:
    """number -> condition. decided: sends the answer to the machine."""

    def __init__(self, decided: Callable[[wire.Decided], None]) -> None:
        self._decided = decided
        self._by_number: dict[int, Condition] = {}
        #: what was asked for before the breakpoint's number was known here
        self._arriving: list[Condition] = []

    def expect(self, condition: Condition) -> None:
        """Of the breakpoint that is being made."""
        self._arriving.append(condition)

    def keep(self, number: int, condition: Condition) -> None:
        self._by_number[number] = condition
        self._arriving.remove(condition)

    def give_up(self, condition: Condition) -> None:
        self._arriving.remove(condition)

    def forget(self, number: int) -> None:
        self._by_number.pop(number, None)

    def decide(self, asked: wire.Asked) -> None:
        """On a thread of its own: whoever tells of the question must not wait, and it may not return."""
        threading.Thread(
            target=self._decide, args=(asked,), name="vmlab-condition", daemon=True
        ).start()

    def _decide(self, asked: wire.Asked) -> None:
        number = asked.event.breakpoint
        condition = self._by_number.get(number)
        if condition is None and self._arriving:
            condition = self._arriving[-1]
        if condition is None:
            self._decided(wire.Decided(asked.serial, True))
            return
        try:
            stop, trouble = bool(condition(asked.event)), ""
        except BaseException as error:  # noqa: BLE001 - the user's: it may raise anything
            stop, trouble = True, f"it raised {text_of(error)}"
        self._decided(wire.Decided(asked.serial, stop, trouble))
