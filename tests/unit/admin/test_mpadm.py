"""mpadm without a daemon: a socket in the master's or the auth service's place, and what the command makes of it."""
from __future__ import annotations

import base64
import fcntl
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailproxy.admin import cli

SERVICE_ROW = "\t".join(["imap-login", "1", "0", "100", "1", *"00000", "y", "n", "7"])
AUTH_ROW = "\t".join(["auth", "1", "999", "1", "1000", *"00000", "y", "n", "1"])
Answer = Callable[[str], str]
Run = Callable[..., tuple[int, str, str]]


class Peer:
    """A UNIX socket that answers line by line; `lines` is what it was told."""

    def __init__(self, path: Path, greeting: str, answer: Answer) -> None:
        self.lines: list[str] = []
        self._answer = answer
        self._greeting = greeting
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as lines:
            connection.settimeout(10.0)
            connection.sendall(self._greeting.encode())
            for line in lines:
                self.lines.append(line.decode().rstrip("\n"))
                if answer := self._answer(self.lines[-1]):
                    connection.sendall(answer.encode())

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as nobody:           # ends an accept() that waits
            nobody.settimeout(1.0)
            nobody.connect(self._listener.getsockname())
        self._thread.join(10.0)
        assert not self._thread.is_alive()
        self._listener.close()


@pytest.fixture
def base(short_dir: Path) -> Path:
    (short_dir / "run").mkdir()
    (short_dir / "conf").write_text(f"base_dir = {short_dir}/run\nlog_path = /var/log/x\nprotocols =\n")
    return short_dir / "run"


@pytest.fixture
def run(base: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        code = cli.main(["-c", str(base.parent / "conf"), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def peer(base: Path) -> Iterator[Callable[[str, str, Answer], Peer]]:
    made: list[Peer] = []

    def make(name: str, greeting: str, answer: Answer) -> Peer:
        made.append(Peer(base / name, greeting, answer))
        return made[-1]

    yield make
    for one in made:
        one.close()


def control(line: str) -> str:
    """A master with two services."""
    command, *words = line.split("\t")
    if command == "SERVICE-STATUS":
        rows = {"imap-login": SERVICE_ROW, "auth": AUTH_ROW}
        return "".join(f"{row}\n" for name, row in rows.items() if not words or name in words) + "\n"
    if command == "STOP":
        return "+\n" if words == ["imap-login"] else f"-Unknown service: {words[0]}\n"
    return "" if command == "VERSION" else "\n"


@pytest.fixture
def master(peer: Callable[[str, str, Answer], Peer]) -> Peer:
    return peer("master", "VERSION\tmaster-server\t1\t0\n", control)


def test_help_names_every_command_and_option(run: Run) -> None:
    code, text, errors = run("--help")
    assert (code, errors) == (0, "")
    assert all(f"\n  {name}" in text for name in cli.COMMANDS)
    assert "usage: mpadm [-c FILE] [-f pager|table|tab|flow|json] COMMAND" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("words", [
    [], ["nonsense"], ["service"], ["-q"], ["-f"], ["stop", "now"], ["service", "stop"], ["auth", "test"],
    ["auth", "test", "u", "p", "more"], ["pw", "-p"], ["pw", "bare"], ["auth", "cache", "flush", "-z"],
    ["auth", "lookup"], ["user", "-f", "a", "-e", "b", "u"], ["auth", "login", "u", "p", "more"]])
def test_wrong_usage_is_64(run: Run, words: list[str]) -> None:
    code, text, errors = run(*words)
    assert (code, text) == (64, "")
    assert errors.startswith("usage: mpadm ")


@pytest.mark.parametrize("words", [
    ["stop"], ["reload"], ["log", "reopen"], ["service", "status"], ["service", "stop", "x"], ["process", "status"]])
def test_no_daemon_is_75_and_says_where_it_looked(run: Run, base: Path, words: list[str]) -> None:
    assert run(*words) == (75, "", f"Fatal: mailproxy is not running (read from {base}/master.pid)\n")


@pytest.mark.parametrize(("words", "name"), [
    (["auth", "test", "u", "p"], "auth-client"), (["auth", "login", "u", "p"], "auth-login"),
    (["auth", "lookup", "u"], "auth-userdb"), (["user", "u"], "auth-userdb"),
    (["auth", "cache", "flush"], "auth-master")])
def test_auth_without_a_daemon(run: Run, base: Path, words: list[str], name: str) -> None:
    assert run(*words) == (75, "", f"Fatal: connect({base}/{name}) failed: No such file or directory\n")


def test_a_broken_configuration_is_89_and_a_missing_one_75(run: Run, base: Path) -> None:
    (base.parent / "conf").write_text("foo = 1\n")
    assert run("reload")[0] == 89
    (base.parent / "conf").unlink()
    code, text, errors = run("reload")
    assert (code, text) == (75, "")
    assert "No such file or directory" in errors


def test_a_lock_without_a_socket_is_no_answer(run: Run, base: Path) -> None:
    """A master that starts just now holds the pid file but does not listen yet."""
    with (base / "master.pid").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("1\n")
        file.flush()
        assert run("service", "status") == (
            75, "", f"Fatal: connect({base}/master) failed: No such file or directory\n")


def test_status_of_all_and_of_some(run: Run, master: Peer) -> None:
    code, text, errors = run("-f", "tab", "service", "status")
    assert (code, errors) == (0, "")
    assert [line.split("\t")[0] for line in text.splitlines()] == ["name", "imap-login", "auth"]
    assert text.splitlines()[0].split("\t")[-1] == "process_total"
    assert master.lines == ["VERSION\tmaster-client\t1\t0", "SERVICE-STATUS", "SERVICE-STATUS"]


def test_unknown_services_are_68_and_the_others_are_shown(run: Run, master: Peer) -> None:
    code, text, errors = run("-f", "flow", "service", "status", "nosuch", "auth")
    assert (code, errors) == (68, "Error: Unknown service: nosuch\n")
    assert text.startswith("name=auth process_count=1 process_avail=999 ")


def test_stop_tries_every_service(run: Run, master: Peer) -> None:
    assert run("service", "stop", "nosuch", "imap-login") == (68, "", "Error: Unknown service: nosuch\n")
    assert master.lines[1:] == ["STOP\tnosuch", "STOP\timap-login"]


def test_a_stranger_in_the_place_of_the_master(run: Run, base: Path, peer: Callable[..., Peer]) -> None:
    peer("master", "* OK IMAP4rev1\n", lambda line: "")
    assert run("service", "status") == (75, "", f"Fatal: {base}/master is no master of ours\n")


@pytest.mark.parametrize(("reply", "code", "shown"), [
    ("OK\t1\tuser=jo\tproxy\thost=h\tpass=tops3cret\n", 0,
     "passdb: jo auth succeeded\nextra fields:\n  user=jo\n  proxy\n  host=h\n  pass=(hidden)\n"),
    ("FAIL\t1\tuser=jo\ttemp\n", 77, "passdb: jo auth failed\nextra fields:\n  user=jo\n  temp\n")])
def test_auth_test(run: Run, peer: Callable[..., Peer], reply: str, code: int, shown: str) -> None:
    auth = peer("auth-client", "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\tx\nDONE\n",
                lambda line: reply if line.startswith("AUTH") else "")
    assert run("auth", "test", "-x", "service=imap", "jo", "pw") == (code, shown, "")
    request = auth.lines[-1].split("\t")
    assert request[:4] == ["AUTH", "1", "PLAIN", "service=imap"]
    assert base64.b64decode(request[-1].removeprefix("resp=")) == b"\0jo\0pw"


@pytest.mark.parametrize(("scheme", "extra"), [
    ("PLAIN", []), ("SSHA256", []), ("SHA512-CRYPT", []), ("SHA512-CRYPT", ["-u", "jo"]), ("DIGEST-MD5", ["-u", "jo"])])
def test_a_generated_password_verifies(run: Run, scheme: str, extra: list[str]) -> None:
    code, stored, errors = run("pw", "-s", scheme, "-p", "sesame", *extra)
    assert (code, errors) == (0, "")
    assert stored.startswith(f"{{{scheme}}}")
    stored = stored.strip()
    assert run("pw", "-t", stored, "-p", "sesame", *extra) == (0, f"{stored} (verified)\n", "")
    code, text, errors = run("pw", "-t", stored, "-p", "Sesame", *extra)
    assert (code, text) == (75, "")
    assert "Password mismatch" in errors


@pytest.mark.parametrize("words", [["-s", "NOSUCH"], ["-t", "{NOSUCH}x"], ["-t", "{SHA}!"], ["-t", "bare"]])
def test_pw_says_what_it_cannot_read_without_the_password(run: Run, words: list[str]) -> None:
    code, text, errors = run("pw", *words, "-p", "sesame")
    assert (code, text) == (75, "")
    assert errors.startswith("Fatal: ")
    assert "sesame" not in errors


def test_log_find(run: Run) -> None:
    code, text, _ = run("log", "find")
    assert code == 0
    assert text.splitlines()[1] == "Info: /var/log/x"


def test_the_command_reads_no_more_than_it_needs() -> None:
    """`mpadm --help` works and is quick whatever is broken: no configuration, no TLS, no password scheme is loaded."""
    program = ("import sys; from mailproxy.admin.cli import main; main(['--help']); "
               "print(*[name for name in ('ssl', 'mailproxy.config', 'mailproxy.auth.schemes') if name in sys.modules],"
               " file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert done.stderr == "\n"
