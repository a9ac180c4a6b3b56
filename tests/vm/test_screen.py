"""`vm.screen`: a guest that writes to 0xb8000 and takes keys by interrupt."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot.images import multiboot_elf
from tests.kernels.screen import echo
from tests.support import require_module
from vmlab import VM
from vmlab.errors import ConfigError, ExpectTimeout, StateError


@pytest.fixture
def vm(engine: str) -> Iterator[VM]:
    with VM(echo(), engine=engine) as machine:
        machine.screen.expect("ready")
        yield machine


def test_text_and_colours(vm: VM) -> None:
    assert vm.screen.text == "ready" + "\n" * 24
    assert vm.screen.size == (25, 80)
    assert vm.screen.attributes[0][:6] == b"\x1e" * 5 + b"\x07"
    assert vm.screen.cursor == (0, 0, True)
    page = vm.screen._repr_html_()
    assert '<span style="color:#ffff55;background:#0000aa">ready</span>' in page


def test_what_is_typed_comes_by_interrupt(vm: VM) -> None:
    assert vm.screen.type("aB\n") == 3
    vm.screen.expect(r"\n1e9e2a30b0aa1c9c")
    vm.wait_until(lambda v: v.screen.cursor == (1, 16, True))
    assert [row.raised for row in vm.irqs if row.line == 1] == [8]


def test_long_texts_wait_for_their_reader(vm: VM) -> None:
    assert vm.screen.type("l" * 60) == 60
    vm.screen.expect("26a6" * 20 + "\n" + "26a6" * 20 + "\n" + "26a6" * 20)


def test_a_scroll_by_start_address_and_fifty_lines(vm: VM) -> None:
    vm.screen.press("esc")
    vm.screen.expect("^0181")
    assert vm.screen.press("f1", "f2") == 2
    vm.screen.expect("bc")
    assert vm.screen.size.rows == 50
    assert len(vm.screen.text.split("\n")) == 50
    assert not vm.screen.cursor.visible


def test_a_reset_by_the_keyboard_controller_clears_it(vm: VM) -> None:
    vm.screen.press("f1")
    vm.wait_until(lambda v: v.screen.size.rows == 50)
    vm.screen.press("f3")
    vm.wait_until(lambda v: v.screen.size.rows == 25)
    vm.screen.expect("^ready\n\n")


def test_paused_and_after_the_end(vm: VM) -> None:
    vm.pause()
    assert vm.screen.text.startswith("ready")
    with pytest.raises(StateError, match="its screen says nothing more"):
        vm.screen.expect("nothing")
    vm.stop()
    assert vm.screen.text.startswith("ready")
    with pytest.raises(StateError):
        vm.screen.type("a")


def test_a_guest_that_takes_no_keys(vm: VM) -> None:
    vm.pause()
    assert vm.screen.type("abcdefghijkl", timeout=0) == 5, "as many as keyboard and controller hold"


def test_what_does_not_come(vm: VM) -> None:
    with pytest.raises(ExpectTimeout, match="the screen shows 'ready'"):
        vm.screen.expect("never", timeout=0.05)
    assert asyncio.run(vm.screen.wait_for("rea(dy)")).group(1) == "dy"


def test_wrong_keys_are_told_before_anything_is_typed(vm: VM) -> None:
    with pytest.raises(ConfigError, match="'ö' is on no key"):
        vm.screen.type("aö")
    with pytest.raises(ConfigError, match="did you mean 'enter'"):
        vm.screen.press("a", "entr")
    vm.screen.type("z")
    vm.screen.expect("\n2cac")


def test_the_map_names_the_memory(vm: VM) -> None:
    found = next(one for one in vm.address_map if one.name == "screen")
    assert (found.start, found.end, found.kind) == (0xB_8000, 0xB_FFFF, "ram")


def test_a_plug_does_not_press_a_key(vm: VM) -> None:
    """The hot-plug controller has the keyboard's line."""
    from vmlab.virtio import Rng

    vm.hot_add(Rng())
    vm.screen.type("a")
    vm.screen.expect("\n1e9e\n")


def test_a_machine_without_one() -> None:
    require_module("unicorn")
    with VM("hello", engine="soft") as vm:
        assert not vm.screen.there
        with pytest.raises(
            StateError, match=r"a PC \(x86_64\) has one when its kernel is multiboot"
        ):
            _ = vm.screen.text
        with pytest.raises(StateError, match="no text screen"):
            vm.screen.type("a")


def test_asked_for_and_refused(tmp_path: Path) -> None:
    require_module("unicorn")
    with VM("hello", engine="soft", screen=True) as vm:
        assert vm.screen.text == "\n" * 24
    image = tmp_path / "plain.elf"
    image.write_bytes(multiboot_elf())
    with VM(image, engine="soft", screen=False) as vm:
        assert not vm.screen.there
    with pytest.raises(ConfigError, match="an arm64 machine has none"):
        VM("hello", arch="arm64", screen=True)
    with pytest.raises(ConfigError, match="True or False"):
        VM("hello", screen="yes")  # type: ignore[arg-type]
