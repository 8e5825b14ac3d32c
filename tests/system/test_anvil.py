"""anvil beside Dovecot's, and what it is for: who guesses passwords waits, and nobody waits for anvil."""
from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import servers
from tests.fakes.attack import role as role_of

TEXT = servers.HEAD + """
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
auth_mechanisms = plain
login_trusted_networks = 127.9.0.0/16
default_login_user = nobody
default_internal_user = daemon
default_internal_group = daemon
passdb {
  driver = static
  args = password=secret proxy=y host=127.0.0.1 port=BACKEND
}
service imap-login {
  service_count = 0
  process_min_avail = 1
  inet_listener imap {
    port = @imap@
  }
  inet_listener imaps {
    port = 0
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0600
  }
}
"""
HELLO = b"VERSION\tanvil\t1\t0\n"


class Peer:
    """A connection to an anvil."""

    def __init__(self, server: servers.Server, hello: bytes = HELLO, name: str = "anvil") -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5.0)
        self.sock.connect(str(server.directory / "run" / name))
        self.sock.sendall(hello)

    def say(self, *lines: str) -> str:
        """These lines and the end of ours: what comes back until the end of theirs."""
        found = b""
        try:
            self.sock.sendall("".join(line + "\n" for line in lines).encode())
            self.sock.shutdown(socket.SHUT_WR)
            while more := self.sock.recv(65536):
                found += more
        except ConnectionError:
            return found.decode()           # refused with lines unread
        self.sock.close()
        return found.decode()


@pytest.fixture(scope="module")
def pair(real_dovecot_backend: servers.Server) -> Iterator[tuple[servers.Server, servers.Server]]:
    """(Dovecot, mailproxy)"""
    running = []
    text = TEXT.replace("BACKEND", str(real_dovecot_backend.port["imap"]))
    for make in (servers.dovecot, servers.mailproxy):
        directory = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
        directory.chmod(0o755)
        running.append(make(text, directory))
    try:
        for server in running:
            server.wait("imap")
        yield running[0], running[1]
    finally:
        problems = [server.stop() for server in running][1]
        for server in running:
            shutil.rmtree(server.directory, ignore_errors=True)
    assert not problems, "\n".join(problems)


DIALOGUES = {
    "counts": ("LOOKUP\timap/10.0.0.1/u", "CONNECT\t1\timap/10.0.0.1/u", "CONNECT\t1\timap/10.0.0.1/u",
               "CONNECT\t2\timap/10.0.0.1/u", "LOOKUP\timap/10.0.0.1/u", "DISCONNECT\t2\timap/10.0.0.1/u",
               "CONNECT-DUMP", "DISCONNECT\t3\timap/10.0.0.1/u", "DISCONNECT\t1\tnobody",
               "DISCONNECT\t1\timap/10.0.0.1/u", "DISCONNECT\t1\timap/10.0.0.1/u", "CONNECT-DUMP"),
    "penalties": ("PENALTY-GET\t10.0.0.2", "PENALTY-INC\t10.0.0.2\t5\t1", "PENALTY-GET\t10.0.0.2",
                  "PENALTY-INC\t10.0.0.2\t5\t2", "PENALTY-GET\t10.0.0.2", "PENALTY-INC\t10.0.0.2\t6\t2",
                  "PENALTY-INC\t10.0.0.2\t5\t3", "PENALTY-GET\t10.0.0.2", "PENALTY-INC\t10.0.0.2\t0\t0",
                  "PENALTY-GET\t10.0.0.2", "PENALTY-INC\t10.0.0.2\t6\t4", "PENALTY-INC\t10.0.0.2\t7\t4",
                  "PENALTY-DUMP", "", "PENALTY-SET-EXPIRE-SECS\t29", "PENALTY-INC\t10.0.0.2\t0\t3", "PENALTY-DUMP\t1"),
    **{bad.replace("\t", " ")[:20]: (bad,) for bad in (
        "FOO", "KILL\t1", "KILL", "CONNECT", "CONNECT\tx\ty", "LOOKUP", "PENALTY-GET",
        "PENALTY-INC\ta\t1", "PENALTY-INC\ta\t1\t-1", "PENALTY-INC\ta\tx\t1", "PENALTY-INC\ta\t1\t0",
        "PENALTY-INC\ta\t1\t99999", "PENALTY-SET-EXPIRE-SECS", "PENALTY-SET-EXPIRE-SECS\tx", "x" * 9000)},
}


def errors(server: servers.Server, start: int) -> list[str]:
    return [re.sub(r".* anvil: ", "", line).replace("\t", "\\t")
            for line in server.log_text()[start:].splitlines() if " anvil: " in line]


@pytest.mark.parametrize("name", DIALOGUES)
def test_as_dovecot(pair: tuple[servers.Server, servers.Server], name: str) -> None:
    compare(pair, HELLO, DIALOGUES[name])


@pytest.mark.parametrize("hello", [b"FOO\n", b"VERSION\tanvil\t2\t0\n", b"VERSION\tfoo\t1\t0\n"])
def test_other_versions_are_refused(pair: tuple[servers.Server, servers.Server], hello: bytes) -> None:
    compare(pair, hello, ())


def compare(pair: tuple[servers.Server, servers.Server], hello: bytes, lines: tuple[str, ...]) -> None:
    """The same answers and the same lines in the log."""
    starts = [len(server.log_text()) for server in pair]
    answers = [re.sub(r"\b\d{10}\b", "TIME", Peer(server, hello).say(*lines)) for server in pair]
    assert answers[1] == answers[0]
    time.sleep(0.1)
    wanted = errors(pair[0], starts[0])
    servers.wait_until(lambda: len(errors(pair[1], starts[1])) >= len(wanted))
    assert errors(pair[1], starts[1]) == wanted


def attempt(server: servers.Server, address: str, password: str, user: str = "joe") -> tuple[str, float]:
    """The answer to a login from that address, and how long it took."""
    with socket.create_connection(("127.0.0.1", server.port["imap"]), 12.0, (address, 0)) as sock:
        sock.sendall(f"a LOGIN {user} {password}\r\n".encode())
        start = time.monotonic()
        found = ""
        while "\na " not in found:
            found += sock.recv(4096).decode()
        return found[found.index("\na ") + 3:][:2], time.monotonic() - start


def test_guessing_takes_time(pair: tuple[servers.Server, servers.Server]) -> None:
    for server in pair:
        first = attempt(server, "127.8.0.1", "wrong")
        assert first[0] == "NO"
        assert first[1] < 2.0
        answer, took = attempt(server, "127.8.0.1", "secret")
        assert answer == "OK"
        assert 3.8 < took < 4.5
        assert re.search(r"^127\.8\.0\.1\t0\t", Peer(server).say("PENALTY-DUMP"), re.M)
        assert attempt(server, "127.8.0.1", "secret")[1] < 1.0


def test_others_do_not_wait(pair: tuple[servers.Server, servers.Server]) -> None:
    ours = pair[1]
    for password in ("a", "b"):
        attempt(ours, "127.9.0.1", password)            # a trusted proxy speaks for many
        assert attempt(ours, "127.9.0.1", "secret")[1] < 1.0
    attempt(ours, "127.8.0.2", "wrong")
    assert attempt(ours, "127.8.0.3", "secret")[1] < 1.0
    assert "127.9.0.1" not in Peer(ours).say("PENALTY-DUMP")


def test_anvil_may_die(pair: tuple[servers.Server, servers.Server]) -> None:
    ours = pair[1]
    attempt(ours, "127.8.0.4", "wrong")
    servers.wait_until(lambda: "127.8.0.4\t1\t" in Peer(ours).say("PENALTY-DUMP"))
    one_of(ours, "anvil").kill()
    assert attempt(ours, "127.8.0.5", "secret")[1] < 1.0
    assert 3.0 < attempt(ours, "127.8.0.4", "secret")[1] < 4.5              # auth knows it without anvil
    servers.wait_until(lambda: attempt(ours, "127.8.0.6", str(time.monotonic()))[0] == "NO"
                       and "127.8.0.6\t" in Peer(ours).say("PENALTY-DUMP"), 25.0, "auth tells the new anvil")


def test_auth_may_die(pair: tuple[servers.Server, servers.Server]) -> None:
    """A new auth process learns from anvil what the old one knew."""
    ours = pair[1]
    Peer(ours).say("PENALTY-INC\t127.8.0.7\t5\t1")
    one_of(ours, "auth").kill()
    servers.wait_until(lambda: attempt(ours, "127.8.0.8", "secret")[0] == "OK")
    answer, took = attempt(ours, "127.8.0.7", "secret")
    assert answer == "OK"
    assert 3.0 < took < 4.5


def test_an_anvil_that_hangs_keeps_nobody_waiting(pair: tuple[servers.Server, servers.Server]) -> None:
    ours = pair[1]
    process = one_of(ours, "anvil")
    process.suspend()
    try:
        assert attempt(ours, "127.8.0.9", "wrong")[1] < 2.0
        assert attempt(ours, "127.8.0.10", "secret")[1] < 1.0
    finally:
        process.resume()
    servers.wait_until(lambda: "127.8.0.9\t" in Peer(ours).say("PENALTY-DUMP"))


def one_of(server: servers.Server, role: str) -> psutil.Process:
    """The server's process of that role; it may be just starting."""
    found: list[psutil.Process] = []

    def look() -> bool:
        found.extend(child for child in server.children() if role_of(child) == role)
        return bool(found)
    servers.wait_until(look, 10.0, f"a process {role}")
    return found[0]


MPADM = [sys.executable, "-c", "import sys; from mailproxy.admin.cli import main; sys.exit(main())"]


def run(program: list[str], server: servers.Server, *words: str) -> tuple[int, list[str], str]:
    """Exit code, lines in any order, what was said of errors."""
    done = subprocess.run([*program, "-c", str(server.conf), *words], capture_output=True, text=True, timeout=30,
                          cwd=servers.PROJECT, check=False)
    lines = [re.sub(r"\d\d\d\d-\d\d-\d\d|\d\d:\d\d:\d\d|\s+$", "", line) for line in done.stdout.splitlines()]
    lines = [re.sub(r"\(([\w.: ]*)\)", lambda found: f"({' '.join(sorted(found[1].split()))})", line) for line in lines]
    return done.returncode, sorted(re.sub(" +", " ", line) for line in lines), done.stderr


@pytest.fixture(scope="module")
def counted(pair: tuple[servers.Server, servers.Server]) -> tuple[servers.Server, servers.Server]:
    for server in pair:
        Peer(server).say(
            "CONNECT\t11\timap/10.0.0.1/joe", "CONNECT\t11\timap/10.0.0.2/joe", "CONNECT\t13\tpop3/10.0.0.1/joe",
            "CONNECT\t14\timap/2001:db8::1/Ann@x.org", "CONNECT\t14\timap/2001:db8::1/Ann@x.org",
            "CONNECT\t15\timap/10.0.0.9/a/b", "PENALTY-INC\t10.9.0.1\t5\t2", "PENALTY-INC\t2001:db8:9::\t5\t3")
    return pair


@pytest.mark.parametrize("words", [
    "who", "who joe", "who J*", "who *@x.org", "who 10.0.0.9", "who 2001:db8::/32", "who -1", "-f flow who",
    "-f tab who", "-f flow who -1", "who nobody", "who a* b*", "who 10.0.0.1 10.0.0.2", "who joe 10.0.0.2", "who [ab]*",
    "penalty 10.9.0.0/16", "-f flow penalty 10.9.0.1", "-f tab penalty 2001:db8:9::/48", "-f json penalty 10.9.0.1",
    "penalty 1.1.1.1", "penalty foo", "penalty 1.1.1.1 2.2.2.2"])
def test_commands_as_doveadm(counted: tuple[servers.Server, servers.Server], words: str) -> None:
    ours = run(MPADM, counted[1], *words.split())
    assert ours == run(["/usr/bin/doveadm"], counted[0], *words.split())


def test_json_is_json(counted: tuple[servers.Server, servers.Server]) -> None:
    code, lines, _ = run(MPADM, counted[1], "-f", "json", "who", "joe")
    assert code == 0
    assert json.loads(lines[0]) == [
        {"username": "joe", "connections": "2", "service": "imap", "pids": "(11)", "ips": "(10.0.0.1 10.0.0.2)"},
        {"username": "joe", "connections": "1", "service": "pop3", "pids": "(13)", "ips": "(10.0.0.1)"}]
