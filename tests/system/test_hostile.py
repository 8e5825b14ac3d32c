"""Hostile clients against a running proxy.  After each attack the worker and its other sessions must be as before."""
from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import ssl
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailproxy import config
from mailproxy.log.pipe import Log
from mailproxy.login import setup
from mailproxy.login.connection import Connection
from mailproxy.net.loop import IN, Loop
from tests import servers
from tests.certificates import Authority
from tests.fakes.attack import GREETING, PASSWORD, Backend, Peer, Target, backend, dialogue, good, memory, settings

MEGABYTE = 1 << 20
LOG_LINE = re.compile(r"[A-Z][a-z]{2} [ \d]\d [\d:]{8} [\w-]+(\(.*?\))?: (Debug|Info|Warning|Error|Fatal): ")


@pytest.fixture(scope="module")
def proxy(authority: Authority) -> Iterator[Target]:
    target = Target(settings(authority.issue("localhost", "127.0.0.1")))
    try:
        yield target
    finally:
        problems = target.stop()
    assert not problems, "\n".join(problems)


@pytest.fixture(autouse=True)
def survives(proxy: Target) -> Iterator[None]:
    yield
    proxy.check()


# --- commands --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("said", "answer"), [
    (b"\r\n", b"* BAD Error in IMAP command received by server.\r\n"),
    (b"\0\0\0\r\n", b"* BAD Error in IMAP command received by server.\r\n"),
    (b"a LOGIN x\0y z\r\n", b"a BAD "),
    (b'a LOGIN "x\0y" z\r\n', b"a BAD "),
    (b"\xff\xfe\xfd\r\n", b"* BAD "),
    (b"GET / HTTP/1.1\r\n", b"GET BAD "),
    (b"a LOGIN {-1}\r\n", b"a BAD "),
    (b"a LOGIN {99999999999999999999999}\r\n", (b"a BAD ", b"* BYE ")),
    (b"a LOGIN {2000000000}\r\n", b"* BYE "),
    (b"a LOGIN ((((((((((\r\n", b"a BAD "),
    (b"a ID (((((((((((((((\r\n", b"a BAD "),
    (b"a ID " + b"(" * 900 + b"\r\n", b"a BAD "),
    (b"a ID (" + b'"k" "v" ' * 900 + b")\r\n", (b"* ID (", b"* BYE ", b"a BAD ")),
    (b"a AUTHENTICATE\r\n", b"a BAD "),
    (b"a AUTHENTICATE PL\tAIN x\r\n", b"a NO "),
    (b"a AUTHENTICATE PLAIN \x01\r\n", b"a BAD "),
    (b"a AUTHENTICATE PLAIN ====\r\n", (b"a BAD ", b"a NO ")),
    (b"A" * 1025, b""),
    (b"A" * 200_000, b"* BYE Input buffer full"),
    (b"a NOOP" + b"A" * 200_000, b"* BYE "),
    (b"a AUTHENTICATE PLAIN " + b"A" * 200_000, b""),
], ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else None)
def test_a_malformed_command_has_a_defined_answer(proxy: Target, said: bytes,
                                                  answer: bytes | tuple[bytes, ...]) -> None:
    with proxy.peer() as peer:
        peer.offer(said)
        peer.sock.settimeout(0.3 if answer == b"" else 8.0)
        try:
            found = peer.line()
        except TimeoutError:
            found = b""
        assert found.startswith(answer or b""), found
        if answer == b"":
            assert found == b""


def test_byte_by_byte_is_the_same(proxy: Target) -> None:
    text = b'a ID ("name" "x" "os" NIL)\r\nb CAPABILITY\r\nc LOGIN {%d}\r\n' % len(proxy.backend.user())
    rest = proxy.backend.user() + b' "' + PASSWORD.encode() + b'"\r\nd NOOP\r\n'
    with proxy.peer() as slow, proxy.peer() as fast:
        for byte in text:
            slow.send(bytes([byte]))
        slow_said = [slow.line() for _ in range(5)]
        for byte in rest:
            slow.send(bytes([byte]))
        fast.send(text)
        fast_said = [fast.line() for _ in range(5)]
        fast.send(rest)
        for peer, said in ((slow, slow_said), (fast, fast_said)):
            said += [peer.reply(b"c"), peer.reply(b"d")]
        assert slow_said == fast_said
        assert fast_said[-1] == b"d OK NOOP\r\n"


def test_many_bad_commands_end_the_session(proxy: Target) -> None:
    with proxy.peer() as peer:
        peer.offer(b"x y z\r\n" * 20_000)
        assert peer.everything().count(b"\r\n") <= 4


def test_random_garbage(proxy: Target) -> None:
    """Bytes without sense, in plain text, to the TLS port, and in a TLS session: each connection ends or waits."""
    for seed in range(12):
        data = os.urandom(3000) + (b"\n" if seed % 2 else b"\r\n") * 4
        with Peer(proxy.port()) as peer, Peer(proxy.port("imaps")) as raw, proxy.peer(tls=True) as tls:
            for each in (peer, raw, tls):
                each.offer(data)
                each.sock.settimeout(0.5)
                with contextlib.suppress(TimeoutError, OSError):
                    each.everything()


# --- who never reads -------------------------------------------------------------------------------------------------

FILLED = b"f NOOP\r\n"


def test_who_never_reads_is_disconnected(proxy: Target) -> None:
    worker = proxy.process("imap-login")
    before = memory(worker)
    with proxy.peer(receive=1024) as peer:
        data = FILLED * 1000
        with pytest.raises(OSError):  # noqa: PT011, PT012  reset or broken pipe, any of them
            for _ in range(20_000):
                peer.send(data)
        assert memory(worker) - before < MEGABYTE
    proxy.logged("Client output buffer full")


class NoAuth:
    """An auth server that never answers."""

    mechanisms = (("PLAIN", ("plaintext",)),)

    def ready(self) -> bool:
        return True

    def mechanism(self, name: str) -> tuple[str, ...]:
        return ("plaintext",)

    def ask(self, *_: object) -> int:
        return 1

    def answer(self, *_: object) -> None: ...

    def cancel(self, *_: object) -> None: ...


class Stub:
    """What a connection needs of its worker."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.gone: list[object] = []
        self.ended = self.gone.append


@pytest.mark.parametrize("last", [b"x LOGOUT\r\n", b"x STARTTLS\r\n", b"\n\n\n"], ids=["logout", "starttls", "bad"])
def test_a_farewell_that_does_not_fit(authority: Authority, short_dir: Path, last: bytes) -> None:
    """The output buffer overflows at the very moment when the session ends, or changes, for another reason: at every
    fill level of the buffer the connection ends once, and nothing is raised."""
    text = re.sub("@imaps?@", "0", settings(authority.issue("localhost"))).replace("@dir@", str(short_dir))
    (short_dir / "conf").write_text(text)
    conf = config.load(str(short_dir / "conf"))
    shared = setup.prepare(conf, conf.services["imap-login"])
    null = os.open(os.devnull, os.O_WRONLY)
    shared.log, shared.auth = Log(null), NoAuth()
    shared.sources = setup.Sources("")
    full = 0
    for count in range(150, 400):
        worker = Stub()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        connection = Connection(worker, ours.detach(), shared, ("127.0.0.1", 1), ("127.0.0.1", 2), "imap")  # type: ignore[arg-type]
        connection.begin(implicit_tls=False)
        for command in [FILLED] * count + [last]:
            if worker.gone:
                break
            theirs.send(command)
            connection._on_client(IN)
        assert len(worker.gone) <= 1
        full += bool(worker.gone)
        if not worker.gone:
            connection.session.close("enough")
        theirs.close()
        worker.loop.close()
        if full > 20:
            break
    os.close(null)
    assert full > 20


# --- TLS -------------------------------------------------------------------------------------------------------------

def test_injection_before_the_handshake_is_never_executed(proxy: Target) -> None:
    with backend(good) as witness:
        login = b"i LOGIN %b %b\r\n" % (witness.user(), PASSWORD.encode())
        with proxy.peer() as peer:
            peer.send(b"a STARTTLS\r\n" + login)
            assert peer.reply(b"a").startswith(b"a OK ")
            with contextlib.suppress(OSError):      # the handshake may fail: what follows is no ClientHello
                peer.start_tls()
                assert peer.ask(b"b NOOP") == b"b OK NOOP completed.\r\n"
        with proxy.peer() as peer:                  # in a packet of its own, before our ClientHello
            peer.send(b"a STARTTLS\r\n")
            assert peer.reply(b"a").startswith(b"a OK ")
            peer.send(login)
            peer.sock.settimeout(2.0)
            assert b"i OK" not in peer.everything()
        assert witness.count == 0


def test_tls_1_2_renegotiation_is_refused(proxy: Target) -> None:
    """`R` in s_client asks for it; the session stays or ends, and no second handshake takes place."""
    command = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{proxy.port('imaps')}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        said = b""
        while b"* OK [CAPABILITY" not in said:
            data = os.read(client.stdout.fileno(), 65536)
            assert data, said
            said += data
        client.stdin.write(b"R\n")
        client.stdin.flush()
        end = time.monotonic() + 5.0
        while time.monotonic() < end and select.select([client.stdout], [], [], 1.0)[0]:
            data = os.read(client.stdout.fileno(), 65536)
            said += data
            if not data:
                break
        client.kill()
    after = said.partition(b"RENEGOTIATING")[2]
    assert b"RENEGOTIATING" in said
    assert b"no renegotiation" in after or b"error" in after, said


def test_tls_endings(proxy: Target) -> None:
    """close_notify, half a record, RST and a plain FIN in and after the handshake."""
    user = proxy.backend.user()
    for number in range(24):
        peer = Peer(proxy.port("imaps"))
        raw = socket.socket(fileno=os.dup(peer.sock.fileno()))
        if number % 4 == 0:
            peer.offer(b"\x16\x03\x01\x02\x00\x01")          # a record that never comes
        else:
            peer.start_tls()
            peer.line()
            if number % 4 > 1:
                peer.ask(b"a LOGIN %b sesame" % user)
        how = number % 6
        if how == 0:
            raw.shutdown(socket.SHUT_WR)
        elif how == 1:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif how == 2:
            raw.sendall(b"\x17\x03\x03\x10\x00abc")
        elif how == 3 and isinstance(peer.sock, ssl.SSLSocket):
            peer.sock.settimeout(1.0)
            with contextlib.suppress(OSError):
                peer.sock.unwrap()
            with contextlib.suppress(OSError):
                raw.sendall(b"b NOOP\r\n" * 100)
        elif how == 4:
            raw.sendall(os.urandom(5000))
        raw.close()
        peer.close()
    proxy.quiet()


def test_a_flood_over_tls_leaves_others_their_turn(proxy: Target) -> None:
    """A client that sends and reads faster than the proxy works must not have the worker for itself."""
    with proxy.peer(tls=True) as flood:
        stop = threading.Event()
        assert isinstance(flood.sock, ssl.SSLSocket)
        raw = os.dup(flood.sock.fileno())
        block = b"f NOOP\r\n" * 2000

        def send() -> None:
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    flood.sock.sendall(block)

        def drink() -> None:                        # what comes is not decrypted: faster than any honest client
            buffer = bytearray(MEGABYTE)
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    if select.select([raw], [], [], 0.1)[0] and not os.readv(raw, [buffer]):
                        return
        threads = [threading.Thread(target=call, daemon=True) for call in (send, drink)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        start = time.monotonic()
        try:
            with proxy.peer() as other:
                assert other.ask(b"o NOOP") == b"o OK NOOP completed.\r\n"
            elapsed = time.monotonic() - start
        finally:
            stop.set()
            with contextlib.suppress(OSError):
                flood.sock.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(5.0)
            os.close(raw)
        assert elapsed < 2.0


# --- connections -----------------------------------------------------------------------------------------------------

def test_reset_at_every_phase(proxy: Target) -> None:
    """RST and FIN before the greeting, in a command, in a literal, in SASL, in STARTTLS, while the backend is asked,
    and in the session."""
    slow = Backend(lambda peer: (peer.send(GREETING), time.sleep(1.0)))     # type: ignore[arg-type,return-value,func-returns-value]
    phases = [b"", b"a NO", b"a LOGIN {5}\r\nab", b"a AUTHENTICATE PLAIN\r\n", b"a AUTHENTICATE LOGIN\r\nAAAA\r\n",
              b"a STARTTLS\r\n", b"a STARTTLS\r\n\x16\x03\x01", b"a LOGIN %b sesame\r\n" % slow.user(),
              b"a LOGIN %b sesame\r\n" % proxy.backend.user(), b"a LOGIN nobody x\r\n", b"a LOGOUT\r\n"]
    try:
        for phase in phases:
            for pause in (0.0, 0.03):
                for end in (Peer.reset, Peer.close):
                    peer = Peer(proxy.port())
                    peer.offer(phase)
                    time.sleep(pause)
                    end(peer)
                peer = Peer(proxy.port())               # half-closed: may still hear the answer
                peer.offer(phase)
                time.sleep(pause)
                with contextlib.suppress(OSError):
                    peer.sock.shutdown(socket.SHUT_WR)
                    peer.everything()
                peer.close()
        proxy.quiet()
    finally:
        slow.close()


def test_a_thousand_that_say_nothing(proxy: Target) -> None:
    """They cost little, and nobody else any time."""
    worker = proxy.process("imap-login")
    before = memory(worker)
    crowd = [Peer(proxy.port()) for _ in range(900)]
    start = time.monotonic()
    for _ in range(20):
        proxy.login().close()
    assert time.monotonic() - start < 2.0
    assert memory(worker) - before < 900 * 16384
    for peer in crowd:
        peer.close()
    proxy.quiet()


def test_abandoned_sasl_leaves_nothing(proxy: Target) -> None:
    worker, auth = proxy.process("imap-login"), proxy.process("auth")
    sizes = []
    for half in range(2):
        for number in range(500):
            with proxy.peer() as peer:
                peer.send(b"a AUTHENTICATE LOGIN\r\n")
                assert peer.line().startswith(b"+ ")
                if number % 3 == 0:
                    peer.send(b"*\r\n")
                    assert peer.line() == b"a BAD Authentication aborted by client.\r\n"
                elif number % 3 == 1:
                    peer.send(b64encode(b"someone") + b"\r\n")
        sizes.append((memory(worker), memory(auth)))
        del half
    (worker_then, auth_then), (worker_now, auth_now) = sizes
    assert worker_now - worker_then < MEGABYTE
    assert auth_now - auth_then < MEGABYTE
    proxy.quiet()


# --- names and passwords ---------------------------------------------------------------------------------------------

NASTY = [b"\t", b"\r", b"\n", b"\r\n", b"\x01", b"\x01t", b"\x7f", b"\xff\xfe", b'"', b"\\", b"{5}", b"%u",
         b"%{passdb:pass}",
         b"%s%n%d", b"\tnologin", b"\nOK\t1\tuser=root\tproxy\thost=127.0.0.1", b"'; DROP TABLE users; --", b"${HOME}",
         b"\xe2\x80\xa8", b"\xc2\x9b31m", b"\x1b[31m", b"a" * 900]


def literal(text: bytes) -> bytes:
    return b"{%d+}\r\n%b" % (len(text), text)


def test_no_injection_through_names_and_passwords(proxy: Target) -> None:
    """Any byte reaches the backend as data or is refused; nothing becomes another field, line or command."""
    secret = b"hush-hush"
    waiting = []
    for nasty in NASTY:
        user = nasty + proxy.backend.user()
        peer = proxy.peer()
        peer.send(b"a LOGIN %b %b\r\n" % (literal(user), literal(secret + nasty)))
        waiting.append((nasty, peer))
        peer = proxy.peer()
        peer.send(b"a AUTHENTICATE PLAIN %b\r\n" % b64encode(b"\0" + user + b"\0" + secret + nasty))
        waiting.append((nasty, peer))
        peer = proxy.peer()
        peer.send(b"a AUTHENTICATE LOGIN\r\n")
        peer.line()
        peer.send(b64encode(user) + b"\r\n")
        if peer.line().startswith(b"+"):
            peer.send(b64encode(secret + nasty) + b"\r\n")
            waiting.append((nasty, peer))
    for nasty, peer in waiting:
        assert peer.line().startswith((b"a NO ", b"a BAD ")), nasty
        peer.close()
    proxy.canary.ask(b"c NOOP")
    time.sleep(0.2)
    log = proxy.log()
    assert secret.decode() not in log
    assert not re.search(r"^OK", log, re.M)
    for line in log.split("\n")[:-1]:
        assert re.match(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d [\w-]+(\(.*?\))?: (Debug|Info|Warning|Error|Fatal): ",
                        line), line
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", log)


@pytest.mark.parametrize("nasty", [b"\t", b"\r", b"\n", b"\x01", b'"', b"\\", b"\xff", b"\r\nx logout\r\n", b"%u",
                                   b"a" * 500],
                         ids=repr)
def test_what_the_backend_gets_is_what_the_client_said(authority: Authority, proxy: Target, nasty: bytes) -> None:
    """A domain with any bytes in it that still leads to the backend: its LOGIN holds the user name as one string."""
    heard: list[bytes] = []

    def listen(peer: Peer) -> None:
        heard.append(dialogue(peer))

    with backend(listen) as witness, proxy.peer() as peer:
        user = b"%d@%b@plain" % (witness.port, nasty)
        peer.send(b"a LOGIN %b %b\r\n" % (literal(user), PASSWORD.encode()))
        answer = peer.reply(b"a")
        if answer.startswith(b"a OK"):
            servers.wait_until(lambda: bool(heard), what="the backend's LOGIN")
            whole, = heard
            strings = [b'"' + user.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"', literal(user)]
            assert whole in [b"L LOGIN %b %b\r\n" % (text, password) for text in strings
                             for password in (b'"sesame"', literal(b"sesame"))]
        else:
            assert answer.startswith(b"a NO "), answer
            assert not heard


def test_a_flood_of_wrong_passwords(proxy: Target) -> None:
    """Refusals wait half a second: 1,000 guesses over 250 connections, and an honest login in the midst of them."""
    peers = [proxy.peer() for _ in range(250)]
    for number in range(4):
        for peer in peers:
            peer.send(b"%d LOGIN %b wrong\r\n" % (number, proxy.backend.user()))
        start = time.monotonic()
        proxy.login().close()
        assert time.monotonic() - start < 1.0
        for peer in peers:
            assert peer.line() == b"%d NO [AUTHENTICATIONFAILED] Authentication failed.\r\n" % number
    for peer in peers:
        peer.close()
    proxy.quiet()


def test_log_lines_of_one_client_do_not_grow(proxy: Target) -> None:
    """An ID of any size, and a name of any size, is one bounded line."""
    with proxy.peer() as peer:
        peer.ask(b'a ID ("name" "' + b"x" * 1000 + b'")')
        peer.send(b"b LOGIN " + literal(b"u" * 1000) + b" x\r\n")
        peer.reply(b"b")
    time.sleep(0.1)
    assert max(map(len, proxy.log().splitlines())) < 4096


@pytest.mark.parametrize("mode", ["plain", "tls"])
def test_back_pressure_bounds_the_worker(proxy: Target, mode: str) -> None:
    """200 MB are offered to a client that does not read (over TLS to the client: no kernel pipe either)."""
    sent = [0]

    def pour(peer: Peer) -> None:
        dialogue(peer)
        block = b"* " + b"x" * 65000 + b"\r\n"
        peer.sock.settimeout(3.0)
        for _ in range(200 * MEGABYTE // len(block)):
            peer.send(block)
            sent[0] += len(block)

    worker = proxy.process("imap-login")
    before = memory(worker)
    with backend(pour) as source, proxy.login(source.user(), tls=mode == "tls") as peer:
        servers.wait_until(lambda: sent[0] > 0, what="the flood")
        most, count = 0, -1
        deadline = time.monotonic() + 6.0
        while count != sent[0] and time.monotonic() < deadline:
            count = sent[0]
            most = max(most, memory(worker))
            time.sleep(0.3)
        assert sent[0] < 100 * MEGABYTE
        assert most - before < 2 * MEGABYTE
        peer.close()
    proxy.quiet()
