"""static: the same answer for everybody, from the section's args: `uid=… gid=… home=… key=value …`, values with
%variables.  Who is a user, the passdbs say, unless `allow_all_users=yes`."""
from __future__ import annotations

from collections.abc import Iterator

from mailproxy.auth import outcome
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid, failure
from mailproxy.auth.userdb import accounts
from mailproxy.auth.userdb.driver import ListingFailed
from mailproxy.auth.variables import expand_fields, template
from mailproxy.variables import ExpandError, Template, Values

_NUMBERS = {"uid": accounts.user_number, "gid": accounts.group_number}


class Fields:
    """`key=value …` of a section's args, compiled.  uid and gid are constants that the system knows."""

    __slots__ = ("_templates", "variables")

    def __init__(self, driver: str, words: list[str]) -> None:
        self._templates: list[tuple[str, Template]] = []
        for word in words:
            key, _, value = word.partition("=")
            resolve = _NUMBERS.get(key)
            if resolve is not None:
                number = resolve(value)
                if number is None:
                    raise ArgsInvalid(f"{driver} userdb: Invalid {key}: {value}")
                value = number
            self._templates.append((key, template(value)))
        self.variables = tuple(dict.fromkeys(name for _, each in self._templates for name in each.key_variables))

    def expand(self, values: Values) -> list[tuple[str, str]]:
        return expand_fields(self._templates, values, "userdb:")


class Static:
    __slots__ = ("_fields", "asks_passdb")

    blocking = False
    variables: tuple[str, ...] | None = None        # cheaper to make than to cache
    lists = False
    prefetches = False

    def __init__(self, args: str) -> None:
        words = args.split()
        options = [word for word in words if word.partition("=")[0] == "allow_all_users"]
        self.asks_passdb = not any(word.lower() in ("allow_all_users", "allow_all_users=yes") for word in options)
        self._fields = Fields("static", [word for word in words if word not in options])

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    def lookup(self, values: Values) -> Answer:
        try:
            return Answer(outcome.OK, fields=self._fields.expand(values))
        except ExpandError as error:
            return failure(f"Failed to expand args: {error}")

    def users(self, values: Values) -> Iterator[str]:
        raise ListingFailed("userdb static: users cannot be listed")
