"""`vmlab trace` and `vmlab run --trace`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_command import said
from tests.vm.trace_events import event, log
from tests.vms import run
from vmlab import load_trace


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "a.trace"
    done = run(
        *("run", "monitor", "--engine", "soft", "--device", "rng,id=r", "--trace", str(path)),
        stdin=b"rng 8\nexit 5\n",
    )
    assert done.returncode == 11
    assert f"vmlab: {path}: ".encode() in done.stderr
    assert done.stderr.endswith(b" events\n")
    return path


def lines(*arguments: str, status: int = 0) -> list[str]:
    done = run("trace", *arguments)
    assert done.returncode == status, done.stderr.decode()
    return done.stdout.decode().splitlines()


def test_a_run_from_its_first_instruction(saved: Path) -> None:
    kept = load_trace(saved)
    assert kept.events[0].device == "com1"
    assert {"added", "read", "write", "kick", "raise", "input", "output"} - {"added"} <= {
        one.kind for one in kept
    }
    assert kept.events[-1].device == "debug-exit"


def test_show(saved: Path) -> None:
    kept = load_trace(saved)
    assert len(lines("show", str(saved))) == len(kept)
    some = lines("show", str(saved), "--device", "r", "--kind", "access", "--register", "Status")
    assert some[-1].endswith("  write Status = 0xf")
    assert all(" Status = " in line for line in some)
    assert len(lines("show", str(saved), "--cpu", "0", "--last", "4")) == 4
    counted = lines("show", str(saved), "--by-function", "--device", "com1")
    assert counted[0].split() == ["reads", "writes", "function", "devices"]
    assert counted[1].split()[2:] == ["serial_put", "com1"]


def test_diff(saved: Path, tmp_path: Path) -> None:
    assert lines("diff", str(saved), str(saved))[0].startswith("the same: ")
    one, other = tmp_path / "one", tmp_path / "other"
    log([event(value=n) for n in range(9)]).save(one)
    log([event(value=n) for n in (*range(5), 77, *range(6, 9))]).save(other)
    told = lines("diff", str(one), str(other), status=1)
    assert told[0] == "1 difference in 9 and 9 events"
    assert [line for line in told if line[0] in "+-"] == [
        "- 0.500000 cpu0 0x1000  write d0.R = 5",
        "+ 0.500000 cpu0 0x1000  write d0.R = 0x4d",
    ]
    assert lines("diff", str(one), str(other), "--no-values")
    assert lines("diff", str(one), str(other), "--kind", "read")
    assert lines("diff", str(one), str(other), "--device", "d0", status=1)
    said(run("trace", "diff", str(one), str(tmp_path / "nothing")), 2)
    (tmp_path / "cut").write_bytes(one.read_bytes()[:-5])
    assert "it is cut" in said(run("trace", "diff", str(tmp_path / "cut"), str(one)), 2)


def test_export(saved: Path, tmp_path: Path) -> None:
    table, told = tmp_path / "a.csv", tmp_path / "a.json"
    assert lines("export", str(saved), "--csv", str(table)) == []
    assert lines("export", str(saved), "--perfetto", str(told)) == []
    assert table.read_text().startswith("time,cpu,kind,device,register,")
    assert len(json.loads(told.read_text())["traceEvents"]) > len(load_trace(saved))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "{nothing}"), "nothing: No such file or directory"),
        (("show", "{folder}"), "Is a directory"),
        (("show", "{text}"), "no event log that vmlab has saved"),
        (("show", "{saved}", "--device", "s"), "no device 's'"),
        (("show", "{saved}", "--kind", "reed"), "did you mean 'read'"),
        (("show", "{saved}", "--register", "Statsu"), "did you mean 'Status'"),
        (("show", "{saved}", "--cpu", "7"), "no CPU '7'"),
        (("show", "{saved}", "--cpu", "x"), "--cpu: invalid int value"),
        (("show", "{saved}", "--last", "0"), "last=0"),
        (("diff", "{saved}"), "required: FILE"),
        (("export", "{saved}"), "one of the arguments --csv --perfetto is required"),
        (("export", "{saved}", "--csv", "{folder}"), "directory"),
        (("export", "{saved}", "--perfetto", "{nothing}/x"), "No such file"),
        ((), "required: ACTION"),
        (("compare",), "invalid choice: 'compare'"),
    ],
)
def test_what_is_wrong(arguments: tuple[str, ...], words: str, saved: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("hello")
    places = {"nothing": tmp_path / "nothing", "folder": tmp_path, "text": text, "saved": saved}
    done = run("trace", *(word.format(**places) for word in arguments))
    assert words in said(done, 2)


def test_a_file_that_a_run_cannot_write(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere" / "a"):
        done = run("run", "hello", "--engine", "soft", "--trace", str(place))
        said(done, 2)
        assert done.stdout == b"", "it says so before the guest runs"
