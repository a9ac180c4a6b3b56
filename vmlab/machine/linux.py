"""What a Linux guest is given beside what it asks for: the software engine's needs."""

from __future__ import annotations

from vmlab.core.cmdline import Cmdline

__all__ = ["SOFT_ARGUMENTS", "command_line"]

#: What the software engine's CPU wants, unless the command line says otherwise. Its time stamp counter
#: is the host's and needs no other clock to watch it.
SOFT_ARGUMENTS = ("tsc=reliable",)


def command_line(text: str, engine: str) -> Cmdline:
    """`text`, and for the software engine those of SOFT_ARGUMENTS whose key is not in it."""
    line = Cmdline(text=text)
    given = {word.partition("=")[0] for word in text.split()}
    if engine == "soft":
        for argument in SOFT_ARGUMENTS:
            if argument.partition("=")[0] not in given:
                line.insert_str(argument)
    return line
