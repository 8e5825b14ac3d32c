"""From passdb fields to a destination."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailproxy.login import target
from mailproxy.login.target import Refused, Target
from mailproxy.secret import Secret
from tests.fuzz import examples

FIELDS = {"proxy": "", "host": "10.0.0.9", "pass": "x"}
LOCAL = ("10.0.0.1", 143)


def choose(fields: dict[str, str], user: str = "alice", password: Secret | None = None) -> Target | Refused:
    return target.choose(fields, user, password, (143, 993), LOCAL)


def chosen(**fields: str) -> Target:
    found = choose({**FIELDS, **fields})
    assert isinstance(found, Target), found.reason
    return found


@pytest.mark.parametrize(("fields", "attribute", "expected"), [
    ({}, "port", 143), ({"ssl": "yes"}, "port", 993), ({"ssl": "yes", "port": "1"}, "port", 1),
    ({"starttls": "yes"}, "port", 143), ({"port": "65535"}, "port", 65535),
    ({}, "tls", False), ({"ssl": "no"}, "tls", True), ({"ssl": ""}, "starttls", False),         # presence counts
    ({"starttls": "", "ssl": ""}, "tls", False), ({"starttls": "", "ssl": ""}, "starttls", True),
    ({"ssl": "any-cert"}, "any_cert", True), ({"ssl": "yes"}, "any_cert", False),
    ({"starttls": "any-cert"}, "any_cert", True), ({"starttls": "yes", "ssl": "any-cert"}, "any_cert", False),
    ({}, "destuser", "alice"), ({"destuser": "bob"}, "destuser", "bob"), ({"destuser": ""}, "destuser", "alice"),
    ({}, "mechanism", ""), ({"master": "root"}, "mechanism", "PLAIN"), ({"proxy_mech": "plain"}, "mechanism", "PLAIN"),
    ({"master": "root"}, "master", "root"),
    ({}, "pipelining", True), ({"proxy_nopipelining": ""}, "pipelining", False),
    ({}, "trusted", True), ({"proxy_not_trusted": "no"}, "trusted", False),
    ({}, "timeout", 0.0), ({"proxy_timeout": "5"}, "timeout", 5.0), ({"proxy_timeout": "2 mins"}, "timeout", 120.0),
    ({"proxy_timeout": "500 msecs"}, "timeout", 0.5),
    ({}, "host_down_after", 30.0), ({"proxy_host_immediate_failure_after": "1h"}, "host_down_after", 3600.0),
    ({"proxy_host_immediate_failure_after": "0"}, "host_down_after", 0.0),
    ({"source_ip": "10.1.1.1"}, "source", "10.1.1.1"), ({"source_ip": ""}, "source", None),
    ({"host": "imap.test", "hostip": "10.1.2.3"}, "ip", "10.1.2.3"),
    ({"host": "imap.test", "hostip": "10.1.2.3"}, "host", "imap.test"),
    ({"forward_a": "1", "forward_b": ""}, "forward", (("forward_a", "1"), ("forward_b", ""))),
    ({"host": "10.0.0.1", "destuser": "bob"}, "ip", "10.0.0.1"), ({"host": "10.0.0.1", "port": "144"}, "port", 144),
])
def test_fields(fields: dict[str, str], attribute: str, expected: object) -> None:
    assert getattr(chosen(**fields), attribute) == expected


@pytest.mark.parametrize(("fields", "words"), [
    ({"host": ""}, "host not given"), ({"host": "imap.test"}, "is not an IP"), ({"hostip": "x"}, "Invalid hostip x"),
    ({"port": ""}, "invalid port number"), ({"port": "-1"}, "invalid port number"), ({"port": "65536"}, "invalid port"),
    ({"port": "0"}, "invalid port number"), ({"port": "٣"}, "invalid port number"), ({"port": "1" * 5000},
                                                                                     "invalid port"),
    ({"proxy_mech": "NTLM"}, "Unsupported SASL mechanism"), ({"proxy_timeout": "soon"}, "invalid proxy_timeout"),
    ({"proxy_timeout": "1" * 5000}, "invalid proxy_timeout"), ({"host": "10.0.0.1"}, "loops to itself"),
])
def test_refused(fields: dict[str, str], words: str) -> None:
    found = choose({**FIELDS, **fields})
    assert isinstance(found, Refused)
    assert words in found.reason


@pytest.mark.parametrize(("field", "value"), [("proxy_host_immediate_failure_after", "30"),
                                              ("proxy_host_immediate_failure_after", "x"), ("source_ip", "x")])
def test_fields_with_a_default_to_fall_back_to(field: str, value: str) -> None:
    found = chosen(**{field: value})
    assert len(found.warnings) == 1
    assert value in found.warnings[0]
    assert found.host_down_after == 30.0
    assert found.source is None


def test_password_of_the_client_serves_when_the_fields_have_none() -> None:
    fields = {"proxy": "", "host": "10.0.0.9"}
    found = choose(fields)
    assert isinstance(found, Refused)
    assert found.reason == "password not given"
    found = choose(fields, password=Secret("own"))
    assert isinstance(found, Target)
    assert found.password.reveal() == "own"
    found = choose({**fields, "pass": ""}, password=Secret("own"))
    assert isinstance(found, Target)
    assert found.password.reveal() == ""


@given(st.dictionaries(st.sampled_from(sorted(target._SPECIAL)) | st.text(max_size=5),
                       st.text(max_size=12) | st.from_regex(r"[0-9 a-z.:]{0,8}", fullmatch=True)))
@examples(200)
def test_any_fields_give_a_target_or_a_reason(fields: dict[str, str]) -> None:
    found = choose({**FIELDS, **fields})
    assert (isinstance(found, Target) and 0 < found.port < 65536) or (isinstance(found, Refused) and found.reason)


@pytest.mark.parametrize(("text", "bare", "expected"), [
    ("0", False, 0.0), ("5", True, 5.0), ("5s", False, 5.0), ("1 m", False, 60.0), ("1min", False, 60.0), ("2H", True,
                                                                                                           7200.0),
    ("1 week", False, 604800.0), ("10ms", False, 0.01), ("1d", False, 86400.0),
])
def test_intervals(text: str, bare: bool, expected: float) -> None:
    assert target.interval(text, bare_seconds=bare) == expected


@pytest.mark.parametrize("text", ["", "5", "s", "5x", "-1s", "1.5s", "5 s s", "9" * 5000 + "s", "٣s"])
def test_bad_intervals(text: str) -> None:
    assert isinstance(target.interval(text, bare_seconds=False), str)
