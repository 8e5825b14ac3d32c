"""PostgreSQL, through psycopg's thin layer over libpq (connect strings and the meaning of escapes are libpq's).

A connection is driven without blocking calls, so that connecting and queries have time limits of their own.
"""
from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any

from mailproxy.auth.sql.database import SURPLUS, Connection, ConnectionLost, Rows, SqlError, to_bytes, to_text
from mailproxy.errors import DriverMissing

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

#: Seconds: connecting, a query (each row of a list).
CONNECT_TIMEOUT = 5.0
QUERY_TIMEOUT = 30.0


def load() -> Any:
    try:
        import psycopg.pq
    except ImportError:         # also when libpq itself is not there
        raise DriverMissing("sql: driver pgsql needs the package python3-psycopg (pip: mailproxy[pgsql], and libpq5)"
                            ) from None
    return psycopg.pq


class PostgresqlHost:
    __slots__ = ("_conninfo", "_database", "name")

    def __init__(self, words: list[tuple[str, str]]) -> None:
        """SqlError for what libpq cannot make anything of."""
        pq = load()
        self._conninfo = to_bytes(" ".join(f"{key}={value}" if value else key for key, value in words))
        try:
            options = {row.keyword: row.val for row in pq.Conninfo.parse(self._conninfo)}
        except Exception as error:
            raise SqlError(str(error).strip()) from None
        self.name = to_text(options.get(b"host") or options.get(b"hostaddr") or b"")
        self._database = to_text(options.get(b"dbname") or b"")

    def connect(self) -> Connection:
        pq = load()
        limit = time.monotonic() + CONNECT_TIMEOUT
        connection = pq.PGconn.connect_start(self._conninfo)
        try:
            while connection.status != pq.ConnStatus.BAD:
                state = connection.connect_poll()
                if state == pq.PollingStatus.OK:
                    connection.nonblocking = 1
                    return PostgresqlConnection(connection, pq)
                if state == pq.PollingStatus.FAILED:
                    break
                _wait(connection.socket, state == pq.PollingStatus.WRITING, limit, "Connect timed out")
            reason = " ".join(to_text(connection.error_message).split())
        except Exception as error:
            reason = str(error)
        connection.finish()
        raise SqlError(f", database={self._database}: {reason}")


class PostgresqlConnection:
    __slots__ = ("_connection", "_escaping", "_pq")

    def __init__(self, connection: PGconn, pq: Any) -> None:
        self._connection = connection
        self._pq = pq
        self._escaping = pq.Escaping(connection)

    @property
    def usable(self) -> bool:
        return bool(self._connection.status == self._pq.ConnStatus.OK)

    def escape(self, value: str) -> str:
        if "\0" in value:
            raise SqlError("invalid character in a value")
        try:
            return to_text(bytes(self._escaping.escape_string(to_bytes(value))))
        except Exception as error:          # no text in the connection's encoding
            raise SqlError(str(error).strip()) from None

    def ask(self, query: str, most: int) -> Rows:
        limit = time.monotonic() + QUERY_TIMEOUT
        try:
            self._connection.send_query(to_bytes(query))
            self._connection.set_single_row_mode()
            return self._result(limit, most)
        except SqlError:
            raise
        except Exception as error:
            raise ConnectionLost(str(error).strip()) from None

    def _result(self, limit: float, most: int) -> Rows:
        """The first result; what a further one says is dropped."""
        status = self._pq.ExecStatus
        rows = Rows([], [])
        failed = ""
        number = seen = 0
        while (result := self._next(limit)) is not None:
            if not most:                # a list of everybody takes its time
                limit = time.monotonic() + QUERY_TIMEOUT
            if result.status == status.SINGLE_TUPLE or (result.status == status.TUPLES_OK and number == 0):
                if not rows.names:
                    rows.names = [to_text(result.fname(column) or b"") for column in range(result.nfields)]
                if result.status == status.TUPLES_OK:
                    number += 1
                elif number == 0:
                    seen += 1
                    if not most or seen <= most:
                        rows.rows.append(_row(result))
                    elif seen == most + SURPLUS:
                        self.close()
                        return rows
            elif result.status == status.COMMAND_OK:
                rows.changed = result.command_tuples or 0
                number += 1
            elif not number and not failed:
                failed = _said(result.error_message)
            result.clear()
        if failed:
            lost = self._connection.status == self._pq.ConnStatus.BAD
            raise (ConnectionLost if lost else SqlError)(failed)
        return rows

    def _next(self, limit: float) -> PGresult | None:
        connection = self._connection
        while connection.flush():
            _wait(connection.socket, True, limit, "Query timed out")
        while connection.is_busy():
            _wait(connection.socket, False, limit, "Query timed out")
            connection.consume_input()
        return connection.get_result()

    def close(self) -> None:
        self._connection.finish()


def _wait(descriptor: int, writing: bool, limit: float, complaint: str) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT if writing else select.POLLIN)
    if not poll.poll(max(limit - time.monotonic(), 0) * 1000):
        raise ConnectionLost(complaint)


def _row(result: PGresult) -> list[str | None]:
    cells = [result.get_value(0, column) for column in range(result.nfields)]
    return [None if cell is None else to_text(cell) for cell in cells]


def _said(message: bytes) -> str:
    """The first line: the others repeat the query, in which a password may be."""
    return " ".join(to_text(message.lstrip().partition(b"\n")[0]).split())
