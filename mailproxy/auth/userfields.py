"""Fields of user databases, and of passdbs with `userdb_` in front: their meaning for a request.

In: (name, value) pairs.  Out: changes of request.userdb.  What makes the whole answer useless (an account that the
system does not know, `tempfail`) sets request.tempfail.
"""
from __future__ import annotations

import os

from mailproxy.auth.journal import Journal
from mailproxy.auth.renames import SETTERS
from mailproxy.auth.request import Request
from mailproxy.auth.userdb import accounts
from mailproxy.ipc.authwire import escape


def set_user_field(request: Request, key: str, value: str, journal: Journal, name: str) -> None:
    """One field, without its prefix; modifiers included."""
    special = _SPECIAL.get(key)
    if special is not None:
        special(request, value, journal, name)
    elif ":" in key:
        key, _, modifier = key.rpartition(":")
        known = request.userdb
        if modifier == "remove":
            if known is not None:
                known.pop(key, None)
        elif modifier != "protected" or known is None or key not in known:
            set_user_field(request, key, value, journal, name)
    else:
        request.set_userdb(escape(key), value)          # names go to lines of the protocol as they are


def _set_uid(request: Request, value: str, journal: Journal, name: str) -> None:
    _set_number(request, "uid", value, journal, name)


def _set_gid(request: Request, value: str, journal: Journal, name: str) -> None:
    _set_number(request, "gid", value, journal, name)


def _set_number(request: Request, key: str, value: str, journal: Journal, name: str) -> None:
    number = _number(key, value)
    if number is None:
        journal.error(name, request, f"Invalid {key.upper()} value '{value}'")
        request.tempfail = True
    else:
        request.set_userdb(key, number)


def _set_tempfail(request: Request, value: str, journal: Journal, name: str) -> None:
    request.tempfail = True


def _import(request: Request, value: str, journal: Journal, name: str) -> None:
    for word in value.split("\t"):
        key, _, text = word.partition("=")
        if key and key != "userdb_import":
            set_user_field(request, key, text, journal, name)


def _set_system_user(request: Request, value: str, journal: Journal, name: str) -> None:
    journal.warning(name, request, "userdb: Replace system_user with system_groups_user")
    request.set_userdb("system_groups_user", value)


def _number(key: str, value: str) -> str | None:
    if value.isascii() and value.isdigit() and len(value) <= 10:
        return str(int(value))
    if key == "gid" and "," in value:
        numbers = [_number(key, part) for part in value.split(",")]
        return None if None in numbers else ",".join(filter(None, numbers))
    return accounts.user_number(value) if key == "uid" else accounts.group_number(value)


def _set_from_file(request: Request, path: str, journal: Journal, name: str) -> None:
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        journal.error(name, request, f"stat({path}) failed: {reason}")
        request.tempfail = True
        return
    request.set_userdb("uid", str(found.st_uid))
    request.set_userdb("gid", str(found.st_gid))


_SPECIAL = {**SETTERS, "uid": _set_uid, "gid": _set_gid, "tempfail": _set_tempfail, "uidgid_file": _set_from_file,
            "userdb_import": _import, "system_user": _set_system_user}
