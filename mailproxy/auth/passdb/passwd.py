"""passwd: the password field that the system's user database gives away.  (Where shadow passwords are in use, that is
only an x: nobody can log in; take pam or shadow.)  Blocking: the database may be behind a network."""
from __future__ import annotations

import pwd

from mailproxy.auth import outcome
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, unknown
from mailproxy.variables import Values


def account_answer(name: str, field: str, scheme: str) -> Answer:
    """The system's word on a user whose password field this is."""
    if not field or field[0] in "*!":
        return Answer(outcome.DISABLED, note="invalid password field")
    return Answer(outcome.OK, "{" + scheme + "}" + field, [("user", name)])


class Passwd:
    __slots__ = ()

    default_scheme = "CRYPT"
    blocking = True
    variables: tuple[str, ...] | None = ("user",)

    def __init__(self, args: str) -> None:
        if args.removeprefix("blocking=yes").removeprefix("blocking=no"):
            raise ArgsInvalid(f"passwd: Unknown setting: {args}")

    def open(self) -> None:
        """The C library opens what it needs."""

    def close(self) -> None:
        """Nothing stays open."""

    def lookup(self, values: Values) -> Answer:
        try:
            row = pwd.getpwnam(values["user"])
        except (KeyError, ValueError):              # ValueError: NUL in the name
            return unknown()
        return account_answer(row.pw_name, row.pw_passwd, self.default_scheme)
