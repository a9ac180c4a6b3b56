"""Where fetched things are kept, and what is written down about them.

One folder a source and architecture: the files, and `manifest.json` with each file's size and SHA-256 and
where it came from. A folder is complete when its manifest is there: that is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vmlab.errors import KernelError

__all__ = ["Manifest", "alone", "cache_root", "complete", "fresh_folder", "program", "verify"]

Manifest = dict[str, Any]
_NAME = "manifest.json"
#: seconds for a download of some tens of megabytes over a slow line
TIMEOUT = 600


def cache_root() -> Path:
    """$XDG_CACHE_HOME/vmlab, usually ~/.cache/vmlab."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path("~/.cache").expanduser()) / "vmlab"


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def alone() -> Iterator[None]:
    """One process at a time fetches; another waits for it, and finds what it has fetched."""
    import fcntl

    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = (root / "lock").open("w")
    except OSError as error:
        raise KernelError(f"the cache {root} cannot be written: {error.strerror}") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """A folder to fill; it takes the place of `target` when the block ends well."""
    import shutil
    import tempfile

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    except OSError as error:
        raise KernelError(
            f"the cache {target.parent} cannot be written: {error.strerror}"
        ) from error
    try:
        made.chmod(0o755)
        yield made
        old = made.with_name(made.name + "-old")
        if target.exists():
            target.rename(old)
        made.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def complete(folder: Path, facts: Manifest) -> None:
    """Write the manifest of the files in `folder`."""
    files = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": digest(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    text = json.dumps(facts | {"files": files}, indent=2) + "\n"
    (folder / _NAME).write_text(text, encoding="utf-8")


def verify(folder: Path, thorough: bool = False) -> Manifest | None:
    """The manifest of a complete folder whose files are as it says; None for anything else.
    thorough: read every file; else sizes are compared."""
    try:
        facts: Manifest = json.loads((folder / _NAME).read_text(encoding="utf-8"))
        for name, known in facts["files"].items():
            path = folder / name
            if path.stat().st_size != known["size"]:
                return None
            if thorough and digest(path) != known["sha256"]:
                return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return facts


def program(arguments: Sequence[str | os.PathLike[str]], what: str, **options: Any) -> str:
    """Run a program that must succeed -> its standard output. KernelError: `what`, and its last words."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            arguments,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            env=environment,
            **options,
        )
    except FileNotFoundError:
        raise KernelError(f"{what}: there is no program {arguments[0]} here") from None
    except subprocess.TimeoutExpired:
        raise KernelError(f"{what}: no end after {TIMEOUT} s; is the network there?") from None
    except OSError as error:
        raise KernelError(f"{what}: {arguments[0]}: {error.strerror}") from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = next((line for line in lines if line.startswith(("E:", "ERROR"))), "")
        raise KernelError(f"{what}: {said or (lines[-1] if lines else 'no reason given')}")
    printed: str = done.stdout
    return printed
