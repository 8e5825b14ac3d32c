"""What the passdb and the userdb driver `sql` have in common: a database, and asking it one query."""
from __future__ import annotations

from collections.abc import Callable

from mailproxy.auth.passdb.driver import Answer, failure, unknown
from mailproxy.auth.sql import settings
from mailproxy.auth.sql.database import Rows, SqlError, Unsayable
from mailproxy.variables import ExpandError, Values


class SqlDriver:
    """`args` names the settings file.  Blocking: for auth-workers.  It connects on first use."""

    __slots__ = ("database", "variables")

    blocking = True

    def __init__(self, args: str, query: str) -> None:
        self.database = settings.load(args)
        self.variables: tuple[str, ...] | None = self.database.queries[query].template.key_variables

    @property
    def log_error(self) -> Callable[[str], None]:
        return self.database.pool.log_error

    @log_error.setter
    def log_error(self, log: Callable[[str], None]) -> None:
        self.database.pool.log_error = log

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        self.database.pool.close()

    def some(self, name: str, values: Values) -> Rows | Answer:
        """One row or two, or the answer that follows from something else."""
        rows = self.ask(name, values, 2)
        return rows if isinstance(rows, Answer) or rows.rows else unknown()

    def ask(self, name: str, values: Values, most: int = 0) -> Rows | Answer:
        """The rows, or an answer that says why there are none."""
        query = self.database.queries[name]
        try:
            return self.database.ask(query, values, most)
        except ExpandError as error:
            return failure(f"Failed to expand {name}={query.template.source}: {error}")
        except Unsayable as error:
            return unknown(str(error))
        except SqlError as error:
            return failure(f"{_LABELS[name]} failed: {error}{query.hint}")


_LABELS = {"password_query": "Password query", "user_query": "User query", "iterate_query": "Iterate query",
           "update_query": "Set credentials query"}
