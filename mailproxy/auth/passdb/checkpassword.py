"""checkpassword: a program of the administrator's compares the password (qmail's interface, with Dovecot's additions).

args: program and arguments, with %variables.  Asked without a password (AUTHORIZED=1) it may tell the fields of a user.
Blocking: for auth-workers.
"""
from __future__ import annotations

from mailproxy.auth import checkpassword, outcome
from mailproxy.auth.passdb.driver import Answer, failure, row_answer, unknown
from mailproxy.variables import Values

_RIGHT, _WRONG, _FOUND, _NOBODY = 0, 1, 2, 3


class CheckPassword:
    __slots__ = ("needs", "program", "variables")

    default_scheme = "PLAIN"
    blocking = True

    def __init__(self, args: str) -> None:
        self.program = checkpassword.Program(args)
        self.needs = (*checkpassword.NEEDS, "wanted_scheme")
        self.variables: tuple[str, ...] | None = None

    def open(self) -> None:
        """A process per request."""

    def close(self) -> None:
        """Nothing stays open."""

    def verify(self, values: Values, password: str) -> Answer:
        got = self.program.run(values, password, {})
        if got.status == _RIGHT:
            if not got.fields:
                return _with(failure("Received no input"), got)
            return _with(Answer(outcome.OK, fields=[pair for pair in got.fields if pair[0] != "password"]), got)
        if got.status == _WRONG:
            return _with(Answer(outcome.MISMATCH, note=got.failure or "Login failed (status=1)"), got)
        return _with(failure(trouble(got, "passdb")), got)

    def lookup(self, values: Values) -> Answer:
        wanted = values["wanted_scheme"]
        credentials = {"CREDENTIALS_LOOKUP": "1", "SCHEME": wanted} if wanted else {}
        got = self.program.run(values, "", {"AUTHORIZED": "1", **credentials})
        if got.status == _NOBODY:
            return _with(unknown(), got)
        if got.status != _FOUND:
            return _with(failure(trouble(got, "lookup")), got)
        return _with(row_answer(got.fields, self.default_scheme), got)


def trouble(got: checkpassword.Outcome, purpose: str) -> str:
    """What to say of a status that answers nothing."""
    if got.failure:
        return got.failure
    text = f"Child exited with status {got.status}"
    if purpose == "passdb" and got.status == _FOUND:
        text += " (tried to use userdb-only checkpassword program for passdb?)"
    elif purpose == "lookup" and got.status == _RIGHT:
        text += " (the program must execute checkpassword-reply, with AUTHORIZED=2 in its environment)"
    return text


def _with(answer: Answer, got: checkpassword.Outcome) -> Answer:
    """The answer, and what the program wrote to standard error."""
    if got.complaint:
        answer.error = f"{answer.error}: {got.complaint}" if answer.error else got.complaint
    return answer
