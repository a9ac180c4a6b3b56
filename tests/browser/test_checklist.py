"""The driver's checklist in the dashboard: with a virtio device's registers, live, and readable."""

from __future__ import annotations

from tests.browser.dashboard import Dashboard, box_of, start, words
from tests.browser.lab import Lab
from tests.browser.test_looks import ground, too_faint
from tests.waiting import until


def steps(board: Dashboard) -> dict[str, str]:
    """Step -> its line, as a screen reader has it."""
    lines = board.root.get_by_role("group", name="The driver's checklist").get_by_role("listitem")
    return {words(line.locator("b").inner_text()): words(line.inner_text()) for line in lines.all()}


def test_a_row_shows_how_far_the_driver_is(lab: Lab) -> None:
    book, board = start(lab, "checklist", show="view = vm.lab(); view")
    book.run_new("from vmlab.virtio import Rng; vm.hot_add(Rng(seed=1), id='rng0')")
    board.row("rng0").wait_for()
    board.open("com1")
    board.open("rng0")
    until(lambda: steps(board).get("DRIVER_OK", "").startswith("✓ done"), "the set-up is done")
    assert len(steps(board)) == 16
    assert steps(board)["used ring"].startswith("· not yet")
    board.command("rng 8", "rng 8")
    until(lambda: steps(board)["InterruptACK"].startswith("✓ done"), "the request is done")
    base = book.ask("vm.devices['rng0'].base")
    for value in ("0", "3", "0xb"):
        board.command(f"poke {base + 0x70:#x} {value}", "poke")
    until(lambda: steps(board)["FEATURES_OK"].startswith("✗ wrong"), "what is wrong is said")
    assert "lacks VIRTIO_F_VERSION_1" in steps(board)["FEATURES_OK"]
    part = board.root.get_by_role("group", name="The driver's checklist")
    part.scroll_into_view_if_needed()
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        lab.command("apputils:change-theme", theme=theme)
        dark = theme.endswith("Dark")
        until(lambda: (max(ground(board)) < 60) == dark, f"the ground of {theme}")  # noqa: B023
        lab.shoot(f"checklist {theme}")
        assert too_faint(board) == []
    board.fit(480)
    part.scroll_into_view_if_needed()
    lab.shoot("checklist narrow")
    assert box_of(part)["width"] <= 480
    assert part.evaluate("one => one.scrollWidth <= one.clientWidth + 1")
    # what has ended shows how far it was
    board.button("Stop").click()
    board.wait_state("stopped")
    assert steps(board)["FEATURES_OK"].startswith("✗ wrong")
