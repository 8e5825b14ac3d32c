"""sql with SQLite: one row per user, columns are fields.

The file named by `args` holds driver, connect, password_query, default_pass_scheme.  Values are put into the query
text with quotes doubled, since administrators write the quotes themselves.  Blocking: for auth-workers.
"""
from __future__ import annotations

import sqlite3
from pathlib import Path

from mailproxy.auth import outcome
from mailproxy.auth.passdb import settings_file
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, Pairs, failure, unknown
from mailproxy.auth.schemes import split
from mailproxy.auth.variables import template
from mailproxy.variables import ExpandError, Values

#: Milliseconds that a locked database may keep us.
_BUSY_SECONDS = 1.0
_SETTINGS = {
    "driver": "", "connect": "",
    "password_query": "SELECT username, domain, password FROM users WHERE username = '%n' AND domain = '%d'",
    "user_query": "SELECT home, uid, gid FROM users WHERE username = '%n' AND domain = '%d'",
    "update_query": "UPDATE users SET password = '%w' WHERE username = '%n' AND domain = '%d'",
    "iterate_query": "SELECT username, domain FROM users",
    "default_pass_scheme": "MD5", "userdb_warning_disable": "no",
}


def escape(value: str) -> str:
    return value.replace("'", "''")


class Sql:
    __slots__ = ("_builtin", "_connection", "_path", "_query", "default_scheme", "variables")

    blocking = True

    def __init__(self, args: str) -> None:
        if not args.strip():
            raise ArgsInvalid("sql: Configuration file path not given")
        settings = settings_file.load(args.strip(), _SETTINGS)
        if not settings["driver"]:
            raise ArgsInvalid(f"sql: driver not set in configuration file {args}")
        if settings["driver"] != "sqlite":
            raise ArgsInvalid(f"sql: driver '{settings['driver']}' is not supported (in {args}); supported: sqlite")
        if not settings["connect"]:
            raise ArgsInvalid(f"sql: connect string not set in configuration file {args}")
        self._path = settings["connect"]
        self._query = template(settings["password_query"], escape)
        self._builtin = settings["password_query"] == _SETTINGS["password_query"]
        self.default_scheme = settings["default_pass_scheme"].upper()
        self.variables: tuple[str, ...] | None = self._query.key_variables
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Connects on first use."""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            # mode=rw: never create an empty database because of a typing error in the path
            address = Path(self._path).absolute().as_uri() + "?mode=rw"
            connection = sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
            connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            self._connection = connection
        return self._connection

    def lookup(self, values: Values) -> Answer:
        try:
            query = self._query.expand(values)
        except ExpandError as error:
            return failure(f"Failed to expand password_query={self._query.source}: {error}")
        try:
            cursor = self._connected().execute(query)
            rows = cursor.fetchmany(2)
            names = [column[0] for column in cursor.description or ()]
            cursor.close()
        except (sqlite3.Error, ValueError) as error:        # ValueError: NUL or invalid UTF-8 in a value
            self.close()
            hint = f" (using built-in default password_query: {self._query.source})" if self._builtin else ""
            return failure(f"Password query failed: {_text(error)}{hint}")
        if not rows:
            return unknown()
        if len(rows) > 1:
            return failure("Password query returned multiple matches")
        return self._answer(names, rows[0])

    def _answer(self, names: list[str], row: tuple[object, ...]) -> Answer:
        if not {"password", "password_noscheme"} & set(names):
            return failure("Password query must return a field named 'password'")
        password = None
        fields: Pairs = []
        for name, cell in zip(names, row, strict=True):
            if cell is None:
                continue
            value = cell.decode("utf-8", "surrogateescape") if isinstance(cell, bytes) else str(cell)
            if name == "password":
                scheme, data = split(value, self.default_scheme)
                password = "{" + scheme + "}" + data
            elif name == "password_noscheme":
                password = "{" + self.default_scheme + "}" + value
            else:
                fields.append((name, value))
        return Answer(outcome.OK, password, fields)


def _text(error: Exception) -> str:
    return "invalid character in a value" if isinstance(error, ValueError) else str(error)
