"""Several hosts with the same data: asked in turn, those that are down left out for a while.

In: a query, made anew for each connection because values are escaped by its rules.  Out: rows, or SqlError when no
host could answer.  A query that fails is tried on the other hosts, once each; one whose connection turns out to have
been cut meanwhile is tried on a new connection first.  Asked from one thread, one query at a time; blocks as long as
the hosts' own time limits allow.
"""
from __future__ import annotations

import time
from collections.abc import Callable

from mailproxy.auth.sql.database import Connection, ConnectionLost, Host, Rows, SqlError, Unsayable

#: Seconds until a host that failed is tried again: the first time, how often longer, the most, and the most while no
#: other host is up.
FIRST_DELAY = 1.0
GROWTH = 5.0
MOST_DELAY = 1800.0
MOST_DELAY_ALONE = 2.0
#: A query that took this many seconds to fail is not tried again: the auth process gives it up after sixty.
PATIENCE = 20.0


class _Member:
    """One host.  `until`: not to be tried before."""

    __slots__ = ("connection", "delay", "host", "until")

    def __init__(self, host: Host) -> None:
        self.host = host
        self.connection: Connection | None = None
        self.delay = 0.0
        self.until = float("-inf")

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Pool:
    """`kind` is the database's name in the log."""

    __slots__ = ("_clock", "_kind", "_last", "_members", "log_error")

    def __init__(self, kind: str, hosts: list[Host], clock: Callable[[], float] = time.monotonic) -> None:
        self._kind = kind
        self._members = [_Member(host) for host in hosts]
        self._last = -1
        self._clock = clock
        self.log_error: Callable[[str], None] = lambda _text: None

    def close(self) -> None:
        for member in self._members:
            member.drop()

    def ask(self, make: Callable[[Connection], str], most: int = 0, secret: str = "") -> Rows:
        """`secret` is in the query, and the database may repeat it in what it says of an error."""
        begun = self._clock()
        error = SqlError("Not connected to database")
        tried = False
        for member in self._in_turn(begun):
            if tried:
                if self._clock() - begun > PATIENCE:
                    break
                self.log_error(f"sqlpool({self._kind}): Query failed, retrying: {error}")
            tried = True
            try:
                return self._ask(member, make, most)
            except Unsayable:
                raise
            except SqlError as failure:
                error = failure if not secret else SqlError(str(failure).replace(secret, "<hidden>"))
        raise error

    def _in_turn(self, now: float) -> list[_Member]:
        first = self._last + 1
        return [member for member in (*self._members[first:], *self._members[:first]) if now >= member.until]

    def _ask(self, member: _Member, make: Callable[[Connection], str], most: int) -> Rows:
        self._last = self._members.index(member)
        begun = self._clock()
        if member.connection is not None and member.connection.usable:
            try:
                return self._run(member, member.connection, make, most)
            except ConnectionLost:
                if self._clock() - begun > PATIENCE:
                    raise
        connection = self._connect(member)
        try:
            return self._run(member, connection, make, most)
        except ConnectionLost:
            self._wait(member)
            raise

    @staticmethod
    def _run(member: _Member, connection: Connection, make: Callable[[Connection], str], most: int) -> Rows:
        try:
            return connection.ask(make(connection), most)
        except ConnectionLost:
            member.drop()
            raise

    def _connect(self, member: _Member) -> Connection:
        try:
            member.connection = connection = member.host.connect()
        except SqlError as error:
            self._wait(member)
            self.log_error(f"{self._kind}({member.host.name}): Connect failed{error}"
                           f" - waiting for {member.delay:.0f} seconds before retry")
            raise SqlError("Not connected to database") from None
        member.delay = 0.0
        return connection

    def _wait(self, member: _Member) -> None:
        alone = not any(each.connection for each in self._members)
        longest = MOST_DELAY_ALONE if alone else MOST_DELAY
        member.delay = min(member.delay * GROWTH or FIRST_DELAY, longest)
        now = self._clock()
        member.until = now + member.delay
        if alone:
            for each in self._members:
                each.until = min(each.until, now + MOST_DELAY_ALONE)
