"""The legacy transport (virtio 1.2 §4.2.4), and drivers that mix the two versions."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.virtio.sample import Sample
from tests.waiting import until
from vmlab.catalogue import make
from vmlab.core.memory import GuestMemory
from vmlab.errors import ConfigError
from vmlab.testing import DeviceHarness, Driver
from vmlab.virtio import Console, Disk, Nic, Rng
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.legacy import LegacyTransport
from vmlab.virtio.nic import HEADER, LEGACY_HEADER
from vmlab.virtio.registers import DRIVER_OK, FEATURES_OK, NEEDS_RESET, LegacyRegisters

REG = LegacyRegisters
QUEUE, REQUEST, DATA, STATUS = 0x10000, 0x20000, 0x21000, 0x22000


class Legacy:
    """A driver of a disk, from an old book."""

    def __init__(self, device: VirtioDevice | None = None) -> None:
        self.memory = GuestMemory.allocate(1 << 20)
        self.transport = LegacyTransport(device or Disk(data=bytes(range(256)) * 8))
        self.harness = DeviceHarness(self.transport, self.memory)
        self.sent = 0

    def read(self, name: str) -> int:
        row = REG.by_name[name]
        return self.transport.read(row.offset, row.size)

    def write(self, name: str, value: int) -> None:
        row = REG.by_name[name]
        self.transport.write(row.offset, row.size, value)

    def set_up(self, size: int = 8, align: int | None = 4096, page: int = 4096) -> None:
        self.write("Status", 1)
        self.write("Status", 3)
        self.write("GuestFeatures", self.read("HostFeatures") & ~(1 << 29 | 1 << 28))
        self.write("GuestPageSize", page)
        self.write("QueueSel", 0)
        self.write("QueueNum", size)
        if align is not None:
            self.write("QueueAlign", align)
        self.write("QueuePFN", QUEUE // page)

    def request(self, size: int = 8, align: int = 4096) -> tuple[bytes, int]:
        """Sector 1, polled -> (its bytes, the status)."""
        self.memory.write(REQUEST, struct.pack("<IIQ", 0, 0, 1))
        self.memory.write(STATUS, b"\xff")
        chain = ((REQUEST, 16, 1, 1), (DATA, 512, 3, 2), (STATUS, 1, 2, 0))
        for number, row in enumerate(chain):
            self.memory.write(QUEUE + 16 * number, struct.pack("<QIHH", *row))
        available = QUEUE + 16 * size
        self.memory.write(available + 4 + 2 * (self.sent % size), struct.pack("<H", 0))
        self.sent += 1
        self.memory.write(available + 2, struct.pack("<H", self.sent))
        self.harness.write(REG.QueueNotify.offset, 4, 0)
        used = (available + 6 + 2 * size + align - 1) & -align
        until(
            lambda: struct.unpack("<H", self.memory.read(used + 2, 2))[0] == self.sent,
            "it is used",
        )
        return bytes(self.memory.read(DATA, 512)), self.memory.read(STATUS, 1)[0]

    def close(self) -> None:
        self.harness.close()
        self.memory.close()


@pytest.fixture
def old() -> Iterator[Legacy]:
    made = Legacy()
    yield made
    made.close()


def test_what_it_is(old: Legacy) -> None:
    assert (old.read("MagicValue"), old.read("Version"), old.read("DeviceID")) == (
        0x7472_6976,
        1,
        2,
    )
    assert old.read("HostFeatures") >> 28 & 3 == 3
    old.write("HostFeaturesSel", 1)
    assert old.read("HostFeatures") == 0, "VERSION_1 is for version 2"
    assert old.read("QueueNumMax") == 256


@pytest.mark.parametrize(("align", "page"), [(4096, 4096), (None, 4096), (4, 512), (64, 0x10000)])
def test_a_disk_is_read(old: Legacy, align: int | None, page: int) -> None:
    old.set_up(align=align, page=page)
    assert old.read("QueuePFN") == QUEUE // page
    old.write("Status", 7)
    for _ in range(10):
        assert old.request(align=align or 4096) == (bytes(range(256)) * 2, 0)
    assert old.read("InterruptStatus") == 1
    assert old.transport.irq.level
    old.write("InterruptACK", 1)
    assert not old.transport.irq.level
    assert not old.harness.mistakes


def test_before_driver_ok(old: Legacy) -> None:
    """§3.1.2: older drivers use a device while they set it up."""
    old.set_up()
    assert old.request() == (bytes(range(256)) * 2, 0)
    old.write("Status", 7)
    assert old.request() == (bytes(range(256)) * 2, 0)
    assert not old.harness.mistakes


def test_a_queue_is_taken_back(old: Legacy) -> None:
    old.set_up()
    old.write("Status", 7)
    old.write("QueuePFN", 0)
    assert (old.read("QueuePFN"), old.transport.queues) == (0, {})
    old.write("Status", 0)
    assert old.read("Status") == 0
    old.sent = 0
    old.memory.write(QUEUE, bytes(0x2000))
    old.set_up()
    old.write("Status", 7)
    assert old.request() == (bytes(range(256)) * 2, 0)


def test_mixing_the_two(old: Legacy) -> None:
    old.set_up()
    old.write("Status", 3 | FEATURES_OK)
    assert not old.read("Status") & FEATURES_OK
    old.write("QueueReady", 1)
    said = "\n".join(old.harness.mistakes)
    assert "FEATURES_OK" in said
    assert "§4.2.2" in said
    old.write("Status", 3 | DRIVER_OK)
    assert old.request() == (bytes(range(256)) * 2, 0)


def test_version_2_with_old_registers() -> None:
    with Driver(Sample()) as driver:
        for name in ("GuestPageSize", "QueueAlign", "QueuePFN"):
            driver.write(name, 4096)
        assert len(driver.mistakes) == 3
        assert all("§4.2.4" in text for text in driver.mistakes)


@pytest.mark.parametrize(
    ("name", "value"),
    [("QueueNum", 3), ("QueueNum", 512), ("QueueAlign", 24), ("QueuePFN", 1 << 20)],
)
def test_a_queue_that_cannot_be(old: Legacy, name: str, value: int) -> None:
    old.write("Status", 3)
    old.write("GuestPageSize", 4096)
    for register, usual in (("QueueNum", 8), ("QueueAlign", 4096), ("QueuePFN", QUEUE // 4096)):
        old.write(register, value if register == name else usual)
    assert old.read("Status") & NEEDS_RESET
    assert not old.transport.queues


def test_a_frame_s_header() -> None:
    """§5.1.6.1: without VERSION_1 it has no num_buffers."""
    nic = Nic()
    old = Legacy(nic)
    try:
        old.set_up()
        old.write("Status", 7)
        assert nic._header == LEGACY_HEADER
    finally:
        old.close()
    with Driver(nic := Nic()):
        assert nic._header == HEADER


@given(
    st.lists(
        st.tuples(
            st.sampled_from([row.offset for row in REG.table if row.writable]),
            st.sampled_from([0, 1, 2, 3, 4, 7, 8, 0x10, 4096, 0xFFFF_FFFF, 1 << 31]),
        ),
        max_size=40,
    )
)
def test_any_guest(writes: list[tuple[int, int]]) -> None:
    old = Legacy()
    try:
        for offset, value in writes:
            old.transport.write(offset, 4, value)
        for row in REG.table:
            if row.readable:
                old.transport.read(row.offset, 4)
    finally:
        old.close()


@pytest.mark.parametrize("kind", [Rng, Console, Nic, partial(Disk, size="1M")])
def test_every_device_can_be_told(kind: Callable[..., VirtioDevice]) -> None:
    assert [kind(legacy=said).legacy for said in (None, True, False)] == [None, True, False]
    with pytest.raises(ConfigError, match=r"legacy='yes'; True is virtio-mmio's version 1"):
        kind(legacy="yes")


def test_a_class_that_says_so_keeps_it() -> None:
    class Old(Rng):
        legacy = True

    assert (Old().legacy, Old(legacy=False).legacy, Rng().legacy) == (True, False, None)


def test_a_text_says_it() -> None:
    assert make("rng,legacy")[0].legacy is make("disk,size=1M,legacy=on")[0].legacy is True
    assert make("net,legacy=off")[0].legacy is False
    with pytest.raises(ConfigError, match="device rng: legacy is on or off, not 'maybe'"):
        make("rng,legacy=maybe")
