"""XCLIENT's parameters and the list of variables in FORWARD."""
from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailproxy.proto import forward

IDENTITY = (("session", "S+/1"), ("rip", "10.1.2.3"), ("rport", "7"), ("lip", "10.0.0.1"), ("lport", "110"),
            ("ttl", "4"))


def test_vector() -> None:
    variables = (("forward_foo", "bar"), ("forward_z", "a=b"), ("forward_e", ""))
    assert forward.xclient(IDENTITY) == b"ADDR=10.1.2.3 PORT=7 SESSION=S+/1 TTL=4"
    assert forward.xclient(IDENTITY + variables).endswith(b" FORWARD=Zm9vPWJhcgl6PWE9Ygll")
    assert forward.decode(b"Zm9vPWJhcgl6PWE9Ygll") == dict(variables)


_TEXT = st.characters(exclude_categories=["Cs"])


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="="), min_size=1),
                       st.text(_TEXT), min_size=1, max_size=5))
def test_what_is_encoded_can_be_decoded(variables: dict[str, str]) -> None:
    pairs = tuple((f"forward_{name}", value) for name, value in variables.items())
    assert forward.decode(forward.encode(pairs)) == dict(pairs)


@pytest.mark.parametrize("session", ["a b", "a\r\nQUIT", "a\0", "a\tTTL=9", "\x7f"])
def test_a_session_id_cannot_break_the_line(session: str) -> None:
    line = forward.xclient((("session", session), *IDENTITY[1:]))
    assert line == b"ADDR=10.1.2.3 PORT=7 SESSION= TTL=4"


@pytest.mark.parametrize("text", [b"", b"!!!", b"Zm9", b"Zm9v=", b"Zm 9v", base64.b64encode(b"a=1\0\tb=2"),
                                  base64.b64encode(b"a=1\nb=2"), base64.b64encode(b"a\r")])
def test_no_list(text: bytes) -> None:
    assert forward.decode(text) is None
    assert forward.parse([b"FORWARD=" + text]) == ({}, False)


def test_names_of_login_fields_are_only_variables() -> None:
    evil = base64.b64encode(b"proxy\tnopassword\tpass=x\thost=192.0.2.1")
    assert forward.parse([b"FORWARD=" + evil]) == ({"forward_proxy": "", "forward_nopassword": "", "forward_pass": "x",
                                                    "forward_host": "192.0.2.1"}, True)


def test_valid_parameters_count_beside_invalid_ones() -> None:
    words = b"addr=x PORT=0 Session=s TTL=-1 foo LOGIN=eve PORT=77 ADDR=2001:db8::1 TTL=4294967296".split()
    assert forward.parse(words) == ({"session": "s", "rport": "77", "rip": "2001:db8::1"}, False)
    assert forward.parse([b"ADDR=[::1]", b"TTL=0"]) == ({"rip": "::1", "ttl": "0"}, True)


def test_the_last_list_counts() -> None:
    one, two = (base64.b64encode(text) for text in (b"a=1\tb=2", b"c=3"))
    assert forward.parse([b"ADDR=10.1.1.1", b"FORWARD=" + one, b"FORWARD=" + two]) == (
        {"rip": "10.1.1.1", "forward_c": "3"}, True)


@pytest.mark.parametrize("word", [b"ADDR=fe80::1%evil", b"ADDR=1.2.3", b"PORT=65536", b"TTL=4294967296",
                                  b"TTL=\xd9\xa3"])
def test_values_that_mean_nothing(word: bytes) -> None:
    assert forward.parse([word]) == ({}, False)
