"""The auth cache: the same request again and again, while the database changes."""
from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.differential_auth.case import Ask, Case, login, pass_, passdb, user, userdb

_SQL = """driver = sqlite
connect = @case@/users.db
default_pass_scheme = PLAIN
password_query = SELECT userid AS user, password, note, proxy, host, home AS userdb_home \\
  FROM users WHERE userid = '%u' # comment
user_query = SELECT home, 1000 AS uid, 1000 AS gid, note FROM users WHERE userid = '%u'
"""
_BY_ADDRESS = _SQL.replace("'%u' #", "'%u' AND '%r' LIKE '10.%%' #")
_BY_DOMAIN = _SQL.replace("'%u' #", "'%n' AND '%d' <> '' #")
_DB = """CREATE TABLE users (userid TEXT, password TEXT, note TEXT, proxy TEXT, host TEXT, home TEXT);
INSERT INTO users VALUES ('joe', 'pw', 'n1', NULL, NULL, '/h/joe'),
 ('ann', '{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=', '', 'y', '10.0.0.1', NULL),
 ('o''brien', 'pw', 'q', NULL, NULL, ''), ('twice', 'a', 'b', NULL, NULL, ''), ('twice', 'a', 'b', NULL, NULL, ''),
 ('null', NULL, 'x', NULL, NULL, NULL), ('strange', '{NOSUCH}x', 'x', NULL, NULL, NULL);
"""
_CHANGED = 5
_HEAD = "auth_username_chars =\n"
_ASKS: list[Ask] = [
    login("joe", "pw"), login("joe", "pw"), login("joe", "bad"), login("joe", "bad"), login("joe", "pw"),
    login("nobody", "x"),
    login("joe", "new"), login("joe", "pw"), login("joe", "new"), login("nobody", "y"), login("newone", "n")]
_OTHERS: list[Ask] = [
    login("ann", "secret"), login("ann", "secret"), login("ann", "x"), login("o'brien", "pw"), login("o'brien", "x"),
    login("twice", "a"), login("null", "x"), pass_("joe"), pass_("joe"), user("joe"), user("joe"), user("nobody"),
    user("nobody"), login("joe", "new"), pass_("ann"), pass_("ann"), login("null", "x")]
_BROKEN = "CREATE TABLE other (x);"


def change(directory: Path, number: int) -> None:
    """Behind a certain round: joe has another password, somebody was added."""
    if number != _CHANGED:
        return
    for path in directory.glob("*/users.db"):
        with closing(sqlite3.connect(path)) as database:
            if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'users'").fetchone():
                database.execute("UPDATE users SET password = 'new' WHERE userid = 'joe'")
                database.execute("INSERT INTO users VALUES ('newone', 'n', NULL, NULL, NULL, NULL)")
                database.commit()


def _case(name: str, *sections: str, asks: list[Ask], sql: str = _SQL, database: str = _DB, head: str = _HEAD,
          ours: dict[str, str] | None = None, why: str = "") -> Case:
    return Case(name, head + "".join(sections), asks, {"sql.conf": sql}, database, ours=ours or {}, why=why)


def _sql(**settings: object) -> str:
    return passdb("sql", "@case@/sql.conf", **settings)


_USERDB = userdb("sql", "@case@/sql.conf")
_RIP = [login("joe", "pw", "rip=10.0.0.1"), login("joe", "pw", "rip=11.0.0.1"), login("joe", "pw", "rip=10.0.0.1"),
        login("joe", "pw", "rip=10.0.0.2"), login("joe", "pw", "rip=11.0.0.1"), login("joe", "bad", "rip=10.0.0.1")]
_FIELDS = [login("joe", "pw"), login("joe", "pw", "session=S2"), login("joe", "bad"), login("ann", "secret",
                 "session=S3")]
CASES = [
    _case("again", _sql(), asks=_ASKS),
    _case("others", _sql(), _USERDB, asks=_OTHERS),
    _case("prefetch", _sql(), userdb("prefetch"), _USERDB, asks=_OTHERS),
    _case("overrides", _sql(override_fields="o=%u s=%{session}"), asks=_FIELDS),
    _case("default-fields-constant", _sql(override_fields="o=1"), _USERDB, asks=_OTHERS),
    _case("by-address", _sql(), asks=_RIP, sql=_BY_ADDRESS),
    _case("by-domain", _sql(), asks=[login("joe@a", "pw"), login("joe@b", "pw"), login("joe@", "pw"), login("joe",
          "pw"),
                                     login("joe@a", "bad"), login("joe@a", "pw")], sql=_BY_DOMAIN),
    _case("chain", _sql(result_success="continue"), passdb("static", "nopassword=y s=1"), asks=_OTHERS),
    _case("two", _sql(mechanisms="login"), _sql(override_fields="second=1"), asks=_FIELDS),
    _case("deny", _sql(deny="yes"), passdb("static", "nopassword=y s=1"), asks=_FIELDS + [login("nobody", "x")] * 2),
    _case("broken", _sql(), asks=_FIELDS, database=_BROKEN),
    _case("master", _sql(master="yes", pass_="yes"), _sql(), head=_HEAD + "auth_master_user_separator = *\n",
          asks=[login("joe*joe", "pw"), login("ann*joe", "pw"), login("ann*joe", "pw"), login("ann*joe", "bad"),
                login("joe*ann", "secret"), login("nobody*joe", "pw")]),
    _case("allow-nets", _sql(override_fields="allow_nets=10.0.0.0/8"), asks=_RIP),
    _case("userdb-overrides", _sql(), userdb("sql", "@case@/sql.conf", override_fields="o=%u mail:protected=m"),
          asks=_OTHERS),
]
#: A wrong password shows no fields of the user, wherever it was compared.
_WORKER_CASES = ((_ASKS[:5], {"AUTH PLAIN /joe/bad": "FAIL\tuser=joe"}), (_OTHERS[:7],
                 {"AUTH PLAIN /ann/x": "FAIL\tuser=ann",
                                                              "AUTH PLAIN /o'brien/x": "FAIL\tuser=o'brien"}))
WORKER_CASES = [_case(f"worker-{number}", _sql(), _USERDB, asks=asks, ours=ours, why="an attacker learns nothing")
                for number, (asks, ours) in enumerate(_WORKER_CASES)]
#: The same databases without a cache.
UNCACHED = [case for case in CASES if case.name in ("others", "by-domain", "broken", "deny", "chain", "prefetch")]
