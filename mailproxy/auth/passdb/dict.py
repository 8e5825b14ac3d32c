"""dict: users from a key-value store.  args: the settings file.  Blocking: for auth-workers."""
from __future__ import annotations

from mailproxy.auth.dicts.lookup import Broken, Missing, Settings
from mailproxy.auth.dicts.store import StoreFailed
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, failure, row_answer, unknown
from mailproxy.variables import ExpandError, Values


class Dict:
    __slots__ = ("_settings", "_source", "default_scheme", "variables")

    blocking = True

    def __init__(self, args: str) -> None:
        self._settings = Settings(args.strip())
        if self._settings.passdb is None:
            raise ArgsInvalid(f"dict {args.strip()}: No passdb_objects or passdb_fields specified")
        self._source = self._settings.passdb
        self.default_scheme = self._settings.default_scheme
        self.variables: tuple[str, ...] | None = self._source.variables

    def open(self) -> None:
        """Connects on first use."""

    def close(self) -> None:
        self._settings.store.close()

    def lookup(self, values: Values) -> Answer:
        try:
            found = self._source.fields(values)
        except Missing:
            return unknown()
        except (Broken, StoreFailed, ExpandError) as error:
            return failure(str(error))
        return row_answer(found, self.default_scheme)
