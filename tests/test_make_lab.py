"""`make lab`: JupyterLab at the first notebook, whatever is in its way."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support import ROOT, require_module, require_program

FIRST = "notebooks/01-first-vm.ipynb"
#: seconds until it is there, on a machine that has much else to do
PATIENCE = 150

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_it_serves_the_first_notebook_beside_a_busy_port(tmp_path: Path) -> None:
    make = require_program("make")
    require_module("jupyterlab")
    taken = busy()
    port = taken.getsockname()[1]
    out = tmp_path / "out"
    env = {
        key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    for name in ("CONFIG", "DATA", "RUNTIME"):
        env[f"JUPYTER_{name}_DIR"] = str(tmp_path / name.lower())
    before = set(ROOT.iterdir())
    with out.open("wb") as file, taken:
        process = subprocess.Popen(
            # this interpreter has everything: no .venv need be made
            [
                make,
                "lab",
                "PREPARE=true",
                f"BIN={Path(sys.executable).parent}",
                f"LAB_ARGS=--port={port}",
            ],
            cwd=ROOT,
            env={**env, "IPYTHONDIR": str(tmp_path / "ipython")},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            process_group=0,
        )
        try:
            url = wait_for_url(out, process)
            assert f":{port}/" not in url
            with urllib.request.urlopen(url, timeout=60) as page:
                assert page.status == 200
                assert b"JupyterLab" in page.read()
            asked = url.replace("/lab/tree/", "/api/contents/").replace("?", "?content=0&")
            with urllib.request.urlopen(asked, timeout=60) as reply:
                assert reply.status == 200
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
    assert "Traceback" not in out.read_text()
    made = {one.name for one in set(ROOT.iterdir()) - before}
    assert not {one for one in made if not one.startswith(".coverage")}


def busy() -> socket.socket:
    """A port that is taken, with room behind it for the fifty that Jupyter tries next."""
    while True:
        taken = socket.create_server(("127.0.0.1", 0))
        if taken.getsockname()[1] < 65000:
            return taken
        taken.close()


def wait_for_url(out: Path, process: subprocess.Popen[bytes]) -> str:
    """The URL that it prints, with the token."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(
            rf"http://127\.0\.0\.1:\d+/lab/tree/{FIRST}\?token=\w+", out.read_text()
        ):
            return found[0]
        time.sleep(0.1)
    pytest.fail(f"no URL was printed:\n{out.read_text()}")
