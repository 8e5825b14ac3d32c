"""static: the same answer for everybody, from the section's args: `password=… key=value …`, values with %variables."""
from __future__ import annotations

from mailproxy.auth import outcome
from mailproxy.auth.passdb.driver import Answer, Pairs, failure
from mailproxy.auth.schemes import split
from mailproxy.auth.variables import expand_fields, template
from mailproxy.variables import ExpandError, Template, Values


class Static:
    """`constant`: the answer when it has no variables, else None."""

    __slots__ = ("_fields", "_password", "constant")

    default_scheme = "PLAIN"
    blocking = False
    variables: tuple[str, ...] | None = None        # cheaper to make than to cache

    def __init__(self, args: str) -> None:
        self._fields: list[tuple[str, Template]] = []
        self._password: Template | None = None
        for word in args.split():
            key, _, value = word.partition("=")
            if key == "password":
                self._password = template(value)
            else:
                self._fields.append((key, template(value)))
        templates = [each for _, each in self._fields] + ([self._password] if self._password else [])
        self.constant = self._make({}) if all(each.constant is not None for each in templates) else None
        if self.constant is not None:
            self.constant.shared = True

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    def lookup(self, values: Values) -> Answer:
        return self.constant if self.constant is not None else self._make(values)

    def _make(self, values: Values) -> Answer:
        try:
            fields: Pairs = expand_fields(self._fields, values, "passdb:")
            password = None
            if self._password is not None:
                scheme, data = split(self._password.expand(values), self.default_scheme)
                password = "{" + scheme + "}" + data
        except ExpandError as error:
            return failure(f"Failed to expand args: {error}")
        return Answer(outcome.OK, password, fields)
