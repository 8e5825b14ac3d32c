"""The server side of the auth master protocol, as far as proxies need it: PASS, and USER where no userdb is.

In: lookups of other services over auth-userdb and auth-master sockets.  Out: fields, without any password having been
checked.  A userdb socket with mode 0666 answers only to root and to the socket's owner.  Limit: LINE_MAX bytes a line.
LIST fails, CACHE-FLUSH and REQUEST are not there.
"""
from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

from mailproxy.auth import outcome
from mailproxy.auth.client import Client, forward, is_number
from mailproxy.auth.request import HIDDEN, Request
from mailproxy.ipc.authwire import Lines, escape

if TYPE_CHECKING:
    from mailproxy.auth.server import Server

#: Bytes of one line (Dovecot's).
LINE_MAX = 1024
MAJOR, MINOR = 1, 1
_CREDENTIALS = struct.Struct("=iII")
_OPEN_TO_ALL = 0o666
_NO_CHAIN = (outcome.UNKNOWN, outcome.DISABLED, outcome.EXPIRED)


class Master(Client):
    """`may_look_up`: the peer's credentials allow it."""

    __slots__ = ("_refusal",)

    def __init__(self, server: Server, connection: socket.socket, number: int, path: str) -> None:
        self._refusal = _refusal(connection, path)
        super().__init__(server, connection, False, number)

    def _greet(self, number: int) -> None:
        self._lines = Lines(LINE_MAX)
        self.send(f"VERSION\t{MAJOR}\t{MINOR}\nSPID\t{self._server.pid}")

    def _first(self, line: str) -> None:
        fields = line.split("\t")
        if len(fields) < 3 or fields[0] != "VERSION" or not is_number(fields[1]):
            self._broken(f"BUG: Authentication master sent invalid VERSION line: {line[:200]}")
        elif int(fields[1]) != MAJOR:
            self._broken("Authentication master not compatible with this server (mixed old and new binaries?)")
        else:
            self._handle = self._command

    def _command(self, line: str) -> None:
        parts = line.split("\t")
        word = parts[0]
        if word in ("PASS", "USER"):
            self._look_up(word, parts)
        elif word == "LIST" and len(parts) > 1 and is_number(parts[1]):
            self.send(f"DONE\t{parts[1]}\tfail")
        else:
            self._broken(f"BUG: Unknown command in userdb socket: {line[:200]}")

    # -- one lookup -----------------------------------------------------------------------------------------------

    def _look_up(self, word: str, parts: list[str]) -> None:
        if len(parts) < 3 or not is_number(parts[1]):
            self._broken(f"BUG: Master sent broken {word} request")
            return
        number = int(parts[1])
        plan = next((plan for part in parts[3:] if (plan := self._server.plans_by_parameter.get(part)) is not None),
                    self._server.default_plan)
        request = Request(self, number, "", parts[3:], plan, self._looked_up if word == "PASS" else self._user_found)
        if not request.arg("service"):
            self._broken(f"BUG: Master sent {word} request without service")
            return
        if self._refusal:
            self._server.journal.error("auth-userdb", request,
                                       f"Auth client doesn't have permissions to do a {word} lookup: {self._refusal}")
            self.send(f"FAIL\t{number}")
            return
        request.lookup = request.verified = True        # there is no password to compare
        if nested := request.arg("forward_fields"):
            forward(request, nested)
        error = plan.names.prepare(request, parts[2], "")
        if error is not None or request.login_user:
            if self._server.journal.verbose:
                self._server.journal.info("auth-userdb", request, error or "a master user is nobody's mailbox")
            self.send(f"NOTFOUND\t{number}")
            return
        plan.run(request)

    def _looked_up(self, request: Request) -> None:
        if request.result != outcome.OK:
            self._fail(request)
        elif "proxy" in request.fields or "proxy_maybe" in request.fields:
            self._server.proxying.prepare(request, self._prepared)
        else:
            self._prepared(request)

    def _prepared(self, request: Request) -> None:
        if request.result != outcome.OK:
            self._fail(request)
            return
        parts = [f"PASS\t{request.id}\tuser={escape(request.user or '')}"]
        parts += [f"{key}={escape(value)}" if value else key for key, value in request.fields.items()
                  if key not in HIDDEN and key != "pass"]
        if not request.fields and request.user != request.original_user:
            parts.append("")            # so does Dovecot
        self.send("\t".join(parts))

    def _user_found(self, request: Request) -> None:
        """There is no userdb: whoever a passdb knows is a user, with what a passdb says of userdb fields."""
        if request.result != outcome.OK:
            self._fail(request)
            return
        fields = "".join(f"\t{key}={escape(value)}" for key, value in (request.userdb or {}).items())
        self.send(f"USER\t{request.id}\t{escape(request.user or '')}{fields or chr(9)}")

    def _fail(self, request: Request) -> None:
        self.send(f"{'NOTFOUND' if request.result in _NO_CHAIN else 'FAIL'}\t{request.id}")


def _refusal(connection: socket.socket, path: str) -> str:
    """Why this peer may not look up others; "" if it may."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, gid = _CREDENTIALS.unpack(raw)
    try:
        found = os.stat(path)
    except OSError as error:
        return f"stat({path}) failed: {error.strerror}"
    if found.st_mode & 0o777 != _OPEN_TO_ALL or uid in (0, found.st_uid) or gid == found.st_gid:
        return ""
    return f"{path} mode=0666, but not owned by UID {uid}"
