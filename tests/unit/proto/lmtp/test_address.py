"""Mailboxes: what is read, what is refused, and that what is written can be read as nothing else."""
from __future__ import annotations

import random

import pytest

from mailproxy.errors import ProtocolError
from mailproxy.proto.lmtp.address import Address, from_user, path


@pytest.mark.parametrize(("text", "local", "domain", "rest"), [
    (b"<a@b>", b"a", b"b", b""),
    (b"<>", b"", b"", b""),
    (b"<a>", b"a", b"", b""),
    (b"<@x,@y:a@b> X=1", b"a", b"b", b" X=1"),
    (b'<"a b"@c>', b"a b", b"c", b""),
    (b'<"a\\"b"@c>', b'a"b', b"c", b""),
    (b"<a..b@c.>", b"a..b", b"c.", b""),
    (b"<a@[127.0.0.1]>", b"a", b"[127.0.0.1]", b""),
    (b"<\xc3\xa4@b>", b"\xc3\xa4", b"b", b""),
])
def test_paths(text: bytes, local: bytes, domain: bytes, rest: bytes) -> None:
    found, behind = path(text)
    assert (found.local, found.domain, behind) == (local, domain, rest)


@pytest.mark.parametrize(("text", "why"), [
    (b"", "Path is empty string"), (b" <a@b>", "Unexpected whitespace before path"),
    (b"a@b", "Missing '<' at beginning of path"), (b"<a@b", "Missing '>' at end of path"),
    (b"<a b>", "Missing '>' at end of path"), (b"<a@b@c>", "Missing '>' at end of path"),
    (b"<@a>", "Missing ':' at end of source route"), (b"<a@>", "Missing domain after '@'"),
    (b"<a@b>x", "Invalid character after path"), (b"<\0@b>", "Missing '>' at end of path"),
    (b'<"a\r\nb"@c>', "Missing '>' at end of path"),
])
def test_refused_paths(text: bytes, why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        path(text)
    assert str(caught.value) == why


def test_workarounds() -> None:
    assert bytes(path(b" <a@b>", spaces=True)[0]) == b"a@b"
    assert bytes(path(b"a@b X=1", bare=True)[0]) == b"a@b"


def test_what_is_written_is_read_as_the_same() -> None:
    choice = random.Random(7)
    for _ in range(3000):
        local = bytes(choice.choice(b'ab."\\@<> :,\xe4') for _ in range(choice.randrange(1, 9)))
        address = Address(local, choice.choice((b"", b"dom.example")))
        found, rest = path(b"<%b>" % bytes(address))
        assert (found, rest) == (address, b"")


def test_users_as_mailboxes() -> None:
    assert from_user(b"a@b@c") == Address(b"a@b", b"c")
    assert bytes(from_user(b"a@b@c") or b"") == b'"a@b"@c'
    for bad in (b"", b"@b", b"a@", b"a@b c", b"a@b>c", b"a\nb", b"a\r\nRCPT TO:<x>@b"):
        assert from_user(bad) is None
