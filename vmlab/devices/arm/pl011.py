"""A PL011 UART (ARM DDI 0183G, r1p5; cited by section).

Sending takes no time: a byte written to DR is at the sink before the write returns, so that the transmit
FIFO is always empty, and has passed its trigger level once more. Framing and the baud rate are kept for the
guest to read back. UARTEN, TXE and RXE are too, and have no effect: the port works as a firmware would have
left it.

What the host sends waits in a backlog, as on a very long wire, and enters the receive FIFO as the guest
makes room. A driver's first act is to clear what was received before it: the guest finds the FIFO empty, and
then what came before, as if it were typed after that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from vmlab.core import clock
from vmlab.core.device import Device, on_peek, on_read, on_write
from vmlab.devices.arm.primecell import CELL_ID, peripheral_id
from vmlab.regs import Registers, bit, bits, reserved, ro, rw, wo

__all__ = ["BACKLOG", "FIFO_DEPTH", "Pl011"]

#: bytes of host input that may wait for the guest
BACKLOG = 1 << 20
#: characters, of r1p5
FIFO_DEPTH = 32
#: characters in the receive FIFO at which IFLS.RXIFLSEL 0..4 asks for service (§3.3.10)
TRIGGER_LEVELS = (4, 8, 16, 24, 28)
#: nanoseconds of 32 bits at 115,200 baud: a receive timeout that was cleared comes again for what is left
TIMEOUT = 278_000

_EIGHTHS = {0: "1/8", 1: "1/4", 2: "1/2", 3: "3/4", 4: "7/8"}
# interrupts, by their bit in IMSC, RIS, MIS and ICR
_RI, _CTS, _DCD, _DSR, _RX, _TX, _RT, _OE = (1 << n for n in (0, 1, 2, 3, 4, 5, 6, 10))
#: FR's bit of each modem input -> the interrupt that its change raises
_MODEM = {1 << 8: _RI, 1 << 0: _CTS, 1 << 2: _DCD, 1 << 1: _DSR}


def _causes(what: str) -> dict[str, Any]:
    """The fields of the four registers that speak of interrupts."""
    return {
        "RI": bit(0, f"{what}: nUARTRI has changed"),
        "CTS": bit(1, f"{what}: nUARTCTS has changed"),
        "DCD": bit(2, f"{what}: nUARTDCD has changed"),
        "DSR": bit(3, f"{what}: nUARTDSR has changed"),
        "RX": bit(4, f"{what}: receive"),
        "TX": bit(5, f"{what}: transmit"),
        "RT": bit(6, f"{what}: receive timeout"),
        "FE": bit(7, f"{what}: framing error, never"),
        "PE": bit(8, f"{what}: parity error, never"),
        "BE": bit(9, f"{what}: break error, never"),
        "OE": bit(10, f"{what}: overrun error"),
        "ZERO": reserved(11, 21),
    }


class Pl011(Device):
    """One port. `sink` takes what the guest sends, a byte at a time; `receive` is the other way."""

    type = "pl011"
    hid = "ARMH0011"
    compatible = "arm,pl011"

    class regs(Registers):
        DR = rw(
            0x000,
            "data: writing sends a character, reading takes the oldest one received",
            spec="§3.3.1",
            DATA=bits(0, 8, "the character"),
            FE=bit(8, "framing error: never", access="ro"),
            PE=bit(9, "parity error: never", access="ro"),
            BE=bit(10, "break error: never", access="ro"),
            OE=bit(11, "input was lost before this character", access="ro"),
            ZERO=reserved(12, 20),
        )
        RSR = rw(
            0x004,
            "receive status; any write clears it (ECR)",
            spec="§3.3.2",
            FE=bit(0, "framing error: never"),
            PE=bit(1, "parity error: never"),
            BE=bit(2, "break error: never"),
            OE=bit(3, "input was lost"),
            ZERO=reserved(4, 28),
        )
        FR = ro(
            0x018,
            "flags",
            reset=0x97,
            spec="§3.3.3",
            CTS=bit(0, "clear to send"),
            DSR=bit(1, "data set ready"),
            DCD=bit(2, "data carrier detect"),
            BUSY=bit(3, "sending: never"),
            RXFE=bit(4, "receive FIFO empty"),
            TXFF=bit(5, "transmit FIFO full: never"),
            RXFF=bit(6, "receive FIFO full"),
            TXFE=bit(7, "transmit FIFO empty: always"),
            RI=bit(8, "ring indicator"),
        )
        ILPR = rw(0x020, "IrDA low-power counter, kept", spec="§3.3.4", DVSR=bits(0, 8, "divisor"))
        IBRD = rw(
            0x024, "integer baud rate divisor, kept", spec="§3.3.5", DIVINT=bits(0, 16, "divisor")
        )
        FBRD = rw(
            0x028, "fractional baud rate divisor, kept", spec="§3.3.6", DIVFRAC=bits(0, 6, "64ths")
        )
        LCR_H = rw(
            0x02C,
            "line control",
            spec="§3.3.7",
            BRK=bit(0, "send break"),
            PEN=bit(1, "parity"),
            EPS=bit(2, "parity", values={0: "odd", 1: "even"}),
            STP2=bit(3, "two stop bits"),
            FEN=bit(4, "FIFOs; else a character each way"),
            WLEN=bits(5, 2, "bits of a character", values={n: f"{n + 5} bits" for n in range(4)}),
            SPS=bit(7, "stick parity"),
            ZERO=reserved(8, 24),
        )
        CR = rw(
            0x030,
            "control",
            reset=0x300,
            spec="§3.3.8",
            UARTEN=bit(0, "enable, kept"),
            SIREN=bit(1, "IrDA, kept"),
            SIRLP=bit(2, "IrDA low-power mode, kept"),
            LBE=bit(7, "loopback: what is sent is received"),
            TXE=bit(8, "transmit enable, kept"),
            RXE=bit(9, "receive enable, kept"),
            DTR=bit(10, "data transmit ready"),
            RTS=bit(11, "request to send"),
            OUT1=bit(12, "output 1: DCD in loopback"),
            OUT2=bit(13, "output 2: RI in loopback"),
            RTSEN=bit(14, "RTS hardware flow control, kept"),
            CTSEN=bit(15, "CTS hardware flow control, kept"),
            ZERO=reserved(16, 16),
        )
        IFLS = rw(
            0x034,
            "interrupt FIFO level select",
            reset=0x12,
            spec="§3.3.9",
            TXIFLSEL=bits(0, 3, "transmit: the FIFO becomes emptier than", values=_EIGHTHS),
            RXIFLSEL=bits(3, 3, "receive: the FIFO becomes as full as", values=_EIGHTHS),
            ZERO=reserved(6, 26),
        )
        IMSC = rw(0x038, "interrupt mask", spec="§3.3.10", **_causes("enabled"))
        RIS = ro(0x03C, "raw interrupt status", spec="§3.3.11", **_causes("pending"))
        MIS = ro(0x040, "masked interrupt status", spec="§3.3.12", **_causes("pending and enabled"))
        ICR = wo(0x044, "interrupt clear", spec="§3.3.13", **_causes("clear"))
        DMACR = rw(
            0x048,
            "DMA control, of pins that nothing is wired to",
            spec="§3.3.14",
            RXDMAE=bit(0, "receive"),
            TXDMAE=bit(1, "transmit"),
            DMAONERR=bit(2, "not after an error"),
            ZERO=reserved(3, 29),
        )
        PERIPH_ID0, PERIPH_ID1, PERIPH_ID2, PERIPH_ID3 = peripheral_id(0x011, 3)
        PRIMECELL_ID0, PRIMECELL_ID1, PRIMECELL_ID2, PRIMECELL_ID3 = CELL_ID

    def __init__(self, sink: Callable[[bytes], None] | None = None) -> None:
        self.sink = sink
        #: bytes of input that were lost: the backlog or, in loopback, the FIFO was full
        self.overruns = 0
        self._wake: clock.Timer | None = None
        self._power_on()

    def _power_on(self) -> None:
        self._fifo: deque[int] = deque()
        self._backlog = bytearray()
        self._raised = 0
        #: the receive timeout was cleared and has not come again
        self._timed_out = False
        #: nobody has read what was received
        self._unread = True
        #: the guest has cleared it, and is to see the FIFO empty before anything comes
        self._held = False
        self._overrun = False
        self._inputs = self._modem_inputs(self.r.CR)

    def reset(self) -> None:
        with self.lock:
            super().reset()
            self._cancel()
            self._power_on()

    def detached(self) -> None:
        with self.lock:
            self._cancel()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_wake": None}

    # --- interrupts (§2.8) ----------------------------------------------------------------------

    def irq_level(self) -> bool:
        return bool(self._pending() & self.r.IMSC)

    @on_peek("RIS")
    def _pending(self) -> int:
        waits = self._fifo and not self._timed_out
        return self._raised | (_RT if waits else 0)

    @on_peek("MIS")
    def _masked(self) -> int:
        masked: int = self._pending() & self.r.IMSC
        return masked

    @on_write("ICR")
    def _clear(self, value: int) -> None:
        self._raised &= ~value
        if value & _RT and self._fifo:
            self._timed_out = True
            self._wait()
        if self._unread and value & _RX and value & _RT and not self.r.IMSC & (_RX | _RT):
            self._unread = False
            if self._fifo:
                self._backlog[:0] = bytes(self._fifo)
                self._fifo.clear()
                self._held = True
                self._wait()

    def _wait(self) -> None:
        if self._wake is None:
            self._wake = self.clock.call_at(self.clock.now() + TIMEOUT, self._over)

    def _over(self) -> None:
        """On the clock's thread."""
        with self.lock:
            if self._wake is not None:
                self._cancel()
                self._timed_out = False
                self._let_in()
                self.update()

    def _cancel(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    @property
    def _depth(self) -> int:
        return FIFO_DEPTH if self.r.LCR_H & self.regs.LCR_H.FEN else 1

    @property
    def _trigger(self) -> int:
        if self._depth == 1:
            return 1
        level = self.regs.IFLS.RXIFLSEL.of(self.r.IFLS)
        return TRIGGER_LEVELS[min(level, len(TRIGGER_LEVELS) - 1)]

    # --- transmitter ----------------------------------------------------------------------------

    @on_write("DR")
    def _send(self, value: int) -> None:
        value &= 0xFF
        if self._raised & _TX and self.r.IMSC & _TX:
            # the byte fills the FIFO, which drops the line, and leaves it, which is a new edge
            self._raised &= ~_TX
            self.update()
        if self.r.CR & self.regs.CR.LBE:
            self._loop(value)
        elif self.sink is not None:
            self.sink(bytes((value,)))
        self._raised |= _TX

    def _loop(self, value: int) -> None:
        if len(self._fifo) >= self._depth:
            self._lose(1)
        else:
            self._arrive(bytes((value,)))

    # --- receiver -------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Bytes of input that would be taken now; none as well where what a driver cleared went back."""
        return max(0, BACKLOG - len(self._backlog))

    def receive(self, data: bytes) -> int:
        """Input from the host, from any thread. Returns how many bytes were taken; the rest did not fit the
        backlog and is an overrun."""
        with self.lock:
            taken = min(len(data), self.room)
            self._backlog += data[:taken]
            if taken < len(data):
                self._lose(len(data) - taken)
            self._refill()
            self.update()
            return taken

    def _lose(self, count: int) -> None:
        self.overruns += count
        self._overrun = True
        self._raised |= _OE
        self.r.RSR |= self.regs.RSR.OE

    def _arrive(self, data: bytes | bytearray) -> None:
        self._fifo.extend(data)
        self._timed_out = False
        if len(self._fifo) >= self._trigger:
            self._raised |= _RX

    def _refill(self) -> None:
        """Let the backlog into the FIFO. In loopback the input is disconnected: it waits."""
        room = self._depth - len(self._fifo)
        if self._backlog and room > 0 and not (self._held or self.r.CR & self.regs.CR.LBE):
            self._arrive(self._backlog[:room])
            del self._backlog[:room]

    def _let_in(self) -> None:
        self._held = False
        self._refill()

    @on_peek("DR")
    def _oldest(self) -> int:
        lost: int = self.regs.DR.OE if self._overrun else 0
        return lost | (self._fifo[0] if self._fifo else 0)

    @on_read("DR")
    def _take(self) -> int:
        value = self._oldest()
        self._unread = self._overrun = False
        if self._fifo:
            self._fifo.popleft()
        if len(self._fifo) < self._trigger:
            self._raised &= ~_RX
        self._refill()
        return value

    @on_write("RSR")
    def _clear_errors(self, value: int) -> None:
        self.r.RSR = 0
        self._overrun = False

    @on_write("LCR_H")
    def _control_line(self, value: int) -> None:
        """A FIFO that becomes a register holds one character; no other is lost."""
        kept, over = list(self._fifo)[: self._depth], list(self._fifo)[self._depth :]
        self._fifo = deque(kept)
        self._backlog[:0] = bytes(over)
        self._refill()

    # --- flags ----------------------------------------------------------------------------------

    @on_peek("FR")
    def _flags(self) -> int:
        FR = self.regs.FR
        empty = FR.RXFE if not self._fifo else 0
        full = FR.RXFF if len(self._fifo) >= self._depth else 0
        return FR.TXFE | empty | full | self._inputs

    @on_read("FR")
    def _read_flags(self) -> int:
        value = self._flags()
        if self._held:
            self._let_in()
        return value

    def _modem_inputs(self, control: int) -> int:
        """FR's modem inputs while CR is `control`. The port's peer is always there and ready."""
        CR, FR = self.regs.CR, self.regs.FR
        if not control & CR.LBE:
            return FR.CTS | FR.DSR | FR.DCD
        wires = ((CR.RTS, FR.CTS), (CR.DTR, FR.DSR), (CR.OUT1, FR.DCD), (CR.OUT2, FR.RI))
        return sum(line for output, line in wires if control & output)

    @on_write("CR")
    def _control(self, value: int) -> None:
        inputs = self._modem_inputs(value)
        for line, cause in _MODEM.items():
            if (self._inputs ^ inputs) & line:
                self._raised |= cause
        self._inputs = inputs
        self._refill()
