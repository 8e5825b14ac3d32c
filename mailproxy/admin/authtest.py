"""`mpadm auth test` and `mpadm auth login`: a login as a client of the auth service would make it.

In: base_dir, a user and a password.  Out: what the passdbs (and for `login` the userdbs) say, without the backend's
password; an exit code.
"""
from __future__ import annotations

import base64
import os
import sys
from dataclasses import dataclass, field
from typing import TextIO

from mailproxy.admin.authtalk import Conversation, shown, with_service
from mailproxy.errors import EXIT_OK
from mailproxy.ipc.authwire import pair

EXIT_REFUSED = 77


@dataclass(slots=True)
class Attempt:
    """`master`: whose password it is, if not the user's."""

    base_dir: str
    user: str
    password: str
    master: str = ""
    socket: str = ""
    master_socket: str = ""
    extra: list[str] = field(default_factory=list)


def _asked(talk: Conversation, attempt: Attempt) -> list[str]:
    words = (attempt.user if attempt.master else "", attempt.master or attempt.user, attempt.password)
    response = base64.b64encode("\0".join(words).encode("utf-8", "surrogateescape")).decode()
    talk.send("\t".join(["AUTH", "1", "PLAIN", *with_service(attempt.extra), f"resp={response}"]))
    while (answer := talk.line())[0] not in ("OK", "FAIL"):
        continue
    return answer


def _tell(attempt: Attempt, answer: list[str], out: TextIO) -> bool:
    good = answer[0] == "OK"
    out.write(f"passdb: {attempt.user} auth {'succeeded' if good else 'failed'}\nextra fields:\n")
    _list(answer[2:], out)
    return good


def _list(fields: list[str], out: TextIO) -> None:
    for key, value in shown(fields):
        out.write(f"  {key}={value}\n" if value else f"  {key}\n")


def test(attempt: Attempt, out: TextIO) -> int:
    with Conversation(attempt.base_dir, attempt.socket or "auth-client") as talk:
        talk.meet_client()
        return EXIT_OK if _tell(attempt, _asked(talk, attempt), out) else EXIT_REFUSED


def login(attempt: Attempt, out: TextIO) -> int:
    """As `test`, over a login socket, and then the userdb lookup that a mail process would make."""
    with Conversation(attempt.base_dir, attempt.socket or "auth-login") as talk:
        cookie = talk.meet_client()
        answer = _asked(talk, attempt)
        good = _tell(attempt, answer, out)
        if not good:
            return EXIT_REFUSED
        if {"proxy", "nologin"} & {pair(each)[0] for each in answer[2:]}:
            return EXIT_OK                  # nothing happens here behind such a login
        with Conversation(attempt.base_dir, attempt.master_socket or "auth-master") as master:
            master.meet_master()
            pid = os.getpid()
            master.send(f"REQUEST\t1\t{pid}\t1\t{cookie}\tsession_pid={pid}")
            found = master.line()
    if found[0] != "USER":
        reason = "Authenticated user not found from userdb" if found[0] == "NOTFOUND" else "userdb lookup failed"
        sys.stderr.write(f"Error: {reason}\n")
        return EXIT_REFUSED
    out.write("userdb extra fields:\n")
    _list(found[2:], out)
    return EXIT_OK
