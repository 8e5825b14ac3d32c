"""The settings file that the passdb and userdb drivers `sql` are given: which database, how to reach it, the queries.

In: a path.  Out: a Database, or ArgsInvalid.  Two sections with equal settings have one Database between them, and so
one connection to each host.
"""
from __future__ import annotations

from collections.abc import Callable
from weakref import WeakValueDictionary

from mailproxy.auth.passdb import settings_file
from mailproxy.auth.passdb.driver import ArgsInvalid
from mailproxy.auth.sql.database import Connection, Host, Rows, SqlError
from mailproxy.auth.sql.mysql import MysqlHost
from mailproxy.auth.sql.pool import Pool
from mailproxy.auth.sql.postgresql import PostgresqlHost
from mailproxy.auth.sql.sqlite import SqliteHost
from mailproxy.auth.variables import template
from mailproxy.variables import Template, Values

DEFAULTS = {
    "driver": "", "connect": "",
    "password_query": "SELECT username, domain, password FROM users WHERE username = '%n' AND domain = '%d'",
    "user_query": "SELECT home, uid, gid FROM users WHERE username = '%n' AND domain = '%d'",
    "update_query": "UPDATE users SET password = '%w' WHERE username = '%n' AND domain = '%d'",
    "iterate_query": "SELECT username, domain FROM users",
    "default_pass_scheme": "MD5", "userdb_warning_disable": "no",
}
#: Servers that are reached over a network, and so may be several.
_SERVERS: dict[str, Callable[[list[tuple[str, str]]], Host]] = {"mysql": MysqlHost, "pgsql": PostgresqlHost}
MAX_HOSTS = 64


class Query:
    """One of the queries of the file, compiled."""

    __slots__ = ("_escaping", "hint", "name", "template")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._escaping: Connection | None = None
        self.template: Template = template(text, self._escape)
        builtin = text == DEFAULTS[name]
        self.hint = f" (using built-in default {name}: {text})" if builtin else ""

    def _escape(self, value: str) -> str:
        if self._escaping is None:
            raise SqlError("no connection to escape a value for")
        return self._escaping.escape(value)

    def make(self, connection: Connection, values: Values) -> str:
        """The query with its values escaped by the connection's rules.  ExpandError, SqlError."""
        self._escaping = connection
        try:
            return self.template.expand(values)
        finally:
            self._escaping = None


class Database:
    """`queries`: the settings of that kind by name."""

    __slots__ = ("__weakref__", "_warns", "default_scheme", "has_userdb", "path", "pool", "queries")

    def __init__(self, path: str, settings: dict[str, str]) -> None:
        self.path = path
        self.pool = Pool(settings["driver"], _hosts(settings["driver"], settings["connect"]))
        self.queries = {name: Query(name, settings[name]) for name in settings if name.endswith("_query")}
        self.default_scheme = settings["default_pass_scheme"].upper()
        self.has_userdb = False
        self._warns = not self.queries["user_query"].hint and settings["userdb_warning_disable"].lower() != "yes"

    def warning(self) -> str:
        """Somebody has changed a query that only a userdb uses, and there is none."""
        if not self._warns or self.has_userdb:
            return ""
        return f"sql: Ignoring changed user_query in {self.path}, because userdb sql not used. " \
               "(If this is intentional, set userdb_warning_disable=yes)"

    def ask(self, query: Query, values: Values, most: int = 0) -> Rows:
        """SqlError, ExpandError."""
        secret = values["password"] if "password" in query.template.inputs else ""
        return self.pool.ask(lambda connection: query.make(connection, values), most, secret)


_shared: WeakValueDictionary[tuple[tuple[str, str], ...], Database] = WeakValueDictionary()


def load(args: str) -> Database:
    path = args.strip()
    if not path:
        raise ArgsInvalid("sql: Configuration file path not given")
    settings = settings_file.load(path, DEFAULTS)
    if not settings["driver"]:
        raise ArgsInvalid(f"sql: driver not set in configuration file {path}")
    if settings["driver"] not in ("sqlite", *_SERVERS):
        raise ArgsInvalid(f"sql: driver '{settings['driver']}' is not supported (in {path}); "
                          f"supported: {' '.join(sorted(('sqlite', *_SERVERS)))}")
    if not settings["connect"]:
        raise ArgsInvalid(f"sql: connect string not set in configuration file {path}")
    identity = (("path", path), *settings.items())
    database = _shared.get(identity)
    if database is None:
        try:
            database = _shared[identity] = Database(path, settings)
        except SqlError as error:
            raise ArgsInvalid(f"sql: {settings['driver']}: {error} (in {path})") from None
    return database


def _hosts(driver: str, connect: str) -> list[Host]:
    if driver == "sqlite":
        return [SqliteHost(connect)]
    names: list[str] = []
    words: list[tuple[str, str]] = []
    for word in connect.split():
        key, equals, value = word.partition("=")
        if key == "host":
            names.append(value)
        elif key == "maxconns":         # a worker asks one query at a time
            if not (value.isascii() and value.isdigit() and int(value[:9])):
                raise SqlError(f"Invalid value for maxconns: {value}")
        elif not equals and driver == "mysql":
            raise SqlError("Missing value in connect string")
        else:
            words.append((key, value))
    if len(names) > MAX_HOSTS:
        raise SqlError(f"more than {MAX_HOSTS} hosts")
    return [_SERVERS[driver]([("host", name), *words]) for name in names] or [_SERVERS[driver](words)]
