"""Devices by name: `--device name[,key=value][,flag]`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vmlab import catalogue
from vmlab.catalogue import CATALOGUE, make, options
from vmlab.core.device import Device
from vmlab.devices.timer import Timer
from vmlab.errors import ConfigError
from vmlab.regs import Registers
from vmlab.virtio.device import VirtioDevice


class Sample(Device):
    """Takes one of each."""

    class regs(Registers):
        """None."""

    def __init__(
        self,
        path: Path,
        size: int = 1,
        read_only: bool = False,
        serial: str | None = None,
        limit: int | None = None,
        sink: object = None,
        *more: int,
        **rest: int,
    ) -> None:
        self.given = (path, size, read_only, serial, limit)


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue.CATALOGUE, "sample", f"{__name__}:Sample")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


def made(spec: str) -> tuple[object, ...]:
    device, _ = make(spec)
    assert isinstance(device, Sample)
    return device.given


def test_a_timer() -> None:
    device, id = make("timer")
    assert isinstance(device, Timer)
    assert id is None
    assert make("timer,id=t1")[1] == "t1"
    assert make(" timer , id = t1 ")[1] == "t1"


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_entry_is_a_device_with_options_that_can_be_listed(name: str) -> None:
    assert issubclass(catalogue.class_of(name), (Device, VirtioDevice))  # type: ignore[arg-type]
    options(name)


@pytest.mark.usefixtures("sample")
def test_options_are_the_constructors() -> None:
    kinds = {key: one.kind for key, one in options("sample").items()}
    assert kinds == {"path": Path, "size": int, "read_only": bool, "serial": str, "limit": int}


@pytest.mark.usefixtures("sample")
@pytest.mark.parametrize(
    ("spec", "given"),
    [
        ("sample,path=/a/b", (Path("/a/b"), 1, False, None, None)),
        ("sample,path=x,size=0x10,serial=S1", (Path("x"), 16, False, "S1", None)),
        ("sample,path=x,size=4K,limit=64M", (Path("x"), 4096, False, None, 64 << 20)),
        ("sample,path=x,read_only", (Path("x"), 1, True, None, None)),
        ("sample,read-only=off,path=x", (Path("x"), 1, False, None, None)),
        ("sample,read-only=YES,path=a=b", (Path("a=b"), 1, True, None, None)),
    ],
)
def test_values_follow_the_annotation(spec: str, given: tuple[object, ...]) -> None:
    assert made(spec) == given


@pytest.mark.usefixtures("sample")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "there is no device ''; there are: console, disk, "),
        ("tinner", "there is no device 'tinner'"),
        ("timer,period=5", "device timer has no option 'period'; it takes: id"),
        ("timer,", "has no option ''"),
        ("timer,id=", "an id must not be empty"),
        ("timer,id", "an id must not be empty"),
        ("sample", "device sample needs path=...; it takes: id, path, size, read_only, serial"),
        ("sample,path", "path needs a value"),
        ("sample,path=", "path needs a value"),
        ("sample,path=x,size", "size needs a value"),
        ("sample,path=x,size=many", "size: 'many' is no size"),
        ("sample,path=x,size=", "size needs a value"),
        ("sample,path=x,read_only=perhaps", "read_only is on or off, not 'perhaps'"),
        ("sample,path=x,path=y", "option path is given twice"),
        ("sample,path=x,sink=y", "has no option 'sink'"),
        ("sample,path=x,rest=1", "has no option 'rest'"),
    ],
)
def test_what_is_wrong_is_said_in_words(spec: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(spec)
    assert message in str(caught.value)


def test_the_catalogue_imports_no_device() -> None:
    code = "import sys, vmlab.catalogue; print([m for m in sys.modules if m.startswith('vmlab.devices.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
