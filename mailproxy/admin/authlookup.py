"""`mpadm auth lookup`, `mpadm user` and `mpadm auth cache flush`: what auth knows of users, without a password.

In: base_dir, names.  Out: fields, in the forms of doveadm; an exit code.
"""
from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

from mailproxy.admin.authtalk import Conversation, shown, with_service
from mailproxy.errors import EXIT_OK, EXIT_TEMPFAIL, MailproxyError
from mailproxy.ipc import authwire

EXIT_NO_USER = 67
#: What is shown of every user, whether there is something or not.
_ALWAYS = ("uid", "gid", "home", "mail")
_VARIABLE = re.compile(r"%\{([^{}]*)\}|%([a-z%])")
_SHORT = {"u": "user", "n": "username", "d": "domain", "h": "home"}


@dataclass(slots=True)
class Lookup:
    """`only`: the one field to show.  `raw`: as the userdb has said it.  `expand`: a text with %{field} variables."""

    base_dir: str
    users: list[str]
    only: str = ""
    raw: bool = False
    expand: str = ""
    socket: str = ""
    extra: list[str] = field(default_factory=list)


class _Asker:
    """One connection; requests are numbered."""

    def __init__(self, talk: Conversation, extra: list[str]) -> None:
        self._talk = talk
        self._extra = with_service(extra)
        self._number = 0
        talk.meet_master()

    def ask(self, word: str, user: str) -> list[str]:
        self._number += 1
        self._talk.send("\t".join((word, str(self._number), authwire.escape(user), *self._extra)))
        answer = self._talk.line()
        if answer[0] == "FAIL":
            reason = next((authwire.pair(each)[1] for each in answer[2:] if each.startswith("reason=")), "")
            raise MailproxyError(f"{'passdb' if word == 'PASS' else 'userdb'} lookup failed for {user}"
                                 + (f": {reason}" if reason else ""))
        if answer[0] not in (word, "NOTFOUND"):
            raise MailproxyError(f"auth sent an answer to something else: {answer[0][:20]}")
        return answer

    def names(self, mask: str) -> Iterator[str]:
        """Users whose names fit."""
        self._number += 1
        self._talk.send("\t".join(("LIST", str(self._number), f"user={authwire.escape(mask)}", *self._extra)))
        while (answer := self._talk.line())[0] == "LIST":
            name = authwire.unescape(answer[2])
            if fnmatch.fnmatchcase(name, mask.replace("[", "[[]")):
                yield name
        if answer[0] != "DONE" or "fail" in answer[2:]:
            raise MailproxyError("user listing failed")


def passdb(lookup: Lookup, out: TextIO) -> int:
    """`auth lookup`."""
    code = EXIT_OK
    with Conversation(lookup.base_dir, lookup.socket or "auth-userdb") as talk:
        asker = _Asker(talk, lookup.extra)
        for number, user in enumerate(lookup.users):
            answer = asker.ask("PASS", user)
            if number and not lookup.only:
                out.write("\n")
            if answer[0] != "PASS":
                out.write(f"passdb lookup: user {user} doesn't exist\n")
                code = EXIT_NO_USER
                continue
            fields = shown(answer[2:])
            if lookup.only:
                out.writelines(f"{value}\n" for key, value in fields if key == lookup.only)
            else:
                out.write(f"passdb: {user}\n")
                out.writelines(f"  {key:<10}: {value}\n" for key, value in fields)
    return code


def userdb(lookup: Lookup, out: TextIO) -> int:
    """`user`: names may be masks with * and ?, which are answered with the names of the users that fit."""
    code = EXIT_OK
    with Conversation(lookup.base_dir, lookup.socket or "auth-userdb") as talk:
        asker = _Asker(talk, lookup.extra)
        for name in lookup.users:
            if "*" in name or "?" in name:
                out.writelines(f"{user}\n" for user in asker.names(name))
                continue
            try:
                answer = asker.ask("USER", name)
            except MailproxyError as failure:
                if len(lookup.users) == 1:
                    raise
                out.write(f"{failure}\n")
                code = EXIT_TEMPFAIL
                continue
            if answer[0] == "USER":
                user = authwire.unescape(answer[2])
                out.writelines(_user_lines(lookup, name, user, dict(shown(answer[3:]))))
            else:
                out.write(f"userdb lookup: user {name} doesn't exist\n")
                code = code or EXIT_NO_USER
    return code


def _user_lines(lookup: Lookup, asked: str, user: str, fields: dict[str, str]) -> Iterator[str]:
    if lookup.expand:
        local, _, domain = user.partition("@")
        values = {**fields, "user": user, "username": local, "domain": domain}
        yield _VARIABLE.sub(lambda found: "%" if found[2] == "%" else values.get(
            found[1] or _SHORT.get(found[2] or "", ""), ""), lookup.expand) + "\n"
    elif lookup.only:
        if lookup.only in fields:
            yield f"{fields[lookup.only]}\n"
    elif lookup.raw:
        yield f"userdb: {asked}\n"
        for key, value in {"user": user, **fields}.items():
            yield f"  {key:<10}: {value}\n"
    else:
        yield "field\tvalue\n"
        for key, value in {**dict.fromkeys(_ALWAYS, ""), **fields}.items():
            yield f"{key}\t{value}\n"


def flush(base_dir: str, users: list[str], socket: str = "") -> int:
    """How many answers are forgotten: all of them, or those about these users."""
    with Conversation(base_dir, socket or "auth-master") as talk:
        talk.meet_master()
        talk.send("\t".join(("CACHE-FLUSH", "1", *map(authwire.escape, users))))
        answer = talk.line()
    if answer[0] != "OK" or len(answer) < 3:
        raise MailproxyError("the auth service cannot flush its cache")
    return int(answer[2])
