"""Tells a program of the administrator's which users are still there: `proxy_refresh` and `login_proxy_notify_path`.

In: proxied sessions and the names that they have at the backend.  Out: a line with the name, every `proxy_refresh`
seconds, into a FIFO.  Nobody waits for its reader: what does not fit is lost.  A FIFO that cannot be opened or written
is said, and tried again after PAUSE.
"""
from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mailproxy.ipc.authwire import escape
from mailproxy.log.pipe import Log
from mailproxy.net.loop import Loop, Timer

if TYPE_CHECKING:
    from mailproxy.login.proxied import Proxied

#: Seconds until another try (Dovecot's).
PAUSE = 60.0


class Notifier:
    """One for each process, made when the first session wants it."""

    __slots__ = ("_fd", "_log", "_loop", "_path", "_sleeps", "_timers")

    def __init__(self, loop: Loop, log: Log, path: str) -> None:
        """`path`: relative to the login directory, as the process sees it."""
        self._loop = loop
        self._log = log
        self._path = path
        self._fd = -1
        self._sleeps = 0.0              # no try before that time
        self._timers: dict[Proxied, Timer] = {}

    def add(self, session: Proxied, name: str, every: int) -> None:
        line = escape(name).encode("utf-8", "surrogateescape") + b"\n"
        self._again(session, line, every)

    def remove(self, session: Proxied) -> None:
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()

    def _again(self, session: Proxied, line: bytes, every: int) -> None:
        self._timers[session] = self._loop.call_later(every, lambda: self._refresh(session, line, every))

    def _refresh(self, session: Proxied, line: bytes, every: int) -> None:
        self._again(session, line, every)
        if self._loop.now < self._sleeps:
            return
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.write(self._fd, line)
        except BlockingIOError:
            return
        except OSError as error:
            what = "open" if self._fd < 0 else "write"
            self._log.error(f"{what}({self._path}) failed: {error.strerror}")
            self.close()
            self._sleeps = self._loop.now + PAUSE

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
