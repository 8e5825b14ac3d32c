"""Addresses and networks as settings and passdb fields write them."""
from __future__ import annotations

import pytest

from mailproxy.net import addr
from mailproxy.net.addr import BadAddress, Networks


@pytest.mark.parametrize(("text", "expected"), [
    ("127.0.0.1", bytes([127, 0, 0, 1])), ("::1", b"\0" * 15 + b"\1"), ("fe80::1%eth0",
                                                                        b"\xfe\x80" + b"\0" * 13 + b"\1"),
    ("", b""), ("x", b""), ("1.2.3.4.5", b""), ("1.2.3.256", b""), ("::g", b""), ("a\0b", b""), ("\udc80:", b""),
    ("\udc80", b""),
])
def test_packed(text: str, expected: bytes) -> None:
    assert addr.packed(text) == expected


@pytest.mark.parametrize(("text", "expected"), [
    ("127.0.0.1", True), ("::1", True), ("2001:db8::", True), ("127.1", False), ("localhost", False), ("", False),
    ("1.2.3.4/8", False), ("[::1]", False), ("01.2.3.4", False), (" 1.2.3.4", False),
])
def test_is_ip(text: str, expected: bool) -> None:
    assert addr.is_ip(text) is expected


@pytest.mark.parametrize(("text", "expected"), [
    ("127.0.0.1", "127.0.0.1"), ("1.2.3", "1.2.0.3"), ("::1", "::1"), ("[::1]", "::1"), ("2001:DB8:0::1",
                                                                                         "2001:db8::1"),
    ("", None), (" 1.2.3.4", None), ("1.2.3.4 ", None), ("host", None), ("1.2.3.4:143", None), ("[", None), ("[]",
                                                                                                             None),
])
def test_normal(text: str, expected: str | None) -> None:
    assert addr.normal(text) == expected


def test_words() -> None:
    assert addr.words(" a, b  c,,d ") == ["a", "b", "c", "d"]
    assert addr.words("") == []


@pytest.mark.parametrize(("networks", "inside", "outside"), [
    ("127.0.0.0/8", "127.3.4.5", "128.0.0.1"),
    ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
    ("10.1.2.3/16", "10.1.200.1", "10.2.0.1"),          # host bits are no error
    ("::1", "::1", "::2"),
    ("2001:db8::/32", "2001:db8:1::5", "2001:db9::"),
    ("[2001:db8::]", "2001:db8::", "2001:db8::1"),
    ("10.0.0.0/8", "::ffff:10.1.1.1", "::ffff:11.1.1.1"),
    ("0.0.0.0/0", "1.2.3.4", "::1"),
    ("::/0", "::1", "1.2.3.4"),
    ("fe80::/10", "fe80::1%eth0", "::1"),
])
def test_networks(networks: str, inside: str, outside: str) -> None:
    nets = Networks(addr.words(networks))
    assert nets
    for _ in range(2):                                  # the second answer comes from memory
        assert inside in nets
        assert outside not in nets


@pytest.mark.parametrize("text", ["x", "1.2.3.4/33", "::/129", "1.2.3.4/x", "/", "1.2.3", ""])
def test_bad_network_names_itself(text: str) -> None:
    with pytest.raises(BadAddress) as raised:
        Networks(["10.0.0.0/8", text])
    assert str(raised.value) == text


def test_no_networks_hold_nothing_and_garbage_is_never_inside() -> None:
    assert not Networks([])
    assert "127.0.0.1" not in Networks([])
    assert "garbage" not in Networks(["0.0.0.0/0"])


def test_memory_of_answers_is_bounded() -> None:
    nets = Networks(["10.0.0.0/8"])
    for number in range(Networks._MEMORY + 100):
        assert f"10.0.{number // 256}.{number % 256}" in nets
    assert len(nets._known) <= Networks._MEMORY
