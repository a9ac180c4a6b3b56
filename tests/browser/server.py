"""A Jupyter server with settings, kernels and state of its own, and what waits for it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.waiting import until

__all__ = ["SLOW", "TOKEN", "Server", "free_port"]

#: seconds that a server or a kernel may need on a busy host
SLOW = 60.0
TOKEN = "token-of-a-test"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Server:
    """JupyterLab and Notebook 7 in one server process, with settings, kernels and state of its own."""

    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.books = folder / "notebooks"
        self.books.mkdir(parents=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = env or {}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "server.log"

    def __enter__(self) -> Self:
        config = self.folder / "config"
        labconfig = config / "labconfig"
        labconfig.mkdir(parents=True)
        # Else the server would ask other hosts for news.
        quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
        (labconfig / "page_config.json").write_text(json.dumps(quiet))
        (config / "jupyter_server_config.json").write_text(json.dumps(self._settings()))
        env = {
            **os.environ,
            **self._env,
            "JUPYTER_CONFIG_DIR": str(config),
            "JUPYTER_DATA_DIR": str(self.folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.folder / "runtime"),
            "IPYTHONDIR": str(self.folder / "ipython"),
            "MPLCONFIGDIR": str(self.folder / "matplotlib"),
            "JUPYTER_PREFER_ENV_PATH": "1",
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--expose-app-in-browser"],
                cwd=self.books,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            until(self._answers, "an answer of the Jupyter server", SLOW)
        except BaseException:
            self.stop()
            raise
        return self

    def _settings(self) -> dict[str, Any]:
        return {
            "ServerApp": {
                "ip": "127.0.0.1",
                "port": self.port,
                "port_retries": 0,
                "root_dir": str(self.books),
                "jpserver_extensions": {"jupyterlab": True, "notebook": True},
            },
            "IdentityProvider": {"token": TOKEN},
            "JupyterNotebookApp": {"expose_app_in_browser": True},
        }

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError(f"the Jupyter server ended:\n{self.log.read_text()[-4000:]}")
        try:
            self.ask("status")
        except OSError:
            return False
        return True

    def ask(self, path: str, method: str = "GET") -> Any:
        """The server's REST interface; `path` is below /api."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}", method=method, headers={"Authorization": f"token {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def write(self, name: str, cells: Sequence[str]) -> str:
        """A notebook of these code cells; its path as the server knows it."""
        book = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
            },
            "cells": [
                {
                    "id": f"cell-{number}",
                    "cell_type": "code",
                    "source": source,
                    "metadata": {},
                    "outputs": [],
                    "execution_count": None,
                }
                for number, source in enumerate(cells)
            ],
        }
        (self.books / name).write_text(json.dumps(book))
        return name

    def kernels(self) -> list[str]:
        return [one["id"] for one in self.ask("kernels")]

    def forget(self) -> None:
        """End every kernel, drop every setting: the next page finds the server as new."""
        for one in self.ask("sessions"):
            with contextlib.suppress(urllib.error.HTTPError):
                self.ask(f"sessions/{one['id']}", "DELETE")
        for one in self.kernels():
            with contextlib.suppress(urllib.error.HTTPError):
                self.ask(f"kernels/{one}", "DELETE")
        for name in ("user-settings", "workspaces"):
            shutil.rmtree(self.folder / "config" / "lab" / name, ignore_errors=True)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.forget()  # kernels that outlive the server would hold their machines
        self.stop()
