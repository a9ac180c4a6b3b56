"""Where devices are plugged in: windows and interrupt lines, asked for or not, and what a new start keeps."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.vms import FIRST, PATIENCE, Counter, Dice, monitor, peeked
from vmlab import VM, Device, Registers
from vmlab.core.device import command
from vmlab.errors import BusOverlap, ConfigError, IrqsExhausted, VmlabError, WindowsExhausted
from vmlab.regs import rw
from vmlab.virtio import Rng

pytestmark = pytest.mark.usefixtures("no_leaks")

OWN, VIRTIO, OTHERS = range(5, 16), range(17, 22), range(22, 24)
LAST = FIRST + 63 * 0x1000


class Bell(Device):
    """Interrupts without a level."""

    @command
    def ring(self) -> None:
        self.irq.pulse()


def raised(vm: VM, line: int) -> int:
    return next(row.raised for row in vm.irqs if row.line == line)


def holders(vm: VM) -> dict[int, list[str]]:
    return {row.line: row.device.split(", ") for row in vm.irqs if row.line > 4}


# --- how many ---------------------------------------------------------------------------------------


def test_64_slots_fill(engine: str) -> None:
    with monitor(engine, devices=[Rng(seed=n) for n in range(64)]) as vm:
        views = [vm.devices[f"rng{n}"] for n in range(64)]
        assert [view.base for view in views] == [FIRST + 0x1000 * n for n in range(64)]
        assert [view.irq for view in views[:11]] == list(OWN)
        shared = holders(vm)
        assert {view.irq for view in views[11:]} == set(VIRTIO)
        assert sum(len(shared[line]) for line in VIRTIO) == 53
        assert max(len(shared[line]) for line in VIRTIO) == 11
        for unit in (0, 10, 11, 16, 63):
            answer = vm.console.run(f"rng 4 {unit}", timeout=PATIENCE)
            assert len(answer.split()) == 4, answer
        before = vm.address_map
        with pytest.raises(WindowsExhausted, match="no more windows are available: 64 slots"):
            vm.hot_add(Rng())
        assert vm.address_map == before
        vm.hot_remove("rng30")
        view = vm.hot_add(Rng(), id="again")
        assert view.base == FIRST + 30 * 0x1000
        vm.hot_add(Dice(), id="more")
        assert vm.devices["more"].base == LAST + 0x1000, "it needs no guest to look for it"


def test_devices_of_ones_own_share_lines_that_virtio_does_not(engine: str) -> None:
    """A kernel switches off a line that nobody answers."""
    with monitor(engine, devices=[Counter() for _ in range(14)]) as vm:
        lines = [vm.devices[f"counter{n}"].irq for n in range(14)]
        assert lines == [*OWN, 22, 23, 22]
        assert vm.hot_add(Rng()).irq == 17


def test_what_only_pulses_shares_no_line(engine: str) -> None:
    with monitor(engine, devices=[Bell() for _ in range(11)]) as vm:
        assert [vm.devices[f"bell{n}"].irq for n in range(11)] == list(OWN)
        with pytest.raises(IrqsExhausted, match="no more IRQs are available"):
            vm.hot_add(Bell())
        with pytest.raises(ConfigError, match=r"line 20 is level-triggered.* 5 to 15"):
            vm.hot_add(Bell(), irq=20)
        assert vm.hot_add(Counter()).irq == 22


def test_a_device_that_uses_no_line_takes_none(engine: str) -> None:
    class Told(Dice):
        wants_irq = True

    class Untold(Counter):
        wants_irq = False

    with monitor(engine) as vm:
        lines = [vm.hot_add(one).irq for one in (Dice(), Counter(), Bell(), Told(), Untold())]
        assert lines == [None, 5, 6, 7, None]
        view = vm.hot_add(Dice(), irq=9)
        assert view.irq == 9


class First(Device):
    type = "growing"

    class regs(Registers):
        UP = rw(0x00, "1 raises the line")


class Second(First):
    type = "growing"

    def irq_level(self) -> bool:
        return bool(self.r.UP)


def test_a_replacement_gets_the_line_that_the_first_had_no_use_for(engine: str) -> None:
    with monitor(engine) as vm:
        assert vm.hot_add(First(), id="g").irq is None
        assert vm.replace("g", Second()).irq == 5
        vm.console.run(f"poke {FIRST:#x} 1", timeout=PATIENCE)
        assert raised(vm, 5) == 1
        assert vm.replace("g", First()).irq == 5
        assert [row.level for row in vm.irqs if row.line == 5] == [False]


# --- where ------------------------------------------------------------------------------------------


def test_the_place_can_be_said(engine: str) -> None:
    with monitor(engine) as vm:
        view = vm.hot_add(Dice(), at=FIRST + 0x5000, irq=9)
        assert (view.base, view.irq) == (FIRST + 0x5000, 9)
        assert peeked(vm, FIRST + 0x5000) == 1
        rng = vm.hot_add(Rng(seed=1), at=FIRST + 0x7000, irq=19)
        assert (rng.base, rng.irq) == (FIRST + 0x7000, 19)
        vm.console.expect("slot 7: rng at 0xd0007000 irq 19", timeout=PATIENCE)
        assert vm.console.run("rng 2", timeout=PATIENCE).strip()
        assert raised(vm, 19) == 1
        assert vm.hot_add(Rng(seed=2), irq=19).base == FIRST, "a level is shared"
        assert vm.hot_add(Dice(), at=0x1_0000_0000 - 0x2000_0000).base == 0xE000_0000
        assert vm.hot_add(Dice(), at=0x0900_0000, id="far").base == 0x0900_0000
        assert peeked(vm, 0x0900_0000) == 1


@pytest.mark.parametrize(
    ("place", "error", "text"),
    [
        (
            {"at": FIRST},
            BusOverlap,
            "0xd0000000-0xd0000fff meets counter0 at 0xd0000000-0xd0000fff",
        ),
        ({"at": FIRST + 4}, ConfigError, "0xd0000004 is not aligned to a window of 0x1000 bytes"),
        ({"at": 0xCF00_0000}, BusOverlap, "meets timer0"),
        ({"at": 0x1000}, ConfigError, "0x1000 is RAM, which ends at 0x1000000"),
        ({"at": 0xFEC0_0000}, VmlabError, "overlaps the ioapic"),
        ({"at": -0x1000}, ConfigError, "at=-4096: it must be a whole number"),
        ({"at": "0xd0000000"}, ConfigError, "at='0xd0000000': it must be a whole number"),
        (
            {"irq": 5},
            ConfigError,
            "line 5 is edge-triggered, for one device, and 'counter0' has it; 17 to 23",
        ),
        (
            {"irq": 3},
            ConfigError,
            "line 3 belongs to 'timer0', part of the machine; devices have the lines 5 to 15 and 17 to 23",
        ),
        ({"irq": 24}, ConfigError, "line 24: devices have the lines 5 to 15 and 17 to 23"),
        ({"irq": 16}, ConfigError, "line 16 belongs to 'power', part of the machine"),
        ({"irq": 2}, ConfigError, "line 2: devices have"),
        ({"irq": 0}, ConfigError, "line 0: devices have"),
        ({"irq": True}, ConfigError, "irq=True: it must be a whole number"),
        ({"irq": 5.0}, ConfigError, "irq=5.0: it must be"),
    ],
)
def test_places_that_cannot_be(
    engine: str, place: dict[str, Any], error: type[Exception], text: str
) -> None:
    with monitor(engine, devices=[Counter()], memory="16M") as vm:
        before = vm.address_map, holders(vm)
        with pytest.raises(error) as caught:
            vm.hot_add(Counter(), **place)
        assert text in str(caught.value)
        assert (vm.address_map, holders(vm)) == before


# --- a shared line ----------------------------------------------------------------------------------


def test_a_shared_line_is_up_while_any_of_its_holders_is(engine: str) -> None:
    with monitor(engine) as vm:
        views = [vm.hot_add(Counter(), irq=22) for _ in range(2)]
        assert [(row.line, row.device) for row in vm.irqs if row.line > 16] == [
            (22, "counter0, counter1")
        ]

        def drive(index: int, level: int) -> tuple[int, bool]:
            vm.console.run(f"poke {views[index].base + 4:#x} {level}", timeout=PATIENCE)
            row = next(row for row in vm.irqs if row.line == 22)
            return row.raised, row.level

        assert [drive(0, 1), drive(1, 1), drive(0, 0), drive(1, 0), drive(1, 1)] == [
            (1, True), (1, True), (1, True), (1, False), (2, True),
        ]  # fmt: skip
        vm.hot_remove("counter1", force=True)
        assert [row.level for row in vm.irqs if row.line == 22] == [False]
        assert drive(0, 1) == (3, True)
        vm.reset()
        assert [row.level for row in vm.irqs if row.line == 22] == [False]


# --- a new start ------------------------------------------------------------------------------------


def places(vm: VM) -> dict[str, tuple[int, int | None]]:
    return {id: (one.base, one.irq) for id, one in vm.devices.items() if one.base >= FIRST}


def test_a_start_after_a_stop_keeps_what_was_hot_added(engine: str) -> None:
    with monitor(engine, devices=[Rng(seed=1)]) as vm:
        vm.hot_add(Dice(), id="d", at=FIRST + 0x9000)
        vm.hot_add(Counter(), irq=23)
        vm.hot_add(Rng(seed=2), id="gone")
        vm.hot_remove("gone")
        for _ in range(3):
            peeked(vm, FIRST + 0x9000)
        vm.console.run(f"poke {FIRST + 0x1000:#x} 1", timeout=PATIENCE)
        before = places(vm)
        assert before.keys() == {"rng0", "d", "counter0"}
        vm.stop()
        vm.start()
        assert places(vm) == before
        assert peeked(vm, FIRST + 0x9000) == 1, "as it was when it was plugged in"
        assert vm.devices["counter0"].peek("COUNT") == 0
        vm.replace("d", Counter())
        vm.hot_remove("rng0")
        before = places(vm)
        vm.stop()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            vm.start()
        assert places(vm) == before


def test_a_start_says_what_it_cannot_keep(engine: str, tmp_path: Path) -> None:
    switch = tmp_path / "switch"
    switch.touch()

    class Gone(Dice):
        def __init__(self, path: str = str(switch)) -> None:
            super().__init__()
            open(path).close()

        def __reduce__(self) -> Any:
            return type(self), ()

    with monitor(engine) as vm:
        vm.hot_add(Gone(), id="fleeting")
        vm.hot_add(Dice(), id="stays")
        vm.stop()
        switch.unlink()
        with pytest.warns(
            UserWarning, match="'fleeting' was plugged into the machine before.*No such file"
        ):
            vm.start()
        assert places(vm).keys() == {"stays"}
        vm.stop()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            vm.start()
