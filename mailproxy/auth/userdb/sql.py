"""sql: user_query says where a user's mail is, iterate_query who there is.  `args` names the file of the passdb."""
from __future__ import annotations

from collections.abc import Iterator

from mailproxy.auth import outcome
from mailproxy.auth.passdb.driver import Answer
from mailproxy.auth.sql.database import Rows
from mailproxy.auth.sql.driver import SqlDriver
from mailproxy.auth.userdb.driver import ListingFailed
from mailproxy.variables import Values


class Sql(SqlDriver):
    __slots__ = ()

    lists = True
    asks_passdb = False
    prefetches = False

    def __init__(self, args: str) -> None:
        super().__init__(args, "user_query")
        self.database.has_userdb = True

    def lookup(self, values: Values) -> Answer:
        rows = self.some("user_query", values)
        if isinstance(rows, Answer):
            return rows
        # of several rows the first counts, as in Dovecot
        return Answer(outcome.OK, fields=[(name, value) for name, value in zip(rows.names, rows.rows[0], strict=True)
                                          if value is not None])

    def users(self, values: Values) -> Iterator[str]:
        rows = self.ask("iterate_query", values)
        if isinstance(rows, Answer):
            raise ListingFailed(rows.error or rows.note)
        yield from _names(rows)


def _names(rows: Rows) -> Iterator[str]:
    names = rows.names
    if names and names[0] == "user":
        user, domain = 0, -1
    elif "username" in names:
        user, domain = names.index("username"), names.index("domain") if "domain" in names else -1
    else:
        raise ListingFailed("sql: Iterate query didn't return 'user' field")
    for row in rows.rows:
        name = row[user]
        if name is not None:
            place = row[domain] if domain >= 0 else None
            yield f"{name}@{place}" if place is not None else name
