"""One gdb: its packets, answered (GDB manual, E.2 to E.9). All-stop; thread n + 1 is CPU n."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from vmlab.errors import VmlabError
from vmlab.gdb.commands import Commands
from vmlab.gdb.packets import PACKET_SIZE, escape, unescape
from vmlab.gdb.points import GdbPoints
from vmlab.gdb.targets import Register, target
from vmlab.machine.config import ENDED
from vmlab.machine.debug import virtual
from vmlab.machine.machine import Machine

__all__ = ["Session"]

_OK, _BAD, _EMPTY = b"OK", b"E01", b""
_NOT_THERE = b"E14"
_TRAP, _INTERRUPT, _ABORT = 5, 2, 6
#: bytes of memory in one answer, in hex
_MOST = PACKET_SIZE // 2 - 16
_FEATURES = (
    f"PacketSize={PACKET_SIZE:x};qXfer:features:read+;qXfer:memory-map:read+;QStartNoAckMode+;"
    "vContSupported+;swbreak+;hwbreak+"
)


class Session:
    """say: sends a packet beside answers (text, while the guest runs)."""

    def __init__(self, machine: Machine, say: Callable[[bytes], None]) -> None:
        self._machine = machine
        self._say = say
        self._commands = Commands(machine)
        self._points = GdbPoints(machine)
        self._target = target(machine.arch.name, machine.arch.registers)
        self._cpus = machine.config.cpus
        #: whose registers and memory are meant
        self._cpu = 0
        self.acknowledges = True
        #: gdb waits for the machine to stop
        self.running = False
        self.over = False
        self._swbreak = False
        self._asked_to_stop = False
        self._answers: dict[bytes, Callable[[bytes], bytes | None]] = {
            b"?": lambda _: self._stopped(),
            b"g": lambda _: self._read_all(),
            b"G": self._write_all,
            b"p": self._read_one,
            b"P": self._write_one,
            b"m": self._read_memory,
            b"M": self._write_hex,
            b"X": self._write_binary,
            b"c": self._continue,
            b"s": self._step,
            b"H": self._select,
            b"T": lambda rest: _OK if 0 <= self._thread(rest) < self._cpus else _BAD,
            b"D": lambda _: self._detach(),
            b"k": lambda _: self._kill(),
            b"z": lambda rest: self._point(rest, False),
            b"Z": lambda rest: self._point(rest, True),
        }

    # -- life ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """gdb finds a machine that stands still."""
        if self._machine.state == "running":
            self._machine.pause()

    def end(self) -> None:
        """gdb is gone, with a word or without: its breakpoints go with it, and the guest goes on, unless it
        stands where somebody else has stopped it."""
        machine = self._machine
        if machine.state in ENDED:
            return
        met = machine.met
        mine = machine.fault is None and (met is None or met.owner == "gdb")
        self._points.clear()
        if machine.state == "paused" and mine:
            machine.resume()

    def interrupt(self) -> bytes | None:
        """Ctrl-C."""
        if not self.running:
            return None
        self._asked_to_stop = True
        if self._machine.state == "running":
            self._machine.pause()
        return self.look()

    def look(self) -> bytes | None:
        """The machine's state may be another one: what gdb is told, if it waits for that."""
        if not self.running or self._machine.state == "running":
            return None
        self.running = False
        return self._stopped()

    # -- packets ---------------------------------------------------------------------------------------

    def answer(self, packet: bytes) -> bytes | None:
        """The answer; None: there is none now. Never raises for what comes in."""
        try:
            if packet[:1] in (b"q", b"Q", b"v"):
                return self._named(packet)
            handler = self._answers.get(packet[:1])
            return handler(packet[1:]) if handler is not None else _EMPTY
        except VmlabError as error:
            return b"E." + str(error).splitlines()[0].encode("ascii", "replace")
        except (ValueError, IndexError, OverflowError, UnicodeDecodeError):
            return _BAD

    def _named(self, packet: bytes) -> bytes | None:
        name, colon, rest = packet.partition(b":")
        if name == b"qSupported":
            self._swbreak = b"swbreak+" in rest
            return _FEATURES.encode()
        if name == b"QStartNoAckMode":
            self.acknowledges = False
            return _OK
        if name == b"qXfer" and colon:
            return self._transfer(rest)
        if name == b"qC":
            return b"QC%x" % (self._cpu + 1)
        if name == b"qfThreadInfo":
            return b"m" + b",".join(b"%x" % (n + 1) for n in range(self._cpus))
        if name == b"qsThreadInfo":
            return b"l"
        if name.startswith(b"qThreadExtraInfo,"):
            cpu = self._thread(name.partition(b",")[2])
            return f"CPU {cpu}".encode().hex().encode() if 0 <= cpu < self._cpus else _BAD
        if name == b"qAttached":
            return b"1"
        if name == b"qSymbol":
            return _OK
        if name.startswith(b"qRcmd,"):
            text = bytes.fromhex(packet[6:].decode()).decode("utf-8", "replace")
            return self._commands.run(text)[:_MOST].encode("utf-8", "replace").hex().encode()
        return self._verbose(packet)

    def _verbose(self, packet: bytes) -> bytes | None:
        if packet == b"vCont?":
            return b"vCont;c;C;s;S"
        if packet.startswith(b"vCont;"):
            return self._actions(packet[6:])
        if packet.startswith(b"vKill"):
            self._machine.stop()
            self.over = True
            return _OK
        return _EMPTY

    def _transfer(self, rest: bytes) -> bytes:
        what, read, annex, place = rest.split(b":", 3)
        offset, length = (int(part, 16) for part in place.split(b","))
        if read != b"read":
            return _EMPTY
        if what == b"features" and annex == b"target.xml":
            text = self._target.xml
        elif what == b"memory-map" and not annex:
            text = self._memory_map()
        else:
            return b"E00" if what == b"features" else _EMPTY
        data = text.encode()
        part = data[offset : offset + min(length, _MOST)]
        return (b"m" if offset + len(part) < len(data) else b"l") + escape(part)

    def _memory_map(self) -> str:
        """RAM, the devices' windows, and what lies between: gdb would not look at addresses of which it was
        not told, and a kernel's are virtual ones."""
        machine = self._machine
        cuts = {0, 1 << 64}
        for region in machine.memory.regions:
            cuts |= {region.base, region.end}
        for one in machine.mmio.ranges:
            cuts |= {one.start, one.end}
        edges = sorted(cuts)
        rows = [
            f'<memory type="ram" start="{start:#x}" length="{min(end - start, (1 << 64) - 1):#x}"/>'
            for start, end in pairwise(edges)
        ]
        return "\n".join(('<?xml version="1.0"?>', "<memory-map>", *rows, "</memory-map>\n"))

    # -- threads ---------------------------------------------------------------------------------------

    def _thread(self, text: bytes) -> int:
        """The CPU that is named; of "any" and "all" the one that is looked at."""
        number = int(text.partition(b".")[2] or text, 16)
        return self._cpu if number in (0, -1) else number - 1

    def _select(self, rest: bytes) -> bytes:
        cpu = self._thread(rest[1:])
        if not 0 <= cpu < self._cpus:
            return _BAD
        if rest[:1] == b"g":
            self._cpu = cpu
        return _OK

    # -- running ---------------------------------------------------------------------------------------

    def _actions(self, text: bytes) -> bytes | None:
        """vCont: one CPU steps and the others stand still meanwhile, or all go on."""
        steps: list[int] = []
        goes = False
        for action in text.split(b";"):
            kind, _, thread = action.partition(b":")
            if kind[:1] in (b"s", b"S"):
                steps.append(self._thread(thread) if thread else self._cpu)
            elif kind[:1] in (b"c", b"C"):
                goes = True
            else:
                return _BAD
        if steps:
            return self._step_cpu(steps[0])
        return self._go() if goes else _BAD

    def _continue(self, rest: bytes) -> bytes | None:
        self._jump(rest)
        return self._go()

    def _step(self, rest: bytes) -> bytes | None:
        self._jump(rest)
        return self._step_cpu(self._cpu)

    def _jump(self, where: bytes) -> None:
        if where:
            counter = self._machine.arch.program_counter
            self._machine.engine.set_regs(self._cpu, {counter: int(where, 16)})

    def _go(self) -> bytes | None:
        if self._machine.state in ENDED:
            return self._stopped()
        self._points.settle()
        self.running, self._asked_to_stop = True, False
        self._machine.resume()
        return None

    def _step_cpu(self, cpu: int) -> bytes:
        if not 0 <= cpu < self._cpus:
            return _BAD
        if self._machine.state in ENDED:
            return self._stopped()
        self._points.settle()
        self._cpu = cpu
        if self._machine.state == "running":
            self._machine.pause()
        if self._machine.fault is not None:
            return b"E." + self._machine.fault.text.splitlines()[0].encode("ascii", "replace")
        self._machine.step(cpu)
        return self._stopped()

    def _stopped(self) -> bytes:
        """Why the machine stands (GDB manual, E.3)."""
        machine = self._machine
        if machine.state in ENDED:
            self.over = True
            code = machine.exit.code & 0xFF if machine.exit is not None else 0
            return b"W%02x" % code if machine.state == "stopped" else b"X%02x" % _ABORT
        if machine.state == "running":
            machine.pause()
        elif machine.state == "paused":
            machine.pause()  # a vCPU may be on its way
        met, fault = machine.met, machine.fault
        if met is not None:
            self._cpu = met.cpu
        elif fault is not None:
            self._tell(f"vmlab: {fault.text}\n")
        signal = _INTERRUPT if self._asked_to_stop and met is None else _TRAP
        self._asked_to_stop = False
        reason = ""
        if met is not None and met.owner == "gdb":
            reason = self._points.reason(met, self._swbreak)
        elif met is not None:
            self._tell(f"vmlab: {met.text}\n")
        return f"T{signal:02x}thread:{self._cpu + 1:x};{reason}".encode()

    def _tell(self, text: str) -> None:
        self._say(b"O" + text.encode()[:_MOST].hex().encode())

    def _detach(self) -> bytes:
        self.over = True
        return _OK

    def _kill(self) -> None:
        self._machine.stop()
        self.over = True

    # -- registers -------------------------------------------------------------------------------------

    def _registers(self) -> dict[str, int]:
        return self._machine.engine.get_regs(self._cpu)

    def _read_all(self) -> bytes:
        values = self._registers()
        return "".join(_hex(one, values) for one in self._target.registers).encode()

    def _read_one(self, rest: bytes) -> bytes:
        number = int(rest, 16)
        if not 0 <= number < len(self._target.registers):
            return _BAD
        return _hex(self._target.registers[number], self._registers()).encode()

    def _write_all(self, rest: bytes) -> bytes:
        before, wanted, at = self._registers(), {}, 0
        for one in self._target.registers:
            text = rest[at : at + one.bits // 4]
            at += one.bits // 4
            if one.source and len(text) == one.bits // 4 and b"x" not in text:
                value = int.from_bytes(bytes.fromhex(text.decode()), "little")
                if value != before[one.source] & (1 << one.bits) - 1:
                    wanted[one.source] = value
        self._machine.engine.set_regs(self._cpu, wanted)
        return _OK

    def _write_one(self, rest: bytes) -> bytes:
        number, _, text = rest.partition(b"=")
        one = self._target.registers[int(number, 16)]
        if not one.source:
            return _BAD
        value = int.from_bytes(bytes.fromhex(text.decode()), "little")
        self._machine.engine.set_regs(self._cpu, {one.source: value & (1 << one.bits) - 1})
        return _OK

    # -- memory ----------------------------------------------------------------------------------------

    def _read_memory(self, rest: bytes) -> bytes:
        address, size = (int(part, 16) for part in rest.split(b","))
        if size < 0 or not 0 <= address < 1 << 64:
            return _BAD
        size = min(size, _MOST)
        data = virtual.read(self._machine, address, size, self._cpu)
        data = self._points.unpatched(address, data)
        if not data and size:
            data = self._points.peek(address, size, self._cpu)
        return data.hex().encode() if data or not size else _NOT_THERE

    def _write_hex(self, rest: bytes) -> bytes:
        head, _, text = rest.partition(b":")
        return self._write(head, bytes.fromhex(text.decode()))

    def _write_binary(self, rest: bytes) -> bytes:
        head, _, data = rest.partition(b":")
        return self._write(head, unescape(data))

    def _write(self, head: bytes, data: bytes) -> bytes:
        address, size = (int(part, 16) for part in head.split(b","))
        if size != len(data) or not 0 <= address < 1 << 64:
            return _BAD
        done = virtual.write(self._machine, address, data, self._cpu)
        return _OK if done else _NOT_THERE

    # -- points ----------------------------------------------------------------------------------------

    def _point(self, rest: bytes, add: bool) -> bytes:
        kind, address, size, *_ = rest.partition(b";")[0].split(b",")
        number = int(kind)
        if not 0 <= number <= 4:
            return _EMPTY
        place = number, int(address, 16), int(size, 16)
        if add:
            self._points.add(*place, self._cpu)
        else:
            self._points.remove(*place)
        return _OK


def _hex(one: Register, values: dict[str, int]) -> str:
    """The guest's order of bytes; x where the value is not known."""
    size = one.bits // 8
    if not one.source:
        return "xx" * size
    return (values[one.source] & (1 << one.bits) - 1).to_bytes(size, "little").hex()
