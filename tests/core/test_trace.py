"""The access log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmlab.core.bus import Bus
from vmlab.core.device import Device
from vmlab.core.trace import RUN, TEXT, TraceFilter, TraceLog
from vmlab.regs import Registers, ro, rw


class Pair(Device):
    class regs(Registers):
        A = rw(0, "a")
        B = ro(4, "b", reset=9)


class Bare:
    """A bus device without a table."""

    def read(self, offset: int, size: int) -> int:
        return 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Nothing."""


def buses() -> tuple[Bus, Bus]:
    mmio, ports = Bus("mmio"), Bus("port", 16)
    mmio.insert(0x1000, 0x1000, Pair(), name="pair0")
    ports.insert(0x60, 4, Bare(), offset=4, name="bare")
    return mmio, ports


def test_an_entry_for_each_access_with_its_registers_name() -> None:
    mmio, ports = buses()
    log, cpus = TraceLog(), iter([0, 1, 1, 0, 0])
    for bus in (mmio, ports):
        log.watch(bus, lambda: (next(cpus), None))
    mmio.write(0x1000, 4, 5)
    mmio.read(0x1004, 4)
    mmio.read(0x1000, 8)
    ports.read(0x61, 1)
    mmio.read(0x9000, 2)
    events, dropped = log.take()
    assert dropped == 0
    assert [event[1:] for event in events] == [
        (0, "write", "pair0", "A", 4, 5, None, None, "mmio", 0x1000, ""),
        (1, "read", "pair0", "B", 4, 9, None, None, "mmio", 0x1004, ""),
        (1, "read", "pair0", "A+B", 8, 9 << 32 | 5, None, None, "mmio", 0x1000, ""),
        (0, "read", "bare", "", 1, 1, None, None, "port", 0x61, ""),
        (0, "read", "", "", 2, 0xFFFF, None, None, "mmio", 0x9000, ""),
    ]
    assert [event.write for event in events] == [True, False, False, False, False]
    times = [event.time for event in events]
    assert times == sorted(times)
    assert times[0] >= 0
    assert log.take() == ([], 0)


def test_the_last_n_are_kept() -> None:
    mmio, _ = buses()
    log = TraceLog(last=3)
    log.watch(mmio, lambda: (0, None))
    for value in range(10):
        mmio.write(0x1000, 4, value)
    events, dropped = log.take()
    assert [event.value for event in events] == [7, 8, 9]
    assert dropped == 7


def test_one_device_only() -> None:
    mmio, _ = buses()
    log = TraceLog(wanted=TraceFilter(devices=frozenset({"pair0"})))
    log.watch(mmio, lambda: (0, None))
    mmio.read(0x9000, 1)
    mmio.read(0x1004, 4)
    assert [event.device for event in log.take()[0]] == ["pair0"]


def test_the_program_counter_of_each_access() -> None:
    mmio, _ = buses()
    log, places = TraceLog(), iter([0x100, None, 0xFFFF_FFFF_8100_0000])
    log.watch(mmio, lambda: (0, next(places)))
    for _ in range(3):
        mmio.read(0x1004, 4)
    assert [event.pc for event in log.take()[0]] == [0x100, None, 0xFFFF_FFFF_8100_0000]


def test_off_means_off() -> None:
    mmio, ports = buses()
    plain = mmio.read
    log = TraceLog()
    log.watch(mmio, lambda: (0, None))
    log.watch(ports, lambda: (0, None))
    log.stop()
    assert mmio.read == plain
    mmio.read(0x1000, 4)
    ports.read(0x60, 1)
    assert log.take() == ([], 0)


def test_looking_changes_no_count() -> None:
    mmio, _ = buses()
    log = TraceLog()
    log.watch(mmio, lambda: (0, None))
    mmio.read(0x1004, 4)
    device = mmio.ranges[0].device
    assert isinstance(device, Pair)
    assert device.counters.counts().traps == 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.binary(max_size=600))))
def test_console_bytes_are_all_there_in_runs(sent: list[tuple[str, int, bytes]]) -> None:
    log, wanted = TraceLog(), dict[tuple[str, int], str]()
    for device, port, data in sent:
        log.add_bytes("output", device, port, data, 0)
        key = device, port
        # a character that is cut in two is shown as its bytes
        wanted[key] = wanted.get(key, "") + data.decode("latin-1")
    told = dict[tuple[str, int], int]()
    for event in log.take()[0]:
        assert event.value is not None
        assert event.size is not None
        assert 0 < event.size <= RUN
        assert "\n" not in event.text[:-1]
        key = event.device, event.value
        told[key] = told.get(key, 0) + event.size
    assert told == {key: len(text) for key, text in wanted.items() if text}


def test_a_run_of_bytes_that_was_taken_is_begun_anew() -> None:
    log = TraceLog(last=2)
    log.add_bytes("output", "com1", 0, b"ab", 0)
    assert [one.text for one in log.take()[0]] == ["ab"]
    log.add_bytes("output", "com1", 0, b"c", 0)
    log.add_bytes("output", "com1", 0, b"d\ne", 0)
    log.add_bytes("input", "com1", 0, b"x", None)
    log.add_bytes("output", "com1", 0, b"f", 0)
    events, dropped = log.take()
    assert [(one.kind, one.text) for one in events] == [("output", "ef"), ("input", "x")]
    assert dropped == 1


def test_words_are_bounded() -> None:
    log = TraceLog()
    log.add("mistake", "d", text="x" * 10_000)
    [event] = log.take()[0]
    assert len(event.text) < TEXT + 100
    assert "10,000 characters in all" in event.text


def test_the_first_access_tells_that_a_device_was_seen() -> None:
    mmio, _ = buses()
    log = TraceLog()
    log.watch(mmio, lambda: (1, None))
    log.unseen.add("pair0")
    mmio.write(0x1000, 4, 5)
    mmio.write(0x1000, 4, 6)
    assert [(one.kind, one.device, one.cpu) for one in log.take()[0]] == [
        ("seen", "pair0", 1),
        ("write", "pair0", 1),
        ("write", "pair0", 1),
    ]
