"""prefetch: what the passdb has said in userdb_ fields is the answer.  The chain sees to it."""
from __future__ import annotations

from collections.abc import Iterator

from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, unknown
from mailproxy.auth.userdb.driver import ListingFailed
from mailproxy.variables import Values


class Prefetch:
    __slots__ = ()

    blocking = False
    variables: tuple[str, ...] | None = None
    lists = False
    asks_passdb = False
    prefetches = True

    def __init__(self, args: str) -> None:
        if args.strip():
            raise ArgsInvalid("userdb prefetch: No args are supported")

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    def lookup(self, values: Values) -> Answer:
        return unknown()

    def users(self, values: Values) -> Iterator[str]:
        raise ListingFailed("userdb prefetch: users cannot be listed")
