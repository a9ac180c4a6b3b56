"""A real kernel, as a front end talks to it."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from jupyter_client.manager import KernelManager

__all__ = ["Cell", "Kernel", "kernel"]

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Cell(NamedTuple):
    """What a cell gave: what it printed, its error as it is shown, its result's repr."""

    printed: str
    error: str
    result: str


class Kernel:
    def __init__(self, client: Any) -> None:
        self._client = client

    def run(self, code: str, timeout: float = 60) -> Cell:
        asked = self._client.execute(code)
        printed = error = result = ""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            message = self._client.get_iopub_msg(timeout=timeout)
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                printed += content["text"]
            elif kind == "error":
                error = _COLOURS.sub("", "\n".join(content["traceback"]))
            elif kind == "execute_result":
                result = content["data"]["text/plain"]
            elif kind == "status" and content["execution_state"] == "idle":
                return Cell(printed, error, result)
        raise TimeoutError(code)

    def complete(self, code: str, timeout: float = 30) -> list[str]:
        asked = self._client.complete(code, len(code))
        while True:
            reply = self._client.get_shell_msg(timeout=timeout)
            if reply["parent_header"].get("msg_id") == asked:
                return list(reply["content"]["matches"])


@contextlib.contextmanager
def kernel() -> Iterator[Kernel]:
    manager = KernelManager()
    manager.kernel_cmd = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]  # type: ignore[attr-defined]
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
