"""Fields of a passdb's answer that cannot work."""
from __future__ import annotations

import pytest

from mailproxy.check.proxyfields import complaints

FINE = {"nopassword": "y", "proxy": "y", "host": "192.0.2.1", "port": "143", "destuser": None, "pass": None,
        "forward_x": "1", "userdb_home": "/x", "proxy_timeout": "10", "ssl": "any-cert", "master": "adm",
        "proxy_mech": "plain", "source_ip": "192.0.2.9", "proxy_host_immediate_failure_after": "5s",
        "allow_nets": "local,192.0.2.0/24,::1", "reason:protected": "", "quota:remove": ""}


def told(fields: dict[str, str | None], *, complete: bool = True) -> list[tuple[str, bool]]:
    return [(row.text, row.fatal) for row in complaints(fields, complete=complete)]


def test_what_is_fine() -> None:
    assert told(FINE) == []


@pytest.mark.parametrize(("name", "value", "text", "fatal"), [
    ("port", "0", "port=0: a port is a number from 1 to 65535", True),
    ("port", "65536", "port=65536: a port is a number from 1 to 65535", True),
    ("port", "", "port=: a port is a number from 1 to 65535", True),
    ("port", "9" * 400, f"port={'9' * 400}: a port is a number from 1 to 65535", True),
    ("host", "", "host=: an empty host is none", True),
    ("hostip", "mail.example.org", "hostip=mail.example.org: not an IP address", True),
    ("source_ip", "eth0", "source_ip=eth0: not an IP address", False),
    ("proxy_timeout", "abc", "proxy_timeout=abc: Invalid time interval: abc", True),
    ("proxy_host_immediate_failure_after", "2", "proxy_host_immediate_failure_after=2: Time interval '2' is missing "
                                                "units (add e.g. 's' for seconds)", False),
    ("proxy_refresh", "zz", "proxy_refresh=zz: a number of seconds", False),
    ("proxy", "no", "proxy=no means yes: the field counts, not its value", False),
    ("ssl", "no", "ssl=no means verified TLS: the field counts, not its value", False),
    ("nologin", "", "nologin beside proxy is ignored", False),
    ("starttls", "yes", "ssl beside starttls: starttls wins, ssl is ignored", False),
    ("proxy_always", "y", "proxy_always has an effect beside proxy_maybe only", False),
    ("allow_nets", "local,foo", "allow_nets: foo is no network and matches nobody", False),
    ("proxy_tiemout", "3", "unknown field proxy_tiemout is ignored (do you mean proxy_timeout?)", False),
    ("colour", "blue", "unknown field colour is ignored", False),
])
def test_one_field(name: str, value: str, text: str, fatal: bool) -> None:
    assert told({**FINE, name: value}) == [(text, fatal)]


def test_the_mechanism_is_one_of_few() -> None:
    (text, fatal), = told({**FINE, "proxy_mech": "NTLM"})
    assert text.startswith("proxy_mech=NTLM: one of ")
    assert "PLAIN" in text
    assert fatal


def test_values_that_depend_on_the_user_are_left_alone() -> None:
    assert told({"proxy": None, "host": None, "port": None, "ssl": None}) == []


def test_missing_ones() -> None:
    assert told({"proxy": "y"}) == [("proxy without host: there is nowhere to go", True)]
    assert told({"proxy": "y"}, complete=False) == []
    assert told({"proxy_maybe": "y", "host": "h", "master": "m"}) == [
        ("master without pass: the user's own password is sent for the master user", False)]
    assert told({"host": "h"}) == [
        ("host without proxy: the login would be local, and there is no mail storage here", False)]
    assert told({"host": "h", "nologin": "y"}) == []
    assert told({"proxy": "y", "host": "h", "nopassword": "y", "password": "x"}) == [
        ("nopassword beside a password: the password is still checked", False)]
