"""Conversations with a running auth service.

In: a socket below base_dir (or a path).  Out: lines, taken apart.  Bounded: _TIMEOUT seconds for each.
"""
from __future__ import annotations

import os

from mailproxy.admin.sockets import connect
from mailproxy.errors import MailproxyError
from mailproxy.ipc import authwire

#: Refusals and penalties take their time; more is a service that hangs.
_TIMEOUT = 60.0
_READ = 65536
#: Fields whose values are secrets.
_HIDDEN = frozenset({"pass", "password"})


class Conversation:
    """Lines over an auth socket."""

    def __init__(self, base_dir: str, name: str) -> None:
        self._lines = authwire.Lines()
        self._ready: list[str] = []
        self._name = name
        self._socket = connect(os.path.join(base_dir, name), _TIMEOUT)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_failure: object) -> None:
        self._socket.close()

    def send(self, *lines: str) -> None:
        try:
            self._socket.sendall(b"".join(authwire.encode(line) + b"\n" for line in lines))
        except OSError as failure:
            raise MailproxyError(f"write({self._name}) failed: {failure.strerror or 'Timeout'}") from None

    def line(self) -> list[str]:
        while not self._ready:
            try:
                data = self._socket.recv(_READ)
            except OSError as failure:
                raise MailproxyError(f"read({self._name}) failed: {failure.strerror or 'Timeout'}") from None
            if not data:
                raise MailproxyError(f"read({self._name}) failed: EOF")
            self._ready = self._lines.feed(data)
        return self._ready.pop(0).split("\t")

    def meet_client(self) -> str:
        """The handshake of an auth client; the connection's cookie."""
        self.send("VERSION\t1\t2", f"CPID\t{os.getpid()}")
        cookie = ""
        while (fields := self.line())[0] != "DONE":
            if fields[0] == "COOKIE" and len(fields) > 1:
                cookie = fields[1]
        return cookie

    def meet_master(self) -> None:
        """The handshake of a master socket."""
        self.send("VERSION\t1\t1")
        while (word := self.line()[0]) != "SPID":
            if word != "VERSION":
                raise MailproxyError(f"{self._name} is no socket for lookups of users")


def shown(fields: list[str]) -> list[tuple[str, str]]:
    """(name, value) of each field of an answer, secrets covered."""
    found = []
    for field in fields:
        key, value = authwire.pair(field)
        if key:
            found.append((key, "(hidden)" if key in _HIDDEN and value else value))
    return found


def with_service(extra: list[str]) -> list[str]:
    """What `-x` options add to a request."""
    fields = [authwire.escape(field) for field in extra]
    return fields if any(field.startswith("service=") for field in fields) else ["service=mpadm", *fields]
