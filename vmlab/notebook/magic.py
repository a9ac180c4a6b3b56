"""`%%guest`: the cell goes to the guest's console, line by line, and what it printed comes back.

%load_ext vmlab
%%guest vm
peek 0xd0000000
irqs
"""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, NoReturn

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class

from vmlab.vm import VM

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["GuestMagics", "load"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(
            f"%%guest: {message}; write %%guest [VM] [--timeout SECONDS] [--prompt REGEX]"
        )


_parser = _Parser(prog="%%guest", add_help=False)
_parser.add_argument("vm", nargs="?")
_parser.add_argument("--timeout", type=float, default=5.0)
_parser.add_argument("--prompt", default=None)


@magics_class
class GuestMagics(Magics):
    """The magic, in one shell."""

    @cell_magic
    def guest(self, line: str, cell: str) -> None:
        """Type each line of the cell at the guest's prompt; print what it answers."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise UsageError(f"%%guest: {error}") from None
        options = _parser.parse_args(words)
        vm = self._machine(options.vm)
        extra = {"prompt": options.prompt} if options.prompt else {}
        for command in cell.splitlines():
            if command.strip():
                print(vm.console.run(command, timeout=options.timeout, **extra))

    def _machine(self, name: str | None) -> VM:
        """The VM called `name`; without a name, the only one that runs."""
        names = self.shell.user_ns  # type: ignore[union-attr]  # there is a shell: it called us
        if name is not None:
            vm = names.get(name)
            if not isinstance(vm, VM):
                raise UsageError(f"%%guest: {name} is no VM of this notebook")
            return vm
        running = {
            id(one): one for one in names.values() if isinstance(one, VM) and one.state == "running"
        }
        if len(running) != 1:
            raise UsageError(f"%%guest: {len(running) or 'no'} VMs run here; name one: %%guest vm")
        return next(iter(running.values()))


def load(shell: InteractiveShell) -> None:
    shell.register_magics(GuestMagics)
