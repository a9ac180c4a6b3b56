"""Event logs in files, which are not trusted."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vmlab
from tests.vm.trace_events import Table, event, events, log
from vmlab import VM
from vmlab.errors import ConfigError, UnknownName
from vmlab.vm import trace_file
from vmlab.vm.trace import SavedTrace, Trace, TraceEvent

OURS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
HEAD = {"about": {}, "events": 1, "dropped": 0}
ONE = [[0.5, 0, "write", "d0", "R", 4, 1, 4096, None, "mmio", 0xD000_0000, ""]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.trace"


@OURS
@given(
    events,
    st.dictionaries(
        st.integers(0, 1 << 64 - 1), st.tuples(st.text(max_size=9), st.text(max_size=9))
    ),
)
def test_what_is_saved_comes_back(
    path: Path, made: list[TraceEvent], known: dict[int | None, tuple[str, str]]
) -> None:
    saved = log(made, Table(known))
    saved.save(path)
    loaded = vmlab.load_trace(path)
    assert loaded.events == saved.events
    assert (loaded.about, loaded.dropped) == (saved.about, saved.dropped)
    assert [(e.function, e.source) for e in loaded] == [(e.function, e.source) for e in saved]
    assert [str(e) for e in loaded] == [str(e) for e in saved]
    assert all(str(e).isprintable() for e in loaded)


def test_a_long_one(path: Path) -> None:
    made = [event(value=n, pc=n) for n in range(25_000)]
    names: dict[int | None, tuple[str, str]] = {n: (f"f+{n:#x}", "f.c:1") for n in range(25_000)}
    log(made, Table(names)).save(path)
    loaded = Trace.load(path)
    assert [one.value for one in loaded] == list(range(25_000))
    assert loaded.events[-1].function == "f+0x61a7"
    assert path.stat().st_size < 40 * 25_000


def test_of_a_machine_without_its_image(engine: str, path: Path) -> None:
    with VM("monitor", engine=engine) as vm:
        vm.console.expect("vmlab> ", 30)
        with vm.trace() as live:
            vm.console.run("peek 0xd0000000", timeout=30)
        live.save(path)
    loaded = vmlab.load_trace(path)
    assert isinstance(loaded, SavedTrace)
    assert loaded.events == live.events
    assert loaded.about == {
        "arch": "x86_64",
        "machine": "pc",
        "engine": engine,
        "kernel": "monitor",
    }
    assert repr(loaded) == repr(live)
    assert "serial_put+0x" in repr(loaded)
    assert repr(loaded.by_function()) == repr(live.by_function())
    assert loaded.diff(live).same
    again = loaded.select(device="com1", kinds="write", register="THR", cpu=0, last=3)
    assert [one.value for one in again] == [ord(">"), ord(" ")][-3:] or len(again) == 3
    again.save(path)
    assert vmlab.load_trace(path).events == again.events


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "d1"}, "no device 'd1'; there are d0 in this log"),
        ({"kinds": "reed"}, "no kind of event 'reed'; did you mean 'read'"),
        ({"register": "Status"}, "no register 'Status'.* in this log"),
        ({"cpu": 4}, "no CPU '4'; there are 0 in this log"),
    ],
)
def test_selecting_what_there_is_not(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UnknownName, match=words):
        log([event()]).select(**options)
    with pytest.raises(ConfigError, match="last=0: a number from 1 on"):
        log([event()]).select(last=0)
    assert len(log([]).select(device="d1")) == 0


# --- files that are cut, damaged, or lie --------------------------------------------------------------------


def file_of(*parts: tuple[bytes, Any], version: int = 1) -> bytes:
    data = b"VMLABTRC" + struct.pack("<I", version)
    for kind, body in parts:
        plain = msgspec.msgpack.encode(body)
        packed = zlib.compress(plain)
        data += struct.pack("<cIII", kind, len(packed), len(plain), zlib.crc32(plain)) + packed
    return data


END = (b"Z", dict[str, int]())


def test_the_format_is_what_its_description_says(path: Path) -> None:
    path.write_bytes(
        file_of((b"H", HEAD), (b"?", 1), (b"N", [[4096, "f+0x0", "a.c:1"]]), (b"E", ONE), END)
    )
    [one] = vmlab.load_trace(path)
    assert str(one) == "0.500000 cpu0 f+0x0 (a.c:1)  write d0.R = 1"


def one_with(**fields: Any) -> list[TraceEvent]:
    return [TraceEvent._make(event())._replace(**fields)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no event log that vmlab has saved"),
        (b"VMLABTR", "no event log"),
        (b"VMLABTRC\1\0\0", "it is cut"),
        (b"VMLABTRC", "of version 0; this vmlab reads version 1"),
        (file_of(version=2), "of version 2; this vmlab reads version 1"),
        (file_of(), "it is cut: its end is missing"),
        (file_of((b"H", HEAD), (b"E", ONE)), "it is cut: its end is missing"),
        (file_of(END), "0 events, and it says that it has 0"),
        (file_of((b"E", ONE), END), "not in order"),
        (file_of((b"H", HEAD), (b"H", HEAD), END), "not in order"),
        (file_of((b"H", HEAD), END), "0 events, and it says that it has 1"),
        (file_of((b"H", HEAD), (b"E", ONE * 2), END), "more events than the 1"),
        (file_of((b"H", HEAD | {"events": 1 << 40}), END), "it says that it has 1,099,511,627,776"),
        (file_of((b"H", HEAD | {"events": -1}), END), "it says that it has -1"),
        (file_of((b"H", HEAD | {"dropped": -1}), END), "it says that"),
        (
            file_of(
                (
                    b"H",
                    {"about": {str(n): "" for n in range(101)}}
                    | HEAD
                    | {"about": {str(n): "" for n in range(101)}},
                ),
                END,
            ),
            "more words",
        ),
        (file_of((b"H", HEAD | {"about": {"arch": "x" * 9999}}), END), "more words"),
        (file_of((b"H", [1]), END), "something else in it"),
        (file_of((b"H", HEAD), (b"E", [["x"]]), END), "something else in it"),
        (file_of((b"H", HEAD), (b"E", [[0.5, 0, "write", 5]]), END), "something else in it"),
        (
            file_of((b"H", HEAD), (b"N", [[-1 << 70 if False else "x", "f", ""]]), END),
            "something else",
        ),
        (file_of((b"H", HEAD), (b"N", [[1, "f" * 9999, ""]]), END), "names than a log can have"),
        (
            file_of((b"H", HEAD), (b"E", one_with(kind="reads")), END),
            "a kind that there is not, 'reads'",
        ),
        (file_of((b"H", HEAD), (b"E", one_with(time=-1.0)), END), "an event at -1.0 s"),
        (file_of((b"H", HEAD), (b"E", one_with(time=float("nan"))), END), "an event at nan s"),
        (file_of((b"H", HEAD), (b"E", one_with(device="d" * 9999)), END), "more words"),
        (file_of((b"H", HEAD), (b"E", one_with(value=None)), END), "without an address"),
        (file_of((b"H", HEAD), (b"E", one_with(address=None)), END), "without an address"),
        (file_of() + struct.pack("<cIII", b"H", 1 << 30, 1 << 30, 0), "longer than what is left"),
        (
            file_of() + struct.pack("<cIII", b"H", 4, 1 << 30, 0) + bytes(4),
            "a part of 1,073,741,824",
        ),
        (file_of() + struct.pack("<cIII", b"H", 4, 9, 0) + bytes(4), "cannot be unpacked"),
    ],
)
def test_files_that_are_none(data: bytes, words: str, path: Path) -> None:
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=words) as failed:
        vmlab.load_trace(path)
    assert str(failed.value).startswith(str(path))


def test_a_part_that_unpacks_to_a_gigabyte(path: Path) -> None:
    packed = zlib.compress(bytes(1 << 26), 9)
    path.write_bytes(file_of() + struct.pack("<cIII", b"H", len(packed), 1000, 0) + packed)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="not what its head says"):
            vmlab.load_trace(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@OURS
@given(
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=4),
    st.integers(0, 99),
)
def test_a_file_that_was_cut_or_changed(
    path: Path, changes: list[tuple[int, int]], cut: int
) -> None:
    log([event(value=n, pc=n % 7) for n in range(200)]).save(path)
    data = bytearray(path.read_bytes())
    for at, value in changes:
        data[at % len(data)] = value
    path.write_bytes(data[: len(data) - cut * len(data) // 200])
    try:
        loaded = vmlab.load_trace(path)
    except ConfigError:
        return
    assert len(loaded) == 200


@OURS
@given(st.binary(max_size=300))
def test_a_file_of_anything(path: Path, data: bytes) -> None:
    path.write_bytes(b"VMLABTRC\1\0\0\0" + data)
    with pytest.raises(ConfigError):
        vmlab.load_trace(path)


def test_files_that_cannot_be(tmp_path: Path) -> None:
    for place, words in (
        (tmp_path / "nowhere" / "a.trace", "No such file"),
        (tmp_path, "directory"),
    ):
        for action in (vmlab.load_trace, log([]).save, log([]).to_csv, log([]).to_perfetto):
            with pytest.raises(ConfigError, match=words):
                action(place)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").write_text("kept")
    broken = log([event()])
    broken.about = {"arch": object()}  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        broken.save(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "kept", "a file takes its place when it is whole"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_what_a_terminal_would_believe_is_not_sent_to_it(path: Path) -> None:
    path.write_bytes(
        file_of((b"H", HEAD), (b"E", one_with(device="\x1b[2J", register="\r\n")), END)
    )
    assert repr(vmlab.load_trace(path)).isprintable()


def test_bounds_are_those_of_the_log() -> None:
    from vmlab.core.trace import RUN, TEXT
    from vmlab.monitor.controller import MAX_TRACE

    assert trace_file.MAX_EVENTS >= MAX_TRACE
    # a short text says how long it was
    assert trace_file.MAX_TEXT > TEXT + 100
    assert trace_file.MAX_TEXT > 4 * RUN
