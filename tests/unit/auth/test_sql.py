"""SQL without a server: several hosts, connect strings, the settings file, what rows mean."""
from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from mailproxy.auth import outcome
from mailproxy.auth.passdb.driver import Answer, ArgsInvalid
from mailproxy.auth.passdb.sql import Sql
from mailproxy.auth.sql.database import Connection, ConnectionLost, Rows, SqlError, Unsayable
from mailproxy.auth.sql.mysql import MysqlConnection, MysqlHost
from mailproxy.auth.sql.pool import MOST_DELAY, MOST_DELAY_ALONE, PATIENCE, Pool
from mailproxy.auth.sql.postgresql import PostgresqlHost
from mailproxy.auth.userdb.driver import ListingFailed
from mailproxy.auth.userdb.sql import Sql as UserSql
from mailproxy.errors import DriverMissing

_ROWS = Rows(["a"], [["1"]])


class _Host:
    """`up`: takes connections; `fails`: raised by queries, one after the other; `slow`: seconds of a query."""

    def __init__(self, name: str, clock: list[float]) -> None:
        self.name = name
        self.up = True
        self.fails: list[SqlError] = []
        self.slow = 0.0
        self.connected = self.asked = self.closed = 0
        self._clock = clock
        self.usable = True

    def connect(self) -> Connection:
        if not self.up:
            raise SqlError(": refused")
        self.connected += 1
        return self

    def escape(self, value: str) -> str:
        return value

    def ask(self, query: str, most: int) -> Rows:
        self.asked += 1
        self._clock[0] += self.slow
        if self.fails:
            raise self.fails.pop(0)
        return _ROWS

    def close(self) -> None:
        self.closed += 1


def _pool(count: int) -> tuple[Pool, list[_Host], list[float], list[str]]:
    clock = [0.0]
    hosts = [_Host(f"h{number}", clock) for number in range(count)]
    pool = Pool("mysql", list(hosts), lambda: clock[0])
    said: list[str] = []
    pool.log_error = said.append
    return pool, hosts, clock, said


def _ask(pool: Pool) -> Rows:
    return pool.ask(lambda connection: "query", 2)


def test_hosts_are_asked_in_turn_over_one_connection_each() -> None:
    pool, hosts, _, said = _pool(3)
    for _ in range(9):
        assert _ask(pool) is _ROWS
    assert [(host.connected, host.asked) for host in hosts] == [(1, 3)] * 3
    assert said == []
    pool.close()
    assert [host.closed for host in hosts] == [1, 1, 1]


def test_a_failed_query_is_tried_on_every_host_once() -> None:
    pool, hosts, _, said = _pool(2)
    for host in hosts:
        host.fails = [SqlError("no table")] * 5
    with pytest.raises(SqlError, match="no table"):
        _ask(pool)
    assert [host.asked for host in hosts] == [1, 1]
    assert said == ["sqlpool(mysql): Query failed, retrying: no table"]


def test_a_connection_that_was_cut_is_made_again_for_the_same_query() -> None:
    pool, (host,), _, said = _pool(1)
    _ask(pool)
    host.fails = [ConnectionLost("gone away")]
    assert _ask(pool) is _ROWS
    assert (host.connected, host.closed, said) == (2, 1, [])
    host.fails = [ConnectionLost("gone away")] * 2
    with pytest.raises(ConnectionLost):
        _ask(pool)
    assert host.closed == 3


def test_a_query_that_took_long_is_not_tried_again() -> None:
    pool, hosts, _, _ = _pool(2)
    _ask(pool)
    _ask(pool)
    for host in hosts:
        host.slow = PATIENCE + 1
        host.fails = [ConnectionLost("timed out")] * 3
    with pytest.raises(ConnectionLost):
        _ask(pool)
    assert sum(host.asked for host in hosts) == 3


def test_a_host_that_is_down_is_tried_less_and_less_often() -> None:
    pool, (first, second), clock, said = _pool(2)
    first.up = False
    second.connect()
    tried = []
    for _ in range(60_000):
        clock[0] += 1
        before = len(said)
        assert _ask(pool) is _ROWS
        if any("Connect failed" in line for line in said[before:]):
            tried.append(clock[0])
    gaps = [after - before for before, after in pairwise(tried)]
    assert gaps[1] >= 5
    assert gaps[-1] >= MOST_DELAY
    assert said[0].endswith(" seconds before retry")
    first.up = True
    clock[0] += 2 * MOST_DELAY
    for _ in range(4):
        _ask(pool)
    assert first.asked >= 2


def test_when_all_are_down_it_fails_at_once_and_looks_again_soon() -> None:
    pool, hosts, clock, said = _pool(2)
    for host in hosts:
        host.up = False
    for _ in range(20):
        with pytest.raises(SqlError, match="Not connected to database"):
            _ask(pool)
    assert len([line for line in said if "Connect failed" in line]) == 2
    for _ in range(50):
        clock[0] += MOST_DELAY_ALONE
        with pytest.raises(SqlError):
            _ask(pool)
    hosts[0].up = True
    clock[0] += MOST_DELAY_ALONE
    assert _ask(pool) is _ROWS


def test_secrets_are_taken_out_of_errors() -> None:
    pool, (host,), _, _ = _pool(1)
    host.fails = [SqlError("syntax error near hunter2")]
    with pytest.raises(SqlError, match="near <hidden>"):
        pool.ask(lambda connection: "query", 2, "hunter2")


# -- connect strings ------------------------------------------------------------------------------------------------


def _conf(directory: Path, text: str) -> str:
    (directory / "sql.conf").write_text(text)
    return str(directory / "sql.conf")


@pytest.mark.parametrize(("connect", "error"), [
    ("dbname=x", "No hosts given"), ("host=a port=x", "Invalid port: x"), ("host=a port=70000", "Invalid port"),
    ("host=a nonsense=1", "Unknown connect string: nonsense"), ("host=a junk", "Missing value in connect string"),
    ("host=a maxconns=0", "Invalid value for maxconns"), ("host=a ssl_verify_server_cert=maybe", "Invalid boolean"),
    ("host=a ssl_ca=/nonexistent", "TLS settings"), ("host=a option_file=/nonexistent", "option_file /nonexistent"),
    ("host=a client_flags=-1", "Invalid client_flags"), ("host=a " * 65, "more than 64 hosts"),
])
def test_wrong_connect_strings_of_mysql(tmp_path: Path, connect: str, error: str) -> None:
    with pytest.raises(ArgsInvalid, match=error):
        Sql(_conf(tmp_path, f"driver = mysql\nconnect = {connect} password=hunter2\n"))


def test_what_libpq_does_not_understand_is_found_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ArgsInvalid, match="nonsense"):
        Sql(_conf(tmp_path, "driver = pgsql\nconnect = host=a nonsense=1\n"))


def test_several_hosts_share_the_rest_of_the_string(tmp_path: Path) -> None:
    driver = Sql(_conf(tmp_path, "driver = mysql\nconnect = host=a port=7 host=/s/ock \\\n  dbname=d maxconns=3 \\\n"
                                 "  user=u password=p read_timeout=9\n"))
    hosts = [member.host for member in driver.database.pool._members]
    assert all(isinstance(host, MysqlHost) for host in hosts)
    assert [host.name for host in hosts] == ["a", "/s/ock"]
    options = [host._options for host in hosts if isinstance(host, MysqlHost)]
    assert [(row.get("host"), row.get("unix_socket"), row["port"], row["database"], row["user"])
            for row in options] == [("a", None, 7, "d", "u"), (None, "/s/ock", 7, "d", "u")]


def test_passdb_and_userdb_have_one_database_if_their_file_is_one(tmp_path: Path) -> None:
    path = _conf(tmp_path, "driver = sqlite\nconnect = /nonexistent/db\nuser_query = SELECT 1 AS uid\n")
    passdb = Sql(path)
    assert "userdb sql not used" in passdb.database.warning()
    userdb = UserSql(path)
    assert passdb.database is userdb.database
    assert passdb.database.warning() == ""


@pytest.mark.parametrize(("driver", "library"), [("mysql", "pymysql"), ("pgsql", "psycopg")])
def test_a_missing_library_is_named(driver: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(DriverMissing, match=f"python3-{library}.*mailproxy\\[{driver}\\]"):
        Sql(_conf(tmp_path, f"driver = {driver}\nconnect = host=a\n"))


def test_tls_for_mysql_verifies_unless_told_otherwise(tmp_path: Path) -> None:
    authority = "/etc/ssl/certs/ca-certificates.crt"
    if not os.path.exists(authority):
        authority = str(tmp_path / "ca.pem")
        from tests.certificates import make_authority
        make_authority(tmp_path)
    for word, verified in (("", True), ("yes", True), ("no", False)):
        words = [("host", "a"), ("ssl_ca", authority)] + ([("ssl_verify_server_cert", word)] if word else [])
        context = MysqlHost(words)._options["ssl"]
        assert context.check_hostname is verified
        assert bool(context.verify_mode) is verified
    assert "ssl" not in MysqlHost([("host", "a")])._options


def test_a_postgresql_host_that_is_not_there() -> None:
    host = PostgresqlHost([("host", "/nonexistent"), ("dbname", "d"), ("password", "hunter2")])
    with pytest.raises(SqlError, match="database=d: ") as caught:
        host.connect()
    assert "hunter2" not in str(caught.value)


# -- escaping ---------------------------------------------------------------------------------------------------------


class _Library:
    def __init__(self, charset: str, status: int = 0) -> None:
        self.charset = charset
        self.server_status = status


@pytest.mark.parametrize(("charset", "raw", "escaped"), [
    ("utf8mb4", b"a'\"\\\0\n\r\x1a%", b"a\\'\\\"\\\\\\0\\n\\r\\Z%"), ("latin1", b"\xbf'", b"\xbf\\'"),
    ("utf8mb4", b"\xbf'", b"\xbf\\'"), ("gbk", b"\xbf\x5c", b"\xbf\x5c"), ("gbk", b"\xbf\x5c'", b"\xbf\x5c\\'"),
    ("gbk", b"\xbf'", None), ("gbk", b"\xbf", None), ("big5", b"\xa4'", None), ("sjis", b"\x95\x5c'", b"\x95\x5c\\'"),
    ("sjis", b"\x95'", None), ("cp932", b"\x81'", None), ("gb18030", b"\xbf'", None), ("euckr", b"\xbf'", b"\xbf\\'"),
])
def test_mysql_values_are_escaped_by_the_character_set(charset: str, raw: bytes, escaped: bytes | None) -> None:
    connection = MysqlConnection(_Library(charset), None)
    value = raw.decode("utf-8", "surrogateescape")
    if escaped is None:
        with pytest.raises(Unsayable, match=charset):
            connection.escape(value)
    else:
        assert connection.escape(value).encode("utf-8", "surrogateescape") == escaped


def test_mysql_without_backslash_escapes_doubles_quotes() -> None:
    assert MysqlConnection(_Library("utf8mb4", 0x200), None).escape("a'\\b") == "a''\\b"


# -- rows -------------------------------------------------------------------------------------------------------------


class _Fixed(_Host):
    def __init__(self, rows: Rows | SqlError) -> None:
        super().__init__("h", [0.0])
        self._rows = rows

    def ask(self, query: str, most: int) -> Rows:
        if isinstance(self._rows, SqlError):
            raise self._rows
        return self._rows


def _driver(tmp_path: Path, kind: type[Sql] | type[UserSql], rows: Rows | SqlError) -> Sql | UserSql:
    driver = kind(_conf(tmp_path, "driver = sqlite\nconnect = /x\ndefault_pass_scheme = plain\n"))
    driver.database.pool = Pool("sqlite", [_Fixed(rows)])
    return driver


def _passdb(tmp_path: Path, rows: Rows | SqlError) -> Answer:
    return _driver(tmp_path, Sql, rows).lookup({"user": "joe", "username": "joe", "domain": "x"})


def test_columns_are_fields_and_nulls_are_not(tmp_path: Path) -> None:
    answer = _passdb(tmp_path, Rows(["password", "a", "b", "userdb_home"], [["pw", "1", None, "/h"]]))
    assert (answer.result, answer.password) == (outcome.OK, "{PLAIN}pw")
    assert answer.fields == [("a", "1"), ("userdb_home", "/h")]
    answer = _passdb(tmp_path, Rows(["password", "userdb_home"], [["{SHA1}x", None]]))
    assert (answer.password, answer.fields) == ("{SHA1}x", [("userdb_userdb_import", "")])
    answer = _passdb(tmp_path, Rows(["password_noscheme"], [["{SHA1}x"]]))
    assert answer.password == "{PLAIN}{SHA1}x"
    answer = _passdb(tmp_path, Rows(["password", "password"], [["a", "b"]]))
    assert (answer.password, answer.error) == ("{PLAIN}a", "Multiple password values not supported")


@pytest.mark.parametrize(("rows", "result", "text"), [
    (Rows(["password"], []), outcome.UNKNOWN, ""),
    (Rows(["password"], [["a"], ["b"]]), outcome.INTERNAL, "Password query returned multiple matches"),
    (Rows(["user"], [["a"]]), outcome.INTERNAL, "Password query must return a field named 'password'"),
    (Rows([], [], 1), outcome.UNKNOWN, ""),
    (SqlError("boom"), outcome.INTERNAL, r"Password query failed: boom \(using built-in default password_query: "),
    (Unsayable("no text"), outcome.UNKNOWN, ""),
])
def test_rows_that_are_not_one_user(tmp_path: Path, rows: Rows | SqlError, result: int, text: str) -> None:
    answer = _passdb(tmp_path, rows)
    assert answer.result == result
    assert answer.password is None
    assert answer.error.startswith(text.partition("\\")[0])


@pytest.mark.parametrize(("rows", "names"), [
    (Rows(["user", "x"], [["a@x", "1"], [None, "2"], ["b", None]]), ["a@x", "b"]),
    (Rows(["username", "domain"], [["a", "x"], ["b", None]]), ["a@x", "b"]),
    (Rows(["x", "username"], [["1", "a"]]), ["a"]), (Rows(["user"], []), []),
    (Rows(["x"], [["a"]]), None), (SqlError("down"), None),
])
def test_lists_of_users(tmp_path: Path, rows: Rows | SqlError, names: list[str] | None) -> None:
    driver = _driver(tmp_path, UserSql, rows)
    assert isinstance(driver, UserSql)
    if names is None:
        with pytest.raises(ListingFailed):
            list(driver.users({}))
    else:
        assert list(driver.users({})) == names


def test_exactly_one_row_has_to_change(tmp_path: Path) -> None:
    values = {"user": "joe", "username": "joe", "domain": "x", "password": "new"}
    for changed, good in ((0, False), (1, True), (2, False)):
        driver = _driver(tmp_path, Sql, Rows([], [], changed))
        assert isinstance(driver, Sql)
        assert (driver.update(values) == "") is good
