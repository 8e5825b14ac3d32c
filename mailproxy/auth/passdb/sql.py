"""sql: password_query gives one row per user, whose columns are fields."""
from __future__ import annotations

from mailproxy.auth import outcome
from mailproxy.auth.passdb.driver import Answer, Pairs, failure
from mailproxy.auth.schemes import split
from mailproxy.auth.sql.database import Rows
from mailproxy.auth.sql.driver import SqlDriver
from mailproxy.variables import Values

_PREFETCH = "userdb_"


class Sql(SqlDriver):
    __slots__ = ("default_scheme",)

    def __init__(self, args: str) -> None:
        super().__init__(args, "password_query")
        self.default_scheme = self.database.default_scheme

    def warning(self) -> str:
        return self.database.warning()

    def lookup(self, values: Values) -> Answer:
        rows = self.some("password_query", values)
        if isinstance(rows, Answer):
            return rows
        return self._answer(rows) if len(rows.rows) == 1 else failure("Password query returned multiple matches")

    def _answer(self, rows: Rows) -> Answer:
        names = rows.names
        if "password" not in names and "password_noscheme" not in names:
            return failure("Password query must return a field named 'password'")
        answer = Answer(outcome.OK)
        fields: Pairs = answer.fields
        for name, value in zip(names, rows.rows[0], strict=True):
            if name in ("password", "password_noscheme"):
                if value is None:
                    continue
                if answer.password is not None:
                    answer.error = "Multiple password values not supported"
                    continue
                scheme, data = split(value, self.default_scheme) if name == "password" else (self.default_scheme, value)
                answer.password = "{" + scheme + "}" + data
            elif value is not None:
                fields.append((name, value))
            elif name.startswith(_PREFETCH):    # says nothing, but that a userdb need not be asked
                fields.append(("userdb_userdb_import", ""))
        return answer

    @property
    def update_variables(self) -> tuple[str, ...]:
        return self.database.queries["update_query"].template.key_variables or ()

    def update(self, values: Values) -> str:
        """Store what `values` have for a new password; "" or why that was not done.  Exactly one row has to change."""
        rows = self.ask("update_query", values)
        if isinstance(rows, Answer):
            return rows.error or rows.note
        return "" if rows.changed == 1 else f"Set credentials query changed {rows.changed} rows, not one"
