"""The small parts of the master."""
from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from mailproxy.errors import ConfigInvalid, MailproxyError
from mailproxy.ipc.contract import Child
from mailproxy.log.pipe import ERROR, FATAL
from mailproxy.master import directories, generation, identity, listen, pidfile, roles, signals, spawn
from mailproxy.master.control import table
from mailproxy.master.masterlog import MasterLog
from mailproxy.master.status import StatusPipe
from tests.fakes import standin


def test_pid_file_is_locked_not_guessed(tmp_path: Path) -> None:
    path = str(tmp_path / "master.pid")
    Path(path).write_text(f"{os.getpid()}\n")               # a number that lives, but holds no lock
    holder = pidfile.PidFile(path)
    holder.lock()
    holder.write()
    assert pidfile.running(path) == os.getpid()
    with pytest.raises(pidfile.AlreadyRunning, match=rf"already running with PID {os.getpid()} \(read from {path}\)"):
        pidfile.PidFile(path).lock()
    holder.remove()
    assert not os.path.exists(path)
    assert pidfile.running(path) == 0


@pytest.mark.parametrize("content", ["", "garbage", "-1"])
def test_pid_file_with_nonsense_is_taken_over(tmp_path: Path, content: str) -> None:
    path = tmp_path / "master.pid"
    path.write_text(content)
    holder = pidfile.PidFile(str(path))
    holder.lock()
    holder.write()
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) in (0o600, 0o644)      # a file that was there keeps its mode
    holder.remove()


@pytest.mark.parametrize(("written", "key"), [
    ("imap-login", "imap-login"), ("/usr/lib/dovecot/imap-login", "imap-login"), ("auth -w", "auth -w"),
    ("/usr/lib/dovecot/auth  -w", "auth -w")])
def test_executables_are_roles_by_their_last_part(written: str, key: str) -> None:
    assert roles.key(written) == key


def test_a_module_that_is_no_role_is_refused() -> None:
    with pytest.raises(MailproxyError, match="it has no prepare"):
        roles.load("mailproxy.errors")
    with pytest.raises(MailproxyError, match=r"can't load mailproxy\.nothing"):
        roles.load("mailproxy.nothing")


@pytest.mark.parametrize(("instance", "title"), [
    ("mailproxy", "mailproxy/auth"), ("mailproxy-r1", "mailproxy-r1/auth"), ("r1", "mailproxy-r1/auth")])
def test_titles(instance: str, title: str) -> None:
    assert generation.title(instance) + "/auth" == title


@pytest.mark.parametrize(("client_limit", "count", "effective"), [(1000, 1, 1), (2, 3, 2), (5, 3, 3), (9, 0, 9)])
def test_client_limit_in_force(client_limit: int, count: int, effective: int) -> None:
    service = standin.Service("x", "echo", client_limit=client_limit, service_count=count)
    assert generation.rules_of(service).client_limit == effective


def test_ranges_leave_out_what_is_kept() -> None:
    ranges = spawn.ranges_without([9, 4, 5, 2], 12)
    assert ranges[:2] == ((3, 4), (6, 9))
    assert ranges[2][0] == 10
    assert ranges[2][1] > 12


def test_users_and_groups_are_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    service = standin.Service("auth", "auth", user="nobody", extra_groups=("root", "daemon"))
    who = identity.resolve(service, "/base")
    assert who.uid == 65534
    assert {0, 1} < set(who.groups)
    service.user = "nosuch"
    with pytest.raises(ConfigInvalid, match=r"^service\(auth\) User doesn't exist: nosuch "
                                            r"\(See service auth \{ user \} setting\)$"):
        identity.resolve(service, "/base")


def test_a_login_service_lives_in_its_own_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    service = standin.Service("imap-login", "x", type="login", user="nobody", chroot="login")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    who = identity.resolve(service, "/base")
    assert (who.chroot, who.directory, who.may_fork) == ("/base/login", "/base/login", False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    who = identity.resolve(service, "/base")
    assert (who.uid, who.chroot, who.directory) == (-1, "", "/base/login")


def opening(base: Path, sockets: listen.Sockets, *, ssl: bool = True) -> listen.Opening:
    return listen.Opening(sockets, str(base), ssl)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_inet_listeners_survive_a_second_pass(tmp_path: Path) -> None:
    sockets = listen.Sockets()
    port = free_port()
    service = standin.Service("a", "x", inet_listeners=(standin.Inet(port, addresses=("127.0.0.1", "127.0.0.2")),))
    first = opening(tmp_path, sockets).service(service, 10)
    again = opening(tmp_path, sockets)
    second = again.service(service, 10)
    assert [one.socket for one in first] == [one.socket for one in second]
    assert first[0].address == ("127.0.0.1", port)
    assert sockets.retain(again.wanted) == []
    service.inet_listeners = (standin.Inet(port, addresses=("127.0.0.2",)),)
    third = opening(tmp_path, sockets)
    third.service(service, 10)
    gone = sockets.retain(third.wanted)
    assert len(gone) == 1
    assert list(sockets.held.values()) == [first[1].socket]
    for end in [*gone, *sockets.retain(set())]:
        end()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        attempt = opening(tmp_path, listen.Sockets())
        attempt.service(standin.Service("imap-login", "x", inet_listeners=(standin.Inet(port),)), 10)
    assert attempt.errors == [f"service(imap-login): listen(127.0.0.1, {port}) failed: Address already in use"]


def test_an_address_of_somebody_else_is_named(tmp_path: Path) -> None:
    attempt = opening(tmp_path, listen.Sockets())
    attempt.service(standin.Service("x", "x", inet_listeners=(standin.Inet(2143, addresses=("192.0.2.9",)),)), 10)
    assert attempt.errors == ["bind(192.0.2.9, 2143) failed: Cannot assign requested address"]


def test_switched_off_listeners_are_not_opened(tmp_path: Path) -> None:
    service = standin.Service("x", "x", unix_listeners=(standin.Unix("a", 0),),
                              inet_listeners=(standin.Inet(0), standin.Inet(1, ssl=True)))
    assert opening(tmp_path, listen.Sockets(), ssl=False).service(service, 10) == ()


def test_the_wildcards_are_one_family_each() -> None:
    assert listen.resolve("*") == [(socket.AF_INET, "0.0.0.0")]
    assert listen.resolve("::") == [(socket.AF_INET6, "::")]
    assert listen.resolve("[::1]") == [(socket.AF_INET6, "::1")]
    with pytest.raises(ConfigInvalid, match="Can't resolve address no such host: Name or service not known"):
        listen.resolve("no such host")


def test_unix_listeners_replace_what_is_stale(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "auth"))
    stale.close()
    service = standin.Service("auth", "x", unix_listeners=(standin.Unix("auth", 0o666),))
    sockets = listen.Sockets()
    found = opening(tmp_path, sockets).service(service, 10)
    assert stat.S_IMODE((tmp_path / "auth").stat().st_mode) == 0o666
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "auth"))
        listen.drop_pending(found)
        assert client.recv(1) == b""
    sockets.retain(set())[0]()
    assert not (tmp_path / "auth").exists()


def test_a_foreign_socket_that_answers_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "theirs"))
        other.listen()
        attempt = opening(tmp_path / "base", listen.Sockets())
        attempt.service(standin.Service("x", "x", unix_listeners=(standin.Unix(str(tmp_path / "theirs")),)), 10)
    assert attempt.errors == [f"service(x): Socket already exists: {tmp_path}/theirs"]


def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("precious")
    attempt = opening(tmp_path, listen.Sockets())
    attempt.service(standin.Service("x", "x", unix_listeners=(standin.Unix("auth"),)), 10)
    assert len(attempt.errors) == 1
    assert (tmp_path / "auth").read_text() == "precious"


def test_directories_are_made_and_corrected(tmp_path: Path) -> None:
    base = tmp_path / "run"
    core = standin.Core(base_dir=str(base), state_dir=str(tmp_path / "state"), default_login_user="nobody")
    assert directories.prepare(core) == []
    assert stat.S_IMODE((base / "login").stat().st_mode) == 0o750
    base.chmod(0o777)
    assert directories.prepare(core) == [f"Corrected permissions of directory {base}: 0777 -> 0755"]
    directories.link_config(str(base), "/a/b.conf")
    directories.link_config(str(base), "/a/c.conf")
    assert os.readlink(base / "mailproxy.conf") == "/a/c.conf"


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(MailproxyError, match=r"mkdir\(.*run\) failed: File exists"):
        directories.prepare(standin.Core(base_dir=str(tmp_path / "run"), default_login_user="nobody"))


def test_status_messages_reach_the_policy() -> None:
    seen: list[tuple[int, int, int]] = []
    pipe = StatusPipe(lambda *message: seen.append(message))
    child = Child("x", "", 7, "/", (), pipe.write_fd, -1, -1)
    child.report(5)
    child.report(4)
    os.write(pipe.write_fd, b"torn")
    pipe.readable(0)
    pipe.readable(0)
    assert seen == [(os.getpid(), 7, 5), (os.getpid(), 7, 4)]
    pipe.close()


def test_the_master_never_waits_for_its_log() -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    log = MasterLog(write_fd)
    for _ in range(300):
        log.info("x" * 3000)
    taken = b""
    while len(taken) < 300 * 3000:
        taken += os.read(read_fd, 65536)
        log.flush()
        if not log._held:
            break
    os.set_blocking(read_fd, False)
    while True:
        try:
            taken += os.read(read_fd, 65536)
        except BlockingIOError:
            break
    assert b"log lines were dropped" in taken
    assert all(line.startswith(b"\x01") for line in taken.split(b"\n")[:-1])
    os.close(read_fd)
    log.error("nobody reads")                   # EPIPE is survived
    os.close(write_fd)


def test_a_line_about_a_child_is_framed() -> None:
    read_fd, write_fd = os.pipe()
    MasterLog(write_fd).about_child(FATAL, "auth", 123, "master: service(auth): child 123 returned\nerror 3")
    assert os.read(read_fd, 4096) == b"\x01\x08123 4 auth master: service(auth): child 123 returned\\nerror 3\n"
    os.close(read_fd)
    os.close(write_fd)


def test_signal_numbers_and_senders() -> None:
    pid = os.fork()
    if not pid:
        try:
            signals.block()
            fd = signals.open_fd()
            os.kill(os.getpid(), signals.signal.SIGHUP)
            arrivals = signals.read(fd)
            good = [(one.number, one.pid, one.code) for one in arrivals] == [(1, os.getpid(), "kill")]
            os._exit(0 if good and signals.read(fd) == [] else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_bug_is_described_without_its_message() -> None:
    try:
        raise ValueError("the password")
    except ValueError as failure:
        text = spawn.describe(failure)
    assert "password" not in text
    assert "ValueError at test_parts.py:" in text


def test_control_rows_cannot_be_broken_up() -> None:
    assert table([["a\tb", "c\n"]]) == "a\\tb\tc\\n\n\n"
    assert ERROR == 3
