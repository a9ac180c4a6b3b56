"""Figures and static HTML: they say what the machine says, and say it the same way twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import require_module
from vmlab import VM, Device, Registers, rw
from vmlab.errors import ConfigError, DeviceNotFound


class Plain(Device):
    class regs(Registers):
        VALUE = rw(0x00, "anything <b>bold</b>")


@pytest.fixture
def vm(engine: str) -> Iterator[VM]:
    require_module("matplotlib")
    machine = VM(kernel="monitor", engine=engine, devices=[Plain()])
    with machine:
        machine.console.expect("> $")
        yield machine


def texts(figure: Any) -> Any:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_map_names_every_range_that_is_no_hole(vm: VM) -> None:
    shown = " ".join(texts(vm.plot_map()))
    for one in vm.address_map:
        if one.kind != "hole":
            assert one.name in shown
    assert "0xd000_0000" in shown


def test_traps_are_the_counters(vm: VM) -> None:
    vm.console.run("poke 0xd0000000 7")
    figure = vm.plot_traps(top=40)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert "plain0.VALUE" in labels
    counts = vm.traps["com1"].registers["THR"]
    assert f"{counts.reads + counts.writes:,}" in texts(figure)


def test_traps_of_a_machine_that_has_not_run() -> None:
    require_module("matplotlib")
    vm = VM(kernel="monitor")
    assert "nothing has trapped yet" in texts(vm.plot_traps())
    vm.stop()


def test_no_registers_cannot_be_drawn(vm: VM) -> None:
    with pytest.raises(ConfigError, match="at least"):
        vm.plot_traps(top=0)


def test_interrupts_are_the_counters(vm: VM) -> None:
    figure = vm.plot_irqs()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == [f"{row.line}\n{row.device}" for row in vm.irqs]


def rows(figure: Any) -> Any:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_the_timeline_has_a_row_a_register(vm: VM, tmp_path: Path) -> None:
    with vm.trace() as log:
        vm.console.run("peek 0xd0000000")
    figure = vm.plot_timeline(log.events)
    assert {"com1.THR", "com1.RBR", "plain0.VALUE"} <= set(rows(figure))
    figure.savefig(tmp_path / "timeline.svg")
    assert rows(vm.plot_timeline(log.events, device="plain0")) == ["plain0.VALUE"]
    # the serial port's line is a bar while it is up; its console has a row
    assert {"line 4", "com1 console"} <= set(rows(figure))
    assert figure.axes[0].collections
    some = [one for one in log.events if 0.001 <= one.time <= 0.1]
    part = vm.plot_timeline(log.events, start=0.001, end=0.1)
    assert f"{len(some):,} events from" in part.alt  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="start=2 is not before end=1"):
        vm.plot_timeline(log.events, start=2, end=1)
    assert vm.plot_timeline(log.events, log=True).axes[0].get_xscale() == "log"
    assert "the log is empty" in texts(vm.plot_timeline([]))


def test_a_timeline_of_many_registers_has_a_row_a_device() -> None:
    require_module("matplotlib")
    from vmlab.core.trace import TraceRecord
    from vmlab.notebook.timeline import REGISTERS, plot_timeline

    events = [
        TraceRecord(n / 1e3, 0, "read", f"d{n % 2}", f"R{n}", 4, 0, space="mmio", address=4 * n)
        for n in range(REGISTERS + 1)
    ]
    assert rows(plot_timeline(events[:REGISTERS]))[-1] == "d0.R0"
    assert rows(plot_timeline(events)) == ["d1", "d0"]


def test_one_device_and_a_logarithmic_axis(vm: VM) -> None:
    vm.console.run("poke 0xd0000000 7")
    assert rows(vm.plot_traps(device="plain0")) == ["plain0.VALUE"]
    assert vm.plot_traps(log=True).axes[0].get_xscale() == "log"
    # one access beside hundreds is still to be seen
    figure = vm.plot_traps(40, log=True)
    bars = dict(zip(rows(figure), figure.axes[0].patches, strict=True))
    assert bars["plain0.VALUE"].get_width() > figure.axes[0].get_xlim()[0]
    assert len(vm.plot_irqs(device="com1", log=True).axes[0].patches) == 1
    for draw in (vm.plot_traps, vm.plot_irqs):
        with pytest.raises(DeviceNotFound, match=r"'nope'; there are .*plain0"):
            draw(device="nope")


def test_titles_say_of_which_machine_and_device(vm: VM) -> None:
    def title(figure: Any) -> Any:
        return figure.axes[0].get_title(loc="left")

    name = getattr(vm, "name", None) or "monitor"
    assert title(vm.plot_map()).endswith(f": {name}")
    assert title(vm.plot_irqs()).endswith(f": {name}")
    assert title(vm.plot_traps(device="com1")) == f"Traps by register: {name}, com1"
    assert title(vm.plot_timeline([], device="com1")) == f"Timeline: {name}, com1"


def test_every_figure_says_in_words_what_it_shows(vm: VM) -> None:
    vm.console.run("poke 0xd0000000 7")
    with vm.trace() as log:
        vm.console.run("peek 0xd0000000")
    vm.pause()
    counts = vm.traps["plain0"].registers["VALUE"]
    [line] = [row for row in vm.irqs if row.device == "com1"]
    wanted = {
        vm.plot_map(): "plain0 at 0xd000_0000",
        vm.plot_traps(40): f"plain0.VALUE {counts.reads:,} reads and {counts.writes:,} writes",
        vm.plot_irqs(): f"line {line.line} of com1 {line.raised:,} times",
        vm.plot_timeline(log.events): "plain0.VALUE 1",
        vm.plot_timeline([]): "The log is empty",
    }
    figure: Any
    for figure, words in wanted.items():
        assert words in figure.alt
        data, metadata = figure._repr_mimebundle_()
        assert data["text/plain"] == metadata["image/png"]["alt"] == figure.alt
        assert f'alt="{figure.alt}"' in data["text/html"]
        assert figure.alt.encode() in figure._repr_png_()


def test_figures_and_views_have_one_palette() -> None:
    from tests.support import ROOT
    from vmlab.notebook import palette

    style = (ROOT / "vmlab/notebook/frontend/src/shared/base.css").read_text("utf-8")
    shown = dict(re.findall(r"--vml-(\w+): (#\w{6});", style.partition("}")[0]))
    assert shown["ram"] == palette.KINDS["ram"]
    assert shown["mmio"] == shown["port"] == palette.KINDS["mmio"]
    assert shown["chip"] == palette.KINDS["interrupt-controller"]
    assert shown["hot"] == palette.VERMILION


def test_static_html_is_deterministic_and_escaped(vm: VM) -> None:
    from vmlab.notebook import html

    vm.pause()
    first, second = html.page(vm), html.page(vm)
    assert first == second
    assert "plain0" in first
    assert not re.search(r"<(script|b>bold)", first)
    assert html.table("c", ["h"], [["<script>"]]).count("&lt;script&gt;") == 1


def test_a_line_that_is_up_before_or_after_what_is_shown_is_a_bar_there() -> None:
    require_module("matplotlib")
    from vmlab.core.trace import TraceRecord
    from vmlab.notebook.timeline import plot_timeline

    events = [
        TraceRecord(1.0, None, "raise", "a", line=5),
        TraceRecord(2.0, None, "deliver", "a", line=5),
        TraceRecord(5.0, None, "lower", "a", line=5),
    ]
    for start, end, bar in (
        (None, None, (1e3, 5e3)),
        (1.5, 5.5, (1.5e3, 5e3)),
        (0.5, 3, (1e3, 3e3)),
    ):
        (drawn,) = plot_timeline(events, start=start, end=end).axes[0].collections
        extents = drawn.get_paths()[0].get_extents()
        assert (extents.x0, extents.x1) == bar
