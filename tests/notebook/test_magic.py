"""The cell magic `%%guest`, in a real IPython shell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import require_module
from vmlab import VM


@pytest.fixture
def shell() -> Iterator[Any]:
    require_module("IPython")
    from IPython.core.interactiveshell import InteractiveShell

    made = InteractiveShell()
    made.run_line_magic("load_ext", "vmlab")
    yield made
    made.history_manager.end_session()  # type: ignore[union-attr]


def test_the_cell_is_typed_and_the_answers_are_printed(
    shell: Any, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with VM(kernel="monitor", engine=engine) as vm:
        vm.console.expect("> $")
        shell.user_ns["vm"] = vm
        shell.run_cell_magic("guest", "vm", "peek 0xcf000000\n\npeek 0xcf000000 1\n")
        out = capsys.readouterr().out
        assert out.splitlines() == ["0xcf000000: 0x544d4c56", "0xcf000000: 0x56"]
        shell.run_cell_magic("guest", "", "peek 0xcf000000\n")
        assert "0x544d4c56" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["nobody", "--timeout x", "--nonsense", "'"])
def test_wrong_lines_are_usage_errors(shell: Any, line: str) -> None:
    from IPython.core.error import UsageError

    shell.user_ns["nobody"] = 3
    with pytest.raises(UsageError):
        shell.run_cell_magic("guest", line, "help\n")


def test_without_a_machine(shell: Any) -> None:
    from IPython.core.error import UsageError

    with pytest.raises(UsageError, match="no VMs run"):
        shell.run_cell_magic("guest", "", "help\n")
