"""`mpadm auth test`: one request to the auth service.

In: base_dir, a user and a password.  Out: what the passdbs say, without the backend's password.
"""
from __future__ import annotations

import base64
import os
from typing import TextIO

from mailproxy.admin.sockets import connect
from mailproxy.errors import MailproxyError
from mailproxy.ipc import authwire

_TIMEOUT = 30.0
_READ = 65536
EXIT_REFUSED = 77
#: Fields whose values are secrets.
_HIDDEN = frozenset({"pass", "password"})


class _Conversation:
    """Lines over an auth socket."""

    def __init__(self, base_dir: str, name: str) -> None:
        self._lines = authwire.Lines()
        self._ready: list[str] = []
        self._name = name
        self.socket = connect(os.path.join(base_dir, name), _TIMEOUT)

    def send(self, *lines: str) -> None:
        try:
            self.socket.sendall(b"".join(authwire.encode(line) + b"\n" for line in lines))
        except OSError as failure:
            raise MailproxyError(f"write({self._name}) failed: {failure.strerror or 'Timeout'}") from None

    def line(self) -> list[str]:
        while not self._ready:
            try:
                data = self.socket.recv(_READ)
            except OSError as failure:
                raise MailproxyError(f"read({self._name}) failed: {failure.strerror or 'Timeout'}") from None
            if not data:
                raise MailproxyError(f"read({self._name}) failed: EOF")
            self._ready = self._lines.feed(data)
        return self._ready.pop(0).split("\t")


def test_login(base_dir: str, user: str, password: str, extra: list[str], out: TextIO) -> int:
    """Authenticate by PLAIN as a client of the auth service would; prints the answer."""
    talk = _Conversation(base_dir, "auth-client")
    try:
        talk.send("VERSION\t1\t2", f"CPID\t{os.getpid()}")
        while talk.line()[0] != "DONE":
            continue
        response = base64.b64encode(f"\0{user}\0{password}".encode("utf-8", "surrogateescape")).decode()
        fields = [authwire.escape(field) for field in extra]
        if not any(field.startswith("service=") for field in fields):
            fields.insert(0, "service=mpadm")
        talk.send("\t".join(["AUTH", "1", "PLAIN", *fields, "nologin", f"resp={response}"]))
        answer = talk.line()
    finally:
        talk.socket.close()
    good = answer[0] == "OK"
    out.write(f"passdb: {user} auth {'succeeded' if good else 'failed'}\nextra fields:\n")
    for field in answer[2:]:
        key, value = authwire.pair(field)
        if key in _HIDDEN:
            value = "(hidden)"
        out.write(f"  {key}={value}\n" if "=" in field else f"  {key}\n")
    return 0 if good else EXIT_REFUSED
