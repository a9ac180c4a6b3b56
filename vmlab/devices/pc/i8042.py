"""The PC's keyboard controller, an 8042, with nothing plugged into it.

Source: IBM Personal Computer AT Technical Reference (September 1985), section 1, "Keyboard
Controller"; cited by heading. The commands for a second port are the PS/2's. It is here for its reset
line, and so that a guest which probes for a keyboard hears at once that there is none.

Offsets follow the ports: DATA is port 0x60, STATUS and COMMAND are port 0x64.
"""

from __future__ import annotations

from collections.abc import Callable

from vmlab.core.device import Device, on_peek, on_read, on_write
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
DISABLE_KEYBOARD = 0x10
DISABLE_AUX = 0x20

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
    """Calls `on_reset()` when the guest pulls the CPU's reset line."""

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

    def __init__(self, on_reset: Callable[[], None] = lambda: None) -> None:
        self._on_reset = on_reset
        self._power_on()

    def _power_on(self) -> None:
        self._output = 0
        self._flags = int(self.regs.STATUS.INH)
        self._argument_of = 0
        self._command_byte = DISABLE_KEYBOARD | DISABLE_AUX
        self._output_port = OUTPUT_RESET | OUTPUT_A20

    def reset(self) -> None:
        with self.lock:
            super().reset()
            self._power_on()

    # --- towards the CPU ------------------------------------------------------------------------

    @on_peek("DATA")
    def _peek_data(self) -> int:
        return self._output

    @on_read("DATA")
    def _read_data(self) -> int:
        STATUS = self.regs.STATUS
        self._flags &= ~(STATUS.OBF | STATUS.AUX_OBF | STATUS.TIMEOUT)
        return self._output

    @on_peek("STATUS")
    def _status(self) -> int:
        return self._flags

    def _answer(self, value: int, flags: int = 0) -> None:
        STATUS = self.regs.STATUS
        self._output = value
        self._flags &= ~(STATUS.AUX_OBF | STATUS.TIMEOUT)
        self._flags |= STATUS.OBF | flags

    # --- from the CPU ---------------------------------------------------------------------------

    @on_write("COMMAND")
    def _command(self, command: int) -> None:
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

    @on_write("DATA")
    def _write_data(self, value: int) -> None:
        STATUS = self.regs.STATUS
        self._flags &= ~STATUS.CD
        command, self._argument_of = self._argument_of, 0
        if command == WRITE_COMMAND_BYTE:
            self._command_byte = value
        elif command == WRITE_OUTPUT_PORT:
            self._output_port = value
            if not value & OUTPUT_RESET:
                self._on_reset()
        elif command == WRITE_OUTPUT_BUFFER:
            self._answer(value)
        elif command == WRITE_AUX_OUTPUT_BUFFER:
            self._answer(value, STATUS.AUX_OBF)
        else:
            # for a keyboard, or (WRITE_AUX) a mouse: nobody is there
            aux = STATUS.AUX_OBF if command == WRITE_AUX else 0
            self._answer(RESEND, STATUS.TIMEOUT | aux)

    def _self_test(self) -> None:
        self._flags |= self.regs.STATUS.SYS
        self._answer(SELF_TEST_PASSED)

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
}
