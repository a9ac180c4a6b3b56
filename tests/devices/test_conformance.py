"""What every device must do, run over all of them."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab.catalogue import CATALOGUE, make
from vmlab.core.device import Device
from vmlab.devices.arm.pl011 import Pl011
from vmlab.devices.arm.pl031 import Pl031
from vmlab.devices.arm.pl061 import Pl061
from vmlab.devices.pc.cmos_rtc import CmosRtc
from vmlab.devices.pc.debug_exit import DebugExit
from vmlab.devices.pc.i8042 import I8042
from vmlab.devices.pc.system_control import SystemControl
from vmlab.devices.pc.text_screen import TextScreen
from vmlab.devices.power import Power
from vmlab.devices.uart16550 import Uart16550

MOMENT = time.gmtime(2_000_000_000)


def moment() -> time.struct_time:
    return MOMENT


def seconds() -> float:
    return 2_000_000_000.5


def ignore(*_: object) -> None:
    """For sinks: module level, so that a device with it travels."""


def _listed(name: str) -> Device:
    device, _ = make(name)
    assert isinstance(device, Device)
    return device


DEVICES: dict[str, Callable[[], Device]] = {
    "uart16550": lambda: Uart16550(ignore),
    "i8042": lambda: I8042(ignore),
    "i8042 with a keyboard": lambda: I8042(ignore, keyboard=True),
    "text-screen": TextScreen,
    "system-control": lambda: SystemControl(ignore),
    "cmos-rtc": lambda: CmosRtc(moment, 64 << 20),
    "debug-exit": lambda: DebugExit(ignore),
    "power": lambda: Power(ignore, ignore),
    "pl011": lambda: Pl011(ignore),
    "pl031": lambda: Pl031(seconds),
    "pl061": Pl061,
}
#: those that can be asked for by name: to be listed is to be tested
DEVICES |= {
    made.type: partial(_listed, name)
    for name, place in CATALOGUE.items()
    if place.startswith("vmlab.devices.")
    for made in [_listed(name)]
}

#: (write?, offset, size, value); offset is cut to the device's size, some lie beyond it
PROGRAM = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(0, 0x2000) | st.integers(0, 0x20),
        st.sampled_from([1, 2, 4, 8]) | st.integers(1, 8),
        st.integers(0, 255) | st.integers(0, (1 << 64) - 1),
    ),
    max_size=40,
)
Program = list[tuple[bool, int, int, int]]


@pytest.fixture(params=sorted(DEVICES))
def build(request: pytest.FixtureRequest) -> Callable[[], Device]:
    return DEVICES[request.param]


def run(device: Device, program: Program) -> None:
    for write, offset, size, value in program:
        if write:
            device.write(offset, size, value & ((1 << 8 * size) - 1))
        else:
            assert 0 <= device.read(offset, size) < 1 << 8 * size


#: touches every kind of register that the devices have
BUSY: Program = [
    *((True, offset, size, 0xA5C3_5A97_1E0F_F1A7) for offset in range(0x20) for size in (1, 4)),
    *((False, offset, size, 0) for offset in range(0x20) for size in (1, 4)),
    *((True, offset, 1, 0x13) for offset in range(0x20)),
]


def test_every_device_of_the_catalogue_is_tested() -> None:
    tested = {f"{type(make()).__module__}:{type(make()).__name__}" for make in DEVICES.values()}
    here = {place for place in CATALOGUE.values() if place.startswith("vmlab.devices.")}
    assert here <= tested


def test_it_has_a_name_a_size_and_a_docstring(build: Callable[[], Device]) -> None:
    device = build()
    assert device.type in DEVICES
    assert device.size > 0
    assert type(device).__doc__


def test_every_register_and_field_is_documented(build: Callable[[], Device]) -> None:
    for row in build().regs.table:
        assert row.doc.strip(), row.name
        for one in row.fields.values():
            assert one.doc.strip(), f"{row.name}.{one.name}"


@pytest.mark.parametrize(
    "name", sorted(set(DEVICES) - {"cmos-rtc", "pl031", "i8042 with a keyboard"})
)
def test_a_guest_sees_the_declared_reset_values(name: str) -> None:
    """(Of the clocks they are the time; a keyboard has answered the firmware.)"""
    device = DEVICES[name]()
    assert device.peek() == {
        row.name: row.reset for row in device.regs.table if row.readable and row.access != "block"
    }


def test_reset_restores_every_value(build: Callable[[], Device]) -> None:
    device = build()
    fresh = device.peek()
    run(device, BUSY)
    device.reset()
    assert device.peek() == fresh
    assert not device.irq.level
    twin = build()
    for each in (device, twin):
        run(each, BUSY)
    assert device.peek() == twin.peek(), "and everything behind the values"


def test_reset_settles_the_line_to_what_the_device_says(build: Callable[[], Device]) -> None:
    device = build()
    run(device, BUSY)
    device.reset()
    device.update()
    assert not device.irq.level


def test_looking_changes_nothing(build: Callable[[], Device]) -> None:
    device, control = build(), build()
    run(device, BUSY)
    run(control, BUSY)
    counts, raised = device.counters.counts(), device.irq.raised
    seen = device.peek()
    assert device.peek() == seen
    for name in seen:
        assert device.peek(name) == seen[name]
    assert device.counters.counts() == counts
    assert device.irq.raised == raised
    program: Program = [(False, offset, 1, 0) for offset in range(0x20)] * 2
    for access in program:
        assert device.read(*access[1:3]) == control.read(*access[1:3])


@pytest.mark.parametrize("name", sorted(DEVICES))
@settings(max_examples=60, deadline=None)
@given(program=PROGRAM)
def test_no_program_makes_it_raise(name: str, program: Program) -> None:
    device = DEVICES[name]()
    run(device, program)
    counts = device.counters.counts()
    writes = sum(write for write, *_ in program)
    assert (counts.reads, counts.writes) == (len(program) - writes, writes)
    assert counts.bytes == sum(size for _, _, size, _ in program)
    for value in device.peek().values():
        assert value >= 0
    level = getattr(device, "irq_level", bool)
    assert device.irq.level is bool(level())


def test_it_travels_with_its_values(build: Callable[[], Device]) -> None:
    device = build()
    run(device, BUSY)
    moved = pickle.loads(pickle.dumps(device))
    assert type(moved) is type(device)
    assert moved.peek() == device.peek()
    assert moved.counters.counts().traps == 0
    run(moved, BUSY)
    run(device, BUSY)
    assert moved.peek() == device.peek()


def test_an_unplugged_device_starts_no_thread(build: Callable[[], Device]) -> None:
    device = build()
    run(device, BUSY)
    assert device.clock._thread is None
