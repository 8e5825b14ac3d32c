"""python: a function of the administrator answers.  See scriptfile for what a script is.

Blocking: for auth-workers.
"""
from __future__ import annotations

from collections.abc import Iterator

from mailproxy.auth.passdb.driver import Answer
from mailproxy.auth.script import NEEDS
from mailproxy.auth.scriptfile import Args, Caller, ScriptFailed
from mailproxy.auth.userdb.driver import ListingFailed
from mailproxy.log.pipe import Log
from mailproxy.variables import Values


class Python:
    __slots__ = ("_caller", "_lookup", "variables")

    blocking = True
    lists = True
    asks_passdb = False
    prefetches = False
    needs = NEEDS

    def __init__(self, args: str) -> None:
        given = Args("userdb", args)
        self._caller = Caller("userdb", given)
        self._lookup = given.function or "auth_userdb_lookup"
        self.variables = given.variables

    @property
    def log(self) -> Log | None:
        return self._caller.log

    @log.setter
    def log(self, log: Log | None) -> None:
        self._caller.log = log

    def open(self) -> None:
        self._caller.open()

    def close(self) -> None:
        self._caller.close()

    def lookup(self, values: Values) -> Answer:
        return self._caller.ask(self._lookup, values)

    def users(self, values: Values) -> Iterator[str]:
        try:
            yield from self._caller.names()
        except ScriptFailed as error:
            raise ListingFailed(str(error)) from None
