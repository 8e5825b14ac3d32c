"""The service manager: what it is told, and the sockets that it opened for us.

In: NOTIFY_SOCKET, WATCHDOG_USEC and LISTEN_FDS of the environment, read once before the environment is cleaned.
Out: datagrams of sd_notify(3), sockets of sd_listen_fds(3).  Without these variables all of it does nothing.
A service manager that does not listen is no reason to wait or to fail: datagrams are lost without a word.
"""
from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping

from mailproxy.net.loop import Loop

#: Where sd_listen_fds(3) begins to count.
_FIRST = 3
#: More sockets than this are nobody's intention.
_MAX_SOCKETS = 1024
#: The status text is renewed this often if it has changed.
_STATUS_EVERY = 10.0


class Manager:
    """One connection to the service manager, or none."""

    __slots__ = ("_address", "_loop", "_socket", "_status", "_text", "_watchdog")

    def __init__(self, environ: Mapping[str, str]) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if name else None
        self._watchdog = _period(environ)
        self._loop: Loop | None = None
        self._status: Callable[[], str] | None = None
        self._text = ""

    def begin(self, loop: Loop, status: Callable[[], str]) -> None:
        """Keep the watchdog and the status text going."""
        if self._socket is None:
            return
        self._loop = loop
        self._status = status
        if self._watchdog:
            self._bark()
        self._renew()

    def ready(self) -> None:
        self._send("READY=1", f"STATUS={self._now()}", f"MAINPID={os.getpid()}")

    def reloading(self) -> None:
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._status = None
        self._send("STOPPING=1", "STATUS=mailproxy stopping...")

    def stopped(self) -> None:
        self._send("STATUS=mailproxy stopped")

    def _now(self) -> str:
        self._text = self._status() if self._status is not None else self._text
        return self._text

    def _bark(self) -> None:
        assert self._loop is not None
        self._send("WATCHDOG=1")
        self._loop.call_later(self._watchdog, self._bark)

    def _renew(self) -> None:
        if self._status is None or self._loop is None:
            return
        before = self._text
        if self._now() != before:
            self._send(f"STATUS={self._text}")
        self._loop.call_later(_STATUS_EVERY, self._renew)

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)


def _period(environ: Mapping[str, str]) -> float:
    """Seconds between two signs of life: half of what is asked for; 0: none."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 2e6 if microseconds.isdecimal() and for_us else 0.0


def lent_sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """The listening sockets that were passed to this process."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return []
    found = []
    for fd in range(_FIRST, _FIRST + min(int(count), _MAX_SOCKETS)):
        try:
            sock = socket.socket(fileno=fd)
        except OSError:                 # no socket, or nothing at all
            continue
        sock.setblocking(False)
        sock.set_inheritable(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.append(sock)
    return found
