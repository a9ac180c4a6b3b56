"""A logger that loads `logging` when something is logged: it would take a tenth of a guest's start-up."""

from __future__ import annotations

__all__ = ["Log"]


class Log:
    """The logger of the module `name`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def warning(self, text: str, *values: object) -> None:
        import logging

        logging.getLogger(self._name).warning(text, *values)

    def exception(self, text: str, *values: object) -> None:
        """With the traceback of the exception that is being handled."""
        import logging
        import sys

        from vmlab.core.safely import trace_of

        error = sys.exception()
        trace = trace_of(error) if error is not None else ""
        logging.getLogger(self._name).error(f"{text}\n%s", *values, trace.rstrip())
