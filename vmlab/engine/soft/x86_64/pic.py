"""The pair of 8259A interrupt controllers of a PC (Intel 8259A data sheet, 231468).

Master at ports 0x20/0x21, slave at 0xA0/0xA1 on the master's input 2, edge/level registers at
0x4D0/0x4D1 (Intel 82371AB §4.2). Not modelled: the MCS-80 call mode and buffered mode, which a PC
cannot use.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["CASCADE", "Pic", "PicPair"]

CASCADE = 2
#: the slave's inputs and the master's that may be level-triggered (not the timer, keyboard, cascade)
_ELCR_MASK = (0xF8, 0xDE)


class Pic:
    """One 8259A. `output` is its INT pin."""

    def __init__(self, elcr_mask: int) -> None:
        self.elcr_mask = elcr_mask
        #: told of each input that was served
        self.ended: Callable[[int], None] | None = None
        self.reset()

    def reset(self) -> None:
        self.lines = self.elcr = 0
        self._initialise(0)
        self.base = 0
        self.awaiting = 0
        self.imr = 0

    def _initialise(self, icw1: int) -> None:
        """ICW1 (§"Initialization Command Words"): clears the mask, in-service and edge memory."""
        self.irr = self.lines & self.elcr
        self.imr = self.isr = 0
        self.lowest = 7
        self.rotate_on_aeoi = self.special_mask = self.auto_eoi = self.special_nested = False
        self.read_isr = self.poll = False
        self.needs_icw4 = bool(icw1 & 1)
        self.single = bool(icw1 & 2)
        self.awaiting = 2

    def set_line(self, line: int, level: bool) -> None:
        bit = 1 << line
        if level:
            if self.elcr & bit or not self.lines & bit:
                self.irr |= bit
            self.lines |= bit
        else:
            # an edge stays requested when its line falls, as in KVM's and QEMU's chip (the real one
            # would give a spurious interrupt); a level request goes with its line
            self.irr &= ~(bit & self.elcr)
            self.lines &= ~bit

    def _first(self, bits: int) -> int:
        """Distance from the highest priority of the most urgent bit; 8 when there is none."""
        if not bits:
            return 8
        top = self.lowest + 1 & 7
        turned = (bits >> top | bits << 8 - top) & 0xFF
        return (turned & -turned).bit_length() - 1

    def pending(self) -> int | None:
        """The input to be served now, or None."""
        request = self._first(self.irr & ~self.imr)
        if request == 8:
            return None
        served = self.isr
        if self.special_mask:
            served &= ~self.imr
        current = self._first(served)
        line = self.lowest + 1 + request & 7
        # special fully nested mode: the slave may interrupt while its own input is in service
        if request < current or (self.special_nested and line == CASCADE and request == current):
            return line
        return None

    @property
    def output(self) -> bool:
        return self.pending() is not None

    def acknowledge(self) -> int:
        """The interrupt acknowledge cycle -> the input served; 7 when the request is gone."""
        line = self.pending()
        if line is None:
            return 7  # "spurious": no in-service bit is set
        bit = 1 << line
        if self.auto_eoi:
            if self.rotate_on_aeoi:
                self.lowest = line
        else:
            self.isr |= bit
        if not self.elcr & bit:
            self.irr &= ~bit
        return line

    def read(self, odd: bool) -> int:
        if self.poll:
            self.poll = False
            line = self.pending()
            return 0 if line is None else 0x80 | self.acknowledge()
        if odd:
            return self.imr
        return self.isr if self.read_isr else self.irr

    def write(self, odd: bool, value: int) -> None:
        if not odd:
            if value & 0x10:
                self._initialise(value)
            elif value & 8:
                self._ocw3(value)
            else:
                self._ocw2(value)
        elif self.awaiting:
            self._icw(value)
        else:
            self.imr = value

    def _icw(self, value: int) -> None:
        if self.awaiting == 2:
            self.base = value & 0xF8
            self.awaiting = 3 if not self.single else 4 if self.needs_icw4 else 0
        elif self.awaiting == 3:
            self.awaiting = 4 if self.needs_icw4 else 0
        else:
            self.auto_eoi = bool(value & 2)
            self.special_nested = bool(value & 0x10)
            self.awaiting = 0

    def _ocw2(self, value: int) -> None:
        command, level = value >> 5, value & 7
        if command in (0, 4):  # rotation in automatic EOI mode: clear, set
            self.rotate_on_aeoi = command == 4
        elif command in (1, 5):  # non-specific EOI, and with rotation
            served = self.isr & ~self.imr if self.special_mask else self.isr
            distance = self._first(served)
            if distance < 8:
                line = self.lowest + 1 + distance & 7
                self._end(line)
                if command == 5:
                    self.lowest = line
        elif command in (3, 7):  # specific EOI, and with rotation
            self._end(level)
            if command == 7:
                self.lowest = level
        elif command == 6:  # set priority
            self.lowest = level

    def _end(self, line: int) -> None:
        if self.isr >> line & 1 and self.ended is not None:
            self.ended(line)
        self.isr &= ~(1 << line)

    def _ocw3(self, value: int) -> None:
        if value & 4:
            self.poll = True
        if value & 2:
            self.read_isr = bool(value & 1)
        if value & 0x40:
            self.special_mask = bool(value & 0x20)


class PicPair:
    """Master and slave as a PC wires them."""

    def __init__(self) -> None:
        self.master, self.slave = Pic(_ELCR_MASK[0]), Pic(_ELCR_MASK[1])

    def reset(self) -> None:
        self.master.reset()
        self.slave.reset()

    def set_line(self, line: int, level: bool) -> None:
        """Drive input 0..15 (8..15 are the slave's)."""
        if line >= 8:
            self.slave.set_line(line - 8, level)
            self._cascade()
        elif line != CASCADE:
            self.master.set_line(line, level)

    def _cascade(self) -> None:
        output = self.slave.output
        self.master.set_line(CASCADE, output)
        if not output:
            self.master.irr &= ~(1 << CASCADE)

    def line_of(self, vector: int) -> int:
        """The input that has just been acknowledged with `vector`."""
        slave = self.slave.base <= vector < self.slave.base + 8
        return 8 + vector - self.slave.base if slave else vector - self.master.base

    @property
    def output(self) -> bool:
        return self.master.output

    def acknowledge(self) -> int:
        """-> the vector for the CPU."""
        line = self.master.acknowledge()
        if line != CASCADE:
            return self.master.base + line
        vector = self.slave.base + self.slave.acknowledge()
        # the slave's pin drops and rises again when more waits: an edge for the master
        self.master.set_line(CASCADE, False)
        self._cascade()
        return vector

    def watch(self, ended: Callable[[int, int], None] | None) -> None:
        """Call `ended(vector, line)` when an input was served; None: no more."""
        self.master.ended = self.slave.ended = None
        if ended is not None:
            master, slave = self.master, self.slave
            slave.ended = lambda line: ended(slave.base + line, 8 + line)
            master.ended = lambda line: ended(master.base + line, line) if line != CASCADE else None

    def read(self, port: int) -> int:
        if port in (0x4D0, 0x4D1):
            return (self.slave if port & 1 else self.master).elcr
        value = (self.slave if port & 0x80 else self.master).read(bool(port & 1))
        self._cascade()
        return value

    def write(self, port: int, value: int) -> None:
        if port in (0x4D0, 0x4D1):
            chip = self.slave if port & 1 else self.master
            chip.elcr = value & chip.elcr_mask
        else:
            (self.slave if port & 0x80 else self.master).write(bool(port & 1), value)
        self._cascade()
