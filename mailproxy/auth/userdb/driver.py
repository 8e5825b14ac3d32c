"""What a user database driver is.

A driver is built from the `args` of its userdb section (in the master, with the configuration's rights), opened in the
process that uses it, and asked with the variables of a request.  It answers what the database says, as an Answer whose
fields have no `userdb_` in front (OK, UNKNOWN or INTERNAL; the password is not used).  Which database is asked next,
what fields mean, caching and logging are the chain's business.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from mailproxy.auth.passdb.driver import Answer
from mailproxy.errors import MailproxyError
from mailproxy.variables import Values


class ListingFailed(MailproxyError):
    """The users cannot be listed; the text is for the log."""


@runtime_checkable
class Ranged(Protocol):
    """A driver whose list of users has bounds: first and last user id, first and last group id; a last of 0 is none."""

    valid: tuple[int, int, int, int]


class Driver(Protocol):
    """`blocking`: may take long, so look up in an auth-worker only (lists are always made there).
    `variables`: everything of a request that the answer depends on; None: never cache its answers.
    `lists`: can name all its users.
    `asks_passdb`: knows everybody, so that a lookup without a login asks the passdbs first whether the user exists.
    `prefetches`: the answer is what the passdb has said in userdb_ fields; `lookup` is not called."""

    @property
    def blocking(self) -> bool: ...

    @property
    def variables(self) -> tuple[str, ...] | None: ...

    @property
    def lists(self) -> bool: ...

    @property
    def asks_passdb(self) -> bool: ...

    @property
    def prefetches(self) -> bool: ...

    def open(self) -> None:
        """In the process that will ask.  A database that is down is no reason to fail: answer so later."""

    def lookup(self, values: Values) -> Answer: ...

    def users(self, values: Values) -> Iterator[str]:
        """All names.  ListingFailed."""

    def close(self) -> None: ...
