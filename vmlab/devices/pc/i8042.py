"""The PC's keyboard controller, an 8042, with a keyboard or with nothing plugged into it.

Source: IBM Personal Computer AT Technical Reference (September 1985), section 1, "Keyboard
Controller"; cited by heading. The commands for a second port are the PS/2's; nothing is plugged in there.
Without a keyboard it is here for its reset line, and so that a guest which probes hears at once that there
is none.

Offsets follow the ports: DATA is port 0x60, STATUS and COMMAND are port 0x64.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from vmlab.core.clock import Timer
from vmlab.core.device import Device, command, on_peek, on_read, on_write
from vmlab.devices.pc.keyboard import ACK, Keyboard
from vmlab.devices.pc.scan_codes import BREAK, KEYS, RELEASED, TRANSLATION
from vmlab.errors import ConfigError
from vmlab.hints import unknown
from vmlab.regs import Registers, bit, ro, rw, wo

__all__ = ["I8042"]

SELF_TEST_PASSED = 0x55
INTERFACE_TEST_PASSED = 0x00
#: what the controller puts in the output buffer when no keyboard answers ("Status Register", bit 6)
RESEND = 0xFE

#: output port ("Output Port"): bit 0 low resets the CPU, bit 1 is the A20 gate
OUTPUT_RESET = 0x01
OUTPUT_A20 = 0x02

#: command byte ("Writing Keyboard Controller Command Byte")
INTERRUPT = 0x01
DISABLE_KEYBOARD = 0x10
DISABLE_AUX = 0x20
TRANSLATE = 0x40
#: as firmware leaves it where there is a keyboard
AFTER_FIRMWARE = INTERRUPT | DISABLE_AUX | TRANSLATE

#: nanoseconds that a keyboard takes for a scan code, eleven bits at some 12 kHz. A guest that reads DATA
#: twice for one interrupt relies on it: the second read has the same byte.
SCAN_CODE = 1_000_000
#: the same from one key to the next, down or up: some 100 characters a second. Simple guests note the last
#: key alone and lose it when it is let go before they have looked.
STROKE = 5_000_000
#: keys in one call of `keys`
MOST_KEYS = 4096

#: commands whose argument is the next byte written to DATA
WRITE_COMMAND_BYTE = 0x60
WRITE_OUTPUT_PORT = 0xD1
WRITE_OUTPUT_BUFFER = 0xD2
WRITE_AUX_OUTPUT_BUFFER = 0xD3
WRITE_AUX = 0xD4
_TAKES_ARGUMENT = frozenset(
    {
        WRITE_COMMAND_BYTE,
        WRITE_OUTPUT_PORT,
        WRITE_OUTPUT_BUFFER,
        WRITE_AUX_OUTPUT_BUFFER,
        WRITE_AUX,
    }
)
#: commands 0xf0..0xff pulse the output lines whose bit is 0
PULSE = 0xF0


class I8042(Device):
    """Calls `on_reset()` when the guest pulls the CPU's reset line. keyboard: whether one is plugged in; its
    line is up while its byte waits."""

    type = "i8042"
    size = 5
    wants_irq = False
    hid = "PNP0303"

    class regs(Registers):
        DATA = rw(0, "output buffer when read, input buffer when written", 8)
        STATUS = ro(
            4,
            "status",
            8,
            reset=0x10,
            OBF=bit(0, "output buffer full: DATA has a byte for the CPU"),
            IBF=bit(1, "input buffer full: never, a byte is taken at once"),
            SYS=bit(2, "the self-test has passed"),
            CD=bit(3, "the last write was a command"),
            INH=bit(4, "the keyboard is not locked: always"),
            AUX_OBF=bit(5, "the byte in DATA is the second port's"),
            TIMEOUT=bit(6, "nothing answered"),
            PARITY=bit(7, "parity error: never"),
        )
        COMMAND = wo(4, "command", 8)

    def __init__(self, on_reset: Callable[[], None] = lambda: None, keyboard: bool = False) -> None:
        self._on_reset = on_reset
        self._timer: Timer | None = None
        self.keyboard: Keyboard | None = Keyboard() if keyboard else None
        self._power_on()

    def _power_on(self) -> None:
        self._output = 0
        self._flags = int(self.regs.STATUS.INH)
        self._argument_of = 0
        self._command_byte = DISABLE_KEYBOARD | DISABLE_AUX
        self._output_port = OUTPUT_RESET | OUTPUT_A20
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        #: bit 7 of the next code of set 1: the last byte was set 2's "let go"
        self._released = 0
        #: whether the byte in the output buffer is the keyboard's; what an answer has pushed out of there
        self._typed = False
        self._pushed_out: deque[int] = deque()
        #: when the guest has read the keyboard's last scan code
        self._read_at = -STROKE
        if self.keyboard is not None:
            self.keyboard = Keyboard()
            self._command_byte = AFTER_FIRMWARE
            # what firmware has read last: guests that only look at DATA take 0 for an end
            self._output = ACK

    def reset(self) -> None:
        with self.lock:
            super().reset()
            self._power_on()

    def inspect(self) -> dict[str, object]:
        if self.keyboard is None:
            return {}
        return {"leds": self.keyboard.leds, "scan_code_set": self.keyboard.set}

    # --- from the host --------------------------------------------------------------------------

    @command
    def keys(self, keys: list[tuple[str, bool]], wait: bool = False) -> int:
        """Strike keys: (KeyboardEvent.code, whether it goes down) each. Returns how many the keyboard took;
        one without room in its buffer is lost, or with `wait` it and the rest are left for another call."""
        if self.keyboard is None:
            raise ConfigError("no keyboard is plugged in: this machine has no screen")
        if len(keys) > MOST_KEYS:
            raise ConfigError(f"{len(keys)} keys; one call takes {MOST_KEYS:,}")
        for name, _ in keys:
            if name not in KEYS:
                raise ConfigError(f"a PC's keyboard has {unknown('key', str(name), KEYS)}")
        taken = 0
        with self.lock:
            for name, down in keys:
                had_room = self.keyboard.strike(name, bool(down), wait)
                if wait and not had_room:
                    break
                taken += had_room
                self._refill()
        return taken

    # --- from the keyboard ----------------------------------------------------------------------

    def _refill(self) -> None:
        """The keyboard's next byte into the output buffer, if that is free and the byte has come."""
        if self._flags & self.regs.STATUS.OBF or self._command_byte & DISABLE_KEYBOARD:
            return
        if self._pushed_out:
            self._put(self._pushed_out.popleft())
            return
        while (value := self._next()) is not None:
            if self._command_byte & TRANSLATE:
                if value == BREAK:
                    self._released = RELEASED
                    continue
                value, self._released = TRANSLATION[value] | self._released, 0
            self._put(value)
            return

    def _next(self) -> int | None:
        keyboard = self.keyboard
        if keyboard is None:
            return None
        if keyboard.codes and not keyboard.answers:
            due = self._read_at + (STROKE if keyboard.begins else SCAN_CODE)
            if due > self.clock.now():
                self._wait(due)
                return None
        return keyboard.take()

    def _wait(self, due: int) -> None:
        if self._timer is None:
            self._timer = self.clock.call_at(due, self._sent)

    def _sent(self) -> None:
        """On the clock's thread."""
        with self.lock:
            self._timer = None
            self._refill()
            self.update()

    def _put(self, value: int) -> None:
        self._answer(value)
        self._typed = True

    def irq_level(self) -> bool:
        waits = self._flags & self.regs.STATUS.OBF and not self._flags & self.regs.STATUS.AUX_OBF
        return self.keyboard is not None and bool(waits and self._command_byte & INTERRUPT)

    # --- towards the CPU ------------------------------------------------------------------------

    @on_peek("DATA")
    def _peek_data(self) -> int:
        return self._output

    @on_read("DATA")
    def _read_data(self) -> int:
        STATUS = self.regs.STATUS
        value = self._output
        if self._typed and self._flags & STATUS.OBF:
            self._read_at = self.clock.now()
        self._flags &= ~(STATUS.OBF | STATUS.AUX_OBF | STATUS.TIMEOUT)
        self._typed = False
        # an edge for each byte: the next one may be there at once
        self.irq.set(False)
        self._refill()
        return value

    @on_peek("STATUS")
    def _status(self) -> int:
        return self._flags

    def _answer(self, value: int, flags: int = 0) -> None:
        STATUS = self.regs.STATUS
        if self._typed and self._flags & STATUS.OBF:
            self._pushed_out.append(self._output)
        self._typed = False
        self._output = value
        self._flags &= ~(STATUS.AUX_OBF | STATUS.TIMEOUT)
        self._flags |= STATUS.OBF | flags

    # --- from the CPU ---------------------------------------------------------------------------

    @on_write("COMMAND")
    def _write_command(self, command: int) -> None:
        self._flags |= self.regs.STATUS.CD
        self._argument_of = command if command in _TAKES_ARGUMENT else 0
        if self._argument_of:
            return
        if command >= PULSE:
            if not command & OUTPUT_RESET:
                self._on_reset()
        elif command in _ACTIONS:
            _ACTIONS[command](self)
        else:
            self.mistake(f"command {command:#04x} is not modelled")
        self._refill()

    @on_write("DATA")
    def _write_data(self, value: int) -> None:
        STATUS = self.regs.STATUS
        self._flags &= ~STATUS.CD
        command, self._argument_of = self._argument_of, 0
        if command == WRITE_COMMAND_BYTE:
            self._command_byte = value
        elif command == WRITE_OUTPUT_PORT:
            self._set_output_port(value)
            if not value & OUTPUT_RESET:
                self._on_reset()
        elif command == WRITE_OUTPUT_BUFFER:
            self._answer(value)
        elif command == WRITE_AUX_OUTPUT_BUFFER:
            self._answer(value, STATUS.AUX_OBF)
        elif command != WRITE_AUX and self.keyboard is not None:
            self._command_byte &= ~DISABLE_KEYBOARD
            self.keyboard.write(value)
        else:
            # for a keyboard, or (WRITE_AUX) a mouse: nobody is there
            aux = STATUS.AUX_OBF if command == WRITE_AUX else 0
            self._answer(RESEND, STATUS.TIMEOUT | aux)
        self._refill()

    def _self_test(self) -> None:
        self._flags |= self.regs.STATUS.SYS
        self._answer(SELF_TEST_PASSED)

    def _set_output_port(self, value: int) -> None:
        self._output_port = value
        if not value & OUTPUT_A20:
            self.mistake("A20 is to be closed; here it stays open")

    def _set_command_byte(self, bits: int) -> None:
        self._command_byte |= bits

    def _clear_command_byte(self, bits: int) -> None:
        self._command_byte &= ~bits


#: commands without an argument
_ACTIONS: dict[int, Callable[[I8042], None]] = {
    0x20: lambda chip: chip._answer(chip._command_byte),
    0xA7: lambda chip: chip._set_command_byte(DISABLE_AUX),
    0xA8: lambda chip: chip._clear_command_byte(DISABLE_AUX),
    0xA9: lambda chip: chip._answer(INTERFACE_TEST_PASSED),
    0xAA: I8042._self_test,
    0xAB: lambda chip: chip._answer(INTERFACE_TEST_PASSED),
    0xAD: lambda chip: chip._set_command_byte(DISABLE_KEYBOARD),
    0xAE: lambda chip: chip._clear_command_byte(DISABLE_KEYBOARD),
    0xC0: lambda chip: chip._answer(0x80),  # input port: the keyboard is not locked
    0xD0: lambda chip: chip._answer(chip._output_port),
    0xDD: lambda chip: chip._set_output_port(chip._output_port & ~OUTPUT_A20),
    0xDF: lambda chip: chip._set_output_port(chip._output_port | OUTPUT_A20),
}
