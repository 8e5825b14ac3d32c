"""The pid file: who runs on this base_dir.

In: the path.  Out: a file that holds the decimal pid and is locked for as long as the master lives.  The lock is the
truth, not the number: a number that another program got after a crash blocks nobody.
"""
from __future__ import annotations

import contextlib
import fcntl
import os

from mailproxy.errors import MailproxyError

#: A pid is shorter.
_MAX_PID_TEXT = 32


class AlreadyRunning(MailproxyError):
    """Somebody else holds the lock."""


class PidFile:
    """Held from `lock()` to `remove()`; children close their copy, the lock belongs to the master."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def lock(self) -> None:
        """AlreadyRunning; MailproxyError if the file cannot be opened."""
        while self._fd < 0:
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as failure:
                raise MailproxyError(f"open({self.path}) failed: {failure.strerror}") from None
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = read(self.path)
                os.close(fd)
                raise AlreadyRunning(f"mailproxy is already running with PID {pid} "
                                     f"(read from {self.path})") from None
            if self._is_ours(fd):
                self._fd = fd
            else:                   # its owner removed it between our open and our lock
                os.close(fd)

    def _is_ours(self, fd: int) -> bool:
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(fd), there)

    def write(self) -> None:
        """Store the pid of this process (again after daemonising)."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def remove(self) -> None:
        if self._fd < 0:
            return
        with contextlib.suppress(FileNotFoundError):        # somebody cleaned up already
            os.unlink(self.path)
        os.close(self._fd)
        self._fd = -1


def read(path: str) -> int:
    """The pid in the file; 0 if there is none."""
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_PID_TEXT).strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def running(path: str) -> int:
    """The pid of the master that holds the file, 0 if none does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return read(path)
    except OSError:
        return 0
    finally:
        os.close(fd)
    return 0
