"""The master's own way to the log.

In: events of the master, and what it says about dead children.  Out: frames on the master's log pipe.
Unlike everybody else the master must never wait for the log process: it is the one that restarts it.  Its pipe is
non-blocking, and what does not fit waits here, up to _MAX_WAITING bytes; beyond that lines are counted and dropped.
"""
from __future__ import annotations

import os

from mailproxy.log.pipe import ERROR, MAX_TEXT, Log, sanitise

_MAX_WAITING = 262144
#: Type byte of a line about a child; see log.process.
_CHILD_FRAME = 8


class MasterLog(Log):
    """A Log that never blocks."""

    __slots__ = ("_dropped", "_held", "_held_size", "_out")

    def __init__(self, fd: int) -> None:
        self._held: list[bytes] = []
        self._held_size = 0
        self._dropped = 0
        self._out = fd
        super().__init__(fd)

    def move(self, fd: int) -> int:
        """Continue on another pipe; returns the descriptor used so far, for the caller to close."""
        self.flush()
        old, self._out = self._out, fd
        return old

    def about_child(self, kind: int, service: str, pid: int, text: str) -> None:
        """A line that appears under the service's own prefix, after the child's last words."""
        body = sanitise(f"{kind} {service} {text}").encode("utf-8", "backslashreplace")[:MAX_TEXT]
        self._put(b"\x01%c%d %s\n" % (_CHILD_FRAME, pid, body))

    def flush(self) -> None:
        """Write what was held back and what is new, as far as the pipe takes it."""
        self._held += self._pending
        self._held_size += self._size
        self._pending.clear()
        self._size = 0
        while self._held:
            try:
                os.write(self._out, self._held[0])      # one frame at a time: atomic, all or nothing
            except BlockingIOError:
                break
            except OSError:                             # no log process at the moment: its successor reads the pipe
                break
            self._held_size -= len(self._held.pop(0))
        if self._dropped and not self._held:
            lost, self._dropped = self._dropped, 0
            self.write(ERROR, f"{lost} log lines were dropped: the log process was too slow")
        while self._held_size > _MAX_WAITING:
            self._held_size -= len(self._held.pop(0))
            self._dropped += 1
