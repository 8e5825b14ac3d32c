"""The record of a hand-off, beside one that Dovecot's imap-login sent."""
from __future__ import annotations

import socket

import pytest

from mailproxy.errors import ProtocolError
from mailproxy.ipc import mailwire

LOCAL = b"\x7f\x00\x00\x01"
#: Session id, tag `a1`; plain, from a trusted network.
CAPTURED = bytes.fromhex(
    "0100000038600000010000002e600000b958e2e6d9d7724d2d366a6c26d5cbd3020000007f000001000000000000000000000000"
    "020000007f000001000000000000000000000000376200db0200000015000000000000008e24e10000000000"
) + b"eY/3T+RgANt/AAAB\x000a1\x00"


def test_the_record_is_dovecots() -> None:
    request = mailwire.Request((24632, bytes.fromhex("b958e2e6d9d7724d2d366a6c26d5cbd3")), 1, 24622, (LOCAL, 25143),
                               (LOCAL, 56064), mailwire.SECURED, 14754958, b"eY/3T+RgANt/AAAB\x000a1\x00")
    assert request.encode() == CAPTURED


def test_ipv6() -> None:
    address = socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    record = mailwire.Request((1, bytes(16)), 1, 1, (address, 1), (address, 2), 6, 1, b"s\0").encode()
    assert record[32:34] == (10).to_bytes(2, "little")
    assert record[36:52] == address == record[56:72]


def test_answers() -> None:
    assert mailwire.answer(bytes.fromhex("010000000000000040600000")) == (True, 0x6040)
    assert mailwire.answer(bytes.fromhex("010000000100000040600000")) == (False, 0x6040)
    with pytest.raises(ProtocolError, match="tag"):
        mailwire.answer(bytes.fromhex("020000000000000040600000"))
