"""Breakpoints and watchpoints of one Unicorn instance.

A code hook over one address costs nothing elsewhere: the translator asks, for each instruction, whether a
hook covers it. It is called before the instruction, and a stop there leaves it undone. A memory hook anywhere
takes the fast path from every load and store, so there is one only while a watchpoint is set. The guest
cannot be left in the middle of an instruction: while there are watchpoints a code hook without effect covers
all addresses, which ends the block at each instruction, and a second one, with an empty range, is widened by
one store when an access was met (as `kick` does with blocks).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

from vmlab.engine.api import Hit, Point
from vmlab.engine.soft import uclib
from vmlab.engine.soft.uclib import Uc
from vmlab.errors import EngineError

__all__ = ["Points", "check"]

_NEVER = (1 << 64) - 1
#: of `struct hook`, see `kick`
_BEGIN = 24
#: an access that begins so many bytes before a watched one may reach it
_REACH = 15
_WRITE = 17  # UC_MEM_WRITE of unicorn.h


def check(points: Sequence[Point], translate: Callable[[int], int | None]) -> None:
    """EngineError for memory that is not there to be watched."""
    for point in points:
        if point.kind != "code" and translate(point.address) is None:
            raise EngineError(
                f"{point.address:#x} is mapped nowhere now; watch it when the guest has mapped it"
            )


class Points:
    """Those of one instance, which several CPUs may share: `number` says which one has it. All runs on the
    engine's thread, but `want`.

    stop: leave the guest, from a callback between instructions. translate: a virtual address's place.
    """

    def __init__(
        self,
        uc: Uc,
        number: Callable[[], int],
        stop: Callable[[], None],
        translate: Callable[[int], int | None],
        bits: int = 64,
    ) -> None:
        self._uc, self._number, self._stop, self._translate = uc, number, stop, translate
        self._mask = (1 << bits) - 1
        self._wanted: Sequence[Point] | None = None
        self._hooks: list[int] = []
        self._code: dict[int, int] = {}
        self._leave = ctypes.c_uint64(0)
        self._hit: Hit | None = None
        #: CPU -> the address whose point it passes, since it has met it
        self._passing: dict[int, int] = {}
        self._stepping = False

    def want(self, points: Sequence[Point]) -> None:
        """From the next stay in the guest on."""
        self._wanted = points

    def pass_at(self, cpu: int, pc: int) -> None:
        self._passing[cpu] = pc & self._mask

    def enter(self, single: bool) -> None:
        """A stay in the guest begins."""
        self._stepping = single
        if self._wanted is not None:
            points, self._wanted = self._wanted, None
            self._apply(points)
        if single:
            self._passing.pop(self._number(), None)

    def take(self, pc: int) -> Hit | None:
        """The guest has been left, at `pc`: what it has met."""
        hit, self._hit = self._hit, None
        if hit is None:
            return None
        self._leave.value = _NEVER
        if not hit.size:
            self.pass_at(self._number(), hit.pc)
            return hit
        return Hit(hit.number, pc, hit.address, hit.size, hit.value, hit.write)

    def _apply(self, points: Sequence[Point]) -> None:
        for handle in self._hooks:
            self._uc.unhook(handle)
        self._hooks.clear()
        self._code = {one.address & self._mask: one.number for one in points if one.kind == "code"}
        if self._code:
            callback = uclib.BLOCK_HOOK(self._on_code)
            for address in self._code:
                self._hooks.append(self._uc.hook(uclib.HOOK_CODE, callback, address, address))
        watched = [one for one in points if one.kind != "code"]
        if watched:
            self._watch(watched)
        # what is translated calls no hook that came later
        self._uc.flush_code()

    def _watch(self, points: Sequence[Point]) -> None:
        for point in points:
            at = self._translate(point.address & self._mask)
            if at is None:
                continue  # it was mapped when the point was made
            kinds = (uclib.HOOK_MEM_READ if point.kind != "write" else 0) | (
                uclib.HOOK_MEM_WRITE if point.kind != "read" else 0
            )
            callback = uclib.MEM_HOOK(self._on_memory(point, at))
            low, high = max(0, at - _REACH), at + point.size - 1
            self._hooks.append(self._uc.hook(kinds, callback, low, high))
        idle = uclib.address_of(self._uc.lib.uc_arch_supported)
        self._hooks.append(self._uc.hook_address(uclib.HOOK_CODE, idle, 1, 0))
        leave = uclib.BLOCK_HOOK(self._on_leave)
        handle = self._uc.hook(uclib.HOOK_CODE, leave, _NEVER, _NEVER)
        self._leave = ctypes.c_uint64.from_address(handle + _BEGIN)
        self._hooks.append(handle)

    # -- callbacks -------------------------------------------------------------------------------------

    def _on_code(self, _uc: int, address: int, _size: int, _data: int) -> None:
        if self._stepping or self._hit is not None:
            return
        cpu = self._number()
        passing = self._passing.pop(cpu, None)
        if passing == address:
            return
        number = self._code.get(address)
        if number is not None:
            self._hit = Hit(number, address)
            self._stop()

    def _on_leave(self, _uc: int, _address: int, _size: int, _data: int) -> None:
        self._leave.value = _NEVER
        if not self._stepping:
            self._stop()

    def _on_memory(self, point: Point, at: int) -> Callable[[int, int, int, int, int, int], None]:
        def touched(_uc: int, kind: int, address: int, size: int, value: int, _data: int) -> None:
            if self._hit is not None or address + size <= at or address >= at + point.size:
                return
            write = kind == _WRITE
            seen = value & (1 << 8 * min(size, 8)) - 1 if write else None
            self._hit = Hit(point.number, 0, point.address + address - at, size, seen, write)
            self._leave.value = 0

        return touched
