"""The server side of the auth master protocol: what is to be known of users, without a password being checked.

In: lookups of other services over auth-userdb and auth-master sockets: PASS (passdb fields), USER (userdb fields), LIST
(all users); on auth-master also REQUEST (userdb fields of a login that was successful) and CACHE-FLUSH.  Out: fields.
A userdb socket with mode 0666 answers to root and to the socket's owner; others may ask for users with their own uid.
Limit: LINE_MAX bytes a line.
"""
from __future__ import annotations

import hmac
import os
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from mailproxy.auth import outcome
from mailproxy.auth.client import OUTPUT_HIGH, OUTPUT_LOW, Client, forward, is_number
from mailproxy.auth.listing import Listing
from mailproxy.auth.request import HIDDEN, Request
from mailproxy.ipc.authwire import Lines, escape, unescape

if TYPE_CHECKING:
    from mailproxy.auth.server import Server

#: Bytes of one line.  Dovecot takes 1024; client ids and forwarded fields are longer.
LINE_MAX = 8192
MAJOR, MINOR = 1, 1
_CREDENTIALS = struct.Struct("=iII")
_OPEN_TO_ALL = 0o666
_NO_CHAIN = (outcome.UNKNOWN, outcome.DISABLED, outcome.EXPIRED)
_MAX_ID = 4294967295


class Master(Client):
    """`_refusal`: why the peer may not look up others, "" if it may."""

    __slots__ = ("_commands", "_listing", "_peer_pid", "_peer_uid", "_refusal")

    def __init__(self, server: Server, connection: socket.socket, number: int, path: str, full: bool) -> None:
        """`full`: an auth-master socket."""
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self._peer_pid, self._peer_uid, gid = _CREDENTIALS.unpack(raw)
        self._refusal = "" if full else _refusal(self._peer_uid, gid, path)
        self._listing: Listing | None = None
        super().__init__(server, connection, False, number)
        self._commands = _FULL if full else _LOOKUPS

    def _greet(self, number: int) -> None:
        self._lines = Lines(LINE_MAX)
        self.send(f"VERSION\t{MAJOR}\t{MINOR}\nSPID\t{self._server.pid}")

    def _first(self, line: str) -> None:
        fields = line.split("\t")
        if fields[0] == "CPID":
            self._broken("Authentication client trying to connect to master socket")
        elif len(fields) < 3 or fields[0] != "VERSION" or not is_number(fields[1]):
            self._broken(f"BUG: Authentication master sent invalid VERSION line: {line[:200]}")
        elif int(fields[1]) != MAJOR:
            self._broken("Authentication master not compatible with this server (mixed old and new binaries?)")
        else:
            self._handle = self._command

    def _command(self, line: str) -> None:
        word, *fields = line.split("\t")
        command = self._commands.get(word)
        if command is None:
            kind = "master" if self._commands is _FULL else "userdb"
            self._broken(f"BUG: Unknown command in {kind} socket: {line[:200]}")
        elif not fields or not is_number(fields[0]) or int(fields[0]) > _MAX_ID:
            self._broken(f"BUG: Master sent broken {word}{' request' if word in ('PASS', 'USER') else ''}")
        else:
            command(self, int(fields[0]), fields[1:])

    def close(self, reason: str) -> None:
        if self._listing is not None:
            self._listing.abandon()
            self._listing = None
        super().close(reason)

    def _denied(self, request: Request, what: str) -> bool:
        if self._refusal:
            self._server.journal.error("auth-userdb", request,
                                       f"Auth client doesn't have permissions to {what}: {self._refusal}")
        return bool(self._refusal)

    # -- PASS and USER --------------------------------------------------------------------------------------------

    def _begun(self, number: int, word: str, fields: list[str], done: Callable[[Request], None]) -> Request | None:
        """A lookup whose user is known by name; None if it has been answered."""
        if not fields:
            self._broken(f"BUG: Master sent broken {word} request")
            return None
        server = self._server
        plan = next((plan for part in fields[1:] if (plan := server.plans_by_parameter.get(part)) is not None),
                    server.default_plan)
        request = Request(self, number, "", fields[1:], plan, done)
        if not request.arg("service"):
            self._broken(f"BUG: Master sent {word} request without service")
            return None
        if word == "PASS" and self._denied(request, "do a PASS lookup"):
            self.send(f"FAIL\t{number}")
            return None
        request.lookup = True               # there is no password to compare
        if nested := request.arg("forward_fields"):
            forward(request, nested)
        error = plan.names.prepare(request, unescape(fields[0]), "")
        if error is not None or request.login_user:
            if server.journal.verbose:
                server.journal.info("auth-userdb", request, error or "a master user is nobody's mailbox")
            self.send(f"NOTFOUND\t{number}")
            return None
        return request

    def _pass(self, number: int, fields: list[str]) -> None:
        request = self._begun(number, "PASS", fields, self._looked_up)
        if request is not None:
            request.plan.run(request)

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
                  if key not in HIDDEN]
        if not request.fields and request.user != request.original_user:
            parts.append("")            # so does Dovecot
        self.send("\t".join(parts))

    def _user(self, number: int, fields: list[str]) -> None:
        request = self._begun(number, "USER", fields, self._fail)
        if request is not None:
            self._server.user_plan(request).run(request, self._user_found)

    def _user_found(self, request: Request) -> None:
        if request.result != outcome.OK:
            self._fail(request)
        elif self._refusal and (request.userdb or {}).get("uid") != str(self._peer_uid):
            uid = (request.userdb or {}).get("uid")
            self._server.journal.error("auth-userdb", request, "client doesn't have lookup permissions for this user: "
                                       f"userdb uid ({uid or 'missing'}) doesn't match peer uid ({self._peer_uid})")
            self.send(f"FAIL\t{request.id}")
        else:
            self.send(f"USER\t{request.id}\t{escape(request.user or '')}{_fields(request) or chr(9)}")

    def _fail(self, request: Request) -> None:
        if request.result in _NO_CHAIN:
            self.send(f"NOTFOUND\t{request.id}")
            return
        reason = (request.userdb or {}).get("reason", "") if request.tempfail else ""
        self.send(f"FAIL\t{request.id}" + (f"\treason={escape(reason)}" if reason else ""))

    # -- LIST -----------------------------------------------------------------------------------------------------

    def _list(self, number: int, fields: list[str]) -> None:
        server = self._server
        plan = next((plan for part in fields if (plan := server.plans_by_parameter.get(part)) is not None),
                    server.default_plan)
        request = Request(self, number, "", fields, plan, self._fail)
        if self._listing is not None or self._denied(request, "list users"):
            self.send(f"DONE\t{number}\tfail")
            return

        def name(user: str) -> None:
            self.send(f"LIST\t{number}\t{escape(user)}")
            if self._out_size > OUTPUT_HIGH:
                self.flush()

        def done(complaint: str) -> None:
            self._listing = None
            if complaint:
                server.journal.error("auth-userdb", request, complaint)
            self.send(f"DONE\t{number}\t{'fail' if complaint else ''}")
        listing = Listing(server.pool, server.user_plan(request).sections, request.arg("user"), name, done)
        self._listing = listing
        listing.go()

    def _pace(self) -> None:
        super()._pace()
        if self._listing is not None:
            if self._out_size > OUTPUT_HIGH:
                self._listing.pause()
            elif self._out_size < OUTPUT_LOW:
                self._listing.resume()

    # -- auth-master only -----------------------------------------------------------------------------------------

    def _flush_cache(self, number: int, fields: list[str]) -> None:
        cache = self._server.cache
        count = 0
        if cache is not None:
            count = sum(cache.flush_user(unescape(user)) for user in fields) if fields else cache.flush()
        self.send(f"OK\t{number}\t{count}")

    def _request(self, number: int, fields: list[str]) -> None:
        """The userdb fields of a login, once."""
        if len(fields) < 3 or not (is_number(fields[0]) and is_number(fields[1])):
            self._broken("BUG: Master sent broken REQUEST")
            return
        request, complaint = self._login(int(fields[0]), int(fields[1]), fields[2], fields[3:])
        if request is None:
            self._server.log.error(complaint)
            self.send(f"FAIL\t{number}")
            return

        def found(request: Request) -> None:
            self._answer_login(number, request)
        self._server.user_plan(request).run(request, found)

    def _login(self, pid: int, number: int, cookie: str, options: list[str]) -> tuple[Request | None, str]:
        """The request of a login process, taken away from it; or why it is not given out."""
        client = self._server.login_process(pid)
        if client is None:
            return None, f"Master requested auth for nonexistent client {pid}"
        if not hmac.compare_digest(cookie.encode("utf-8", "surrogateescape"), client.cookie.encode()):
            return None, f"Master requested auth for client {pid} with invalid cookie"
        request, complaint = client.hand_over(number)
        given = next((option[12:] for option in options if option.startswith("session_pid=")), "")
        if request is not None and given:
            if given != str(self._peer_pid):
                return None, (f"Session pid {given[:20]} provided by master for request {pid}.{number} did not match "
                              f"peer credentials (pid={self._peer_pid}, uid={self._peer_uid})")
            request.args["session_pid"] = given
        return request, complaint

    def _answer_login(self, number: int, request: Request) -> None:
        if request.result == outcome.UNKNOWN:
            self._server.journal.error("auth-master", request, "user not found from any userdbs")
            self.send(f"NOTFOUND\t{number}")
            return
        if request.result != outcome.OK:
            reason = (request.userdb or {}).get("reason", "")
            self.send(f"FAIL\t{number}" + (f"\treason={escape(reason)}" if reason else ""))
            return
        parts = [f"USER\t{number}\t{escape(request.user or '')}{_fields(request)}"]
        if request.master_user and "master_user" not in (request.userdb or {}):
            parts.append(f"master_user={escape(request.master_user)}")
        parts.append(f"auth_mech={request.mech}")
        if request.user == request.plan.settings.auth_anonymous_username:
            parts.append("anonymous")
        if request.master_user:
            parts.append(f"auth_user={escape(request.master_user)}")
        elif request.original_user and request.original_user != request.user:
            parts.append(f"auth_user={escape(request.original_user)}")
        self.send("\t".join(parts))


_LOOKUPS: dict[str, Callable[[Master, int, list[str]], None]] = {
    "PASS": Master._pass, "USER": Master._user, "LIST": Master._list}
_FULL = {**_LOOKUPS, "REQUEST": Master._request, "CACHE-FLUSH": Master._flush_cache}


def _fields(request: Request) -> str:
    return "".join(f"\t{key}={escape(value)}" if value else f"\t{key}" for key, value in (request.userdb or {}).items())


def _refusal(uid: int, gid: int, path: str) -> str:
    """Why this peer may not look up others; "" if it may."""
    try:
        found = os.stat(path)
    except OSError as error:
        return f"stat({path}) failed: {error.strerror}"
    if found.st_mode & 0o777 != _OPEN_TO_ALL or uid in (0, found.st_uid) or gid == found.st_gid:
        return ""
    return f"{path} mode=0666, but not owned by UID {uid}"
