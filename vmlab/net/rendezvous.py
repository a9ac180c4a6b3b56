"""Where switches of one user meet: a private directory, a socket and a lock for each name.

Who holds the lock hosts the switch. The system lets go of a dead host's lock, so a socket whose lock
is free is stale, whatever its host died of.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import socket
import stat
import tempfile
import weakref
from pathlib import Path

from vmlab.errors import ConfigError
from vmlab.net.stream import check_path

__all__ = ["Claim", "PrivateHome", "listen", "run_directory"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
#: connections that wait to be accepted
BACKLOG = 64
_NO_FOLLOW = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def run_directory() -> Path:
    """This user's own directory, made if need be; ConfigError when somebody else could reach into it."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    path = (
        Path(base, "vmlab")
        if base and Path(base).is_dir()
        else Path(tempfile.gettempdir(), f"vmlab-{os.geteuid()}")
    )
    try:
        path.mkdir(0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise ConfigError(f"cannot make {path} for switches: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ConfigError(
            f"{path} must be a directory that belongs to you alone (mode 0700), and is not: remove it,"
            " or point XDG_RUNTIME_DIR elsewhere"
        )
    return path


def listen(path: str) -> socket.socket:
    """A socket at `path` that its owner alone may connect to."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(check_path(path))
        os.chmod(path, 0o600)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen at {path}: {error.strerror}") from error
    except BaseException:
        listener.close()
        raise
    return listener


class PrivateHome:
    """The directory of a switch without a name: nobody else finds it."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="vmlab-")
        self.path = str(Path(self._directory, "switch.sock"))
        self._numbers = 0

    def acquire(self) -> bool:
        return True

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def release(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)


class Claim:
    """The right to host the switch of a name, for one process at a time."""

    def __init__(self, name: object) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"a switch's name is 1 to 32 letters, digits, '.', '_' or '-', not {name!r}"
            )
        directory = run_directory()
        self.path = check_path(str(directory / f"{name}.sock"))
        self._lock_path = directory / f"{name}.lock"
        self._count_path = directory / f"{name}.count"
        self._fd = -1
        self._tried = False
        _claims.add(self)

    def acquire(self) -> bool:
        """Whether we host the switch now; a dead host's socket is gone then."""
        fd = os.open(self._lock_path, _NO_FOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            self._tried = True
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise ConfigError(f"cannot lock {self._lock_path}: {error.strerror}") from error
            return False
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        Path(self.path).unlink(missing_ok=True)
        if not self._tried:
            # a new lab counts from one; who takes over from a host that went does not
            self._count_path.unlink(missing_ok=True)
        self._fd = fd
        return True

    def host(self) -> int | None:
        """The process that hosts the switch, as it says itself."""
        try:
            return int(self._lock_path.read_text() or 0) or None
        except (OSError, ValueError):
            return None

    def number(self) -> int:
        """1, 2, 3, ... in the order of asking, whichever process asks."""
        fd = os.open(self._count_path, _NO_FOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            text = os.pread(fd, 20, 0)
            number = (int(text) if text.isdigit() else 0) + 1
            os.pwrite(fd, str(number).encode(), 0)
            return number
        finally:
            os.close(fd)

    def release(self) -> None:
        """Let another process host it. Idempotent."""
        if self._fd >= 0:
            Path(self.path).unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1

    def forsake(self) -> None:
        """In a fork: the lock is the parent's, and must go with it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_claims: weakref.WeakSet[Claim] = weakref.WeakSet()


def _forked() -> None:
    for claim in list(_claims):
        claim.forsake()


os.register_at_fork(after_in_child=_forked)
