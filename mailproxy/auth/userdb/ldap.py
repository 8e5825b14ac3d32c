"""ldap: users from a directory, always as the service's DN.  args: the settings file.  Blocking: for auth-workers."""
from __future__ import annotations

from collections.abc import Callable, Iterator

from mailproxy.auth import outcome
from mailproxy.auth.ldap.attributes import Attributes, escape
from mailproxy.auth.ldap.connection import Connection, DirectoryFailed
from mailproxy.auth.ldap.settings import Settings
from mailproxy.auth.passdb.driver import Answer, failure, unknown
from mailproxy.auth.passdb.ldap import Search
from mailproxy.auth.userdb.driver import ListingFailed
from mailproxy.auth.variables import template
from mailproxy.variables import ExpandError, Values


class Ldap:
    __slots__ = ("_base", "_connection", "_every", "_filter", "_search", "log_error", "variables")

    blocking = True
    lists = True
    asks_passdb = False
    prefetches = False

    def __init__(self, args: str) -> None:
        settings = Settings(args.strip())
        self._connection = Connection(settings)
        self.log_error: Callable[[str], None] = lambda _text: None
        self._search = Search(settings, self._connection, "user")
        self._base = template(settings.text["base"], escape)
        self._filter = template(settings.text["iterate_filter"], escape)
        self._every = Attributes(settings.text["iterate_attrs"])
        self.variables: tuple[str, ...] | None = self._search.variables

    def open(self) -> None:
        """Connects on first use."""

    def close(self) -> None:
        self._connection.close()

    def lookup(self, values: Values) -> Answer:
        try:
            found = self._search.run(values, self.log_error)
        except (DirectoryFailed, ExpandError) as error:
            return failure(str(error))
        return unknown() if found is None else Answer(outcome.OK, fields=found[1])

    def users(self, values: Values) -> Iterator[str]:
        try:
            for dn, entry in self._connection.all(self._base.expand(values), self._filter.expand(values),
                                                  self._every.names):
                fields = self._every.fields(values, dn, entry, self._connection.read, self.log_error)
                yield from (value for key, value in fields if key == "user")
        except (DirectoryFailed, ExpandError) as error:
            raise ListingFailed(str(error)) from None
