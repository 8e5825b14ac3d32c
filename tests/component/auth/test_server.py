"""The auth process over its sockets: handshake, protocol errors, SASL, delays, workers that die, the cache."""
from __future__ import annotations

import base64
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.component.auth.peer import Peer, plain
from tests.component.auth.processes import Ours, ours
from tests.component.auth.scenario import Passdb, Scenario

_USERS = Passdb("passwd-file", "@DIR@/users")
_FILES = {"users": "joe:{PLAIN}pw\n"}
_SQL = {"sql.conf": "driver = sqlite\nconnect = @DIR@/users.db\ndefault_pass_scheme = PLAIN\n"
                    "password_query = SELECT password FROM users WHERE userid = '%u'\n"}
_DB = "CREATE TABLE users (userid TEXT, password TEXT); INSERT INTO users VALUES ('joe', 'pw');"


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[Ours]:
    with ours(Scenario([_USERS], {"auth_verbose": True}, _FILES), tmp_path, 0) as process:
        yield process


def _until(condition: object, text: str) -> None:
    limit = time.monotonic() + 5
    while not condition():          # type: ignore[operator]
        assert time.monotonic() < limit, text
        time.sleep(0.01)


def _auth_line(number: int, user: str = "joe", password: str = "pw") -> str:
    return f"AUTH\t{number}\tPLAIN\tservice=imap\tresp={plain(user, password)}"


def test_handshake_is_sent_unasked_and_exact(auth: Ours) -> None:
    peer = Peer(auth.path("login/login"), handshake=False)
    lines = [peer.line() for _ in range(7)]
    assert lines[:4] == ["VERSION\t1\t2", "MECH\tPLAIN\tplaintext", "MECH\tLOGIN\tplaintext", f"SPID\t{auth.pid}"]
    assert lines[4] == "CUID\t1"
    word, cookie = lines[5].split("\t")
    assert word == "COOKIE"
    assert len(bytes.fromhex(cookie)) == 16
    assert lines[6] == "DONE"


@pytest.mark.parametrize(("sent", "logged"), [
    ("CPID\t1", "BUG: Authentication client sent invalid VERSION line: CPID"),
    ("VERSION\t1", "BUG: Authentication client sent invalid VERSION line: VERSION"),
    ("VERSION\t2\t0", "not compatible with this server"),
    ("VERSION\t1\t2\nAUTH\t1", "sent unknown handshake command: AUTH"),
    ("VERSION\t1\t2\nCPID\t0", "BUG: Authentication client said it's PID 0"),
    ("VERSION\t1\t2\nCPID\t5\nAUTH\t0\tPLAIN\tservice=x", "sent broken AUTH request"),
    ("VERSION\t1\t2\nCPID\t5\nAUTH\tx\tPLAIN\tservice=x", "sent broken AUTH request"),
    ("VERSION\t1\t2\nCPID\t5\nAUTH\t1\tPLAIN", "didn't specify service in request"),
    ("VERSION\t1\t2\nCPID\t5\nAUTH\t1\tPLAIN\tservice=x\tresp=AA==\tnologin", "sent AUTH parameters after 'resp'"),
    ("VERSION\t1\t2\nCPID\t5\nAUTH\t1\tPLAIN\tservice=imap\tresp=AA==\tresp=AA==", "AUTH parameters after 'resp'"),
    ("VERSION\t1\t2\nCPID\t5\nAUTH\t1\tLOGIN\tservice=x\nAUTH\t1\tLOGIN\tservice=x", "sent a duplicate ID 1"),
    ("VERSION\t1\t2\nCPID\t5\nCONT\tx\t", "sent broken CONT request"),
    ("VERSION\t1\t2\nCPID\t5\nCANCEL\tx", "sent broken CANCEL"),
    ("VERSION\t1\t2\nCPID\t5\n", "sent unknown command: "),
    ("VERSION\t1\t2\nCPID\t5\nHELLO", "sent unknown command: HELLO"),
    ("VERSION\t1\t2\nCPID\t5\n" + "x" * 16385, "sent us more than 16384 bytes"),
])
def test_broken_peers_are_disconnected(auth: Ours, sent: str, logged: str) -> None:
    peer = Peer(auth.path("auth-client"), handshake=False)
    peer.send(sent)
    while (line := _line_or_reset(peer)) != "EOF":
        assert line
    _until(lambda: logged in auth.log(), auth.log())


def _line_or_reset(peer: Peer) -> str:
    try:
        return peer.line()
    except ConnectionResetError:
        return "EOF"


def test_login_pids_are_unique_and_free_again(auth: Ours) -> None:
    first = Peer(auth.path("login/login"), pid=77)
    second = Peer(auth.path("login/login"), pid=77)
    assert _line_or_reset(second) == "EOF"
    first.close()
    _until(lambda: "gave a PID 77 of existing connection" in auth.log(), auth.log())
    third = Peer(auth.path("login/login"), pid=77)
    assert third.auth("joe", "pw") == "OK\tuser=joe"


@pytest.mark.parametrize(("minor", "response", "answer"), [
    (2, "", "CONT\t1\t"), (2, "\tresp=", "FAIL\t1"), (0, "\tresp=", "CONT\t1\t"), (0, "\tresp==", "FAIL\t1"),
    (2, "\tresp=!!", "FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in initial response"),
    (2, "\tresp=AHUxAHB3MQ", "FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in initial response"),
])
def test_initial_responses(auth: Ours, minor: int, response: str, answer: str) -> None:
    peer = Peer(auth.path("auth-client"), minor)
    peer.send(f"AUTH\t1\tPLAIN\tservice=smtp\tnologin{response}")
    assert peer.line() == answer


def test_login_mechanism(auth: Ours) -> None:
    peer = Peer(auth.path("auth-client"))
    peer.send("AUTH\t1\tLOGIN\tservice=imap")
    assert peer.line() == "CONT\t1\tVXNlcm5hbWU6"
    peer.send("CONT\t1\t" + base64.b64encode(b"JOE").decode())
    assert peer.line() == "CONT\t1\tUGFzc3dvcmQ6"
    peer.send("CONT\t1\t" + base64.b64encode(b"pw").decode())
    assert peer.line() == "OK\t1\tuser=joe\toriginal_user=JOE"


def test_login_with_an_empty_name_never_sees_the_second_prompt(auth: Ours) -> None:
    peer = Peer(auth.path("auth-client"))
    peer.send("AUTH\t1\tLOGIN\tservice=imap")
    assert peer.line() == "CONT\t1\tVXNlcm5hbWU6"
    peer.send("CONT\t1\t")
    assert peer.line() == "FAIL\t1\tuser=\toriginal_user="


def test_bad_base64_costs_the_request_not_the_connection(auth: Ours) -> None:
    peer = Peer(auth.path("auth-client"))
    peer.send("AUTH\t1\tLOGIN\tservice=imap")
    peer.line()
    peer.send("CONT\t1\t=", "CONT\t1\t", "CANCEL\t9", _auth_line(2))
    assert peer.line() == "FAIL\t1\tcode=invalid_base64\treason=Invalid base64 data in continued response"
    assert peer.line() == "FAIL\t1\treason=Authentication request timed out"
    assert peer.line() == "OK\t2\tuser=joe"


def test_unknown_mechanism_fails_alone(auth: Ours) -> None:
    peer = Peer(auth.path("auth-client"))
    peer.send("AUTH\t1\tCRAM-MD5\tservice=imap", _auth_line(2))
    assert peer.line() == "FAIL\t1"
    assert peer.line() == "OK\t2\tuser=joe"


def test_cancel_is_silent_and_frees_the_id(auth: Ours) -> None:
    peer = Peer(auth.path("auth-client"))
    peer.send("AUTH\t1\tLOGIN\tservice=imap")
    peer.line()
    peer.send("CANCEL\t1", _auth_line(1))
    assert peer.line() == "OK\t1\tuser=joe"


def test_login_sockets_keep_a_finished_request(auth: Ours) -> None:
    peer = Peer(auth.path("login/login"))
    peer.send(_auth_line(1), "CANCEL\t1", _auth_line(1))
    assert peer.line() == "OK\t1\tuser=joe"
    assert peer.line() == "OK\t1\tuser=joe"
    peer.send(_auth_line(1))
    assert peer.line() == "EOF"


def test_many_requests_in_one_write(auth: Ours) -> None:
    peer = Peer(auth.path("auth-client"))
    peer.send(*[_auth_line(number) for number in range(1, 3001)])
    assert [peer.line() for _ in range(3000)] == [f"OK\t{number}\tuser=joe" for number in range(1, 3001)]


def test_a_peer_that_does_not_read_is_not_read(auth: Ours) -> None:
    """Answers wait in the kernel and up to a limit with us; nothing is lost when the peer reads again."""
    peer = Peer(auth.path("auth-client"))
    peer.socket.settimeout(0.5)
    sent, data = 0, (_auth_line(1) + "\n").encode() * 500
    wait = time.monotonic() + 3
    whole = 0
    try:
        while time.monotonic() < wait:
            whole += peer.socket.send(data[whole % len(data):])
    except TimeoutError:
        sent = whole
    assert sent, "the server took everything without being read"
    other = Peer(auth.path("auth-client"))
    assert other.auth("joe", "pw") == "OK\tuser=joe"
    peer.socket.settimeout(10)
    line_size = len(_auth_line(1)) + 1
    for _ in range(sent // line_size):
        assert peer.line() == "OK\t1\tuser=joe"


def test_refusals_wait_and_successes_do_not(tmp_path: Path) -> None:
    with ours(Scenario([_USERS], {"auth_failure_delay": 1.0}, _FILES), tmp_path, 0) as auth:
        peer = Peer(auth.path("auth-client"))
        start = time.monotonic()
        peer.send(_auth_line(1, "joe", "bad"), _auth_line(2), "CONT\t1\t")
        assert peer.line() == "OK\t2\tuser=joe"
        assert peer.line() == "FAIL\t1\treason=Authentication request timed out"
        assert time.monotonic() - start < 0.4
        assert peer.line() == "FAIL\t1\tuser=joe"
        assert 0.4 <= time.monotonic() - start < 1.5


def test_term_answers_waiting_refusals(tmp_path: Path) -> None:
    with ours(Scenario([_USERS], {"auth_failure_delay": 60.0}, _FILES), tmp_path, 0) as auth:
        peer = Peer(auth.path("auth-client"))
        peer.send(_auth_line(1, "joe", "bad"), _auth_line(2))
        assert peer.line() == "OK\t2\tuser=joe"
        os.kill(auth.pid, signal.SIGTERM)
        assert peer.line() == "FAIL\t1\tuser=joe"
        assert peer.line() == "EOF"


def test_retired_auth_serves_its_connections_to_the_end(auth: Ours) -> None:
    peer = Peer(auth.path("auth-client"))
    os.close(auth.dead_out)
    time.sleep(0.1)
    assert peer.auth("joe", "pw") == "OK\tuser=joe"
    peer.close()
    assert os.waitstatus_to_exitcode(os.waitpid(auth.pid, 0)[1]) == 0


def test_passwords_stay_out_of_the_log(tmp_path: Path) -> None:
    scenario = Scenario([_USERS, replace(_USERS, override_fields="proxy=y host=10.0.0.1")],
                        {"auth_debug": True}, _FILES)
    with ours(scenario, tmp_path, 0) as auth:
        peer = Peer(auth.path("login/login"))
        assert peer.auth("joe", "geheim-1") == "FAIL\tuser=joe"
        assert peer.auth("joe", "pw").startswith("OK")
        _until(lambda: "client passdb out: OK" in auth.log(), auth.log())
        assert "client in: AUTH\t1\tPLAIN".replace("\t", "\\t") in auth.log()
        assert "geheim" not in auth.log()
        assert plain("joe", "geheim-1") not in auth.log()


@pytest.mark.parametrize(("setting", "shown"), [
    ("plain", "(given password: geheim)"), ("plain:3", "(given password: geh)"),
    ("sha1:6", "(SHA1 of given password: 906072)"),
])
def test_verbose_passwords(tmp_path: Path, setting: str, shown: str) -> None:
    scenario = Scenario([_USERS], {"auth_verbose": True, "auth_verbose_passwords": setting}, _FILES)
    with ours(scenario, tmp_path, 0) as auth:
        assert Peer(auth.path("auth-client")).auth("joe", "geheim") == "FAIL\tuser=joe"
        _until(lambda: f"passwd-file(joe): Password mismatch {shown}" in auth.log(), auth.log())


def test_passwd_file_is_read_again(auth: Ours, tmp_path: Path) -> None:
    peer = Peer(auth.path("auth-client"))
    assert peer.auth("joe", "pw") == "OK\tuser=joe"
    (tmp_path / "users").write_text("joe:{PLAIN}changed::::::x=1\n")
    time.sleep(1.1)
    assert peer.auth("joe", "changed") == "OK\tuser=joe\tx=1"


# -- workers ------------------------------------------------------------------------------------------------------


def _sql(**settings: object) -> Scenario:
    return Scenario([Passdb("sql", "@DIR@/sql.conf")], {"auth_verbose": True, **settings}, _SQL, _DB)


def test_a_killed_worker_costs_no_login(tmp_path: Path) -> None:
    with ours(_sql(), tmp_path, 2) as auth:
        peer = Peer(auth.path("auth-client"))
        assert peer.auth("joe", "pw") == "OK\tuser=joe"
        for pid in auth.worker_pids:
            os.kill(pid, signal.SIGSTOP)
        peer.send(_auth_line(50))
        time.sleep(0.2)
        for pid in auth.worker_pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        auth.worker_pids = [auth.start_worker()]
        assert peer.line() == "OK\t50\tuser=joe"


def test_without_workers_a_login_fails_temporarily(tmp_path: Path) -> None:
    with ours(_sql(), tmp_path, 0) as auth:
        peer = Peer(auth.path("auth-client"))
        os.unlink(auth.path("auth-worker"))
        assert peer.auth("joe", "pw") == "FAIL\tuser=joe\tcode=temp_fail"
        _until(lambda: "auth-worker) failed: No such file or directory" in auth.log(), auth.log())


def test_requests_queue_for_busy_workers(tmp_path: Path) -> None:
    with ours(_sql(auth_worker_max_count=1), tmp_path, 1) as auth:
        peer = Peer(auth.path("auth-client"))
        peer.send(*[_auth_line(number) for number in range(1, 201)])
        assert sorted(peer.line() for _ in range(200)) == sorted(f"OK\t{n}\tuser=joe" for n in range(1, 201))


def test_a_cancelled_lookup_is_never_answered(tmp_path: Path) -> None:
    with ours(_sql(), tmp_path, 1) as auth:
        peer = Peer(auth.path("auth-client"))
        os.kill(auth.worker_pids[0], signal.SIGSTOP)
        peer.send(_auth_line(1), "CANCEL\t1")
        time.sleep(0.1)
        os.kill(auth.worker_pids[0], signal.SIGCONT)
        peer.send(_auth_line(2))
        assert peer.line() == "OK\t2\tuser=joe"
        assert peer.silent(0.2)


def test_cache_signals(tmp_path: Path) -> None:
    with ours(_sql(auth_cache_size=100_000), tmp_path, 1) as auth:
        peer = Peer(auth.path("auth-client"))
        for _ in range(4):
            assert peer.auth("joe", "pw") == "OK\tuser=joe"
        assert peer.auth("nobody", "pw") == "FAIL\tuser=nobody"
        os.kill(auth.pid, signal.SIGUSR2)
        _until(lambda: "Authentication cache current size" in auth.log(), auth.log())
        assert "Authentication cache hits 3/5 (60%)" in auth.log()
        assert "inserts: positive: 1 entries" in auth.log()
        os.kill(auth.pid, signal.SIGHUP)
        _until(lambda: "SIGHUP received, 2 cache entries flushed" in auth.log(), auth.log())


def test_expired_cache_entries_help_when_the_database_is_down(tmp_path: Path) -> None:
    with ours(_sql(auth_cache_size=100_000, auth_cache_ttl=0.2), tmp_path, 1) as auth:
        peer = Peer(auth.path("auth-client"))
        assert peer.auth("joe", "pw") == "OK\tuser=joe"
        os.kill(auth.worker_pids[0], signal.SIGKILL)
        os.waitpid(auth.worker_pids.pop(), 0)
        os.unlink(auth.path("auth-worker"))
        time.sleep(0.3)
        assert peer.auth("joe", "pw") == "OK\tuser=joe"
        _until(lambda: "Falling back to expired data from cache" in auth.log(), auth.log())
        assert peer.auth("joe", "bad") == "FAIL\tuser=joe\tcode=temp_fail"
