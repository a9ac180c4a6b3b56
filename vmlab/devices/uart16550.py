"""A PC16550D serial port (National Semiconductor PC16550D, June 1995; cited by section).

Sending takes no time: a byte written to THR is at the sink before the write returns, so the
transmitter is always empty. Framing and the baud rate are kept for the guest to read back and have no
effect. What the host sends waits in a backlog, as on a very long wire, and enters the receiver FIFO as
the guest makes room: a guest that drains while LSR.DR is set sees all of it, without a gap. One that
empties the FIFO by FCR finds it empty: what waits comes when LSR has said so, or a moment later to a
guest that does not look and has asked for an interrupt.

The level that this device drives is the chip's INTR pin. That OUT2 gates it is PC wiring, not the
chip's, and is not modelled. The pin stays up while any cause is pending: a guest behind an
edge-triggered pin must serve every cause until IIR says that none is left, as on real hardware.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from vmlab.core import clock
from vmlab.core.device import Device, on_peek, on_read, on_write
from vmlab.regs import Registers, bit, bits, reserved, ro, rw, wo

__all__ = ["BACKLOG", "Uart16550"]

#: bytes of host input that may wait for the guest: a pasted file fits, a runaway sender does not
BACKLOG = 1 << 20
FIFO_DEPTH = 16
#: IIR.ID (§8.5, table V)
CAUSES = {
    0: "modem status",
    1: "THR empty",
    2: "data available",
    3: "line status",
    6: "character timeout",
}
#: bytes in the receiver FIFO at which FCR.RX_TRIGGER 0..3 asks for service (§8.4)
TRIGGER_LEVELS = (1, 4, 8, 14)

#: nanoseconds that 16 characters take at 115,200 baud, about: so long waits what comes after FCR has emptied
#: the FIFO of a guest that listens to the interrupt alone
PAUSE = 1_400_000

#: IIR bits 3..0, highest priority first (§8.5, table V)
LINE_STATUS = 0x6
DATA_AVAILABLE = 0x4
CHARACTER_TIMEOUT = 0xC
THR_EMPTY = 0x2
MODEM_STATUS = 0x0
NOTHING = 0x1

_DLAB_0 = ("LCR", 0x80, 0x00)
_DLAB_1 = ("LCR", 0x80, 0x80)


class Uart16550(Device):
    """One port. `sink` takes what the guest sends, a byte at a time; `receive` is the other way."""

    type = "uart16550"
    size = 8
    hid = "PNP0501"
    compatible = "ns16550a"

    class regs(Registers):
        RBR = ro(0, "receiver buffer: takes the oldest byte", 8, when=_DLAB_0, spec="§8.0")
        THR = wo(0, "transmitter holding: sends a byte", 8, when=_DLAB_0, spec="§8.0")
        DLL = rw(0, "divisor latch, low byte", 8, when=_DLAB_1, reset=12, spec="§8.3")
        DLM = rw(1, "divisor latch, high byte", 8, when=_DLAB_1, spec="§8.3")
        IER = rw(
            1,
            "interrupt enable",
            8,
            when=_DLAB_0,
            spec="§8.6",
            ERBFI=bit(0, "received data available, and character timeout"),
            ETBEI=bit(1, "transmitter holding register empty"),
            ELSI=bit(2, "receiver line status"),
            EDSSI=bit(3, "modem status"),
            ZERO=reserved(4, 4, "always 0"),
        )
        IIR = ro(
            2,
            "interrupt identification",
            8,
            reset=NOTHING,
            spec="§8.5",
            NONE_PENDING=bit(0, "0 while an interrupt is pending"),
            ID=bits(1, 3, "the pending cause of the highest priority", values=CAUSES),
            ZERO=reserved(4, 2, "always 0"),
            FIFOS=bits(6, 2, "3 while the FIFOs are enabled"),
        )
        FCR = wo(
            2,
            "FIFO control",
            8,
            spec="§8.4",
            ENABLE=bit(0, "both FIFOs; a change empties them"),
            RX_RESET=bit(1, "empty the receiver FIFO"),
            TX_RESET=bit(2, "empty the transmitter FIFO, which is never anything else"),
            DMA_MODE=bit(3, "modes of pins that nothing is wired to"),
            RX_TRIGGER=bits(
                6, 2, "interrupt at", values={n: f"{TRIGGER_LEVELS[n]} bytes" for n in range(4)}
            ),
        )
        LCR = rw(
            3,
            "line control",
            8,
            spec="§8.1",
            WLS=bits(0, 2, "bits of a character", values={n: f"{n + 5} bits" for n in range(4)}),
            STB=bit(2, "two stop bits"),
            PEN=bit(3, "parity"),
            EPS=bit(4, "parity", values={0: "odd", 1: "even"}),
            STICK=bit(5, "stick parity"),
            BREAK=bit(6, "break"),
            DLAB=bit(7, "offsets 0 and 1 are the divisor latch"),
        )
        MCR = rw(
            4,
            "modem control",
            8,
            spec="§8.7",
            DTR=bit(0, "data terminal ready"),
            RTS=bit(1, "request to send"),
            OUT1=bit(2, "auxiliary output 1"),
            OUT2=bit(3, "auxiliary output 2"),
            LOOP=bit(4, "loopback: outputs are wired to inputs inside the chip"),
            ZERO=reserved(5, 3, "always 0"),
        )
        LSR = ro(
            5,
            "line status",
            8,
            reset=0x60,
            spec="§8.2",
            DR=bit(0, "data ready"),
            OE=bit(1, "overrun: input was lost; cleared by reading"),
            PE=bit(2, "parity error: never"),
            FE=bit(3, "framing error: never"),
            BI=bit(4, "break: never"),
            THRE=bit(5, "transmitter holding register empty: always"),
            TEMT=bit(6, "transmitter empty: always"),
            RX_ERROR=bit(7, "an error is in the FIFO: never"),
        )
        MSR = ro(
            6,
            "modem status",
            8,
            reset=0xB0,
            spec="§8.8",
            DCTS=bit(0, "CTS has changed; cleared by reading, like the next three"),
            DDSR=bit(1, "DSR has changed"),
            TERI=bit(2, "RI has ended"),
            DDCD=bit(3, "DCD has changed"),
            CTS=bit(4, "clear to send"),
            DSR=bit(5, "data set ready"),
            RI=bit(6, "ring indicator"),
            DCD=bit(7, "data carrier detect"),
        )
        SCR = rw(7, "scratch", 8, spec="§8.9")

    def __init__(self, sink: Callable[[bytes], None] | None = None) -> None:
        self.sink = sink
        #: bytes of input that were lost: the backlog or, in loopback, the FIFO was full
        self.overruns = 0
        self._pause: clock.Timer | None = None
        self._power_on()

    def _power_on(self) -> None:
        self._fifo: deque[int] = deque()
        self._backlog = bytearray()
        self._depth = 1
        #: the FIFO was emptied, and the guest has not seen it yet: the backlog waits
        self._held = False
        #: the guest has asked what there is: what it clears from then on, it means
        self._asked = False
        self._overrun = False
        self._thr_emptied = False
        self._thr_enabled = False
        self._changed = 0
        self._inputs = self._modem_inputs(0)

    def reset(self) -> None:
        with self.lock:
            super().reset()
            self._cancel()
            self._power_on()

    def detached(self) -> None:
        with self.lock:
            self._cancel()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_pause": None}

    # --- the interrupt --------------------------------------------------------------------------

    def irq_level(self) -> bool:
        return self.r.IER != 0 and self._cause() != NOTHING

    def _cause(self) -> int:
        """IIR bits 3..0: of what is enabled and pending, the first in order of priority."""
        enabled, IER = self.r.IER, self.regs.IER
        if self._overrun and enabled & IER.ELSI:
            return LINE_STATUS
        if self._fifo and enabled & IER.ERBFI:
            # Less than the trigger level is reported as a timeout at once: no byte waits for more.
            return DATA_AVAILABLE if len(self._fifo) >= self._trigger() else CHARACTER_TIMEOUT
        if self._thr_emptied and enabled & IER.ETBEI:
            return THR_EMPTY
        if self._changed and enabled & IER.EDSSI:
            return MODEM_STATUS
        return NOTHING

    def _trigger(self) -> int:
        return TRIGGER_LEVELS[self.regs.FCR.RX_TRIGGER.of(self.r.FCR)] if self._depth > 1 else 1

    @on_peek("IIR")
    def _identify(self) -> int:
        return self._cause() | (self.regs.IIR.FIFOS if self._depth > 1 else 0)

    @on_read("IIR")
    def _read_iir(self) -> int:
        self._asked = True
        value = self._identify()
        if value & 0xF == THR_EMPTY:
            # §8.5: reading IIR, if it is the source, resets the THR-empty interrupt
            self._thr_emptied = False
        return value

    @on_write("IER")
    def _enable(self, value: int) -> None:
        wanted = bool(value & self.regs.IER.ETBEI)
        if wanted and not self._thr_enabled:
            self._thr_emptied = True
        self._thr_enabled = wanted
        self._pause_if_held()

    # --- transmitter ----------------------------------------------------------------------------

    @on_write("THR")
    def _send(self, value: int) -> None:
        if self._thr_emptied and self._thr_enabled:
            # the byte fills THR, which drops the line, and leaves it, which is a new edge
            self._thr_emptied = False
            self.update()
        if self.r.MCR & self.regs.MCR.LOOP:
            self._loop(value)
        elif self.sink is not None:
            self.sink(bytes((value,)))
        self._thr_emptied = True

    def _loop(self, value: int) -> None:
        """§8.2, OE: without FIFOs the character before is destroyed, with them the new one is."""
        if len(self._fifo) >= self._depth:
            self._lose(1)
            if self._depth > 1:
                return
            self._fifo.clear()
        self._fifo.append(value)

    # --- receiver -------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Bytes of input that would be taken now; none as well where what a driver cleared went back."""
        return max(0, BACKLOG - len(self._backlog))

    def receive(self, data: bytes) -> int:
        """Input from the host, from any thread. Returns how many bytes were taken; the rest did not
        fit the backlog and is an overrun."""
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

    def _refill(self) -> None:
        """Let the backlog into the FIFO. In loopback SIN is disconnected (§8.7): it waits."""
        room = self._depth - len(self._fifo)
        waits = self._held or self.r.MCR & self.regs.MCR.LOOP
        if self._backlog and room > 0 and not waits:
            self._fifo.extend(self._backlog[:room])
            del self._backlog[:room]

    def _pause_if_held(self) -> None:
        """A guest that listens to the interrupt alone never says that it has seen the FIFO empty."""
        if self._held and self._pause is None and self.r.IER & self.regs.IER.ERBFI:
            self._pause = self.clock.call_at(self.clock.now() + PAUSE, self._paused)

    def _paused(self) -> None:
        """On the clock's thread."""
        with self.lock:
            if self._pause is not None:
                self._let_in()
                self.update()

    def _let_in(self) -> None:
        self._cancel()
        self._held = False
        self._refill()

    def _cancel(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    @on_peek("RBR")
    def _oldest(self) -> int:
        return self._fifo[0] if self._fifo else 0

    @on_read("RBR")
    def _take(self) -> int:
        self._asked = True
        value = self._fifo.popleft() if self._fifo else 0
        self._refill()
        return value

    @on_write("FCR")
    def _control_fifos(self, value: int) -> None:
        FCR = self.regs.FCR
        enabled = bool(value & FCR.ENABLE)
        if enabled != (self._depth > 1) or (enabled and value & FCR.RX_RESET):
            if not self._asked:
                # typed before there was a driver, whose first act this is: as if it were typed after it
                self._backlog[:0] = bytes(self._fifo)
            self._asked = True
            self._fifo.clear()
            self._held = bool(self._backlog)
            self._pause_if_held()
        # §8.4: without ENABLE the other bits are not programmed; the reset bits clear themselves
        self.r.FCR = value & ~(FCR.RX_RESET | FCR.TX_RESET) if enabled else 0
        self._depth = FIFO_DEPTH if enabled else 1
        self._refill()

    # --- line and modem status ------------------------------------------------------------------

    @on_peek("LSR")
    def _line_status(self) -> int:
        LSR = self.regs.LSR
        ready = LSR.DR if self._fifo else 0
        return LSR.THRE | LSR.TEMT | ready | (LSR.OE if self._overrun else 0)

    @on_read("LSR")
    def _read_lsr(self) -> int:
        self._asked = True
        value = self._line_status()
        self._overrun = False
        if self._held and not value & self.regs.LSR.DR:
            self._let_in()
        return value

    def _modem_inputs(self, control: int) -> int:
        """MSR bits 7..4 while MCR is `control`. The port's peer is always there and ready."""
        MCR, MSR = self.regs.MCR, self.regs.MSR
        if not control & MCR.LOOP:
            return MSR.CTS | MSR.DSR | MSR.DCD
        wires = ((MCR.RTS, MSR.CTS), (MCR.DTR, MSR.DSR), (MCR.OUT1, MSR.RI), (MCR.OUT2, MSR.DCD))
        return sum(line for output, line in wires if control & output)

    @on_write("MCR")
    def _control_modem(self, value: int) -> None:
        MSR = self.regs.MSR
        before, after = self._inputs, self._modem_inputs(value)
        toggled = before ^ after
        for line, change in ((MSR.CTS, MSR.DCTS), (MSR.DSR, MSR.DDSR), (MSR.DCD, MSR.DDCD)):
            if toggled & line:
                self._changed |= change
        if before & ~after & MSR.RI:
            self._changed |= MSR.TERI
        self._inputs = after
        self._refill()

    @on_peek("MSR")
    def _modem_status(self) -> int:
        return self._inputs | self._changed

    @on_read("MSR")
    def _read_msr(self) -> int:
        value = self._modem_status()
        self._changed = 0
        return value
