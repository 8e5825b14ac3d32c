"""A clumsy administrator and an unlucky kernel: broken reloads, certificates that become something else, killed
processes, programs that misbehave, and systems that have no more descriptors, processes or room.
"""
from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests import servers
from tests.certificates import Authority, Pair
from tests.fakes.attack import Peer
from tests.fakes.dialects import ALL, POP3, Mixed, Words, mixed_settings
from tests.servers import wait_until


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def served(pair: Pair, authority: Authority) -> Pair:
    """Files that the tests may damage."""
    copy = Pair(authority.directory / "served.crt", authority.directory / "served.key")
    shutil.copy(pair.certificate, copy.certificate)
    shutil.copy(pair.key, copy.key)
    return copy


PROGRAM = """#!/bin/sh
case $1 in
flood) while :; do echo "0123456789012345678901234567890123456789 from $1" >&2; done ;;
deaf) trap '' TERM; while :; do sleep 1; done ;;
esac
"""
EXTRA = """
verbose_ssl = no
service flood {
  executable = @dir@/program flood
  user = nobody
  process_limit = 1
  unix_listener flood {
    mode = 0666
  }
}
service quick {
  executable = @dir@/program quick
  user = nobody
  process_min_avail = 1
  process_limit = 2
  unix_listener quick {
    mode = 0666
  }
}
service deaf {
  executable = @dir@/program deaf
  user = nobody
  process_limit = 1
  unix_listener deaf {
    mode = 0666
  }
}
"""


class Place(Mixed):
    """With programs of the administrator's own."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def reload(self, text: str, wanted: str) -> None:
        """Put this text there, send HUP; `wanted` must appear in the log behind that."""
        before = len(self.log())
        self.server.rewrite(text)
        self.server.reload()
        wait_until(lambda: wanted in self.log()[before:], 10.0, f"log line {wanted!r} in {self.log()[before:]}")


@pytest.fixture(scope="module")
def proxy(served: Pair) -> Iterator[Place]:
    directory = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
    directory.chmod(0o755)
    program = directory / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    target = Place(mixed_settings(served, extra=EXTRA.replace("@dir@/program", str(program))))
    try:
        yield target
    finally:
        problems = target.stop()
        shutil.rmtree(directory, ignore_errors=True)
    assert not problems, "\n".join(problems)


# --- reloads ---------------------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "missing certificate": (lambda text: text + "ssl_cert = </nonexistent\n", "/nonexistent"),
    "certificate and key of two pairs": (lambda text: text + "ssl_key = <@dir@/other.key\n",
                                         "Key is for a different cert"),
    "address that is not ours": (lambda text: text + "service pop3-login {\n inet_listener x {\n address = 192.0.2.1\n"
                                                     " port = 40001\n }\n}\n", "bind(192.0.2.1, 40001) failed"),
    "address that is none": (lambda text: text + "listen = no.such.host.invalid\n", "Can't resolve address"),
    "unknown driver": (lambda text: text + "passdb {\n driver = nonsense\n}\n", "Unknown passdb driver"),
    "unknown setting": (lambda text: text + "nonsense = x\n", "Unknown setting: nonsense"),
    "unknown user": (lambda text: text + "default_login_user = nobody-at-all\n", "nobody-at-all"),
    "unknown cipher": (lambda text: text + "ssl_cipher_list = NONSENSE\n", "Can't set cipher list"),
    "no end": (lambda text: text + "service pop3-login {\n", "Missing '}'"),
    "nothing at all": (lambda text: "", "base_dir can't be changed by a reload"),
    "a missing program": (lambda text: text + "service x {\n executable = /nonexistent\n}\n", "/nonexistent"),
    "a file in the place of a socket": (lambda text: text + "service x {\n executable = /bin/true\n user = nobody\n"
                                        " unix_listener @dir@/server.conf {\n mode = 0600\n }\n}\n", "is no socket"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_reload_changes_nothing(proxy: Place, authority: Authority, name: str) -> None:
    change, wanted = BROKEN[name]
    shutil.copy(authority.issue("other").key, proxy.server.directory / "other.key")
    workers = {words.name: proxy.worker(words).pid for words in ALL}
    try:
        proxy.reload(change(proxy.text), wanted)
        time.sleep(0.2)
        assert {words.name: proxy.worker(words).pid for words in ALL} == workers
        assert "Configuration reloaded" not in proxy.log()
        proxy.check()
    finally:
        proxy.server.rewrite(proxy.text)


def test_a_reload_with_a_port_that_is_taken(pair: Pair) -> None:
    """As in Dovecot that port is missing, which is said; everything else goes on."""
    text = mixed_settings(pair)
    target = Place(text)
    try:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            target.reload(text + f"service pop3-login {{\n inet_listener x {{\n port = {port}\n }}\n}}\n",
                          f"service(pop3-login): listen(127.0.0.1, {port}) failed: Address already in use")
        for words in ALL:
            target.canaries[words.name].send(words.ping + b"\r\n")
            assert target.canaries[words.name].line() == words.pong + b"\r\n"
            wait_until(lambda words=words: served_again(target, words), 5.0, "a login")  # type: ignore[misc]
    finally:
        problems = target.stop()
    assert not problems, "\n".join(problems)


# --- certificates ----------------------------------------------------------------------------------------------------

def _to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _to_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _to_terminal(path: Path) -> None:
    path.unlink()
    path.symlink_to(os.ttyname(os.openpty()[1]))


def _to_garbage(path: Path) -> None:
    path.write_bytes(os.urandom(3000))


def _to_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def _to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


#: All in one test, since the files are looked at every five seconds.
DAMAGES: tuple[Callable[[Path], None], ...] = (
    _to_directory, _to_fifo, _to_device, _to_terminal, _to_garbage, _to_half, _to_nothing, _to_itself, Path.unlink)


def test_certificates_that_become_something_else(pair: Pair, authority: Authority, proxy: Place) -> None:
    """Each name's file is damaged in its own way, all at once: every old certificate stays in use, the log says why,
    once; the master does not hang; and when the files are whole again, they are used."""
    text, copies = "", []
    for number, damage in enumerate(DAMAGES):
        fresh = authority.issue(f"n{number}.test")
        copies.append((damage, fresh, fresh.certificate.read_bytes()))
        text += f"local_name n{number}.test {{\n ssl_cert = <{fresh.certificate}\n ssl_key = <{fresh.key}\n}}\n"
    target = Place(mixed_settings(pair, extra=text))
    try:
        old = [certificate_of(target, f"n{number}.test") for number in range(len(DAMAGES))]
        assert len(set(old)) == len(DAMAGES)
        for damage, fresh, _ in copies:
            damage(fresh.certificate)
        for _, fresh, _ in copies:
            target.logged(f"Can't use the renewed certificate ({fresh.certificate}", 20.0)
        assert [certificate_of(target, f"n{number}.test") for number in range(len(DAMAGES))] == old
        assert target.log().count("Can't use the renewed certificate") == len(DAMAGES)
        for _, fresh, data in copies:
            if fresh.certificate.is_dir():
                fresh.certificate.rmdir()
            else:
                fresh.certificate.unlink(missing_ok=True)
            renewed = authority.issue(fresh.certificate.name)
            fresh.key.write_bytes(renewed.key.read_bytes())
            fresh.certificate.write_bytes(renewed.certificate.read_bytes())
            assert renewed.certificate.read_bytes() != data
        wait_until(lambda: all(certificate_of(target, f"n{number}.test") != was for number, was in enumerate(old)),
                   20.0, "the new certificates")
        target.check()
    finally:
        problems = target.stop()
    assert not problems, "\n".join(problems)
    assert proxy.log()


def certificate_of(target: Mixed, name: str) -> bytes:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{target.server.port['pop3s']}", "-servername", name]
    said = subprocess.run(command, input=b"QUIT\r\n", capture_output=True, timeout=10, check=False).stdout
    return said.partition(b"-----BEGIN CERTIFICATE-----")[2].partition(b"-----END")[0]


# --- processes -------------------------------------------------------------------------------------------------------

def served_again(target: Mixed, words: Words) -> bool:
    with contextlib.suppress(OSError, AssertionError):
        target.login(words).close()
        return True
    return False


@pytest.mark.parametrize("words", ALL, ids=lambda words: words.name)
def test_kill_the_login_processes(pair: Pair, words: Words) -> None:
    """The other protocols do not notice; the killed one is back at once."""
    target = Mixed(mixed_settings(pair))
    try:
        for _ in range(3):
            target.worker(words).kill()
            start = time.monotonic()
            wait_until(lambda: served_again(target, words), 5.0, "another login process")
            assert time.monotonic() - start < 3.0
            time.sleep(0.15)
        assert "killed with signal 9" in target.log()
        for other in ALL:
            if other is not words:
                target.canaries[other.name].send(other.ping + b"\r\n")
                assert target.canaries[other.name].line() == other.pong + b"\r\n"
                assert target.worker(other).pid == target.pids[other.name]
    finally:
        problems = target.stop()
    assert not problems, "\n".join(problems)


def children_named(target: Mixed, word: str) -> list[psutil.Process]:
    found = []
    for child in target.server.children():
        with contextlib.suppress(psutil.Error):
            if any(part == word for part in child.cmdline()):
                found.append(child)
    return found


def test_a_program_that_ends_at_once_is_not_started_over_and_over(proxy: Place) -> None:
    before = proxy.log().count("service(quick)")
    wake(proxy, "quick")
    time.sleep(2.0)
    wake(proxy, "quick")
    assert proxy.log().count("service(quick)") - before < 12
    assert "quick" in proxy.log()
    proxy.check()


def wake(target: Mixed, name: str) -> None:
    """Connect to a service of the administrator's own; it never answers."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(0.2)
        with contextlib.suppress(OSError):
            sock.connect(str(target.server.directory / "run" / name))
            sock.recv(1)


def test_a_program_that_fills_its_stderr_without_end(proxy: Place) -> None:
    """Others log and log in meanwhile; after its end the rest is quiet."""
    wake(proxy, "flood")
    wait_until(lambda: bool(children_named(proxy, "flood")), 5.0, "the program")
    try:
        wait_until(lambda: proxy.log().count("from flood") > 1000, 10.0, "the flood")
        for words in ALL:
            start = time.monotonic()
            proxy.login(words).close()
            assert time.monotonic() - start < 3.0
        marker = b"%d@plain" % os.getpid()
        with proxy.peer(POP3) as peer:
            peer.send(POP3.login(marker, b"wrong"))
            POP3.answer(peer)
        proxy.logged(f"user=<{marker.decode()}>", 10.0)
        assert psutil.Process(proxy.server.process.pid).memory_info().rss < 200 << 20
    finally:
        stop_program(proxy, "flood")
    for child in proxy.server.children():
        with contextlib.suppress(psutil.Error):
            assert child.memory_info().rss < 200 << 20
    os.truncate(proxy.server.log, 0)


def stop_program(target: Mixed, name: str) -> None:
    """Its service first, so that nobody starts it again."""
    conf = str(target.server.conf)
    subprocess.run([sys.executable, str(servers.PROJECT / "master.py"), "-c", conf, "service", "stop", name],
                   check=True, timeout=10, capture_output=True)
    for child in children_named(target, name):
        with contextlib.suppress(psutil.Error):
            child.kill()


def test_kill_a_program(proxy: Place) -> None:
    wake(proxy, "deaf")
    wait_until(lambda: bool(children_named(proxy, "deaf")), 5.0, "the program")
    children_named(proxy, "deaf")[0].kill()
    proxy.logged("killed with signal 9")

    def again() -> bool:
        wake(proxy, "deaf")
        return bool(children_named(proxy, "deaf"))
    wait_until(again, 10.0, "the program again")
    proxy.check()


def test_kill_anvil(proxy: Place) -> None:
    for _ in range(3):
        for child in proxy.server.children():
            with contextlib.suppress(psutil.Error):
                if child.cmdline() and child.cmdline()[0].endswith("/anvil"):
                    child.kill()
        for words in ALL:
            proxy.login(words).close()
        with proxy.peer(POP3) as peer:
            peer.send(POP3.login(proxy.user(POP3), b"wrong"))
            assert POP3.answer(peer).startswith(b"-ERR [AUTH]")
        time.sleep(0.2)
    proxy.check()


def test_the_end_waits_for_nobody(served: Pair) -> None:
    """Sessions in each state and a program that ignores TERM: TERM ends it all within seconds."""
    directory = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
    directory.chmod(0o755)
    program = directory / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    target = Mixed(mixed_settings(served, extra=EXTRA.replace("@dir@/program", str(program))))
    try:
        wake(target, "deaf")
        wait_until(lambda: bool(children_named(target, "deaf")), 5.0, "the program")
        crowd = [Peer(target.server.port[words.name + "s" * (number % 2)]) for words in ALL for number in range(20)]
        start = time.monotonic()
        target.server.process.send_signal(signal.SIGTERM)
        target.server.process.wait(12.0)
        assert time.monotonic() - start < 10.0
        for peer in crowd:
            peer.close()
    finally:
        problems = target.stop()
        shutil.rmtree(directory, ignore_errors=True)
    assert not problems, "\n".join(problems)


# --- the kernel says no ----------------------------------------------------------------------------------------------

def limited(text: str, *, limits: list[str], user: str = "") -> servers.Server:
    directory = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
    directory.chmod(0o755)
    if user:
        shutil.chown(directory, user)
    drop = ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups"] if user else []
    return servers.Server([*drop, "prlimit", *limits, sys.executable, str(servers.PROJECT / "master.py")], text,
                          directory)


def end(server: servers.Server) -> None:
    problems = server.stop()
    shutil.rmtree(server.directory, ignore_errors=True)
    assert not problems, "\n".join(problems)


def test_few_descriptors(pair: Pair) -> None:
    """With 64 a start may be refused in words, or it works; a crowd then gets what there is, and nobody dies."""
    server = limited(mixed_settings(pair), limits=["--nofile=64:64"])
    try:
        try:
            server.wait("pop3", "sieve", "submission")
        except AssertionError:
            assert server.process.wait(5.0) in (89, 81), server.output()
            assert "Too many open files" in server.output() + server.log_text(), server.output()
            return
        crowd = [Peer(server.port["pop3"]) for _ in range(200)]
        time.sleep(0.5)
        for peer in crowd:
            peer.close()

        def greets() -> bool:
            with contextlib.suppress(OSError), Peer(server.port["pop3"]) as peer:
                peer.sock.settimeout(1.0)
                return peer.line().startswith(b"+OK")
            return False
        wait_until(greets, 8.0, "a greeting")
        assert server.process.poll() is None
        assert len(server.log_text().splitlines()) < 500
    finally:
        end(server)


def test_listeners_without_descriptors(pair: Pair) -> None:
    """Who cannot accept says so now and then, and neither fills the log nor the processor."""
    server = limited(mixed_settings(pair), limits=["--nofile=256:256"])
    try:
        server.wait("pop3", "sieve", "submission")
        for name in ("anvil", "auth-client"):
            role, before = "anvil" if name == "anvil" else "auth", server.log_text().count("Too many open files")
            process = next(child for child in server.children() if child.cmdline()[0].endswith(f"/{role}"))
            spent = sum(process.cpu_times()[:2])
            with contextlib.ExitStack() as stack:
                for _ in range(300):
                    sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                    sock.settimeout(0.1)
                    with contextlib.suppress(OSError):
                        sock.connect(str(server.directory / "run" / name))
                wait_until(lambda before=before: server.log_text().count("Too many open files") > before, 5.0, "a word")  # type: ignore[misc]
                time.sleep(1.2)
                assert server.log_text().count("Too many open files") - before < 10
                assert sum(process.cpu_times()[:2]) - spent < 0.5
    finally:
        end(server)


@pytest.mark.parametrize("processes", [4, 7])
def test_few_processes(authority: Authority, processes: int) -> None:
    """fork(2) fails: it is said, not over and over, and what runs goes on; TERM ends it."""
    pair = authority.issue("localhost", "127.0.0.1")
    for path in (pair.certificate, pair.key):
        path.chmod(0o644)
    authority.directory.chmod(0o755)
    text = mixed_settings(pair).replace("default_login_user = nobody", "default_login_user = games") \
        .replace("default_internal_user = daemon", "default_internal_user = games") \
        .replace("default_internal_group = daemon", "default_internal_group = nogroup")
    server = limited(text, limits=[f"--nproc={processes}:{processes}"], user="games")
    try:
        wait_until(lambda: "fork() failed: Resource temporarily unavailable" in server.log_text() + server.output()
                   or server.process.poll() is not None, 10.0, "a word about it")
        time.sleep(1.5)
        said = server.log_text() + server.output()
        assert "fork() failed: Resource temporarily unavailable" in said, said
        assert len(said.splitlines()) < 200, said[-3000:]
        assert server.process.poll() in (None, 89, 81), said
    finally:
        end(server)


def test_services_have_no_secrets_in_ps(proxy: Place) -> None:
    for child in [*proxy.server.children(), psutil.Process(proxy.server.process.pid)]:
        with contextlib.suppress(psutil.Error):
            assert "sesame" not in " ".join(child.cmdline())
