"""passwd: the system's accounts, through getpwnam (so whatever nsswitch.conf names).

`blocking=no` in args asks in the auth process: for a local file that is quick.  Fields in args replace what the system
says, as override_fields do.
"""
from __future__ import annotations

import pwd
from collections.abc import Iterator

from mailproxy.auth import outcome
from mailproxy.auth.passdb.driver import Answer, failure, unknown
from mailproxy.auth.userdb.static import Fields
from mailproxy.variables import ExpandError, Values


class Passwd:
    __slots__ = ("_fields", "blocking", "valid", "variables")

    lists = True
    asks_passdb = False
    prefetches = False

    def __init__(self, args: str) -> None:
        words = args.split()
        options = [word for word in words if word.partition("=")[0] == "blocking"]
        self.blocking = all(word.lower() == "blocking=yes" for word in options)
        self._fields = Fields("passwd", [word for word in words if word not in options])
        self.variables: tuple[str, ...] | None = tuple(dict.fromkeys(("user", *self._fields.variables)))
        #: first_valid_uid, last_valid_uid, first_valid_gid, last_valid_gid: whom to list; a last of 0 has no limit.
        self.valid = (500, 0, 1, 0)

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    def lookup(self, values: Values) -> Answer:
        try:
            entry = pwd.getpwnam(values["user"])
        except KeyError:
            return unknown()
        except (ValueError, OSError) as error:      # ValueError: a NUL or a lone surrogate in the name
            return unknown() if isinstance(error, ValueError) else failure(f"getpwnam() failed: {error.strerror}")
        fields = {"user": entry.pw_name, "system_groups_user": entry.pw_name, "uid": str(entry.pw_uid),
                  "gid": str(entry.pw_gid), "home": entry.pw_dir}
        try:
            fields.update(self._fields.expand(values))
        except ExpandError as error:
            return failure(f"Failed to expand args: {error}")
        return Answer(outcome.OK, fields=list(fields.items()))

    def users(self, values: Values) -> Iterator[str]:
        first_uid, last_uid, first_gid, last_gid = self.valid
        for entry in pwd.getpwall():
            if first_uid <= entry.pw_uid <= (last_uid or entry.pw_uid) \
                    and first_gid <= entry.pw_gid <= (last_gid or entry.pw_gid):
                yield entry.pw_name
