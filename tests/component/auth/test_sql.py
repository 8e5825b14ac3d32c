"""passdb and userdb sql with real MariaDB and PostgreSQL servers, beside a real Dovecot that asks the same ones."""
from __future__ import annotations

import os
import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from mailproxy.auth.passdb.sql import Sql
from mailproxy.auth.userdb.sql import Sql as UserSql
from tests.component.auth.peer import Peer, plain, without_id
from tests.component.auth.processes import dovecot, ours
from tests.component.auth.scenario import Passdb, Scenario
from tests.component.auth.sql_data import (
    LOGINS,
    MAYBE_CONF,
    MAYBE_TABLE,
    PASSWORD,
    PROXY_CONF,
    PROXY_TABLE,
    QUERIES,
    USER_QUERY,
    fill,
    reach,
    scenario,
)
from tests.servers import wait_until
from tests.sql_servers import MariaDb, Postgres

Start = Callable[[Scenario, Path], AbstractContextManager[Any]]
Server = MariaDb | Postgres
_ASKED = "service=imap"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    maria, postgres = MariaDb(), Postgres()
    try:
        maria.start()
        postgres.start()
        fill(maria)
        fill(postgres)
        yield {"mysql": maria, "pgsql": postgres}
    finally:
        maria.remove()
        postgres.remove()


def _log_in(base: Path, logins: list[tuple[str, ...]], name: str = "login/login") -> list[list[str]]:
    """The words of each answer.  All are asked at once: Dovecot delays failures."""
    peer = Peer(str(base / name))
    peer.send(*("\t".join(("AUTH", str(number), "PLAIN", _ASKED, "no-penalty", *more, f"resp={plain(user, password)}"))
                for number, (user, password, *more) in enumerate(logins, 1)))
    answers = {}
    for _ in logins:
        line = peer.line()
        answers[int(line.split("\t")[1])] = [word for word in without_id(line).split("\t") if word]
    peer.close()
    return [answers[number] for number in sorted(answers)]


def _look_up(base: Path, lines: list[str]) -> list[list[str]]:
    peer = Peer(str(base / "auth-userdb"), handshake=False)
    peer.send("VERSION\t1\t1")
    assert [peer.line().partition("\t")[0] for _ in range(2)] == ["VERSION", "SPID"]
    found = []
    for line in lines:
        peer.send(line)
        answer = [peer.line()]
        while answer[-1].startswith("LIST\t"):
            answer.append(peer.line())
        found += [[word for word in text.split("\t") if word] for text in answer]
    peer.close()
    return found


def _both(setup: Scenario, ask: Callable[[Path], Any]) -> list[Any]:
    found = []
    for start in (dovecot, ours):
        # not below pytest's own directory: Dovecot's unprivileged user cannot get there
        with tempfile.TemporaryDirectory(prefix="mailproxy-sql-") as directory, start(setup, Path(directory)):
            found.append(ask(Path(directory) / "run"))
    return found


@pytest.mark.parametrize("kind", ["mysql", "pgsql"])
@pytest.mark.parametrize("query", QUERIES)
def test_logins_are_answered_as_by_dovecot(servers: dict[str, Server], kind: str, query: str) -> None:
    logins = LOGINS if query != "broken" else LOGINS[:2]        # Dovecot forgets some of many that fail
    theirs, mine = _both(scenario(reach(servers[kind]) + QUERIES[query]), lambda base: _log_in(base, logins))
    for login, expected, found in zip(logins, theirs, mine, strict=True):
        assert found == expected, login


@pytest.mark.parametrize("kind", ["mysql", "pgsql"])
def test_users_are_looked_up_and_listed_as_by_dovecot(servers: dict[str, Server], kind: str) -> None:
    names = ["twice@ex.com", "joe@ex.com", "joe", "md5@ex.com", "null@ex.com", "nobody", "o'brien@ex.com", "tab@ex.com",
             "äöü@ex.com", "' OR 1=1 -- "]
    lines = [f"USER\t{number}\t{name}\tservice=lmtp" for number, name in enumerate(names, 1)]
    lines += [f"PASS\t{number}\t{name}\tservice=lmtp" for number, name in enumerate(names, 50)
              if name != "null@ex.com"] + ["LIST\t99"]
    setup = scenario(reach(servers[kind]) + QUERIES["password"] + USER_QUERY, "prefetch", "sql")
    theirs, mine = _both(setup, lambda base: _look_up(base, lines))
    assert mine == theirs


def test_what_a_passdb_says_of_userdb_fields_is_enough(servers: dict[str, Server]) -> None:
    """A row of NULLs is an answer, too: the userdb behind is not asked."""
    conf = reach(servers["mysql"]) + QUERIES["prefetch"] + "user_query = SELECT nonsense\n"
    setup = scenario(conf, "prefetch", "sql")
    lines = []
    for user in ("joe@ex.com", "joe"):
        with tempfile.TemporaryDirectory(prefix="mailproxy-sql-") as directory, ours(setup, Path(directory)) as process:
            assert _log_in(Path(directory) / "run", [(user, "pw")])[0][0] == "OK"
            lines.append(process.log())
    assert "failed" not in "".join(lines)


def test_the_worked_examples_run_as_they_stand(servers: dict[str, Server]) -> None:
    """The SQL examples of Dovecot's page about proxying; only how to reach the servers is ours."""
    maria = servers["mysql"]
    assert isinstance(maria, MariaDb)
    maria.run("CREATE DATABASE IF NOT EXISTS examples CHARACTER SET utf8mb4; USE examples;"
              "DROP TABLE IF EXISTS proxy, users;" + PROXY_TABLE + MAYBE_TABLE
              + "INSERT INTO proxy VALUES ('john', '192.168.0.1', ''), ('joe', '192.168.0.2', 'joe@example.com');"
                "INSERT INTO users VALUES ('joe', 'ex.com', '{PLAIN}pw', '127.0.0.1', '/h/joe'),"
                "('ann', 'ex.com', '{PLAIN}pw', '10.0.0.9', '/h/ann');"
                "GRANT ALL ON examples.* TO dovecot;")
    hosts = f"host=127.0.0.1 host={maria.socket} port={maria.port} dbname=examples user=dovecot password={PASSWORD}"
    first = PROXY_CONF.replace("host=sqlhost1 host=sqlhost2 dbname=mail user=dovecot password=secret", f'"{hosts}"')
    second = f'connect = "{hosts}"\n' + MAYBE_CONF
    asked = [("john", "any", "lip=127.0.0.1", "lport=143"), ("joe", "thing", "lip=127.0.0.1"), ("nobody", "x"),
             ("joe@ex.com", "pw", "lip=127.0.0.1", "lport=143"), ("ann@ex.com", "pw", "lip=127.0.0.1", "lport=143"),
             ("joe@ex.com", "bad", "lip=127.0.0.1", "lport=143")]
    for conf, good in ((first, "OK user=john host=192.168.0.1 proxy nopassword=Y pass=any"),
                       (second, "OK user=ann@ex.com host=10.0.0.9 proxy pass=pw")):
        assert hosts in conf
        theirs, mine = _both(scenario(conf, "sql", auth_cache_size=4096), lambda base: _log_in(base, asked))
        assert mine == theirs
        assert any(set(good.split()) - {"nopassword=Y"} <= set(words) for words in mine), mine


_HANGING = ("\udcbf' OR 1=1 -- ", "\udcbf\\' OR 1=1 -- ", "\udcbf\\", "joe", "縗", "a\\", "\udcbf",
            "\udcff'", "x\udc81")


@pytest.mark.parametrize("charset", ["gbk", "big5", "sjis", "latin1", "utf8mb4"])
def test_half_letters_do_not_swallow_the_escape(servers: dict[str, Server], charset: str) -> None:
    maria = servers["mysql"]
    assert isinstance(maria, MariaDb)
    column = "utf8mb4" if charset == "latin1" else charset
    maria.run("USE mail; DROP TABLE IF EXISTS letters; CREATE TABLE letters (u varchar(50) CHARACTER SET "
              f"{column}, p varchar(50)); INSERT INTO letters VALUES ('joe', '{{PLAIN}}pw');")
    options = maria.directory / f"options-{charset}"
    options.write_text(f"[client]\ndefault-character-set={charset}\n")
    options.chmod(0o644)
    conf = reach(maria, more=f"option_file={options}") + \
        "password_query = SELECT u AS user, p AS password FROM letters WHERE u = '%u' AND '%w' = 'pw'\n"
    logins: list[tuple[str, ...]] = [(user, "pw") for user in _HANGING]
    logins += [("joe", user) for user in _HANGING] + [("joe", "pw")]
    theirs, mine = _both(scenario(conf, auth_username_format=""), lambda base: _log_in(base, logins))
    assert mine == theirs
    assert [words[0] for words in mine].count("OK") == 2


def _eventually(base: Path, login: tuple[str, ...], word: str = "OK") -> list[list[str]]:
    """Ask until the answer begins with that word; all the answers before."""
    before: list[list[str]] = []

    def asked() -> bool:
        before.append(_log_in(base, [login])[0])
        return before[-1][0] == word
    wait_until(asked, 20)
    return before[:-1]


_GOOD = ("joe@ex.com", "pw")
_TEMPORARY = ["FAIL", "user=joe@ex.com", "code=temp_fail"]


@pytest.mark.parametrize("make", [MariaDb, Postgres])
def test_a_server_that_is_killed_and_comes_back(make: type[Server]) -> None:
    """Never a wrong password; back without a restart; a connection that was cut meanwhile costs nobody a login."""
    server = make()
    try:
        setup = scenario(reach(server) + QUERIES["password"])
        with tempfile.TemporaryDirectory(prefix="mailproxy-sql-") as directory, ours(setup, Path(directory)) as process:
            base = Path(directory) / "run"
            assert _log_in(base, [_GOOD]) == [_TEMPORARY]               # down from the start
            server.start()
            fill(server)
            assert all(words == _TEMPORARY for words in _eventually(base, _GOOD))
            server.end(signal.SIGKILL)
            assert _log_in(base, [_GOOD]) == [_TEMPORARY]
            server.start()
            assert all(words == _TEMPORARY for words in _eventually(base, _GOOD))
            server.end(signal.SIGTERM if make is MariaDb else signal.SIGINT)
            server.start()                                              # restarted between two logins
            assert _log_in(base, [_GOOD])[0][0] == "OK"
            assert re.search(r"Connect failed.* - waiting for 1 seconds before retry", process.log())
            assert PASSWORD not in process.log()
    finally:
        server.remove()


def test_another_host_takes_over(servers: dict[str, Server]) -> None:
    for server in servers.values():
        conf = reach(server, "host=127.0.0.1 host=127.255.255.1") + QUERIES["password"]
        with tempfile.TemporaryDirectory(prefix="mailproxy-sql-") as directory, \
                ours(scenario(conf), Path(directory)) as process:
            answers = _log_in(Path(directory) / "run", [_GOOD] * 6)
            assert [words[0] for words in answers] == ["OK"] * 6
            assert process.log().count("Connect failed") == 1


def test_a_server_that_hangs_is_given_up(servers: dict[str, Server]) -> None:
    """It takes connections and says nothing; the next login fails at once."""
    maria = servers["mysql"]
    conf = reach(maria, more="connect_timeout=1 read_timeout=1") + QUERIES["password"]
    with tempfile.TemporaryDirectory(prefix="mailproxy-sql-") as directory, \
            ours(scenario(conf, auth_failure_delay=0.0), Path(directory)):
        base = Path(directory) / "run"
        assert _log_in(base, [_GOOD])[0][0] == "OK"
        os.kill(maria.pid, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            assert _log_in(base, [_GOOD]) == [_TEMPORARY]
            assert time.monotonic() - begun < 5
            begun = time.monotonic()
            assert _log_in(base, [_GOOD]) == [_TEMPORARY]
            assert time.monotonic() - begun < 2
        finally:
            os.kill(maria.pid, signal.SIGCONT)
        assert all(words == _TEMPORARY for words in _eventually(base, _GOOD))


_NONSENSE = [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 4000, b"\x01\x00\x00\x00\x0a", b"\x00" * 100,
             b"\x4a\x00\x00\x00\x0a" + b"5.5\0" + b"\x01" * 70, b"N", b"S\x16\x03", b"R\x00\x00\x00\x08\x00\x00\x00\x00"
             b"Z\x00\x00\x00\x05I" + b"T\xff\xff\xff\xff", b"R\x7f\xff\xff\xff" + b"a" * 100]


def _talk_nonsense(listening: socket.socket) -> None:
    number = 0
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            connection.sendall(_NONSENSE[number % len(_NONSENSE)])
        number += 1


@pytest.mark.parametrize("kind", ["mysql", "pgsql"])
def test_a_server_that_talks_nonsense(servers: dict[str, Server], kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_talk_nonsense, args=(listening,), daemon=True).start()
        port = listening.getsockname()[1]
        conf = re.sub(r"port=\d+", f"port={port}", reach(servers[kind])) + QUERIES["password"]
        with tempfile.TemporaryDirectory(prefix="mailproxy-sql-") as directory:
            (Path(directory) / "sql.conf").write_text(conf)
            driver = Sql(f"{directory}/sql.conf")
            said: list[str] = []
            driver.log_error = said.append
            for _ in _NONSENSE * 2:
                for member in driver.database.pool._members:
                    member.until = float("-inf")
                answer = driver.lookup({"username": "joe", "domain": "ex.com"})
                assert answer.result == -1, answer.error
            driver.close()
            assert len(said) >= len(_NONSENSE)
            assert not any("Traceback" in line or PASSWORD in line for line in said)
        listening.shutdown(socket.SHUT_RDWR)


def test_a_changed_user_query_without_userdb_is_mentioned(servers: dict[str, Server]) -> None:
    for more, expected in (("", 1), ("userdb_warning_disable = yes\n", 0)):
        conf = reach(servers["mysql"]) + QUERIES["password"] + USER_QUERY + more
        with tempfile.TemporaryDirectory(prefix="mailproxy-sql-") as directory, \
                ours(scenario(conf), Path(directory)) as process:
            assert _log_in(Path(directory) / "run", [_GOOD])[0][0] == "OK"
            assert process.log().count("sql: Ignoring changed user_query in ") == expected


@pytest.mark.parametrize("kind", ["mysql", "pgsql"])
def test_what_a_database_says_of_an_error_shows_no_password(servers: dict[str, Server], kind: str) -> None:
    for where in ("nonsense = '%w'", "username = %w", "username = 'a' AND %w('x') ' = 1"):
        conf = reach(servers[kind]) + f"password_query = \"SELECT password FROM users WHERE {where}\"\n"
        with tempfile.TemporaryDirectory(prefix="mailproxy-sql-") as directory, \
                ours(scenario(conf), Path(directory)) as process:
            assert _log_in(Path(directory) / "run", [("joe@ex.com", "topsecret")]) == [_TEMPORARY]
            assert "Password query failed: " in process.log()
            assert "topsecret" not in process.log()


@pytest.mark.parametrize("kind", ["mysql", "pgsql"])
def test_a_query_for_everybody_is_cut_short(servers: dict[str, Server], kind: str) -> None:
    many = "SELECT 'x' AS password FROM users a, users b, users c, users d, users e, users f"
    with tempfile.TemporaryDirectory(prefix="mailproxy-sql-") as directory:
        conf = f"password_query = {many}\nuser_query = SELECT home FROM users WHERE username = '%u' ORDER BY home\n"
        (Path(directory) / "sql.conf").write_text(reach(servers[kind]) + conf)
        passdb, userdb = Sql(f"{directory}/sql.conf"), UserSql(f"{directory}/sql.conf")
        for _ in range(2):
            begun = time.process_time()
            assert passdb.lookup({}).error == "Password query returned multiple matches"
            assert time.process_time() - begun < 1
            assert userdb.lookup({"user": "twice"}).fields == [("home", "/1")]
        passdb.close()


def test_tls_to_the_database(servers: dict[str, Server]) -> None:
    """With the server's authority as ssl_ca; with another one, nobody gets in and nobody is refused."""
    maria = servers["mysql"]
    assert isinstance(maria, MariaDb)
    query = "password_query = SELECT password, (SELECT variable_value <> '' FROM information_schema.session_status " \
            "WHERE variable_name = 'Ssl_cipher') AS secured FROM users WHERE username = '%n' AND domain = '%d'\n"
    other = maria.directory / "other.pem"
    other.write_text(Path("/etc/ssl/certs/ca-certificates.crt").read_text(encoding="ascii").partition("\n\n")[0])
    other.chmod(0o644)
    for more, expected in ((f"ssl_ca={maria.certificate}", ["OK", "user=joe@ex.com", "secured=1"]),
                           ("", ["OK", "user=joe@ex.com", "secured=0"]), (f"ssl_ca={other}", _TEMPORARY)):
        setup = scenario(reach(maria, more=more) + query)
        assert _both(setup, lambda base: _log_in(base, [_GOOD])[0]) == [expected] * 2


def test_a_static_userdb_asks_the_database_who_exists(servers: dict[str, Server]) -> None:
    setup = scenario(reach(servers["mysql"]) + QUERIES["password"])
    setup.userdbs.append(Passdb("static", "uid=1000 gid=1000 home=/h/%n"))
    theirs, mine = _both(setup, lambda base: _look_up(
        base, ["USER\t1\tjoe@ex.com\tservice=x", "USER\t2\tnobody\tservice=x"]))
    assert mine == theirs
