"""`vmlab run --gdb`."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.gdb.lab import Client
from tests.support import require_module


def test_it_waits_for_gdb_and_goes_on_when_that_lets_it() -> None:
    require_module("unicorn")
    command = [sys.executable, "-m", "vmlab", "run", "hello", "--engine", "soft", "--gdb", ":0"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stderr is not None
        found = re.search(rb"target remote :(\d+)", run.stderr.readline())
        assert found is not None
        client = Client(int(found[1]))
        assert client.ask(b"?").startswith(b"T05")
        client.send(b"$c#63")
        last = client.packet()
        while last.startswith((b"O", b"T")) and not last.startswith(b"OK"):
            last = client.packet()
        assert last == b"" or last[:1] == b"W"
        client.close()
        out, _ = run.communicate(timeout=20)
        assert b"Hello" in out


def test_a_port_that_is_none() -> None:
    command = [sys.executable, "-m", "vmlab", "run", "hello", "--gdb", "99999"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    assert done.returncode == 2
    assert b"invalid port" in done.stderr
