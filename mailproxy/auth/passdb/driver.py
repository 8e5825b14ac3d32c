"""What a password database driver is.

A driver is built from the `args` of its passdb section (in the master, with the configuration's rights), opened in
the process that uses it, and asked with the variables of a request.  It answers what the database says; comparing
passwords, the meaning of fields, caching and logging are the chain's business.
"""
from __future__ import annotations

from typing import Any, Protocol

from mailproxy.auth import outcome
from mailproxy.errors import MailproxyError
from mailproxy.variables import Values

#: (name, value) in the order of the database.
Pairs = list[tuple[str, str]]


class ArgsInvalid(MailproxyError):
    """The section's args (or the file they name) cannot be used."""


class Answer:
    """`result`: OK, UNKNOWN or INTERNAL.  `password` carries its {SCHEME}; None: the database has none.
    `error` is for the log at error level, `note` at info level.  `verdict` is the comparison already made by a
    worker (None: not made), `complaint` why it could not be made.  `shared`: this object is given out again and again,
    so that the chain may leave its own form of the fields in `prepared`."""

    __slots__ = ("complaint", "error", "fields", "note", "password", "prepared", "result", "shared", "verdict")

    def __init__(self, result: int, password: str | None = None, fields: Pairs | None = None,
                 error: str = "", note: str = "") -> None:
        self.result = result
        self.password = password
        self.fields: Pairs = fields if fields is not None else []
        self.error = error
        self.note = note
        self.verdict: bool | None = None
        self.complaint = ""
        self.shared = False
        self.prepared: Any = None


def unknown(note: str = "") -> Answer:
    return Answer(outcome.UNKNOWN, note=note)


def failure(error: str) -> Answer:
    return Answer(outcome.INTERNAL, error=error)


class Driver(Protocol):
    """`blocking`: may take long, so ask it in an auth-worker only.
    `variables`: everything of a request that the answer depends on; None: never cache its answers."""

    @property
    def default_scheme(self) -> str: ...

    @property
    def blocking(self) -> bool: ...

    @property
    def variables(self) -> tuple[str, ...] | None: ...

    def open(self) -> None:
        """In the process that will ask.  A database that is down is no reason to fail: answer so later."""

    def lookup(self, values: Values) -> Answer: ...

    def close(self) -> None: ...
