"""Plain and TLS transports answer alike: bytes, end, would-block, failure."""
from __future__ import annotations

import os
import socket
import ssl

import pytest

from mailproxy.net.transport import Broken, Plain, Tls, borrowed
from tests.unit.net.drive import plain_end, reset, shake, tcp_pair, tls_pair

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.fixture(params=["plain", "tls"])
def pair(request: pytest.FixtureRequest, contexts: Contexts) -> tuple[Plain | Tls, Plain | Tls]:
    if request.param == "tls":
        return tls_pair(*contexts)
    near, far = tcp_pair()
    return plain_end(near), plain_end(far)


def wait_in(link: Plain | Tls) -> None:
    import select
    select.select([link.fd], [], [], 5)


def test_bytes_end_and_would_block(pair: tuple[Plain | Tls, Plain | Tls]) -> None:
    near, far = pair
    assert near.recv(10) is None
    assert near.recv_into(memoryview(bytearray(10))) == -1
    assert far.send(b"hello") == 5
    wait_in(near)
    assert near.recv(2) == b"he"
    view = memoryview(bytearray(10))
    assert near.recv_into(view) == 3
    assert bytes(view[:3]) == b"llo"
    far.close()
    wait_in(near)
    assert near.recv(10) == b""
    assert near.recv_into(view) == 0
    near.close()


def test_send_blocks_and_goes_on(pair: tuple[Plain | Tls, Plain | Tls]) -> None:
    near, far = pair
    data = os.urandom(1 << 16) * 400
    sent, got = 0, b""
    blocked = False
    while sent < len(data):
        count = near.send(data[sent:sent + 65536])
        sent += count
        if not count:
            blocked = True
            while chunk := far.recv(1 << 20):
                got += chunk
    near.close()
    while (chunk := far.recv(1 << 20)) != b"":
        got += chunk or b""
    assert blocked
    assert got == data
    far.close()


def test_shut_is_a_half_close(pair: tuple[Plain | Tls, Plain | Tls]) -> None:
    near, far = pair
    near.send(b"last")
    near.shut()
    near.shut()
    wait_in(far)
    assert far.recv(10) == b"last"
    wait_in(far)
    assert far.recv(10) == b""
    assert far.send(b"answer") == 6
    wait_in(near)
    assert near.recv(10) == b"answer"
    far.close()
    near.close()


def test_reset_is_broken_with_the_reason() -> None:
    peer, far = tcp_pair()
    near = plain_end(peer)
    reset(far)
    wait_in(near)
    with pytest.raises(Broken, match="Connection reset by peer"):
        near.recv(10)
    with pytest.raises(Broken, match="write\\(\\) failed"):
        near.send(b"x")
    near.close()


def test_reset_under_tls_ends_the_stream(contexts: Contexts) -> None:
    """Python's ssl reports it as an end like any other; writing fails."""
    near, far = tls_pair(*contexts)
    peer = socket.socket(fileno=far.sock.detach())
    reset(peer)
    wait_in(near)
    assert near.recv(10) == b""
    with pytest.raises(Broken, match="write\\(\\) failed"):
        all(near.send(b"x") for _ in range(10_000))
    near.close()


def test_close_is_final_and_frees_the_descriptor(pair: tuple[Plain | Tls, Plain | Tls]) -> None:
    for link in pair:
        fd = link.fd
        link.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_peek_for_the_end() -> None:
    near, far = tcp_pair()
    link = plain_end(near)
    assert not link.at_end()
    far.send(b"x")
    wait_in(link)
    assert not link.at_end()                    # bytes wait before the end
    link.recv(1)
    far.close()
    wait_in(link)
    assert link.at_end()
    link.close()
    near, far = tcp_pair()
    link = plain_end(near)
    reset(far)
    wait_in(link)
    assert link.at_end()
    link.close()


def test_borrowed_descriptor_stays_open() -> None:
    near, far = socket.socketpair()
    with borrowed(near.fileno()) as sock:
        sock.send(b"x")
    assert far.recv(1) == b"x"
    near.close()
    far.close()


def test_failed_handshake_tells_why(contexts: Contexts) -> None:
    near, far = tcp_pair()
    link = Tls(plain_end(near), contexts[0], server_side=True)
    assert not link.handshake()
    far.send(b"GET / HTTP/1.0\r\n\r\n")
    wait_in(link)
    with pytest.raises(Broken) as raised:
        link.handshake()
    assert "http request" in str(raised.value)
    assert "_ssl.c" not in str(raised.value)
    link.close()
    far.close()


def test_peer_gone_in_the_handshake(contexts: Contexts) -> None:
    near, far = tcp_pair()
    link = Tls(plain_end(near), contexts[0], server_side=True)
    far.close()
    wait_in(link)
    with pytest.raises(Broken) as raised:
        link.handshake()
    assert str(raised.value)
    assert "_ssl.c" not in str(raised.value)
    link.close()


def test_untrusted_certificate_is_its_own_exception(contexts: Contexts) -> None:
    suspicious = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    near, far = tcp_pair()
    one = Tls(plain_end(near), contexts[0], server_side=True)
    other = Tls(plain_end(far), suspicious, server_side=False, name="localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(one, other)
    one.close()
    other.close()


def test_wrap_of_a_closed_peer_is_broken_and_closes_once(contexts: Contexts) -> None:
    """The kernel may say at once that the peer is gone; the descriptor must not be closed twice."""
    near, far = tcp_pair()
    reset(far)
    plain = plain_end(near)
    wait_in(plain)
    try:
        link: Plain | Tls = Tls(plain, contexts[0], server_side=True)
    except Broken:
        link = plain
    with pytest.raises(OSError, match="Bad file descriptor"):  # noqa: PT012
        link.close()
        os.fstat(plain.fd)
