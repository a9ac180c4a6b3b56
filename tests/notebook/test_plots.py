"""Figures and static HTML: they say what the machine says, and say it the same way twice."""

from __future__ import annotations

import re

import pytest

from tests.support import require_module
from vmlab import VM, Device, Registers, rw
from vmlab.errors import ConfigError


class Plain(Device):
    class regs(Registers):
        VALUE = rw(0x00, "anything <b>bold</b>")


@pytest.fixture
def vm(engine):
    require_module("matplotlib")
    machine = VM(kernel="monitor", engine=engine, devices=[Plain()])
    with machine:
        machine.console.expect("> $")
        yield machine


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_map_names_every_range_that_is_no_hole(vm):
    shown = " ".join(texts(vm.plot_map()))
    for one in vm.address_map:
        if one.kind != "hole":
            assert one.name in shown
    assert "0xd000_0000" in shown


def test_traps_are_the_counters(vm):
    vm.console.run("poke 0xd0000000 7")
    figure = vm.plot_traps(top=40)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert "plain0.VALUE" in labels
    counts = vm.traps["com1"].registers["THR"]
    assert f"{counts.reads + counts.writes:,}" in texts(figure)


def test_traps_of_a_machine_that_has_not_run():
    require_module("matplotlib")
    vm = VM(kernel="monitor")
    assert "nothing has trapped yet" in texts(vm.plot_traps())
    vm.stop()


def test_no_registers_cannot_be_drawn(vm):
    with pytest.raises(ConfigError, match="at least"):
        vm.plot_traps(top=0)


def test_interrupts_are_the_counters(vm):
    figure = vm.plot_irqs()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == [f"{row.line}\n{row.device}" for row in vm.irqs]


def test_the_timeline_has_a_row_a_device(vm, tmp_path):
    with vm.trace() as log:
        vm.console.run("peek 0xd0000000")
    figure = vm.plot_timeline(log.events)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert {"com1", "plain0"} <= set(labels)
    figure.savefig(tmp_path / "timeline.svg")
    assert "the log is empty" in texts(vm.plot_timeline([]))


def test_static_html_is_deterministic_and_escaped(vm):
    from vmlab.notebook import html

    vm.pause()
    first, second = html.page(vm), html.page(vm)
    assert first == second
    assert "plain0" in first
    assert not re.search(r"<(script|b>bold)", first)
    assert html.table("c", ["h"], [["<script>"]]).count("&lt;script&gt;") == 1
