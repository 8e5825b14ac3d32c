"""SQLite: a file.  Values have their quotes doubled; no other character means anything inside of quotes."""
from __future__ import annotations

import sqlite3
from pathlib import Path

from mailproxy.auth.sql.database import Connection, ConnectionLost, Rows, SqlError, Unsayable, to_text

#: Seconds that a locked database may keep us.
_BUSY = 1.0


class SqliteHost:
    __slots__ = ("_path", "name")

    def __init__(self, path: str) -> None:
        self._path = path
        self.name = path

    def connect(self) -> Connection:
        # mode=rw: never create an empty database because of a typing error in the path
        address = Path(self._path).absolute().as_uri() + "?mode=rw"
        try:
            connection = sqlite3.connect(address, uri=True, timeout=_BUSY, isolation_level=None)
        except sqlite3.Error as error:
            raise SqlError(f": {error}") from None
        connection.text_factory = to_text
        return SqliteConnection(connection)


class SqliteConnection:
    __slots__ = ("_connection",)

    usable = True

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def escape(self, value: str) -> str:
        if not value.isprintable() and ("\0" in value or any("\ud800" <= char <= "\udfff" for char in value)):
            raise Unsayable("unknown user: the name or password is no UTF-8 text")
        return value.replace("'", "''")

    def ask(self, query: str, most: int) -> Rows:
        try:
            cursor = self._connection.execute(query)
            rows = cursor.fetchmany(most) if most else cursor.fetchall()
            names = [column[0] for column in cursor.description or ()]
            changed = cursor.rowcount
            cursor.close()
        except (sqlite3.Error, ValueError) as error:        # ValueError: a NUL in the query
            raise ConnectionLost(str(error)) from None
        return Rows(names, [[_text(cell) for cell in row] for row in rows], changed)

    def close(self) -> None:
        self._connection.close()


def _text(cell: object) -> str | None:
    if cell is None:
        return None
    return to_text(cell) if isinstance(cell, bytes) else str(cell)
