"""Event logs for other programs.

Perfetto's own trace processor is a program that its package fetches when it is used; so the JSON is checked
here against what the format's description asks of it.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.vm.trace_events import Table, event, events, log
from vmlab import VM
from vmlab.virtio import Disk
from vmlab.vm.trace import TraceEvent
from vmlab.vm.trace_export import COLUMNS

OURS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def check_trace_events(told: Any) -> list[dict[str, Any]]:
    """As "Trace Event Format" has it: the JSON object form, phases B, E, i and M."""
    assert set(told) <= {"traceEvents", "displayTimeUnit"}
    assert told["displayTimeUnit"] in ("ms", "ns")
    depth: dict[tuple[int, int], int] = {}
    named = set()
    for one in told["traceEvents"]:
        assert isinstance(one["pid"], int)
        assert isinstance(one["tid"], int)
        assert isinstance(one["ts"], int | float)
        assert one["ts"] >= 0
        track = one["pid"], one["tid"]
        if one["ph"] == "M":
            assert one["name"] in ("process_name", "thread_name")
            assert isinstance(one["args"]["name"], str)
            named.add(track)
            continue
        assert track in named, "a track has its name before its first event"
        if one["ph"] == "E":
            depth[track] = depth.get(track, 0) - 1
            assert depth[track] >= 0
            continue
        assert isinstance(one["name"], str)
        assert isinstance(one["cat"], str)
        assert isinstance(one["args"], dict)
        if one["ph"] == "B":
            depth[track] = depth.get(track, 0) + 1
        else:
            assert one["ph"] == "i"
            assert one["s"] in ("g", "p", "t")
    assert not any(depth.values()), "each that begins ends"
    return [one for one in told["traceEvents"] if one["ph"] != "M"]


@OURS
@given(events)
def test_any_log_is_one_for_perfetto(tmp_path: Path, made: list[TraceEvent]) -> None:
    path = tmp_path / "a.json"
    log(made).to_perfetto(path)
    told = check_trace_events(json.loads(path.read_text(encoding="utf-8")))
    instants = [one for one in told if one["ph"] == "i"]
    assert len(instants) == sum(one.kind not in ("raise", "lower") for one in made)


def test_a_disks_request_for_perfetto(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with VM("monitor", engine=engine, devices=[Disk(data=bytes(512))]) as vm:
        vm.console.expect("vmlab> ", 30)
        with vm.trace() as live:
            vm.console.run("blk read 0", timeout=30)
        live.to_perfetto(path)
    told = json.loads(path.read_text())
    check_trace_events(told)
    tracks = {one["args"]["name"] for one in told["traceEvents"] if one["ph"] == "M"}
    line = next(one.line for one in live if one.kind == "raise" and one.device == "disk0")
    assert {"CPUs", "cpu0", "interrupt lines", f"line {line}", "consoles", "com1"} <= tracks
    assert {"devices", "disk0"} <= tracks
    up = [one for one in told["traceEvents"] if one["ph"] == "B"]
    assert {"disk0", "com1"} <= {one["name"] for one in up}
    written = next(
        one for one in told["traceEvents"] if one.get("name") == "write disk0.InterruptACK = 1"
    )
    assert written["args"]["value"] == "0x1"


@OURS
@given(events)
def test_any_log_is_a_table(tmp_path: Path, made: list[TraceEvent]) -> None:
    path = tmp_path / "a.csv"
    log(made).to_csv(path)
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert tuple(head) == COLUMNS
    assert len(rows) == len(made)
    for row, one in zip(rows, made, strict=True):
        values = dict(zip(COLUMNS, row, strict=True))
        assert float(values["time"]) == pytest.approx(one.time, abs=1e-9)
        assert values["value"] == ("" if one.value is None else str(one.value))
        assert values["text"] == one.text
        assert values["device"] == one.device


def test_a_table_has_functions_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    log([event()], Table({0x1000: ("f+0x0", "a.c:7")})).to_csv(path)
    assert path.read_text().splitlines()[1] == (
        "0.500000000,0,write,d0,R,4,1,4096,f+0x0,a.c:7,,mmio,3489660928,"
    )
