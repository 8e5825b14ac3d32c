"""One contract for all password database drivers, and what is special to each."""
from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from mailproxy.auth import outcome
from mailproxy.auth.passdb.driver import ArgsInvalid, Driver
from mailproxy.auth.passdb.passwd_file import PasswdFile
from mailproxy.auth.passdb.sql import Sql
from mailproxy.auth.passdb.static import Static
from mailproxy.auth.schemes import verify


class _Values(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return ""


def _values(user: str) -> _Values:
    local, _, domain = user.partition("@")
    return _Values(user=user, username=local, domain=domain)


def _passwd_file(directory: Path) -> Driver:
    path = directory / "users"
    path.write_text("joe@x:{PLAIN}pw::::::a=1 b=%n\nnull@x:::::::a=1\n")
    return PasswdFile(str(path))


def _sql(directory: Path) -> Driver:
    database = sqlite3.connect(directory / "db")
    database.executescript("CREATE TABLE u (n, p, a, b); INSERT INTO u VALUES ('joe@x', '{PLAIN}pw', 1, 'joe'),"
                           "('null@x', NULL, '1', NULL);")
    database.commit()
    database.close()
    (directory / "sql.conf").write_text(f"driver = sqlite\nconnect = {directory}/db\n"
                                        "password_query = SELECT p AS password, a, b FROM u WHERE n = '%u'\n")
    return Sql(str(directory / "sql.conf"))


def _static(directory: Path) -> Driver:
    return Static("password={PLAIN}pw a=1 b=%n")


_MAKERS = {"passwd-file": _passwd_file, "sql": _sql, "static": _static}
Maker = Callable[[Path], Driver]


@pytest.mark.parametrize("maker", _MAKERS.values(), ids=_MAKERS)
def test_a_user_with_fields_in_order(maker: Maker, tmp_path: Path) -> None:
    driver = maker(tmp_path)
    driver.open()
    for _ in range(2):
        answer = driver.lookup(_values("joe@x"))
        assert answer.result == outcome.OK
        assert answer.password is not None
        assert verify(answer.password, "pw")
        assert list(answer.fields) == [("a", "1"), ("b", "joe")]
    driver.close()


@pytest.mark.parametrize("name", ["passwd-file", "sql"])
def test_unknown_users_and_missing_passwords(name: str, tmp_path: Path) -> None:
    driver = _MAKERS[name](tmp_path)
    driver.open()
    for user in ("nobody@x", "joe", "", "' OR '1'='1", "joe@x'--"):
        assert driver.lookup(_values(user)).result == outcome.UNKNOWN
    answer = driver.lookup(_values("null@x"))
    assert (answer.result, answer.password, list(answer.fields)) == (outcome.OK, None, [("a", "1")])
    driver.close()


@pytest.mark.parametrize("maker", _MAKERS.values(), ids=_MAKERS)
def test_the_facts_of_a_driver(maker: Maker, tmp_path: Path) -> None:
    driver = maker(tmp_path)
    assert driver.blocking == isinstance(driver, Sql)
    assert driver.default_scheme in ("PLAIN", "CRYPT", "MD5")
    assert driver.variables is None or "user" in driver.variables


def test_sql_without_a_database_is_an_internal_failure(tmp_path: Path) -> None:
    driver = _sql(tmp_path)
    (tmp_path / "db").unlink()
    answer = driver.lookup(_values("joe@x"))
    assert answer.result == outcome.INTERNAL
    assert "Password query failed" in answer.error
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize(("text", "error"), [
    ("driver = oracle\nconnect = x", "driver 'oracle' is not supported"), ("connect = x", "driver not set"),
    ("driver = sqlite", "connect string not set"), ("nonsense = 1", "line 1: Unknown setting: nonsense"),
    ("driver", "line 1: Expecting '='"),
])
def test_sql_settings_are_checked(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "f").write_text(text)
    with pytest.raises(ArgsInvalid, match=error):
        Sql(str(tmp_path / "f"))


def test_a_passwd_file_that_vanishes_and_one_that_breaks(tmp_path: Path) -> None:
    clock = [0.0]
    path = tmp_path / "users"
    path.write_text("joe:{PLAIN}pw\njoe:{PLAIN}second\n")
    driver = PasswdFile(str(path), lambda: clock[0])
    errors: list[str] = []
    driver.log_error = errors.append
    driver.open()
    assert errors == [f"passwd-file {path}: User joe exists more than once"]
    assert driver.lookup(_values("joe")).password == "{PLAIN}pw"
    path.unlink()
    assert driver.lookup(_values("joe")).result == outcome.OK       # looked at once a second
    clock[0] = 2.0
    answer = driver.lookup(_values("joe"))
    assert (answer.result, answer.note) == (outcome.UNKNOWN, f"missing passwd file: {path}")
    path.mkdir()
    clock[0] = 4.0
    assert driver.lookup(_values("joe")).result == outcome.INTERNAL


def test_a_name_cannot_leave_the_directory(tmp_path: Path) -> None:
    (tmp_path / "d-ex").write_text("joe@ex/../../etc:{PLAIN}pw\n")
    driver = PasswdFile(f"{tmp_path}/d-%d")
    assert driver.lookup(_values("joe@ex/../../etc")).result == outcome.OK
    assert driver.lookup(_values("joe@/ex")).result == outcome.UNKNOWN
