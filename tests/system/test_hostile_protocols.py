"""Hostile clients and broken backends against POP3, ManageSieve and Submission.

After each attack the workers and their other sessions are as before, and no log holds a panic or a password.
"""
from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Iterator

import pytest

from mailproxy.proto.pop3.backend import Pop3Backend
from mailproxy.proto.spec import FAILED, Order
from mailproxy.secret import Secret
from tests import servers
from tests.certificates import Authority, Pair
from tests.fakes.attack import PASSWORD, Peer, backend, memory, tls_context
from tests.fakes.dialects import ALL, POP3, ROLES, SIEVE, SUBMISSION, Mixed, Words, mixed_settings

MEGABYTE = 1 << 20
each_protocol = pytest.mark.parametrize("words", ALL, ids=lambda words: words.name)


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def proxy(pair: Pair) -> Iterator[Mixed]:
    target = Mixed(mixed_settings(pair))
    try:
        yield target
    finally:
        problems = target.stop()
    assert not problems, "\n".join(problems)


@pytest.fixture(autouse=True)
def survives(proxy: Mixed) -> Iterator[None]:
    yield
    proxy.check()


# --- commands --------------------------------------------------------------------------------------------------------

#: What is said -> how the first line of the answer begins; b"": nothing comes, and the connection stays.
MALFORMED: list[tuple[Words, bytes, bytes]] = [
    (POP3, b"\r\n", b"-ERR "),
    (POP3, b"\0\0\0\r\n", b"-ERR "),
    (POP3, b"\xff\xfe\xfd\r\n", b"-ERR "),
    (POP3, b"CAPA\rCAPA\r\n", b"-ERR "),
    (POP3, b"USER\0x\r\n", b"-ERR "),
    (POP3, b"USER x\0y\r\nPASS z\r\n", b"+OK"),
    (POP3, b"PASS x\r\n", b"-ERR "),
    (POP3, b"APOP x " + b"f" * 32 + b"\r\n", b"-ERR "),
    (POP3, b"APOP x " + b"g" * 32 + b"\r\n", b"-ERR "),
    (POP3, b"APOP\r\n", b"-ERR "),
    (POP3, b"AUTH PLAIN ====\r\n", b"-ERR "),
    (POP3, b"AUTH " + b"A" * 2000 + b"\r\n", b"-ERR "),
    (POP3, b"AUTH PLAIN " + b"A" * 9000, b""),
    (POP3, b"A" * 200_000, b"-ERR "),
    (POP3, b"USER " + b"A" * 200_000, b"-ERR "),
    (POP3, b"U" * 900, b""),
    (SIEVE, b"\r\n", b"NO "),
    (SIEVE, b"\0\0\0\r\n", b"NO "),
    (SIEVE, b"\xff\xfe\r\n", b"NO "),
    (SIEVE, b"NOOP\rNOOP\r\n", b"NO "),
    (SIEVE, b'NOOP "a\0b"\r\n', b"NO "),
    (SIEVE, b'NOOP "a\rb"\r\n', b"NO "),
    (SIEVE, b'NOOP "\xff\xfe"\r\n', b"NO "),
    (SIEVE, b"NOOP {3}\r\na\0b\r\n", b"NO "),
    (SIEVE, b"NOOP {3}\r\na\r\n\r\n", b"OK (TAG {3}"),
    (SIEVE, b"NOOP {-1}\r\n", b"NO "),
    (SIEVE, b"NOOP {9223372036854775808}\r\n", b"NO "),
    (SIEVE, b"NOOP {9223372036}\r\n", b"BYE "),
    (SIEVE, b"NOOP {" + b"9" * 900 + b"}\r\n", b"NO "),
    (SIEVE, b"NOOP {" + b"9" * 90_000, b"BYE "),
    (SIEVE, b"AUTHENTICATE {9223372036854775807+}\r\n", b"NO "),
    (SIEVE, b'AUTHENTICATE "PLAIN" {9999999999+}\r\n', b""),
    (SIEVE, b"AUTHENTICATE PLAIN\r\n", b"NO "),
    (SIEVE, b"AUTHENTICATE\r\n", b"NO "),
    (SIEVE, b'NOOP "' + b"\\" * 200_000, b"BYE "),
    (SIEVE, b"NOOP" + b" " * 200_000, b"BYE "),
    (SIEVE, b"NOOP " + b'"x" ' * 50_000, b"BYE "),
    (SIEVE, b"A" * 200_000, b"BYE "),
    (SIEVE, b"((((((((((\r\n", b"NO "),
    (SUBMISSION, b"\r\n", b"500 "),
    (SUBMISSION, b"\0\0\0\r\n", b"500 "),
    (SUBMISSION, b"\xff\xfe\r\n", b"500 "),
    (SUBMISSION, b"NOOP\rNOOP\r\n", b"500 "),
    (SUBMISSION, b"NOOP \xff\xfe\r\n", b"500 "),
    (SUBMISSION, b"NOOP a\0b\r\n", b"500 "),
    (SUBMISSION, b"EHLO \r\n", b"501 "),
    (SUBMISSION, b"EHLO [IPv6:::::]\r\n", b"250"),
    (SUBMISSION, b"EHLO " + b"x" * 1000 + b"\r\n", b"250"),
    (SUBMISSION, b"AUTH PLAIN \x01\r\n", b"500 "),
    (SUBMISSION, b"AUTH PLAIN ====\r\n", b"5"),
    (SUBMISSION, b"AUTH PLAIN " + b"A" * 200_000, b"500 "),
    (SUBMISSION, b"BDAT " + b"9" * 40 + b"\r\nQUIT\r\n", b"530 "),
    (SUBMISSION, b"BDAT 9223372036854775808\r\n", b"530 "),
    (SUBMISSION, b"BDAT -1\r\nQUIT\r\n", b"530 "),
    (SUBMISSION, b"A" * 200_000, b"500 "),
]


@pytest.mark.parametrize(("words", "said", "answer"), MALFORMED,
                         ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else value.name)
def test_a_malformed_command_has_a_defined_answer(proxy: Mixed, words: Words, said: bytes, answer: bytes) -> None:
    with proxy.peer(words) as peer:
        peer.offer(said)
        peer.sock.settimeout(8.0 if answer else 0.2)
        try:
            found = peer.line()
        except TimeoutError:
            found = b""
        assert found.startswith(answer), found
        assert answer or found == b""


@each_protocol
def test_byte_by_byte_is_the_same(proxy: Mixed, words: Words) -> None:
    ping = words.ping + b"\r\n"
    text = b"x y z\r\n" + ping + words.login(proxy.user(words), PASSWORD.encode()) + ping
    said = []
    for step in (1, len(text)):
        with proxy.peer(words) as peer:
            for at in range(0, len(text), step):
                peer.send(text[at:at + step])
            lines: list[bytes] = []
            while not lines or lines[-1] != words.pong + b"\r\n" or words.done not in lines:
                lines.append(peer.line())
                assert lines[-1], lines
            said.append(lines)
    assert said[0] == said[1]


@each_protocol
def test_a_flood_of_bad_commands_ends_the_session(proxy: Mixed, words: Words) -> None:
    with proxy.peer(words) as peer:
        peer.offer(b"x y z\r\n" * 20_000)
        assert peer.everything().count(b"\r\n") <= 14


@each_protocol
def test_random_garbage(proxy: Mixed, words: Words) -> None:
    """In plain text, to the TLS port, and in a TLS session: each connection ends or waits."""
    for seed in range(8):
        data = os.urandom(3000) + (b"\n" if seed % 2 else b"\r\n") * 4
        with proxy.peer(words) as plain, Peer(proxy.server.port[words.name + "s"]) as raw, \
                proxy.peer(words, tls=True) as tls:
            for peer in (plain, raw, tls):
                peer.offer(data)
                peer.sock.settimeout(0.2)
                with contextlib.suppress(TimeoutError, OSError):
                    peer.everything()


@each_protocol
def test_one_byte_packets_cost_little(proxy: Mixed, words: Words) -> None:
    """The longest response that is allowed, a byte a packet: what has been read is not read again and again."""
    worker = proxy.worker(words)
    before = sum(worker.cpu_times()[:2])
    head, tail = {"pop3": (b"AUTH PLAIN ", b"\r\n"), "sieve": (b'AUTHENTICATE "PLAIN" "', b'"\r\n'),
                  "submission": (b"AUTH PLAIN ", b"\r\n")}[words.name]
    with proxy.peer(words) as peer:
        peer.send(head)
        for _ in range(8000):
            peer.send(b"A")
        peer.send(tail)
        assert words.answer(peer)[:2] in (b"-E", b"NO", b"53", b"50")
    assert sum(worker.cpu_times()[:2]) - before < 2.0


@each_protocol
def test_who_never_reads_is_disconnected(proxy: Mixed, words: Words) -> None:
    worker = proxy.worker(words)
    before = memory(worker)
    command = b"CAPA\r\n" if words is POP3 else b"NOOP\r\n"
    with proxy.peer(words, receive=1024) as peer:
        data = command * 1000
        with pytest.raises(OSError):  # noqa: PT011, PT012  reset or broken pipe, any of them
            for _ in range(20_000):
                peer.send(data)
        assert memory(worker) - before < MEGABYTE
    proxy.logged("Client output buffer full")


@each_protocol
def test_abandoned_sasl_leaves_nothing(proxy: Mixed, words: Words) -> None:
    worker = proxy.worker(words)
    auth = next(child for child in proxy.server.children() if child.cmdline()[0].endswith("/auth"))
    start = b'AUTHENTICATE "LOGIN"\r\n' if words is SIEVE else b"AUTH LOGIN\r\n"
    name = b64encode(b"someone")
    sizes = []
    for _ in range(2):
        for number in range(300):
            with proxy.peer(words) as peer:
                peer.send(start)
                assert peer.line()[:1] in b'+"3'
                if number % 3 == 0:
                    peer.send(b'"*"\r\n' if words is SIEVE else b"*\r\n")
                    assert b"aborted" in peer.line()
                elif number % 3 == 1:
                    peer.send(b'"%b"\r\n' % name if words is SIEVE else name + b"\r\n")
        sizes.append((memory(worker), memory(auth)))
    assert sizes[1][0] - sizes[0][0] < MEGABYTE
    assert sizes[1][1] - sizes[0][1] < MEGABYTE
    proxy.quiet(words)


@each_protocol
def test_reset_at_every_phase(proxy: Mixed, words: Words) -> None:
    with backend(lambda peer: (peer.send(words.greeting), time.sleep(1.0))) as slow:  # type: ignore[arg-type,func-returns-value]
        login = words.login(proxy.user(words), PASSWORD.encode())
        phases = [b"", login[:7], login[:-2], words.starttls + b"\r\n", words.starttls + b"\r\n\x16\x03\x01",
                  words.login(slow.user(), PASSWORD.encode()), login, words.login(b"nobody", b"x"),
                  b'AUTHENTICATE "LOGIN"\r\n' if words is SIEVE else b"AUTH LOGIN\r\n"]
        for phase in phases:
            for pause in (0.0, 0.02):
                for end in (Peer.reset, Peer.close):
                    peer = Peer(proxy.server.port[words.name])
                    peer.offer(phase)
                    time.sleep(pause)
                    end(peer)
                with Peer(proxy.server.port[words.name]) as half:
                    half.offer(phase)
                    time.sleep(pause)
                    with contextlib.suppress(OSError):
                        half.sock.shutdown(socket.SHUT_WR)
                        half.everything()
        proxy.quiet(words)


@each_protocol
def test_hundreds_that_say_nothing(proxy: Mixed, words: Words) -> None:
    worker = proxy.worker(words)
    before = memory(worker)
    crowd = [Peer(proxy.server.port[words.name + "s" * (number % 2)]) for number in range(500)]
    start = time.monotonic()
    for _ in range(5):
        proxy.login(words).close()
    assert time.monotonic() - start < 2.0
    assert memory(worker) - before < 500 * 40_000
    for peer in crowd:
        peer.close()
    proxy.quiet(words)


# --- TLS -------------------------------------------------------------------------------------------------------------

@each_protocol
def test_injection_before_the_handshake_is_never_executed(proxy: Mixed, words: Words) -> None:
    with backend(words.good) as witness:
        login = words.login(witness.user(), PASSWORD.encode())
        with proxy.peer(words) as peer:
            peer.send(words.starttls + b"\r\n" + login)
            assert peer.line().startswith(words.starttls_ok)
            assert words.done not in peer.everything()
        with proxy.peer(words) as peer:                 # in a packet of its own, before our ClientHello
            peer.send(words.starttls + b"\r\n")
            assert peer.line().startswith(words.starttls_ok)
            peer.send(login)
            peer.sock.settimeout(2.0)
            assert words.done not in peer.everything()
        with proxy.peer(words) as peer:                 # half a command in front of the handshake
            peer.send(words.starttls + b"\r\n")
            assert peer.line().startswith(words.starttls_ok)
            peer.start_tls()
            if words is SIEVE:
                words.greet(peer)
            peer.send(login)
            assert words.answer(peer) == words.done
        assert witness.count == 1


@pytest.mark.parametrize("name", [b"\xff\xfe\xfd", b"\x1b[31mred", b"a\tb\nc", b"..", b"x" * 255, b"*.localhost"],
                         ids=lambda name: repr(name[:8]))
def test_server_names_of_any_bytes(proxy: Mixed, name: bytes) -> None:
    """The handshake ends or goes on; no traceback, nothing raw in the log."""
    hello = client_hello(name)
    for words in ALL:
        with Peer(proxy.server.port[words.name + "s"]) as peer:
            peer.send(hello)
            peer.sock.settimeout(0.5)
            with contextlib.suppress(OSError):
                peer.everything()


def client_hello(name: bytes) -> bytes:
    """The first flight of OpenSSL, with another name in the place of one of the same length."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    placeholder = ".".join("x" * min(60, len(name) - at) for at in range(0, len(name), 61))
    hello = tls_context().wrap_bio(incoming, outgoing, server_hostname=placeholder)
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    data = outgoing.read()
    assert placeholder.encode() in data, placeholder
    return data.replace(placeholder.encode().ljust(len(name), b"x"), name)


@pytest.mark.parametrize("behind", [True, False], ids=["same packet", "later"])
@each_protocol
def test_a_backend_that_speaks_before_the_handshake(proxy: Mixed, words: Words, behind: bool) -> None:
    """What it says in the clear counts for nothing, and it never gets a password in the clear."""
    heard: list[bytes] = []

    def speak(peer: Peer) -> None:
        peer.send(words.greeting)
        while line := peer.line():
            heard.append(line)
            if line.upper().startswith(words.starttls):
                ok = next(reply for word, reply in words.turns if word == words.starttls)
                peer.send(ok + words.done * 3 * behind)
                if not behind:
                    time.sleep(0.05)
                    peer.send(words.done * 3)
                heard.append(peer.everything())
                return
            reply = next((reply for word, reply in words.turns if line.upper().startswith(word)), None)
            if reply:
                peer.send(reply)

    with backend(speak) as liar, proxy.peer(words) as peer:
        peer.send(words.login(liar.user("starttls"), PASSWORD.encode()))
        answer = words.answer(peer)
        assert answer[:2] in (b"-E", b"NO", b"45"), answer
    servers.wait_until(lambda: bool(heard), what="the backend's end")
    said = b"".join(heard)
    assert PASSWORD.encode() not in said
    assert b64encode(PASSWORD.encode())[:6] not in said


# --- names, passwords, identities ------------------------------------------------------------------------------------

@pytest.mark.parametrize("nasty", [b"\r\nXCLIENT ADDR=9.9.9.9\r\nUSER victim\r\nPASS guess", b"\n", b"\r", b"\0"],
                         ids=repr)
@each_protocol
def test_a_password_is_one_word_for_the_backend(proxy: Mixed, words: Words, nasty: bytes) -> None:
    """Where the passdb leaves the password to the backend, any bytes come along: none may become a command."""
    heard: list[bytes] = []

    def listen(peer: Peer) -> None:
        with contextlib.suppress(ConnectionError):
            heard.append(words.serve(peer))

    with backend(listen) as witness, proxy.peer(words) as peer:
        peer.send(words.login(b"%d@any" % witness.port, b"abc" + nasty))
        answer = words.answer(peer)
        assert answer == words.done or answer[:2] in (b"-E", b"NO", b"45", b"53"), answer
        assert b"abc\r" not in b"".join(heard).replace(b"abc\r\n", b"") or answer != words.done
        for line in b"".join(heard).split(b"\r\n"):
            assert not re.match(rb"(XCLIENT ADDR=9|USER victim|PASS guess)", line), line
            assert b"\n" not in line


NASTY = [b"\t", b"\r\n", b"\x01", b"\x7f", b"\xff\xfe", b'"', b"\\", b"%u", b"%{passdb:pass}", b"\tnologin",
         b"\nOK\t1\tuser=root\tproxy\thost=127.0.0.1", b"\xe2\x80\xa8", b"\xc2\x9b31m", b"\x1b[31m", b"a" * 900]
LINE = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d [\w-]+(\(.*?\))?: (Debug|Info|Warning|Error|Fatal): ")


@each_protocol
def test_no_injection_through_names_and_passwords(proxy: Mixed, words: Words) -> None:
    secret = b"hush-hush"
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(proxy.peer(words)) for _ in NASTY]
        for nasty, peer in zip(NASTY, peers, strict=True):
            peer.send(words.login(nasty + proxy.user(words), secret + nasty))
        for nasty, peer in zip(NASTY, peers, strict=True):
            assert words.answer(peer)[:2] in (b"-E", b"NO", b"53", b"50", b"45"), nasty
    time.sleep(0.1)
    log = proxy.log()
    assert secret.decode() not in log
    assert b64encode(b"\0x\0" + secret).decode()[4:-2] not in log
    for line in log.split("\n")[:-1]:
        assert LINE.match(line), line
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", log)


IDENTITIES = [
    b"ADDR=6.6.6.6", b"ADDR=\xff", b"ADDR=" + b"1" * 900, b"ADDR=[::1]", b"ADDR=::ffff:6.6.6.6%lo", b"ADDR=",
    b"PORT=0", b"PORT=65536", b"PORT=-1", b"PORT=" + b"9" * 900, b"PORT=\xc2\xb2", b"TTL=0", b"TTL=4294967296", b"TTL=",
    b"SESSION=" + b"x" * 900, b"SESSION=\x1b[31m", b"SESSION=a+09b", b"FORWARD=====", b"FORWARD=",
    b"FORWARD=" + b64encode(b"nopassword\tproxy\tpass=x\thost=6.6.6.6"),
    b"FORWARD=" + b64encode(b"\t".join(b"k%d=v" % number for number in range(60))),
    b"FORWARD=" + b64encode(b"\x01"), b"FORWARD=" + b64encode(b"a\0b"), b"LOGIN=root", b"HELO=\x7f", b"PROTO=HTTP",
    b"=", b"====", b"", b" ", b"ADDR", b"ADDR=6.6.6.6 " * 60, b"HELO=" + b"+0D+0AQUIT",
]


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.9"])
@each_protocol
def test_identities(proxy: Mixed, words: Words, source: str) -> None:
    """Whatever stands in XCLIENT: an answer, then the session goes on; from untrusted peers nothing counts."""
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(proxy.peer(words, source=source)) for _ in IDENTITIES]
        for identity, peer in zip(IDENTITIES, peers, strict=True):
            peer.send(b"XCLIENT " + identity + b"\r\n")
            answer = words.answer(peer)
            assert answer[:3] in (b"+OK", b"-ER", b"OK ", b"NO ", b"220", b"501", b"500", b"550"), (identity, answer)
            peer.send(words.login(b"1@plain", b"x"))
        for identity, peer in zip(IDENTITIES, peers, strict=True):
            assert words.answer(peer)[:3] in (b"-ER", b"NO ", b"535"), identity
    time.sleep(0.1)
    log = proxy.log()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", log)
    believed = re.search(rf" {ROLES[words.name]}: .*rip=6\.6\.6\.6", log) is not None
    assert believed == (source == "127.0.0.9")


# --- backends --------------------------------------------------------------------------------------------------------

def cut_dialogue(words: Words, left: int, *, reset: bool) -> object:
    """A good backend whose connection ends when it has said so many bytes."""
    def play(peer: Peer) -> None:
        room = left

        def say(data: bytes) -> None:
            nonlocal room
            peer.offer(data[:room])
            room -= len(data)
            if room <= 0:
                raise ConnectionError

        try:
            say(words.greeting)
            while line := peer.line():
                reply = next((reply for word, reply in words.turns if line.upper().startswith(word)), None)
                if reply:
                    say(reply)
        except ConnectionError:
            if reset:
                peer.reset()
    return play


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@each_protocol
def test_a_backend_that_dies_at_any_byte(proxy: Mixed, words: Words, reset: bool) -> None:
    """Each cut of a good dialogue: the client hears of a temporary failure, and may try again on its connection."""
    replies = [reply for word, reply in words.turns if word not in (words.starttls, b"XCLIENT")]
    total = len(words.greeting) + sum(map(len, replies))
    with proxy.peer(words) as peer:
        for left in range(1, total):
            with backend(cut_dialogue(words, left, reset=reset)) as dying:  # type: ignore[arg-type]
                peer.send(words.login(dying.user(), PASSWORD.encode()))
                answer = words.answer(peer)
                assert answer.startswith((b"-ERR [SYS/TEMP] ", b"NO (TRYLATER) ", b"454 4.7.0 ")), (left, answer)
        peer.send(words.login(proxy.user(words), PASSWORD.encode()))
        assert words.answer(peer) == words.done
    proxy.quiet(words)


def test_a_backend_that_talks_without_listening(proxy: Mixed) -> None:
    """Challenges without end, answers that nobody reads: what waits for the backend is bounded."""
    worker = proxy.worker(SIEVE)
    before = memory(worker)

    def ask(peer: Peer) -> None:
        peer.send(SIEVE.greeting)
        while True:
            peer.send(b'""\r\n' * 1000)

    with backend(ask) as deaf, proxy.peer(SIEVE) as peer:
        peer.send(SIEVE.login(deaf.user(), PASSWORD.encode()))
        assert peer.line().startswith(b"NO (TRYLATER)")
    proxy.logged("Aborting due to remote server: Output buffer full")
    assert memory(worker) - before < MEGABYTE


@pytest.mark.parametrize(("user", "password"), [("u\r\nXCLIENT ADDR=9.9.9.9", "p"), ("u", "p\nQUIT"), ("u\0", "p")])
def test_a_name_cannot_become_a_command(user: str, password: str) -> None:
    """Names with line ends get as far as here only if a passdb field or auth_username_chars lets them."""
    machine = Pop3Backend(Order(user, Secret(password)))
    assert machine.feed(b"+OK ready\r\n") == FAILED
    assert not machine.take_output()


def early(words: Words) -> list[bytes]:
    """Answers to commands that were never sent."""
    everything = words.greeting + b"".join(reply for _, reply in words.turns)
    return [everything, everything * 50, words.greeting + words.done, words.done * 2]


@each_protocol
def test_a_backend_that_answers_early(proxy: Mixed, words: Words) -> None:
    """Nobody hangs, and the worker lives; whether it counts is for the tests of parity."""
    for said in early(words):
        def speak(peer: Peer, said: bytes = said) -> None:
            peer.send(said)
            peer.everything()

        with backend(speak) as hasty, proxy.peer(words) as peer:
            peer.send(words.login(hasty.user(), PASSWORD.encode()))
            assert words.answer(peer)
    proxy.quiet(words)


@pytest.mark.parametrize("block", [b"x" * 4000, b"\r\n" * 2000, b"250-" + b"x" * 60 + b"\r\n", b'"A" "b"\r\n' * 400,
                                   b"+OK\r\n" * 800, b"* \r\n" * 900, b"\0" * 4000, b"\xff\n" * 2000,
                                   b"220-a\r\n" * 500, b"334 \r\n" * 500, b"+ \r\n" * 500, b'""\r\n' * 800],
                         ids=lambda block: repr(block[:6]))
@each_protocol
def test_a_backend_that_never_ends(proxy: Mixed, words: Words, block: bytes) -> None:
    """Lines or bytes without end, from the start or behind the greeting: refused early, in little memory."""
    worker = proxy.worker(words)
    before = memory(worker)
    for head in (b"", words.greeting):
        def pour(peer: Peer, head: bytes = head) -> None:
            peer.send(head)
            while True:
                peer.send(block)

        with backend(pour) as endless, proxy.peer(words) as peer:
            start = time.monotonic()
            peer.send(words.login(endless.user(), PASSWORD.encode()))
            assert peer.line()
            assert time.monotonic() - start < 4.0
    assert memory(worker) - before < MEGABYTE


@each_protocol
def test_a_backend_that_says_nothing(proxy: Mixed, words: Words) -> None:
    """login_proxy_timeout, wherever it stops; all at the same time."""
    replies = [words.greeting, *(reply for word, reply in words.turns if word not in (words.starttls, b"XCLIENT"))]
    stops = [0]
    for reply in replies[:-1]:
        stops.append(stops[-1] + len(reply))
    start = time.monotonic()

    def stuck(left: int) -> object:
        def play(peer: Peer) -> None:
            with contextlib.suppress(ConnectionError):
                cut_dialogue(words, left, reset=False)(peer)  # type: ignore[operator]
            peer.everything()
        return play

    with contextlib.ExitStack() as stack:
        peers = []
        for left in stops:
            silent = stack.enter_context(backend(stuck(left)))  # type: ignore[arg-type]
            peer = stack.enter_context(proxy.peer(words))
            peer.send(words.login(silent.user(), PASSWORD.encode()))
            peers.append(peer)
        for peer in peers:
            assert words.answer(peer).startswith((b"-ERR [SYS/TEMP] ", b"NO (TRYLATER) ", b"454 4.7.0 "))
    assert 1.0 < time.monotonic() - start < 6.0


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@each_protocol
def test_back_pressure_bounds_the_worker(proxy: Mixed, words: Words, tls: bool) -> None:
    sent = [0]

    def pour(peer: Peer) -> None:
        words.serve(peer)
        block = b"x" * 65000 + b"\r\n"
        peer.sock.settimeout(2.0)
        for _ in range(200 * MEGABYTE // len(block)):
            peer.send(block)
            sent[0] += len(block)

    worker = proxy.worker(words)
    before = memory(worker)
    with backend(pour) as source, proxy.peer(words, tls=tls, receive=65536) as peer:
        peer.send(words.login(source.user(), PASSWORD.encode()))
        servers.wait_until(lambda: sent[0] > 0, what="the flood")
        count = -1
        deadline = time.monotonic() + 5.0
        while count != sent[0] and time.monotonic() < deadline:
            count = sent[0]
            time.sleep(0.2)
        assert sent[0] < 100 * MEGABYTE
        assert memory(worker) - before < 2 * MEGABYTE
    proxy.quiet(words)


# --- a full service --------------------------------------------------------------------------------------------------

def test_half_open_sessions_do_not_lock_anybody_out(pair: Pair) -> None:
    """More silent clients than client_limit allows: each login gets in, the sessions that are logged in stay."""
    target = Mixed(mixed_settings(pair, limit=50))
    try:
        crowd: list[Peer] = []
        for words in ALL:
            crowd += [Peer(target.server.port[words.name + "s" * (number % 2)]) for number in range(170)]
        for words in ALL:
            for _ in range(5):
                servers.wait_until(lambda words=words: logs_in(target, words), 10.0, f"a {words.name} login")  # type: ignore[misc]
        target.check()
        for peer in crowd:
            peer.close()
        for words in ALL:
            target.quiet(words)
    finally:
        problems = target.stop()
    assert not problems, "\n".join(problems)


def logs_in(target: Mixed, words: Words) -> bool:
    with contextlib.suppress(OSError, AssertionError):
        target.login(words).close()
        return True
    return False


def test_a_flood_of_wrong_passwords(proxy: Mixed) -> None:
    for words in ALL:
        peers = [proxy.peer(words) for _ in range(60)]
        for _ in range(3):
            for peer in peers:
                peer.send(words.login(proxy.user(words), b"wrong"))
            start = time.monotonic()
            proxy.login(words).close()
            assert time.monotonic() - start < 1.0
            for peer in peers:
                assert words.answer(peer)[:3] in (b"-ER", b"NO ", b"535")
        for peer in peers:
            peer.close()
        proxy.quiet(words)


def test_two_at_once(proxy: Mixed) -> None:
    """A session of each protocol while all the others are flooded."""
    stop = threading.Event()

    def flood(words: Words) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), Peer(proxy.server.port[words.name]) as peer:
                peer.offer(b"NOOP\r\n" * 5000)
                peer.sock.settimeout(0.2)
                peer.everything()

    threads = [threading.Thread(target=flood, args=(words,), daemon=True) for words in ALL]
    for thread in threads:
        thread.start()
    try:
        for words in ALL:
            start = time.monotonic()
            proxy.login(words).close()
            assert time.monotonic() - start < 3.0
    finally:
        stop.set()
        for thread in threads:
            thread.join(5.0)
