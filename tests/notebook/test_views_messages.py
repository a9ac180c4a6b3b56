"""What comes from the page: in order, checked, and never an exception in the kernel."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.notebook.page import ManualPump, Page
from tests.support import require_module
from tests.vms import Broken, Dice, monitor
from tests.waiting import until
from vmlab import VM

require_module("anywidget")

from vmlab.notebook.lab import Lab
from vmlab.notebook.sequencing import Resequencer, SerialExecutor
from vmlab.notebook.view import CLIENTS


@pytest.fixture
def vm(engine: str) -> Iterator[VM]:
    with monitor(engine) as made:
        yield made


@pytest.fixture
def lab(vm: VM) -> Iterator[Any]:
    view = Lab(vm)
    yield view
    view.close()


@given(st.permutations(range(40)))
def test_messages_are_put_in_order(order: Any) -> None:
    reorder: Resequencer[int] = Resequencer(clock=lambda: 0.0)
    out = [item for number in order for item in reorder.put(number, number)]
    assert out == list(range(40))
    assert not reorder.gap


def test_what_is_lost_holds_up_the_rest_only_so_long() -> None:
    now = [0.0]
    reorder: Resequencer[str] = Resequencer(clock=lambda: now[0])
    assert list(reorder.put(1, "b")) == []
    now[0] = 0.4
    assert list(reorder.put(2, "c")) == []
    now[0] = 0.6
    assert list(reorder.due()) == ["b", "c"]
    assert list(reorder.put(0, "a")) == []


def test_many_that_wait_do_not_wait() -> None:
    reorder: Resequencer[int] = Resequencer(clock=lambda: 0.0)
    out = [item for number in range(1, 600) for item in reorder.put(number, number)]
    assert out[:2] == [1, 2]
    assert out == sorted(out)


def test_errands_are_done_in_order_and_survive_one_that_raises(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[int] = []
    errands = SerialExecutor("test")
    with caplog.at_level(logging.CRITICAL):
        for number in range(20):
            errands.put(partial(done.append, number))
            errands.put(lambda: 1 / 0)  # type: ignore[arg-type]
        until(lambda: not errands.busy, "all done")
    assert done == list(range(20))


def test_errands_are_bounded() -> None:
    errands = SerialExecutor("test", most=2)
    hold = threading.Event()
    errands.put(hold.wait)  # type: ignore[arg-type]
    until(lambda: not errands._todo, "the first under way")
    assert [errands.put(lambda: None) for _ in range(3)] == [True, True, False]
    hold.set()
    until(lambda: not errands.busy, "the end")


def test_typed_text_arrives_in_order_however_it_is_delivered(vm: VM, lab: Any) -> None:
    page = Page(lab).arrive()
    messages = [
        {"kind": "type", "from": page.name, "n": page.number + index, "text": character}
        for index, character in enumerate("help peek\r")
    ]
    random.Random(4).shuffle(messages)
    for message in messages:
        page.raw(message)
    vm.console.expect("help peek", timeout=10)
    vm.console.expect("ADDR", timeout=10)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
TEXTS = ("of", "panel", "id", "ids", "on", "text", "at", "columns", "rows", "name")
kinds = st.sampled_from(
    [
        "hello",
        "seen",
        "alive",
        "bye",
        "open",
        "select",
        "do",
        "type",
        "drawn",
        "resize",
        "add",
        "remove",
        "replace",
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            json_values,
            st.fixed_dictionaries(
                {"kind": kinds | json_values, "from": st.just("x") | json_values},
                optional={
                    "n": st.integers(-1, 9) | json_values,
                    **dict.fromkeys(TEXTS, json_values),
                    "options": json_values,
                    "action": json_values,
                    "force": json_values,
                },
            ),
        ),
        max_size=12,
    )
)
def test_no_message_raises_in_the_kernel(messages: Any) -> None:
    lab = _hostile_lab()
    lab._clients.clear()
    seen: list[Any] = []
    handler = _Recorder(seen)
    logging.getLogger("vmlab.notebook.view").addHandler(handler)
    try:
        for message in messages:
            lab._handle_custom_msg(message, [])
    finally:
        logging.getLogger("vmlab.notebook.view").removeHandler(handler)
    assert not seen
    assert len(lab._clients) <= CLIENTS


class _Recorder(logging.Handler):
    """Keeps exceptions that were swallowed: a handler of ours should not even raise inside."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        self._seen.append(self.format(record))


_kept: list[Lab] = []


def _hostile_lab() -> Lab:
    """One dashboard of a machine that is never started, for all examples."""
    if not _kept:
        from vmlab import VM

        vm = VM(kernel="hello", engine="soft")
        vm.stop()
        _vms.append(vm)
        lab = Lab(vm, pump=ManualPump())
        lab.send = lambda *_, **__: None
        _kept.append(lab)
    return _kept[0]


_vms: list[object] = []


def test_a_page_sets_no_state(lab: Any) -> None:
    before = lab.snapshot
    for state in ({"snapshot": {"machine": 1}}, {"snapshot": 5}, {"_esm": "alert(1)"}, {"nope": 1}):
        lab._handle_msg({"content": {"data": {"method": "update", "state": state}}, "buffers": []})
    assert lab.snapshot["machine"] == before["machine"]
    assert "alert" not in lab._esm[:100]


def test_buttons_do_what_they_say_and_errors_are_told_in_words(vm: VM, lab: Any) -> None:
    page = Page(lab).arrive()
    page.say("do", action="pause")
    until(lambda: vm.state == "paused", "paused")
    page.say("do", action="step")
    page.say("do", action="resume")
    until(lambda: vm.state == "running", "running")
    page.say("do", action="step")
    trouble = until(lambda: page.heard("trouble"), "trouble")
    assert "paused" in trouble[0]["text"]
    page.say("do", action="explode")
    assert "no action 'explode'" in page.heard("trouble")[-1]["text"]


def test_a_step_of_a_halted_cpu_says_why_nothing_moved(vm: VM, lab: Any) -> None:
    page = Page(lab).arrive()
    vm.pause()  # the prompt waits in HLT
    page.say("do", action="step")
    until(lambda: any("halted" in one["text"] for one in page.heard("done")), "the reason")
    assert not page.heard("trouble")


def test_a_guest_that_does_not_let_go_holds_up_neither_buttons_nor_typing(vm: VM, lab: Any) -> None:
    page = Page(lab).arrive()
    vm.hot_add(Dice(), id="dice0")
    vm.console.run("peek 0xd0000000")
    vm.console.send("spin\n")  # it serves no hot-plug meanwhile
    vm.console.expect("until a key")
    page.say("remove", id="dice0")
    until(lambda: vm.devices["dice0"].state == "removing", "the guest asked")
    page.say("do", action="pause")
    until(lambda: vm.state == "paused", "paused")
    page.say("do", action="resume")
    until(lambda: vm.state == "running", "running")
    page.say("type", text="x")
    vm.console.expect("vmlab> ")
    until(lambda: "dice0" not in vm.devices, "the device gone")
    assert not page.heard("trouble")


def test_adding_and_removing_from_the_panel(
    vm: VM, lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmlab.notebook.forms.namespace", lambda: {"Dice": Dice, "Broken": Broken})
    page = Page(lab).arrive()
    page.say("add", name="Dice", id="", options={})
    added = until(lambda: page.heard("added"), "the device added")
    assert added[0]["id"] == "dice0"
    page.say("add", name="Dice", id="dice0", options={})
    assert "already" in until(lambda: page.heard("trouble"), "a duplicate")[0]["text"]
    page.say("add", name="Nope", options={})
    until(lambda: "no device 'Nope'" in page.heard("trouble")[-1]["text"], "no such device")
    page.say("remove", id="dice0", force=False)
    until(lambda: "dice0" not in vm.devices, "the device gone")
    page.say("remove", id="dice0")
    until(lambda: "couldn't be found" in page.heard("trouble")[-1]["text"], "nothing to remove")


def test_a_page_that_was_forgotten_is_asked_who_it_is(lab: Any) -> None:
    page = Page(lab).arrive()
    lab._clients.clear()
    page.number = 50
    page.say("alive")
    assert page.heard("who")


def test_pages_are_bounded(lab: Any) -> None:
    for number in range(CLIENTS + 10):
        Page(lab, f"page{number}").arrive()
    assert len(lab._clients) == CLIENTS


def test_pages_on_screen_are_watched_and_those_that_left_are_not(lab: Any) -> None:
    page = Page(lab).arrive()
    assert lab.watched
    page.say("seen", on=False)
    assert not lab.watched
    page.say("seen", on=True)
    page.say("bye")
    assert not lab.watched
