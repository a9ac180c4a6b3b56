"""What can be seen of a machine: snapshots with names, made from the shared counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

from msgspec import Struct

from vmlab.arch.api import Arch
from vmlab.core.away import FarRegisters, place_of
from vmlab.core.counters import DeviceCounts
from vmlab.core.units import show_span
from vmlab.errors import ConfigError, StateError, UnknownAttribute, UnknownName
from vmlab.hints import meant, unknown
from vmlab.machine.config import DeviceEntry, Range, RegisterEntry
from vmlab.monitor import wire
from vmlab.virtio.steps import no_checklist
from vmlab.vm.connection import Connection
from vmlab.vm.console import Console

if TYPE_CHECKING:
    from vmlab.vm.backtrace import Backtrace
    from vmlab.vm.checklist import Checklist
    from vmlab.vm.code_names import CodeNames
    from vmlab.vm.cpu_state import CpuPage
    from vmlab.vm.disassembly import Listing
    from vmlab.vm.queue import Queue

__all__ = [
    "AddressMap",
    "Cpu",
    "DeviceView",
    "Devices",
    "IrqRow",
    "IrqTable",
    "Traps",
    "address_map",
    "gone",
    "hexadecimal",
    "id_of",
]


def hexadecimal(value: int) -> str:
    """0xd000_0000: groups of four digits."""
    return f"{value:#_x}" if value > 0xFFFF else f"{value:#x}"


class DeviceView:
    """A device of the machine. Numbers are read when asked for."""

    _connection: Connection
    _entry: DeviceEntry
    id: str
    type: str
    space: str
    base: int
    size: int
    irq: int | None
    fixed: bool

    def __init__(self, connection: Connection, entry: DeviceEntry) -> None:
        vars(self).update(
            _connection=connection,
            _entry=entry,
            id=entry.id,
            type=entry.type,
            space=entry.space,
            base=entry.base,
            size=entry.size,
            irq=entry.irq,
            fixed=entry.fixed,
        )

    @property
    def counts(self) -> DeviceCounts:
        return self._connection.observation.counts(self._entry)

    @property
    def traps(self) -> int:
        """Accesses that trapped, reads and writes together."""
        return self.counts.traps

    @property
    def state(self) -> str:
        """How far the guest is: "added" -> "seen" -> "driver_ok" | "failed" | "removing"; "gone" when it
        has been unplugged, or another has its place."""
        if not self._connection.observation.is_plugged(self._entry):
            return "gone"
        return self.counts.progress

    @property
    def console(self) -> Console:
        """What the device's first console says and hears; `vm.consoles` has all of them."""
        found = self._connection.consoles.get(self.id)
        if found is None:
            raise ConfigError(f"{self.id!r} ({self.type}) has no console")
        return found

    @property
    def registers(self) -> list[RegisterEntry]:
        """The device's table."""
        return list(self._entry.registers)

    @property
    def outdated(self) -> bool:
        """Whether your code has changed since the device was plugged in: its class, or a function or a
        global that it uses. `vm.replace(id)` brings that into the machine."""
        return self._connection.copies.has_changed(self.id)

    @property
    def r(self) -> FarRegisters:
        """The register values, as `self.r` in the device's code: to assign one reaches the device, and
        its interrupt line follows. No handler is called and nothing is counted."""
        return self._connection.copies.registers(self.id)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A command of the device's class, as a function."""
        entry = vars(self).get("_entry")
        for one in entry.commands if entry is not None else ():
            if one.name == name:

                def call(*arguments: Any, **options: Any) -> Any:
                    return self._connection.tell(self.id, name, *arguments, **options)

                call.__name__ = call.__qualname__ = name
                call.__doc__ = f"{name}{one.signature}\n\n{one.doc}"
                return call
        text = f"a view of {vars(self).get('id')!r} has no attribute or command {name!r}"
        raise UnknownAttribute(text + (self._instead(name) if entry and name[0] != "_" else ""))

    def _instead(self, name: str) -> str:
        """What was meant by a name that a view does not have."""
        maker = self._connection.copies.maker(self.id)
        if isinstance(getattr(maker, name, None), FunctionType):
            return (
                f"; {name} is a method of {maker.__name__}: mark it with @command to call it there"
            )
        near = meant(name, self.__dir__())
        return f"; did you mean {near!r}?" if near else ""

    def __setattr__(self, name: str, value: Any) -> None:
        if any(one.name == name for one in self._entry.registers):
            hint = f"the register is .r.{name}"
        elif name in vars(self):
            hint = "where a device is, hot_add(device, at=..., irq=...) says"
        else:
            hint = (
                "registers do (.r.NAME = ...), and so do methods marked with @command;"
                f" vm.replace({self.id!r}, device) puts a corrected one in its place"
            )
        raise StateError(
            f"a view of {self.id!r} shows the device: {name} = {value!r:.40} would not reach it; {hint}"
        )

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(one.name for one in self._entry.commands)]

    def peek(self, name: str | None = None) -> Any:
        """Register values and the device's public attributes by name, or one of them; no side
        effect in the device."""
        registers, attributes = self._connection.peek(self.id)
        values = {**attributes, **registers}
        if name is None or name in values:
            return values if name is None else values[name]
        raise UnknownName(f"{self.id!r} has {unknown('register or attribute', name, values)}")

    def checklist(self, queue: int | None = None) -> Checklist:
        """How far the driver of this virtio device is: each step of virtio 1.2 §3.1.1 (of a legacy device, of
        §3.1.2) and of the last request, done, missing or wrong, with the clause, and where in the guest.

        Args:
            queue: whose last request is shown; None: of the queue that had the last one.

        Returns:
            A list of steps (`.step .clause .done .note .state .where .when`) that prints as a table. Of a
            machine that has ended, as it was at the end.

        Raises:
            ConfigError: no virtio device, or no such queue. DeviceNotFound: it has been unplugged.
        """
        from vmlab.vm.checklist import (
            Checklist,  # only here, and below: it is not looked at in most runs
        )

        self._has("driver's checklist")
        if queue is not None and type(queue) is not int:
            raise ConfigError(f"queue={queue!r:.40}: the number of one of the device's queues")
        found = self._connection.checklist(self._entry, queue)
        return Checklist(self.id, self.type, found)

    def queue(self, index: int = 0) -> Queue:
        """What lies in the memory of a virtqueue now (virtio 1.2 §2.7): the descriptor table, both rings, and
        the chains of requests that wait, are at the device, or were done last. It prints, and shows itself in
        a notebook.

        Args:
            index: the number of one of the device's queues.

        Raises:
            ConfigError: no virtio device, or no such queue. DeviceNotFound: it has been unplugged.
            StateError: the machine is not there.
        """
        from vmlab.vm.queue import Queue

        self._has("virtqueue")
        if type(index) is not int:
            raise ConfigError(f"queue {index!r:.40}: the number of one of the device's queues")
        reply: wire.Looked = self._connection.call(wire.Queue(self.id, index))
        return Queue(self.id, self.type, reply.queue)

    def _has(self, what: str) -> None:
        """ConfigError for a device that is none of virtio's."""
        if not self._entry.virtio:
            known = self._connection.observation.directory()
            others = [one.id for one in known if one.virtio]
            raise ConfigError(no_checklist(self.id, self.type, others, what))

    def __repr__(self) -> str:
        place = f"{hexadecimal(self.base)}-{hexadecimal(self.base + self.size - 1)}"
        line = f" irq {self.irq}" if self.irq is not None else ""
        return (
            f"<{self.id}: {self.type} {self.space} {place}{line} {self.state} traps={self.traps}>"
        )


def id_of(given: object, call: str) -> str:
    """The id of a device of the machine, which is said by itself or by its view."""
    if isinstance(given, str):
        return given
    if isinstance(given, DeviceView):
        return given.id
    place = place_of(given)
    example = repr(place.id) if place is not None else "id"
    where = "" if place is not None else ", as vm.devices shows it"
    more = "" if call == "hot_remove" else ", ..."
    raise ConfigError(
        f"{given!r:.80} is no id of a device; give its id{where}: {call}({example}{more})"
    )


def gone(connection: Connection, id: str, type: str) -> DeviceView:
    """Of a device that has left before it could be looked at."""
    return DeviceView(connection, DeviceEntry(id, type, "mmio", 0, 0x1000, None, False, -1, []))


class Devices(dict[str, DeviceView]):
    """id -> DeviceView, by address."""

    def __missing__(self, id: str) -> DeviceView:
        raise UnknownName(unknown("device", id, self))

    def __setitem__(self, id: str, device: object) -> None:
        what = f"vm.replace({id!r}, device)" if id in self else f"vm.hot_add(device, {id!r})"
        raise ConfigError(f"this is a list of the devices that are there; {what} plugs one in")

    def __delitem__(self, id: str) -> None:
        self[id]
        raise ConfigError(
            f"this is a list of the devices that are there; vm.hot_remove({id!r}) unplugs it"
        )

    def _refused(self, *_: Any, **__: Any) -> NoReturn:
        raise ConfigError(
            "this is a list of the devices that are there; vm.hot_add and vm.hot_remove change it"
        )

    pop = popitem = clear = update = setdefault = __ior__ = _refused

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.values()))


class IrqRow(Struct, frozen=True):
    """An interrupt line. delivered: what the interrupt controllers took; None: the engine cannot tell."""

    line: int
    device: str
    raised: int
    delivered: int | None
    level: bool


class IrqTable(list[IrqRow]):
    """The interrupt lines that a device holds, as a list that prints as a table; `irqs["com1"]` is the
    row of a device, `irqs.line(4)` that of a line. `irqs[0]` is the first row: a position, not a line."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int) and not -len(self) <= key < len(self):
            raise IndexError(
                f"no row at position {key}: there are {len(self)}; irqs.line({key}) is the row of a line"
            )
        if not isinstance(key, str):
            return super().__getitem__(key)
        for row in self:
            if key in row.device.split(", "):
                return row
        raise UnknownName(f"{unknown('interrupt line of', key, self._ipython_key_completions_())}")

    def line(self, number: int) -> IrqRow:
        """The row of the line `number`; UnknownName when no device holds it."""
        for row in self:
            if row.line == number:
                return row
        raise UnknownName(unknown("interrupt line", number, (str(row.line) for row in self)))

    def _ipython_key_completions_(self) -> list[str]:
        return [id for row in self for id in row.device.split(", ")]

    def __repr__(self) -> str:
        lines = [f"{'line':>4}  {'device':<16}{'raised':>10}{'delivered':>11}  level"]
        for row in self:
            delivered = "-" if row.delivered is None else f"{row.delivered:,}"
            level = "high" if row.level else "low"
            lines.append(
                f"{row.line:>4}  {row.device:<16}{row.raised:>10,}{delivered:>11}  {level}"
            )
        return "\n".join(lines)


class AddressMap(list[Range]):
    """Every range by address, as a list that prints as a map: high addresses above."""

    def __repr__(self) -> str:
        return "\n".join(
            f"{hexadecimal(one.start):>14} - {hexadecimal(one.end):<14}{show_span(one.size):>10}"
            f"  {one.name or one.kind}"
            for one in reversed(self)
        )


class Traps(Mapping[str, DeviceCounts]):
    """A snapshot: device id -> counts (reads, writes, bytes, kicks, mistakes, registers).

    unmapped: reads and writes of accesses that hit nothing."""

    def __init__(self, devices: dict[str, DeviceCounts], unmapped: tuple[int, int]) -> None:
        self._devices = devices
        self.unmapped = unmapped

    def __getitem__(self, id: str) -> DeviceCounts:
        try:
            return self._devices[id]
        except KeyError:
            raise UnknownName(unknown("device", id, self._devices)) from None

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._devices)

    def __iter__(self) -> Iterator[str]:
        return iter(self._devices)

    def __len__(self) -> int:
        return len(self._devices)

    @property
    def total(self) -> int:
        return sum(one.traps for one in self._devices.values()) + sum(self.unmapped)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain numbers, as `--stats` and pandas take them."""
        return {
            id: {
                "reads": one.reads,
                "writes": one.writes,
                "bytes": one.bytes,
                "kicks": one.kicks,
                "mistakes": one.mistakes,
                "registers": {
                    name: {"reads": reg.reads, "writes": reg.writes, "bytes": reg.bytes}
                    for name, reg in one.registers.items()
                },
            }
            for id, one in self._devices.items()
        }

    def __repr__(self) -> str:
        lines = [f"{'device':<12}{'reads':>10}{'writes':>10}{'bytes':>12}{'kicks':>8}"]
        for id, one in self._devices.items():
            lines.append(f"{id:<12}{one.reads:>10}{one.writes:>10}{one.bytes:>12}{one.kicks:>8}")
        reads, writes = self.unmapped
        lines.append(f"{'(unmapped)':<12}{reads:>10}{writes:>10}{'':>12}{'':>8}")
        return "\n".join(lines)


class Cpu:
    """A vCPU of a paused machine: `regs` is a dict, name -> value; assign with `set`."""

    def __init__(
        self,
        connection: Connection,
        index: int,
        names: CodeNames | None = None,
        shown: dict[int, dict[str, int]] | None = None,
    ) -> None:
        """shown: what each CPU's registers were when it was shown last."""
        self._connection, self._names = connection, names
        self._shown = {} if shown is None else shown
        self.index = index

    @property
    def regs(self) -> dict[str, int]:
        values: dict[str, int] = self._connection.call(wire.GetRegs(self.index)).values
        return values

    def read(self, address: int, size: int) -> bytes:
        """Memory at a virtual address, as the CPU's code sees it; fewer bytes where there is no RAM."""
        data: bytes = self._connection.call(wire.ReadVirtual(address, size, self.index)).data
        return data

    def backtrace(self, depth: int = 64) -> Backtrace:
        """The present function and those that called it, by frame pointers: code that was compiled without
        them (-fomit-frame-pointer) hides callers."""
        from vmlab.vm.backtrace import backtrace

        regs = self.regs
        return backtrace(self._connection.config.arch, regs, self.read, depth, self._names)

    def disassemble(self, address: int | str | None = None, count: int = 12) -> Listing:
        """The guest's code as instructions: rows of `.address .bytes .text .function .source .here`, as many
        as are mapped. It prints.

        Args:
            address: a virtual address, or a symbol; None: the program counter.
            count: instructions, 1 to 1000.

        Raises:
            ConfigError: no such symbol, or no such count. StateError: the machine runs.
        """
        from vmlab.vm.disassembly import MOST, disassemble

        if type(count) is not int or not 0 < count <= MOST:
            raise ConfigError(f"count={count!r:.40}: a whole number from 1 to {MOST}")
        regs = self.regs
        platform = self._connection.config.platform
        here = regs[platform.program_counter]
        at = here if address is None else self._address(address)
        return disassemble(platform.code_mode(regs), at, count, here, self.read, self._names)

    def _address(self, place: int | str) -> int:
        if isinstance(place, str):
            symbols = self._names.symbols if self._names is not None else None
            if symbols is None:
                raise ConfigError(f"{place!r}: no symbols are known; give an address")
            return symbols.address_of(place)
        if type(place) is not int or not 0 <= place < 1 << 64:
            raise ConfigError(f"address={place!r:.40}: a whole number, or a symbol")
        return place

    def show(self) -> CpuPage:
        """What the CPU is doing: the code around its program counter, all registers with those marked that
        are not what they were when it was shown last, flags by name, and who called. It prints; parts are
        `.code`, `.regs`, `.changed`, `.flags`, `.backtrace`. StateError when the machine runs."""
        from vmlab.vm.cpu_state import CpuPage
        from vmlab.vm.disassembly import around

        regs, platform = self.regs, self._connection.config.platform
        here = regs[platform.program_counter]
        function = self._names.function(here) if self._names is not None else ""
        source = self._names.source(here) if self._names is not None else ""
        place = " ".join(filter(None, (function, source and f"({source})")))
        title = f"cpu {self.index} at {here:#x}" + (f", {place}" if place else "")
        code = around(platform.code_mode(regs), here, 4, 8, self.read, self._names)
        before = self._shown.get(self.index)
        self._shown[self.index] = regs
        return CpuPage(title, platform, regs, before, code, self.backtrace())

    def set(self, **values: int) -> None:
        """Write general registers, the program counter or the flags."""
        self._connection.call(wire.SetRegs(self.index, values))

    def __repr__(self) -> str:
        if self._connection.state == "running":
            return f"<cpu {self.index}: running; pause to see its registers>"
        regs = self.regs
        return "\n".join(
            "  ".join(f"{name:>6} {value:016x}" for name, value in row)
            for row in _rows(list(regs.items()), 4)
        )


def _rows(items: list[tuple[str, int]], size: int) -> list[list[tuple[str, int]]]:
    return [items[at : at + size] for at in range(0, len(items), size)]


def _ram(start: int, end: int, shown: list[tuple[int, int, str]]) -> Iterator[Range]:
    """RAM from `start` up to `end`, and what of it is put on screens: (address, size, id) each."""
    for address, size, id in sorted(shown):
        if start < address and address + size < end:
            yield Range(start, address - 1, "ram", "ram")
            yield Range(address, address + size - 1, "ram", id)
            start = address + size
    yield Range(start, end - 1, "ram", "ram")


def address_map(arch: Arch, memory: int, devices: list[DeviceEntry]) -> AddressMap:
    """Every range of the physical space, RAM and holes included, by address. memory: bytes of RAM."""
    shown = [(*device.shows, device.id) for device in devices if device.shows is not None]
    used = [
        part for base, size in arch.ram_layout(memory) for part in _ram(base, base + size, shown)
    ]
    used += [
        Range(device.base, device.base + device.size - 1, "mmio", device.id)
        for device in devices
        if device.space == "mmio"
    ]
    # what engines answer themselves, in the host's kernel or in the software engine: no traps there
    used += [
        Range(chip.start, chip.end, "interrupt-controller", chip.name) for chip in arch.reserved
    ]
    used.sort(key=lambda range: range.start)
    found = AddressMap()
    at = 0
    for range in used:
        if range.start > at:
            found.append(Range(at, range.start - 1, "hole", ""))
        found.append(range)
        at = range.end + 1
    end = 1 << arch.address_bits
    if at < end:
        found.append(Range(at, end - 1, "hole", ""))
    return found
