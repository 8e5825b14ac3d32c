"""python: a function of the administrator answers.  See scriptfile for what a script is.

Blocking: for auth-workers.
"""
from __future__ import annotations

from mailproxy.auth.passdb.driver import Answer, without_password
from mailproxy.auth.script import NEEDS
from mailproxy.auth.scriptfile import Args, Caller
from mailproxy.log.pipe import Log
from mailproxy.variables import Values

_LOOKUP, _VERIFY = "auth_passdb_lookup", "auth_password_verify"


class Python:
    __slots__ = ("_caller", "_lookup", "_own", "default_scheme", "variables")

    blocking = True
    needs = NEEDS

    def __init__(self, args: str) -> None:
        given = Args("passdb", args)
        self._caller = Caller("passdb", given)
        self._own = bool(given.function)
        self._lookup = given.function or _LOOKUP
        self.default_scheme = given.scheme
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
        if not self._own and not self._caller.has(_LOOKUP) and self._caller.has(_VERIFY):
            return without_password()
        return self._caller.ask(self._lookup, values)

    def verify(self, values: Values, password: str) -> Answer:
        if not self._own and self._caller.has(_VERIFY):
            answer = self._caller.ask(_VERIFY, values, password)
            answer.password = None              # the script has compared
            return answer
        answer = self._caller.ask(self._lookup, values)
        answer.verdict = False                  # nobody has compared anything yet
        return answer
