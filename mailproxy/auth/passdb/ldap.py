"""ldap: users from a directory.  args: the settings file.

The hash is fetched and compared here, or (auth_bind) the directory is asked to accept the password.  Blocking: for
auth-workers, each with a connection of its own.
"""
from __future__ import annotations

from collections.abc import Callable

from mailproxy.auth import outcome
from mailproxy.auth.ldap.attributes import Attributes, escape
from mailproxy.auth.ldap.connection import Connection, DirectoryFailed
from mailproxy.auth.ldap.settings import Settings
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, Driver, Pairs, failure, row_answer, unknown
from mailproxy.auth.variables import template
from mailproxy.variables import ExpandError, Values

_PASSWORDS = frozenset(("password", "password_noscheme"))


class Search:
    """Looking for the entry of a user: base, filter and attributes of one side."""

    __slots__ = ("_attributes", "_base", "_connection", "_filter", "variables")

    def __init__(self, settings: Settings, connection: Connection, side: str,
                 without: frozenset[str] = frozenset()) -> None:
        """`side`: pass or user."""
        try:
            self._attributes = Attributes(settings.text[f"{side}_attrs"], without)
        except ArgsInvalid as error:
            raise ArgsInvalid(f"ldap {settings.path}: {side}_attrs: {error}") from None
        self._base = template(settings.text["base"], escape)
        self._filter = template(settings.text[f"{side}_filter"], escape)
        self._connection = connection
        self.variables = tuple(dict.fromkeys((*self._base.key_variables, *self._attributes.variables,
                                              *self._filter.key_variables)))

    def run(self, values: Values, warn: Callable[[str], None]) -> tuple[str, Pairs] | None:
        """The DN and the fields.  DirectoryFailed, ExpandError."""
        found = self._connection.find(self._base.expand(values), self._filter.expand(values), self._attributes.names)
        if found is None:
            return None
        dn, entry = found
        return dn, self._attributes.fields(values, dn, entry, self._connection.read, warn)


class LdapSearch:
    """The directory gives the hash."""

    __slots__ = ("_connection", "_search", "default_scheme", "log_error", "variables")

    blocking = True

    def __init__(self, settings: Settings) -> None:
        self._connection = Connection(settings)
        self.log_error: Callable[[str], None] = lambda _text: None
        self._search = Search(settings, self._connection, "pass")
        self.default_scheme = settings.default_scheme
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
        return unknown() if found is None else row_answer(found[1], self.default_scheme)


class LdapBind:
    """The directory compares the password.  With auth_bind_userdn nothing is searched for: there are no fields."""

    __slots__ = ("_connection", "_dn", "_search", "log_error", "needs", "variables")

    blocking = True
    default_scheme = "PLAIN"

    def __init__(self, settings: Settings) -> None:
        self._connection = Connection(settings)
        self.log_error: Callable[[str], None] = lambda _text: None
        self._search = Search(settings, self._connection, "pass", _PASSWORDS)
        text = settings.text["auth_bind_userdn"]
        self._dn = template(text, escape) if text else None
        self.needs = tuple(dict.fromkeys((*self._search.variables, *(self._dn.key_variables if self._dn else ()))))
        self.variables: tuple[str, ...] | None = self.needs

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

    def verify(self, values: Values, password: str) -> Answer:
        if not password:            # to a directory, that is no try at all, and succeeds
            return Answer(outcome.MISMATCH, note="Login attempt with empty password")
        try:
            found = (self._dn.expand(values), []) if self._dn is not None else self._search.run(values, self.log_error)
            if found is None:
                return unknown()
            result = self._connection.tries(found[0], password)
        except (DirectoryFailed, ExpandError) as error:
            return failure(str(error))
        if result == outcome.MISMATCH:
            return Answer(result, fields=found[1], note="Password mismatch (for LDAP bind)")
        return Answer(result, fields=found[1]) if result == outcome.OK else unknown()


def make(args: str) -> Driver:
    settings = Settings(args.strip())
    return LdapBind(settings) if settings.auth_bind else LdapSearch(settings)
