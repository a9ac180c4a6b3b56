"""Where fetched things are kept, and what is written down about them.

One folder a source and architecture: the files, and `manifest.json` with each file's size and SHA-256 and
where it came from. A folder is complete when its manifest is there: that is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vmlab.errors import KernelError

__all__ = [
    "Manifest",
    "alone",
    "cache_root",
    "complete",
    "describe",
    "folder",
    "fresh_folder",
    "keep",
    "matches",
    "note",
    "program",
    "verify",
    "writing",
]

Manifest = dict[str, Any]
_NAME = "manifest.json"
#: what others may do with what lies in the cache, whatever the umask says: read it
FOLDER, FILE = 0o755, 0o644
#: seconds for a download of some tens of megabytes over a slow line
TIMEOUT = 600


def cache_root() -> Path:
    """$XDG_CACHE_HOME/vmlab, usually ~/.cache/vmlab."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path("~/.cache").expanduser()) / "vmlab"


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """KernelError, in words, where the block cannot write below `place`."""
    try:
        yield
    except OSError as error:
        raise KernelError(
            f"the cache {place} cannot be written: {error.strerror or error}; XDG_CACHE_HOME says where it is"
        ) from error


def folder(path: Path) -> Path:
    """`path`, made with its parents where it is not there; nobody else can write into what is made."""
    for one in (*reversed(path.parents), path):
        if not one.exists():
            one.mkdir(mode=FOLDER, exist_ok=True)
    return path


def keep(path: Path, data: bytes) -> None:
    """Write the file whole, or leave what was there."""
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        fresh.write_bytes(data)
        fresh.chmod(FILE)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def alone() -> Iterator[None]:
    """One process at a time fetches; another waits for it, and finds what it has fetched."""
    import fcntl

    root = cache_root()
    with writing(root):
        lock = os.open(folder(root) / "lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, by whom `alone` lets in; it takes the place of `target` when the block ends well."""
    import shutil
    import tempfile

    prefix = f".{target.name}-"
    with writing(target.parent):
        # what a process that was killed left behind
        for left in folder(target.parent).glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
        made = Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix))
        try:
            made.chmod(FOLDER)
            yield made
            old = made.with_name(made.name + "-old")
            if target.exists():
                target.rename(old)
            made.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def describe(path: Path) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"size": path.stat().st_size, "sha256": digest(path)}


def matches(path: Path, known: Any) -> bool:
    """Whether the file is as the manifest says. It is read: a disk, or somebody, may have changed it."""
    try:
        return bool(path.stat().st_size == known["size"] and digest(path) == known["sha256"])
    except (OSError, LookupError, TypeError):
        return False


def complete(folder: Path, facts: Manifest) -> Manifest:
    """Write the manifest of the files in `folder`, which are the owner's alone to change; returns it."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(FOLDER if path.is_dir() else FILE)
        if path.is_file() and path.name != _NAME:
            files[str(path.relative_to(folder))] = describe(path)
    facts = facts | {"files": files}
    note(folder, facts)
    return facts


def note(folder: Path, facts: Manifest) -> None:
    """`facts` become the manifest."""
    keep(folder / _NAME, (json.dumps(facts, indent=2) + "\n").encode())


def verify(folder: Path) -> Manifest | None:
    """The manifest of a complete folder whose files are as it says; None for anything else."""
    try:
        facts: Manifest = json.loads((folder / _NAME).read_text(encoding="utf-8"))
        whole = all(matches(folder / name, known) for name, known in facts["files"].items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return facts if whole else None


def program(arguments: Sequence[str | os.PathLike[str]], what: str, **options: Any) -> str:
    """Run a program that must succeed -> its standard output. KernelError: `what`, and its last words."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    with writing(cache_root()):
        # this host's own folder for such files may be missing, full or not writable
        environment["TMPDIR"] = str(folder(cache_root() / "tmp"))
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
            umask=0o022,
            **options,
        )
    except FileNotFoundError:
        raise KernelError(f"{what}: there is no program {arguments[0]} here") from None
    except subprocess.TimeoutExpired:
        raise KernelError(f"{what}: no end after {TIMEOUT} s; is the network there?") from None
    except OSError as error:
        raise KernelError(f"{what}: {arguments[0]}: {error.strerror}") from error
    if done.returncode < 0:
        raise KernelError(f"{what}: {arguments[0]} was ended by {_signal(-done.returncode)}")
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = next((line for line in lines if line.startswith(("E:", "ERROR"))), "")
        raise KernelError(f"{what}: {said or (lines[-1] if lines else 'no reason given')}")
    printed: str = done.stdout
    return printed


def _signal(number: int) -> str:
    """Its name, and what it means where that is no accident."""
    if number == signal.SIGXFSZ:
        return "SIGXFSZ: a limit on the size of files (ulimit -f) is too low"
    return signal.strsignal(number) or f"signal {number}"
