"""`make lab`: JupyterLab at the first handout, whatever is in its way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT, require_module, require_program

FIRST = "01-first-vm.ipynb"


@pytest.mark.timeout(300)
def test_it_serves_the_first_handout_beside_a_busy_port(tmp_path: Path) -> None:
    """A copy without solutions, and nothing else in sight; the second time the work that is in it."""
    folder = tmp_path / "hand outs"
    with serving("lab", FIRST, tmp_path, f"HANDOUTS={folder}") as url:
        assert solutions(contents(url, FIRST)) == 0
        assert "NotImplementedError" in contents(url, FIRST)
        names = {one["name"] for one in json.loads(contents(url, ""))["content"]}
        assert names == {one.name for one in (ROOT / "notebooks").glob("*.ipynb")}
        assert not urlopen_fails(url, FIRST)
        assert urlopen_fails(url, "../notebooks/" + FIRST)
    work = json.loads((folder / FIRST).read_text())
    work["cells"][0]["source"] = ["my own work"]
    (folder / FIRST).write_text(json.dumps(work))
    with serving("lab", FIRST, tmp_path, f"HANDOUTS={folder}") as url:
        assert "my own work" in contents(url, FIRST)


@pytest.mark.timeout(300)
def test_teachers_see_the_solutions(tmp_path: Path) -> None:
    with serving("lab-teacher", f"notebooks/{FIRST}", tmp_path) as url:
        assert solutions(contents(url, f"notebooks/{FIRST}")) > 0


def solutions(notebook: str) -> int:
    return notebook.count("BEGIN SOLUTION") + notebook.count("BEGIN HIDDEN TESTS")


def contents(url: str, path: str) -> str:
    """What the server has there."""
    base, _, token = url.partition("/lab/tree/")
    asked = f"{base}/api/contents/{path}?{token.partition('?')[2]}"
    with urllib.request.urlopen(asked, timeout=60) as reply:
        found: str = reply.read().decode()
    return found


def urlopen_fails(url: str, path: str) -> bool:
    try:
        contents(url, path)
    except urllib.error.HTTPError:
        return True
    return False


@contextlib.contextmanager
def serving(target: str, first: str, tmp_path: Path, *variables: str) -> Iterator[str]:
    """The URL that `make TARGET` prints, on another port than the one that is asked for and busy."""
    make = require_program("make")
    require_module("jupyterlab")
    taken = socket.create_server(("127.0.0.1", 0))
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
                target,
                "PREPARE=true",
                f"BIN={Path(sys.executable).parent}",
                f"LAB_ARGS=--port={port}",
                *variables,
            ],
            cwd=ROOT,
            env={**env, "IPYTHONDIR": str(tmp_path / "ipython")},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            process_group=0,
        )
        try:
            url = wait_for_url(out, process, first)
            assert f":{port}/" not in url
            assert b"JupyterLab" in first_page(url)
            yield url
            # one more turn of its loop: when it ends before it has let go of the thread that read a file,
            # it waits for that thread for ever
            first_page(url)
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    assert "Traceback" not in out.read_text()
    made = {one.name for one in set(ROOT.iterdir()) - before}
    assert not {one for one in made if not one.startswith(".coverage")}


def first_page(url: str) -> bytes:
    """The URL is printed before anybody listens there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as page:
                found: bytes = page.read()
            return found
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def wait_for_url(out: Path, process: subprocess.Popen[bytes], first: str) -> str:
    """The URL that it prints, with the token."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(
            rf"http://127\.0\.0\.1:\d+/lab/tree/{first}\?token=\w+", out.read_text()
        ):
            return found[0]
        time.sleep(0.1)
    pytest.fail(f"no URL was printed:\n{out.read_text()}")
