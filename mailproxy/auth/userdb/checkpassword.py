"""checkpassword: the program is asked without a password (AUTHORIZED=1) and must answer with AUTHORIZED=2.

Its fields named userdb_x are x here.  Blocking: for auth-workers.
"""
from __future__ import annotations

from collections.abc import Iterator

from mailproxy.auth import outcome
from mailproxy.auth.passdb.checkpassword import CheckPassword as Passdb
from mailproxy.auth.passdb.driver import Answer
from mailproxy.auth.userdb.driver import ListingFailed
from mailproxy.variables import Values


class CheckPassword:
    __slots__ = ("_passdb", "needs", "program", "variables")

    blocking = True
    lists = False
    asks_passdb = False
    prefetches = False

    def __init__(self, args: str) -> None:
        self._passdb = Passdb(args)
        self.program = self._passdb.program
        self.needs = self._passdb.needs
        self.variables: tuple[str, ...] | None = None

    def open(self) -> None:
        """A process per request."""

    def close(self) -> None:
        """Nothing stays open."""

    def lookup(self, values: Values) -> Answer:
        answer = self._passdb.lookup(values)
        if answer.result == outcome.OK:
            answer.fields = [(key.removeprefix("userdb_"), value) for key, value in answer.fields
                             if key.startswith("userdb_")]
        return answer

    def users(self, values: Values) -> Iterator[str]:
        raise ListingFailed("checkpassword can't list users")
