"""The user database drivers that need no server."""
from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from mailproxy.auth import outcome
from mailproxy.auth.passdb.driver import ArgsInvalid
from mailproxy.auth.userdb.accounts import group_number, user_number
from mailproxy.auth.userdb.driver import ListingFailed
from mailproxy.auth.userdb.passwd import Passwd
from mailproxy.auth.userdb.passwd_file import PasswdFile
from mailproxy.auth.userdb.prefetch import Prefetch
from mailproxy.auth.userdb.static import Static
from mailproxy.auth.userdb.table import DRIVERS, NOT_BUILT


class _Values(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return ""


_JOE = _Values(user="joe@ex.com", username="joe", domain="ex.com")


def test_numbers_of_accounts() -> None:
    assert user_number("daemon") == str(pwd.getpwnam("daemon").pw_uid)
    assert [user_number(text) for text in ("1000", "0", "root", "no-such-user", "-1", "", "a\0b", "4294967295", "²")] \
        == ["1000", *[None] * 8]
    assert group_number("daemon") is not None
    assert group_number("no-such-group") is None


def test_static_expands_its_fields() -> None:
    driver = Static("uid=daemon gid=1000 home=/h/%d/%n x")
    answer = driver.lookup(_JOE)
    assert answer.result == outcome.OK
    assert answer.fields == [("uid", str(pwd.getpwnam("daemon").pw_uid)), ("gid", "1000"), ("home", "/h/ex.com/joe"),
                             ("x", "")]
    assert driver.asks_passdb
    assert not Static("allow_all_users=yes").asks_passdb
    assert Static("x=%{nosuch}").lookup(_JOE).result == outcome.INTERNAL
    with pytest.raises(ListingFailed):
        driver.users(_JOE)


@pytest.mark.parametrize("args", ["uid=%n", "uid=nobody-at-all", "gid=0", "uid="])
def test_static_needs_constant_accounts(args: str) -> None:
    with pytest.raises(ArgsInvalid, match="static userdb: Invalid"):
        Static(args)


def test_prefetch_has_no_args() -> None:
    assert Prefetch("").prefetches
    with pytest.raises(ArgsInvalid):
        Prefetch("x=y")


def test_passwd_file_says_where_mail_is(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("joe@ex.com:{PLAIN}pw:1000:1001::/home/joe::a=1 userdb_mail=maildir:~/%d userdb_q=2\n"
                    "bare:pw\nempty:pw::::::\nbad:pw:no-such-user:1::::\nold:pw:1:1::/h:/sh::maildir:/x y\n")
    driver = PasswdFile(str(path))
    driver.open()
    answer = driver.lookup(_JOE)
    assert answer.fields == [("uid", "1000"), ("gid", "1001"), ("home", "/home/joe"), ("mail", "maildir:~/ex.com"),
                             ("q", "2")]
    results = {name: driver.lookup(_Values(user=name)) for name in ("bare", "empty", "bad", "old", "nobody")}
    assert [results[name].result for name in results] == [
        outcome.UNKNOWN, outcome.OK, outcome.INTERNAL, outcome.OK, outcome.UNKNOWN]
    assert ("mail", "maildir:/x y") in results["old"].fields
    assert list(driver.users(_JOE)) == ["joe@ex.com", "bare", "empty", "bad", "old"]
    driver.close()
    with pytest.raises(ListingFailed):
        list(PasswdFile(f"{tmp_path}/%d").users(_JOE))
    with pytest.raises(ListingFailed):
        list(PasswdFile(f"{tmp_path}/nothing").users(_JOE))
    with pytest.raises(ArgsInvalid):
        PasswdFile(f"scheme=PLAIN {path}")


def test_passwd_asks_the_system() -> None:
    driver = Passwd("")
    assert driver.blocking
    assert not Passwd("blocking=no").blocking
    entry = pwd.getpwnam("daemon")
    assert dict(driver.lookup(_Values(user="daemon")).fields) == {
        "user": "daemon", "system_groups_user": "daemon", "uid": str(entry.pw_uid), "gid": str(entry.pw_gid),
        "home": entry.pw_dir}
    moved = Passwd("home=/m/%d blocking=no")
    assert ("home", "/m/x") in moved.lookup(_Values(user="daemon", domain="x")).fields
    assert moved.variables == ("user", "domain")
    for name in ("no-such-user", "", "a\0b", "\udcff"):
        assert driver.lookup(_Values(user=name)).result == outcome.UNKNOWN
    driver.valid = (1, 1, 1, 0)
    assert list(driver.users(_JOE)) == [row.pw_name for row in pwd.getpwall() if row.pw_uid == 1]


def test_the_table_names_every_driver_once() -> None:
    assert not set(DRIVERS) & NOT_BUILT
    assert {"static", "passwd", "passwd-file", "prefetch", "sql"} <= set(DRIVERS)
