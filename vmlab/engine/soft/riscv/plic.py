"""The platform-level interrupt controller (RISC-V PLIC specification 1.0).

Two contexts a hart: 2n is its M mode, 2n + 1 its S mode. A set of sources is an integer, bit = source.

A source's gateway passes on each request that a device makes, though its line may be up already, and a fall
before the claim takes the request back. What is up when its handling is completed is not passed on once more:
drivers that were written on QEMU's `virt` leave a UART's line up for good (PLIC 1.0 §7 would have it passed
on).
"""

from __future__ import annotations

from collections.abc import Callable

from vmlab.arch.riscv64 import platform

__all__ = ["SOURCES", "Plic"]

#: sources that there are: 1 to SOURCES - 1; 0 is none
SOURCES = platform.LAST_LINE + 1
#: registers (§3): a word a source, a bit a source, and of each context a block
_PENDING, _ENABLE, _CONTEXT = 0x1000, 0x2000, 0x20_0000
_ENABLE_STRIDE, _CONTEXT_STRIDE = 0x80, 0x1000
_THRESHOLD, _CLAIM = 0, 4
#: the highest priority; 0 never interrupts
_HIGHEST = 7
_WORD = 0xFFFF_FFFF


class Plic:
    """The owner's lock is held by each caller. signal: called with a context and whether something waits for
    it, after each change."""

    def __init__(self, contexts: int, signal: Callable[[int, bool], None]) -> None:
        self._signal = signal
        self._contexts = contexts
        #: told of claims ("ack") and completions ("eoi") of a source
        self.seen: Callable[[str, int], None] | None = None
        self.level = 0
        self.reset()

    def reset(self) -> None:
        """Devices keep their lines up through a reset of the controller."""
        self.priority = [0] * SOURCES
        self.pending, self.claimed = self.level, 0
        self.enabled = [0] * self._contexts
        self.threshold = [0] * self._contexts

    def drive(self, source: int, level: bool) -> bool:
        """The line of `source`; whether it became pending by that."""
        bit = 1 << source
        new = level and not self.pending & bit
        if level:
            self.level |= bit
            self.pending |= bit
        else:
            self.level &= ~bit
            self.pending &= ~bit
        self.update()
        return new

    def pulse(self, source: int) -> bool:
        """An edge: pending until it is claimed."""
        bit = 1 << source
        new = not self.pending & bit
        self.pending |= bit
        self.update()
        return new

    def best(self, context: int) -> int:
        """The source that the context would claim: of the highest priority the lowest; 0: none."""
        waiting = self.pending & self.enabled[context] & ~self.claimed
        found, above = 0, self.threshold[context]
        while waiting:
            source = (waiting & -waiting).bit_length() - 1
            waiting &= waiting - 1
            if self.priority[source] > above:
                found, above = source, self.priority[source]
        return found

    def update(self) -> None:
        for context in range(self._contexts):
            self._signal(context, bool(self.best(context)))

    # -- registers: 32 bits wide, `offset` a multiple of 4 ---------------------------------------------

    def read(self, offset: int) -> int:
        if offset < _PENDING:
            return self.priority[offset // 4]
        if offset < _ENABLE:
            return self.pending >> 8 * (offset - _PENDING) & _WORD
        if offset < _CONTEXT:
            context, at = divmod(offset - _ENABLE, _ENABLE_STRIDE)
            return self.enabled[context] >> 8 * at & _WORD if context < self._contexts else 0
        context, register = divmod(offset - _CONTEXT, _CONTEXT_STRIDE)
        if context >= self._contexts:
            return 0
        if register == _THRESHOLD:
            return self.threshold[context]
        return self._claim(context) if register == _CLAIM else 0

    def _claim(self, context: int) -> int:
        source = self.best(context)
        if source:
            self.claimed |= 1 << source
            self.pending &= ~(1 << source)
            if self.seen is not None:
                self.seen("ack", source)
            self.update()
        return source

    def write(self, offset: int, value: int) -> None:
        if offset < _PENDING:
            if offset:
                self.priority[offset // 4] = value & _HIGHEST
        elif _ENABLE <= offset < _CONTEXT:
            context, at = divmod(offset - _ENABLE, _ENABLE_STRIDE)
            if context < self._contexts:
                kept = self.enabled[context] & ~(_WORD << 8 * at)
                self.enabled[context] = (kept | (value & _WORD) << 8 * at) & ~1
        elif offset >= _CONTEXT:
            context, register = divmod(offset - _CONTEXT, _CONTEXT_STRIDE)
            if context < self._contexts:
                if register == _THRESHOLD:
                    self.threshold[context] = value & _HIGHEST
                elif register == _CLAIM and value < SOURCES and self.enabled[context] >> value & 1:
                    # a completion of what the context does not have is ignored (§9)
                    if self.seen is not None and self.claimed >> value & 1:
                        self.seen("eoi", value)
                    self.claimed &= ~(1 << value)
        self.update()
