"""Broken and malicious backends: the client gets a defined answer in time, the worker and its sessions live."""
from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator

import pytest

from tests import servers
from tests.certificates import Authority, Pair
from tests.fakes.attack import GREETING, PASSWORD, Backend, Peer, Target, backend, dialogue, memory, settings

MEGABYTE = 1 << 20
UNAVAILABLE = b"a NO [UNAVAILABLE] Account is temporarily unavailable.\r\n"
#: The proxy's login_proxy_timeout is 2 s; after that and a little, there must be an answer.
TIMEOUT = 4.0


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def proxy(pair: Pair) -> Iterator[Target]:
    target = Target(settings(pair))
    try:
        yield target
    finally:
        problems = target.stop()
    assert not problems, "\n".join(problems)


@pytest.fixture(autouse=True)
def survives(proxy: Target) -> Iterator[None]:
    worker = proxy.process("imap-login")
    before = memory(worker)
    yield
    proxy.check()
    assert memory(worker) - before < 2 * MEGABYTE


def server_context(pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


def ask(proxy: Target, one: Backend, how: str = "plain") -> tuple[bytes, float]:
    """Log in there; the answer and how long it took."""
    with proxy.peer() as peer:
        start = time.monotonic()
        answer = peer.ask(b"a LOGIN %b %b" % (one.user(how), PASSWORD.encode()))
        return answer, time.monotonic() - start


def forever(block: bytes, first: bytes = b"", most: int = 1 << 30) -> Callable[[Peer], None]:
    def behave(peer: Peer) -> None:
        peer.send(first)
        for _ in range(most // len(block)):
            peer.send(block)
    return behave


def drip(peer: Peer) -> None:
    for byte in b"* OK [CAPABILITY IMAP4rev1] " + b"slow " * 100:
        peer.send(bytes([byte]))
        time.sleep(0.1)


def silent(peer: Peer) -> None:
    peer.sock.recv(1 << 16)
    peer.sock.recv(1 << 16)


def greeted_then(data: bytes) -> Callable[[Peer], None]:
    def behave(peer: Peer) -> None:
        peer.send(GREETING)
        while b"LOGIN" not in peer.line():
            continue
        peer.send(data)
        silent(peer)
    return behave


@pytest.mark.parametrize(("behaviour", "answer", "within"), [
    (lambda peer: peer.send(os.urandom(3000) + b"\r\n"), UNAVAILABLE, 1.0),
    (lambda peer: peer.send(b"\0" * 3000 + b"\n"), UNAVAILABLE, 1.0),
    (lambda peer: peer.send(b"\r\n"), UNAVAILABLE, 1.0),
    (lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), UNAVAILABLE, 1.0),
    (lambda peer: peer.send(b"* BYE go away\r\n"), UNAVAILABLE, 1.0),
    (lambda peer: peer.send(b"* PREAUTH welcome\r\n"), UNAVAILABLE, 1.0),
    (lambda peer: None, UNAVAILABLE, 1.0),
    (forever(b"A" * 65536), UNAVAILABLE, 1.0),
    (forever(b"A" * 65536, GREETING), UNAVAILABLE, 1.0),
    (forever(b"* ID x\r\n" * 5000, GREETING), UNAVAILABLE, TIMEOUT),
    (forever(b"Z strange\r\n" * 5000, GREETING, 5 * MEGABYTE), UNAVAILABLE, TIMEOUT),
    (forever(b"I OK\r\nC OK\r\n" * 5000, GREETING), UNAVAILABLE, TIMEOUT),
    (forever(b"+ \r\n" * 5000, GREETING), UNAVAILABLE, TIMEOUT),
    (greeted_then(b"S OK\r\n"), UNAVAILABLE, TIMEOUT),
    (greeted_then(b"L NO [UNAVAILABLE] not now\r\n"), b"a NO [UNAVAILABLE] not now\r\n", 1.0),
    (greeted_then(b"L NO \0\x01\x02\r\n"), b"a NO ", 1.0),
    (greeted_then(b"L NO " + b"x" * 4000 + b"\r\n"), b"a NO ", 1.0),
    (greeted_then(b"L BAD what?\r\n"), b"a NO ", 1.0),
    (greeted_then(b"L MAYBE\r\n"), b"a NO ", 1.0),
    (greeted_then(b"L\r\n"), b"a NO ", 1.0),
    (greeted_then(b"+ \r\n+ \r\n+ \r\n"), UNAVAILABLE, TIMEOUT),
    (greeted_then(b"* CAPABILITY " + b"X" * 5000 + b"\r\n"), UNAVAILABLE, 1.0),
    (drip, UNAVAILABLE, TIMEOUT),
    (silent, UNAVAILABLE, TIMEOUT),
], ids=["random", "nul", "empty", "http", "bye", "preauth", "closes", "no-newline", "no-newline-later",
        "endless-untagged",
        "endless-unknown", "endless-answers", "endless-plus", "unasked-starttls", "no-unavailable", "no-control",
        "no-long", "bad", "maybe", "tag-only", "unasked-plus", "long-capability", "drip", "silent"])
def test_a_broken_dialogue_is_answered_in_time(proxy: Target, behaviour: Callable[[Peer], None], answer: bytes,
                                               within: float) -> None:
    with backend(behaviour) as one:
        found, seconds = ask(proxy, one)
    assert found.startswith(answer), found
    assert seconds < within


def test_it_dies_at_every_byte(proxy: Target) -> None:
    """Every cut of a good dialogue: OK if the client can have seen it, else unavailable; by FIN or by RST."""
    parts = [GREETING, b"I OK ID done\r\n", b"L OK logged in\r\n"]
    total = sum(map(len, parts))

    def cut_at(cut: int) -> Callable[[Peer], None]:
        def behave(peer: Peer) -> None:
            left = cut
            for part in parts:
                peer.send(part[:left])
                left -= len(part)
                if left <= 0:
                    break
                peer.line()
            if cut % 2:
                peer.reset()
        return behave

    waiting = []
    for cut in range(1, total):
        one = Backend(cut_at(cut))
        peer = proxy.peer()
        peer.send(b"a LOGIN %b %b\r\n" % (one.user(), PASSWORD.encode()))
        waiting.append((cut, one, peer))
    for cut, one, peer in waiting:
        found = peer.reply(b"a")
        assert found == UNAVAILABLE, (cut, found)
        peer.close()
        one.close()


@pytest.mark.parametrize("how", ["fin", "rst", "bye"])
def test_it_closes_right_behind_its_ok(proxy: Target, how: str) -> None:
    def behave(peer: Peer) -> None:
        dialogue(peer)
        if how == "bye":
            peer.send(b"* BYE shutting down\r\n")
        if how == "rst":
            time.sleep(0.05)                # what was sent is not to be thrown away by the RST
            peer.reset()

    for _ in range(10):
        with backend(behave) as one, proxy.peer() as peer:
            assert peer.ask(b"a LOGIN %b %b" % (one.user(), PASSWORD.encode())).startswith(b"a OK ")
            assert peer.everything() == (b"* BYE shutting down\r\n" if how == "bye" else b"")


def test_plain_text_behind_starttls(proxy: Target, pair: Pair) -> None:
    """What comes in the packet of the STARTTLS answer, or instead of a handshake, is never taken for TLS or IMAP."""
    heard: list[bytes] = []

    def behave(extra: bytes, late: bytes) -> Callable[[Peer], None]:
        def run(peer: Peer) -> None:
            peer.send(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n")
            peer.line()
            peer.send(b"S OK go\r\n" + extra)
            if late:
                time.sleep(0.1)
                peer.send(late)
            heard.append(peer.sock.recv(65536))
            heard.append(peer.sock.recv(65536))
        return run

    for extra, late in ((b"L OK in\r\n", b""), (b"", b"L OK in\r\n"), (b"", os.urandom(300)), (b"", b"")):
        with backend(behave(extra, late)) as one:
            found, seconds = ask(proxy, one, "starttls")
        assert found.startswith(b"a NO "), found
        assert seconds < TIMEOUT
    assert PASSWORD.encode() not in b"".join(heard)


def test_no_starttls_means_no_password(proxy: Target) -> None:
    heard: list[bytes] = []

    def behave(peer: Peer) -> None:
        peer.send(GREETING)
        while line := peer.line():
            heard.append(line)
            peer.send(line.partition(b" ")[0] + b" OK sure\r\n")

    with backend(behave) as one:
        found, _ = ask(proxy, one, "starttls")
    assert found.startswith(b"a NO ")
    assert PASSWORD.encode() not in b"".join(heard)


def test_tls_that_never_finishes(proxy: Target, pair: Pair) -> None:
    context = server_context(pair)

    def half(peer: Peer) -> None:
        peer.sock.recv(100)
        peer.send(b"\x16\x03\x03\x00\x7a\x02")
        silent(peer)

    def closes(peer: Peer) -> None:
        peer.sock = context.wrap_socket(peer.sock, server_side=True)

    def resets(peer: Peer) -> None:
        peer.sock.recv(5)
        peer.reset()

    for behaviour, within in ((silent, TIMEOUT), (half, TIMEOUT), (closes, 1.0), (resets, 1.0)):
        with backend(behaviour) as one:
            found, seconds = ask(proxy, one, "tls")
        assert found == UNAVAILABLE
        assert seconds < within


def test_a_flood_over_tls_before_the_answer(proxy: Target, pair: Pair) -> None:
    """Faster than the proxy reads: the timeout comes in time, and other sessions get their turn."""
    context = server_context(pair)

    def behave(peer: Peer) -> None:
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
        peer.send(GREETING)
        block = b"* ID x\r\n" * 2000
        while True:
            peer.send(block)

    with backend(behave) as one, proxy.peer() as peer:
        start = time.monotonic()
        peer.send(b"a LOGIN %b %b\r\n" % (one.user("tls"), PASSWORD.encode()))
        time.sleep(0.5)
        asked = time.monotonic()
        assert proxy.canary.ask(b"c NOOP") == b"c OK NOOP\r\n"
        assert time.monotonic() - asked < 1.0
        assert peer.reply(b"a") == UNAVAILABLE
        assert time.monotonic() - start < TIMEOUT


def test_untagged_lines_for_a_client_that_does_not_read(proxy: Target) -> None:
    """They are passed on, up to a limit; then the client is sent away and the backend let go."""
    with backend(forever(b"* " + b"x" * 1000 + b"\r\n", GREETING)) as one, proxy.peer(receive=1024) as peer:
        peer.send(b"a LOGIN %b %b\r\n" % (one.user(), PASSWORD.encode()))
        proxy.logged("Client output buffer full")


@pytest.mark.parametrize("how", ["plain", "tls"])
def test_a_flood_for_a_client_that_does_not_read(proxy: Target, pair: Pair, how: str) -> None:
    """The backend's flood stops at the proxy, and the session still works when the client reads again."""
    context = server_context(pair)
    sent = [0]
    size = 30 * MEGABYTE

    def behave(peer: Peer) -> None:
        if how == "tls":
            peer.sock = context.wrap_socket(peer.sock, server_side=True)
        dialogue(peer)
        block = b"x" * 65534 + b"\r\n"
        while sent[0] < size:
            peer.send(block)
            sent[0] += len(block)
        peer.send(b"* the end\r\n")
        peer.line()

    with backend(behave) as one, proxy.login(one.user(how)) as peer:
        count = -1
        while count != sent[0]:
            count = sent[0]
            time.sleep(0.3)
        assert 0 < sent[0] < size
        read = len(peer.rest)
        last = peer.rest
        while not last.endswith(b"* the end\r\n"):
            data = peer.sock.recv(MEGABYTE)
            assert data
            read += len(data)
            last = (last + data)[-20:]
        assert read == sent[0] + len(b"* the end\r\n")


def test_a_backend_that_takes_nothing(proxy: Target) -> None:
    """It logs in and then never reads: the client's flood stops at the proxy."""
    def behave(peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        dialogue(peer)
        time.sleep(5.0)

    with backend(behave) as one, proxy.login(one.user()) as peer:
        sent = 0
        peer.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):  # noqa: PT012  any of the sends
            while sent < 100 * MEGABYTE:
                sent += peer.sock.send(b"x" * 65536)
        peer.close()
    proxy.quiet()


def test_many_logins_at_a_dead_backend(proxy: Target) -> None:
    """300 clients wait for a backend that says nothing; another backend's clients notice nothing."""
    with backend(silent) as one:
        peers = [proxy.peer() for _ in range(300)]
        for peer in peers:
            peer.send(b"a LOGIN %b %b\r\n" % (one.user(), PASSWORD.encode()))
        start = time.monotonic()
        for _ in range(20):
            proxy.login().close()
        assert time.monotonic() - start < 2.0
        for peer in peers:
            assert peer.reply(b"a") == UNAVAILABLE
            peer.close()
    proxy.quiet()


def test_retries_are_bounded(pair: Pair) -> None:
    """With login_proxy_max_reconnects a dying backend is tried again, within the timeout, and then given up."""
    target = Target(settings(pair, timeout="4s", reconnects=2))
    try:
        with backend(lambda peer: peer.send(b"* OK\r\n")) as one:
            found, seconds = ask(target, one)
            assert found == UNAVAILABLE
            assert one.count == 3
            assert seconds < 4.5
        with backend(forever(b"A" * 65536)) as one:
            found, seconds = ask(target, one)
            assert (found, one.count) == (UNAVAILABLE, 3)
            assert seconds < 4.5
        servers.wait_until(lambda: "Too long input line" in target.log(), what="the reason in the log")
        target.check()
    finally:
        problems = target.stop()
    assert not problems
