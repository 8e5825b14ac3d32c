"""The admin's side of a running master: its pid, its signals, its control socket.

In: base_dir.  Out: rows of the control socket, signals sent.  NotRunning says which file it looked at.
"""
from __future__ import annotations

import os
import signal
import time

from mailproxy.admin.sockets import connect
from mailproxy.errors import MailproxyError
from mailproxy.master import pidfile

_TIMEOUT = 10.0
_MAX_REPLY = 64 * 1024 * 1024
#: How long `stop` waits for the pid to vanish.
_STOP_WAIT = 3.0
_STOP_POLL = 0.05
_HELLO = b"VERSION\tmaster-client\t1\t0\n"


class NotRunning(MailproxyError):
    """There is no master on this base_dir."""


class Refused(MailproxyError):
    """The master said no; the text is its reason."""


def pid_of(base_dir: str) -> int:
    path = os.path.join(base_dir, "master.pid")
    pid = pidfile.running(path)
    if not pid:
        raise NotRunning(f"mailproxy is not running (read from {path})")
    return pid


def send(base_dir: str, number: int) -> int:
    """Signal the master; returns its pid."""
    pid = pid_of(base_dir)
    try:
        os.kill(pid, signal.Signals(number))
    except OSError as failure:
        raise MailproxyError(f"kill({pid}) failed: {failure.strerror}") from None
    return pid


def stop(base_dir: str) -> None:
    """TERM, and a bounded wait for the end."""
    send(base_dir, signal.SIGTERM)
    end = time.monotonic() + _STOP_WAIT
    path = os.path.join(base_dir, "master.pid")
    while pidfile.running(path) and time.monotonic() < end:
        time.sleep(_STOP_POLL)


class Control:
    """One conversation over base_dir/master."""

    def __init__(self, base_dir: str) -> None:
        path = os.path.join(base_dir, "master")
        try:
            self._socket = connect(path, _TIMEOUT)
        except MailproxyError:
            pid_of(base_dir)            # NotRunning tells more
            raise
        self._file = self._socket.makefile("rb")
        self._socket.sendall(_HELLO)
        if not self._line().startswith("VERSION\tmaster-server\t1\t"):
            raise MailproxyError(f"{path} is no master of ours")

    def rows(self, command: str, *words: str) -> list[list[str]]:
        """The rows that a command answers with."""
        self._ask(command, *words)
        found = []
        while line := self._line():
            found.append(line.split("\t"))
        return found

    def order(self, command: str, *words: str) -> None:
        """A command that is answered by yes or no.  Refused."""
        self._ask(command, *words)
        answer = self._line()
        if not answer.startswith("+"):
            raise Refused(answer[1:])

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _ask(self, *words: str) -> None:
        self._socket.sendall("\t".join(words).encode() + b"\n")

    def _line(self) -> str:
        try:
            line = self._file.readline(_MAX_REPLY)
        except OSError as failure:
            raise MailproxyError(f"read(master) failed: {failure.strerror or failure}") from None
        if not line.endswith(b"\n"):
            raise MailproxyError("read(master) failed: EOF")
        return line[:-1].decode("utf-8", "replace")
