"""passwd-file: uid, gid, home and the userdb_ fields of the lines that the passdb of this name reads, too.

`args`: `[username_format=<format>] <path>`.  A line that ends before the uid is no user here.
"""
from __future__ import annotations

from collections.abc import Iterator

from mailproxy.auth import outcome
from mailproxy.auth.passdb import passwd_file as passdb
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, failure, unknown
from mailproxy.auth.passdb.passwd_file import Row, RowMaker
from mailproxy.auth.userdb import accounts
from mailproxy.auth.userdb.driver import ListingFailed
from mailproxy.variables import Values

_PREFIX = "userdb_"


def _owner_and_extra(fields: list[str]) -> Row:
    """(uid, gid, home, extra), or only (extra) when there is no uid."""
    extra = passdb.extra_fields(fields)
    if len(fields) < 4:
        return (extra,)
    return fields[2], fields[3], fields[5] if len(fields) > 5 else "", extra


class PasswdFile(passdb.PasswdFile):
    __slots__ = ("lists",)

    asks_passdb = False
    prefetches = False
    _make_row: RowMaker = staticmethod(_owner_and_extra)

    def __init__(self, args: str) -> None:
        if args.strip().startswith("scheme="):
            raise ArgsInvalid("userdb passwd-file: scheme is for passdbs")
        super().__init__(args)
        self.lists = self._path.constant is not None

    def _answer(self, row: Row, values: Values) -> Answer:
        if len(row) == 1:
            return unknown()
        fields = []
        for name, text, resolve in (("uid", row[0], accounts.user_number), ("gid", row[1], accounts.group_number)):
            if text:
                number = resolve(text)
                if number is None:
                    return failure(f"User {values['user']} has invalid {name.upper()} '{text}'")
                fields.append((name, number))
        if row[2]:
            fields.append(("home", row[2]))
        fields += [(key.removeprefix(_PREFIX), value) for key, value in self._fields(row[-1], values)
                   if key.startswith(_PREFIX)]
        return Answer(outcome.OK, fields=fields)

    def users(self, values: Values) -> Iterator[str]:
        path = self._path.constant
        if path is None:
            raise ListingFailed("passwd-file: users cannot be listed while the path has variables")
        file = self._file(path)
        if file.users is None:
            raise ListingFailed(f"passwd-file {path}: {file.error or 'missing passwd file'}")
        yield from file.users
