"""What happens when the guest touches something that is not RAM: MMIO, ports, CPUID.

Unicorn's own MMIO callbacks split 8-byte accesses, break unaligned writes into bytes and widen
unaligned reads into neighbouring registers. A memory hook over the same addresses runs once before
them with the true address, size and value: the device is accessed there, once, and the MMIO callback
only hands out the bytes. An access across a page end is two accesses, as on KVM.

Unicorn skips memory hooks while it takes an unaligned access apart, and when a store to translated code
ends that early it goes on skipping them until the next start. So what reaches an MMIO callback without
its hook is served there, and the CPU is made to leave the guest and come back.

With any such hook Unicorn takes its slow path for every load and store, RAM's included, which makes a large
guest half as fast. `EngineConfig.exact=False` does without: drivers of operating systems use aligned
accesses of up to four bytes, which the callbacks get right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vmlab.engine.api import EngineConfig, Tally
from vmlab.engine.soft import uclib
from vmlab.engine.soft.doorbells import Doorbells
from vmlab.engine.soft.exits import IO, MMIO
from vmlab.engine.soft.locate import Locator
from vmlab.engine.soft.uclib import Uc

__all__ = ["Access", "Internal", "NoPorts", "mmio_ranges"]

_PAGE = 0x1000
#: what the CPU model can address (40 bits: QEMU's TCG_PHYS_ADDR_BITS); all of it that is not RAM is MMIO
PHYSICAL_END = 1 << 40


def mmio_ranges(ram: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """[(base, end)] of everything below PHYSICAL_END that is in none of the sorted `ram` ranges."""
    holes, at = [], 0
    for base, end in ram:
        if base > at:
            holes.append((at, base))
        at = end
    if at < PHYSICAL_END:
        holes.append((at, PHYSICAL_END))
    return holes


class Internal(Protocol):
    """Interrupt controllers and timers of the engine's own: accesses to them go to no bus."""

    #: pages of guest memory (address >> 12) and I/O ports (none: a processor without) that are theirs
    @property
    def pages(self) -> frozenset[int]: ...
    @property
    def ports(self) -> frozenset[int]: ...

    def read_mmio(self, cpu: int, address: int, size: int) -> int: ...
    def write_mmio(self, cpu: int, address: int, size: int, value: int) -> None: ...
    def read_port(self, port: int) -> int: ...
    def write_port(self, port: int, value: int) -> None: ...


class NoPorts:
    """Of a processor without I/O ports."""

    ports: frozenset[int] = frozenset()

    def read_port(self, _port: int) -> int:
        return 0xFF

    def write_port(self, _port: int, _value: int) -> None:
        return


class Access:
    """The callbacks of one vCPU. All run on the engine's thread, inside `Uc.run`.

    An exception out of a bus is a bug of the host's side: it is kept in `failure` and reported
    through `interrupt()`, which must make the CPU stop at its next block.
    """

    def __init__(
        self,
        number: int,
        config: EngineConfig,
        chipset: Internal,
        doorbells: Doorbells,
        exits: Tally,
        interrupt: Callable[[], None],
    ) -> None:
        self.number = number
        self._config = config
        self._chipset = chipset
        self._pages, self._ports = chipset.pages, chipset.ports
        self._doorbells = doorbells
        self._exits = exits
        self._interrupt = interrupt
        self.failure: BaseException | None = None
        #: accesses go nowhere while an abandoned instruction runs out
        self.muted = False
        #: where the guest called the firmware that accesses a device for it
        self.caller: int | None = None
        self._locator: Locator | None = None
        #: devices are accessed from hooks
        self._hooked = False
        # the read that the MMIO callback hands out: first byte's address and all its bytes
        self._read_at = 0
        self._read_value = 0
        # where the MMIO callbacks of the hooked read are still to come: one of the access's size, aligned,
        # or two for an unaligned one
        self._read_size = self._read_next = self._read_end = 0
        # the hooked write, and how many of its bytes have not come to the callback yet
        self._write_at = self._write_left = 0
        # the part of an access behind a page end: bytes still to come, and for a write their value
        self._read_rest = 0
        self._write_rest = 0
        self._write_value = 0

    def attach(self, uc: Uc, ram: list[tuple[int, int]]) -> None:
        """Install everything on `uc`, whose RAM is mapped at `ram` ((base, end), sorted)."""
        self._locator = Locator(uc, self._target)
        self._hooked = self._config.exact
        if self._ports:
            uc.hook(uclib.HOOK_INSN, uclib.IN_HOOK(self._on_in), 1, 0, uclib.INSN_IN)
            uc.hook(uclib.HOOK_INSN, uclib.OUT_HOOK(self._on_out), 1, 0, uclib.INSN_OUT)
        on_read, on_write = uclib.MEM_HOOK(self._on_read), uclib.MEM_HOOK(self._on_write)
        for base, end in mmio_ranges(ram):
            if self._config.exact:
                uc.hook(uclib.HOOK_MEM_READ, on_read, base, end - 1)
                uc.hook(uclib.HOOK_MEM_WRITE, on_write, base, end - 1)
            read = uclib.MMIO_READ(self._hand_out(base))
            uc.map_mmio(base, end - base, read, uclib.MMIO_WRITE(self._take_rest(base)))

    @property
    def _target(self) -> str:
        """What QEMU calls the guest's architecture."""
        return "aarch64" if self._config.arch == "arm64" else self._config.arch

    def program_counter(self, port: bool) -> int | None:
        """Of the instruction whose access, of a port or of memory, a bus handles now."""
        if self.caller is not None or self._locator is None:
            return self.caller
        if port or self._hooked:
            return self._locator.in_hook()
        return self._locator.in_callback()

    def _failed(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
        self._interrupt()

    # -- memory ------------------------------------------------------------------------------------

    def _on_read(
        self, _uc: int, _kind: int, address: int, size: int, _value: int, _data: int
    ) -> None:
        over = (address & _PAGE - 1) + size - _PAGE
        self._read_rest = max(0, over)
        self._read_size = size
        self._read_next = start = address & -size
        self._read_end = start + (size if over > 0 or start == address else 2 * size)
        self._read_value = self.load(address, size - self._read_rest)
        self._read_at = address

    def _without_hook(self) -> None:
        """Unicorn has come to a callback without its hook: the next access is to have one."""
        if self._locator is not None:
            self._locator.in_callback()
        self._interrupt()

    def load(self, address: int, size: int) -> int:
        """`size` bytes (1..8, inside a page) from a device."""
        try:
            if self.muted:
                return (1 << 8 * size) - 1
            if address >> 12 in self._pages:
                return self._chipset.read_mmio(self.number, address, size)
            if size & size - 1:  # 3, 5, 6, 7: what is left of an access at a page end
                first = 4 if size > 4 else 2
                low = self.load(address, first)
                return low | self.load(address + first, size - first) << 8 * first
            self._exits[MMIO] += 1
            return self._config.mmio.read(address, size) & (1 << 8 * size) - 1
        except BaseException as error:  # noqa: BLE001 - reported by _failed
            self._failed(error)
            return (1 << 8 * size) - 1

    def _hand_out(self, base: int) -> Callable[[int, int, int, int], int]:
        def read(_uc: int, offset: int, size: int, _data: int) -> int:
            address = base + offset
            distance = address - self._read_at
            if self._read_rest and not 0 <= address - (self._read_at & ~(_PAGE - 1)) < _PAGE:
                # the access goes on in another page, wherever that one is
                rest, self._read_rest = self._read_rest, 0
                self._read_value, self._read_at = self.load(address, rest), address
                self._read_next, self._read_end = address, address + self._read_size
                distance = 0
            if not self._read_next <= address < self._read_end:
                # a page walk or the rest of an access that began in RAM come here too: never mind
                if self._hooked:
                    self._without_hook()
                return self.load(address, size)
            self._read_next = address + size
            value = self._read_value
            value = value >> 8 * distance if distance >= 0 else value << -8 * distance
            return value & (1 << 8 * size) - 1

        return read

    def _on_write(
        self, _uc: int, _kind: int, address: int, size: int, value: int, _data: int
    ) -> None:
        over = (address & _PAGE - 1) + size - _PAGE
        if over > 0:
            size -= over
            self._write_rest, self._write_value = over, value >> 8 * size
        else:
            self._write_rest = 0
        self._write_at, self._write_left = address, size
        self.store(address, size, value & (1 << 8 * size) - 1)

    def store(self, address: int, size: int, value: int) -> None:
        try:
            if self.muted:
                return
            if address >> 12 in self._pages:
                self._chipset.write_mmio(self.number, address, size, value)
            elif size & size - 1:
                first = 4 if size > 4 else 2
                self.store(address, first, value & (1 << 8 * first) - 1)
                self.store(address + first, size - first, value >> 8 * first)
            elif address in self._doorbells.addresses and self._doorbells.take(
                address, size, value
            ):
                return
            else:
                self._exits[MMIO] += 1
                self._config.mmio.write(address, size, value)
        except BaseException as error:  # noqa: BLE001 - reported by _failed
            self._failed(error)

    def _take_rest(self, base: int) -> Callable[[int, int, int, int, int], None]:
        def write(_uc: int, offset: int, size: int, value: int, _data: int) -> None:
            if self._write_left and 0 <= base + offset - self._write_at < 8:
                self._write_left = max(0, self._write_left - size)
                return
            # Unicorn comes byte by byte; the first one in the second page carries all of the rest
            if self._write_rest and not (base + offset) & _PAGE - 1:
                rest, self._write_rest = self._write_rest, 0
                self._write_at, self._write_left = base + offset, rest - size
                self.store(base + offset, rest, self._write_value & (1 << 8 * rest) - 1)
            else:
                if self._hooked:
                    self._without_hook()
                self.store(base + offset, size, value & (1 << 8 * size) - 1)

        return write

    # -- ports -------------------------------------------------------------------------------------

    def _on_in(self, _uc: int, port: int, size: int, _data: int) -> int:
        try:
            if self.muted:
                return (1 << 8 * size) - 1
            if port in self._ports:
                return self._in_internal(port, size)
            self._exits[IO] += 1
            return self._config.ports.read(port, size) & (1 << 8 * size) - 1
        except BaseException as error:  # noqa: BLE001 - reported by _failed
            self._failed(error)
            return (1 << 8 * size) - 1

    def _in_internal(self, port: int, size: int) -> int:
        """The chips are eight bits wide: a wider access reads neighbouring ports."""
        value = 0
        for n in range(size):
            byte = self._chipset.read_port(port + n) if port + n in self._ports else 0xFF
            value |= byte << 8 * n
        return value

    def _on_out(self, _uc: int, port: int, size: int, value: int, _data: int) -> None:
        try:
            if self.muted:
                return
            if port in self._ports:
                for n in range(size):
                    if port + n in self._ports:
                        self._chipset.write_port(port + n, value >> 8 * n & 0xFF)
                return
            self._exits[IO] += 1
            self._config.ports.write(port, size, value & (1 << 8 * size) - 1)
        except BaseException as error:  # noqa: BLE001 - reported by _failed
            self._failed(error)
