"""auth-master and auth-userdb in detail: REQUEST, who may ask for whom, lists, CACHE-FLUSH."""
from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.auth.peer import Peer, plain, without_id
from tests.component.auth.processes import Ours, dovecot, ours
from tests.component.auth.scenario import Passdb, Scenario
from tests.servers import wait_until

_USERS = ("joe:{PLAIN}pw:1000:1001::/home/joe::userdb_mail=x\nann:{PLAIN}pw:65534:65534::/home/ann::\n"
          "px:{PLAIN}pw::::::proxy=y host=10.0.0.1\nnouser:{PLAIN}pw\n")
_SCENARIO = Scenario([Passdb("passwd-file", "@DIR@/users")], {}, {"users": _USERS},
                     userdbs=[Passdb("passwd-file", "@DIR@/users")])


def _open_to_all(path: Path) -> Path:
    for part in (path, *path.parents):
        if part.is_relative_to("/tmp") and part != Path("/tmp"):
            part.chmod(0o755)
    return path


@pytest.fixture(params=["dovecot", "ours"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """base_dir of either: the tests say what both do."""
    _open_to_all(tmp_path)
    if request.param == "dovecot":
        with dovecot(_SCENARIO, tmp_path) as found:
            yield found
    else:
        with ours(_SCENARIO, tmp_path) as process:
            yield Path(process.path(""))


def _master(path: Path) -> Peer:
    peer = Peer(str(path), handshake=False)
    peer.send("VERSION\t1\t1")
    assert peer.line() == "VERSION\t1\t1"
    assert peer.line().startswith("SPID\t")
    return peer


def _ask(peer: Peer, line: str) -> str:
    peer.send(line)
    try:
        return peer.line()
    except ConnectionResetError:
        return "EOF"


def test_a_login_is_given_out_once(base: Path) -> None:
    pid = 4242
    login, master = Peer(str(base / "login/login"), pid=pid), _master(base / "auth-master")
    cookie = next(line[7:] for line in login.hello if line.startswith("COOKIE\t"))
    for user in ("joe", "px", "nouser", "ann"):
        assert login.auth(user, "pw").startswith("OK")
    me = os.getpid()
    assert _ask(master, f"REQUEST\t1\t{pid}\t1\t{'0' * 32}") == "FAIL\t1"
    assert _ask(master, f"REQUEST\t2\t{pid + 1}\t1\t{cookie}") == "FAIL\t2"
    assert _ask(master, f"REQUEST\t3\t{pid}\t4\t{cookie}\tsession_pid=1") == "FAIL\t3"
    assert _ask(master, f"REQUEST\t3\t{pid}\t4\t{cookie}") == "FAIL\t3"      # it is gone, too
    answer = _ask(master, f"REQUEST\t4294967295\t{pid}\t1\t{cookie}\tsession_pid={me}")
    assert answer == "USER\t4294967295\tjoe\tmail=x\tuid=1000\tgid=1001\thome=/home/joe\tauth_mech=PLAIN"
    assert _ask(master, f"REQUEST\t5\t{pid}\t1\t{cookie}") == "FAIL\t5"
    assert _ask(master, f"REQUEST\t6\t{pid}\t2\t{cookie}") == "FAIL\t6"      # a proxied login is not waited for
    assert _ask(master, f"REQUEST\t7\t{pid}\t3\t{cookie}") == "NOTFOUND\t7"
    login.send("AUTH\t9\tLOGIN\tservice=imap")
    assert login.line() == "CONT\t9\tVXNlcm5hbWU6"
    assert _ask(master, f"REQUEST\t8\t{pid}\t9\t{cookie}") == "FAIL\t8"
    login.send(f"AUTH\t10\tPLAIN\tservice=imap\tresp={plain('JOE', 'pw')}", "CANCEL\t10")
    login.line()
    assert _ask(master, f"REQUEST\t9\t{pid}\t10\t{cookie}") == "FAIL\t9"
    assert login.auth("JOE", "pw", service="imap").startswith("OK\tuser=joe")
    assert _ask(master, f"REQUEST\t10\t{pid}\t5\t{cookie}").endswith("\tauth_user=JOE")
    for peer in (login, master):
        peer.close()


@pytest.mark.parametrize("line", ["REQUEST\t1\t2", "REQUEST\tx\t1\t1\tabc", "REQUEST\t1\tx\t1\tabc", "CPID\t1", "",
                                  "USER\t1\tjoe", "LIST", "FOO\t1"])
def test_broken_lines_end_the_connection(base: Path, line: str) -> None:
    assert _ask(_master(base / "auth-master"), line) == "EOF"


def test_what_only_the_master_socket_does(base: Path) -> None:
    assert _ask(_master(base / "auth-userdb"), "CACHE-FLUSH\t1") == "EOF"
    assert _ask(_master(base / "auth-userdb"), "REQUEST\t1\t1\t1\tabc") == "EOF"
    assert _ask(_master(base / "auth-master"), "CACHE-FLUSH\t1") == "OK\t1\t0"
    assert _ask(_master(base / "auth-master"), "CACHE-FLUSH\t2\tjoe\tann") == "OK\t2\t0"
    assert _ask(_master(base / "auth-master"), "USER\t0\tjoe\tservice=x").startswith("USER\t0\tjoe\tuid=1000")


def test_others_may_look_up_themselves(base: Path) -> None:
    """Behind a socket that is open to all: who is neither root nor its owner."""
    path = base / "auth-userdb"
    path.chmod(0o666)
    os.chown(path, 0, 0)
    base.chmod(0o755)
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            peer = _master(path)
            answers = [_ask(peer, f"{word}\t{number}\t{user}\tservice=x") for number, (word, user) in enumerate(
                (("USER", "joe"), ("USER", "ann"), ("USER", "nobody"), ("PASS", "ann"), ("LIST", "service=x")))]
            os.write(into, "\n".join(answers).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(into)
    with open(out, encoding="utf-8") as answers:
        assert answers.read().split("\n") == [
            "FAIL\t0", "USER\t1\tann\tuid=65534\tgid=65534\thome=/home/ann", "NOTFOUND\t2", "FAIL\t3", "DONE\t4\tfail"]


# -- what only ours does ----------------------------------------------------------------------------------------------

_SQL = """driver = sqlite
connect = @DIR@/users.db
default_pass_scheme = PLAIN
password_query = SELECT 'renamed-' || userid AS user, password FROM users WHERE userid = '%u'
user_query = SELECT home, 1000 AS uid, 1000 AS gid FROM users WHERE userid = '%u' OR 'renamed-' || userid = '%u'
iterate_query = SELECT userid AS user FROM users
"""
_MANY = 30_000


def _scenario(rows: str, **settings: object) -> Scenario:
    return Scenario([Passdb("sql", "@DIR@/sql.conf", default_fields="d=1")], {"auth_cache_size": 1 << 20, **settings},
                    {"sql.conf": _SQL}, f"CREATE TABLE users (userid TEXT, password TEXT, home TEXT);\n{rows}",
                    userdbs=[Passdb("sql", "@DIR@/sql.conf")])


@contextlib.contextmanager
def _sql(tmp_path: Path, rows: str, **settings: object) -> Iterator[Ours]:
    _open_to_all(tmp_path)
    with ours(_scenario(rows, **settings), tmp_path, 2) as process:
        yield process


_ROWS = "INSERT INTO users VALUES ('joe', 'pw', '/h/joe'), ('ann', 'pw', '/h/ann');"


def test_flush_by_the_name_that_was_asked_for(tmp_path: Path) -> None:
    with _sql(tmp_path, _ROWS) as process:
        client, master = Peer(process.path("auth-client")), _master(Path(process.path("auth-master")))
        for user in ("joe", "ann", "nobody"):
            client.auth(user, "pw")
        assert client.auth("joe", "pw") == "OK\tuser=renamed-joe\td=1\toriginal_user=joe"
        assert _ask(master, "CACHE-FLUSH\t1\trenamed-joe") == "OK\t1\t0"
        assert _ask(master, "CACHE-FLUSH\t2\tjoe\tnobody") == "OK\t2\t2"
        assert _ask(master, "USER\t3\tjoe\tservice=x") == "USER\t3\tjoe\thome=/h/joe\tuid=1000\tgid=1000"
        assert _ask(master, "CACHE-FLUSH\t4\tjoe") == "OK\t4\t1"
        assert _ask(master, "CACHE-FLUSH\t5") == "OK\t5\t1"


def test_old_answers_while_the_database_fails(tmp_path: Path) -> None:
    with _sql(tmp_path, _ROWS, auth_cache_ttl=0.2, auth_cache_negative_ttl=0.2) as process:
        client, master = Peer(process.path("auth-client")), _master(Path(process.path("auth-master")))
        known = "USER\t1\tjoe\thome=/h/joe\tuid=1000\tgid=1000"
        assert client.auth("joe", "pw").startswith("OK")
        assert _ask(master, "USER\t1\tjoe\tservice=x") == known
        with contextlib.closing(sqlite3.connect(tmp_path / "users.db")) as database:
            database.execute("ALTER TABLE users RENAME TO away")
        wait_until(lambda: client.auth("ann", "pw").endswith("code=temp_fail"))
        assert client.auth("joe", "pw").startswith("OK")
        assert client.auth("joe", "bad").endswith("code=temp_fail")
        assert _ask(master, "USER\t1\tjoe\tservice=x") == known
        assert _ask(master, "USER\t2\tann\tservice=x") == "FAIL\t2"
        assert process.log().count("Falling back to expired data from cache") >= 2


def test_a_long_list_to_a_slow_reader(tmp_path: Path) -> None:
    """Everything arrives, and others are served meanwhile; a reader that goes away costs nothing."""
    rows = (f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {_MANY}) "
            "INSERT INTO users SELECT printf('user%05d', i), 'pw', '' FROM n;")
    with _sql(tmp_path, rows) as process:
        slow, gone = (_master(Path(process.path("auth-userdb"))) for _ in range(2))
        client = Peer(process.path("auth-client"))
        gone.send("LIST\t1\tservice=x")
        assert gone.line() == "LIST\t1\tuser00001"
        slow.send("LIST\t1\tservice=x")
        assert slow.line() == "LIST\t1\tuser00001"
        gone.close()
        assert client.auth("user00007", "pw").startswith("OK")
        assert _ask(_master(Path(process.path("auth-userdb"))), "USER\t2\tuser00002\tservice=x").startswith("USER")
        count = 1
        while (line := slow.line()).startswith("LIST"):
            count += 1
        assert (count, line) == (_MANY, "DONE\t1\t")
        assert without_id(_ask(slow, "USER\t3\tuser00003\tservice=x")).startswith("USER")
