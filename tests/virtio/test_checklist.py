"""The driver's checklist: what it says of drivers that do it right, and of those that go wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.virtio.sample import Sample
from tests.virtio.test_legacy import Legacy
from vmlab.core.memory import GuestMemory
from vmlab.errors import ConfigError, UnknownName
from vmlab.testing import DeviceHarness, Driver
from vmlab.testing.rings import NEXT
from vmlab.virtio import Console
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.legacy import LegacyTransport
from vmlab.virtio.mmio import MmioTransport
from vmlab.virtio.placeholder import Placeholder
from vmlab.virtio.registers import DRIVER, DRIVER_OK, FEATURES_OK, RING_EVENT_IDX
from vmlab.vm.checklist import Checklist

SETUP = [
    *(
        "identify",
        "reset",
        "ACKNOWLEDGE",
        "DRIVER",
        "features",
        "FEATURES_OK",
        "FEATURES_OK read again",
    ),
    *("queue 0", "DRIVER_OK"),
]
REQUEST = [
    *("descriptors", "available ring", "notify", "taken", "used ring", "interrupt", "InterruptACK"),
]


def states(found: Checklist) -> dict[str, str]:
    return {step.step: step.state for step in found}


def negotiated(driver: Driver, upto: int = FEATURES_OK) -> Driver:
    """A driver that has come to FEATURES_OK, by the book."""
    identify(driver)
    driver.status = 0
    driver.status = 1
    driver.status = 3
    driver.read("DeviceFeatures")
    driver.write("DriverFeaturesSel", 1)
    driver.write("DriverFeatures", 1)
    if upto == FEATURES_OK:
        driver.status = 11
        assert driver.status & FEATURES_OK
    return driver


def identify(driver: Driver) -> None:
    for name in ("MagicValue", "Version", "DeviceID"):
        driver.read(name)


def ready(driver: Driver) -> Driver:
    negotiated(driver)
    driver.write("QueueSel", 0)
    driver.read("QueueNumMax")
    driver.set_up_queue(0, 8)
    driver.status |= DRIVER_OK
    return driver


# --- done -----------------------------------------------------------------------------------------------


def test_nothing_is_reached_before_the_driver_comes(raw: Driver) -> None:
    found = raw.checklist()
    assert {step.state for step in found} == {"not yet"}
    assert {step.done for step in found} == {None}
    assert (found.lives, found.queue, found.failed) == (0, None, [])


def test_a_driver_by_the_book(raw: Driver) -> None:
    ready(raw)
    found = raw.checklist()
    assert [step.step for step in found.setup][:8] == SETUP[:8]
    assert {step.done for step in found.setup} == {True}
    assert [step.step for step in found.request] == REQUEST
    assert {step.state for step in found.request} == {"not yet"}
    assert raw.request(0, b"abc", 8)
    found = raw.checklist()
    assert {step.done for step in found} == {True}, found
    assert (found.lives, found.queue, found.version) == (1, 0, 2)
    assert found["DRIVER_OK"].clause == "virtio 1.2 §3.1.1 step 8"
    times = [step.when for step in found.setup if step.when is not None]
    assert times == sorted(times)
    assert len(times) > 5


def test_looking_changes_nothing(raw: Driver) -> None:
    ready(raw)
    before = raw.counts, raw.socket.irq_count, raw.checklist()
    assert (raw.counts, raw.socket.irq_count, raw.checklist()) == before
    assert raw.mistakes == []


def test_how_it_prints(raw: Driver) -> None:
    negotiated(raw)
    text, page = repr(raw.checklist()), raw.checklist()._repr_html_()
    assert text.startswith(
        "driver: sample, virtio-mmio version 2, Status ACKNOWLEDGE|DRIVER|FEATURES_OK\n"
    )
    assert "done     FEATURES_OK            virtio 1.2 §3.1.1 step 5" in text
    assert "missing  queue 0" in text
    assert page.count("<tr>") == 1 + 2 + len(raw.checklist())
    assert "✓ done" in page
    with pytest.raises(UnknownName, match="did you mean 'FEATURES_OK'"):
        raw.checklist()["FEATURE_OK"]
    with pytest.raises(ConfigError, match="queue=64; sample has the queues 0 to"):
        raw.checklist(64)


# --- wrong, each in its way -----------------------------------------------------------------------------


def only_looks(driver: Driver) -> None:
    identify(driver)


def no_reset(driver: Driver) -> None:
    identify(driver)
    driver.status = 1


def driver_first(driver: Driver) -> None:
    driver.status = 0
    driver.status = 2
    driver.status = 3


def all_at_once(driver: Driver) -> None:
    negotiated(driver, DRIVER)
    driver.status = 15


def no_features(driver: Driver) -> None:
    driver.status = 0
    driver.status = 3
    driver.status = 11


def legacy_features(driver: Driver) -> None:
    driver.status = 0
    driver.status = 3
    driver.read("DeviceFeatures")
    driver.write("DriverFeatures", 0)
    driver.status = 11


def features_never_read(driver: Driver) -> None:
    driver.status = 0
    driver.status = 3
    driver.write("DriverFeatures", 0)


def too_many_features(driver: Driver) -> None:
    negotiated(driver, DRIVER)
    driver.write("DriverFeatures", 0x201)
    driver.status = 11


def not_read_again(driver: Driver) -> None:
    negotiated(driver, DRIVER)
    driver.status = 11
    driver.status = 15


def no_features_ok(driver: Driver) -> None:
    negotiated(driver, DRIVER)
    driver.status = 7


def bits_taken_back(driver: Driver) -> None:
    negotiated(driver)
    driver.status = 4


def legacy_registers(driver: Driver) -> None:
    identify(driver)
    driver.write("GuestPageSize", 4096)


def queue_not_ready(driver: Driver) -> None:
    negotiated(driver)
    driver.write("QueueSel", 0)
    driver.write("QueueNum", 8)
    driver.write("QueueReady", 0)
    driver.status |= DRIVER_OK


def queue_half_made(driver: Driver) -> None:
    negotiated(driver)
    driver.write("QueueSel", 0)
    driver.write("QueueNum", 8)
    driver.write64("QueueDesc", 0x1000)


def queue_too_early(driver: Driver) -> None:
    negotiated(driver, DRIVER)
    driver.write("QueueNum", 8)
    driver.write("QueueReady", 1)


def queue_too_long(driver: Driver) -> None:
    negotiated(driver)
    driver.write("QueueNum", 4096)
    driver.write("QueueReady", 1)


def queue_outside(driver: Driver) -> None:
    negotiated(driver)
    driver.write("QueueNum", 8)
    driver.write64("QueueDesc", 0x4000_0000_0000)
    driver.write("QueueReady", 1)


def gives_up(driver: Driver) -> None:
    negotiated(driver)
    driver.status |= 128


def notified_too_early(driver: Driver) -> None:
    negotiated(driver)
    driver.set_up_queue(0, 8)
    driver.write("QueueNotify", 0)


def never_published(driver: Driver) -> None:
    ready(driver)
    driver.write("QueueNotify", 0)


def never_notified(driver: Driver) -> None:
    ready(driver)
    driver.wait_for(lambda: not driver.transport.is_due(0))  # it looks once at DRIVER_OK
    driver.submit(0, b"abc", 8, kick=False)


def outside_ram(driver: Driver) -> None:
    ready(driver)
    ring = driver.rings[0]
    ring.write_descriptor(0, 0x1000, 4, NEXT, 2)
    ring.write_descriptor(2, 0x5000_0000_0000, 16)
    ring.write_avail(0, 0)
    ring.avail_idx = 1
    driver.write("QueueNotify", 0)
    driver.wait_for(driver.needs_reset)


def no_such_descriptor(driver: Driver) -> None:
    ready(driver)
    driver.rings[0].write_avail(0, 99)
    driver.rings[0].avail_idx = 1
    driver.write("QueueNotify", 0)
    driver.wait_for(driver.needs_reset)


def index_too_far(driver: Driver) -> None:
    ready(driver)
    driver.rings[0].avail_idx = 100
    driver.write("QueueNotify", 0)
    driver.wait_for(driver.needs_reset)


def never_acknowledged(driver: Driver) -> None:
    ready(driver)
    request = driver.submit(0, b"abc", 8)
    driver.wait_for(lambda: driver.rings[0].used_idx)
    driver.transport.rest(0)
    assert request.head in driver.rings[0].pending


def acknowledged_nothing(driver: Driver) -> None:
    never_acknowledged(driver)
    driver.write("InterruptACK", 0)


def used_ring_written(driver: Driver) -> None:
    ready(driver)
    driver.request(0, b"abc", 8)
    driver.memory.write(driver.rings[0].device + 2, b"\0\0")


WRONG: list[tuple[Callable[[Driver], None], str, str, str, str]] = [
    (only_looks, "reset", "missing", "§3.1.1 step 1", ""),
    (
        only_looks,
        "identify",
        "done",
        "§4.2.3.1.1",
        "Version, which is 2, and has done nothing since",
    ),
    (no_reset, "reset", "missing", "§3.1.1 step 1", "Status was not written 0"),
    (driver_first, "ACKNOWLEDGE", "wrong", "§3.1.1 step 2", "DRIVER was set before it"),
    (
        all_at_once,
        "FEATURES_OK read again",
        "wrong",
        "step 6",
        "FEATURES_OK and DRIVER_OK came in one write",
    ),
    (no_features, "features", "missing", "step 4", "not VIRTIO_F_VERSION_1 (§6.1)"),
    (no_features, "FEATURES_OK", "wrong", "step 5", "lacks VIRTIO_F_VERSION_1 (bit 32, §6.1)"),
    (legacy_features, "FEATURES_OK", "wrong", "step 5", "the driver accepted 0x0"),
    (features_never_read, "features", "wrong", "step 4", "before DeviceFeatures was read"),
    (too_many_features, "FEATURES_OK", "wrong", "step 5", "were not offered"),
    (not_read_again, "FEATURES_OK read again", "missing", "step 6", "Status was not read after it"),
    (no_features_ok, "FEATURES_OK", "missing", "step 5", "FEATURES_OK was never set"),
    (no_features_ok, "DRIVER_OK", "wrong", "step 8", "DRIVER_OK without FEATURES_OK"),
    (bits_taken_back, "Status", "wrong", "§2.1.1", "takes back bits of 0xb"),
    (legacy_registers, "identify", "wrong", "§4.2.3.1.1", "the driver is one for version 1"),
    (queue_not_ready, "queue 0", "wrong", "§3.1.1 step 7, §4.2.3.2", "QueueReady was written 0"),
    (queue_not_ready, "DRIVER_OK", "done", "step 8", "no queue is ready"),
    (
        queue_half_made,
        "queue 0",
        "missing",
        "step 7",
        "QueueDriver, QueueDevice and QueueReady not written",
    ),
    (queue_too_early, "queue 0", "wrong", "step 7", "QueueReady before FEATURES_OK"),
    (queue_too_long, "queue 0", "wrong", "step 7", "4096 entries; it can have"),
    (queue_outside, "queue 0", "wrong", "step 7", "descriptor table [0x400000000000"),
    (gives_up, "DRIVER_OK", "wrong", "step 8", "the driver has set FAILED"),
    (notified_too_early, "notify", "wrong", "§2.7.13.4", "only after DRIVER_OK (§3.1.1)"),
    (
        never_published,
        "available ring",
        "missing",
        "§2.7.13.3",
        "though QueueNotify was written once",
    ),
    (never_notified, "notify", "missing", "§2.7.13.4", "QueueNotify was never written"),
    (outside_ram, "descriptors", "wrong", "§2.7.13.1", "buffer of descriptor 2 [0x500000000000"),
    (no_such_descriptor, "available ring", "wrong", "§2.7.13.2", "names descriptor 99 of 8"),
    (index_too_far, "available ring", "wrong", "§2.7.13.3", "100 available entries in a ring of 8"),
    (never_acknowledged, "InterruptACK", "missing", "§4.2.3.4", "used.idx has moved to 1"),
    (acknowledged_nothing, "InterruptACK", "wrong", "§4.2.3.4", "which leaves bit 0 set"),
    (used_ring_written, "used ring", "wrong", "§2.7.8", "the driver wrote into the device area"),
]


@pytest.mark.parametrize(
    ("drive", "step", "state", "clause", "note"),
    WRONG,
    ids=[f"{case[0].__name__}, {case[1]}" for case in WRONG],
)
def test_a_driver_that_goes_wrong(
    raw: Driver, drive: Callable[[Driver], None], step: str, state: str, clause: str, note: str
) -> None:
    drive(raw)
    found = raw.checklist()
    assert found[step].state == state, found
    assert note in found[step].note, found
    assert clause in found[step].clause
    assert note.split()[0] in repr(found) if note else True
    said = found[step].note.split("; ")
    assert len(said) == len(set(said)), "nothing is said twice"


def test_a_mistake_of_long_ago_is_no_fault_of_the_last_request(raw: Driver) -> None:
    notified_too_early(raw)
    raw.status |= DRIVER_OK
    raw.request(0, b"abc", 8)
    notify = raw.checklist()["notify"]
    assert (notify.state, notify.note[:7]) == ("done", "before:")


def test_a_reset_begins_a_new_life_and_tells_of_the_one_before(raw: Driver) -> None:
    legacy_features(raw)
    raw.status = 0
    found = raw.checklist()
    assert found.lives == 2
    assert found["features"].state == "not yet"
    note = found["reset"].note
    assert "life 2" in note
    assert "FEATURES_OK wrong" in note or "features wrong" in note
    ready(raw)
    raw.request(0, b"abc", 8)
    raw.status = 0
    assert "ended with" not in raw.checklist()["reset"].note


def test_a_driver_that_polls_and_says_so_needs_no_interrupt(raw: Driver) -> None:
    ready(raw)
    raw.rings[0].avail_flags = 1
    raw.submit(0, b"abc", 8)
    raw.wait_for(lambda: raw.rings[0].used_idx)
    raw.transport.rest(0)
    found = raw.checklist()
    assert (found["interrupt"].done, found["InterruptACK"].done) == (True, True)
    assert "VIRTQ_AVAIL_F_NO_INTERRUPT" in found["interrupt"].note


def test_event_idx_says_when_an_interrupt_is_wanted(raw: Driver) -> None:
    identify(raw)
    raw.event_idx = True
    raw.initialise()
    assert raw.features & RING_EVENT_IDX
    raw.rings[0].used_event = 5
    raw.submit(0, b"abc", 8)
    raw.wait_for(lambda: raw.rings[0].used_idx)
    raw.transport.rest(0)
    assert "not wanted before used.idx is 6" in raw.checklist()["interrupt"].note


@pytest.mark.parametrize("event_idx", [False, True])
def test_buffers_that_a_device_holds_in_reserve_are_no_fault(event_idx: bool) -> None:
    """It wants to hear of the first one alone (§2.7.10)."""
    with Driver(Console(), event_idx=event_idx) as driver:
        for _ in range(3):
            driver.submit(0, in_=16)
            driver.wait_for(lambda: not driver.transport.is_due(0))
        found = driver.checklist(0)
        assert (found["notify"].state, found["taken"].state) == ("done", "not yet")
        assert "3 wait in queue 0 for the device to use" in found["taken"].note
        assert [step for step in found.request if step.done is False] == []


def test_a_device_that_cannot_say_what_it_offers_is_reset_all_the_same() -> None:
    class Moody(VirtioDevice):
        type, device_id, queue_sizes = "moody", 63, (16,)
        angry = False

        @property
        def features(self) -> int:  # type: ignore[override]
            if self.angry:
                raise ValueError("not today")
            return 0

    with Driver(Moody(), initialise=False) as driver:
        negotiated(driver)
        assert isinstance(driver.device, Moody)
        driver.device.angry = True
        driver.status = 0
        assert driver.status == 0
        assert "not today" in driver.mistakes[-1]


def test_where_and_when(raw: Driver) -> None:
    raw.transport.program_counter = lambda: 0x8000_1234
    negotiated(raw)
    assert raw.checklist()["FEATURES_OK"].where == 0x8000_1234
    assert "pc 0x80001234" in repr(raw.checklist())


def test_a_placeholder_says_that_nothing_is_there() -> None:
    with Driver(Placeholder(), initialise=False) as driver:
        assert "nothing is here" in driver.checklist()["identify"].note


# --- legacy ---------------------------------------------------------------------------------------------


def legacy(old: Legacy) -> Checklist:
    return Checklist("disk0", old.transport.type, old.transport.checklist())


def test_a_legacy_driver_has_other_steps() -> None:
    old = Legacy()
    try:
        for name in ("MagicValue", "Version", "DeviceID"):
            old.read(name)
        old.write("Status", 0)
        old.set_up()
        old.write("Status", 7)
        old.request()
        old.transport.rest(0)
        found = legacy(old)
        assert [step.step for step in found.setup] == [
            *("identify", "reset", "ACKNOWLEDGE", "DRIVER", "features", "GuestPageSize"),
            *("queue 0", "DRIVER_OK"),
        ]
        assert {step.done for step in found.setup} == {True}, found
        assert found.version == 1
        assert (found["used ring"].state, found["InterruptACK"].state) == ("done", "missing")
    finally:
        old.close()


def test_legacy_drivers_that_go_wrong() -> None:
    old = Legacy()
    try:
        old.write("Status", 0)
        old.write("Status", 11)
        old.write("GuestPageSize", 5)
        old.write("QueueReady", 1)
        old.write("QueuePFN", 0)
        found = legacy(old)
        assert "version 2" in found["identify"].note
        assert "a legacy device has none" in found["features"].note
        assert found["GuestPageSize"].state == "wrong"
        assert "QueuePFN was written 0" in found["queue 0"].note
    finally:
        old.close()


# --- whatever the driver does ---------------------------------------------------------------------------

NAMES = sorted({row.name for row in MmioTransport.regs.table if row.access != "block"})
VALUES = st.one_of(
    st.integers(0, 16),
    st.sampled_from([0x1000, 0x1100, 0x1200, 64, 128, 11, 15]),
    st.integers(0, 2**32 - 1),
)
ACCESSES = st.lists(st.tuples(st.sampled_from(NAMES), st.booleans(), VALUES), max_size=60)


@pytest.mark.parametrize("kind", [MmioTransport, LegacyTransport])
@given(accesses=ACCESSES)
def test_whatever_is_accessed_it_renders(
    kind: type[MmioTransport] | type[LegacyTransport], accesses: list[tuple[str, bool, int]]
) -> None:
    device: VirtioDevice = Sample()
    memory = GuestMemory.allocate(1 << 20)
    memory.write(0x1000, bytes(range(256)) * 4)
    with DeviceHarness(kind(device), memory) as harness:
        transport = harness.device
        assert isinstance(transport, kind)
        for name, write, value in accesses:
            row = kind.regs.by_name.get(name)
            if row is None:
                continue
            if write:
                transport.write(row.offset, row.size, value)
            else:
                transport.read(row.offset, row.size)
        for queue in (None, 0):
            found = Checklist("x", transport.type, transport.checklist(queue))
            assert {step.state for step in found} <= {"done", "missing", "wrong", "not yet"}
            assert all(
                (step.done is False) == (step.state in ("missing", "wrong")) for step in found
            )
            assert all(step.clause.startswith("virtio 1.2 §") for step in found)
            assert len(repr(found).splitlines()) > 15
            assert len(repr(found)) < 40_000
            assert found._repr_html_().endswith("</table>")
    memory.close()
