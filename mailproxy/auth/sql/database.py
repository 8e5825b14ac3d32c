"""What an SQL database is to the drivers: something that is asked a query and gives rows of texts.

A Host makes Connections; both are one file per kind of database.  Texts are what was on the wire, bytes that are not
UTF-8 as lone surrogates, so that nothing is lost between a client's user name and the database.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mailproxy.errors import MailproxyError

#: Rows beyond those wanted that are read to their end; with more, giving up the connection is cheaper.
SURPLUS = 1000


class SqlError(MailproxyError):
    """The database did not answer the query; the text is for the log."""


class ConnectionLost(SqlError):
    """The connection cannot be used any more; a new one may do."""


class Unsayable(SqlError):
    """A value is no text for this database: nothing that is stored can be equal to it."""


@dataclass(slots=True)
class Rows:
    """`names` of the columns; `changed`: rows that an update has changed."""

    names: list[str]
    rows: list[list[str | None]]
    changed: int = 0


class Connection(Protocol):
    """`ask` raises SqlError.  `most`: further rows are dropped; 0: all wanted.  `usable`: not known to be closed."""

    @property
    def usable(self) -> bool: ...

    def escape(self, value: str) -> str:
        """A value fit for the inside of quotes.  Unsayable, SqlError."""

    def ask(self, query: str, most: int) -> Rows: ...

    def close(self) -> None: ...


class Host(Protocol):
    """One server.  `name` for the log; `connect` raises SqlError."""

    @property
    def name(self) -> str: ...

    def connect(self) -> Connection: ...


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
