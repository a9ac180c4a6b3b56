"""The two sides of a monitor process, one of them not as it should be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import msgspec
import pytest

from tests.vms import Dice
from tests.waiting import until
from vmlab import Device
from vmlab.core.counters import CounterPage
from vmlab.core.memory import GuestMemory
from vmlab.errors import ConfigError, EngineError, MonitorLost, StateError
from vmlab.machine.config import MachineConfig
from vmlab.monitor import session as module
from vmlab.monitor import wire
from vmlab.monitor.controller import Controller
from vmlab.monitor.session import MonitorSession, pickled

pytestmark = pytest.mark.usefixtures("no_leaks")

MEMORY = 1 << 20


class Impostor(MonitorSession):
    """A session whose other side runs `code`, with the connection as `c`."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.lost: list[str] = []
        self.told: list[wire.Event] = []
        super().__init__(MEMORY, self.told.append, self.lost.append)

    def _spawn(self, connection: int, memory: int, size: int, arch: str, page: int) -> Any:
        program = f"import os, socket, time\nc = socket.socket(fileno={connection})\n"
        return subprocess.Popen(
            [sys.executable, "-S", "-c", program + textwrap.dedent(self.code)],
            pass_fds=(connection,),
            stderr=self._stderr,
        )

    def __enter__(self) -> Impostor:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self.close()

    def wait_lost(self) -> str:
        until(lambda: self.lost, "the session never noticed")
        return self.lost[0]


def frame(message: object) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\x05\x00\x00\x00hello",
        b"\x00\x00\x00\x00",
        b"\x20\x00\x00\x00" + b"\x91" * 32,
        b"\x10\x27\x00\x00" + b"\x91" * 10_000,
        b"\x04\x00\x00\x00\x81\xa1\xff\x01",
        frame({"type": "State", "state": "fine", "exit": None, "fault": None}),
        frame({"type": "Build", "config": {}, "devices": []}),
        b"\x0b\x00\x00\x00\x80\x04cos\nsystem\n",
    ],
)
def test_garbage_from_the_monitor_ends_it(data: bytes) -> None:
    with Impostor(f"c.sendall({data!r}); time.sleep(60)") as session:
        began = time.monotonic()
        with pytest.raises(MonitorLost, match="broke the wire format"):
            session.call(wire.Look())
        assert "broke the wire format" in session.wait_lost()
        assert time.monotonic() - began < 5
        with pytest.raises(MonitorLost):
            session.call(wire.Pause())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("c.close(); os._exit(7)", "ended with status 7"),
        ("raise SystemExit('the words on stderr')", "the words on stderr"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("os.kill(os.getpid(), 35)", "was killed by signal 35|was killed by SIGRTMIN"),
        (r"c.sendall(b'\x10\0\0\0half'); os._exit(0)", "ended with status 0"),
    ],
)
def test_a_monitor_that_goes_is_missed(code: str, words: str) -> None:
    with Impostor(code) as session, pytest.raises(MonitorLost, match=words):
        session.call(wire.Look())


def test_an_answer_of_the_wrong_kind() -> None:
    done = frame({"type": "Answer", "number": 1, "reply": {"type": "Done"}})
    with Impostor(f"c.sendall({done!r}); time.sleep(60)") as session:
        with pytest.raises(MonitorLost, match="Look was answered with Done"):
            session.call(wire.Look())
        session.wait_lost()


def test_answers_nobody_asked_for_and_late_ones_are_ignored() -> None:
    stray = frame({"type": "Answer", "number": 99, "reply": {"type": "Done"}})
    good = frame({"type": "Answer", "number": 1, "reply": {"type": "Done", "count": 3}})
    code = f"c.sendall({stray!r}); c.sendall({good!r}); c.sendall({good!r}); time.sleep(60)"
    with Impostor(code) as session:
        session._number = 0
        assert session.call(wire.Pause()).count == 3
        assert not session.lost


def test_one_that_never_answers() -> None:
    with (
        Impostor("time.sleep(60)") as session,
        pytest.raises(MonitorLost, match="has not answered"),
    ):
        session.call(wire.Look(), timeout=0.1)


def test_one_that_ignores_the_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.2)
    session = Impostor("import signal; signal.signal(15, lambda *_: 0); time.sleep(60)")
    began = time.monotonic()
    session.close()
    session.close()
    assert time.monotonic() - began < 2
    assert session._process.returncode == -signal.SIGKILL


def test_a_call_that_is_under_way_when_it_dies() -> None:
    with Impostor("time.sleep(60)") as session:
        threading.Timer(0.1, session._process.kill).start()
        began = time.monotonic()
        with pytest.raises(MonitorLost, match="SIGKILL"):
            session.call(wire.Look())
        assert time.monotonic() - began < 5


def test_a_listener_that_raises_and_one_that_calls_back(caplog: pytest.LogCaptureFixture) -> None:
    out = frame({"type": "Output", "data": b"x"})
    good = frame({"type": "Answer", "number": 1, "reply": {"type": "Done"}})
    caught: list[BaseException] = []
    with Impostor(f"c.recv(1); c.sendall({out + out + good!r}); time.sleep(60)") as session:

        def tell(event: wire.Event) -> None:
            try:
                session.call(wire.Look())
            except StateError as error:
                caught.append(error)
            raise RuntimeError("a listener's mistake")

        session._tell = tell
        session.call(wire.Pause())
    assert len(caught) == 2
    assert "a listener's mistake" in caplog.text


class Sealed(MonitorSession):
    """What the monitor process would be given, looked at instead of started."""

    def __init__(self) -> None:
        super().__init__(MEMORY, lambda event: None, lambda why: None)

    def _spawn(self, connection: int, memory: int, size: int, arch: str, page: int) -> Any:
        self.refused = 0
        for fd in (memory, page):
            try:
                os.ftruncate(fd, 0)
            except PermissionError:
                self.refused += 1
        raise OSError(f"{self.refused} of 2")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has seals")
def test_the_monitor_cannot_cut_off_what_both_have_mapped() -> None:
    """That would end this process, by SIGBUS."""
    with pytest.raises(EngineError, match="2 of 2"):
        Sealed()


# --- the monitor's side -----------------------------------------------------------------------------


class Real(MonitorSession):
    def __init__(self) -> None:
        self.lost: list[str] = []
        super().__init__(MEMORY, lambda event: None, self.lost.append)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\x03\0\0\0abc", b"\x10\x27\0\0" + b"\x91" * 10_000]
)
def test_garbage_to_the_monitor_ends_it_in_words(data: bytes) -> None:
    session = Real()
    try:
        session._connection.sendall(data)
        with pytest.raises(MonitorLost, match="ended with status 1"):
            session.call(wire.Look())
        assert "WireError" in session.lost[0]
    finally:
        session.close()


def test_a_half_message_and_the_end() -> None:
    session = Real()
    session._connection.sendall(b"\x10\0\0\0half")
    session.close()
    assert session._process.returncode == 0
    assert not session.lost


def test_commands_without_a_machine() -> None:
    session = Real()
    try:
        for command in (wire.Start(), wire.Pause(), wire.Stop(), wire.Look(), wire.TakeTrace()):
            with pytest.raises(StateError, match="no machine"):
                session.call(command)
    finally:
        session.close()


# --- devices on their way -----------------------------------------------------------------------------


def test_a_device_travels_by_value() -> None:
    data = pickled(Dice())
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import pickle, sys; d = pickle.loads(sys.stdin.buffer.read());"
            "print(d.read(0, 4), d.read(0, 4), d.peek()['SIDES'], 'tests' in sys.modules)",
        ],
        input=data,
        capture_output=True,
        check=True,
        cwd=os.path.dirname(os.path.dirname(module.__file__)) + "/..",
    )
    assert found.stdout.split() == [b"1", b"2", b"6", b"False"]


def test_a_device_that_cannot_travel_says_so() -> None:
    class Holder(Device):
        def __init__(self) -> None:
            self.held = threading.Lock()

    with pytest.raises(ConfigError, match=r"cannot go to the monitor process.*attached"):
        pickled(Holder())


# --- the controller -------------------------------------------------------------------------------------


@pytest.fixture
def controller() -> Any:
    memory, page = GuestMemory.allocate(MEMORY * 8), CounterPage()
    made = Controller(memory, page, lambda event: None)
    yield made
    made.close()
    memory.close()


class Rude:
    """What should have been a device."""

    def __reduce__(self) -> Any:
        return sys.exit, ("gone",)


def every_command() -> list[wire.Command]:
    import pickle

    bad = [b"", b"garbage", pickle.dumps(7), pickle.dumps(Rude())]
    commands: list[wire.Command] = [
        wire.Build(MachineConfig("/no/such/kernel"), []),
        wire.Build(MachineConfig("/no/such/kernel", cpus=0, memory=-1), []),
        *(wire.HotAdd(data, None) for data in bad),
        *(wire.Replace("x", data) for data in bad),
        *(wire.Step(cpu, count) for cpu, count in ((0, 1), (-1, 1), (99, 1), (0, 0), (0, 1 << 60))),
        *(wire.GetRegs(cpu) for cpu in (0, -1, 1 << 40)),
        *(wire.SetRegs(0, values) for values in ({}, {"rip": 0}, {"nothing": 1}, {"rax": -1})),
        wire.SetRegs(5, {"rip": 0}),
        wire.Peek("com1"),
        wire.Peek("nothing"),
        wire.HotRemove("com1", True),
        wire.HotRemove("nothing", False),
        wire.Send(b"x" * 3_000_000),
        *(wire.Trace(True, last, devices) for last in (0, 1, 1 << 60) for devices in (None, ["x"])),
        *(wire.Trace(True, 1, None, *odd) for odd in ((["x"],), (None, ["x"]), (None, None, [-1]))),
        wire.Trace(False),
        wire.TakeTrace(),
        wire.Exits(),
        wire.Wrote(0, 1 << 60),
        wire.Wrote(-1, -1),
        wire.Look(),
    ]
    return commands


def test_no_command_raises_in_any_state(controller: Controller, engine: str) -> None:
    from tests.support import kernel_image

    def try_all() -> None:
        for command in every_command():
            assert isinstance(controller.handle(command), wire.Reply), command

    try_all()
    config = MachineConfig(str(kernel_image("monitor")), engine=engine, memory=MEMORY * 8)
    assert isinstance(controller.handle(wire.Build(config, [])), wire.Built)
    life: list[wire.Command] = [wire.Resume(), wire.Pause(), wire.Reset(), wire.Start()]
    life += [wire.Start(), wire.Pause(), wire.Pause(), wire.Reset(), wire.Resume(), wire.Resume()]
    life += [wire.Reset(), wire.Stop(), wire.Stop(), wire.Pause(), wire.Resume(), wire.Start()]
    life += [wire.Reset(), wire.Resume(), wire.Pause(), wire.Stop()]
    for command in life:
        reply = controller.handle(command)
        assert isinstance(reply, (wire.Done, wire.Failed)), command
        if isinstance(reply, wire.Failed):
            assert reply.error == "StateError", (command, reply)
        try_all()
