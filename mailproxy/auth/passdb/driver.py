"""What a password database driver is.

A driver is built from the `args` of its passdb section (in the master, with the configuration's rights), opened in
the process that uses it, and asked with the variables of a request.  It answers what the database says; comparing
passwords, the meaning of fields, caching and logging are the chain's business.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from mailproxy.auth import outcome
from mailproxy.auth.schemes import split
from mailproxy.errors import MailproxyError
from mailproxy.log.pipe import Log
from mailproxy.variables import Values

#: (name, value) in the order of the database.
Pairs = list[tuple[str, str]]


class ArgsInvalid(MailproxyError):
    """The section's args (or the file they name) cannot be used."""


class Answer:
    """`result`: OK, UNKNOWN or INTERNAL; a Verifier's also MISMATCH, DISABLED, EXPIRED, and SCHEME_MISSING when it
    was asked for what only a password gives.  `password` carries its {SCHEME}; None: the database has none.
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


def row_answer(pairs: Pairs, default_scheme: str) -> Answer:
    """Of a database whose fields stand beside the password."""
    password = None
    fields: Pairs = []
    for key, value in pairs:
        if key == "password":
            scheme, data = split(value, default_scheme)
            password = "{" + scheme + "}" + data
        elif key == "password_noscheme":
            password = "{" + default_scheme + "}" + value
        else:
            fields.append((key, value))
    return Answer(outcome.OK, password, fields)


def without_password() -> Answer:
    """Of databases that never give a password away, to those who want one."""
    return Answer(outcome.SCHEME_MISSING, note="passdb doesn't support credential lookups")


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


@runtime_checkable
class Talkative(Protocol):
    """A driver that has something for the log besides its answers: where to say it is set before it is opened."""

    log_error: Callable[[str], None]


@runtime_checkable
class Logging(Protocol):
    """A driver that writes to the log in all kinds of lines."""

    log: Log | None


def open_driver(driver: Any, log: Log) -> None:
    if isinstance(driver, Talkative):
        driver.log_error = log.error
    if isinstance(driver, Logging):
        driver.log = log
    driver.open()


@runtime_checkable
class Cautious(Protocol):
    """A driver in whose settings something looks wrong."""

    def warning(self) -> str:
        """For the log when the service starts; "" for nothing."""


class Program(Protocol):
    """`identity`: (uid, gid) to take on when the worker is root's."""

    identity: tuple[int, int] | None


@runtime_checkable
class Executing(Protocol):
    """A driver that has a program run: as whom is set before it is opened."""

    program: Program


@runtime_checkable
class Wearing(Protocol):
    """A driver whose process should end after so many lookups, because the code behind it leaks."""

    max_requests: int


@runtime_checkable
class Verifier(Protocol):
    """What a blocking driver has besides a Driver's parts if it compares passwords itself (or has the server do it).
    `needs`: the variables that it is asked with; its `variables` are only those of the cache key.
    Its `lookup` serves requests without a password to compare."""

    @property
    def needs(self) -> tuple[str, ...]: ...

    def verify(self, values: Values, password: str) -> Answer:
        """OK only if the password is right, or the answer's own password is to be compared after all, or `verdict` is
        False: the chain decides as for other drivers."""
