"""dict: users from a key-value store, all of them from the keys below iterate_prefix.  args: the settings file.
Blocking: for auth-workers."""
from __future__ import annotations

from collections.abc import Iterator

from mailproxy.auth import outcome
from mailproxy.auth.dicts.lookup import Broken, Missing, Settings
from mailproxy.auth.dicts.store import SHARED, StoreFailed
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, failure, unknown
from mailproxy.auth.userdb.driver import ListingFailed
from mailproxy.variables import ExpandError, Values


class Dict:
    __slots__ = ("_settings", "_source", "lists", "variables")

    blocking = True
    asks_passdb = False
    prefetches = False

    def __init__(self, args: str) -> None:
        self._settings = Settings(args.strip())
        if self._settings.userdb is None:
            raise ArgsInvalid(f"dict {args.strip()}: No userdb_objects or userdb_fields specified")
        self._source = self._settings.userdb
        self.lists = bool(self._settings.iterate_prefix)
        self.variables: tuple[str, ...] | None = self._source.variables

    def open(self) -> None:
        """Connects on first use."""

    def close(self) -> None:
        self._settings.store.close()

    def lookup(self, values: Values) -> Answer:
        try:
            return Answer(outcome.OK, fields=self._source.fields(values))
        except Missing:
            return unknown()
        except (Broken, StoreFailed, ExpandError) as error:
            return failure(str(error))

    def users(self, values: Values) -> Iterator[str]:
        prefix = SHARED + self._settings.iterate_prefix
        try:
            for key in self._settings.store.keys(prefix):
                yield key[len(prefix):]
        except StoreFailed as error:
            raise ListingFailed(str(error)) from None
