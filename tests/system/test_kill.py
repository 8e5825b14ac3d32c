"""A brutal operator: processes are killed, stopped and starved under a running login load.

After each blow the master has replaced what is gone, other sessions live on, new logins work at once, and after many
blows no descriptor, process or memory is left over.
"""
from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mailproxy.ipc.contract import parse_status
from mailproxy.log.pipe import Log
from mailproxy.log.process import Pipe, Writer
from mailproxy.log.sink import Settings
from mailproxy.login.authclient import AuthClient
from mailproxy.net.loop import Loop
from tests import servers
from tests.certificates import Authority, Pair
from tests.fakes.attack import PASSWORD, Load, Peer, Target, backend, dialogue, memory, settings

MEGABYTE = 1 << 20
#: Seconds from a blow to the next login that works: measured a tenth of it; the bound leaves room for a busy machine.
RECOVERY = 2.0
ROUNDS = 20
#: Between two blows to one service: more than ten deaths a second are a crash loop, which the master slows down.
PAUSE = 0.12


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("localhost", "127.0.0.1")


@pytest.fixture
def start(pair: Pair) -> Iterator[Callable[..., Target]]:
    """start(...) takes the arguments of settings()."""
    running: list[Target] = []

    def begin(**how: object) -> Target:
        running.append(Target(settings(pair, **how)))       # type: ignore[arg-type]
        return running[-1]
    yield begin
    problems = [problem for target in running for problem in target.stop()]
    assert not problems, "\n".join(problems)


def works_again(target: Target, user: bytes = b"") -> float:
    """Seconds until a login succeeds."""
    begin = time.monotonic()
    while True:
        with contextlib.suppress(AssertionError, OSError), target.login(user) as fresh:
            assert fresh.ask(b"d NOOP") == b"d OK NOOP\r\n"
            return time.monotonic() - begin
        assert time.monotonic() - begin < 10.0, target.log()[-3000:]
        time.sleep(0.01)


def worker_of(target: Target, peer: Peer) -> psutil.Process:
    """The login process that serves this client."""
    port = peer.sock.getsockname()[1]
    for process in target.processes("imap-login"):
        if any(conn.raddr and conn.raddr[1] == port for conn in process.net_connections("tcp")):
            return process
    raise AssertionError("nobody serves it")


def sizes(target: Target) -> dict[str, int]:
    """Descriptors of the processes that stay, and the number of all."""
    master = psutil.Process(target.server.process.pid)
    found = {"processes": len(master.children()), "master": master.num_fds()}
    for name in ("auth", "log"):
        found[name] = target.process(name).num_fds()
    return found


def settled(target: Target, wanted: dict[str, int], slack: int = 0) -> None:
    """Everything is back to the numbers of the start."""
    def is_back() -> bool:
        with contextlib.suppress(AssertionError, psutil.Error):
            now = sizes(target)
            return all(now[name] <= wanted[name] + slack for name in wanted)
        return False
    try:
        servers.wait_until(is_back, 8.0)
    except AssertionError:
        raise AssertionError(f"{wanted} became {sizes(target)}") from None


def test_kill_login_workers(start: Callable[..., Target]) -> None:
    """Only the sessions of the killed one end."""
    target = start(process_limit=4, extra="service imap-login {\n  process_min_avail = 2\n}\n")
    home = worker_of(target, target.canary).pid
    works_again(target)
    before = sizes(target)
    load = Load(target)
    slowest = 0.0
    for _ in range(ROUNDS):
        servers.wait_until(lambda: len(target.workers() - {home}) > 0, RECOVERY, "the replacement")
        victims = [process for process in target.processes("imap-login") if process.pid != home]
        victims[0].kill()
        slowest = max(slowest, works_again(target))
        assert target.canary.ask(b"c NOOP") == b"c OK NOOP\r\n"
        time.sleep(PAUSE)
    load.stop()
    assert slowest < RECOVERY
    assert load.done > ROUNDS
    settled(target, before)
    assert target.log().count("killed with signal 9") == ROUNDS


def test_kill_auth(start: Callable[..., Target]) -> None:
    """Logins in progress get a temporary failure, never a wrong password; the rest notices nothing."""
    target = start()
    before = sizes(target)
    load = Load(target)
    slowest = 0.0
    for _ in range(ROUNDS):
        time.sleep(PAUSE)
        target.process("auth").kill()
        slowest = max(slowest, works_again(target))
        assert target.canary.ask(b"c NOOP") == b"c OK NOOP\r\n"
    load.stop()
    assert slowest < RECOVERY
    assert load.done > ROUNDS
    assert {failure[:17] for failure in load.failures} <= {"a NO [UNAVAILABLE"}
    assert target.workers() == target.pids
    settled(target, before)


def test_kill_auth_workers(start: Callable[..., Target], short_dir: Path) -> None:
    """A blocking database: the request is given to another worker, or is a temporary failure."""
    with contextlib.closing(sqlite3.connect(short_dir / "users.db")) as database:
        database.execute("CREATE TABLE users (name TEXT, password TEXT)")
        database.execute("INSERT INTO users VALUES ('sql', 'sesame')")
        database.commit()
    (short_dir / "users.db").chmod(0o644)
    (short_dir / "sql.conf").write_text(
        f"driver = sqlite\nconnect = {short_dir}/users.db\ndefault_pass_scheme = PLAIN\npassword_query = SELECT "
        "password, 'y' AS proxy, '127.0.0.1' AS host, '%n' AS port FROM users WHERE name = '%d'\n")
    target = start(extra="passdb {\n  driver = sql\n  username_filter = *@sql\n"
                         f"  args = {short_dir}/sql.conf\n}}\n")
    user = target.backend.user("sql")
    works_again(target, user)
    before = sizes(target)
    slowest = 0.0
    for _ in range(ROUNDS):
        time.sleep(PAUSE)
        for process in target.processes("auth-worker"):
            process.kill()
        slowest = max(slowest, works_again(target, user))
        assert target.canary.ask(b"c NOOP") == b"c OK NOOP\r\n"
    assert slowest < RECOVERY
    assert "AUTHENTICATIONFAILED" not in target.log()
    settled(target, before, 1)


def test_kill_the_log(start: Callable[..., Target]) -> None:
    """What was in the pipes is written by the successor; only what the dead one had read already may be lost."""
    target = start()
    before = sizes(target)
    load = Load(target, 2)
    for number in range(ROUNDS):
        victim = target.process("log")
        victim.kill()
        for burst in range(5):
            with target.peer() as peer:
                peer.ask(b'a AUTHENTICATE NONE-%d-%d x' % (number, burst))
                assert peer.ask(b"x LOGOUT").startswith(b"x OK")
        works_again(target)
        servers.wait_until(lambda dead=victim.pid: any(process.pid != dead for process in target.processes("log")), 5.0)
    load.stop()
    target.canary.ask(b"c NOOP")
    servers.wait_until(lambda: f"method=NONE-{ROUNDS - 1}-4," in target.log(), 5.0)
    written = sum(f"method=NONE-{number}-{burst}," in target.log() for number in range(ROUNDS) for burst in range(5))
    assert written == ROUNDS * 5
    assert not load.failures
    settled(target, before)


def test_reload_under_load(start: Callable[..., Target]) -> None:
    """HUP: no login fails, no session ends."""
    target = start(process_limit=3, extra="service imap-login {\n  process_min_avail = 2\n}\n")
    load = Load(target, 2)
    tls = Load(target, 1, tls=True)
    sessions = [target.login() for _ in range(10)]
    for number in range(4):
        target.server.reload()
        servers.wait_until(lambda want=number + 1: target.log().count("Configuration reloaded") == want, 5.0)
        time.sleep(0.2)
    load.stop()
    tls.stop()
    assert not load.failures
    assert not tls.failures
    assert load.slowest < RECOVERY
    for session in [target.canary, *sessions]:
        assert session.ask(b"e NOOP") == b"e OK NOOP\r\n"
        if session is not target.canary:
            session.close()
    target.canary.close()
    target.canary = target.login()
    master = psutil.Process(target.server.process.pid)
    servers.wait_until(lambda: len(master.children()) <= 4 + 1, 8.0, "the end of the old generations")


def test_a_broken_reload_changes_nothing(start: Callable[..., Target], pair: Pair) -> None:
    target = start()
    good = target.server.conf.read_text()
    load = Load(target, 1)
    key = pair.key.read_bytes()
    before = sizes(target)
    try:
        for text, reason in (("foo = 1\n", "Unknown setting: foo"), (good + "service imap-login {\n", ""),
                             (good.replace(f"ssl_key = <{pair.key}", "ssl_key = </nonexistent/key"),
                              "/nonexistent/key"),
                             (good.replace("default_login_user = nobody", "default_login_user = no-such-user"),
                              "no-such-user"),
                             (good.replace(str(target.server.log), "/nonexistent/directory/log"), "/nonexistent/"),
                             ("\0\xff" * 500, "")):
            said = target.log().count("Config reload failed") + target.log().count("Error reading configuration")
            target.server.conf.write_text(text)
            target.server.reload()
            servers.wait_until(lambda said=said: target.log().count("Config reload failed") + target.log().count(
                "Error reading configuration") > said, 5.0, f"a complaint about {reason}")
            assert reason in target.log()
            target.check()
        target.server.conf.unlink()
        target.server.reload()
        time.sleep(0.3)
        target.check()
    finally:
        target.server.conf.write_text(good)
        pair.key.write_bytes(key)
    load.stop()
    assert not load.failures
    settled(target, before)
    assert "Configuration reloaded" not in target.log()


def test_a_reload_without_descriptors(start: Callable[..., Target]) -> None:
    """The master at RLIMIT_NOFILE: the reload fails wherever the descriptors end, and nothing else does."""
    target = start()
    master = psutil.Process(target.server.process.pid)
    old = master.rlimit(psutil.RLIMIT_NOFILE)
    before = sizes(target)
    try:
        for number, spare in enumerate((0, 1, 3, 5, 7, 9, 12)):
            top = max(int(name) for name in os.listdir(f"/proc/{master.pid}/fd"))
            master.rlimit(psutil.RLIMIT_NOFILE, (top + 1 + spare, old[1]))
            target.server.reload()
            servers.wait_until(lambda want=number + 1: target.log().count("SIGHUP received") == want, 5.0)
            time.sleep(0.1)
            target.check()
    finally:
        master.rlimit(psutil.RLIMIT_NOFILE, old)
    assert "failed" in target.log()
    assert "Configuration reloaded" not in target.log()
    settled(target, before, 10)         # what the rehearsal of the login service had just opened


def test_term_under_load(start: Callable[..., Target]) -> None:
    target = start(process_limit=3)
    load = Load(target, 3)
    time.sleep(0.5)
    begin = time.monotonic()
    target.server.process.terminate()
    assert target.server.process.wait(8.0) == 0
    assert time.monotonic() - begin < 4.0
    load.stop()
    assert load.done > 10
    assert target.canary.everything() == b""
    with pytest.raises(ConnectionRefusedError):
        Peer(target.port())


def test_kill_the_master(start: Callable[..., Target]) -> None:
    """Nobody is left to supervise: the sessions live on, nothing new is accepted, and then everything ends."""
    target = start()
    children = target.server.children()
    target.server.process.kill()
    target.server.process.wait()
    time.sleep(0.3)
    assert target.canary.ask(b"c NOOP") == b"c OK NOOP\r\n"
    with contextlib.suppress(OSError), Peer(target.port()) as late:
        late.sock.settimeout(1.0)
        assert late.line() == b""
    target.canary.close()
    _, left = psutil.wait_procs(children, 5.0)
    assert not left


def test_a_full_disk(start: Callable[..., Target]) -> None:
    """A log that cannot be written stops nobody."""
    target = start(log="/dev/full")
    load = Load(target, 2)
    for _ in range(20):
        target.check()
    load.stop()
    assert not load.failures


def test_a_log_at_its_size_limit(pair: Pair) -> None:
    """RLIMIT_FSIZE on the log process: lines are lost and counted; the service goes on, and after the limit is lifted
    lines are written again."""
    target = Target(settings(pair))
    try:
        log = target.process("log")
        size = target.server.log.stat().st_size
        log.rlimit(psutil.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
        load = Load(target, 3)
        time.sleep(1.0)
        load.stop()
        assert not load.failures
        assert target.process("log").pid == log.pid
        log.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        target.check()
        target.logged("were lost")
    finally:
        problems = target.stop()
    assert not problems


def test_auth_sleeps(start: Callable[..., Target]) -> None:
    """SIGSTOP: who logs in waits and gets the right answer; sessions, greetings and commands go on meanwhile."""
    target = start()
    auth, worker = target.process("auth"), target.process("imap-login")
    auth.suspend()
    try:
        login = b" LOGIN %b %b\r\n" % (target.backend.user(), PASSWORD.encode())
        peers = [target.peer() for _ in range(50)]
        for peer in peers:
            peer.send(b"a" + login)
        before = memory(worker)
        wanted = 1200
        for _ in range(wanted):                     # who gives up leaves nothing behind
            with target.peer() as peer:
                peer.send(b"a AUTHENTICATE PLAIN " + b64encode(b"\0u\0" + b"x" * 5000) + b"\r\n")
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            assert target.canary.ask(b"c NOOP") == b"c OK NOOP\r\n"
            with target.peer() as peer:
                assert peer.ask(b"n NOOP") == b"n OK NOOP completed.\r\n"
            time.sleep(0.1)
        grown = memory(worker) - before
    finally:
        auth.resume()
    for peer in peers:
        assert peer.reply(b"a").startswith(b"a OK ")
        peer.close()
    assert grown < 4 * MEGABYTE
    target.check()


def test_crowd_that_says_nothing(start: Callable[..., Target]) -> None:
    """200 silent clients at a service for 50: the oldest make room, an honest client gets in."""
    target = start(client_limit=50)
    crowd: list[Peer] = []
    before = sizes(target)
    try:
        for _ in range(2):
            crowd += [Peer(target.port()) for _ in range(100)]
            assert works_again(target) < 2 * RECOVERY       # the master tells a service that it is full every 2 s
        assert target.canary.ask(b"c NOOP") == b"c OK NOOP\r\n"
        assert target.workers() == target.pids
    finally:
        for peer in crowd:
            peer.close()
    target.check()
    settled(target, before)
    assert "Connection queue full" in target.log()


def test_the_login_timeout(pair: Pair) -> None:
    """Who does not log in is sent away, in whatever phase he lingers; dripping bytes gain no time."""
    target = Target(settings(pair), argv=[sys.executable, str(servers.PROJECT / "tests/fakes/impatient.py")])
    try:
        phases = [b"", b"a NO", b"a LOGIN {5}\r\nab", b"a AUTHENTICATE PLAIN\r\n", b"a STARTTLS\r\n",
                  b"a STARTTLS\r\n\x16\x03\x01"]
        begin = time.monotonic()
        peers = [(phase, target.peer()) for phase in phases * 30]
        for phase, peer in peers:
            peer.send(phase)
        silent = [Peer(target.port("imaps")) for _ in range(30)]
        drip = target.peer()
        with contextlib.suppress(OSError):
            while time.monotonic() - begin < 6.0:
                drip.send(b"A")
                time.sleep(0.05)
        assert 1.5 < time.monotonic() - begin < 4.0
        for phase, peer in peers:
            said = peer.everything()
            assert b"TLS" in phase or said.endswith(b"* BYE Disconnected for inactivity.\r\n"), (phase, said)
            peer.close()
        for peer in silent:
            assert peer.everything() == b""
            peer.close()
        drip.close()
        target.check()
        target.quiet()
    finally:
        problems = target.stop()
    assert not problems


def test_out_of_descriptors(pair: Pair) -> None:
    """A worker at RLIMIT_NOFILE: some clients wait or get a temporary failure, bulk transfers go on, nobody dies."""
    target = Target(settings(pair), argv=["prlimit", "--nofile=100:100", sys.executable,
                                          str(servers.PROJECT / "master.py")])
    try:
        before = sizes(target)
        with backend(pour) as source:
            peer = target.login(source.user())
            crowd = [Peer(target.port()) for _ in range(110)]
            target.logged("accept() failed: Too many open files")
            read = len(peer.rest)
            while read < POURED:
                data = peer.sock.recv(MEGABYTE)
                assert data
                read += len(data)
            target.process("auth").kill()           # connecting again takes a descriptor, too
            time.sleep(0.5)
            assert target.canary.ask(b"c NOOP") == b"c OK NOOP\r\n"
            for each in [*crowd, peer]:
                each.close()
        assert works_again(target) < 3.0
        target.check()
        settled(target, before, 2)
    finally:
        problems = target.stop()
    assert not problems


POURED = 8 * MEGABYTE


def pour(peer: Peer) -> None:
    dialogue(peer)
    peer.send(b"x" * POURED)
    peer.line()


def test_permission_problems_at_start(short_dir: Path, pair: Pair) -> None:
    """What the service may not read or write is named, with exit code 89 and no traceback; nothing stays behind."""
    text = settings(pair).replace("@imaps@", "0").replace("@imap@", "0")
    (short_dir / "file").write_text("x")
    for change, reason in (("base_dir = @dir@/run|base_dir = @dir@/file", "File exists"),
                           ("log_path = @dir@/log|log_path = @dir@/none/log", "log"),
                           (f"ssl_key = <{pair.key}|ssl_key = <@dir@", "Is a directory"),
                           ("default_login_user = nobody|default_login_user = nosuch", "nosuch")):
        old, new = change.split("|")
        assert old in text
        conf = short_dir / "conf"
        conf.write_text(text.replace(old, new).replace("@dir@", str(short_dir)))
        done = subprocess.run([sys.executable, "master.py", "-F", "-c", str(conf)], cwd=servers.PROJECT, timeout=20,
                              capture_output=True, text=True, check=False)
        assert done.returncode in (80, 89), done
        assert reason in done.stderr
        assert "Traceback" not in done.stderr
        assert not (short_dir / "run" / "master.pid").exists()


# --- siblings --------------------------------------------------------------------------------------------------------

def test_garbage_in_the_status_pipe() -> None:
    """A child that writes nonsense costs the master nothing but the nonsense."""
    for size in range(0, 200, 7):
        rows = parse_status(os.urandom(size))
        assert len(rows) == size // 12


def test_garbage_in_a_log_pipe(tmp_path: Path) -> None:
    """Any bytes become lines of the service that wrote them: printable, bounded, nothing raised."""
    path = tmp_path / "log"
    writer = Writer(Settings(log_path=str(path), log_timestamp=""))
    pipe = Pipe(-1, "imap-login")
    chunks = [b"\x01\n", b"\x01", b"\n", b"\x01\x02\n", b"\x01\x09\n", b"\x01\x00\n", b"\x01\xff1 x\n",
              b"\x01\x081 2 x y\n",
              b"\x01\x08\n", b"A" * 100_000 + b"\n", b"\0" * 5000 + b"\n", b"\x01\x021\n", b"\xff\xfe\n",
              *(os.urandom(500) + b"\n" for _ in range(50))]
    for chunk in chunks:
        writer.begin()
        writer.feed(pipe, chunk)
        writer.end()
    writer.finish(pipe)
    writer.end()
    text = path.read_bytes()
    assert all(line.startswith(b"imap-login: ") for line in text.split(b"\n")[:-1])
    assert not any(byte < 32 and byte not in (9, 10) for byte in text), text


class Asking:
    """A session that waits for the auth server."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def auth_ok(self, fields: dict[str, str]) -> None:
        self.said.append("ok")

    def auth_failed(self, fields: dict[str, str]) -> None:
        self.said.append("failed")

    def auth_continue(self, challenge: bytes) -> None:
        self.said.append("continue")

    def auth_lost(self) -> None:
        self.said.append("lost")


HANDSHAKE = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n"


@pytest.mark.parametrize(("greeting", "answer", "outcome"), [
    (b"\0\xff" * 500 + b"\n", b"", []),
    (b"A" * 100_000, b"", []),
    (b"VERSION\t9\t0\n", b"", []),
    (b"MECH\n" * 1000, b"", []),
    (b"VERSION\t1\nDONE\n", b"", []),
    (HANDSHAKE, b"B" * 100_000, ["lost"]),
    (HANDSHAKE, bytes(range(11, 256)) * 8 + b"\n", ["lost"]),
    (HANDSHAKE, b"\n", ["lost"]),
    (HANDSHAKE, b"OK\n", ["lost"]),
    (HANDSHAKE, b"OK\t" + b"1" * 10_000 + b"\n", ["lost"]),
    (HANDSHAKE, "OK\t\u0661\tuser=x\n".encode(), ["ok"]),
    (HANDSHAKE, b"OK\t77\tuser=x\nFAIL\t99999999\nCONT\t5\tAA==\nFAIL\t1\n", ["failed"]),
    (HANDSHAKE, b"WHAT\t1\n", ["lost"]),
    (HANDSHAKE, b"OK\t1\t=\t==\t\t\x01\t\x01\x01=\n" * 3, ["ok"]),
    (HANDSHAKE, b"CONT\t1\nCONT\t1\t\xff\xff\nFAIL\t1\n", ["continue", "continue", "failed"]),
], ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else None)
def test_an_auth_server_that_talks_nonsense(short_dir: Path, greeting: bytes, answer: bytes,
                                            outcome: list[str]) -> None:
    """The login process keeps its sessions: who waits gets a temporary failure, and it connects again."""
    path = str(short_dir / "auth")
    loop = Loop()
    connections = []
    null = os.open(os.devnull, os.O_WRONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(5)
        server.settimeout(3.0)
        client = AuthClient(loop, Log(null), lambda: None, path)
        try:
            connection, _ = server.accept()
            connections.append(connection)
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                connection.send(greeting)
            turn(loop)
            session = Asking()
            if answer:
                assert client.ask(session, "PLAIN", "service=imap", b"AA==") == 1
                turn(loop)
                with contextlib.suppress(BlockingIOError):
                    connection.send(answer)
                turn(loop)
            assert session.said == outcome
            if outcome == ["lost"] or greeting.startswith((b"A", b"VERSION\t9")):
                turn(loop, 0.3)
                again, _ = server.accept()
                connections.append(again)
        finally:
            client.close()
            for connection in connections:
                connection.close()
            loop.close()
            os.close(null)


def turn(loop: Loop, seconds: float = 0.02) -> None:
    """Let it work for a moment."""
    loop.call_later(seconds, loop.stop)
    loop.run()


def test_a_stopped_master(start: Callable[..., Target]) -> None:
    """SIGSTOP of the master: what runs goes on without it."""
    target = start()
    os.kill(target.server.process.pid, signal.SIGSTOP)
    try:
        for _ in range(5):
            with target.login() as fresh:
                assert fresh.ask(b"d NOOP") == b"d OK NOOP\r\n"
    finally:
        os.kill(target.server.process.pid, signal.SIGCONT)
    target.check()
